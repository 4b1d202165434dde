//! Arguments of `coord merge` and `coord mergeq`.

use clap::{Args, Subcommand};

/// `coord merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// Only these tasks [default: all that wait]
    pub select: Vec<String>,
    /// Only say what would become of each
    #[arg(long)]
    pub dry_run: bool,
}

/// `coord mergeq`.
#[derive(Debug, Subcommand)]
pub enum Mergeq {
    /// What waits, in the order in which it is merged, and the conflicts to be expected
    Ls,
    /// Merge nothing more, after what is being merged now
    Pause,
    /// Go on merging
    Resume,
    /// Try a task again: its merge at once, or one more attempt if it has failed
    Retry {
        /// The task
        id: String,
    },
    /// Take a turn (what a worker starts)
    #[command(hide = true)]
    Turn {
        /// The lane
        lane: String,
    },
}
