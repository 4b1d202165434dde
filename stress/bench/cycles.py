"""Sections 2, 5 and 6: claims and completions alone, nothing is run."""

import json

from alive import check, ending, memory, vitals
from jobs import in_turn
from programs import Failed
from report import Samples

# Name, kind, mode, cycles in a round, most processes.
PEERS = {
    "process": [
        ("bare system calls", "calls", "process", 20000, 64),
        ("coord jobs", "jobs", "process", 20000, 64),
        ("coord tasks", "tasks", "process", 3000, 64),
        ("SQLite NORMAL (C)", "sqlite", "process", 10000, 64),
        ("redis everysec", "redis", "process", 20000, 64),
        ("beanstalkd -f50", "beanstalkd", "process", 20000, 64),
        ("dirq (Python)", "dirq", "process", 5000, 8),
        ("litequeue (Python)", "litequeue", "process", 2000, 8),
    ],
    "accept": [
        ("bare system calls, fsync of an end", "calls", "accept", 2000, 64),
        ("coord jobs", "jobs", "accept", 2000, 64),
        ("coord tasks", "tasks", "accept", 1000, 64),
        ("SQLite FULL (C)", "sqlite", "accept", 2000, 64),
        ("redis always", "redis", "accept", 2000, 64),
        ("beanstalkd -f0", "beanstalkd", "accept", 2000, 64),
        ("persist-queue (Python)", "persist-queue", "accept", 500, 8),
    ],
    "full": [
        ("bare system calls, fsync of both", "calls", "full", 1000, 64),
        ("coord jobs", "jobs", "full", 1000, 64),
        ("coord tasks", "tasks", "full", 1000, 64),
    ],
}
NOTE = (
    "A cycle is a claim and a completion; us of CPU are the workers' (user and system), without the server's of "
    "redis and beanstalkd, which stands beside it."
)


def cycles(bench, place, kind, durability, processes, jobs, *more):
    """The JSON line that the program of this kind prints, and the server's part."""
    command, server = bench.queue(kind, durability == "accept")
    words = ["--dir", place, "--processes", processes, "--jobs", jobs, "--durability", durability, *more]
    with ending(), server(place) as pid:
        before = vitals([pid])[1] if pid else 0
        said = check([*command, *map(str, words)], place)
        after, rss = (vitals([pid])[1], memory(pid)) if pid else (0, 0)
    result = json.loads(said.splitlines()[-1])
    return {**result, "server_s": (after - before) / 1e9, "server_kib": rss}


def figures(result, jobs):
    if result["jobs"] != jobs:
        raise Failed(f"{result['jobs']} completions of {jobs} jobs")
    cpu = result["cpu_user_s"] + result["cpu_system_s"]
    return {
        "rate": jobs / result["wall_s"],
        "cpu": cpu / jobs * 1e6,
        "server": result["server_s"] / jobs * 1e6,
        "lost": result["lost_claims"] / jobs,
    }


def run_table(bench, ground, mode, all_processes):
    samples = Samples()
    cases = [
        (f"{name}, {p}", kind, durability, jobs, p)
        for name, kind, durability, jobs, most in PEERS[mode]
        for p in all_processes
        if p <= most
    ]

    def measure(case, place):
        _, kind, durability, jobs, processes = case
        jobs = max(bench.count(jobs), processes)
        return figures(cycles(bench, place, kind, durability, processes, jobs), jobs)

    in_turn(bench, ground, cases, measure, samples)
    return samples


def section_2(bench, ground):
    bench.report.say(NOTE + "\n")
    all_processes = (1, 2, 4, 8, 64)
    # On tmpfs nothing waits for a disk.
    for mode, peers in PEERS.items() if ground.key != "tmpfs" else [("process", PEERS["process"])]:
        samples = run_table(bench, ground, mode, all_processes)
        rows = []
        for name, *_ in peers:
            rates = [samples.median(f"{name}, {p}", "rate") for p in all_processes]
            best = max([r for r in rates[:2] if r], default=None)
            cpu, bare = (samples.median(f"{n}, 1", "cpu") for n in (name, peers[0][0]))
            rows.append([
                name, *rates, rates[3] / best if rates[3] and best else None, cpu,
                samples.ratio(f"{name}, 1", f"{peers[0][0]}, 1", "cpu"),
                samples.median(f"{name}, 8", "cpu"), samples.median(f"{name}, 1", "server"),
            ])
        columns = ["cycles/s with this many processes", *map(str, all_processes), "8 to best of 1, 2",
                   "CPU us, 1", "x bare", "CPU us, 8", "server's, 1"]
        bench.report.table(f"2. Claim and complete, mode {mode}, {ground.name}", columns, rows, samples)


def section_6(bench, ground):
    samples = run_table(bench, ground, "process", (8, 64))
    rows = [
        [name, samples.median(f"{name}, 8", "lost"), samples.median(f"{name}, 64", "lost")]
        for name, *_ in PEERS["process"]
    ]
    columns = ["failed claims per success (SQLite: waits for its lock)", "8 processes", "64 processes"]
    bench.report.table(f"6. Failed claims, {ground.name}", columns, rows, samples)


# Name, kind, and the greatest depth that is tried: beyond it a round takes too long.
DEEP = [
    ("bare system calls", "calls", 10**6),
    ("coord jobs", "jobs", 10**6),
    ("coord tasks", "tasks", 10**5),
    ("SQLite NORMAL (C)", "sqlite", 10**6),
    ("redis everysec", "redis", 10**6),
    ("beanstalkd -f50", "beanstalkd", 10**6),
    ("dirq (Python)", "dirq", 10**5),
    ("litequeue (Python)", "litequeue", 10**5),
]


def section_5(bench, ground):
    depths = [bench.count(10**power) for power in ((4, 5) if bench.quick else (3, 4, 5, 6))]
    samples = Samples()
    cases = [(f"{name}, {d}", kind, d) for name, kind, most in DEEP for d in depths if d <= most]

    def measure(case, place):
        _, kind, depth = case
        number = min(1000, depth)
        result = cycles(bench, place, kind, "process", 1, depth, "--cycles", number)
        values = figures(result, number)
        return {**values, "submit": result["submit_cpu_s"] / depth * 1e6,
                "memory": max(result["max_rss_kib"], result["server_kib"], result["submit_rss_kib"]) / 1024}

    in_turn(bench, ground, cases, measure, samples)
    rows = []
    for name, _, most in DEEP:
        names = [f"{name}, {d}" for d in depths if d <= most]
        blanks = [None] * (len(depths) - len(names))
        ratio = samples.ratio(names[-1], names[0], "cpu")
        rows.append([name, *[samples.median(n, "cpu") for n in names], *blanks, ratio,
                     *[samples.median(names[i], "submit") for i in (0, -1)],
                     *[samples.median(names[i], "memory") for i in (0, -1)]])
    columns = ["CPU us of a cycle with so many queued", *map(str, depths), "most to least",
               "submit us, least", "submit us, most", "MiB, least", "MiB, most"]
    bench.report.table(f"5. Depth, {ground.name}", columns, rows, samples)
    if ground.key != "tmpfs":
        drained(bench, ground, depths[-1])


def drained(bench, ground, depth):
    """A queue that has been emptied, against one that is new."""
    again = min(1000, depth)
    cases = [case for case in DEEP if case[1] in ("calls", "jobs", "tasks", "sqlite") and depth <= case[2]]
    samples = Samples()

    def measure(case, place):
        beside = place / "new"
        beside.mkdir()
        new = cycles(bench, beside, case[1], "process", 1, again)
        old = cycles(bench, place, case[1], "process", 1, depth, "--again", again)
        if old.get("again_jobs") != again:
            raise Failed(f"{old.get('again_jobs')} completions of {again} jobs")
        return {"new": figures(new, again)["cpu"], "old": old["again_cpu_s"] / again * 1e6}

    in_turn(bench, ground, cases, measure, samples)
    rows = []
    for name, *_ in cases:
        new, old = samples.median(name, "new"), samples.median(name, "old")
        rows.append([name, new, old, old / new if new and old else None])
    columns = ["CPU us of a cycle", "new queue", f"after {depth} jobs", "ratio"]
    bench.report.table(f"5. A queue that was drained, {ground.name}", columns, rows, samples)
