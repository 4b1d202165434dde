//! `incoming/`: tasks by `mv`. A file that parses is submitted, anything else goes to
//! `incoming/rejected/` with its reason beside it in a `.why`.
//!
//! A file is taken by renaming it to `run/_in.UID`: one winner, and the user's name (which may be
//! anything, also bytes that are no text) is not in ours. The submission's uid is that UID, so a redo
//! cannot submit twice: `_in.UID` is removed after the submission is linked and before what was staged
//! for it.
//!
//! Each entry is dealt with by itself. One that cannot be read is rejected; one that cannot be moved
//! stays, and whoever looks is told so, while the others are taken.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{Cannot, Error, Result};
use crate::plan::jsonl::parse_submission;
use crate::rule;
use crate::step;
use crate::sys::escaped::{escape_os, length, unescape_path};
use crate::sys::fs::{Kind, is_absent};

use super::Queue;
use super::acceptance;
use super::durable;
use super::ids::random_part;
use super::procs::Proc;
use super::record::RECORD_MAX;
use super::submit;

/// A file that cannot be read or does not parse may still be being written; after this time without a
/// change it is taken as broken.
const SETTLED_MS: u64 = 2000;

/// Names that are longer are given up: a name has 255 bytes, and its reason's is longer.
const NAME_MAX: usize = 200;

/// What a look into `incoming/` did.
#[derive(Debug, Default)]
pub struct Taken {
    /// Ids that were accepted.
    pub accepted: Vec<String>,
    /// Names that were rejected, with the reason.
    pub rejected: Vec<(String, String)>,
    /// Names that are there and were not passed over, with what went wrong.
    pub tried: Vec<(String, Option<Error>)>,
    /// Something is still being written: look again after this many milliseconds.
    pub again_ms: Option<u64>,
}

/// Takes everything that is ready to be taken, but for what `leave` names. A name that is not UTF-8 is
/// written as `sys::escaped` has it.
///
/// # Errors
/// When the directory cannot be listed.
pub fn take_all(queue: &Queue, me: &mut Proc, leave: &dyn Fn(&str) -> bool) -> Result<Taken> {
    let mut taken = Taken::default();
    for (name, kind) in waiting(queue)? {
        if !leave(&name) {
            let went = take(queue, me, &name, kind, &mut taken).err();
            taken.tried.push((name, went));
        }
    }
    Ok(taken)
}

/// The names that wait to be taken, as people count.
///
/// # Errors
/// When the directory cannot be listed.
pub fn waiting(queue: &Queue) -> Result<Vec<(String, Kind)>> {
    let mut names = names_in(queue, &queue.layout.incoming())?;
    names.retain(|(name, kind)| !is_ignored(name, *kind));
    names.sort_by(|(a, _), (b, _)| super::ids::natural_cmp(a, b));
    Ok(names)
}

/// The names in a directory that people write into; none where it is not there.
fn names_in(queue: &Queue, dir: &Path) -> Result<Vec<(String, Kind)>> {
    match queue.fs.list_bytes(dir) {
        Err(e) if is_absent(&e) => Ok(Vec::new()),
        listed => {
            let listed = listed.cannot("list a directory", dir)?;
            Ok(listed.into_iter().map(|(name, kind)| (escape_os(name), kind)).collect())
        }
    }
}

/// Names of editors' and copiers' temporary files, and the directory of the rejected ones.
fn is_ignored(name: &str, kind: Kind) -> bool {
    (name == "rejected" && kind == Kind::Dir)
        || name.starts_with('.')
        || ["~", ".tmp", ".swp", ".part"].iter().any(|end| name.ends_with(end))
}

fn take(queue: &Queue, me: &mut Proc, name: &str, kind: Kind, taken: &mut Taken) -> Result<()> {
    let path = queue.layout.incoming().join(unescape_path(name));
    if kind == Kind::File {
        let broken = match queue.fs.read(&path, 0, RECORD_MAX).cannot("read a file", &path) {
            Err(e) if e.cause.as_ref().is_some_and(is_absent) => return Ok(()),
            Err(e) if !e.is_of_entry() => return Err(e),
            Err(_) => true,
            Ok(bytes) => parse_submission(&bytes).is_err(),
        };
        if broken {
            let Ok(stat) = queue.fs.stat(&path) else { return Ok(()) };
            let age = queue.clock.wall_ms().saturating_sub(stat.mtime_ns / 1_000_000);
            if age < SETTLED_MS {
                taken.again_ms = Some(SETTLED_MS - age + 10);
                return Ok(());
            }
        }
    }
    let uid = format!("{}{}", random_part(queue.clock.random()), random_part(queue.clock.random()));
    let mine = me.run(&format!("_in.{uid}"));
    durable::home(queue, me)?;
    step!("incoming.take");
    match queue.fs.rename(&path, &mine) {
        Ok(()) => {}
        // Somebody else was faster.
        Err(e) if is_absent(&e) => return Ok(()),
        Err(e) => return Err(e).cannot("take a file from incoming/", &path),
    }
    durable::taken(queue, &me.run(""))?;
    match accept(queue, me, &mine, &uid)? {
        Ok(id) => taken.accepted.push(id),
        Err(why) => {
            reject(queue, &mine, name, &uid, &why)?;
            taken.rejected.push((name.to_owned(), why));
        }
    }
    Ok(())
}

/// Submits a taken file. The inner error is the reason to reject it.
fn accept(
    queue: &Queue,
    me: &mut Proc,
    mine: &Path,
    uid: &str,
) -> Result<std::result::Result<String, String>> {
    let bytes = match queue.fs.stat(mine) {
        Ok(stat) if stat.kind != Kind::File => {
            return Ok(Err("not a regular file: only a file can be a task".to_owned()));
        }
        Ok(stat) if stat.len >= RECORD_MAX as u64 => {
            return Ok(Err("longer than 1 MiB".to_owned()));
        }
        _ => match queue.fs.read(mine, 0, RECORD_MAX).cannot("read a file from incoming/", mine) {
            Ok(bytes) => bytes,
            Err(e) if e.is_of_entry() => {
                let cause = e.cause.map(|cause| cause.to_string()).unwrap_or_default();
                return Ok(Err(format!("it cannot be read: {cause}")));
            }
            Err(e) => return Err(e),
        },
    };
    let (id, mut spec) = match parse_submission(&bytes) {
        Ok(parsed) => parsed,
        Err(why) => return Ok(Err(why)),
    };
    spec.uid = if rule!("F16") { uid.to_owned() } else { random_part(queue.clock.random()) };
    spec.by = "incoming".to_owned();
    spec.at = queue.now();
    let completed = acceptance::complete(queue, id.as_deref(), &mut spec);
    if let Err(e) = completed.and_then(|()| submit::check(queue, me, id.as_deref(), &spec)) {
        let hint = e.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        return Ok(Err(format!("{}{hint}", e.message)));
    }
    match submit::submit_taken(queue, me, id.as_deref(), spec, mine) {
        Ok(submitted) => Ok(Ok(submitted.id().to_owned())),
        Err(e) if e.exit == crate::error::Exit::Conflict => Ok(Err(e.message)),
        Err(e) => Err(e),
    }
}

/// Moves a taken file to rejected/, under its own name where that is free, and says why beside it.
/// Crash in between: a keeper's next look finds a file without a reason and gives it one.
fn reject(queue: &Queue, mine: &Path, name: &str, uid: &str, why: &str) -> Result<()> {
    let dir = queue.layout.rejected();
    queue.make_dirs(&dir).cannot("make a directory", &dir)?;
    let name = match is_free(queue, name) {
        true => name.to_owned(),
        false => format!("{uid}.json"),
    };
    let path = dir.join(unescape_path(&name));
    step!("incoming.reject");
    queue.fs.rename(mine, &path).cannot("reject a file", &path)?;
    say_why(queue, &name, why)
}

/// Whether a rejected file can have that name. None is named as the reason of another one.
fn is_free(queue: &Queue, name: &str) -> bool {
    let there = |path: PathBuf| queue.fs.exists(&path);
    length(name) < NAME_MAX
        && !name.ends_with(WHY)
        && !there(queue.layout.rejected().join(unescape_path(name)))
        && !there(reason(queue, name))
}

/// What the name of a reason has behind the name of its file.
const WHY: &str = ".why";

/// The rejected files that have a reason, by name.
///
/// # Errors
/// When the directory cannot be listed.
pub fn rejected(queue: &Queue) -> Result<Vec<String>> {
    let mut names: Vec<String> = names_in(queue, &queue.layout.rejected())?
        .into_iter()
        .filter_map(|(name, _)| Some(name.strip_suffix(WHY)?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// Where the reason of a rejected file stands.
pub fn reason(queue: &Queue, name: &str) -> PathBuf {
    queue.layout.rejected().join(unescape_path(&format!("{name}{WHY}")))
}

fn say_why(queue: &Queue, name: &str, why: &str) -> Result<()> {
    step!("incoming.why");
    queue.replace(&reason(queue, name), format!("{why}\n").as_bytes())?;
    queue.ring(&queue.layout.events_bell());
    Ok(())
}

/// Gives its reason to every rejected file that has none, as a crash leaves them.
///
/// # Errors
/// When the directory cannot be listed, or nothing can be written.
pub fn complete_rejected(queue: &Queue) -> Result<()> {
    let names = names_in(queue, &queue.layout.rejected())?;
    let names: BTreeSet<String> = names.into_iter().map(|(name, _)| name).collect();
    for name in names.iter().filter(|n| !n.ends_with(WHY) && !n.starts_with('.')) {
        if names.contains(&format!("{name}{WHY}")) || length(name) + WHY.len() > 255 {
            continue;
        }
        let path = queue.layout.rejected().join(unescape_path(name));
        let why = match queue.fs.read(&path, 0, RECORD_MAX) {
            Ok(bytes) => parse_submission(&bytes).err(),
            Err(e) if is_absent(&e) => continue,
            Err(e) => Some(format!("it cannot be read: {e}")),
        };
        let why = why.unwrap_or_else(|| "the queue refused it; mv it back to see why".to_owned());
        match say_why(queue, name, &why) {
            Err(e) if !e.is_of_entry() => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Finishes with a file that a dead process had taken and not staged.
pub fn resume(queue: &Queue, me: &mut Proc, taken: &Path, uid: &str) -> Result<()> {
    let mine = me.run(&format!("_in.{uid}"));
    if !queue.fs.exists(taken) {
        return Ok(());
    }
    // Who took it may not have waited for the disk. Before it moves on: of two moves the second alone
    // may survive, and the file would be in incoming/ as well.
    let run = taken.parent().unwrap_or(taken);
    if let Err(e) = durable::taken(queue, run) {
        // Another keeper may have been faster, and have removed run/ too.
        return if queue.fs.exists(taken) { Err(e) } else { Ok(()) };
    }
    if mine != taken {
        durable::home(queue, me)?;
        match queue.fs.rename(taken, &mine) {
            Err(e) if is_absent(&e) => return Ok(()),
            other => other.cannot("take over a file of incoming/", taken)?,
        }
        durable::taken(queue, &me.run(""))?;
    }
    if submit::number_of(queue, uid)?.is_some() {
        // Its removal was lost with the power, the task was not.
        return queue.discard(&mine);
    }
    match accept(queue, me, &mine, uid)? {
        Ok(_) => Ok(()),
        Err(why) => reject(queue, &mine, &format!("{uid}.json"), uid, &why),
    }
}
