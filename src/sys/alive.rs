//! Is that process still that process, and ending what it left behind.
//!
//! A pid alone says nothing: it is re-used. A process is identified by host, boot, pid namespace,
//! pid and start time together, and pids are only looked at when the first three are one's own.
//! Death is observed through a pidfd, which cannot be confused by re-use.
//!
//! What a dead or hung process started is found by its mark: every program of ours carries
//! `COORD_MARK=<random>` in its environment from its first instruction (so also between fork and
//! exec of a child, when the child still shows its parent's environment), and all that it starts
//! inherits it. A process that wipes its environment escapes; queue-layout.md says so.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Name of the environment variable that all processes of one program of ours share.
pub const MARK: &str = "COORD_MARK";

/// What `/proc/PID/stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcStat {
    /// Clock ticks between boot and the start of the process.
    pub start: u64,
    /// Whether it has ended and only waits to be reaped.
    pub zombie: bool,
    /// Its parent.
    pub parent: i32,
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
    Some(ProcStat { start: fields.nth(17)?.parse().ok()?, zombie, parent })
}

/// Opens a descriptor for a process of this host, boot and pid namespace, if it is still the one
/// that started at `start`. `None` means that it is dead.
pub fn open(pid: i32, start: u64) -> Option<OwnedFd> {
    let raw = Pid::from_raw(pid)?;
    let fd = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return None,
        // No pidfd to be had (old kernel, no descriptor left): the caller falls back to looking.
        Err(_) => return fallback(pid, start),
    };
    match proc_stat(pid) {
        Some(stat) if stat.start != start || stat.zombie => None,
        // A missing /proc entry proves nothing (hidepid): the pidfd does.
        _ if is_dead(&fd) => None,
        _ => Some(fd),
    }
}

/// A descriptor that is never readable stands in where the kernel gives no pidfd.
fn fallback(pid: i32, start: u64) -> Option<OwnedFd> {
    let stat = proc_stat(pid)?;
    if stat.start != start || stat.zombie {
        return None;
    }
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok()
}

/// Whether a process is alive, without keeping a descriptor.
pub fn is_alive(pid: i32, start: u64) -> bool {
    let Some(raw) = Pid::from_raw(pid) else { return false };
    match proc_stat(pid) {
        Some(stat) => stat.start == start && !stat.zombie,
        None => !matches!(rustix::process::test_kill_process(raw), Err(rustix::io::Errno::SRCH)),
    }
}

/// Whether the process behind a pidfd has ended.
pub fn is_dead(fd: &OwnedFd) -> bool {
    wait_dead(fd, Duration::ZERO)
}

/// Waits until the process behind a pidfd has ended; false if it has not within the time.
pub fn wait_dead(fd: &OwnedFd, patience: Duration) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    matches!(poll(&mut fds, timeout), Ok(n) if n > 0)
}

/// Sends SIGKILL through a pidfd. A process that is gone already is no error.
pub fn kill(fd: &OwnedFd) -> bool {
    matches!(pidfd_send_signal(fd, Signal::KILL), Ok(()) | Err(rustix::io::Errno::SRCH))
}

/// Sends a signal through a pidfd, which cannot reach another process of the same number.
pub fn send(fd: &OwnedFd, signal: nix::sys::signal::Signal) -> bool {
    let signal = Signal::from_named_raw(signal as i32);
    signal.is_some_and(|signal| pidfd_send_signal(fd, signal).is_ok())
}

/// Sends a signal to a pid of ours.
pub fn signal(pid: i32, signal: nix::sys::signal::Signal) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).is_ok()
}

/// The values that an environment variable has in the processes of this machine.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
pub fn values_of(name: &str) -> std::collections::BTreeSet<String> {
    let prefix = format!("{name}=");
    let Ok(dir) = std::fs::read_dir("/proc") else { return Default::default() };
    dir.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| std::fs::read(format!("/proc/{pid}/environ")).ok())
        .filter_map(|env| {
            let mut pairs = env.split(|&b| b == 0);
            let value = pairs.find_map(|pair| pair.strip_prefix(prefix.as_bytes()))?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
        .collect()
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

    /// Whether this process carries the mark.
    #[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
    pub fn is_on(&self, pid: i32) -> bool {
        let path = format!("/proc/{pid}/environ");
        match std::fs::read(Path::new(&path)) {
            Ok(env) => env.split(|&b| b == 0).any(|pair| pair == self.0),
            Err(_) => false,
        }
    }

    /// The live processes that carry the mark, except `spare`.
    #[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
    pub fn find(&self, spare: &[i32]) -> Vec<i32> {
        let Ok(dir) = std::fs::read_dir("/proc") else { return Vec::new() };
        dir.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| !spare.contains(pid))
            .filter(|&pid| self.is_on(pid))
            .filter(|&pid| proc_stat(pid).is_some_and(|s| !s.zombie))
            .collect()
    }

    /// Ends every process that carries the mark with SIGKILL and waits for their deaths. Repeats
    /// until a whole look at the process table finds none, since a process may have forked behind
    /// the look. Returns those that are still there after `patience`.
    pub fn kill_all(&self, spare: &[i32], patience: Duration) -> Vec<i32> {
        let deadline = std::time::Instant::now() + patience;
        loop {
            let found = self.find(spare);
            if found.is_empty() {
                return found;
            }
            let mut dying = Vec::new();
            for pid in &found {
                let Some(raw) = Pid::from_raw(*pid) else { continue };
                let Ok(fd) = pidfd_open(raw, PidfdFlags::empty()) else { continue };
                // Looked at again through the open pidfd: the pid may have been re-used meanwhile.
                if self.is_on(*pid) && kill(&fd) {
                    dying.push(fd);
                }
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            for fd in &dying {
                wait_dead(fd, left.min(Duration::from_millis(500)));
            }
            if left.is_zero() {
                return self.find(spare);
            }
        }
    }
}
