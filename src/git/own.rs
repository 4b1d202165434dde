//! What a branch changed itself, apart from what it took over from others: by merging them, by being
//! rebased onto them, or by picking commits of theirs.
//!
//! Seen from where a branch began, all of that looks like its own. What it has in common with others is
//! found by git: the newest commits that both have. Of a picked commit there is only a copy, so a path
//! is also not its own where it stands as others have had it since.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::sys::tool::Output;

use super::Git;
use super::candidate::merged_tree;

/// Paths that one command is given.
const PATHS_MAX: usize = 500;

/// The version of a path: its mode, and what it holds.
type Version = (String, String);

/// What a branch that began at `base` has in common with others by now: a commit, or a tree where it
/// is a merge of two.
///
/// # Errors
/// Those of git.
pub fn start(git: &Git<'_>, base: &str, commit: &str, others: &[String]) -> Result<String> {
    let common = common(git, base, commit, others)?;
    Ok(match &common[..] {
        [a, b] => merged_tree(git, a, b)?,
        [first, ..] => first.clone(),
        [] => base.to_owned(),
    })
}

/// The newest commits that a branch has in common with its base and with others. One that began a
/// history of its own has nothing in common with anybody.
fn common(git: &Git<'_>, base: &str, commit: &str, others: &[String]) -> Result<Vec<String>> {
    let mut args = vec!["merge-base", "--all", commit, base];
    args.extend(others.iter().map(String::as_str));
    let output = git.run(&args)?;
    let found: Vec<String> = output.text().lines().map(str::to_owned).collect();
    Ok(if output.ok() && !found.is_empty() { found } else { vec![base.to_owned()] })
}

/// The paths that the commits of a branch changed themselves. `base` is where it began, `others` are
/// commits of those from whom it may take over what it likes.
///
/// # Errors
/// Those of git.
pub fn changes(
    git: &Git<'_>,
    base: &str,
    commit: &str,
    others: &[String],
) -> Result<BTreeSet<String>> {
    let mut from = common(git, base, commit, others)?;
    if let [a, b] = &from[..] {
        // Both have changed the same file, and git put that together.
        from.push(merged_tree(git, a, b)?);
    }
    let mut changed: Option<BTreeSet<String>> = None;
    for from in from {
        let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", &from, commit];
        let names = Git::names(&git.must("compare an attempt with its base", &args)?);
        changed = Some(match changed {
            None => names.into_iter().collect(),
            Some(before) => names.into_iter().filter(|name| before.contains(name)).collect(),
        });
    }
    let mut changed = changed.unwrap_or_default();
    let paths: Vec<String> = changed.iter().cloned().collect();
    for path in taken_over(git, base, commit, others, &paths)? {
        changed.remove(&path);
    }
    Ok(changed)
}

/// Those of `paths` that stand in a commit as others have had them since they went apart.
///
/// # Errors
/// Those of git.
pub fn taken_over(
    git: &Git<'_>,
    base: &str,
    commit: &str,
    others: &[String],
    paths: &[String],
) -> Result<Vec<String>> {
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let common = common(git, base, commit, others)?;
    let mut log: Vec<&str> = vec![
        "log",
        "-z",
        "-m",
        "--raw",
        "--no-abbrev",
        "--no-renames",
        "--full-history",
        "--format=",
    ];
    log.extend(others.iter().map(String::as_str));
    log.push("--not");
    log.extend(common.iter().map(String::as_str));
    let mut taken = Vec::new();
    for some in paths.chunks(PATHS_MAX) {
        let names: Vec<Vec<u8>> = some.iter().map(|path| path.clone().into_bytes()).collect();
        let theirs = git.run_on(&log, &names)?;
        if !theirs.ok() {
            return Err(git.failed("read what others have changed", &theirs));
        }
        let theirs = theirs_of(&theirs);
        if theirs.is_empty() {
            continue;
        }
        let listed = git.run_on(&["ls-tree", "-r", "-z", "--full-tree", commit], &names)?;
        if !listed.ok() {
            return Err(git.failed("read what an attempt has", &listed));
        }
        let ours = ours_of(&listed);
        taken.extend(some.iter().filter(|path| {
            let nothing = ("000000".to_owned(), "0".repeat(commit.len()));
            let own = ours.get(*path).unwrap_or(&nothing);
            theirs.contains(&((*path).clone(), own.clone()))
        }));
    }
    Ok(taken.into_iter().cloned().collect())
}

/// `(: MODE MODE OBJECT OBJECT STATUS 0 PATH 0)*`, with further 0 between commits.
fn theirs_of(log: &Output) -> BTreeSet<(String, Version)> {
    let names = Git::names(log);
    let mut parts = names.iter();
    let mut found = BTreeSet::new();
    while let (Some(meta), Some(path)) = (parts.next(), parts.next()) {
        let mut words = meta.trim_start_matches(':').split(' ');
        let (_, mode, _, object) = (words.next(), words.next(), words.next(), words.next());
        if let (Some(mode), Some(object)) = (mode, object) {
            found.insert((path.clone(), (mode.to_owned(), object.to_owned())));
        }
    }
    found
}

/// `(MODE TYPE OBJECT TAB PATH 0)*`.
fn ours_of(list: &Output) -> BTreeMap<String, Version> {
    let names = Git::names(list);
    let version = |line: &String| {
        let (meta, path) = line.split_once('\t')?;
        let mut words = meta.split(' ');
        let (mode, object) = (words.next()?.to_owned(), words.nth(1)?.to_owned());
        Some((path.to_owned(), (mode, object)))
    };
    names.iter().filter_map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::ground::Ground;

    /// `main`, and a branch `a` that began at its first commit and changed `mine`.
    fn ground() -> (Ground, String) {
        let ground = Ground::new();
        ground.write("lib/deep/x", "1\n");
        ground.write("both", "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
        ground.write("gone", "1\n");
        let base = ground.put("theirs", "1\n");
        ground.branch("a", &base);
        ground.put("mine", "1\n");
        ground.branch("main", &base);
        ground.put("lib/deep/x", "2\n");
        ground.run(&["rm", "-q", "gone"]);
        ground.put("theirs", "2\n");
        ground.run(&["checkout", "-q", "a"]);
        (ground, base)
    }

    fn own(ground: &Ground, base: &str) -> Vec<String> {
        let others = [ground.run(&["rev-parse", "main"])];
        let tip = ground.run(&["rev-parse", "a"]);
        changes(&ground.git(), base, &tip, &others).unwrap().into_iter().collect()
    }

    #[test]
    fn what_was_merged_rebased_onto_or_picked_is_not_its_own() {
        for take in [
            &["merge", "-q", "--no-edit", "main"][..],
            &["rebase", "-q", "main"],
            &["cherry-pick", "main~1", "main"],
            &["merge", "-q", "--squash", "main"],
            &["merge", "-q", "--no-edit", "main~1"],
        ] {
            let (ground, base) = ground();
            assert_eq!(own(&ground, &base), ["mine"]);
            ground.run(take);
            ground.commit("taken");
            assert_eq!(own(&ground, &base), ["mine"], "{take:?}");
            // Main goes on meanwhile.
            ground.run(&["checkout", "-q", "main"]);
            ground.put("theirs", "3\n");
            ground.run(&["checkout", "-q", "a"]);
            assert_eq!(own(&ground, &base), ["mine"], "{take:?}");
        }
    }

    #[test]
    fn what_it_changed_besides_is_its_own() {
        let (ground, base) = ground();
        ground.run(&["merge", "-q", "--no-edit", "main"]);
        ground.put("lib/deep/x", "mine\n");
        ground.put("gone", "again\n");
        assert_eq!(own(&ground, &base), ["gone", "lib/deep/x", "mine"]);
        // Also if it takes back what others have done, or does a part of it by itself.
        ground.put("lib/deep/x", "1\n");
        assert_eq!(own(&ground, &base), ["gone", "lib/deep/x", "mine"]);
        ground.put("lib/deep/x", "2\n");
        assert_eq!(own(&ground, &base), ["gone", "mine"]);
    }

    #[test]
    fn a_file_that_two_others_have_changed() {
        let (ground, base) = ground();
        ground.run(&["checkout", "-q", "main"]);
        ground.put("both", "one\n2\n3\n4\n5\n6\n7\n8\n9\n");
        // The branch was begun on something that is not on main.
        ground.branch("other", &base);
        let other = ground.put("both", "1\n2\n3\n4\n5\n6\n7\n8\nnine\n");
        ground.branch("a", &other);
        ground.put("mine", "1\n");
        ground.run(&["merge", "-q", "--no-edit", "main"]);
        assert_eq!(ground.read("both"), "one\n2\n3\n4\n5\n6\n7\n8\nnine\n");
        assert_eq!(own(&ground, &other), ["mine"]);
        let others = [ground.run(&["rev-parse", "main"])];
        let from = start(&ground.git(), &other, "a", &others).unwrap();
        assert_eq!(ground.run(&["diff", "--name-only", &from, "a"]), "mine");
        ground.put("both", "one\n2\n3\n4\nfive\n6\n7\n8\nnine\n");
        assert_eq!(own(&ground, &other), ["both", "mine"]);
    }

    #[test]
    fn odd_names_and_a_history_of_its_own() {
        let (ground, base) = ground();
        ground.put("a*b", "1\n");
        ground.put("ü\n", "1\n");
        ground.run(&["checkout", "-q", "main"]);
        ground.put("aXb", "1\n");
        ground.run(&["checkout", "-q", "a"]);
        assert_eq!(own(&ground, &base), ["a*b", "mine", "ü\n"]);
        ground.run(&["checkout", "-q", "--orphan", "new"]);
        ground.put("lib/deep/x", "new\n");
        ground.run(&["branch", "-f", "a", "new"]);
        assert!(own(&ground, &base).contains(&"lib/deep/x".to_owned()));
    }
}
