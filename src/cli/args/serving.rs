//! Arguments of `coord start`, `stop`, `scale` and `work`.

use clap::Args;

/// `coord start`.
#[derive(Debug, Args)]
pub struct Start {
    /// Number of workers that serve every role (default: count in coord.toml; 0 if --role is given)
    #[arg(short = 'n', long, value_name = "N")]
    pub workers: Option<u32>,
    /// Workers for one role only, ROLE=N (repeatable)
    #[arg(long, value_name = "ROLE=N")]
    pub role: Vec<String>,
    /// A label that these workers offer to tasks that need it (repeatable)
    #[arg(long, value_name = "LABEL")]
    pub label: Vec<String>,
    /// Stay in this terminal
    #[arg(short, long)]
    pub foreground: bool,
    /// Leave when nothing can become ready without a person
    #[arg(long)]
    pub until_empty: bool,
    /// As root in the queue of another user: run everything as that user
    #[arg(long)]
    pub as_owner: bool,
}

/// `coord stop`.
#[derive(Debug, Args)]
pub struct Stop {
    /// Finish what runs now (the default)
    #[arg(long)]
    pub drain: bool,
    /// Hand back what runs now, uncharged
    #[arg(long, conflicts_with = "drain")]
    pub now: bool,
    /// Give up waiting after this time (exit 124); the request stays
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
}

/// `coord scale`.
#[derive(Debug, Args)]
pub struct Scale {
    /// Number of workers
    pub count: u32,
    /// Of this role
    #[arg(long)]
    pub role: Option<String>,
}

/// `coord work`.
#[derive(Debug, Args)]
pub struct Work {
    /// Leave when nothing can become ready without a person; exit 1 if something failed
    #[arg(long)]
    pub until_empty: bool,
    /// Make one attempt; exit 6 if there is nothing to claim
    #[arg(long)]
    pub once: bool,
    /// Leave after N attempts
    #[arg(long, value_name = "N")]
    pub max_tasks: Option<u64>,
    /// Serve only this role (repeatable)
    #[arg(long)]
    pub role: Vec<String>,
    /// Offer this label to tasks that need it (repeatable)
    #[arg(long)]
    pub label: Vec<String>,
    /// As root in the queue of another user: run everything as that user
    #[arg(long)]
    pub as_owner: bool,
}
