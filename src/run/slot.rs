//! From a slot that was taken to a worktree that an attempt may start in.
//!
//! In this order, and each step only when the one before is certain: git itself takes it for the
//! worktree that it is; no process is in it; what the attempt before left is saved; still no process is
//! in it; it is brought to the base; it is looked at. A slot that is not as it must be then is never cleaned by force: it is retired with the reason,
//! and another one is used.

use std::path::Path;

use crate::config::CommitBy;
use crate::error::{Cannot, Error, Exit, Result};
use crate::git::confirmed::{Answer, Meant, Worktree, ask};
use crate::git::index::add_all;
use crate::git::repository::{branch, wip_ref};
use crate::git::settings::NO_HOOKS;
use crate::git::status::{Apart, Change, Mark, status};
use crate::git::wip::{self, Saved, Wanted};
use crate::git::{Git, connect, disk, moved, private, worktrees};
use crate::queue::ids::{Key, short};
use crate::queue::procs::Proc;
use crate::sys::alive;
use crate::sys::fs::{Fs, RealFs, mkdir_all};
use crate::sys::tool::Meanwhile;

use super::environment::identity;
use super::pool::chain::{Assigned, Record};
use super::pool::{Pool, Slot};
use super::site::Site;

/// What came of making a slot ready.
pub enum Ready<'a> {
    /// It is at its base, and clean.
    Yes(Worktree<'a>),
    /// Somebody is in it: it can be used later.
    Busy(String),
    /// It holds what cannot be saved or removed.
    Unfit(String),
}

/// What is in the place of a slot.
enum There<'a> {
    /// Its worktree, made just now.
    Made(Worktree<'a>),
    /// Its worktree.
    Before(Worktree<'a>),
    /// Something that is not ours, or that git does not work in: why.
    Other(String),
}

/// Everything that working in a slot needs.
pub struct Workshop<'a> {
    /// The site.
    pub site: &'a Site,
    /// The pool.
    pub pool: &'a Pool,
    /// Who works.
    pub me: &'a Proc,
    /// Called while git takes its time.
    pub beat: &'a Meanwhile<'a>,
}

impl<'a> Workshop<'a> {
    /// git in the shared repository, for worktrees and for refs of `coord`: no hook runs for these.
    pub fn main(&self) -> Git<'a> {
        self.site.git_of(self.pool.repo.home(), self.beat).with(NO_HOOKS)
    }

    /// git's own answer to what a slot is, and, where it is its worktree, that worktree in the name of
    /// this worker. No hook runs there, but by [`Workshop::hooked`].
    pub fn ask(&self, slot: &Slot) -> Result<Answer<'a>> {
        let common = &self.pool.repo.common;
        let (name, email) = identity(self.site, short(&self.me.wid));
        // Asking takes no time, and what was stopped is saved all the same.
        let git = self
            .site
            .git(&slot.top, self.beat)
            .called(&format!("slot {}", slot.name))
            .identity(&name, &email)
            .with(NO_HOOKS)
            .steadfast();
        let meant = if slot.record.clone { Meant::Clone } else { Meant::Linked(common) };
        if !slot.record.clone && moved::mend(&self.main().steadfast(), common, &slot.top)? {
            tracing::info!(slot = %slot.name, "found again after the project was moved");
        }
        Ok(match ask(&git, &slot.top, meant)? {
            Answer::Is(tree) => Answer::Is(tree.heedful()),
            other => other,
        })
    }

    /// A slot's worktree, where git confirms it.
    pub fn confirmed(&self, slot: &Slot) -> Result<Worktree<'a>> {
        self.ask(slot)?.must(&slot.top)
    }

    /// Where directories of a slot are moved to be removed: on its file system, and in no worktree.
    pub fn trash(&self, slot: &Slot) -> std::path::PathBuf {
        self.pool.root.join(format!(".gone-{}", slot.name))
    }

    /// git for what a person would do in the worktree as well: with the hooks of the repository, which
    /// get what git itself gives them. What is in a clone belongs to its attempts: no hook of theirs runs
    /// for us.
    pub fn hooked(&self, tree: &Worktree<'a>, slot: &Slot) -> Git<'a> {
        if slot.record.clone { tree.git().clone() } else { tree.by_hand().without(NO_HOOKS) }
    }

    /// Paths in a worktree that are no attempt's work.
    pub fn apart(&self) -> Apart {
        apart(self.site, self.pool)
    }

    /// Why the worktree is locked, for people and for `git worktree prune`.
    pub fn reason(&self) -> String {
        let card = &self.me.card;
        format!("coord {} pid {} on {}", self.me.wid, card.pid, card.host)
    }

    /// Makes a slot ready for an attempt at `base`.
    ///
    /// # Errors
    /// What every other slot would have as well, such as settings by which git works elsewhere than in
    /// its worktrees: nothing in the slot was changed then.
    pub fn ready(&self, slot: &mut Slot, base: &str) -> Result<Ready<'a>> {
        let (tree, fresh) = match self.exists(slot, base)? {
            There::Made(tree) => (tree, true),
            There::Before(tree) => (tree, false),
            There::Other(why) => return Ok(Ready::Unfit(why)),
        };
        // Looked at before, too: what somebody writes while it is saved, and then leaves, would be
        // neither saved nor seen.
        if let Some(busy) = somebody_in(slot) {
            return Ok(Ready::Busy(busy));
        }
        match self.rescue(&tree, slot, base) {
            Ok(saved) => {
                if let Some(first) = saved.unsaved.first() {
                    return Ok(Ready::Unfit(format!("it holds {first}")));
                }
            }
            // The slot is another's by now; or git was ended, and it is all still there.
            Err(e) if matches!(e.exit, Exit::Conflict | Exit::Timeout) => return Err(e),
            // On a full disk, say, what any other slot holds cannot be saved either.
            Err(e) if e.is_of_surroundings() => return Err(e),
            // Such as an index that cannot be read: that would be so for every attempt.
            Err(e) => {
                return Ok(Ready::Unfit(format!("cannot save what it holds: {}", e.one_line())));
            }
        }
        if let Some(busy) = somebody_in(slot) {
            return Ok(Ready::Busy(busy));
        }
        let git = tree.git();
        if slot.record.clone && git.commit(base)?.is_none() {
            let source = self.pool.repo.common.to_string_lossy().into_owned();
            git.must(
                "fetch the base into a clone",
                &["fetch", "--quiet", "--no-tags", &source, base],
            )?;
        }
        slot.was_at = if fresh { String::new() } else { git.commit("HEAD")?.unwrap_or_default() };
        let keep = paths(self.pool, &self.site.config.worktree.keep);
        worktrees::abandon(&tree)?;
        private::settle(&tree, &self.main().at(&self.pool.repo.here))?;
        worktrees::reset(&tree, base, true, &keep)?;
        match worktrees::fault(&tree, base, &self.apart())? {
            None => Ok(Ready::Yes(tree)),
            // Then every other one would be so too.
            Some(why) if fresh => {
                Err(Error::new(Exit::Environment, format!("a new worktree is not clean: {why}"))
                    .at(&slot.top)
                    .hint("a hook, a filter or line endings change files at checkout: git worktree add shows it"))
            }
            Some(why) => Ok(Ready::Unfit(why)),
        }
    }

    /// Makes the worktree where there is none.
    fn exists(&self, slot: &mut Slot, base: &str) -> Result<There<'a>> {
        if RealFs.stat(&slot.top).is_ok() {
            match self.ask(slot)? {
                Answer::Is(tree) => {
                    if !slot.record.clone && !slot.locked {
                        worktrees::relock(&self.main(), &slot.top, &self.reason())?;
                        slot.locked = true;
                    }
                    return Ok(There::Before(tree));
                }
                // So it would be in every other slot.
                Answer::Misled(misled) if misled.shared => return Err(misled.error(&slot.top)),
                Answer::Misled(misled) => return Ok(There::Other(misled.why)),
                Answer::Not(why) => {
                    // An empty directory is in nobody's way; one that cannot go is, say, a mount.
                    if RealFs.rmdir(&slot.top).is_err() {
                        return Ok(There::Other(format!("something is in the way: {why}")));
                    }
                }
            }
        }
        if slot.record.clone {
            self.clone(slot)?;
        } else {
            self.make(slot, base)?;
        }
        self.confirmed(slot).map(There::Made)
    }

    /// Makes the worktree of a slot that has no directory.
    pub fn make(&self, slot: &mut Slot, base: &str) -> Result<()> {
        self.forget(slot)?;
        worktrees::add(&self.main(), &slot.top, base, &self.reason())?;
        slot.locked = true;
        Ok(())
    }

    /// Lets git forget the worktree of a slot whose directory is gone: somebody removed it by hand, or
    /// died while removing or making it. A commit that only its HEAD had gets a ref before: that ref, or nothing.
    pub fn forget(&self, slot: &Slot) -> Result<String> {
        let main = self.main();
        let Some(known) = worktrees::known_at(&main, &slot.top)? else { return Ok(String::new()) };
        let (name, email) = identity(self.site, short(&self.me.wid));
        let kept = wip::keep(&main.identity(&name, &email), &wip_name(slot), &known.head)?;
        match worktrees::forget(&main, &known.path, &self.reason())? {
            None => Ok(kept),
            Some(why) => {
                Err(Error::new(Exit::Environment, why).at(&slot.top).hint("git worktree list"))
            }
        }
    }

    /// A clone appears in its place only when it is whole: half of one would be taken for a clone.
    fn clone(&self, slot: &Slot) -> Result<()> {
        let made = self.pool.scratch(&slot.name);
        drop(crate::sys::fs::remove_tree(&made));
        if let Some(parent) = made.parent() {
            mkdir_all(&RealFs, parent).cannot("make a directory for a clone", parent)?;
        }
        let (from, to) = (self.pool.repo.common.to_string_lossy(), made.to_string_lossy());
        let args = ["clone", "--quiet", "--local", "--no-checkout", "--no-tags", &from, &to];
        // Which is made in a directory of its own: nothing that is said of the repository counts there.
        self.site.git(self.pool.repo.home(), self.beat).must("make a clone", &args)?;
        private::remember(&made.join(".git")).cannot("note the settings of a clone", &made)?;
        RealFs.rename(&made, &slot.top).cannot("put a clone into its place", &slot.top)
    }

    /// Saves what is in a slot and in no ref, and notes that it is saved. What was assigned stays
    /// assigned if something cannot be saved. `kept` is a commit that is in some ref.
    pub fn rescue(&self, tree: &Worktree<'_>, slot: &mut Slot, kept: &str) -> Result<Saved> {
        let assigned = slot.record.assigned.clone().unwrap_or_default();
        let saved = self.save(tree, slot, &assigned, wip_name(slot), kept)?;
        if saved.unsaved.is_empty()
            && slot.record.assigned.is_some()
            && !self.pool.step(slot, |record| record.assigned = None)?
        {
            return Err(lost(slot));
        }
        Ok(saved)
    }

    /// Saves what is in a slot that somebody else has, and may be changing: as it is at this moment.
    pub fn save_as_it_is(&self, record: &Record) -> Result<Saved> {
        let slot = self.pool.look(record);
        let of = record.assigned.clone().unwrap_or_default();
        self.save(&self.confirmed(&slot)?, &slot, &of, wip_name(&slot), "")
    }

    /// Saves what an attempt left under this ref, in the name of the worker that had it.
    pub fn save(
        &self,
        tree: &Worktree<'_>,
        slot: &Slot,
        of: &Assigned,
        name: String,
        kept: &str,
    ) -> Result<Saved> {
        let holder = if of.holder.is_empty() { &self.me.wid } else { &of.holder };
        let (author, email) = identity(self.site, short(holder));
        let tree = tree.identity(&author, &email);
        connect::mend(&tree, &of.base)?;
        let what = if of.task.is_empty() {
            format!("left in {}", slot.name)
        } else {
            let key = Key::new(&of.task, of.n);
            format!("{}: left by attempt {}\n\n{}", of.task, of.n, trailers(&key, holder))
        };
        let wanted = Wanted {
            name,
            branch: of.branch.clone(),
            base: of.base.clone(),
            kept: kept.to_owned(),
            message: what,
            apart: self.apart(),
        };
        let mut saved = wip::save(&tree, &wanted)?;
        if slot.record.clone {
            self.fetch_clone(&tree, of, &saved.name).unwrap_or_else(|e| {
                saved.unsaved.push(format!("commits that cannot be fetched: {}", e.one_line()))
            });
        }
        Ok(saved)
    }

    /// Brings the branch of a clone and what was saved of it into the shared repository, under the
    /// same names and never over anything.
    fn fetch_clone(&self, tree: &Worktree<'_>, of: &Assigned, wip: &str) -> Result<()> {
        let git = tree.git();
        let mut refs = Vec::new();
        if !of.branch.is_empty() && git.commit(&format!("refs/heads/{}", of.branch))?.is_some() {
            refs.push(format!("refs/heads/{0}:refs/heads/{0}", of.branch));
        }
        if !wip.is_empty() {
            refs.push(format!("{wip}:{wip}"));
        }
        if refs.is_empty() {
            return Ok(());
        }
        let from = tree.own().to_string_lossy().into_owned();
        let mut args = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &from];
        args.extend(refs.iter().map(String::as_str));
        let output = self.main().again(&args)?;
        if output.ok() { Ok(()) } else { Err(self.main().failed("fetch from the clone", &output)) }
    }

    /// Gives the slot to an attempt: notes it, and makes its branch.
    pub fn assign(
        &self,
        tree: &Worktree<'_>,
        slot: &mut Slot,
        key: &Key,
        base: &str,
        dir: &Path,
    ) -> Result<String> {
        let mut name = branch(&key.task, key.n);
        let plain = name.clone();
        loop {
            let taken = self.main().resolve(&format!("refs/heads/{name}"))?.is_some();
            let assigned = Assigned {
                task: key.task.clone(),
                n: key.n,
                branch: name.clone(),
                base: base.to_owned(),
                dir: dir.to_owned(),
                queue: self.site.queue.layout.root().to_owned(),
                holder: self.me.wid.clone(),
            };
            if !taken {
                if !self.pool.step(slot, |record| record.assigned = Some(assigned))? {
                    return Err(lost(slot));
                }
                if worktrees::begin(tree, &name, base)? {
                    return Ok(name);
                }
            }
            // Of a former queue in this repository: it is not ours to remove.
            let suffix = crate::queue::ids::random_part(self.site.queue.clock.random());
            name = format!("{plain}-{}", &suffix[..4]);
        }
    }

    /// Whether the worktree of a slot is gone, with all that was in it: an attempt may have removed it after
    /// its last commit. An empty directory in its place goes, too.
    pub fn is_gone(&self, slot: &Slot) -> bool {
        if slot.record.clone {
            return false;
        }
        if RealFs.list(&slot.top).is_ok_and(|names| names.is_empty()) {
            drop(RealFs.rmdir(&slot.top));
        }
        !RealFs.exists(&slot.top)
    }

    /// Commits what a done attempt left, on its branch, in its worker's name. False: it cannot be,
    /// because of conflicts, a HEAD elsewhere, or a hook that refuses.
    pub fn commit(
        &self,
        tree: &Worktree<'a>,
        slot: &Slot,
        of: &Assigned,
        title: &str,
    ) -> Result<bool> {
        if self.site.config.git.commit != CommitBy::Worker {
            return Ok(false);
        }
        connect::mend(tree, &of.base)?;
        let git = tree.git();
        let on = git.ask(&["symbolic-ref", "--quiet", "HEAD"])?;
        let changes = status(git, false)?;
        let apart = self.apart();
        // A repository in the worktree would become a link to a commit that only it has.
        let hinders = |c: &Change| c.mark == Mark::Unmerged || c.is_nested() && !apart.has(c);
        if changes.iter().any(hinders)
            || on.as_deref() != Some(format!("refs/heads/{}", of.branch).as_str())
        {
            return Ok(false);
        }
        if !add_all(tree, &apart, &[])?.ok() {
            return Ok(false);
        }
        // Not `git diff`, which does what a person's settings say.
        let compare =
            ["diff-index", "--cached", "--quiet", "--ignore-submodules=none", "HEAD", "--"];
        if git.run(&compare)?.ok() {
            return Ok(true);
        }
        let key = Key::new(&of.task, of.n);
        let message = format!("{}: {title}\n\n{}", of.task, trailers(&key, &self.me.wid));
        let args = ["commit", "--quiet", "--no-gpg-sign", "--cleanup=verbatim", "-F", "-"];
        let output = self.hooked(tree, slot).feed(&args, message.into_bytes())?;
        if !output.ok() {
            tracing::warn!("{}", git.failed("commit what an attempt left", &output).one_line());
        }
        Ok(output.ok())
    }

    /// Takes HEAD off its branch, to `base`, and cleans away what was saved or is nobody's work: what
    /// is found there later was done by somebody else. What fails here is made up for before the next
    /// attempt.
    pub fn clean(&self, tree: &Worktree<'_>, slot: &Slot, base: &str) {
        // A person's shell, say: what is done there from now on is not ours to clean away. Whoever
        // uses the slot next, after that, saves it first.
        if somebody_in(slot).is_some() {
            return;
        }
        // What is mounted there is not the slot's: it is looked at when the slot is used next.
        if !disk::mounted(tree.git()).is_empty() {
            return;
        }
        // Whoever was stopped leaves a clean slot all the same, but for a filter that hangs.
        let tree = &tree.patiently(wip::FILTERS);
        let cleaned = worktrees::abandon(tree)
            .and_then(|()| worktrees::reset(tree, base, false, &self.apart().all()));
        if let Err(e) = cleaned {
            tracing::warn!("{}", e.one_line());
        }
    }
}

/// Paths from the top of a worktree for paths of coord.toml, which count from the project.
pub fn paths(pool: &Pool, of: &[String]) -> Vec<String> {
    of.iter().map(|path| pool.repo.below.join(path).to_string_lossy().into_owned()).collect()
}

/// Paths in a worktree that are no attempt's work.
pub fn apart(site: &Site, pool: &Pool) -> Apart {
    let config = &site.config.worktree;
    let given = [&config.copy, &config.link].into_iter().flat_map(|of| paths(pool, of)).collect();
    Apart { given, caches: paths(pool, &config.keep) }
}

/// Who has the current directory in a slot, in words.
pub fn somebody_in(slot: &Slot) -> Option<String> {
    let (pid, name) = alive::inside(&slot.top).into_iter().next()?;
    Some(format!("process {pid} ({name}) is in it"))
}

/// The ref for what is in a slot and in no other.
fn wip_name(slot: &Slot) -> String {
    match &slot.record.assigned {
        Some(of) => wip_ref(&of.task, of.n),
        // Left by a person, or by somebody who died between saving and cleaning.
        None => format!("refs/coord/wip/slot-{}", slot.name),
    }
}

/// The lines by which commits of ours can be told: of which task, attempt and worker.
pub fn trailers(key: &Key, wid: &str) -> String {
    format!("Coord-Task: {}\nCoord-Attempt: {}\nCoord-Worker: {wid}\n", key.task, key.n)
}

/// Somebody took the slot over, because this process was declared dead.
pub fn lost(slot: &Slot) -> Error {
    Error::new(
        Exit::Conflict,
        format!("the worktree {} was taken over by another worker", slot.name),
    )
    .at(&slot.top)
}
