//! What a keeper does by the clock and by the bell: takes what was put into incoming/, promotes what
//! is due, and looks again at what is blocked.

use std::path::Path;

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
        let aside = &self.aside;
        let leave = |name: &str| !aside.is_due(&format!("incoming/{name}"), now_ms);
        let taken = incoming::take_all(queue, me, &leave)?;
        for (name, why) in &taken.rejected {
            self.report.push(format!("incoming/{name} rejected: {why}"));
            let event = events::Event { k: "notice".to_owned(), ..events::Event::default() };
            events::append(queue, me, event.why(&format!("incoming/{name} rejected: {why}")));
        }
        self.incoming_due_ms = taken.again_ms.map(|ms| now_ms + ms);
        let there = incoming::waiting(queue)?;
        let there: Vec<&str> = there.iter().map(|(name, _)| name.as_str()).collect();
        self.aside.keep(queue, me, "incoming/", &there);
        let mut failed = None;
        for (name, went) in taken.tried {
            let went = went.map_or(Ok(()), Err);
            if let Err(e) = self.aside.note(queue, me, &format!("incoming/{name}"), went) {
                failed.get_or_insert(e);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Settles delayed entries that are due; milliseconds to the next one.
    pub(super) fn promote(&mut self, queue: &Queue, me: &mut Proc) -> Result<Option<u64>> {
        let mut buckets: Vec<(u64, String)> = queue
            .list(&queue.layout.delayed())?
            .into_iter()
            .filter_map(|e| Some((due_of(&e.name)?, e.name)))
            .collect();
        buckets.sort();
        let mut failed = None;
        for (due_s, name) in buckets {
            let now_ms = queue.clock.wall_ms();
            if due_s * 1000 > now_ms {
                return failed.map_or(Ok(Some(due_s * 1000 - now_ms)), Err);
            }
            if let Err(e) = self.promote_bucket(queue, me, &name) {
                failed.get_or_insert(e);
            }
        }
        failed.map_or(Ok(None), Err)
    }

    fn promote_bucket(&mut self, queue: &Queue, me: &mut Proc, name: &str) -> Result<()> {
        let dir = queue.layout.delayed().join(name);
        let now_ms = queue.clock.mono_ms();
        let mut failed = None;
        for entry in queue.list_reachable(&dir)? {
            let Some(key) = Key::parse(&entry.name) else { continue };
            let task = format!("tasks/{}", key.task);
            if !self.aside.is_due(&task, now_ms) {
                continue;
            }
            let went = promote_one(queue, me, &key, &dir.join(&entry.name));
            if let Err(e) = self.aside.note(queue, me, &task, went) {
                failed.get_or_insert(e);
            }
        }
        drop(queue.fs.rmdir(&dir));
        failed.map_or(Ok(()), Err)
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
        let now_ms = queue.clock.mono_ms();
        let mut failed = None;
        for name in names {
            let Some(key) = Key::parse(&name) else { continue };
            let task = format!("tasks/{}", key.task);
            if !self.aside.is_due(&task, now_ms) {
                continue;
            }
            let went = sweep::unblock(queue, me, &name);
            if let Err(e) = self.aside.note(queue, me, &task, went) {
                failed.get_or_insert(e);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn promote_one(queue: &Queue, me: &mut Proc, key: &Key, entry: &Path) -> Result<()> {
    // Removed first: if it is to be delayed again, the new entry must stay.
    let intent = me.settle_intent(queue, &key.task)?;
    step!("delayed.unlink");
    queue.discard(entry)?;
    settle(queue, me, &key.task)?;
    queue.discard(&intent)
}
