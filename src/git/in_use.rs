//! Branches that somebody is in the middle of something with: git itself refuses to move those
//! (`git branch -f`, `git fetch`), and so do we.
//!
//! A rebase or a bisection takes HEAD off its branch, notes the branch's name in the worktree's own
//! part of the repository, and goes back there in the end: `git rebase --abort` to the commit that the
//! branch had in the beginning, whatever has been put onto it since. A merge, a cherry-pick or a revert
//! that is not finished is committed with an index that knows nothing of what came meanwhile, and so
//! takes that back. No command of git prints which branches those are. The files are those that git
//! looks at itself (its `branch.c` and `worktree.c`).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::sys::fs::{Fs, Kind, RealFs, canonical};

use super::Git;
use super::repository::join;

#[cfg(test)]
mod tests;

/// What somebody can be in the middle of, and how it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// A noun.
    pub what: &'static str,
    /// What git has to be told there to end it.
    pub end: &'static str,
}

const REBASE: Activity = Activity { what: "a rebase", end: "rebase --continue (or --abort)" };
const BISECTION: Activity = Activity { what: "a bisection", end: "bisect reset" };
const PICK: Activity =
    Activity { what: "a cherry-pick", end: "cherry-pick --continue (or --abort)" };
const REVERT: Activity = Activity { what: "a revert", end: "revert --continue (or --abort)" };
const MERGE: Activity = Activity { what: "a merge", end: "merge --continue (or --abort)" };
const AM: Activity = Activity { what: "git am", end: "am --continue (or --abort)" };
const PICKS: Activity = Activity {
    what: "a cherry-pick or a revert of several commits",
    end: "cherry-pick --continue (or revert --continue, or --quit)",
};

/// Of `git stash pop`, `git merge --squash` and others that leave no file behind.
const CONFLICT: Activity =
    Activity { what: "a conflict that is not resolved", end: "status (resolve it, then commit)" };

/// Names in a worktree's own part of the repository that say that something is going on there with
/// whatever HEAD names.
const UNDER_WAY: [(&str, Activity); 8] = [
    ("MERGE_HEAD", MERGE),
    ("rebase-merge", REBASE),
    ("rebase-apply/applying", AM),
    ("rebase-apply", REBASE),
    ("CHERRY_PICK_HEAD", PICK),
    ("REVERT_HEAD", REVERT),
    // One of them was finished with `git commit`.
    ("sequencer/todo", PICKS),
    ("BISECT_LOG", BISECTION),
];

/// A worktree of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its top; of a bare repository the repository itself.
    pub path: PathBuf,
    /// Its own part of the repository.
    pub own: PathBuf,
    /// The branch that it has checked out, as a full name.
    pub branch: Option<String>,
}

/// Where and by what a branch is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// The worktree.
    pub path: PathBuf,
    /// What is under way there.
    pub activity: Activity,
}

/// All worktrees whose directories are not gone for good, the main one first.
///
/// # Errors
/// Those of git.
pub fn places(git: &Git<'_>) -> Result<Vec<Place>> {
    let list = git.must("list the worktrees", &["worktree", "list", "--porcelain", "-z"])?;
    let args = ["rev-parse", "--path-format=absolute", "--git-common-dir"];
    let common = git.must("find the repository", &args)?.stdout;
    let common = PathBuf::from(OsStr::from_bytes(common.strip_suffix(b"\n").unwrap_or(&common)));
    let linked = linked(&common);
    let mut places = Vec::new();
    for (i, listed) in parse(&list.stdout).into_iter().enumerate() {
        let Listed { path, branch, gone } = listed;
        let own = match i {
            // The main worktree, or the bare repository.
            0 => Some(common.clone()),
            _ => linked.get(&path).or_else(|| linked.get(&canonical(&path))).cloned(),
        };
        if let (Some(own), false) = (own, gone) {
            places.push(Place { path, own, branch });
        }
    }
    Ok(places)
}

struct Listed {
    path: PathBuf,
    branch: Option<String>,
    gone: bool,
}

/// `(KEY VALUE 0)* 0` for each worktree.
fn parse(list: &[u8]) -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    for line in list.split(|&b| b == 0) {
        let mut parts = line.splitn(2, |&b| b == b' ');
        let (key, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match (key, all.last_mut()) {
            (b"worktree", _) => {
                let path = PathBuf::from(OsStr::from_bytes(value));
                all.push(Listed { path, branch: None, gone: false });
            }
            (b"branch", Some(last)) => {
                last.branch = Some(String::from_utf8_lossy(value).into_owned());
            }
            (b"prunable", Some(last)) => last.gone = true,
            _ => {}
        }
    }
    all
}

/// The own parts of linked worktrees, by the worktrees' tops as they are noted, and as they are.
fn linked(common: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let dir = common.join("worktrees");
    let mut all = BTreeMap::new();
    for entry in RealFs.list(&dir).unwrap_or_default() {
        let own = dir.join(&entry.name);
        let Some(link) = said(&own.join("gitdir")) else { continue };
        // A newer git may note it as seen from there.
        let top = join(&own, Path::new(OsStr::from_bytes(&link)));
        let Some(top) = top.parent() else { continue };
        all.insert(canonical(top), own.clone());
        all.insert(top.to_owned(), own);
    }
    all
}

/// What a small file says, without the line end.
fn said(path: &Path) -> Option<Vec<u8>> {
    let bytes = RealFs.read(path, 0, 1 << 16).ok()?;
    Some(bytes.strip_suffix(b"\n").unwrap_or(&bytes).to_vec())
}

/// The first worktree that uses a branch (`refs/heads/…`) for something that is not finished.
///
/// Who begins a rebase while this looks may have read the branch before; git itself does not see that
/// either.
///
/// # Errors
/// Those of git.
pub fn find(git: &Git<'_>, branch: &str) -> Result<Option<InUse>> {
    for place in places(git)? {
        let activity = match returns_to(&place.own, branch) {
            None if place.branch.as_deref() == Some(branch) => match under_way(git, &place)? {
                None => conflict(git, &place)?,
                found => found,
            },
            other => other,
        };
        if let Some(activity) = activity {
            return Ok(Some(InUse { path: place.path, activity }));
        }
    }
    Ok(None)
}

/// What is under way in a worktree that will move this branch, or go back to it, in the end.
fn returns_to(own: &Path, branch: &str) -> Option<Activity> {
    let names = |name: &str| {
        let line = said(&own.join(name))?;
        let line = String::from_utf8_lossy(&line).into_owned();
        Some(if line.starts_with("refs/") { line } else { format!("refs/heads/{line}") })
    };
    let is_it = |name: &str| names(name).as_deref() == Some(branch);
    if is_it("rebase-merge/head-name") || is_it("rebase-apply/head-name") {
        return Some(REBASE);
    }
    // `git rebase --update-refs`: three lines for each branch, its name first.
    let others = RealFs.read(&own.join("rebase-merge/update-refs"), 0, 1 << 20).unwrap_or_default();
    let mut others = others.split(|&b| b == b'\n').step_by(3);
    if others.any(|name| name == branch.as_bytes()) {
        return Some(REBASE);
    }
    (RealFs.exists(&own.join("BISECT_LOG")) && is_it("BISECT_START")).then_some(BISECTION)
}

/// Whether the index of a worktree has conflicts.
fn conflict(git: &Git<'_>, place: &Place) -> Result<Option<Activity>> {
    if !RealFs.exists(&place.path) {
        return Ok(None);
    }
    let output = git.at(&place.path).run(&["ls-files", "--unmerged", "-z"])?;
    Ok((output.ok() && !output.stdout.is_empty()).then_some(CONFLICT))
}

/// What is under way in a worktree with what it has checked out.
///
/// # Errors
/// Those of git.
pub fn under_way(git: &Git<'_>, place: &Place) -> Result<Option<Activity>> {
    let there = |name: &str| RealFs.exists(&place.own.join(name));
    if let Some((_, activity)) = UNDER_WAY.iter().find(|(name, _)| there(name)) {
        return Ok(Some(*activity));
    }
    if !matches!(RealFs.stat(&place.own.join("reftable")), Ok(stat) if stat.kind == Kind::Dir) {
        return Ok(None);
    }
    // There these two are no files.
    for (name, activity) in [("CHERRY_PICK_HEAD", PICK), ("REVERT_HEAD", REVERT)] {
        if RealFs.exists(&place.path) && git.at(&place.path).resolve(name)?.is_some() {
            return Ok(Some(activity));
        }
    }
    Ok(None)
}
