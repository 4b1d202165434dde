//! `coord worktree`, `coord diff` and what else is about one attempt.

use clap::{Args, Subcommand};

use super::WorktreeGc;

/// `coord worktree`.
#[derive(Debug, Subcommand)]
pub enum WorktreeVerb {
    /// Who has which, for what, and why it stays
    Ls,
    /// Where an attempt runs
    Path(Attempt),
    /// Remove those that are free, clean and saved (tasks: coord gc)
    Gc(WorktreeGc),
}

/// One attempt.
#[derive(Debug, Args)]
pub struct Attempt {
    /// The task, or ID@N for attempt N [default: the last]
    pub id: String,
}

/// `coord diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The task, or ID@N for attempt N [default: the last]
    pub id: String,
    /// Only how much of which file
    #[arg(long)]
    pub stat: bool,
}
