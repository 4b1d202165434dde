//! Following a running attempt, ending its tree, and recording its end.

use std::cell::RefCell;
use std::time::Duration;

use crate::error::{self, Result};
use crate::queue::claim::Lease;
use crate::queue::end::{self, Ended};
use crate::queue::events;
use crate::queue::ids::{Key, lane_name, short};
use crate::queue::lane;
use crate::queue::leftovers;
use crate::queue::record::{End, Outcome, Verdict};
use crate::rule;
use crate::run::attempt::{self, Attempt};
use crate::run::context::tail;
use crate::run::outcome::{self, Stopped};
use crate::run::vigil::Vigil;
use crate::run::{scope, turn, worktree};
use crate::sys::child;
use crate::sys::remains::{Left, Session};
use crate::sys::tool::Waits;
use crate::sys::wake::{Wake, Watch};

use super::{HURRY_MS, Job, RETRY_RESULT_MS, TREE_PATIENCE, Worker};

/// An attempt that is over, until its end is published.
pub(super) struct Ending {
    pub(super) lease: Lease,
    pub(super) end: End,
    /// Its session, if it had one.
    pub(super) session: Option<Session>,
    /// Something of it still ran when it was looked at last.
    pub(super) left: bool,
    /// People were told of that.
    told: bool,
}

impl Ending {
    pub(super) fn new(lease: Lease, end: End) -> Ending {
        Ending { lease, end, session: None, left: false, told: false }
    }

    /// Of one that ran. `left`: something of it still does.
    fn of(lease: Lease, end: End, session: Session, left: bool) -> Ending {
        Ending { session: Some(session), left, ..Ending::new(lease, end) }
    }
}

impl Worker {
    /// Notes how the running attempt's command ended. Whoever has reaped children says so before
    /// anything else that may fail: nobody is told twice.
    pub fn note_ended(&mut self, ended: &[(i32, child::Exit)]) {
        let of = |pid: i32| ended.iter().find(|(ended, _)| *ended == pid).map(|(_, exit)| *exit);
        match &mut self.job {
            Job::Running(attempt) => attempt.exit = of(attempt.pid).or(attempt.exit),
            Job::Array(stay) => {
                if let Some(running) = &mut stay.running {
                    running.exit = of(running.pid).or(running.exit);
                }
            }
            Job::Idle | Job::Ending(..) => {}
        }
    }

    /// Children that are not an attempt's and must not be ended with its tree.
    pub fn spare(&mut self, pids: Vec<i32>) {
        self.options.spare = pids;
    }

    /// Looks at the running attempt: has it ended, must it end, is a heartbeat due?
    pub(super) fn follow(&mut self, waiter: &mut dyn Watch, wakes: &[Wake]) -> Result<()> {
        let now_ms = self.now_ms();
        if let Job::Running(attempt) = &mut self.job {
            if let Some(exit) = attempt.exit {
                self.finished(waiter, exit);
            } else {
                let grace_ms = self.grace_ms;
                let queue = &self.site.queue;
                if self.hand_back {
                    attempt.stop(queue, Stopped::HandBack, grace_ms);
                }
                let frozen = self.frozen_ms.is_some();
                if !frozen && attempt.deadline_ms.is_some_and(|at_ms| now_ms >= at_ms) {
                    attempt.stop(queue, Stopped::TimeLimit, grace_ms);
                }
                let rung = wakes.iter().any(|w| matches!(w, Wake::Bell(_) | Wake::Rescan));
                if rung || now_ms >= self.next_beat_ms {
                    self.look_at_claim(grace_ms)?;
                }
                self.kill_when_due(waiter, now_ms);
            }
        }
        if now_ms >= self.next_beat_ms && matches!(self.job, Job::Running(_) | Job::Ending(..)) {
            self.beat()?;
        }
        let back = match self.lost_place && !self.astray {
            true => self.come_back(waiter),
            false => Ok(()),
        };
        self.conclude_ending();
        back?;
        let own = self.me.dir().join("bell");
        if matches!(self.job, Job::Idle) && wakes.contains(&Wake::Bell(own)) {
            // Somebody who cannot see this process asks whether it lives.
            drop(self.me.beat(&self.site.queue));
        }
        if matches!(self.job, Job::Idle) && self.me.is_declared_dead(&self.site.queue) {
            self.register_anew(waiter)?;
        }
        Ok(())
    }

    /// Was the attempt taken away, or a cancel asked for?
    pub(super) fn look_at_claim(&mut self, grace_ms: u64) -> Result<()> {
        let Job::Running(attempt) = &mut self.job else { return Ok(()) };
        let (queue, key) = (&self.site.queue, &attempt.lease.key);
        let register = |kind: &str| {
            queue.fs.stat(&queue.layout.task(&key.task).join(format!("{}.{kind}", key.n))).is_ok()
        };
        let without_place = self.me.is_without_place(queue);
        if register("end") || queue.fs.exists(&self.me.dir().join("end")) {
            attempt.stop(queue, Stopped::Fenced, grace_ms);
        } else if without_place {
            self.lost_place = true;
        } else if register("cancel") {
            attempt.stop(queue, Stopped::Cancel, grace_ms);
        }
        Ok(())
    }

    pub(super) fn kill_when_due(&mut self, waiter: &mut dyn Watch, now_ms: u64) {
        let Job::Running(attempt) = &self.job else { return };
        if attempt.stopped.is_some_and(|(_, kill_at_ms)| now_ms >= kill_at_ms) {
            let pid = attempt.pid;
            let (ended, _) = self.site.queue.host.end_children(&self.options.spare, TREE_PATIENCE);
            if let Some((_, exit)) = ended.iter().find(|(p, _)| *p == pid) {
                self.finished(waiter, *exit);
            }
        }
    }

    /// The command has ended: end the rest of its tree, then judge.
    pub(super) fn finished(&mut self, waiter: &mut dyn Watch, exit: child::Exit) {
        let Job::Running(attempt) = std::mem::replace(&mut self.job, Job::Idle) else { return };
        self.hurried = self.now_ms().saturating_sub(self.began_ms) < HURRY_MS;
        let mut tree = self.end_tree(TREE_PATIENCE);
        let Attempt { lease, session, place, stopped, .. } = *attempt;
        let mut end = outcome::judge(&self.site, &lease, exit, stopped.map(|(why, _)| why));
        if let Some(end) = self.end_astray(&lease, &place) {
            if tree.is_empty() {
                self.forget_leader(&lease.key);
            }
            let ending = Ending::of(lease, end, session, !tree.is_empty());
            self.job = Job::Ending(Box::new(ending), self.now_ms());
            return;
        }
        let done = end.verdict == Verdict::Done;
        let value = std::mem::take(&mut end.result.value);
        let orders = self.orders();
        let waiter = RefCell::new(waiter);
        let handed_back = || orders.hand_back(&mut **waiter.borrow_mut());
        let was_stopped = stopped.is_some() || self.hand_back;
        let grace_ms = self.site.config.workers.grace_ms;
        let limit_ms = attempt::git_limit_ms(&self.site, &lease.spec);
        let limit_ms = if was_stopped { Some(grace_ms) } else { limit_ms };
        let vigil = Vigil::new(&self.site.queue, &self.me, &lease.key, limit_ms, &handed_back);
        let vigil = if was_stopped { vigil.of_stopped() } else { vigil };
        let (beat, slot) = (|waits: &Waits<'_>| vigil.go_on(waits), &mut self.slot);
        let left = worktree::conclude(&self.site, &self.me, &lease, &place, slot, done, &beat);
        let cut = vigil.stopped();
        drop(vigil);
        if !place.branch.is_empty() {
            // What hooks of git have left.
            tree = self.end_tree(TREE_PATIENCE);
        }
        if tree.is_empty() {
            self.forget_leader(&lease.key);
        }
        let outside = scope::fault(&self.site, &lease, &left.work);
        if let Some(text) = outside.as_deref().filter(|_| scope::only_warns(&self.site)) {
            let event = events::Event::of("notice", &lease.key);
            let text = format!("{} {text}", lease.key);
            events::append(&self.site.queue, &mut self.me, event.why(&text));
        }
        let outside = outside.filter(|_| !scope::only_warns(&self.site));
        if let (true, Some(fault)) = (done, left.fault.as_ref().or(outside.as_ref())) {
            let failed = outcome::failed(&self.site, &lease, false, fault);
            end = End { exit: end.exit, context: tail(&self.site.queue, &lease.key), ..failed };
        }
        if let (true, Some(what)) = (done, &left.cut) {
            let why = cut.unwrap_or(Stopped::TimeLimit);
            let cut = outcome::cut_short(&self.site, &lease, why, what);
            end = End { exit: end.exit, ..cut };
        }
        end.result = Outcome { value, ..left.outcome };
        if turn::is_lane(&lease.spec) && exit == child::Exit::Code(error::Exit::Environment as i32)
        {
            self.leave_if_broken();
        }
        let ending = Ending::of(lease, end, session, !tree.is_empty());
        self.job = Job::Ending(Box::new(ending), self.now_ms());
    }

    fn forget_leader(&mut self, key: &Key) {
        if leftovers::forget(&self.site.queue, &self.me, key).is_err() {
            // It is dropped before the next claim: nobody is to wait for it.
            self.stumble.note(&self.site.queue);
        }
    }

    fn end_tree(&self, patience: Duration) -> Vec<Left> {
        self.site.queue.host.end_children(&self.options.spare, patience).1
    }

    /// Whether something of the attempt still runs, and another one would run beside it: its end waits.
    fn must_wait_for_the_rest(&mut self) -> bool {
        let Job::Ending(ending, _) = &self.job else { return false };
        let next = ending.end.retry || ending.lease.spec.merge;
        if !ending.left || !next || !rule!("R5.unknown") {
            return false;
        }
        let (key, told) = (ending.lease.key.clone(), ending.told);
        let left = self.end_tree(Duration::ZERO);
        self.say_what_is_left(told, &left);
        if left.is_empty() {
            self.forget_leader(&key);
        }
        let again_ms = self.now_ms() + RETRY_RESULT_MS;
        if let Job::Ending(ending, due_ms) = &mut self.job {
            ending.left = !left.is_empty();
            ending.told = ending.left;
            *due_ms = if ending.left { again_ms } else { *due_ms };
        }
        !left.is_empty()
    }

    /// Tells people of what cannot be ended, once, and that it is gone.
    pub(super) fn say_what_is_left(&mut self, told: bool, left: &[Left]) {
        let (queue, wid) = (&self.site.queue, self.me.wid.clone());
        match (left.is_empty(), told) {
            (true, true) => leftovers::take_back(queue, &mut self.me, &wid),
            (false, false) => {
                let text = leftovers::words(queue, &wid, left);
                leftovers::tell(queue, &mut self.me, &wid, left);
                self.tell(&text);
            }
            _ => {}
        }
    }

    /// Whether it is to leave although something of its attempt still runs: whoever finds it gone waits on.
    pub(super) fn leaves_the_rest(&self) -> bool {
        let told = match &self.job {
            Job::Ending(ending, _) => ending.told,
            Job::Array(stay) => stay.told,
            _ => false,
        };
        told && self.hand_back
    }

    /// Publishes a verdict; keeps trying where the disk does not take it.
    pub(super) fn conclude_ending(&mut self) {
        let Job::Ending(_, due_ms) = &self.job else { return };
        if self.now_ms() < *due_ms || self.must_wait_for_the_rest() {
            return;
        }
        let Job::Ending(ending, _) = &self.job else { return };
        let (lease, mut end) = (&ending.lease, ending.end.clone());
        if end.holder.is_empty() {
            end.holder.clone_from(&self.claimed_as);
        }
        let key = lease.key.clone();
        let verdict = end.verdict;
        let why = end.why.clone();
        let mut cut_short = false;
        let published = end::record(&self.site.queue, &mut self.me, lease, end).and_then(|ended| {
            let late = matches!(ended, Ended::Fenced(_));
            match end::finish(&self.site.queue, &mut self.me, lease, late) {
                // It has ended. What follows is noted, and done by whoever comes next.
                Err(e) if e.is_cut_short() => cut_short = true,
                went => went?,
            }
            Ok(ended)
        });
        if cut_short {
            self.cut_short = true;
            self.stumble.note(&self.site.queue);
        }
        match published {
            Ok(ended) => {
                self.job = Job::Idle;
                // A turn of a lane is nobody's task, but for who does nothing else.
                let counts = lane_name(&key.task).is_none() || self.options.roles == [lane::ROLE];
                self.attempts += u64::from(counts);
                self.last_succeeded = lane_name(&key.task).is_some()
                    || verdict == Verdict::Done && ended == Ended::Recorded;
                self.report(&key, verdict, &why, &ended);
            }
            Err(_) if !self.site.queue.fs.exists(&self.site.queue.layout.task(&key.task)) => {
                // Nobody can record anything of it any more.
                self.job = Job::Idle;
                for name in [format!("{key}.end"), key.to_string()] {
                    drop(self.site.queue.discard(&self.me.run(&name)));
                }
                let text = format!("{} was removed from tasks/ while it ran", key.task);
                self.say_once(&text);
            }
            Err(_) if self.me.is_without_place(&self.site.queue) => {
                // It has to register again first.
                self.lost_place = true;
                let again_ms = self.now_ms();
                if let Job::Ending(_, due_ms) = &mut self.job {
                    *due_ms = again_ms;
                }
            }
            Err(_) if self.me.is_declared_dead(&self.site.queue) => {
                // Its place to stage results is gone with its identity; the attempt was recovered.
                self.job = Job::Idle;
                self.say_once(&format!(
                    "cannot record the end of {key}: this worker was declared dead"
                ));
            }
            Err(e) => {
                // What a step behind the register left staged is cleared up before the next claim.
                self.stumble.note(&self.site.queue);
                let text = format!(
                    "cannot record the end of {key} ({verdict:?}): {e}{}; will try again",
                    e.cause.as_ref().map(|c| format!(": {c}")).unwrap_or_default()
                );
                self.say_once(&text);
                let again_ms = self.now_ms() + RETRY_RESULT_MS;
                if let Job::Ending(_, due_ms) = &mut self.job {
                    *due_ms = again_ms;
                }
                if self.has_waited_enough() {
                    self.job = Job::Idle;
                    self.tell(&format!("leaving without having recorded the end of {key}"));
                }
            }
        }
    }

    /// Whether an end that cannot be written keeps this worker from leaving no longer. As long as it can
    /// hope: what was finished would have to be done again.
    pub(super) fn has_waited_enough(&mut self) -> bool {
        if !self.leaving {
            return false;
        }
        let now_ms = self.now_ms();
        let since_ms = *self.kept_from_leaving_ms.get_or_insert(now_ms);
        let over = now_ms.saturating_sub(since_ms) >= self.grace_ms;
        if since_ms == now_ms && !self.hand_back {
            self.tell("leaving as soon as the end is recorded (once more to leave without)");
        }
        over || self.hand_back
    }

    pub(super) fn report(&mut self, key: &Key, verdict: Verdict, why: &str, ended: &Ended) {
        let text = match ended {
            Ended::Recorded => {
                let word = verdict.word();
                if why.is_empty() {
                    format!("{key} {word}")
                } else {
                    format!("{key} {word}: {why}")
                }
            }
            Ended::Fenced(end) => {
                let (id, n) = (&key.task, key.n);
                let by = end.verdict.word();
                format!(
                    "worker {}: cannot record the end of {id} attempt {n}: fenced by '{by}' at {}; \
                     kept in tasks/{id}/{n}.late",
                    short(&self.me.wid),
                    end.ended,
                )
            }
        };
        tracing::info!("{text}");
        if matches!(ended, Ended::Fenced(_)) {
            let event = events::Event::of("notice", key).why(&text);
            events::append(&self.site.queue, &mut self.me, event);
        }
        self.tell(&text);
    }

    pub(super) fn beat(&mut self) -> Result<()> {
        let queue = &self.site.queue;
        let lease_ms = self.me.card.lease_ms;
        let gap = queue.clock.boot_ms().saturating_sub(self.last_beat_boot_ms);
        if lease_ms > 0 && gap > lease_ms * 3 / 4 {
            tracing::warn!(
                gap_ms = gap,
                "late with a heartbeat; looking whether the claim still holds"
            );
        }
        // The look at the claim came before this: who was fenced meanwhile has seen it.
        if let Err(e) = self.me.beat(queue)
            && !self.me.is_declared_dead(queue)
        {
            tracing::warn!(error = %e, "cannot beat");
        }
        self.last_beat_boot_ms = queue.clock.boot_ms();
        self.next_beat_ms = self.now_ms()
            + match &self.job {
                Job::Running(attempt) => self.beat_every_ms(&attempt.lease.spec),
                Job::Ending(ending, _) => self.beat_every_ms(&ending.lease.spec),
                Job::Array(stay) => self.beat_every_ms(&stay.shift.lease.spec),
                Job::Idle => self.rescan_ms().min(self.site.config.lease.heartbeat_ms),
            };
        Ok(())
    }

    pub(super) fn busy_deadline_ms(&self) -> u64 {
        match &self.job {
            Job::Running(attempt) if self.frozen_ms.is_some() && attempt.stopped.is_none() => {
                self.next_beat_ms
            }
            Job::Running(attempt) => match attempt.next_deadline_ms() {
                Some(deadline_ms) => deadline_ms.min(self.next_beat_ms),
                None => self.next_beat_ms,
            },
            Job::Ending(_, due_ms) => (*due_ms).min(self.next_beat_ms),
            Job::Array(_) => self.stay_deadline_ms(),
            Job::Idle => self.now_ms(),
        }
    }
}
