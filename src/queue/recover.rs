//! Recovery: any process finishes what a dead one had begun.
//!
//! The order is what makes it safe (R5): first the death is observed, then the registers are read,
//! and only then is an intent dropped. What was read before the death licenses nothing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Cannot, Result};
use crate::plan::retry;
use crate::step;
use crate::sys::fs::is_absent;

use super::Queue;
use super::durable;
use super::end::{self, Ended};
use super::ids::Key;
use super::procs::{self, Proc};
use super::record::{self, Card, CardKind, End, Note, RECORD_MAX, Verdict};
use super::register::publish;
use super::settle::settle;
use super::tasks::{self, Task};
use super::{incoming, submit};

/// How we know that a process will not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Its process is gone: seen here, on this boot and in this pid namespace.
    Gone,
    /// It lived here, but did not beat for its lease; it was ended.
    Hung,
    /// Its machine has booted since.
    Boot,
    /// Its lease ran out, and nobody here can tell whether it still lives.
    Lease,
    /// It said itself that it left: it claims nothing more.
    Left,
}

impl Death {
    /// The word that the records use.
    pub fn word(self) -> &'static str {
        match self {
            Death::Gone => "dead",
            Death::Hung => "hung",
            Death::Boot => "boot",
            Death::Lease => "lease",
            Death::Left => "left",
        }
    }
    /// Whether it is certain that the process claims nothing any more.
    fn is_certain(self) -> bool {
        self != Death::Lease
    }
}

/// Declares `wid` dead and finishes its intents. Returns the attempts that were taken back. The
/// caller has observed the death and has ended what is left of its processes.
pub fn recover(queue: &Queue, me: &mut Proc, wid: &str, death: Death) -> Result<Vec<Key>> {
    if !declare(queue, me, wid, death)? {
        return Ok(Vec::new());
    }
    let run = queue.layout.proc(wid).join("run");
    let names: Vec<String> = queue.list(&run)?.into_iter().map(|e| e.name).collect();
    let mut back = Vec::new();
    // A power loss may take an intent and leave the end that was staged beside it.
    let own = names.iter().filter(|n| !n.starts_with('_') && !n.ends_with(".tmp"));
    let attempts: BTreeSet<&str> = own.map(|n| n.strip_suffix(".end").unwrap_or(n)).collect();
    for name in attempts {
        if let Some(key) = Key::parse(name)
            && claim_of_dead(queue, me, wid, &key, death)?
        {
            back.push(key);
        }
    }
    if death.is_certain() {
        redo(queue, me, &run, &names)?;
        procs::dissolve(queue, wid);
    } else {
        // It may go on after this look: what it wants to be settled is settled, and stays noted.
        for id in names.iter().filter_map(|name| name.strip_prefix("_settle.")) {
            settle(queue, me, id)?;
        }
    }
    Ok(back)
}

/// The redo records of a process that is certainly dead. Another keeper may be at the same: what is
/// gone meanwhile was done by it.
fn redo(queue: &Queue, me: &mut Proc, run: &Path, names: &[String]) -> Result<()> {
    // A file of incoming/ whose submission is staged goes first, and before that submission: as long
    // as both are there they have the same uid, and afterwards only one is left to be redone.
    let staged = names.iter().filter(|n| n.starts_with("_submit.") && !n.ends_with(".tmp"));
    let uids: Vec<String> = staged.filter_map(|name| uid_of(queue, &run.join(name))).collect();
    for uid in names.iter().filter_map(|name| name.strip_prefix("_in.")) {
        if uids.iter().any(|staged| staged == uid) {
            durable::staged(queue, run)?;
            step!("recover.served");
            queue.discard(&run.join(format!("_in.{uid}")))?;
        }
    }
    for name in names {
        let path = run.join(name);
        if name.ends_with(".tmp") {
            step!("recover.tmp");
            queue.discard(&path)?;
        } else if let Some(id) = name.strip_prefix("_submit.") {
            step!("recover.submit");
            submit::resume(queue, me, &path, id)?;
        } else if let Some(uid) = name.strip_prefix("_in.") {
            step!("recover.incoming");
            incoming::resume(queue, me, &path, uid)?;
        } else if let Some(id) = name.strip_prefix("_settle.") {
            step!("recover.settle");
            settle(queue, me, id)?;
            end::retell(queue, me, id)?;
            queue.discard(&path)?;
        } else if name.starts_with('_') {
            // Staged for somebody else (`_end.…`, `_reopen.…`): whoever recovers that stages anew.
            queue.discard(&path)?;
        }
    }
    Ok(())
}

/// Puts this process's own house in order after a step of its failed half-way (a full disk): ends
/// what it holds as handed back, and does the follow-ups that are missing. Nothing of it may be
/// running.
pub fn own_intents(queue: &Queue, me: &mut Proc) -> Result<()> {
    let run = me.run("");
    let names: Vec<String> = queue.list(&run)?.into_iter().map(|e| e.name).collect();
    for key in names.iter().filter(|n| !n.starts_with('_')).filter_map(|n| Key::parse(n)) {
        let wid = me.wid.clone();
        let Some(task) = tasks::look(queue, &key.task)? else { continue };
        let mine = tasks::claimer(queue, &task, key.n).is_some_and(|card| card.wid == wid);
        if mine && !task.names.ends.contains(&key.n) && !me.intent_is_staged(queue, &key) {
            let Ok(spec) = task.spec.clone() else { continue };
            let lease = super::claim::Lease { key: key.clone(), task, spec, at: queue.now() };
            let why = "a step of its worker failed".to_owned();
            end::record(queue, me, &lease, End { why, ..End::new(Verdict::Release, true) })?;
        }
        claim_of_dead(queue, me, &wid, &key, Death::Left)?;
    }
    redo(queue, me, &run, &names)
}

fn uid_of(queue: &Queue, staged: &Path) -> Option<String> {
    let bytes = queue.fs.read(staged, 0, RECORD_MAX).ok()?;
    record::parse::<record::Spec>(&bytes).ok().map(|spec| spec.uid)
}

/// Links `procs/W/end`. False: the process is no longer registered.
fn declare(queue: &Queue, me: &Proc, wid: &str, death: Death) -> Result<bool> {
    let dir = queue.layout.proc(wid);
    if queue.fs.stat(&dir.join("end")).is_ok() {
        return Ok(true);
    }
    let note = Note::new(&me.wid, queue.now(), death.word());
    let tmp = me.run(&format!("_dead.{wid}"));
    queue.fs.create(&tmp, &record::to_bytes(&note), 0o444).cannot("write a record", &tmp)?;
    step!("recover.declare");
    let linked = queue.fs.link(&tmp, &dir.join("end"));
    queue.discard(&tmp)?;
    match linked {
        Err(e) if is_absent(&e) => Ok(false),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(true),
        other => other.cannot("declare a process dead", &dir).map(|()| true),
    }
}

/// One intent `T.n` of a dead process. True: its attempt was taken back.
fn claim_of_dead(queue: &Queue, me: &mut Proc, wid: &str, key: &Key, death: Death) -> Result<bool> {
    let run = queue.layout.proc(wid).join("run");
    let intent = run.join(key.to_string());
    let staged = run.join(format!("{key}.end"));
    let Some(task) = tasks::look(queue, &key.task)? else {
        drop_intent(queue, &intent, &staged)?;
        return Ok(false);
    };
    if !task.names.claims.contains(&key.n) {
        // Not claimed, read after the death: it never will be. If the process may still live (only
        // its lease ran out) the claim may still come, so the intent stays.
        if death.is_certain() {
            settle(queue, me, &key.task)?;
            drop_intent(queue, &intent, &staged)?;
        }
        return Ok(false);
    }
    let claimer = tasks::claimer(queue, &task, key.n);
    let own = claimer.as_ref().is_none_or(|card| card.wid == wid);
    // A hold stands by itself; it ends only with the verdict that its process had staged.
    let stands = claimer.as_ref().is_some_and(|card| card.kind == CardKind::Hold);
    let endable = !stands || queue.fs.exists(&staged);
    let ended = task.names.ends.contains(&key.n);
    let mut late = task.names.lates.contains(&key.n);
    let mut back = false;
    if own && endable && (!ended || queue.fs.exists(&staged)) {
        (late, back) = decide(queue, me, &task, key, claimer.as_ref(), death, &staged)?;
    }
    // Follow-ups whatever the register says and whoever wrote it (R4); then the intent may go.
    end::announce(queue, me, key, late)?;
    if own {
        super::ready::remove_hints(queue, &task, key)?;
    }
    drop_intent(queue, &intent, &staged)?;
    Ok(back)
}

/// Ends an attempt of a dead process: with the verdict that it had staged, or as expired. Returns
/// whether a staged verdict came too late, and whether the attempt was taken back.
fn decide(
    queue: &Queue,
    me: &mut Proc,
    task: &Task,
    key: &Key,
    claimer: Option<&Card>,
    death: Death,
    staged: &Path,
) -> Result<(bool, bool)> {
    if let Ok(bytes) = queue.fs.read(staged, 0, RECORD_MAX)
        && record::parse::<End>(&bytes).is_ok()
    {
        step!("recover.link_staged");
        let ended = end::decide(queue, task, key.n, staged, &bytes)?;
        return Ok((matches!(ended, Ended::Fenced(_)), false));
    }
    if task.names.ends.contains(&key.n) {
        return Ok((false, false));
    }
    let end = verdict_for(queue, me, task, key, claimer, death);
    let bytes = record::to_bytes(&end);
    let tmp = me.run(&format!("_end.{key}"));
    step!("recover.stage");
    queue.stage(&tmp, &bytes, "write a record")?;
    step!("recover.expire");
    let held = publish(queue, &tmp, &task.dir, &format!("{}.end", key.n), |b| b == bytes);
    queue.discard(&tmp)?;
    // Taken: the zombie, or another recoverer, was faster; fine.
    held.map(|_| (false, true))
}

fn verdict_for(
    queue: &Queue,
    me: &Proc,
    task: &Task,
    key: &Key,
    claimer: Option<&Card>,
    death: Death,
) -> End {
    let before = tasks::end_before(queue, task, key.n);
    let (charged, boots) = before.as_ref().map_or((0, 0), |e| (e.charged, e.boots));
    let max = task.spec.as_ref().map_or(u32::MAX, |s| s.max_attempts);
    let base = End {
        by: me.wid.clone(),
        holder: claimer.map(|c| c.wid.clone()).unwrap_or_default(),
        ended: queue.now(),
        why: death.word().to_owned(),
        ..End::new(Verdict::Expired, true)
    };
    match claimer.map(|c| c.kind) {
        Some(CardKind::Cancel) => {
            return End { verdict: Verdict::Cancel, retry: false, charged, boots, ..base };
        }
        // A person's command died before it had staged what the person decided.
        Some(CardKind::Human | CardKind::Hold) => {
            return End { verdict: Verdict::Release, charged, boots, ..base };
        }
        _ => {}
    }
    if death == Death::Boot {
        let (boots, charged, retry) = retry::after_boot(boots, charged, max);
        return End { retry, charged, boots, ..base };
    }
    let (charged, retry) = retry::after_failure(charged, max, false);
    End { retry, charged, boots, ..base }
}

fn drop_intent(queue: &Queue, intent: &Path, staged: &Path) -> Result<()> {
    step!("recover.unstage");
    queue.discard(staged)?;
    step!("recover.drop_intent");
    queue.discard(intent)
}

/// Ends a claim that no intent names (made by hand, or left by a power loss) as expired. The caller
/// knows that its process is dead. A claim of an earlier boot, or one that a power loss has made
/// unreadable, is charged as a death by reboot.
pub fn expire_orphan(queue: &Queue, me: &mut Proc, task: &Task, n: u32) -> Result<()> {
    let key = Key::new(&task.id, n);
    let claimer = tasks::claimer(queue, task, n);
    let intent = me.settle_intent(queue, &task.id)?;
    let none = me.run("_none");
    let place = queue.host.place();
    let of_boot =
        claimer.as_ref().is_none_or(|c| c.host_id == place.host_id && c.boot != place.boot);
    let death = if of_boot { Death::Boot } else { Death::Gone };
    decide(queue, me, task, &key, claimer.as_ref(), death, &none)?;
    end::announce(queue, me, &key, false)?;
    queue.discard(&intent)
}
