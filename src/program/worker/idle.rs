//! Nothing to claim: the keeper's duty where no monitor lives, and whether it is time to leave.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::queue::ids::short;
use crate::queue::ready::Candidate;
use crate::queue::tasks::Phase;
use crate::queue::{control, procs, sweep};
use crate::run::attempt;
use crate::sys::alive;
use crate::sys::wake::{Waiter, Wake};

use super::super::keeper::Keeper;
use super::{Left, MONITOR_KEY, Next, Worker};

impl Worker {
    pub(super) fn rescan(&self) -> Duration {
        Duration::from_millis(self.site.config.workers.rescan_ms)
    }

    /// Nothing to claim: keeper's duty where no monitor lives, then wait.
    pub(super) fn idle(&mut self, waiter: &mut Waiter, wakes: &[Wake]) -> Result<Next> {
        let now = Instant::now();
        let mut next = self.next_scan;
        if now >= self.next_scan {
            self.next_scan = now + self.rescan();
            next = self.next_scan;
            self.finder.restart(&self.site.queue)?;
            waiter.unwatch_death(MONITOR_KEY);
        }
        if self.monitor_lives(waiter)? {
            if let Some(mut keeper) = self.keeper.take() {
                keeper.stand_down(&self.site.queue, waiter);
                self.watch(waiter);
            }
        } else {
            let rescan = self.rescan();
            let keeper = self.keeper.get_or_insert_with(|| Keeper::new(rescan));
            let due = keeper.tick(&self.site.queue, &mut self.me, waiter, wakes)?;
            let report = std::mem::take(&mut keeper.report);
            self.watch(waiter);
            report.iter().for_each(|line| self.tell(line));
            next = next.min(due);
            // What it has just made ready is for itself, too.
            self.finder.rung(&self.site.queue)?;
            if let Some(candidate) = self.finder.next(&self.site.queue)? {
                self.finder.restart(&self.site.queue)?;
                if self.is_for_us(&candidate) {
                    return Ok(Next::Wait(now));
                }
            }
        }
        if self.options.once {
            self.leave();
            return Ok(Next::Leave(Left::Nothing));
        }
        if self.options.until_empty
            && let Some(failed) = self.nothing_left()?
        {
            self.leave();
            return Ok(Next::Leave(Left::Empty { failed }));
        }
        Ok(Next::Wait(next))
    }

    /// Whether this worker would claim that entry if it tried; asked after its own housekeeping.
    pub(super) fn is_for_us(&self, candidate: &Candidate) -> bool {
        let asked = control::asked(&self.site.queue, short(&self.me.wid));
        let Ok(Some(lease)) = self.held(&candidate.key) else { return false };
        let open = lease.task.phase == Phase::Pending(candidate.key.n);
        open && !asked.pause
            && self.no_room().is_none()
            && lease.spec.needs.iter().all(|need| self.options.labels.contains(need))
            && attempt::command(&self.site, &lease.spec).is_some()
    }

    /// Whether a monitor lives on this machine; its death is watched.
    pub(super) fn monitor_lives(&mut self, waiter: &mut Waiter) -> Result<bool> {
        if waiter.watches_death(MONITOR_KEY) {
            return Ok(true);
        }
        for wid in procs::all(&self.site.queue)? {
            if !wid.starts_with("monitor-") {
                continue;
            }
            let Some(card) = procs::card(&self.site.queue, &wid) else { continue };
            if procs::is_here(&card)
                && let Some(fd) = alive::open(card.pid, card.start)
            {
                waiter.watch_death(MONITOR_KEY, fd);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether nothing can become ready any more without a person: nobody works, nothing waits for
    /// a time, nothing lies in incoming/, and a sweep over all tasks finds nothing to claim. Returns
    /// the number of failed tasks then.
    pub(super) fn nothing_left(&mut self) -> Result<Option<usize>> {
        let queue = &self.site.queue;
        for wid in procs::all(queue)? {
            let run = queue.layout.proc(&wid).join("run");
            if wid != self.me.wid && !queue.list(&run)?.is_empty() {
                return Ok(None);
            }
        }
        let waits = sweep::is_anything_delayed(queue, &mut self.me)?;
        let incoming = queue.list(&queue.layout.incoming())?;
        if waits || incoming.iter().any(|e| e.name != "rejected" && !e.name.starts_with('.')) {
            return Ok(None);
        }
        let swept = sweep::sweep(queue, &mut self.me)?;
        self.finder.restart(&self.site.queue)?;
        while let Some(candidate) = self.finder.next(&self.site.queue)? {
            if self.is_for_us(&candidate) {
                return Ok(None);
            }
        }
        let delayed = sweep::is_anything_delayed(&self.site.queue, &mut self.me)?;
        let again = swept.running > 0 || delayed;
        Ok((!again).then_some(swept.failed))
    }
}
