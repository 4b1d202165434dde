//! Staying at an array: one job of it after the other, until something better comes up or nothing is
//! left.

use std::path::Path;
use std::time::Duration;

use crate::error::Result;
use crate::jobs::halt::When;
use crate::queue::array::take::{self, Taker};
use crate::queue::array::{self, halting, job, joined};
use crate::queue::claim::Lease;
use crate::queue::ids::short;
use crate::queue::procs::Proc;
use crate::queue::record::{End, Line, Verdict, duration};
use crate::queue::tasks::{self, Phase};
use crate::queue::{Queue, events};
use crate::rule;
use crate::run::attempt::as_ms;
use crate::run::outcome::Stopped;
use crate::run::shift::{Fault, Running, Shift};
use crate::step;
use crate::sys::remains::in_words;
use crate::sys::wake::{Wake, Watch};

use super::super::room;
use super::judging::judge;
use super::{Job, RETRY_RESULT_MS, TREE_PATIENCE, Worker};

/// A job that took this long makes a listing before the next claim a small matter, milliseconds.
const LONG_MS: u64 = 20;
/// Between two tries to start what the machine refuses, at first and at most, milliseconds.
const REFUSED_MS: (u64, u64) = (50, 1000);
/// A program that is written for so long is not waited for any more, milliseconds.
const WRITTEN_MS: u64 = 30_000;
/// How often the free space is looked at while one short job follows the other, milliseconds.
const ROOM_MS: u64 = 100;

/// A stay.
pub(super) struct Stay {
    pub(super) shift: Shift,
    taker: Taker,
    pub(super) running: Option<Running>,
    /// A job that has ended, what is to be written of it, and when to try.
    ended: Option<(Running, Line, End, u64)>,
    /// Of a job that could not be started yet: when it is tried again, and since when that is so.
    again: (u64, u64),
    long: bool,
    room_at_ms: u64,
    /// The array may be over, or was cancelled.
    rung: bool,
    /// People were told that something of the job which has ended is left.
    pub(super) told: bool,
}

impl Stay {
    /// This process has registered again: notes where it still has a claim.
    pub(super) fn hold_again(&mut self, queue: &Queue, me: &Proc) -> Result<()> {
        if self.running.is_none() && self.ended.is_none() {
            return Ok(());
        }
        step!("back.jobs");
        self.taker.intend_again(queue, me)
    }
}

impl Worker {
    /// Comes to an array. False: there is nothing to claim in it now; its bell is watched.
    pub(super) fn come_to_array(&mut self, waiter: &mut dyn Watch, lease: Lease) -> Result<bool> {
        let id = lease.key.task.clone();
        let home = array::home(&self.site.queue, &id);
        let slot = self.slot_at(&home)?;
        let shift = match Shift::new(&self.site, &self.me, lease, slot) {
            Ok(shift) => shift,
            Err(e) => {
                self.say_once(&format!("cannot run the jobs of {id}: {}", e.one_line()));
                return Ok(false);
            }
        };
        // Watched before the look: what comes meanwhile is heard (R6).
        waiter.watch(&array::bell(&home));
        self.hears_arrays.insert(array::bell(&home));
        let taker = Taker::new(&id, &home, shift.round);
        let stay = Stay {
            shift,
            taker,
            running: None,
            ended: None,
            again: (0, 0),
            long: true,
            room_at_ms: 0,
            rung: false,
            told: false,
        };
        self.job = Job::Array(Box::new(stay));
        self.claimed_as.clone_from(&self.me.wid);
        // It has not beaten while it was idle, and is not late.
        self.last_beat_boot_ms = self.site.queue.clock.boot_ms();
        self.next_job(waiter)
    }

    /// The number of this worker at an array, for `{%}`. Of a run, its own workers come first, and who has
    /// joined above them.
    fn slot_at(&mut self, home: &Path) -> Result<u32> {
        if self.options.place > 0 {
            return Ok(self.options.place);
        }
        let run = halting::Standing::read(&self.site.queue, home)?;
        if run.workers == 0 {
            let digits = short(&self.me.wid).chars().filter(char::is_ascii_digit);
            return Ok(digits.collect::<String>().parse().unwrap_or(1));
        }
        let number = match self.joined.get(home) {
            Some(number) => *number,
            None => joined::join(&self.site.queue, &mut self.me, home)?,
        };
        self.joined.insert(home.to_owned(), number);
        Ok(run.workers + number)
    }

    /// Goes on with the jobs of an array until there is something to wait for.
    pub(super) fn stay(
        &mut self,
        waiter: &mut dyn Watch,
        wakes: &[Wake],
        paused: bool,
    ) -> Result<()> {
        let Job::Array(stay) = &mut self.job else { return Ok(()) };
        stay.rung |= wakes.iter().any(|wake| !matches!(wake, Wake::Signal(_)));
        if stay.running.is_some() {
            self.follow_job()?;
        }
        if self.lost_place && !self.astray {
            self.come_back(waiter)?;
        }
        self.write_end();
        let Job::Array(stay) = &mut self.job else {
            // It could not record an end since it was declared dead. Its intent stays there.
            return match self.me.is_declared_dead(&self.site.queue) {
                true => self.register_anew(waiter),
                false => Ok(()),
            };
        };
        if stay.running.is_some() || stay.ended.is_some() {
            return Ok(());
        }
        // Its logs are those of the name in which it came here.
        let renamed = self.claimed_as != self.me.wid;
        if self.should_leave().is_some() || paused || self.rung || renamed || self.stay_is_over()? {
            self.leave_array()?;
        } else if self.next_job(waiter)? {
            return Ok(());
        }
        // Its hint is looked at again when its turn comes. Not by who has just come to it by that hint,
        // and found nothing: that one would come again and again.
        self.finder.restart(&self.site.queue)
    }

    /// Whether the array was cancelled or ended, or there is no room for more.
    fn stay_is_over(&mut self) -> Result<bool> {
        let now_ms = self.now_ms();
        let Job::Array(stay) = &mut self.job else { return Ok(true) };
        if std::mem::take(&mut stay.rung) {
            stay.taker.halting.refresh(&self.site.queue, &stay.shift.home.path)?;
            let task = tasks::look(&self.site.queue, stay.shift.id())?;
            let phase = task.map(|task| task.phase);
            if phase != Some(Phase::Pending(stay.shift.lease.key.n)) {
                return Ok(true);
            }
        }
        if now_ms < stay.room_at_ms {
            return Ok(false);
        }
        stay.room_at_ms = now_ms + ROOM_MS;
        Ok(room::wanting(&self.site).is_some())
    }

    /// Claims and starts the next job. False: the stay is over.
    fn next_job(&mut self, waiter: &mut dyn Watch) -> Result<bool> {
        let Job::Array(stay) = &mut self.job else { return Ok(false) };
        if let Err(e) = stay.shift.renew(&self.site) {
            let text = format!("cannot run the jobs of {}: {}", stay.shift.id(), e.one_line());
            self.say_once(&text);
            return self.leave_array().map(|()| false);
        }
        let next = stay.taker.next(&self.site.queue, &mut self.me, stay.long);
        if next.is_err() && rule!("R5.undecided") {
            // A claim may be ours that we do not know of. The intent stays: before the next claim this
            // process puts its house in order.
            self.job = Job::Idle;
            return next.map(|_| false);
        }
        let Job::Array(stay) = &mut self.job else { return Ok(false) };
        match next? {
            take::Next::Job(number, n) => {
                let chunk = stay.taker.chunk();
                let given = chunk.map_or(Ok(Vec::new()), |chunk| chunk.given(number));
                let running = stay.shift.start(&self.site, number, n, given);
                stay.running = Some(running);
                self.looked_twice = false;
                self.rested_ms = None;
                let now_ms = self.now_ms();
                if now_ms >= self.next_beat_ms {
                    self.beat()?;
                }
                Ok(true)
            }
            take::Next::Nothing => self.leave_array().map(|()| false),
            take::Next::Over => {
                let bell = array::bell(&stay.shift.home.path);
                waiter.unwatch(&bell);
                self.hears_arrays.remove(&bell);
                self.leave_array().map(|()| false)
            }
            take::Next::Dead => {
                self.job = Job::Idle;
                self.register_anew(waiter)?;
                self.finder.restart(&self.site.queue)?;
                Ok(false)
            }
        }
    }

    fn leave_array(&mut self) -> Result<()> {
        if let Job::Array(mut stay) = std::mem::replace(&mut self.job, Job::Idle) {
            stay.taker.leave(&self.site.queue, &mut self.me)?;
        }
        Ok(())
    }

    /// A job runs: has it ended, must it?
    fn follow_job(&mut self) -> Result<()> {
        let now_ms = self.now_ms();
        let (grace_ms, frozen) = (self.grace_ms, self.frozen_ms.is_some());
        let Job::Array(stay) = &mut self.job else { return Ok(()) };
        let Some(running) = &mut stay.running else { return Ok(()) };
        if running.exit.is_some() || running.fault.is_some() {
            self.job_is_over();
            return Ok(());
        }
        if running.delayed.is_some() && !self.hand_back && !stay.rung {
            self.start_again();
            return self.beat_if_due();
        }
        let spec = &stay.shift.lease.spec;
        let limit_ms = duration(spec.time_limit_s).map(as_ms);
        let over = !frozen
            && limit_ms.is_some_and(|limit| now_ms >= running.since_ms.saturating_add(limit));
        let mut why = match (self.hand_back, over) {
            (true, _) => Some(Stopped::HandBack),
            (_, true) => Some(Stopped::TimeLimit),
            _ => None,
        };
        if why.is_none() && running.stopped.is_none() && std::mem::take(&mut stay.rung) {
            let task = tasks::look(&self.site.queue, stay.shift.id())?;
            let phase = task.map(|task| task.phase);
            // Seen here or not: when this job is over, no further one of such an array is claimed.
            stay.rung = phase != Some(Phase::Pending(stay.shift.lease.key.n));
            why = matches!(phase, Some(Phase::Cancelled(_))).then_some(Stopped::Cancel);
            stay.taker.halting.refresh(&self.site.queue, &stay.shift.home.path)?;
            if stay.taker.halting.stops() == Some(When::Now) {
                why = Some(Stopped::HandBack);
            }
            if self.me.is_without_place(&self.site.queue) {
                self.lost_place = true;
            } else if self.site.queue.fs.exists(&self.me.dir().join("end")) {
                why = Some(Stopped::Fenced);
            }
        }
        if running.delayed.is_some() {
            if let Some(why) = why {
                running.stopped = Some((why, now_ms));
                self.job_is_over();
            }
            return self.beat_if_due();
        }
        if let (Some(why), None) = (why, running.stopped) {
            stay.shift.ask_to_end(&self.site, running);
            running.stopped = Some((why, now_ms + grace_ms));
        }
        if running.show_at_ms.is_some_and(|at_ms| now_ms >= at_ms) {
            stay.shift.show(&self.site, running);
        }
        if running.stopped.is_some_and(|(_, kill_at_ms)| now_ms >= kill_at_ms) {
            let pid = running.pid;
            let spare = &self.options.spare;
            let (ended, _) = stay.shift.end_tree(&self.site, running, spare, TREE_PATIENCE);
            if let Some((_, exit)) = ended.iter().find(|(p, _)| *p == pid) {
                running.exit = Some(*exit);
                self.job_is_over();
            }
        }
        self.beat_if_due()
    }

    fn beat_if_due(&mut self) -> Result<()> {
        if self.now_ms() >= self.next_beat_ms {
            let Job::Array(stay) = &mut self.job else { return Ok(()) };
            stay.rung = true;
            self.beat()?;
        }
        Ok(())
    }

    /// Tries to start the job that the machine has refused: its claim is ours, and nothing of it runs.
    fn start_again(&mut self) {
        let now_ms = self.now_ms();
        let Job::Array(stay) = &mut self.job else { return };
        let Some(before) = &stay.running else { return };
        let (job, n, why) = (before.job, before.n, before.delayed.clone().unwrap_or_default());
        let (at_ms, since_ms) = match stay.again {
            (0, _) => (now_ms + REFUSED_MS.0, now_ms),
            again => again,
        };
        stay.again = (at_ms, since_ms);
        if now_ms < at_ms {
            let id = stay.shift.id();
            let text = format!("job {job} of {id}: {why}; trying again");
            return self.say_once(&text);
        }
        let arguments = stay.taker.chunk().map_or(Ok(Vec::new()), |chunk| chunk.given(job));
        let mut running = stay.shift.start(&self.site, job, n, arguments);
        if running.delayed.is_some() {
            let waited_ms = now_ms.saturating_sub(since_ms);
            let pause_ms = waited_ms.clamp(REFUSED_MS.0, REFUSED_MS.1);
            stay.again = (now_ms + pause_ms, since_ms);
            if waited_ms >= WRITTEN_MS && running.is_being_written {
                let why = running.delayed.take().unwrap_or_default();
                running.fault = Some(Fault { why, lasting: false });
            }
        }
        if running.delayed.is_none() {
            stay.again = (0, 0);
        }
        stay.running = Some(running);
    }

    /// The command has ended: end the rest of its tree, unless that is to be kept, then judge.
    fn job_is_over(&mut self) {
        let now_ms = self.now_ms();
        let Job::Array(stay) = &mut self.job else { return };
        let Some(mut running) = stay.running.take() else { return };
        let goes_on = stay.shift.keeps_children() && running.stopped.is_none();
        if !goes_on {
            let spare = &self.options.spare;
            let (_, left) = stay.shift.end_tree(&self.site, &running, spare, TREE_PATIENCE);
            running.left = !left.is_empty();
            if running.left {
                tracing::error!(job = running.job, "cannot be ended: {}", in_words(&left));
            }
            // One that was cut short may have handed its files to somebody who was to go on.
            running.alone = !running.left && running.stopped.is_none();
        }
        stay.long = now_ms.saturating_sub(running.since_ms) >= LONG_MS;
        let before = match running.n {
            1 => None,
            n => stay
                .taker
                .chunk()
                .and_then(|chunk| chunk.end(&self.site.queue, running.job, n - 1).ok().flatten()),
        };
        let end = judge(&running, before.as_ref(), stay.shift.tries, stay.shift.round);
        let mut line = stay.shift.line(&self.site, &running);
        end.verdict.word().clone_into(&mut line.end);
        line.retry = end.retry;
        line.round = stay.shift.round;
        line.timed_out = end.timed_out();
        stay.ended = Some((running, line, end, now_ms));
    }

    /// Publishes the end of a job; keeps trying where the disk does not take it.
    fn write_end(&mut self) {
        let now_ms = self.now_ms();
        let Job::Array(stay) = &mut self.job else { return };
        let Some((running, line, end, due_ms)) = &mut stay.ended else { return };
        if now_ms < *due_ms {
            return;
        }
        if running.left && line.retry {
            // The next try would run beside it.
            let spare = &self.options.spare;
            let (_, left) = stay.shift.end_tree(&self.site, running, spare, Duration::ZERO);
            running.left = !left.is_empty();
            let told = std::mem::replace(&mut stay.told, running.left);
            if running.left {
                *due_ms = now_ms + RETRY_RESULT_MS;
            }
            return self.say_what_is_left(told, &left);
        }
        let Some(chunk) = stay.taker.chunk() else { return };
        let queue = &self.site.queue;
        let (number, n, plain) = (running.job, running.n, end.verdict == Verdict::Done);
        let stamp = stay.taker.halting.stamp();
        let renamed = self.claimed_as != self.me.wid;
        // What it printed is there before it is over: who sees the end finds it.
        let published = match stay.shift.keep(running, line) {
            Err(e) => Err(e),
            Ok(()) if plain && !renamed => {
                job::succeed(queue, &mut self.me, chunk, (number, n), stamp)
            }
            Ok(()) => {
                let end = End { holder: self.claimed_as.clone(), ..end.clone() };
                job::end_as(queue, &self.me, chunk, number, n, halting::stamped(end, stamp))
            }
        };
        let (id, halting) = (stay.shift.id(), &mut stay.taker.halting);
        // Before the next claim of this process: a rule that it fulfils has to hold for that one.
        let published = match published {
            Ok(true) if !line.retry => {
                halting.ended(queue, &self.me, id, number, plain).map(|()| true)
            }
            other => other,
        };
        let home = &stay.shift.home;
        match published {
            Ok(ours) => {
                if !ours {
                    "late".clone_into(&mut line.end);
                }
                if let Err(e) = job::tell(queue, stay.shift.log(), line) {
                    tracing::warn!(error = %e, "a job is over, and cannot be told of");
                }
                queue.ring_in(home, array::PROGRESS);
                if line.retry {
                    queue.ring_in(home, array::BELL);
                }
                self.attempts += 1;
                self.last_succeeded = plain && ours;
                let late = (!ours)
                    .then(|| format!("job {number} of {id}, try {n}: its worker came too late"));
                stay.ended = None;
                if let Some(text) = late {
                    let event =
                        events::Event { k: "notice".to_owned(), ..events::Event::default() };
                    events::append(&self.site.queue, &mut self.me, event.why(&text));
                }
            }
            Err(_) if !queue.fs.exists(&home.path) => {
                // Nobody can record anything of it any more.
                self.job = Job::Idle;
            }
            Err(_) if self.me.is_without_place(queue) => {
                // It has to register again first.
                (self.lost_place, *due_ms) = (true, now_ms + RETRY_RESULT_MS);
            }
            // Somebody else has.
            Err(_) if self.me.is_declared_dead(queue) => self.job = Job::Idle,
            Err(e) => {
                *due_ms = now_ms + RETRY_RESULT_MS;
                let text = format!(
                    "cannot record the end of job {number} of {id}: {}; will try again",
                    e.one_line()
                );
                self.say_once(&text);
            }
        }
    }

    /// When to look again while at an array.
    pub(super) fn stay_deadline_ms(&self) -> u64 {
        let Job::Array(stay) = &self.job else { return self.now_ms() };
        if let Some((.., due_ms)) = &stay.ended {
            return (*due_ms).min(self.next_beat_ms);
        }
        let Some(running) = &stay.running else { return self.now_ms() };
        if running.fault.is_some() || running.exit.is_some() {
            return self.now_ms();
        }
        if running.delayed.is_some() {
            return stay.again.0.min(self.next_beat_ms);
        }
        let limit = match running.stopped {
            Some((_, kill_at_ms)) => Some(kill_at_ms),
            None if self.frozen_ms.is_some() => None,
            None => duration(stay.shift.lease.spec.time_limit_s)
                .map(|limit| running.since_ms.saturating_add(as_ms(limit))),
        };
        let look_ms = limit.into_iter().chain(running.show_at_ms).min();
        look_ms.map_or(self.next_beat_ms, |at_ms| at_ms.min(self.next_beat_ms))
    }
}
