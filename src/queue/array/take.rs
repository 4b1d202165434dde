//! Which job a worker takes next.
//!
//! A chunk is listed once, and what is pending in it is dealt to the workers by their rank: each takes
//! its share in order, so many claim at once and hardly ever the same job. Only when its share is gone
//! does a worker list the chunk anew and takes a share of what the others have not got to. Where jobs
//! take so long that a listing costs nothing beside them, it lists before each claim, and takes the
//! first ones first.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::rule;

use super::super::Queue;
use super::super::durable;
use super::super::procs::{self, Proc};
use super::super::record::CardKind;
use super::chunk::{Chunk, Seen};
use super::job::{self, Taken};
use super::{Overview, close};

/// Jobs lost in a row after which the chunk is listed anew.
const LOSSES_MAX: u32 = 4;

/// A worker's place in an array.
#[derive(Debug)]
pub struct Taker {
    id: String,
    home: PathBuf,
    round: u32,
    at: Option<Place>,
    /// Claims that somebody else was faster with.
    pub lost: u64,
}

/// A chunk in which this process has an intent.
#[derive(Debug)]
struct Place {
    chunk: Chunk,
    intent: PathBuf,
    share: VecDeque<(u64, u32)>,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This try of this job is ours.
    Job(u64, u32),
    /// Nothing to claim now; others are at work, or more is to come.
    Nothing,
    /// The array is over.
    Over,
    /// This process was declared dead.
    Dead,
}

/// What a worker found to claim.
enum Dealt {
    Share,
    Nothing,
    /// This process was declared dead.
    Dead,
}

impl Taker {
    /// For the array `id`, whose jobs are in `home`, in this round.
    pub fn new(id: &str, home: &Path, round: u32) -> Taker {
        Taker { id: id.to_owned(), home: home.to_owned(), round, at: None, lost: 0 }
    }

    /// The chunk of the job that was claimed last.
    pub fn chunk(&self) -> Option<&Chunk> {
        self.at.as_ref().map(|at| &at.chunk)
    }

    /// Claims the next job. `anew`: list before the claim, so that the first ones come first.
    pub fn next(&mut self, queue: &Queue, me: &mut Proc, anew: bool) -> Result<Next> {
        if anew && let Some(at) = &mut self.at {
            at.share.clear();
        }
        let mut losses = 0;
        loop {
            if self.at.as_ref().is_none_or(|at| at.share.is_empty() || losses >= LOSSES_MAX) {
                losses = 0;
                match self.deal(queue, me, anew)? {
                    Dealt::Share => {}
                    Dealt::Nothing => {
                        let over = close::end_if_over(queue, me, &self.id)?;
                        return Ok(if over { Next::Over } else { Next::Nothing });
                    }
                    Dealt::Dead => return Ok(Next::Dead),
                }
            }
            let Some(at) = &mut self.at else { continue };
            let Some((job, n)) = at.share.pop_front() else { continue };
            match job::claim(queue, me, &mut at.chunk, job, n)? {
                Taken::Won => return Ok(Next::Job(job, n)),
                Taken::Back => {
                    // Nothing of this process is open in it. It is somebody else's now (R4).
                    super::ring_all(queue, &self.id);
                    if let Some(at) = self.at.take() {
                        job::leave(queue, &at.intent)?;
                    }
                    return Ok(Next::Dead);
                }
                Taken::Dead => return Ok(Next::Dead),
                Taken::Lost => {
                    self.lost += 1;
                    losses += 1;
                }
            }
        }
    }

    /// Finds a chunk with something pending and takes a share of it.
    fn deal(&mut self, queue: &Queue, me: &mut Proc, anew: bool) -> Result<Dealt> {
        let (rank, of) = rank(queue, me)?;
        if let Some(mut at) = self.at.take() {
            let seen = at.chunk.look(queue, self.round)?;
            let wanted = !seen.pending.is_empty();
            at.share = share(&seen, rank, of, anew, queue.clock.random());
            if wanted && !at.share.is_empty() {
                self.at = Some(at);
                return Ok(Dealt::Share);
            }
            self.go(queue, at, &seen)?;
        }
        let mut last = None;
        for start in Overview::read(queue, &self.home, self.round)?.open() {
            let Some(mut chunk) = Chunk::open(queue, &self.home, start)? else { continue };
            let seen = chunk.look(queue, self.round)?;
            if seen.is_over() {
                close::note_over(queue, &self.home, &chunk, self.round, &seen)?;
            }
            if seen.pending.is_empty() {
                continue;
            }
            let share = share(&seen, rank, of, anew, queue.clock.random());
            if share.is_empty() {
                last.get_or_insert((chunk, seen));
                continue;
            }
            return self.come(queue, me, chunk, share);
        }
        // Only what is others' share is left: they may be busy for long.
        let Some((chunk, seen)) = last else { return Ok(Dealt::Nothing) };
        self.come(queue, me, chunk, seen.pending.into())
    }

    fn come(
        &mut self,
        queue: &Queue,
        me: &Proc,
        chunk: Chunk,
        share: VecDeque<(u64, u32)>,
    ) -> Result<Dealt> {
        // Who submitted it may not have made it durable yet, and its jobs are acted on from now on.
        durable::list(queue, &self.home)?;
        let Some(intent) = job::intend(queue, me, &self.id, chunk.start)? else {
            return Ok(Dealt::Dead);
        };
        self.at = Some(Place { chunk, intent, share });
        Ok(Dealt::Share)
    }

    fn go(&self, queue: &Queue, at: Place, seen: &Seen) -> Result<()> {
        close::note_over(queue, &self.home, &at.chunk, self.round, seen)?;
        job::leave(queue, &at.intent)
    }

    /// Leaves the array; nothing of this process may be open in it.
    pub fn leave(&mut self, queue: &Queue, me: &mut Proc) -> Result<()> {
        if let Some(mut at) = self.at.take() {
            let seen = at.chunk.look(queue, self.round)?;
            if rule!("R4.array") {
                close::note_over(queue, &self.home, &at.chunk, self.round, &seen)?;
                if seen.is_over() {
                    close::end_if_over(queue, me, &self.id)?;
                }
            }
            job::leave(queue, &at.intent)?;
        }
        Ok(())
    }
}

/// The rank of this process among the workers, and how many there are.
fn rank(queue: &Queue, me: &Proc) -> Result<(usize, usize)> {
    let mut workers = Vec::new();
    for wid in procs::all(queue)? {
        if wid == me.wid
            || procs::card(queue, &wid).is_some_and(|card| card.kind == CardKind::Worker)
        {
            workers.push(wid);
        }
    }
    workers.sort();
    let rank = workers.iter().position(|wid| *wid == me.wid).unwrap_or(0);
    Ok((rank, workers.len().max(1)))
}

/// The share of one of `of` workers. Nobody's where there is less than one for each: then chance
/// decides whether this one tries.
fn share(
    seen: &Seen,
    rank: usize,
    of: usize,
    anew: bool,
    random: u64,
) -> VecDeque<(u64, u32)> {
    let pending = &seen.pending;
    let random = usize::try_from(random >> 33).unwrap_or(0);
    if pending.len() < of {
        return pending.get(random % of).copied().into_iter().collect();
    }
    if anew {
        // The first ones first, but not all workers the very first.
        return pending[rank..].iter().chain(&pending[..rank]).take(of).copied().collect();
    }
    pending.iter().skip(rank).step_by(of).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_disjoint_and_together_everything() {
        let pending: Vec<(u64, u32)> = (1..=100).map(|job| (job, 1)).collect();
        let seen = Seen { pending: pending.clone(), ..Seen::default() };
        let mut all: Vec<_> = (0..7).flat_map(|rank| share(&seen, rank, 7, false, 0)).collect();
        all.sort_unstable();
        assert_eq!(all, pending);
        let firsts: Vec<_> = (0..7).map(|rank| share(&seen, rank, 7, true, 0)[0].0).collect();
        assert_eq!(firsts, [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn of_less_than_one_for_each_every_job_can_be_drawn() {
        let seen = Seen { pending: vec![(1, 1), (2, 1)], ..Seen::default() };
        let drawn = |random: u64| share(&seen, 0, 3, false, random << 33);
        assert_eq!((drawn(0)[0], drawn(1)[0], drawn(2).len()), ((1, 1), (2, 1), 0));
    }
}
