//! The branch that a lane merges into.
//!
//! It is fixed when a task is accepted: what the task names, else what coord.toml names, else what the
//! worktree around the queue has checked out at that time, which is written into the submission
//! (`run::acceptance`). What is checked out later says nothing about where a task goes.

use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::git::Git;
use crate::git::repository::Repository;
use crate::queue::tasks;

use super::super::site::Site;

/// Where branches are.
const HEADS: &str = "refs/heads/";

/// A branch of the repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Its short name.
    pub branch: String,
    /// `refs/heads/…`.
    pub name: String,
}

/// A target, or what a person has to do or to say before there is one.
pub type Aim = std::result::Result<Target, Error>;

impl Target {
    /// The target of a lane.
    pub fn of(site: &Site, git: &Git<'_>, lane: &str) -> Result<Aim> {
        let spec = tasks::look(&site.queue, lane)?.and_then(|task| task.spec.ok());
        let into = spec.map(|spec| spec.into).unwrap_or_default();
        Target::named(&site.config, git, &into)
    }

    /// The target of tasks that were accepted with this `into`.
    pub fn named(config: &Config, git: &Git<'_>, into: &str) -> Result<Aim> {
        match chosen(config, git, into)? {
            Some(word) => find(git, &word, into.is_empty()),
            None => Ok(Err(Error::new(Exit::Environment, "no branch is named to merge into")
                .at(git.dir())
                .hint("[merge] into = \"main\" in coord.toml"))),
        }
    }

    /// The target of a task that is about to be accepted.
    pub fn of_new(config: &Config, git: &Git<'_>, repo: &Repository, into: &str) -> Result<Aim> {
        if let Some(word) = chosen(config, git, into)? {
            return find(git, &word, into.is_empty());
        }
        let head = repo.around(git).ask(&["symbolic-ref", "--quiet", "HEAD"])?;
        match head.as_deref().and_then(|head| head.strip_prefix(HEADS)) {
            Some(branch) => find(git, branch, false),
            None => {
                let what = "no branch is checked out, so there is none to merge into";
                Ok(Err(Error::new(Exit::Environment, what)
                    .at(&repo.here)
                    .hint("--into BRANCH, --no-merge, or [merge] into in coord.toml")))
            }
        }
    }

    /// Whether coord.toml names a branch: then it decides also after a task was accepted.
    pub fn is_configured(config: &Config, git: &Git<'_>) -> Result<bool> {
        Ok(chosen(config, git, "")?.is_some())
    }

    /// Where it is now; the error of one that is not there any more.
    pub fn tip(&self, git: &Git<'_>) -> Result<std::result::Result<String, Error>> {
        match git.exact(&self.name)? {
            Some(tip) => Ok(Ok(tip)),
            None => Ok(Err(gone(git, &self.branch, false)?)),
        }
    }
}

/// What is named: by the task, by `[merge] into`, or by a `[git] base` that is a branch.
fn chosen(config: &Config, git: &Git<'_>, into: &str) -> Result<Option<String>> {
    if let Some(named) = [into, &config.merge.into].into_iter().find(|word| !word.is_empty()) {
        return Ok(Some(named.to_owned()));
    }
    let base = &config.git.base;
    let is_branch = !base.is_empty() && git.exact(&format!("{HEADS}{}", short(base)))?.is_some();
    Ok(is_branch.then(|| base.clone()))
}

fn short(word: &str) -> &str {
    word.strip_prefix(HEADS).unwrap_or(word)
}

/// The branch of that name, and nothing else that git would take the word for: a tag, a commit, a
/// branch of a remote. `configured`: coord.toml names it.
fn find(git: &Git<'_>, word: &str, configured: bool) -> Result<Aim> {
    let (mut branch, mut name) = (short(word).to_owned(), format!("{HEADS}{}", short(word)));
    if !git.run(&["check-ref-format", &name])?.ok() {
        let what = format!("`{}` cannot be the name of a branch", word.escape_debug());
        return Ok(Err(Error::usage(what).hint("name a branch, such as main")));
    }
    // Another name for a branch: that one moves.
    if let Some(to) = git.ask(&["symbolic-ref", "--quiet", &name])? {
        let Some(real) = to.strip_prefix(HEADS) else {
            let what = format!("{branch} stands for {to}, which is no branch of this repository");
            return Ok(Err(Error::new(Exit::Environment, what).at(git.dir()).hint(NAME_ANOTHER)));
        };
        (branch, name) = (real.to_owned(), to);
    }
    if branch == "coord" || branch.starts_with("coord/") {
        let what = format!("nothing is merged into {branch}: such branches are those of attempts");
        return Ok(Err(Error::new(Exit::Environment, what).at(git.dir()).hint(NAME_ANOTHER)));
    }
    if git.exact(&name)?.is_some() {
        return Ok(Ok(Target { branch, name }));
    }
    for (place, kind) in [("refs/remotes", "a branch of a remote"), ("refs/tags", "a tag")] {
        if git.exact(&format!("{place}/{branch}"))?.is_some() {
            let what = format!("{branch} is {kind}, and nothing is merged into those");
            let hint = format!("name a branch of this repository: git branch NAME {branch}");
            return Ok(Err(Error::new(Exit::Environment, what).at(git.dir()).hint(hint)));
        }
    }
    gone(git, &branch, configured).map(Err)
}

const NAME_ANOTHER: &str = "--into BRANCH, or [merge] into in coord.toml";

/// What helps where a branch is missing. That it was renamed stands in the log of the new one, if git
/// keeps logs.
fn gone(git: &Git<'_>, branch: &str, configured: bool) -> Result<Error> {
    let what = format!("there is no branch {branch} to merge into");
    let begin = format!("Branch: renamed {HEADS}{branch} to {HEADS}");
    let grep = format!("--grep-reflog={begin}");
    let args = ["log", "-g", "--branches", "-1", "--format=%gs", "--fixed-strings", &grep];
    let renamed = git.ask(&args)?.and_then(|line| line.strip_prefix(&begin).map(str::to_owned));
    let hint = match (renamed, configured) {
        (Some(new), true) => format!("it was renamed: [merge] into = \"{new}\" in coord.toml"),
        (Some(new), false) => format!(
            "it was renamed to {new}: git branch -m {new} {branch}, \
             or let the old name stand for it: git symbolic-ref {HEADS}{branch} {HEADS}{new}"
        ),
        (None, true) => format!("git branch {branch} COMMIT, or [merge] into in coord.toml"),
        (None, false) => format!("git branch {branch} COMMIT makes it again"),
    };
    Ok(Error::new(Exit::Environment, what).at(git.dir()).hint(hint))
}
