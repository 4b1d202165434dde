//! What follows a landing: a worktree that has the branch checked out, and the remote.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};
use crate::git::candidate::{self, Put, Strategy};
use crate::git::checkout::{Along, bring_along, checked_out_at};
use crate::git::fence::{self, Landed};
use crate::git::remote::{self, Pushed};
use crate::queue::{Queue, record};
use crate::sys::fs::{is_absent, is_same};

use super::check::Checked;
use super::{Merger, fenced, journal};

/// Paths that a notice names.
const NAMED: usize = 5;

/// `merge/LANE/behind.json`: a worktree could not be brought along.
#[derive(Debug, Serialize, Deserialize)]
struct Behind {
    v: u32,
    /// The commit that its index still stands at.
    at: String,
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

    /// Where the index of a worktree still stands that could not be brought along. A commit that is no
    /// longer there (the branch was forced elsewhere) is nothing to start from.
    fn left_at(&self) -> Result<Option<String>> {
        let path = self.behind();
        let bytes = match self.site.queue.fs.read(&path, 0, record::RECORD_MAX) {
            Ok(bytes) => bytes,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(e).cannot("read where a worktree stands", &path),
        };
        match record::parse::<Behind>(&bytes) {
            Ok(behind) => self.git.commit(&behind.at),
            Err(_) => Ok(None),
        }
    }

    /// Notes that a worktree may still stand at this commit, if none is known to be further behind.
    pub(super) fn is_behind(&self, at: &str) -> Result<()> {
        if self.left_at()?.is_some() {
            return Ok(());
        }
        let behind = Behind { v: 1, at: at.to_owned() };
        self.site.queue.replace(&self.behind(), &record::to_bytes(&behind))
    }

    /// A worktree that was left behind may be clean by now.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        match self.left_at()? {
            None => Ok(()),
            Some(at) => {
                let tip = self.target.tip(&self.git)?;
                self.bring_along(&at, &tip)
            }
        }
    }

    /// Brings the worktree along that has the branch checked out. What is not committed there stays as
    /// it is; then the worktree is left behind, with a word.
    pub(super) fn bring_along(&mut self, from: &str, to: &str) -> Result<()> {
        let Some(worktree) = checked_out_at(&self.git, &self.target.name)? else { return Ok(()) };
        // Where a repository does not lie in `.git` of its main worktree, git lists the repository.
        let is_main = is_same(&worktree, &self.pool.repo.common);
        let main = self.pool.repo.top.clone().filter(|_| is_main);
        let worktree = main.unwrap_or(worktree);
        let from = self.left_at()?.unwrap_or_else(|| from.to_owned());
        let along = bring_along(&self.git, &worktree, &self.target.name, &from, to);
        let (why, remedy) = match along {
            Ok(Along::Done | Along::NotThere) => return self.site.queue.discard(&self.behind()),
            Ok(Along::Dirty(paths)) => {
                let named: Vec<&str> = paths.iter().take(NAMED).map(String::as_str).collect();
                let why = format!("its own changes are in the way: {}", named.join(", "));
                (why, "take those changes away")
            }
            Ok(Along::Busy(why)) => (why, "end that"),
            // Somebody's worktree must not keep everything else from being merged.
            Err(e) => (e.one_line(), "mend that"),
        };
        self.site.queue.replace(&self.behind(), &record::to_bytes(&Behind { v: 1, at: from }))?;
        let (branch, place) = (&self.target.branch, worktree.display());
        let text = format!(
            "{branch} has moved on, {place} was left behind ({why}): \
             {remedy}, and the next merge, or `coord merge`, brings it along; do not commit what `git status` shows as undone"
        );
        self.notice(&text);
        Ok(())
    }

    /// Takes in what others have pushed to the remote. `Some`: why nothing can be merged.
    pub(super) fn follow_remote(&mut self) -> Result<Option<String>> {
        let remote = self.site.config.merge.push.clone();
        if remote.is_empty() {
            return Ok(None);
        }
        let Some(theirs) = remote::fetch(&self.git, &remote, &self.target.branch)? else {
            return Ok(None);
        };
        let ours = self.target.tip(&self.git)?;
        if self.git.is_ancestor(&theirs, &ours)? {
            return match self.git.is_ancestor(&ours, &theirs)? {
                true => Ok(None),
                // Merged here and never pushed: a turn died in between.
                false => self.push(&ours),
            };
        }
        if self.git.is_ancestor(&ours, &theirs)? {
            return match self.move_to(&theirs, &ours)? {
                true => Ok(None),
                false => self.follow_remote(),
            };
        }
        self.join(&ours, &theirs)
    }

    /// Moves the branch, fenced as a landing is. False: it has moved meanwhile.
    fn move_to(&mut self, new: &str, old: &str) -> Result<bool> {
        journal::note_landing(self, old, new, &[])?;
        match fence::land(&self.git, &self.turn, &self.target.name, new, old, &[])? {
            Landed::Moved => {
                self.bring_along(old, new)?;
                journal::note_told(self).map(|()| true)
            }
            Landed::Fenced => Err(fenced(&self.key)),
            _ => Ok(false),
        }
    }

    /// Both sides have what the other has not: one merge commit, checked, has both.
    fn join(&mut self, ours: &str, theirs: &str) -> Result<Option<String>> {
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
                return Ok(Some(format!(
                    "{branch} here and {remote}/{branch} have both moved and conflict in {paths}: \
                     merge them by hand, then push"
                )));
            }
        };
        if let Checked::Red(_) = self.check(&joined)? {
            return Ok(Some(format!(
                "{branch} together with what was pushed to {remote} fails the check"
            )));
        }
        if !self.move_to(&joined, ours)? {
            return self.follow_remote();
        }
        joined.clone_into(&mut self.green);
        self.push(&joined)
    }

    /// Pushes what was merged, forwards only. `Some`: why it could not.
    pub(super) fn push(&mut self, commit: &str) -> Result<Option<String>> {
        let remote = self.site.config.merge.push.clone();
        if remote.is_empty() {
            return Ok(None);
        }
        match remote::push(&self.git, &remote, commit, &self.target.branch)? {
            Pushed::Done => Ok(None),
            // Somebody else was faster: their commits first, then ours once more.
            Pushed::Behind => self.follow_remote(),
            Pushed::Refused(why) => {
                Ok(Some(format!("{remote} does not take what was merged: {why}")))
            }
        }
    }
}
