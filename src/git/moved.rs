//! A repository, or its worktrees, that somebody has moved: each names the other by its path.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::sys::fs::{Fs, RealFs, canonical, name_of};

use super::Git;
use super::repository::join;

/// The longest path in such a file.
const PATH_MAX: usize = 4096;

/// The first line of a file, as a path seen from `dir`.
fn pointer(file: &Path, before: &[u8], dir: &Path) -> Option<PathBuf> {
    let bytes = RealFs.read(file, 0, PATH_MAX).ok()?;
    let line = bytes.split(|&b| b == b'\n').next()?.strip_prefix(before)?;
    Some(join(dir, Path::new(OsStr::from_bytes(line.trim_ascii()))))
}

/// What the `.git` file of a worktree points to: its own part of the repository.
fn own_part(top: &Path) -> Option<PathBuf> {
    pointer(&top.join(".git"), b"gitdir:", top)
}

/// The top of the worktree with this own part, as the repository knows it.
fn top_of(part: &Path) -> Option<PathBuf> {
    pointer(&part.join("gitdir"), b"", part)?.parent().map(Path::to_owned)
}

/// The part that is the worktree's, if the link between the two is broken because one of them, or both,
/// was moved: what the worktree points to is gone, the repository has a part of that name, and knows the
/// worktree there, or at a place of the same name that is gone.
fn broken(common: &Path, top: &Path) -> Option<PathBuf> {
    let gone = own_part(top).filter(|part| !RealFs.exists(part))?;
    let part = common.join("worktrees").join(name_of(&gone));
    let known = top_of(&part)?;
    let same = canonical(&known) == canonical(top);
    (same || !RealFs.exists(&known) && name_of(&known) == name_of(top)).then_some(part)
}

/// Mends the link between a repository and a worktree of it that were moved apart, or both. Whether
/// there was one to be mended. `git` runs in the repository.
///
/// # Errors
/// Those of git.
pub fn mend(git: &Git<'_>, common: &Path, top: &Path) -> Result<bool> {
    if broken(common, top).is_none() {
        return Ok(false);
    }
    let path = top.to_string_lossy().into_owned();
    let output = git.again(&["worktree", "repair", &path])?;
    if output.ok() {
        return Ok(true);
    }
    Err(git.failed("mend the link of a worktree that was moved", &output).at(top))
}

/// The directories in which the repository has worktrees that are its own: they point to it, or to
/// where it was before it was moved. Those of which it has a copy are somebody else's.
pub fn parents_of_worktrees(common: &Path) -> Vec<PathBuf> {
    let Ok(parts) = RealFs.list(&common.join("worktrees")) else { return Vec::new() };
    let parts = parts.into_iter().map(|entry| common.join("worktrees").join(entry.name));
    let mut found: Vec<PathBuf> = parts
        .filter_map(|part| {
            let top = top_of(&part)?;
            let back = own_part(&top)?;
            let ours = !RealFs.exists(&back) || canonical(&back) == canonical(&part);
            ours.then(|| top.parent().map(Path::to_owned))?
        })
        .collect();
    found.sort();
    found.dedup();
    found
}
