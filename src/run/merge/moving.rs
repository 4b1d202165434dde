//! Moving the branch: only if nobody is in the middle of something with it.

use std::fmt;

use crate::error::{Error, Result};
use crate::git::Git;
use crate::git::fence::{self, Landed};
use crate::git::in_use;
use crate::git::repository::Repository;

use super::{Merger, fenced};

/// What a person has to do before anything can be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    /// Why: a sentence.
    pub(super) why: String,
    /// What to type.
    pub(super) remedy: String,
}

impl Wait {
    /// For what is tried again when it has been mended.
    pub(super) fn until_mended(why: String) -> Wait {
        Wait { why, remedy: "coord merge, when it is mended".to_owned() }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.remedy.as_str() {
            "" => write!(f, "{}", self.why),
            remedy => write!(f, "{} ({remedy})", self.why),
        }
    }
}

impl From<Error> for Wait {
    fn from(error: Error) -> Wait {
        Wait { why: error.message, remedy: error.hint.unwrap_or_default() }
    }
}

/// What became of moving the branch.
pub(super) enum Move {
    /// The commit is in it.
    Done,
    /// The branch has moved meanwhile, or something was returned: look again.
    Again,
    /// An attempt has started for which some of these may have to make way.
    Started,
    /// A person has to end something first.
    Waits(Wait),
}

/// Why nothing can be put onto a branch (`refs/heads/…`) now: somebody is in the middle of something.
pub(super) fn in_use_of(git: &Git<'_>, repo: &Repository, name: &str) -> Result<Option<Wait>> {
    let found = in_use::find(git, name)?;
    let branch = name.strip_prefix("refs/heads/").unwrap_or(name);
    Ok(found.map(|it| {
        let place = repo.as_seen(it.path);
        let place = place.to_string_lossy();
        let word = shlex::try_quote(&place).unwrap_or_default();
        let why = format!("{branch} is in use: {} is under way in {place}", it.activity.what);
        Wait { why, remedy: format!("git -C {word} {}", it.activity.end) }
    }))
}

impl Merger<'_> {
    /// Why nothing can be put onto a branch (`refs/heads/…`) now.
    pub(super) fn in_use(&self, name: &str) -> Result<Option<Wait>> {
        in_use_of(&self.git, &self.pool.repo, name)
    }

    /// Moves the target from `old` to `new`, fenced, after the landing was noted.
    pub(super) fn advance(&mut self, old: &str, new: &str, keys: &[&str]) -> Result<Move> {
        let name = self.target.name.clone();
        if let Some(wait) = self.in_use(&name)? {
            return Ok(Move::Waits(wait));
        }
        match fence::land(&self.git, &self.turn, &name, new, old, keys)? {
            Landed::Moved => {}
            Landed::Started => return Ok(Move::Started),
            // Somebody else's push: look again, never over it. Or an earlier turn had returned one.
            Landed::Elsewhere(_) | Landed::Returned(_) => return Ok(Move::Again),
            Landed::Fenced => return Err(fenced(&self.key)),
        }
        // A rebase that has begun in between knows of `old`, and would go back there when it is given
        // up. Nothing is told then: when it is over, the next turn finds the note and looks whether
        // what was landed is still there.
        Ok(self.in_use(&name)?.map_or(Move::Done, Move::Waits))
    }
}
