//! Starting a command, by posix_spawn: the child shares this process's memory until it has become the
//! command, so no page is copied.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

use super::host::Output;
use super::signals;

/// glibc and musl: the child becomes leader of a new session.
const POSIX_SPAWN_SETSID: i32 = 0x80;

/// Where programs are looked for when the environment does not say.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The variables of an environment. Not all are text.
pub type Variables = BTreeMap<OsString, OsString>;

/// The environment of a command, in the form that the kernel takes: made once for many commands that
/// differ in a few variables.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    places: BTreeMap<OsString, usize>,
    block: Vec<CString>,
}

impl Environment {
    /// With these variables.
    ///
    /// # Errors
    /// When one of them has a NUL in it.
    pub fn new(variables: &Variables) -> io::Result<Environment> {
        let mut made = Environment::default();
        variables.iter().try_for_each(|(name, value)| made.set(name, value))?;
        Ok(made)
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> io::Result<()> {
        let (name, value) = (name.as_ref(), value.as_ref());
        let text = c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat())?;
        match self.places.get(name) {
            Some(&at) => self.block[at] = text,
            None => {
                self.places.insert(name.to_owned(), self.block.len());
                self.block.push(text);
            }
        }
        Ok(())
    }

    /// Where programs are looked for.
    pub fn path(&self) -> &OsStr {
        self.get("PATH").unwrap_or(OsStr::new(PATH))
    }

    /// What a variable says.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let text = self.block[*self.places.get(OsStr::new(name))?].to_bytes();
        text.get(name.len() + 1..).map(OsStr::from_bytes)
    }
}

/// What keeps a command apart from who started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apart {
    /// A session of its own, without the terminal.
    Session,
    /// A process group of its own. Enough where there is no terminal, and cheaper: the kernel makes a
    /// scheduling group for each session (`sched_autogroup`).
    Group,
}

impl Apart {
    /// What it takes to keep a command from the terminal of this process.
    pub fn from_terminal() -> Apart {
        static TERMINAL: LazyLock<bool> = LazyLock::new(super::machine::has_terminal);
        if *TERMINAL { Apart::Session } else { Apart::Group }
    }
}

/// The streams and the signals of a command, in the form that the C library takes: made once for many
/// commands that print into the same files.
pub struct Wiring {
    actions: PosixSpawnFileActions,
    attributes: PosixSpawnAttr,
}

impl Wiring {
    /// Standard input is /dev/null; signals are handled by default and not blocked. The descriptors
    /// must stay open for as long as this is used.
    ///
    /// # Errors
    /// When an output has no file behind it, or /dev/null cannot be opened.
    pub fn new(output: &Output, errors: &Output, apart: Apart) -> io::Result<Wiring> {
        Wiring::with_input(None, output, errors, apart)
    }

    fn with_input(
        input: Option<&Output>,
        output: &Output,
        errors: &Output,
        apart: Apart,
    ) -> io::Result<Wiring> {
        let no_file = || io::Error::from_raw_os_error(nix::libc::EBADF);
        let output = output.0.as_ref().ok_or_else(no_file)?;
        let errors = errors.0.as_ref().ok_or_else(no_file)?;
        let input = match input {
            Some(input) => input.0.as_ref().ok_or_else(no_file)?,
            None => null()?,
        };
        let mut actions = PosixSpawnFileActions::init().map_err(io_error)?;
        actions.add_dup2(input.as_raw_fd(), 0).map_err(io_error)?;
        actions.add_dup2(output.as_raw_fd(), 1).map_err(io_error)?;
        actions.add_dup2(errors.as_raw_fd(), 2).map_err(io_error)?;
        let mut attributes = PosixSpawnAttr::init().map_err(io_error)?;
        let alone = match apart {
            Apart::Session => PosixSpawnFlags::from_bits_retain(POSIX_SPAWN_SETSID as _),
            Apart::Group => PosixSpawnFlags::POSIX_SPAWN_SETPGROUP,
        };
        let signals =
            PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF.union(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK);
        attributes.set_flags(signals | alone).map_err(io_error)?;
        attributes.set_sigdefault(&signals::by_default()).map_err(io_error)?;
        attributes.set_sigmask(&SigSet::empty()).map_err(io_error)?;
        Ok(Wiring { actions, attributes })
    }
}

/// A command that is about to be started.
#[derive(Clone, Copy)]
pub struct Command<'a> {
    /// The program and its arguments.
    pub argv: &'a [OsString],
    /// Where the program is, if that is known already; else it is looked up in the `PATH` of `env`.
    pub program: Option<&'a Path>,
    /// The whole environment.
    pub env: &'a Environment,
    /// Where it runs.
    pub cwd: &'a Path,
    /// Its standard input; /dev/null where there is none.
    pub input: Option<&'a Output>,
    /// Its standard output.
    pub output: &'a Output,
    /// Its standard error.
    pub errors: &'a Output,
    /// How these are connected, if that was made before; else in a session of its own.
    pub wiring: Option<&'a Wiring>,
}

impl<'a> Command<'a> {
    /// A command with one file for both of its outputs.
    pub fn new(
        argv: &'a [OsString],
        env: &'a Environment,
        cwd: &'a Path,
        output: &'a Output,
    ) -> Command<'a> {
        Command { argv, program: None, env, cwd, input: None, output, errors: output, wiring: None }
    }
}

fn io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "NUL in argument"))
}

/// Whether a command could not be started for want of something that others will give back: processes,
/// memory, descriptors; or since its program is being written.
pub fn will_pass(error: &io::Error) -> bool {
    let passing = [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE, Errno::ETXTBSY];
    error.raw_os_error().is_some_and(|errno| passing.contains(&Errno::from_raw(errno)))
}

/// Where the program of a command is, by the rules of `execvp`, seen from `cwd`.
///
/// # Errors
/// ENOENT where it is nowhere in `PATH`.
#[expect(clippy::disallowed_methods, reason = "sys/ may look at files")]
pub fn find_program(program: &OsStr, path: &OsStr, cwd: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runnable = |p: &Path| {
        std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.as_bytes().contains(&b'/') {
        return Ok(cwd.join(program));
    }
    path.as_bytes()
        .split(|byte| *byte == b':')
        .map(|dir| OsStr::from_bytes(if dir.is_empty() { b"." } else { dir }))
        .map(|dir| cwd.join(dir).join(program))
        .find(|candidate| runnable(candidate))
        .ok_or_else(|| io::Error::from_raw_os_error(nix::libc::ENOENT))
}

/// /dev/null, for the standard input of every command. It stays open; that it could not be opened once
/// (no descriptor left) must not fail what comes later.
#[expect(clippy::disallowed_methods, reason = "sys/ may open files")]
pub(super) fn null() -> io::Result<&'static OwnedFd> {
    static NULL: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(null) = NULL.get() {
        return Ok(null);
    }
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    Ok(NULL.get_or_init(|| opened.into()))
}

/// Where this process stands; it always comes back here.
static HERE: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::current_dir().ok());

/// Where the program of a command is.
pub(super) fn resolve<'a>(command: &Command<'a>) -> io::Result<Cow<'a, Path>> {
    if let Some(program) = command.program {
        return Ok(Cow::Borrowed(program));
    }
    let name = command.argv.first().map_or(OsStr::new(""), OsString::as_os_str);
    find_program(name, command.env.path(), command.cwd).map(Cow::Owned)
}

/// Starts a command, apart from this process, with default signal handling.
///
/// posix_spawn has no portable way to set the directory, so this process goes there and back where
/// it does not stand there already. All our paths are absolute, and only the main thread uses any.
pub fn spawn(command: &Command<'_>) -> io::Result<i32> {
    let program = c_string(resolve(command)?.as_os_str().as_bytes())?;
    let argv = command
        .argv
        .iter()
        .map(|word| c_string(word.as_bytes()))
        .collect::<io::Result<Vec<_>>>()?;
    let made;
    let Wiring { actions, attributes } = match command.wiring {
        Some(wiring) => wiring,
        None => {
            let Command { input, output, errors, .. } = command;
            made = Wiring::with_input(*input, output, errors, Apart::Session)?;
            &made
        }
    };
    let block = &command.env.block;
    let start = || {
        let _umask = super::fs::steady_umask();
        posix_spawn(program.as_c_str(), actions, attributes, &argv, block)
    };
    if HERE.as_deref() == Some(command.cwd) {
        return start().map(Pid::as_raw).map_err(io_error);
    }
    let here = nix::fcntl::open(
        ".",
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    );
    nix::unistd::chdir(command.cwd).map_err(io_error)?;
    let spawned = start();
    if let Ok(here) = here {
        // Where it stands matters to nobody; only the place must not stay busy for an unmount.
        let _ = nix::unistd::fchdir(here);
    }
    spawned.map(Pid::as_raw).map_err(io_error)
}
