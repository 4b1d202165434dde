//! The pool of worktrees: slots beside the repository that workers take, keep and give back.
//!
//! ```text
//! ../REPO.coord/          the pool; of a project below the top of its repository ../REPO.coord/SUB
//!   w1/ w2/ …             worktrees (or clones), one for each worker that works
//!   shell-T.aN/           made by `coord shell` for an attempt that is over
//!   .slots/               who has which: see `chain`
//!   .tmp/w1/              TMPDIR of the attempt in w1
//! ../REPO.coord.UID/      the pool of another user who works in the same queue
//! ```
//! The pool owns what is in slots and nothing else: a directory that is in the way is left alone.
//! Nothing in it belongs to the queue, and the queue can be removed without it.

pub mod chain;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::{self, Isolation};
use crate::error::{Cannot, Error, Exit, Result};
use crate::git::moved::parents_of_worktrees;
use crate::git::repository::{Repository, join};
use crate::queue::Queue;
use crate::queue::ids::{random_part, short};
use crate::queue::procs::Proc;
use crate::queue::recover::{self, Death};
use crate::sys::alive;
use crate::sys::clock::{Clock, RealClock};
use crate::sys::fs::{Fs, RealFs, is_absent, mkdir_all, name_of};
use crate::sys::machine;
use crate::sys::owner::Owner;

use super::ports;
use super::site::Site;
use chain::{Chains, Record, State};

/// Slots that are looked at before the pool counts as broken.
const SLOTS_MAX: u32 = 20_000;

/// The pool of one project.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Where it is.
    pub root: PathBuf,
    /// Its repository.
    pub repo: Repository,
    /// Who has what.
    pub chains: Chains,
    /// Where the ports of its slots begin.
    pub ports_from: u32,
    clone: bool,
}

/// A slot that this process has.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// The top of its worktree.
    pub top: PathBuf,
    /// The version that says so.
    version: u64,
    /// What that version says.
    pub record: Record,
    /// Whether the worktree's lock names this process already.
    pub locked: bool,
    /// The commit that it was at before it was brought to the base of its attempt; empty where it was
    /// made for it.
    pub was_at: String,
}

impl Slot {
    /// From 0: for ports and the like that must not meet.
    pub fn index(&self) -> u32 {
        number(&self.name).map_or(0, |n| n - 1)
    }
}

/// The number of a slot's name: 3 of `w3`.
fn number(name: &str) -> Option<u32> {
    name.strip_prefix('w').filter(|n| !n.starts_with('0'))?.parse().ok()
}

/// Where the pool of a project is.
pub fn root(template: &str, repo: &Repository) -> PathBuf {
    let text = template.replace("{repo}", &repo.name());
    let root = join(repo.anchor(), Path::new(&text));
    let below = repo.below.to_string_lossy().replace('/', "-");
    if below.is_empty() || template != config::POOL {
        return root;
    }
    // Must not be the name of a slot of the project at the top.
    let taken = number(&below).is_some() || below.starts_with("shell-") || below.starts_with('.');
    root.join(if taken { format!("sub-{below}") } else { below })
}

/// Where the pool of a project is now, for this user. After somebody has renamed the project it still is
/// where it was: slots and what is in them are not left behind, and nothing is moved.
pub fn found(template: &str, repo: &Repository) -> PathBuf {
    of_this_user(of_project(template, repo))
}

/// What git and jobs make in a slot is their user's, who alone can write and remove it. So a pool is its
/// maker's, and another member of the queue has one of his own, beside it.
fn of_this_user(root: PathBuf) -> PathBuf {
    let me = nix::unistd::geteuid();
    match Owner::of(&root) {
        Ok(owner) if owner.uid != me.as_raw() && !me.is_root() => {
            root.with_file_name(format!("{}.{me}", name_of(&root)))
        }
        _ => root,
    }
}

fn of_project(template: &str, repo: &Repository) -> PathBuf {
    let root = root(template, repo);
    let is_pool = |dir: &Path| RealFs.exists(&dir.join(".slots"));
    if template != config::POOL || is_pool(&root) {
        return root;
    }
    let suits = |dir: &PathBuf| match repo.below.as_os_str().is_empty() {
        true => name_of(dir).ends_with(".coord"),
        false => dir.file_name() == root.file_name(),
    };
    let mut former = parents_of_worktrees(&repo.common).into_iter();
    former.find(|dir| suits(dir) && is_pool(dir)).unwrap_or(root)
}

impl Pool {
    /// The pool of this site; `None` where attempts share the project's directory.
    pub fn of(site: &Site) -> Option<Pool> {
        let repo = site.repo.usable()?.clone();
        let first = of_project(&site.config.worktree.root, &repo);
        let root = of_this_user(first.clone());
        let ports_from = ports::begin(root == first);
        let (chains, clone) =
            (Chains::new(&root), site.config.worktree.isolation == Isolation::Clone);
        Some(Pool { root, repo, chains, ports_from, clone })
    }

    /// The top of a slot's worktree.
    pub fn top(&self, slot: &str) -> PathBuf {
        self.root.join(slot)
    }

    /// A directory for what becomes a slot, and `TMPDIR` of its attempts where no other is used.
    pub fn scratch(&self, slot: &str) -> PathBuf {
        self.root.join(".tmp").join(slot)
    }

    /// Makes the pool's directory. In another worktree (a repository inside a repository) it hides
    /// itself from it.
    pub fn make(&self) -> Result<()> {
        let path = self.root.join(".gitignore");
        if RealFs.exists(&self.root.join(".slots")) || RealFs.exists(&path) {
            return Ok(());
        }
        mkdir_all(&RealFs, &self.root).cannot("make the directory of the worktrees", &self.root)?;
        if self.root.ancestors().skip(1).any(|dir| RealFs.exists(&dir.join(".git"))) {
            // Several may be at this at once, and each may die in between.
            let tmp = self.root.join(format!(".gitignore.{}", random_part(RealClock.random())));
            let made = RealFs.create(&tmp, b"*\n", 0o644).and_then(|()| RealFs.rename(&tmp, &path));
            made.cannot("hide the worktrees", &path)?;
        }
        Ok(())
    }

    /// Takes a slot: the one with the worker's own name, or the smallest number that is free.
    /// `avoid` are those that were found to be of no use just now.
    pub fn take(&self, queue: &Queue, me: &Proc, avoid: &BTreeSet<String>) -> Result<Slot> {
        let own = short(&me.wid).to_owned();
        let own = number(&own).is_some().then_some(own);
        let numbers = (1..SLOTS_MAX).map(|n| format!("w{n}"));
        for name in own.into_iter().chain(numbers).filter(|name| !avoid.contains(name)) {
            if let Some(slot) = self.take_named(queue, me, &name)? {
                return Ok(slot);
            }
        }
        Err(Error::new(Exit::Environment, "no slot is left in the pool of worktrees")
            .at(&self.root)
            .hint("coord worktree ls"))
    }

    /// Takes this slot for an attempt, if it is free or its owner is over.
    pub fn take_named(&self, queue: &Queue, me: &Proc, name: &str) -> Result<Option<Slot>> {
        self.take_if(queue, me, name, |before| {
            before.state != State::Retired
                && (before.clone == self.clone || !RealFs.exists(&self.top(name)))
        })
    }

    /// Takes this slot also if it is retired, or of another kind: to look at it, or to remove it.
    pub fn take_any(&self, queue: &Queue, me: &Proc, name: &str) -> Result<Option<Slot>> {
        self.take_if(queue, me, name, |_| true)
    }

    fn take_if(
        &self,
        queue: &Queue,
        me: &Proc,
        name: &str,
        suits: impl Fn(&Record) -> bool,
    ) -> Result<Option<Slot>> {
        let what = "look who has a worktree";
        self.make()?;
        loop {
            let newest = self.chains.newest(name).cannot(what, &self.root)?;
            let (seen, before) = newest.unwrap_or_default();
            let held = before.state == State::Held && !is_over(queue, &before);
            if held || !suits(&before) {
                return Ok(None);
            }
            let kind = if RealFs.exists(&self.top(name)) { before.clone } else { self.clone };
            let own = self.record(queue, me, name);
            let record = Record { assigned: before.assigned, clone: kind, ..own };
            let made =
                self.chains.publish(name, seen, &record).cannot("take a worktree", &self.root)?;
            if let Some(version) = made {
                let top = self.top(name);
                return Ok(Some(Slot {
                    name: name.to_owned(),
                    top,
                    version,
                    record,
                    locked: false,
                    was_at: String::new(),
                }));
            }
        }
    }

    fn record(&self, queue: &Queue, me: &Proc, name: &str) -> Record {
        let card = &me.card;
        Record {
            v: 1,
            slot: name.to_owned(),
            state: State::Held,
            owner: me.wid.clone(),
            queue: queue.layout.root().to_owned(),
            host_id: card.host_id.clone(),
            host: card.host.clone(),
            boot: card.boot.clone(),
            pidns: card.pidns,
            pid: card.pid,
            start: card.start,
            clone: self.clone,
            ..Record::default()
        }
    }

    /// Whether the slot is still ours: nobody made a step since.
    pub fn is_ours(&self, slot: &Slot) -> Result<bool> {
        let newest =
            self.chains.newest(&slot.name).cannot("look who has a worktree", &self.root)?;
        Ok(newest.is_some_and(|(version, _)| version == slot.version))
    }

    /// Makes a step as the owner. False: the slot is no longer ours.
    pub fn step(&self, slot: &mut Slot, change: impl FnOnce(&mut Record)) -> Result<bool> {
        let mut record = slot.record.clone();
        change(&mut record);
        let made = self.chains.publish(&slot.name, slot.version, &record);
        let Some(version) = made.cannot("note who has a worktree", &self.root)? else {
            return Ok(false);
        };
        (slot.version, slot.record) = (version, record);
        Ok(true)
    }

    /// Goes on under another identity: this process was declared dead and has registered anew.
    pub fn reown(&self, queue: &Queue, me: &Proc, slot: &mut Slot) -> Result<bool> {
        let new = self.record(queue, me, &slot.name);
        slot.locked = false;
        self.step(slot, |record| *record = Record { assigned: record.assigned.clone(), ..new })
    }

    /// A slot that somebody else has, for looking: no step can be made with it.
    pub fn look(&self, record: &Record) -> Slot {
        let (name, top) = (record.slot.clone(), self.top(&record.slot));
        let (record, was_at) = (record.clone(), String::new());
        Slot { name, top, version: 0, record, locked: false, was_at }
    }

    /// Gives the slot back. Somebody may have it in the next instant.
    pub fn free(&self, mut slot: Slot, why: &str) -> Result<()> {
        self.step(&mut slot, |record| {
            record.state = State::Free;
            why.clone_into(&mut record.why);
        })
        .map(drop)
    }

    /// Leaves the slot to a person: it holds what cannot be saved or removed.
    pub fn retire(&self, mut slot: Slot, why: &str) -> Result<()> {
        tracing::warn!(slot = %slot.name, "worktree retired: {why}");
        self.step(&mut slot, |record| {
            record.state = State::Retired;
            why.clone_into(&mut record.why);
        })
        .map(drop)
    }

    /// All slots with their newest versions.
    pub fn all(&self) -> Result<Vec<Record>> {
        let what = "list the worktrees";
        let mut all = Vec::new();
        for name in self.chains.slots().cannot(what, &self.root)? {
            all.extend(self.chains.newest(&name).cannot(what, &self.root)?.map(|(_, r)| r));
        }
        Ok(all)
    }
}

/// Whether the owner of a slot can do nothing more in it: it left its queue, or it was declared dead
/// and what it had started was ended before; or the queue itself is gone, and so is the process. Of
/// one whose lease ran out on another machine nobody knows: it may be at work there until it says
/// that it is over, or somebody there does.
pub fn is_over(queue: &Queue, record: &Record) -> bool {
    let own = record.queue == queue.layout.root();
    let theirs = crate::queue::layout::Layout::new(record.queue.clone());
    let gone = |path: &Path| matches!(RealFs.stat(path), Err(e) if is_absent(&e));
    if own || !gone(&theirs.layout_record()) {
        let dir = theirs.proc(&record.owner);
        return match recover::declared_in(&RealFs, &dir) {
            Some(death) => death != Death::Lease || gone(&dir),
            None => gone(&dir),
        };
    }
    let here = machine::place();
    if record.host_id != here.host_id {
        return false;
    }
    let same = record.boot == here.boot && record.pidns == here.pidns;
    record.boot != here.boot || (same && !alive::is_alive(record.pid, record.start))
}

#[cfg(test)]
mod tests {
    use super::chain::Assigned;
    use super::*;
    use crate::queue::procs::Identity;
    use crate::queue::record::CardKind;
    use crate::sys::host::Platform;

    fn repo(top: &Path, below: &str) -> Repository {
        let (common, top) = (top.join(".git"), top.to_owned());
        Repository { common, top: Some(top.clone()), here: top, below: PathBuf::from(below) }
    }

    fn proc(queue: &Queue, name: &str) -> Proc {
        Proc::register(queue, &Identity::plain(name, CardKind::Worker)).unwrap()
    }

    #[test]
    fn pools_of_one_repository_do_not_meet() {
        let root_of = |template: &str, below: &str| {
            root(template, &repo(Path::new("/a/r"), below)).to_string_lossy().into_owned()
        };
        for (below, place) in [
            ("", "/a/r.coord"),
            ("libs/x", "/a/r.coord/libs-x"),
            ("w1", "/a/r.coord/sub-w1"),
            ("w01", "/a/r.coord/w01"),
            ("shell-T.a1", "/a/r.coord/sub-shell-T.a1"),
            (".slots", "/a/r.coord/sub-.slots"),
        ] {
            assert_eq!(root_of(config::POOL, below), place);
        }
        assert_eq!(root_of("/pool/{repo}", "libs/x"), "/pool/r", "who names a place gets it");
    }

    #[test]
    fn a_slot_has_one_owner_until_that_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let queue = crate::queue::init::init(&dir.path().join(".coord"), Platform::real()).unwrap();
        let pool = Pool {
            root: dir.path().join("pool"),
            repo: repo(dir.path(), ""),
            chains: Chains::new(&dir.path().join("pool")),
            ports_from: 0,
            clone: false,
        };
        let none = BTreeSet::new();
        let (mut a, mut b, c) = (proc(&queue, "solo"), proc(&queue, "w1"), proc(&queue, "w7"));
        let take = |me: &Proc| pool.take(&queue, me, &none).unwrap();
        let mut first = take(&a);
        assert_eq!((first.name.as_str(), first.index()), ("w1", 0));
        let second = take(&b);
        assert_eq!(second.name, "w2", "its own name is taken");
        assert_eq!(take(&c).name, "w7");
        assert!(pool.take_named(&queue, &c, "w1").unwrap().is_none());
        let of = Assigned { task: "T".to_owned(), n: 1, ..Assigned::default() };
        assert!(pool.step(&mut first, |record| record.assigned = Some(of.clone())).unwrap());
        // It dies: whoever takes the slot finds what it was for.
        a.leave(&queue);
        let after = pool.take_named(&queue, &c, "w1").unwrap().unwrap();
        assert_eq!(after.record.assigned, Some(of));
        assert!(!pool.is_ours(&first).unwrap(), "the former owner is told");
        assert!(!pool.step(&mut first, |record| record.assigned = None).unwrap());
        pool.retire(second, "it holds something").unwrap();
        b.leave(&queue);
        assert!(pool.take_named(&queue, &c, "w2").unwrap().is_none(), "retired is not free");
        assert!(pool.take_any(&queue, &c, "w2").unwrap().is_some());
        pool.free(after, "").unwrap();
        assert!(pool.take_named(&queue, &c, "w1").unwrap().is_some());
    }

    #[test]
    fn who_was_given_up_from_afar_keeps_its_slot_until_it_is_known_to_be_over() {
        let dir = tempfile::tempdir().unwrap();
        let queue = crate::queue::init::init(&dir.path().join(".coord"), Platform::real()).unwrap();
        let me = proc(&queue, "solo");
        let (owner, root) = (me.wid.clone(), queue.layout.root().to_owned());
        let record = Record { owner, queue: root, ..Record::default() };
        assert!(!is_over(&queue, &record));
        let end = me.dir().join("end");
        RealFs.create(&end, br#"{"v":1,"death":"lease"}"#, 0o444).unwrap();
        assert!(!is_over(&queue, &record), "it may be at work where nobody here can see it");
        RealFs.create(&end, br#"{"v":1,"death":"dead"}"#, 0o444).unwrap();
        assert!(is_over(&queue, &record));
        crate::sys::fs::remove_tree(me.dir()).unwrap();
        assert!(is_over(&queue, &record));
    }

    #[test]
    fn with_its_queue_gone_an_owner_is_judged_by_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let queue = crate::queue::init::init(&dir.path().join(".coord"), Platform::real()).unwrap();
        let me = proc(&queue, "solo").card;
        let mut record = Record {
            queue: dir.path().join("gone"),
            host_id: me.host_id,
            boot: me.boot,
            pidns: me.pidns,
            pid: me.pid,
            start: me.start,
            ..Record::default()
        };
        assert!(!is_over(&queue, &record), "this process lives");
        record.start += 1;
        assert!(is_over(&queue, &record), "another one had its number");
        record.boot.push('x');
        assert!(is_over(&queue, &record));
        record.host_id.push('x');
        assert!(!is_over(&queue, &record), "of another machine nobody knows");
    }
}
