//! Removing worktrees that nobody needs: free ones that are clean and saved, and nothing else.

use std::path::Path;
use std::time::Duration;

use crate::error::{Cannot, Error, Exit, Result};
use crate::git::confirmed::{Answer, Meant, Worktree, ask};
use crate::git::index::reveal;
use crate::git::repository::branch;
use crate::git::status::{Change, Mark, status};
use crate::git::{disk, wip, worktrees};
use crate::queue::Queue;
use crate::queue::layout::Layout;
use crate::queue::procs::Proc;
use crate::queue::recover::{self, Death};
use crate::sys::fs::{Fs, RealFs, is_absent, name_of};
use crate::sys::wake::nap;
use crate::sys::{alive, tool, tree};

use super::pool::chain::{Assigned, Record, State};
use super::pool::{Pool, Slot, is_over};
use super::site::Site;
use super::slot::{Workshop, apart, lost, somebody_in};

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
            (State::Held, false) => Some(held(&seen.record)),
            // One that cannot be looked at must not keep the others from being cleared.
            _ if dry_run => would_stay(&shop, &seen.record).unwrap_or_else(|e| Some(e.one_line())),
            _ => match pool.take_any(&site.queue, me, &name)? {
                Some(slot) => remove(&shop, slot, &seen.record)?,
                None => Some("somebody took it just now".to_owned()),
            },
        };
        let (removed, why) = (why.is_none(), why.unwrap_or_default());
        all.push(Swept { slot: name, removed, why, bytes: seen.bytes });
    }
    if !dry_run && let Err(e) = forget_gone(&shop) {
        // What was cleared is told all the same.
        tracing::warn!("{}", e.one_line());
    }
    Ok(all)
}

fn held(record: &Record) -> String {
    let what = record
        .assigned
        .as_ref()
        .map_or("nothing now".to_owned(), |of| format!("attempt {} of {}", of.n, of.task));
    let by = crate::queue::ids::short(&record.owner);
    let dir = Layout::new(record.queue.clone()).proc(&record.owner);
    match recover::declared_in(&RealFs, &dir) {
        Some(Death::Lease) => format!(
            "{by} has it for {what}, and may still be at work on {}: its lease ran out there",
            record.host
        ),
        _ => format!("{by} has it for {what}"),
    }
}

/// Lets git forget free slots whose directories somebody has removed by hand.
fn forget_gone(shop: &Workshop<'_>) -> Result<()> {
    let known = worktrees::list(&shop.main())?;
    for record in shop.pool.all()? {
        let gone = record.state == State::Free && !RealFs.exists(&shop.pool.top(&record.slot));
        if gone
            && known.iter().any(|w| name_of(&w.path) == record.slot)
            && let Some(slot) = shop.pool.take_named(&shop.site.queue, shop.me, &record.slot)?
        {
            if !RealFs.exists(&slot.top) {
                shop.forget(&slot)?;
            }
            shop.pool.free(slot, &record.why)?;
        }
    }
    Ok(())
}

/// Why a slot would stay. What a dead worker left is saved first, so it is no reason.
fn would_stay(shop: &Workshop<'_>, record: &Record) -> Result<Option<String>> {
    let slot = shop.pool.look(record);
    let tree = match shop.ask(&slot)? {
        Answer::Is(tree) => tree,
        Answer::Not(why) => {
            return Ok(RealFs.stat(&slot.top).is_ok().then(|| not_ours(record, why)));
        }
        Answer::Misled(misled) => return Ok(Some(misled.why)),
    };
    if let Some(busy) = somebody_in(&slot) {
        return Ok(Some(busy));
    }
    if record.assigned.is_some() {
        return Ok(nested(shop, &status(tree.git(), false)?));
    }
    unsaved_of(shop, &tree, record)
}

/// Why something stays that is no worktree of this pool: what was noted of it, or what git says.
fn not_ours(record: &Record, why: String) -> String {
    if record.why.is_empty() { why } else { record.why.clone() }
}

/// A repository within, which nothing can save.
fn nested(shop: &Workshop<'_>, changes: &[Change]) -> Option<String> {
    let apart = shop.apart();
    let found = changes.iter().find(|c| c.is_nested() && !apart.has(c))?;
    let path = found.path.trim_end_matches('/');
    Some(format!("it holds the repository {path}, which is not part of this one"))
}

/// What in a worktree is in no ref; `None`: it may go.
fn unsaved_of(shop: &Workshop<'_>, tree: &Worktree<'_>, record: &Record) -> Result<Option<String>> {
    let (git, apart) = (tree.git(), shop.apart());
    if let Some(at) = disk::mounted(git).first() {
        return Ok(Some(format!("something is mounted at {at} in it")));
    }
    let unseen = disk::look(tree, &apart)?;
    let changes = status(git, false)?;
    if let Some(why) = nested(shop, &changes) {
        return Ok(Some(why));
    }
    let ours: Vec<_> = changes.iter().filter(|c| !apart.has(c)).collect();
    if let Some(first) = ours.first() {
        return Ok(Some(format!("{} is not committed ({} in all)", first.path, ours.len())));
    }
    if let Some(path) = unseen.repositories.first() {
        return Ok(Some(format!("it holds {path}/.git, which git passes over here")));
    }
    if let Some(other) = unseen.others.first() {
        return Ok(Some(format!("it holds {other}")));
    }
    if record.clone {
        // All of its refs, but those that say what it was cloned from; and HEAD, which may be in none.
        let listed =
            git.must("list refs", &["for-each-ref", "--format=%(objectname) %(refname)"])?;
        let text = listed.text();
        let refs = text.lines().filter_map(|line| line.split_once(' '));
        let own = refs.filter(|(_, name)| !name.starts_with("refs/remotes/")).map(|(id, _)| id);
        let head = git.commit("HEAD")?;
        for id in own.chain(head.as_deref()) {
            if shop.main().resolve(&format!("{id}^{{object}}"))?.is_none() {
                return Ok(Some(format!("the repository does not have its commit {id}")));
            }
        }
        return Ok(None);
    }
    // A lane checks out what it has built, and nobody works there.
    let Some(head) = git.commit("HEAD")?.filter(|_| !is_of_lane(&record.slot)) else {
        return Ok(None);
    };
    let kept = wip::has_ref(git, &head)?;
    Ok((!kept).then(|| format!("no branch has its commit {head}")))
}

/// Whether a slot is the one in which a lane checks what it merges.
fn is_of_lane(slot: &str) -> bool {
    slot.starts_with("merge.")
}

/// Removes a slot's worktree that this process has taken; or why it stays.
fn remove(shop: &Workshop<'_>, mut slot: Slot, before: &Record) -> Result<Option<String>> {
    let pool = shop.pool;
    let cleared = clear(shop, &mut slot, before);
    let retired = before.state == State::Retired;
    match cleared {
        Ok(Stays::No) => pool.free(slot, "removed").map(|()| None),
        Ok(Stays::AsItWas(why)) if !retired => pool.free(slot, &why).map(|()| Some(why)),
        Ok(Stays::AsItWas(why) | Stays::Retired(why)) => {
            pool.retire(slot, &why).map(|()| Some(why))
        }
        Err(e) => {
            let why = e.one_line();
            pool.retire(slot, &why).map(|()| Some(why))
        }
    }
}

/// What became of a slot that was to be removed.
enum Stays {
    /// It is gone.
    No,
    /// It stays as it was found.
    AsItWas(String),
    /// It holds what cannot be saved.
    Retired(String),
}

fn clear(shop: &Workshop<'_>, slot: &mut Slot, before: &Record) -> Result<Stays> {
    if let Some(busy) = somebody_in(slot) {
        return Ok(Stays::AsItWas(busy));
    }
    let tree = match shop.ask(slot)? {
        Answer::Is(tree) => tree,
        Answer::Misled(misled) => return Ok(Stays::AsItWas(misled.why)),
        Answer::Not(why) if RealFs.stat(&slot.top).is_ok() => {
            return Ok(Stays::AsItWas(not_ours(before, why)));
        }
        Answer::Not(_) => {
            shop.forget(slot)?;
            if !shop.pool.step(slot, |record| record.assigned = None)? {
                return Err(lost(slot));
            }
            return Ok(Stays::No);
        }
    };
    let git = tree.git();
    if let Some(of) = slot.record.assigned.clone() {
        let saved = shop.rescue(&tree, slot, "")?;
        if let Some(first) = saved.unsaved.first() {
            return Ok(Stays::Retired(format!("it holds {first}")));
        }
        if let Some(busy) = somebody_in(slot) {
            return Ok(Stays::AsItWas(busy));
        }
        worktrees::abandon(&tree)?;
        worktrees::reset(&tree, &of.base, false, &[])?;
    }
    reveal(&tree)?;
    if let Some(why) = unsaved_of(shop, &tree, &slot.record)? {
        return Ok(Stays::AsItWas(why));
    }
    super::tmpdir::drop_of(shop.pool, &slot.name);
    if slot.record.clone {
        // A clone of ours, all of whose commits the repository has.
        discard(shop, slot, &slot.top).cannot("remove a clone", &slot.top)?;
        return Ok(Stays::No);
    }
    unlink_apart(shop, slot);
    // git stops half-way at a directory that may not be written.
    disk::clear(&tree, &[], &shop.trash(slot))?;
    if status(git, false)?.iter().any(|c| c.mark == Mark::Tracked) {
        // Tracked files were among those: git removes nothing where one is missing.
        git.must("put tracked files back", &["checkout", "--quiet", "--force", "HEAD", "--"])?;
    }
    let why = worktrees::remove(&shop.main(), &tree, &shop.reason())?;
    Ok(why.map_or(Stays::No, Stays::AsItWas))
}

/// Removes a directory of a slot, whatever an attempt made of it.
fn discard(shop: &Workshop<'_>, slot: &Slot, path: &Path) -> std::io::Result<()> {
    tree::discard(path, &shop.trash(slot))
}

/// What was copied or linked there for attempts stands in git's way where it is not ignored.
fn unlink_apart(shop: &Workshop<'_>, slot: &Slot) {
    for path in shop.apart().all() {
        // Behind a link that an attempt made lies what is not the slot's: perhaps the project itself.
        let Some(path) = tree::beneath(&slot.top, Path::new(&path)) else { continue };
        match RealFs.unlink(&path) {
            Err(e) if !is_absent(&e) => drop(discard(shop, slot, &path)),
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
    let mut slot = pool.take_any(&site.queue, me, &name)?.ok_or_else(|| {
        Error::new(Exit::Conflict, format!("somebody else is in {name}"))
            .at(&pool.top(&name))
            .hint("coord worktree ls")
    })?;
    if !RealFs.exists(&slot.top) {
        // Whatever attempts have: a person's shell may write to the repository.
        if slot.record.clone && !pool.step(&mut slot, |record| record.clone = false)? {
            return Err(lost(&slot));
        }
        shop.make(&mut slot, &tip)?;
        // Where the branch is checked out elsewhere, HEAD stays detached at its tip.
        shop.hooked(&shop.confirmed(&slot)?, &slot).run(&["checkout", "--quiet", &branch, "--"])?;
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

/// A slot's worktree, and the tree of everything in it that is tracked or could be, committed or not.
pub fn tree_now(site: &Site, pool: &Pool, record: &Record) -> Result<(Worktree<'static>, String)> {
    let top = pool.top(&record.slot);
    let meant = if record.clone { Meant::Clone } else { Meant::Linked(&pool.repo.common) };
    let worktree = ask(&site.git(&top, &tool::nothing), &top, meant)?.must(&top)?;
    let tree = wip::tree(&worktree, &apart(site, pool))?;
    Ok((worktree, tree))
}
