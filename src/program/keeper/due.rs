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

    /// Settles delayed entries that are due, and notes when the next one is.
    pub(super) fn promote(&mut self, queue: &Queue, me: &mut Proc) -> Result<()> {
        // If the look fails it is made again.
        self.delayed_due_ms = 0;
        let mut buckets: Vec<(u64, String)> = queue
            .list(&queue.layout.delayed())?
            .into_iter()
            .filter_map(|e| Some((due_of(&e.name)?, e.name)))
            .collect();
        buckets.sort();
        let (mut failed, mut next_ms) = (None, u64::MAX);
        for (due_s, name) in buckets {
            let due_ms = due_s.saturating_mul(1000);
            if due_ms > queue.clock.wall_ms() {
                next_ms = due_ms;
                break;
            }
            if let Err(e) = self.promote_bucket(queue, me, &name) {
                failed.get_or_insert(e);
            }
        }
        if failed.is_none() {
            self.delayed_due_ms = next_ms;
        }
        failed.map_or(Ok(()), Err)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::init::init;
    use crate::queue::procs::Identity;
    use crate::queue::record::{CardKind, Spec};
    use crate::queue::submit::submit;
    use crate::sys::clock::{Clock, RealClock};
    use crate::sys::host::Platform;
    use crate::sys::wake::{Waiter, Wake};

    #[test]
    fn nothing_is_looked_for_in_delayed_before_its_bell_is_rung_or_something_is_due() {
        let dir = tempfile::tempdir().unwrap();
        let queue = init(&dir.path().join("q"), Platform::real()).unwrap();
        let mut me = Proc::register(&queue, &Identity::plain("m", CardKind::Monitor)).unwrap();
        let mut waiter = Waiter::new(&[], dir.path()).unwrap();
        let mut keeper = Keeper::new(&queue, 3_600_000);
        keeper.tick(&queue, &mut me, &mut waiter, &[]).unwrap();
        submit(&queue, &mut me, Some("T"), Spec { v: 1, ..Spec::new("") }).unwrap();
        // Long due, and nobody has rung: who looks would remove it.
        let entry = queue.layout.delayed_at(1).join("T.1");
        queue.fs.mkdir(&queue.layout.delayed_at(1)).unwrap();
        queue.fs.touch(&entry).unwrap();
        keeper.tick(&queue, &mut me, &mut waiter, &[]).unwrap();
        assert!(queue.fs.exists(&entry), "it was looked for");
        let rung = [Wake::Bell(queue.layout.delayed_bell())];
        keeper.tick(&queue, &mut me, &mut waiter, &rung).unwrap();
        assert!(!queue.fs.exists(&entry), "its bell was not heard");
        // What is to come is known from then on, and no further bell is needed.
        let soon_s = RealClock.wall_ms() / 1000 + 1;
        let entry = queue.layout.delayed_at(soon_s).join("T.1");
        queue.fs.mkdir(&queue.layout.delayed_at(soon_s)).unwrap();
        queue.fs.touch(&entry).unwrap();
        let next_ms = keeper.tick(&queue, &mut me, &mut waiter, &rung).unwrap();
        // Bells of before are heard as well.
        while RealClock.mono_ms() < next_ms {
            waiter.wait(Waiter::deadline(next_ms));
        }
        keeper.tick(&queue, &mut me, &mut waiter, &[]).unwrap();
        assert!(!queue.fs.exists(&entry), "it was not promoted when it was due");
    }
}
