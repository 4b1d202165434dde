//! A start in two halves: the process is there, and known by its number, before its command begins.
//!
//! A program of ours is started in place of the command, as a *gate*: with its environment, in its session
//! and directory. It waits for a byte on its standard input, and becomes the command. Where whoever started
//! it dies before that, it ends. What the kernel says to the command is sent back.

use std::ffi::{CString, OsString};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use super::alive::proc_stat;
use super::child::note_signal;
use super::host::{Output, ProcessId};
use super::remains::Session;
use super::spawn::{self, Command};

/// What a gate is called, so that the programs know that they are one.
const NAME: &str = "coord-gate";
/// This program, also where its file was replaced.
const SELF: &str = "/proc/self/exe";
/// What opens a gate.
const GO: u8 = b'g';

/// A process that waits to become a command. Dropped, it ends.
#[derive(Debug)]
pub struct Held {
    /// The session that it leads.
    pub session: Session,
    gate: Option<UnixStream>,
}

impl Held {
    /// The process.
    pub fn process(&self) -> ProcessId {
        self.session.leader
    }

    /// One without a gate, of a host that only simulates.
    pub fn simulated(process: ProcessId) -> Held {
        Held { session: Session { leader: process, name: String::new() }, gate: None }
    }
}

/// Starts the gate of a command, in a session of its own.
///
/// # Errors
/// What keeps the command from being found, or a process from being made.
pub fn hold(command: &Command<'_>) -> io::Result<Held> {
    let program = spawn::resolve(command)?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut argv = vec![OsString::from(NAME), program.into_owned().into_os_string()];
    argv.extend_from_slice(command.argv);
    let input = Output(Some(OwnedFd::from(theirs)));
    let gate =
        Command { argv: &argv, program: Some(Path::new(SELF)), input: Some(&input), ..*command };
    let pid = spawn::spawn(&gate)?;
    let start = proc_stat(pid).map_or(0, |stat| stat.start);
    let session = Session::of(ProcessId { pid, start });
    Ok(Held { session, gate: Some(ours) })
}

/// Lets a held process become its command.
///
/// # Errors
/// What the kernel says to that; then the process ends.
pub fn let_go(held: Held) -> io::Result<()> {
    let Some(mut gate) = held.gate else { return Ok(()) };
    // Killed already, it says so by its end, as every command does.
    if gate.write_all(&[GO]).is_err() {
        return Ok(());
    }
    let mut said = Vec::new();
    gate.read_to_end(&mut said)?;
    match <[u8; 4]>::try_from(said.as_slice()) {
        Ok(errno) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
        Err(_) => Ok(()),
    }
}

/// What every program of ours does first: is it a gate? Returns only if it is none, or if there is nothing to
/// become.
pub fn serve() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    if words.next()?.as_bytes() != NAME.as_bytes() {
        return None;
    }
    let words: Vec<OsString> = words.collect();
    Some(match become_command(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(127),
    })
}

/// Returns where nobody opens the gate, or with what the kernel says.
fn become_command(words: Vec<OsString>) -> io::Result<()> {
    // Closed by the command's start, which is how whoever waits hears of it.
    let input = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let mut gate = UnixStream::from(input);
    let mut go = [0];
    if gate.read(&mut go)? == 0 {
        return Ok(());
    }
    let failed = start(words);
    let errno = failed.raw_os_error().unwrap_or(nix::libc::EINVAL);
    gate.write_all(&errno.to_ne_bytes())?;
    Err(failed)
}

fn start(words: Vec<OsString>) -> io::Error {
    let text = |word: OsString| CString::new(word.into_vec()).map_err(io::Error::from);
    let started = || -> io::Result<()> {
        nix::unistd::dup2_stdin(spawn::null()?)?;
        // The runtime ignores it; a signal that has a handler is the command's by default.
        note_signal(nix::libc::SIGPIPE)?;
        let mut words = words.into_iter().map(text).collect::<io::Result<Vec<_>>>()?;
        if words.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let program = words.remove(0);
        let pair = |(name, value): (OsString, OsString)| {
            text([name, value].join(std::ffi::OsStr::new("=")))
        };
        let env = std::env::vars_os().map(pair).collect::<io::Result<Vec<_>>>()?;
        nix::unistd::execve(&program, &words, &env)?;
        Ok(())
    };
    started().err().unwrap_or_else(|| io::ErrorKind::Other.into())
}
