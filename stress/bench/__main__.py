"""Measures coord and its peers in turn: scripts/bench --help."""

import argparse
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import commands
import cycles
import idle
import instructions
import jobs
import kills
import servers
import starting
from alive import end_all
from ground import Grounds, machine
from programs import Programs
from report import Report

ROOT = Path(__file__).resolve().parents[2]
# Number, title, function, and whether all file systems are worth it (else only the first one).
SECTIONS = [
    (1, "No-op jobs, end to end", jobs.section_1, True),
    (2, "Claim and complete", cycles.section_2, True),
    (3, "Submit to first instruction", starting.section_3, False),
    (4, "Idle", idle.section_4, False),
    (5, "Depth of the queue", cycles.section_5, True),
    (6, "Failed claims", cycles.section_6, True),
    (7, "Cold start", starting.section_7, False),
    (8, "Efficiency with jobs of 1 to 100 ms", jobs.section_8, False),
    (9, "Kills", kills.section_9, False),
    (10, "The commands on a long queue", commands.section_10, False),
]


class Bench:
    """What a section needs to know."""

    def __init__(self, options, programs, report):
        self.programs, self.report = programs, report
        self.quick, self.rounds, self.peers = options.quick, options.rounds, options.peers
        self.open = []

    def count(self, n):
        """So many in an ordinary run; few where it is only tried whether everything works."""
        return max(n // 50, min(n, 20)) if self.quick else n

    def wants(self, peer):
        return not self.peers or any(word in peer for word in self.peers)

    def progress(self, what):
        if sys.stderr.isatty():
            print(f"\r\x1b[K{what}", end="\r", file=sys.stderr, flush=True)

    def queue(self, kind, always):
        """The command that works with a queue of this kind, and its server."""
        if kind in ("jobs", "tasks"):
            return [self.programs["cycle"], "--kind", kind], no_server
        if kind in ("calls", "sqlite"):
            return [self.programs[kind]], no_server
        if kind in ("redis", "beanstalkd"):
            server = servers.redis if kind == "redis" else servers.beanstalkd
            return [self.programs["servers"], "--kind", kind], lambda place: server(self.programs, place, always)
        return self.programs.library(kind), no_server


@contextlib.contextmanager
def no_server(_):
    yield None


def parse():
    options = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Speed of coord and of its peers as ratios in one run. Takes an hour or two.",
        epilog="Sections: " + "; ".join(f"{number} {title}" for number, title, *_ in SECTIONS) + ".",
    )
    options.add_argument("--quick", action="store_true", help="tiny counts: only whether everything works")
    options.add_argument("--rounds", type=int, help="how often everything is measured (5; quick: 1)")
    options.add_argument("--only", help="sections, such as 1,4")
    options.add_argument("--peers", help="only those whose name has one of these words, such as coord,bare")
    options.add_argument("--fs", default="ext4,tmpfs", help="file systems: ext4, tmpfs or both")
    options.add_argument("--dir", help="a directory to use instead of an ext4 that is made for it")
    options.add_argument("--save", action="store_true", help="write stress/runs/bench-DATE-N-cores.json and .md")
    options.add_argument("--no-install", action="store_true", help="measure only what is there")
    options.add_argument("--cache", help="where the peers are installed (~/.cache/coord-bench)")
    options.add_argument("--instructions", action="store_true", help="instructions of a cycle, by callgrind, and nothing else")
    given = options.parse_args()
    given.rounds = given.rounds or (1 if given.quick else 5)
    known = [str(number) for number, *_ in SECTIONS]
    given.only = given.only.split(",") if given.only else known
    given.fs = given.fs.split(",")
    given.peers = given.peers.split(",") if given.peers else []
    if set(given.only) - set(known) or set(given.fs) - {"ext4", "tmpfs"} or given.rounds < 1:
        options.error("there is no such section, file system or number of rounds")
    return given


def stop(*_):
    raise SystemExit("scripts/bench: stopped")


def main():
    options = parse()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    if options.instructions:
        return instructions.run(ROOT)
    about = machine()
    cache = options.cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coord-bench"
    programs = Programs(ROOT, Path(cache).resolve(), not options.no_install)
    with Grounds(options.fs, options.dir, options.quick) as grounds:
        try:
            about["versions"] = programs.versions()
            about["file systems"] = {ground.key: ground.name for ground in grounds}
            chosen = {"rounds": options.rounds, "quick": options.quick, "sections": options.only}
            report = Report(about, chosen)
            report.head()
            measure(Bench(options, programs, report), options.only, grounds)
        finally:
            end_all()
    if options.save:
        report.save(ROOT / "stress" / "runs")
    return 0


def measure(bench, only, grounds):
    notes = [f"{bench.rounds} rounds, all peers in turn in each; medians, and medians of the ratios within a round."]
    if bench.quick:
        notes.append("A trial with tiny counts: the figures mean nothing.")
    notes.append("Every peer runs the same file by its absolute path, a static program that does nothing (gcc -static).")
    if bench.peers:
        notes.append(f"Only peers with one of these words in their name: {', '.join(bench.peers)}.")
    for peer, why in bench.programs.missing.items():
        notes.append(f"Without {peer}: {why}.")
    for note in notes:
        bench.report.say(f"- {note}")
    for number, title, section, everywhere in SECTIONS:
        if str(number) not in only:
            continue
        bench.report.section(f"{number}. {title}")
        begun = time.monotonic()
        for ground in grounds if everywhere else grounds[:1]:
            section(bench, ground)
        bench.report.say(f"({time.monotonic() - begun:.0f} s)")


sys.exit(main())
