//! Files, clocks, machine and wake-ups as one simulated process sees them. Each call is a step.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coord::sys::child::Exit;
use coord::sys::fs::{Dir, Entry, Fs, Stat, Whereabouts};
use coord::sys::host::{Host, Platform, ProcessId};
use coord::sys::wake::{Wake, Watch};
use nix::libc;

use crate::machines::State;
use crate::memory::number;
use crate::world::{Fate, World};

/// What a process is about to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The call.
    pub call: Call,
    /// What it is about.
    pub path: PathBuf,
    /// The new name of a link or rename.
    pub to: PathBuf,
}

/// The calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Link,
    Unlink,
    Rename,
    Mkdir,
    Rmdir,
    Create,
    Write,
    Append,
    Touch,
    Read,
    List,
    Open,
    Stat,
    Sync,
    Host,
}

impl Op {
    /// Whether it changes something.
    pub fn mutates(&self) -> bool {
        use Call::{Append, Create, Link, Mkdir, Rename, Rmdir, Touch, Unlink, Write};
        matches!(
            self.call,
            Link | Unlink | Rename | Mkdir | Rmdir | Create | Write | Append | Touch
        )
    }
    /// Whether it reads a directory.
    pub fn lists(&self) -> bool {
        self.call == Call::List
    }
    /// Whether it reads anything that can fail to be read.
    pub fn reads(&self) -> bool {
        matches!(self.call, Call::Read | Call::List | Call::Open)
    }
    /// Whether it gives a name.
    pub fn links(&self) -> bool {
        self.call == Call::Link
    }
}

/// Thrown through a process that is killed.
pub struct Killed;

/// A simulated process's view of the world.
#[derive(Clone)]
pub struct Seat {
    world: Arc<Mutex<World>>,
    /// Number of the process.
    pub me: usize,
    fs: crate::memory::MemoryFs,
}

impl Seat {
    /// The seat of process `me`.
    pub fn new(world: &Arc<Mutex<World>>, me: usize) -> Seat {
        let fs = lock(world).fs.clone();
        Seat { world: world.clone(), me, fs }
    }

    /// The world.
    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// The files, clocks and machine of this process.
    pub fn platform(&self) -> Platform {
        let seat = || Arc::new(self.clone());
        Platform { fs: seat(), clock: seat(), host: seat() }
    }

    /// Waits for a wake-up, at most until then.
    pub fn wait(&self, until_ms: u64) -> Vec<Wake> {
        {
            let mut world = self.world();
            let until_us = until_ms.saturating_mul(1000);
            let process = &mut world.processes[self.me];
            if process.state == State::Runs && process.wakes.is_empty() {
                process.state = State::Waits { until_us };
            }
        }
        self.let_others_go();
        let mut world = self.world();
        std::mem::take(&mut world.processes[self.me].wakes)
    }

    /// Jobs of this process that have ended.
    pub fn reap(&self) -> Vec<(i32, Exit)> {
        let mut world = self.world();
        let ended = std::mem::take(&mut world.processes[self.me].ended);
        ended.into_iter().map(as_exit).collect()
    }

    #[expect(
        deprecated,
        reason = "the call is deep inside the code that is tested, where no scope can be handed to"
    )]
    fn let_others_go(&self) {
        generator::yield_with(());
        let mut world = self.world();
        if world.processes[self.me].state == State::Dead {
            drop(world);
            std::panic::resume_unwind(Box::new(Killed));
        }
        world.processes[self.me].state = State::Runs;
    }

    /// One step: decides about it, takes it, and lets the checker look at what it changed.
    pub fn step<T>(&self, op: Op, act: impl FnOnce(Fate) -> io::Result<T>) -> io::Result<T> {
        let error = |code| Err(io::Error::from_raw_os_error(code));
        if std::thread::panicking() {
            // It is being killed, and something of it is dropped: nothing may happen any more.
            return error(libc::EIO);
        }
        let fate = self.world().arrive(self.me, &op);
        let fate = match fate {
            Fate::Yield => {
                // Chosen again, it takes this step, whatever else could.
                self.let_others_go();
                Fate::Go
            }
            Fate::Die => std::panic::resume_unwind(Box::new(Killed)),
            other => other,
        };
        if let Fate::Fail(code) = fate {
            self.world().tell(self.me, || format!("{op} -> injected error {code}"));
            return error(code);
        }
        let before = (op.mutates() && self.world().shared).then(|| self.remember(&op)).flatten();
        // Told that it worked, although the name was another's: nothing happens.
        let flattered = fate == Fate::Flatter && self.fs.find(&op.to).is_ok();
        let done = act(fate);
        let mut world = self.world();
        if let Some((ino, names)) = before {
            let versions = world.before.entry(ino).or_default();
            versions.push(names);
            if versions.len() > 6 {
                versions.remove(0);
            }
        }
        world.tell(self.me, || match &done {
            Ok(_) => op.to_string(),
            Err(e) => format!("{op} -> {e}"),
        });
        world.hot =
            op.call == Call::Link && op.to.starts_with(Path::new(crate::world::ROOT).join("tasks"));
        if op.mutates() && done.is_ok() && !flattered {
            self.effects(&mut world, &op);
        }
        drop(world);
        match (fate, done) {
            (Fate::Lie(code), Ok(_)) => {
                self.world().tell(self.me, || format!("... is told error {code}"));
                error(code)
            }
            (_, done) => done,
        }
    }

    /// The names of the directory that a step will change.
    fn remember(&self, op: &Op) -> Option<(u64, Arc<std::collections::BTreeMap<String, u64>>)> {
        let path = if op.to.as_os_str().is_empty() { &op.path } else { &op.to };
        let disk = self.fs.disk();
        let dir = disk.find(path.parent()?).ok()?;
        Some((dir, Arc::new(disk.names(dir).ok()?.clone())))
    }

    fn effects(&self, world: &mut World, op: &Op) {
        match op.call {
            Call::Touch | Call::Create | Call::Append => world.ring(&op.path),
            Call::Link => world.ring(&op.to),
            Call::Rename => {
                world.ring(&op.to);
                world.removed(&op.path);
            }
            Call::Unlink | Call::Rmdir => world.removed(&op.path),
            _ => {}
        }
        let mut checker = std::mem::take(&mut world.checker);
        let verdict = checker.after(world, self.me, op);
        world.checker = checker;
        if let Err(what) = verdict {
            world.violate(what);
        }
    }
}

fn lock(world: &Arc<Mutex<World>>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn as_exit((pid, exit): (i32, Result<i32, i32>)) -> (i32, Exit) {
    match exit {
        Ok(code) => (pid, Exit::Code(code)),
        Err(signal) => (pid, Exit::Signal(signal)),
    }
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |path: &Path| {
            let path = path.strip_prefix(crate::world::ROOT).unwrap_or(path);
            path.display().to_string()
        };
        write!(f, "{:?} {}", self.call, short(&self.path))?;
        if !self.to.as_os_str().is_empty() {
            write!(f, " -> {}", short(&self.to))?;
        }
        Ok(())
    }
}

pub fn op(call: Call, path: &Path) -> Op {
    Op { call, path: path.to_owned(), to: PathBuf::new() }
}

impl Fs for Seat {
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let op = Op { call: Call::Link, path: from.to_owned(), to: to.to_owned() };
        self.step(op, |fate| {
            let parent = to.parent().map(|dir| self.fs.find(dir));
            if let (Some(Ok(dir)), Some(name)) = (parent, to.file_name().and_then(OsStr::to_str)) {
                self.may_link(from, dir, name)?;
            }
            flattered(fate, self.fs.link(from, to))
        })
    }
    fn link_in(&self, from: &Path, dir: &Dir, name: &str) -> io::Result<()> {
        let op = Op { call: Call::Link, path: from.to_owned(), to: dir.path.join(name) };
        self.step(op, |fate| {
            self.may_link(from, number(dir)?, name)?;
            flattered(fate, self.fs.link_in(from, dir, name))
        })
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.step(op(Call::Unlink, path), |_| self.fs.unlink(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let op = Op { call: Call::Rename, path: from.to_owned(), to: to.to_owned() };
        self.step(op, |_| self.fs.rename(from, to))
    }
    fn mkdir(&self, path: &Path) -> io::Result<()> {
        self.step(op(Call::Mkdir, path), |_| self.fs.mkdir(path))
    }
    fn rmdir(&self, path: &Path) -> io::Result<()> {
        self.step(op(Call::Rmdir, path), |_| self.fs.rmdir(path))
    }
    fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        // Two calls, and a death in between leaves an empty file.
        self.step(op(Call::Create, path), |_| {
            self.fs.create_empty(path)?;
            let made = self.fs.find(path)?;
            self.world().owners.made(made, mode, self.me);
            Ok(())
        })?;
        let written = self.step(op(Call::Write, path), |_| self.fs.append(path, bytes).map(drop));
        if written.is_err() {
            drop(self.fs.unlink(path));
        }
        written
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<u64> {
        let appended = self.step(op(Call::Append, path), |_| self.fs.append(path, bytes));
        if appended.is_ok() {
            self.world().checker.appended(path, bytes);
        }
        appended
    }
    fn read(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        self.step(op(Call::Read, path), |_| self.fs.read(path, offset, limit))
    }
    fn read_in(&self, dir: &Dir, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        self.step(op(Call::Read, &dir.path.join(name)), |_| self.fs.read_in(dir, name, limit))
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.step(op(Call::List, path), |fate| {
            let ino = self.fs.find(path)?;
            self.listed(fate, ino)
        })
    }
    fn list_in(&self, dir: &Dir) -> io::Result<Vec<Entry>> {
        self.step(op(Call::List, &dir.path), |fate| self.listed(fate, number(dir)?))
    }
    fn open_dir(&self, path: &Path) -> io::Result<Dir> {
        self.step(op(Call::Open, path), |_| self.fs.open_dir(path))
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.step(op(Call::Stat, path), |_| self.fs.stat(path))
    }
    fn touch(&self, path: &Path) -> io::Result<()> {
        self.step(op(Call::Touch, path), |_| self.fs.touch(path))
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.step(op(Call::Sync, path), |_| self.fs.sync_file(path))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(op(Call::Sync, path), |_| self.fs.sync_dir(path))
    }
    fn sync_in(&self, dir: &Dir) -> io::Result<()> {
        self.step(op(Call::Sync, &dir.path), |_| self.fs.sync_in(dir))
    }
    fn hold(&self, root: &Path) -> io::Result<Option<Arc<dyn Fs>>> {
        Ok(Some(Arc::new(Seat { fs: self.fs.holding(root)?, ..self.clone() })))
    }
    fn whereabouts(&self) -> Whereabouts {
        self.fs.whereabouts()
    }
}

/// Some clients take EEXIST for the answer to a retransmission, and say that the link worked.
fn flattered(fate: Fate, done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if fate == Fate::Flatter && e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

impl Seat {
    /// As the kernel does it: a name that is taken, or a directory that is gone, says so first.
    fn may_link(&self, from: &Path, dir: u64, name: &str) -> io::Result<()> {
        let (found, taken) = { (self.fs.find(from)?, self.fs.disk().find_in(dir, name).is_ok()) };
        match taken || self.world().owners.may_link(found, self.me) {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::EPERM)),
        }
    }

    fn listed(&self, fate: Fate, ino: u64) -> io::Result<Vec<Entry>> {
        let disk = self.fs.disk();
        let mut world = self.world();
        let versions = world.before.get(&ino).map_or(0, Vec::len);
        if fate == Fate::Stale && versions > 0 {
            let back = world.choices.below(u32::try_from(versions).unwrap_or(1)) as usize;
            let names = world.before[&ino][versions - 1 - back].clone();
            let entry = |(name, ino): (&String, &u64)| Entry {
                name: name.clone(),
                kind: disk.kind(*ino),
                ino: *ino,
            };
            return Ok(names.iter().map(entry).collect());
        }
        disk.list(ino)
    }
}

impl Watch for Seat {
    fn watch(&mut self, path: &Path) {
        self.world().processes[self.me].bells.insert(path.to_owned());
    }
    fn unwatch(&mut self, path: &Path) {
        self.world().processes[self.me].bells.remove(path);
    }
    fn watch_death(&mut self, key: u64, process: ProcessId) -> bool {
        if !self.is_alive(process) {
            return false;
        }
        self.world().processes[self.me].deaths.insert(key, process);
        true
    }
    fn watches_death(&self, key: u64) -> bool {
        self.world().processes[self.me].deaths.contains_key(&key)
    }
    fn unwatch_death(&mut self, key: u64) {
        self.world().processes[self.me].deaths.remove(&key);
    }
}
