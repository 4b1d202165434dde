"""Processes that this benchmark has started: found by a mark in their environment, timed and ended."""

import contextlib
import getpass
import os
import secrets
import signal
import subprocess
import threading
import time
from pathlib import Path

from programs import Failed, last_line

USER = getpass.getuser()
MARK = f"BENCH_MARK={secrets.token_hex(8)}"
# What `start` has started, with its environment: redis writes its title over its own.
STARTED = []


def environment(place, **more):
    """Nothing of the caller's settings, and everything that programs keep of their own below `place`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COORD_", "PUEUE", "TS_", "NQ", "PARALLEL"))}
    name, value = MARK.split("=")
    # One home for all: GNU parallel learns about the machine when it runs for the first time.
    home = place.parent / "home"
    home.mkdir(exist_ok=True)
    # As after a login, where the bench was started by something that is none.
    return {"USER": USER, **kept, name: value, "HOME": str(home), "TMPDIR": str(place), **{k: str(v) for k, v in more.items()}}


def check(command, place, env=None, stdin=None, timeout=600):
    """Runs a command to its end, and returns what it prints. Any failure is Failed."""
    # In memory: to make a file would count as the command's time.
    with open(os.memfd_create("errors"), "w+b") as stderr:
        try:
            done = subprocess.run(
                command, cwd=place, env=env or environment(place), stdin=stdin or subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=stderr, timeout=timeout,
            )
        except subprocess.TimeoutExpired as e:
            raise Failed(f"not done after {timeout} s") from e
        if done.returncode:
            stderr.seek(0)
            said = (stderr.read() or done.stdout).decode(errors="replace")
            raise Failed(f"exit {done.returncode}: {last_line(said)}")
    return done.stdout.decode(errors="replace")


def seconds(command, place, env=None, stdin=None, timeout=600):
    """How long a command takes whose output nobody wants."""
    env = env or environment(place)
    with open(place / "errors", "w+b") as stderr:
        process = None
        # `wait` with a timeout sleeps up to 50 ms between two looks.
        watchdog = threading.Timer(timeout, lambda: process.kill())
        watchdog.daemon = True
        watchdog.start()
        begun = time.monotonic()
        process = subprocess.Popen(
            command, cwd=place, env=env, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        )
        code = process.wait()
        took = time.monotonic() - begun
        watchdog.cancel()
        if took >= timeout:
            raise Failed(f"not done after {timeout} s")
        if code:
            stderr.seek(0)
            raise Failed(f"exit {code}: {last_line(stderr.read().decode(errors='replace'))}")
    return took


def start(command, place, env=None, **more):
    with open(place / "errors", "ab") as stderr:
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **more}
        env = env or environment(place)
        process = subprocess.Popen(command, cwd=place, env=env, stderr=stderr, **more)
    STARTED.append((process, env))
    return process


def said(place):
    """The last line that something started there has said of an error."""
    return last_line((place / "errors").read_text(errors="replace"))


def until(what, true, patience=15.0, every=0.001):
    end = time.monotonic() + patience
    while not true():
        if time.monotonic() > end:
            raise Failed(f"waited {patience:.0f} s in vain until {what}")
        time.sleep(every)


def marked(variable=None):
    """The process ids with our mark, or with another variable beside it, and their programs."""
    STARTED[:] = [(process, env) for process, env in STARTED if process.poll() is None]
    name, _, value = (variable or MARK).partition("=")
    found = {p.pid: Path(p.args[0]).name for p, env in STARTED if env.get(name) == value}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            variables = (entry / "environ").read_bytes().split(b"\0")
            if MARK.encode() in variables and (variable is None or variable.encode() in variables):
                found[int(entry.name)] = Path(os.readlink(entry / "exe")).name
    return found


def kill(pids):
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def end_all(variable=None):
    """Ends what was started, and what that has started: some become daemons."""
    for _ in range(50):
        pids = marked(variable)
        if not pids:
            return
        kill(pids)
        time.sleep(0.02)


@contextlib.contextmanager
def ending():
    """Nothing that was started within lives on after it."""
    try:
        yield
    finally:
        end_all()


def vitals(pids):
    """Context switches so far, processor time so far (ns), and memory now (PSS, KiB)."""
    switches = ns = pss = 0
    for pid in pids:
        process = Path("/proc") / str(pid)
        with contextlib.suppress(OSError):
            for task in (process / "task").iterdir():
                lines = (task / "status").read_text().splitlines()
                switches += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
                ns += int((task / "schedstat").read_text().split()[0])
            lines = (process / "smaps_rollup").read_text().splitlines()
            pss += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return switches, ns, pss


def memory(pid):
    """The most memory that a process had so far, KiB; 0 where it is gone."""
    with contextlib.suppress(OSError):
        lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
    return 0
