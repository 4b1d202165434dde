//! `ready/ROLE/PP/BUCKET/T.n`: what may be claimed, in order. Only a hint: an entry is never
//! trusted, a missing one is rebuilt by the sweep.
//!
//! BUCKET is `<submission time in seconds >> 6, 8 hex>-<lane, 2 hex>`: names sort by age, one
//! submitter goes to the next lane after 512 entries, and buckets are removed when empty. Short-lived
//! directories matter: one that was large stays slow to list after it is drained (measured on ext4:
//! 0.46 ms for an empty one that once had 200,000 names, 0.005 ms for a fresh one).

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use crate::error::Result;
use crate::step;
use crate::sys::clock::parse_rfc3339;

use super::Queue;
use super::ids::{Key, is_role, natural_cmp};
use super::procs::Proc;
use super::settle::link_hint;
use super::tasks::Task;

/// Entries that one submitter puts into a bucket before it takes the next lane.
const LANE_ENTRIES: u64 = 512;
/// Candidates that are looked at together.
const BATCH: usize = 64;

/// Publishes the ready entry of an attempt and rings the bells. True: it is new.
///
/// Crash after the link: an entry without a bell; the publisher's intent repeats both.
pub fn publish(queue: &Queue, me: &mut Proc, task: &Task, key: &Key) -> Result<bool> {
    let Ok(spec) = &task.spec else { return Ok(false) };
    let role = if is_role(spec.role()) { spec.role() } else { "default" };
    // A retry keeps the time of its task: old work first.
    let created_s = parse_rfc3339(&spec.at).unwrap_or_else(|| queue.clock.wall_ms()) / 1000;
    let lane = (me.published / LANE_ENTRIES) & 0xff;
    let bucket = format!("{:08x}-{lane:02x}", created_s >> 6);
    let level = queue.layout.ready_level(role, spec.priority.min(99));
    step!("ready.link");
    let new = link_hint(queue, task, &level.join(bucket).join(key.to_string()))?;
    me.published += 1;
    step!("ready.bell");
    queue.ring(&queue.layout.role_bell(role));
    queue.ring(&queue.layout.ready_bell());
    Ok(new)
}

/// The priority that a name in `ready/ROLE/` stands for; `None` if it is none of ours.
pub fn priority_of(name: &str) -> Option<u8> {
    let is_ours = name.len() == 2 && name.bytes().all(|b| b.is_ascii_digit());
    is_ours.then(|| name.parse().ok()).flatten()
}

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
    }

    /// A claim was won.
    pub fn won(&mut self) {
        self.claims += 1;
        self.window = (self.window / 2).max(1);
        // Before and after an ageing turn the walk starts anew. With one priority there is nothing
        // to age: its oldest entry is the oldest of all.
        if self.is_ageing_turn() || (self.priorities > 1 && self.claims.is_multiple_of(self.ageing))
        {
            self.fresh = false;
        }
    }

    /// A race was lost.
    pub fn lost(&mut self) {
        self.window = (self.window * 2).min(BATCH);
    }

    fn is_ageing_turn(&self) -> bool {
        self.priorities > 1 && self.claims % self.ageing == self.ageing - 1
    }

    /// The next candidate; `None` when every entry was tried or passed over in this pass.
    pub fn next(&mut self, queue: &Queue) -> Result<Option<Candidate>> {
        if !self.fresh {
            self.restart(queue)?;
        }
        loop {
            if !self.entries.is_empty() {
                let window = self.window.min(self.entries.len()) as u64;
                let pick = if window > 1 { queue.clock.random() % window } else { 0 };
                return Ok(self.entries.remove(usize::try_from(pick).unwrap_or(0)));
            }
            if !self.buckets.is_empty() {
                self.load_entries(queue)?;
            } else if !self.levels.is_empty() {
                self.load_buckets(queue)?;
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
            for entry in queue.list(&queue.layout.ready_role(&role))? {
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
                for entry in queue.list(&dir)? {
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

    /// The entries of the oldest buckets, oldest first: the time of an entry is that of its spec.
    fn load_entries(&mut self, queue: &Queue) -> Result<()> {
        let mut found: Vec<(u64, Candidate)> = Vec::new();
        while found.len() < BATCH {
            let Some(bucket) = self.buckets.pop_front() else { break };
            for entry in queue.list(&bucket)? {
                let Some(key) = Key::parse(&entry.name) else { continue };
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

/// Removes an entry, and its bucket if that was the last one. Level directories stay: they are few.
pub fn remove(queue: &Queue, entry: &std::path::Path) -> Result<()> {
    step!("ready.unlink");
    queue.discard(entry)?;
    if let Some(bucket) = entry.parent() {
        // Fails while it has entries, or when somebody else removed it.
        drop(queue.fs.rmdir(bucket));
    }
    Ok(())
}

/// Removes the hints of an attempt that was taken by other ways than its ready entry. The entry may
/// lie in a lane that this does not guess; then the next claimer removes it.
pub fn remove_hints(queue: &Queue, task: &Task, key: &Key) -> Result<()> {
    queue.discard(&queue.layout.blocked_entry(key))?;
    let Ok(spec) = &task.spec else { return Ok(()) };
    let role = if is_role(spec.role()) { spec.role() } else { "default" };
    let level = queue.layout.ready_level(role, spec.priority.min(99));
    let created_s = parse_rfc3339(&spec.at).unwrap_or(0) / 1000;
    let bucket = level.join(format!("{:08x}-00", created_s >> 6));
    remove(queue, &bucket.join(key.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_digits_are_a_priority() {
        assert_eq!((priority_of("07"), priority_of("99")), (Some(7), Some(99)));
        for name in ["+7", "7", "007", "7a", "bell", "²", ""] {
            assert_eq!(priority_of(name), None, "{name}");
        }
    }
}
