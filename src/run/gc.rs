//! Removing worktrees that nobody needs: free ones that are clean and saved, and nothing else.

use std::path::Path;
use std::time::Duration;

use crate::error::{Cannot, Error, Exit, Result};
use crate::git::repository::branch;
use crate::git::status::status;
use crate::git::{Git, wip, worktrees};
use crate::queue::Queue;
use crate::queue::procs::Proc;
use crate::sys::fs::{Fs, RealFs, is_absent, remove_tree};
use crate::sys::wake::nap;
use crate::sys::{alive, tool, tree};

use super::pool::chain::{Assigned, Record, State};
use super::pool::{Pool, Slot, is_over};
use super::site::Site;
use super::slot::{Workshop, foreign};

/// How long a process may go on in the worktree of a shell that has ended before it counts as somebody
/// who stays.
const LEAVING_MS: u64 = 3000;

/// One slot and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its newest record.
    pub record: Record,
    /// Whether its owner is over, so that anybody may take it.
    pub over: bool,
    /// Whether its directory is there.
    pub there: bool,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Seen {
    /// The word for its state: one of a dead owner is neither free nor held.
    pub fn word(&self) -> &'static str {
        match self.record.state {
            State::Held if self.over => "left",
            state => state.word(),
        }
    }
}

/// What was done with a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// The slot.
    pub slot: String,
    /// Whether it was, or would be, removed.
    pub removed: bool,
    /// Why it stays.
    pub why: String,
    /// Bytes that were on disk.
    pub bytes: u64,
}

/// All slots of the pool that have a directory or an owner.
pub fn slots(queue: &Queue, pool: &Pool) -> Result<Vec<Seen>> {
    let all = pool.all()?.into_iter().map(|record| {
        let top = pool.top(&record.slot);
        let there = RealFs.exists(&top);
        let over = record.state == State::Held && is_over(queue, &record);
        let bytes = if there { tree::size(&top) } else { 0 };
        Seen { over, there, bytes, record }
    });
    Ok(all.filter(|seen| seen.there || seen.record.state != State::Free).collect())
}

/// Removes what can be removed. With `dry_run` nothing is changed, and nothing is saved.
pub fn sweep(site: &Site, me: &Proc, pool: &Pool, dry_run: bool) -> Result<Vec<Swept>> {
    let shop = Workshop { site, pool, me, beat: &tool::nothing };
    let mut all = Vec::new();
    for seen in slots(&site.queue, pool)? {
        let name = seen.record.slot.clone();
        let why = match (seen.record.state, seen.over) {
            (State::Held, false) => {
                let what = holds(&seen.record).unwrap_or_else(|| "nothing now".to_owned());
                Some(format!("{} has it for {what}", crate::queue::ids::short(&seen.record.owner)))
            }
            _ if dry_run => would_stay(&shop, &seen.record)?,
            _ => match pool.take_any(&site.queue, me, &name)? {
                Some(slot) => remove(&shop, slot, &seen.record)?,
                None => Some("somebody took it just now".to_owned()),
            },
        };
        let (removed, why) = (why.is_none(), why.unwrap_or_default());
        all.push(Swept { slot: name, removed, why, bytes: seen.bytes });
    }
    Ok(all)
}

fn holds(record: &Record) -> Option<String> {
    record.assigned.as_ref().map(|of| format!("attempt {} of {}", of.n, of.task))
}

/// Why a slot would stay. What a dead worker left is saved first, so it is no reason.
fn would_stay(shop: &Workshop<'_>, record: &Record) -> Result<Option<String>> {
    let top = shop.pool.top(&record.slot);
    if let Some((pid, name)) = alive::inside(&top).first() {
        return Ok(Some(format!("process {pid} ({name}) is in it")));
    }
    if !RealFs.exists(&top.join(".git")) || record.assigned.is_some() {
        return Ok(None);
    }
    let git = Git::new(&top, &tool::nothing);
    unsaved_of(shop, &git, record)
}

/// What in a worktree is in no ref; `None`: it may go.
fn unsaved_of(shop: &Workshop<'_>, git: &Git<'_>, record: &Record) -> Result<Option<String>> {
    let foreign = shop.foreign();
    let changes = status(git, false)?;
    let ours: Vec<_> = changes.iter().filter(|c| !c.is_below(&foreign)).collect();
    if let Some(nested) = ours.iter().find(|c| c.is_nested()) {
        let path = nested.path.trim_end_matches('/');
        return Ok(Some(format!("it holds the repository {path}, which is not part of this one")));
    }
    if let Some(first) = ours.first() {
        return Ok(Some(format!("{} is not committed ({} in all)", first.path, ours.len())));
    }
    if record.clone {
        let heads = git.must(
            "list refs",
            &["for-each-ref", "--format=%(objectname)", "refs/heads", "refs/stash"],
        )?;
        for head in heads.text().lines() {
            if shop.main().commit(head)?.is_none() {
                return Ok(Some(format!("the repository does not have its commit {head}")));
            }
        }
        return Ok(None);
    }
    // A lane checks out what it has built, and nobody works there.
    let Some(head) = git.commit("HEAD")?.filter(|_| !is_of_lane(&record.slot)) else {
        return Ok(None);
    };
    let args = ["for-each-ref", "--count=1", "--contains", &head, "--format=%(refname)"];
    let kept = !git.must("look for a ref", &args)?.stdout.is_empty();
    Ok((!kept).then(|| format!("no branch has its commit {head}")))
}

/// Whether a slot is the one in which a lane checks what it merges.
fn is_of_lane(slot: &str) -> bool {
    slot.starts_with("merge.")
}

/// Removes a slot's worktree that this process has taken; or why it stays.
fn remove(shop: &Workshop<'_>, mut slot: Slot, before: &Record) -> Result<Option<String>> {
    let pool = shop.pool;
    let keep = |slot: Slot, why: String| {
        let retired = before.state == State::Retired;
        if retired { pool.retire(slot, &why) } else { pool.free(slot, &why) }.map(|()| Some(why))
    };
    if let Some((pid, name)) = alive::inside(&slot.top).first() {
        return keep(slot, format!("process {pid} ({name}) is in it"));
    }
    let is_one = if slot.record.clone {
        RealFs.exists(&slot.top.join(".git"))
    } else {
        worktrees::is_worktree_of(&shop.main(), &slot.top, &pool.repo.common)?
    };
    if !is_one {
        let why = if RealFs.exists(&slot.top) { before.why.clone() } else { String::new() };
        if RealFs.exists(&slot.top) {
            return keep(slot, if why.is_empty() { "it is no worktree".to_owned() } else { why });
        }
        pool.free(slot, "removed")?;
        return Ok(None);
    }
    let git = shop.within(&slot, "");
    if let Some(of) = slot.record.assigned.clone() {
        let saved = shop.rescue(&mut slot, "")?;
        if let Some(first) = saved.unsaved.first() {
            let why = format!("it holds {first}");
            pool.retire(slot, &why)?;
            return Ok(Some(why));
        }
        worktrees::abandon(&git)?;
        worktrees::reset(&git, &of.base, false, &[])?;
    }
    if let Some(why) = unsaved_of(shop, &git, &slot.record)? {
        return keep(slot, why);
    }
    shop.drop_tmp(&slot);
    if slot.record.clone {
        // A clone of ours, all of whose commits the repository has.
        remove_tree(&slot.top).cannot("remove a clone", &slot.top)?;
    } else {
        unlink_foreign(shop, &slot);
        if let Some(why) = worktrees::remove(&shop.main(), &slot.top, &shop.reason())? {
            return keep(slot, why);
        }
    }
    pool.free(slot, "removed")?;
    Ok(None)
}

/// What was copied or linked there for attempts stands in git's way where it is not ignored.
fn unlink_foreign(shop: &Workshop<'_>, slot: &Slot) {
    for path in shop.foreign() {
        let path = slot.top.join(path);
        match RealFs.unlink(&path) {
            Err(e) if !is_absent(&e) => drop(remove_tree(&path)),
            _ => {}
        }
    }
}

/// A worktree of its own for an attempt that is over, on its branch where nobody else has that.
pub fn for_shell(site: &Site, me: &Proc, pool: &Pool, of: &Assigned) -> Result<Slot> {
    let shop = Workshop { site, pool, me, beat: &tool::nothing };
    let name = format!("shell-{}.a{}", of.task, of.n);
    let branch = if of.branch.is_empty() { branch(&of.task, of.n) } else { of.branch.clone() };
    let tip = shop.main().commit(&format!("refs/heads/{branch}"))?.ok_or_else(|| {
        Error::new(Exit::NotFound, format!("there is no branch {branch} any more"))
            .at(pool.repo.home())
            .hint(format!("coord show {}", of.task))
    })?;
    let slot = pool.take_any(&site.queue, me, &name)?.ok_or_else(|| {
        Error::new(Exit::Conflict, format!("somebody else is in {name}"))
            .at(&pool.top(&name))
            .hint("coord worktree ls")
    })?;
    if !RealFs.exists(&slot.top) {
        pool.make()?;
        worktrees::add(&shop.main(), &slot.top, &tip, &shop.reason())?;
        // Where the branch is checked out elsewhere, HEAD stays detached at its tip.
        Git::new(&slot.top, &tool::nothing).run(&["checkout", "--quiet", &branch, "--"])?;
    }
    Ok(slot)
}

/// Removes the worktree of a shell that has ended, if nothing in it would be lost; or why it stays.
pub fn after_shell(site: &Site, me: &Proc, pool: &Pool, slot: Slot) -> Result<Option<String>> {
    let shop = Workshop { site, pool, me, beat: &tool::nothing };
    // What the shell began behind itself (git's own upkeep) is mostly gone in an instant.
    let deadline_ms = site.queue.clock.mono_ms() + LEAVING_MS;
    while !alive::inside(&slot.top).is_empty() && site.queue.clock.mono_ms() < deadline_ms {
        nap(Duration::from_millis(20));
    }
    let before = Record { state: State::Retired, ..slot.record.clone() };
    remove(&shop, slot, &before)
}

/// The tree of everything in a worktree that is tracked or could be, committed or not.
pub fn tree_now(site: &Site, pool: &Pool, top: &Path) -> Result<String> {
    wip::tree(&Git::new(top, &tool::nothing), &foreign(site, pool))
}
