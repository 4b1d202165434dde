//! Building the commits of a change on top of another commit, in the object database alone: no
//! worktree, no index, no ref, no hook. Nothing refers to what is made here until [`super::fence`]
//! moves a branch to it; a crash leaves objects that git's own collection removes one day.
//!
//! Whatever `put` is given, the same comes out in every worktree of a repository: the attributes
//! are those of the commit that is built upon, not of the files that somebody has checked out.
//! (A git before 2.41 takes the latter.)

use crate::error::{Error, Exit, Result};

use super::Git;
use merging::{Merged, merge_trees};
use object::{Commit, Trailers};

mod merging;
mod object;
mod replay;
mod words;

#[cfg(test)]
mod tests;

/// How a change gets into the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// A commit with two parents: what is built upon, and the change.
    Merge,
    /// The change's commits one by one, with new parents.
    Rebase,
    /// One commit with everything.
    Squash,
}

/// What one attempt made of a task: the commits `base..commit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The task.
    pub id: String,
    /// The number of the attempt.
    pub n: u32,
    /// The task's title, one line.
    pub title: String,
    /// Where the attempt started.
    pub base: String,
    /// What it ended with.
    pub commit: String,
    /// Who made it.
    pub worker: String,
}

/// Somebody with a name and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// A commit on top of the given one.
    Made {
        /// It.
        commit: String,
        /// How it was made: `Merge` also where a rebase was asked for, and the change has merges,
        /// which cannot be replayed.
        kind: Strategy,
    },
    /// There is nothing to add: the commits are in already, or change no file.
    Nothing,
    /// Both sides changed the same.
    Conflict {
        /// The files, sorted; empty where it is not about files.
        paths: Vec<String>,
        /// What a person or an agent has to know, with the places in the files.
        text: String,
    },
}

/// Puts a change on top of the commit `onto`. The merge and the squashed commit are in the name of
/// the committer and of the change's last author; replayed commits keep their authors.
///
/// A replayed commit is left out when it has no effect, and not because an equal one is in the
/// history: that one may have been reverted since, and this one would be lost without a word.
///
/// # Errors
/// A commit that is not there; a git that is too old; git's own.
pub fn put(
    git: &Git,
    strategy: Strategy,
    onto: &str,
    change: &Change,
    committer: &Person,
) -> Result<Put> {
    let git = &git
        .env("GIT_COMMITTER_NAME", &committer.name)
        .env("GIT_COMMITTER_EMAIL", &committer.email);
    let onto = &existing(git, onto)?;
    let (base, tip) = (&existing(git, &change.base)?, &existing(git, &change.commit)?);
    let not = [format!("^{base}"), format!("^{onto}")];
    let args = ["rev-list", "--reverse", "--topo-order", "--parents", tip, &not[0], &not[1]];
    let list = git.must("list the commits of a change", &args)?.text();
    let new: Vec<Vec<&str>> = list.lines().map(|line| line.split(' ').collect()).collect();
    if new.is_empty() {
        return Ok(Put::Nothing);
    }
    if git.ask(&["merge-base", onto, tip])?.is_none() {
        return Ok(Put::Conflict { paths: Vec::new(), text: words::unrelated(change, onto) });
    }
    let has_merges = new.iter().any(|commit| commit.len() > 2);
    let site = Site { git, change, onto, base, tip };
    match strategy {
        Strategy::Rebase if !has_merges => replay::replay(&site, &new),
        Strategy::Squash => site.squash(&new),
        Strategy::Merge | Strategy::Rebase => site.merge(),
    }
}

/// The files that two commits would conflict in, sorted; none if they go together.
///
/// # Errors
/// Those of git, also for two histories without a common commit.
pub fn predict(git: &Git, a: &str, b: &str) -> Result<Vec<String>> {
    let (a, b) = (existing(git, a)?, existing(git, b)?);
    Ok(match merge_trees(git, None, &a, &b)? {
        Merged::Clean(_) => Vec::new(),
        Merged::Conflicted(conflicted) => conflicted.names(),
    })
}

/// The tree of a merge of two commits; with the markers of conflicts where there are any.
///
/// # Errors
/// Those of git, also for two histories without a common commit.
pub fn merged_tree(git: &Git, a: &str, b: &str) -> Result<String> {
    Ok(match merge_trees(git, None, a, b)? {
        Merged::Clean(tree) => tree,
        Merged::Conflicted(conflicted) => conflicted.tree,
    })
}

/// The files that are different in two commits, sorted; both names of one that was renamed.
///
/// # Errors
/// Those of git.
pub fn changed_paths(git: &Git, base: &str, commit: &str) -> Result<Vec<String>> {
    let (base, commit) = (existing(git, base)?, existing(git, commit)?);
    let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", &base, &commit];
    let mut paths = Git::names(&git.must("compare two commits", &args)?);
    paths.sort();
    Ok(paths)
}

fn existing(git: &Git, revision: &str) -> Result<String> {
    git.commit(revision)?.ok_or_else(|| {
        Error::new(Exit::NotFound, format!("there is no commit {revision} in this repository"))
            .at(git.dir())
            .hint("its branch may have been removed, and git has collected it since")
    })
}

/// A change and what it is put on, all by their full names.
struct Site<'a> {
    git: &'a Git<'a>,
    change: &'a Change,
    onto: &'a str,
    base: &'a str,
    tip: &'a str,
}

impl Site<'_> {
    fn trailers(&self) -> Trailers {
        let Change { id, n, worker, .. } = self.change;
        if *n == 0 {
            // No attempt of a task: what others have pushed.
            return Trailers::new(&[]);
        }
        Trailers::new(&[
            ("Coord-Task", id),
            ("Coord-Attempt", &n.to_string()),
            ("Coord-Worker", worker),
        ])
    }

    fn tree_of(&self, commit: &str) -> Result<String> {
        let args = ["rev-parse", "--verify", &format!("{commit}^{{tree}}")];
        Ok(self.git.must("read a commit", &args)?.text().trim().to_owned())
    }

    fn merge(&self) -> Result<Put> {
        let tree = match merge_trees(self.git, None, self.onto, self.tip)? {
            Merged::Clean(tree) => tree,
            Merged::Conflicted(found) => return words::conflict(self, self.onto, None, &found),
        };
        if tree == self.tree_of(self.onto)? {
            return Ok(Put::Nothing);
        }
        let title = object::one_line(&format!("Merge {}: {}", self.change.id, self.change.title));
        let committer = object::committer(self.git)?;
        let commit = Commit {
            tree,
            parents: vec![self.onto.to_owned(), self.tip.to_owned()],
            author: committer.clone(),
            committer,
            further: Vec::new(),
            message: self.trailers().added_to(format!("{title}\n").as_bytes()),
        };
        Ok(Put::Made { commit: commit.write(self.git)?, kind: Strategy::Merge })
    }

    fn squash(&self, new: &[Vec<&str>]) -> Result<Put> {
        // An attempt that started outside of what it is put on (on a change that was squashed
        // itself) is its own difference and no more. Any other has a common past with it that git
        // finds, and may have taken in a later part of it: seen from `base`, what was reverted
        // since would come back.
        let stacked = !self.git.is_ancestor(self.base, self.onto)?
            && self.git.is_ancestor(self.base, self.tip)?;
        let base = stacked.then_some(self.base);
        let tree = match merge_trees(self.git, base, self.onto, self.tip)? {
            Merged::Clean(tree) => tree,
            Merged::Conflicted(found) => return words::conflict(self, self.onto, None, &found),
        };
        if tree == self.tree_of(self.onto)? {
            return Ok(Put::Nothing);
        }
        if let [one] = new
            && let [old, _] = one[..]
        {
            // Nothing is squashed: what its author has written stays, with its trailers.
            let old = Commit::read(self.git, old)?;
            let commit = Commit {
                tree,
                parents: vec![self.onto.to_owned()],
                committer: object::committer(self.git)?,
                message: self.trailers().added_to(&old.message),
                ..old
            };
            return Ok(Put::Made { commit: commit.write(self.git)?, kind: Strategy::Squash });
        }
        let (base, onto) = (format!("^{}", self.base), format!("^{}", self.onto));
        let args = ["--no-merges", "--reverse", "--topo-order", "--format=%s", self.tip];
        let list = [&log_args()[..], &args, &[&base, &onto]].concat();
        let subjects = self.git.must("list the commits of a change", &list)?.text();
        let subjects: Vec<&str> = subjects.lines().collect();
        let args = ["-1", "--date=raw", "--format=%an <%ae> %ad", self.tip];
        let author = self.git.must("read a commit", &[&log_args()[..], &args].concat())?.stdout;
        let author = author.split(|&b| b == b'\n').next().unwrap_or_default().to_vec();
        let commit = Commit {
            tree,
            parents: vec![self.onto.to_owned()],
            author,
            committer: object::committer(self.git)?,
            further: Vec::new(),
            message: self.trailers().added_to(self.squashed_message(&subjects).as_bytes()),
        };
        Ok(Put::Made { commit: commit.write(self.git)?, kind: Strategy::Squash })
    }

    fn squashed_message(&self, subjects: &[&str]) -> String {
        let title = object::one_line(&format!("{}: {}", self.change.id, self.change.title));
        let mut message = format!("{title}\n");
        if subjects.len() > 1 {
            message.push('\n');
            for subject in subjects.iter().take(SUBJECTS_MAX) {
                message.push_str(&format!("- {subject}\n"));
            }
            if let Some(more @ 1..) = subjects.len().checked_sub(SUBJECTS_MAX) {
                message.push_str(&format!("- and {more} more\n"));
            }
        }
        message
    }
}

/// A merge commit on `onto` with the tree of `tip`, which was built on it: what is between them stands
/// beside the first parents.
pub fn wrap(git: &Git, onto: &str, tip: &str, title: &str, committer: &Person) -> Result<String> {
    let git = git.identity(&committer.name, &committer.email);
    let tree = git.resolve(&format!("{tip}^{{tree}}"))?.unwrap_or_default();
    let committer = object::committer(&git)?;
    let commit = Commit {
        tree,
        parents: vec![onto.to_owned(), tip.to_owned()],
        author: committer.clone(),
        committer,
        further: Vec::new(),
        message: format!("{}\n", object::one_line(title)).into_bytes(),
    };
    commit.write(&git)
}

/// Commits that the message of a squashed one lists.
const SUBJECTS_MAX: usize = 100;

/// Reads commits in UTF-8 whatever they were written in, and nothing but what is asked for.
fn log_args() -> [&'static str; 6] {
    ["log", "--no-show-signature", "--no-notes", "--no-color", "--no-decorate", "--encoding=UTF-8"]
}
