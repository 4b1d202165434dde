//! `settle`: look at a task's registers and do what follows from them.
//!
//! All follow-ups of all transitions are this one function: put the next attempt into ready/,
//! delayed/ or blocked/, end it as cancelled where that was asked, serve those who wait for a task
//! that is over. It is idempotent, may be done by anybody, any number of times, and at once by
//! several. The caller holds an intent that names the task until it returns.

use std::collections::BTreeSet;

use crate::error::{Cannot, Error, Exit, Result};
use crate::rule;
use crate::step;
use crate::sys::fs::is_absent;

use super::Queue;
use super::array;
use super::claim::{Claimed, seize};
use super::durable;
use super::evaluate::{Readiness, dependency, phase_for, readiness};
use super::events::{self, Event};
use super::ids::{Key, is_task_id, lane_name};
use super::lane;
use super::procs::Proc;
use super::ready;
use super::record::{CardKind, End, Note, Verdict};
use super::scopes;
use super::tasks::{self, Phase, StageKind, Task};

/// Does everything that follows from the state of `id` and, through those who wait for it, of
/// others.
pub fn settle(queue: &Queue, me: &mut Proc, id: &str) -> Result<()> {
    let mut todo = vec![id.to_owned()];
    let mut seen = BTreeSet::new();
    let mut served = Vec::new();
    let mut revived = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let Some(task) = tasks::look(queue, &id)? else { continue };
        let has_scope = task.spec.as_ref().is_ok_and(|spec| !spec.scope.is_empty())
            || !task.names.merges.is_empty();
        if !matches!(task.phase, Phase::Claimed(_)) && has_scope && !task.names.claims.is_empty() {
            // Its last attempt has ended, and with it the claim to its scope.
            step!("settle.scopes_bell");
            scopes::ring(queue);
        }
        match task.phase {
            Phase::Pending(_) | Phase::Claimed(_) => {
                // Also when it runs by now, or has run again: whoever reopened it may have died before
                // its dependants were looked at.
                let reopens = &task.names.reopens;
                let reopened = match rule!("R4.revive") {
                    true => !reopens.is_empty(),
                    false => matches!(task.phase, Phase::Pending(n) if reopens.contains(&(n - 1))),
                };
                if reopened && revived.insert(id.clone()) {
                    durable::registers(queue, me, &task)?;
                    for waiter in revive(queue, me, &id)? {
                        seen.remove(&waiter);
                        todo.push(waiter);
                    }
                }
                // Its last attempt is over, so nobody makes way for it any more.
                let over = matches!(task.phase, Phase::Pending(_)) && !task.names.merges.is_empty();
                if over && rule!("R4.way") {
                    for waiter in waiters(queue, &id)? {
                        seen.remove(&waiter);
                        todo.push(waiter);
                    }
                }
                if let Phase::Pending(n) = task.phase
                    && pending(queue, me, task, n)?
                {
                    seen.remove(&id);
                    todo.push(id);
                }
            }
            // Cancelled because of a dependency that is not dead any more: whoever reopened that one may
            // have looked before this one was cancelled.
            Phase::Cancelled(n)
                if !task.names.reopens.contains(&n) && cause_is_gone(queue, &task)? =>
            {
                reopen_with(queue, me, &task, n)?;
                seen.remove(&id);
                todo.push(id);
            }
            // `D@pass` is met by an attempt that succeeded, whatever its stages say later.
            Phase::Done(_) | Phase::Failed(_) | Phase::Cancelled(_) | Phase::Stage(..) => {
                durable::registers(queue, me, &task)?;
                if task.spec.as_ref().is_ok_and(|spec| spec.array.is_some()) {
                    array::ring_all(queue, &id);
                }
                if let Phase::Stage(n, StageKind::Merge) = task.phase {
                    let lane = lane::enter(queue, me, &task, n)?;
                    seen.remove(&lane);
                    todo.push(lane);
                }
                for waiter in waiters(queue, &id)? {
                    seen.remove(&waiter);
                    todo.push(waiter);
                }
                // Nor will a dead one be reopened in the archive.
                if matches!(task.phase, Phase::Done(_)) || task.archived {
                    served.push(id);
                }
            }
            Phase::NoSpec | Phase::Corrupt(_) => {}
        }
    }
    served.iter().try_for_each(|id| drop_served(queue, id))
}

/// Publishes what a pending attempt is. True: the task changed, look at it again.
fn pending(queue: &Queue, me: &mut Proc, task: Task, n: u32) -> Result<bool> {
    let key = Key::new(&task.id, n);
    // An entry in blocked/ came after its registers were durable.
    if queue.is_durable() && !queue.fs.exists(&queue.layout.blocked_entry(&key)) {
        durable::registers(queue, me, &task)?;
    }
    match readiness(queue, &task, n)? {
        Readiness::Blocked(_) if lane_name(&task.id).is_some() => {
            link_hint(queue, &task, &queue.layout.blocked_entry(&key))?;
            lane::register_all(queue, &task.id)?;
            // What has come in between has seen a turn that ran, or this one, not yet noted.
            let readiness = readiness(queue, &task, n)?;
            publish(queue, me, &task, &key, readiness)
        }
        Readiness::Blocked(_) => {
            let (readiness, registered) = wait_for_dependencies(queue, me, &task, &key)?;
            let met = |on: &String| !rule!("R6.order") || !readiness.is_blocked_by(on);
            let met: Vec<String> = registered.into_iter().filter(met).collect();
            let changed = publish(queue, me, &task, &key, readiness)?;
            // Done in between, it may have served its waiters before this one was there. This one goes
            // only now that what it stood for is published; the others' are not ours to judge: whoever
            // ended the dependency may be about to read them.
            for on in met {
                if matches!(phase_for(queue, &on, false)?, Phase::Done(_)) {
                    unwait(queue, &on, &task.id)?;
                    // Not empty, or gone already: both are fine.
                    drop(queue.fs.rmdir(&queue.layout.waiters(&on)));
                }
            }
            Ok(changed)
        }
        other => publish(queue, me, &task, &key, other),
    }
}

/// Registers with every missing dependency, then looks again (R6): a dependency that is done in
/// between either serves the new waiter or is seen here. Until a look finds no dependency missing
/// that was not registered with before it: one that had failed may have been reopened meanwhile.
/// Returns what the last look found, and with which dependencies the task is registered.
fn wait_for_dependencies(
    queue: &Queue,
    me: &mut Proc,
    task: &Task,
    key: &Key,
) -> Result<(Readiness, BTreeSet<String>)> {
    let new = link_hint(queue, task, &queue.layout.blocked_entry(key))?;
    let mut registered = BTreeSet::new();
    let found = loop {
        let found = readiness(queue, task, key.n)?;
        let Readiness::Blocked(blockers) = &found else { break found };
        let missing: Vec<_> = blockers.iter().filter(|b| !registered.contains(&b.on)).collect();
        if missing.is_empty() {
            break found;
        }
        for blocker in missing {
            let dir = queue.layout.waiters(&blocker.on);
            step!("settle.wait");
            link_hint(queue, task, &dir.join(&task.id))?;
            registered.insert(blocker.on.clone());
        }
        if !rule!("R6.wait") {
            break found;
        }
    };
    if matches!(found, Readiness::Blocked(_))
        && let Some(event) = found.event(key).filter(|_| new)
    {
        events::append(queue, me, event);
    }
    Ok((found, registered))
}

/// Publishes the hint that fits. True: the task changed.
fn publish(
    queue: &Queue,
    me: &mut Proc,
    task: &Task,
    key: &Key,
    readiness: Readiness,
) -> Result<bool> {
    let blocked = queue.layout.blocked_entry(key);
    if !matches!(readiness, Readiness::Blocked(_)) {
        durable::dependencies(queue, me, task)?;
    }
    match readiness {
        Readiness::Blocked(_) => return Ok(false),
        Readiness::Ready => {
            if ready::publish(queue, me, task, key)? {
                events::append(queue, me, Event::of("ready", key));
            }
        }
        Readiness::Delayed(due_ms) => {
            // Rounded up: nothing is promoted before its time.
            let due_s = due_ms.div_ceil(1000);
            let path = queue.layout.delayed_at(due_s).join(key.to_string());
            step!("settle.delay");
            if link_hint(queue, task, &path)? {
                let until = crate::sys::clock::rfc3339(due_ms);
                events::append(queue, me, Event::of("delayed", key).why(&until));
            }
            queue.ring(&queue.layout.delayed_bell());
        }
        // There is no hint that would show whether it was told before: once a process is enough.
        Readiness::Held if me.told.insert(key.clone()) => {
            events::append(queue, me, Event::of("held", key));
        }
        Readiness::Manual if me.told.insert(key.clone()) => {
            events::append(queue, me, Event::of("manual", key));
        }
        Readiness::Held | Readiness::Manual => {}
        Readiness::CancelDue(why, on) => {
            if let Some(on) = &on {
                // Registered first: if the dependency is reopened, this task is revived with it.
                step!("settle.wait_dead");
                link_hint(queue, task, &queue.layout.waiters(on).join(&task.id))?;
            }
            cancel_pending(queue, me, key, &why, on.as_deref())?;
            if let Some(on) = &on
                && !phase_for(queue, on, false)?.is_over()
            {
                // Reopened between our look and our cancel: whoever reopened it saw a pending task.
                revive_one(queue, me, on, &task.id)?;
            }
            return Ok(true);
        }
    }
    if queue.fs.exists(&blocked) {
        step!("settle.unblock");
        queue.discard(&blocked)?;
    }
    Ok(false)
}

/// Competes for a pending attempt in order to end it as cancelled, perhaps because of a dependency
/// that is dead. Either a worker gets it or we do.
fn cancel_pending(
    queue: &Queue,
    me: &mut Proc,
    key: &Key,
    why: &str,
    because: Option<&str>,
) -> Result<()> {
    match seize(queue, me, key, CardKind::Cancel)? {
        Claimed::Won(lease) => {
            let end = End {
                why: why.to_owned(),
                because: because.unwrap_or_default().to_owned(),
                ..End::new(Verdict::Cancel, false)
            };
            super::end::record(queue, me, &lease, end)?;
            super::end::finish(queue, me, &lease, false)
        }
        Claimed::Dead => Err(declared_dead(me)),
        Claimed::Lost | Claimed::Stale | Claimed::Unsuited | Claimed::Busy | Claimed::Array(_) => {
            Ok(())
        }
    }
}

/// What a process says that was declared dead: others do its work now.
fn declared_dead(me: &Proc) -> Error {
    Error::new(Exit::Conflict, format!("{} was declared dead by another process", me.wid))
}

/// The tasks that wait for `id`. A waiter goes when its own state no longer needs it.
fn waiters(queue: &Queue, id: &str) -> Result<Vec<String>> {
    let dir = queue.layout.waiters(id);
    let mut waiting = Vec::new();
    for entry in queue.list(&dir)? {
        let name = entry.name;
        let needed = match tasks::look(queue, &name)? {
            None => false,
            Some(task) => {
                let after = task.spec.as_ref().map(|s| s.after.as_slice()).unwrap_or_default();
                let before = after.iter().any(|entry| dependency(entry).0 == id)
                    && matches!(task.phase, Phase::Pending(_));
                before || lane::waits_for(queue, &task, id)?
            }
        };
        if needed {
            waiting.push(name);
        }
    }
    Ok(waiting)
}

/// Drops the waiters of a task that is done: nobody will be served by it again. Those of a failed
/// or cancelled one stay, for the case that it is reopened.
fn drop_served(queue: &Queue, id: &str) -> Result<()> {
    let dir = queue.layout.waiters(id);
    for entry in queue.list(&dir)? {
        if !is_blocked_by(queue, &entry.name, id)? {
            unwait(queue, id, &entry.name)?;
        }
    }
    // Not empty, or gone already: both are fine.
    drop(queue.fs.rmdir(&dir));
    Ok(())
}

/// Removes one waiter.
fn unwait(queue: &Queue, on: &str, id: &str) -> Result<()> {
    step!("settle.unwait");
    queue.discard(&queue.layout.waiters(on).join(id))
}

/// Whether a pending task still waits for `on`, whatever else it waits for.
fn is_blocked_by(queue: &Queue, id: &str, on: &str) -> Result<bool> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(false) };
    let Phase::Pending(n) = task.phase else { return Ok(false) };
    Ok(readiness(queue, &task, n)?.is_blocked_by(on))
}

/// Links the spec to a hint's name; makes the directory where it is missing. True: it is new.
/// Where hard links to the spec are refused (protected_hardlinks, too many links) an empty file
/// serves as well: the content of a hint is never trusted.
pub fn link_hint(queue: &Queue, task: &Task, path: &std::path::Path) -> Result<bool> {
    use std::io::ErrorKind;
    let spec = task.dir.path.join("spec.json");
    for _ in 0..8 {
        match queue.fs.link(&spec, path) {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(e) if is_absent(&e) => {
                // A bucket may be removed again before the link: hence the loop.
                let Some(dir) = path.parent() else { return Ok(false) };
                crate::sys::fs::mkdir_all(&*queue.fs, dir).cannot("make a directory", dir)?;
            }
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::EPERM | nix::libc::EMLINK)) => {
                queue.fs.touch(path).cannot("write a hint", path)?;
                return Ok(true);
            }
            Err(e) => return Err(e).cannot("link a hint", path),
        }
    }
    queue.fs.touch(path).cannot("write a hint", path)?;
    Ok(true)
}

/// After `id` was reopened: those that were cancelled because of it are reopened too. Returns all
/// that wait for it; they must be looked at.
fn revive(queue: &Queue, me: &mut Proc, id: &str) -> Result<Vec<String>> {
    let mut waiting = Vec::new();
    for entry in queue.list(&queue.layout.waiters(id))? {
        revive_one(queue, me, id, &entry.name)?;
        waiting.push(entry.name);
    }
    Ok(waiting)
}

/// A task that was cancelled because a dependency was dead waits for that one to be reopened. Puts a
/// lost hint of it back, and reopens the task if that has happened without it.
pub fn wait_for_revival(queue: &Queue, me: &mut Proc, task: &Task) -> Result<()> {
    let Some(on) = cause(task) else { return Ok(()) };
    if tasks::look(queue, on)?.is_none_or(|dead| dead.archived) {
        // Over for ever.
        return Ok(());
    }
    step!("sweep.wait_dead");
    link_hint(queue, task, &queue.layout.waiters(on).join(&task.id))?;
    let Some(dead) = tasks::look(queue, on)? else { return Ok(()) };
    if !dead.phase.is_over() {
        let intent = me.settle_intent(queue, &task.id)?;
        durable::registers(queue, me, &dead)?;
        revive_one(queue, me, on, &task.id)?;
        settle(queue, me, &task.id)?;
        queue.discard(&intent)?;
    }
    Ok(())
}

/// Links `n.reopen` of a task that was cancelled because of `on`. The caller settles it.
fn revive_one(queue: &Queue, me: &mut Proc, on: &str, id: &str) -> Result<()> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(()) };
    let Phase::Cancelled(n) = task.phase else { return Ok(()) };
    if task.names.reopens.contains(&n) {
        // Closed: it is being archived.
        return Ok(());
    }
    if cause(&task) != Some(on) {
        return Ok(());
    }
    reopen_with(queue, me, &task, n)
}

fn reopen_with(queue: &Queue, me: &mut Proc, task: &Task, n: u32) -> Result<()> {
    let on = cause(task).unwrap_or_default();
    let note = Note::new(&me.wid, queue.now(), &format!("dependency {on} was reopened"));
    super::end::link_reopen(queue, me, task, n, &note).map(drop)
}

/// The dependency that a task was cancelled because of. The end has a field for it: what a person
/// wrote as the reason of a cancel may say anything, also the name of a dependency.
fn cause(task: &Task) -> Option<&str> {
    let end = task.last_end.as_ref().filter(|end| end.verdict == Verdict::Cancel)?;
    let spec = task.spec.as_ref().ok()?;
    let mut after = spec.after.iter().map(|entry| dependency(entry).0);
    if !rule!("because") {
        return after.next();
    }
    after.find(|on| is_task_id(on) && *on == end.because)
}

fn cause_is_gone(queue: &Queue, task: &Task) -> Result<bool> {
    let Some(on) = cause(task) else { return Ok(false) };
    Ok(!matches!(
        phase_for(queue, on, false)?,
        Phase::Failed(_) | Phase::Cancelled(_) | Phase::NoSpec
    ))
}
