//! Fencing tokens in git itself: of those who believe that it is their turn to move a branch, only
//! the last one can.
//!
//! The turn on a lane is the ref `refs/coord/turn/LANE`. It points to a blob whose words name the
//! turn, so no two turns have the same. Who begins a turn moves the ref, whatever it was. From then
//! on every decision of an earlier turn fails, because each is *one* transaction of git that moves
//! one ref and verifies the others:
//!
//! | decision | verified | moved |
//! |---|---|---|
//! | land | the turn; that no `refs/coord/returned/KEY` exists | the target, from its expected value |
//! | return | the turn | `refs/coord/returned/KEY`, from nothing |
//!
//! A third kind of ref, `refs/coord/started/LANE`, is moved by every attempt for which others make way,
//! before it reads its base ([`mark_start`]). A turn that has looked who makes way ([`watch_starts`])
//! lands attempts only if none has started since: its transaction verifies that ref, too.
//!
//! **Why that is enough.** git locks every ref of a transaction, also those that are only verified,
//! then compares all of them, then moves. (A repository with reftables has one lock for all.) So a
//! turn cannot begin between the comparison and the move; it waits for the lock, and what was
//! decided before it began is visible to it. A transaction of an earlier turn that comes later finds
//! another value. And as one ref is moved by one rename, a crash leaves it moved or not moved, and
//! never a half. What it can leave is lock files, which git never removes; one that stays and that no
//! git on this machine can be at work on is removed (`transaction::clear`), any other is named.
//!
//! **Lost replies.** git may die after it has moved the ref, and before it said so. Therefore no
//! failure is believed: what became of a transaction is read from the refs.

use crate::error::{Error, Exit, Result};

use super::Git;
use transaction::{Patience, Transaction};

mod transaction;

#[cfg(test)]
mod tests;

/// The right to decide on a lane, until the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The lane, a part of a name of a ref.
    pub lane: String,
    /// The blob that the turn's ref points to.
    pub oid: String,
    /// Where the ref of starts was when the turn last looked; nothing: it was not there, or the turn
    /// does not care.
    pub started: Option<String>,
}

/// What became of landing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landed {
    /// The commit is in the target.
    Moved,
    /// The target is not where it was expected, but here: look again.
    Elsewhere(String),
    /// These were returned before.
    Returned(Vec<String>),
    /// A later turn has begun.
    Fenced,
    /// An attempt has started for which some of these may have to make way: look again.
    Started,
}

/// Begins a turn on a lane and so ends every earlier one. `words` must be unlike those of any other
/// turn, also of past ones.
///
/// # Errors
/// A lane that cannot be a part of a ref's name; locks that do not go away.
pub fn begin_turn(git: &Git, lane: &str, words: &str) -> Result<Turn> {
    let turn = turn_ref(lane)?;
    let oid = blob(git, words)?;
    let what = format!("begin a turn on {lane}");
    let mut patience = Patience::default();
    loop {
        let output = Transaction::default().update(&turn, &oid, "").run(git, &what)?;
        // It may also have been ours already, and another one begun since. Whether it still is
        // shows when it decides something.
        if output.ok() || value(git, &turn)?.as_deref() == Some(&oid) {
            return Ok(Turn { lane: lane.to_owned(), oid, started: None });
        }
        patience.again(git, &what, &output)?;
    }
}

/// A blob with these words.
fn blob(git: &Git, words: &str) -> Result<String> {
    let output = git.feed(&["hash-object", "-w", "--stdin"], words.as_bytes().to_vec())?;
    if !output.ok() {
        return Err(git.failed("write words into the repository", &output));
    }
    Ok(output.text().trim().to_owned())
}

/// Says that an attempt for which others make way is about to read its base. Whoever has looked before
/// that who makes way cannot land any more. `words` must be unlike those of any other start.
///
/// # Errors
/// As of [`begin_turn`].
pub fn mark_start(git: &Git, lane: &str, words: &str) -> Result<()> {
    let started = started_ref(lane)?;
    let oid = blob(git, words)?;
    let what = format!("mark a start on {lane}");
    let mut patience = Patience::default();
    loop {
        let output = Transaction::default().update(&started, &oid, "").run(git, &what)?;
        // Another start that came after this one serves as well.
        if output.ok() || value(git, &started)?.as_deref() == Some(&oid) {
            return Ok(());
        }
        patience.again(git, &what, &output)?;
    }
}

/// From here on the turn lands attempts only if none has started since; before it looks who makes way.
///
/// # Errors
/// Those of git.
pub fn watch_starts(git: &Git, turn: &mut Turn) -> Result<()> {
    let now = value(git, &started_ref(&turn.lane)?)?;
    turn.started = Some(now.unwrap_or_else(|| nothing_like(&turn.oid)));
    Ok(())
}

/// Moves the ref `target` from `old` to `new`, full names of commits, if it is still this turn and
/// none of `keys` was returned; where there are `keys`, also if no attempt has started since the turn
/// last watched for starts.
///
/// # Errors
/// The target is gone; locks that do not go away; a hook of the repository that refuses.
pub fn land(
    git: &Git,
    turn: &Turn,
    target: &str,
    new: &str,
    old: &str,
    keys: &[&str],
) -> Result<Landed> {
    let turn_ref = turn_ref(&turn.lane)?;
    let what = format!("land {new} on {target}");
    let mut transaction = Transaction::default().verify(&turn_ref, &turn.oid);
    for key in keys {
        transaction = transaction.verify(&returned_ref(key)?, &nothing_like(old));
    }
    let started_ref = started_ref(&turn.lane)?;
    let started = turn.started.as_deref().filter(|_| !keys.is_empty());
    if let Some(oid) = started {
        transaction = transaction.verify(&started_ref, oid);
    }
    let transaction = transaction.update(checked(target)?, new, old);
    let mut patience = Patience::default();
    loop {
        let output = transaction.run(git, &what)?;
        if output.ok() {
            return Ok(Landed::Moved);
        }
        let Some(now) = value(git, target)? else {
            return Err(Error::new(Exit::Conflict, format!("cannot {what}: {target} is gone"))
                .at(git.dir())
                .hint("somebody has removed or renamed the branch"));
        };
        // Also if somebody has gone on from there: it is in.
        if now == new || (now != old && git.is_ancestor(new, &now)?) {
            return Ok(Landed::Moved);
        }
        if value(git, &turn_ref)?.as_deref() != Some(&turn.oid) {
            return Ok(Landed::Fenced);
        }
        let mut returned = Vec::new();
        for key in keys {
            if is_returned(git, key)? {
                returned.push((*key).to_owned());
            }
        }
        if !returned.is_empty() {
            return Ok(Landed::Returned(returned));
        }
        if now != old {
            return Ok(Landed::Elsewhere(now));
        }
        if let Some(oid) = started
            && value(git, &started_ref)?.unwrap_or_else(|| nothing_like(oid)) != oid
        {
            return Ok(Landed::Started);
        }
        patience.again(git, &what, &output)?;
    }
}

/// Decides that `key` does not land but goes back, if it is still this turn. Whether that is
/// decided now, by this turn or by an earlier one; `false` if a later turn has begun before.
///
/// # Errors
/// As of [`land`].
pub fn settle_bounce(git: &Git, turn: &Turn, key: &str) -> Result<bool> {
    let (turn_ref, returned) = (turn_ref(&turn.lane)?, returned_ref(key)?);
    let what = format!("return {key}");
    let transaction = Transaction::default().verify(&turn_ref, &turn.oid);
    let transaction = transaction.update(&returned, &turn.oid, &nothing_like(&turn.oid));
    let mut patience = Patience::default();
    loop {
        let output = transaction.run(git, &what)?;
        if output.ok() || is_returned(git, key)? {
            return Ok(true);
        }
        if value(git, &turn_ref)?.as_deref() != Some(&turn.oid) {
            return Ok(false);
        }
        patience.again(git, &what, &output)?;
    }
}

/// Whether it was decided that `key` goes back.
///
/// # Errors
/// Those of git.
pub fn is_returned(git: &Git, key: &str) -> Result<bool> {
    Ok(value(git, &returned_ref(key)?)?.is_some())
}

/// Removes that decision, for when it stands elsewhere too. Not fenced: it is for whoever knows that
/// nobody can land `key` any more.
///
/// # Errors
/// Locks that do not go away.
pub fn forget_returned(git: &Git, key: &str) -> Result<()> {
    let returned = returned_ref(key)?;
    let what = format!("forget that {key} was returned");
    let mut patience = Patience::default();
    while let Some(oid) = value(git, &returned)? {
        let output = Transaction::default().delete(&returned, &oid).run(git, &what)?;
        if !output.ok() {
            patience.again(git, &what, &output)?;
        }
    }
    Ok(())
}

fn turn_ref(lane: &str) -> Result<String> {
    of_lane("turn", lane)
}

/// A ref of a lane. A name with `~`, for what no name of a file may have, has `%` here: no ref may have
/// the former.
fn of_lane(kind: &str, lane: &str) -> Result<String> {
    checked(&format!("refs/coord/{kind}/{}", lane.replace('~', "%"))).map(str::to_owned)
}

/// The ref that keeps what a turn is about to land while that is checked.
///
/// # Errors
/// A lane that cannot be a part of a ref's name.
pub fn candidate_ref(lane: &str) -> Result<String> {
    of_lane("candidate", lane)
}

fn started_ref(lane: &str) -> Result<String> {
    of_lane("started", lane)
}

fn returned_ref(key: &str) -> Result<String> {
    checked(&format!("refs/coord/returned/{key}")).map(str::to_owned)
}

/// git looks at names too. This is for what would end a command of a transaction, or make it about
/// something else than refs.
fn checked(name: &str) -> Result<&str> {
    let odd = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    if !name.starts_with("refs/") || name.ends_with('/') || name.contains(odd) {
        return Err(Error::usage(format!("{name:?} cannot be the name of a ref")));
    }
    Ok(name)
}

/// The value that stands for "no such ref", as long as the names of this repository's objects.
fn nothing_like(oid: &str) -> String {
    "0".repeat(oid.len())
}

/// Where a ref is; `None` if it does not exist. That it cannot be read is an error: here "no" would
/// be an answer.
fn value(git: &Git, name: &str) -> Result<Option<String>> {
    let args = ["for-each-ref", "--format=%(refname) %(objectname)", "--", name];
    let list = git.must(&format!("read {name}"), &args)?.text();
    // The pattern also fits what is below the name.
    let mut values = list.lines().filter_map(|line| line.split_once(' '));
    Ok(values.find(|(found, _)| *found == name).map(|(_, oid)| oid.to_owned()))
}
