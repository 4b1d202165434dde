//! The queue was moved or removed under a worker: what runs is finished, and then it leaves.

use nix::libc;

use crate::queue::claim::Lease;
use crate::queue::record::{End, Verdict};
use crate::run::worktree::Workplace;
use crate::sys::wake::Wake;

use super::super::astray;
use super::{Job, Worker};

impl Worker {
    /// Whether the queue is not in its place any more. From the first time on it claims nothing more, and
    /// leaves after what it is at. Of a queue that is gone nothing can be handed back: there the first
    /// signal that asks it to leave ends what runs.
    pub(super) fn is_astray(&mut self, wakes: &[Wake]) -> bool {
        let Err(why) = self.site.queue.must_be_in_place() else { return self.astray };
        let asks = |wake: &Wake| {
            matches!(
                wake,
                Wake::Signal(libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT)
            )
        };
        let first = !std::mem::replace(&mut self.astray, true);
        let asked = first && self.leaving || wakes.iter().any(asks);
        self.hand_back |= asked && self.site.queue.is_gone();
        if first {
            let what = match &self.job {
                Job::Idle => "leaving",
                _ => "finishing what runs, then leaving (Ctrl-C: end it)",
            };
            let text = format!("{}; {what}", why.one_line());
            tracing::warn!("{text}");
            self.tell(&text);
            self.leaving = true;
            self.broken = Some(why);
        }
        true
    }

    /// Leaves without what it would do by paths: its slot is freed by whoever finds its process gone.
    pub(super) fn leave_astray(&mut self) {
        self.slot = None;
        astray::left(&self.site.queue, &mut self.me);
    }

    /// What becomes of an attempt in a worktree when the queue, and with it the repository, has moved: git
    /// finds neither from the other, so nothing can be concluded. It stays as it is; when the slot is used
    /// again it is saved.
    pub(super) fn end_astray(&mut self, lease: &Lease, place: &Workplace) -> Option<End> {
        if place.branch.is_empty() || !self.is_astray(&[]) {
            return None;
        }
        let why = format!(
            "its project was moved while it ran: what it left is in {} until the slot is used again",
            place.dir.display()
        );
        tracing::warn!(task = %lease.key.task, "{why}");
        self.slot = None;
        Some(End { why, ..End::new(Verdict::Release, true) })
    }
}
