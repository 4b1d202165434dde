//! A task's scope, checked against what its attempt has changed.

use std::path::Path;

use crate::config::Outside;
use crate::plan::scope::{covers, outside};
use crate::queue::claim::Lease;
use crate::queue::learned;

use super::site::Site;
use super::worktree::Work;

/// Paths that a refusal names.
const NAMED: usize = 10;

/// What an attempt changed outside of its scope, as a sentence; `None` if nothing, or if the task has
/// no scope. Paths of `[scopes] shared` belong to everybody.
pub fn fault(site: &Site, lease: &Lease, work: &Work) -> Option<String> {
    let scopes = &lease.spec.scope;
    let repo = site.repo.usable().filter(|_| !scopes.is_empty())?;
    let changed: Vec<String> =
        work.changed.iter().map(|path| from_project(&repo.below, path)).collect();
    let shared = |path: &&String| site.config.scopes.shared.iter().any(|s| covers(s, path));
    let beyond: Vec<&String> =
        outside(scopes, &changed).into_iter().filter(|path| !shared(path)).collect();
    if beyond.is_empty() {
        return None;
    }
    let named: Vec<&str> = beyond.iter().take(NAMED).map(|path| path.as_str()).collect();
    let more = if beyond.len() > NAMED { ", …" } else { "" };
    Some(format!(
        "changed {} outside of its scope ({}): {}{more}",
        if beyond.len() == 1 { "a path".to_owned() } else { format!("{} paths", beyond.len()) },
        scopes.join(", "),
        named.join(", ")
    ))
}

/// What others may learn from a change: its paths as scopes have them, without those that belong to
/// everybody, and folded to directories where there are many.
pub fn learnable(site: &Site, paths: &[String]) -> Vec<String> {
    let shared = |path: &String| site.config.scopes.shared.iter().any(|s| covers(s, path));
    let own: Vec<String> = paths.iter().filter(|path| !shared(path)).cloned().collect();
    learned::with(&own, &[])
}

/// A path as scopes have it: they count from the project, git counts from the top of the repository.
pub fn from_project(below: &Path, path: &str) -> String {
    let below = below.to_string_lossy();
    match path.strip_prefix(&*below) {
        Some(rest) if below.is_empty() => rest.to_owned(),
        Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/').to_owned(),
        _ => format!("../{path}"),
    }
}

/// Whether such a change is only told.
pub fn only_warns(site: &Site) -> bool {
    site.config.scopes.outside == Outside::Warn
}
