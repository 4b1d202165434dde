//! Claiming and starting: from the ready list to a running command.

use std::cell::RefCell;

use crate::error::{Error, Exit, Result, is_of_place};
use crate::queue::claim::{Claimed, Lease, claim};
use crate::queue::events;
use crate::queue::ids::Key;
use crate::queue::record::{End, Spec, Verdict, duration};
use crate::queue::tasks;
use crate::rule;
use crate::run::attempt;
use crate::run::pausing::{Help, put_off};
use crate::run::pool::Pool;
use crate::sys::clock::rfc3339;
use crate::sys::wake::Watch;

use super::super::room;
use super::following::Ending;
use super::{Job, LOSSES_MAX, Worker};

/// What keeps a worker from claiming anything, as notices name it.
pub const PAUSED: &str = "pause";
/// The same: there is no room for new work.
pub const ROOM: &str = "room";
/// The same: the machine, or the place, refuses what an attempt needs.
pub const REFUSED: &str = "machine";

/// A worker to which the machine has refused what an attempt needs rests for so long, at first and at most,
/// milliseconds.
const REST_MS: (u64, u64) = (1000, 30_000);

impl Worker {
    /// Claims and starts one task. False: there is nothing to claim now.
    pub(super) fn take_one(&mut self, waiter: &mut dyn Watch, paused: bool) -> Result<bool> {
        if paused {
            self.say_about(PAUSED, "paused: coord resume");
            return Ok(false);
        }
        let no_room = room::wanting(&self.site);
        self.is_held_back = no_room.is_some();
        if let Some(why) = no_room {
            self.say_about(ROOM, &why);
            return Ok(false);
        }
        if self.now_ms() < self.refused.0 {
            self.is_held_back = true;
            return Ok(false);
        }
        if self.said_about != REFUSED {
            self.unsay();
        }
        if std::mem::take(&mut self.rung) {
            self.finder.rung(&self.site.queue)?;
        }
        if self.hurried {
            self.roll.call(&self.site.queue, &self.me)?;
        }
        self.finder.hurry(self.hurried.then_some(&self.roll));
        let mut losses = 0;
        loop {
            let Some(candidate) = self.finder.next(&self.site.queue)? else {
                if std::mem::take(&mut self.look_again) {
                    self.finder.restart(&self.site.queue)?;
                    continue;
                }
                return Ok(false);
            };
            if !self.is_ours(&candidate.key.task) || !self.is_due(&candidate.key) {
                continue;
            }
            let (site, labels) = (&self.site, &self.options.labels);
            let suits = |spec: &Spec| {
                spec.needs.iter().all(|need| labels.contains(need))
                    && (spec.array.is_some() || attempt::command(site, spec).is_some())
            };
            let claimed = claim(&self.site.queue, &mut self.me, &candidate, suits);
            let Some(claimed) = self.note(&candidate.key, claimed)? else { continue };
            match claimed {
                Claimed::Won(lease) => {
                    self.finder.won();
                    self.looked_twice = false;
                    self.rested_ms = None;
                    if self.said_about != REFUSED {
                        self.said.clear();
                    }
                    self.start(waiter, *lease)?;
                    return Ok(true);
                }
                Claimed::Lost => {
                    self.finder.lost();
                    losses += 1;
                    if losses > LOSSES_MAX {
                        return Ok(false);
                    }
                }
                Claimed::Unsuited if !rule!("F18") => {
                    self.finder.restart(&self.site.queue)?;
                    return Ok(false);
                }
                Claimed::Stale => self.finder.gone(),
                Claimed::Unsuited => {}
                Claimed::Busy if self.hears_scopes => {}
                Claimed::Busy => {
                    // From now on it hears when a scope becomes free; some may have before (R6).
                    self.hears_scopes = true;
                    waiter.watch(&self.site.queue.layout.scopes_bell());
                    self.look_again = rule!("R6.scope");
                }
                Claimed::Array(lease) => {
                    let came = self.come_to_array(waiter, *lease);
                    if self.note(&candidate.key, came)? == Some(true) {
                        self.finder.won();
                        return Ok(true);
                    }
                }
                Claimed::Dead => {
                    self.register_anew(waiter)?;
                    if self.astray {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Whether a task is to be tried: it was not put aside, or its pause is over.
    pub(super) fn is_due(&self, key: &Key) -> bool {
        self.aside.is_empty() || self.aside.is_due(&format!("tasks/{}", key.task), self.now_ms())
    }

    /// What became of a task that this worker has met. One that cannot be looked at is put aside, and what
    /// was begun with it is cleared up before the next one.
    pub(super) fn note<T>(&mut self, key: &Key, went: Result<T>) -> Result<Option<T>> {
        if went.is_ok() && self.aside.is_empty() {
            return went.map(Some);
        }
        let failed = went.is_err();
        let entry = format!("tasks/{}", key.task);
        let went = self.aside.note(&self.site.queue, &mut self.me, &entry, went)?;
        if failed {
            self.stumble.note(&self.site.queue);
            self.stumble.mend(&self.site.queue, &mut self.me)?;
        }
        Ok(went)
    }

    /// Whether it may work at that task.
    pub(super) fn is_ours(&self, task: &str) -> bool {
        self.options.only.as_ref().is_none_or(|only| only == task)
    }

    pub(super) fn start(&mut self, waiter: &mut dyn Watch, lease: Lease) -> Result<()> {
        let (key, title) = (lease.key.clone(), lease.spec.title.clone());
        self.began_ms = self.now_ms();
        self.claimed_as.clone_from(&self.me.wid);
        self.next_beat_ms = self.began_ms + self.beat_every_ms(&lease.spec);
        // Nothing between the claim and its job may fail the worker: a lost beat is made up for.
        if let Err(e) = self.me.beat(&self.site.queue) {
            tracing::warn!(error = %e, "cannot beat");
        }
        self.last_beat_boot_ms = self.site.queue.clock.boot_ms();
        tracing::info!(task = %key.task, attempt = key.n, "claimed");
        self.tell(&format!("{} {} attempt {}", key.task, title, key.n));
        if Pool::of(&self.site).is_some() {
            // Git may take its time with a worktree, and people want to know who has the task.
            events::flush(&self.site.queue, &mut self.me);
        }
        let orders = self.orders();
        let waiter = RefCell::new(waiter);
        let handed_back = || orders.hand_back(&mut **waiter.borrow_mut());
        let started = attempt::start(&self.site, &self.me, lease, &mut self.slot, &handed_back);
        match started {
            Ok(Ok(attempt)) => {
                self.job = Job::Running(Box::new(attempt));
                if std::mem::take(&mut self.refused) != (0, 0) {
                    self.unsay();
                }
            }
            Ok(Err((lease, end))) => {
                self.job = Job::Ending(Box::new(Ending::new(lease, end)), self.now_ms());
            }
            Err(e) => {
                tracing::error!(error = %e.one_line(), "cannot start an attempt");
                self.stumble.note(&self.site.queue);
                let Some(lease) = self.held(&key)? else { return Err(e) };
                let end = self.end_of_refused(&lease, &e);
                self.job = Job::Ending(Box::new(Ending::new(lease, end)), self.now_ms());
                // Where git cannot even be started, its repository cannot be judged.
                if e.exit == Exit::Environment && !e.is_of_surroundings() {
                    self.leave_if_broken();
                }
            }
        }
        events::flush(&self.site.queue, &mut self.me);
        self.conclude_ending();
        Ok(())
    }

    /// The end of an attempt that could not be started for no fault of its task (a full disk): it is handed
    /// back, uncharged, for later.
    fn end_of_refused(&mut self, lease: &Lease, error: &Error) -> End {
        let below = self.site.queue.layout.task(&lease.key.task);
        let is_own = error.at.as_ref().is_some_and(|at| at.starts_with(below));
        let is_of_place = error.errno().is_some_and(is_of_place);
        let mut end = End { why: error.in_full(), ..End::new(Verdict::Release, true) };
        // What stands in this task's directory hinders no other one.
        if !(is_of_place && is_own) {
            // Nor does a program that is being written.
            let rests = error.is_of_surroundings();
            let pause_ms = if rests { self.rest(&end.why) } else { REST_MS.0 };
            let due_ms = self.site.queue.clock.wall_ms() + pause_ms;
            end.not_before = Some(rfc3339(due_ms));
        }
        if !is_of_place {
            return end;
        }
        let hint = error.hint.as_deref().unwrap_or_default();
        put_off(&self.site, lease, end, Help::Perhaps(hint))
    }

    /// The machine has refused what an attempt needs: the next task would meet the same. Rests, and returns
    /// for how long, milliseconds.
    fn rest(&mut self, why: &str) -> u64 {
        let pause_ms = (self.refused.1 * 2).clamp(REST_MS.0, REST_MS.1);
        self.refused = (self.now_ms() + pause_ms, pause_ms);
        self.say_about(REFUSED, &format!("no attempt can be started: {why}; trying again"));
        pause_ms
    }

    /// Where the repository has become such that no attempt can have a worktree of it, the next task
    /// would meet the same: whoever mends it starts work again.
    pub(super) fn leave_if_broken(&mut self) {
        if self.is_astray(&[]) {
            return;
        }
        if let Some(refusal) = self.site.refusal_now() {
            let hint = refusal.hint.clone().unwrap_or_default();
            let text = format!("no attempt can be prepared: {}: {hint}", refusal.message);
            let event = events::Event { k: "notice".to_owned(), ..events::Event::default() };
            events::append(&self.site.queue, &mut self.me, event.why(&text));
            self.leaving = true;
            self.broken = Some(refusal);
        }
    }

    /// The lease on an attempt that this worker holds, read from the queue.
    pub(super) fn held(&self, key: &Key) -> Result<Option<Lease>> {
        let Some(task) = tasks::look(&self.site.queue, &key.task)? else { return Ok(None) };
        let Ok(spec) = task.spec.clone() else { return Ok(None) };
        Lease::new(&self.site.queue, key.clone(), task, spec).map(Some)
    }

    pub(super) fn beat_every_ms(&self, spec: &Spec) -> u64 {
        let own_ms = duration(spec.lease_s).map(|lease| attempt::as_ms(lease / 4));
        let usual_ms = self.site.config.lease.heartbeat_ms;
        own_ms.map_or(usual_ms, |own_ms| own_ms.min(usual_ms))
    }
}
