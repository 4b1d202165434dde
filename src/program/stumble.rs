//! After a step failed half-way (a full disk, a lost reply) this process puts its own house in order.

use crate::error::Result;
use crate::queue::Queue;
use crate::queue::procs::Proc;
use crate::queue::{recover, scopes};

/// How long a listing of a shared file system may be older than a change, milliseconds: `acdirmax` of
/// nfs(5). Also one of this machine's own changes, if its reply was lost.
const STALE_MS: u64 = 60_000;

/// Whether intents of this process may be left behind.
#[derive(Debug, Default)]
pub struct Stumble {
    until_ms: Option<u64>,
}

impl Stumble {
    /// A step failed.
    pub fn note(&mut self, queue: &Queue) {
        let stale_ms = if queue.shared { STALE_MS } else { 0 };
        self.until_ms = Some(queue.clock.mono_ms() + stale_ms);
    }

    /// Puts things in order, if a step failed. With each look until a listing must be true.
    /// Nothing that is left behind may be running.
    pub fn mend(&mut self, queue: &Queue, me: &mut Proc) -> Result<()> {
        let Some(until_ms) = self.until_ms else { return Ok(()) };
        let now_ms = queue.clock.mono_ms();
        scopes::give_back(queue, me)?;
        recover::own_intents(queue, me)?;
        if now_ms >= until_ms {
            self.until_ms = None;
        }
        Ok(())
    }
}
