"""Queues that are Python libraries: --kind dirq, litequeue or persist-queue.

Options and output are those of processes.rs. The interpreter is part of what is measured, as it is for
whoever uses these libraries.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time


class Dirq:
    """A directory queue: lock an element by a link, remove it when it is done."""

    def __init__(self, directory):
        from dirq.QueueSimple import QueueSimple

        self.queue, self.lost, self.name = QueueSimple(directory + "/queue"), 0, ""

    def put(self, text):
        self.queue.add(text)

    def take(self):
        for _ in range(2):
            name = self.queue.next() if self.name else self.queue.first()
            while name:
                self.name = name
                if self.queue.lock(name):
                    self.queue.get(name)
                    return name
                self.lost += 1
                name = self.queue.next()
            self.name = ""
        return None

    def complete(self, name):
        self.queue.remove(name)


class Litequeue:
    """SQLite in WAL mode, a table of messages."""

    def __init__(self, directory):
        from litequeue import LiteQueue

        self.queue, self.lost = LiteQueue(directory + "/queue.db"), 0

    def put(self, text):
        self.queue.put(text)

    def take(self):
        return self.queue.pop()

    def complete(self, message):
        self.queue.done(message.message_id)


class PersistQueue:
    """SQLite, a table of items that are acknowledged."""

    def __init__(self, directory):
        import persistqueue

        self.queue = persistqueue.SQLiteAckQueue(directory + "/queue", auto_commit=True, auto_resume=False)
        self.empty, self.lost = persistqueue.Empty, 0

    def put(self, text):
        self.queue.put(text)

    def take(self):
        try:
            return self.queue.get(block=False)
        except self.empty:
            return None

    def complete(self, item):
        self.queue.ack(item)


KINDS = {"dirq": Dirq, "litequeue": Litequeue, "persist-queue": PersistQueue}


def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


def most_memory_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def work(order):
    queue = KINDS[order.kind](order.dir)
    share = order.cycles // order.processes + (order.worker < order.cycles % order.processes)
    jobs = 0
    print("ready", flush=True)
    sys.stdin.readline()
    before = used()
    while not order.cycles or jobs < share:
        job = queue.take()
        if job is None:
            break
        if order.run:
            pid = os.posix_spawn(order.run, [order.run], os.environ)
            if os.waitpid(pid, 0)[1]:
                raise RuntimeError("a job failed")
        queue.complete(job)
        jobs += 1
    after = used()
    print(jobs, queue.lost, after[0] - before[0], after[1] - before[1], most_memory_kib(), flush=True)


def crew(order):
    arguments = [sys.executable, *sys.argv]
    pipe = subprocess.PIPE
    children = [
        subprocess.Popen([*arguments, "--worker", str(i)], stdin=pipe, stdout=pipe, text=True)
        for i in range(order.processes)
    ]
    for child in children:
        if child.stdout.readline() != "ready\n":
            raise RuntimeError("a process failed before it began")
    begun = time.monotonic()
    for child in children:
        child.stdin.close()
    lines = [child.stdout.readline().split() for child in children]
    wall = time.monotonic() - begun
    for child in children:
        child.wait()
    if not all(lines):
        raise RuntimeError("a process failed")
    columns = list(zip(*[[float(word) for word in line] for line in lines]))
    return wall, columns


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--dir", required=True)
    options.add_argument("--kind", required=True, choices=KINDS)
    for name in ["--jobs", "--cycles", "--again"]:
        options.add_argument(name, type=int, default=0)
    options.add_argument("--processes", type=int, default=1)
    options.add_argument("--worker", type=int)
    options.add_argument("--run")
    options.add_argument("--durability")
    order = options.parse_args()
    if order.worker is not None:
        work(order)
        return
    before, begun = used(), time.monotonic()
    queue = KINDS[order.kind](order.dir)
    for number in range(order.jobs):
        queue.put(str(number))
    submit_wall, after, rss = time.monotonic() - begun, used(), most_memory_kib()
    wall, columns = crew(order)
    line = {
        "jobs": int(sum(columns[0])),
        "wall_s": wall,
        "cpu_user_s": sum(columns[2]),
        "cpu_system_s": sum(columns[3]),
        "lost_claims": int(sum(columns[1])),
        "max_rss_kib": int(max(columns[4])),
        "submit_wall_s": submit_wall,
        "submit_cpu_s": sum(after) - sum(before),
        "submit_rss_kib": rss,
    }
    print(json.dumps(line))


main()
