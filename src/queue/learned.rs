//! What a task has learned from attempts that came back from their merge: the paths that they changed.
//!
//! Whoever changes such a path at the same time is likely to send the task back once more. So it is a
//! part of the task's scope from then on, taken with the declared one (`scopes`), and what is done and
//! has changed such a path makes way: it waits in `merging/` until the attempt that holds the learned
//! scope is over (`lane`). Who has bounced longer ago goes first, so nobody waits in a circle. The
//! argument is in queue-layout.md, "After a bounce".

use std::cmp::Ordering;

use crate::error::Result;
use crate::plan::scope::{any_overlap, fold, overlap, union};
use crate::rule;
use crate::sys::clock::parse_rfc3339;

use super::Queue;
use super::ids::Key;
use super::lane;
use super::record::{Spec, StageVerdict};
use super::scopes::{self, Entry};
use super::tasks::{self, Task};

/// Paths that a learned scope has at most.
pub const LEARNED_MAX: usize = 64;

/// What the bounces of a task say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// What the attempts changed that came back.
    pub scope: Vec<String>,
    /// When the first one came back (RFC 3339); empty: none has, or nobody can read when.
    pub since: String,
}

/// Reads what a task has learned. Costs nothing where no attempt was merged or came back.
pub fn of(queue: &Queue, task: &Task) -> Result<Learned> {
    let mut learned = Learned::default();
    if !rule!("learned") {
        return Ok(learned);
    }
    for n in &task.names.merges {
        let Some(stage) = tasks::merge_of(queue, task, *n)? else { continue };
        if stage.verdict == StageVerdict::Pass {
            continue;
        }
        if learned.since.is_empty() {
            learned.since = stage.at;
        }
        learned.scope = with(&learned.scope, &stage.scope);
    }
    Ok(learned)
}

/// Both together, within the limit.
pub fn with(learned: &[String], further: &[String]) -> Vec<String> {
    fold(&union(learned, further), LEARNED_MAX)
}

/// What an attempt of the task holds while it runs: what was declared, and what was learned.
pub fn whole(spec: &Spec, learned: &Learned) -> Vec<String> {
    match learned.scope.is_empty() {
        true => spec.scope.clone(),
        false => union(&spec.scope, &learned.scope),
    }
}

/// Who has bounced longer ago, and so goes first; who never has comes last.
pub fn by_bounce(a: (&str, &str), b: (&str, &str)) -> Ordering {
    let key = |(since, id): (&str, &str)| {
        (parse_rfc3339(since).filter(|_| !since.is_empty()).unwrap_or(u64::MAX), id.to_owned())
    };
    key(a).cmp(&key(b))
}

/// An attempt that others make way for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// The attempt.
    pub key: Key,
    /// The lane that it is merged in.
    lane: String,
    learned: Vec<String>,
    since: String,
}

/// One that an attempt which is done makes way for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The attempt that goes first.
    pub key: Key,
    /// The paths in which the two meet.
    pub paths: Vec<String>,
}

/// The attempts that hold a learned scope and are claimed. Read once for everything that waits in a
/// lane.
///
/// Only claimed ones: a claim has an intent, so whatever becomes of it somebody settles the task, and
/// with it those who make way. A scope that was taken for a claim that never came is freed by nobody.
pub fn ahead(queue: &Queue) -> Result<Vec<Ahead>> {
    let mut found = Vec::new();
    for entry in scopes::entered(queue)? {
        let Entry { task, n, learned, since, .. } = &entry;
        if entry.wanting || learned.is_empty() || scopes::is_dead(queue, &entry)? {
            continue;
        }
        let Some(read) = tasks::look(queue, task)? else { continue };
        let Ok(spec) = &read.spec else { continue };
        if read.names.claims.contains(n) {
            let (learned, since) = (learned.clone(), since.clone());
            found.push(Ahead { key: Key::new(task, *n), lane: lane::of(spec), learned, since });
        }
    }
    Ok(found)
}

/// Those of `ahead` that an attempt of this task, which is done, makes way for.
pub fn makes_way(task: &Task, learned: &Learned, changed: &[String], ahead: &[Ahead]) -> Vec<Way> {
    let Ok(spec) = &task.spec else { return Vec::new() };
    let lane = lane::of(spec);
    let before = |other: &&Ahead| {
        let (mine, theirs) = ((&*learned.since, &*task.id), (&*other.since, &*other.key.task));
        other.key.task != task.id && by_bounce(theirs, mine).is_lt()
    };
    let meet = |other: &Ahead| {
        let hit = |path: &&String| other.learned.iter().any(|theirs| overlap(theirs, path));
        let paths: Vec<String> = changed.iter().filter(hit).cloned().collect();
        (!paths.is_empty()).then(|| Way { key: other.key.clone(), paths })
    };
    ahead.iter().filter(|other| other.lane == lane).filter(before).filter_map(meet).collect()
}

/// Whether a change meets what another task has learned: then it may have to make way for it.
pub fn meets(queue: &Queue, changed: &[String], on: &str) -> Result<bool> {
    if changed.is_empty() {
        return Ok(false);
    }
    let Some(other) = tasks::look(queue, on)? else { return Ok(false) };
    Ok(any_overlap(changed, &of(queue, &other)?.scope))
}
