//! Ending an attempt: "done", "failed", "expired" and "cancelled" compete for one register.
//!
//! Steps:
//! 1. stage the verdict as `procs/W/run/T.n.end`; a recoverer links it instead of `expired`, so work
//!    that was finished is not thrown away;
//! 2. link it to `tasks/T/n.end`: **the attempt is decided**. Taken already: fenced, and the verdict
//!    is published as `n.late` beside it;
//! 3. in the durable modes: wait until the disk has it;
//! 4. follow-ups of what the register really says, whoever wrote it (R4);
//! 5. event, then drop the staged verdict and the intent.

use std::collections::BTreeSet;

use crate::error::{Cannot, Result};
use crate::rule;
use crate::step;

use super::Queue;
use super::archive;
use super::claim::Lease;
use super::durable;
use super::evaluate::readiness;
use super::events::{self, Event};
use super::ids::Key;
use super::lane;
use super::procs::Proc;
use super::record::{self, CardKind, End, Note, Verdict};
use super::register::{Held, publish, publish_staged};
use super::settle::{settle, settle_all};
use super::tasks::{self, Phase, Task};

/// Who decided the attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// We did.
    Recorded,
    /// Somebody else did before us: what the register says. Ours is kept as `n.late`.
    Fenced(Box<End>),
}

/// Writes a verdict to a staged file and publishes it as `n.end`. Steps 1 and 2.
pub fn record(queue: &Queue, me: &mut Proc, lease: &Lease, mut end: End) -> Result<Ended> {
    let before = lease.before.as_ref();
    let charged = before.map_or(0, |e| e.charged);
    let counts = matches!(end.verdict, Verdict::Fail | Verdict::Expired);
    end.charged = end.charged.max(charged + u32::from(counts));
    end.boots = end.boots.max(before.map_or(0, |e| e.boots));
    end.by.clone_from(&me.wid);
    if end.holder.is_empty() {
        end.holder.clone_from(&me.wid);
    }
    if end.started.is_empty() {
        end.started.clone_from(&lease.at);
    }
    end.ended = queue.now();
    let end = end.fitting();
    let staged = stage(queue, me, &lease.key, &end)?;
    step!("end.link");
    decide(queue, me, &lease.task, lease.key.n, &staged, &record::to_bytes(&end))
}

/// The staged verdict: complete under its final name or not there.
fn stage(queue: &Queue, me: &Proc, key: &Key, end: &End) -> Result<std::path::PathBuf> {
    let staged = me.run(&format!("{key}.end"));
    let tmp = me.run(&format!("{key}.end.tmp"));
    step!("end.stage");
    queue.stage(&tmp, &record::to_bytes(end), "write a result")?;
    step!("end.staged");
    queue.fs.rename(&tmp, &staged).cannot("write a result", &staged)?;
    Ok(staged)
}

/// Links a verdict that this process or a dead one has staged to `n.end`.
pub fn decide(
    queue: &Queue,
    me: &Proc,
    task: &Task,
    n: u32,
    staged: &std::path::Path,
    content: &[u8],
) -> Result<Ended> {
    // An attempt's holder publishes one end; a repeated try may have staged it with a later time.
    let ours = |bytes: &[u8]| {
        let of = |bytes| record::parse::<End>(bytes).map(|end| (end.by, end.holder, end.verdict));
        bytes == content || of(bytes).is_ok_and(|theirs| of(content) == Ok(theirs))
    };
    let of = Key::new(&task.id, n).to_string();
    let put = |name: &str, ours: &dyn Fn(&[u8]) -> bool| {
        publish_staged(queue, me, &of, (staged, content), (&task.dir, name), ours)
    };
    match put(&format!("{n}.end"), &ours)? {
        Held::New | Held::Ours => Ok(Ended::Recorded),
        Held::Theirs(bytes) => {
            step!("end.late");
            // Somebody else's late result of the same attempt is just as good.
            put(&format!("{n}.late"), &|_| true)?;
            let end = record::parse(&bytes).unwrap_or_else(|_| End::lost());
            Ok(Ended::Fenced(Box::new(end)))
        }
    }
}

/// Follow-ups, event, and the end of the intent. Steps 3 to 5. `late`: our verdict came too late.
pub fn finish(queue: &Queue, me: &mut Proc, lease: &Lease, late: bool) -> Result<()> {
    let key = lease.key.clone();
    if !rule!("R4.owner") {
        // Dropped before its follow-ups exist.
        queue.discard(&me.run(&format!("{key}.end")))?;
        queue.discard(&me.intent(&key))?;
    }
    if rule!("R4.fenced") || !late {
        before_follow_ups(queue, me, &key)?;
        settle(queue, me, &key.task)?;
        return conclude(queue, me, &key, late);
    }
    drop_intent(queue, me, &key)
}

/// Makes durable what was decided: also an end that somebody else wrote. What follows from it must not
/// outlive it.
pub(super) fn before_follow_ups(queue: &Queue, me: &mut Proc, key: &Key) -> Result<()> {
    if queue.is_durable()
        && let Some(task) = tasks::look(queue, &key.task)?
    {
        durable::registers(queue, me, &task)?;
    }
    step!("end.settle");
    Ok(())
}

/// What comes behind the follow-ups: the event, and the end of the intent.
pub(super) fn conclude(queue: &Queue, me: &mut Proc, key: &Key, late: bool) -> Result<()> {
    tell(queue, me, key, late)?;
    drop_intent(queue, me, key)
}

fn drop_intent(queue: &Queue, me: &mut Proc, key: &Key) -> Result<()> {
    step!("end.unstage");
    queue.discard(&me.run(&format!("{key}.end")))?;
    step!("end.drop_intent");
    queue.discard(&me.intent(key))?;
    if !queue.shared {
        // Its end shows to everyone at once; where it may not, the memory guards against a second win.
        me.won.remove(key);
    }
    Ok(())
}

/// Follow-ups and event of an attempt that this process has decided.
pub fn announce(queue: &Queue, me: &mut Proc, key: &Key) -> Result<()> {
    before_follow_ups(queue, me, key)?;
    settle(queue, me, &key.task)?;
    tell(queue, me, key, false)
}

/// The same for recoverers: also what the dead one had begun behind its task.
pub fn announce_for_dead(queue: &Queue, me: &mut Proc, key: &Key, late: bool) -> Result<()> {
    before_follow_ups(queue, me, key)?;
    settle_all(queue, me, &key.task)?;
    tell(queue, me, key, late)
}

/// The events of a decided attempt. A late verdict that is there is told in any case: who published it
/// may not have looked at what became of its own.
fn tell(queue: &Queue, me: &mut Proc, key: &Key, late: bool) -> Result<()> {
    let task = tasks::look(queue, &key.task)?;
    if let Some(task) = task.as_ref().filter(|task| task.names.ends.contains(&key.n)) {
        tell_end(queue, me, task, key)?;
    }
    if late || task.is_some_and(|task| task.names.lates.contains(&key.n)) {
        events::append(queue, me, Event::of("late", key));
    }
    Ok(())
}

fn tell_end(queue: &Queue, me: &mut Proc, task: &Task, key: &Key) -> Result<()> {
    let end = tasks::end_of(queue, task, key.n)?;
    let mut event = Event::of("end", key).why(&end.why);
    event.verdict = end.verdict.word().to_owned();
    event.retry = Some(end.retry);
    event.by = end.by;
    let wanted = task.spec.as_ref().map(|s| (s.review, s.merge)).unwrap_or_default();
    if end.verdict == Verdict::Done && wanted != (false, false) {
        let stage = if wanted.0 { "review" } else { "merging" };
        event.more.insert("stage".to_owned(), stage.into());
    }
    event.more.insert("holder".to_owned(), end.holder.into());
    event.more.insert("started".to_owned(), end.started.into());
    events::append(queue, me, event);
    Ok(())
}

/// Tells the story of a task's registers once more: what a process that died between a register and
/// its event has left untold. Lines that repeat do no harm.
pub fn retell(queue: &Queue, me: &mut Proc, id: &str) -> Result<()> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(()) };
    durable::registers(queue, me, &task)?;
    if task.archived {
        // All else was told before it was moved.
        archive::tell(queue, me, &task, true);
        return Ok(());
    }
    if let Ok(spec) = &task.spec {
        events::append(queue, me, Event::of("submit", &Key::new(id, 0)).why(&spec.title));
    }
    // A power loss may take a claim and leave its end.
    let names = &task.names;
    let sets = [&names.claims, &names.ends, &names.cancels, &names.lates, &names.reopens];
    let numbers: BTreeSet<u32> = sets.into_iter().flatten().copied().collect();
    for n in numbers {
        let key = Key::new(id, n);
        if let Some(card) = tasks::claimer(queue, &task, n)? {
            let kind = if card.kind == CardKind::Hold { "hold" } else { "claim" };
            let event = Event { by: card.wid, ..Event::of(kind, &key) };
            events::append(queue, me, event);
        }
        if task.names.ends.contains(&n) {
            tell_end(queue, me, &task, &key)?;
        }
        if task.names.merges.contains(&n) {
            lane::tell(queue, me, &task, &key)?;
        }
        for (kind, there) in
            [("cancel", task.names.cancels.contains(&n)), ("late", task.names.lates.contains(&n))]
        {
            if there {
                events::append(queue, me, Event::of(kind, &key));
            }
        }
        if task.names.reopens.contains(&n) {
            let closed = tasks::is_closed(queue, &task, n)?;
            events::append(queue, me, reopen_event(&key, closed));
        }
    }
    if let Phase::Pending(n) = task.phase {
        let key = Key::new(id, n);
        if let Some(event) = readiness(queue, &task, n)?.event(&key) {
            events::append(queue, me, event);
        }
    }
    Ok(())
}

/// One that closes the task permits nothing, and says so.
fn reopen_event(key: &Key, closed: bool) -> Event {
    Event { retry: closed.then_some(false), ..Event::of("reopen", key) }
}

/// Permits attempt n+1 of a task that is over or, with n = 0, held since it was added, and does what
/// follows from it. False: somebody was
/// faster, which is as good.
pub fn reopen(queue: &Queue, me: &mut Proc, task: &Task, n: u32, note: &Note) -> Result<bool> {
    let intent = me.settle_intent(queue, &task.id)?;
    let ours = link_reopen(queue, me, task, n, note)?;
    settle_all(queue, me, &task.id)?;
    queue.discard(&intent)?;
    Ok(ours)
}

/// Links `n.reopen`. The caller holds an intent that names the task, and settles it.
pub fn link_reopen(queue: &Queue, me: &mut Proc, task: &Task, n: u32, note: &Note) -> Result<bool> {
    let tmp = me.run(&format!("_reopen.{}", task.id));
    let bytes = record::to_bytes(note);
    queue.stage(&tmp, &bytes, "write a reopen")?;
    step!("reopen.link");
    let held = publish(queue, &tmp, &task.dir, &format!("{n}.reopen"), |b| b == bytes)?;
    durable::task(queue, &task.dir)?;
    // The event first: who recovers finds the staged file and tells what this process could not.
    let closed = match &held {
        Held::New | Held::Ours => note.closed,
        Held::Theirs(bytes) => record::parse::<Note>(bytes).is_ok_and(|note| note.closed),
    };
    events::append(queue, me, reopen_event(&Key::new(&task.id, n), closed).why(&note.why));
    queue.discard(&tmp)?;
    Ok(held.is_ours())
}
