//! The index of a worktree: where it is, everything put into it, and nothing hidden from it.

use std::path::PathBuf;

use crate::error::{Error, Exit, Result};
use crate::sys::tool::Output;

use super::Git;
use super::confirmed::Worktree;
use super::status::{Apart, Mark, status};

/// Where the worktree has its index.
pub fn index_of(git: &Git<'_>) -> Result<PathBuf> {
    let args = ["rev-parse", "--path-format=absolute", "--git-path", "index"];
    let path = git.ask(&args)?.filter(|path| !path.is_empty());
    path.map(PathBuf::from)
        .ok_or_else(|| Error::new(Exit::Environment, "cannot find the index").at(git.dir()))
}

/// Puts everything into the index that differs and is not ignored, but what is `apart`. `more` are
/// options of `git add`. What failed is in the output.
pub fn add_all(tree: &Worktree<'_>, apart: &Apart, more: &[&str]) -> Result<Output> {
    let git = tree.git();
    let all = status(git, false)?;
    // An ignored path that is excluded makes `git add` fail, and it would not be added anyway.
    let is_hit =
        |path: &&String| all.iter().any(|c| c.is_below(std::slice::from_ref::<String>(path)));
    let excludes: Vec<String> = apart
        .all()
        .iter()
        .filter(is_hit)
        .map(|path| format!(":(top,exclude,literal){path}"))
        .collect();
    let mut args = vec!["add", "--all", "--sparse"];
    args.extend(more);
    args.extend(["--", "."]);
    args.extend(excludes.iter().map(String::as_str));
    let output = git.again(&args)?;
    if !output.ok() || apart.caches.is_empty() {
        return Ok(output);
    }
    let mut changed = all;
    changed.retain(|c| c.mark != Mark::Untracked && !apart.has(c));
    let holds =
        |path: &&String| changed.iter().any(|c| c.is_below(std::slice::from_ref::<String>(path)));
    // A path that matches nothing tracked would be an error.
    let within: Vec<String> =
        apart.caches.iter().filter(holds).map(|path| format!(":(top,literal){path}")).collect();
    if within.is_empty() {
        return Ok(output);
    }
    let mut args = vec!["add", "--update", "--sparse"];
    args.extend(more);
    args.push("--");
    args.extend(within.iter().map(String::as_str));
    git.again(&args)
}

/// Takes away the marks by which somebody told git not to look at tracked files (`git update-index
/// --assume-unchanged`, `--skip-worktree`): changes in such a file would not be seen, and so neither
/// be saved nor cleaned away. In a sparse checkout the second kind is git's own.
pub fn reveal(tree: &Worktree<'_>) -> Result<()> {
    let git = tree.git();
    let what = "look for files that git is told not to look at";
    let listed = git.must(what, &["ls-files", "-v", "-z"])?.stdout;
    let marked = |is_one: fn(u8) -> bool| -> Vec<u8> {
        let entries = listed.split(|&b| b == 0).filter(|entry| entry.len() > 2 && is_one(entry[0]));
        entries.flat_map(|entry| entry[2..].iter().copied().chain([0])).collect()
    };
    let sparse = git.ask(&["config", "--type=bool", "core.sparseCheckout"])?;
    let is_sparse = sparse.as_deref() == Some("true");
    let assumed = marked(|tag| tag.is_ascii_lowercase());
    let skipped = if is_sparse { Vec::new() } else { marked(|tag| matches!(tag, b'S' | b's')) };
    for (option, names) in [("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)] {
        if names.is_empty() {
            continue;
        }
        let output = git.feed(&["update-index", "-z", option, "--stdin"], names)?;
        if !output.ok() {
            return Err(git.failed(what, &output));
        }
    }
    Ok(())
}
