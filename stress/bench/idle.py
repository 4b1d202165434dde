"""Section 4: what waiting costs, of everything that must stay up."""

import os
import shutil
import time

import servers
from alive import end_all, ending, environment, marked, start, until, vitals
from programs import Failed
from report import Samples
from servers import Coord, Pueue, Tsp, hyperqueue


def idle_peers(bench, pipes):
    """Starts everything, each with a variable of its own; yields names and those variables."""

    def coord(place, env):
        peer = Coord(bench.programs, place)
        peer.env = env
        peer.init()
        peer.say("start", "-n", "8")

    def ts(place, env):
        peer = Tsp(bench.programs, place)
        peer.env = {**env, "TS_SOCKET": str(place / "ts")}
        peer.add(bench.programs["noop"])

    def daemon(place, env):
        peer = Pueue(bench.programs, place)
        peer.env = env
        start(peer.daemon, place, env)
        until("pueued answers", peer.answers)

    def server(kind):
        def begin(place, env):
            name = "redis-server" if kind == "redis" else kind
            words = {
                "redis": ["--port", "0", "--unixsocket", str(place / "socket"), "--dir", str(place), "--save", "",
                          "--appendonly", "yes"],
                "beanstalkd": ["-l", f"unix:{place / 'socket'}", "-b", str(place)],
            }[kind]
            start([bench.programs[name], *words], place, env)
            until("it answers", lambda: servers.connects(place / "socket"))
            command, _ = bench.queue(kind, False)
            words = ["--dir", str(place), "--processes", "8", "--serve"]
            start([*command, *words], place, env)

        return begin

    def hq(place, env):
        start(hyperqueue(bench.programs, place, "serve", "8", "-"), place, env, stdin=pipes.open_pipe())

    return [
        ("coord start -n 8", coord),
        ("tsp", ts),
        ("pueued", daemon),
        ("redis, 8 blocked workers", server("redis")),
        ("beanstalkd, 8 blocked workers", server("beanstalkd")),
        ("HyperQueue, server and 8 cores in a Python process", hq),
    ]


class Pipes:
    """Pipes that stay open for as long as this lives."""

    def __init__(self):
        self.ends = []

    def open_pipe(self):
        read, write = os.pipe()
        self.ends += [read, write]
        return read

    def close(self):
        for end in self.ends:
            os.close(end)


def section_4(bench, ground):
    """All at once: each is idle, and the figures are of its own processes."""
    duration, samples, pipes, places = (5 if bench.quick else 30), Samples(), Pipes(), []
    peers = idle_peers(bench, pipes)
    with ending():
        for number, (name, begin) in enumerate(peers):
            places.append(ground.place())
            try:
                begin(places[-1], environment(places[-1], BENCH_PEER=number))
            except (Failed, OSError) as e:
                samples.fail(name, e)
        time.sleep(2 if bench.quick else 10)
        pids = {name: list(marked(f"BENCH_PEER={i}")) for i, (name, _) in enumerate(peers)}
        before = {name: vitals(own) for name, own in pids.items()}
        time.sleep(duration)
        after = {name: vitals(own) for name, own in pids.items()}
        for number in range(len(peers)):
            end_all(f"BENCH_PEER={number}")
    pipes.close()
    for name, own in pids.items():
        if name in samples.failures:
            continue
        if not own:
            samples.fail(name, "none of its processes was found")
            continue
        switches, ns, pss = after[name]
        samples.add(name, 0, processes=len(own), switches=(switches - before[name][0]) / duration,
                    cpu=(ns - before[name][1]) / 1e7 / duration, pss=pss / 1024)
    rows = [[name, *[samples.median(name, what) for what in ("processes", "switches", "cpu", "pss")]] for name, _ in peers]
    columns = [f"idle for {duration} s", "processes", "context switches/s", "% of a core", "PSS MiB"]
    bench.report.table(f"4. Idle, {ground.name}", columns, rows, samples)
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
