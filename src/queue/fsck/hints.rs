//! `ready/`, `delayed/`, `blocked/`, `waiters/`: hints must exist where they are needed (I7, I14),
//! and mean nothing where they do not.

use std::path::{Path, PathBuf};

use crate::error::Result;

use super::super::Queue;
use super::super::archive;
use super::super::ids::{Key, is_role};
use super::super::layout::due_of;
use super::super::tasks::{Phase, StageKind};
use super::facts::{Facts, Stands};
use super::{Severity, Survey};

/// Which of the three indices a hint stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Index {
    Ready,
    /// Due at this second since 1970.
    Delayed(u64),
    Blocked,
    Merging,
}

/// One entry of an index.
pub(super) struct Hint {
    pub index: Index,
    pub key: Key,
    pub path: PathBuf,
}

/// Hands over all hints. Names that are none are left to the walk.
pub(super) fn each(queue: &Queue, mut with: impl FnMut(Hint)) -> Result<()> {
    let mut take = |index: Index, dir: PathBuf| -> Result<()> {
        for entry in queue.list_reachable(&dir)? {
            if let Some(key) = Key::parse(&entry.name) {
                with(Hint { index, key, path: dir.join(&entry.name) });
            }
        }
        Ok(())
    };
    for role in names(queue, &queue.layout.ready())?.into_iter().filter(|name| is_role(name)) {
        let role = queue.layout.ready_role(&role);
        for level in names(queue, &role)? {
            let level = role.join(level);
            for bucket in names(queue, &level)? {
                take(Index::Ready, level.join(bucket))?;
            }
        }
    }
    for bucket in names(queue, &queue.layout.delayed())? {
        if let Some(due_s) = due_of(&bucket) {
            take(Index::Delayed(due_s), queue.layout.delayed().join(bucket))?;
        }
    }
    take(Index::Blocked, queue.layout.blocked())?;
    for lane in names(queue, &queue.layout.merging())? {
        take(Index::Merging, queue.layout.merging().join(lane))?;
    }
    Ok(())
}

/// The directories in a directory.
fn names(queue: &Queue, path: &Path) -> Result<Vec<String>> {
    let entries = queue.list_reachable(path)?;
    let dirs = entries.into_iter().filter(|e| e.kind == crate::sys::fs::Kind::Dir);
    Ok(dirs.map(|e| e.name).collect())
}

/// Why a hint is stale; `None` if it is right.
pub(super) fn stale(survey: &Survey<'_>, hint: &Hint) -> Option<String> {
    let key = &hint.key;
    if survey.closed.contains(&key.task) {
        return None;
    }
    let Some(facts) = survey.tasks.get(&key.task) else {
        return Some(format!("there is no task {}", key.task));
    };
    if hint.index == Index::Merging {
        let waits = facts.phase == Phase::Stage(key.n, StageKind::Merge);
        return (!waits).then(|| format!("{key} does not wait for its merge"));
    }
    if facts.phase != Phase::Pending(key.n) {
        return Some(format!("{key} is not pending any more"));
    }
    match (hint.index, facts.stands.as_ref()?) {
        (Index::Ready, Stands::Ready)
        | (Index::Blocked, Stands::Blocked)
        | (Index::Delayed(_), Stands::Delayed) => None,
        // Due, and not promoted yet.
        (Index::Delayed(due_s), Stands::Ready) => {
            let due = due_s.saturating_mul(1000) <= survey.queue.clock.wall_ms();
            (!due).then(|| format!("{key} is ready already"))
        }
        (_, other) => Some(format!("{key} is {}", other.word())),
    }
}

/// Compares hints and waiters with what the registers say.
pub(super) fn check(survey: &mut Survey<'_>) -> Result<()> {
    let queue = survey.queue;
    each(queue, |hint| {
        if let Some(why) = stale(survey, &hint) {
            let severity = survey.unless_remembered(&hint.key.task).max(Severity::Leftover);
            let help = "harmless: whoever comes by removes it (coord fsck --repair)";
            survey.add(severity, "stale", &hint.path, format!("stale hint: {why}"), help);
        }
        if let Some(facts) = survey.tasks.get_mut(&hint.key.task) {
            facts.hinted |= match facts.phase {
                Phase::Pending(n) => n == hint.key.n,
                Phase::Stage(n, StageKind::Merge) => {
                    n == hint.key.n && hint.index == Index::Merging
                }
                _ => false,
            };
        }
    })?;
    let lost: Vec<(String, String)> = survey
        .tasks
        .iter()
        .filter_map(|(id, facts)| Some((id.to_owned(), missing(id, facts)?)))
        .collect();
    for (id, what) in lost {
        let path = queue.layout.task(&id);
        let severity = survey.unless_remembered(&id).max(unverified(queue, &path));
        survey.add(severity, "I7", &path, what, "coord fsck --repair puts the hint back");
    }
    unserved(survey);
    waiters(survey)
}

/// I7: what could run must be found by somebody. What is missing, if something is.
fn missing(id: &str, facts: &Facts) -> Option<String> {
    if facts.hinted {
        return None;
    }
    if let Phase::Stage(n, StageKind::Merge) = facts.phase {
        let key = Key::new(id, n);
        return Some(format!("{key} waits for its merge, but no lane knows of it"));
    }
    let (Phase::Pending(n), Some(stands)) = (&facts.phase, &facts.stands) else {
        return None;
    };
    let key = Key::new(id, *n);
    match stands {
        Stands::Held | Stands::Manual => None,
        Stands::CancelDue(why) => Some(format!("{key} must be ended as cancelled ({why})")),
        other => Some(format!("{key} is {}, but no hint leads to it", other.word())),
    }
}

/// Hints are not durable: what was made before this boot counts only after the sweep of this boot.
fn unverified(queue: &Queue, task: &Path) -> Severity {
    // Every register adds a name, which changes the directory.
    let newest_ms = queue.fs.stat(task).map_or(0, |stat| stat.mtime_ns / 1_000_000);
    let place = queue.host.place();
    let swept = queue.fs.stat(&queue.layout.boot_mark(&place.host_id, &place.boot)).is_ok();
    if !swept && newest_ms < queue.host.booted_at_ms() {
        Severity::Leftover
    } else {
        Severity::Error
    }
}

/// I14: a blocked task is known to everything that it waits for.
fn unserved(survey: &mut Survey<'_>) {
    let queue = survey.queue;
    for (id, on) in std::mem::take(&mut survey.unknown_to) {
        let path = queue.layout.waiters(&on).join(&id);
        if queue.fs.exists(&path) {
            continue;
        }
        let severity =
            survey.unless_remembered(&id).max(unverified(queue, &queue.layout.task(&id)));
        let what = format!("{id} waits for {on}, which does not know of it");
        survey.add(severity, "I14", &path, what, "coord fsck --repair puts the link back");
    }
}

/// Waiters that do not exist. One that a finished task keeps is in order: who was still blocked by
/// something else when it was served stays listed until the next sweep.
fn waiters(survey: &mut Survey<'_>) -> Result<()> {
    let queue = survey.queue;
    for on in names(queue, &queue.layout.at("waiters"))? {
        let dir = queue.layout.waiters(&on);
        for entry in queue.list_reachable(&dir)? {
            let path = dir.join(&entry.name);
            let known =
                survey.tasks.get(&entry.name).is_some() || survey.closed.contains(&entry.name);
            if !known && !archive::holds(queue, &entry.name) {
                let severity = survey.unless_remembered(&entry.name).max(Severity::Leftover);
                let what = format!("there is no task {}", entry.name);
                survey.add(severity, "stale", &path, what, "harmless: it may be removed");
            }
        }
    }
    Ok(())
}
