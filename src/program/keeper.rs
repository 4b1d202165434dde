//! The keeper: finds the dead and gives their work back, promotes what is due, takes what was put
//! into incoming/. It is what the monitor does, and what any idle worker does when no monitor lives.
//!
//! Several keepers at once are harmless: all they do is idempotent, and every decision is one link.
//!
//! How a death is seen:
//! - a process of this host, boot and pid namespace: by its pidfd, in milliseconds;
//! - of an earlier boot of this host: at once;
//! - any other one that holds a claim: its heartbeat has not changed for a lease *on this keeper's
//!   own monotonic clock*, watched all the time. The clocks start anew when the keeper itself was
//!   late or the machine slept, so a stopped keeper or a suspended machine expires nobody.
//!
//! Before a local process is declared dead, what it left running is ended: its work must not change
//! anything after somebody else has got it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::error::Result;
use crate::queue::procs::{self, Proc};
use crate::queue::{Queue, events, sweep};
use crate::sys::wake::{Wake, Watch};

use super::stumble::Stumble;

mod bury;
mod due;
mod judge;

use judge::Watched;

/// Pause before a recovery that failed (a full disk) is tried again, milliseconds.
const RETRY_MS: u64 = 1000;
/// Blocked entries that one safety scan looks at again.
const BLOCKED_BATCH: usize = 256;
/// Full sweeps come this often, for what nobody has noticed.
const SWEEP_EVERY_MS: u64 = 3_600_000;
/// Keys of watched deaths begin here; smaller ones belong to the program around the keeper.
const FIRST_KEY: u64 = 1000;

/// The state of a keeper; all of it can be lost.
pub struct Keeper {
    rescan_ms: u64,
    archive_after_ms: Option<u64>,
    watched: BTreeMap<String, Watched>,
    unkillable: BTreeSet<String>,
    next_key: u64,
    last_look_ms: u64,
    sleep_ms: u64,
    next_scan_ms: u64,
    next_sweep_ms: u64,
    blocked_from: String,
    incoming_due_ms: Option<u64>,
    started: bool,
    busy: bool,
    stumble: Stumble,
    /// Attempts taken back, and tasks accepted from incoming/, for whoever reports.
    pub report: Vec<String>,
}

impl Keeper {
    /// A keeper that has not looked yet.
    pub fn new(queue: &Queue, rescan_ms: u64) -> Keeper {
        let now_ms = queue.clock.mono_ms();
        Keeper {
            rescan_ms,
            archive_after_ms: None,
            watched: BTreeMap::new(),
            unkillable: BTreeSet::new(),
            next_key: FIRST_KEY,
            last_look_ms: 0,
            sleep_ms: 0,
            next_scan_ms: now_ms,
            next_sweep_ms: now_ms + SWEEP_EVERY_MS,
            blocked_from: String::new(),
            incoming_due_ms: None,
            started: false,
            busy: false,
            stumble: Stumble::default(),
            report: Vec::new(),
        }
    }

    /// The same keeper, which also archives what has been done for so long, each time that it sweeps.
    #[must_use]
    pub fn archiving(self, archive_after_ms: Option<u64>) -> Keeper {
        Keeper { archive_after_ms, ..self }
    }

    /// The paths that a keeper wants to hear of.
    fn bells(queue: &Queue) -> [PathBuf; 3] {
        let l = &queue.layout;
        [l.procs_bell(), l.delayed_bell(), l.incoming()]
    }

    /// Looks at everything with its next tick.
    pub fn look_again(&mut self) {
        self.next_scan_ms = 0;
    }

    /// Stops being the keeper: forgets all watches.
    pub fn stand_down(&mut self, queue: &Queue, waiter: &mut dyn Watch) {
        for bell in Keeper::bells(queue) {
            waiter.unwatch(&bell);
        }
        waiter.unwatch(&queue.layout.events_bell());
        for watched in self.watched.values() {
            waiter.unwatch_death(watched.key);
        }
        *self = Keeper::new(queue, self.rescan_ms).archiving(self.archive_after_ms);
    }

    /// One look at everything that may need a keeper. Returns when to look again at the latest, in
    /// milliseconds of the monotonic clock. The process around it runs no attempt meanwhile.
    pub fn tick(
        &mut self,
        queue: &Queue,
        me: &mut Proc,
        waiter: &mut dyn Watch,
        wakes: &[Wake],
    ) -> Result<u64> {
        self.stumble.mend(queue, me)?;
        events::tell_again(queue, me);
        let looked = self.look(queue, me, waiter, wakes);
        if looked.is_err() {
            self.stumble.note(queue);
        }
        looked
    }

    fn look(
        &mut self,
        queue: &Queue,
        me: &mut Proc,
        waiter: &mut dyn Watch,
        wakes: &[Wake],
    ) -> Result<u64> {
        let now_ms = queue.clock.mono_ms();
        let lost = wakes.contains(&Wake::Rescan);
        if !self.started || lost {
            match self.started {
                false => sweep::restore(queue, me)?,
                true => sweep::restore_at_work(queue, me)?,
            }
            for bell in Keeper::bells(queue) {
                if lost {
                    waiter.unwatch(&bell);
                }
                waiter.watch(&bell);
            }
        }
        let scan = !self.started || lost || now_ms >= self.next_scan_ms;
        let rung = |path: PathBuf| {
            wakes.iter().any(|w| matches!(w, Wake::Bell(p) if *p == path || p.starts_with(&path)))
        };
        let died = wakes.iter().any(|w| matches!(w, Wake::Died(key) if *key >= FIRST_KEY));
        let mut next_ms = now_ms + self.rescan_ms;
        let claimed = rung(queue.layout.events_bell());
        if scan || died || claimed || rung(queue.layout.procs_bell()) || self.lease_due(queue) {
            self.look_at_processes(queue, me, waiter)?;
        }
        if self.busy {
            next_ms = next_ms.min(now_ms + self.lease_look_ms());
        }
        if scan
            || rung(queue.layout.incoming())
            || self.incoming_due_ms.is_some_and(|due_ms| now_ms >= due_ms)
        {
            self.take_incoming(queue, me, now_ms)?;
        }
        if let Some(due_ms) = self.incoming_due_ms {
            next_ms = next_ms.min(due_ms);
        }
        if let Some(left_ms) = self.promote(queue, me)? {
            next_ms = next_ms.min(now_ms + left_ms);
        }
        if scan {
            self.started = true;
            self.next_scan_ms = now_ms + self.rescan_ms;
            sweep::restore_at_work(queue, me)?;
            if now_ms >= self.next_sweep_ms {
                sweep::sweep_and_archive(queue, me, self.archive_after_ms)?;
                self.next_sweep_ms = now_ms + SWEEP_EVERY_MS;
            } else {
                sweep::sweep_once_a_boot(queue, me, self.archive_after_ms)?;
            }
            // Also after a sweep, which does not see the entries of tasks that are over.
            self.look_at_blocked(queue, me)?;
        }
        Ok(next_ms.min(self.next_scan_ms))
    }

    // --- the dead ---

    fn look_at_processes(
        &mut self,
        queue: &Queue,
        me: &mut Proc,
        waiter: &mut dyn Watch,
    ) -> Result<()> {
        self.mind_the_clock(queue);
        // While nobody holds a claim there is no heartbeat to judge, and the first claim is heard of
        // by its event. From then on the clock drives the looks and events are not listened to.
        let events = queue.layout.events_bell();
        if !self.busy {
            waiter.watch(&events);
        }
        self.busy = false;
        let present: BTreeSet<String> = procs::all(queue)?.into_iter().collect();
        let gone: Vec<String> =
            self.watched.keys().filter(|wid| !present.contains(*wid)).cloned().collect();
        for wid in gone {
            self.forget(&wid, waiter);
        }
        let mut failed = None;
        for wid in present {
            if wid == me.wid {
                continue;
            }
            // One that cannot be recovered now must not keep the others from it.
            let looked = self.judge(queue, &wid, waiter).and_then(|death| match death {
                Some(death) => self.bury(queue, me, &wid, death, waiter),
                None => Ok(()),
            });
            if let Err(e) = looked {
                failed = failed.or(Some(e));
            }
        }
        if self.busy {
            waiter.unwatch(&events);
        } else {
            waiter.watch(&events);
        }
        match failed {
            None => Ok(()),
            Some(e) => {
                // Its death is reported only once: this keeper has to come back by itself.
                self.next_scan_ms = queue.clock.mono_ms() + RETRY_MS;
                Err(e)
            }
        }
    }

    /// All leases start anew if this keeper did not watch all the time.
    fn mind_the_clock(&mut self, queue: &Queue) {
        let (mono, boot) = (queue.clock.mono_ms(), queue.clock.boot_ms());
        let slept = boot.saturating_sub(mono);
        let usual = if self.busy { self.lease_look_ms() } else { self.rescan_ms };
        let late = mono.saturating_sub(self.last_look_ms) > usual * 2 + 500;
        if late || slept > self.sleep_ms + 1000 {
            for watched in self.watched.values_mut() {
                watched.beat.1 = mono;
            }
        }
        self.last_look_ms = mono;
        self.sleep_ms = slept;
    }
}
