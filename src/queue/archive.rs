//! `archive/` and `buried/`: tasks that are over leave `tasks/`, and their ids stay taken.
//!
//! A task goes one way: `tasks/T`, then `archive/LOT/XX/T` (its whole directory, by one rename), then
//! `buried/LOT/XX/T` (a file that says how it ended; the directory is deleted). LOT is `done` or `dead`,
//! XX one of 256 shards by the id. Whoever looks for T looks in this order, so it is never missed on its
//! way. Who has opened the directory before has it wherever it lies: a late link lands in it, where every
//! register that matters is taken, or fails.
//!
//! How it goes is in `moving.rs`.

mod moving;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};
use crate::sys::fs::{Kind, is_absent};

use super::Queue;
use super::events::{self, Event};
use super::ids::{Key, is_task_id, shard};
use super::layout::Lot;
use super::procs::Proc;
use super::record::{self, RECORD_MAX};
use super::tasks::{self, Phase, Task};
pub use moving::{Archiver, Moved, empty_trash};

/// What is left of a task whose files were deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tomb {
    /// How it ended. Its last attempt is not known any more.
    pub phase: Phase,
    /// Whether any attempt succeeded.
    pub passed: bool,
}

impl Tomb {
    /// The word for its state.
    pub fn word(&self) -> &'static str {
        word(&self.phase)
    }
}

fn word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Done(_) => "done",
        Phase::Cancelled(_) => "cancelled",
        _ => "failed",
    }
}

/// The content of a tombstone: the same for many tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tombstone {
    /// Version of the record.
    pub v: u32,
    /// done, failed or cancelled.
    pub state: String,
    /// Whether any attempt succeeded.
    pub passed: bool,
}

/// Reads an archived task.
pub fn look(queue: &Queue, id: &str) -> Result<Option<Task>> {
    for lot in Lot::ALL {
        let found = tasks::look_at(queue, id, &queue.layout.archived(lot, id))?;
        if let Some(task) = found.filter(|task| task.names.spec) {
            return Ok(Some(Task { archived: true, ..task }));
        }
    }
    Ok(None)
}

/// The tombstone of a task. One that cannot be read is that of a task that failed, or by its place of
/// one that is done.
pub fn tomb(queue: &Queue, id: &str) -> Result<Option<Tomb>> {
    let path = queue.layout.buried(Lot::Done, id);
    match queue.fs.stat(&path) {
        Ok(_) => return Ok(Some(Tomb { phase: Phase::Done(0), passed: true })),
        Err(e) if is_absent(&e) => {}
        Err(e) => return Err(e).cannot("look for a tombstone", &path),
    }
    let path = queue.layout.buried(Lot::Dead, id);
    let bytes = match queue.fs.read(&path, 0, RECORD_MAX) {
        Ok(bytes) => bytes,
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) if tasks::is_of_the_file(&e) => Vec::new(),
        Err(e) => return Err(e).cannot("read a tombstone", &path),
    };
    let stone: Tombstone = record::parse(&bytes).unwrap_or_default();
    let cancelled = stone.state == "cancelled";
    let phase = if cancelled { Phase::Cancelled(0) } else { Phase::Failed(0) };
    Ok(Some(Tomb { phase, passed: stone.passed }))
}

/// Whether an id is taken by a task that is archived or buried.
pub fn holds(queue: &Queue, id: &str) -> bool {
    let archived = |lot| queue.fs.stat(&queue.layout.archived(lot, id).join("spec.json")).is_ok();
    let buried = |lot| queue.fs.stat(&queue.layout.buried(lot, id)).is_ok();
    Lot::ALL.into_iter().any(archived) || Lot::ALL.into_iter().any(buried)
}

impl Task {
    /// What attempt n left: `n.out`, wherever the task lies.
    pub fn out(&self, n: u32) -> PathBuf {
        self.dir.path.join(format!("{n}.out"))
    }
}

/// Where the output of an attempt is by now: in the archive, if its task is.
pub fn out(queue: &Queue, key: &Key) -> PathBuf {
    let live = queue.layout.out(key);
    let archived = Lot::ALL.into_iter().map(|lot| queue.layout.archived(lot, &key.task));
    let mut archived = archived.filter(|dir| queue.fs.stat(dir).is_ok());
    match queue.fs.exists(&live) {
        true => live,
        false => archived.next().map_or(live, |dir| dir.join(format!("{}.out", key.n))),
    }
}

/// The last attempt of a task that is over.
fn last(phase: &Phase) -> Option<u32> {
    match phase {
        Phase::Done(n) | Phase::Failed(n) | Phase::Cancelled(n) => Some(*n),
        _ => None,
    }
}

/// Tells that a task was archived. `again`: it may have been told before, and must not count twice.
pub fn tell(queue: &Queue, me: &mut Proc, task: &Task, again: bool) {
    let mut event = event("archive", task);
    if again {
        event.more.insert("again".to_owned(), true.into());
    }
    events::append(queue, me, event);
}

fn event(kind: &str, task: &Task) -> Event {
    let n = last(&task.phase).unwrap_or(0);
    let mut event = Event::of(kind, &Key::new(&task.id, n));
    word(&task.phase).clone_into(&mut event.verdict);
    event
}

/// The directories of the shards of a lot, below `archive/` or `buried/`.
fn shards(queue: &Queue, top: &Path, lot: Lot) -> Result<Vec<PathBuf>> {
    let dir = top.join(lot.word());
    let entries = queue.list_reachable(&dir)?.into_iter();
    let dirs = entries.filter(|entry| entry.kind == Kind::Dir);
    Ok(dirs.map(|entry| dir.join(entry.name)).collect())
}

/// All archived tasks: their ids and directories.
pub fn all(queue: &Queue, lot: Lot) -> Result<Vec<(String, PathBuf)>> {
    names_below(queue, &queue.layout.archive(), lot)
}

/// All tombstones.
pub fn tombs(queue: &Queue, lot: Lot) -> Result<Vec<(String, PathBuf)>> {
    names_below(queue, &queue.layout.burials(), lot)
}

fn names_below(queue: &Queue, top: &Path, lot: Lot) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for dir in shards(queue, top, lot)? {
        let name = crate::sys::fs::name_of(&dir);
        let own = |id: &String| is_task_id(id) && shard(id) == name;
        let ids = queue.list_reachable(&dir)?.into_iter().map(|entry| entry.name).filter(own);
        found.extend(ids.map(|id| (id.clone(), dir.join(id))));
    }
    Ok(found)
}

/// How many tasks of a lot are archived or buried. Costs a listing of all their names.
pub fn count(queue: &Queue, lot: Lot) -> Result<usize> {
    let mut sum = 0;
    for top in [queue.layout.archive(), queue.layout.burials()] {
        for dir in shards(queue, &top, lot)? {
            sum += queue.list_reachable(&dir)?.len();
        }
    }
    Ok(sum)
}
