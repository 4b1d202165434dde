"""Section 10: the commands on a long queue, the memory of every program there, and chains and fans."""

import json
import time

from alive import ending, marked, memory, seconds
from crowds import crowds
from jobs import in_turn
from report import Samples
from servers import Coord

DEPTH = 100_000
WHATS = ["import", "status", "add", "status after an add"]


def section_10(bench, ground):
    samples, most = Samples(), {}
    depth = bench.count(DEPTH)

    def measure(_, place):
        coord = Coord(bench.programs, place)
        coord.init()
        line = json.dumps({"argv": [bench.programs["noop"]]}) + "\n"
        (place / "tasks.jsonl").write_text(line * depth)

        def ms(*words):
            return 1000 * seconds([coord.coord, *words], place, coord.env)

        found = {"import": ms("import", "--quiet", "tasks.jsonl"), "status": ms("status")}
        found["add"] = ms("add", "--", bench.programs["noop"])
        found["status after an add"] = ms("status")
        found["nothing"] = 1000 * seconds([bench.programs["noop"]], place, coord.env)
        with ending():
            coord.say("start", "-n", "2")
            end = time.monotonic() + (2 if bench.quick else 15)
            while time.monotonic() < end:
                for pid, name in marked().items():
                    if name.startswith("coord"):
                        most[name] = max(most.get(name, 0), memory(pid) / 1024)
                time.sleep(0.2)
            coord.say("stop", "--now")
        return found

    in_turn(bench, ground, [("coord",)], measure, samples)
    rows = [[f"coord {what}", samples.median("coord", what)] for what in WHATS]
    rows.append(["a process that does nothing", samples.median("coord", "nothing")])
    bench.report.table(f"10. With {depth} tasks, {ground.name}", ["command", "ms"], rows, samples)
    rows = [[name, mib] for name, mib in sorted(most.items())]
    bench.report.table(f"10. While {depth} tasks are done, {ground.name}", ["program", "most MiB"], rows)
    crowds(bench, ground)
