//! What an attempt has committed that must not go on from its branch, though git takes it.

use crate::error::Result;
use crate::git::Git;
use crate::git::status::is_below;

/// New on a branch: what was copied or linked into the worktree, and repositories that nobody could get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unwanted {
    /// Paths of `[worktree]` copy and link.
    pub given: Vec<String>,
    /// Repositories that are committed as a link to a commit, and that `.gitmodules` does not name.
    pub links: Vec<String>,
}

/// Compares the commit of an attempt with where it left the commit `base`. `given` are the paths of copies and links.
pub fn find(git: &Git<'_>, base: &str, commit: &str, given: &[String]) -> Result<Unwanted> {
    let mut found = Unwanted::default();
    if base.is_empty() || commit.is_empty() {
        return Ok(found);
    }
    let from = git.ask(&["merge-base", base, commit])?.unwrap_or_else(|| base.to_owned());
    let args = ["diff", "--raw", "-z", "--no-renames", &from, commit, "--"];
    let raw = git.must("compare an attempt with its base", &args)?;
    let names = Git::names(&raw);
    for pair in names.chunks(2) {
        let [meta, path] = pair else { continue };
        let mut modes = meta.trim_start_matches(':').split(' ');
        let (old, new) = (modes.next().unwrap_or_default(), modes.next().unwrap_or_default());
        if old == "000000" && is_below(path, given) {
            found.given.push(path.clone());
        }
        if new == "160000" && old != "160000" {
            found.links.push(path.clone());
        }
    }
    if !found.links.is_empty() {
        let named = modules(git, commit)?;
        found.links.retain(|path| !named.contains(path));
    }
    Ok(found)
}

/// The paths of the submodules that a commit names.
fn modules(git: &Git<'_>, commit: &str) -> Result<Vec<String>> {
    let blob = format!("{commit}:.gitmodules");
    let args = ["config", "-z", "--blob", &blob, "--get-regexp", "^submodule\\..*\\.path$"];
    // There may be no such file.
    let entries = Git::names(&git.run(&args)?);
    Ok(entries.iter().filter_map(|entry| Some(entry.split_once('\n')?.1.to_owned())).collect())
}

impl Unwanted {
    /// What is wrong, in words.
    pub fn words(&self) -> Option<String> {
        let mut words = Vec::new();
        if let Some(first) = self.given.first() {
            words.push(format!(
                "committed {first}, which [worktree] copy or link puts there (git rm --cached {first})"
            ));
        }
        if let Some(first) = self.links.first() {
            words.push(format!(
                "committed the repository {first} as a link that no .gitmodules explains \
                 (git submodule add, or git rm --cached {first})"
            ));
        }
        (!words.is_empty()).then(|| words.join("; "))
    }
}
