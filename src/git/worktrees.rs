//! Linked worktrees: making, cleaning, checking and removing them. Nothing is ever forced, and what
//! is to be thrown away was saved before by the caller. What changes or removes anything in one works
//! only on a [`Worktree`], which git has confirmed.

use std::path::{Path, PathBuf};

use crate::error::{Error, Exit, Result};
use crate::sys::fs::{Fs, RealFs, canonical, is_absent, name_of};

use super::confirmed::Worktree;
use super::index::index_of;
use super::status::{Apart, Change, Mark, status};
use super::{Git, disk, modules, private};

/// A worktree as git lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its top.
    pub path: PathBuf,
    /// The commit that it is at.
    pub head: String,
}

/// All worktrees of the repository.
pub fn list(git: &Git<'_>) -> Result<Vec<Listed>> {
    let output = git.again(&["worktree", "list", "--porcelain", "-z"])?;
    if !output.ok() {
        return Err(git.failed("list the worktrees", &output));
    }
    let text = output.text();
    let mut all: Vec<Listed> = Vec::new();
    for line in text.split('\0') {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        match (key, all.last_mut()) {
            ("worktree", _) => all.push(Listed { path: PathBuf::from(value), ..Listed::default() }),
            ("HEAD", Some(last)) => value.clone_into(&mut last.head),
            _ => {}
        }
    }
    Ok(all)
}

/// The worktree at `dir` as git knows it, also if the directory is gone.
pub fn known_at(git: &Git<'_>, dir: &Path) -> Result<Option<Listed>> {
    // git resolves symbolic links on the way, and the directory itself may be gone.
    let real = dir.parent().map(|parent| canonical(parent).join(name_of(dir)));
    let is_it = |known: &Listed| known.path == dir || Some(&known.path) == real.as_ref();
    Ok(list(git)?.into_iter().find(is_it))
}

/// Makes a worktree at `dir`, detached at `base` and locked. `git` runs in the repository.
pub fn add(git: &Git<'_>, dir: &Path, base: &str, reason: &str) -> Result<()> {
    let path = dir.to_string_lossy().into_owned();
    // A detached worktree tracks nothing, so no shared configuration is written.
    let args =
        ["worktree", "add", "--quiet", "--detach", "--lock", "--reason", reason, &path, base];
    let output = git.again(&args)?;
    // Its exit code may be that of somebody's hook: the worktree tells.
    if output.ok() || known_at(git, dir)?.is_some_and(|known| known.head == base) {
        return Ok(());
    }
    let error = git.failed("make a worktree", &output).at(dir);
    Err(if output.stderr.contains("filter") {
        error.hint("a filter of .gitattributes (such as git-lfs) has to work on this machine")
    } else if error.hint.is_some() {
        error
    } else {
        error.hint("git worktree list shows what there is")
    })
}

/// Gives a locked worktree another reason.
pub fn relock(git: &Git<'_>, dir: &Path, reason: &str) -> Result<()> {
    let path = dir.to_string_lossy().into_owned();
    // One that is not locked is as good: what counts is the lock that follows.
    git.again(&["worktree", "unlock", &path])?;
    let output = git.again(&["worktree", "lock", "--reason", reason, &path])?;
    if output.ok() { Ok(()) } else { Err(git.failed("lock a worktree", &output).at(dir)) }
}

/// Removes a worktree, if git itself finds nothing in it that would be lost. `Some`: why it stays.
/// `git` runs in the repository.
pub fn remove(git: &Git<'_>, tree: &Worktree<'_>, reason: &str) -> Result<Option<String>> {
    Ok(unregister(git, tree.top(), reason)?.map(|error| error.one_line()))
}

/// Lets git forget a worktree whose directory is gone. `Some`: why it does not.
pub fn forget(git: &Git<'_>, dir: &Path, reason: &str) -> Result<Option<String>> {
    if RealFs.stat(dir).is_ok() {
        return Ok(Some(format!("{} is there again", dir.display())));
    }
    match unregister(git, dir, reason)? {
        Some(error) if error.is_of_surroundings() => Err(error),
        other => Ok(other.map(|error| error.message)),
    }
}

/// `Some`: git does not do it.
fn unregister(git: &Git<'_>, dir: &Path, reason: &str) -> Result<Option<Error>> {
    let path = dir.to_string_lossy().into_owned();
    git.again(&["worktree", "unlock", &path])?;
    let output = git.again(&["worktree", "remove", &path])?;
    if output.ok() {
        return Ok(None);
    }
    let error = git.failed("remove the worktree", &output);
    drop(relock(git, dir, reason));
    Ok(Some(error))
}

/// Ends what was begun and not finished (a merge, a rebase), and removes locks that a killed git left and
/// everything else in the worktree's part of the repository that belonged to what was done there.
/// Only for the owner of a worktree in which no process is left.
pub fn abandon(tree: &Worktree<'_>) -> Result<()> {
    let git = tree.git();
    let index = index_of(git)?;
    for name in ["index.lock", "HEAD.lock"] {
        match RealFs.unlink(&index.with_file_name(name)) {
            Err(e) if !is_absent(&e) => tracing::warn!(error = %e, "cannot remove a lock of git"),
            _ => {}
        }
    }
    let begun = |name: &str| RealFs.exists(&index.with_file_name(name));
    for (mark, args) in [
        ("rebase-merge", ["rebase", "--quit"]),
        ("rebase-apply", ["am", "--quit"]),
        ("rebase-apply", ["rebase", "--quit"]),
        ("CHERRY_PICK_HEAD", ["cherry-pick", "--quit"]),
        ("REVERT_HEAD", ["revert", "--quit"]),
        ("sequencer", ["cherry-pick", "--quit"]),
        ("MERGE_HEAD", ["merge", "--quit"]),
    ] {
        if begun(mark) {
            // For what git put aside meanwhile (`--autostash`): it becomes a stash of the repository.
            git.run(&args)?;
        }
    }
    private::sweep(tree)
}

/// Brings tracked files to `base` with HEAD detached there, and removes what is not tracked; with
/// `ignored` also what is ignored or what git does not look at. `keep` are paths that stay.
pub fn reset(tree: &Worktree<'_>, base: &str, ignored: bool, keep: &[String]) -> Result<()> {
    let git = tree.git();
    let what = "bring a worktree to its base";
    // A branch may have the name of this very commit, and git would go there.
    let commit = format!("{base}^0");
    let checkout = || -> Result<()> {
        let output = git.again(&["checkout", "--quiet", "--force", "--detach", &commit, "--"])?;
        if output.ok() { Ok(()) } else { Err(git.failed(what, &output)) }
    };
    checkout()?;
    let excludes: Vec<String> = keep.iter().map(|path| format!("/{}", escaped(path))).collect();
    let mut args = vec!["clean", "-ffd", "--quiet"];
    if ignored {
        args.push("-x");
    }
    args.extend(excludes.iter().flat_map(|pattern| ["-e", pattern.as_str()]));
    // What cannot be removed is seen by the check.
    git.run(&args)?;
    // On the file system of the worktree, and in none of them.
    let trash = git.dir().with_file_name(format!(".gone-{}", name_of(git.dir())));
    if ignored && disk::clear(tree, keep, &trash)? {
        checkout()?;
    }
    Ok(())
}

/// A path as a pattern of .gitignore that means only it.
pub fn escaped(path: &str) -> String {
    let special = |c: char| matches!(c, '\\' | '*' | '?' | '[' | ']' | '!' | '#' | ' ');
    path.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Whether a worktree is what an attempt may start in: at `base`, and nothing in it but what it may have,
/// also of submodules that the base does not know. `Some`: what is wrong.
pub fn fault(tree: &Worktree<'_>, base: &str, may: &Apart) -> Result<Option<String>> {
    let git = tree.git();
    let head = git.commit("HEAD")?;
    if head.as_deref() != Some(base) {
        return Ok(Some(format!(
            "its HEAD is {} after a reset to {base}",
            head.unwrap_or_default()
        )));
    }
    let strange = |all: Vec<Change>| all.into_iter().find(|c| !may.has(c));
    let mut found = strange(status(git, false)?);
    if found.as_ref().is_some_and(|c| c.submodule == "SC") {
        // Only behind its base: it was looked at when the attempt before ended.
        git.run(&["submodule", "--quiet", "update", "--recursive", "--no-fetch"])?;
        found = strange(status(git, false)?);
    }
    if found.is_none() {
        return Ok(modules::clear(tree)?.or(disk::left(tree, &may.caches)?));
    }
    Ok(found.map(|change| {
        let path = change.path.trim_end_matches('/');
        match change.mark {
            Mark::Tracked | Mark::Unmerged => format!("{path} is changed after a reset"),
            Mark::Untracked | Mark::Ignored => format!("{path} cannot be removed"),
        }
    }))
}

/// Whether HEAD is on the branch.
pub fn is_on(git: &Git<'_>, branch: &str) -> Result<bool> {
    let on = git.ask(&["symbolic-ref", "--quiet", "HEAD"])?;
    Ok(on.as_deref() == Some(format!("refs/heads/{branch}").as_str()))
}

/// Makes the branch at the commit `base`, where HEAD is, and switches to it. False: there is a branch of
/// that name already.
pub fn begin(tree: &Worktree<'_>, branch: &str, base: &str) -> Result<bool> {
    let git = tree.git();
    // There may be a branch named HEAD, too.
    let commit = format!("{base}^0");
    let output = git.again(&["checkout", "--quiet", "--no-track", "-b", branch, &commit, "--"])?;
    // Its exit code may be that of somebody's hook: the worktree tells.
    if output.ok() || is_on(git, branch)? {
        return Ok(true);
    }
    if git.resolve(&format!("refs/heads/{branch}"))?.is_some() {
        return Ok(false);
    }
    let error = git.failed(&format!("make the branch {branch}"), &output);
    Err(if git.resolve("refs/heads/coord")?.is_some() {
        Error::new(Exit::Environment, "a branch named `coord` stands in the way of coord/TASK/aN")
            .at(git.dir())
            .hint("git branch -m coord another-name")
    } else {
        error
    })
}
