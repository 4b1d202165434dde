"""Results: medians and ratios as tables, and as files."""

import datetime
import json
import statistics


def number(value):
    if value is None:
        return ""
    if isinstance(value, (str, int)):
        return str(value)
    if value == 0:
        return "0"
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.4f}"


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


class Samples:
    """The values that the peers of one table had in each round, or why there are none."""

    def __init__(self):
        self.values, self.failures = {}, {}

    def add(self, peer, round_number, **values):
        self.values.setdefault(peer, {})[round_number] = values

    def fail(self, peer, why):
        self.failures[peer] = str(why)

    def peers(self):
        return [*self.values, *(p for p in self.failures if p not in self.values)]

    def of(self, peer, what):
        return [v[what] for v in self.values.get(peer, {}).values() if v.get(what) is not None]

    def median(self, peer, what):
        found = self.of(peer, what)
        return statistics.median(found) if found else None

    def ratio(self, peer, other, what):
        """The median of the ratios of each round: what both shared in a round falls out."""
        mine, theirs = self.values.get(peer, {}), self.values.get(other, {})
        ratios = [mine[r][what] / theirs[r][what] for r in mine if r in theirs and mine[r].get(what) and theirs[r].get(what)]
        return statistics.median(ratios) if ratios else None


class Report:
    """Everything that was measured, in the order in which it was."""

    def __init__(self, machine, options):
        self.data = {"machine": machine, "options": options, "tables": []}
        self.text = []

    def say(self, line=""):
        print(line, flush=True)
        self.text.append(line)

    def head(self):
        machine = self.data["machine"]
        facts = [f"{machine['cores']} cores of {machine['cpu']}", f"{machine['memory_mib']} MiB", machine["kernel"]]
        self.say(f"Machine: {', '.join(facts)}; load at the start {machine['load']}.")
        self.say(f"File systems: {'; '.join(machine['file systems'].values())}.")
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        self.say(f"Versions: {versions}.")

    def section(self, title, *notes):
        self.say(f"\n## {title}\n")
        for note in notes:
            self.say(f"{note}\n")

    def table(self, title, columns, rows, samples=None):
        """Rows are lists of the cells; failures of the samples follow below."""
        failures = samples.failures if samples else {}
        self.data["tables"].append({
            "title": title,
            "columns": columns,
            "rows": rows,
            "rounds": {p: list(v.values()) for p, v in samples.values.items()} if samples else {},
            "failed": failures,
        })
        cells = [[number(cell) for cell in row] for row in rows]
        widths = [max(len(row[i]) for row in [columns, *cells]) for i in range(len(columns))]
        line = lambda row: "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) + " |"
        self.say(f"### {title}\n")
        self.say(line(columns))
        self.say("|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|")
        for row in cells:
            self.say(line(row))
        self.say()
        for why in dict.fromkeys(failures.values()):
            self.say(f"- {'; '.join(p for p, w in failures.items() if w == why)}: FAILED: {why}")
        if failures:
            self.say()

    def save(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        day = datetime.date.today().isoformat()
        name = f"bench-{day}-{self.data['machine']['cores']}-cores"
        number, stem = 1, name
        while (directory / f"{stem}.json").exists():
            number, stem = number + 1, f"{name}-{number + 1}"
        (directory / f"{stem}.json").write_text(json.dumps(self.data, indent=1) + "\n")
        text = "\n".join([f"# scripts/bench, {day}", "", *self.text])
        (directory / f"{stem}.md").write_text(text.rstrip() + "\n")
        print(f"saved as {stem}.json and {stem}.md")
