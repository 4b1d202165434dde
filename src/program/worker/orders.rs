//! What a worker is told to do, also while it is at work and does not wait for anything: git may take
//! its time with a worktree.

use crate::config::OnTerm;
use crate::queue::{Queue, control};
use crate::sys::wake::Watch;

/// What a worker was told.
#[derive(Clone)]
pub(super) struct Orders {
    /// To leave after what runs now.
    pub(super) leaving: bool,
    /// To give what runs now back.
    pub(super) hand_back: bool,
    pub(super) on_term: OnTerm,
    pub(super) queue: Queue,
    /// The readable part of its id.
    pub(super) name: String,
}

impl Orders {
    /// The same with one signal more.
    #[must_use]
    pub(super) fn hear(mut self, signal: i32) -> Orders {
        match signal {
            nix::libc::SIGTERM if self.on_term == OnTerm::Finish => self.leaving = true,
            nix::libc::SIGTERM | nix::libc::SIGQUIT | nix::libc::SIGUSR2 => {
                (self.leaving, self.hand_back) = (true, true);
            }
            nix::libc::SIGINT | nix::libc::SIGHUP | nix::libc::SIGUSR1 => {
                self.hand_back |= self.leaving;
                self.leaving = true;
            }
            _ => {}
        }
        self
    }

    /// Whether what runs is to be given back, with all that has come up since these were written down.
    /// Nothing is taken: whoever waits next hears it all.
    pub(super) fn hand_back(&self, waiter: &mut dyn Watch) -> bool {
        let now = waiter.signals().into_iter().fold(self.clone(), Orders::hear);
        now.hand_back || control::asked(&self.queue, &self.name).stop
    }
}
