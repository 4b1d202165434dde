//! What people decide about what they see.

use clap::Args;

/// `coord dismiss`.
#[derive(Debug, Args)]
pub struct Dismiss {
    /// Rows of NEEDS YOU by what stands in front (a task, a file, a role), or notes by their names
    #[arg(required = true, value_name = "ID|NOTE")]
    pub rows: Vec<String>,
}
