"""Queues that are programs to be started first: how, and how they are told of a job."""

import contextlib
import socket

from alive import check, ending, environment, start, until
from programs import Failed


def connects(path):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(path)) == 0


@contextlib.contextmanager
def redis(programs, place, always=False):
    command = [
        programs["redis-server"], "--port", "0", "--unixsocket", str(place / "socket"), "--dir", str(place),
        "--save", "", "--appendonly", "yes", "--appendfsync", "always" if always else "everysec",
    ]
    with ending():
        process = start(command, place)
        until("redis answers", lambda: connects(place / "socket"))
        yield process.pid


@contextlib.contextmanager
def beanstalkd(programs, place, always=False):
    (place / "binlog").mkdir()
    command = [programs["beanstalkd"], "-l", f"unix:{place / 'socket'}", "-b", str(place / "binlog")]
    with ending():
        process = start([*command, "-f", "0" if always else "50"], place)
        until("beanstalkd answers", lambda: connects(place / "socket"))
        yield process.pid


class Put:
    """A connection to beanstalkd that puts jobs."""

    def __init__(self, place):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(place / "socket"))

    def job(self):
        self.socket.sendall(b"put 0 0 60 1\r\nx\r\n")
        if not self.socket.recv(100).startswith(b"INSERTED"):
            raise Failed("beanstalkd refused a job")


class Pueue:
    def __init__(self, programs, place):
        self.place, config = place, place / "pueue.yml"
        config.write_text(
            f"shared:\n  pueue_directory: {place}/pueue\n  runtime_directory: {place}\n  use_unix_socket: true\n"
            "client: {}\ndaemon: {}\n"
        )
        self.client, self.daemon = [programs["pueue"], "-c", str(config)], [programs["pueued"], "-c", str(config)]
        self.env = environment(place)

    def say(self, *words):
        return check([*self.client, *words], self.place, self.env)

    def answers(self):
        try:
            self.say("status")
        except Failed:
            return False
        return True

    def up(self, workers):
        pid = start(self.daemon, self.place, self.env).pid
        until("pueued answers", self.answers)
        self.say("parallel", str(workers))
        return pid


class Tsp:
    def __init__(self, programs, place):
        self.tsp, self.place = programs["tsp"], place
        self.env = environment(place, TS_SOCKET=place / "ts")

    def say(self, *words):
        return check([self.tsp, *words], self.place, self.env)

    def add(self, *command):
        return self.say("-n", *command).strip()


class Coord:
    """A queue of coord in a directory of its own."""

    def __init__(self, programs, place):
        self.coord, self.place, self.env = programs["coord"], place, environment(place)

    def say(self, *words, **more):
        return check([self.coord, *words], self.place, self.env, **more)

    def init(self):
        self.say("init", "--no-git")

    def count(self, state):
        return int(self.say("status", "--count", state))


def hyperqueue(programs, place, *words, **more):
    """Server, workers and client of HyperQueue's Python package, in one process."""
    from programs import HERE

    if "hyperqueue" in programs.missing:
        raise Failed(programs.missing["hyperqueue"])
    return [programs["python"], str(HERE / "hq.py"), str(place / "hq"), *words]
