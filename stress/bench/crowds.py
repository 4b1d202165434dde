"""Section 10, chains and fans: what each task costs the processor, and whether that grows with their number."""

import json
import os
import shutil
import subprocess

from alive import ending
from programs import Failed, last_line
from report import number
from servers import Coord

COUNTS = [1_000, 10_000, 100_000]
# Acceptable growth from the first count to any other.
RATIO = 1.5
TIMEOUT = 4 * 3600


def name(i):
    """A short id: those of 100,000 tasks must fit into one record."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while True:
        i, digit = divmod(i, 36)
        text = digits[digit] + text
        if not i:
            return f"t{text}"


def chain(n):
    return [[name(i - 1)] if i else [] for i in range(n)]


def fan_out(n):
    return [[name(0)] if i else [] for i in range(n)]


def fan_in(n):
    return [[name(k) for k in range(n - 1)] if i == n - 1 else [] for i in range(n)]


# What comes after what, what is done about a dead dependency, and which tasks are cancelled and retried.
SHAPES = [
    ("a chain", chain, "cancel", [name(0)], [name(0)]),
    ("many after one", fan_out, "cancel", [name(0)], [name(0)]),
    ("one after many", fan_in, "block", ["@ready"], ["@cancelled"]),
]


def cost(coord, *words):
    """Processor seconds of a command with all that it starts, and its largest resident size (MiB)."""
    with open(os.memfd_create("errors"), "w+b") as stderr:
        process = subprocess.Popen(
            [coord.coord, *words], cwd=coord.place, env=coord.env,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            stderr.seek(0)
            raise Failed(f"coord {words[0]}: exit {process.returncode}: {last_line(stderr.read().decode(errors='replace'))}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure(bench, place, after, on_dep_dead, cancelled, retried):
    """Microseconds of the processor for each task, and the largest resident size, of each verb."""
    coord = Coord(bench.programs, place)
    coord.init()
    with open(place / "tasks.jsonl", "w") as file:
        for i, ids in enumerate(after):
            task = {"id": name(i), "after": ids, "on_dep_dead": on_dep_dead, "argv": [bench.programs["noop"]]}
            file.write(json.dumps(task) + "\n")
    found = {}
    with ending():
        for verb, words in [
            ("submit", ["import", "--quiet", "tasks.jsonl"]),
            ("cancel", ["cancel", *cancelled]),
            ("retry", ["retry", *retried]),
            ("run", ["work", "--until-empty"]),
        ]:
            seconds, mib = cost(coord, *words)
            found[verb] = (1e6 * seconds / len(after), mib)
        # What looks at all of them once.
        for verb in ("ls", "status", "fsck"):
            seconds, mib = cost(coord, verb)
            found[verb] = (1e6 * seconds / len(after), mib)
    if coord.count("done") != len(after):
        raise Failed(f"{coord.count('done')} of {len(after)} tasks were done")
    return found


def crowds(bench, ground):
    counts = COUNTS[:2] if bench.quick else COUNTS
    counts = [bench.count(n) for n in counts]
    for what, shape, on_dep_dead, cancelled, retried in SHAPES:
        found, failed = {}, None
        for n in counts:
            place = ground.place()
            try:
                ground.settle()
                found[n] = measure(bench, place, shape(n), on_dep_dead, cancelled, retried)
            except (Failed, OSError, ValueError) as e:
                failed = f"with {n} tasks: {e}"
                break
            finally:
                shutil.rmtree(place, ignore_errors=True)
            bench.progress(f"{what}: {n} tasks")
        rows = []
        first = found.get(counts[0], {})
        for verb in first:
            row = [f"coord {verb}"]
            for n in counts:
                us = found[n][verb][0] if n in found else None
                row.append(us)
                if n != counts[0]:
                    row.append(us / first[verb][0] if us and first[verb][0] else None)
            row.append(max(of[verb][1] for of in found.values()))
            rows.append(row)
        columns = ["command", f"{counts[0]}"]
        for n in counts[1:]:
            columns += [f"{n}", f"x {counts[0]}"]
        bench.report.table(f"10. {what}: µs of the processor for each task, {ground.name}", [*columns, "most MiB"], rows)
        if failed:
            bench.report.say(f"- FAILED {failed}\n")
        ratios = [ratio for row in rows for ratio in row[3:-1:2] if ratio is not None]
        if ratios and not bench.quick:
            word = "within" if max(ratios) <= RATIO else "MORE THAN"
            bench.report.say(f"- The largest ratio is {number(max(ratios))}, {word} {RATIO}.\n")
