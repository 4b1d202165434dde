//! Replaying the commits of a change one by one.

use crate::error::Result;

use super::merging::{Merged, merge_trees};
use super::object::{self, Commit};
use super::{Put, Site, Strategy, words};

/// Replays commits, oldest first, each with its one parent behind it. Author, date, encoding and
/// message stay, with our trailers behind the message; signatures go.
pub fn replay(site: &Site, commits: &[Vec<&str>]) -> Result<Put> {
    let trailers = site.trailers();
    let committer = object::committer(site.git)?;
    let (mut head, mut tree) = (site.onto.to_owned(), site.tree_of(site.onto)?);
    for (number, commit) in commits.iter().enumerate() {
        // A commit without a parent has nothing in common with what it would be put on, and the
        // caller has looked for that.
        let [old, parent] = commit[..] else { return site.merge() };
        let merged = match merge_trees(site.git, Some(parent), &head, old)? {
            Merged::Clean(merged) => merged,
            Merged::Conflicted(found) => {
                let place = words::Place { number: number + 1, of: commits.len(), commit: old };
                return words::conflict(site, &head, Some(&place), &found);
            }
        };
        if merged == tree {
            continue;
        }
        let old = Commit::read(site.git, old)?;
        let new = Commit {
            tree: merged.clone(),
            parents: vec![head],
            committer: committer.clone(),
            message: trailers.added_to(&old.message),
            ..old
        };
        head = new.write(site.git)?;
        tree = merged;
    }
    if head == site.onto {
        return Ok(Put::Nothing);
    }
    Ok(Put::Made { commit: head, kind: Strategy::Rebase })
}
