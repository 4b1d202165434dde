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
use super::super::roll::Roll;
use super::chunk::{Chunk, Seen};
use super::job::{self, Taken};
use super::{Over, Overview, close, over_file};

/// Jobs lost in a row after which the chunk is listed anew.
const LOSSES_MAX: u32 = 4;
/// Workers at one chunk, where there are chunks enough.
const TOGETHER: usize = 8;
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
    dealer: Dealer,
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
            dealer: Dealer::default(),
            lost: 0,
        }
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
            if !at.share.is_empty() {
                self.at = Some(at);
                return Ok(Dealt::Share);
            }
            self.go(queue, at, &seen)?;
        }
        if anew {
            // What is first may have come back.
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
                let seen = Overview::read(queue, &self.home, self.round)?;
                self.open = self.dealer.spread(seen.open().collect(), anew);
                if self.open.iter().all(|start| self.visited.contains(start)) {
                    // Not all begin to look at the same one.
                    let from = self.open.len() * self.dealer.roll.rank / self.dealer.roll.of;
                    self.open.rotate_left(from);
                }
                continue;
            };
            let Some(mut chunk) = Chunk::open(queue, &self.home, start)? else { continue };
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
        self.at = Some(Place { chunk, intent, share, unseen });
        Ok(Dealt::Share)
    }

    /// Leaves a chunk of which nobody else was met, without listing it: whether it is over is seen when
    /// its turn comes again, by the first who looks. False: it must be looked at now.
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
            if let Some(mut chunk) = Chunk::open(queue, &self.home, start)?
                && !self.is_noted(queue, &chunk)
            {
                let seen = chunk.look(queue, self.round)?;
                close::note_over(queue, &self.home, &chunk, self.round, &seen)?;
            }
        }
        Ok(())
    }
}

/// How the jobs of a chunk are dealt among those who are at it.
#[derive(Debug, Default)]
struct Dealer {
    roll: Roll,
    /// The rank of this process among those who are at the same chunks, and how many these are.
    here: (usize, usize),
}

impl Dealer {
    fn call(&mut self, queue: &Queue, me: &Proc) -> Result<()> {
        if self.roll.call(queue, me)? {
            self.here = (self.roll.rank, self.roll.of);
        }
        Ok(())
    }

    /// The order in which this worker goes to the open chunks: many of them begin at different ones.
    fn spread(&mut self, open: Vec<u64>, anew: bool) -> VecDeque<u64> {
        let Roll { rank, of, .. } = self.roll;
        let groups = if anew { 1 } else { open.len().min(of.div_ceil(TOGETHER)).max(1) };
        let mine = rank % groups;
        let members = (of - mine).div_ceil(groups);
        self.here = (rank / groups, members.max(1));
        // Its own ones in order, then the others.
        let (own, others): (Vec<_>, Vec<_>) =
            (0_usize..).zip(open).partition(|(at, _)| at % groups == mine);
        let all = own.into_iter().chain(others).map(|(_, start)| start);
        all.collect()
    }

    /// The share of a chunk of `len` jobs of which nothing is known.
    fn first_share(&self, start: u64, len: u64) -> VecDeque<(u64, u32)> {
        let (rank, of) = (self.here.0 as u64, self.here.1 as u64);
        let skip = (rank + of - start % of) % of;
        (start + skip..start + len).step_by(self.here.1).map(|job| (job, 1)).collect()
    }

    /// What is pending of this worker's share.
    fn own(&self, seen: &Seen) -> VecDeque<(u64, u32)> {
        let (rank, of) = self.here;
        let mine = |job: u64| job % of as u64 == rank as u64;
        seen.pending.iter().filter(|(job, _)| mine(*job)).copied().collect()
    }

    /// The share of this worker. Where there is less than one for each, jobs are nobody's if they are
    /// long: then chance decides whether this one tries. Short ones are done by their owners before
    /// another listing is.
    fn share(&self, seen: &Seen, anew: bool, random: u64) -> VecDeque<(u64, u32)> {
        let (rank, of) = self.here;
        let pending = &seen.pending;
        if pending.len() < of && !anew {
            return self.own(seen);
        }
        if pending.len() < of {
            let random = usize::try_from(random >> 33).unwrap_or(0);
            return pending.get(random % of).copied().into_iter().collect();
        }
        if anew {
            // The first ones first, but not all workers the very first.
            return pending[rank..].iter().chain(&pending[..rank]).take(of).copied().collect();
        }
        let own = self.own(seen);
        if !own.is_empty() {
            return own;
        }
        let whose = |job: u64| usize::try_from(job % of as u64).unwrap_or(0);
        let mut left = vec![0_usize; of];
        pending.iter().for_each(|(job, _)| left[whose(*job)] += 1);
        // Those who look at the same time should not all choose the same one.
        let turn = |other: &usize| (left[*other], (*other + of - rank) % of);
        let most = (0..of).max_by_key(turn).unwrap_or(rank);
        let theirs = pending.iter().rev().filter(|(job, _)| whose(*job) == most);
        theirs.take(left[most].div_ceil(2)).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::queue::record::CardKind;

    fn seen(jobs: std::ops::RangeInclusive<u64>) -> Seen {
        Seen { pending: jobs.map(|job| (job, 1)).collect(), ..Seen::default() }
    }

    fn dealer(rank: usize, of: usize) -> Dealer {
        Dealer { roll: Roll::new(rank, of), here: (rank, of) }
    }

    #[test]
    fn shares_are_disjoint_and_together_everything() {
        let seen = seen(1..=100);
        let mut all: Vec<_> =
            (0..7).flat_map(|rank| dealer(rank, 7).share(&seen, false, 0)).collect();
        all.sort_unstable();
        assert_eq!(all, seen.pending);
        let firsts: Vec<_> =
            (0..7).map(|rank| dealer(rank, 7).share(&seen, true, 0)[0].0).collect();
        assert_eq!(firsts, [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn who_is_through_takes_from_the_end_of_the_largest_share() {
        let mut seen = seen(1..=40);
        seen.pending.retain(|(job, _)| job % 4 == 3 || (job % 4 == 1 && *job > 30));
        let taken: Vec<u64> =
            dealer(0, 4).share(&seen, false, 0).iter().map(|(job, _)| *job).collect();
        assert_eq!(taken, [39, 35, 31, 27, 23]);
    }

    #[test]
    fn of_less_than_one_for_each_every_job_can_be_drawn() {
        let seen = seen(1..=2);
        let drawn = |random: u64| dealer(0, 3).share(&seen, true, random << 33);
        assert_eq!((drawn(0)[0], drawn(1)[0], drawn(2).len()), ((1, 1), (2, 1), 0));
        let short: Vec<usize> = (0..3).map(|r| dealer(r, 3).share(&seen, false, 0).len()).collect();
        assert_eq!(short, [0, 1, 1], "short ones are left to their owners");
    }

    #[test]
    fn many_spread_over_the_chunks_and_each_chunk_has_all_ranks() {
        let mut at: BTreeMap<u64, Vec<(usize, usize)>> = BTreeMap::new();
        for rank in 0..64 {
            let mut dealer = dealer(rank, 64);
            let first = dealer.spread((0..100).collect(), false)[0];
            at.entry(first).or_default().push(dealer.here);
        }
        assert_eq!(at.len(), 8, "{at:?}");
        for (_, mut here) in at {
            here.sort_unstable();
            assert_eq!(here, (0..8).map(|rank| (rank, 8)).collect::<Vec<_>>());
        }
        assert_eq!(dealer(5, 64).spread((0..3).collect(), true), [0, 1, 2]);
    }

    #[test]
    fn what_was_done_in_an_earlier_stay_is_not_done_again() {
        use crate::queue::array::{ensure_home, list};
        use crate::queue::procs::Identity;
        use crate::queue::record::{Array, Spec};
        use crate::sys::host::Platform;
        let dir = tempfile::tempdir().unwrap();
        let queue = crate::queue::init::init(&dir.path().join("q"), Platform::real()).unwrap();
        let mut me = Proc::register(&queue, &Identity::plain("w", CardKind::Worker)).unwrap();
        let spec = Spec { array: Some(Array::default()), ..Spec::new("") };
        crate::queue::submit::submit(&queue, &mut me, Some("T"), spec).unwrap();
        let home = crate::queue::array::home(&queue, "T");
        ensure_home(&queue, &home).unwrap();
        let lines: Vec<String> = (1..=9).map(|n: u32| format!("[\"{n}\"]")).collect();
        for (start, lines) in [(1, &lines[..4]), (5, &lines[4..])] {
            list::append(&queue, &me, "T", start, lines).unwrap();
        }
        let mut done = Vec::new();
        // Each stay is called away: between two jobs, between two chunks, at the end.
        for jobs in [2, 4, 9] {
            let mut taker = Taker::new("T", &home, 0);
            for _ in 0..jobs {
                let Next::Job(job, n) = taker.next(&queue, &mut me, false).unwrap() else { break };
                let chunk = taker.chunk().unwrap();
                assert!(job::succeed(&queue, &mut me, chunk, job, n).unwrap());
                done.push(job);
            }
            taker.leave(&queue, &mut me).unwrap();
        }
        assert_eq!(done, (1..=9).collect::<Vec<u64>>());
    }

    #[test]
    fn the_first_share_is_that_of_a_chunk_with_everything_pending() {
        for (start, len) in [(1, 10), (11, 3), (1025, 1), (7, 0)] {
            for rank in 0..4 {
                let dealer = dealer(rank, 4);
                let all = if len == 0 { Seen::default() } else { seen(start..=start + len - 1) };
                assert_eq!(
                    dealer.first_share(start, len),
                    dealer.own(&all),
                    "{start} {len} {rank}"
                );
            }
        }
    }
}
