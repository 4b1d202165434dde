//! What would become of what waits, without changing anything: conflicts are seen early.

use crate::error::{Error, Exit, Result};
use crate::git::candidate::{Person, Put, Strategy, put};
use crate::queue::lane::{self, Entry};
use crate::sys::tool;

use super::super::pool::Pool;
use super::super::site::Site;
use super::Target;
use super::batch::change;
use super::moving::{Wait, in_use_of};

/// What is to be expected of one that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// It goes in cleanly, behind those before it.
    Clean,
    /// It waits for these.
    Waits(Vec<String>),
    /// It will come back: paths in which it conflicts with the branch or with those before it.
    Conflict(Vec<String>),
    /// It changes nothing.
    Nothing,
    /// A person has to do something first, whatever it is: in words.
    Stuck(String),
}

/// The branch of a lane, and everything that waits there, in order, with what is to be expected.
pub fn preview(site: &Site, lane: &str) -> Result<(String, Vec<(Entry, Outlook)>)> {
    let entries = lane::entries(&site.queue, lane)?;
    let Some(pool) = Pool::of(site) else {
        let e = Error::new(Exit::Environment, "nothing can be merged without worktrees");
        return Ok((String::new(), stuck(entries, &e.into())));
    };
    let git = site.git_here(&pool.repo, &tool::nothing);
    let target = match Target::of(site, &git, lane)? {
        Ok(target) => target,
        Err(e) => return Ok((String::new(), stuck(entries, &e.into()))),
    };
    let mut tip = match target.tip(&git)? {
        Ok(tip) => tip,
        Err(e) => return Ok((target.branch, stuck(entries, &e.into()))),
    };
    if let Some(wait) = in_use_of(&git, &pool.repo, &target.name)? {
        return Ok((target.branch, stuck(entries, &wait)));
    }
    let nobody = Person { name: "coord".to_owned(), email: "coord@coord.local".to_owned() };
    let mut seen = Vec::new();
    for entry in entries {
        let outlook = if !entry.is_free() {
            let ways = entry.makes_way.iter().map(|way| way.key.task.clone());
            Outlook::Waits(entry.blockers.iter().cloned().chain(ways).collect())
        } else if entry.end.result.commit.is_empty() {
            Outlook::Nothing
        } else {
            match put(&git, Strategy::Squash, &tip, &change(&entry), &nobody)? {
                Put::Made { commit, .. } => {
                    tip = commit;
                    Outlook::Clean
                }
                Put::Nothing => Outlook::Nothing,
                Put::Conflict { paths, .. } => Outlook::Conflict(paths),
            }
        };
        seen.push((entry, outlook));
    }
    Ok((target.branch, seen))
}

fn stuck(entries: Vec<Entry>, wait: &Wait) -> Vec<(Entry, Outlook)> {
    entries.into_iter().map(|entry| (entry, Outlook::Stuck(wait.to_string()))).collect()
}
