//! Processes below this one: waiting for them, and ending whole trees of them.
//!
//! An attempt's command gets a session of its own. Agents start each of their tools in yet another
//! session, so a process group is not enough: the worker is a child subreaper, orphans of the tree
//! come back to it, and it kills until it has no child left.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::clock::{Clock, RealClock};
use super::host::{Output as Log, ProcessId};
use super::remains::{Left, Why};
use super::spawn::{Command, Environment, Variables, spawn};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

fn io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

/// Opens a file for a command's output: made where there is none, appended to otherwise.
#[expect(clippy::disallowed_methods, reason = "sys/ may open files")]
pub fn open_output(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    Ok(super::fs::made(path, 0o666, |mode| options.mode(mode).open(path))?.into())
}

/// Makes this process the one that orphans below it come back to.
pub fn become_subreaper() -> io::Result<()> {
    adopt_orphans(true)
}

/// Whether this process is the one that orphans below it come back to. Those that are there stay.
pub fn adopt_orphans(yes: bool) -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(yes).map_err(io_error)
}

/// A mark that is set when the signal arrives, which does nothing else from then on.
pub fn note_signal(signal: i32) -> io::Result<Arc<AtomicBool>> {
    let noted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal, noted.clone())?;
    Ok(noted)
}

/// Reaps every child that has ended.
pub fn reap() -> Vec<(i32, Exit)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((pid.as_raw(), Exit::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                ended.push((pid.as_raw(), Exit::Signal(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return ended,
        }
    }
}

/// Asks a session to end: SIGTERM to its process group, and SIGCONT in case it was stopped.
pub fn ask_to_end(leader: i32) {
    let group = Pid::from_raw(leader);
    let _ = killpg(group, Signal::SIGTERM);
    let _ = killpg(group, Signal::SIGCONT);
}

#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
fn children() -> Vec<i32> {
    let me = std::process::id();
    let list = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children"));
    match list {
        Ok(list) => list.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect(),
        Err(_) => children_by_parent(i32::try_from(me).unwrap_or(0)),
    }
}

/// For kernels without `/proc/PID/task/TID/children`.
fn children_by_parent(me: i32) -> Vec<i32> {
    let all = super::alive::all().into_iter();
    all.filter(|(_, stat)| stat.parent == me).map(|(pid, _)| pid).collect()
}

/// Ends every process below this one, except the trees of `spare`, and reaps them. Each round kills
/// the children; their orphans become children of the subreaper and fall in the next. Returns the
/// ends it saw and what is left: at once, where that is only what is not allowed to be ended.
pub fn end_children(spare: &[i32], patience: Duration) -> (Vec<(i32, Exit)>, Vec<Left>) {
    if has_no_child() {
        return (Vec::new(), Vec::new());
    }
    let deadline = Instant::now() + patience;
    let mut ended = Vec::new();
    loop {
        let left: Vec<i32> = children().into_iter().filter(|p| !spare.contains(p)).collect();
        if left.is_empty() {
            ended.extend(reap());
            return (ended, Vec::new());
        }
        let mut refused = Vec::new();
        for &pid in &left {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            if kill(Pid::from_raw(pid), Signal::SIGKILL) == Err(Errno::EPERM) {
                refused.push(pid);
            }
        }
        let only_refused = refused.len() == left.len();
        if only_refused {
            // It keeps its own children, which then do not come here.
            for pid in below(spare) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            ended.extend(reap());
        }
        if only_refused || Instant::now() >= deadline {
            let still = left.iter().filter_map(|&pid| {
                let stat = super::alive::proc_stat(pid).filter(|stat| !stat.zombie)?;
                let why = if refused.contains(&pid) { Why::Refused } else { Why::Stays };
                Some(Left::of(ProcessId { pid, start: stat.start }, why))
            });
            return (ended, still.collect());
        }
        wait_for_a_child(Duration::from_millis(20));
        ended.extend(reap());
    }
}

/// Stops every process below this one, except the trees of `spare`, or lets them go on. By SIGSTOP: a
/// command has a group or a session of its own, in which no other signal would stop it.
pub fn freeze_children(stop: bool, spare: &[i32]) {
    let signal = if stop { Signal::SIGSTOP } else { Signal::SIGCONT };
    let mut told = BTreeSet::new();
    // One that has forked behind the look is found by the next.
    loop {
        let found = below(spare);
        let new: Vec<i32> = found.into_iter().filter(|pid| told.insert(*pid)).collect();
        if new.is_empty() {
            return;
        }
        for pid in new {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// The processes below this one, except the trees of `spare`.
fn below(spare: &[i32]) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, stat) in super::alive::all() {
        children.entry(stat.parent).or_default().push(pid);
    }
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let (mut found, mut open) = (Vec::new(), vec![me]);
    while let Some(parent) = open.pop() {
        for pid in children.remove(&parent).unwrap_or_default() {
            if !spare.contains(&pid) {
                found.push(pid);
                open.push(pid);
            }
        }
    }
    found
}

/// Whether there is nothing below this process, which as a subreaper has every orphan as its child.
/// The usual case after a command that leaves nothing behind, and one call where /proc costs several.
fn has_no_child() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    matches!(waitid(Id::All, flags), Err(Errno::ECHILD))
}

/// Waits until some child can be reaped, at most about `patience`. Does not reap it.
fn wait_for_a_child(patience: Duration) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    let deadline = Instant::now() + patience;
    while matches!(waitid(Id::All, flags), Ok(WaitStatus::StillAlive)) {
        if Instant::now() >= deadline {
            return;
        }
        super::wake::nap(Duration::from_millis(1));
    }
}

/// Starts a program with further variables, its output into `log`, in a process group of its own: a
/// Ctrl-C at the terminal is for the caller alone. The caller waits for it.
#[expect(clippy::disallowed_methods, reason = "sys/ may start processes")]
pub fn start_with(
    program: &Path,
    args: &[&str],
    cwd: &Path,
    env: &[(String, String)],
    log: &OwnedFd,
) -> io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new(program);
    super::owner::environ(&mut command);
    command.args(args).current_dir(cwd).envs(env.iter().cloned()).process_group(0);
    command.stdin(std::process::Stdio::null());
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    let _umask = super::fs::steady_umask();
    command.spawn()
}

/// Starts one of our own programs in a session of its own, detached from this terminal. It gets a mark
/// of its own, and `--mark` says so: inherited by what it starts in turn, the mark alone would not.
pub fn start_program(program: &Path, args: &[OsString], cwd: &Path, log: &Log) -> io::Result<i32> {
    let mut argv = vec![program.as_os_str().to_owned()];
    argv.extend_from_slice(args);
    let mark = format!("{:016x}", RealClock.random());
    argv.extend(["--mark", &mark].map(OsString::from));
    // A program that an attempt starts belongs to the queue from then on, not to the attempt.
    let not_ours = [
        super::alive::MARK,
        "COORD_TOKEN",
        "COORD_TASK_ID",
        "COORD_ATTEMPT",
        "COORD_OUT",
        "COORD_RUN_DIR",
    ];
    let mut env: Variables = super::owner::variables()
        .into_iter()
        .filter(|(name, _)| not_ours.iter().all(|ours| name != OsStr::new(ours)))
        .collect();
    env.insert(super::alive::MARK.into(), mark.into());
    spawn(&Command::new(&argv, &Environment::new(&env)?, cwd, log))
}

/// Runs a program of the person at the terminal to its end, with our standard streams. A Ctrl-C
/// there is for that program alone.
#[expect(clippy::disallowed_methods, reason = "sys/ may start processes")]
pub fn interact(program: &str, cwd: &Path, env: &Variables) -> io::Result<i32> {
    use std::os::unix::process::ExitStatusExt;
    // Not looked at: without this the default would end this process.
    for signal in [nix::libc::SIGINT, nix::libc::SIGQUIT] {
        note_signal(signal)?;
    }
    let mut command = std::process::Command::new(program);
    command.current_dir(cwd).env_clear().envs(env);
    let started = {
        let _umask = super::fs::steady_umask();
        command.spawn()
    };
    let status = started?.wait()?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// Replaces this process by `program`, same arguments, with a fresh mark in its environment. Only
/// returns on failure.
pub fn exec_marked(mark: &str) -> io::Error {
    use std::os::unix::process::CommandExt;
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(e) => return e,
    };
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let mut command = std::process::Command::new(program);
    super::owner::environ(&mut command);
    command.arg0(name).args(args).env(super::alive::MARK, mark).exec()
}
