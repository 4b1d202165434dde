"""Sections 3 and 7: how soon a job starts on an idle system, and from nothing."""

import contextlib
import os
import random
import statistics
import subprocess
import time
from pathlib import Path

from alive import check, end_all, ending, environment, said, start, until
from jobs import in_turn
from programs import Failed
from report import Samples, quantile
from servers import Coord, Pueue, Put, Tsp, hyperqueue


def stamp_in(path):
    """The time that a job wrote, once it is there completely."""
    try:
        text = path.read_text()
    except OSError:
        return None
    return int(text) if text.endswith("\n") else None


def until_stamped(path):
    until("the job starts", lambda: stamp_in(path), every=0.002)
    return stamp_in(path)


def feed(process, path, place):
    try:
        process.stdin.write(f"{path}\n".encode())
        process.stdin.flush()
    except BrokenPipeError as e:
        process.wait()
        raise Failed(f"exit {process.returncode}: {said(place)}") from e


def by_pipe(command):
    """A runner that reads lines from a pipe for as long as it is open."""

    @contextlib.contextmanager
    def peer(bench, place):
        with ending():
            process = start(command(bench, place), place, stdin=subprocess.PIPE)

            def submit(path):
                feed(process, path, place)

            yield submit
            process.stdin.close()

    return peer


@contextlib.contextmanager
def bare(bench, place):
    job, children = bench.programs["job"], []

    def submit(path):
        if children:
            os.waitpid(children.pop(), 0)
        children.append(os.posix_spawn(job, [job, "stamp", str(path)], os.environ))

    yield submit
    os.waitpid(children.pop(), 0)


@contextlib.contextmanager
def coord_add(bench, place):
    coord = Coord(bench.programs, place)
    coord.init()
    with ending():
        coord.say("start", "-n", "2")
        time.sleep(1)
        yield lambda path: coord.say("add", "--", bench.programs["job"], "stamp", str(path))
        coord.say("stop")


@contextlib.contextmanager
def tsp(bench, place):
    peer = Tsp(bench.programs, place)
    with ending():
        peer.say("-S", "2")
        yield lambda path: peer.add(bench.programs["job"], "stamp", str(path))


@contextlib.contextmanager
def nq(bench, place):
    env = environment(place, NQDIR=place)
    with ending():
        yield lambda path: check([bench.programs["nq"], bench.programs["job"], "stamp", str(path)], place, env)


@contextlib.contextmanager
def pueue(bench, place):
    peer = Pueue(bench.programs, place)
    with ending():
        peer.up(2)
        yield lambda path: peer.say("add", "--", bench.programs["job"], "stamp", str(path))


def serving(kind):
    """Two workers that block in a server; it is told of a job by a client."""

    @contextlib.contextmanager
    def peer(bench, place):
        command, server = bench.queue(kind, False)
        stamp = place / "stamp"
        with ending(), server(place):
            words = ["--dir", place, "--processes", "2", "--jobs", "0", "--serve", "--run", bench.programs["job"]]
            start([*command, *map(str, words)], place, environment(place, BENCH_STAMP=stamp))
            put = Put(place) if kind == "beanstalkd" else None

            def submit(_):
                stamp.unlink(missing_ok=True)
                if put:
                    put.job()
                else:
                    check([bench.programs["redis-cli"], "-s", str(place / "socket"), "LPUSH", "jobs", "x"], place)
                return stamp

            yield submit

    return peer


def run_stamps(bench, place):
    coord = Coord(bench.programs, place)
    return [coord.coord, "run", "-n", "2", "--queue", str(place / "queue"), bench.programs["job"], "stamp", "{}"]


def xargs_stamps(bench, _):
    return [bench.programs["xargs"], "-P2", "-n1", bench.programs["job"], "stamp"]


def parallel_stamps(bench, _):
    return [bench.programs["parallel"], "--will-cite", "-j2", bench.programs["job"], "stamp", "{}"]


def hq_stamps(bench, place):
    return hyperqueue(bench.programs, place, "serve", "2", bench.programs["job"])


LATENCY = [
    ("bare posix_spawn", bare),
    ("coord add to coord start", coord_add),
    ("coord run, by pipe", by_pipe(run_stamps)),
    ("xargs, by pipe", by_pipe(xargs_stamps)),
    ("parallel, by pipe", by_pipe(parallel_stamps)),
    ("tsp", tsp),
    ("nq", nq),
    ("pueue", pueue),
    ("redis-cli to a blocked worker", serving("redis")),
    ("beanstalkd, by an open socket, to a blocked worker", serving("beanstalkd")),
    ("HyperQueue, by an open client", by_pipe(hq_stamps)),
]


def section_3(bench, ground):
    in_a_round = max(3, bench.count(60) // bench.rounds)
    samples, every = Samples(), {}

    def measure(peer, place):
        found = []
        with peer[1](bench, place) as submit:
            # The first ones warm it up; GNU parallel starts nothing before it has read as many as it has slots.
            for number in range(-4, in_a_round):
                path = place / f"stamp.{number}"
                begun = time.monotonic_ns()
                told = submit(path)
                path = told if isinstance(told, Path) else path
                if number < -2:
                    time.sleep(1 if number == -4 else 0.5)
                    continue
                took = (until_stamped(path) - begun) / 1e6
                if number >= 0:
                    found.append(took)
                time.sleep(random.uniform(0.03, 0.06))
        every.setdefault(peer[0], []).extend(found)
        return {"median": statistics.median(found)}

    in_turn(bench, ground, LATENCY, measure, samples)
    rows = []
    for name, _ in LATENCY:
        all_of_it = every.get(name) if name not in samples.failures else None
        cells = [statistics.median(all_of_it), quantile(all_of_it, 0.99), max(all_of_it)] if all_of_it else [None] * 3
        rows.append([name, len(all_of_it or []), *cells])
    columns = ["ms from the start of the client to the first instruction of the job", "samples", "median", "p99", "most"]
    bench.report.table(f"3. Submit to start, idle, {ground.name}", columns, rows, samples)


def cold_coord_start(bench, place, path):
    coord = Coord(bench.programs, place)
    coord.init()
    begun = time.monotonic_ns()
    coord.say("add", "--", bench.programs["job"], "stamp", str(path))
    coord.say("start", "-n", "1")
    return begun


def cold_line(command):
    def run(bench, place, path):
        begun = time.monotonic_ns()
        process = start(command(bench, place), place, stdin=subprocess.PIPE)
        feed(process, path, place)
        process.stdin.close()
        return begun

    return run


def cold(peer):
    """A peer of section 3, from nothing to its first job."""

    def run(bench, place, path):
        begun = time.monotonic_ns()
        context = peer(bench, place)
        submit = context.__enter__()
        submit(path)
        # Left open: whoever called ends what was started.
        bench.open.append(context)
        return begun

    return run


COLD = [
    ("bare posix_spawn", cold(bare)),
    ("coord run", cold_line(run_stamps)),
    ("coord add, coord start", cold_coord_start),
    ("xargs", cold_line(xargs_stamps)),
    ("parallel", cold_line(parallel_stamps)),
    ("tsp", cold(tsp)),
    ("nq", cold(nq)),
    ("pueue", cold(pueue)),
    ("HyperQueue (Python)", cold_line(hq_stamps)),
]


def section_7(bench, ground):
    samples = Samples()

    def measure(peer, place):
        path = place / "stamp"
        try:
            begun = peer[1](bench, place, path)
            return {"ms": (until_stamped(path) - begun) / 1e6}
        finally:
            while bench.open:
                with contextlib.suppress(OSError, ValueError, Failed):
                    bench.open.pop().__exit__(None, None, None)
            end_all()

    in_turn(bench, ground, COLD, measure, samples)
    rows = []
    for name, _ in COLD:
        values = samples.of(name, "ms")
        rows.append([name, samples.median(name, "ms"), min(values, default=None), max(values, default=None)])
    columns = ["ms from nothing to the first instruction of the first job", "median", "least", "most"]
    bench.report.table(f"7. Cold start, {ground.name}", columns, rows, samples)
