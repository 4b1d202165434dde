"""HyperQueue by its Python package, which has server, workers and client in one process.

hq.py DIRECTORY jobs N NOOP JOB: the seconds from the submission of N jobs until the last one starts.
hq.py DIRECTORY serve WORKERS JOB: runs `JOB stamp LINE` for each line of standard input.
"""

import sys
import time
from pathlib import Path

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def add(job, *words):
    job.program(list(words), stdout=None, stderr=None)


def jobs(directory, client, n, noop, job_program):
    # The package waits by looking once a second, so the last two jobs tell when they begin.
    begun = time.monotonic_ns()
    job, stamps = Job(), directory / "stamps"
    for i in range(n - 2):
        add(job, noop, str(i))
    for _ in range(2):
        add(job, job_program, "stamp", str(stamps))
    client.submit(job)
    while not stamps.exists() or len(stamps.read_text().splitlines()) < 2:
        time.sleep(0.01)
    print((max(map(int, stamps.read_text().split())) - begun) / 1e9)


def main():
    directory, what, n, *programs = sys.argv[1:]
    directory = Path(directory)
    directory.mkdir(exist_ok=True)
    with LocalCluster(str(directory)) as cluster:
        cluster.start_worker(WorkerConfig(cores=2 if what == "jobs" else int(n)))
        client = cluster.client()
        if what == "jobs":
            jobs(directory, client, int(n), *programs)
            return
        print("ready", flush=True)
        submitted = []
        for line in sys.stdin:
            job = Job()
            add(job, programs[0], "stamp", line.strip())
            submitted.append(client.submit(job))
        client.wait_for_jobs(submitted)


main()
