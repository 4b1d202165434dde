//! The sweep: rebuilds every hint from the registers, and finds claims that nobody remembers.
//!
//! Needed after a boot (hints are not durable), when somebody removed ready/, before single-worker
//! mode says that nothing is left, and by `coord fsck --repair`. Cost: one listing a task.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{Cannot, Error, Exit, Result};
use crate::rule;
use crate::step;
use crate::sys::fs::{Kind, Stat};

use super::Queue;
use super::archive::{self, Archiver};
use super::array;
use super::evaluate::{Readiness, readiness};
use super::ids::{Key, is_task_id};
use super::lane;
use super::procs::{self, Proc};
use super::record::Card;
use super::settle::{self, settle};
use super::tasks::{self, Phase, Task};
use super::{elsewhere, layout, leftovers, recover, retell};

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Swept {
    /// Attempts that run; claims by people and holds are not counted.
    pub running: usize,
    /// Tasks that have failed.
    pub failed: usize,
    /// Claims without an intent whose process is dead; they were ended.
    pub orphans: usize,
    /// Tasks that could not be looked at, each by a fault of its own.
    pub put_aside: Vec<(String, Error)>,
}

impl Swept {
    /// Notes what went wrong with a task; the first fault of the machine is the caller's.
    fn note(&mut self, id: &str, error: Error, failed: &mut Option<Error>) {
        match error.is_of_entry() {
            true => self.put_aside.push((id.to_owned(), error)),
            false => drop(failed.get_or_insert(error)),
        }
    }
}

/// Makes the directories and bells that are missing. True: there were some; their hints are lost,
/// and somebody has to sweep (`restore` does both).
pub fn restore_directories(queue: &Queue) -> Result<bool> {
    let mut missing = false;
    for name in layout::DIRECTORIES {
        let path = queue.layout.at(name);
        if !queue.fs.exists(&path) {
            missing = true;
            queue.make_dirs(&path).cannot("make a directory", &path)?;
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

/// So long nothing has been removed when somebody at work makes anew what is missing, milliseconds.
const QUIET_MS: u64 = 1000;

/// As `restore`, for who is at work and has heard that something went.
pub fn restore_at_work(queue: &Queue, me: &mut Proc) -> Result<()> {
    must_be_quiet(queue, me)?;
    restore(queue, me)
}

/// Nothing is made anew as long as somebody is removing names: `rm -rf` takes one after the other, and
/// must not find them coming back.
pub fn must_be_quiet(queue: &Queue, me: &Proc) -> Result<()> {
    must_stay(queue, Some(me.dir().to_owned()))
}

/// The same for who is not registered.
pub fn must_stay(queue: &Queue, own: Option<PathBuf>) -> Result<()> {
    queue.must_be_in_place()?;
    let directories = layout::DIRECTORIES.iter().map(|name| queue.layout.at(name));
    let mut all = directories.chain(bells(queue)).chain(own);
    match all.find(|path| !queue.fs.exists(path)) {
        Some(path) if path.ancestors().any(|dir| is_changing(queue, dir)) => {
            let what =
                "names of the queue are being removed; what is missing is made anew after that";
            Err(Error::new(Exit::Temporary, what).at(&path))
        }
        _ => Ok(()),
    }
}

/// Whether a directory of the queue has changed just now, by this machine's clock.
fn is_changing(queue: &Queue, dir: &Path) -> bool {
    let below = dir.starts_with(queue.layout.root()) && !queue.shared;
    let changed_ms = |stat: Stat| stat.mtime_ns / 1_000_000;
    let changed_ms = below.then(|| queue.fs.stat(dir).ok().map(changed_ms)).flatten();
    changed_ms.is_some_and(|at_ms| queue.clock.wall_ms().abs_diff(at_ms) < QUIET_MS)
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
pub fn bells(queue: &Queue) -> [std::path::PathBuf; 5] {
    let l = &queue.layout;
    [l.ready_bell(), l.delayed_bell(), l.scopes_bell(), l.procs_bell(), l.events_bell()]
}

/// Looks at every task.
pub fn sweep(queue: &Queue, me: &mut Proc) -> Result<Swept> {
    sweep_and_archive(queue, me, None)
}

/// The same, and archives what has been done for so long.
///
/// # Errors
/// When a directory of the queue cannot be listed, or the machine refuses something.
pub fn sweep_and_archive(queue: &Queue, me: &mut Proc, after_ms: Option<u64>) -> Result<Swept> {
    restore_directories(queue)?;
    remove_unfinished(queue);
    elsewhere::clean(queue, me)?;
    if let Err(e) = archive::empty_trash(queue) {
        tracing::warn!(error = %e, "what was buried cannot be deleted");
    }
    let mut swept = Swept::default();
    let archiver = after_ms.map(|_| Archiver::new(queue, me)).transpose()?;
    // Claims that an intent names are the recovery pass's; read before the tasks, so that a claim
    // which is made meanwhile is not taken for an orphan: its process is alive anyway.
    let mut named = BTreeSet::new();
    for wid in procs::all(queue)? {
        named.extend(procs::claims(queue, &wid));
    }
    let mut failed = None;
    let mut pending = BTreeSet::new();
    for id in tasks::ids_and_lanes(queue)? {
        me.may_go_on(queue)?;
        // One that cannot be read now must not keep the others from it.
        match one(queue, me, &id, &named, &mut swept) {
            Ok(key) => pending.extend(key),
            Err(e) => swept.note(&id, e, &mut failed),
        }
        if let (Some(archiver), Some(after_ms)) = (&archiver, after_ms)
            && let Err(e) = archive_old(queue, me, archiver, &id, after_ms)
        {
            swept.note(&id, e, &mut failed);
        }
    }
    // Entries of attempts that are over or run. What is pending was settled above.
    for entry in queue.list(&queue.layout.blocked())? {
        if let Some(key) = Key::parse(&entry.name).filter(|key| !pending.contains(key))
            && let Err(e) = unblock(queue, me, &entry.name)
        {
            swept.note(&key.task, e, &mut failed);
        }
    }
    match failed {
        Some(e) => Err(e),
        None => Ok(swept),
    }
}

/// Archives a task that has been done for so long.
fn archive_old(
    queue: &Queue,
    me: &mut Proc,
    archiver: &Archiver,
    id: &str,
    after_ms: u64,
) -> Result<()> {
    let old = is_task_id(id) && is_older(queue, &queue.layout.task(id), after_ms);
    let done = |task: Task| matches!(task.phase, Phase::Done(_));
    if old && tasks::look(queue, id)?.is_some_and(done) {
        archiver.archive(queue, me, id)?;
    }
    Ok(())
}

/// Looks at one task. Returns the attempt that is pending, if one is.
fn one(
    queue: &Queue,
    me: &mut Proc,
    id: &str,
    named: &BTreeSet<Key>,
    swept: &mut Swept,
) -> Result<Option<Key>> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(None) };
    if task.archived {
        // What is left in tasks/ is of somebody who wanted the id again.
        remove_empty(queue, id);
        return Ok(None);
    }
    match task.phase {
        Phase::Pending(n) => {
            settle(queue, me, id)?;
            if task.spec.as_ref().is_ok_and(|spec| spec.array.is_some()) {
                swept.running += array::retake::sweep(queue, me, id, |card, start| {
                    is_orphan(queue, card, &array::job::intent_name(id, start))
                        && end_leftovers(queue, card)
                })?;
            }
            return Ok(Some(Key::new(id, n)));
        }
        Phase::Claimed(n) => {
            let key = Key::new(id, n);
            let card = tasks::claimer(queue, &task, n)?;
            if !named.contains(&key)
                && card.as_ref().is_none_or(|c| is_orphan(queue, c, &key.to_string()))
            {
                if let Some(card) = &card
                    && !end_leftovers(queue, card)
                {
                    return Ok(None);
                }
                step!("sweep.orphan");
                recover::expire_orphan(queue, me, &task, n)?;
                swept.orphans += 1;
            } else if card.is_some_and(|c| tasks::has_liveness(c.kind)) {
                swept.running += 1;
            }
        }
        Phase::NoSpec => remove_empty(queue, id),
        Phase::Done(_) | Phase::Failed(_) | Phase::Cancelled(_) => {
            if matches!(task.phase, Phase::Cancelled(_)) {
                settle::wait_for_revival(queue, me, &task)?;
            }
            swept.failed += usize::from(matches!(task.phase, Phase::Failed(_)));
            if queue.fs.exists(&queue.layout.waiters(id)) {
                settle(queue, me, id)?;
            }
        }
        Phase::Stage(..) => settle(queue, me, id)?,
        Phase::Corrupt(_) => {}
    }
    Ok(None)
}

/// Looks at an entry of blocked/: it goes if its attempt does not wait for other tasks.
pub fn unblock(queue: &Queue, me: &mut Proc, entry: &str) -> Result<()> {
    let Some(key) = Key::parse(entry) else { return Ok(()) };
    let path = queue.layout.blocked_entry(&key);
    keep_if(queue, me, &key, &path, |r| matches!(r, Readiness::Blocked(_))).map(drop)
}

/// Whether anything waits for a time. Entries that no longer do (cancelled, held, tried at once) go:
/// nobody must wait for them.
pub fn is_anything_delayed(queue: &Queue, me: &mut Proc) -> Result<bool> {
    for bucket in queue.list(&queue.layout.delayed())? {
        if bucket.kind != Kind::Dir {
            continue;
        }
        let dir = queue.layout.delayed().join(&bucket.name);
        // A bucket is due when the last of its second is.
        let soon_ms = queue.clock.wall_ms() + 1000;
        let due = layout::due_of(&bucket.name).is_some_and(|due_s| due_s * 1000 <= soon_ms);
        for entry in queue.list_reachable(&dir)? {
            let Some(key) = Key::parse(&entry.name) else { continue };
            match is_delayed(queue, me, &key, (&dir.join(&entry.name), due)) {
                Ok(true) => return Ok(true),
                // Nothing is to be expected of a task that cannot be looked at.
                Err(e) if !e.is_of_entry() => return Err(e),
                Ok(false) | Err(_) => {}
            }
        }
        // Not empty where somebody has just published here.
        drop(queue.fs.rmdir(&dir));
    }
    Ok(false)
}

/// `due`: its time has come, or comes within a second, and a keeper promotes it then.
fn is_delayed(queue: &Queue, me: &mut Proc, key: &Key, (path, due): (&Path, bool)) -> Result<bool> {
    let waits = |r: &Readiness| match r {
        Readiness::Delayed(_) => true,
        Readiness::Ready => due,
        _ => false,
    };
    Ok(keep_if(queue, me, key, path, waits)? && lane::waits_for_person(queue, &key.task)?.is_none())
}

/// Whether a hint is right; one that is not goes, and its task is settled.
fn keep_if(
    queue: &Queue,
    me: &mut Proc,
    key: &Key,
    path: &Path,
    right: impl Fn(&Readiness) -> bool,
) -> Result<bool> {
    if let Some(task) = tasks::look(queue, &key.task)?
        && task.phase == Phase::Pending(key.n)
        && right(&readiness(queue, &task, key.n)?)
    {
        return Ok(true);
    }
    // It goes first, under an intent: if it becomes right meanwhile, the new one must stay.
    let intent = me.settle_intent(queue, &key.task)?;
    step!("sweep.unhint");
    queue.discard(path)?;
    settle(queue, me, &key.task)?;
    queue.discard(&intent)?;
    Ok(false)
}

/// Whether the process of a claim that no intent names is certainly dead.
fn is_orphan(queue: &Queue, card: &Card, intent: &str) -> bool {
    if !tasks::has_liveness(card.kind) {
        return false;
    }
    let dead = if procs::is_here(queue, card) {
        !queue.host.is_alive(card.process())
    } else {
        // Elsewhere: only if it is no longer registered, since registration ends after its last claim.
        return procs::present_name(queue, &card.wid).is_none();
    };
    // It may have claimed behind the listing, and died since: then the recovery pass ends it, with
    // the verdict that it had staged. Looked for after the death was seen (R5).
    dead && procs::present_name(queue, &card.wid)
        .is_none_or(|wid| !queue.fs.exists(&queue.layout.proc(&wid).join("run").join(intent)))
}

/// Ends what a dead local process left running, before its attempt is fenced. False: some is left.
fn end_leftovers(queue: &Queue, card: &Card) -> bool {
    if !procs::is_here(queue, card) {
        return true;
    }
    let patience = std::time::Duration::from_secs(10);
    let traces = leftovers::traces(queue, card);
    let left = queue.host.end_left(&traces, &[queue.host.me().pid], patience);
    if !left.is_empty() {
        tracing::error!("{}", leftovers::words(queue, &card.wid, &left));
    }
    left.is_empty() || !rule!("R5.unknown")
}

/// Age from which on something half made is taken as left by a crash. Whoever still makes it finds
/// it gone and starts over.
const OLD_MS: u64 = 3_600_000;

/// The same for a registration that does not even say whose it is.
const CARDLESS_MS: u64 = 60_000;

/// Whether a directory has not changed for longer than this.
pub fn is_older(queue: &Queue, path: &Path, than_ms: u64) -> bool {
    let Ok(stat) = queue.fs.stat(path) else { return false };
    queue.clock.wall_ms().saturating_sub(stat.mtime_ns / 1_000_000) > than_ms
}

/// Registrations that were never finished: `procs/.new-W`.
fn remove_unfinished(queue: &Queue) {
    let dir = queue.layout.procs();
    for entry in queue.list(&dir).unwrap_or_default() {
        if !entry.name.starts_with(".new-") {
            continue;
        }
        let over = match procs::card(queue, &entry.name) {
            Some(card) if procs::is_here(queue, &card) => !queue.host.is_alive(card.process()),
            Some(_) => is_older(queue, &dir.join(&entry.name), OLD_MS),
            // Nothing is lost with it: a live one that stood still so long says that it cannot.
            None => is_older(queue, &dir.join(&entry.name), CARDLESS_MS),
        };
        if over {
            procs::dissolve(queue, &entry.name);
        }
    }
}

/// A directory that a submitter made and never filled; it makes it anew if it still lives.
fn remove_empty(queue: &Queue, id: &str) {
    let path = queue.layout.task(id);
    if is_older(queue, &path, OLD_MS) {
        step!("sweep.rmdir");
        drop(queue.fs.rmdir(&path));
    }
}

/// Sweeps once a boot: the hints of an earlier one may be incomplete. It counts only if every task could
/// be looked at.
///
/// # Errors
/// As `sweep_and_archive`.
pub fn sweep_once_a_boot(queue: &Queue, me: &mut Proc, after_ms: Option<u64>) -> Result<Swept> {
    let place = queue.host.place();
    let mark = queue.layout.boot_mark(&place.host_id, &place.boot);
    if queue.fs.stat(&mark).is_ok() {
        return Ok(Swept::default());
    }
    let swept = sweep_and_archive(queue, me, after_ms)?;
    retell::retell_lost(queue, me)?;
    if swept.put_aside.is_empty() {
        step!("sweep.boot_mark");
        queue.fs.touch(&mark).cannot("note the sweep", &mark)?;
    }
    Ok(swept)
}
