//! The machine that a program runs on, as far as the protocol asks it: who is where, who lives, and
//! ending those who must not go on. Behind a trait, so that a simulation can supply its own.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::alive::{self, Sent};
use super::cgroup;
use super::child::{self, Exit};
use super::clock::{Clock, RealClock};
use super::fs::{Fs, RealFs, holds};
use super::gate::{self, Held};
use super::machine::{self, Place};
use super::own::Own;
use super::remains::{self, Left, Traces};
use super::spawn::{self, Command};

/// A process: a pid alone says nothing, since it is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId {
    /// The pid.
    pub pid: i32,
    /// Clock ticks between boot and its start.
    pub start: u64,
}

/// Where the output of a command goes. Only a real host has a file behind it.
#[derive(Debug)]
pub struct Output(pub Option<OwnedFd>);

/// What the programs ask of their machine.
pub trait Host: Send + Sync {
    /// Its name, for people.
    fn name(&self) -> String;
    /// Which machine, boot and pid namespace this is.
    fn place(&self) -> Place;
    /// Wall time of this boot, milliseconds since 1970; 0 where unknown.
    fn booted_at_ms(&self) -> u64;
    /// This process.
    fn me(&self) -> ProcessId;
    /// The mark that this process and all that it starts carry; empty if it has none.
    fn mark(&self) -> String;
    /// Whether changes made elsewhere are not reported on the file system of `path`, and its replies
    /// may lie: a network mount.
    fn is_shared(&self, path: &Path) -> bool;
    /// Free and total bytes of the file system that holds `path`.
    fn disk_space(&self, path: &Path) -> Option<(u64, u64)>;
    /// Whether a process of this machine, boot and pid namespace lives.
    fn is_alive(&self, process: ProcessId) -> bool;
    /// Whether a process of this machine has a directory open; `None` where that cannot be told.
    fn holds(&self, _process: ProcessId, _dir: &Path) -> Option<bool> {
        None
    }
    /// Ends a process with SIGKILL and waits for its death; false if it is still there afterwards. `user`:
    /// who has written what names it.
    fn kill(&self, process: ProcessId, user: Option<u32>, patience: Duration) -> bool;
    /// Ends every process that these tie to a program or an attempt, except `spare`. Returns those that are
    /// still there, or that cannot be ended: as long as there are any, nobody may act as if all were dead.
    fn end_left(&self, traces: &Traces, spare: &[i32], patience: Duration) -> Vec<Left>;
    /// A process and what is below it, but for other programs than the one with this mark.
    fn below(&self, _root: ProcessId, _mark: &str, _spare: &[i32]) -> Vec<ProcessId> {
        Vec::new()
    }
    /// Whether a signal has asked this process to leave, and it has not heard it yet.
    fn is_asked_to_leave(&self) -> bool {
        false
    }
    /// What the kernel calls the session of this process; empty where it has no such name.
    fn session(&self) -> String {
        String::new()
    }
    /// The control group that this process has of its own, or may make; empty where it cannot have one.
    fn group(&self) -> String {
        String::new()
    }
    /// Moves this process into its own control group, or out of it. False: it was there, or cannot.
    fn enter_group(&self, _yes: bool) -> bool {
        false
    }
    /// Removes the control groups of programs of ours that nobody is in.
    fn tidy_groups(&self) {}
    /// Removes the control group of a dead program.
    fn bury_group(&self, _group: &str, _mark: &str) {}
    /// Opens the file that a command's output is appended to.
    fn open_output(&self, path: &Path) -> io::Result<Output>;
    /// Makes the file that one command prints into: in `dir`, or where it must have a name as `spare`.
    fn open_own(&self, dir: &Path, spare: &Path) -> io::Result<Own> {
        Own::make(dir, spare)
    }
    /// Starts a command in a session of its own.
    fn spawn(&self, command: &Command<'_>) -> io::Result<i32>;
    /// The same in two halves: a process that waits to become the command, and ends if this one dies.
    fn hold(&self, command: &Command<'_>) -> io::Result<Held>;
    /// Lets a held process become its command.
    fn let_go(&self, held: Held) -> io::Result<()>;
    /// Whether orphans below this process come back to it, or go to whoever is above it.
    fn adopt_orphans(&self, _yes: bool) {}
    /// Asks the session of a command to end.
    fn ask_to_end(&self, leader: i32);
    /// Ends every process below this one, except the trees of `spare`. Returns the ends it saw, and
    /// what is left.
    fn end_children(&self, spare: &[i32], patience: Duration) -> (Vec<(i32, Exit)>, Vec<Left>);
    /// Stops every process below this one, except the trees of `spare`, or lets them go on.
    fn freeze_children(&self, stop: bool, spare: &[i32]);
    /// Memory that can be had without swapping, bytes; `None` where unknown.
    fn memory_free(&self) -> Option<u64>;
}

/// The machine itself.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealHost;

impl Host for RealHost {
    fn name(&self) -> String {
        machine::host_name()
    }
    fn place(&self) -> Place {
        machine::place().clone()
    }
    fn booted_at_ms(&self) -> u64 {
        machine::booted_at_ms()
    }
    fn is_asked_to_leave(&self) -> bool {
        super::signals::is_asked_to_leave()
    }
    fn me(&self) -> ProcessId {
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        ProcessId { pid, start: alive::proc_stat(pid).map_or(0, |s| s.start) }
    }
    fn mark(&self) -> String {
        std::env::var(alive::MARK).unwrap_or_default()
    }
    fn is_shared(&self, path: &Path) -> bool {
        machine::fs_kind(path).blind
    }
    fn disk_space(&self, path: &Path) -> Option<(u64, u64)> {
        machine::disk_space(path)
    }
    fn is_alive(&self, process: ProcessId) -> bool {
        alive::is_alive(process.pid, process.start)
    }
    fn holds(&self, process: ProcessId, dir: &Path) -> Option<bool> {
        holds(process.pid, dir)
    }
    fn kill(&self, process: ProcessId, user: Option<u32>, patience: Duration) -> bool {
        let Some(process) = alive::open(process.pid, process.start) else { return true };
        process.send_to(user, Signal::SIGKILL) != Sent::Refused && process.wait_dead(patience)
    }
    fn end_left(&self, traces: &Traces, spare: &[i32], patience: Duration) -> Vec<Left> {
        remains::end(traces, spare, patience)
    }
    fn below(&self, root: ProcessId, mark: &str, spare: &[i32]) -> Vec<ProcessId> {
        remains::below(root, mark, spare)
    }
    fn session(&self) -> String {
        remains::session_name(self.me().pid)
    }
    fn group(&self) -> String {
        cgroup::planned(&self.mark())
    }
    fn enter_group(&self, yes: bool) -> bool {
        let moved = if yes { cgroup::enter(&self.mark()) } else { cgroup::leave(&self.mark()) };
        moved.unwrap_or_else(|e| {
            tracing::debug!(error = %e, "it stays in the control group that it is in");
            false
        })
    }
    fn tidy_groups(&self) {
        cgroup::tidy();
    }
    fn bury_group(&self, group: &str, mark: &str) {
        cgroup::bury(group, mark);
    }
    fn open_output(&self, path: &Path) -> io::Result<Output> {
        child::open_output(path).map(|fd| Output(Some(fd)))
    }
    fn spawn(&self, command: &Command<'_>) -> io::Result<i32> {
        spawn::spawn(command)
    }
    fn hold(&self, command: &Command<'_>) -> io::Result<Held> {
        gate::hold(command)
    }
    fn let_go(&self, held: Held) -> io::Result<()> {
        gate::let_go(held)
    }
    fn adopt_orphans(&self, yes: bool) {
        if let Err(e) = child::adopt_orphans(yes) {
            tracing::warn!(error = %e, "cannot say where orphans go");
        }
    }
    fn ask_to_end(&self, leader: i32) {
        child::ask_to_end(leader);
    }
    fn end_children(&self, spare: &[i32], patience: Duration) -> (Vec<(i32, Exit)>, Vec<Left>) {
        child::end_children(spare, patience)
    }
    fn freeze_children(&self, stop: bool, spare: &[i32]) {
        child::freeze_children(stop, spare);
    }
    fn memory_free(&self) -> Option<u64> {
        machine::available_memory()
    }
}

/// Everything below the queue: files, clocks, and the machine.
#[derive(Clone)]
pub struct Platform {
    /// The file operations.
    pub fs: Arc<dyn Fs>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The machine.
    pub host: Arc<dyn Host>,
}

impl Platform {
    /// The real one.
    pub fn real() -> Platform {
        Platform { fs: Arc::new(RealFs), clock: Arc::new(RealClock), host: Arc::new(RealHost) }
    }
}
