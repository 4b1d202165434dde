//! What an attempt finds in its worktree of the attempt that came back from its merge: with
//! `[merge] on_bounce = "resolve"` its change, applied to the branch as it is now, so that what is left
//! to do is the conflict, or what the check complains of.

use serde::{Deserialize, Serialize};

use crate::config::{CommitBy, OnBounce};
use crate::error::Result;
use crate::git::Git;
use crate::git::candidate::Change;
use crate::git::confirmed::Worktree;
use crate::git::reapply::{self, Applied};
use crate::queue::claim::Lease;
use crate::queue::ids::short;
use crate::queue::record::{Spec, StageVerdict};
use crate::queue::tasks;

use super::pool::Slot;
use super::site::Site;
use super::slot::Workshop;
use super::worktree::Workplace;

/// Paths that a refusal names.
const NAMED: usize = 5;

/// The change of an earlier attempt, in the worktree of this one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reapplied {
    /// The number of the attempt.
    pub attempt: u32,
    /// What it had ended with.
    pub commit: String,
    /// The paths, from the top of the worktree, that are in conflict and marked there. Where there are
    /// none the change is committed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// Why it could not be applied: then nothing of it is there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub refused: String,
}

impl Reapplied {
    /// What the next attempt must know, in a few sentences.
    pub fn words(&self) -> String {
        let n = self.attempt;
        if !self.refused.is_empty() {
            return format!(
                "the change of attempt {n} could not be applied here: {}",
                self.refused
            );
        }
        if self.conflicts.is_empty() {
            return format!(
                "the change of attempt {n} is applied to the branch as it is now, and committed: what \
                 is left to do is why it came back"
            );
        }
        format!(
            "the change of attempt {n} is applied to the branch as it is now, uncommitted. It conflicts \
             in {}, where both sides are marked. What is left to do is to resolve that, to git add it, \
             and to commit",
            self.conflicts.join(", ")
        )
    }
}

/// Whether what came back of a task is applied to its next base. Who reads a prompt can see what is
/// there; a command that makes its change from nothing would make it twice.
fn is_wanted(site: &Site, spec: &Spec) -> bool {
    match site.config.merge.on_bounce {
        Some(way) => way == OnBounce::Resolve,
        None => spec.argv.is_empty() && spec.sh.is_empty(),
    }
}

/// The change of the last attempt that came back.
fn came_back(site: &Site, lease: &Lease) -> Result<Option<Change>> {
    let task = &lease.task;
    for n in task.names.merges.iter().rev().copied() {
        let stage = tasks::merge_of(&site.queue, task, n)?;
        if stage.is_none_or(|stage| stage.verdict == StageVerdict::Pass) {
            continue;
        }
        let end = tasks::end_of(&site.queue, task, n)?;
        return Ok((!end.result.commit.is_empty()).then(|| Change {
            id: task.id.clone(),
            n,
            title: lease.spec.title.clone(),
            base: end.result.base,
            commit: end.result.commit,
            worker: short(&end.holder).to_owned(),
        }));
    }
    Ok(None)
}

/// Applies what came back to a slot that was just given to an attempt, at its base and on its branch.
pub fn apply(
    shop: &Workshop<'_>,
    tree: &Worktree<'_>,
    slot: &Slot,
    lease: &Lease,
    base: &str,
) -> Result<Option<Reapplied>> {
    if !lease.spec.merge || !is_wanted(shop.site, &lease.spec) {
        return Ok(None);
    }
    let Some(change) = came_back(shop.site, lease)? else { return Ok(None) };
    let git = tree.git();
    if slot.record.clone && git.commit(&change.commit)?.is_none() {
        let source = shop.pool.repo.home().to_string_lossy().into_owned();
        // What does not come is missed below.
        git.again(&["fetch", "--quiet", "--no-tags", &source, &change.commit])?;
    }
    let mut made =
        Reapplied { attempt: change.n, commit: change.commit.clone(), ..Reapplied::default() };
    match reapply::apply(tree, base, &change)? {
        Applied::Committed => {}
        Applied::Conflicts(paths) => made.conflicts = paths,
        Applied::Nothing => return Ok(None),
        Applied::Impossible(why) => made.refused = why,
    }
    Ok(Some(made))
}

/// Before the worker commits for its command: conflicts that were edited away are resolved.
pub fn add_resolved(site: &Site, tree: &Worktree<'_>, place: &Workplace) -> Result<()> {
    match &place.reapplied {
        Some(of) if site.config.git.commit == CommitBy::Worker && !of.conflicts.is_empty() => {
            reapply::add_resolved(tree, [&place.base, &of.commit], &of.conflicts)
        }
        _ => Ok(()),
    }
}

/// Why a done attempt is not done after all: it has committed a conflict that it had to resolve.
pub fn fault(git: &Git<'_>, place: &Workplace, commit: &str) -> Result<Option<String>> {
    let Some(of) = place.reapplied.as_ref().filter(|_| !commit.is_empty()) else { return Ok(None) };
    let left = reapply::marked(git, commit, [&place.base, &of.commit], &of.conflicts)?;
    if left.is_empty() {
        return Ok(None);
    }
    let named: Vec<&str> = left.iter().take(NAMED).map(String::as_str).collect();
    let more = if left.len() > NAMED { ", …" } else { "" };
    Ok(Some(format!("committed markers of a conflict in {}{more}", named.join(", "))))
}
