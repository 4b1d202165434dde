//! A linked worktree's own part of the repository, `.git/worktrees/NAME`: what of it belongs to the
//! worktree, and what somebody left there.
//!
//! git keeps much in it that speaks of one piece of work only: settings (`git config --worktree`, a
//! sparse checkout), a merge or rebase that was begun, refs of the worktree alone, locks of a git that was
//! killed. Nothing there is cleaned with the files. So everything goes that a new worktree would not
//! have, whatever its name, rather than what is known to be left: git learns new names with each release.

use std::path::{Path, PathBuf};

use crate::error::{Cannot, Result};
use crate::sys::fs::{Fs, Kind, RealFs, is_absent};
use crate::sys::tree::{copy_file, copy_tree, discard};

use super::Git;
use super::confirmed::Worktree;

/// What makes a worktree one, and what git writes there by itself. `modules` are repositories of
/// submodules, `logs` say where HEAD was before: both may have commits that nothing else has.
const LASTING: [&str; 9] =
    ["HEAD", "commondir", "gitdir", "index", "locked", "logs", "refs", "reftable", "modules"];

/// In a clone: where the beginnings of these are kept.
const PRISTINE: &str = "coord-pristine";
const RESTORED: [&str; 3] = ["config", "hooks", "info"];

/// The refs that each worktree has for itself.
const REFS: [&str; 3] = ["refs/bisect", "refs/worktree", "refs/rewritten"];

/// The same of a worktree that nothing is changed in; `None` if `git` runs in no repository.
fn directory(git: &Git<'_>) -> Result<Option<PathBuf>> {
    use std::os::unix::ffi::OsStrExt;
    let output = git.run(&["rev-parse", "--absolute-git-dir"])?;
    let path = output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout);
    Ok(output.ok().then(|| PathBuf::from(std::ffi::OsStr::from_bytes(path))))
}

/// Whether it is only a part: that of a main worktree is the whole repository.
fn is_linked(tree: &Worktree<'_>) -> bool {
    RealFs.exists(&tree.own().join("commondir"))
}

/// The refs that only this worktree has, with their commits.
pub fn refs(git: &Git<'_>) -> Result<Vec<(String, String)>> {
    let args = [&["for-each-ref", "--format=%(objectname) %(refname)"][..], &REFS].concat();
    let text = git.must("list the refs of a worktree", &args)?.text();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(id, name)| (name.to_owned(), id.to_owned())).collect())
}

/// Removes what work left there. Commits of its refs were saved before. Only for the owner of a worktree
/// in which no process is left.
pub fn sweep(tree: &Worktree<'_>) -> Result<()> {
    let what = "clear a worktree's part of the repository";
    let (git, own) = (tree.git(), tree.own());
    if !is_linked(tree) {
        return sweep_clone(own).cannot(what, own);
    }
    for entry in RealFs.list(own).cannot(what, own)? {
        let name = entry.name.as_str();
        // A split index has parts beside it.
        let lasts = LASTING.contains(&name) || name.starts_with("sharedindex.") || name == "info";
        if !lasts {
            remove(own, &own.join(name), entry.kind).cannot(what, &own.join(name))?;
        }
    }
    let info = own.join("info");
    for entry in RealFs.list(&info).unwrap_or_default() {
        if entry.name != "sparse-checkout" {
            remove(own, &info.join(&entry.name), entry.kind).cannot(what, &info)?;
        }
    }
    // After the locks, which would be in the way.
    for (name, id) in refs(git)? {
        git.again(&["update-ref", "-d", &name, &id])?;
    }
    Ok(())
}

/// In a clone the same lies among what is the repository's, so only known names go.
fn sweep_clone(own: &Path) -> std::io::Result<()> {
    let begun = |name: &str| {
        name.ends_with(".lock")
            || name.ends_with("_HEAD")
            || ["MERGE_", "BISECT_", "SQUASH_", "AUTO_", "rebase-", "coord-index-"]
                .iter()
                .any(|start| name.starts_with(start))
            || ["sequencer", "config.worktree", "COMMIT_EDITMSG"].contains(&name)
    };
    for entry in RealFs.list(own)?.iter().filter(|entry| begun(&entry.name)) {
        remove(own, &own.join(&entry.name), entry.kind)?;
    }
    Ok(())
}

/// Notes in a clone that was just made what it is like, for [`settle`].
pub fn remember(own: &Path) -> std::io::Result<()> {
    RealFs.mkdir(&own.join(PRISTINE))?;
    for name in RESTORED.iter().filter(|name| RealFs.exists(&own.join(name))) {
        copy_tree(&own.join(name), &own.join(PRISTINE).join(name))?;
    }
    Ok(())
}

/// Gives a clone the configuration, hooks and lists again that it was made with.
fn restore(own: &Path) -> std::io::Result<()> {
    for name in RESTORED {
        let (from, to) = (own.join(PRISTINE).join(name), own.join(name));
        discard(&to, &own.join("coord-gone"))?;
        if RealFs.exists(&from) {
            copy_tree(&from, &to)?;
        }
    }
    Ok(())
}

fn remove(own: &Path, path: &Path, kind: Kind) -> std::io::Result<()> {
    // The place for what is thrown away is itself something that would go.
    if kind == Kind::Dir { discard(path, &own.join("coord-gone")) } else { RealFs.unlink(path) }
}

/// Gives a worktree the settings that `project`, git in the worktree of the project, has for itself: those
/// that `git worktree add` gives to a new one, which also makes it as sparse. An attempt may have
/// changed its own, a person the project's. A clone gets those that it was made with.
pub fn settle(tree: &Worktree<'_>, project: &Git<'_>) -> Result<()> {
    let (git, own) = (tree.git(), tree.own());
    if !is_linked(tree) {
        let known = RealFs.exists(&own.join(PRISTINE));
        return if known {
            restore(own).cannot("restore the settings of a clone", own)
        } else {
            Ok(())
        };
    }
    let Some(theirs) = directory(project)? else { return Ok(()) };
    let apart = git.ask(&["config", "--type=bool", "extensions.worktreeConfig"])?;
    let mut changed = false;
    for name in ["config.worktree", "info/sparse-checkout"] {
        let (from, to) = (theirs.join(name), own.join(name));
        let wanted = match name {
            "config.worktree" if apart.as_deref() != Some("true") => None,
            "config.worktree" => settings(project, &from, &to)?,
            _ => content(&from)?,
        };
        if content(&to)? == wanted {
            continue;
        }
        changed = true;
        let what = "give a worktree the settings of the project";
        match wanted {
            Some(bytes) => {
                if let Some(parent) = to.parent() {
                    crate::sys::fs::mkdir_all(&RealFs, parent).cannot(what, parent)?;
                }
                gone(&to).cannot(what, &to)?;
                RealFs.create(&to, &bytes, 0o644).cannot(what, &to)?;
            }
            None => gone(&to).cannot(what, &to)?,
        }
    }
    if changed {
        // Which files a sparse checkout leaves out stands in the index, entry by entry.
        gone(&own.join("index")).cannot("have a new index made", own)?;
    }
    Ok(())
}

/// The project's own settings, without those that speak of its place.
fn settings(git: &Git<'_>, from: &Path, to: &Path) -> Result<Option<Vec<u8>>> {
    if content(from)?.is_none() {
        return Ok(None);
    }
    let draft = to.with_file_name("coord-settings");
    copy_file(from, &draft).cannot("copy settings", from)?;
    let file = draft.to_string_lossy().into_owned();
    for name in ["core.bare", "core.worktree"] {
        // 5: there was none.
        git.run(&["config", "--file", &file, "--unset-all", name])?;
    }
    let made = content(&draft);
    drop(RealFs.unlink(&draft));
    Ok(made?.filter(|bytes| !bytes.trim_ascii().is_empty()))
}

/// A file's bytes; `None` where there is none.
fn content(path: &Path) -> Result<Option<Vec<u8>>> {
    match RealFs.read(path, 0, 1 << 24) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(e).cannot("read", path),
    }
}

fn gone(path: &Path) -> std::io::Result<()> {
    match RealFs.unlink(path) {
        Err(e) if is_absent(&e) => Ok(()),
        other => other,
    }
}
