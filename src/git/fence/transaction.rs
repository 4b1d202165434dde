//! One transaction of git over several refs, and waiting for the locks of others.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Cannot, Error, Exit, Result};
use crate::git::Git;
use crate::sys::alive;
use crate::sys::clock::{Clock, RealClock};
use crate::sys::fs::{Fs, RealFs, is_absent};
use crate::sys::tool::Output;

/// How long somebody else's locks are waited for. Longer than any transaction of a living git.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first nap; each is twice as long as the one before, up to the second.
const NAP: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// Commands for `git update-ref --stdin -z`.
#[derive(Default)]
pub struct Transaction {
    commands: String,
}

impl Transaction {
    /// The ref has this value; as many zeros: it does not exist.
    pub fn verify(mut self, name: &str, oid: &str) -> Transaction {
        self.commands.push_str(&format!("verify {name}\0{oid}\0"));
        self
    }

    /// Moves the ref; from any value if `old` is empty.
    pub fn update(mut self, name: &str, new: &str, old: &str) -> Transaction {
        self.commands.push_str(&format!("update {name}\0{new}\0{old}\0"));
        self
    }

    /// Removes the ref, which has this value.
    pub fn delete(mut self, name: &str, old: &str) -> Transaction {
        self.commands.push_str(&format!("delete {name}\0{old}\0"));
        self
    }

    /// All or nothing.
    pub fn run(&self, git: &Git, what: &str) -> Result<Output> {
        let input = format!("start\0{}prepare\0commit\0", self.commands);
        let reason = format!("coord: {what}");
        git.feed(&["update-ref", "-m", &reason, "--stdin", "-z"], input.into_bytes())
    }
}

/// Waiting for locks of others, for a while.
#[derive(Default)]
pub struct Patience {
    waited: Duration,
    next: Duration,
    cleared: Vec<String>,
}

impl Patience {
    /// Naps before the next try; the error of the last one when it is enough, and at once when it
    /// is not about locks.
    pub fn again(&mut self, git: &Git, what: &str, output: &Output) -> Result<()> {
        // What was killed may have left locks, and the next one says so.
        let was_killed = output.code > 128;
        // Both of git's formats say so of a lock, and of a value that was another one for a moment.
        let is_lock =
            output.stderr.contains("cannot lock ref") || output.stderr.contains("Unable to create");
        if !was_killed && !is_lock {
            return Err(git.failed(what, output));
        }
        if self.waited >= PATIENCE {
            // A killed transaction leaves a lock for each of its refs; each is cleared once.
            let lock = named(output).unwrap_or_default().to_owned();
            if self.cleared.contains(&lock) || !clear(git, output)? {
                return Err(stuck(git, what, output));
            }
            self.cleared.push(lock);
            return Ok(());
        }
        let nap = self.next.clamp(NAP.0, NAP.1);
        git.pause(nap);
        self.waited += nap;
        self.next = nap * 2;
        Ok(())
    }
}

/// The lock file that git names.
fn named(output: &Output) -> Option<&str> {
    output.stderr.split("Unable to create '").nth(1).and_then(|s| s.split('\'').next())
}

/// Removes a lock that a killed git has left, such as that of a merger that died in the middle. Only
/// after waiting longer than any living git takes, if the file is older than that wait, and if no git
/// at all is at work in the repository or in a worktree of it. False: it must stay.
fn clear(git: &Git, output: &Output) -> Result<bool> {
    let Some(lock) = named(output).map(|lock| git.dir().join(lock)) else { return Ok(false) };
    let Some(name) = lock.to_str().filter(|name| name.ends_with(".lock")) else {
        return Ok(false);
    };
    let Ok(stat) = RealFs.stat(&lock) else { return Ok(true) };
    let age = RealClock.wall_ms().saturating_sub(stat.mtime_ns / 1_000_000);
    if u128::from(age) < PATIENCE.as_millis() {
        return Ok(false);
    }
    let mut places: Vec<PathBuf> =
        super::super::worktrees::list(git)?.into_iter().map(|w| w.path).collect();
    let args = ["rev-parse", "--path-format=absolute", "--git-common-dir"];
    places.extend(git.ask(&args)?.map(PathBuf::from));
    let at_work =
        |place: &PathBuf| alive::inside(place).iter().any(|(_, name)| name.starts_with("git"));
    if places.iter().any(at_work) {
        return Ok(false);
    }
    tracing::warn!("removing {name}, which a git that was killed has left");
    match RealFs.unlink(&lock) {
        Err(e) if !is_absent(&e) => {
            Err(e).cannot("remove a lock that a killed git has left", &lock)
        }
        _ => Ok(true),
    }
}

fn stuck(git: &Git, what: &str, output: &Output) -> Error {
    let waited = PATIENCE.as_secs();
    let named = named(output);
    // Reftables have one for all refs, which git does not name.
    let of_all = || git.ask(&["rev-parse", "--git-path", "reftable/tables.list.lock"]);
    let lock = named.map(str::to_owned).or_else(|| of_all().ok().flatten());
    let (true, Some(lock)) = (output.code == 128, lock) else {
        return git.failed(&format!("{what} in {waited} seconds"), output);
    };
    let lock = git.dir().join(lock);
    let hint = format!(
        "if no git is at work in this repository, one has died there: rm '{}'",
        lock.display()
    );
    let message = format!("cannot {what}: a lock of git is in the way for {waited} seconds");
    Error::new(Exit::Environment, message).at(&lock).hint(hint)
}
