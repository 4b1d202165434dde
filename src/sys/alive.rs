//! Is that process still that process, and ending what it left behind.
//!
//! A pid alone says nothing: it is re-used. A process is identified by host, boot, pid namespace,
//! pid and start time together, and pids are only looked at when the first three are one's own.
//! Death is observed through a pidfd, which cannot be confused by re-use; where there is none, by looks.
//!
//! What a dead or hung process started is found by its mark, among other things (`remains`): every
//! program of ours carries `COORD_MARK=<random>` in its environment from its first instruction (so also
//! between fork and exec of a child, when the child still shows its parent's environment), and all that
//! it starts inherits it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::privilege;

/// Name of the environment variable that all processes of one program of ours share.
pub const MARK: &str = "COORD_MARK";

/// Between two looks at a process whose death nothing tells.
const LONGEST_NAP: Duration = Duration::from_millis(20);

/// What `/proc/PID/stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcStat {
    /// Clock ticks between boot and the start of the process.
    pub start: u64,
    /// Whether it has ended and only waits to be reaped.
    pub zombie: bool,
    /// Its parent.
    pub parent: i32,
    /// Its session.
    pub session: i32,
}

/// Reads `/proc/PID/stat`; `None` if there is no such process or it is hidden.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
pub fn proc_stat(pid: i32) -> Option<ProcStat> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The command name stands in parentheses and may itself contain any of them.
    let rest = &text[text.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X" | "x");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(ProcStat { start: fields.nth(15)?.parse().ok()?, zombie, parent, session })
}

/// One process of this host, boot and pid namespace, whoever gets its number later: a pidfd, or where the
/// kernel gives none (it is old, a filter refuses, no descriptor is left) its number and its start.
#[derive(Debug)]
pub struct Handle {
    pidfd: Option<OwnedFd>,
    pid: i32,
    start: u64,
}

/// What came of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It was sent.
    Yes,
    /// The process is gone.
    Gone,
    /// It is another user's.
    Refused,
}

/// Opens the process that started at `start`, if it is still there. `None` means that it is dead.
pub fn open(pid: i32, start: u64) -> Option<Handle> {
    let pidfd = match pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()) {
        Ok(pidfd) => Some(pidfd),
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return None,
        Err(_) => None,
    };
    let handle = Handle { pidfd, pid, start };
    match proc_stat(pid) {
        Some(stat) if stat.start != start || stat.zombie => None,
        // A missing /proc entry proves nothing (hidepid): the pidfd does.
        _ if handle.is_dead() => None,
        _ => Some(handle),
    }
}

impl Handle {
    /// The pidfd, which a program can wait for; `None` where its death must be looked for.
    pub fn into_pidfd(self) -> Option<OwnedFd> {
        self.pidfd
    }

    /// Whether the process has ended.
    pub fn is_dead(&self) -> bool {
        self.wait_dead(Duration::ZERO)
    }

    /// Waits until the process has ended; false if it has not within the time.
    pub fn wait_dead(&self, patience: Duration) -> bool {
        if let Some(pidfd) = &self.pidfd {
            let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
            return matches!(poll(&mut fds, timeout), Ok(n) if n > 0);
        }
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(1);
        while is_alive(self.pid, self.start) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            super::wake::nap(pause.min(left));
            pause = (pause * 2).min(LONGEST_NAP);
        }
        true
    }

    /// Sends a signal to this process and no other.
    pub fn send(&self, signal: nix::sys::signal::Signal) -> Sent {
        let raw = Signal::from_named_raw(signal as i32);
        if let (Some(pidfd), Some(raw)) = (&self.pidfd, raw) {
            match pidfd_send_signal(pidfd, raw) {
                Ok(()) => return Sent::Yes,
                Err(rustix::io::Errno::SRCH) => return Sent::Gone,
                // Not allowed to, or a filter refuses the call itself: kill(2) tells which.
                Err(_) => {}
            }
        }
        // The last look before the signal: the number may be another process's by now.
        if !is_alive(self.pid, self.start) {
            return Sent::Gone;
        }
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), signal) {
            Ok(()) => Sent::Yes,
            Err(nix::errno::Errno::ESRCH) => Sent::Gone,
            Err(_) => Sent::Refused,
        }
    }

    /// Sends SIGKILL. False: it cannot be sent. A process that is gone already is no error.
    pub fn kill(&self) -> bool {
        self.send(nix::sys::signal::Signal::SIGKILL) != Sent::Refused
    }

    /// Sends a signal to a process that is all that user's, by root's right where this process has kept it.
    pub fn send_to(&self, user: Option<u32>, signal: nix::sys::signal::Signal) -> Sent {
        match self.send(signal) {
            Sent::Refused if privilege::is_kept() && user.is_some_and(|user| self.is_of(user)) => {
                privilege::in_force(|| self.send(signal))
            }
            sent => sent,
        }
    }

    /// Whether the process is this user's and has no rights of another one. Never so of root's.
    fn is_of(&self, user: u32) -> bool {
        let uids = uids(self.pid);
        user != 0 && uids.len() == 4 && uids.iter().all(|uid| *uid == user) && !self.is_dead()
    }
}

/// Whether a process is alive, without keeping a descriptor.
pub fn is_alive(pid: i32, start: u64) -> bool {
    let Some(raw) = Pid::from_raw(pid) else { return false };
    match proc_stat(pid) {
        Some(stat) => stat.start == start && !stat.zombie,
        None => !matches!(rustix::process::test_kill_process(raw), Err(rustix::io::Errno::SRCH)),
    }
}

/// Sends a signal to a pid of ours.
pub fn signal(pid: i32, signal: nix::sys::signal::Signal) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).is_ok()
}

/// The values that an environment variable has in the processes of this machine.
pub fn values_of(name: &str) -> std::collections::BTreeSet<String> {
    let prefix = format!("{name}=");
    let value = |env: Vec<u8>| {
        let mut pairs = env.split(|&b| b == 0);
        let value = pairs.find_map(|pair| pair.strip_prefix(prefix.as_bytes()))?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    all().into_keys().filter_map(environment).filter_map(value).collect()
}

/// The processes, except this one, whose current directory is `dir` or below it: number and name.
/// Those of other users cannot be seen.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
pub fn inside(dir: &Path) -> Vec<(i32, String)> {
    let dir = super::fs::canonical(dir);
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&pid| pid != me)
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|c| c.starts_with(&dir))
        })
        .map(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, name.trim().to_owned())
        })
        .collect()
}

/// All processes that can be seen.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
pub fn all() -> BTreeMap<i32, ProcStat> {
    let Ok(dir) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    dir.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Some((pid, proc_stat(pid)?)))
        .collect()
}

/// The environment that a process was started with; `None` where it cannot be read.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
pub fn environment(pid: i32) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/environ")).ok()
}

/// The users of a process: real, effective, saved and that of its file operations.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
fn uids(pid: i32) -> Vec<u32> {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|uid| uid.parse().ok()).collect()
}

/// What a process is called, and whose it is, for people.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
pub fn name_and_user(pid: i32) -> (String, String) {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name).trim().to_owned();
    let uid = uids(pid).first().copied();
    let known = |uid| nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    let user = uid.and_then(known);
    let user = match (user, uid) {
        (Some(user), _) => user.name,
        (None, Some(uid)) => format!("user {uid}"),
        (None, None) => "somebody".to_owned(),
    };
    (name, user)
}

/// A condition on a process's environment: `NAME=value`, compared as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvMark(Vec<u8>);

impl EnvMark {
    /// The processes of the program with this mark.
    pub fn program(mark: &str) -> EnvMark {
        EnvMark(format!("{MARK}={mark}").into_bytes())
    }

    /// The processes of one attempt, by its fencing token.
    pub fn attempt(token: &str) -> EnvMark {
        EnvMark(format!("COORD_TOKEN={token}").into_bytes())
    }

    /// The processes that have this variable with this value.
    pub fn variable(name: &str, value: &str) -> EnvMark {
        EnvMark(format!("{name}={value}").into_bytes())
    }

    /// Whether an environment has it.
    pub fn is_in(&self, environment: &[u8]) -> bool {
        environment.split(|&b| b == 0).any(|pair| pair == self.0)
    }

    /// Whether this process carries the mark. False also where its environment cannot be read.
    pub fn is_on(&self, pid: i32) -> bool {
        environment(pid).is_some_and(|env| self.is_in(&env))
    }

    /// The live processes that carry the mark, except `spare`.
    pub fn find(&self, spare: &[i32]) -> Vec<i32> {
        let live = all().into_iter().filter(|(_, stat)| !stat.zombie).map(|(pid, _)| pid);
        live.filter(|pid| !spare.contains(pid) && self.is_on(*pid)).collect()
    }
}
