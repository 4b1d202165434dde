//! `coord fsck`.

use super::Answer;
use super::args::{Cli, Fsck};

/// `coord fsck`.
pub fn fsck(_cli: &Cli, _args: &Fsck) -> Answer {
    Ok(None)
}
