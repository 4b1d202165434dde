//! A program that runs: what it prints is read, what it is given is written, until it has ended.
//!
//! Its end is its own end, not that of its pipes: a daemon that one of its hooks has started holds
//! them for as long as it likes. What the program itself has printed is in them when it ends.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Cut, Output};
use crate::sys::descent::{Tree, kill_tree};

/// Between two calls of what goes on meanwhile.
const MEANWHILE_EVERY: Duration = Duration::from_millis(250);
/// Between two looks for the end of a program where the kernel gives no pidfd.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Time for a program to take its locks away when it is asked to end.
const GRACE: Duration = Duration::from_secs(1);
/// The most that one look reads: what goes on meanwhile must come to its turn.
const READ_MAX: usize = 1 << 20;

pub(super) struct Running {
    child: Child,
    /// Whether it is the leader of a process group.
    leads: bool,
    /// Readable when it has ended.
    end: Option<OwnedFd>,
    stdin: Option<ChildStdin>,
    input: Vec<u8>,
    written: usize,
    stdout: Source<ChildStdout>,
    stderr: Source<ChildStderr>,
}

/// A pipe, and what came out of it.
struct Source<T> {
    pipe: Option<T>,
    bytes: Vec<u8>,
}

impl<T: Read + AsFd> Source<T> {
    fn new(pipe: Option<T>) -> io::Result<Source<T>> {
        if let Some(pipe) = &pipe {
            never_wait(pipe.as_fd())?;
        }
        Ok(Source { pipe, bytes: Vec::new() })
    }

    /// Takes what is there.
    fn take(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut some = [0; 1 << 16];
        let most = self.bytes.len() + READ_MAX;
        while self.bytes.len() < most {
            match pipe.read(&mut some) {
                Ok(count @ 1..) => self.bytes.extend_from_slice(&some[..count]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {
                    self.pipe = None;
                    return;
                }
            }
        }
    }
}

fn never_wait(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

impl Running {
    pub(super) fn new(mut child: Child, input: Vec<u8>, leads: bool) -> io::Result<Running> {
        let stdin = child.stdin.take();
        if let Some(stdin) = &stdin {
            never_wait(stdin.as_fd())?;
        }
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let end = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let (stdout, stderr) = (Source::new(stdout)?, Source::new(stderr)?);
        Ok(Running { child, leads, end, stdin, input, written: 0, stdout, stderr })
    }

    pub(super) fn until_over(
        mut self,
        began: Instant,
        limit: Option<Duration>,
        may_go_on: &dyn Fn(Duration) -> bool,
    ) -> io::Result<Output> {
        let mut asked_at = began;
        loop {
            let now = Instant::now();
            let left = limit.map(|limit| limit.saturating_sub(now.duration_since(began)));
            let cut = if left.is_some_and(|left| left.is_zero()) {
                Some(Cut::Late)
            } else if now.duration_since(asked_at) >= MEANWHILE_EVERY {
                asked_at = now;
                (!may_go_on(now.duration_since(began))).then_some(Cut::Asked)
            } else {
                None
            };
            if cut.is_some() {
                let status = self.end()?;
                return Ok(self.output(status, cut));
            }
            self.wait(MEANWHILE_EVERY.min(left.unwrap_or(MEANWHILE_EVERY)));
            if let Some(status) = self.child.try_wait()? {
                return Ok(self.output(status, None));
            }
        }
    }

    /// Waits for something to do, and does it.
    fn wait(&mut self, patience: Duration) {
        let mut fds = Vec::with_capacity(4);
        fds.extend(self.end.as_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)));
        let out = self.stdout.pipe.as_ref().map(|p| PollFd::new(p.as_fd(), PollFlags::POLLIN));
        let err = self.stderr.pipe.as_ref().map(|p| PollFd::new(p.as_fd(), PollFlags::POLLIN));
        let input = self.stdin.as_ref().map(|p| PollFd::new(p.as_fd(), PollFlags::POLLOUT));
        fds.extend([out, err, input].into_iter().flatten());
        let patience = if self.end.is_some() { patience } else { patience.min(LOOK_EVERY) };
        // Rounded up: what is not over yet must not be waited for in a loop.
        let patience = patience + Duration::from_micros(999);
        // That it was interrupted, or that the time is over: both are looked at by the caller.
        let _ = poll(&mut fds, PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO));
        self.stdout.take();
        self.stderr.take();
        self.give();
    }

    /// Gives it what it is to read. A program that does not read to the end says so by its exit code.
    fn give(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        while self.written < self.input.len() {
            match stdin.write(&self.input[self.written..]) {
                Ok(count) => self.written += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    /// Ends it with all that it has started: politely at first, so that git takes its locks away.
    fn end(&mut self) -> io::Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).unwrap_or(0);
        let mut tree = Tree::of(pid);
        tree.ask_to_end(self.leads);
        let until = Instant::now() + GRACE;
        let mut status = self.child.try_wait()?;
        while status.is_none() && Instant::now() < until {
            self.wait(LOOK_EVERY);
            // Before those that end leave their own children to somebody else.
            tree.look();
            status = self.child.try_wait()?;
        }
        kill_tree(&mut tree, self.leads);
        match status {
            Some(status) => Ok(status),
            None => self.child.wait(),
        }
    }

    fn output(mut self, status: ExitStatus, cut: Option<Cut>) -> Output {
        // Once: what it has printed itself fits into its pipes by now, and a daemon that goes on
        // printing would be read for ever.
        self.stdout.take();
        self.stderr.take();
        Output {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: self.stdout.bytes,
            stderr: String::from_utf8_lossy(&self.stderr.bytes).into_owned(),
            cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cut, Tool, Waits, nothing};
    use super::*;
    use std::cell::Cell;
    use std::path::Path;

    const LONG: Duration = Duration::from_secs(60);

    fn sh(line: &str) -> Tool {
        Tool::new(Path::new("sh"), Path::new("/")).args(["-c", line])
    }

    #[test]
    fn a_daemon_that_holds_the_pipes_is_not_waited_for() {
        let began = Instant::now();
        let output = sh("echo out; echo err >&2; sleep 61 & echo $!").run(&nothing).unwrap();
        assert!(began.elapsed() < LONG, "it was waited for");
        let text = output.text();
        let mut lines = text.lines();
        assert_eq!((lines.next(), output.stderr.as_str()), (Some("out"), "err\n"));
        let daemon = lines.next().unwrap().parse().unwrap();
        assert!(crate::sys::alive::signal(daemon, nix::sys::signal::Signal::SIGKILL));
    }

    #[test]
    fn more_than_a_pipe_holds_goes_both_ways() {
        let input = vec![b'x'; 3 << 20];
        let output = sh("cat; head -c 300000 /dev/zero >&2").input(input.clone()).run(&nothing);
        let output = output.unwrap();
        assert!(output.ok() && output.stdout == input);
        assert_eq!(output.stderr.len(), 300_000);
        // One that does not read what it is given.
        let output = sh("exec <&-; sleep 0.01; exit 3").input(input).run(&nothing).unwrap();
        assert_eq!(output.code, 3);
    }

    #[test]
    fn what_is_cut_short_is_ended_with_all_that_it_started() {
        let stubborn =
            "trap '' TERM; (trap '' TERM; setsid sleep 62 & echo $! >&2; wait) & sleep 63";
        let late = sh(stubborn).limit(Duration::from_millis(300)).run(&nothing).unwrap();
        assert_eq!(late.cut, Some(Cut::Late));
        let calls = Cell::new(0);
        let go_on = |waits: &Waits<'_>| {
            calls.set(calls.get() + 1);
            assert_eq!((waits.what, waits.dir), ("a sleep", Path::new("/")));
            calls.get() < 2
        };
        let asked = sh(stubborn).named("a sleep").own_group().run(&go_on).unwrap();
        assert_eq!((asked.cut, calls.get()), (Some(Cut::Asked), 2));
        for output in [late, asked] {
            let left: i32 = output.stderr.trim().parse().unwrap();
            let gone = || crate::sys::alive::proc_stat(left).is_none_or(|stat| stat.zombie);
            let until = Instant::now() + LONG;
            while !gone() && Instant::now() < until {
                crate::sys::wake::nap(LOOK_EVERY);
            }
            assert!(gone(), "{left} still runs");
        }
    }

    #[test]
    fn what_is_asked_to_end_may_clean_up_first() {
        let line = "trap 'echo cleaned; exit 7' TERM; echo up; sleep 64 & wait";
        let output = sh(line).limit(Duration::from_millis(300)).run(&nothing).unwrap();
        assert_eq!((output.text().as_str(), output.code), ("up\ncleaned\n", 7));
    }
}
