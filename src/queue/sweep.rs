//! The sweep: rebuilds every hint from the registers, and finds claims that nobody remembers.
//!
//! Needed after a boot (hints are not durable), when somebody removed ready/, before single-worker
//! mode says that nothing is left, and by `coord fsck --repair`. Cost: one listing a task.

use std::collections::BTreeSet;

use crate::error::{Cannot, Result};
use crate::step;
use crate::sys::alive::EnvMark;

use super::Queue;
use super::procs::{self, Proc};
use super::record::Card;
use super::settle::{self, settle};
use super::tasks::{self, Phase};
use super::{layout, recover, retell};

/// What a sweep found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Attempts that run; claims by people and holds are not counted.
    pub running: usize,
    /// Tasks that have failed.
    pub failed: usize,
    /// Claims without an intent whose process is dead; they were ended.
    pub orphans: usize,
}

/// Makes the directories and bells that are missing. True: there were some; their hints are lost,
/// and somebody has to sweep (`restore` does both).
pub fn restore_directories(queue: &Queue) -> Result<bool> {
    let mut missing = false;
    for name in layout::DIRECTORIES {
        let path = queue.layout.at(name);
        if !queue.fs.exists(&path) {
            missing = true;
            crate::sys::fs::mkdir_all(&*queue.fs, &path).cannot("make a directory", &path)?;
        }
    }
    for bell in bells(queue) {
        if !queue.fs.exists(&bell) {
            missing = true;
            queue.fs.touch(&bell).cannot("make a bell", &bell)?;
        }
    }
    Ok(missing)
}

/// Makes what is missing, and rebuilds the hints that were lost with it. Whoever makes a directory
/// anew sweeps: the next one to look finds nothing missing.
pub fn restore(queue: &Queue, me: &mut Proc) -> Result<()> {
    if restore_directories(queue)? {
        sweep(queue, me)?;
    }
    Ok(())
}

/// The bells that always exist.
pub fn bells(queue: &Queue) -> [std::path::PathBuf; 4] {
    let l = &queue.layout;
    [l.ready_bell(), l.delayed_bell(), l.procs_bell(), l.events_bell()]
}

/// Looks at every task.
pub fn sweep(queue: &Queue, me: &mut Proc) -> Result<Swept> {
    restore_directories(queue)?;
    remove_unfinished(queue);
    let mut swept = Swept::default();
    // Claims that an intent names are the recovery pass's; read before the tasks, so that a claim
    // which is made meanwhile is not taken for an orphan: its process is alive anyway.
    let mut named = BTreeSet::new();
    for wid in procs::all(queue)? {
        named.extend(procs::claims(queue, &wid));
    }
    for id in tasks::ids(queue)? {
        let Some(task) = tasks::look(queue, &id)? else { continue };
        match task.phase {
            Phase::Pending(_) => {
                settle(queue, me, &id)?;
            }
            Phase::Claimed(n) => {
                let key = super::ids::Key::new(&id, n);
                let card = tasks::claimer(queue, &task, n);
                if !named.contains(&key) && card.as_ref().is_none_or(|c| is_orphan(queue, c)) {
                    if let Some(card) = &card
                        && !end_leftovers(queue, card)
                    {
                        continue;
                    }
                    step!("sweep.orphan");
                    recover::expire_orphan(queue, me, &task, n)?;
                    swept.orphans += 1;
                } else if card.is_some_and(|c| tasks::has_liveness(c.kind)) {
                    swept.running += 1;
                }
            }
            Phase::NoSpec => remove_empty(queue, &id),
            Phase::Done(_) | Phase::Failed(_) | Phase::Cancelled(_) => {
                if matches!(task.phase, Phase::Cancelled(_)) {
                    settle::wait_for_revival(queue, me, &task)?;
                }
                swept.failed += usize::from(matches!(task.phase, Phase::Failed(_)));
                if queue.fs.exists(&queue.layout.waiters(&id)) {
                    settle(queue, me, &id)?;
                }
            }
            Phase::Stage(..) | Phase::Corrupt(_) => {}
        }
    }
    Ok(swept)
}

/// Whether the process of a claim that no intent names is certainly dead.
fn is_orphan(queue: &Queue, card: &Card) -> bool {
    if !tasks::has_liveness(card.kind) {
        return false;
    }
    if procs::is_here(queue, card) {
        return !queue.host.is_alive(card.process());
    }
    // Elsewhere: only if it is no longer registered, since registration ends after its last claim.
    !queue.fs.exists(&queue.layout.proc(&card.wid))
}

/// Ends what a dead local process left running, before its attempt is fenced. False: some is left.
fn end_leftovers(queue: &Queue, card: &Card) -> bool {
    if !procs::is_here(queue, card) || card.mark.is_empty() {
        return true;
    }
    let patience = std::time::Duration::from_secs(10);
    {
        let own = queue.host.me().pid;
        queue.host.kill_marked(&EnvMark::program(&card.mark), &[own], patience).is_empty()
    }
}

/// Age from which on something half made is taken as left by a crash. Whoever still makes it finds
/// it gone and starts over.
const OLD_MS: u64 = 3_600_000;

fn is_old(queue: &Queue, path: &std::path::Path) -> bool {
    let Ok(stat) = queue.fs.stat(path) else { return false };
    queue.clock.wall_ms().saturating_sub(stat.mtime_ns / 1_000_000) > OLD_MS
}

/// Registrations that were never finished: `procs/.new-W`.
fn remove_unfinished(queue: &Queue) {
    let dir = queue.layout.procs();
    for entry in queue.list(&dir).unwrap_or_default() {
        if entry.name.starts_with(".new-") && is_old(queue, &dir.join(&entry.name)) {
            procs::dissolve(queue, &entry.name);
        }
    }
}

/// A directory that a submitter made and never filled; it makes it anew if it still lives.
fn remove_empty(queue: &Queue, id: &str) {
    let path = queue.layout.task(id);
    if is_old(queue, &path) {
        step!("sweep.rmdir");
        drop(queue.fs.rmdir(&path));
    }
}

/// Sweeps once a boot: the hints of an earlier one may be incomplete.
pub fn sweep_once_a_boot(queue: &Queue, me: &mut Proc) -> Result<bool> {
    let place = queue.host.place();
    let mark = queue.layout.boot_mark(&place.host_id, &place.boot);
    if queue.fs.stat(&mark).is_ok() {
        return Ok(false);
    }
    sweep(queue, me)?;
    retell::retell_lost(queue, me)?;
    step!("sweep.boot_mark");
    queue.fs.touch(&mark).cannot("note the sweep", &mark)?;
    Ok(true)
}
