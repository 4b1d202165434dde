"""Where it is measured: file systems made for it, and what the machine is."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

SYSTEM_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def output(*command):
    """What a command prints, also where that is an error; nothing where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": SYSTEM_PATH})
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() or done.stderr.strip()


def journalled(directory):
    """Whether the ext4 below a directory has a journal, as the kernel tells."""
    source = output("findmnt", "-n", "-o", "SOURCE", "-T", str(directory)).removeprefix("/dev/")
    journals = Path("/proc/fs/jbd2")
    return journals.is_dir() and any(j.name.rpartition("-")[0] == source for j in journals.iterdir())


def describe(directory):
    # Where mounts are stacked there are several lines; where findmnt is not here, stat knows a coarser name.
    found = output("findmnt", "-n", "-o", "FSTYPE", "-T", str(directory)).split()
    kind = found[-1] if found else output("stat", "-f", "-c", "%T", str(directory))
    if kind in ("ext3", "ext4"):
        kind += " with a journal" if journalled(directory) else " without a journal"
    return kind


class Ground:
    """A directory on one file system; `key` is what options call it."""

    def __init__(self, key, directory, name):
        self.key, self.directory, self.name = key, Path(directory), name

    def settle(self):
        """What earlier measurements wrote must not be written during this one."""
        subprocess.run(["sync", "-f", self.directory], check=False)

    def place(self):
        return Path(tempfile.mkdtemp(prefix="p", dir=self.directory))


class Grounds:
    """The file systems, made on entry and removed on exit, whatever happens in between."""

    def __init__(self, wanted, directory, quick):
        self.wanted, self.directory, self.quick = wanted, directory, quick
        self.made, self.image, self.mount = [], None, None

    def __enter__(self):
        try:
            return [self.make(key) for key in self.wanted]
        except BaseException:
            self.__exit__()
            raise

    def make(self, key):
        if key == "tmpfs":
            if describe("/dev/shm") != "tmpfs":
                raise SystemExit("scripts/bench: /dev/shm is no tmpfs: --fs ext4")
            return self.below("tmpfs", "/dev/shm", "tmpfs")
        if self.directory:
            return self.below("ext4", self.directory, describe(self.directory))
        if os.geteuid() != 0 or not self.loop():
            where = Path(tempfile.gettempdir())
            print(f"no journalled ext4 could be made here (that needs root and loop devices): {where} is used")
            return self.below("ext4", where, describe(where))
        return self.below("ext4", self.mount, f"{describe(self.mount)}, loop mount")

    def below(self, key, directory, name):
        made = tempfile.mkdtemp(prefix="coord-bench.", dir=directory)
        os.chmod(made, 0o755)
        self.made.append(made)
        return Ground(key, made, name)

    def loop(self):
        size, inodes = ("2G", 300_000) if self.quick else ("16G", 3_000_000)
        self.image = tempfile.mkdtemp(prefix="coord-bench.", dir="/var/tmp")
        image, mount = f"{self.image}/image", f"{self.image}/mount"
        os.mkdir(mount)
        eager = "lazy_itable_init=0,lazy_journal_init=0"
        for command in [
            ["truncate", "-s", size, image],
            ["mkfs.ext4", "-q", "-F", "-E", eager, "-N", str(inodes), image],
            ["mount", "-o", "loop", image, mount],
        ]:
            done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": SYSTEM_PATH})
            if done.returncode:
                print(f"{command[0]}: {done.stderr.strip()}")
                return False
        self.mount = mount
        return True

    def __exit__(self, *_):
        for directory in self.made:
            shutil.rmtree(directory, ignore_errors=True)
        if self.mount:
            self.unmount()
        if self.image:
            shutil.rmtree(self.image, ignore_errors=True)

    def unmount(self):
        # What was killed just now may hold it for a moment more.
        for command in [["umount", self.mount]] * 20 + [["umount", "--lazy", self.mount]]:
            if subprocess.run(command, capture_output=True, env={**os.environ, "PATH": SYSTEM_PATH}).returncode == 0:
                return
            time.sleep(0.1)


def machine():
    """What the figures depend on, and nothing that names the machine."""
    with open("/proc/cpuinfo") as text:
        models = [line.split(":", 1)[1].strip() for line in text if line.startswith("model name")]
    with open("/proc/meminfo") as text:
        memory = int(text.readline().split()[1]) // 1024
    kernel = os.uname()
    return {
        "cores": os.cpu_count(),
        "cpu": models[0] if models else kernel.machine,
        "memory_mib": memory,
        "kernel": f"{kernel.sysname} {kernel.release.split('-')[0]} {kernel.machine}",
        "load": round(os.getloadavg()[0], 2),
    }
