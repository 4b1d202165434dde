//! Who works here, for dealing out what many want at once: a hint, as everything that is shared out by
//! it is claimed by a link all the same.

use crate::error::Result;

use super::Queue;
use super::ids::short;
use super::procs::{self, Proc};

/// How long a worker goes by what it knows of the others, milliseconds.
const ROLL_MS: u64 = 100;
/// What the programs that claim nothing call themselves.
const NO_WORKERS: [&str; 4] = ["cli", "coordinator", "monitor", "aggregator"];

/// Who works here, as far as this process knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Roll {
    /// The rank of this process among the workers.
    pub rank: usize,
    /// How many there are; 0 before the first call.
    pub of: usize,
    until_ms: u64,
}

impl Roll {
    /// Of `of` workers, the one of this rank, until the next call.
    pub fn new(rank: usize, of: usize) -> Roll {
        Roll { rank, of, until_ms: 0 }
    }

    /// Looks again with the next call: what this process knows of the others does not seem to be true.
    pub fn doubt(&mut self) {
        self.until_ms = 0;
    }

    /// Looks who is there, now and then. True: it has looked.
    pub fn call(&mut self, queue: &Queue, me: &Proc) -> Result<bool> {
        let now_ms = queue.clock.mono_ms();
        if self.of > 0 && now_ms < self.until_ms {
            return Ok(false);
        }
        self.until_ms = now_ms + ROLL_MS;
        let mut present = procs::all(queue)?;
        present.sort();
        // By their names, without a look at the cards: of 64 workers each would read 64. Who is counted
        // wrongly makes shares smaller than they could be, nothing else.
        let works = |wid: &String| *wid == me.wid || !NO_WORKERS.contains(&short(wid));
        let workers: Vec<String> = present.into_iter().filter(works).collect();
        self.rank = workers.iter().position(|wid| *wid == me.wid).unwrap_or(0);
        self.of = workers.len().max(1);
        Ok(true)
    }
}
