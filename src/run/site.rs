//! The place that a queue belongs to: its project directory, configuration and git repository.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Isolation};
use crate::error::{Cannot, Error, Exit, Result};
use crate::git::Git;
use crate::git::repository::{self, Found, Repository, Wish};
use crate::queue::Queue;
use crate::sys::fs::{Fs, RealFs, is_absent};
use crate::sys::host::Platform;
use crate::sys::tool::Meanwhile;

use super::acceptance::Project;

/// A queue with everything around it.
#[derive(Clone)]
pub struct Site {
    /// The queue.
    pub queue: Queue,
    /// What coord.toml says.
    pub config: Arc<Config>,
    /// The project's directory, which holds the queue directory.
    pub root: PathBuf,
    /// The git repository that the project lies in, if worktrees are wanted.
    pub repo: Found,
}

impl Site {
    /// Opens the queue at `dir` and reads coord.toml beside it.
    pub fn open(dir: &Path) -> Result<Site> {
        // Commands run elsewhere, and are told where it is.
        let dir = &std::path::absolute(dir).cannot("find the directory", dir)?;
        let queue = open_queue(dir)?;
        let root = dir.parent().unwrap_or(dir).to_owned();
        let config = read_config(&root)?;
        agree(&queue, &config)?;
        let repo = repository_of(&root, &config);
        Ok(Site { queue, config: Arc::new(config), root, repo })
    }

    /// git in `dir`, with the time limit of coord.toml for each of its commands.
    pub fn git<'a>(&self, dir: &Path, meanwhile: &'a Meanwhile<'a>) -> Git<'a> {
        Git::new(dir, meanwhile).limited(Duration::from_millis(self.config.git.timeout_ms))
    }

    /// The same in what all worktrees of a repository share.
    pub fn git_of<'a>(&self, common: &Path, meanwhile: &'a Meanwhile<'a>) -> Git<'a> {
        Git::shared(common, meanwhile).limited(Duration::from_millis(self.config.git.timeout_ms))
    }

    /// The same in the worktree that the project lies in, as it would run for a person: there a relative
    /// remote, a relative `core.hooksPath`, and the files of a merge driver are what they are for that
    /// person. Where there is no worktree, in the repository itself.
    pub fn git_here<'a>(&self, repo: &Repository, meanwhile: &'a Meanwhile<'a>) -> Git<'a> {
        if repo.here == repo.common {
            return self.git_of(&repo.common, meanwhile);
        }
        self.git(&repo.here, meanwhile)
    }

    /// Refuses to work where attempts should have worktrees and cannot have any: running them all
    /// in the project's directory instead would be a surprise.
    pub fn must_work(&self) -> Result<()> {
        self.repo.refusal(&self.root).map_or(Ok(()), Err)
    }

    /// The same question once more, when an attempt could not be prepared: the repository may have
    /// changed since, and then it is no attempt's fault.
    pub fn refusal_now(&self) -> Option<Error> {
        self.repo.usable()?;
        repository_of(&self.root, &self.config).refusal(&self.root)
    }
}

/// Opens a queue that may accept tasks for the project around it.
pub fn open_queue(dir: &Path) -> Result<Queue> {
    let mut queue = Queue::open(dir, Platform::real())?;
    queue.acceptance = Some(Arc::new(Project::at(dir.parent().unwrap_or(dir))));
    Ok(queue)
}

/// The queue's own durability is the truth, coord.toml says what it should be. Where they differ,
/// somebody would rely on what is not so.
pub fn agree(queue: &Queue, config: &Config) -> Result<()> {
    let (wanted, is) = (config.queue.durability, queue.durability);
    if wanted == is {
        return Ok(());
    }
    let what = format!(
        "coord.toml says durability = \"{}\", but the queue was made with \"{}\"",
        wanted.word(),
        is.word()
    );
    Err(Error::new(Exit::Usage, what)
        .at(queue.layout.root())
        .hint("coord init changes the queue, while no program runs"))
}

/// Reads coord.toml; the defaults where there is none.
pub fn read_config(root: &Path) -> Result<Config> {
    let path = root.join("coord.toml");
    match RealFs.read(&path, 0, 1 << 20) {
        Ok(bytes) => Config::parse(&String::from_utf8_lossy(&bytes), "coord.toml"),
        Err(e) if is_absent(&e) => Ok(Config::default()),
        Err(e) => Err(e).cannot("read the configuration", &path),
    }
}

/// The repository of a project, if its configuration wants one.
pub fn repository_of(root: &Path, config: &Config) -> Found {
    match config.worktree.isolation {
        Isolation::None => Found::Nothing,
        Isolation::Worktree | Isolation::Clone => {
            let asked_by = match (config.worktree.isolation_named, config.merge.enabled) {
                (true, _) => Some("[worktree] isolation"),
                (false, true) => Some("[merge] enabled"),
                (false, false) => None,
            };
            let linked = config.worktree.isolation == Isolation::Worktree;
            repository::discover(root, Wish { base: &config.git.base, linked, asked_by })
        }
    }
}
