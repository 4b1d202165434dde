//! Asking a process that cannot be seen from here whether it lives: of another machine, or of another pid
//! namespace. Who is rung touches its heartbeat. queue-layout.md has it in 4.23.

use std::collections::BTreeMap;

use crate::error::Result;

use super::Queue;
use super::identity;
use super::ids::Key;
use super::procs::{self, Proc};
use super::record::{self, Card, CardKind, RECORD_MAX};
use super::recover::{self, Death, recover};

/// The lease of a process whose card has none, milliseconds.
const USUAL_LEASE_MS: u64 = 60_000;

/// What a process elsewhere has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It has given a sign of life since it was asked.
    Lives,
    /// It was asked, and has time to answer.
    Asked,
    /// It has not answered for its lease, by the clock of who asks.
    Silent,
}

struct One {
    beat_ns: u64,
    held: Vec<String>,
    since_ms: u64,
    rung: bool,
}

/// What somebody who waits for answers knows of those that he asks.
#[derive(Default)]
pub struct Asking {
    all: BTreeMap<String, One>,
}

impl Asking {
    /// Asks a process, or looks whether it has answered. `usual_ms`: its lease, if its card has none.
    pub fn ask(&mut self, queue: &Queue, card: &Card, usual_ms: u64) -> Answer {
        let now_ms = queue.clock.mono_ms();
        let beat_ns = beat_ns(queue, &card.wid);
        let claims = procs::claims(queue, &card.wid);
        let longest_ms = claims.iter().map(|key| lease_ms(queue, key, card)).max();
        let lease_ms = longest_ms.unwrap_or(card.lease_ms);
        let lease_ms = if lease_ms == 0 { usual_ms } else { lease_ms };
        let held = procs::intents(queue, &card.wid, true);
        let Some(one) = self.all.get_mut(&card.wid) else {
            procs::ring(queue, &card.wid);
            let one = One { beat_ns, held, since_ms: now_ms, rung: true };
            self.all.insert(card.wid.clone(), one);
            return Answer::Asked;
        };
        // What it has begun since is a sign of life, too.
        if one.beat_ns != beat_ns || one.held != held {
            *one = One { beat_ns, held, since_ms: now_ms, rung: false };
        }
        let over = now_ms.saturating_sub(one.since_ms) >= lease_ms;
        match (one.rung, over) {
            (true, true) => Answer::Silent,
            (true, false) => Answer::Asked,
            (false, false) => Answer::Lives,
            (false, true) => {
                procs::ring(queue, &card.wid);
                (one.since_ms, one.rung) = (now_ms, true);
                Answer::Asked
            }
        }
    }
}

fn beat_ns(queue: &Queue, wid: &str) -> u64 {
    queue.fs.stat(&queue.layout.proc(wid).join("hb")).map_or(0, |stat| stat.mtime_ns)
}

/// The lease of a claim: the task's own, or the process's.
pub fn lease_ms(queue: &Queue, key: &Key, card: &Card) -> u64 {
    let path = queue.layout.task(&key.task).join("spec.json");
    let bytes = queue.fs.read(&path, 0, RECORD_MAX).unwrap_or_default();
    let own = record::parse::<record::Spec>(&bytes).ok().and_then(|spec| spec.lease_s);
    record::duration(own)
        .map_or(card.lease_ms, |lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX))
}

/// Takes a silent process out of the queue. If it holds nothing its directory goes, `run/` first: the rmdir
/// fails where it has begun something behind this look, and without `run/` it begins nothing, and registers
/// anew if it lives after all. What it held for its whole lease is given back, and returned.
pub fn remove(queue: &Queue, me: &mut Proc, wid: &str) -> Result<Vec<Key>> {
    if procs::claims(queue, wid).is_empty() && procs::arrays(queue, wid).is_empty() {
        procs::dissolve(queue, wid);
        return Ok(Vec::new());
    }
    let mut back = Vec::new();
    recover(queue, me, wid, Death::Lease, &mut back).map(|()| back)
}

/// Removes those that hold nothing and have not answered the ring before; rings the others.
pub fn clean(queue: &Queue, me: &mut Proc) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for wid in procs::all(queue)? {
        let Some(card) = procs::card(queue, &wid) else { continue };
        let is_ours = wid == me.wid || card.kind == CardKind::Cli;
        if is_ours || !is_unseen(queue, &card) || !procs::intents(queue, &wid, true).is_empty() {
            continue;
        }
        let bell = queue.fs.stat(&queue.layout.proc(&wid).join("bell"));
        let rung_ns = bell.map_or(0, |stat| stat.mtime_ns);
        let lease_ms = if card.lease_ms == 0 { USUAL_LEASE_MS } else { card.lease_ms };
        let silent_ms = queue.clock.wall_ms().saturating_sub(rung_ns / 1_000_000);
        let over = recover::declared(queue, &wid).is_some();
        // The bell was made with its directory, and nobody had asked then.
        if over || rung_ns > beat_ns(queue, &wid) && silent_ms >= lease_ms {
            if procs::dissolve(queue, &wid) {
                removed.push(wid);
            }
        } else if rung_ns <= beat_ns(queue, &wid) {
            procs::ring(queue, &wid);
        }
    }
    Ok(removed)
}

/// Whether nobody here can tell if it lives. Of an earlier boot of this machine everybody can.
fn is_unseen(queue: &Queue, card: &Card) -> bool {
    let place = queue.host.place();
    let earlier = card.host_id == place.host_id && card.boot != place.boot;
    let ours = !identity::is_of_another(queue, card);
    ours && !procs::can_be_seen(queue, card) && (!earlier || queue.shared)
}
