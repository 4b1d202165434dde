//! One transaction of git over several refs, and waiting for the locks of others.

use std::time::Duration;

use crate::error::{Error, Exit, Result};
use crate::git::Git;
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
            return Err(stuck(git, what, output));
        }
        let nap = self.next.clamp(NAP.0, NAP.1);
        git.pause(nap);
        self.waited += nap;
        self.next = nap * 2;
        Ok(())
    }
}

fn stuck(git: &Git, what: &str, output: &Output) -> Error {
    let waited = PATIENCE.as_secs();
    let named = output.stderr.split("Unable to create '").nth(1).and_then(|s| s.split('\'').next());
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
