//! What a keeper does by the clock and by the bell: takes what was put into incoming/, promotes what
//! is due, and looks again at what is blocked.

use crate::error::Result;
use crate::queue::ids::Key;
use crate::queue::layout::due_of;
use crate::queue::procs::Proc;
use crate::queue::settle::settle;
use crate::queue::{Queue, events, incoming, sweep};
use crate::step;

use super::{BLOCKED_BATCH, Keeper};

impl Keeper {
    pub(super) fn take_incoming(
        &mut self,
        queue: &Queue,
        me: &mut Proc,
        now_ms: u64,
    ) -> Result<()> {
        let taken = incoming::take_all(queue, me)?;
        for (name, why) in &taken.rejected {
            self.report.push(format!("incoming/{name} rejected: {why}"));
            let event = events::Event { k: "notice".to_owned(), ..events::Event::default() };
            events::append(queue, me, event.why(&format!("incoming/{name} rejected: {why}")));
        }
        self.incoming_due_ms = taken.again_ms.map(|ms| now_ms + ms);
        Ok(())
    }

    /// Settles delayed entries that are due; milliseconds to the next one.
    pub(super) fn promote(&mut self, queue: &Queue, me: &mut Proc) -> Result<Option<u64>> {
        let mut buckets: Vec<(u64, String)> = queue
            .list(&queue.layout.delayed())?
            .into_iter()
            .filter_map(|e| Some((due_of(&e.name)?, e.name)))
            .collect();
        buckets.sort();
        for (due_s, name) in buckets {
            let now_ms = queue.clock.wall_ms();
            if due_s * 1000 > now_ms {
                return Ok(Some(due_s * 1000 - now_ms));
            }
            let dir = queue.layout.delayed().join(&name);
            for entry in queue.list(&dir)? {
                if let Some(key) = Key::parse(&entry.name) {
                    // Removed first: if it is to be delayed again, the new entry must stay.
                    let intent = me.settle_intent(queue, &key.task)?;
                    step!("delayed.unlink");
                    queue.discard(&dir.join(&entry.name))?;
                    settle(queue, me, &key.task)?;
                    queue.discard(&intent)?;
                }
            }
            drop(queue.fs.rmdir(&dir));
        }
        Ok(None)
    }

    /// The safety net: looks at some blocked entries again, whether or not somebody rang.
    pub(super) fn look_at_blocked(&mut self, queue: &Queue, me: &mut Proc) -> Result<()> {
        let mut names: Vec<String> =
            queue.list(&queue.layout.blocked())?.into_iter().map(|e| e.name).collect();
        names.sort();
        let from = names.partition_point(|name| *name <= self.blocked_from);
        names.rotate_left(from);
        names.truncate(BLOCKED_BATCH);
        self.blocked_from = names.last().cloned().unwrap_or_default();
        for name in names {
            sweep::unblock(queue, me, &name)?;
        }
        Ok(())
    }
}
