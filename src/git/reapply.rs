//! Applying what an attempt did to another base, in a worktree that is at that base: all of its
//! commits as one change.
//!
//! What fits becomes one commit on the branch that the worktree has. What does not stays uncommitted,
//! as git leaves a cherry-pick that is stopped by conflicts: what goes together is in the index, the
//! conflicts are unmerged there and marked in the files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::error::Result;
use crate::sys::fs::{Fs, RealFs};

use super::Git;
use super::candidate::Change;
use super::confirmed::Worktree;

/// Commits that the message of several lists.
const SUBJECTS_MAX: usize = 100;
/// Bytes of a file that is searched for markers.
const BYTES_MAX: usize = 16 << 20;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It is one commit on top of the base.
    Committed,
    /// These paths, from the top of the worktree, are in conflict.
    Conflicts(Vec<String>),
    /// The base has it all.
    Nothing,
    /// It cannot be applied, and nothing was changed: why.
    Impossible(String),
}

/// Applies a change to a worktree. It is at the commit `onto`, clean,
/// and on the branch that is to have the change. No hook is run, and the commit has the author of the
/// change's last one.
///
/// # Errors
/// Those of git.
pub fn apply(tree: &Worktree<'_>, onto: &str, change: &Change) -> Result<Applied> {
    let git = &tree.git().with("core.hooksPath=/dev/null").with("rerere.enabled=false");
    let Some(tip) = git.commit(&change.commit)? else {
        let why = format!("its commit {} is not in the repository any more", change.commit);
        return Ok(Applied::Impossible(why));
    };
    let Some(from) = start_of(git, onto, change, &tip)? else {
        let why = "it has no commit in common with the branch".to_owned();
        return Ok(Applied::Impossible(why));
    };
    let single = one_commit(git, &from, &tip, change)?;
    let output = git.run(&["cherry-pick", "--no-commit", &single])?;
    let conflicts = unmerged(git)?;
    if !conflicts.is_empty() {
        return Ok(Applied::Conflicts(conflicts.into_iter().collect()));
    }
    if !output.ok() {
        let error = git.failed("apply it", &output);
        // On a full disk, say, nobody can tell whether it fits.
        return match error.is_of_surroundings() {
            true => Err(error),
            false => Ok(Applied::Impossible(error.message)),
        };
    }
    if git.run(&["diff", "--cached", "--quiet"])?.ok() {
        // The message of what was not needed would be that of the next commit.
        drop(RealFs.unlink(&tree.own().join("MERGE_MSG")));
        return Ok(Applied::Nothing);
    }
    let args = ["commit", "--quiet", "--no-gpg-sign", "--cleanup=verbatim", "-C", &single];
    git.must("commit what came back", &args)?;
    Ok(Applied::Committed)
}

/// What the change is seen from: the past that it has in common with the new base. One that was built
/// on another change, which is not in the base, is its own difference and no more.
fn start_of(git: &Git<'_>, onto: &str, change: &Change, tip: &str) -> Result<Option<String>> {
    if let Some(base) = git.commit(&change.base)?
        && !git.is_ancestor(&base, onto)?
        && git.is_ancestor(&base, tip)?
    {
        return Ok(Some(base));
    }
    git.ask(&["merge-base", onto, tip])
}

/// A commit that is the whole change.
fn one_commit(git: &Git<'_>, from: &str, tip: &str, change: &Change) -> Result<String> {
    let range = format!("{from}..{tip}");
    let args = ["log", "--no-merges", "--reverse", "--format=%s", "--encoding=UTF-8", &range];
    let subjects = git.must("list the commits of a change", &args)?.text();
    let subjects: Vec<&str> = subjects.lines().collect();
    let mut message = format!("{}: {}\n", change.id, change.title.replace(['\n', '\r'], " "));
    if subjects.len() > 1 {
        message.push('\n');
        for subject in subjects.iter().take(SUBJECTS_MAX) {
            message.push_str(&format!("- {subject}\n"));
        }
    } else {
        let args = ["log", "-1", "--no-merges", "--format=%B", "--encoding=UTF-8", &range];
        let whole = git.must("read a commit", &args)?.text();
        if !whole.trim().is_empty() {
            message = format!("{}\n", whole.trim_end());
        }
    }
    let args = ["log", "-1", "--date=raw", "--format=%an%x00%ae%x00%ad", "--encoding=UTF-8", tip];
    let author = git.must("read a commit", &args)?.text();
    let mut author = author.trim_end_matches('\n').split('\0').map(str::to_owned);
    let mut next = || author.next().unwrap_or_default();
    let git = git
        .env("GIT_AUTHOR_NAME", next())
        .env("GIT_AUTHOR_EMAIL", next())
        .env("GIT_AUTHOR_DATE", next());
    let tree = format!("{tip}^{{tree}}");
    let args = ["commit-tree", "--no-gpg-sign", "-F", "-", "-p", from, &tree];
    let output = git.feed(&args, message.into_bytes())?;
    if !output.ok() {
        return Err(git.failed("put a change together", &output));
    }
    Ok(output.text().trim().to_owned())
}

/// The paths that are unmerged in the index.
fn unmerged(git: &Git<'_>) -> Result<BTreeSet<String>> {
    let args = ["diff", "--name-only", "--no-renames", "--diff-filter=U", "-z"];
    Ok(Git::names(&git.must("look for conflicts", &args)?).into_iter().collect())
}

/// Takes as resolved what is unmerged in the index, was marked in the file, and is not any more: for
/// workers that commit what was only edited. What has no markers (a file that one side removed, a
/// binary one) is resolved only by `git add` or `git rm`.
///
/// # Errors
/// Those of git.
pub fn add_resolved(tree: &Worktree<'_>, sides: [&str; 2], conflicts: &[String]) -> Result<()> {
    let git = tree.git();
    let still = unmerged(git)?;
    let mut resolved = Vec::new();
    for path in conflicts.iter().filter(|path| still.contains(*path)) {
        let both = [content(git, sides[0], path)?, content(git, sides[1], path)?];
        let [Some(ours), Some(theirs)] = &both else { continue };
        let file = git.dir().join(OsStr::from_bytes(path.as_bytes()));
        let Ok(now) = RealFs.read(&file, 0, BYTES_MAX) else { continue };
        let is_text = |bytes: &[u8]| !bytes.contains(&0);
        let text = is_text(ours) && is_text(theirs) && is_text(&now);
        if text && !has_marker(&now, &[ours, theirs]) {
            resolved.push(path.clone().into_bytes());
        }
    }
    if resolved.is_empty() {
        return Ok(());
    }
    let output = git.run_on(&["add", "--sparse"], &resolved)?;
    if output.ok() { Ok(()) } else { Err(git.failed("add what was resolved", &output)) }
}

/// Those of the paths in which the commit has a marker of a conflict that neither side had.
///
/// # Errors
/// Those of git.
pub fn marked(
    git: &Git<'_>,
    commit: &str,
    sides: [&str; 2],
    paths: &[String],
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for path in paths {
        let Some(now) = content(git, commit, path)? else { continue };
        let [ours, theirs] = [content(git, sides[0], path)?, content(git, sides[1], path)?];
        let (ours, theirs) = (ours.unwrap_or_default(), theirs.unwrap_or_default());
        if has_marker(&now, &[&ours, &theirs]) {
            found.push(path.clone());
        }
    }
    Ok(found)
}

/// A file of a commit; `None` if it has none of that name.
fn content(git: &Git<'_>, commit: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let output = git.run(&["cat-file", "blob", &format!("{commit}:{path}")])?;
    Ok(output.ok().then_some(output.stdout))
}

/// Whether a text has a line that marks a conflict, and that none of the sides has. Of the line in the
/// middle, which is a heading in some languages, there must be more than in both together.
fn has_marker(text: &[u8], sides: &[&[u8]]) -> bool {
    let lines = |text: &'_ [u8]| -> Vec<Vec<u8>> {
        let all = text.split(|&b| b == b'\n').filter(|line| is_marker(line));
        all.map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec()).collect()
    };
    let known: Vec<Vec<u8>> = sides.iter().flat_map(|side| lines(side)).collect();
    let found = lines(text);
    let is_middle = |line: &&Vec<u8>| line.first() == Some(&b'=');
    found.iter().any(|line| !is_middle(&line) && !known.contains(line))
        || found.iter().filter(is_middle).count() > known.iter().filter(is_middle).count()
}

/// Seven or more of one sign, and nothing or a blank and a name behind: the attribute
/// conflict-marker-size makes them longer.
fn is_marker(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(&sign) = line.first().filter(|sign| b"<=>|".contains(sign)) else { return false };
    let length = line.iter().take_while(|&&b| b == sign).count();
    let rest = &line[length..];
    length >= 7 && (rest.is_empty() || (sign != b'=' && rest[0] == b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_those_that_no_side_had() {
        let marked = b"a\n<<<<<<< HEAD\nb\n=======\nc\n>>>>>>> 12 (T: x)\n";
        assert!(has_marker(marked, &[b"a\nb\n", b"a\nc\n"]));
        assert!(!has_marker(marked, &[marked, b"a\n"]), "a text about conflicts");
        assert!(has_marker(b"a\n>>>>>>>>> 12\n", &[b"a\n", b""]), "longer ones");
        assert!(has_marker(b"a\n=======\nb\n", &[b"a\n", b"b\n"]), "the middle alone");
        assert!(has_marker(b"a\r\n=======\r\nb\r\n", &[b"a\r\n", b"b\r\n"]));
        let heading = b"Title\n=======\n";
        let both = b"Title\n=======\nOther\n=======\n";
        assert!(!has_marker(both, &[heading, b"Other\n=======\n"]), "a heading of each side");
        assert!(!has_marker(b"<<<<<< six\n<<<<<<<< << x\n ======= \n", &[b"<<<<<<<< << x\n"]));
    }
}
