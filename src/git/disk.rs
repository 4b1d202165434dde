//! What is on disk in a worktree, whatever git's own listings say of it.
//!
//! `git status` and `git clean` pass over what they cannot hold: fifos and sockets, a `.git` in a directory
//! that is tracked, what lies deeper than a path may be long, what is in a directory that cannot be read.
//! So before anything is cleaned such things are looked for, and afterwards the directory is compared
//! with the list of tracked files, name by name.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::error::Result;
use crate::sys::fs::name_of;
use crate::sys::tree::{Found, What, discard, mounted_below, open_up, walk};

use super::Git;
use super::confirmed::Worktree;
use super::status::Apart;

/// The longest path that git can use, from the top.
const PATH_MAX: usize = 4095;

/// What git would pass over and what is somebody's work, in words. Directories and files that their owner
/// has closed are opened before: git could neither read nor remove what is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Directories with a `.git` of their own, from the top: repositories, or what was one.
    pub repositories: Vec<String>,
    /// Files whose paths are too long, by the first directory on their way, and what cannot be read.
    pub others: Vec<String>,
}

/// Opens what is closed and looks for what git passes over. Not in what is ignored or `apart`, which is
/// nobody's work, and not in submodules.
pub fn look(tree: &Worktree<'_>, apart: &Apart) -> Result<Unseen> {
    let git = tree.git();
    let ignored = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"];
    let mut nobodys = names(&git.must("list ignored files", &ignored)?.stdout);
    nobodys.extend(apart.all().into_iter().map(String::into_bytes));
    nobodys.extend(submodules(git)?);
    let may_all = nix::unistd::geteuid().is_root();
    let me = nix::unistd::geteuid().as_raw();
    let mut unseen = Unseen::default();
    let closed = walk(git.dir(), &mut |found| {
        let bytes = found.relative.as_os_str().as_bytes();
        if found.relative == Path::new(".git") || nobodys.contains(bytes) {
            return false;
        }
        if name_of(found.relative) == ".git" {
            let above = found.relative.parent().unwrap_or(Path::new(""));
            if found.what != What::Special && holds_something(found) {
                unseen.repositories.push(above.to_string_lossy().into_owned());
            }
            return false;
        }
        match found.what {
            What::Dir => open_up(found.access),
            What::File if bytes.len() > PATH_MAX => {
                let first = found.relative.iter().next().unwrap_or_default().to_string_lossy();
                let words = format!("files below {first} whose paths are too long for git");
                if !unseen.others.contains(&words) {
                    unseen.others.push(words);
                }
            }
            What::File if !may_all => open_file(found.access, me),
            _ => {}
        }
        true
    });
    let closed = closed.iter().map(|dir| format!("{}, which cannot be read", dir.display()));
    unseen.others.extend(closed);
    Ok(unseen)
}

/// Whether a `.git` is more than an empty directory.
fn holds_something(found: &Found<'_>) -> bool {
    let mut any = found.what == What::File;
    if found.what == What::Dir {
        walk(found.access, &mut |below| {
            any |= below.what == What::File;
            !any
        });
    }
    any
}

/// Lets the owner of a file read it, where that is who asks.
fn open_file(path: &Path, me: u32) {
    let Ok(meta) = path.symlink_metadata() else { return };
    let mode = meta.mode();
    if meta.is_file() && meta.uid() == me && mode & 0o400 == 0 {
        let mode = PermissionsExt::from_mode(mode & 0o7777 | 0o400);
        // What this does not help git says itself.
        drop(std::fs::set_permissions(path, mode));
    }
}

/// Paths of submodules, whether they are there or not.
fn submodules(git: &Git<'_>) -> Result<Vec<Vec<u8>>> {
    let staged = git.must("list the submodules", &["ls-files", "-z", "--stage"])?.stdout;
    let entries = staged.split(|&b| b == 0).filter(|entry| entry.starts_with(b"160000 "));
    let paths = entries.filter_map(|entry| entry.splitn(2, |&b| b == b'\t').nth(1));
    Ok(paths.map(<[u8]>::to_vec).collect())
}

/// The directories of a worktree, from its top, over which something is mounted that is not the worktree's.
pub fn mounted(git: &Git<'_>) -> Vec<String> {
    let all = mounted_below(git.dir());
    let below = all.iter().filter_map(|at| at.strip_prefix(git.dir()).ok());
    below.map(|at| at.to_string_lossy().into_owned()).collect()
}

/// Removes from disk what is not tracked and not in `keep`, and what of tracked files would not be as a
/// new worktree has it: read-only ones, and those with a second name somewhere, through which the next
/// attempt would write. True: such were removed, and have to be checked out again. `trash` is a
/// place on the same file system. What cannot be removed is seen by [`left`].
pub fn clear(tree: &Worktree<'_>, keep: &[String], trash: &Path) -> Result<bool> {
    let git = tree.git();
    let mut torn = false;
    let strange = compare(git, keep, &mut |access| {
        if is_odd(access) {
            torn |= discard(access, trash).is_ok();
        }
    })?;
    for path in strange {
        if let Err(e) = discard(&git.dir().join(&path), trash) {
            tracing::warn!("cannot remove {} of a worktree: {e}", path.display());
        }
    }
    Ok(torn)
}

/// What is there all the same that a new worktree would not have, in words.
pub fn left(tree: &Worktree<'_>, keep: &[String]) -> Result<Option<String>> {
    let strange = compare(tree.git(), keep, &mut |_| {})?;
    Ok(strange.first().map(|path| format!("{} cannot be removed", path.display())))
}

/// The names in a worktree that are neither tracked, nor in `keep`, nor on the way there: the uppermost of
/// each. Tracked files that are there are shown to `tracked`.
fn compare(
    git: &Git<'_>,
    keep: &[String],
    tracked: &mut dyn FnMut(&Path),
) -> Result<Vec<std::path::PathBuf>> {
    let listed = names(&git.must("list tracked files", &["ls-files", "-z"])?.stdout);
    let kept: HashSet<&[u8]> =
        keep.iter().map(|path| path.trim_end_matches('/').as_bytes()).collect();
    let mut ways: HashSet<&[u8]> = HashSet::new();
    for path in listed.iter().map(Vec::as_slice).chain(kept.iter().copied()) {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        // From the deepest on: where one is known, so are those above it.
        for end in ends.collect::<Vec<_>>().into_iter().rev() {
            if !ways.insert(&path[..end]) {
                break;
            }
        }
    }
    let mut strange = Vec::new();
    let closed = walk(git.dir(), &mut |found| {
        let path = found.relative.as_os_str().as_bytes();
        if path == b".git" || kept.contains(path) {
            return false;
        }
        if found.what != What::Special && listed.contains(path) {
            // A directory among them is a submodule, which is looked at elsewhere.
            if found.what == What::File {
                tracked(found.access);
            }
            return false;
        }
        if found.what == What::Dir && ways.contains(path) {
            open_up(found.access);
            return true;
        }
        strange.push(found.relative.to_owned());
        false
    });
    strange.extend(closed);
    Ok(strange)
}

/// Whether a tracked file is not as git would write it.
fn is_odd(path: &Path) -> bool {
    let Ok(meta) = path.symlink_metadata() else { return false };
    meta.is_file() && (meta.nlink() > 1 || meta.mode() & 0o7600 != 0o600)
}

fn names(output: &[u8]) -> HashSet<Vec<u8>> {
    let parts = output.split(|&b| b == 0).map(|part| part.strip_suffix(b"/").unwrap_or(part));
    parts.filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
}
