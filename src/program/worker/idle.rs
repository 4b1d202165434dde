//! Nothing to claim: the keeper's duty where no monitor lives, and whether it is time to leave.

use crate::error::{Error, Result};
use crate::queue::evaluate::{Readiness, readiness};
use crate::queue::ids::short;
use crate::queue::ready::Candidate;
use crate::queue::recover::{self, Death};
use crate::queue::tasks::{self, Phase};
use crate::queue::{Queue, array, board, control, events, incoming, procs, scopes, sweep};
use crate::run::attempt;
use crate::sys::fs::Kind;
use crate::sys::privilege;
use crate::sys::wake::Watch;

use super::super::keeper::Keeper;
use super::{HELD_BACK_MS, Left, MONITOR_KEY, Next, REST_MS, Worker};

/// What lies in incoming/ for longer than this is not waited for, milliseconds. Half written files are taken
/// or rejected after two seconds.
const INCOMING_MS: u64 = 5000;
/// Nor is what another process was about to settle for so long, milliseconds: that takes a moment.
const SETTLE_MS: u64 = 5000;
/// How often who leaves when nothing is left looks whether the others are through, milliseconds.
const OTHERS_MS: u64 = 1000;

impl Worker {
    pub(super) fn now_ms(&self) -> u64 {
        self.site.queue.clock.mono_ms()
    }

    pub(super) fn rescan_ms(&self) -> u64 {
        self.site.config.workers.rescan_ms
    }

    /// Nothing to claim: keeper's duty where no monitor lives, then wait.
    pub(super) fn idle(&mut self, waiter: &mut dyn Watch) -> Result<Next> {
        events::tell_again(&self.site.queue, &mut self.me);
        let now_ms = self.now_ms();
        let mut next_ms = self.next_scan_ms;
        if now_ms >= self.next_scan_ms {
            self.next_scan_ms = now_ms + self.rescan_ms();
            next_ms = self.next_scan_ms;
            self.finder.restart(&self.site.queue)?;
            waiter.unwatch_death(MONITOR_KEY);
        }
        if self.is_held_back {
            next_ms = next_ms.min(now_ms + HELD_BACK_MS);
        }
        let rested_ms = *self.rested_ms.get_or_insert(now_ms + REST_MS);
        if now_ms < rested_ms {
            // Whoever had it work may be about to send it home, or to bring more.
            return Ok(Next::Wait(rested_ms));
        }
        if self.monitor_lives(waiter)? {
            if let Some(mut keeper) = self.keeper.take() {
                keeper.stand_down(&self.site.queue, waiter);
                self.unkept.clear();
                self.watch(waiter);
            }
        } else {
            let queue = &self.site.queue;
            let rescan_ms = self.site.config.workers.rescan_ms;
            let keeper = self.keeper.get_or_insert_with(|| {
                let archive_after_ms = self.site.config.gc.archive_after_ms;
                Keeper::new(queue, rescan_ms).archiving(archive_after_ms)
            });
            // Also what came while it worked or rested: a death is told once.
            let heard = std::mem::take(&mut self.unkept);
            let ticked = keeper.tick(&self.site.queue, &mut self.me, waiter, &heard);
            if ticked.is_err() {
                self.unkept = heard;
            }
            if keeper.is_behind() {
                // It may be keeper no longer when that is to be cleared up.
                self.stumble.note(&self.site.queue);
            }
            let due_ms = ticked?;
            let report = std::mem::take(&mut keeper.report);
            self.watch(waiter);
            report.iter().for_each(|line| self.tell(line));
            next_ms = next_ms.min(due_ms);
            // What it has just made ready is for itself, too.
            self.finder.rung(&self.site.queue)?;
            if let Some(candidate) =
                self.finder.next(&self.site.queue)?.filter(|_| !self.is_held_back)
            {
                self.finder.restart(&self.site.queue)?;
                if self.is_for_us(&candidate) {
                    return Ok(Next::Wait(now_ms));
                }
            }
        }
        if self.options.once {
            self.leave();
            return Ok(Next::Leave(Left::Nothing));
        }
        if self.options.until_empty {
            let Some(failed) = self.nothing_left()? else {
                // The last intent of another one goes behind the event that it tells, and nobody rings then.
                return Ok(Next::Wait(next_ms.min(self.now_ms() + OTHERS_MS)));
            };
            // Whoever died behind the keeper's look, such as a command of a job that was ended with it,
            // has to be buried before nobody is left who would.
            if let Some(keeper) = self.keeper.as_mut()
                && !std::mem::replace(&mut self.looked_twice, true)
            {
                keeper.look_again();
                return Ok(Next::Wait(now_ms));
            }
            self.leave();
            return Ok(Next::Leave(Left::Empty { failed }));
        }
        Ok(Next::Wait(next_ms))
    }

    /// Whether this worker would claim that entry if it tried; asked after its own housekeeping.
    pub(super) fn is_for_us(&self, candidate: &Candidate) -> bool {
        let asked = control::asked(&self.site.queue, short(&self.me.wid));
        let Ok(Some(lease)) = self.held(&candidate.key) else { return false };
        let open = lease.task.phase == Phase::Pending(candidate.key.n)
            && readiness(&self.site.queue, &lease.task, candidate.key.n)
                .is_ok_and(|now| now == Readiness::Ready);
        // One that is put aside would not be tried.
        open && self.is_due(&candidate.key)
            && self.is_ours(&candidate.key.task)
            && !asked.pause
            && lease.spec.needs.iter().all(|need| self.options.labels.contains(need))
            && scopes::in_the_way(&self.site.queue, &candidate.key, &lease.task)
                .is_ok_and(|others| others.is_empty())
            && match &lease.spec.array {
                Some(_) => array::has_pending(&self.site.queue, &lease.task).unwrap_or(true),
                None => attempt::command(&self.site, &lease.spec).is_some(),
            }
    }

    /// Whether a monitor lives on this machine that can do all that this worker could; its death is watched.
    /// That of another user cannot end what programs of this user have left running.
    pub(super) fn monitor_lives(&mut self, waiter: &mut dyn Watch) -> Result<bool> {
        if waiter.watches_death(MONITOR_KEY) {
            return Ok(true);
        }
        if privilege::is_kept() {
            return Ok(false);
        }
        for wid in procs::all(&self.site.queue)? {
            if !wid.starts_with("monitor-") {
                continue;
            }
            let Some(card) = procs::card(&self.site.queue, &wid) else { continue };
            if card.uid == self.me.card.uid
                && procs::is_here(&self.site.queue, &card)
                && waiter.watch_death(MONITOR_KEY, card.process())
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether nothing can become ready any more without a person: nobody works, nothing waits for
    /// a time, nothing lies in incoming/, and a sweep over all tasks finds nothing to claim; and no
    /// event was written meanwhile, since somebody may have claimed behind one of these looks and
    /// failed before the next. Returns the number of failed tasks then.
    pub(super) fn nothing_left(&mut self) -> Result<Option<usize>> {
        let queue = &self.site.queue;
        if let Some(only) = &self.options.only
            && let Some(task) = tasks::look(queue, only)?
            && task.phase.is_over()
        {
            return Ok(Some(usize::from(matches!(task.phase, Phase::Failed(_)))));
        }
        let written = board::size_of_events(queue)?;
        if self.others_work()? {
            return Ok(None);
        }
        let waits = sweep::is_anything_delayed(queue, &mut self.me)?;
        if waits || self.is_anything_incoming()? {
            return Ok(None);
        }
        let queue = &self.site.queue;
        let claims = procs::intents(queue, &self.me.wid, false);
        if self.stumble.is_behind() && !claims.is_empty() {
            // A claim of its own may be left behind.
            return Ok(None);
        }
        let swept = sweep::sweep(queue, &mut self.me)?;
        let passed_over = |(id, error): &(String, Error)| {
            format!("warning: task {id} is passed over: {}", error.one_line())
        };
        let mut passed_over: Vec<String> = swept.put_aside.iter().map(passed_over).collect();
        passed_over.extend(self.aside.said().map(|said| format!("warning: {said}")));
        self.finder.restart(&self.site.queue)?;
        while let Some(candidate) = self.finder.next(&self.site.queue)? {
            if self.is_for_us(&candidate) {
                return Ok(None);
            }
        }
        let delayed = sweep::is_anything_delayed(&self.site.queue, &mut self.me)?;
        // Who claimed between two of these looks tells of it when the command runs; its intent was there
        // before the claim.
        if self.others_work()? {
            return Ok(None);
        }
        let again =
            swept.running > 0 || delayed || board::size_of_events(&self.site.queue)? != written;
        if !again && (self.looked_twice || self.keeper.is_none()) {
            passed_over.iter().for_each(|text| self.tell(text));
        }
        Ok((!again).then_some(swept.failed + passed_over.len()))
    }

    /// Whether incoming/ has something that a keeper will take. What still lies there after a while is put
    /// aside by it, and nobody waits for that.
    fn is_anything_incoming(&mut self) -> Result<bool> {
        let now_ms = self.now_ms();
        let there = incoming::waiting(&self.site.queue)?;
        self.incoming.retain(|name, _| there.iter().any(|(there, _)| there == name));
        for (name, _) in there {
            self.incoming.entry(name).or_insert(now_ms);
        }
        Ok(self.incoming.values().any(|since_ms| now_ms - since_ms < INCOMING_MS))
    }

    fn others_work(&self) -> Result<bool> {
        let queue = &self.site.queue;
        for wid in procs::all(queue)? {
            if wid != self.me.wid && is_at_work(queue, &wid)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether something is to be expected of a process, or has to be finished for it. An event that could
/// not be written yet is no work, nor is what could not be settled for long: its task cannot be looked at.
/// Of one whose lease ran out elsewhere only claims count: what else it
/// meant to do was done for it, and stays noted for the case that it goes on.
fn is_at_work(queue: &Queue, wid: &str) -> Result<bool> {
    let run = queue.layout.proc(wid).join("run");
    let is_idle = |name: &str| match name.starts_with("_settle.") {
        true => sweep::is_older(queue, &run.join(name), SETTLE_MS),
        // What somebody else has put there is no intent, and nobody takes it away.
        false => name.starts_with("_tell.") || !procs::is_intent(name),
    };
    let names = queue.list(&run)?;
    if names.iter().all(|e| e.kind != Kind::File || is_idle(&e.name)) {
        return Ok(false);
    }
    if recover::declared(queue, wid) != Some(Death::Lease) {
        return Ok(true);
    }
    for key in procs::claims(queue, wid) {
        let task = tasks::look(queue, &key.task)?;
        if task.is_some_and(|t| t.phase == Phase::Claimed(key.n)) {
            return Ok(true);
        }
    }
    Ok(false)
}
