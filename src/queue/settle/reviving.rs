//! What was cancelled because of a dependency comes back with it.

use crate::error::Result;
use crate::rule;
use crate::step;

use super::super::Queue;
use super::super::durable;
use super::super::end;
use super::super::evaluate::{dependency, phase_for};
use super::super::ids::is_task_id;
use super::super::procs::Proc;
use super::super::record::{Note, Verdict};
use super::super::tasks::{self, Phase, Task};
use super::{link_hint, settle_all, waiting};

/// Who waits for a task that was reopened, and must be looked at.
pub(super) struct Waiter {
    pub(super) id: String,
    /// It was cancelled because of that task, and is reopened now.
    pub(super) reopened: bool,
}

/// After `id` was reopened: those that were cancelled because of it are reopened too. Returns those that
/// wait for it and must be looked at.
pub(super) fn revive(queue: &Queue, me: &mut Proc, id: &str) -> Result<Vec<Waiter>> {
    let mut waiting = Vec::new();
    for entry in queue.list(&queue.layout.waiters(id))? {
        me.may_go_on(queue)?;
        // It waits for another one as well: neither cancelled nor left by somebody who had reopened it.
        if !waiting::is_known_to_wait_still(queue, me, &entry.name)? {
            let reopened = revive_one(queue, me, id, &entry.name)?;
            waiting.push(Waiter { id: entry.name, reopened });
        }
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
        settle_all(queue, me, &task.id)?;
        queue.discard(&intent)?;
    }
    Ok(())
}

/// Links `n.reopen` of a task that was cancelled because of `on`. The caller settles it. False: it was
/// not, or is closed.
pub(super) fn revive_one(queue: &Queue, me: &mut Proc, on: &str, id: &str) -> Result<bool> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(false) };
    let Phase::Cancelled(n) = task.phase else { return Ok(false) };
    // One that is reopened and cancelled all the same is closed: it is being archived.
    if task.names.reopens.contains(&n) || cause(&task) != Some(on) {
        return Ok(false);
    }
    reopen_with(queue, me, &task, n)?;
    Ok(true)
}

pub(super) fn reopen_with(queue: &Queue, me: &mut Proc, task: &Task, n: u32) -> Result<()> {
    let on = cause(task).unwrap_or_default();
    let note = Note::new(&me.wid, queue.now(), &format!("dependency {on} was reopened"));
    end::link_reopen(queue, me, task, n, &note).map(drop)
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

pub(super) fn cause_is_gone(queue: &Queue, task: &Task) -> Result<bool> {
    let Some(on) = cause(task) else { return Ok(false) };
    Ok(!matches!(
        phase_for(queue, on, false)?,
        Phase::Failed(_) | Phase::Cancelled(_) | Phase::NoSpec
    ))
}
