//! What follows a landing: a worktree that has the branch checked out, and the remote.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};
use crate::git::candidate::{self, Put, Strategy};
use crate::git::checkout::{Along, bring_along, checked_out_at};
use crate::git::remote::{self, Pushed};
use crate::queue::events::{self, Event};
use crate::queue::{Queue, record};
use crate::sys::fs::is_absent;

use super::check::Checked;
use super::moving::{Move, Wait};
use super::{Merger, journal};

/// Paths that a notice names.
const NAMED: usize = 5;

/// What notices of a push that was refused are about.
const PUSH: &str = "push";

/// `merge/LANE/behind.json`: worktrees that could not be brought along.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Behind {
    v: u32,
    /// The commit that the index of a worktree may still stand at, of which nothing else is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    at: String,
    /// The same of those that were left behind, by their paths.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    worktrees: BTreeMap<String, String>,
}

fn behind_of(queue: &Queue, lane: &str) -> PathBuf {
    queue.layout.task(lane).join("behind.json")
}

/// Whether a lane knows of a worktree that could not be brought along.
pub fn is_left_behind(queue: &Queue, lane: &str) -> bool {
    queue.fs.exists(&behind_of(queue, lane))
}

impl Merger<'_> {
    fn behind(&self) -> PathBuf {
        behind_of(&self.site.queue, &self.key.task)
    }

    /// Where the index of worktrees still stands that could not be brought along. A commit that is no
    /// longer there (the branch was forced elsewhere) is nothing to start from.
    fn left_at(&self) -> Result<Behind> {
        let path = self.behind();
        let bytes = match self.site.queue.fs.read(&path, 0, record::RECORD_MAX) {
            Ok(bytes) => bytes,
            Err(e) if is_absent(&e) => return Ok(Behind::default()),
            Err(e) => return Err(e).cannot("read where a worktree stands", &path),
        };
        let Ok(read) = record::parse::<Behind>(&bytes) else { return Ok(Behind::default()) };
        let mut left = Behind { v: 1, ..Behind::default() };
        left.at = self.git.commit(&read.at)?.unwrap_or_default();
        for (worktree, at) in read.worktrees {
            if let Some(at) = self.git.commit(&at)? {
                left.worktrees.insert(worktree, at);
            }
        }
        Ok(left)
    }

    /// Notes that any worktree may still stand at this commit, but those that are known to be further
    /// behind.
    pub(super) fn is_behind(&self, at: &str) -> Result<()> {
        let mut behind = self.left_at()?;
        if !behind.at.is_empty() {
            return Ok(());
        }
        (behind.v, behind.at) = (1, at.to_owned());
        self.site.queue.replace(&self.behind(), &record::to_bytes(&behind))
    }

    /// A worktree that was left behind may be clean by now.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        if self.left_at()? == Behind::default() {
            return Ok(());
        }
        match self.target.tip(&self.git)? {
            // Of a worktree of which nothing is known: it stands where the branch is.
            Ok(tip) => self.bring_along(&tip, &tip),
            Err(_) => Ok(()),
        }
    }

    /// Brings each worktree along that has the branch checked out. What is not committed there stays
    /// as it is; then that worktree is left behind, with a word.
    pub(super) fn bring_along(&mut self, from: &str, to: &str) -> Result<()> {
        let known = self.left_at()?;
        let mut left = Behind { v: 1, ..Behind::default() };
        for worktree in checked_out_at(&self.git, &self.target.name)? {
            let worktree = self.pool.repo.as_seen(worktree);
            let path = worktree.to_string_lossy().into_owned();
            let at = known.worktrees.get(&path).unwrap_or(&known.at);
            let from = if at.is_empty() { from } else { at };
            if from == to {
                // It was not left behind, or has come along by itself.
                continue;
            }
            if !self.site.queue.fs.exists(&worktree) {
                // Somewhere that is not mounted now.
                left.worktrees.insert(path, from.to_owned());
                continue;
            }
            let along = bring_along(&self.git, &worktree, &self.target.name, from, to);
            let (why, remedy) = match along {
                Ok(Along::Done | Along::NotThere) => continue,
                Ok(Along::Dirty(paths)) => {
                    let named: Vec<&str> = paths.iter().take(NAMED).map(String::as_str).collect();
                    let why = format!("its own changes are in the way: {}", named.join(", "));
                    (why, "take those changes away")
                }
                Ok(Along::Busy(why)) => (why, "end that"),
                // Somebody's worktree must not keep everything else from being merged.
                Err(e) => (e.one_line(), "mend that"),
            };
            let (branch, place) = (&self.target.branch, worktree.display());
            let text = format!(
                "{branch} has moved on, {place} was left behind ({why}): \
                 {remedy}, and the next merge, or `coord merge`, brings it along; do not commit what `git status` shows as undone"
            );
            left.worktrees.insert(path, from.to_owned());
            self.notice(&text);
        }
        if left.worktrees.is_empty() {
            return self.site.queue.discard(&self.behind());
        }
        self.site.queue.replace(&self.behind(), &record::to_bytes(&left))
    }

    /// Takes in what others have pushed to the remote. `Some`: what has to be done before anything can be merged.
    pub(super) fn follow_remote(&mut self) -> Result<Option<Wait>> {
        let remote = self.site.config.merge.push.clone();
        if remote.is_empty() {
            return Ok(None);
        }
        let Some(theirs) = remote::fetch(&self.git, &remote, &self.target.branch)? else {
            return Ok(None);
        };
        let ours = match self.target.tip(&self.git)? {
            Ok(ours) => ours,
            Err(e) => return Ok(Some(e.into())),
        };
        if self.git.is_ancestor(&theirs, &ours)? {
            return match self.git.is_ancestor(&ours, &theirs)? {
                true => Ok(None),
                // Merged here and never pushed: a turn died in between.
                false => self.push(&ours),
            };
        }
        if self.git.is_ancestor(&ours, &theirs)? {
            return match self.move_to(&theirs, &ours)? {
                Move::Done => Ok(None),
                Move::Again | Move::Started => self.follow_remote(),
                Move::Waits(wait) => Ok(Some(wait)),
            };
        }
        self.join(&ours, &theirs)
    }

    /// Moves the branch to what was pushed, fenced as a landing is.
    fn move_to(&mut self, new: &str, old: &str) -> Result<Move> {
        journal::note_landing(self, old, new, &[])?;
        let moved = self.advance(old, new, &[])?;
        if matches!(moved, Move::Done) {
            self.bring_along(old, new)?;
            journal::note_told(self)?;
        }
        Ok(moved)
    }

    /// Both sides have what the other has not: one merge commit, checked, has both.
    fn join(&mut self, ours: &str, theirs: &str) -> Result<Option<Wait>> {
        let remote = self.site.config.merge.push.clone();
        let branch = self.target.branch.clone();
        // Unrelated histories are a conflict of their own.
        let past = self.git.ask(&["merge-base", ours, theirs])?.unwrap_or_else(|| ours.to_owned());
        let change = candidate::Change {
            id: format!("{remote}/{branch}"),
            n: 0,
            title: "what was pushed meanwhile".to_owned(),
            base: past,
            commit: theirs.to_owned(),
            worker: String::new(),
        };
        let put = candidate::put(&self.git, Strategy::Merge, ours, &change, &self.committer())?;
        let joined = match put {
            Put::Made { commit, .. } => commit,
            Put::Nothing => candidate::wrap(
                &self.git,
                ours,
                theirs,
                &format!("Merge {remote}/{branch}"),
                &self.committer(),
            )?,
            Put::Conflict { paths, .. } => {
                let paths = paths.join(", ");
                let why = format!(
                    "{branch} here and {remote}/{branch} have both moved and conflict in {paths}: \
                     merge them by hand, then push"
                );
                return Ok(Some(Wait::until_mended(why)));
            }
        };
        if let Checked::Red(_) = self.check(&joined)? {
            let why = format!("{branch} together with what was pushed to {remote} fails the check");
            return Ok(Some(Wait::until_mended(why)));
        }
        match self.move_to(&joined, ours)? {
            Move::Done => {}
            Move::Again | Move::Started => return self.follow_remote(),
            Move::Waits(wait) => return Ok(Some(wait)),
        }
        joined.clone_into(&mut self.green);
        self.push(&joined)
    }

    /// Pushes what was merged, forwards only. `Some`: what has to be done before it can be.
    pub(super) fn push(&mut self, commit: &str) -> Result<Option<Wait>> {
        let remote = self.site.config.merge.push.clone();
        if remote.is_empty() {
            return Ok(None);
        }
        match remote::push(&self.git, &remote, commit, &self.target.branch)? {
            Pushed::Done => {
                // What an earlier turn said of it has passed.
                if self.waited_before()? {
                    events::append(&self.site.queue, self.me, Event::notice(PUSH, ""));
                }
                Ok(None)
            }
            // Somebody else was faster: their commits first, then ours once more.
            Pushed::Behind => self.follow_remote(),
            Pushed::Refused(why) => {
                let why = format!("{remote} does not take what was merged: {why}");
                // Nothing may wait in the lane any more, and then NEEDS YOU does not speak of it.
                events::append(&self.site.queue, self.me, Event::notice(PUSH, &why));
                Ok(Some(Wait::until_mended(why)))
            }
        }
    }
}
