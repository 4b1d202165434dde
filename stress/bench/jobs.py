"""Sections 1 and 8: jobs run to their end, by each peer in turn."""

import itertools
import json
import shutil
import subprocess

from alive import check, ending, environment, seconds
from programs import Failed
from report import Samples
from servers import Coord, Pueue, Tsp, hyperqueue


def numbers(place, n):
    path = place / "numbers"
    path.write_text("".join(f"{i}\n" for i in range(1, n + 1)))
    return path


def by_list(*command):
    """A peer that reads its arguments from standard input."""

    def run(bench, place, n):
        words = [w(bench) if callable(w) else w for w in command]
        with open(numbers(place, n)) as stdin:
            return seconds(words, place, stdin=stdin)

    return run


def program(name):
    return lambda bench: bench.programs[name]


def coord_run(bench, place, n, workers=2, command=None):
    coord = Coord(bench.programs, place)
    words = [coord.coord, "run", "-n", str(workers), "--queue", str(place / "queue")]
    with open(numbers(place, n)) as stdin, ending():
        return seconds([*words, *(command or [bench.programs["noop"]]), "{}"], place, coord.env, stdin)


def coord_tasks(bench, place, n):
    """Tasks that are imported and done by `coord start`: programs of its own, a supervisor, a status."""
    coord = Coord(bench.programs, place)
    coord.init()
    line = json.dumps({"argv": [bench.programs["noop"]]}) + "\n"
    (place / "tasks.jsonl").write_text(line * n)
    with ending():
        took = seconds([coord.coord, "import", "--quiet", "tasks.jsonl"], place, coord.env)
        took += seconds([coord.coord, "start", "-n", "2", "--until-empty"], place, coord.env)
        if coord.count("done") != n:
            raise Failed(f"{coord.count('done')} of {n} jobs were done")
    return took


def spawn(bench, place, n, workers=2, command=None):
    command = command or [bench.programs["noop"]]
    return seconds([bench.programs["spawn"], str(workers), str(n), *command], place)


def script(bench, place, text, env):
    """A loop over a client, in sh as people write it."""
    (place / "script").write_text(text)
    return seconds(["sh", "script"], place, env)


def tsp(bench, place, n):
    peer = Tsp(bench.programs, place)
    with ending():
        peer.say("-S", "2")
        tsp, noop = peer.tsp, bench.programs["noop"]
        loop = f"i=0; while [ $i -lt {n} ]; do i=$((i + 1)); last=$({tsp} -n {noop} $i); done\n"
        # The last but one may end after the last one.
        return script(bench, place, f"{loop}{tsp} -w $last; {tsp} -w $((last - 1))\n", peer.env)


def nq(bench, place, n):
    nq, noop = bench.programs["nq"], bench.programs["noop"]
    for queue in ("0", "1"):
        (place / queue).mkdir()
    loop = f"i=0; while [ $i -lt {n} ]; do i=$((i + 1)); NQDIR={place}/$((i % 2)) {nq} {noop} $i; done\n"
    with ending():
        return script(bench, place, f"{loop}for q in 0 1; do NQDIR={place}/$q {nq} -w; done\n", environment(place))


def pueue(bench, place, n):
    peer = Pueue(bench.programs, place)
    client = " ".join(peer.client)
    with ending():
        peer.up(2)
        loop = f"i=0; while [ $i -lt {n} ]; do i=$((i + 1)); {client} add -- {bench.programs['noop']} $i; done\n"
        return script(bench, place, f"{loop}{client} wait --quiet\n", peer.env)


def hq(bench, place, n):
    command = hyperqueue(bench.programs, place, "jobs", str(max(n, 3)), bench.programs["noop"], bench.programs["job"])
    with ending():
        return float(check(command, place).split()[-1])


def library(kind, durability="process"):
    """A queue whose workers spawn the job: from the first submission, with the workers ready."""

    def run(bench, place, n):
        command, server = bench.queue(kind, durability == "accept")
        with ending(), server(place):
            words = ["--dir", place, "--processes", "2", "--jobs", n, "--durability", durability]
            said = check([*command, *map(str, words), "--run", bench.programs["noop"]], place)
        result = json.loads(said)
        if result["jobs"] != n:
            raise Failed(f"{result['jobs']} of {n} jobs were done")
        return result["submit_wall_s"] + result["wall_s"]

    return run


def peers():
    """Name, jobs in a round, and how they are run."""
    noop = program("noop")
    return [
        ("bare posix_spawn, 2 processes", 2000, spawn),
        ("coord run", 2000, coord_run),
        ("xargs -P2 -n1", 2000, by_list(program("xargs"), "-P2", "-n1", noop)),
        ("coord import, coord start", 2000, coord_tasks),
        ("parallel --joblog", 1000, by_list(program("parallel"), "--will-cite", "-j2", "--joblog", "log", noop, "{}")),
        ("tsp", 500, tsp),
        ("nq, 2 queues", 200, nq),
        ("pueue", 60, pueue),
        ("HyperQueue, 2 cores", 2000, hq),
        ("SQLite NORMAL (C)", 2000, library("sqlite")),
        ("SQLite FULL (C)", 1000, library("sqlite", "accept")),
        ("redis everysec", 2000, library("redis")),
        ("redis always", 1000, library("redis", "accept")),
        ("beanstalkd -f50", 2000, library("beanstalkd")),
        ("beanstalkd -f0", 1000, library("beanstalkd", "accept")),
        ("dirq (Python)", 1000, library("dirq")),
        ("litequeue (Python)", 1000, library("litequeue")),
        ("persist-queue (Python)", 500, library("persist-queue")),
    ]


def in_turn(bench, ground, peers, measure, samples):
    """Each round has all peers, and begins with another one."""
    for number in range(bench.rounds):
        turn = number % len(peers)
        for peer in peers[turn:] + peers[:turn]:
            if peer[0] in samples.failures or not bench.wants(peer[0]):
                continue
            place = ground.place()
            try:
                ground.settle()
                samples.add(peer[0], number, **measure(peer, place))
            except (Failed, OSError, ValueError, KeyError, subprocess.SubprocessError) as e:
                samples.fail(peer[0], e or type(e).__name__)
            finally:
                shutil.rmtree(place, ignore_errors=True)
            bench.progress(f"round {number + 1}: {peer[0]}")


def section_1(bench, ground):
    samples, all_peers = Samples(), peers()

    def measure(peer, place):
        n = bench.count(peer[1])
        return {"rate": n / peer[2](bench, place, n)}

    in_turn(bench, ground, all_peers, measure, samples)
    bare, xargs, parallel = all_peers[0][0], all_peers[2][0], all_peers[4][0]
    rows = []
    for name, jobs, _ in all_peers:
        values = samples.of(name, "rate")
        ratios = [samples.ratio(name, other, "rate") for other in (xargs, bare, parallel)]
        rows.append([name, bench.count(jobs), samples.median(name, "rate"), min(values, default=None),
                     max(values, default=None), *ratios])
    columns = ["peer", "jobs", "jobs/s", "least", "most", "x xargs", "x bare spawn", "x parallel"]
    bench.report.table(f"1. No-op jobs, 2 at a time, {ground.name}", columns, rows, samples)
    without_library(bench, ground)


def without_library(bench, ground):
    """Those of the peers that differ least, with a job of which nothing is left but its start and its end."""
    if "bare" in bench.programs.missing:
        return
    bare = bench.programs["bare"]
    n, samples = bench.count(4000), Samples()
    runners = {
        "bare posix_spawn, 2 processes": lambda place: spawn(bench, place, n, command=[bare]),
        "coord run": lambda place: coord_run(bench, place, n, command=[bare]),
        "xargs -P2 -n1": lambda place: xargs_of(bench, place, n, 2, [bare]),
    }
    cases = list(runners.items())
    in_turn(bench, ground, cases, lambda case, place: {"rate": n / case[1](place)}, samples)
    first, _, last = runners
    rows = [
        [name, samples.median(name, "rate"), samples.ratio(name, last, "rate"), samples.ratio(name, first, "rate")]
        for name in runners
    ]
    columns = ["peer", "jobs/s", "x xargs", "x bare spawn"]
    bench.report.table(f"1. Jobs without a C library, 2 at a time, {ground.name}", columns, rows, samples)


def section_8(bench, ground):
    """How much of the ideal time jobs take that are not nothing."""
    cores = bench.report.data["machine"]["cores"]
    runners = {
        "bare posix_spawn": lambda place, n, workers, command: spawn(bench, place, n, workers, command),
        "xargs": lambda place, n, workers, command: xargs_of(bench, place, n, workers, command),
        "coord run": lambda place, n, workers, command: coord_run(bench, place, n, workers, command),
    }
    kinds = list(itertools.product(("sleep", "busy"), (1, 10, 100)))
    all_workers = (1, 2, 3, 5)
    for what, ms in kinds:
        samples = Samples()
        cases = [(f"{r}, {w}", r, w) for r in runners for w in all_workers]

        def measure(case, place):
            _, runner, workers = case
            lanes = workers if what == "sleep" else min(workers, cores)
            # So many that all workers are busy to the end.
            n = workers * max(1, round(bench.count(1500) / ms * lanes / workers))
            took = runners[runner](place, n, workers, [bench.programs["job"], what, str(ms)])
            return {"efficiency": n * ms / 1000 / lanes / took, "rate": n / took}

        in_turn(bench, ground, cases, measure, samples)
        rows = []
        for runner in runners:
            one = samples.median(f"{runner}, 1", "rate")
            rates = [samples.median(f"{runner}, {w}", "rate") for w in all_workers]
            shares = [samples.median(f"{runner}, {w}", "efficiency") for w in all_workers]
            gains = [rate / one if rate and one else None for rate in rates[2:]]
            rows.append([runner, *[100 * s if s else None for s in shares], *gains])
        columns = ["peer", *[f"{w} workers, % of ideal" for w in all_workers], "3 against 1", "5 against 1"]
        bench.report.table(f"8. {what} {ms} ms, {ground.name}", columns, rows, samples)


def xargs_of(bench, place, n, workers, command):
    # Each job is given its number too, which it ignores.
    with open(numbers(place, n)) as stdin:
        return seconds([bench.programs["xargs"], f"-P{workers}", "-n1", *command], place, stdin=stdin)
