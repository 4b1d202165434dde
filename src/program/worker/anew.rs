//! A worker that was declared dead, and lives; or whose directory was removed.

use crate::error::{Cannot, Result};
use crate::queue::ids::Key;
use crate::queue::procs::{self, Identity, Proc};
use crate::queue::record::CardKind;
use crate::queue::{events, leftovers, sweep};
use crate::run::worktree;
use crate::step;
use crate::sys::remains::Session;
use crate::sys::wake::Watch;

use super::{Job, Worker, identity};

impl Worker {
    /// This process was declared dead: it goes on under a new identity, and takes new work.
    pub(super) fn register_anew(&mut self, waiter: &mut dyn Watch) -> Result<()> {
        self.register_as(waiter, "", "declared dead as")
    }

    fn register_as(&mut self, waiter: &mut dyn Watch, former: &str, how: &str) -> Result<()> {
        if self.is_astray(&[]) {
            return Ok(());
        }
        sweep::must_be_quiet(&self.site.queue, &self.me)?;
        let old = self.me.wid.clone();
        waiter.unwatch(&self.me.dir().join("bell"));
        let identity =
            Identity { former: former.to_owned(), ..identity(&self.site, &self.options) };
        self.me = Proc::register(&self.site.queue, &identity)?;
        self.slot = self.slot.take().and_then(|slot| worktree::keep(&self.site, &self.me, slot));
        procs::dissolve(&self.site.queue, &old);
        self.watch(waiter);
        let text = format!("{how} {old}; going on as {}", self.me.wid);
        tracing::warn!("{text}");
        let event = events::Event { k: "notice".to_owned(), ..events::Event::default() };
        events::append(&self.site.queue, &mut self.me, event.why(&text));
        self.tell(&text);
        Ok(())
    }

    /// Somebody has removed this worker's directory, and nobody has ended what it runs: it registers again,
    /// and what runs goes on. The claim stays in its former name. Repeated after an error, it does the rest.
    pub(super) fn come_back(&mut self, waiter: &mut dyn Watch) -> Result<()> {
        if matches!(self.job, Job::Idle) {
            self.lost_place = false;
            return Ok(());
        }
        if self.me.is_without_place(&self.site.queue) {
            let former = self.claimed_as.clone();
            self.register_as(waiter, &former, "removed from procs/ as")?;
            if self.astray {
                return Ok(());
            }
        }
        match &mut self.job {
            Job::Running(attempt) => {
                let (key, session) = (attempt.lease.key.clone(), attempt.session.clone());
                self.hold_again(&key, Some(&session))?;
            }
            Job::Ending(ending, _) => {
                let session = ending.session.clone().filter(|_| ending.left);
                let key = ending.lease.key.clone();
                self.hold_again(&key, session.as_ref())?;
            }
            Job::Array(stay) => stay.hold_again(&self.site.queue, &self.me)?,
            Job::Idle => {}
        }
        self.lost_place = false;
        self.beat()
    }

    /// Notes in its new name what it holds, and before that who leads what runs of it: who finds the one finds
    /// the other.
    fn hold_again(&mut self, key: &Key, session: Option<&Session>) -> Result<()> {
        let queue = &self.site.queue;
        if let Some(session) = session {
            leftovers::note_again(queue, &self.me, key, session)?;
        }
        let card = self.me.card_for(queue, CardKind::Worker)?;
        let intent = self.me.intent(key);
        step!("back.intent");
        match queue.fs.link(&card, &intent) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other.cannot("write an intent", &intent),
        }
    }
}
