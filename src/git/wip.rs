//! Saving what is not committed: nothing that an attempt wrote is ever thrown away because it was
//! not committed.
//!
//! What differs from HEAD, tracked or not but not ignored, becomes a commit on top of HEAD under a
//! ref of its own, made with a copy of the index, so that the worktree and its index stay as they are: also
//! in the middle of a merge or a rebase. Only marks go that hide changes from git. The ref is made only
//! if it does not exist, and is read back before the caller may change anything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Cannot, Error, Exit, Result};
use crate::sys::clock::{Clock, RealClock};
use crate::sys::fs::{Fs, Kind, RealFs, name_of};
use crate::sys::tree;

use super::confirmed::Worktree;
use super::index::{add_all, index_of, reveal};
use super::status::{Apart, Change, Mark, status};
use super::{Git, connect, disk, private};

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
    /// Paths that are not the attempt's work.
    pub apart: Apart,
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

/// How long filters may take for what is saved after somebody has stopped waiting for them.
pub const FILTERS: Duration = Duration::from_secs(3);

/// Saves what the worktree has that no branch has; with the identity of whoever saves. When git is
/// ended in the middle (a filter hangs, or nobody wants to wait any more), it is saved all the same:
/// with the filters if they take a moment only, without them otherwise.
pub fn save(worktree: &Worktree<'_>, wanted: &Wanted) -> Result<Saved> {
    let was_cut = |saved: &Result<Saved>| matches!(saved, Err(e) if e.exit == Exit::Timeout);
    let mut saved = save_once(worktree, wanted);
    if was_cut(&saved) {
        saved = save_once(&worktree.patiently(FILTERS), wanted);
    }
    if was_cut(&saved) {
        saved = save_once(&unfiltered(&worktree.steadfast())?, wanted);
    }
    saved
}

/// The same without filters, line endings and whatever else attributes say.
fn unfiltered<'a>(tree: &Worktree<'a>) -> Result<Worktree<'a>> {
    let git = tree.git();
    let empty =
        git.must("make an empty tree", &["hash-object", "-w", "-t", "tree", "/dev/null"])?;
    let raw = tree
        .env("GIT_ATTR_SOURCE", empty.text().trim())
        .with("core.autocrlf=false")
        .with("core.safecrlf=false");
    // Attributes may also stand where no tree is asked: a filter without a command changes nothing.
    let names = git.run(&["config", "--name-only", "-z", "--get-regexp", "^filter\\..*"])?;
    let set = Git::names(&names).into_iter().map(|name| match name.rsplit_once('.') {
        Some((_, "required")) => format!("{name}=false"),
        _ => format!("{name}="),
    });
    Ok(set.fold(raw, |raw, setting| raw.with(&setting)))
}

fn save_once(worktree: &Worktree<'_>, wanted: &Wanted) -> Result<Saved> {
    let index = index_of(worktree.git())?;
    if RealFs.exists(&index) || worktree.git().commit("HEAD")?.is_none() {
        return save_as_indexed(worktree, wanted, false);
    }
    // Whoever made it died before it was checked out, or an attempt has removed the index: against an
    // empty index every file would count as deleted.
    let made = copy_name(&index);
    let own = worktree.env("GIT_INDEX_FILE", made.as_os_str());
    let read = own.git().must("read what a worktree should have", &["read-tree", "HEAD"]);
    let saved = read.and_then(|_| save_as_indexed(&own, wanted, true));
    drop(RealFs.unlink(&made));
    drop(RealFs.unlink(&with_lock(&made)));
    saved
}

/// `partial`: files may never have been checked out, so that one which is missing is nobody's work.
fn save_as_indexed(worktree: &Worktree<'_>, wanted: &Wanted, partial: bool) -> Result<Saved> {
    let git = worktree.git();
    reveal(worktree)?;
    let mut apart = wanted.apart.clone();
    let mounted = disk::mounted(git);
    apart.given.extend(mounted.iter().cloned());
    let unseen = disk::look(worktree, &apart)?;
    let mut all = status(git, false)?;
    if partial {
        all.retain(|c| RealFs.stat(&worktree.top().join(&c.path)).is_ok());
    }
    let ours: Vec<&Change> = all.iter().filter(|c| !apart.has(c)).collect();
    let mut saved = Saved {
        unsaved: unsaved(git, &ours, &wanted.base)?,
        conflicts: ours.iter().any(|c| c.mark == Mark::Unmerged),
        ..Saved::default()
    };
    saved.unsaved.extend(mounted.iter().map(|at| format!("what is mounted at {at}")));
    let nested = |c: &&&Change| c.is_nested();
    let told: Vec<String> =
        ours.iter().filter(nested).map(|c| c.path.trim_end_matches('/').to_owned()).collect();
    for path in &unseen.repositories {
        // Of one that git itself takes for a repository it was said above.
        if !told.iter().any(|outer| path == outer || path.starts_with(&format!("{outer}/"))) {
            saved.unsaved.push(format!("{path}/.git, which git passes over here"));
        }
    }
    saved.unsaved.extend(unseen.others);
    apart.given.extend(told);
    saved.uncommitted = ours.iter().filter(|c| !c.is_nested()).map(|c| c.path.clone()).collect();
    let head = git.commit("HEAD")?;
    saved.strayed = match &head {
        Some(head) => !is_kept(git, head, wanted)?,
        None => false,
    };
    if saved.uncommitted.is_empty() && !saved.strayed {
        keep_refs(git, &wanted.name, &mut saved)?;
        return Ok(saved);
    }
    let clean = saved.uncommitted.is_empty();
    let tree = tree_of(worktree, &apart, (clean, partial), &mut saved.unsaved)?;
    // Without a HEAD (a branch without commits) the base is what it began with, if that is known.
    let parent = head.unwrap_or_else(|| wanted.base.clone());
    let same = !parent.is_empty()
        && git.resolve(&format!("{parent}^{{tree}}"))?.as_deref() == Some(tree.as_str());
    if same && !saved.strayed {
        // Only times or modes that git does not keep.
        saved.uncommitted.clear();
        keep_refs(git, &wanted.name, &mut saved)?;
        return Ok(saved);
    }
    let what = "commit what an attempt left";
    let mut args = vec!["commit-tree", "--no-gpg-sign", "-F", "-", &tree];
    if !parent.is_empty() {
        args.extend(["-p", &parent]);
    }
    let output = git.feed(&args, wanted.message.clone().into_bytes())?;
    if !output.ok() {
        return Err(git.failed(what, &output));
    }
    let commit = output.text().trim().to_owned();
    saved.name = publish(git, &wanted.name, &commit, &tree, &parent)?;
    keep_refs(git, &wanted.name, &mut saved)?;
    Ok(saved)
}

/// Gives the commits of refs that only this worktree has, which go before it is used again, others.
fn keep_refs(git: &Git<'_>, name: &str, saved: &mut Saved) -> Result<()> {
    for (own, id) in private::refs(git)? {
        if git.commit(&id)?.is_none() {
            saved.unsaved.push(format!("the ref {own}, which names no commit"));
            continue;
        }
        let kept = keep(git, name, &id)?;
        saved.strayed |= !kept.is_empty();
        if saved.name.is_empty() {
            saved.name = kept;
        }
    }
    Ok(())
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
    has_ref(git, head)
}

/// Whether a commit is in a ref that stays when the worktree goes: not one of the worktree's own.
pub fn has_ref(git: &Git<'_>, commit: &str) -> Result<bool> {
    const OWN: [&str; 3] = ["refs/bisect/", "refs/worktree/", "refs/rewritten/"];
    let args = ["for-each-ref", "--contains", commit, "--format=%(refname)"];
    let found = git.must("look for a ref", &args)?.text();
    Ok(found.lines().any(|name| !OWN.iter().any(|own| name.starts_with(own))))
}

/// Gives a commit that is in no ref one of its own: what is left of a worktree whose directory is
/// gone. The ref; empty if it needs none.
pub fn keep(git: &Git<'_>, name: &str, commit: &str) -> Result<String> {
    if git.commit(commit)?.is_none() || has_ref(git, commit)? {
        return Ok(String::new());
    }
    let part = |what: &str| git.resolve(&format!("{commit}{what}")).map(Option::unwrap_or_default);
    publish(git, name, commit, &part("^{tree}")?, &part("^1")?)
}

/// The tree of everything in a worktree but what is `apart`, committed or not.
pub fn tree(worktree: &Worktree<'_>, apart: &Apart) -> Result<String> {
    let nested = status(worktree.git(), false)?.into_iter().filter(Change::is_nested);
    let mut apart = apart.clone();
    apart.given.extend(nested.map(|c| c.path.trim_end_matches('/').to_owned()));
    tree_of(worktree, &apart, (false, false), &mut Vec::new())
}

/// The tree of everything in the worktree, made with a copy of the index.
fn tree_of(
    worktree: &Worktree<'_>,
    apart: &Apart,
    (clean, partial): (bool, bool),
    unsaved: &mut Vec<String>,
) -> Result<String> {
    let git = worktree.git();
    let what = "save what an attempt left";
    if clean && let Some(tree) = git.resolve("HEAD^{tree}")? {
        return Ok(tree);
    }
    let index = index_of(git)?;
    let copy = copy_name(&index);
    let made = with_index(worktree, (&index, &copy), apart, partial, unsaved);
    drop(RealFs.unlink(&copy));
    drop(RealFs.unlink(&with_lock(&copy)));
    let output = made?;
    if output.ok() { Ok(output.text().trim().to_owned()) } else { Err(git.failed(what, &output)) }
}

fn copy_name(index: &Path) -> PathBuf {
    index.with_file_name(format!("coord-index-{:016x}", RealClock.random()))
}

fn with_lock(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.lock", name_of(path)))
}

fn with_index(
    worktree: &Worktree<'_>,
    (index, copy): (&Path, &Path),
    apart: &Apart,
    partial: bool,
    unsaved: &mut Vec<String>,
) -> Result<crate::sys::tool::Output> {
    if RealFs.exists(index) {
        tree::copy_file(index, copy).cannot("copy the index", index)?;
    }
    let own = worktree.env("GIT_INDEX_FILE", copy.as_os_str());
    let more: &[&str] = if partial { &["--ignore-removal"] } else { &[] };
    if add_all(&own, apart, more)?.ok() {
        let written = own.git().run(&["write-tree"])?;
        if written.ok() {
            return Ok(written);
        }
        // Somebody has pruned what was staged, and the files look as they did then.
        connect::rehash(own.git())?;
        return own.git().run(&["write-tree"]);
    }
    // A filter that fails (large files without their server), or line endings that git refuses to
    // change: as they are, then. Writing the index reads files again that are as young as it is, so
    // that goes without filters too.
    let raw = unfiltered(&own)?;
    let added = add_all(&raw, apart, more)?;
    if !added.ok() {
        let said = added.stderr.lines().next().unwrap_or_default().to_owned();
        add_all(&raw, apart, &[more, &["--ignore-errors"]].concat())?;
        unsaved.push(format!("what git cannot read: {said}"));
    }
    raw.git().run(&["write-tree"])
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
        // The same was saved before, by whoever died after that.
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
    let since = if git.commit(base)?.is_some() { base } else { "HEAD" };
    if git.commit(since)?.is_none() {
        // A branch without commits, and nobody knows what was there before.
        return Ok(reasons);
    }
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
        let began = meta.starts_with(":160000");
        if !began && RealFs.stat(&dir.join(".git")).is_ok_and(|stat| stat.kind == Kind::Dir) {
            // With all of it here, and not in the repository as a submodule is.
            reasons.push(format!("the repository {path}, which is not part of this one"));
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
