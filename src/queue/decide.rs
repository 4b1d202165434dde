//! What people decide about tasks: cancel, hold, release.
//!
//! A decision about a pending attempt competes for its claim like any worker, so there is no moment
//! in which both win. About a running one it is a request (`n.cancel`), or the end itself (forced,
//! or where no process stands behind the claim).

use std::time::Duration;

use crate::error::{Error, Exit, Result};
use crate::rule;
use crate::step;
use crate::sys::remains::in_words;

use super::Queue;
use super::claim::{Claimed, seize};
use super::durable;
use super::end;
use super::evaluate::{Readiness, readiness};
use super::events::{self, Event};
use super::ids::Key;
use super::leftovers;
use super::procs::{self, Proc};
use super::record::{self, Card, CardKind, End, Note, Verdict};
use super::register::{is_there, publish};
use super::settle::settle;
use super::tasks::{self, Phase, StageKind, Task};

/// Tries to do something to a task whose state others change at the same time.
pub const TRIES: u32 = 20;

/// Time for the killed processes of an attempt to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A refusal because of the state that the task is in.
pub fn conflict(what: String) -> Error {
    Error::new(Exit::Conflict, what)
}

/// How a running attempt is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Its worker is asked to end it.
    Ask,
    /// Its processes are killed where this machine can reach them, and it is ended here.
    Force,
}

/// A lane is nobody's task: its turns come and go by themselves.
fn not_a_lane(id: &str) -> Result<()> {
    match super::ids::lane_name(id) {
        None => Ok(()),
        Some(_) => Err(conflict(format!("{id} is a lane, not a task")).hint("coord mergeq pause")),
    }
}

/// Cancels a task. `asked` hears of the process that was asked to stop, before it is known whether
/// that was in time.
pub fn cancel(
    queue: &Queue,
    me: &mut Proc,
    id: &str,
    how: How,
    reason: &str,
    mut asked: impl FnMut(&Card),
) -> Result<()> {
    not_a_lane(id)?;
    for _ in 0..TRIES {
        let task = tasks::existing(queue, id)?;
        match task.phase {
            Phase::Cancelled(_) => return durable::registers(queue, me, &task),
            // What it did may be on the branch already, whatever its register says so far: whoever has
            // the turn to merge knows, and gives it back if it is not.
            Phase::Stage(n, StageKind::Merge) => {
                ask(queue, me, &task, n, reason)?;
                if !is_there(queue, &task.dir, &format!("{n}.merge"))? {
                    let intent = me.settle_intent(queue, id)?;
                    settle(queue, me, id)?;
                    return queue.discard(&intent);
                }
            }
            Phase::Stage(_, StageKind::Review) => {
                let what =
                    format!("{id} has run and waits for its review: it is too late to cancel");
                return Err(conflict(what).hint(format!("coord why {id}")));
            }
            Phase::Done(_) | Phase::Failed(_) => {
                let state = super::state::state(queue, &task)?.word();
                return Err(conflict(format!("{id} is over already: {state}")));
            }
            Phase::NoSpec | Phase::Corrupt(_) => {
                return Err(conflict(format!("{id} cannot be read")).hint("coord fsck"));
            }
            Phase::Pending(n) => {
                if cancel_pending(queue, me, &Key::new(id, n), reason)? {
                    return Ok(());
                }
            }
            Phase::Claimed(n) => {
                if cancel_claimed(queue, me, &task, n, how, reason, &mut asked)? {
                    return Ok(());
                }
            }
        }
    }
    Err(conflict(format!("{id} changes too fast to be cancelled")).hint("try again"))
}

/// Competes for the attempt. True: it is ours and ended as cancelled.
fn cancel_pending(queue: &Queue, me: &mut Proc, key: &Key, reason: &str) -> Result<bool> {
    let Claimed::Won(lease) = seize(queue, me, key, CardKind::Cancel)? else { return Ok(false) };
    let why = if reason.is_empty() { "cancelled before it ran" } else { reason };
    let end = End { why: why.to_owned(), ..End::new(Verdict::Cancel, false) };
    end::record(queue, me, &lease, end)?;
    end::finish(queue, me, &lease, false)?;
    Ok(true)
}

/// Cancels a claimed attempt. False: it ended meanwhile, look again.
fn cancel_claimed(
    queue: &Queue,
    me: &mut Proc,
    task: &Task,
    n: u32,
    how: How,
    reason: &str,
    asked: &mut impl FnMut(&Card),
) -> Result<bool> {
    let card = tasks::claimer(queue, task, n)?;
    let has_process = card.as_ref().is_none_or(|c| tasks::has_liveness(c.kind));
    if !has_process {
        return end_as_cancelled(queue, me, task, n, reason);
    }
    ask(queue, me, task, n, reason)?;
    let key = Key::new(&task.id, n);
    if let Some(card) = &card {
        procs::ring(queue, &card.wid);
        if how == How::Ask {
            asked(card);
        }
    }
    // Acknowledged only if the attempt still runs: who ends it from now on sees the request.
    if rule!("R6.cancel") && is_there(queue, &task.dir, &format!("{n}.end"))? {
        return Ok(false);
    }
    if how == How::Ask {
        return Ok(true);
    }
    // Its processes end before the fence, where this machine can reach them.
    if let Some(card) = &card
        && procs::is_here(queue, card)
    {
        let traces = leftovers::traces_of(queue, card, &key);
        let left = queue.host.end_left(&traces, &[queue.host.me().pid], KILL_PATIENCE);
        if !left.is_empty() {
            let what = format!("cannot end {}, of {key}", in_words(&left));
            return Err(conflict(what).hint("end it as its user or as root, then try again"));
        }
    }
    end_as_cancelled(queue, me, task, n, reason)
}

/// Links `n.cancel`: whoever has attempt n is to give it up.
fn ask(queue: &Queue, me: &mut Proc, task: &Task, n: u32, reason: &str) -> Result<()> {
    let note = Note::new(&me.wid, queue.now(), reason);
    let key = Key::new(&task.id, n);
    let intent = me.settle_intent(queue, &task.id)?;
    let tmp = me.run(&format!("_cancel.{key}"));
    queue.stage(&tmp, &record::to_bytes(&note), "write a cancel")?;
    step!("cancel.link");
    publish(queue, &tmp, &task.dir, &format!("{n}.cancel"), |_| true)?;
    durable::task(queue, &task.dir)?;
    queue.discard(&tmp)?;
    events::append(queue, me, Event::of("cancel", &key).why(reason));
    queue.discard(&intent)
}

/// Links `n.end` = cancel for a claim of somebody else. False: it ended meanwhile.
fn end_as_cancelled(
    queue: &Queue,
    me: &mut Proc,
    task: &Task,
    n: u32,
    reason: &str,
) -> Result<bool> {
    let why = if reason.is_empty() { "cancelled" } else { reason };
    let end = End { why: why.to_owned(), ..End::new(Verdict::Cancel, false) };
    end_for_another(queue, me, task, n, end)
}

/// Ends an attempt whose claim is not this process's. False: it ended otherwise meanwhile.
fn end_for_another(
    queue: &Queue,
    me: &mut Proc,
    task: &Task,
    n: u32,
    mut end: End,
) -> Result<bool> {
    let key = Key::new(&task.id, n);
    let intent = me.settle_intent(queue, &task.id)?;
    end.by.clone_from(&me.wid);
    end.ended = queue.now();
    end.charged = tasks::end_before(queue, task, n)?.map_or(0, |e| e.charged);
    end.holder = tasks::claimer(queue, task, n)?.map(|c| c.wid).unwrap_or_default();
    let bytes = record::to_bytes(&end);
    let tmp = me.run(&format!("_end.{key}"));
    queue.stage(&tmp, &bytes, "write a record")?;
    step!("decide.end");
    let held = publish(queue, &tmp, &task.dir, &format!("{n}.end"), |b| b == bytes)?;
    queue.discard(&tmp)?;
    end::announce(queue, me, &key)?;
    queue.discard(&intent)?;
    if let Some(card) = tasks::claimer(queue, task, n)? {
        procs::ring(queue, &card.wid);
    }
    Ok(held.is_ours())
}

/// Holds a pending task: nobody gets it until it is released.
pub fn hold(queue: &Queue, me: &mut Proc, id: &str) -> Result<()> {
    not_a_lane(id)?;
    for _ in 0..TRIES {
        let task = tasks::existing(queue, id)?;
        match task.phase {
            Phase::Pending(n) => {
                let key = Key::new(id, n);
                if let Readiness::Held = readiness(queue, &task, n)? {
                    return Ok(());
                }
                if let Claimed::Won(_) = seize(queue, me, &key, CardKind::Hold)? {
                    events::append(queue, me, Event::of("hold", &key));
                    step!("hold.drop_intent");
                    // A hold has no process behind it: the claim stands by itself.
                    return queue.discard(&me.intent(&key));
                }
            }
            Phase::Claimed(n) => {
                let kind = tasks::claimer(queue, &task, n)?.map(|c| c.kind);
                if kind == Some(CardKind::Hold) {
                    return durable::registers(queue, me, &task);
                }
                return Err(
                    conflict(format!("{id} runs already")).hint(format!("coord cancel {id}"))
                );
            }
            _ => return Err(conflict(format!("{id} is over already"))),
        }
    }
    Err(conflict(format!("{id} changes too fast to be held")).hint("try again"))
}

/// Releases a held task.
pub fn release(queue: &Queue, me: &mut Proc, id: &str) -> Result<()> {
    not_a_lane(id)?;
    for _ in 0..TRIES {
        let task = tasks::existing(queue, id)?;
        let n = match task.phase {
            // Added with --hold: nobody has claimed it, so its first attempt is still to come.
            Phase::Pending(n) => {
                if readiness(queue, &task, n)? != Readiness::Held {
                    return Err(conflict(format!("{id} is not held")));
                }
                let note = Note::new(&me.wid, queue.now(), "released");
                return end::reopen(queue, me, &task, n - 1, &note).map(drop);
            }
            Phase::Claimed(n) => n,
            _ => return Err(conflict(format!("{id} is not held"))),
        };
        let kind = tasks::claimer(queue, &task, n)?.map(|c| c.kind);
        if kind != Some(CardKind::Hold) {
            return Err(conflict(format!("{id} is not held: it runs")));
        }
        let end = End { why: "released".to_owned(), ..End::new(Verdict::Release, true) };
        if end_for_another(queue, me, &task, n, end)? {
            return Ok(());
        }
    }
    Err(conflict(format!("{id} changes too fast to be released")).hint("try again"))
}

/// Permits one more attempt of a task that is over, or an attempt that waits for its time at once.
pub fn retry(queue: &Queue, me: &mut Proc, id: &str, reason: &str) -> Result<()> {
    not_a_lane(id)?;
    let task = tasks::existing(queue, id)?;
    if task.archived {
        return Err(closed(id));
    }
    let n = match task.phase {
        Phase::Failed(n) | Phase::Cancelled(n) => Some(n),
        // It waits for its next attempt: not any longer.
        Phase::Pending(n) if n > 1 => {
            matches!(readiness(queue, &task, n)?, Readiness::Delayed(_)).then_some(n - 1)
        }
        _ => None,
    };
    let Some(n) = n else {
        return Err(conflict(format!("{id} has not failed")).hint(format!("coord why {id}")));
    };
    let note = Note::new(&me.wid, queue.now(), reason);
    let ours = end::reopen(queue, me, &task, n, &note)?;
    if !ours && tasks::is_closed(queue, &tasks::existing(queue, id)?, n)? {
        return Err(closed(id));
    }
    Ok(())
}

fn closed(id: &str) -> Error {
    conflict(format!("{id} was archived, and is over for ever")).hint("add it under another id")
}
