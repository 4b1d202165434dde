//! Running another program, such as git, to its end, and collecting what it prints.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Cannot, Error, Exit, Result};

use super::fs::{Fs, RealFs};
use running::Running;

mod running;

/// What a program did.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; 128 and the signal if it was killed.
    pub code: i32,
    /// Standard output, whatever its encoding.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// Why it was ended before it was done, if it was.
    pub cut: Option<Cut>,
}

/// Why a program was ended before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its time was over.
    Late,
    /// Who waited for it did not want to any more.
    Asked,
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
#[derive(Debug, Default)]
pub struct Tool {
    name: Option<String>,
    program: PathBuf,
    args: Vec<OsString>,
    cwd: PathBuf,
    env: Vec<(String, OsString)>,
    removed: Vec<&'static str>,
    input: Vec<u8>,
    errors: Option<File>,
    own_group: bool,
    limit: Option<Duration>,
}

impl Tool {
    /// `program`, looked up in PATH unless it has a `/`, in the directory `cwd`.
    pub fn new(program: &Path, cwd: &Path) -> Tool {
        Tool { program: program.to_owned(), cwd: cwd.to_owned(), ..Tool::default() }
    }
    /// What it is for people, for who waits for it.
    #[must_use]
    pub fn named(mut self, name: &str) -> Tool {
        self.name = Some(name.to_owned());
        self
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
    /// Its standard error goes into this file, and not into the output.
    #[must_use]
    pub fn errors(mut self, file: File) -> Tool {
        self.errors = Some(file);
        self
    }
    /// A process group of its own: a Ctrl-C at the terminal is for the caller alone.
    #[must_use]
    pub fn own_group(mut self) -> Tool {
        self.own_group = true;
        self
    }

    /// At most so long; then it is ended, with all that it has started.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Tool {
        self.limit = Some(limit);
        self.own_group()
    }

    /// Runs it until it has ended itself: what it left running may hold its pipes for longer, and is
    /// not waited for. `meanwhile` is asked a few times a second whether it may go on, so that a worker
    /// goes on beating and hears who stops it. What is cut short is asked to end first, with its process
    /// group, and then killed with all that it has started.
    ///
    /// # Errors
    /// Those of starting it. That it failed, or was cut short, is in the output.
    #[expect(clippy::disallowed_methods, reason = "sys/ may start processes")]
    pub fn run(self, meanwhile: &Meanwhile<'_>) -> io::Result<Output> {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(&self.program);
        super::owner::environ(&mut command);
        command.args(&self.args).current_dir(&self.cwd);
        for name in &self.removed {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped());
        match self.errors {
            Some(file) => command.stderr(file),
            None => command.stderr(Stdio::piped()),
        };
        if self.own_group {
            command.process_group(0);
        }
        let began = Instant::now();
        let started = {
            let _umask = super::fs::steady_umask();
            command.spawn()
        };
        let running = Running::new(started?, self.input, self.own_group)?;
        let what = self.name.as_deref().unwrap_or_default();
        let waits = |since| meanwhile(&Waits { what, dir: &self.cwd, since });
        running.until_over(began, self.limit, &waits)
    }
}

/// What a program waits for: another one that runs.
#[derive(Debug, Clone, Copy)]
pub struct Waits<'a> {
    /// What runs, in words for people; empty where nobody has said.
    pub what: &'a str,
    /// Where.
    pub dir: &'a Path,
    /// For how long.
    pub since: Duration,
}

/// What goes on while another program runs; false: that one is to be ended.
pub type Meanwhile<'a> = dyn Fn(&Waits<'_>) -> bool + 'a;

/// A meanwhile that does nothing, for what is short.
pub fn nothing(_: &Waits<'_>) -> bool {
    true
}

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
