//! Recovery: any process finishes what a dead one had begun.
//!
//! The order is what makes it safe (R5): first the death is observed, then the registers are read,
//! and only then is an intent dropped. What was read before the death licenses nothing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Cannot, Error, Exit, Result};
use crate::plan::retry;
use crate::rule;
use crate::step;
use crate::sys::fs::{Fs, is_absent};

use super::Queue;
use super::array;
use super::durable;
use super::end::{self, Ended};
use super::evaluate::{Readiness, readiness};
use super::events::{self, Event};
use super::identity;
use super::ids::{Key, is_id, lane_name};
use super::procs::{self, Proc};
use super::record::{self, Card, CardKind, End, Note, RECORD_MAX, Verdict};
use super::register::publish;
use super::scopes;
use super::settle::settle_all;
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
    /// It works in the directory that this one is a copy of, and did not beat here for its lease.
    Copied,
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
            Death::Copied => "copied",
        }
    }
    /// Whether it is certain that the process claims nothing any more.
    fn is_certain(self) -> bool {
        self != Death::Lease || !rule!("R5.lease")
    }
}

/// What was said of a process that is over. Only a lease leaves it open whether it still acts.
pub fn declared(queue: &Queue, wid: &str) -> Option<Death> {
    declared_in(&*queue.fs, &queue.layout.proc(wid))
}

/// The same of a process of any queue, by its directory.
pub fn declared_in(fs: &dyn Fs, proc: &Path) -> Option<Death> {
    let bytes = fs.read(&proc.join("end"), 0, RECORD_MAX).ok()?;
    let note: Note = record::parse(&bytes).unwrap_or_default();
    Some(if note.death == Death::Lease.word() { Death::Lease } else { Death::Left })
}

/// The first fault of an entry, while the others are dealt with. A fault of the machine ends it all.
#[derive(Default)]
struct FirstFault(Option<Error>);

impl FirstFault {
    fn of<T>(&mut self, went: Result<T>) -> Result<Option<T>> {
        match went {
            Ok(done) => Ok(Some(done)),
            Err(e) if e.is_of_entry() => {
                self.0.get_or_insert(e);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// Declares `wid` dead and finishes its intents. `back`: the attempts that were taken back. The
/// caller has observed the death and has ended what is left of its processes.
///
/// # Errors
/// What could not be finished: its intent is still there, and everything else is done.
pub fn recover(
    queue: &Queue,
    me: &mut Proc,
    wid: &str,
    death: Death,
    back: &mut Vec<Key>,
) -> Result<()> {
    if !declare(queue, me, wid, death)? {
        return Ok(());
    }
    let mut fault = FirstFault::default();
    let run = queue.layout.proc(wid).join("run");
    let mut names: Vec<String> = queue.list(&run)?.into_iter().map(|e| e.name).collect();
    for key in attempts(&names) {
        if fault.of(claim_of_dead(queue, me, wid, &key, death))? == Some(true) {
            back.push(key);
        }
    }
    for name in names.clone() {
        let Some((id, start)) = array::job::parse_intent(&name) else { continue };
        let how = array::retake::As::Expired(death.word());
        if rule!("R4.jobs") {
            let taken = array::retake::of_process(queue, me, wid, (id, start), how);
            let Some(keys) = fault.of(taken)? else {
                // Its claims have not ended: what says so stays.
                names.retain(|other| *other != name);
                continue;
            };
            back.extend(keys);
        }
        if death.is_certain() {
            step!("recover.leave");
            queue.discard(&run.join(array::job::intent_name(id, start)))?;
        }
    }
    if !rule!("R3") {
        // `rm run/*`: whatever it is by now.
        for entry in queue.list(&run)? {
            queue.discard(&run.join(entry.name))?;
        }
    }
    if death.is_certain() {
        redo(queue, me, &run, &names, &mut fault)?;
        procs::dissolve(queue, wid);
        // What it had taken without a claim is free.
        scopes::ring(queue);
    } else {
        // It may go on after this look: what it wants to be settled is settled, and stays noted.
        for id in names.iter().filter_map(|name| task_after("_settle.", name)) {
            fault.of(settle_all(queue, me, id))?;
        }
    }
    fault.result()
}

/// The task that an intent is about. A name that some hand made may say `..`, and must not lead out
/// of tasks/.
fn task_after<'a>(prefix: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(prefix).filter(|id| is_id(id))
}

/// The attempts that intents name. A staged end counts by itself: a process that repeats the last
/// steps of an end may die when its intent has gone already.
fn attempts(names: &[String]) -> BTreeSet<Key> {
    let own = names.iter().filter(|name| !name.starts_with('_'));
    own.filter_map(|name| Key::parse(name.strip_suffix(".end").unwrap_or(name))).collect()
}

/// The attempts that a living process wants and has not claimed: none counts, but for the mutation.
#[cfg(debug_assertions)]
pub fn seen_alive(queue: &Queue, wid: &str) -> Result<Vec<Key>> {
    let mut all = Vec::new();
    if rule!("R5.order") {
        return Ok(all);
    }
    for key in procs::claims(queue, wid) {
        let task = tasks::look(queue, &key.task)?;
        if !task.is_some_and(|task| task.names.claims.contains(&key.n)) {
            all.push(key);
        }
    }
    Ok(all)
}

/// The redo records of a process that is certainly dead. Another keeper may be at the same: what is
/// gone meanwhile was done by it.
fn redo(
    queue: &Queue,
    me: &mut Proc,
    run: &Path,
    names: &[String],
    fault: &mut FirstFault,
) -> Result<()> {
    // A file of incoming/ whose submission is staged goes first, and before that submission: as long
    // as both are there they have the same uid, and afterwards only one is left to be redone.
    let staged = names.iter().filter(|n| n.starts_with("_submit.") && !n.ends_with(".tmp"));
    let (mut uids, mut all_known) = (Vec::new(), true);
    for name in staged {
        match fault.of(uid_of(queue, &run.join(name)))? {
            Some(uid) => uids.extend(uid),
            None => all_known = false,
        }
    }
    for uid in names.iter().filter_map(|name| name.strip_prefix("_in.")) {
        if uids.iter().any(|staged| staged == uid) {
            durable::staged(queue, run)?;
            step!("recover.served");
            queue.discard(&run.join(format!("_in.{uid}")))?;
        }
    }
    for name in names {
        // One that cannot be read may be the submission of any of these files.
        if all_known || !name.starts_with("_in.") {
            fault.of(redo_one(queue, me, run, name))?;
        }
    }
    Ok(())
}

fn redo_one(queue: &Queue, me: &mut Proc, run: &Path, name: &str) -> Result<()> {
    let path = run.join(name);
    if !procs::is_intent(name) {
        // What somebody else has put there is not ours to remove.
        return Ok(());
    }
    if name.ends_with(".tmp") {
        step!("recover.tmp");
        queue.discard(&path)
    } else if let Some(id) = task_after("_submit.", name) {
        step!("recover.submit");
        submit::resume(queue, me, &path, id)
    } else if let Some(uid) = name.strip_prefix("_in.") {
        step!("recover.incoming");
        incoming::resume(queue, me, &path, uid)
    } else if array::job::parse_intent(name).is_some() {
        // Of one's own house: the claims have ended. Of a dead one's it has gone already.
        queue.discard(&path)
    } else if let Some(id) = task_after("_settle.", name) {
        step!("recover.settle");
        settle_all(queue, me, id)?;
        end::retell(queue, me, id)?;
        queue.discard(&path)
    } else if let Some(id) = name.strip_prefix("_tell.").or_else(|| name.strip_prefix("_reopen.")) {
        // Its events are missing. A reopen may be of a task that another one's intent settles.
        end::retell(queue, me, id)?;
        queue.discard(&path)
    } else if name.starts_with('_') {
        // Staged for somebody else (`_end.…`, `_reopen.…`): whoever recovers that stages anew.
        queue.discard(&path)
    } else {
        Ok(())
    }
}

/// Puts this process's own house in order after a step of its failed half-way (a full disk): ends
/// what it holds as handed back, and does the follow-ups that are missing. Nothing of it may be
/// running.
pub fn own_intents(queue: &Queue, me: &mut Proc) -> Result<()> {
    let run = me.run("");
    let names: Vec<String> = queue.list(&run)?.into_iter().map(|e| e.name).collect();
    let mut fault = FirstFault::default();
    for key in attempts(&names) {
        fault.of(own_claim(queue, me, &key))?;
    }
    let wid = me.wid.clone();
    let mut names = names;
    for name in names.clone() {
        let Some((id, start)) = array::job::parse_intent(&name) else { continue };
        let how = array::retake::As::HandedBack("a step of its worker failed");
        let taken = array::retake::of_process(queue, me, &wid, (id, start), how);
        if fault.of(taken)?.is_none() {
            // Its claims have not ended: what says so stays.
            names.retain(|other| *other != name);
        }
    }
    redo(queue, me, &run, &names, &mut fault)?;
    fault.result()
}

/// Ends an attempt that this process may hold as handed back.
fn own_claim(queue: &Queue, me: &mut Proc, key: &Key) -> Result<()> {
    let wid = me.wid.clone();
    let Some(task) = tasks::look(queue, &key.task)? else { return Ok(()) };
    // A claim of another kind (to cancel) ends as that kind does, below.
    let kind = me.card.kind;
    let claimer = tasks::claimer(queue, &task, key.n)?;
    let mine = claimer.filter(|card| me.card.is_called(&card.wid) && card.kind == kind);
    if let Some(Card { wid: holder, .. }) = mine
        && !task.names.ends.contains(&key.n)
        && !me.intent_is_staged(queue, key)
    {
        let Ok(spec) = task.spec.clone() else { return Ok(()) };
        let lease = super::claim::Lease::new(queue, key.clone(), task, spec)?;
        let why = "a step of its worker failed".to_owned();
        let end = End { why, holder, ..End::new(Verdict::Release, true) };
        end::record(queue, me, &lease, end)?;
    }
    claim_of_dead(queue, me, &wid, key, Death::Left).map(drop)
}

fn uid_of(queue: &Queue, staged: &Path) -> Result<Option<String>> {
    match queue.fs.read(staged, 0, RECORD_MAX) {
        Ok(bytes) => Ok(record::parse::<record::Spec>(&bytes).ok().map(|spec| spec.uid)),
        Err(e) if tasks::is_of_the_file(&e) => Ok(None),
        Err(e) => Err(e).cannot("read a staged task", staged),
    }
}

/// Links `procs/W/end`. False: the process is no longer registered.
fn declare(queue: &Queue, me: &Proc, wid: &str, death: Death) -> Result<bool> {
    let dir = queue.layout.proc(wid);
    if queue.fs.stat(&dir.join("end")).is_ok() {
        return Ok(true);
    }
    let word = death.word();
    let note = Note { death: word.to_owned(), ..Note::new(&me.wid, queue.now(), word) };
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
        if queue.fs.exists(&task.dir.path.join(format!("{}.claim", key.n))) {
            // A shared file system's listing lags behind; nothing may be concluded from it.
            let what = format!("the listing of tasks/{} lags behind", key.task);
            return Err(Error::new(Exit::Temporary, what));
        }
        // Not claimed, read after the death: it never will be. If the process may still live (only
        // its lease ran out) the claim may still come, so the intent stays.
        if death.is_certain() {
            settle_all(queue, me, &key.task)?;
            drop_intent(queue, &intent, &staged)?;
        }
        return Ok(false);
    }
    let claimer = tasks::claimer(queue, &task, key.n)?;
    let of_process = |card: &Card| card.wid == wid || procs::names(queue, wid).contains(&card.wid);
    let own = claimer.as_ref().is_none_or(of_process) || !rule!("F12");
    // A hold stands by itself; it ends only with the verdict that its process had staged.
    let stands = claimer.as_ref().is_some_and(|card| card.kind == CardKind::Hold) && rule!("F8");
    let endable = !stands || queue.fs.exists(&staged);
    let ended = task.names.ends.contains(&key.n);
    let mut late = task.names.lates.contains(&key.n);
    let mut back = false;
    if own && endable && (!ended || queue.fs.exists(&staged)) {
        (late, back) = decide(queue, me, &task, key, claimer.as_ref(), death, &staged)?;
    }
    // Follow-ups whatever the register says and whoever wrote it (R4); then the intent may go.
    if rule!("R4.recoverer") || !ended {
        end::announce_for_dead(queue, me, key, late)?;
    }
    if let Some(card) = claimer.filter(|_| own && stands && !ended) {
        // It died between its claim and its event, perhaps: the hold must be known of.
        events::append(queue, me, Event { by: card.wid, ..Event::of("hold", key) });
    }
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
    // What was staged is finished work: that it cannot be read *now* must not throw it away.
    let bytes = match queue.fs.read(staged, 0, RECORD_MAX) {
        Err(e) if !tasks::is_of_the_file(&e) => return Err(e).cannot("read a result", staged),
        other => other.unwrap_or_default(),
    };
    if record::parse::<End>(&bytes).is_ok() {
        step!("recover.link_staged");
        let ended = end::decide(queue, me, task, key.n, staged, &bytes)?;
        return Ok((matches!(ended, Ended::Fenced(_)), false));
    }
    if task.names.ends.contains(&key.n) {
        return Ok((false, false));
    }
    let end = verdict_for(queue, me, task, key, claimer, death)?;
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
) -> Result<End> {
    let before = tasks::end_before(queue, task, key.n)?;
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
            // The reason of whoever wanted to cancel it is not known; one that follows from the
            // registers is, and decides whether the task is revived with its dependency.
            let (why, because) = match readiness(queue, task, key.n)? {
                Readiness::CancelDue(why, on) => (why, on.unwrap_or_default()),
                _ => (base.why.clone(), String::new()),
            };
            let verdict = Verdict::Cancel;
            return Ok(End { verdict, retry: false, charged, boots, why, because, ..base });
        }
        // A person's command died before it had staged what the person decided.
        Some(CardKind::Human | CardKind::Hold) => {
            return Ok(End { verdict: Verdict::Release, charged, boots, ..base });
        }
        _ => {}
    }
    if claimer.is_some_and(|card| identity::is_of_another(queue, card)) {
        // It goes on, in the directory that this is a copy of, or was ended there. No fault of the task.
        let why = Death::Copied.word().to_owned();
        return Ok(End { verdict: Verdict::Release, charged, boots, why, ..base });
    }
    if lane_name(&task.id).is_some() {
        // A lane is never over: no death is charged to it, and every end of a turn permits the next.
        return Ok(End { charged, boots, ..base });
    }
    if death == Death::Boot {
        let (boots, charged, retry) = retry::after_boot(boots, charged, max);
        return Ok(End { retry, charged, boots, ..base });
    }
    let (charged, retry) = retry::after_failure(charged, max, false);
    Ok(End { retry, charged, boots, ..base })
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
    let claimer = tasks::claimer(queue, task, n)?;
    let intent = me.settle_intent(queue, &task.id)?;
    let none = me.run("_none");
    let place = queue.host.place();
    let of_boot =
        claimer.as_ref().is_none_or(|c| c.host_id == place.host_id && c.boot != place.boot);
    let death = if of_boot { Death::Boot } else { Death::Gone };
    decide(queue, me, task, &key, claimer.as_ref(), death, &none)?;
    end::announce_for_dead(queue, me, &key, false)?;
    queue.discard(&intent)
}

#[cfg(test)]
mod tests;
