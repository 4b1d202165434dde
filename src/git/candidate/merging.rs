//! `git merge-tree`: the tree of a merge, or where it fails.

use crate::error::{Error, Exit, Result};
use crate::git::Git;
use crate::sys::tool::Output;

/// The first git with `merge-tree --merge-base`.
const OLDEST: (u32, u32) = (2, 40);

/// What became of a merge.
pub enum Merged {
    /// The tree.
    Clean(String),
    /// Not everything went together.
    Conflicted(Conflicted),
}

/// A merge that failed.
pub struct Conflicted {
    /// A tree with the markers of the conflicts in its files.
    pub tree: String,
    /// The files in conflict.
    pub paths: Vec<Vec<u8>>,
    /// What git says about them, for people.
    pub said: Vec<String>,
}

impl Conflicted {
    /// The files as text, sorted.
    pub fn names(&self) -> Vec<String> {
        let name = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
        let mut names: Vec<String> = self.paths.iter().map(name).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Merges two commits, seen from their common past or from the commit `base`.
///
/// # Errors
/// A git that is too old, two commits with nothing in common, git's own.
pub fn merge_trees(git: &Git, base: Option<&str>, ours: &str, theirs: &str) -> Result<Merged> {
    let base = base.map(|base| format!("--merge-base={base}"));
    let mut args = vec!["merge-tree", "--write-tree", "-z", "--name-only", "--messages"];
    args.extend(base.as_deref());
    args.extend([ours, theirs]);
    let git = git
        .with("merge.conflictStyle=zdiff3")
        .env("GIT_MERGE_VERBOSITY", "2")
        .env("GIT_ATTR_SOURCE", ours);
    let output = git.run(&args)?;
    let tree = String::from_utf8_lossy(until_nul(&output.stdout)).into_owned();
    match output.code {
        0 if !tree.is_empty() => Ok(Merged::Clean(tree)),
        // 1 is also the code for a commit that it does not find, and then it prints nothing.
        1 if !tree.is_empty() => Ok(Merged::Conflicted(parse(tree, &output.stdout))),
        _ => Err(too_old(&git)?.unwrap_or_else(|| failed(&git, ours, theirs, &output))),
    }
}

fn failed(git: &Git, ours: &str, theirs: &str, output: &Output) -> Error {
    git.failed(&format!("merge {theirs} with {ours}"), output)
}

/// Asked only after a failure: an old git refuses the options.
fn too_old(git: &Git) -> Result<Option<Error>> {
    let version = git.must("ask git for its version", &["version"])?.text();
    let version = version.trim().trim_start_matches("git version ");
    if is_old_enough(version) {
        return Ok(None);
    }
    let (major, minor) = OLDEST;
    let message = format!("cannot merge: git {version} is too old, {major}.{minor} is needed");
    Ok(Some(Error::new(Exit::Environment, message).hint("install a newer git")))
}

fn is_old_enough(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST,
        // A version that nobody understands is not what is wrong.
        _ => true,
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

/// `TREE 0 (PATH 0)* 0 (COUNT 0 (PATH 0)* KIND 0 WORDS 0)*`.
fn parse(tree: String, stdout: &[u8]) -> Conflicted {
    let mut parts = stdout.split(|&b| b == 0).skip(1);
    let mut paths: Vec<Vec<u8>> =
        parts.by_ref().take_while(|part| !part.is_empty()).map(<[u8]>::to_vec).collect();
    let (mut said, mut named) = (Vec::new(), Vec::new());
    while let Some(count) = parts.next().filter(|count| !count.is_empty()) {
        let count = String::from_utf8_lossy(count).parse().unwrap_or(0);
        let about: Vec<Vec<u8>> = parts.by_ref().take(count).map(<[u8]>::to_vec).collect();
        let kind = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let words = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        if kind == "Auto-merging" {
            continue;
        }
        if kind.starts_with("CONFLICT") {
            named.extend(about);
        }
        said.push(words.trim_end().to_owned());
    }
    if paths.is_empty() {
        // Some conflicts, of renamed directories, are about no file in particular.
        paths = named;
    }
    Conflicted { tree, paths, said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, fits) in [
            ("2.40.0", true),
            ("2.39.5", false),
            ("2.47.3", true),
            ("3.0", true),
            ("1.9.1", false),
            ("2.39.5 (Apple Git-154)", false),
            ("2.47.GIT", true),
            ("next", true),
        ] {
            assert_eq!(is_old_enough(version), fits, "{version}");
        }
    }

    #[test]
    fn output_with_odd_names_and_messages_of_several_lines() {
        let out = b"TREE\0a\nb\0c\xff\0\x002\0a\nb\0x\0CONFLICT (rename/rename)\0one\ntwo\n\0\
                    1\0c\xff\0Auto-merging\0Auto-merging c\n\0";
        let found = parse("TREE".into(), out);
        assert_eq!(found.paths, [b"a\nb".to_vec(), b"c\xff".to_vec()]);
        assert_eq!(found.said, ["one\ntwo"]);
        let found = parse("TREE".into(), b"TREE\0\x001\0dir\0CONFLICT (directory rename)\0w\n\0");
        assert_eq!(found.paths, [b"dir".to_vec()]);
        assert_eq!(parse("TREE".into(), b"TREE\0").paths.len(), 0);
    }
}
