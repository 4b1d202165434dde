"""Section 9: the runner is killed with SIGKILL in the middle, at a moment drawn by lot."""

import contextlib
import os
import random
import signal
import subprocess
import time

from alive import end_all, ending, environment, kill, marked, said, start, until
from jobs import in_turn, numbers
from programs import Failed
from report import Samples
from servers import Tsp



def lines(log):
    """What the jobs wrote: (S or E, id, process id), in the order in which it happened."""
    if not log.exists():
        return []
    return [tuple(line.split()) for line in log.read_text().splitlines()]


def ended(log):
    return sum(1 for line in lines(log) if line[0] == "E")


class Line:
    """A command line that reads the numbers, and is simply given again after the kill."""

    def __init__(self, bench, place, n, words):
        self.place, self.numbers = place, numbers(place, n)
        self.words, self.env = words, environment(place)

    def begin(self):
        with open(self.numbers) as stdin:
            self.process = start(self.words, self.place, self.env, stdin=stdin)

    again = begin

    def failed(self):
        if self.process.poll():
            raise Failed(f"exit {self.process.returncode}: {said(self.place)}")

    def wait(self, patience):
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired as e:
            raise Failed(f"not done {patience} s after the kill") from e


def job(bench, place, ms=20):
    return [bench.programs["job"], "mark", str(place / "log"), str(ms)]


def xargs(bench, place, n):
    return Line(bench, place, n, [bench.programs["xargs"], "-P2", "-n1", *job(bench, place)])


def parallel(bench, place, n):
    words = ["--will-cite", "-j2", "--joblog", str(place / "joblog"), "--resume"]
    return Line(bench, place, n, [bench.programs["parallel"], *words, *job(bench, place), "{}"])


def coord_run(bench, place, n):
    words = [bench.programs["coord"], "run", "-n", "2", "--queue", str(place / "queue")]
    return Line(bench, place, n, [*words, *job(bench, place, 5), "{}"])


class Clients:
    """A queue that is filled by a client for each job; nothing is given again after the kill."""

    def __init__(self, bench, place, n, peer):
        self.bench, self.place, self.n = bench, place, n
        self.tsp = Tsp(bench.programs, place) if peer == "tsp" else None

    def begin(self):
        if self.tsp:
            self.tsp.say("-S", "2")
        for number in range(1, self.n + 1):
            # Longer than a client takes, or there would be no queue.
            command = [*job(self.bench, self.place, 100), str(number)]
            if self.tsp:
                self.tsp.add(*command)
            else:
                queue = self.place / str(number % 2)
                queue.mkdir(exist_ok=True)
                subprocess.run([self.bench.programs["nq"], *command], env=environment(self.place, NQDIR=queue),
                               stdout=subprocess.DEVNULL, check=True)

    def failed(self):
        return False

    def again(self):
        if self.tsp:
            self.tsp.say()

    def wait(self, _):
        # Whatever still does something does it now.
        size = -1
        while size != len(lines(self.place / "log")):
            size = len(lines(self.place / "log"))
            time.sleep(0.5)


def runners(pids, how):
    """The processes to be killed: never the jobs, which may outlive their runner."""
    own = sorted(pid for pid, name in pids.items() if name != "bench-job")
    if how == "all" or not own:
        return own
    # Of a tree the front is the one that no other runner has started.
    fronts = [pid for pid in own if parent(pid) not in own]
    rest = [pid for pid in own if pid not in fronts]
    return fronts if how == "front" else random.sample(rest, 1) if rest else []


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as text:
            return int(text.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def trial(bench, place, make, n, how):
    log = place / "log"
    with ending():
        runner = make(bench, place, n)
        runner.begin()
        wanted = random.randint(n // 5, n * 3 // 5)
        until("the middle", lambda: ended(log) >= wanted or runner.failed(), patience=120, every=0.02)
        # Anywhere in a job, not only at its border.
        time.sleep(random.uniform(0, 0.1 if isinstance(runner, Clients) else 0.02))
        victims = runners(marked(), how)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        # Also one that has written its last line and not been waited for is running.
        at_kill = lines(log)
        done = {i for k, i, pid in at_kill if k == "E" and not os.path.exists(f"/proc/{pid}")}
        running = {i for _, i, _ in at_kill} - done
        kill(victims)
        if not victims:
            raise Failed(f"there was nothing to kill ({how})")
        if how == "worker":
            # The rest goes on without it: there is nothing to be given again.
            runner.wait(300)
            runner.failed()
        else:
            runner.again()
            runner.wait(300)
            runner.failed()
        time.sleep(0.1)
        return verdict(lines(log), n, done, running)


def verdict(all_lines, n, done, running):
    starts, open_now, together = {}, {}, set()
    for kind, job_id, pid in all_lines:
        if kind == "S":
            starts[job_id] = starts.get(job_id, 0) + 1
            if open_now.get(job_id):
                together.add(job_id)
            open_now.setdefault(job_id, set()).add(pid)
        else:
            open_now.get(job_id, set()).discard(pid)
    finished = {i for k, i, _ in all_lines if k == "E"}
    twice = {i for i, count in starts.items() if count > 1}
    return {
        "never": n - len(finished),
        "rerun_finished": len(twice & done - running),
        "rerun_running": len(twice & running),
        "rerun_other": len(twice - done - running),
        "together": len(together),
    }


PEERS = [
    ("xargs", xargs, 100, "all"),
    ("parallel --joblog --resume", parallel, 100, "all"),
    ("tsp", lambda b, p, n: Clients(b, p, n, "tsp"), 100, "all"),
    ("nq, 2 queues", lambda b, p, n: Clients(b, p, n, "nq"), 100, "all"),
    ("coord run, the front", coord_run, 10000, "front"),
    ("coord run, a worker", coord_run, 10000, "worker"),
    ("coord run, all at once", coord_run, 10000, "all"),
]


def section_9(bench, ground):
    samples = Samples()

    def measure(peer, place):
        _, make, n, how = peer
        try:
            return {"jobs": bench.count(n), **trial(bench, place, make, max(bench.count(n), 30), how)}
        finally:
            end_all()

    in_turn(bench, ground, PEERS, measure, samples)
    whats = ("never", "rerun_finished", "rerun_running", "rerun_other", "together")
    rows = []
    for name, _, n, _ in PEERS:
        worst = [max(samples.of(name, what), default=None) for what in whats]
        rows.append([name, max(bench.count(n), 30), len(samples.of(name, "never")), *worst])
    columns = ["SIGKILL, then the same line again (not after that of a worker); the worst of all trials", "jobs", "trials", "never finished",
               "finished, ran again", "running at the kill, ran again", "started later, ran twice",
               "two copies at once"]
    bench.report.table(f"9. Kills, {ground.name}", columns, rows, samples)
