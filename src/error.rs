//! Errors: what could not be done, to what, why, and what to do about it; and the exit codes.
//!
//! Losing a race is never an error (it is a value, such as `Claimed::Lost`). The texts are lower
//! case and without a full stop; the system's own words come last.

use std::io;
use std::path::{Path, PathBuf};

/// The closed list of exit codes; CLI and scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It worked, and the answer is no: a task failed, a check found problems.
    No = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// No queue here, or one that this program does not understand.
    NoQueue = 3,
    /// No such task, worker, role or file.
    NotFound = 4,
    /// Somebody else was first, the lease was lost, or the state does not allow it.
    Conflict = 5,
    /// There is nothing to do now.
    Nothing = 6,
    /// The machine: disk full, read-only, no hard links, git failed.
    Environment = 7,
    /// A bug.
    Internal = 70,
    /// Refused for now; try later.
    Temporary = 75,
    /// The time that the caller gave is over.
    Timeout = 124,
}

impl Exit {
    /// The word that `--json` uses.
    pub fn word(self) -> &'static str {
        match self {
            Exit::No => "no",
            Exit::Usage => "usage",
            Exit::NoQueue => "no_queue",
            Exit::NotFound => "not_found",
            Exit::Conflict => "conflict",
            Exit::Nothing => "nothing",
            Exit::Environment => "environment",
            Exit::Internal => "internal",
            Exit::Temporary => "temporary",
            Exit::Timeout => "timeout",
        }
    }
}

/// An error that a person can act on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the process exits with.
    pub exit: Exit,
    /// What could not be done, to what.
    pub message: String,
    /// The system's reason.
    #[source]
    pub cause: Option<io::Error>,
    /// The file that it is about.
    pub at: Option<PathBuf>,
    /// What to do.
    pub hint: Option<String>,
}

/// What everything here returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A new error without cause or hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Error {
        Error { exit, message: message.into(), cause: None, at: None, hint: None }
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(Exit::Usage, message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the file that it is about.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Error {
        self.at = Some(path.to_owned());
        self
    }

    /// Everything on one line, for logs.
    pub fn one_line(&self) -> String {
        let cause = self.cause.as_ref().map(|c| format!(": {c}")).unwrap_or_default();
        let at = self.at.as_ref().map(|p| format!(" (at {})", p.display())).unwrap_or_default();
        format!("{}{cause}{at}", self.message)
    }

    /// The system's error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        self.cause.as_ref().and_then(io::Error::raw_os_error)
    }

    /// Whether the fault lies in the one entry that a step was about, and not in the machine (no room, no
    /// descriptor, no memory) or in a decision of ours: whoever goes through many entries puts this one
    /// aside and goes on with the others.
    pub fn is_of_entry(&self) -> bool {
        // Without a number it is our own word about what is there: no regular file, say.
        let of_machine = |cause: &io::Error| cause.raw_os_error().is_some_and(is_of_machine);
        self.cause.as_ref().is_some_and(|cause| !of_machine(cause))
    }

    /// What is left to others, since this process was asked to leave.
    pub fn cut_short(message: impl Into<String>) -> Error {
        let cause = Some(io::ErrorKind::Interrupted.into());
        Error { cause, ..Error::new(Exit::Temporary, message) }
    }

    /// Whether it is that.
    pub fn is_cut_short(&self) -> bool {
        let is_ours = |e: &io::Error| e.raw_os_error().is_none();
        self.cause.as_ref().is_some_and(|e| is_ours(e) && e.kind() == io::ErrorKind::Interrupted)
    }

    /// Whether the disk, its inodes or this user's share of it are used up.
    pub fn is_no_space(&self) -> bool {
        matches!(self.errno(), Some(nix::libc::ENOSPC | nix::libc::EDQUOT))
    }

    /// Whether the fault lies in the machine, or in the place where something was to be made, and not in what
    /// was to be made there: everything else would meet the same.
    pub fn is_of_surroundings(&self) -> bool {
        self.errno().is_some_and(|code| is_of_machine(code) || is_of_place(code))
    }

    /// The same as `one_line`, and what to do.
    pub fn in_full(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}{hint}", self.one_line())
    }
}

/// Whether an error number says how the machine or this process fares, whatever it was asked for.
fn is_of_machine(code: i32) -> bool {
    use nix::libc;
    matches!(
        code,
        libc::ENOSPC
            | libc::EDQUOT
            | libc::EROFS
            | libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM
            | libc::ENOBUFS
            | libc::EAGAIN
            | libc::EINTR
    )
}

/// Whether an error number says that nothing can be made or read in this place until a person has mended it:
/// it is another user's, it is read-only, its disk or server is broken.
pub fn is_of_place(code: i32) -> bool {
    use nix::libc;
    matches!(
        code,
        libc::EACCES | libc::EPERM | libc::EROFS | libc::EIO | libc::ESTALE | libc::ENOTCONN
    )
}

/// Turns a failed call into an `Error` that says what it was for.
pub trait Cannot<T> {
    /// `verb` completes "cannot …"; `path` is what it was done to.
    fn cannot(self, verb: &str, path: &Path) -> Result<T>;
}

impl<T> Cannot<T> for io::Result<T> {
    fn cannot(self, verb: &str, path: &Path) -> Result<T> {
        self.map_err(|cause| Error {
            exit: Exit::Environment,
            message: format!("cannot {verb}"),
            hint: hint_for(&cause),
            cause: Some(cause),
            at: Some(path.to_owned()),
        })
    }
}

/// What a person can do about a reason of the system.
pub fn hint_for(cause: &io::Error) -> Option<String> {
    use nix::libc;
    let text = match cause.raw_os_error()? {
        libc::ENOSPC => {
            "the file system is full: make room (coord gc --delete), then go on; nothing was lost"
        }
        libc::EDQUOT => "the disk quota is used up: make room, then go on; nothing was lost",
        libc::EROFS => "the file system is read-only: remount it writable, or use another queue",
        libc::EACCES => "this user may not do that here: check owner and mode of the directory",
        libc::EPERM => "hard links or changes are refused here: `coord doctor` tells more",
        libc::EMFILE | libc::ENFILE => "too many open files: raise `ulimit -n`",
        libc::EMLINK => "too many hard links to one file: another file system may allow more",
        _ => return None,
    };
    Some(text.to_owned())
}
