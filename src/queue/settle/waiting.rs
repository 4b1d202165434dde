//! Who waits for whom: `waiters/D/X`.
//!
//! A task X is registered with everything that it waits for. Of n dependencies each that is done has X
//! looked at, and to look at n of them n times is what must not be: with 10,000 it is an hour. So who has
//! seen one of them that is not done remembers it, and looks at that one first. As long as it is not done
//! X is blocked whatever the others are, and who ends it will look at X: of two that end at once the later
//! one sees the end of the other, since each ends first and looks after (R6). It is drawn by chance, so
//! that it lasts, on average, until half of those are done that were not; and those that are drawn in vain
//! are the more the fewer are left. That makes some two looks for each dependency in all.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::rule;
use crate::step;

use super::super::Queue;
use super::super::evaluate::{Readiness, dependency, known_phase, readiness};
use super::super::events;
use super::super::ids::Key;
use super::super::lane;
use super::super::procs::Proc;
use super::super::record::{OnDepDead, Spec};
use super::super::tasks::{self, Phase, Task};
use super::{Look, link_hint};

/// Tasks of which a process remembers what they wait for.
const REMEMBERED: usize = 4096;

/// What a process knows of tasks that wait for several others; lost with it, which costs some looks.
#[derive(Debug, Default)]
pub struct Waiting(BTreeMap<String, Blocked>);

/// Something that attempt n of a task waits for.
#[derive(Debug, Clone)]
struct Blocked {
    n: u32,
    on: String,
    pass: bool,
    on_dep_dead: OnDepDead,
    /// It was reopened once.
    reopened: bool,
}

impl Blocked {
    /// Whether the attempt is still to come and is still blocked.
    fn holds(&self, queue: &Queue, id: &str) -> Result<bool> {
        let claim = queue.layout.task(id).join(format!("{}.claim", self.n));
        Ok(!queue.fs.exists(&claim)
            && blocks(&known_phase(queue, &self.on, self.pass)?, self.on_dep_dead)
            && queue.fs.exists(&queue.layout.waiters(&self.on).join(id)))
    }
}

/// Whether a dependency keeps who comes after it from running, and nothing else follows from it.
fn blocks(phase: &Phase, on_dep_dead: OnDepDead) -> bool {
    match phase {
        Phase::Done(_) => false,
        Phase::Failed(_) | Phase::Cancelled(_) => on_dep_dead == OnDepDead::Block,
        _ => true,
    }
}

/// Whether this process remembers something that a task waits for, and that is so still. Not of one that
/// has to be cancelled if what led to it is `dead`.
fn is_known_to_wait(
    queue: &Queue,
    me: &mut Proc,
    id: &str,
    fits: impl Fn(&Blocked) -> bool,
) -> Result<bool> {
    let Some(blocked) = me.waiting.0.get(id) else { return Ok(false) };
    if !fits(blocked) {
        return Ok(false);
    }
    let holds = blocked.holds(queue, id)?;
    if !holds {
        me.waiting.0.remove(id);
    }
    Ok(holds)
}

/// The same where what led to it was reopened: one that was reopened itself has to be looked at.
pub(super) fn is_known_to_wait_still(queue: &Queue, me: &mut Proc, id: &str) -> Result<bool> {
    is_known_to_wait(queue, me, id, |blocked| !blocked.reopened)
}

/// Whether a task that is pending and was reached from one of its dependencies waits for another one, and
/// is known to wait: then nothing has to be done for it.
pub(super) fn still_waits(queue: &Queue, me: &mut Proc, task: &Task, n: u32) -> Result<bool> {
    let key = Key::new(&task.id, n);
    if !queue.fs.exists(&queue.layout.blocked_entry(&key)) {
        return Ok(false);
    }
    remember(queue, me, task, n)?;
    Ok(me.waiting.0.contains_key(&task.id))
}

/// Looks for something that a blocked task waits for, by chance, and remembers it.
pub(super) fn remember(queue: &Queue, me: &mut Proc, task: &Task, n: u32) -> Result<()> {
    me.waiting.0.remove(&task.id);
    let Ok(spec) = &task.spec else { return Ok(()) };
    // With one dependency there is nothing to choose. Elsewhere an end may not be seen at once, and a
    // cancel that was promised comes before everything.
    let plain = spec.after.len() > 1 && !spec.hold && task.names.cancels.is_empty();
    if queue.shared || !plain {
        return Ok(());
    }
    for entry in by_chance(queue, spec) {
        let (on, pass) = dependency(entry);
        let phase = known_phase(queue, on, pass)?;
        if matches!(phase, Phase::Failed(_) | Phase::Cancelled(_))
            && spec.on_dep_dead == OnDepDead::Cancel
        {
            return Ok(());
        }
        if blocks(&phase, spec.on_dep_dead)
            && queue.fs.exists(&queue.layout.waiters(on).join(&task.id))
        {
            if me.waiting.0.len() >= REMEMBERED {
                me.waiting.0.clear();
            }
            let (on, on_dep_dead) = (on.to_owned(), spec.on_dep_dead);
            let reopened = !task.names.reopens.is_empty();
            let blocked = Blocked { n, on, pass, on_dep_dead, reopened };
            me.waiting.0.insert(task.id.clone(), blocked);
            return Ok(());
        }
    }
    Ok(())
}

/// The dependencies of a task, each once: the last one, and then as by chance. Steps of some 0.618 of
/// their number spread over all of them, wherever those are that are done.
fn by_chance<'a>(queue: &Queue, spec: &'a Spec) -> impl Iterator<Item = &'a String> {
    let count = spec.after.len();
    let start = usize::try_from(queue.clock.random() % count.max(1) as u64).unwrap_or(0);
    let mut step = (count * 618 / 1000).max(1);
    while gcd(step, count) > 1 {
        step += 1;
    }
    let drawn = (0..count).map(move |k| (start + k * step) % count);
    let rest = drawn.filter(move |at| at + 1 != count).map(|at| &spec.after[at]);
    spec.after.last().into_iter().chain(rest)
}

fn gcd(a: usize, b: usize) -> usize {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Those in `waiters/D`.
pub(super) struct Waiters {
    /// All names.
    pub(super) names: Vec<String>,
    /// Those that have to be looked at.
    pub(super) needed: Vec<Look>,
}

/// The tasks that wait for `id`, which is in this phase. A waiter goes when its own state no longer needs
/// it.
pub(super) fn waiters(queue: &Queue, me: &mut Proc, id: &str, phase: &Phase) -> Result<Waiters> {
    let dead = matches!(phase, Phase::Failed(_) | Phase::Cancelled(_));
    let cancels = |on_dep_dead| dead && on_dep_dead == OnDepDead::Cancel;
    let mut found = Waiters { names: Vec::new(), needed: Vec::new() };
    for entry in queue.list(&queue.layout.waiters(id))? {
        me.may_go_on(queue)?;
        let name = entry.name;
        let waits = is_known_to_wait(queue, me, &name, |blocked| !cancels(blocked.on_dep_dead))?;
        let looked = if waits { Ok(None) } else { tasks::look(queue, &name) };
        let task = match looked {
            // It cannot be served now, and must not keep the others waiting.
            Err(e) if e.is_of_entry() => {
                me.leave_behind(queue, &name)?;
                continue;
            }
            task => task?,
        };
        if let Some(task) = task {
            let spec = task.spec.as_ref().ok();
            let after = spec.map(|s| s.after.as_slice()).unwrap_or_default();
            let before = after.iter().any(|entry| dependency(entry).0 == id)
                && matches!(task.phase, Phase::Pending(_));
            if before || lane::waits_for(queue, &task, id)? {
                let whole = spec.is_some_and(|spec| cancels(spec.on_dep_dead));
                found.needed.push(Look { id: name.clone(), all: false, whole });
            }
        }
        found.names.push(name);
    }
    Ok(found)
}

/// A task that nobody has to wait for any more, and who was found to wait for it.
pub(super) struct Served {
    pub(super) id: String,
    pub(super) names: Vec<String>,
    /// It is done. Otherwise it is dead, and archived.
    pub(super) done: bool,
}

/// Drops the waiters of a task that is done: nobody will be served by it again. Those of a failed or
/// cancelled one stay, for the case that it is reopened. Who has come since the look sees that it is done,
/// and drops its waiter itself.
pub(super) fn drop_served(queue: &Queue, me: &mut Proc, served: &Served) -> Result<()> {
    for name in &served.names {
        me.may_go_on(queue)?;
        if (served.done && !queue.shared) || !is_blocked_by(queue, name, &served.id)? {
            unwait(queue, &served.id, name)?;
        }
    }
    // Not empty, or gone already: both are fine.
    drop(queue.fs.rmdir(&queue.layout.waiters(&served.id)));
    Ok(())
}

/// Removes one waiter.
pub(super) fn unwait(queue: &Queue, on: &str, id: &str) -> Result<()> {
    step!("settle.unwait");
    queue.discard(&queue.layout.waiters(on).join(id))
}

/// Whether a pending task still waits for `on`, whatever else it waits for.
fn is_blocked_by(queue: &Queue, id: &str, on: &str) -> Result<bool> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(false) };
    let Phase::Pending(n) = task.phase else { return Ok(false) };
    Ok(readiness(queue, &task, n)?.is_blocked_by(on))
}

/// Registers with every missing dependency, then looks again (R6): a dependency that is done in
/// between either serves the new waiter or is seen here. Until a look finds no dependency missing
/// that was not registered with before it: one that had failed may have been reopened meanwhile.
/// Returns what the last look found, and with which dependencies the task is registered.
pub(super) fn wait_for_dependencies(
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
            me.may_go_on(queue)?;
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
