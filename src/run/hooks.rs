//! The hooks of git that `coord` runs by itself. All others run where git runs them, or are kept from
//! running by [`NO_HOOKS`](crate::git::settings::NO_HOOKS); docs/git.md has the table.

use std::fs::File;
use std::path::Path;

use crate::error::{Cannot, Error, Exit, Result};
use crate::git::confirmed::Worktree;
use crate::git::worktrees::is_on;
use crate::sys::child::open_output;

use super::pool::Slot;
use super::slot::Workshop;

/// The hook `post-checkout`, once for each attempt: when its worktree is clean, at the base and on the
/// attempt's branch, with the commit that it was at before (zeros for one that was made just now), that
/// base, and 1. What git itself does on the way there is several checkouts, with a cleaning between them
/// that would remove what the hook has made. What the hook says stands in the log of the attempt; its
/// exit code keeps nobody from working, as with `git checkout`, but a worktree that it has led elsewhere
/// does.
pub fn post_checkout<'a>(
    shop: &Workshop<'a>,
    tree: &Worktree<'a>,
    slot: &Slot,
    base: &str,
    branch: &str,
    out: &Path,
) -> Result<()> {
    // What is in a clone belongs to its attempts.
    if slot.record.clone {
        return Ok(());
    }
    let git = shop.hooked(tree, slot);
    let before = match slot.was_at.as_str() {
        "" => "0".repeat(base.len()),
        commit => commit.to_owned(),
    };
    let path = out.join("log");
    let log =
        File::from(open_output(&shop.site.queue.fs.reach(&path)).cannot("open the log", &path)?);
    let args = ["hook", "run", "--ignore-missing", "post-checkout", "--", &before, base, "1"];
    let output = git.run_into(&args, log)?;
    if !output.ok() {
        let line = format!("coord: the hook post-checkout ended with {}\n", output.code);
        drop(shop.site.queue.fs.append(&path, line.as_bytes()));
    }
    if is_on(tree.git(), branch)? && tree.git().commit("HEAD")?.as_deref() == Some(base) {
        return Ok(());
    }
    let what = format!("the hook post-checkout has taken the worktree from its branch {branch}");
    Err(Error::new(Exit::Environment, what)
        .at(&slot.top)
        .hint("git rev-parse --git-path hooks/post-checkout shows it"))
}
