//! The arguments of what tidies up.

use clap::Args;

/// `coord gc`.
#[derive(Debug, Args)]
pub struct Gc {
    /// Which: ids, 3-7, last, all, @failed, wave:2, role:R, label:L [default: all that is done]. What
    /// failed or was cancelled is taken only if it is named by its id, @failed or @cancelled; it can
    /// never be retried then
    pub select: Vec<String>,
    /// Leave these out
    #[arg(short = 'x', long, value_name = "SEL")]
    pub exclude: Vec<String>,
    /// Only what has been over for so long [default: 1d; with SEL or --keep: 0s]
    #[arg(long, value_name = "DURATION")]
    pub older_than: Option<String>,
    /// Leave the N that were over last
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Delete the files of these tasks too, and of those that are archived already: outputs, logs and
    /// handoffs. Their ids stay taken
    #[arg(long)]
    pub delete: bool,
    /// Remove rejected submissions of that age as well
    #[arg(long)]
    pub rejected: bool,
    /// Only say what would be done, with sizes
    #[arg(long)]
    pub dry_run: bool,
}

/// `coord worktree gc`.
#[derive(Debug, Args)]
pub struct WorktreeGc {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}
