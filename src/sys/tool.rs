//! Running another program, such as git, to its end, and collecting what it prints.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::{Cannot, Error, Exit, Result};

use super::fs::{Fs, RealFs};

/// Between two calls of what goes on meanwhile.
const MEANWHILE_EVERY: Duration = Duration::from_millis(500);

/// What a program did.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; 128 and the signal if it was killed.
    pub code: i32,
    /// Standard output, whatever its encoding.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// Whether it was ended because its time was over.
    pub late: bool,
}

impl Output {
    /// Whether it exited with 0.
    pub fn ok(&self) -> bool {
        self.code == 0
    }
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A program with everything that it is given.
#[derive(Debug, Clone, Default)]
pub struct Tool {
    program: PathBuf,
    args: Vec<OsString>,
    cwd: PathBuf,
    env: Vec<(String, OsString)>,
    removed: Vec<&'static str>,
    input: Vec<u8>,
    own_group: bool,
    limit: Option<Duration>,
}

impl Tool {
    /// `program`, looked up in PATH unless it has a `/`, in the directory `cwd`.
    pub fn new(program: &Path, cwd: &Path) -> Tool {
        Tool { program: program.to_owned(), cwd: cwd.to_owned(), ..Tool::default() }
    }
    /// Further arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<OsString>>>(mut self, args: I) -> Tool {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Tool {
        self.env.push((name.to_owned(), value.into()));
        self
    }
    /// Variables of this process that it shall not see.
    #[must_use]
    pub fn without(mut self, names: &[&'static str]) -> Tool {
        self.removed.extend(names);
        self
    }
    /// Its standard input; empty otherwise.
    #[must_use]
    pub fn input(mut self, bytes: Vec<u8>) -> Tool {
        self.input = bytes;
        self
    }
    /// A process group of its own: a Ctrl-C at the terminal is for the caller alone.
    #[must_use]
    pub fn own_group(mut self) -> Tool {
        self.own_group = true;
        self
    }

    /// At most so long; then it is killed, with all of its process group.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Tool {
        self.limit = Some(limit);
        self.own_group()
    }

    /// Runs it to its end. `meanwhile` is called every half second, so that a worker goes on beating.
    ///
    /// # Errors
    /// Those of starting it. That it failed is in the output.
    #[expect(clippy::disallowed_methods, reason = "sys/ may start processes")]
    pub fn run(self, meanwhile: &dyn Fn()) -> io::Result<Output> {
        use std::os::unix::process::{CommandExt, ExitStatusExt};
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(&self.cwd);
        for name in &self.removed {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.own_group {
            command.process_group(0);
        }
        let mut child = command.spawn()?;
        let feeder = child.stdin.take().map(|mut stdin| {
            let input = self.input;
            // A program that does not read to the end says so by its exit code.
            std::thread::spawn(move || drop(stdin.write_all(&input)))
        });
        let pid = i32::try_from(child.id()).unwrap_or(0);
        let deadline = self.limit.map(|limit| Instant::now() + limit);
        let mut late = false;
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("tool".into()).spawn(move || {
            // Nobody waits any more if the caller is gone.
            let _ = done.send(child.wait_with_output());
        })?;
        let output = loop {
            match ended.recv_timeout(MEANWHILE_EVERY) {
                Ok(output) => break output?,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    meanwhile();
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        late = true;
                        // Gone already, at worst.
                        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                }
                Err(e) => return Err(io::Error::other(e)),
            }
        };
        if let Some(feeder) = feeder {
            let _ = feeder.join();
        }
        let status = output.status;
        Ok(Output {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            late,
        })
    }
}

/// A meanwhile that does nothing, for what is short.
pub fn nothing() {}

/// One of our programs: beside this one, or where an installation puts it (`bin/coord`, the others in
/// `libexec/coord/`); never through PATH.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe().cannot("find this program", Path::new("/proc/self/exe"))?;
    // After an upgrade the link names the old file with " (deleted)" behind it.
    let dir = me.parent().map(PathBuf::from).unwrap_or_default();
    let places =
        [dir.join(name), dir.join("../libexec/coord").join(name), dir.join("../../bin").join(name)];
    let found = places.iter().find(|path| RealFs.exists(path));
    found.cloned().ok_or_else(|| {
        Error::new(Exit::Environment, format!("there is no {name} beside {}", me.display()))
            .at(&places[0])
            .hint("install all five programs into one directory")
    })
}
