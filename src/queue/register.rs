//! Publishing a register: the one dangerous primitive.
//!
//! A register is a name that is written once, by linking a complete file to it. `link(2)` picks one
//! winner among any number of writers, and its answer is one system call. But the answer may lie:
//! after a lost reply a retransmission says EEXIST although the link is one's own (seen with NFSv4.2
//! when the server crashed), and some clients turn EEXIST into success. So:
//!
//! - after any error, and always on a shared file system, the register is read back and its content
//!   decides (R2);
//! - the name is linked through an open directory in which spec.json was seen, so it can never land
//!   in a directory that was made anew under the same path.

use std::path::{Path, PathBuf};

use crate::error::{Cannot, Result};
use crate::rule;
use crate::step;
use crate::sys::fs::{Dir, is_absent, is_no_file};

use super::Queue;
use super::procs::Proc;
use super::record::RECORD_MAX;

/// Who holds a register after an attempt to publish it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// What this call linked: nobody had it before.
    New,
    /// What we linked, with this call or with one before.
    Ours,
    /// What somebody else linked; its content, which may be unreadable.
    Theirs(Vec<u8>),
}

impl Held {
    /// Whether it is ours, whenever it was linked.
    pub fn is_ours(&self) -> bool {
        matches!(self, Held::New | Held::Ours)
    }
}

/// A complete file that is to get the name of a register: by its path, or in an open directory, which
/// spares the kernel the walk.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// By its path.
    At(&'a Path),
    /// By its name in an open directory.
    In(&'a Dir, &'a str),
}

impl<'a, P: AsRef<Path> + ?Sized> From<&'a P> for Source<'a> {
    fn from(path: &'a P) -> Source<'a> {
        Source::At(path.as_ref())
    }
}

impl<'a> Source<'a> {
    /// A file of an open directory.
    pub fn of(dir: &'a Dir, path: &'a Path) -> Source<'a> {
        match path.file_name().and_then(std::ffi::OsStr::to_str) {
            Some(name) => Source::In(dir, name),
            None => Source::At(path),
        }
    }

    fn path(self) -> PathBuf {
        match self {
            Source::At(path) => path.to_owned(),
            Source::In(dir, name) => dir.path.join(name),
        }
    }
}

/// Links `file` to the register `name` in `dir` and tells who holds it now. `ours` recognises our
/// own content. The directory may have been removed meanwhile: then the error says so.
pub fn publish<'a>(
    queue: &Queue,
    file: impl Into<Source<'a>>,
    dir: &Dir,
    name: &str,
    ours: impl Fn(&[u8]) -> bool,
) -> Result<Held> {
    let file = file.into();
    if !rule!("R1") {
        // A rename replaces: whoever comes last has it.
        queue.fs.rename(&file.path(), &dir.path.join(name)).cannot("rename", &file.path())?;
        return Ok(Held::New);
    }
    let answer = match file {
        _ if !rule!("F2") => queue.fs.link(&file.path(), &dir.path.join(name)),
        Source::At(path) => queue.fs.link_in(path, dir, name),
        Source::In(from, file) => queue.fs.link_between(from, file, dir, name),
    };
    if !rule!("R2.readback") && !answer.as_ref().is_err_and(is_absent) {
        // The answer of the call is believed.
        return Ok(if answer.is_ok() { Held::New } else { Held::Theirs(Vec::new()) });
    }
    if answer.is_ok() && !queue.shared {
        return Ok(Held::New);
    }
    let path = dir.path.join(name);
    match queue.fs.read_in(dir, name, RECORD_MAX) {
        Ok(bytes) if ours(&bytes) => Ok(Held::Ours),
        Ok(bytes) => Ok(Held::Theirs(bytes)),
        // Not there: the link really failed, for the reason it gave.
        Err(e) if is_absent(&e) => match answer {
            Err(reason) => Err(reason).cannot("link a register", &path),
            Ok(()) => Err(e).cannot("find the register just linked", &path),
        },
        // There but no readable file: somebody else's, by the rule for unreadable registers.
        Err(e) if is_no_file(&e) => Ok(Held::Theirs(Vec::new())),
        // Undecided: nothing may be concluded, and the caller's intent has to stay.
        Err(e) => Err(e).cannot("read a register back", &path),
    }
}

/// As `publish`, of a record that may have been staged by another user, whose file the kernel lets only
/// that user link (EPERM, by `fs.protected_hardlinks`): then a copy of it, under this process's own name,
/// is linked. `of` names the copy: the task, or the attempt. Whose the register is, its content tells,
/// which both have in common.
///
/// Crash: a copy in `run/`, which recovery drops; what was staged is still there.
pub fn publish_staged(
    queue: &Queue,
    me: &Proc,
    of: &str,
    (staged, content): (&Path, &[u8]),
    (dir, name): (&Dir, &str),
    ours: impl Fn(&[u8]) -> bool,
) -> Result<Held> {
    match publish(queue, staged, dir, name, &ours) {
        Err(e) if e.errno() == Some(nix::libc::EPERM) && rule!("owner.copy") => {}
        other => return other,
    }
    let copy = me.run(&format!("_copy.{of}"));
    step!("copy.stage");
    queue.stage(&copy, content, "copy a record of another user")?;
    step!("copy.link");
    let held = publish(queue, &copy, dir, name, ours);
    queue.discard(&copy)?;
    held
}

/// Whether a register is there, in the open directory itself, which may lie in the archive by now.
pub fn is_there(queue: &Queue, dir: &Dir, name: &str) -> Result<bool> {
    match queue.fs.read_in(dir, name, 1) {
        Ok(_) => Ok(true),
        Err(e) if is_absent(&e) => Ok(false),
        Err(e) if is_no_file(&e) => Ok(true),
        Err(e) => Err(e).cannot("look for a register", &dir.path.join(name)),
    }
}
