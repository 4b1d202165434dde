//! Following a running attempt, ending its tree, and recording its end.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::queue::end::{self, Ended};
use crate::queue::events;
use crate::queue::ids::{Key, short};
use crate::queue::record::Verdict;
use crate::run::attempt::Attempt;
use crate::run::outcome::{self, Stopped};
use crate::run::worktree;
use crate::sys::child;
use crate::sys::wake::{Waiter, Wake};

use super::{Job, RETRY_RESULT, TREE_PATIENCE, Worker};

impl Worker {
    /// Looks at the running attempt: has it ended, must it end, is a heartbeat due?
    pub(super) fn follow(
        &mut self,
        waiter: &mut Waiter,
        wakes: &[Wake],
        ended: &[(i32, child::Exit)],
    ) -> Result<()> {
        let now = Instant::now();
        if let Job::Running(attempt) = &mut self.job {
            let exit = ended.iter().find(|(pid, _)| *pid == attempt.pid).map(|(_, exit)| *exit);
            if let Some(exit) = exit {
                self.finished(exit);
            } else {
                let grace = Duration::from_millis(self.site.config.workers.grace_ms);
                if self.hand_back {
                    attempt.stop(Stopped::HandBack, grace);
                }
                if attempt.deadline.is_some_and(|deadline| now >= deadline) {
                    attempt.stop(Stopped::TimeLimit, grace);
                }
                let rung = wakes.iter().any(|w| matches!(w, Wake::Bell(_) | Wake::Rescan));
                if rung || now >= self.next_beat {
                    self.look_at_claim(grace)?;
                }
                self.kill_when_due(now);
            }
        }
        if now >= self.next_beat && !matches!(self.job, Job::Idle) {
            self.beat()?;
        }
        self.conclude_ending();
        if matches!(self.job, Job::Idle) && self.me.is_declared_dead(&self.site.queue) {
            self.register_anew(waiter)?;
        }
        Ok(())
    }

    /// Was the attempt taken away, or a cancel asked for?
    pub(super) fn look_at_claim(&mut self, grace: Duration) -> Result<()> {
        let Job::Running(attempt) = &mut self.job else { return Ok(()) };
        let (queue, key) = (&self.site.queue, &attempt.lease.key);
        let register = |kind: &str| {
            queue.fs.stat(&queue.layout.task(&key.task).join(format!("{}.{kind}", key.n))).is_ok()
        };
        if register("end") || self.me.is_declared_dead(queue) {
            attempt.stop(Stopped::Fenced, grace);
        } else if register("cancel") {
            attempt.stop(Stopped::Cancel, grace);
        }
        Ok(())
    }

    pub(super) fn kill_when_due(&mut self, now: Instant) {
        let Job::Running(attempt) = &self.job else { return };
        if attempt.stopped.is_some_and(|(_, kill_at)| now >= kill_at) {
            let pid = attempt.pid;
            let (ended, _) = child::end_children(&self.options.spare, TREE_PATIENCE);
            if let Some((_, exit)) = ended.iter().find(|(p, _)| *p == pid) {
                self.finished(*exit);
            }
        }
    }

    /// The command has ended: end the rest of its tree, then judge.
    pub(super) fn finished(&mut self, exit: child::Exit) {
        let Job::Running(attempt) = std::mem::replace(&mut self.job, Job::Idle) else { return };
        let (_, clean) = child::end_children(&self.options.spare, TREE_PATIENCE);
        if !clean {
            tracing::error!(task = %attempt.lease.key.task, "some of its processes cannot be ended");
        }
        let Attempt { lease, place, stopped, .. } = *attempt;
        let mut end = outcome::judge(&self.site, &lease, exit, stopped.map(|(why, _)| why));
        let done = end.verdict == Verdict::Done;
        let value = std::mem::take(&mut end.result.value);
        let beat = || drop(self.me.beat(&self.site.queue));
        end.result = worktree::conclude(&self.site, &lease, &place, done, &beat);
        end.result.value = value;
        self.job = Job::Ending(Box::new((lease, end)), Instant::now());
    }

    /// Publishes a verdict; keeps trying where the disk does not take it.
    pub(super) fn conclude_ending(&mut self) {
        let Job::Ending(ending, due) = &self.job else { return };
        if Instant::now() < *due {
            return;
        }
        let (lease, end) = (&ending.0, ending.1.clone());
        let key = lease.key.clone();
        let verdict = end.verdict;
        let why = end.why.clone();
        let published = end::record(&self.site.queue, &mut self.me, lease, end).and_then(|ended| {
            let late = matches!(ended, Ended::Fenced(_));
            end::finish(&self.site.queue, &mut self.me, lease, late)?;
            Ok(ended)
        });
        match published {
            Ok(ended) => {
                self.job = Job::Idle;
                self.attempts += 1;
                self.last_succeeded = verdict == Verdict::Done && ended == Ended::Recorded;
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
            Err(_) if self.me.is_declared_dead(&self.site.queue) => {
                // Its place to stage results is gone with its identity; the attempt was recovered.
                self.job = Job::Idle;
                self.say_once(&format!(
                    "cannot record the end of {key}: this worker was declared dead"
                ));
            }
            Err(e) => {
                let text = format!(
                    "cannot record the end of {key} ({verdict:?}): {e}{}; will try again",
                    e.cause.as_ref().map(|c| format!(": {c}")).unwrap_or_default()
                );
                self.say_once(&text);
                if let Job::Ending(_, due) = &mut self.job {
                    *due = Instant::now() + RETRY_RESULT;
                }
            }
        }
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
        self.next_beat = Instant::now()
            + match &self.job {
                Job::Running(attempt) => self.beat_every(&attempt.lease.spec),
                Job::Ending(ending, _) => self.beat_every(&ending.0.spec),
                Job::Idle => self.rescan(),
            };
        Ok(())
    }

    pub(super) fn busy_deadline(&self) -> Instant {
        match &self.job {
            Job::Running(attempt) => match attempt.next_deadline() {
                Some(deadline) => deadline.min(self.next_beat),
                None => self.next_beat,
            },
            Job::Ending(_, due) => (*due).min(self.next_beat),
            Job::Idle => Instant::now(),
        }
    }
}
