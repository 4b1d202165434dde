//! After a step failed half-way (a full disk, a lost reply) this process puts its own house in order.

use crate::error::Result;
use crate::queue::Queue;
use crate::queue::procs::Proc;
use crate::queue::{recover, scopes};

/// How long a listing of a shared file system may be older than a change, milliseconds: `acdirmax` of
/// nfs(5). Also one of this machine's own changes, if its reply was lost.
const STALE_MS: u64 = 60_000;
/// The pause after the first time that an entry could not be dealt with, and the longest one, milliseconds.
const PAUSE_MS: (u64, u64) = (1000, 60_000);

/// Whether intents of this process may be left behind.
#[derive(Debug, Default)]
pub struct Stumble {
    until_ms: Option<u64>,
    /// What is left is of entries that cannot be dealt with now: when they are tried again, and the pause
    /// before that.
    again_ms: u64,
    pause_ms: u64,
}

impl Stumble {
    /// A step failed.
    pub fn note(&mut self, queue: &Queue) {
        let stale_ms = if queue.shared { STALE_MS } else { 0 };
        self.until_ms = Some(queue.clock.mono_ms() + stale_ms);
    }

    /// Whether intents of this process may be left behind now.
    pub fn is_behind(&self) -> bool {
        self.until_ms.is_some()
    }

    /// When it must be looked at again, if that has a time.
    pub fn due_ms(&self) -> Option<u64> {
        self.until_ms.filter(|_| self.pause_ms > 0).map(|_| self.again_ms)
    }

    /// Puts things in order, if a step failed. With each look until a listing must be true. What cannot be
    /// dealt with by a fault of its own stays noted and is tried again with growing pauses: it does not keep
    /// this process from other work. Nothing that is left behind may be running.
    ///
    /// # Errors
    /// What is the machine's fault.
    pub fn mend(&mut self, queue: &Queue, me: &mut Proc) -> Result<()> {
        let Some(until_ms) = self.until_ms else { return Ok(()) };
        let now_ms = queue.clock.mono_ms();
        if now_ms < self.again_ms {
            return Ok(());
        }
        let mended = scopes::give_back(queue, me).and_then(|()| recover::own_intents(queue, me));
        match mended {
            Ok(()) => (self.again_ms, self.pause_ms) = (0, 0),
            Err(e) if e.is_of_entry() => {
                self.pause_ms = (self.pause_ms * 2).clamp(PAUSE_MS.0, PAUSE_MS.1);
                self.again_ms = now_ms + self.pause_ms;
                tracing::warn!(error = %e.one_line(), "what this process has begun cannot be finished now");
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        if now_ms >= until_ms {
            self.until_ms = None;
        }
        Ok(())
    }
}
