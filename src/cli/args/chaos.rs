//! Arguments of `coord chaos`.

use std::path::PathBuf;

use clap::Args;

/// `coord chaos`.
#[derive(Debug, Args)]
pub struct Chaos {
    /// Repeats the choices of an earlier run [default: a new one]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How long it goes on
    #[arg(long, default_value_t = 1.0, value_name = "MINUTES")]
    pub minutes: f64,
    /// Number of workers
    #[arg(long, default_value_t = 6, value_name = "N")]
    pub workers: u32,
    /// End when so many tasks are done [default: as many as get done in the time]
    #[arg(long, value_name = "N")]
    pub tasks: Option<u64>,
    /// Keep the directory
    #[arg(long)]
    pub keep: bool,
    /// Also jobs that leave processes which hide: not dumpable, in other sessions, without environment
    #[arg(long)]
    pub hiding: bool,
    /// Give no worker a control group of its own, as where none can be made
    #[arg(long)]
    pub no_cgroup: bool,
}

/// `coord chaos-hider`.
#[derive(Debug, Args)]
pub struct ChaosHider {
    /// The file that it writes into
    pub order: PathBuf,
    /// The attempt
    pub attempt: String,
    /// How many lines
    pub deeds: u32,
    /// Not dumpable
    #[arg(long)]
    pub hidden: bool,
}
