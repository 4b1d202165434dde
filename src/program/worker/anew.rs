//! A worker that was declared dead, and lives.

use crate::error::Result;
use crate::queue::procs::{self, Proc};
use crate::queue::{events, sweep};
use crate::run::worktree;
use crate::sys::wake::Watch;

use super::{Worker, identity};

impl Worker {
    /// This process was declared dead: it goes on under a new identity, and takes new work.
    pub(super) fn register_anew(&mut self, waiter: &mut dyn Watch) -> Result<()> {
        if self.is_astray(&[]) {
            return Ok(());
        }
        sweep::must_be_quiet(&self.site.queue, &self.me)?;
        let old = self.me.wid.clone();
        waiter.unwatch(&self.me.dir().join("bell"));
        let me = Proc::register(&self.site.queue, &identity(&self.site, &self.options))?;
        self.me = me;
        self.slot = self.slot.take().and_then(|slot| worktree::keep(&self.site, &self.me, slot));
        procs::dissolve(&self.site.queue, &old);
        self.watch(waiter);
        let text = format!("declared dead as {old}; going on as {}", self.me.wid);
        tracing::warn!("{text}");
        let event = events::Event { k: "notice".to_owned(), ..events::Event::default() };
        events::append(&self.site.queue, &mut self.me, event.why(&text));
        self.tell(&text);
        Ok(())
    }
}
