//! Claiming: attempt n of a task goes to one process, decided by one `link(2)`.
//!
//! Steps (the states that a crash leaves are in queue-layout.md, "Claim"):
//! 1. look at the task: attempt n must be pending and ready; the hint that led here proves nothing;
//!    if it has a scope, declared or learned, take that first (scopes.rs);
//! 2. link the card to `procs/W/run/T.n`: the intent;
//! 3. link the card to `tasks/T/n.claim`: **the claim is decided**;
//! 4. look whether this process was declared dead meanwhile: then the attempt is handed back;
//! 5. remove the hint;
//! 6. look whether a cancel was asked for attempt n-1 meanwhile: then it ends as cancelled;
//! 7. note the event, which is written when the command runs.

use crate::error::Result;
use crate::rule;
use crate::step;

use super::Queue;
use super::durable;
use super::end;
use super::evaluate::{Readiness, readiness};
use super::events::{self, Event};
use super::ids::Key;
use super::procs::Proc;
use super::ready::{self, Candidate};
use super::record::{self, Card, CardKind, End, Spec, Verdict};
use super::register::{is_there, publish};
use super::scopes::{self, Taken};
use super::settle::settle;
use super::tasks::{self, Phase, Task};

/// The right to run an attempt.
#[derive(Debug)]
pub struct Lease {
    /// The attempt.
    pub key: Key,
    /// The task as it was read before the claim.
    pub task: Task,
    /// Its spec.
    pub spec: Spec,
    /// When it was claimed (RFC 3339).
    pub at: String,
    /// The end of the attempt before, which says what was charged so far.
    pub before: Option<End>,
}

impl Lease {
    /// The lease on attempt `key` of a task that was read before or after the claim.
    pub fn new(queue: &Queue, key: Key, task: Task, spec: Spec) -> Result<Lease> {
        let before = if task.names.last() < key.n {
            task.last_end.clone()
        } else {
            tasks::end_before(queue, &task, key.n)?
        };
        Ok(Lease { key, task, spec, at: queue.now(), before })
    }
}

/// How an attempt to claim went.
#[derive(Debug)]
pub enum Claimed {
    /// It is ours.
    Won(Box<Lease>),
    /// Somebody else has it.
    Lost,
    /// There is nothing to claim: the hint was old.
    Stale,
    /// It is not for this process; the hint stays.
    Unsuited,
    /// Its scope is held by another task; the hint stays.
    Busy,
    /// It is an array, and ready: its jobs are claimed, not the task.
    Array(Box<Lease>),
    /// This process was declared dead: it must register anew.
    Dead,
}

/// Tries to claim the attempt that a ready entry names. `suits` tells whether this process can run
/// the task at all.
pub fn claim(
    queue: &Queue,
    me: &mut Proc,
    candidate: &Candidate,
    suits: impl FnOnce(&Spec) -> bool,
) -> Result<Claimed> {
    let key = &candidate.key;
    let Some(task) = tasks::look(queue, &key.task)? else {
        ready::remove(queue, &candidate.path)?;
        return Ok(Claimed::Stale);
    };
    let Ok(spec) = task.spec.clone() else { return Ok(Claimed::Unsuited) };
    if task.archived {
        // Whatever its registers say by now, nothing is ever run from there.
        ready::remove(queue, &candidate.path)?;
        return Ok(Claimed::Stale);
    }
    if task.phase != Phase::Pending(key.n) || (me.won.contains(key) && rule!("R2.own")) {
        // Only what is certain: a listing that lags behind (shared file systems) may not show yet
        // that the attempt before has ended.
        let past = match task.phase {
            Phase::Pending(n) => n > key.n,
            _ => task.phase.is_over() || task.names.claims.contains(&key.n),
        };
        if past {
            ready::remove(queue, &candidate.path)?;
        }
        return Ok(Claimed::Stale);
    }
    let now = if rule!("F9") { readiness(queue, &task, key.n)? } else { Readiness::Ready };
    match now {
        Readiness::Ready if !suits(&spec) => return Ok(Claimed::Unsuited),
        Readiness::Ready => {}
        // By the clock of whoever put it there it is due. To take the entry away would be to quarrel
        // with that one, for as long as the clocks of two machines differ.
        Readiness::Delayed(_) => return Ok(Claimed::Unsuited),
        _ => {
            // Put there too early, by hand or before a cancel. It goes first, under an intent: if
            // the task becomes ready meanwhile, what `settle` publishes must stay.
            let intent = me.settle_intent(queue, &key.task)?;
            ready::remove(queue, &candidate.path)?;
            settle(queue, me, &key.task)?;
            queue.discard(&intent)?;
            return Ok(Claimed::Stale);
        }
    }
    if spec.array.is_some() {
        return Ok(Claimed::Array(Box::new(Lease::new(queue, key.clone(), task, spec)?)));
    }
    if let Some(wanted) = scopes::needed(queue, me, key, &task)?
        && matches!(scopes::take(queue, me, key, wanted)?, Taken::Busy(_))
    {
        return Ok(Claimed::Busy);
    }
    let claimed = take(queue, me, key, task, spec, me.card.kind)?;
    match claimed {
        // They are held by the claim from now on.
        Claimed::Won(_) => me.scoped = None,
        _ => scopes::give_back(queue, me)?,
    }
    if matches!(claimed, Claimed::Won(_) | Claimed::Lost)
        && let Err(e) = ready::remove(queue, &candidate.path)
    {
        // The claim stands: from here on nothing may keep its holder from running it.
        tracing::warn!(error = %e, "a stale hint stays");
    }
    if let Claimed::Won(lease) = &claimed {
        if serve_cancel(queue, me, lease)? {
            return Ok(Claimed::Stale);
        }
        // Written with the next one, or by whoever has started the command: it waits for nothing else.
        events::later(queue, me, Event::of("claim", key));
    }
    Ok(claimed)
}

/// How a try to take an attempt went, where what follows from that is still to be done.
#[derive(Debug)]
pub(super) enum Tried {
    /// It is ours.
    Won(Box<Lease>),
    /// It is another's. The intent stays until everything is done that follows from what the task is now.
    /// `ours`: the claim is an old one of this process.
    Lost { ours: bool },
    /// There was nothing to take, and no intent is left.
    Nothing,
    /// This process was declared dead. What it took all the same is handed back.
    Dead(Option<Box<Lease>>),
}

/// Takes a pending attempt with a claim of another kind (to cancel it, to hold it, as a person),
/// whatever its readiness. Loses against whoever is first.
pub fn seize(queue: &Queue, me: &mut Proc, key: &Key, kind: CardKind) -> Result<Claimed> {
    let tried = try_seize(queue, me, key, kind)?;
    let claimed = help(queue, me, key, tried)?;
    // A hold would outlive the promise: once it is released nobody looks further back than to it.
    if let Claimed::Won(lease) = &claimed
        && kind != CardKind::Cancel
        && serve_cancel(queue, me, lease)?
    {
        return Ok(Claimed::Stale);
    }
    Ok(claimed)
}

/// The same, and leaves to the caller what follows if another one was first.
pub(super) fn try_seize(queue: &Queue, me: &mut Proc, key: &Key, kind: CardKind) -> Result<Tried> {
    let Some(task) = tasks::look(queue, &key.task)? else { return Ok(Tried::Nothing) };
    let Ok(spec) = task.spec.clone() else { return Ok(Tried::Nothing) };
    if task.archived || task.phase != Phase::Pending(key.n) {
        return Ok(Tried::Nothing);
    }
    durable::registers(queue, me, &task)?;
    let delayed = match readiness(queue, &task, key.n)? {
        Readiness::Delayed(due_ms) => Some(queue.layout.delayed_at(due_ms.div_ceil(1000))),
        _ => None,
    };
    let tried = try_take(queue, me, key, task, spec, kind)?;
    if let Tried::Won(lease) = &tried {
        let mut removed = ready::remove_hints(queue, &lease.task, key);
        if let Some(dir) = delayed {
            removed = removed.and(queue.discard(&dir.join(key.to_string())));
            // Fails while others are due then.
            drop(queue.fs.rmdir(&dir));
        }
        if let Err(e) = removed {
            tracing::warn!(error = %e, "a stale hint stays");
        }
    }
    Ok(tried)
}

/// Ends a claim as cancelled if that was promised for the attempt before. False: it was not.
fn serve_cancel(queue: &Queue, me: &mut Proc, lease: &Lease) -> Result<bool> {
    if !cancel_came(queue, lease) {
        return Ok(false);
    }
    let why = format!("cancel was asked for during attempt {}", lease.key.n - 1);
    let end = End { why, ..End::new(Verdict::Cancel, false) };
    end::record(queue, me, lease, end)?;
    end::finish(queue, me, lease, false)?;
    Ok(true)
}

/// A cancel that was acknowledged between our first look and our claim (fault 10).
fn cancel_came(queue: &Queue, lease: &Lease) -> bool {
    let before = lease.key.n - 1;
    before > 0
        && !lease.task.names.reopens.contains(&before)
        && lease.task.last_end.as_ref().is_none_or(|end| end.verdict != Verdict::Cancel)
        && queue.fs.stat(&lease.task.dir.path.join(format!("{before}.cancel"))).is_ok()
}

/// Intent, then claim.
pub(super) fn take(
    queue: &Queue,
    me: &mut Proc,
    key: &Key,
    task: Task,
    spec: Spec,
    kind: CardKind,
) -> Result<Claimed> {
    let tried = try_take(queue, me, key, task, spec, kind)?;
    help(queue, me, key, tried)
}

/// Does what follows if another one was first, and drops the intent.
fn help(queue: &Queue, me: &mut Proc, key: &Key, tried: Tried) -> Result<Claimed> {
    Ok(match tried {
        Tried::Won(lease) => Claimed::Won(lease),
        Tried::Nothing => Claimed::Lost,
        Tried::Lost { ours } => {
            step!("claim.help");
            if rule!("R4.loser") {
                settle(queue, me, &key.task)?;
            }
            give_up(queue, me, key, ours)?;
            Claimed::Lost
        }
        Tried::Dead(handed_back) => {
            if let Some(lease) = handed_back {
                end::finish(queue, me, &lease, false)?;
            }
            Claimed::Dead
        }
    })
}

/// Drops the intent of an attempt that is another's, behind its follow-ups.
pub(super) fn give_up(queue: &Queue, me: &mut Proc, key: &Key, ours: bool) -> Result<()> {
    if ours {
        // An end whose claim a power loss had taken counts from now on; tell of it.
        end::retell(queue, me, &key.task)?;
    }
    step!("claim.drop_intent");
    queue.discard(&me.intent(key))
}

fn try_take(
    queue: &Queue,
    me: &mut Proc,
    key: &Key,
    task: Task,
    spec: Spec,
    kind: CardKind,
) -> Result<Tried> {
    use std::io::ErrorKind;
    let mut card = me.card_for(queue, kind)?;
    let intent = me.intent(key);
    step!("claim.intent");
    loop {
        match queue.fs.link(&card, &intent) {
            Ok(()) => break,
            Err(e) if e.raw_os_error() == Some(nix::libc::EMLINK) => {
                card = me.next_card(queue, kind)?;
            }
            // Left by an earlier try of ours; made of another card it would mislead a recoverer.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => queue.discard(&intent)?,
            Err(_) if me.is_declared_dead(queue) => return Ok(Tried::Dead(None)),
            Err(e) => return Err(e).map_err(|e| cannot_claim(e, key, &intent)),
        }
    }
    durable::card(queue, me, &card, kind)?;
    let wid = me.wid.clone();
    let mine =
        |bytes: &[u8]| record::parse::<Card>(bytes).is_ok_and(|c| c.wid == wid && c.kind == kind);
    let name = format!("{}.claim", key.n);
    step!("claim.link");
    let held = match publish(queue, &card, &task.dir, &name, mine) {
        Ok(held) => held,
        Err(e) if e.errno() == Some(nix::libc::EMLINK) => {
            card = me.next_card(queue, kind)?;
            durable::card(queue, me, &card, kind)?;
            publish(queue, &card, &task.dir, &name, mine)?
        }
        Err(e) => {
            // Undecided: the intent stays if the register cannot even be read, and goes if it is
            // certain that nothing was linked.
            if !queue.fs.exists(&task.dir.path.join(&name)) {
                queue.discard(&intent)?;
            }
            return Err(e);
        }
    };
    // "Ours" alone is not a win: it may be an old claim of ours whose attempt has ended (R2).
    let over = is_there(queue, &task.dir, &format!("{}.end", key.n))?;
    if !held.is_ours() || (over && rule!("R2.own")) {
        return Ok(Tried::Lost { ours: held.is_ours() });
    }
    durable::claim(queue, &task.dir, kind)?;
    me.won.insert(key.clone());
    let lease = Lease::new(queue, key.clone(), task, spec)?;
    if rule!("R2.own") && me.is_declared_dead(queue) {
        let end = End { why: "declared dead".to_owned(), ..End::new(Verdict::Release, true) };
        end::record(queue, me, &lease, end)?;
        return Ok(Tried::Dead(Some(Box::new(lease))));
    }
    Ok(Tried::Won(Box::new(lease)))
}

fn cannot_claim(cause: std::io::Error, key: &Key, path: &std::path::Path) -> crate::error::Error {
    use crate::error::Cannot;
    let failed: std::io::Result<()> = Err(cause);
    match failed.cannot(&format!("claim {} attempt {}", key.task, key.n), path) {
        Err(e) => e,
        Ok(()) => crate::error::Error::new(crate::error::Exit::Internal, "unreachable"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::init::init;
    use crate::queue::procs::Identity;
    use crate::sys::fs::{Fs, RealFs};
    use crate::sys::host::Platform;

    #[test]
    fn a_hold_after_a_promised_cancel_does_not_hide_it() {
        let dir = tempfile::tempdir().unwrap();
        let queue = init(&dir.path().join("q"), Platform::real()).unwrap();
        let task = queue.layout.task("T");
        RealFs.mkdir(&task).unwrap();
        for (name, text) in [
            ("spec.json", r#"{"v":1}"#),
            ("1.claim", r#"{"v":1,"wid":"w-1","kind":"worker"}"#),
            ("1.cancel", r#"{"v":1}"#),
            ("1.end", r#"{"v":1,"verdict":"expired","retry":true}"#),
        ] {
            RealFs.create(&task.join(name), text.as_bytes(), 0o444).unwrap();
        }
        let (roles, labels) = (Vec::new(), Vec::new());
        let identity = Identity { roles, labels, ..Identity::plain("p", CardKind::Cli) };
        let mut me = Proc::register(&queue, &identity).unwrap();
        let held = seize(&queue, &mut me, &Key::new("T", 2), CardKind::Hold).unwrap();
        assert!(matches!(held, Claimed::Stale), "{held:?}");
        let task = tasks::look(&queue, "T").unwrap().unwrap();
        assert_eq!(task.phase, Phase::Cancelled(2));
        assert_eq!(queue.list(&me.run("")).unwrap().len(), 0, "no intent is left");
    }
}
