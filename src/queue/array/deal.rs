//! How the jobs of a chunk are dealt among those who are at it.
//!
//! By their numbers: of `of` workers, the one of rank r takes the jobs whose number leaves r when
//! divided by `of`. So many claim at once, and hardly ever the same job. A hint: each job is claimed by a
//! link all the same.

use std::collections::VecDeque;

use crate::error::Result;

use super::super::Queue;
use super::super::procs::Proc;
use super::super::roll::Roll;
use super::chunk::Seen;

/// Workers at one chunk, where there are chunks enough. With four, eight processes are 1 to 4 % faster on
/// ext4, where a directory takes one name at a time, and 9 % slower on tmpfs, as there is more to list in
/// the end; and jobs are begun in an order that is farther from that of the list.
const TOGETHER: usize = 8;

/// What one worker knows of the others.
#[derive(Debug, Default)]
pub(super) struct Dealer {
    pub(super) roll: Roll,
    /// So many groups go to chunks of their own; 0 before the first chunk.
    groups: usize,
    /// The rank of this process among those who are at the same chunks, and how many these are.
    here: (usize, usize),
}

impl Dealer {
    pub(super) fn call(&mut self, queue: &Queue, me: &Proc) -> Result<()> {
        if self.roll.call(queue, me)? {
            self.gather();
        }
        Ok(())
    }

    /// The place of this worker in its group. Returns the number of the group.
    fn gather(&mut self) -> usize {
        let Roll { rank, of, .. } = self.roll;
        let groups = self.groups.max(1);
        let mine = rank % groups;
        let members = (of - mine).div_ceil(groups);
        self.here = (rank / groups, members.max(1));
        mine
    }

    /// The order in which this worker goes to the open chunks: many of them begin at different ones.
    pub(super) fn spread(&mut self, open: Vec<u64>, anew: bool) -> VecDeque<u64> {
        let together = self.roll.of.div_ceil(TOGETHER);
        let groups = if anew { 1 } else { open.len().min(together).max(1) };
        self.groups = groups;
        let mine = self.gather();
        // Its own ones in order, then the others.
        let (own, others): (Vec<_>, Vec<_>) =
            (0_usize..).zip(open).partition(|(at, _)| at % groups == mine);
        let all = own.into_iter().chain(others).map(|(_, start)| start);
        all.collect()
    }

    /// The share of a chunk of `len` jobs of which nothing is known.
    pub(super) fn first_share(&self, start: u64, len: u64) -> VecDeque<(u64, u32)> {
        let (rank, of) = (self.here.0 as u64, self.here.1 as u64);
        let skip = (rank + of - start % of) % of;
        (start + skip..start + len).step_by(self.here.1).map(|job| (job, 1)).collect()
    }

    /// What is pending of this worker's share.
    pub(super) fn own(&self, seen: &Seen) -> VecDeque<(u64, u32)> {
        let (rank, of) = self.here;
        let mine = |job: u64| job % of as u64 == rank as u64;
        seen.pending.iter().filter(|(job, _)| mine(*job)).copied().collect()
    }

    /// The share of this worker. Where there is less than one for each, jobs are nobody's if they are
    /// long: then chance decides whether this one tries. Short ones are done by their owners before
    /// another listing is.
    pub(super) fn share(&self, seen: &Seen, anew: bool, random: u64) -> VecDeque<(u64, u32)> {
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

    fn seen(jobs: std::ops::RangeInclusive<u64>) -> Seen {
        Seen { pending: jobs.map(|job| (job, 1)).collect(), ..Seen::default() }
    }

    fn dealer(rank: usize, of: usize) -> Dealer {
        Dealer { roll: Roll::new(rank, of), groups: 1, here: (rank, of) }
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
        assert_eq!(at.len(), 64 / TOGETHER, "{at:?}");
        for (_, mut here) in at {
            here.sort_unstable();
            let all: Vec<_> = (0..TOGETHER).map(|rank| (rank, TOGETHER)).collect();
            assert_eq!(here, all);
        }
        assert_eq!(dealer(5, 64).spread((0..3).collect(), true), [0, 1, 2]);
    }

    #[test]
    fn who_deals_again_stays_in_its_group() {
        for rank in 0..63 {
            let mut dealer = dealer(rank, 64);
            dealer.spread((0..100).collect(), false);
            // One has left since.
            dealer.roll = Roll::new(rank, 63);
            let groups = 64 / TOGETHER;
            assert_eq!(dealer.gather(), rank % groups);
            let members = if rank % groups == groups - 1 { TOGETHER - 1 } else { TOGETHER };
            assert_eq!(dealer.here, (rank / groups, members), "{rank}");
        }
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
