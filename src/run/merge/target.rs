//! The branch that a lane merges into.

use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::git::Git;
use crate::queue::{record, tasks};

use super::super::site::Site;

/// A branch of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its short name.
    pub branch: String,
    /// `refs/heads/…`.
    pub name: String,
}

impl Target {
    /// The target of a lane: its own branch, or the one that coord.toml names, or what the main
    /// worktree has checked out.
    pub fn of(site: &Site, git: &Git<'_>, lane: &str) -> Result<Target> {
        let spec = tasks::look(&site.queue, lane)?.and_then(|task| task.spec.ok());
        Target::named(site, git, &spec.map(|spec: record::Spec| spec.into).unwrap_or_default())
    }

    /// The target of tasks that name `into`.
    pub fn named(site: &Site, git: &Git<'_>, into: &str) -> Result<Target> {
        Target::configured(&site.config, git, into)
    }

    /// The same by a configuration alone.
    pub fn configured(config: &Config, git: &Git<'_>, into: &str) -> Result<Target> {
        let mut branch = [into, &config.merge.into].into_iter().find(|b| !b.is_empty());
        let base = format!("refs/heads/{}", config.git.base);
        if branch.is_none() && !config.git.base.is_empty() && git.commit(&base)?.is_some() {
            branch = Some(&config.git.base);
        }
        let checked_out;
        let branch = match branch {
            Some(branch) => branch,
            None => match git.ask(&["symbolic-ref", "--quiet", "--short", "HEAD"])? {
                Some(head) => {
                    checked_out = head;
                    &checked_out
                }
                None => {
                    let what = "no branch is checked out, so there is none to merge into";
                    return Err(Error::new(Exit::Environment, what)
                        .at(git.dir())
                        .hint("set [merge] into in coord.toml"));
                }
            },
        };
        Ok(Target { branch: branch.to_owned(), name: format!("refs/heads/{branch}") })
    }

    /// Where it is now.
    pub fn tip(&self, git: &Git<'_>) -> Result<String> {
        git.commit(&self.name)?.ok_or_else(|| {
            let what = format!("there is no branch {} to merge into", self.branch);
            Error::new(Exit::Environment, what)
                .at(git.dir())
                .hint("make it, or set [merge] into in coord.toml")
        })
    }
}
