//! A machine without a kernel: a clock that moves with each change of the disk, processes that are
//! numbers, commands that end at once, and a file system that writes everything down.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coord::queue::events::Event;
use coord::sys::child::Exit;
use coord::sys::clock::Clock;
use coord::sys::fs::{Dir, Entry, Fs, Stat};
use coord::sys::gate::Held;
use coord::sys::host::{Host, Output, Platform, ProcessId};
use coord::sys::machine::Place;
use coord::sys::own::Own;
use coord::sys::remains::{Left, Traces};
use coord::sys::spawn::Command;
use coord::sys::wake::Watch;

use crate::disk::Disk;
use crate::memory::MemoryFs;
use crate::mutation::SyncPoint;
use coord::chaos::dice::Dice;

/// Where the queue is. No real directory is there: fsck's walk of the real file system finds nothing.
pub const ROOT: &str = "/power/project/.coord";

/// What somebody outside has learnt. From then on it must be so.
#[derive(Debug, Clone)]
pub enum Mark {
    /// `coord init` has answered.
    Made,
    /// A submission was acknowledged: id and uid.
    Submitted(String, String),
    /// A file with this text was durable in incoming/.
    Dropped(String),
    /// A line was written: the event, when, and by which process.
    Told(Box<Event>, u64, i32),
    /// A process has looked at everything, or left: in mode `full` its lines of a second before are
    /// durable.
    Looked(i32, u64),
    /// An attempt's command was started.
    Ran(String, u32),
    /// A task was started because this attempt had this verdict.
    Relied(String, u32, String),
    /// A hold of this attempt was acknowledged.
    Held(String, u32),
    /// A cancellation was acknowledged.
    Cancelled(String),
}

/// What `Fs` unwinds with when the process is killed.
pub struct Killed;

/// Everything that processes share.
pub struct State {
    /// The wall clock.
    pub now_ms: u64,
    /// When each change of the journal was made.
    pub times: Vec<u64>,
    /// What was learnt, and how long the journal was then.
    pub marks: Vec<(usize, Mark)>,
    /// Calls that a process may still make.
    pub budget: BTreeMap<i32, u64>,
    /// A process dies when it has linked a register that ends so.
    pub dies_after: BTreeMap<i32, &'static str>,
    /// Who lives.
    pub alive: BTreeSet<i32>,
    /// Who linked the last register of a task, and its kind.
    pub linked: BTreeMap<PathBuf, (i32, String)>,
    /// Commands that have ended: who started them, their pid, their exit.
    pub ended: Vec<(i32, i32, Exit)>,
    /// Calls that are left out, on purpose.
    pub dropped: Option<&'static SyncPoint>,
    /// How many were.
    pub drops: u64,
    /// Calls that the disk answers with an error.
    pub broken: Option<&'static SyncPoint>,
    next_pid: i32,
    dice: Dice,
}

/// A machine between two boots.
#[derive(Clone)]
pub struct World {
    /// Its disk.
    pub fs: MemoryFs,
    /// Its boot id.
    pub boot: &'static str,
    /// When it booted.
    pub booted_ms: u64,
    state: Arc<Mutex<State>>,
}

impl World {
    /// A machine that has just booted with this disk.
    pub fn new(disk: Disk, boot: &'static str, now_ms: u64, seed: u64) -> World {
        let state = State {
            now_ms,
            times: Vec::new(),
            marks: Vec::new(),
            budget: BTreeMap::new(),
            dies_after: BTreeMap::new(),
            alive: BTreeSet::new(),
            linked: BTreeMap::new(),
            ended: Vec::new(),
            dropped: None,
            drops: 0,
            broken: None,
            next_pid: 100,
            dice: Dice::new(seed),
        };
        let fs = MemoryFs::new(disk);
        fs.set_now_ns(now_ms * 1_000_000);
        World { fs, boot, booted_ms: now_ms, state: Arc::new(Mutex::new(state)) }
    }

    /// What processes share. A killed one leaves it as it is.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new process.
    pub fn process(&self) -> Process {
        let mut state = self.state();
        state.next_pid += 1;
        let pid = state.next_pid;
        state.alive.insert(pid);
        Process { world: self.clone(), pid }
    }

    fn journal(&self) -> usize {
        self.fs.disk().journal.as_ref().map_or(0, Vec::len)
    }

    /// Somebody outside has learnt something.
    pub fn mark(&self, mark: Mark) {
        let at = self.journal();
        self.state().marks.push((at, mark));
    }

    /// Lets time pass.
    pub fn pass(&self, until_ms: u64) {
        let mut state = self.state();
        state.now_ms = state.now_ms.max(until_ms);
        self.fs.set_now_ns(state.now_ms * 1_000_000);
    }
}

/// A process: its own view of files, clock and machine.
#[derive(Clone)]
pub struct Process {
    /// Its machine.
    pub world: World,
    /// Its pid.
    pub pid: i32,
}

impl Process {
    /// What the product is given.
    pub fn platform(&self) -> Platform {
        let own = Arc::new(self.clone());
        Platform { fs: own.clone(), clock: own.clone(), host: own }
    }

    /// It is gone.
    pub fn dies(&self) {
        self.world.state().alive.remove(&self.pid);
    }

    /// One system call that changes something: time passes, and the process may be killed instead.
    fn call(&self) {
        let mut state = self.world.state();
        if let Some(left) = state.budget.get_mut(&self.pid) {
            if *left == 0 {
                drop(state);
                std::panic::resume_unwind(Box::new(Killed));
            }
            *left -= 1;
        }
        state.now_ms += 1;
        self.world.fs.set_now_ns(state.now_ms * 1_000_000);
    }

    /// After the call: when each new change was made.
    fn changed<T>(&self, result: io::Result<T>) -> io::Result<T> {
        let length = self.world.journal();
        let mut state = self.world.state();
        let now_ms = state.now_ms;
        state.times.resize(length, now_ms);
        result
    }

    fn linked(&self, dir: &Path, name: &str) {
        let mut state = self.world.state();
        state.linked.insert(dir.to_owned(), (self.pid, name.to_owned()));
        if state.dies_after.get(&self.pid).is_some_and(|end| name.ends_with(end)) {
            drop(state);
            std::panic::resume_unwind(Box::new(Killed));
        }
    }

    /// Whether the test leaves this call out, or the disk fails.
    fn is_dropped(&self, call: &str, path: &Path) -> io::Result<bool> {
        let mut state = self.world.state();
        let broken = state.broken;
        let Some(point) = state.dropped.or(broken) else { return Ok(false) };
        let last = state.linked.get(path).cloned();
        let (own, register) = match &last {
            Some((pid, name)) => (*pid == self.pid, name.as_str()),
            None => (false, ""),
        };
        let dropped = (point.matches)(call, &path.to_string_lossy(), register, own);
        state.drops += u64::from(dropped);
        if dropped && broken.is_some() {
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        Ok(dropped)
    }
}

impl Fs for Process {
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call();
        self.changed(self.world.fs.link(from, to))
    }
    fn link_in(&self, from: &Path, dir: &Dir, name: &str) -> io::Result<()> {
        self.call();
        let done = self.changed(self.world.fs.link_in(from, dir, name));
        if done.is_ok() {
            self.linked(&dir.path, name);
        }
        done
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.call();
        self.changed(self.world.fs.unlink(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call();
        self.changed(self.world.fs.rename(from, to))
    }
    fn mkdir(&self, path: &Path) -> io::Result<()> {
        self.call();
        self.changed(self.world.fs.mkdir(path))
    }
    fn rmdir(&self, path: &Path) -> io::Result<()> {
        self.call();
        self.changed(self.world.fs.rmdir(path))
    }
    fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.call();
        self.changed(self.world.fs.create(path, bytes, mode))
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<u64> {
        self.call();
        let lines = bytes.split(|&byte| byte == b'\n');
        for event in lines.filter_map(|line| serde_json::from_slice::<Event>(line).ok()) {
            let now_ms = self.world.state().now_ms;
            self.world.mark(Mark::Told(Box::new(event), now_ms, self.pid));
        }
        self.changed(self.world.fs.append(path, bytes))
    }
    fn read(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        self.world.fs.read(path, offset, limit)
    }
    fn read_in(&self, dir: &Dir, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        self.world.fs.read_in(dir, name, limit)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.world.fs.list(path)
    }
    fn list_in(&self, dir: &Dir) -> io::Result<Vec<Entry>> {
        self.world.fs.list_in(dir)
    }
    fn open_dir(&self, path: &Path) -> io::Result<Dir> {
        self.world.fs.open_dir(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.world.fs.stat(path)
    }
    fn touch(&self, path: &Path) -> io::Result<()> {
        self.call();
        self.changed(self.world.fs.touch(path))
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.call();
        if self.is_dropped("file", path)? {
            return Ok(());
        }
        self.changed(self.world.fs.sync_file(path))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call();
        if self.is_dropped("dir", path)? {
            return Ok(());
        }
        self.changed(self.world.fs.sync_dir(path))
    }
    fn sync_in(&self, dir: &Dir) -> io::Result<()> {
        self.call();
        if self.is_dropped("dir", &dir.path)? {
            return Ok(());
        }
        self.changed(self.world.fs.sync_in(dir))
    }
}

impl Clock for Process {
    fn wall_ms(&self) -> u64 {
        self.world.state().now_ms
    }
    fn mono_ms(&self) -> u64 {
        self.world.state().now_ms - self.world.booted_ms
    }
    fn boot_ms(&self) -> u64 {
        self.mono_ms()
    }
    fn random(&self) -> u64 {
        self.world.state().dice.number()
    }
}

impl Host for Process {
    fn name(&self) -> String {
        "tower".to_owned()
    }
    fn place(&self) -> Place {
        let (host_id, boot) = ("machine".to_owned(), self.world.boot.to_owned());
        Place { host_id, boot, pidns: 1 }
    }
    fn booted_at_ms(&self) -> u64 {
        self.world.booted_ms
    }
    fn me(&self) -> ProcessId {
        ProcessId { pid: self.pid, start: 1 }
    }
    fn mark(&self) -> String {
        format!("{}-mark", self.pid)
    }
    fn is_shared(&self, _: &Path) -> bool {
        false
    }
    fn freeze_children(&self, _: bool, _: &[i32]) {}
    fn memory_free(&self) -> Option<u64> {
        None
    }
    fn disk_space(&self, _: &Path) -> Option<(u64, u64)> {
        Some((1 << 40, 1 << 40))
    }
    fn is_alive(&self, process: ProcessId) -> bool {
        self.world.state().alive.contains(&process.pid)
    }
    fn kill(&self, process: ProcessId, _: Option<u32>, _: Duration) -> bool {
        self.world.state().alive.remove(&process.pid);
        true
    }
    fn end_left(&self, _: &Traces, _: &[i32], _: Duration) -> Vec<Left> {
        Vec::new()
    }
    fn hold(&self, command: &Command<'_>) -> io::Result<Held> {
        self.spawn(command).map(|pid| Held::simulated(ProcessId { pid, start: 1 }))
    }
    fn let_go(&self, _: Held) -> io::Result<()> {
        Ok(())
    }
    fn open_output(&self, path: &Path) -> io::Result<Output> {
        self.append(path, b"")?;
        Ok(Output(None))
    }
    fn open_own(&self, _: &Path, _: &Path) -> io::Result<Own> {
        Ok(Own::simulated())
    }
    /// The command ends at once. Its first word says how: `ok`, `fail`, `fail-first` or `later`.
    fn spawn(&self, command: &Command<'_>) -> io::Result<i32> {
        let id = command.env.get("COORD_TASK_ID").unwrap_or_default();
        let id = id.to_string_lossy().into_owned();
        let n =
            command.env.get("COORD_ATTEMPT").and_then(|n| n.to_str()?.parse().ok()).unwrap_or(0);
        self.world.mark(Mark::Ran(id.clone(), n));
        let because = crate::reboot::relied_on(&self.world.fs.disk(), &id);
        for (on, n, verdict) in because {
            self.world.mark(Mark::Relied(on, n, verdict));
        }
        let code = match command.argv.first().and_then(|word| word.to_str()).unwrap_or_default() {
            "fail-first" => i32::from(n == 1),
            "fail" => 1,
            "fail-for-ever" => 65,
            "later" if n == 1 => 75,
            _ => 0,
        };
        let mut state = self.world.state();
        state.next_pid += 1;
        let child = state.next_pid;
        state.ended.push((self.pid, child, Exit::Code(code)));
        Ok(child)
    }
    fn ask_to_end(&self, leader: i32) {
        for (_, pid, exit) in &mut self.world.state().ended {
            if *pid == leader {
                *exit = Exit::Signal(15);
            }
        }
    }
    fn end_children(&self, _: &[i32], _: Duration) -> (Vec<(i32, Exit)>, Vec<Left>) {
        let mut state = self.world.state();
        let own = state.ended.extract_if(.., |(parent, ..)| *parent == self.pid);
        (own.map(|(_, pid, exit)| (pid, exit)).collect(), Vec::new())
    }
}

/// Hears of nothing: everything is found by looking.
#[derive(Default)]
pub struct Deaf {
    keys: BTreeSet<u64>,
}

impl Watch for Deaf {
    fn watch(&mut self, _: &Path) {}
    fn unwatch(&mut self, _: &Path) {}
    fn watch_death(&mut self, key: u64, _: ProcessId) -> bool {
        self.keys.insert(key);
        true
    }
    fn watches_death(&self, key: u64) -> bool {
        self.keys.contains(&key)
    }
    fn unwatch_death(&mut self, key: u64) {
        self.keys.remove(&key);
    }
}
