//! Which ready entry a worker tries next.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use crate::error::Result;

use super::super::Queue;
use super::super::ids::{Key, is_role, natural_cmp};
use super::super::roll::Roll;
use super::{is_bucket, priority_of};

/// Candidates that are looked at together.
const BATCH: usize = 64;
/// Every so many claims a worker in a hurry takes the oldest entry of all, and then the first one.
const HEAD: u64 = 256;
/// Entries that others took in between after which a worker in a hurry lists anew.
const LOSSES_MAX: u32 = 4;

/// An entry that may be worth a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The entry.
    pub path: PathBuf,
    /// What it names.
    pub key: Key,
}

/// Walks the ready entries in the order in which they should be claimed.
///
/// Smaller priorities first, within one the oldest. So that nothing starves, every `ageing`th claim
/// takes the oldest entry of all priorities. After a lost race the next candidate is drawn from a
/// window that doubles with each loss, so that many claimers do not walk in step.
///
/// Where attempts take no longer than finding them, walking the same list costs more than the work:
/// of 8 workers each claim was looked at by 7 others. So those who are in a hurry deal the entries
/// among them, by a hash of their names. Who is through with its share lists anew and takes from the
/// end of what is left of the others', who go on from the beginning; after a few losses it lists anew.
/// And now and then it takes the very first entry, whoever's it is: that one may have turned to
/// something long.
#[derive(Debug)]
pub struct Finder {
    roles: Vec<String>,
    ageing: u64,
    claims: u64,
    window: usize,
    priorities: usize,
    level: Option<u8>,
    levels: VecDeque<(u8, Vec<String>)>,
    buckets: VecDeque<PathBuf>,
    entries: VecDeque<Candidate>,
    fresh: bool,
    /// The rank of this worker and how many there are, while it is in a hurry.
    seat: Option<(usize, usize)>,
    /// This pass is about its own share only.
    dealing: bool,
    /// Entries of others were passed over in it; or it is about those.
    passed: bool,
    /// Entries since the last claim that were gone when they were looked at.
    losses: u32,
}

impl Finder {
    /// A finder for these roles (all where empty). `phase` says where in the cycle of ageing it
    /// starts: a process that claims once should draw it at random.
    pub fn new(roles: &[String], ageing: u64, phase: u64) -> Finder {
        Finder {
            roles: roles.to_vec(),
            ageing: ageing.max(2),
            claims: phase,
            window: 1,
            priorities: 0,
            level: None,
            levels: VecDeque::new(),
            buckets: VecDeque::new(),
            entries: VecDeque::new(),
            fresh: false,
            seat: None,
            dealing: false,
            passed: false,
            losses: 0,
        }
    }

    /// Says whether attempts take so little time that the workers should deal the entries among them;
    /// if so, by this roll.
    pub fn hurry(&mut self, roll: Option<&Roll>) {
        let seat = roll.filter(|roll| roll.of > 1).map(|roll| (roll.rank, roll.of));
        if self.seat != seat {
            self.seat = seat;
            self.fresh = false;
        }
    }

    /// Something was published: a better level may have come up. Entries of the same level that
    /// are remembered stay good, since what is new there is younger.
    pub fn rung(&mut self, queue: &Queue) -> Result<()> {
        let levels = self.list_levels(queue)?;
        self.priorities = levels.len();
        let best = levels.first().map(|(priority, _)| *priority);
        if self.entries.is_empty() || best < self.level || self.level.is_none() {
            self.restart_with(levels);
        }
        Ok(())
    }

    /// Starts a new pass over everything.
    pub fn restart(&mut self, queue: &Queue) -> Result<()> {
        let levels = self.list_levels(queue)?;
        self.restart_with(levels);
        Ok(())
    }

    fn restart_with(&mut self, levels: Vec<(u8, Vec<String>)>) {
        self.priorities = levels.len();
        self.levels = levels.into();
        self.level = None;
        self.buckets.clear();
        self.entries.clear();
        self.fresh = true;
        self.dealing = self.seat.is_some() && !self.is_for_all();
        self.passed = false;
    }

    /// A claim was won.
    pub fn won(&mut self) {
        self.claims += 1;
        self.losses = 0;
        self.window = (self.window / 2).max(1);
        // Before and after an ageing turn the walk starts anew. With one priority there is nothing
        // to age: its oldest entry is the oldest of all.
        if self.is_ageing_turn() || (self.priorities > 1 && self.claims.is_multiple_of(self.ageing))
        {
            self.fresh = false;
        }
        if self.seat.is_some() && (self.is_for_all() || self.claims.is_multiple_of(HEAD)) {
            self.fresh = false;
        }
    }

    /// A race was lost.
    pub fn lost(&mut self) {
        self.window = (self.window * 2).min(BATCH);
        self.gone();
    }

    /// An entry was old: what it names was claimed before.
    pub fn gone(&mut self) {
        self.losses += 1;
        // Once between two claims: an entry that stays though it is old must not keep the rest from
        // its turn.
        if self.seat.is_some() && self.losses == LOSSES_MAX {
            self.fresh = false;
        }
    }

    fn is_ageing_turn(&self) -> bool {
        let oldest = match self.seat {
            Some(_) if self.is_for_all() => self.claims % HEAD == HEAD - 2,
            _ => self.claims % self.ageing == self.ageing - 1,
        };
        self.priorities > 1 && oldest
    }

    fn is_about_others(&self) -> bool {
        self.passed && !self.dealing
    }

    /// Whether shares do not count for the next claim: of two such claims the first takes the oldest
    /// entry of all priorities, the second the first by priority. Either may be somebody's who has
    /// turned to something long.
    fn is_for_all(&self) -> bool {
        self.claims % HEAD >= HEAD - 2
    }

    /// The next candidate; `None` when every entry was tried or passed over in this pass.
    pub fn next(&mut self, queue: &Queue) -> Result<Option<Candidate>> {
        if !self.fresh {
            self.restart(queue)?;
        }
        loop {
            if !self.entries.is_empty() {
                let window = if self.is_about_others() { BATCH } else { self.window };
                let window = window.min(self.entries.len()) as u64;
                let pick = if window > 1 { queue.clock.random() % window } else { 0 };
                let pick = usize::try_from(pick).unwrap_or(0);
                return Ok(match self.is_about_others() {
                    true => self.entries.remove(self.entries.len() - 1 - pick),
                    false => self.entries.remove(pick),
                });
            }
            if !self.buckets.is_empty() {
                self.load_entries(queue)?;
            } else if !self.levels.is_empty() {
                self.load_buckets(queue)?;
            } else if self.dealing && self.passed {
                self.restart(queue)?;
                (self.dealing, self.passed) = (false, true);
            } else {
                self.fresh = false;
                return Ok(None);
            }
        }
    }

    /// The priorities that have a directory, with the roles that have it.
    fn list_levels(&self, queue: &Queue) -> Result<Vec<(u8, Vec<String>)>> {
        let mut levels: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        let roles = if self.roles.is_empty() {
            let names = queue.list(&queue.layout.ready())?;
            names.into_iter().map(|e| e.name).filter(|n| is_role(n)).collect()
        } else {
            self.roles.clone()
        };
        for role in roles {
            for entry in queue.list_reachable(&queue.layout.ready_role(&role))? {
                if let Some(priority) = priority_of(&entry.name) {
                    levels.entry(priority).or_default().push(role.clone());
                }
            }
        }
        Ok(levels.into_iter().collect())
    }

    /// The buckets of the next level, of all its roles, oldest first. On an ageing turn: of all
    /// levels.
    fn load_buckets(&mut self, queue: &Queue) -> Result<()> {
        let all = self.level.is_none() && self.is_ageing_turn();
        let mut buckets: Vec<(String, PathBuf)> = Vec::new();
        while let Some((priority, roles)) = self.levels.pop_front() {
            self.level = Some(if all { 0 } else { priority });
            for role in roles {
                let dir = queue.layout.ready_level(&role, priority);
                for entry in queue.list_reachable(&dir)?.into_iter().filter(|e| is_bucket(&e.name))
                {
                    let path = dir.join(&entry.name);
                    buckets.push((entry.name, path));
                }
            }
            if !all {
                break;
            }
        }
        buckets.sort();
        self.buckets = buckets.into_iter().map(|(_, path)| path).collect();
        Ok(())
    }

    /// Whether an entry is of this worker's share, or shares do not matter now.
    fn is_mine(&self, name: &str) -> bool {
        let Some((rank, of)) = self.seat.filter(|_| self.dealing) else { return true };
        // FNV-1a: any hash will do that is the same in every program.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        usize::try_from((hash >> 32) % of as u64) == Ok(rank)
    }

    /// The entries of the oldest buckets, oldest first: the time of an entry is that of its spec.
    fn load_entries(&mut self, queue: &Queue) -> Result<()> {
        let mut found: Vec<(u64, Candidate)> = Vec::new();
        while found.len() < BATCH {
            let bucket = match self.is_about_others() {
                true => self.buckets.pop_back(),
                false => self.buckets.pop_front(),
            };
            let Some(bucket) = bucket else { break };
            let entries = queue.list_reachable(&bucket)?;
            if entries.is_empty() {
                super::remove_bucket(queue, &bucket);
            }
            for entry in entries {
                let Some(key) = Key::parse(&entry.name) else { continue };
                if !self.is_mine(&entry.name) {
                    self.passed = true;
                    continue;
                }
                let path = bucket.join(&entry.name);
                let time = queue.fs.stat(&path).map_or(0, |s| s.mtime_ns);
                found.push((time, Candidate { path, key }));
            }
        }
        found.sort_by(|(ta, a), (tb, b)| {
            ta.cmp(tb).then_with(|| natural_cmp(&a.key.task, &b.key.task))
        });
        self.entries = found.into_iter().map(|(_, candidate)| candidate).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sys::fs::{Fs, RealFs, mkdir_all};
    use crate::sys::host::Platform;

    fn queue_with(entries: usize) -> (tempfile::TempDir, Queue) {
        let dir = tempfile::tempdir().unwrap();
        let queue = crate::queue::init::init(&dir.path().join("q"), Platform::real()).unwrap();
        let bucket = queue.layout.ready_level("default", 50).join("01000000-00");
        mkdir_all(&RealFs, &bucket).unwrap();
        for n in 1..=entries {
            RealFs.create(&bucket.join(format!("{n}.1")), b"", 0o644).unwrap();
        }
        (dir, queue)
    }

    /// What a worker of this rank is given until there is no more, each of which it loses.
    fn pass(queue: &Queue, rank: usize, of: usize) -> Vec<String> {
        let mut finder = Finder::new(&[], 20, 0);
        finder.hurry(Some(&Roll::new(rank, of)));
        let mut given = Vec::new();
        while let Some(candidate) = finder.next(queue).unwrap() {
            given.push(candidate.key.task);
        }
        given
    }

    #[test]
    fn those_in_a_hurry_begin_with_shares_and_leave_nothing_out() {
        let (_dir, queue) = queue_with(200);
        let everything: BTreeSet<String> = (1..=200).map(|n: u32| n.to_string()).collect();
        let mut dealt = BTreeSet::new();
        for rank in 0..4 {
            let given = pass(&queue, rank, 4);
            let own = given.len() - 200;
            assert!((30..70).contains(&own), "{own} of 200 are the share of one of four");
            for id in &given[..own] {
                assert!(dealt.insert(id.clone()), "{id} is of two shares");
            }
            assert_eq!(given[own..].iter().cloned().collect::<BTreeSet<_>>(), everything);
        }
        assert_eq!(dealt, everything);
    }

    #[test]
    fn the_first_entry_is_taken_now_and_then_by_whoever_comes() {
        let (_dir, queue) = queue_with(50);
        let mine = |finder: &mut Finder| finder.next(&queue).unwrap().unwrap().key.task;
        let stranger = (0..2).find(|rank| pass(&queue, *rank, 2)[0] != "1").unwrap();
        let mut finder = Finder::new(&[], 20, 0);
        finder.hurry(Some(&Roll::new(stranger, 2)));
        assert_ne!(mine(&mut finder), "1");
        let claims = (1..=HEAD).take_while(|_| {
            finder.won();
            finder.next(&queue).unwrap().is_none_or(|candidate| candidate.key.task != "1")
        });
        assert!((claims.count() as u64) < HEAD);
    }

    #[test]
    fn neither_the_oldest_nor_the_most_urgent_waits_for_an_owner_who_is_busy() {
        let (_dir, queue) = queue_with(40);
        let urgent = queue.layout.ready_level("default", 10).join("02000000-00");
        mkdir_all(&RealFs, &urgent).unwrap();
        for n in 101..=140 {
            RealFs.create(&urgent.join(format!("{n}.1")), b"", 0o644).unwrap();
        }
        for ageing in [16, 20] {
            let mut strangers = (0..3).filter(|rank| {
                let mut finder = Finder::new(&[], ageing, 0);
                finder.hurry(Some(&Roll::new(*rank, 3)));
                finder.restart(&queue).unwrap();
                !finder.is_mine("1.1") && !finder.is_mine("101.1")
            });
            let rank = strangers.next().expect("one of three has neither");
            let mut finder = Finder::new(&[], ageing, 0);
            finder.hurry(Some(&Roll::new(rank, 3)));
            let mut given = BTreeSet::new();
            for _ in 0..HEAD {
                given.extend(finder.next(&queue).unwrap().map(|candidate| candidate.key.task));
                finder.won();
            }
            for id in ["1", "101"] {
                assert!(given.contains(id), "{id} of {given:?} with ageing {ageing}");
            }
        }
    }

    #[test]
    fn old_entries_that_stay_keep_nobody_from_the_rest() {
        let (_dir, queue) = queue_with(100);
        let mut finder = Finder::new(&[], 20, 0);
        finder.hurry(Some(&Roll::new(0, 3)));
        let mut given = BTreeSet::new();
        for _ in 0..1000 {
            let Some(candidate) = finder.next(&queue).unwrap() else { break };
            given.insert(candidate.key.task);
            finder.gone();
        }
        assert_eq!(given.len(), 100);
        assert!(
            finder.next(&queue).unwrap().is_some(),
            "the pass came to its end, and a new one began"
        );
    }

    #[test]
    fn those_with_time_take_the_oldest() {
        let (_dir, queue) = queue_with(3);
        let mut finder = Finder::new(&[], 20, 0);
        finder.hurry(None);
        let given: Vec<_> = std::iter::from_fn(|| finder.next(&queue).unwrap())
            .map(|candidate| candidate.key.task)
            .collect();
        assert_eq!(given, ["1", "2", "3"]);
    }
}
