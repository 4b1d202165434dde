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
use std::time::Duration;

use crate::error::Result;

use crate::queue::ids::{Key, short};
use crate::queue::procs::{self, Proc};
use crate::queue::record::{self, Card, CardKind, Note};
use crate::queue::recover::{Death, recover};

use crate::queue::{Queue, events, sweep};
use crate::rule;
use crate::step;
use crate::sys::alive::EnvMark;
use crate::sys::wake::{Wake, Watch};

use super::stumble::Stumble;

mod due;

/// Time for a killed process tree to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a recovery that failed (a full disk) is tried again, milliseconds.
const RETRY_MS: u64 = 1000;
/// Blocked entries that one safety scan looks at again.
const BLOCKED_BATCH: usize = 256;
/// Full sweeps come this often, for what nobody has noticed.
const SWEEP_EVERY_MS: u64 = 3_600_000;
/// Keys of watched deaths begin here; smaller ones belong to the program around the keeper.
const FIRST_KEY: u64 = 1000;

/// What the keeper knows of a process.
struct Watched {
    key: u64,
    card: Card,
    local: bool,
    /// The last heartbeat seen, and since when (milliseconds of the monotonic clock).
    beat: (u64, u64),
    /// The claims that it held at the last look.
    claims: Vec<Key>,
}

/// The state of a keeper; all of it can be lost.
pub struct Keeper {
    rescan_ms: u64,
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
        *self = Keeper::new(queue, self.rescan_ms);
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
            sweep::restore(queue, me)?;
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
            sweep::restore(queue, me)?;
            if now_ms >= self.next_sweep_ms {
                sweep::sweep(queue, me)?;
                self.next_sweep_ms = now_ms + SWEEP_EVERY_MS;
            } else {
                sweep::sweep_once_a_boot(queue, me)?;
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

    /// Whether a process is dead; starts to watch it if it is new.
    fn judge(&mut self, queue: &Queue, wid: &str, waiter: &mut dyn Watch) -> Result<Option<Death>> {
        let dir = queue.layout.proc(wid);
        if !self.watched.contains_key(wid) {
            let Some(card) = procs::card(queue, wid) else {
                // The card goes last: this is what is left of one that was being removed. If its
                // run/ is not empty, a power loss took the card, or somebody did, and fsck names it.
                if procs::is_without_card(queue, wid)?
                    && !procs::dissolve(queue, wid)
                    && procs::is_of_earlier_boot(queue, wid)
                {
                    return Ok(Some(Death::Boot));
                }
                return Ok(None);
            };
            let place = queue.host.place();
            let same_host = card.host_id == place.host_id;
            let local = same_host && card.boot == place.boot && card.pidns == place.pidns;
            let beat = self.heartbeat(queue, wid);
            // A disk of this machine cannot be another's at the same time. On a shared one a clone may
            // carry this machine's id: there the heartbeat must be older than this boot.
            let earlier = same_host && card.boot != place.boot;
            let older = || beat.0 / 1_000_000 < queue.host.booted_at_ms();
            if earlier && (!queue.shared || older()) {
                return Ok(Some(Death::Boot));
            }
            self.next_key += 1;
            let watched = Watched { key: self.next_key, card, local, beat, claims: Vec::new() };
            let gone = local && !waiter.watch_death(watched.key, watched.card.process());
            self.watched.insert(wid.to_owned(), watched);
            if gone {
                return Ok(Some(Death::Gone));
            }
        }
        // What was seen of its claims before its death must not count after it.
        #[cfg(debug_assertions)]
        let seen_alive = crate::queue::recover::seen_alive(queue, wid)?;
        let Some(watched) = self.watched.get(wid) else { return Ok(None) };
        if watched.local && !queue.host.is_alive(watched.card.process()) {
            #[cfg(debug_assertions)]
            for key in seen_alive {
                queue.discard(&dir.join("run").join(key.to_string()))?;
            }
            return Ok(Some(Death::Gone));
        }
        if let Ok(bytes) = queue.fs.read(&dir.join("end"), 0, record::RECORD_MAX) {
            // Someone said that it is over. Only a lease leaves it open whether it still acts.
            let note: Note = record::parse(&bytes).unwrap_or_default();
            return Ok(Some(match note.why == Death::Lease.word() {
                // Another machine could only wait for its lease. Here it can be ended, and must be,
                // before its attempt is given to another: it may be stopped, with its job running.
                true if watched.local && rule!("R5.home") => Death::Hung,
                true => Death::Lease,
                false => Death::Left,
            }));
        }
        self.judge_lease(queue, wid)
    }

    fn heartbeat(&self, queue: &Queue, wid: &str) -> (u64, u64) {
        let path = queue.layout.proc(wid).join("hb");
        let beat = queue.fs.stat(&path).map_or(0, |s| s.mtime_ns);
        (beat, queue.clock.mono_ms())
    }

    /// A process that holds claims and has not beaten for its lease.
    fn judge_lease(&mut self, queue: &Queue, wid: &str) -> Result<Option<Death>> {
        let (beat, now) = self.heartbeat(queue, wid);
        let Some(watched) = self.watched.get_mut(wid) else { return Ok(None) };
        if watched.card.lease_ms == 0 {
            return Ok(None);
        }
        let claims = procs::claims(queue, wid);
        self.busy |= !claims.is_empty();
        // An idle worker does not beat: its clock starts when a claim is first seen here. The intent
        // is there before the first heartbeat, so a changed claim starts the clock too.
        if beat != watched.beat.0 || claims.is_empty() || claims != watched.claims {
            watched.beat = (beat, now);
            watched.claims = claims;
            return Ok(None);
        }
        let lease_ms = claims.iter().map(|key| lease_ms(queue, key, &watched.card)).max();
        let silent_ms = now.saturating_sub(watched.beat.1);
        if silent_ms < lease_ms.unwrap_or(watched.card.lease_ms) {
            return Ok(None);
        }
        Ok(Some(if watched.local { Death::Hung } else { Death::Lease }))
    }

    /// Ends what is left of a dead process, and gives back what it held.
    fn bury(
        &mut self,
        queue: &Queue,
        me: &mut Proc,
        wid: &str,
        death: Death,
        waiter: &mut dyn Watch,
    ) -> Result<()> {
        if matches!(death, Death::Gone | Death::Hung) && !self.end_processes(queue, me, wid)? {
            return Ok(());
        }
        if death == Death::Left
            && let Some(card) = self.watched.get(wid).filter(|w| w.local).map(|w| w.card.clone())
            && !self.end_marked(queue, me, wid, &card)?
        {
            return Ok(());
        }
        let why = match self.watched.get(wid) {
            Some(w) if w.card.kind == CardKind::Worker => death.word(),
            _ => "",
        };
        step!("keeper.recover");
        for key in recover(queue, me, wid, death)? {
            let text = format!("{key} taken back from {} ({why})", short(wid));
            tracing::info!("{text}");
            self.report.push(text);
        }
        self.forget(wid, waiter);
        Ok(())
    }

    /// Kill before fence: the process itself if it hangs, then everything with its mark. False: some
    /// of it cannot be ended; its work stays where it is.
    fn end_processes(&mut self, queue: &Queue, me: &mut Proc, wid: &str) -> Result<bool> {
        let Some(watched) = self.watched.get(wid) else { return Ok(true) };
        let card = watched.card.clone();
        if queue.host.is_alive(card.process()) {
            step!("keeper.kill");
            if !queue.host.kill(card.process(), KILL_PATIENCE) {
                return Ok(self.cannot_end(queue, me, wid, &[card.pid]));
            }
        }
        self.end_marked(queue, me, wid, &card)
    }

    /// Everything that the process started and that still runs.
    fn end_marked(&mut self, queue: &Queue, me: &mut Proc, wid: &str, card: &Card) -> Result<bool> {
        if !card.mark.is_empty() {
            let spare = [queue.host.me().pid, card.pid];
            let mark = EnvMark::program(&card.mark);
            let left = queue.host.kill_marked(&mark, &spare, KILL_PATIENCE);
            if !left.is_empty() {
                return Ok(self.cannot_end(queue, me, wid, &left));
            }
        }
        self.unkillable.remove(wid);
        Ok(true)
    }

    fn cannot_end(&mut self, queue: &Queue, me: &mut Proc, wid: &str, pids: &[i32]) -> bool {
        if self.unkillable.insert(wid.to_owned()) {
            let text = format!(
                "cannot end the processes {pids:?} of {}: its tasks stay with it until they are gone",
                short(wid)
            );
            tracing::error!("{text}");
            let event = events::Event { k: "notice".to_owned(), ..events::Event::default() };
            events::append(queue, me, event.why(&text));
        }
        false
    }

    fn forget(&mut self, wid: &str, waiter: &mut dyn Watch) {
        if let Some(watched) = self.watched.remove(wid) {
            waiter.unwatch_death(watched.key);
        }
    }

    /// Between two looks at heartbeats: a quarter of the shortest lease.
    fn lease_look_ms(&self) -> u64 {
        let leases = self.watched.values().map(|w| w.card.lease_ms).filter(|&ms| ms > 0);
        (leases.min().unwrap_or(self.rescan_ms) / 4).max(100)
    }

    fn lease_due(&self, queue: &Queue) -> bool {
        let since = queue.clock.mono_ms().saturating_sub(self.last_look_ms);
        self.busy && since >= self.lease_look_ms()
    }
}

/// The lease of a claim: the task's own, or the process's.
fn lease_ms(queue: &Queue, key: &Key, card: &Card) -> u64 {
    let path = queue.layout.task(&key.task).join("spec.json");
    let bytes = queue.fs.read(&path, 0, record::RECORD_MAX).unwrap_or_default();
    let own = record::parse::<record::Spec>(&bytes).ok().and_then(|s| s.lease_s);
    record::duration(own).map_or(card.lease_ms, crate::run::attempt::as_ms)
}
