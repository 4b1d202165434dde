//! A worktree that git itself has confirmed: whoever saves, resets, cleans or removes anything in one
//! has to have it, and gets it only by asking.
//!
//! Which directory git works in is git's decision, made anew by every command from the directory that
//! it starts in, from `.git` there, and from settings; and git takes `core.worktree` at its word,
//! whatever lies there. So git is asked first, as the command of an attempt would ask it: at the top of
//! the worktree, with no variable that says where to work (with `GIT_WORK_TREE` it only repeats that).
//! Its answer must be the directory that is meant, by device and inode and not by its name:
//!
//! | asked | must be |
//! |---|---|
//! | `--show-toplevel` | the directory itself |
//! | `--git-common-dir` | the repository's; of a clone its own `.git` |
//! | `--absolute-git-dir` | the entry of `worktrees/` whose `gitdir` names this directory; of a clone its own `.git` |
//! | `git worktree list` | has the directory |
//!
//! Only then, and in every call from then on, git is told in so many words (`GIT_DIR`, `GIT_WORK_TREE`):
//! a hook or a filter that changes settings meanwhile leads it nowhere. Commands of attempts never get
//! these variables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Exit, Result};
use crate::sys::fs::{Fs, Kind, RealFs, is_same, name_of};
use crate::sys::tool::Meanwhile;

use super::Git;
use super::misled::{self, Misled};
use super::worktrees::list;

/// What a directory is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meant<'p> {
    /// A linked worktree of the repository at this common directory, made under this very name.
    Linked(&'p Path),
    /// A clone that needs nothing from elsewhere.
    Clone,
    /// Some worktree of the repository at this common directory: a person's.
    Any(&'p Path),
}

/// What git says.
pub enum Answer<'a> {
    /// It is the worktree that is meant.
    Is(Worktree<'a>),
    /// Something else is there, or nothing: why it is not the worktree.
    Not(String),
    /// It is, but git works elsewhere.
    Misled(Misled),
}

impl<'a> Answer<'a> {
    /// The worktree, or an error that says why there is none.
    ///
    /// # Errors
    /// Always where it is not confirmed.
    pub fn must(self, top: &Path) -> Result<Worktree<'a>> {
        match self {
            Answer::Is(tree) => Ok(tree),
            Answer::Not(why) => {
                Err(Error::new(Exit::Environment, why).at(top).hint("coord worktree ls"))
            }
            Answer::Misled(misled) => Err(misled.error(top)),
        }
    }
}

/// The proof.
#[derive(Clone)]
pub struct Worktree<'a> {
    git: Git<'a>,
    own: PathBuf,
}

impl<'a> Worktree<'a> {
    /// git there, which is told so with every call.
    pub fn git(&self) -> &Git<'a> {
        &self.git
    }

    /// The top of it.
    pub fn top(&self) -> &Path {
        self.git.dir()
    }

    /// Its own part of the repository: where its HEAD and its index are.
    pub fn own(&self) -> &Path {
        &self.own
    }

    /// The same, committing as this person.
    #[must_use]
    pub fn identity(&self, name: &str, email: &str) -> Worktree<'a> {
        self.changed(|git| git.identity(name, email))
    }

    /// The same with a further variable in git's environment.
    #[must_use]
    pub fn env(&self, name: &str, value: impl Into<std::ffi::OsString>) -> Worktree<'a> {
        self.changed(|git| git.env(name, value))
    }

    /// The same with a setting for git's commands alone, `name=value`.
    #[must_use]
    pub fn with(&self, setting: &str) -> Worktree<'a> {
        self.changed(|git| git.with(setting))
    }

    /// The same, whose commands may take so long, whatever else ends them.
    #[must_use]
    pub fn patiently(&self, limit: Duration) -> Worktree<'a> {
        self.changed(|git| git.steadfast().limited(limit))
    }

    /// The same for what must not be given up.
    #[must_use]
    pub fn steadfast(&self) -> Worktree<'a> {
        self.changed(Git::steadfast)
    }

    /// The same for what ends when nobody waits for it any more.
    #[must_use]
    pub fn heedful(&self) -> Worktree<'a> {
        self.changed(Git::heedful)
    }

    /// The same, with somebody else to say whether anybody still waits.
    #[must_use]
    pub fn minding(&self, meanwhile: &'a Meanwhile<'a>) -> Worktree<'a> {
        self.changed(|git| git.minding(meanwhile))
    }

    /// git there as a person has it: it finds the worktree by itself, and hooks get what it gives them.
    pub fn by_hand(&self) -> Git<'a> {
        self.git.at(self.top())
    }

    fn changed(&self, change: impl FnOnce(&Git<'a>) -> Git<'a>) -> Worktree<'a> {
        Worktree { git: change(&self.git), own: self.own.clone() }
    }
}

/// Asks git whether the directory `top` is the worktree that is meant. Nothing is changed. `git` may
/// run anywhere; what else it was given, such as an identity, the confirmed worktree has too.
///
/// # Errors
/// git cannot be started.
pub fn ask<'a>(git: &Git<'a>, top: &Path, meant: Meant<'_>) -> Result<Answer<'a>> {
    let no = |why: &str| Ok(Answer::Not(format!("{} {why}", top.display())));
    match RealFs.stat(top) {
        Ok(stat) if stat.kind == Kind::Dir => {}
        // Two slots could be one directory then; of a person's worktree that is the person's business.
        Ok(_) if !matches!(meant, Meant::Any(_)) => {
            return no("is a symbolic link or a file, and no worktree that was made here");
        }
        Ok(_) => {}
        Err(_) => return no("is not there"),
    }
    if !RealFs.exists(&top.join(".git")) {
        return no("is no worktree of this repository: it has no .git");
    }
    // What lies around a worktree that has lost its repository is nothing to take instead.
    let around = top.parent().unwrap_or(top);
    let asker = git.at(top).env("GIT_CEILING_DIRECTORIES", around.as_os_str());
    let args = [
        "rev-parse",
        "--path-format=absolute",
        "--git-common-dir",
        "--absolute-git-dir",
        "--is-inside-work-tree",
        // The last one: where there is no worktree, git stops here.
        "--show-toplevel",
    ];
    let output = asker.run(&args)?;
    let text = output.text();
    let mut lines = text.lines();
    let (Some(common), Some(own)) =
        (lines.next().map(PathBuf::from), lines.next().map(PathBuf::from))
    else {
        let said = output.stderr.trim().trim_start_matches("fatal: ");
        return no(&format!("is no worktree of this repository: git says: {said}"));
    };
    let repository = match meant {
        Meant::Linked(common) | Meant::Any(common) => common.to_owned(),
        Meant::Clone => top.join(".git"),
    };
    if !is_same(&common, &repository) {
        return no(&format!("is no worktree of this repository, but of {}", common.display()));
    }
    let is_main = is_same(&common, &own);
    if is_main == matches!(meant, Meant::Linked(_)) && !matches!(meant, Meant::Any(_)) {
        return no(&format!("has no part of its own in the repository, but {}", own.display()));
    }
    if !is_main && !names(&own, top, matches!(meant, Meant::Any(_))) {
        return no(&format!("is not the worktree that {} belongs to", own.display()));
    }
    let inside = lines.next() == Some("true");
    let there = lines.next().map(PathBuf::from);
    if !inside || !there.as_deref().is_some_and(|there| is_same(there, top)) {
        let is_clone = meant == Meant::Clone;
        let why = misled::explain(git, top, (&common, &own), there.as_deref(), is_clone)?;
        return Ok(Answer::Misled(why));
    }
    if !is_main
        && !list(&Git::shared(&common, git.meanwhile))?.iter().any(|w| is_same(&w.path, top))
    {
        return no("is not in git's list of worktrees (git worktree list)");
    }
    Ok(Answer::Is(Worktree { git: git.naming(&own, top), own }))
}

/// Whether a worktree's own part of the repository belongs to this directory. Copies of a worktree have
/// a `.git` that leads to the part of the first: whoever resets one moves the HEAD of the other.
fn names(own: &Path, top: &Path, by_any_name: bool) -> bool {
    let Ok(bytes) = RealFs.read(&own.join("gitdir"), 0, 1 << 14) else { return false };
    let text = String::from_utf8_lossy(&bytes);
    // From git 2.48 on it may count from where it stands.
    let link = own.join(text.trim_end_matches('\n'));
    let Some(named) = link.parent() else { return false };
    is_same(named, top) && (by_any_name || name_of(named) == name_of(top))
}
