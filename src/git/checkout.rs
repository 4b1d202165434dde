//! A branch that is checked out somewhere, and was moved without that worktree: its index and files
//! are brought along, or left alone as they are. Nothing of a person's is ever overwritten.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Result;
use crate::sys::fs::{Fs, Kind, RealFs};
use crate::sys::tool::Output;

use super::Git;
use super::confirmed::{Answer, Meant, ask};
use super::in_use::{Place, places, under_way};

#[cfg(test)]
mod tests;

/// How long the index of a worktree is waited for, and the nap between two looks.
const PATIENCE: (u32, Duration) = (20, Duration::from_millis(100));

/// What became of a worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Along {
    /// Its index and its files are those of the branch, but for what was changed there.
    Done,
    /// Nothing was changed: these files are in the way, sorted, changed or untracked ones (also
    /// ignored ones) that the branch has too.
    Dirty(Vec<String>),
    /// Nothing was changed: somebody is at something there, in words.
    Busy(String),
    /// There is no such worktree any more, or it is not on this branch.
    NotThere,
}

/// Brings a worktree along after its branch was moved by a ref alone from `from` to `to`, full names
/// of commits. If the branch has moved on from `to`, the worktree goes there too. All or nothing.
/// Submodules stay where they are.
///
/// Someone who switches branches there, or makes an ignored file that the branch has too, just when
/// this has looked and before git takes the index's lock, is not seen.
///
/// # Errors
/// Those of git.
pub fn bring_along(
    git: &Git,
    worktree: &Path,
    branch: &str,
    from: &str,
    to: &str,
) -> Result<Along> {
    if !matches!(RealFs.stat(worktree), Ok(stat) if stat.kind == Kind::Dir) {
        return Ok(Along::NotThere);
    }
    let Some(common) = common_directory(git)? else { return Ok(Along::NotThere) };
    let tree = match ask(&git.with("submodule.recurse=false"), worktree, Meant::Any(&common))? {
        Answer::Is(tree) => tree,
        Answer::Misled(misled) => {
            return Ok(Along::Busy(format!("{}; {}", misled.why, misled.hint)));
        }
        Answer::Not(why) => return Ok(Along::Busy(why)),
    };
    let (git, own) = (tree.git(), tree.own());
    let place = Place { path: worktree.to_owned(), own: own.to_owned(), branch: None };
    if let Some(activity) = under_way(git, &place)? {
        let what = activity.what;
        return Ok(Along::Busy(format!("{what} is under way in {}", worktree.display())));
    }
    if git.ask(&["symbolic-ref", "--quiet", "HEAD"])?.as_deref() != Some(branch) {
        return Ok(Along::NotThere);
    }
    let Some(head) = git.commit("HEAD")? else { return Ok(Along::NotThere) };
    if head != to && !git.is_ancestor(to, &head)? {
        return Ok(Along::NotThere);
    }
    let mut tries = PATIENCE.0;
    loop {
        // Entries that only look changed, because of their times, would be in the way.
        let mut output = git.run(&["update-index", "-q", "--refresh"])?;
        if !is_locked(&output) {
            // git itself takes ignored files for worthless.
            let mut paths = untracked_in_the_way(git, worktree, from, &head)?;
            if !paths.is_empty() {
                paths.extend(changed_in_the_way(git, from, &head)?);
                paths.sort();
                paths.dedup();
                return Ok(Along::Dirty(paths));
            }
            output = git.run(&["read-tree", "-m", "-u", from, &head])?;
        }
        if output.ok() {
            return Ok(Along::Done);
        }
        if output.stderr.contains("resolve your current index first") {
            let words = format!("there are conflicts to be resolved in {}", worktree.display());
            return Ok(Along::Busy(words));
        }
        if !is_locked(&output) {
            let paths = changed_in_the_way(git, from, &head)?;
            // git's reason is another one, such as a disk that is full.
            return if paths.is_empty() {
                Err(git.failed("bring a worktree along", &output))
            } else {
                Ok(Along::Dirty(paths))
            };
        }
        tries -= 1;
        if tries == 0 {
            let lock = own.join("index.lock");
            let words = format!(
                "another git is at work there; if none is, one has died: rm '{}'",
                lock.display()
            );
            return Ok(Along::Busy(words));
        }
        git.pause(PATIENCE.1);
    }
}

/// The worktrees that have the branch (`refs/heads/…`) checked out: with `--force` git lets several.
///
/// # Errors
/// Those of git.
pub fn checked_out_at(git: &Git, branch: &str) -> Result<Vec<PathBuf>> {
    let has = |place: &Place| place.branch.as_deref() == Some(branch);
    Ok(places(git)?.into_iter().filter(has).map(|place| place.path).collect())
}

/// What all worktrees of the repository share; `None` if it is none.
fn common_directory(git: &Git) -> Result<Option<PathBuf>> {
    let output = git.run(&["rev-parse", "--path-format=absolute", "--git-common-dir"])?;
    let path = output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout);
    Ok(output.ok().then(|| PathBuf::from(OsStr::from_bytes(path))))
}

fn is_locked(output: &Output) -> bool {
    !output.ok() && output.stderr.contains("index.lock': File exists")
}

/// Untracked files, also ignored ones, where a commit has a new file.
fn untracked_in_the_way(git: &Git, top: &Path, from: &str, to: &str) -> Result<Vec<String>> {
    let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=A"];
    let new = git.must("compare two commits", &[&args[..], &[from, to]].concat())?;
    let new = new.stdout.split(|&b| b == 0).filter(|path| !path.is_empty());
    let places: BTreeSet<Vec<u8>> = new.filter_map(|path| taken(top, path)).collect();
    let places: Vec<Vec<u8>> = places.into_iter().collect();
    let mut found = BTreeSet::new();
    for some in places.chunks(PATHS_MAX) {
        // Without a list of what to exclude, it lists the ignored ones too.
        let output = git.run_on(&["ls-files", "-z", "--others", "--full-name"], some)?;
        if !output.ok() {
            return Err(git.failed("list untracked files", &output));
        }
        found.extend(Git::names(&output));
    }
    Ok(found.into_iter().collect())
}

/// Paths that one command is given.
const PATHS_MAX: usize = 500;

/// What is in the place of a path: itself, or a file where a directory of it would be.
fn taken(top: &Path, path: &[u8]) -> Option<Vec<u8>> {
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
    for end in ends {
        match RealFs.stat(&top.join(OsStr::from_bytes(&path[..end]))) {
            Ok(stat) if stat.kind == Kind::Dir => {}
            Ok(_) => return Some(path[..end].to_vec()),
            Err(_) => return None,
        }
    }
    RealFs.exists(&top.join(OsStr::from_bytes(path))).then(|| path.to_vec())
}

/// Files that were changed here, in the index or on disk, of those that are different in two commits.
fn changed_in_the_way(git: &Git, from: &str, to: &str) -> Result<Vec<String>> {
    let compare = |args: &[&str]| -> Result<BTreeSet<String>> {
        let args = [&["diff-index", "-z", "--name-only", "--no-renames"], args].concat();
        Ok(Git::names(&git.must("look for changes", &args)?).into_iter().collect())
    };
    let mut here = compare(&[from])?;
    here.extend(compare(&["--cached", from])?);
    let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", from, to];
    let moved: BTreeSet<String> =
        Git::names(&git.must("compare two commits", &args)?).into_iter().collect();
    // A file in the place of a directory, or the reverse, is in the way of what is below it.
    let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
    let is_hit = |path: &&String| {
        moved.contains(*path) || moved.iter().any(|m| below(m, path) || below(path, m))
    };
    Ok(here.iter().filter(is_hit).cloned().collect())
}
