//! What an attempt starts from.
//!
//! A task comes after others that are done, and merged where that was asked: their changes are in the
//! target branch before their registers say so, and the branch is read after the claim. So its tip has
//! all of them. `D@pass` does not wait for D's merge: the attempt starts from D's own commit, and with
//! several such dependencies from a merge of them, made without touching any branch.
//!
//! Of a task that came back from its merge others make way for the next attempt (`queue::learned`). It
//! says that it starts before it reads the branch: so nothing that has to make way gets onto the branch
//! after that.

use crate::error::{Error, Exit, Result};
use crate::git::Git;
use crate::git::candidate::{Change, Person, Put, Strategy, put};
use crate::git::fence;
use crate::queue::claim::Lease;
use crate::queue::evaluate::dependency;
use crate::queue::ids::lane_name;
use crate::queue::record::{Spec, Verdict};
use crate::queue::tasks::{self, Phase};
use crate::queue::{lane, learned};
use crate::step;

use super::environment::identity;
use super::merge::Target;
use super::site::Site;

/// The commit that an attempt of this task starts from. It is claimed.
pub fn of(site: &Site, git: &Git<'_>, lease: &Lease) -> Result<String> {
    let spec = &lease.spec;
    if spec.merge && !learned::of(&site.queue, &lease.task)?.scope.is_empty() {
        let lane = lane::of(spec);
        let words =
            format!("{} at {} of {}", lease.key, lease.at, site.queue.layout.root().display());
        step!("start.mark");
        fence::mark_start(git, lane_name(&lane).unwrap_or_default(), &words)?;
    }
    let usual = usual(site, git, spec)?;
    let mut base: Option<String> = None;
    for (on, pass) in spec.after.iter().map(|entry| dependency(entry)) {
        if !pass {
            continue;
        }
        let Some(change) = unmerged(site, on)? else { continue };
        if git.commit(&change.commit)?.is_none() || git.is_ancestor(&change.commit, &usual)? {
            continue;
        }
        base = Some(match base {
            None => change.commit,
            Some(before) => together(site, git, &before, &change)?,
        });
    }
    Ok(base.unwrap_or(usual))
}

fn usual(site: &Site, git: &Git<'_>, spec: &Spec) -> Result<String> {
    if spec.merge || site.config.merge.enabled {
        return Target::named(site, git, &spec.into)?.tip(git);
    }
    let base = if site.config.git.base.is_empty() { "HEAD" } else { &site.config.git.base };
    git.commit(base)?.ok_or_else(|| {
        Error::new(Exit::Environment, format!("there is no commit {base} to start from"))
            .at(git.dir())
            .hint("make a first commit, or set [git] base in coord.toml")
    })
}

/// What a dependency has done and what is not on the target branch yet.
fn unmerged(site: &Site, on: &str) -> Result<Option<Change>> {
    let Some(task) = tasks::look(&site.queue, on)? else { return Ok(None) };
    let wants_merge = task.spec.as_ref().is_ok_and(|spec| spec.merge);
    if matches!(task.phase, Phase::Done(_)) && wants_merge {
        return Ok(None);
    }
    let ends = tasks::ends(&site.queue, &task)?;
    let last = ends.into_iter().rev().find(|(_, end)| end.verdict == Verdict::Done);
    Ok(last.filter(|(_, end)| !end.result.commit.is_empty()).map(|(n, end)| Change {
        id: on.to_owned(),
        n,
        title: task.spec.as_ref().map(|spec| spec.title.clone()).unwrap_or_default(),
        base: end.result.base,
        commit: end.result.commit,
        worker: end.holder,
    }))
}

fn together(site: &Site, git: &Git<'_>, before: &str, change: &Change) -> Result<String> {
    let (name, email) = identity(site, "coord");
    match put(git, Strategy::Merge, before, change, &Person { name, email })? {
        Put::Made { commit, .. } => Ok(commit),
        Put::Nothing => Ok(before.to_owned()),
        Put::Conflict { paths, .. } => {
            let what = format!(
                "what it comes after does not fit together: {} conflicts in {}",
                change.id,
                paths.join(", ")
            );
            Err(Error::new(Exit::Environment, what)
                .hint("let one come after the other, or wait for their merges (without @pass)"))
        }
    }
}
