//! Repositories of submodules that git keeps in a worktree's own part of the repository.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::sys::fs::{Fs, RealFs};
use crate::sys::tree::{What, discard, walk};

use super::Git;
use super::confirmed::Worktree;

/// Removes those of submodules that an attempt has added and its base does not have: git would refuse to
/// add one of the same name again. `Some`: one that cannot go, since it has commits that are nowhere else.
/// The worktree is at its base.
pub fn clear(tree: &Worktree<'_>) -> Result<Option<String>> {
    let (git, own) = (tree.git(), tree.own());
    let all = own.join("modules");
    if !RealFs.exists(&all) {
        return Ok(None);
    }
    let args = ["config", "-z", "--file", ".gitmodules", "--name-only", "--get-regexp", "\\.path$"];
    // There may be no such file.
    let named = Git::names(&git.run(&args)?);
    let named: Vec<PathBuf> = named
        .iter()
        .filter_map(|key| key.strip_prefix("submodule.")?.strip_suffix(".path"))
        .map(|name| all.join(name))
        .collect();
    for module in found(&all) {
        if named.iter().any(|known| module.starts_with(known)) {
            continue;
        }
        // By its directory. Its worktree, which its settings name, is gone.
        let at = git.at(&module).env("GIT_DIR", module.as_os_str());
        let at = at.env("GIT_WORK_TREE", module.as_os_str());
        let args = ["rev-list", "--max-count=1", "--all", "HEAD", "--not", "--remotes", "--tags"];
        let output = at.run(&args)?;
        if !output.ok() || !output.stdout.is_empty() {
            let name = module.strip_prefix(&all).unwrap_or(&module).display();
            return Ok(Some(format!(
                "it holds commits of the submodule {name} that are nowhere else"
            )));
        }
        if let Err(e) = discard(&module, &own.join("coord-gone")) {
            tracing::warn!("cannot remove the repository of a submodule: {e}");
        }
    }
    Ok(None)
}

/// The repositories below a directory; names of submodules may have slashes.
fn found(all: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(all, &mut |place| {
        let is_one = place.what == What::Dir && RealFs.exists(&place.access.join("HEAD"));
        if is_one {
            found.push(all.join(place.relative));
        }
        !is_one
    });
    found
}
