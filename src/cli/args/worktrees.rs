//! `coord worktree`, `coord diff` and what else is about one attempt.

use clap::{Args, Subcommand};

/// `coord worktree`.
#[derive(Debug, Subcommand)]
pub enum WorktreeVerb {
    /// Who has which, for what, and why it stays
    Ls,
    /// Where an attempt runs
    Path(Attempt),
    /// Remove those that are free, clean and saved
    Gc(WorktreeGc),
}

/// `coord worktree gc`.
#[derive(Debug, Args)]
pub struct WorktreeGc {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
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
