//! What would become of what waits, without changing anything: conflicts are seen early.

use crate::error::Result;
use crate::git::Git;
use crate::git::candidate::{Person, Put, Strategy, put};
use crate::queue::lane::{self, Entry};
use crate::sys::tool;

use super::super::pool::Pool;
use super::super::site::Site;
use super::Target;
use super::batch::change;

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
}

/// Everything that waits in a lane, in order, with what is to be expected.
pub fn preview(site: &Site, lane: &str) -> Result<(Target, Vec<(Entry, Outlook)>)> {
    let git = match Pool::of(site) {
        Some(pool) => Git::shared(pool.repo.home(), &tool::nothing),
        None => Git::new(&site.root, &tool::nothing),
    };
    let target = Target::of(site, &git, lane)?;
    let mut tip = target.tip(&git)?;
    let nobody = Person { name: "coord".to_owned(), email: "coord@coord.local".to_owned() };
    let mut seen = Vec::new();
    for entry in lane::entries(&site.queue, lane)? {
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
    Ok((target, seen))
}
