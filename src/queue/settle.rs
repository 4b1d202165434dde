//! `settle`: look at a task's registers and do what follows from them.
//!
//! All follow-ups of all transitions are this one function: put the next attempt into ready/,
//! delayed/ or blocked/, end it as cancelled where that was asked, serve those who wait for a task
//! that is over. It is idempotent, may be done by anybody, any number of times, and at once by
//! several. The caller holds an intent that names the task until it returns.
//!
//! What follows for one task may have something follow for the next one, along a chain of any length
//! and in a fan of any width. So the walk keeps a list of what is left to do instead of calling
//! itself, looks at each task a fixed number of times, and at what a task waits for no more often
//! than it must (`waiting`).

use std::collections::BTreeSet;

use crate::error::{Error, Exit, Result};
use crate::rule;
use crate::step;

use super::Queue;
use super::array;
use super::claim::{self, Tried};
use super::durable;
use super::end;
use super::evaluate::{Readiness, phase_for, readiness};
use super::events::{self, Event};
use super::ids::{Key, lane_name};
use super::lane;
use super::procs::Proc;
use super::ready;
use super::record::{CardKind, End, Verdict};
use super::scopes;
use super::tasks::{self, Phase, StageKind, Task};

mod hint;
mod reviving;
mod waiting;

pub use hint::link_hint;
pub use reviving::wait_for_revival;
pub use waiting::Waiting;

/// Does everything that follows from the state of `id` and, through those who wait for it, of
/// others. Of a task that was reopened only those are looked at that come directly after it: what
/// comes later is noted in the intent of whoever reopened it.
pub fn settle(queue: &Queue, me: &mut Proc, id: &str) -> Result<()> {
    Walk::default().go(queue, me, Look { id: id.to_owned(), all: false, whole: true })
}

/// The same for whoever reopens a task, or finishes what another one has left: goes on behind each
/// reopened task, however far that leads, since those who come after it may not know yet.
pub fn settle_all(queue: &Queue, me: &mut Proc, id: &str) -> Result<()> {
    Walk::default().go(queue, me, Look { id: id.to_owned(), all: true, whole: true })
}

/// A task that has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    id: String,
    /// Behind reopened tasks the walk goes on.
    all: bool,
    /// Everything is done for it, whatever hints of it are there. Otherwise it was only reached from a
    /// task that it waits for: where it still waits for another one, that is enough.
    whole: bool,
}

/// What is left to do.
enum Work {
    Look(Look),
    /// What follows from the end of an attempt that this walk has cancelled is done: tell of it, and
    /// drop the intent.
    Conclude(Key),
    /// The same for an attempt that this walk wanted to cancel, and that is another's. `true`: the claim
    /// is an old one of this process.
    GiveUp(Key, bool),
}

/// A walk over everything that follows.
#[derive(Default)]
struct Walk {
    /// The last one is done next.
    todo: Vec<Work>,
    /// Looked at already, and not wanted again since.
    seen: BTreeSet<Look>,
    revived: BTreeSet<String>,
    served: Vec<waiting::Served>,
}

impl Walk {
    fn go(mut self, queue: &Queue, me: &mut Proc, first: Look) -> Result<()> {
        let beat_ms = u64::from(me.card.lease_ms > 0) * (me.card.lease_ms / 4).max(1);
        let mut beaten_ms = queue.clock.mono_ms();
        self.todo.push(Work::Look(first));
        while let Some(work) = self.todo.pop() {
            me.may_go_on(queue)?;
            match work {
                Work::Look(look) => {
                    if self.seen.insert(look.clone()) {
                        self.look(queue, me, look)?;
                    }
                }
                other => close(queue, me, &other)?,
            }
            // It may take longer than a lease, and its claims are this process's as long.
            if beat_ms > 0 && queue.clock.mono_ms() >= beaten_ms + beat_ms {
                beaten_ms = queue.clock.mono_ms();
                if !me.is_declared_dead(queue)
                    && let Err(e) = me.beat(queue)
                {
                    tracing::warn!(error = %e, "cannot beat");
                }
            }
        }
        self.served.iter().try_for_each(|served| waiting::drop_served(queue, me, served))
    }

    /// Notes that a task must be looked at, also if it was before.
    fn push(&mut self, look: Look) {
        self.seen.remove(&look);
        self.todo.push(Work::Look(look));
    }

    /// Does what follows from the state of one task, and notes who has to be looked at next.
    fn look(&mut self, queue: &Queue, me: &mut Proc, look: Look) -> Result<()> {
        let Some(task) = tasks::look(queue, &look.id)? else { return Ok(()) };
        let has_scope = task.spec.as_ref().is_ok_and(|spec| !spec.scope.is_empty())
            || !task.names.merges.is_empty();
        if !matches!(task.phase, Phase::Claimed(_)) && has_scope && !task.names.claims.is_empty() {
            // Its last attempt has ended, and with it the claim to its scope.
            step!("settle.scopes_bell");
            scopes::ring(queue);
        }
        match task.phase {
            Phase::Pending(_) | Phase::Claimed(_) => self.goes_on(queue, me, look, task)?,
            // Cancelled because of a dependency that is not dead any more: whoever reopened that one may
            // have looked before this one was cancelled.
            Phase::Cancelled(n)
                if !task.names.reopens.contains(&n) && reviving::cause_is_gone(queue, &task)? =>
            {
                reviving::reopen_with(queue, me, &task, n)?;
                self.push(Look { all: true, whole: true, ..look });
            }
            // `D@pass` is met by an attempt that succeeded, whatever its stages say later.
            Phase::Done(_) | Phase::Failed(_) | Phase::Cancelled(_) | Phase::Stage(..) => {
                self.serve(queue, me, &look, &task)?;
            }
            Phase::NoSpec | Phase::Corrupt(_) => {}
        }
        Ok(())
    }

    /// A task with an attempt that is to come, or that runs.
    fn goes_on(&mut self, queue: &Queue, me: &mut Proc, look: Look, task: Task) -> Result<()> {
        // Also when it runs by now, or has run again: whoever reopened it may have died before
        // its dependants were looked at.
        let reopens = &task.names.reopens;
        let reopened = match rule!("R4.revive") {
            true => !reopens.is_empty(),
            false => matches!(task.phase, Phase::Pending(n) if reopens.contains(&(n - 1))),
        };
        if reopened && self.revived.insert(look.id.clone()) {
            durable::registers(queue, me, &task)?;
            // Nobody publishes it before those are reopened that come directly after it: when it is
            // done, nobody looks for them any more.
            for waiter in reviving::revive(queue, me, &look.id)? {
                if waiter.reopened || look.all {
                    self.push(Look { id: waiter.id, all: true, whole: waiter.reopened });
                }
            }
        }
        let Phase::Pending(n) = task.phase else { return Ok(()) };
        // Its last attempt is over, so nobody makes way for it any more.
        if !task.names.merges.is_empty() && rule!("R4.way") {
            for waiter in waiting::waiters(queue, me, &look.id, &task.phase)?.needed {
                self.push(Look { all: look.all, ..waiter });
            }
        }
        // One that was reopened may have been left by whoever reopened it, before it was registered with
        // everything that it waits for.
        let by_itself = look.whole || (look.all && !reopens.is_empty());
        if !by_itself && waiting::still_waits(queue, me, &task, n)? {
            return Ok(());
        }
        if self.pending(queue, me, task, n)? {
            self.push(Look { whole: true, ..look });
        }
        Ok(())
    }

    /// A task that is over or in a stage: those who wait for it have to be looked at.
    fn serve(&mut self, queue: &Queue, me: &mut Proc, look: &Look, task: &Task) -> Result<()> {
        durable::registers(queue, me, task)?;
        if task.spec.as_ref().is_ok_and(|spec| spec.array.is_some()) {
            array::ring_all(queue, &look.id);
        }
        if let Phase::Stage(n, StageKind::Merge) = task.phase {
            let id = lane::enter(queue, me, task, n)?;
            self.push(Look { id, all: look.all, whole: true });
        }
        let found = waiting::waiters(queue, me, &look.id, &task.phase)?;
        for waiter in found.needed {
            self.push(Look { all: look.all, ..waiter });
        }
        let done = matches!(task.phase, Phase::Done(_));
        // Nor will a dead one be reopened in the archive.
        if done || task.archived {
            self.served.push(waiting::Served { id: look.id.clone(), names: found.names, done });
        }
        Ok(())
    }

    /// Publishes what a pending attempt is. True: the task changed, look at it again.
    fn pending(&mut self, queue: &Queue, me: &mut Proc, task: Task, n: u32) -> Result<bool> {
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
                self.publish(queue, me, &task, &key, readiness)
            }
            Readiness::Blocked(_) => {
                let (readiness, registered) =
                    waiting::wait_for_dependencies(queue, me, &task, &key)?;
                let blocked = matches!(readiness, Readiness::Blocked(_));
                let met: Vec<String> = match rule!("R6.order") {
                    true => registered.difference(&readiness.blockers()).cloned().collect(),
                    false => registered.into_iter().collect(),
                };
                let changed = self.publish(queue, me, &task, &key, readiness)?;
                if blocked {
                    waiting::remember(queue, me, &task, n)?;
                }
                // Done in between, it may have served its waiters before this one was there. This one
                // goes only now that what it stood for is published; the others' are not ours to judge:
                // whoever ended the dependency may be about to read them.
                for on in met {
                    if matches!(phase_for(queue, &on, false)?, Phase::Done(_)) {
                        waiting::unwait(queue, &on, &task.id)?;
                        // Not empty, or gone already: both are fine.
                        drop(queue.fs.rmdir(&queue.layout.waiters(&on)));
                    }
                }
                Ok(changed)
            }
            other => self.publish(queue, me, &task, &key, other),
        }
    }

    /// Publishes the hint that fits. True: the task changed.
    fn publish(
        &mut self,
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
                self.cancel(queue, me, key, &why, on.as_deref())?;
                if let Some(on) = &on
                    && !phase_for(queue, on, false)?.is_over()
                {
                    // Reopened between our look and our cancel: whoever reopened it saw a pending task.
                    if reviving::revive_one(queue, me, on, &task.id)? {
                        let id = task.id.clone();
                        self.push(Look { id, all: true, whole: true });
                        return Ok(false);
                    }
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
    /// that is dead. Either a worker gets it or we do. The caller looks at the task again; after that, and
    /// after what follows from it, the intent goes.
    fn cancel(
        &mut self,
        queue: &Queue,
        me: &mut Proc,
        key: &Key,
        why: &str,
        because: Option<&str>,
    ) -> Result<()> {
        let left = match claim::try_seize(queue, me, key, CardKind::Cancel)? {
            Tried::Won(lease) => {
                let end = End {
                    why: why.to_owned(),
                    because: because.unwrap_or_default().to_owned(),
                    ..End::new(Verdict::Cancel, false)
                };
                end::record(queue, me, &lease, end)?;
                end::before_follow_ups(queue, me, key)?;
                Work::Conclude(key.clone())
            }
            Tried::Lost { ours } => Work::GiveUp(key.clone(), ours),
            Tried::Nothing => return Ok(()),
            // What was handed back is noted, and others do the rest.
            Tried::Dead(_) => return Err(declared_dead(me)),
        };
        // This task was the last one that those had to wait for, and it is noted in its own intent now. So
        // along a chain one intent takes the place of the one before.
        while let Some(work) = self.todo.pop_if(|work| !matches!(work, Work::Look(_))) {
            close(queue, me, &work)?;
        }
        self.todo.push(left);
        Ok(())
    }
}

/// Drops the intent of an attempt of which everything that follows is done.
fn close(queue: &Queue, me: &mut Proc, work: &Work) -> Result<()> {
    match work {
        Work::Conclude(key) => end::conclude(queue, me, key, false),
        Work::GiveUp(key, ours) => claim::give_up(queue, me, key, *ours),
        Work::Look(_) => Ok(()),
    }
}

/// What a process says that was declared dead: others do its work now.
fn declared_dead(me: &Proc) -> Error {
    Error::new(Exit::Conflict, format!("{} was declared dead by another process", me.wid))
}
