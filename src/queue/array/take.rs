//! Which job a worker takes next.
//!
//! Jobs are dealt by their numbers: of `of` workers at a chunk, the one of rank r takes the jobs whose
//! number leaves r when divided by `of`. So many claim at once, and hardly ever the same job, and a
//! worker that comes to a chunk for the first time need not list it: who finds a few of its share taken
//! does. Many workers spread over several chunks. Who is through with its shares of the next few chunks
//! comes back to what is left open of them, lists it, and takes from the end of the largest share there,
//! while its owner goes on from the beginning. Where jobs take so long that a listing costs nothing
//! beside them, a worker lists before each claim and takes the first ones first.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use crate::error::Result;

use super::super::Queue;
use super::super::durable;
use super::super::procs::Proc;
use super::chunk::{Chunk, Seen};
use super::deal::Dealer;
use super::halting::Standing;
use super::job::{self, Taken};
use super::{Over, Overview, close, over_file};

/// Jobs of a share that are lost before the chunk is listed anew: somebody has come since it was dealt.
const LOSSES_MAX: u32 = 4;
/// Chunks that a worker goes through before it comes back to what is left open of them.
const AHEAD: usize = 32;

/// A worker's place in an array.
#[derive(Debug)]
pub struct Taker {
    id: String,
    home: PathBuf,
    round: u32,
    at: Option<Place>,
    /// Open chunks that were not looked at since they were listed.
    open: VecDeque<u64>,
    /// Chunks that it has been to.
    visited: BTreeSet<u64>,
    /// Those that it has left without a look whether they are over.
    unnoted: BTreeSet<u64>,
    /// New ones that it goes to before it comes back to those.
    ahead: usize,
    /// They were listed for somebody whose jobs are long: without groups, the first one first.
    listed_anew: bool,
    dealer: Dealer,
    /// When the run stops before its end.
    pub halting: Standing,
    /// Claims that somebody else was faster with.
    pub lost: u64,
}

/// A chunk in which this process has an intent.
#[derive(Debug)]
struct Place {
    chunk: Chunk,
    intent: PathBuf,
    share: VecDeque<(u64, u32)>,
    /// Its share was taken unseen.
    unseen: bool,
    /// How many of it somebody else was faster with.
    losses: u32,
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
        Taker {
            id: id.to_owned(),
            home: home.to_owned(),
            round,
            at: None,
            open: VecDeque::new(),
            visited: BTreeSet::new(),
            unnoted: BTreeSet::new(),
            ahead: 0,
            listed_anew: false,
            dealer: Dealer::default(),
            halting: Standing::default(),
            lost: 0,
        }
    }

    /// The chunk of the job that was claimed last.
    pub fn chunk(&self) -> Option<&Chunk> {
        self.at.as_ref().map(|at| &at.chunk)
    }

    /// Notes the chunk of the job that was claimed last in the name in which this process has registered again.
    pub fn intend_again(&mut self, queue: &Queue, me: &Proc) -> Result<()> {
        let Some(at) = &mut self.at else { return Ok(()) };
        if let Some(intent) = job::intend(queue, me, &self.id, at.chunk.start)? {
            at.intent = intent;
        }
        Ok(())
    }

    /// Claims the next job. `anew`: list before the claim, so that the first ones come first.
    pub fn next(&mut self, queue: &Queue, me: &mut Proc, anew: bool) -> Result<Next> {
        if anew && let Some(at) = &mut self.at {
            at.share.clear();
        }
        let through = |at: &Place| at.share.is_empty() || at.losses >= LOSSES_MAX;
        loop {
            if self.at.as_ref().is_none_or(through) {
                match self.deal(queue, me, anew)? {
                    Dealt::Share => {}
                    Dealt::Nothing => {
                        let over = close::end_if_over(queue, me, &self.id)?;
                        return Ok(if over { Next::Over } else { Next::Nothing });
                    }
                    Dealt::Dead => return Ok(Next::Dead),
                }
            }
            if !self.halting.may_claim(queue, &self.home)? {
                let over = close::end_if_over(queue, me, &self.id)?;
                return Ok(if over { Next::Over } else { Next::Nothing });
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
                    at.losses += 1;
                }
            }
        }
    }

    /// Finds a chunk with something pending and takes a share of it.
    fn deal(&mut self, queue: &Queue, me: &mut Proc, anew: bool) -> Result<Dealt> {
        if self.at.as_ref().is_some_and(|at| at.losses >= LOSSES_MAX) {
            self.dealer.roll.doubt();
        }
        self.dealer.call(queue, me)?;
        if let Some(mut at) = self.at.take()
            && !self.go_unseen(queue, &at, anew)?
        {
            let seen = at.chunk.look(queue, self.round)?;
            // What is left of others' shares is theirs, as long as there is something else to do.
            at.share = match anew {
                true => self.dealer.share(&seen, anew, queue.clock.random()),
                false => self.dealer.own(&seen),
            };
            at.losses = 0;
            if !at.share.is_empty() {
                self.at = Some(at);
                return Ok(Dealt::Share);
            }
            self.go(queue, at, &seen)?;
        }
        if anew || self.listed_anew {
            // What is first may have come back; or the jobs are short, and many spread.
            self.open.clear();
        }
        let mut last = None;
        let mut listed = false;
        loop {
            if self.ahead == 0 {
                self.open.clear();
            }
            let Some(start) = self.open.pop_front() else {
                if std::mem::replace(&mut listed, true) {
                    break;
                }
                self.ahead = AHEAD;
                self.listed_anew = anew;
                let seen = Overview::read(queue, &self.home, self.round)?;
                self.halting.refresh(queue, &self.home)?;
                self.open = self.dealer.spread(seen.open().collect(), anew);
                if self.open.iter().all(|start| self.visited.contains(start)) {
                    // Not all begin to look at the same one.
                    let from = self.open.len() * self.dealer.roll.rank / self.dealer.roll.of;
                    self.open.rotate_left(from);
                }
                continue;
            };
            let Some(mut chunk) = Chunk::reachable(queue, &self.home, start)? else { continue };
            if self.visited.insert(start) && self.round == 0 && !anew {
                self.ahead -= 1;
                let share = self.dealer.first_share(start, chunk.len());
                return self.come(queue, me, chunk, share, true);
            }
            if self.is_noted(queue, &chunk) {
                continue;
            }
            let seen = chunk.look(queue, self.round)?;
            if seen.is_over() {
                close::note_over(queue, &self.home, &chunk, self.round, &seen)?;
            }
            if seen.pending.is_empty() {
                continue;
            }
            let share = self.dealer.share(&seen, anew, queue.clock.random());
            if share.is_empty() {
                last.get_or_insert((chunk, seen));
                continue;
            }
            return self.come(queue, me, chunk, share, false);
        }
        // Only what others have as good as taken is left; but they may be busy for long.
        let Some((chunk, seen)) = last else { return Ok(Dealt::Nothing) };
        self.come(queue, me, chunk, seen.pending.into(), false)
    }

    fn come(
        &mut self,
        queue: &Queue,
        me: &Proc,
        chunk: Chunk,
        share: VecDeque<(u64, u32)>,
        unseen: bool,
    ) -> Result<Dealt> {
        // Who submitted it may not have made it durable yet, and its jobs are acted on from now on.
        durable::list(queue, &self.home)?;
        let Some(intent) = job::intend(queue, me, &self.id, chunk.start)? else {
            return Ok(Dealt::Dead);
        };
        self.at = Some(Place { chunk, intent, share, unseen, losses: 0 });
        Ok(Dealt::Share)
    }

    /// Leaves a chunk that it came to unseen, its share done, without listing it: whether it is over is
    /// seen when its turn comes again, by the first who looks. False: it must be looked at now.
    fn go_unseen(&mut self, queue: &Queue, at: &Place, anew: bool) -> Result<bool> {
        if anew || !at.unseen || !at.share.is_empty() {
            return Ok(false);
        }
        self.unnoted.insert(at.chunk.start);
        job::leave(queue, &at.intent)?;
        Ok(true)
    }

    fn go(&self, queue: &Queue, at: Place, seen: &Seen) -> Result<()> {
        close::note_over(queue, &self.home, &at.chunk, self.round, seen)?;
        job::leave(queue, &at.intent)
    }

    /// Leaves the array; nothing of this process may be open in it.
    pub fn leave(&mut self, queue: &Queue, me: &mut Proc) -> Result<()> {
        if let Some(mut at) = self.at.take() {
            let seen = at.chunk.look(queue, self.round)?;
            close::note_over(queue, &self.home, &at.chunk, self.round, &seen)?;
            if seen.is_over() {
                self.note_all(queue)?;
                close::end_if_over(queue, me, &self.id)?;
            }
            job::leave(queue, &at.intent)?;
        }
        Ok(())
    }

    /// Whether somebody has noted that all of a chunk's jobs are done.
    fn is_noted(&self, queue: &Queue, chunk: &Chunk) -> bool {
        let over = Over { jobs: chunk.len(), failed: 0 };
        queue.fs.exists(&over_file(&self.home, chunk.start, self.round, over))
    }

    /// Notes which of the chunks are over that were left without a look.
    fn note_all(&mut self, queue: &Queue) -> Result<()> {
        for start in std::mem::take(&mut self.unnoted) {
            if let Some(mut chunk) = Chunk::reachable(queue, &self.home, start)?
                && !self.is_noted(queue, &chunk)
            {
                let seen = chunk.look(queue, self.round)?;
                close::note_over(queue, &self.home, &chunk, self.round, &seen)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::record::CardKind;

    fn worker(queue: &Queue) -> Proc {
        use crate::queue::procs::Identity;
        Proc::register(queue, &Identity::plain("w", CardKind::Worker)).unwrap()
    }

    /// A queue with an array of these chunks (first and last job), one of its workers, and its jobs.
    fn array(dir: &Path, chunks: &[(u64, u64)]) -> (Queue, Proc, PathBuf) {
        use crate::queue::array::{ensure_home, list};
        use crate::queue::record::{Array, Spec};
        use crate::sys::host::Platform;
        let queue = crate::queue::init::init(&dir.join("q"), Platform::real()).unwrap();
        let mut me = worker(&queue);
        let spec = Spec { array: Some(Array::default()), ..Spec::new("") };
        crate::queue::submit::submit(&queue, &mut me, Some("T"), spec).unwrap();
        let home = crate::queue::array::home(&queue, "T");
        ensure_home(&queue, &home).unwrap();
        for (first, last) in chunks {
            let lines: Vec<String> = (*first..=*last).map(|n| format!("[\"{n}\"]")).collect();
            list::append(&queue, &me, "T", *first, &lines).unwrap();
        }
        (queue, me, home)
    }

    /// Takes a job and does it.
    fn work(queue: &Queue, taker: &mut Taker, me: &mut Proc) -> Option<u64> {
        let Next::Job(job, n) = taker.next(queue, me, false).unwrap() else { return None };
        assert!(job::succeed(queue, me, taker.chunk().unwrap(), (job, n), 0).unwrap());
        Some(job)
    }

    #[test]
    fn what_was_done_in_an_earlier_stay_is_not_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, mut me, home) = array(dir.path(), &[(1, 4), (5, 9)]);
        let mut done = Vec::new();
        // Each stay is called away: between two jobs, between two chunks, at the end.
        for jobs in [2, 4, 9] {
            let mut taker = Taker::new("T", &home, 0);
            done.extend((0..jobs).map_while(|_| work(&queue, &mut taker, &mut me)));
            taker.leave(&queue, &mut me).unwrap();
        }
        assert_eq!(done, (1..=9).collect::<Vec<u64>>());
    }

    #[test]
    fn who_was_here_first_shares_with_who_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, mut first, home) = array(dir.path(), &[(1, 200)]);
        let mut takers = [Taker::new("T", &home, 0), Taker::new("T", &home, 0)];
        let mut done = vec![work(&queue, &mut takers[0], &mut first).unwrap()];
        let mut second = worker(&queue);
        loop {
            let before = done.len();
            done.extend(work(&queue, &mut takers[1], &mut second));
            done.extend(work(&queue, &mut takers[0], &mut first));
            if done.len() == before {
                break;
            }
        }
        done.sort_unstable();
        assert_eq!(done, (1..=200).collect::<Vec<u64>>());
        let lost = takers[0].lost + takers[1].lost;
        assert!(lost <= 3 * u64::from(LOSSES_MAX), "{lost} claims failed");
    }
    #[test]
    fn many_whose_first_job_was_listed_for_spread_over_the_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, me, home) = array(dir.path(), &[(1, 32), (33, 64), (65, 96)]);
        let mut workers: Vec<_> = (1..16).map(|_| worker(&queue)).chain([me]).collect();
        let mut takers: Vec<_> = workers.iter().map(|_| Taker::new("T", &home, 0)).collect();
        let mut second = BTreeSet::new();
        for (me, taker) in workers.iter_mut().zip(&mut takers) {
            // As a worker does that does not know yet how long the jobs are.
            assert!(matches!(taker.next(&queue, me, true).unwrap(), Next::Job(1..=32, 1)));
        }
        for (me, taker) in workers.iter_mut().zip(&mut takers) {
            let mut jobs = std::iter::repeat_with(|| work(&queue, taker, me).unwrap());
            second.insert(jobs.find(|job| *job > 32).map(|job| (job - 1) / 32));
        }
        assert_eq!(second, BTreeSet::from([Some(1), Some(2)]));
    }
}
