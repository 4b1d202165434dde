//! A git worktree and a branch for each attempt, outside the repository's own tree.
//!
//! Nothing dirty is ever deleted: a worktree is removed only by git, without force, and only when
//! git itself finds it clean. The branch always stays; the end register names it and its commit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::CommitBy;
use crate::error::{Cannot, Error, Exit, Result};
use crate::git::Git;
use crate::queue::claim::Lease;
use crate::queue::ids::{Key, random_part};
use crate::queue::record::Outcome;
use crate::sys::fs::{Fs, RealFs, mkdir_all};
use crate::sys::tool::{self, Output};
use crate::sys::wake::nap;

use super::site::Site;

/// Where an attempt runs. Written to `n.out/workplace.json` before the command starts, so that the
/// next attempt finds it also when this one's worker dies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workplace {
    /// The directory.
    pub dir: PathBuf,
    /// The attempt's branch; empty without git.
    #[serde(default)]
    pub branch: String,
    /// The commit that it started from.
    #[serde(default)]
    pub base: String,
}

/// Tries of `git worktree add`: several workers may be at it at once, and git's own lock files make
/// the slower one fail.
const TRIES: u32 = 6;

/// Makes the workplace of an attempt. `beat` is called while git takes its time: a large repository
/// must not cost a lease.
pub fn prepare(site: &Site, key: &Key, beat: &dyn Fn()) -> Result<Workplace> {
    let Some(repo) = &site.repo else {
        return Ok(Workplace { dir: site.root.clone(), ..Workplace::default() });
    };
    let base = base_commit(site, repo)?;
    let home = home(site, repo);
    mkdir_all(&RealFs, &home).cannot("make the directory of the worktrees", &home)?;
    let mut branch = format!("coord/{}/a{}", key.task, key.n);
    let mut dir = home.join(format!("{}.a{}", key.task, key.n));
    let mut failure = String::new();
    for attempt in 0..TRIES {
        let path = dir.to_string_lossy().into_owned();
        // No shared configuration is written (--no-track), and no collection of garbage is started
        // in the middle.
        let args = ["worktree", "add", "--quiet", "--no-track", "-b", &branch, &path, &base];
        let output = Git::new(repo, beat).run(&args)?;
        if output.ok() {
            return Ok(Workplace { dir: inside(site, repo, &dir), branch, base });
        }
        failure = output.stderr.trim().to_owned();
        if failure.contains("already exists") {
            // Of a former queue in this repository: it is not ours to remove.
            let suffix = &random_part(site.queue.clock.random())[..4];
            branch = format!("coord/{}/a{}-{suffix}", key.task, key.n);
            dir = home.join(format!("{}.a{}-{suffix}", key.task, key.n));
        } else {
            nap(Duration::from_millis(20 << attempt));
        }
    }
    Err(Error::new(Exit::Environment, format!("cannot make a worktree for {key}: {failure}"))
        .at(&dir)
        .hint("git worktree prune; or [worktree] isolation = \"none\" in coord.toml"))
}

/// The project may be a directory inside its repository: then the attempt runs in the same one.
fn inside(site: &Site, repo: &Path, dir: &Path) -> PathBuf {
    match site.root.strip_prefix(repo) {
        Ok(below) if below.as_os_str().is_empty() => dir.to_owned(),
        Ok(below) if RealFs.exists(&dir.join(below)) => dir.join(below),
        _ => dir.to_owned(),
    }
}

/// Where worktrees live: beside the repository, not in it.
pub fn home(site: &Site, repo: &Path) -> PathBuf {
    let name = crate::sys::fs::name_of(repo);
    let text = site.config.worktree.root.replace("{repo}", &name);
    let mut path = repo.to_owned();
    for part in Path::new(&text).components() {
        match part {
            std::path::Component::ParentDir => {
                path.pop();
            }
            other => path.push(other),
        }
    }
    path
}

fn base_commit(site: &Site, repo: &Path) -> Result<String> {
    let base = if site.config.git.base.is_empty() { "HEAD" } else { &site.config.git.base };
    Git::new(repo, &tool::nothing).commit(base)?.ok_or_else(|| {
        Error::new(Exit::Environment, format!("there is no commit {base} to start from"))
            .at(repo)
            .hint("make a first commit, or set [git] base in coord.toml")
    })
}

/// What the attempt left in its worktree: commits what is not committed where coord.toml asks for
/// it, reads the commit, and removes the worktree if it is clean.
pub fn conclude(
    site: &Site,
    lease: &Lease,
    place: &Workplace,
    done: bool,
    beat: &dyn Fn(),
) -> Outcome {
    let (key, title) = (&lease.key, &lease.spec.title);
    let mut outcome =
        Outcome { branch: place.branch.clone(), base: place.base.clone(), ..Outcome::default() };
    let (Some(repo), false) = (&site.repo, place.branch.is_empty()) else {
        return Outcome::default();
    };
    let git = |args: &[&str], dir: &Path| Git::new(dir, beat).run(args).ok().filter(Output::ok);
    let status = ["status", "--porcelain"];
    let dirty = |dir: &Path| git(&status, dir).is_none_or(|o| !o.stdout.is_empty());
    if done && site.config.git.commit == CommitBy::Worker && dirty(&place.dir) {
        let message = format!("{}: {title}", key.task);
        if git(&["add", "--all"], &place.dir).is_some() {
            let identity = super::environment::identity(site, "coord");
            let name = format!("user.name={}", identity.0);
            let email = format!("user.email={}", identity.1);
            git(&["-c", &name, "-c", &email, "commit", "--quiet", "-m", &message], &place.dir);
        }
    }
    if let Some(head) = git(&["rev-parse", "HEAD"], &place.dir) {
        outcome.commit = head.text().trim().to_owned();
    }
    let path = place.dir.to_string_lossy().into_owned();
    let removed = !dirty(&place.dir) && git(&["worktree", "remove", &path], repo).is_some();
    if !removed {
        outcome.worktree = path;
    }
    outcome
}
