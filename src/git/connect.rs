//! Whether a commit is whole: all its objects are there.
//!
//! git writes objects first and names them after that. Somebody's `git gc --prune=now` or `git prune` in
//! between removes them, and the commit that names them comes all the same; nothing that git offers to a
//! single command prevents that. Branches keep what was named before. So a commit is looked at before
//! anything relies on it, and what a worktree still has is written again.

use crate::error::{Cannot, Error, Exit, Result};
use crate::sys::clock::{Clock, RealClock};
use crate::sys::fs::{Fs, RealFs};
use crate::sys::tree::copy_file;

use super::Git;
use super::confirmed::Worktree;
use super::index::index_of;

/// Whether everything is there that `tip` has and `base` has not. `Some`: what git says of it. Where one
/// of them is nothing, there is nothing to look at.
pub fn missing(git: &Git<'_>, tip: &str, base: &str) -> Result<Option<String>> {
    if tip.is_empty() || base.is_empty() || tip == base || git.commit(base)?.is_none() {
        return Ok(None);
    }
    let not = format!("^{base}");
    let output = git.run(&["rev-list", "--objects", "--quiet", "--end-of-options", tip, &not])?;
    if output.ok() {
        return Ok(None);
    }
    let said = output.stderr.lines().last().unwrap_or_default();
    Ok(Some(said.trim_start_matches("fatal: ").to_owned()))
}

/// The error of a commit that is not whole.
pub fn broken(git: &Git<'_>, said: &str) -> Error {
    let what = format!("commits are not whole: git says: {said}");
    Error::new(Exit::Environment, what).at(git.dir()).hint(
        "git gc --prune=now and git prune remove what others are just writing: run neither while workers live",
    )
}

/// Makes HEAD of a worktree whole again, if it is not: from the files, where they are as they were
/// committed.
///
/// # Errors
/// That did not help.
pub fn mend(tree: &Worktree<'_>, base: &str) -> Result<()> {
    let git = tree.git();
    let Some(head) = git.resolve("HEAD")? else { return Ok(()) };
    if missing(git, &head, base)?.is_none() {
        return Ok(());
    }
    rewrite(tree)?;
    match missing(git, &head, base)? {
        None => Ok(()),
        Some(said) => Err(broken(git, &said)),
    }
}

/// Writes the objects of all tracked files again, and of their directories.
fn rewrite(tree: &Worktree<'_>) -> Result<()> {
    let index = index_of(tree.git())?;
    let copy = index.with_file_name(format!("coord-index-{:016x}", RealClock.random()));
    copy_file(&index, &copy).cannot("copy the index", &index)?;
    let own = tree.env("GIT_INDEX_FILE", copy.as_os_str());
    let own = own.git();
    // Whether this was enough is looked at by the caller.
    let written = rehash(own).and_then(|()| own.run(&["write-tree"]));
    drop(RealFs.unlink(&copy));
    written.map(drop)
}

/// Reads all tracked files, also those that look unchanged, and writes what is missing of them.
pub fn rehash(git: &Git<'_>) -> Result<()> {
    git.run(&["add", "--renormalize", "--sparse", "."]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::confirmed::{Meant, ask};
    use crate::git::ground::{Ground, remove};

    /// Removes an object from the repository.
    fn lose(ground: &Ground, revision: &str) {
        let id = ground.run(&["rev-parse", revision]);
        remove(&ground.path("repo/.git/objects").join(&id[..2]).join(&id[2..]));
    }

    #[test]
    fn what_was_pruned_is_written_again_where_the_files_are_there() {
        let ground = Ground::new();
        ground.write("a", "a");
        ground.run(&["add", "."]);
        ground.run(&["commit", "--quiet", "-m", "base"]);
        let base = ground.run(&["rev-parse", "HEAD"]);
        ground.write("d/one", "one");
        ground.run(&["add", "."]);
        ground.run(&["commit", "--quiet", "-m", "one"]);
        let git = ground.git();
        let meant = Meant::Any(&ground.path("repo/.git"));
        let worktree = ask(&git, &ground.path("repo"), meant).unwrap();
        let worktree = worktree.must(&ground.path("repo")).unwrap();
        let tip = ground.run(&["rev-parse", "HEAD"]);
        assert_eq!(missing(&git, &tip, &base).unwrap(), None);
        for lost in [&["HEAD:d/one"][..], &["HEAD:d", "HEAD^{tree}"], &["HEAD:d/one", "HEAD:d"]] {
            lost.iter().for_each(|revision| lose(&ground, revision));
            assert!(missing(&git, &tip, &base).unwrap().is_some(), "{lost:?}");
            mend(&worktree, &base).unwrap();
            assert_eq!(missing(&git, &tip, &base).unwrap(), None, "{lost:?}");
        }
        // Changed since: nobody has it any more.
        ground.write("d/one", "two");
        lose(&ground, "HEAD:d/one");
        let error = mend(&worktree, &base).unwrap_err();
        assert!(error.message.contains("commits are not whole"), "{error:?}");
    }
}
