//! What is done about a death: what the process left running is ended, then its work is given back.

use std::time::Duration;

use crate::error::Result;
use crate::queue::ids::short;
use crate::queue::procs::Proc;
use crate::queue::record::{Card, CardKind};
use crate::queue::recover::{Death, recover};
use crate::queue::{Queue, events};
use crate::step;
use crate::sys::alive::EnvMark;
use crate::sys::wake::Watch;

use super::Keeper;

/// Time for a killed process tree to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

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
        let mut back = Vec::new();
        let recovered = recover(queue, me, wid, death, &mut back);
        for key in back {
            let text = format!("{key} taken back from {} ({why})", short(wid));
            tracing::info!("{text}");
            self.report.push(text);
        }
        recovered?;
        self.forget(wid, waiter);
        Ok(())
    }

    /// Kill before fence: the process itself if it hangs, then everything with its mark. False: some
    /// of it cannot be ended; its work stays where it is.
    fn end_processes(&mut self, queue: &Queue, me: &mut Proc, wid: &str) -> Result<bool> {
        // What works in another directory is never ended from here, nor what it has started.
        let Some(watched) = self.watched.get(wid).filter(|w| w.local) else { return Ok(true) };
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

    pub(super) fn forget(&mut self, wid: &str, waiter: &mut dyn Watch) {
        if let Some(watched) = self.watched.remove(wid) {
            waiter.unwatch_death(watched.key);
        }
    }
}
