//! One turn of a merge lane: what is done and waits is put onto the target branch, in order, checked.
//!
//! Two things must agree: git, where the branch moves, and the registers, which say that a task is
//! merged or came back. Git decides, the register follows, and between the two any process may die:
//!
//! 1. `fence::begin_turn`: from here on an earlier turn, also one that was only stopped, can neither
//!    move the branch nor return anything;
//! 2. what earlier turns had moved or returned, and not told, is told (`journal`);
//! 3. the branch's tip is read, and then what may be merged: not what makes way for a running attempt
//!    (`queue::learned`); a candidate is built on the tip, without a worktree, and checked in one;
//! 4. the landing is noted in the turn's `n.out/landing.json`;
//! 5. `fence::land`, one transaction of git: **if the branch is still where it was, it moves**; if not,
//!    or an attempt has started meanwhile for which some of this makes way, back to 3;
//! 6. a worktree that has the branch checked out is brought along (`follow`);
//! 7. `n.merge` of each task says so. It comes last: until then the lane has something to do, so the
//!    next turn comes soon, and does what this one may have left out.
//!
//! A task that cannot be merged, or whose check is red, is returned the same way: noted, decided by
//! `fence::settle_bounce`, told by `n.merge`. A crash after any step leaves either nothing, or a note
//! and what git says about it; step 2 of the next turn tells the rest.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::config::MergeBy;
use crate::error::{Cannot, Error, Exit, Result};
use crate::git::candidate::{Person, Strategy};
use crate::git::fence::{self, Turn};
use crate::git::repository::ref_component;
use crate::git::{Git, connect};
use crate::queue::events::{self, Event};
use crate::queue::ids::{Key, lane_name, short};
use crate::queue::lane::{self, Entry};
use crate::queue::procs::Proc;
use crate::queue::record::{Stage, StageVerdict};
use crate::queue::tasks;
use crate::sys::child;
use crate::sys::tool::{Meanwhile, Waits};

use super::environment::identity;
use super::pool::{Pool, Slot};
use super::site::Site;
use super::vigil::Teller;

mod batch;
mod check;
mod follow;
mod journal;
mod moving;
pub mod preview;
mod target;

pub use follow::is_left_behind;
pub use target::{Aim, Target};

use batch::Part;
use check::Checked;
use moving::{Move, Wait};

/// What a turn came to: `n.out/turn.json`, from which the worker makes the turn's end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Tasks that were merged.
    pub merged: Vec<String>,
    /// Tasks that came back.
    pub returned: Vec<String>,
    /// Why something waits all the same: what a person has to know.
    pub waits: String,
    /// What a person has to do then.
    pub remedy: String,
}

impl Summary {
    /// In a few words.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        if !self.merged.is_empty() {
            words.push(format!("merged {}", self.merged.join(" ")));
        }
        if !self.returned.is_empty() {
            words.push(format!("returned {}", self.returned.join(" ")));
        }
        if !self.waits.is_empty() {
            let (why, remedy) = (self.waits.clone(), self.remedy.clone());
            words.push(Wait { why, remedy }.to_string());
        }
        if words.is_empty() { "nothing to merge".to_owned() } else { words.join("; ") }
    }
}

/// The file name of the summary.
pub const SUMMARY: &str = "turn.json";

/// How often a candidate is built again whose objects somebody removes.
const LOSSES_MAX: u32 = 5;

/// A turn that is being taken.
struct Merger<'a> {
    site: &'a Site,
    me: &'a mut Proc,
    /// The turn, as an attempt of its lane.
    key: Key,
    git: Git<'a>,
    /// What goes on while git or a check is at work.
    beat: &'a Meanwhile<'a>,
    pool: Pool,
    target: Target,
    turn: Turn,
    /// Where notes and logs of this turn go.
    out: PathBuf,
    slot: Option<Slot>,
    /// A commit that is known to pass the check.
    green: String,
    /// How many are tried together now.
    limit: usize,
    /// The number of the next check's log.
    checks: u32,
    /// How often objects of a candidate were missing.
    losses: u32,
    /// Only these, if any are named.
    only: Vec<String>,
    told: Summary,
}

/// What became of a batch.
enum Went {
    /// Something was decided.
    On,
    /// The branch moved, or the batch was made smaller: look again.
    Again,
    /// A person is needed.
    Stuck(Wait),
}

/// Takes turn `key` of a lane. The process was started for it by the worker that claimed the turn.
///
/// # Errors
/// What keeps everything from being merged: no repository, no such branch, git's own errors.
pub fn take_turn(site: &Site, me: &mut Proc, key: &Key) -> Result<Summary> {
    site.must_work()?;
    let Some(pool) = Pool::of(site) else {
        return Err(Error::new(Exit::Environment, "nothing can be merged without worktrees")
            .at(&site.root)
            .hint("[worktree] isolation in coord.toml, and a git repository"));
    };
    let out = site.queue.layout.out(key);
    let told = child::note_signal(nix::libc::SIGTERM).cannot("hear signals", &out)?;
    let teller = Teller::new(&site.queue, &out);
    let beat = |waits: &Waits<'_>| {
        teller.tell(waits);
        !told.load(Ordering::Relaxed)
    };
    // What hooks leave behind is ended by the worker in any case, and sooner where it comes back here.
    drop(child::become_subreaper());
    let git = site.git_here(&pool.repo, &beat);
    let lane = lane_name(&key.task).unwrap_or_default().to_owned();
    let (target, gone) = match Target::of(site, &git, &key.task)? {
        Ok(target) => (target, None),
        Err(e) => (Target::default(), Some(Wait::from(e))),
    };
    // Unique for ever: the turn's number, its process, and the queue.
    let words = format!("{key} by {} of {}", me.wid, site.queue.layout.root().display());
    let turn = fence::begin_turn(&git, &lane, &words)?;
    let only = std::env::var("COORD_MERGE_ONLY").unwrap_or_default();
    let limit = site.config.merge.batch.max(1) as usize;
    let mut merger = Merger {
        site,
        me,
        key: key.clone(),
        out,
        beat: &beat,
        git,
        pool,
        target,
        turn,
        slot: None,
        green: String::new(),
        limit,
        checks: 0,
        losses: 0,
        only: only.split_whitespace().map(str::to_owned).collect(),
        told: Summary::default(),
    };
    let went = match gone {
        None => merger.run(),
        // Nothing can be merged. What was cancelled can be given back all the same.
        Some(wait) => merger.settle_past().map(|_| Some(wait)),
    };
    if let Some(slot) = merger.slot.take()
        && let Err(e) = merger.pool.free(slot, "")
    {
        // Free all the same when this process is gone.
        tracing::warn!("{}", e.one_line());
    }
    if let Some(wait) = went? {
        // The turn's end says it, and from there NEEDS YOU, as long as it is so.
        println(&wait.to_string());
        (merger.told.waits, merger.told.remedy) = (wait.why, wait.remedy);
    }
    Ok(merger.told)
}

impl Merger<'_> {
    /// Merges until nothing is left. `Some`: what a person has to do first.
    fn run(&mut self) -> Result<Option<Wait>> {
        if let Some(wait) = self.settle_past()? {
            return Ok(Some(wait));
        }
        let name = self.target.name.clone();
        if let Some(wait) = self.in_use(&name)? {
            return Ok(Some(wait));
        }
        self.catch_up()?;
        loop {
            if self.is_over() || lane::is_paused(&self.site.queue) {
                return Ok(None);
            }
            if let Some(wait) = self.follow_remote()? {
                return Ok(Some(wait));
            }
            let tip = match self.target.tip(&self.git)? {
                Ok(tip) => tip,
                Err(e) => return Ok(Some(e.into())),
            };
            // Before the look who makes way for whom.
            fence::watch_starts(&self.git, &mut self.turn)?;
            self.return_cancelled()?;
            let mut waiting = lane::entries(&self.site.queue, &self.key.task)?;
            waiting.retain(|e| e.is_free() && !e.cancelled);
            waiting.retain(|e| self.only.is_empty() || self.only.contains(&e.key.task));
            if waiting.is_empty() {
                return Ok(None);
            }
            let went = match self.decided_before(&waiting)? {
                true => Went::On,
                false => self.try_batch(&tip, &waiting)?,
            };
            match went {
                Went::On | Went::Again => {}
                Went::Stuck(wait) => return Ok(Some(wait)),
            }
        }
    }

    /// Tells what earlier turns had decided, and gives back what was cancelled while it waited. In this
    /// order: what is on the branch is not given back.
    fn settle_past(&mut self) -> Result<Option<Wait>> {
        if let Some(wait) = journal::serve(self)? {
            return Ok(Some(wait));
        }
        self.return_cancelled().map(|()| None)
    }

    /// Sends back what a person has cancelled. The next attempt is permitted, and whoever settles the task
    /// ends it as cancelled (`n.cancel`).
    fn return_cancelled(&mut self) -> Result<()> {
        for entry in lane::entries(&self.site.queue, &self.key.task)? {
            if entry.cancelled && !self.decided_before(std::slice::from_ref(&entry))? {
                let why = "cancelled while it waited to be merged";
                let stage = Stage { retry: true, ..Stage::new(StageVerdict::Bounce, why) };
                self.return_as(&entry.key, stage)?;
            }
        }
        Ok(())
    }

    /// Whether this turn was ended by somebody else: then nothing of it counts any more.
    fn is_over(&self) -> bool {
        let end = self.site.queue.layout.task(&self.key.task).join(format!("{}.end", self.key.n));
        self.site.queue.fs.exists(&end)
    }

    /// Tells of what an earlier turn had returned in git and not in the register.
    fn decided_before(&mut self, waiting: &[Entry]) -> Result<bool> {
        let mut any = false;
        for entry in waiting {
            if fence::is_returned(&self.git, &ref_key(&entry.key))? {
                let mut stage = journal::returned(self, &entry.key)?;
                if stage.scope.is_empty() {
                    // The note is lost.
                    stage.scope = self.learned(entry)?;
                }
                self.tell_returned(&entry.key, stage)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// One candidate: built, checked, landed.
    fn try_batch(&mut self, tip: &str, waiting: &[Entry]) -> Result<Went> {
        let few = &waiting[..waiting.len().min(self.limit)];
        let built = self.build(tip, few)?;
        let mut decided = false;
        for (entry, why) in built.empty {
            let stage = Stage { commit: tip.to_owned(), ..Stage::new(StageVerdict::Pass, &why) };
            lane::decide(&self.site.queue, self.me, &entry, stage)?;
            self.told.merged.push(entry.task.clone());
            decided = true;
        }
        for (entry, why, context) in built.bad {
            self.return_task(&entry, &why, context)?;
            decided = true;
        }
        if built.parts.is_empty() {
            let stuck = "what waits to be merged cannot be put in any order";
            return Ok(if decided {
                Went::On
            } else {
                Went::Stuck(Wait::until_mended(stuck.to_owned()))
            });
        }
        if let Some(said) = self.hold(&built.tip, tip)? {
            self.losses += 1;
            return match self.losses {
                ..=LOSSES_MAX => Ok(Went::Again),
                _ => Err(connect::broken(&self.git, &said)),
            };
        }
        match self.check(&built.tip)? {
            Checked::Green => self.land(tip, &built.tip, &built.parts),
            Checked::Red(text) => self.red(tip, waiting, &built.parts, text),
        }
    }

    /// Gives a candidate a name, so that nobody's collection of garbage takes it while it is checked, and
    /// looks whether all of it is there. `Some`: it is not.
    fn hold(&self, candidate: &str, tip: &str) -> Result<Option<String>> {
        let name = fence::candidate_ref(&self.turn.lane)?;
        let output = self.git.again(&["update-ref", &name, candidate])?;
        if !output.ok() {
            return Err(self.git.failed("name what is to be merged", &output));
        }
        connect::missing(&self.git, candidate, tip)
    }

    /// A red batch is halved; a red task comes back, if the branch itself is green.
    fn red(&mut self, tip: &str, waiting: &[Entry], parts: &[Part], text: String) -> Result<Went> {
        if parts.len() > 1 {
            self.limit = (parts.len() / 2).max(1);
            return Ok(Went::Again);
        }
        if self.green != tip {
            match self.check(tip)? {
                Checked::Green => tip.clone_into(&mut self.green),
                Checked::Red(_) => {
                    let branch = &self.target.branch;
                    return Ok(Went::Stuck(Wait::until_mended(format!(
                        "{branch} itself fails the check at {}: nothing is merged until that is mended",
                        &tip[..tip.len().min(10)]
                    ))));
                }
            }
        }
        let Some(part) = parts.first() else { return Ok(Went::Again) };
        let entry = waiting.iter().find(|e| e.key == part.key).cloned();
        let Some(entry) = entry else { return Ok(Went::Again) };
        let why =
            format!("the check fails on {}: {}", self.target.branch, self.site.config.merge.check);
        self.return_task(&entry, &why, text)?;
        Ok(Went::On)
    }

    fn land(&mut self, old: &str, new: &str, parts: &[Part]) -> Result<Went> {
        journal::note_landing(self, old, new, parts)?;
        let keys: Vec<String> = parts.iter().map(|part| ref_key(&part.key)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        loop {
            match self.advance(old, new, &keys)? {
                Move::Done => break,
                // What was checked is as good as before, if none of it makes way for whoever has started.
                Move::Started => {
                    fence::watch_starts(&self.git, &mut self.turn)?;
                    for part in parts {
                        if lane::entry(&self.site.queue, &part.key)?.is_none_or(|e| !e.is_free()) {
                            return Ok(Went::Again);
                        }
                    }
                }
                Move::Again => return Ok(Went::Again),
                Move::Waits(wait) => return Ok(Went::Stuck(wait)),
            }
        }
        new.clone_into(&mut self.green);
        self.bring_along(old, new)?;
        let branch = self.target.branch.clone();
        for part in parts {
            self.tell_merged(part, &branch)?;
        }
        self.limit = (self.limit * 2).min(self.site.config.merge.batch.max(1) as usize);
        match self.push(new)? {
            None => Ok(Went::On),
            Some(wait) => Ok(Went::Stuck(wait)),
        }
    }

    fn tell_merged(&mut self, part: &Part, branch: &str) -> Result<()> {
        let why = format!("merged into {branch}");
        let stage = Stage { commit: part.commit.clone(), ..Stage::new(StageVerdict::Pass, &why) };
        lane::decide(&self.site.queue, self.me, &part.key, stage)?;
        self.told.merged.push(part.key.task.clone());
        println(&format!("{} merged as {}", part.key, part.commit));
        Ok(())
    }

    /// Sends an attempt back to its task.
    fn return_task(&mut self, entry: &Entry, why: &str, context: String) -> Result<()> {
        let retry = entry.bounces < self.site.config.merge.max_bounces;
        let scope = self.learned(entry)?;
        let stage = Stage { retry, context, scope, ..Stage::new(StageVerdict::Bounce, why) };
        self.return_as(&entry.key, stage)
    }

    fn return_as(&mut self, key: &Key, stage: Stage) -> Result<()> {
        journal::note_return(self, key, &stage)?;
        if !fence::settle_bounce(&self.git, &self.turn, &ref_key(key))? {
            return Err(fenced(&self.key));
        }
        self.tell_returned(key, stage)
    }

    fn tell_returned(&mut self, key: &Key, stage: Stage) -> Result<()> {
        println(&format!("{key} returned: {}", stage.why));
        lane::decide(&self.site.queue, self.me, key, stage)?;
        fence::forget_returned(&self.git, &ref_key(key))?;
        self.told.returned.push(key.task.clone());
        Ok(())
    }

    fn notice(&mut self, text: &str) {
        println(text);
        let event = Event { k: "notice".to_owned(), ..Event::default() };
        events::append(&self.site.queue, self.me, event.why(text));
    }

    /// Whether the turn before this one had to wait for a person.
    fn waited_before(&self) -> Result<bool> {
        let Some(before) = self.key.n.checked_sub(1).filter(|n| *n > 0) else { return Ok(false) };
        let Some(lane) = tasks::look(&self.site.queue, &self.key.task)? else { return Ok(false) };
        let end = tasks::end_of(&self.site.queue, &lane, before)?;
        Ok(end.more.get(lane::PERSON).is_some_and(|person| person == true))
    }

    fn committer(&self) -> Person {
        let (name, email) = identity(self.site, short(&self.me.wid));
        Person { name, email }
    }

    fn strategy(&self) -> Strategy {
        match self.site.config.merge.strategy {
            MergeBy::Merge => Strategy::Merge,
            MergeBy::Rebase => Strategy::Rebase,
            MergeBy::Squash => Strategy::Squash,
        }
    }
}

/// The part of a ref's name that an attempt is.
fn ref_key(key: &Key) -> String {
    format!("{}.{}", ref_component(&key.task), key.n)
}

fn fenced(key: &Key) -> Error {
    Error::new(Exit::Conflict, format!("{key} was taken over by another turn"))
}

/// A line of the turn's log.
fn println(text: &str) {
    use std::io::Write;
    // The log is for people; that it cannot be written keeps nothing from being merged.
    let _ = writeln!(std::io::stdout(), "{text}");
}
