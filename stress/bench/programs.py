"""The programs that are measured: built, installed where they are missing, and with their versions."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ground import output

HERE = Path(__file__).resolve().parent
# Command, and the package of Debian that has it.
DEBIAN = {
    "xargs": "findutils",
    "parallel": "parallel",
    "tsp": "task-spooler",
    "nq": "nq",
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "beanstalkd": "beanstalkd",
    "gcc": "gcc",
    "mkfs.ext4": "e2fsprogs",
}
PYTHON = ["dirq", "persist-queue", "litequeue", "hyperqueue"]


class Failed(Exception):
    """Why something could not be measured."""


def run(*command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode:
        raise Failed(f"{Path(command[0]).name} failed: {last_line(done.stdout)}")
    return done.stdout


def last_line(text):
    """What a program says of its failure: the last line that speaks of an error, or the last one."""
    lines = text.strip().splitlines()
    errors = [line for line in lines if "error" in line.lower()]
    return [*lines, *errors][-1][:200] if lines else "it says nothing"


class Programs:
    """Everything by absolute path. `missing` says what is not here and why."""

    def __init__(self, root, cache, install):
        self.root, self.cache, self.install = Path(root), Path(cache), install
        self.cache.mkdir(parents=True, exist_ok=True)
        self.missing, self.paths = {}, {}
        self.build()
        self.from_debian()
        self.compile()
        self.from_crates()
        self.from_pypi()

    def __getitem__(self, name):
        if name not in self.paths:
            raise Failed(self.missing.get(name, f"{name} is not here"))
        return str(self.paths[name])

    def attempt(self, names, step):
        try:
            step()
        except (Failed, OSError) as e:
            for name in names:
                self.missing[name] = str(e)
            print(f"without {', '.join(names)}: {e}", flush=True)

    def build(self):
        """This repository's programs, in release mode."""
        # One after the other: the examples' libraries would add features to those of the programs.
        for kind in ["--examples", "--bins"]:
            subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", kind], cwd=self.root, check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", self.root / "target")).resolve() / "release"
        self.paths["coord"] = target / "coord"
        for name in ["cycle", "calls", "spawn", "servers"]:
            self.paths[name] = target / "examples" / f"bench-{name}"

    def from_debian(self):
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        lacking = [name for name in DEBIAN if not shutil.which(name, path=path)]
        if not has_sqlite():
            lacking.append("sqlite")
        if lacking and self.install and os.geteuid() == 0 and shutil.which("apt-get"):
            packages = [DEBIAN.get(name, "libsqlite3-dev") for name in lacking]
            print(f"installing {' '.join(packages)}", flush=True)
            # RUNLEVEL: what is installed must not start its service.
            env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
            quiet = ["--quiet", "--quiet"]
            self.attempt(lacking, lambda: run("apt-get", "update", *quiet, env=env))
            install = ["apt-get", "install", *quiet, "--yes", "--no-install-recommends"]
            self.attempt(lacking, lambda: run(*install, *packages, env=env))
        for name, package in DEBIAN.items():
            found = shutil.which(name, path=path)
            if found:
                self.paths[name] = Path(found)
                self.missing.pop(name, None)
            else:
                self.missing.setdefault(name, f"not installed: apt-get install {package}")

    def compile(self):
        """The little programs in C. The jobs are static: xargs and all others run the same file."""
        static = ["-O2", "-static"]
        programs = [
            ("noop", static, []),
            ("bare", [*static, "-nostdlib"], []),
            ("job", static, []),
            ("sqlite", ["-O2"], ["-lsqlite3"]),
        ]
        for name, options, libraries in programs:
            made = self.cache / f"bench-{name}"
            self.attempt(
                [name],
                lambda o=options, s=HERE / f"{name}.c", m=made, lib=libraries: run("gcc", *o, s, "-o", m, *lib),
            )
            if name not in self.missing:
                self.paths[name] = made
        if "noop" in self.missing or "job" in self.missing:
            raise SystemExit("scripts/bench: without gcc there are no jobs to run")

    def from_crates(self):
        made = self.cache / "bin" / "pueue"
        if not made.exists() and shutil.which("pueue"):
            made = Path(shutil.which("pueue"))
        if not made.exists() and self.install:
            print("building pueue, which takes some minutes", flush=True)
            command = ["cargo", "install", "--quiet", "--locked", "--root", self.cache, "pueue"]
            self.attempt(["pueue"], lambda: run(*command))
        if made.exists():
            self.paths["pueue"], self.paths["pueued"] = made, made.with_name("pueued")
        else:
            self.missing.setdefault("pueue", "not installed: cargo install pueue")

    def from_pypi(self):
        python = self.cache / "venv" / "bin" / "python"
        if self.install and not python.exists():
            self.attempt(PYTHON, lambda: run(sys.executable, "-m", "venv", self.cache / "venv"))
        if not python.exists():
            for name in PYTHON:
                self.missing.setdefault(name, "not installed: there is no venv with it")
            return
        self.paths["python"] = python
        for name in PYTHON:
            there = subprocess.run([python, "-m", "pip", "show", "--quiet", name], capture_output=True)
            if there.returncode and self.install:
                self.attempt([name], lambda n=name: run(python, "-m", "pip", "install", "--quiet", n))
            elif there.returncode:
                self.missing[name] = f"not installed: pip install {name}"

    def library(self, name):
        """The start of a command line that works with a Python library."""
        if name in self.missing:
            raise Failed(self.missing[name])
        return [self["python"], str(HERE / "libraries.py"), "--kind", name]

    def versions(self):
        asked = {
            "coord": ["--version"],
            "xargs": ["--version"],
            "parallel": ["--version"],
            "tsp": ["-V"],
            "pueue": ["--version"],
            "redis-server": ["--version"],
            "beanstalkd": ["-v"],
            "gcc": ["-dumpfullversion"],
        }
        found = {}
        for name, arguments in asked.items():
            if name in self.paths:
                match = re.search(r"\d+(\.\d+)+|\d{8}", output(self[name], *arguments))
                found[name] = match[0] if match else "?"
        if "nq" in self.paths:
            found["nq"] = output("dpkg-query", "-W", "-f", "${Version}", "nq") or "?"
        if "python" in self.paths:
            listed = output(self["python"], "-m", "pip", "list", "--format", "freeze").splitlines()
            known = dict(line.split("==", 1) for line in listed if "==" in line)
            found.update({name: known[name] for name in PYTHON if name in known})
        code = "import sqlite3; print(sqlite3.sqlite_version)"
        if "sqlite" in self.paths:
            linked = re.search(r"libsqlite3\.so\.\S+ => (\S+)", output("ldd", self["sqlite"]))
            found["sqlite"] = (linked and sqlite_version(linked[1])) or output(sys.executable, "-c", code)
        found["rustc"] = output("rustc", "--version").split(" ")[1]
        return found


def has_sqlite():
    program = "#include <sqlite3.h>\nint main(void) { return 0; }\n"
    command = ["gcc", "-xc", "-", "-o", "/dev/null", "-lsqlite3"]
    try:
        return subprocess.run(command, input=program, text=True, capture_output=True).returncode == 0
    except OSError:
        return False


def sqlite_version(library):
    import ctypes

    try:
        version = ctypes.CDLL(library).sqlite3_libversion
    except OSError:
        return None
    version.restype = ctypes.c_char_p
    return version().decode()
