//! What is done about a death: what the process left running is ended, then its work is given back.

use std::time::Duration;

use crate::error::Result;
use crate::queue::Queue;
use crate::queue::ids::short;
use crate::queue::leftovers;
use crate::queue::procs::Proc;
use crate::queue::record::{Card, CardKind};
use crate::queue::recover::{Death, recover};
use crate::rule;
use crate::step;
use crate::sys::remains::{Left, Why};
use crate::sys::wake::Watch;

use super::Keeper;

/// Time for a killed process tree to be gone, and at a later look at what did not end then.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_millis(500);
/// The pause before the second look at what cannot be ended, milliseconds. Each one after is twice as long.
const LEFT_MS: u64 = 1000;

/// Something of a dead process that cannot be ended. Its deaths are watched, and it is looked at again.
#[derive(Debug)]
pub(super) struct Lingering {
    keys: Vec<u64>,
    pub(super) again_ms: u64,
    pause_ms: u64,
}

impl Keeper {
    /// Ends what is left of a dead process, and gives back what it held.
    pub(super) fn bury(
        &mut self,
        queue: &Queue,
        me: &mut Proc,
        wid: &str,
        death: Death,
        waiter: &mut dyn Watch,
    ) -> Result<()> {
        let here = matches!(death, Death::Gone | Death::Hung)
            || death == Death::Left && self.watched.get(wid).is_some_and(|w| w.local);
        if here && !self.end_processes(queue, me, wid, death, waiter) {
            return Ok(());
        }
        let why = match self.watched.get(wid) {
            Some(w) if w.card.kind == CardKind::Worker => death.word(),
            _ => "",
        };
        let told = leftovers::is_told(queue, wid);
        step!("keeper.recover");
        let mut back = Vec::new();
        let recovered = recover(queue, me, wid, death, &mut back);
        for key in back {
            let text = format!("{key} taken back from {} ({why})", short(wid));
            tracing::info!("{text}");
            self.report.push(text);
        }
        recovered?;
        if told {
            leftovers::take_back(queue, me, wid);
        }
        self.forget(queue, wid, waiter);
        Ok(())
    }

    /// Kill before fence: the process itself if it hangs, then everything that it has started. False: some
    /// of it cannot be ended; its work stays where it is.
    fn end_processes(
        &mut self,
        queue: &Queue,
        me: &mut Proc,
        wid: &str,
        death: Death,
        waiter: &mut dyn Watch,
    ) -> bool {
        // What works in another directory is never ended from here, nor what it has started.
        let watched = self.watched.get(wid).filter(|w| w.local);
        let Some(card) = watched.map(|w| w.card.clone()) else { return true };
        let now_ms = queue.clock.mono_ms();
        let before = self.lingering.get(wid);
        if before.is_some_and(|l| now_ms < l.again_ms && l.still(waiter)) {
            return false;
        }
        let patience = if before.is_some() { LATER } else { KILL_PATIENCE };
        let left = self.end(queue, &card, death, patience);
        if left.is_empty() || !rule!("R5.unknown") {
            if let Some(lingering) = self.lingering.remove(wid) {
                lingering.keys.into_iter().for_each(|key| waiter.unwatch_death(key));
            }
            return true;
        }
        let first = before.is_none();
        let pause_ms = before.map_or(LEFT_MS, |l| (l.pause_ms * 2).min(self.rescan_ms));
        let mut keys = before.map_or_else(Vec::new, |l| l.keys.clone());
        keys.drain(..).for_each(|key| waiter.unwatch_death(key));
        for one in &left {
            self.next_key += 1;
            if waiter.watch_death(self.next_key, one.process) {
                keys.push(self.next_key);
            }
        }
        // The looks take time, too.
        let again_ms = queue.clock.mono_ms() + pause_ms;
        self.lingering.insert(wid.to_owned(), Lingering { keys, again_ms, pause_ms });
        if first {
            leftovers::tell(queue, me, wid, &left);
        }
        false
    }

    fn end(&self, queue: &Queue, card: &Card, death: Death, patience: Duration) -> Vec<Left> {
        let host = &queue.host;
        let spare = [host.me().pid, card.pid];
        let mut traces = leftovers::traces(queue, card);
        if death != Death::Left && host.is_alive(card.process()) {
            // What has left the session is seen below it for as long as it is there.
            let below = host.below(card.process(), &card.mark, &[host.me().pid]);
            traces.processes.extend(below.into_iter().filter(|p| *p != card.process()));
            step!("keeper.kill");
            if !host.kill(card.process(), traces.user, patience) {
                return vec![Left::of(card.process(), Why::Refused)];
            }
        }
        host.end_left(&traces, &spare, patience)
    }

    pub(super) fn forget(&mut self, queue: &Queue, wid: &str, waiter: &mut dyn Watch) {
        if let Some(watched) = self.watched.remove(wid) {
            waiter.unwatch_death(watched.key);
            if watched.local && !watched.card.cgroup.is_empty() {
                queue.host.bury_group(&watched.card.cgroup, &watched.card.mark);
            }
        }
        for key in self.lingering.remove(wid).into_iter().flat_map(|lingering| lingering.keys) {
            waiter.unwatch_death(key);
        }
    }
}

impl Lingering {
    /// Whether all of it that was seen is still there.
    fn still(&self, waiter: &dyn Watch) -> bool {
        self.keys.iter().all(|key| waiter.watches_death(*key))
    }
}
