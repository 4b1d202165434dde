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

use std::collections::BTreeSet;

use crate::error::{Error, Exit, Result};
use crate::git::Git;
use crate::git::candidate::{Change, Person, Put, Strategy, put};
use crate::git::fence;
use crate::git::repository::start;
use crate::queue::claim::Lease;
use crate::queue::evaluate::dependency;
use crate::queue::ids::lane_name;
use crate::queue::record::{Spec, Verdict};
use crate::queue::tasks::{self, Phase};
use crate::queue::{lane, learned};
use crate::step;
use crate::sys::tool;

use super::environment::identity;
use super::merge::{Aim, Target};
use super::site::Site;
use super::turn::is_lane;

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
    if let Some(target) = target(site, git, spec)? {
        return target?.tip(git)?;
    }
    let base = &site.config.git.base;
    let here = site.repo.usable().map_or_else(|| git.clone(), |repo| repo.around(git));
    start(&here, base)?.ok_or_else(|| {
        let base = if base.is_empty() { "HEAD" } else { base };
        Error::new(Exit::Environment, format!("there is no commit {base} to start from"))
            .at(here.dir())
            .hint("make a first commit, or set [git] base in coord.toml")
    })
}

/// Where that is by now from which an attempt may take over what it likes: the branch that it is merged
/// into or that attempts start from, here and as remotes have it.
pub fn beside(site: &Site, git: &Git<'_>, spec: &Spec) -> Result<Vec<String>> {
    let mut names = vec![site.config.git.base.clone()];
    if let (true, Ok(target)) = (spec.merge, Target::named(&site.config, git, &spec.into)?) {
        names.push(target.branch);
    }
    let here = site.repo.usable().map_or_else(|| git.clone(), |repo| repo.around(git));
    let head = here.ask(&["symbolic-ref", "--quiet", "HEAD"])?;
    names.extend(head.and_then(|head| head.strip_prefix("refs/heads/").map(str::to_owned)));
    names.retain(|name| !name.is_empty());
    let mut args = vec!["for-each-ref".to_owned(), "--format=%(objectname)".to_owned()];
    for name in &names {
        args.extend([format!("refs/heads/{name}"), format!("refs/remotes/**/{name}")]);
    }
    let mut found: BTreeSet<String> = BTreeSet::new();
    if !names.is_empty() {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let list = git.must("look where the branch is", &args)?.text();
        found.extend(list.lines().map(str::to_owned));
    }
    found.extend(start(&here, &site.config.git.base)?);
    Ok(found.into_iter().collect())
}

/// The branch that a task starts from. What is merged starts from where it is merged; what is not
/// starts there too, if coord.toml names a branch for all.
fn target(site: &Site, git: &Git<'_>, spec: &Spec) -> Result<Option<Aim>> {
    let config = &site.config;
    if spec.merge || config.merge.enabled && Target::is_configured(config, git)? {
        return Target::named(config, git, &spec.into).map(Some);
    }
    Ok(None)
}

/// What a person has to do before an attempt can start: the branch that it starts from is not there
/// any more.
pub fn missing(site: &Site, spec: &Spec) -> Result<Option<Error>> {
    let Some(repo) = site.repo.usable().filter(|_| spec.array.is_none() && !is_lane(spec)) else {
        return Ok(None);
    };
    let git = Git::shared(repo.home(), &tool::nothing);
    Ok(match target(site, &git, spec)? {
        Some(Ok(target)) => target.tip(&git)?.err(),
        Some(Err(e)) => Some(e),
        None => None,
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
