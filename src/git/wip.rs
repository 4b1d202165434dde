//! Saving what is not committed: nothing that an attempt wrote is ever thrown away because it was
//! not committed.
//!
//! What differs from HEAD, tracked or not but not ignored, becomes a commit on top of HEAD under a
//! ref of its own, made with a copy of the index, so that the worktree and its index stay as they are: also
//! in the middle of a merge or a rebase. The ref is made only if it does not exist, and is read
//! back before the caller may change anything.

use std::path::{Path, PathBuf};

use crate::error::{Error, Exit, Result};
use crate::sys::clock::{Clock, RealClock};
use crate::sys::fs::{Fs, RealFs, name_of};
use crate::sys::tree;

use super::Git;
use super::status::{Change, Mark, status};

/// Refs of one name that are tried: attempts of former queues may have left some.
const NAMES_MAX: u32 = 1000;

/// What is to be saved, and under which name.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The whole name of the ref.
    pub name: String,
    /// The branch on which everything committed should be; empty: any ref will do.
    pub branch: String,
    /// What the attempt started from.
    pub base: String,
    /// A commit that is known to be in some ref; may be empty.
    pub kept: String,
    /// The commit's message, with its trailers.
    pub message: String,
    /// Paths from the top that are not the attempt's work: copied or linked there, or caches.
    pub except: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// The ref; empty when there was nothing to save.
    pub name: String,
    /// Paths that were not committed.
    pub uncommitted: Vec<String>,
    /// HEAD was not on the branch.
    pub strayed: bool,
    /// What no ref can hold, in words; the worktree must stay as it is then.
    pub unsaved: Vec<String>,
    /// There are conflicts.
    pub conflicts: bool,
}

/// Saves what the worktree has that no branch has. `git` runs at the worktree's top, with the
/// identity of whoever saves.
pub fn save(git: &Git<'_>, wanted: &Wanted) -> Result<Saved> {
    let all = status(git, false)?;
    let ours: Vec<&Change> = all.iter().filter(|c| !c.is_below(&wanted.except)).collect();
    let mut saved = Saved {
        unsaved: unsaved(git, &ours, &wanted.base)?,
        conflicts: ours.iter().any(|c| c.mark == Mark::Unmerged),
        ..Saved::default()
    };
    let nested = |c: &&&Change| c.is_nested();
    let mut except = wanted.except.clone();
    except.extend(ours.iter().filter(nested).map(|c| c.path.trim_end_matches('/').to_owned()));
    saved.uncommitted = ours.iter().filter(|c| !c.is_nested()).map(|c| c.path.clone()).collect();
    let head = git.commit("HEAD")?;
    saved.strayed = match &head {
        Some(head) => !is_kept(git, head, wanted)?,
        None => false,
    };
    if saved.uncommitted.is_empty() && !saved.strayed {
        return Ok(saved);
    }
    let tree = tree_of(git, &except, saved.uncommitted.is_empty(), &mut saved.unsaved)?;
    // Without a HEAD (a branch without commits) the base is what it began with.
    let parent = head.unwrap_or_else(|| wanted.base.clone());
    let same = git.resolve(&format!("{parent}^{{tree}}"))?.as_deref() == Some(tree.as_str());
    if same && !saved.strayed {
        // Only times or modes that git does not keep.
        saved.uncommitted.clear();
        return Ok(saved);
    }
    let what = "commit what an attempt left";
    let args = ["commit-tree", "--no-gpg-sign", "-F", "-", "-p", &parent, &tree];
    let output = git.feed(&args, wanted.message.clone().into_bytes())?;
    if !output.ok() {
        return Err(git.failed(what, &output));
    }
    let commit = output.text().trim().to_owned();
    saved.name = publish(git, &wanted.name, &commit, &tree, &parent)?;
    Ok(saved)
}

/// Whether what HEAD names stays reachable when the worktree goes elsewhere.
fn is_kept(git: &Git<'_>, head: &str, wanted: &Wanted) -> Result<bool> {
    for known in [&wanted.base, &wanted.kept] {
        // One that a clone does not have yet contains nothing of it.
        if !known.is_empty() && matches!(git.is_ancestor(head, known), Ok(true)) {
            return Ok(true);
        }
    }
    if !wanted.branch.is_empty() {
        return match git.commit(&format!("refs/heads/{}", wanted.branch))? {
            Some(tip) => git.is_ancestor(head, &tip),
            None => Ok(false),
        };
    }
    let args = ["for-each-ref", "--count=1", "--contains", head, "--format=%(refname)"];
    Ok(!git.must("look for a ref", &args)?.stdout.is_empty())
}

/// The tree of everything in a worktree but `except`, committed or not.
pub fn tree(git: &Git<'_>, except: &[String]) -> Result<String> {
    let nested = status(git, false)?.into_iter().filter(Change::is_nested);
    let mut except = except.to_vec();
    except.extend(nested.map(|c| c.path.trim_end_matches('/').to_owned()));
    tree_of(git, &except, false, &mut Vec::new())
}

/// The tree of everything in the worktree, made with a copy of the index.
fn tree_of(
    git: &Git<'_>,
    except: &[String],
    clean: bool,
    unsaved: &mut Vec<String>,
) -> Result<String> {
    let what = "save what an attempt left";
    if clean && let Some(tree) = git.resolve("HEAD^{tree}")? {
        return Ok(tree);
    }
    let index = index_of(git)?;
    let copy = index.with_file_name(format!("coord-index-{:016x}", RealClock.random()));
    let made = with_index(git, &index, &copy, except, unsaved);
    drop(RealFs.unlink(&copy));
    drop(RealFs.unlink(&with_lock(&copy)));
    let output = made?;
    if output.ok() { Ok(output.text().trim().to_owned()) } else { Err(git.failed(what, &output)) }
}

fn with_lock(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.lock", name_of(path)))
}

/// Where the worktree has its index.
pub fn index_of(git: &Git<'_>) -> Result<PathBuf> {
    let args = ["rev-parse", "--path-format=absolute", "--git-path", "index"];
    let path = git.ask(&args)?.filter(|path| !path.is_empty());
    path.map(PathBuf::from)
        .ok_or_else(|| Error::new(Exit::Environment, "cannot find the index").at(git.dir()))
}

fn with_index(
    git: &Git<'_>,
    index: &Path,
    copy: &Path,
    except: &[String],
    unsaved: &mut Vec<String>,
) -> Result<crate::sys::tool::Output> {
    if RealFs.exists(index) {
        tree::copy_file(index, copy).map_err(|cause| Error {
            cause: Some(cause),
            at: Some(index.to_owned()),
            ..Error::new(Exit::Environment, "cannot copy the index")
        })?;
    }
    let own = git.env("GIT_INDEX_FILE", copy.as_os_str());
    let excludes: Vec<String> =
        except.iter().map(|path| format!(":(top,exclude,literal){path}")).collect();
    let add = |git: &Git<'_>, more: &[&str]| {
        let mut args = vec!["add", "--all", "--sparse"];
        args.extend(more);
        args.extend(["--", "."]);
        args.extend(excludes.iter().map(String::as_str));
        git.run(&args)
    };
    let added = add(&own, &[])?;
    if !added.ok() {
        // A filter that fails (large files without their server): as they are, then. Writing the
        // index reads files again that are as young as it is, so that goes without filters too.
        let empty =
            git.must("make an empty tree", &["hash-object", "-w", "-t", "tree", "/dev/null"])?;
        let raw = own.env("GIT_ATTR_SOURCE", empty.text().trim());
        let added = add(&raw, &[])?;
        if !added.ok() {
            let said = added.stderr.lines().next().unwrap_or_default().to_owned();
            add(&raw, &["--ignore-errors"])?;
            unsaved.push(format!("what git cannot read: {said}"));
        }
        return raw.run(&["write-tree"]);
    }
    own.run(&["write-tree"])
}

/// Gives the commit a name that nobody has, and makes sure that it is there.
fn publish(git: &Git<'_>, name: &str, commit: &str, tree: &str, parent: &str) -> Result<String> {
    let mut said = None;
    for number in 1..NAMES_MAX {
        let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        // An empty expected value: the ref must not exist.
        let made = git.again(&["update-ref", "-m", "coord: saved", &name, commit, ""])?;
        let there = git.commit(&name)?;
        if made.ok() && there.as_deref() == Some(commit) {
            return Ok(name);
        }
        let Some(there) = there else {
            said = Some(made);
            break;
        };
        // The same was saved before, by whoever died behind it.
        let of = |what: &str| git.resolve(&format!("{there}{what}"));
        if of("^{tree}")?.as_deref() == Some(tree) && of("^1")?.as_deref() == Some(parent) {
            return Ok(name);
        }
    }
    let what = format!("save what an attempt left as {name}");
    Err(said.map_or_else(
        || Error::new(Exit::Environment, format!("cannot {what}: all its names are taken")),
        |output| git.failed(&what, &output),
    ))
}

/// What no commit of this repository can hold.
fn unsaved(git: &Git<'_>, changes: &[&Change], base: &str) -> Result<Vec<String>> {
    let mut reasons = Vec::new();
    for change in changes {
        let path = change.path.trim_end_matches('/');
        if change.is_nested() {
            reasons.push(format!("the repository {path}, which is not part of this one"));
        }
        if change.submodule.contains(['M', 'U']) {
            reasons.push(format!("changes inside the submodule {path}"));
        }
    }
    let since = if base.is_empty() { "HEAD" } else { base };
    // Committed or not: a submodule that stands at another commit than it did in the beginning.
    let raw =
        git.must("look at the submodules", &["diff", "--raw", "-z", "--no-renames", since, "--"])?;
    let names = Git::names(&raw);
    for pair in names.chunks(2) {
        let [meta, path] = pair else { continue };
        let mut modes = meta.trim_start_matches(':').split(' ');
        let is_module = modes.any(|mode| mode == "160000");
        let dir = git.dir().join(path);
        if !is_module || !RealFs.exists(&dir.join(".git")) {
            continue;
        }
        let inner = git.at(&dir);
        let Some(head) = inner.commit("HEAD")? else { continue };
        let args = ["for-each-ref", "--count=1", "--contains", &head, "refs/remotes", "refs/tags"];
        if inner.run(&args)?.stdout.is_empty() {
            reasons.push(format!("commits inside the submodule {path} that are nowhere else"));
        }
    }
    Ok(reasons)
}

/// The refs that hold what an attempt left, oldest name first, each with the process that its
/// trailer names.
pub fn find(git: &Git<'_>, name: &str) -> Result<Vec<(String, String)>> {
    let pattern = format!("{name}*");
    let format = "--format=%(refname)%09%(trailers:key=Coord-Worker,valueonly,separator=%2C)";
    let output = git.run(&["for-each-ref", format, &pattern])?;
    let text = output.text();
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    let is_ours = |found: &str| {
        found.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    Ok(lines
        .filter(|(found, _)| is_ours(found))
        .map(|(found, by)| (found.to_owned(), by.trim().to_owned()))
        .collect())
}
