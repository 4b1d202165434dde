//! Who has a slot: a chain of immutable files, of which the newest is true.
//!
//! ```text
//! ROOT/.slots/w1.00000007.json     version 7 of slot w1: who has it, for which attempt, or free
//! ```
//! A step is a new version. It is written under a name of its own and published by `link(2)` to the
//! number after the one that was looked at: the kernel lets one of many win. A link alone does not
//! decide, though: older versions are removed, so that somebody who looked long ago may link a
//! number that was used and removed meanwhile. Therefore everybody looks again behind the link, and
//! a step counts only if it is the newest version then. What a crash leaves is a version more or a
//! temporary file; neither means anything to the others.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::queue::ids::random_part;
use crate::sys::clock::{Clock, RealClock};
use crate::sys::fs::{Fs, RealFs, is_absent, mkdir_all};

/// Versions of a slot that stay, for people and for those who are just looking.
const KEPT: u64 = 4;
/// How old a file must be for its writer to count as dead: writing and linking it takes an instant.
const DEAD_AFTER: Duration = Duration::from_secs(3600);
/// The longest file that is read.
const RECORD_MAX: usize = 1 << 16;

/// What a slot is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Anybody may take it.
    #[default]
    Free,
    /// Its owner has it.
    Held,
    /// It holds what cannot be saved or removed, and is left to a person.
    Retired,
}

impl State {
    /// The word for people and files.
    pub fn word(self) -> &'static str {
        match self {
            State::Free => "free",
            State::Held => "held",
            State::Retired => "retired",
        }
    }
}

/// The attempt that a slot was given to, as long as what it left there is not saved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Assigned {
    /// The task.
    pub task: String,
    /// The attempt.
    pub n: u32,
    /// Its branch.
    pub branch: String,
    /// The commit that it started from.
    pub base: String,
    /// The directory that it runs in.
    pub dir: PathBuf,
    /// The queue of the task: not always that of who has the slot by now.
    pub queue: PathBuf,
    /// Process id of the worker that runs it, or ran it.
    pub holder: String,
}

/// One version of a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Version of this format.
    pub v: u32,
    /// The slot.
    pub slot: String,
    /// What it is.
    pub state: State,
    /// Process id in the queue of whoever made this version.
    pub owner: String,
    /// The queue that it belongs to.
    pub queue: PathBuf,
    /// The machine of the owner.
    pub host_id: String,
    /// Its name, for people.
    pub host: String,
    /// The boot.
    pub boot: String,
    /// The pid namespace.
    pub pidns: u64,
    /// The process.
    pub pid: i32,
    /// When it started, in clock ticks after boot.
    pub start: u64,
    /// Whether the slot is a clone and not a worktree.
    pub clone: bool,
    /// The attempt.
    pub assigned: Option<Assigned>,
    /// Why it is what it is.
    pub why: String,
}

/// The chains of one pool.
#[derive(Debug, Clone)]
pub struct Chains {
    dir: PathBuf,
}

impl Chains {
    /// The chains of the pool at `root`.
    pub fn new(root: &Path) -> Chains {
        Chains { dir: root.join(".slots") }
    }

    fn path(&self, slot: &str, version: u64) -> PathBuf {
        self.dir.join(format!("{slot}.{version:08}.json"))
    }

    /// Names of the slots that ever were.
    pub fn slots(&self) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = self.versions()?.into_iter().map(|(slot, _)| slot).collect();
        names.sort_by(|a, b| crate::queue::ids::natural_cmp(a, b));
        names.dedup();
        Ok(names)
    }

    fn versions(&self) -> io::Result<Vec<(String, u64)>> {
        let entries = match RealFs.list(&self.dir) {
            Err(e) if is_absent(&e) => return Ok(Vec::new()),
            other => other?,
        };
        let parse = |name: &str| {
            let (slot, version) = name.strip_suffix(".json")?.rsplit_once('.')?;
            let digits = version.len() >= 8 && version.bytes().all(|b| b.is_ascii_digit());
            (digits && !slot.starts_with('.'))
                .then(|| Some((slot.to_owned(), version.parse().ok()?)))?
        };
        Ok(entries.iter().filter_map(|entry| parse(&entry.name)).collect())
    }

    fn newest_number(&self, slot: &str) -> io::Result<u64> {
        let all = self.versions()?;
        let mut newest =
            all.into_iter().filter(|(name, _)| name == slot).map(|(_, v)| v).max().unwrap_or(0);
        // A listing may miss names that are made while it goes on.
        while RealFs.exists(&self.path(slot, newest + 1)) {
            newest += 1;
        }
        Ok(newest)
    }

    /// The newest version of a slot and its number; `None` if there never was one. One that cannot
    /// be read counts as retired: nobody knows what is in the slot.
    pub fn newest(&self, slot: &str) -> io::Result<Option<(u64, Record)>> {
        loop {
            let number = self.newest_number(slot)?;
            if number == 0 {
                return Ok(None);
            }
            let path = self.path(slot, number);
            match RealFs.read(&path, 0, RECORD_MAX) {
                Ok(bytes) => {
                    let record = serde_json::from_slice(&bytes).unwrap_or_else(|e| Record {
                        slot: slot.to_owned(),
                        state: State::Retired,
                        why: format!("{} cannot be read: {e}", path.display()),
                        ..Record::default()
                    });
                    return Ok(Some((number, record)));
                }
                // Removed behind the look, because there are newer ones.
                Err(e) if is_absent(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Publishes `record` as the version after `seen`. `None`: somebody else made a step since.
    pub fn publish(&self, slot: &str, seen: u64, record: &Record) -> io::Result<Option<u64>> {
        mkdir_all(&RealFs, &self.dir)?;
        let tmp = self.dir.join(format!(".{slot}.{}.tmp", random_part(RealClock.random())));
        let mut bytes = serde_json::to_vec_pretty(record)?;
        bytes.push(b'\n');
        RealFs.create(&tmp, &bytes, 0o444)?;
        let linked = RealFs.link(&tmp, &self.path(slot, seen + 1));
        if linked.is_ok() {
            self.clear(&tmp);
        }
        let removed = RealFs.unlink(&tmp);
        match linked {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            other => other?,
        }
        match removed {
            Err(e) if !is_absent(&e) => return Err(e),
            _ => {}
        }
        // The number may have been used and removed since `seen` was looked at: then the link went
        // behind the others, and was no step.
        if self.newest_number(slot)? != seen + 1 {
            return Ok(None);
        }
        self.prune(slot, seen + 1);
        Ok(Some(seen + 1))
    }

    /// Removes what writers left that died before they had published anything. `own` is a file that was
    /// written just now: its time is by the same clock as theirs, also on a shared file system. Who was
    /// only stopped, for so long, finds that its file is gone and makes no step.
    fn clear(&self, own: &Path) {
        let written = |path: &Path| RealFs.stat(path).map(|stat| stat.mtime_ns);
        let (Ok(now_ns), Ok(names)) = (written(own), RealFs.list(&self.dir)) else { return };
        for entry in names {
            let path = self.dir.join(&entry.name);
            let is_tmp = entry.name.starts_with('.') && entry.name.ends_with(".tmp");
            let age_ns = |ns: u64| now_ns.saturating_sub(ns);
            if is_tmp && written(&path).is_ok_and(|ns| age_ns(ns) > DEAD_AFTER.as_nanos() as u64) {
                // Lost, at worst, to the next who looks.
                drop(RealFs.unlink(&path));
            }
        }
    }

    /// Removes versions that are long gone. Only for who has made the newest.
    fn prune(&self, slot: &str, newest: u64) {
        for (name, version) in self.versions().unwrap_or_default() {
            if name == slot && version + KEPT <= newest {
                // Lost, at worst, to the next who does it.
                drop(RealFs.unlink(&self.path(slot, version)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(owner: &str) -> Record {
        Record { slot: "w1".to_owned(), owner: owner.to_owned(), ..Record::default() }
    }

    #[test]
    fn one_of_two_makes_a_step() {
        let dir = tempfile::tempdir().unwrap();
        let chains = Chains::new(dir.path());
        assert_eq!(chains.newest("w1").unwrap(), None);
        assert_eq!(chains.publish("w1", 0, &record("a")).unwrap(), Some(1));
        assert_eq!(chains.publish("w1", 0, &record("b")).unwrap(), None);
        assert_eq!(chains.newest("w1").unwrap().unwrap().1.owner, "a");
        assert_eq!(chains.slots().unwrap(), ["w1"]);
    }

    #[test]
    fn who_slept_while_its_number_was_used_and_removed_makes_no_step() {
        let dir = tempfile::tempdir().unwrap();
        let chains = Chains::new(dir.path());
        for version in 0..9 {
            assert!(chains.publish("w1", version, &record("a")).unwrap().is_some());
        }
        assert!(!RealFs.exists(&chains.path("w1", 2)), "old versions go");
        assert!(RealFs.exists(&chains.path("w1", 6)), "the newest stay");
        // It saw version 1, so that it links version 2: nobody is in its way.
        assert_eq!(chains.publish("w1", 1, &record("late")).unwrap(), None);
        let (version, newest) = chains.newest("w1").unwrap().unwrap();
        assert_eq!((version, newest.owner.as_str()), (9, "a"));
    }

    #[test]
    fn of_many_threads_one_has_the_slot() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let chains = Chains::new(dir.path());
        let (inside, takes) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for i in 0..8 {
                let (chains, inside, takes) = (chains.clone(), &inside, &takes);
                scope.spawn(move || {
                    while takes.load(Ordering::SeqCst) < 200 {
                        let (seen, newest) = chains.newest("w1").unwrap().unwrap_or_default();
                        let held = Record { state: State::Held, ..record(&i.to_string()) };
                        if newest.state != State::Free {
                            continue;
                        }
                        let Some(mine) = chains.publish("w1", seen, &held).unwrap() else {
                            continue;
                        };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two have it");
                        takes.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        chains.publish("w1", mine, &record("")).unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn what_a_dead_writer_left_goes_and_what_is_young_stays() {
        use nix::sys::time::{TimeSpec, TimeValLike};
        let dir = tempfile::tempdir().unwrap();
        let chains = Chains::new(dir.path());
        chains.publish("w1", 0, &record("a")).unwrap();
        let at = |name: &str| dir.path().join(".slots").join(name);
        for name in [".w1.old.tmp", ".w2.old.tmp", ".w1.young.tmp", "w2.00000001.json"] {
            RealFs.create(&at(name), b"{", 0o444).unwrap();
            if !name.contains("young") {
                let long_ago = TimeSpec::seconds(1_000_000);
                nix::sys::stat::utimensat(
                    nix::fcntl::AT_FDCWD,
                    &at(name),
                    &long_ago,
                    &long_ago,
                    nix::sys::stat::UtimensatFlags::NoFollowSymlink,
                )
                .unwrap();
            }
        }
        chains.publish("w1", 1, &record("b")).unwrap();
        let exists = |name: &str| RealFs.exists(&at(name));
        assert!(!exists(".w1.old.tmp") && !exists(".w2.old.tmp"));
        assert!(exists(".w1.young.tmp") && exists("w2.00000001.json"));
    }

    #[test]
    fn what_cannot_be_read_is_retired() {
        let dir = tempfile::tempdir().unwrap();
        let chains = Chains::new(dir.path());
        chains.publish("w1", 0, &record("a")).unwrap();
        RealFs.create(&chains.path("w1", 2), b"torn", 0o444).unwrap();
        assert_eq!(chains.newest("w1").unwrap().unwrap().1.state, State::Retired);
    }
}
