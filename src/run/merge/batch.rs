//! Building what would be merged: the tip, and on it one change after the other.

use std::collections::BTreeSet;

use crate::config::MergeBy;
use crate::error::Result;
use crate::git::candidate::{self, Change, Put};
use crate::git::connect;
use crate::plan::scope::covers;
use crate::queue::evaluate::dependency;
use crate::queue::ids::{Key, short};
use crate::queue::lane::Entry;
use crate::queue::learned;
use crate::queue::record::Verdict;
use crate::queue::tasks::{self, Phase};

use super::super::scope::{from_project, learnable};
use super::Merger;

/// An attempt that is in a candidate, and the commit that brings it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) key: Key,
    pub(super) commit: String,
}

/// A candidate, and what could not be put into it.
#[derive(Debug, Default)]
pub(super) struct Built {
    /// The commit that the branch would be moved to.
    pub(super) tip: String,
    pub(super) parts: Vec<Part>,
    /// Those that change nothing, and why.
    pub(super) empty: Vec<(Key, String)>,
    /// Those that come back: why, and what the next attempt must know.
    pub(super) bad: Vec<(Entry, String, String)>,
}

/// The change of an attempt.
pub(super) fn change(entry: &Entry) -> Change {
    let result = &entry.end.result;
    Change {
        id: entry.key.task.clone(),
        n: entry.key.n,
        title: entry.spec.title.clone(),
        base: result.base.clone(),
        commit: result.commit.clone(),
        worker: short(&entry.end.holder).to_owned(),
    }
}

impl Merger<'_> {
    /// Puts these on the tip, in their order. One that conflicts with others of the batch only is left
    /// for the next one.
    pub(super) fn build(&self, tip: &str, entries: &[Entry]) -> Result<Built> {
        let mut built = Built { tip: tip.to_owned(), ..Built::default() };
        let mut shared: BTreeSet<String> = BTreeSet::new();
        for entry in entries {
            if let Some((why, context)) = self.refusal(entry)? {
                built.bad.push((entry.clone(), why, context));
                continue;
            }
            if entry.end.result.commit.is_empty() {
                built.empty.push((entry.key.clone(), "the attempt left no commit".to_owned()));
                continue;
            }
            let change = change(entry);
            if !self.is_there(&change)? {
                let why = format!("its commit {} is not in the repository", change.commit);
                built.bad.push((entry.clone(), why, String::new()));
                continue;
            }
            if let Some(said) = connect::missing(&self.git, &change.commit, &change.base)? {
                let why = format!("its commits are not whole: git says: {said}");
                built.bad.push((entry.clone(), why, String::new()));
                continue;
            }
            let touched = self.touched(&change)?;
            if !touched.is_disjoint(&shared) {
                continue;
            }
            let put =
                candidate::put(&self.git, self.strategy(), &built.tip, &change, &self.committer())?;
            match put {
                Put::Made { commit, .. } => {
                    built.tip.clone_from(&commit);
                    built.parts.push(Part { key: entry.key.clone(), commit });
                    shared.extend(touched);
                }
                Put::Nothing if built.parts.is_empty() => {
                    let why = format!("it changes nothing on {}", self.target.branch);
                    built.empty.push((entry.key.clone(), why));
                }
                // In by way of the others, and so only together with them.
                Put::Nothing => {
                    built.parts.push(Part { key: entry.key.clone(), commit: built.tip.clone() });
                }
                Put::Conflict { paths, text } if built.parts.is_empty() => {
                    let on = &self.target.branch;
                    let why = format!("conflicts with {on} in {}", paths.join(", "));
                    built.bad.push((entry.clone(), why, text));
                }
                Put::Conflict { .. } => {}
            }
        }
        if built.parts.len() > 1 && self.site.config.merge.strategy == MergeBy::Merge {
            // Only what was checked is a first parent: the whole batch is one commit of the branch.
            let ids: Vec<&str> = built.parts.iter().map(|p| p.key.task.as_str()).collect();
            let title = format!("Merge {} tasks: {}", ids.len(), ids.join(", "));
            built.tip = candidate::wrap(&self.git, tip, &built.tip, &title, &self.committer())?;
        }
        Ok(built)
    }

    fn is_there(&self, change: &Change) -> Result<bool> {
        let there = |commit: &str| self.git.commit(commit).map(|found| found.is_some());
        Ok(there(&change.commit)? && (change.base.is_empty() || there(&change.base)?))
    }

    /// The paths that a change touches, from the project.
    fn paths(&self, change: &Change) -> Result<Vec<String>> {
        let paths = candidate::changed_paths(&self.git, &change.base, &change.commit)?;
        let below = &self.pool.repo.below;
        Ok(paths.iter().map(|path| from_project(below, path)).collect())
    }

    /// What the next attempt of a task that comes back holds as its scope: what this one has changed,
    /// and those that came back before it.
    pub(super) fn learned(&self, entry: &Entry) -> Result<Vec<String>> {
        let change = change(entry);
        let mut changed = entry.end.result.changed.clone();
        // Its end was written by a program that does not say what it changed.
        if changed.is_empty() && !change.base.is_empty() && self.is_there(&change)? {
            changed = learnable(self.site, &self.paths(&change)?);
        }
        Ok(learned::with(&entry.learned.scope, &changed))
    }

    /// The shared paths that a change touches.
    fn touched(&self, change: &Change) -> Result<BTreeSet<String>> {
        let shared = &self.site.config.scopes.shared;
        if shared.is_empty() || change.base.is_empty() {
            return Ok(BTreeSet::new());
        }
        let paths = self.paths(change)?;
        let is_touched = |on: &&String| paths.iter().any(|path| covers(on, path));
        Ok(shared.iter().filter(is_touched).cloned().collect())
    }

    /// Why an attempt cannot be merged at all: it was built on an attempt that came back itself.
    fn refusal(&self, entry: &Entry) -> Result<Option<(String, String)>> {
        let commit = &entry.end.result.commit;
        for (on, pass) in entry.spec.after.iter().map(|on| dependency(on)) {
            if !pass || commit.is_empty() {
                continue;
            }
            let Some(other) = tasks::look(&self.site.queue, on)? else { continue };
            let Phase::Done(n) = other.phase else {
                let why = format!("it was built on {on}, which was never merged");
                return Ok(Some((why, String::new())));
            };
            let theirs = tasks::end_of(&self.site.queue, &other, n)?.result.commit;
            // What of theirs it has: an earlier attempt's commits, which came back, are not those.
            for (k, end) in tasks::ends(&self.site.queue, &other)? {
                let old = &end.result.commit;
                let stale =
                    k != n && end.verdict == Verdict::Done && !old.is_empty() && *old != theirs;
                if stale
                    && self.git.is_ancestor(old, commit)?
                    && !self.git.is_ancestor(old, &theirs)?
                {
                    let why = format!("it was built on attempt {k} of {on}, which came back");
                    return Ok(Some((why, String::new())));
                }
            }
        }
        Ok(None)
    }
}
