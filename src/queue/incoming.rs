//! `incoming/`: tasks by `mv`. A file that parses is submitted, anything else goes to
//! `incoming/rejected/` with its reason beside it in a `.why`.
//!
//! A file is taken by renaming it to `run/_in.UID`: one winner, and the user's name (which may be
//! anything) is not in ours. The submission's uid is that UID, so a redo cannot submit twice:
//! `_in.UID` is removed after the submission is linked and before what was staged for it.

use crate::error::{Cannot, Result};
use crate::plan::jsonl::parse_submission;
use crate::rule;
use crate::step;
use crate::sys::fs::{Entry, Kind, is_absent};

use super::Queue;
use super::acceptance;
use super::durable;
use super::ids::random_part;
use super::procs::Proc;
use super::record::RECORD_MAX;
use super::submit;

/// A file that does not parse may still be being written; after this time without a change it is
/// taken as broken.
const SETTLED_MS: u64 = 2000;

/// What a look into `incoming/` did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Ids that were accepted.
    pub accepted: Vec<String>,
    /// Names that were rejected, with the reason.
    pub rejected: Vec<(String, String)>,
    /// Something is still being written: look again after this many milliseconds.
    pub again_ms: Option<u64>,
}

/// Takes everything that is ready to be taken.
pub fn take_all(queue: &Queue, me: &mut Proc) -> Result<Taken> {
    complete_rejected(queue)?;
    let mut taken = Taken::default();
    let mut entries = queue.list(&queue.layout.incoming())?;
    entries.sort_by(|a, b| super::ids::natural_cmp(&a.name, &b.name));
    for entry in entries {
        if !is_ignored(&entry) {
            take(queue, me, &entry, &mut taken)?;
        }
    }
    Ok(taken)
}

/// Names of editors' and copiers' temporary files, and the directory of the rejected ones.
fn is_ignored(entry: &Entry) -> bool {
    let name = &entry.name;
    (name == "rejected" && entry.kind == Kind::Dir)
        || name.starts_with('.')
        || ["~", ".tmp", ".swp", ".part"].iter().any(|end| name.ends_with(end))
}

fn take(queue: &Queue, me: &mut Proc, entry: &Entry, taken: &mut Taken) -> Result<()> {
    let path = queue.layout.incoming().join(&entry.name);
    if entry.kind == Kind::File {
        match queue.fs.read(&path, 0, RECORD_MAX) {
            Err(e) if is_absent(&e) => return Ok(()),
            Ok(bytes) if parse_submission(&bytes).is_err() => {
                let Ok(stat) = queue.fs.stat(&path) else { return Ok(()) };
                let age = queue.clock.wall_ms().saturating_sub(stat.mtime_ns / 1_000_000);
                if age < SETTLED_MS {
                    taken.again_ms = Some(SETTLED_MS - age + 10);
                    return Ok(());
                }
            }
            _ => {}
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
            reject(queue, &mine, &entry.name, &uid, &why)?;
            taken.rejected.push((entry.name.clone(), why));
        }
    }
    Ok(())
}

/// Submits a taken file. The inner error is the reason to reject it.
fn accept(
    queue: &Queue,
    me: &mut Proc,
    mine: &std::path::Path,
    uid: &str,
) -> Result<std::result::Result<String, String>> {
    let bytes = match queue.fs.stat(mine) {
        Ok(stat) if stat.kind != Kind::File => {
            return Ok(Err("not a regular file: only a file can be a task".to_owned()));
        }
        Ok(stat) if stat.len >= RECORD_MAX as u64 => {
            return Ok(Err("longer than 1 MiB".to_owned()));
        }
        _ => queue.fs.read(mine, 0, RECORD_MAX).cannot("read a file from incoming/", mine)?,
    };
    let (id, mut spec) = match parse_submission(&bytes) {
        Ok(parsed) => parsed,
        Err(why) => return Ok(Err(why)),
    };
    spec.uid = if rule!("F16") { uid.to_owned() } else { random_part(queue.clock.random()) };
    spec.by = "incoming".to_owned();
    spec.at = queue.now();
    let completed = acceptance::complete(queue, id.as_deref(), &mut spec);
    if let Err(e) = completed.and_then(|()| submit::check(queue, id.as_deref(), &spec)) {
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
/// Crash in between: the next look into incoming/ finds a file without a reason and gives it one.
fn reject(queue: &Queue, mine: &std::path::Path, name: &str, uid: &str, why: &str) -> Result<()> {
    let dir = queue.layout.rejected();
    queue.make_dirs(&dir).cannot("make a directory", &dir)?;
    let free = !queue.fs.exists(&dir.join(name)) && name.len() < 200;
    let name = if free { name.to_owned() } else { format!("{uid}.json") };
    step!("incoming.reject");
    queue.fs.rename(mine, &dir.join(&name)).cannot("reject a file", &dir.join(&name))?;
    say_why(queue, &name, why)
}

fn say_why(queue: &Queue, name: &str, why: &str) -> Result<()> {
    let path = queue.layout.rejected().join(format!("{name}.why"));
    step!("incoming.why");
    queue.replace(&path, format!("{why}\n").as_bytes())?;
    queue.ring(&queue.layout.events_bell());
    Ok(())
}

/// Gives its reason to every rejected file that has none.
fn complete_rejected(queue: &Queue) -> Result<()> {
    let dir = queue.layout.rejected();
    let names: Vec<String> = queue.list(&dir)?.into_iter().map(|e| e.name).collect();
    for name in names.iter().filter(|n| !n.ends_with(".why") && !n.starts_with('.')) {
        if names.contains(&format!("{name}.why")) {
            continue;
        }
        let why = match queue.fs.read(&dir.join(name), 0, RECORD_MAX) {
            Ok(bytes) => parse_submission(&bytes).err(),
            Err(e) => Some(e.to_string()),
        };
        let why = why.unwrap_or_else(|| "the queue refused it; mv it back to see why".to_owned());
        say_why(queue, name, &why)?;
    }
    Ok(())
}

/// Finishes with a file that a dead process had taken and not staged.
pub fn resume(queue: &Queue, me: &mut Proc, taken: &std::path::Path, uid: &str) -> Result<()> {
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
