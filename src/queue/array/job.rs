//! One job of an array: claim, end, and the line that tells of it.
//!
//! Steps (the states that a crash leaves are in queue-layout.md, "Arrays"):
//! 1. once a chunk: touch `run/_jobs.T.START`: the intent;
//! 2. link the card to `jobs/START/JOB.n.claim`: **the claim is decided**;
//! 3. look whether this process was declared dead meanwhile: then the try is handed back. Where the
//!    call did not say that the name is new, look whether the try has ended: then it was won before;
//! 4. (it runs) link the record of its end to `JOB.n.end`: **the try is decided**;
//! 5. append the line to `jobs/W.log`, ring;
//! 6. once a chunk: drop the intent, when nothing of this process is open in it.

use std::path::{Path, PathBuf};

use crate::error::{Cannot, Result};
use crate::rule;
use crate::step;
use crate::sys::fs::Log;

use super::super::Queue;
use super::super::durable;
use super::super::procs::Proc;
use super::super::record::{self, Card, End, Line, Verdict};
use super::super::register::{Held, Source, publish};
use super::chunk::{Chunk, claim_name, end_name};

/// How often a job may be ended by the death of its worker before that counts as its failure: one
/// that takes its worker with it must not do so for ever.
const DEATHS_MAX: u32 = 3;

/// Bytes that most lines of a log need no more than.
const LINE_USUAL: usize = 160;

/// How an attempt to claim a job went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is ours.
    Won,
    /// Somebody else has it, or had it.
    Lost,
    /// This process was declared dead after it had won: the try was handed back.
    Back,
    /// This process was declared dead: it must register anew.
    Dead,
}

/// The intent that covers all claims of this process in a chunk. Made before the first of them.
/// `None`: this process was declared dead, and its registration is gone.
pub fn intend(queue: &Queue, me: &Proc, id: &str, start: u64) -> Result<Option<PathBuf>> {
    let intent = me.run(&intent_name(id, start));
    step!("jobs.intent");
    if !rule!("R4.intent") {
        return Ok(Some(intent));
    }
    match queue.fs.touch(&intent) {
        Err(_) if me.is_declared_dead(queue) => Ok(None),
        other => other.cannot("write an intent", &intent).map(|()| Some(intent)),
    }
}

/// `_jobs.T.START`.
pub fn intent_name(id: &str, start: u64) -> String {
    format!("_jobs.{id}.{start:010}")
}

/// The task and the chunk that an intent names.
pub fn parse_intent(name: &str) -> Option<(&str, u64)> {
    let (id, start) = name.strip_prefix("_jobs.")?.rsplit_once('.')?;
    super::super::ids::is_task_id(id).then_some(())?;
    Some((id, super::start_of(start)?))
}

/// Claims try `n` of a job. Steps 2 and 3.
pub fn claim(queue: &Queue, me: &mut Proc, chunk: &mut Chunk, job: u64, n: u32) -> Result<Taken> {
    let kind = me.card.kind;
    // With the registration its directory went: there is nothing to link any more.
    let place = match me.place(queue) {
        Err(_) if me.is_declared_dead(queue) => return Ok(Taken::Dead),
        other => other?,
    };
    let mut card = me.card_for(queue, kind)?;
    durable::card(queue, me, &card, kind)?;
    let name = claim_name(job, n);
    let mine = |bytes: &[u8], wid: &str| record::parse::<Card>(bytes).is_ok_and(|c| c.wid == wid);
    step!("jobs.claim");
    let ours = |bytes: &[u8]| mine(bytes, &me.wid);
    let held = match publish(queue, Source::of(&place, &card), &chunk.dir, &name, ours) {
        Err(e) if e.errno() == Some(nix::libc::EMLINK) => {
            card = me.next_card(queue, kind)?;
            durable::card(queue, me, &card, kind)?;
            let ours = |bytes: &[u8]| mine(bytes, &me.wid);
            publish(queue, Source::of(&place, &card), &chunk.dir, &name, ours)?
        }
        // Without the card there is nothing that could be linked: it went with the registration.
        Err(_) if me.is_declared_dead(queue) => return Ok(Taken::Dead),
        other => other?,
    };
    if !held.is_ours() {
        return Ok(Taken::Lost);
    }
    let before = !chunk.won.insert((job, n));
    // A claim of our own that was made before: the listing did not show it yet, or there was none
    // since an earlier stay in this chunk.
    if held == Held::Ours && rule!("R2.own") && (before || chunk.has(queue, &end_name(job, n))) {
        return Ok(Taken::Lost);
    }
    durable::claim(queue, &chunk.dir, kind)?;
    // Its card was there to be linked, so only `end` can say it.
    if rule!("R2.own") && queue.fs.exists_in(&place, "end") {
        let end = End { why: "declared dead".to_owned(), ..End::new(Verdict::Release, true) };
        end_as(queue, me, chunk, job, n, end)?;
        return Ok(Taken::Back);
    }
    Ok(Taken::Won)
}

/// Ends a try as a plain success: a link to a record that this process has made before. False: it was
/// ended by somebody else. Step 4. `stamp`: for which rule it counts.
pub fn succeed(
    queue: &Queue,
    me: &mut Proc,
    chunk: &Chunk,
    (job, n): (u64, u32),
    stamp: u32,
) -> Result<bool> {
    let name = end_name(job, n);
    let place = me.place(queue)?;
    let record = me.success(queue, false, stamp)?;
    let ours = |bytes: &[u8]| is_of(bytes, &me.wid);
    step!("jobs.end");
    let held = match publish(queue, Source::of(&place, &record), &chunk.dir, &name, ours) {
        Err(e) if matches!(e.errno(), Some(nix::libc::EMLINK | nix::libc::ENOENT)) => {
            let record = me.success(queue, true, stamp)?;
            let ours = |bytes: &[u8]| is_of(bytes, &me.wid);
            publish(queue, Source::of(&place, &record), &chunk.dir, &name, ours)?
        }
        other => other?,
    };
    durable::task(queue, &chunk.dir)?;
    Ok(held.is_ours())
}

fn is_of(bytes: &[u8], wid: &str) -> bool {
    record::parse::<End>(bytes).is_ok_and(|end| end.by == wid)
}

/// Ends a try in another way. False: it was ended by somebody else. Step 4.
pub fn end_as(
    queue: &Queue,
    me: &Proc,
    chunk: &Chunk,
    job: u64,
    n: u32,
    mut end: End,
) -> Result<bool> {
    end.by.clone_from(&me.wid);
    if end.holder.is_empty() {
        end.holder.clone_from(&me.wid);
    }
    end.ended = queue.now();
    let bytes = record::to_bytes(&end.fitting());
    let staged = me.run(&format!("_job.{job}.{n}"));
    step!("jobs.stage");
    queue.stage(&staged, &bytes, "write the end of a job")?;
    // Tried again after an error, it has a later time.
    let of = |bytes: &[u8]| {
        record::parse::<End>(bytes).map(|end| (end.by, end.holder, end.verdict, end.why))
    };
    let ours = |theirs: &[u8]| theirs == bytes || of(theirs).is_ok_and(|end| of(&bytes) == Ok(end));
    step!("jobs.end_as");
    let held = publish(queue, &staged, &chunk.dir, &end_name(job, n), ours);
    queue.discard(&staged)?;
    let held = held?;
    durable::task(queue, &chunk.dir)?;
    Ok(held.is_ours())
}

/// The end of a try that failed: charged, and final with the last try.
pub fn failure(before: Option<&End>, tries: u32, round: u32, why: &str) -> End {
    // What failed for good in an earlier round begins anew.
    let before = before.filter(|end| end.retry);
    let charged = before.map_or(0, |end| end.charged).saturating_add(1);
    let mut end = End::new(Verdict::Fail, charged < tries.max(1));
    end.why = why.to_owned();
    end.charged = charged;
    end.boots = before.map_or(0, |end| end.boots);
    in_round(end, round)
}

/// The end of a try whose worker is dead: the job is not to blame, the first times.
pub fn expiry(before: Option<&End>, round: u32, why: &str) -> End {
    let before = before.filter(|end| end.retry);
    let deaths = before.map_or(0, |end| end.boots).saturating_add(1);
    let mut end = End::new(Verdict::Expired, deaths < DEATHS_MAX);
    end.why = why.to_owned();
    end.charged = before.map_or(0, |end| end.charged);
    end.boots = deaths;
    in_round(end, round)
}

/// Of a last try: the round in which it was.
fn in_round(mut end: End, round: u32) -> End {
    if !end.retry {
        end.more.insert("round".to_owned(), round.into());
    }
    end
}

/// Appends the line of a try that has ended. Step 5.
pub fn tell(queue: &Queue, log: &Log, line: &Line) -> Result<()> {
    let mut bytes = Vec::with_capacity(LINE_USUAL);
    // Into memory, it fails only for what no line has: keys that are no strings.
    serde_json::to_writer(&mut bytes, line).unwrap_or_default();
    bytes.push(b'\n');
    step!("jobs.tell");
    queue.fs.append_to(log, &bytes).cannot("append to the log of the jobs", &log.path)
}

/// Drops the intent of a chunk: nothing of this process is open in it. Step 6.
pub fn leave(queue: &Queue, intent: &Path) -> Result<()> {
    step!("jobs.leave");
    queue.discard(intent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_names_a_task_and_a_chunk() {
        for id in ["7", "a.b", "x.0000000001"] {
            let name = intent_name(id, 1025);
            assert_eq!(parse_intent(&name), Some((id, 1025)), "{name}");
        }
        for name in ["_jobs...0000000001", "_jobs.a", "_jobs.a.1", "_jobs.a.0000000000", "a.1"] {
            assert_eq!(parse_intent(name), None, "{name}");
        }
    }

    #[test]
    fn tries_are_counted_within_a_round_and_deaths_apart() {
        let first = failure(None, 2, 0, "exit 1");
        assert!(first.retry && first.charged == 1);
        let dead = expiry(Some(&first), 0, "dead");
        assert!(dead.retry && (dead.charged, dead.boots) == (1, 1));
        let last = failure(Some(&dead), 2, 0, "exit 1");
        assert!(!last.retry && last.charged == 2);
        assert!(failure(Some(&last), 2, 1, "exit 1").retry, "a new round, new tries");
        let mut end = expiry(None, 0, "dead");
        for _ in 1..DEATHS_MAX {
            assert!(end.retry);
            end = expiry(Some(&end), 0, "dead");
        }
        assert!(!end.retry, "one that always takes its worker with it ends");
    }
}
