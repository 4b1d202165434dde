//! `coord doctor`.

use super::Answer;
use super::args::Cli;

/// `coord doctor`.
pub fn doctor(_cli: &Cli) -> Answer {
    Ok(None)
}
