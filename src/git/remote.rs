//! Another repository's branch: looking at it, and moving it forward. It is never forced.
//!
//! What is fetched gets a ref of ours, `refs/coord/remote/REMOTE/BRANCH`. The user's own view of the
//! remote (`refs/remotes`, `FETCH_HEAD`, tags) stays as it is.

use std::time::Duration;

use crate::error::{Error, Exit, Result};
use crate::sys::tool::Output;

use super::Git;

#[cfg(test)]
mod tests;

/// Tries while another process has the same ref locked, here or there.
const TRIES: u32 = 6;
/// The first nap between two; each is twice as long as the one before.
const NAP: Duration = Duration::from_millis(20);

/// What became of pushing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// The remote's branch is at the commit.
    Done,
    /// The remote's branch has commits that this one has not: fetch, and look again.
    Behind,
    /// The remote, or the repository's own hook, does not want it; its words.
    Refused(String),
}

/// Fetches a branch of a remote (a name, not an address) and says where it is; `None` if the remote
/// has no such branch, and then the ref from an earlier time stays.
///
/// # Errors
/// The remote cannot be reached, or is none.
pub fn fetch(git: &Git, remote: &str, branch: &str) -> Result<Option<String>> {
    let ours = format!("refs/coord/remote/{remote}/{branch}");
    // With `+`: whatever the remote's branch is now, also if somebody has forced it there.
    let refspec = format!("+refs/heads/{branch}:{ours}");
    let git = git.with("fetch.writeCommitGraph=false");
    let args = [
        "fetch",
        "--quiet",
        "--no-write-fetch-head",
        "--no-tags",
        "--no-prune",
        "--no-recurse-submodules",
        // Else it would follow the remote's configuration and move refs/remotes too.
        "--refmap=",
        "--",
        remote,
        &refspec,
    ];
    let mut tries = TRIES;
    loop {
        let output = git.run(&args)?;
        if output.ok() {
            return git.resolve(&ours);
        }
        let is_lock = output.stderr.contains("cannot lock ref");
        if !is_lock && tip(&git, remote, branch)?.is_none() {
            return Ok(None);
        }
        tries -= 1;
        if !is_lock || tries == 0 {
            return Err(git.failed(&format!("fetch {branch} from {remote}"), &output));
        }
        git.pause(NAP * (1 << (TRIES - tries)));
    }
}

/// Moves a branch of a remote forward to a commit, or makes it. Hooks of both sides run, and what
/// they say counts.
///
/// # Errors
/// The remote cannot be reached, or is none; there is no such commit.
pub fn push(git: &Git, remote: &str, commit: &str, branch: &str) -> Result<Pushed> {
    // A mirror, which pushes everything and forces it, takes no single branch.
    let git = git.with("push.gpgSign=false").with("push.followTags=false");
    let git = git.with(&format!("remote.{remote}.mirror=false"));
    let Some(commit) = &git.commit(commit)? else {
        let message = format!("there is no commit {commit} to be pushed");
        return Err(Error::new(Exit::NotFound, message).at(git.dir()));
    };
    let refspec = format!("{commit}:refs/heads/{branch}");
    let args =
        ["push", "--porcelain", "--no-force", "--recurse-submodules=no", "--", remote, &refspec];
    let mut tries = TRIES;
    loop {
        let output = git.run(&args)?;
        if output.ok() {
            return Ok(Pushed::Done);
        }
        // Whatever it says: the connection may be gone after the branch was moved.
        let now = tip(&git, remote, branch)?;
        if now.as_ref() == Some(commit) {
            return Ok(Pushed::Done);
        }
        if let Some(now) = &now
            && !(git.commit(now)?.is_some() && git.is_ancestor(now, commit)?)
        {
            return Ok(Pushed::Behind);
        }
        let reason = reason(&output);
        let others = ["cannot lock ref", "failed to update ref", "fetch first", "incorrect old"];
        let is_race = others.iter().any(|words| reason.contains(words));
        tries -= 1;
        if is_race && tries > 0 {
            git.pause(NAP * (1 << (TRIES - tries)));
            continue;
        }
        return Ok(Pushed::Refused(words(&reason, &output)));
    }
}

/// Where a branch of a remote is now.
fn tip(git: &Git, remote: &str, branch: &str) -> Result<Option<String>> {
    let name = format!("refs/heads/{branch}");
    let args = ["ls-remote", "--quiet", "--refs", "--", remote, &name];
    let list = git.must(&format!("reach {remote}"), &args)?.text();
    // The pattern also fits longer names that end so.
    let mut found = list.lines().filter_map(|line| line.split_once('\t'));
    Ok(found.find(|(_, found)| *found == name).map(|(oid, _)| oid.to_owned()))
}

/// What is said about the ref: `! TAB FROM:TO TAB [remote rejected] (REASON)`.
fn reason(output: &Output) -> String {
    let text = output.text();
    let mut lines = text.lines().filter(|line| line.starts_with('!'));
    lines.next().and_then(|line| line.split('\t').nth(2)).unwrap_or_default().to_owned()
}

/// The reason, and what the remote printed, or the hook on this side.
fn words(reason: &str, output: &Output) -> String {
    let lines = output.stderr.lines().map(|line| line.trim_end().to_owned());
    let own = |line: &String| {
        !line.is_empty() && !line.starts_with("To ") && !line.starts_with("error: failed to push")
    };
    let said: Vec<String> = lines
        .map(|line| line.strip_prefix("remote: ").unwrap_or(&line).trim_end().to_owned())
        .filter(own)
        .collect();
    let text = if reason.is_empty() { said } else { [vec![reason.to_owned()], said].concat() };
    let text: String = text.join("\n").chars().take(2000).collect();
    if text.is_empty() { format!("exit {}", output.code) } else { text }
}
