//! `coord.toml`: what it may say, its defaults, and errors that point at the word.
//!
//! The text is read by others and handed in. Every key that this release does not use is an error:
//! a setting that is silently without effect is worse than one more message.

mod parse;
mod placeholder;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use toml::de::DeTable;

pub use self::placeholder::{AGENT_PLACEHOLDERS, expand, expand_word};
use self::reader::{Source, Table};
use crate::error::Result;
use crate::plan::suggest::nearest;
use crate::plan::validate::is_env_name;
use crate::queue::durable::Durability;
use crate::queue::ids::is_role;
use crate::queue::record::Backoff;

/// The file that `coord init` writes: comments that show every default, and the version. Tables can
/// be appended to it.
pub const TEMPLATE: &str = include_str!("config/template.toml");

/// Where worktrees are unless coord.toml says it: beside the repository, not in it.
pub const POOL: &str = "../{repo}.coord";

/// Tables of later versions, for which "unknown" would be the wrong word.
const LATER: [&str; 7] = ["budget", "roles", "gates", "hooks", "notify", "log", "web"];

/// What a worker that is told to stop does with its running attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnTerm {
    /// Stops it and gives the task back, uncharged.
    #[default]
    Requeue,
    /// Lets it end.
    Finish,
}

/// Who commits what an attempt changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CommitBy {
    /// The agent itself.
    #[default]
    Agent,
    /// The worker, after the agent.
    Worker,
    /// Nobody.
    None,
}

/// Where an attempt runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// In a git worktree of its own.
    #[default]
    Worktree,
    /// In a clone of its own, for sandboxes in which a worktree's repository cannot be written.
    Clone,
    /// In the project's directory, with all others.
    None,
}

/// `[queue]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// What an acknowledged write survives. `coord init` makes the queue so.
    pub durability: Durability,
    /// Every so many claims the oldest task is taken whatever its priority; 0 = never.
    pub ageing: u32,
}

/// `[workers]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// How many `coord start` keeps alive.
    pub count: u32,
    /// The agent for prompts of tasks that name none; empty = there is none.
    pub agent: String,
    /// What a worker that is told to stop does with its attempt.
    pub on_term: OnTerm,
    /// How often an idle process looks without being woken.
    pub rescan_ms: u64,
    /// Between SIGTERM and SIGKILL of an attempt.
    pub grace_ms: u64,
}

/// `[lease]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Without a heartbeat for so long, a claim may be taken away.
    pub expire_ms: u64,
    /// Between two heartbeats: at most a third of `expire_ms`, so that two may be late.
    pub heartbeat_ms: u64,
}

/// `[retry]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Attempts of a task that says nothing, the first included.
    pub attempts: u32,
    /// Rest after the first failure.
    pub backoff_ms: u64,
    /// What the rest is multiplied by after each further failure.
    pub factor: f64,
    /// The longest rest.
    pub max_ms: u64,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest that an attempt may run.
    pub timeout_ms: Option<u64>,
    /// No work is begun with less disk free.
    pub disk_free_bytes: Option<u64>,
    /// No work is begun with less memory free.
    pub memory_free_bytes: u64,
}

/// `[git]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Git {
    /// What attempts start from; empty = HEAD.
    pub base: String,
    /// Name of author and committer; has the placeholder `{worker}`.
    pub identity_name: String,
    /// Their address; has the placeholder `{worker}`.
    pub identity_email: String,
    /// Who commits.
    pub commit: CommitBy,
    /// The longest that one command of git may take that `coord` runs.
    pub timeout_ms: u64,
}

/// `[worktree]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worktree {
    /// Where attempts run.
    pub isolation: Isolation,
    /// Whether coord.toml says so in so many words.
    pub isolation_named: bool,
    /// Where the worktrees are, from the top of the repository; has the placeholder `{repo}`.
    pub root: String,
    /// Paths below the project that stay in a worktree from one attempt to the next: caches.
    pub keep: Vec<String>,
    /// Paths below the project that every attempt gets a copy of.
    pub copy: Vec<String>,
    /// Paths below the project that every attempt gets a symbolic link to.
    pub link: Vec<String>,
    /// A line for sh that prepares the worktree before the command of each attempt; empty = none.
    pub setup: String,
}

/// How finished work is put onto the target branch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MergeBy {
    /// A merge commit for each task; a batch is one merge commit on the branch.
    #[default]
    Merge,
    /// Its commits, one after the other.
    Rebase,
    /// One commit.
    Squash,
}

/// What the attempt after one that came back from its merge finds in its worktree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBounce {
    /// The change of the attempt that came back, applied to the branch as it is now.
    Resolve,
    /// The branch as it is now.
    Again,
}

/// `[merge]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// Whether tasks that say nothing want to be merged.
    pub enabled: bool,
    /// The target branch; empty = what the main worktree has checked out.
    pub into: String,
    /// How.
    pub strategy: MergeBy,
    /// A line for sh that must succeed on what would be merged; empty = none.
    pub check: String,
    /// The longest that it may run.
    pub check_timeout_ms: Option<u64>,
    /// Tasks that are tried together at most.
    pub batch: u32,
    /// How often a task comes back before a person is asked.
    pub max_bounces: u32,
    /// What the next attempt finds; absent = `resolve` for prompts, `again` for commands.
    pub on_bounce: Option<OnBounce>,
    /// The remote that is kept up to date; empty = none.
    pub push: String,
}

/// What happens to an attempt that changed what lies outside of its scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outside {
    /// It fails.
    #[default]
    Fail,
    /// It is told, and stays done.
    Warn,
}

/// `[scopes]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Changes outside of a task's scope.
    pub outside: Outside,
    /// Paths that any task may change, and only one of a batch that is merged.
    pub shared: Vec<String>,
}

/// `[gc]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gc {
    /// Keepers archive what has been done for so long; nothing where absent.
    pub archive_after_ms: Option<u64>,
}

/// `[agents.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The command, with placeholders for `expand`.
    pub command: Vec<String>,
}

/// What `coord.toml` says.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[queue]`.
    pub queue: Queue,
    /// `[workers]`.
    pub workers: Workers,
    /// `[lease]`.
    pub lease: Lease,
    /// `[retry]`.
    pub retry: Retry,
    /// `[limits]`.
    pub limits: Limits,
    /// `[git]`.
    pub git: Git,
    /// `[worktree]`.
    pub worktree: Worktree,
    /// `[merge]`.
    pub merge: Merge,
    /// `[scopes]`.
    pub scopes: Scopes,
    /// `[gc]`.
    pub gc: Gc,
    /// `[agents.NAME]`, the built-in `shell` included.
    pub agents: BTreeMap<String, Agent>,
    /// `[env]`: what every attempt finds in its environment.
    pub env: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Config {
        let shell = ["sh", "-c", "{prompt}"].map(str::to_owned).to_vec();
        Config {
            queue: Queue { durability: Durability::Process, ageing: 16 },
            workers: Workers {
                count: 3,
                agent: String::new(),
                on_term: OnTerm::Requeue,
                rescan_ms: 30_000,
                grace_ms: 5_000,
            },
            lease: Lease { expire_ms: 60_000, heartbeat_ms: 15_000 },
            retry: Retry { attempts: 3, backoff_ms: 10_000, factor: 2.0, max_ms: 600_000 },
            limits: Limits { timeout_ms: None, disk_free_bytes: None, memory_free_bytes: 64 << 20 },
            git: Git {
                base: String::new(),
                identity_name: "coord {worker}".to_owned(),
                identity_email: "{worker}@coord.local".to_owned(),
                commit: CommitBy::Agent,
                timeout_ms: 600_000,
            },
            worktree: Worktree {
                isolation: Isolation::Worktree,
                isolation_named: false,
                root: POOL.to_owned(),
                keep: Vec::new(),
                copy: Vec::new(),
                link: Vec::new(),
                setup: String::new(),
            },
            merge: Merge {
                enabled: false,
                into: String::new(),
                strategy: MergeBy::Merge,
                check: String::new(),
                check_timeout_ms: None,
                batch: 4,
                max_bounces: 5,
                on_bounce: None,
                push: String::new(),
            },
            scopes: Scopes::default(),
            gc: Gc::default(),
            agents: BTreeMap::from([("shell".to_owned(), Agent { command: shell })]),
            env: BTreeMap::new(),
        }
    }
}

impl Retry {
    /// The rest between attempts as records have it.
    pub fn backoff(&self) -> Backoff {
        // Milliseconds of a century are far below what a float holds exactly.
        let seconds = |ms: u64| ms as f64 / 1000.0;
        Backoff {
            base_s: seconds(self.backoff_ms),
            factor: self.factor,
            max_s: seconds(self.max_ms),
        }
    }
}
