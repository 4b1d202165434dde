//! What the checks look at: the repository, the tasks, and what the queue says of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::ground::Repo;
use crate::tasks::Task;

/// How changes get onto the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// As merges: the commits are those of the attempt.
    Merge,
    /// As copies of the commits.
    Rebase,
    /// As one commit.
    Squash,
}

impl Strategy {
    /// Its name in coord.toml.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Merge => "merge",
            Strategy::Rebase => "rebase",
            Strategy::Squash => "squash",
        }
    }
}

/// What the queue says of an attempt.
#[derive(Debug, Clone, Default)]
pub struct Attempt {
    /// Its number.
    pub n: u64,
    /// The register `n.end`; null where there is none.
    pub end: Value,
    /// The register `n.merge`; null where there is none.
    pub merge: Value,
}

/// What the queue says of a task.
#[derive(Debug, Clone, Default)]
pub struct Fate {
    /// Its state.
    pub state: String,
    /// What `coord show` prints.
    pub shown: String,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

impl Fate {
    /// Attempts with this verdict of the merge queue.
    pub fn judged(&self, verdict: &str) -> Vec<&Attempt> {
        self.attempts.iter().filter(|a| a.merge["verdict"] == verdict).collect()
    }
}

/// All that is looked at.
#[derive(Clone)]
pub struct Scene<'a> {
    /// The repository.
    pub repo: Repo<'a>,
    /// A directory for clones.
    pub beside: &'a Path,
    /// The branch's commit before the first task.
    pub base: String,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// What became of them.
    pub fates: BTreeMap<String, Fate>,
    /// How they got there.
    pub strategy: Strategy,
    /// The line of shell that tests the code.
    pub check: String,
    /// Rivals that must have been sent back.
    pub least_bounces: usize,
    /// How often a task may be sent back.
    pub max_bounces: usize,
    /// Patch-ids of what other people pushed.
    pub others: Vec<String>,
}

impl Scene<'_> {
    /// The good tasks, and what became of them.
    pub fn good(&self) -> impl Iterator<Item = (&Task, &Fate)> {
        self.tasks.iter().filter(|t| t.is_good()).map(|t| (t, &self.fates[&t.id]))
    }

    /// `base..main`.
    pub fn range(&self) -> String {
        format!("{}..main", self.base)
    }
}
