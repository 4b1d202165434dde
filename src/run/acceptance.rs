//! What the project says of a task before it is accepted: whether anybody can run it, and which branch it
//! is merged into.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::git::Git;
use crate::git::repository::Found;
use crate::queue::acceptance::Acceptance;
use crate::queue::record::Spec;
use crate::sys::tool;

use super::attempt::agent_of;
use super::merge::Target;
use super::site::{read_config, repository_of};

/// A project's directory, with its coord.toml and its repository, read anew for each task.
pub struct Project {
    root: PathBuf,
    /// What was answered, where many tasks are accepted within a moment.
    answers: Option<Mutex<BTreeMap<String, String>>>,
}

impl Project {
    /// The project in this directory.
    pub fn at(root: &Path) -> Project {
        Project { root: root.to_owned(), answers: None }
    }

    /// The same for a file of tasks: git is asked once for each branch that is named in it.
    pub fn asked_once(root: &Path) -> Project {
        Project { answers: Some(Mutex::default()), ..Project::at(root) }
    }

    /// The branch to be written into a submission; empty where coord.toml names it.
    fn into(&self, into: &str) -> Result<String> {
        let config = read_config(&self.root)?;
        let found = repository_of(&self.root, &config);
        if let Some(refusal) = found.refusal(&self.root) {
            return Err(refusal);
        }
        let Found::Usable(repo) = found else {
            return Err(Error::new(Exit::Environment, "nothing can be merged here: there are no worktrees")
                .at(&self.root)
                .hint("a git repository, and [worktree] isolation other than \"none\"; or add it with --no-merge"));
        };
        let git = Git::shared(repo.home(), &tool::nothing);
        let target = Target::of_new(&config, &git, &repo, into)??;
        let follows = into.is_empty() && Target::is_configured(&config, &git)?;
        Ok(if follows { String::new() } else { target.branch })
    }
}

impl Acceptance for Project {
    fn complete(&self, spec: &mut Spec) -> Result<()> {
        // Read only where it decides: most tasks have a command.
        if agent_of(&Config::default(), spec).is_some()
            && agent_of(&read_config(&self.root)?, spec) == Some("")
        {
            let what = "nobody can run it: it has no command, and coord.toml names no agent";
            return Err(Error::usage(what).hint(
                "a command behind --, [workers] agent in coord.toml, or --manual for a person",
            ));
        }
        if !spec.merge {
            return Ok(());
        }
        let known = |answers: &Mutex<BTreeMap<String, String>>| {
            answers.lock().ok().and_then(|answers| answers.get(&spec.into).cloned())
        };
        let answer = match self.answers.as_ref().and_then(known) {
            Some(answer) => answer,
            None => self.into(&spec.into)?,
        };
        if let Some(Ok(mut answers)) = self.answers.as_ref().map(Mutex::lock) {
            answers.insert(spec.into.clone(), answer.clone());
        }
        spec.into = answer;
        Ok(())
    }
}
