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
//!
//! Each entry (a process, a file of incoming/, a task that is due) is dealt with by itself: one that
//! cannot be is put aside (aside.rs), and the others are not kept waiting by it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::queue::procs::{self, Proc};
use crate::queue::record::CardKind;
use crate::queue::settle::settle_all;
use crate::queue::{Queue, events, incoming, sweep};
use crate::sys::wake::{Wake, Watch};

use super::aside::Aside;
use super::stumble::Stumble;

mod bury;
mod due;
mod judge;

use bury::Lingering;
use judge::Watched;

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
    lingering: BTreeMap<String, Lingering>,
    next_key: u64,
    last_look_ms: u64,
    sleep_ms: u64,
    next_scan_ms: u64,
    next_sweep_ms: u64,
    blocked_from: String,
    incoming_due_ms: Option<u64>,
    /// When something of delayed/ is due, by the wall clock. Of what comes sooner its bell tells.
    delayed_due_ms: u64,
    started: bool,
    /// Somebody has not beaten for half of its lease.
    doubts: bool,
    /// It has looked at every task, and could not look at some: the next sweep is that of the hour.
    swept: bool,
    busy: bool,
    stumble: Stumble,
    aside: Aside,
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
            lingering: BTreeMap::new(),
            next_key: FIRST_KEY,
            last_look_ms: 0,
            sleep_ms: 0,
            next_scan_ms: now_ms,
            next_sweep_ms: now_ms + SWEEP_EVERY_MS,
            blocked_from: String::new(),
            incoming_due_ms: None,
            delayed_due_ms: 0,
            started: false,
            doubts: false,
            swept: false,
            busy: false,
            stumble: Stumble::default(),
            aside: Aside::default(),
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

    /// Whether intents of the process around it may be left behind by what failed.
    pub fn is_behind(&self) -> bool {
        self.stumble.is_behind()
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
        let (until_ms, failed) = self.look(queue, me, waiter, wakes);
        let left_behind = std::mem::take(&mut me.left_behind);
        if failed.is_some() || left_behind || self.aside.due_ms().is_some() {
            // What failed half-way has left an intent of this process.
            self.stumble.note(queue);
        }
        match failed {
            Some(e) => Err(e),
            None => Ok(self.stumble.due_ms().map_or(until_ms, |due_ms| due_ms.min(until_ms))),
        }
    }

    /// Does what is due, and returns when to look again and the first fault of the machine. No fault keeps
    /// the steps behind it from being done.
    fn look(
        &mut self,
        queue: &Queue,
        me: &mut Proc,
        waiter: &mut dyn Watch,
        wakes: &[Wake],
    ) -> (u64, Option<Error>) {
        let now_ms = queue.clock.mono_ms();
        let mut failed = None;
        let mut note = |went: Result<()>| {
            if let Err(e) = went {
                failed.get_or_insert(e);
            }
        };
        let lost = wakes.contains(&Wake::Rescan);
        if !self.started || lost {
            // As long as somebody removes the queue, nothing is written into it.
            if let Err(e) = self.restore(queue, me, self.started) {
                return (now_ms + self.rescan_ms, Some(e));
            }
            for bell in Keeper::bells(queue) {
                if lost {
                    waiter.unwatch(&bell);
                }
                waiter.watch(&bell);
            }
        }
        let again = self.aside.due_ms().is_some_and(|due_ms| now_ms >= due_ms);
        let scan = !self.started || lost || again || now_ms >= self.next_scan_ms;
        if scan {
            self.aside.take_over(queue, me);
        }
        let rung = |path: PathBuf| {
            wakes.iter().any(|w| matches!(w, Wake::Bell(p) if *p == path || p.starts_with(&path)))
        };
        let died = wakes.iter().any(|w| matches!(w, Wake::Died(key) if *key >= FIRST_KEY));
        let mut next_ms = now_ms + self.rescan_ms;
        let claimed = rung(queue.layout.events_bell());
        let left = self.lingering.values().any(|l| now_ms >= l.again_ms);
        let rung_procs = rung(queue.layout.procs_bell());
        if scan || died || claimed || left || rung_procs || self.lease_due(queue) {
            note(self.look_at_processes(queue, me, waiter));
        }
        let again_ms = self.lingering.values().map(|l| l.again_ms).min();
        next_ms = again_ms.map_or(next_ms, |again_ms| next_ms.min(again_ms));
        if self.busy {
            next_ms = next_ms.min(now_ms + self.lease_look_ms());
        }
        if scan
            || rung(queue.layout.incoming())
            || self.incoming_due_ms.is_some_and(|due_ms| now_ms >= due_ms)
        {
            note(self.take_incoming(queue, me, now_ms));
        }
        if let Some(due_ms) = self.incoming_due_ms {
            next_ms = next_ms.min(due_ms);
        }
        let wall_ms = queue.clock.wall_ms();
        if scan || rung(queue.layout.delayed_bell()) || wall_ms >= self.delayed_due_ms {
            note(self.promote(queue, me));
        }
        let left_ms = self.delayed_due_ms.saturating_sub(queue.clock.wall_ms());
        next_ms = next_ms.min(now_ms.saturating_add(left_ms));
        if scan {
            self.started = true;
            self.next_scan_ms = now_ms + self.rescan_ms;
            if let Err(e) = self.restore(queue, me, true) {
                return (now_ms + self.rescan_ms, Some(e));
            }
            note(incoming::complete_rejected(queue));
            note(self.retry_tasks(queue, me, now_ms));
            note(self.sweep(queue, me, now_ms));
            // Also after a sweep, which does not see the entries of tasks that are over.
            note(self.look_at_blocked(queue, me));
        }
        let due_ms = self.aside.due_ms().unwrap_or(next_ms);
        (next_ms.min(self.next_scan_ms).min(due_ms), failed)
    }

    /// Makes the directories that are missing. `at_work`: this keeper has seen all of them before.
    fn restore(&mut self, queue: &Queue, me: &mut Proc, at_work: bool) -> Result<()> {
        let went = match at_work {
            false => sweep::restore(queue, me),
            true => sweep::restore_at_work(queue, me),
        };
        self.aside.note(queue, me, "directories", went).map(drop)
    }

    /// The sweep that is due, if one is. What it could not look at is tried again one by one.
    fn sweep(&mut self, queue: &Queue, me: &mut Proc, now_ms: u64) -> Result<()> {
        if !self.aside.is_due("sweep", now_ms) {
            return Ok(());
        }
        let went = if now_ms >= self.next_sweep_ms {
            self.next_sweep_ms = now_ms + SWEEP_EVERY_MS;
            sweep::sweep_and_archive(queue, me, self.archive_after_ms)
        } else if self.swept {
            return Ok(());
        } else {
            sweep::sweep_once_a_boot(queue, me, self.archive_after_ms)
        };
        let Some(swept) = self.aside.note(queue, me, "sweep", went)? else { return Ok(()) };
        // Its mark is not there as long as something could not be looked at.
        self.swept = !swept.put_aside.is_empty();
        for (id, error) in swept.put_aside {
            self.aside.note(queue, me, &format!("tasks/{id}"), Err::<(), _>(error))?;
        }
        Ok(())
    }

    /// Tries again the tasks that were put aside.
    fn retry_tasks(&mut self, queue: &Queue, me: &mut Proc, now_ms: u64) -> Result<()> {
        let mut failed = None;
        for entry in self.aside.due("tasks/", now_ms) {
            let Some(id) = entry.strip_prefix("tasks/") else { continue };
            let went = settled(queue, me, id);
            if let Err(e) = self.aside.note(queue, me, &entry, went) {
                failed.get_or_insert(e);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    // --- the dead ---

    fn look_at_processes(
        &mut self,
        queue: &Queue,
        me: &mut Proc,
        waiter: &mut dyn Watch,
    ) -> Result<()> {
        self.mind_the_clock(queue, me);
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
            self.forget(queue, &wid, waiter);
        }
        let there: Vec<&str> = present.iter().map(String::as_str).collect();
        self.aside.keep(queue, me, "procs/", &there);
        let now_ms = queue.clock.mono_ms();
        let mut failed = None;
        for wid in &present {
            let entry = format!("procs/{wid}");
            if *wid == me.wid || !self.aside.is_due(&entry, now_ms) {
                continue;
            }
            let looked = self.judge(queue, wid, waiter).and_then(|death| match death {
                Some(death) => self.bury(queue, me, wid, death, waiter),
                None => Ok(()),
            });
            if let Err(e) = self.aside.note(queue, me, &entry, looked) {
                failed.get_or_insert(e);
            }
        }
        if self.busy {
            waiter.unwatch(&events);
        } else {
            waiter.watch(&events);
        }
        failed.map_or(Ok(()), Err)
    }

    /// All leases start anew if this keeper did not watch all the time, or if it cannot write either: on a
    /// file system that is read-only for a while nobody can beat, and nobody is the worse for it.
    fn mind_the_clock(&mut self, queue: &Queue, me: &Proc) {
        let (mono, boot) = (queue.clock.mono_ms(), queue.clock.boot_ms());
        let slept = boot.saturating_sub(mono);
        let usual = if self.busy { self.lease_look_ms() } else { self.rescan_ms };
        let late = mono.saturating_sub(self.last_look_ms) > usual * 2 + 500;
        // Not where nobody is late, since a beat is a write, and not of a command, which has no heartbeat.
        let beats = std::mem::take(&mut self.doubts) && me.card.kind != CardKind::Cli;
        let mute = beats && !me.is_declared_dead(queue) && me.beat(queue).is_err();
        if late || mute || slept > self.sleep_ms + 1000 {
            for watched in self.watched.values_mut() {
                watched.beat.1 = mono;
            }
        }
        self.last_look_ms = mono;
        self.sleep_ms = slept;
    }
}

/// Settles a task under an intent of its own.
fn settled(queue: &Queue, me: &mut Proc, id: &str) -> Result<()> {
    let intent = me.settle_intent(queue, id)?;
    settle_all(queue, me, id)?;
    queue.discard(&intent)
}
