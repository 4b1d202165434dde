"""Instructions of a cycle, counted by callgrind: the same on every run, so a regression shows without a clock.

Each kind runs with two sizes; what one cycle costs is the difference, and starting costs nothing.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

SMALL, LARGE = 200, 600
KINDS = ("jobs", "tasks")


def run(root):
    if not shutil.which("valgrind"):
        if os.geteuid() != 0:
            raise SystemExit("scripts/bench: needs valgrind (apt-get install valgrind)")
        quiet = ["--quiet", "--quiet", "--yes", "--no-install-recommends"]
        subprocess.run(["apt-get", "update", "--quiet", "--quiet"], check=True)
        subprocess.run(["apt-get", "install", *quiet, "valgrind"], check=True)
    build = ["cargo", "build", "--release", "--locked", "--quiet", "--example", "bench-cycle"]
    subprocess.run(build, cwd=root, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target")).resolve()
    program = target / "release" / "examples" / "bench-cycle"
    failed = 0
    for kind in KINDS:
        try:
            small, large = count(program, kind, SMALL), count(program, kind, LARGE)
        except ValueError as e:
            failed = 1
            print(f"{kind}: FAILED: {e}")
            continue
        cycle, submit = ((large[i] - small[i]) / (LARGE - SMALL) for i in (0, 1))
        print(f"{kind}: {cycle:.0f} instructions a cycle, {submit:.0f} a submission", flush=True)
    return failed


def count(program, kind, jobs):
    """Instructions of the worker, and of the process that submits."""
    with tempfile.TemporaryDirectory(prefix="coord-bench.", dir="/dev/shm") as place:
        tool = ["valgrind", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={place}/counts.%p"]
        words = ["--dir", f"{place}/queue", "--processes", "1", "--jobs", str(jobs), "--kind", kind]
        os.mkdir(f"{place}/queue")
        done = subprocess.run([*tool, program, *words], capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if not line.startswith("==")]
            raise ValueError(said[-1] if said else f"exit {done.returncode}")
        found = [0, 0]
        for path in Path(place).glob("counts.*"):
            text = path.read_text()
            total = int(re.search(r"^(?:totals|summary): (\d+)", text, re.M)[1])
            found["--worker" not in re.search(r"^cmd: .*", text, re.M)[0]] = total
        return found
