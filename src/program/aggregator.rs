//! The aggregator: folds events into status.json, about 100 ms after a change at most and at most ten
//! times a second. It may be dead for a week; then only status.json is old, and `coord status` folds
//! itself.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::queue::board::Reader;
use crate::queue::procs::{Identity, Proc};
use crate::queue::record::CardKind;
use crate::queue::status::{publish, summarise};
use crate::queue::sweep::{must_be_quiet, restore, restore_at_work};
use crate::run::site::Site;
use crate::sys::wake::{Wake, Watch};

use super::astray;
use super::start::{STOP_SIGNALS, answer, warn_if_blind};

/// Between two publications.
const EVERY: Duration = Duration::from_millis(100);
/// Between an event and its publication, at least: whoever waits for work is woken at the same time and
/// should have the processor, and what it does has events too, which are folded with this one.
const SETTLE: Duration = Duration::from_millis(50);
/// Between two tries to make anew what is missing.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// Runs the aggregator until it is told to end.
pub fn run(site: &Site) -> Result<()> {
    let queue = &site.queue;
    let mut waiter = queue.waiter(STOP_SIGNALS)?;
    let identity = Identity::plain("aggregator", CardKind::Aggregator);
    let mut me = Proc::register(queue, &identity)?;
    restore(queue, &mut me)?;
    waiter.watch(&queue.layout.events_bell());
    warn_if_blind(&waiter);
    let mut reader = Reader::load(queue);
    let rescan = Duration::from_millis(site.config.workers.rescan_ms);
    let mut published: Option<Instant> = None;
    let mut saved = Instant::now();
    let mut deaf = false;
    let mut wakes = Vec::new();
    loop {
        if let Some(why) = astray::left(queue, &mut me) {
            return Err(why);
        }
        if let Err(e) = must_be_quiet(queue, &me) {
            // Published now, the status would be in the way of who removes the queue.
            tracing::warn!("{}", e.one_line());
            deaf = true;
            if waiter.wait(Instant::now() + AGAIN).iter().any(|w| matches!(w, Wake::Signal(_))) {
                me.leave(queue);
                return Ok(());
            }
            continue;
        }
        let changed = reader.catch_up(queue, |_| ())?;
        if changed || published.is_none() {
            match publish(queue, &summarise(queue, &mut reader)) {
                Ok(()) => {}
                Err(e) => tracing::error!(error = %e, "cannot publish the status; will try again"),
            }
            published = Some(Instant::now());
        }
        if changed && saved.elapsed() >= CHECKPOINT_EVERY {
            checkpoint(&mut reader, queue);
            saved = Instant::now();
        }
        if let Err(e) = answer(queue, &mut me, &identity, &mut waiter, &wakes) {
            tracing::error!("cannot register anew: {}; will try again", e.one_line());
        }
        wakes = waiter.wait(Instant::now() + if deaf { AGAIN } else { rescan });
        if wakes.iter().any(|w| matches!(w, Wake::Signal(_))) {
            checkpoint(&mut reader, queue);
            me.leave(queue);
            return Ok(());
        }
        deaf |= wakes.contains(&Wake::Rescan);
        if deaf && queue.is_in_place() {
            waiter.unwatch(&queue.layout.events_bell());
            match restore_at_work(queue, &mut me) {
                Ok(()) => deaf = false,
                Err(e) => tracing::warn!("{}", e.one_line()),
            }
            waiter.watch(&queue.layout.events_bell());
        }
        if !wakes.is_empty() {
            // Not more often than every 100 ms: what comes meanwhile is folded together.
            let since = published.map_or(EVERY, |last| last.elapsed());
            crate::sys::wake::nap(EVERY.saturating_sub(since).max(SETTLE));
        }
    }
}

fn checkpoint(reader: &mut Reader, queue: &crate::queue::Queue) {
    if let Err(e) = reader.save(queue) {
        tracing::error!(error = %e, "cannot write a checkpoint; the next one will");
    }
}
