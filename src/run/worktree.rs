//! Where an attempt runs, and what becomes of what it left there.
//!
//! A worker takes a slot of the pool at its first attempt and keeps it while it lives. Each attempt
//! finds it at the base and clean, with a branch of its own; afterwards what is not committed is
//! saved under `refs/coord/wip/`, and only then the slot is cleaned. The branch always stays; the
//! end register names it, its commit and the ref.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{CommitBy, Isolation};
use crate::error::{Cannot, Error, Exit, Result};
use crate::git::confirmed::{Answer, Worktree};
use crate::git::misled::Misled;
use crate::git::repository::wip_ref;
use crate::git::wip::Saved;
use crate::git::{Git, connect, own};
use crate::queue::claim::Lease;
use crate::queue::ids::short;
use crate::queue::procs::Proc;
use crate::queue::record::Outcome;
use crate::sys::fs::{RealFs, mkdir_all};
use crate::sys::tool;
use crate::sys::tool::{Meanwhile, Waits};

use super::furnish;
use super::hooks;
use super::pool::{Pool, Slot};
use super::ports;
use super::reapply::{self, Reapplied};
use super::scope::{from_project, learnable};
use super::site::Site;
use super::slot::{Ready, Workshop, lost};
use super::tmpdir;
use super::unwanted::{self, Unwanted};

/// Slots in a row that turn out to be of no use before an attempt is given up.
const TRIES: usize = 20;
/// How often what an attempt left is committed and saved, where objects of it are missing afterwards.
const SECURED: usize = 3;
/// Paths that a refusal names.
const NAMED: usize = 5;

/// Where an attempt runs. Written to `n.out/workplace.json` before the command starts, so that the
/// next attempt finds it also when this one's worker dies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Workplace {
    /// The directory.
    pub dir: PathBuf,
    /// The attempt's branch; empty without git.
    pub branch: String,
    /// The commit that it started from.
    pub base: String,
    /// The slot of the pool.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub slot: String,
    /// The worker's number, from 0: for ports and the like.
    #[serde(skip)]
    pub index: u32,
    /// The number among all workers of the machine at which those of this user begin, for ports.
    #[serde(skip)]
    pub ports_from: u32,
    /// What came back from its merge and was applied here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reapplied: Option<Reapplied>,
    /// `TMPDIR`, where the attempt has one of its own.
    #[serde(skip)]
    pub tmp: Option<PathBuf>,
    /// Settings of git for its commands.
    #[serde(skip)]
    pub settings: Vec<(String, String)>,
}

/// What an attempt did to the repository: from which commit to which, and the paths that differ,
/// committed or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// The commit that it started from.
    pub base: String,
    /// The tip of its branch.
    pub commit: String,
    /// Paths from the top of the repository.
    pub changed: Vec<String>,
}

/// What concluding an attempt came to.
#[derive(Debug, Clone, Default)]
pub struct Concluded {
    /// For the end register.
    pub outcome: Outcome,
    /// Base, commit and changed paths.
    pub work: Work,
    /// Why a done attempt is not done after all.
    pub fault: Option<String>,
    /// Committing was ended before it was done, in words.
    pub cut: Option<String>,
}

/// Makes the workplace of an attempt. `slot` is what the worker has; it may get another one. `beat`
/// is called while git takes its time: a large repository must not cost a lease.
pub fn prepare(
    site: &Site,
    me: &Proc,
    lease: &Lease,
    slot: &mut Option<Slot>,
    beat: &Meanwhile<'_>,
) -> Result<Workplace> {
    if let Some(refusal) = site.repo.refusal(&site.root) {
        return Err(refusal);
    }
    let Some(pool) = Pool::of(site) else {
        let digits = short(&me.wid).trim_start_matches(|c: char| !c.is_ascii_digit());
        let index = digits.parse::<u32>().map_or(0, |n| n.saturating_sub(1));
        let ports_from = ports::begin_in(site.queue.layout.root());
        return Ok(Workplace { dir: site.root.clone(), index, ports_from, ..Workplace::default() });
    };
    let shop = Workshop { site, pool: &pool, me, beat };
    let base = super::base::of(site, &site.git_here(&pool.repo, beat), lease)?;
    let (mut own, tree) = take_ready(&shop, slot, &base)?;
    // Joining an empty path would put a `/` behind it.
    let dir: PathBuf = own.top.join(&pool.repo.below).components().collect();
    let made = (|| {
        // Not tracked, or outside of a sparse checkout: the attempt runs there all the same.
        mkdir_all(&RealFs, &dir).cannot("make the project's directory in a worktree", &dir)?;
        let branch = shop.assign(&tree, &mut own, &lease.key, &base, &dir)?;
        let out = site.queue.layout.out(&lease.key);
        hooks::post_checkout(&shop, &tree, &own, &base, &branch, &out)?;
        // Before anything is copied there: what came back may bring the same paths.
        let reapplied = reapply::apply(&shop, &tree, &own, lease, &base)?;
        furnish::furnish(site, &dir)?;
        let env = super::environment::of_person(site, &lease.spec);
        let settings = furnish::settings(site, &pool, &tree, &env)?;
        let tmp = tmpdir::fresh(&pool, &own.name)?;
        let (slot, index) = (own.name.clone(), own.index());
        let ports_from = pool.ports_from;
        let tmp = Some(tmp);
        Ok(Workplace { dir, branch, base, slot, index, ports_from, reapplied, tmp, settings })
    })();
    *slot = Some(own);
    made
}

/// A slot that is at the base and clean: the worker's own, or another one where that cannot be used.
fn take_ready<'a>(
    shop: &Workshop<'a>,
    slot: &mut Option<Slot>,
    base: &str,
) -> Result<(Slot, Worktree<'a>)> {
    let (mut avoid, mut why) = (BTreeSet::new(), String::new());
    for _ in 0..TRIES {
        let mut own = match slot.take() {
            Some(own) if shop.pool.is_ours(&own)? => own,
            _ => shop.pool.take(&shop.site.queue, shop.me, &avoid)?,
        };
        match shop.ready(&mut own, base) {
            Ok(Ready::Yes(tree)) => return Ok((own, tree)),
            Ok(Ready::Busy(reason)) => {
                avoid.insert(own.name.clone());
                why.clone_from(&reason);
                shop.pool.free(own, &reason)?;
            }
            Ok(Ready::Unfit(reason)) => {
                avoid.insert(own.name.clone());
                why.clone_from(&reason);
                shop.pool.retire(own, &reason)?;
            }
            Err(e) => {
                *slot = Some(own);
                return Err(e);
            }
        }
    }
    Err(Error::new(Exit::Environment, format!("no worktree can be used; of the last: {why}"))
        .at(&shop.pool.root)
        .hint("coord worktree ls"))
}

/// The work of an attempt: its base, its commit, and every path that it changed itself, saved or
/// committed. `git` runs anywhere in the repository; `others` are where the branch that it works for is.
pub fn work(
    git: &Git<'_>,
    base: &str,
    branch: &str,
    saved: &Saved,
    others: &[String],
) -> Result<Work> {
    let commit = git.commit(&format!("refs/heads/{branch}"))?.unwrap_or_default();
    let mut changed: BTreeSet<String> = saved.uncommitted.iter().cloned().collect();
    if !saved.name.is_empty()
        && !base.is_empty()
        && let Some(wip) = git.commit(&saved.name)?
    {
        // Such as in the middle of a merge.
        for path in own::taken_over(git, base, &wip, others, &saved.uncommitted)? {
            changed.remove(&path);
        }
    }
    if !commit.is_empty() && !base.is_empty() {
        changed.extend(own::changes(git, base, &commit, others)?);
    }
    let changed = changed.into_iter().collect();
    Ok(Work { base: base.to_owned(), commit, changed })
}

/// Commits what is not committed where coord.toml asks for it, saves the rest, reads what was done,
/// and leaves the slot clean and detached, so that a person can check out the branch.
pub fn conclude(
    site: &Site,
    me: &Proc,
    lease: &Lease,
    place: &Workplace,
    slot: &mut Option<Slot>,
    done: bool,
    beat: &Meanwhile<'_>,
) -> Concluded {
    let Some(pool) = Pool::of(site).filter(|_| !place.branch.is_empty()) else {
        return Concluded::default();
    };
    // What an attempt left is saved and read whatever has ended it. Only what its worker is to commit, with
    // the hooks of the repository, is given up with the attempt.
    let patient = |waits: &Waits<'_>| {
        let _ = beat(waits);
        true
    };
    let shop = Workshop { site, pool: &pool, me, beat: &patient };
    let mut outcome =
        Outcome { branch: place.branch.clone(), base: place.base.clone(), ..Outcome::default() };
    let mut saved = Saved::default();
    let (mut fault, mut cut) = (None, None);
    let mut removed = false;
    let own = slot.take().filter(|own| own.name == place.slot);
    let ours = own.as_ref().is_some_and(|own| pool.is_ours(own).unwrap_or(false));
    // Whoever took it over has saved what was in it.
    if let Some(mut own) = own.filter(|_| ours) {
        match leave(&shop, &mut own, lease, place, done.then_some(beat)) {
            Ok(Leaving::Misled(misled)) => {
                // Nothing is wrong with the slot: what it holds is saved when that is mended.
                outcome.worktree = own.top.to_string_lossy().into_owned();
                fault = Some(format!("what it left cannot be saved: {}", misled.why));
                *slot = Some(own);
            }
            Ok(Leaving::Saved(Left { saved: left, whole, gone, ended })) => {
                cut = ended;
                if let Some(first) = left.unsaved.first() {
                    let why = format!("it holds {first}, of attempt {}", lease.key);
                    outcome.worktree = own.top.to_string_lossy().into_owned();
                    retire(&pool, own, &why);
                } else {
                    *slot = Some(own);
                }
                if !whole && done {
                    fault = fault_of(site, lease, &left);
                }
                removed = gone;
                saved = left;
            }
            Err(e) => {
                // Nothing was thrown away: it stays as it is, and is named.
                tracing::error!("{}", e.one_line());
                outcome.worktree = own.top.to_string_lossy().into_owned();
                fault = Some(format!("what it left cannot be saved: {}", e.one_line()));
                retire(
                    &pool,
                    own,
                    &format!("cannot save what {} left: {}", lease.key, e.one_line()),
                );
            }
        }
    }
    outcome.wip.clone_from(&saved.name);
    outcome.uncommitted = u32::try_from(saved.uncommitted.len()).unwrap_or(u32::MAX);
    let git = shop.main();
    let work = super::base::beside(site, &git, &lease.spec)
        .and_then(|others| work(&git, &place.base, &place.branch, &saved, &others));
    let work = work.unwrap_or_else(|e| {
        tracing::error!("{}", e.one_line());
        // Neither its scope can be checked then, nor can it be merged.
        fault.get_or_insert_with(|| format!("what it did cannot be read: {}", e.one_line()));
        Work::default()
    });
    outcome.commit.clone_from(&work.commit);
    if done && fault.is_none() {
        fault = reapply::fault(&shop.main(), place, &work.commit).unwrap_or_else(|e| {
            Some(format!("whether its conflict is resolved cannot be read: {}", e.one_line()))
        });
    }
    if done {
        let by_worker = site.config.git.commit == CommitBy::Worker;
        if removed && by_worker && work.commit == place.base {
            let what = "removed its worktree before anything in it was committed";
            fault = joined(fault, Some(what.to_owned()));
        }
        let bound = by_worker || lease.spec.merge;
        fault = joined(fault, unwanted_of(&shop, &work, bound));
    }
    if lease.spec.merge {
        let project = |path: &String| from_project(&pool.repo.below, path);
        let changed: Vec<String> = work.changed.iter().map(project).collect();
        outcome.changed = learnable(site, &changed);
    }
    Concluded { outcome, work, fault, cut }
}

fn joined(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("{one}; {other}")),
        (one, other) => one.or(other),
    }
}

/// Why what was committed must not go on. A link to a repository does no harm on a branch that nobody
/// merges, where `bound` is false.
fn unwanted_of(shop: &Workshop<'_>, work: &Work, bound: bool) -> Option<String> {
    let given = shop.apart().given;
    match unwanted::find(&shop.main(), &work.base, &work.commit, &given) {
        Ok(found) if bound => found.words(),
        Ok(found) => Unwanted { links: Vec::new(), ..found }.words(),
        Err(e) => Some(format!("what it did cannot be read: {}", e.one_line())),
    }
}

fn retire(pool: &Pool, slot: Slot, why: &str) {
    if let Err(e) = pool.retire(slot, why) {
        tracing::error!("{}", e.one_line());
    }
}

/// What an attempt left.
struct Left {
    saved: Saved,
    /// The branch has everything.
    whole: bool,
    /// The attempt has removed its worktree.
    gone: bool,
    /// Committing was ended before it was done, in words.
    ended: Option<String>,
}

/// What leaving a slot came to.
enum Leaving {
    /// What was in it is saved.
    Saved(Left),
    /// Nothing was touched: git works elsewhere, and would in every slot.
    Misled(Misled),
}

/// Saves what is in the slot and cleans it. `heeded`, of a done attempt: who says whether its worker may
/// still commit.
fn leave<'a>(
    shop: &Workshop<'a>,
    slot: &mut Slot,
    lease: &Lease,
    place: &Workplace,
    heeded: Option<&'a Meanwhile<'a>>,
) -> Result<Leaving> {
    let of = slot.record.assigned.clone().unwrap_or_default();
    let tree = if shop.is_gone(slot) {
        None
    } else {
        match shop.ask(slot)? {
            Answer::Misled(misled) if misled.shared => return Ok(Leaving::Misled(misled)),
            answer => Some(answer.must(&slot.top)?),
        }
    };
    let (saved, ended) = match &tree {
        Some(tree) => secure(shop, tree, slot, lease, place, heeded)?,
        None => {
            // Its branch has what it committed; of anything else nothing is left.
            let name = shop.forget(slot)?;
            (Saved { strayed: !name.is_empty(), name, ..Saved::default() }, None)
        }
    };
    let whole = saved.name.is_empty() && saved.unsaved.is_empty();
    let left = Left { saved, whole, gone: tree.is_none(), ended };
    tmpdir::drop_of(shop.pool, &slot.name);
    if !left.saved.unsaved.is_empty() {
        return Ok(Leaving::Saved(left));
    }
    if !shop.pool.step(slot, |record| record.assigned = None)? {
        return Err(lost(slot));
    }
    if let Some(tree) = tree {
        shop.clean(&tree, slot, &of.base);
    }
    Ok(Leaving::Saved(left))
}

/// Commits and saves, and looks whether all of it is there: an object that somebody's collection of garbage
/// removed before anything named it is written again from the files.
fn secure<'a>(
    shop: &Workshop<'a>,
    tree: &Worktree<'a>,
    slot: &Slot,
    lease: &Lease,
    place: &Workplace,
    heeded: Option<&'a Meanwhile<'a>>,
) -> Result<(Saved, Option<String>)> {
    let git = tree.git();
    let mut cut = None;
    let of = &slot.record.assigned.clone().unwrap_or_default();
    if heeded.is_some() {
        reapply::add_resolved(shop.site, tree, place)?;
    }
    let mut said = String::new();
    for _ in 0..SECURED {
        if let Some(heeded) = heeded.filter(|_| cut.is_none()) {
            match shop.commit(&tree.minding(heeded), slot, of, &lease.spec.title) {
                // What it was to commit is saved like the rest.
                Err(e) if e.exit == Exit::Timeout => cut = Some(e.message),
                committed => drop(committed?),
            }
        }
        let saved = shop.save(tree, slot, of, wip_ref(&lease.key.task, lease.key.n), &of.base)?;
        let mut lacks = None;
        for name in [&format!("refs/heads/{}", of.branch), &saved.name] {
            if let Some(tip) = git.resolve(name)? {
                lacks = lacks.or(connect::missing(git, &tip, &of.base)?);
            }
        }
        match lacks {
            None => return Ok((saved, cut)),
            Some(missing) => said = missing,
        }
    }
    Err(connect::broken(git, &said))
}

/// Why a done attempt that left something behind failed after all: it was to be merged, or the
/// worker was to commit and could not.
fn fault_of(site: &Site, lease: &Lease, left: &Saved) -> Option<String> {
    let by_worker = site.config.git.commit == CommitBy::Worker;
    if !lease.spec.merge && !by_worker {
        return None;
    }
    let mut why = Vec::new();
    if !left.uncommitted.is_empty() {
        let named: Vec<&str> = left.uncommitted.iter().take(NAMED).map(String::as_str).collect();
        let more = if left.uncommitted.len() > NAMED { ", …" } else { "" };
        let count = left.uncommitted.len();
        let s = if count == 1 { "" } else { "s" };
        why.push(format!("left {count} change{s} uncommitted: {}{more}", named.join(", ")));
    }
    if left.conflicts {
        why.push("in the middle of a conflict".to_owned());
    } else if left.strayed {
        why.push("left commits that are not on its branch".to_owned());
    }
    if let Some(first) = left.unsaved.first() {
        why.push(format!("left {first}"));
    }
    if !left.name.is_empty() {
        why.push(format!("saved in {}", left.name));
    }
    Some(why.join("; "))
}

/// Gives the worker's slot back when it leaves.
pub fn give_back(site: &Site, slot: Option<Slot>) {
    if let (Some(pool), Some(slot)) = (Pool::of(site), slot)
        && let Err(e) = pool.free(slot, "")
    {
        // It is free all the same once this process is gone from the queue.
        tracing::warn!("{}", e.one_line());
    }
}

/// Keeps the slot of a worker that goes on under another identity; `None`: somebody has it already.
pub fn keep(site: &Site, me: &Proc, mut slot: Slot) -> Option<Slot> {
    let pool = Pool::of(site)?;
    match pool.reown(&site.queue, me, &mut slot) {
        Ok(true) => Some(slot),
        _ => None,
    }
}

/// Whether attempts have worktrees or clones of their own here.
pub fn is_apart(site: &Site) -> bool {
    site.config.worktree.isolation != Isolation::None && site.repo.usable().is_some()
}

/// git in the repository of a site, for looking; `None` where there is none.
pub fn repository(site: &Site) -> Option<Git<'static>> {
    site.repo.usable().map(|repo| site.git_of(repo.home(), &tool::nothing))
}
