//! Linking a hint.

use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Cannot, Result};
use crate::sys::fs::Kind;

use super::super::Queue;
use super::super::tasks::Task;

/// Links the spec to a hint's name; makes the directory where it is missing. True: it is new.
/// Where hard links to the spec are refused (protected_hardlinks, too many links) an empty file
/// serves as well: the content of a hint is never trusted.
pub fn link_hint(queue: &Queue, task: &Task, path: &Path) -> Result<bool> {
    let spec = task.dir.path.join("spec.json");
    loop {
        match queue.fs.link(&spec, path) {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(e) if e.raw_os_error() == Some(nix::libc::ENOENT) => {
                // The task was moved or deleted meanwhile: nothing leads to it any more.
                if !queue.fs.exists(&spec) {
                    return Ok(false);
                }
                // Whoever empties a bucket, or finds it empty, removes it, perhaps before the link. Each
                // time that this happens somebody else has come forward, so it is tried until it works.
                make_parent(queue, path)?;
            }
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::EPERM | nix::libc::EMLINK)) => {
                match queue.fs.touch(path) {
                    Err(e) if e.raw_os_error() == Some(nix::libc::ENOENT) => {
                        make_parent(queue, path)?;
                    }
                    touched => return touched.cannot("write a hint", path).map(|()| true),
                }
            }
            Err(e) => return Err(e).cannot("link a hint", path),
        }
    }
}

/// Makes the directory that a hint is to be in. Where something else has its name, no try will help.
fn make_parent(queue: &Queue, path: &Path) -> Result<()> {
    let Some(dir) = path.parent() else { return Ok(()) };
    queue.make_dirs(dir).cannot("make a directory", dir)?;
    match queue.fs.stat(dir) {
        Ok(stat) if stat.kind != Kind::Dir => {
            Err(std::io::Error::from(ErrorKind::NotADirectory)).cannot("link a hint", path)
        }
        _ => Ok(()),
    }
}
