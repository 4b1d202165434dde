//! `tasks/T/`: the registers of a task, and the state that their names and contents mean.
//!
//! The state is a pure function of the directory (`phase`), so all processes that see the same
//! names agree, and nothing is ever "set". Reading a fresh task costs one listing and its spec.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{Cannot, Error, Exit, Result};
use crate::plan::suggest;
use crate::rule;
use crate::sys::fs::{Dir, is_absent, is_no_file};

use super::Queue;
use super::archive;
use super::ids::{lane_name, register_number};
use super::record::{
    self, Card, CardKind, End, Note, RECORD_MAX, Spec, Stage, StageVerdict, Unreadable, Verdict,
};

/// The names in a task's directory, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// `spec.json` is there.
    pub spec: bool,
    /// Numbers k with `k.claim`.
    pub claims: BTreeSet<u32>,
    /// Numbers k with `k.end`.
    pub ends: BTreeSet<u32>,
    /// Numbers k with `k.cancel`.
    pub cancels: BTreeSet<u32>,
    /// Numbers k with `k.reopen`.
    pub reopens: BTreeSet<u32>,
    /// Numbers k with `k.review`.
    pub reviews: BTreeSet<u32>,
    /// Numbers k with `k.merge`.
    pub merges: BTreeSet<u32>,
    /// Numbers k with `k.late`.
    pub lates: BTreeSet<u32>,
    /// Numbers k with `k.out`.
    pub outs: BTreeSet<u32>,
    /// Names that are none of ours.
    pub foreign: Vec<String>,
}

impl Names {
    /// Sorts the names of a listing.
    pub fn of<'a>(names: impl Iterator<Item = &'a str>) -> Names {
        let mut all = Names::default();
        for name in names {
            if name == "spec.json" {
                all.spec = true;
                continue;
            }
            if name == "jobs" {
                // Of an array: its own registers, see array.rs.
                continue;
            }
            let parsed = name.split_once('.').and_then(|(n, kind)| {
                let set = match kind {
                    "claim" => &mut all.claims,
                    "end" => &mut all.ends,
                    "cancel" => &mut all.cancels,
                    "reopen" => &mut all.reopens,
                    "review" => &mut all.reviews,
                    "merge" => &mut all.merges,
                    "late" => &mut all.lates,
                    "out" => &mut all.outs,
                    _ => return None,
                };
                Some((set, register_number(n, kind)?))
            });
            match parsed {
                Some((set, n)) => {
                    set.insert(n);
                }
                None => all.foreign.push(name.to_owned()),
            }
        }
        all
    }

    /// How many registers there are. They are never removed, so the number says which.
    pub fn registers(&self) -> usize {
        let sets = [
            &self.claims,
            &self.ends,
            &self.cancels,
            &self.reopens,
            &self.reviews,
            &self.merges,
            &self.lates,
        ];
        usize::from(self.spec) + sets.iter().map(|set| set.len()).sum::<usize>()
    }

    /// The highest attempt that was claimed; 0 if none.
    pub fn last(&self) -> u32 {
        self.claims.last().copied().unwrap_or(0)
    }
}

/// A stage after a successful attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageKind {
    /// `n.review`.
    Review,
    /// `n.merge`.
    Merge,
}

/// What the registers of a task mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// No spec: being submitted, or an empty directory.
    NoSpec,
    /// The spec cannot be read: never run, named by fsck.
    Corrupt(String),
    /// Attempt n may be claimed, if nothing else speaks against it.
    Pending(u32),
    /// Attempt n is claimed and has not ended.
    Claimed(u32),
    /// Attempt n succeeded and waits for a stage.
    Stage(u32, StageKind),
    /// Attempt n succeeded, and so did all stages.
    Done(u32),
    /// No attempt is left (the protocol's "dead").
    Failed(u32),
    /// Cancelled at attempt n.
    Cancelled(u32),
}

impl Phase {
    /// Whether nothing will happen any more by itself.
    pub fn is_over(&self) -> bool {
        matches!(self, Phase::Done(_) | Phase::Failed(_) | Phase::Cancelled(_))
    }
}

/// A task as read at one moment.
#[derive(Debug)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its open directory, in which spec.json was looked for.
    pub dir: Dir,
    /// The names in it.
    pub names: Names,
    /// Its spec.
    pub spec: std::result::Result<Spec, Unreadable>,
    /// What it all means.
    pub phase: Phase,
    /// The last end, as everyone must understand it; `None` before the first end.
    pub last_end: Option<End>,
    /// Whether it lies in the archive: over for ever.
    pub archived: bool,
}

/// Reads a task, in `tasks/` or else in the archive. `None`: there is no such directory.
///
/// In this order, since a task goes from the one to the other and never back. An empty directory in
/// `tasks/` may be that of a submitter who was about to use the id again.
pub fn look(queue: &Queue, id: &str) -> Result<Option<Task>> {
    let found = look_at(queue, id, &queue.layout.task(id))?;
    let live = found.as_ref().is_some_and(|task| task.names.spec);
    if live || lane_name(id).is_some() || !rule!("F3") {
        return Ok(found);
    }
    Ok(archive::look(queue, id)?.or(found))
}

/// What a reader that decides nothing can see of a task: nothing of one that cannot be looked at by a fault
/// of its own.
pub fn seen(queue: &Queue, id: &str) -> Result<Option<Task>> {
    match look(queue, id) {
        Err(e) if e.is_of_entry() => Ok(None),
        found => found,
    }
}

/// Reads the task in that directory.
pub(super) fn look_at(queue: &Queue, id: &str, path: &Path) -> Result<Option<Task>> {
    let dir = match queue.fs.open_dir(path) {
        Ok(dir) => dir,
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) => return Err(e).cannot("open a task", path),
    };
    let entries = match queue.fs.list_in(&dir) {
        // It was opened, and deleted before it was read: a task that is buried, or an empty directory.
        Err(e) if is_absent(&e) => return Ok(None),
        listed => listed.cannot("list a task", path)?,
    };
    let names = Names::of(entries.iter().map(|e| e.name.as_str()));
    let spec = if names.spec { read(queue, &dir, "spec.json")? } else { absent() };
    let new = Phase::NoSpec;
    let mut task =
        Task { id: id.to_owned(), dir, names, spec, phase: new, last_end: None, archived: false };
    let n = task.names.last();
    if n > 0 && task.names.ends.contains(&n) {
        task.last_end = Some(end_of(queue, &task, n)?);
    }
    task.phase = phase(queue, &task)?;
    Ok(Some(task))
}

/// Reads a task that must exist.
pub fn existing(queue: &Queue, id: &str) -> Result<Task> {
    let found = if super::ids::is_id(id) { look(queue, id)? } else { None };
    if let Some(task) = found.filter(|t| t.names.spec) {
        return Ok(task);
    }
    if super::ids::is_task_id(id)
        && let Some(tomb) = archive::tomb(queue, id)?
    {
        let what = format!("{id} is over ({}), and its files were deleted", tomb.word());
        return Err(Error::new(Exit::NotFound, what).hint("its id stays taken: coord gc --help"));
    }
    let all = ids(queue)?;
    let error = Error::new(Exit::NotFound, format!("no task {id:?}"));
    Err(match suggest::nearest(id, all.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint("coord ls shows all of them"),
    })
}

fn absent<T>() -> std::result::Result<T, Unreadable> {
    Err(Unreadable("there is no spec.json".to_owned()))
}

/// Reads one register or record of a task.
///
/// What is there and makes no sense has a meaning, the same for everybody: the inner error. That this
/// process cannot read it *now* (no descriptor left, a disk that answers with an error) has none, and
/// must not be taken for one: an end that says `done` would permit a further attempt.
pub fn read<T: serde::de::DeserializeOwned>(
    queue: &Queue,
    dir: &Dir,
    name: &str,
) -> Result<std::result::Result<T, Unreadable>> {
    match queue.fs.read_in(dir, name, RECORD_MAX) {
        Ok(bytes) => Ok(record::parse(&bytes)),
        Err(e) if is_absent(&e) || is_no_file(&e) => Ok(Err(Unreadable(e.to_string()))),
        Err(e) => Err(e).cannot("read a register", &dir.path.join(name)),
    }
}

/// Whether an error says what the name is (gone, no regular file), not how this process fares.
pub fn is_of_the_file(error: &std::io::Error) -> bool {
    use nix::libc;
    is_absent(error)
        || matches!(error.raw_os_error(), None | Some(libc::ELOOP | libc::ENXIO | libc::EISDIR))
}

/// End k of a task. An unreadable one means `lost`, charged as the previous one plus one.
pub fn end_of(queue: &Queue, task: &Task, k: u32) -> Result<End> {
    Ok(match read::<End>(queue, &task.dir, &format!("{k}.end"))? {
        Ok(mut end) => {
            // These three never end a task, whatever a hand may have written (fault 7).
            if matches!(end.verdict, Verdict::Release | Verdict::Lost) && rule!("F7") {
                end.retry = true;
            }
            end
        }
        Err(_) => {
            let charged = charged_before(queue, task, k)?.saturating_add(1);
            End { charged, ..End::lost() }
        }
    })
}

/// The last end below attempt `n`, which says what was charged so far.
pub fn end_before(queue: &Queue, task: &Task, n: u32) -> Result<Option<End>> {
    let k = task.names.ends.range(..n).next_back();
    k.map(|k| end_of(queue, task, *k)).transpose()
}

fn charged_before(queue: &Queue, task: &Task, n: u32) -> Result<u32> {
    let mut unreadable = 0;
    for &k in task.names.ends.range(..n).rev() {
        match read::<End>(queue, &task.dir, &format!("{k}.end"))? {
            Ok(end) => return Ok(end.charged.saturating_add(unreadable)),
            Err(_) => unreadable += 1,
        }
    }
    Ok(unreadable)
}

/// The card behind `n.claim`; `None` if it is unreadable or not there.
pub fn claimer(queue: &Queue, task: &Task, n: u32) -> Result<Option<Card>> {
    Ok(read(queue, &task.dir, &format!("{n}.claim"))?.ok())
}

/// Reads `n.reopen`: `Some(closed)` if it is there. An unreadable one permits.
fn reopened(queue: &Queue, task: &Task, n: u32) -> Result<Option<bool>> {
    if !task.names.reopens.contains(&n) {
        return Ok(None);
    }
    let note = read::<Note>(queue, &task.dir, &format!("{n}.reopen"))?;
    Ok(Some(note.is_ok_and(|note| note.closed)))
}

/// The state function.
fn phase(queue: &Queue, task: &Task) -> Result<Phase> {
    let spec = match &task.spec {
        Ok(spec) => spec,
        Err(_) if !task.names.spec => return Ok(Phase::NoSpec),
        Err(why) => return Ok(Phase::Corrupt(why.to_string())),
    };
    let n = task.names.last();
    if n == 0 {
        return Ok(Phase::Pending(1));
    }
    let Some(end) = &task.last_end else { return Ok(Phase::Claimed(n)) };
    if lane_name(&task.id).is_some() {
        // A lane has one turn after the other, for ever.
        return Ok(after(n));
    }
    if end.verdict == Verdict::Done {
        return stages(queue, task, spec, n);
    }
    match reopened(queue, task, n)?.filter(|_| rule!("F6")) {
        Some(false) => return Ok(after(n)),
        Some(true) => {}
        None if end.retry => return Ok(after(n)),
        None => {}
    }
    Ok(if end.verdict == Verdict::Cancel { Phase::Cancelled(n) } else { Phase::Failed(n) })
}

/// The attempt after n. Behind the last number that there is nothing comes.
fn after(n: u32) -> Phase {
    n.checked_add(1).map_or(Phase::Failed(n), Phase::Pending)
}

/// What comes after a successful attempt: the wanted stages, in order.
fn stages(queue: &Queue, task: &Task, spec: &Spec, n: u32) -> Result<Phase> {
    let wanted = [
        (spec.review, StageKind::Review, "review", &task.names.reviews),
        (spec.merge, StageKind::Merge, "merge", &task.names.merges),
    ];
    for (_, kind, suffix, present) in wanted.into_iter().filter(|(wanted, ..)| *wanted) {
        if !present.contains(&n) {
            return Ok(Phase::Stage(n, kind));
        }
        match read::<Stage>(queue, &task.dir, &format!("{n}.{suffix}"))? {
            Ok(stage) if stage.verdict == StageVerdict::Pass => {}
            Ok(stage) if !stage.retry && reopened(queue, task, n)? != Some(false) => {
                return Ok(Phase::Failed(n));
            }
            // A bounce with retry, or a register that cannot be read: once more.
            _ => return Ok(after(n)),
        }
    }
    Ok(Phase::Done(n))
}

/// How the merge of attempt n ended, if it has. One that cannot be read is a bounce with a retry.
pub fn merge_of(queue: &Queue, task: &Task, n: u32) -> Result<Option<Stage>> {
    if !task.names.merges.contains(&n) {
        return Ok(None);
    }
    let stage = read::<Stage>(queue, &task.dir, &format!("{n}.merge"))?;
    let lost =
        || Stage { retry: true, ..Stage::new(StageVerdict::Bounce, "the register cannot be read") };
    Ok(Some(stage.unwrap_or_else(|_| lost())))
}

/// Whether a reopen of attempt n is one that closes the task for ever.
pub fn is_closed(queue: &Queue, task: &Task, n: u32) -> Result<bool> {
    Ok(reopened(queue, task, n)? == Some(true))
}

/// Whether any attempt of the task succeeded, stages or not: what `D@pass` waits for.
pub fn passed(queue: &Queue, task: &Task) -> Result<bool> {
    Ok(ends(queue, task)?.values().any(|end| end.verdict == Verdict::Done))
}

/// Whether a claim of this kind has a living process behind it that can be judged.
pub fn has_liveness(kind: CardKind) -> bool {
    !matches!(kind, CardKind::Human | CardKind::Hold)
}

/// All tasks, by id; for sweeps, fsck and listings.
pub fn ids(queue: &Queue) -> Result<Vec<String>> {
    let names = queue.list(&queue.layout.tasks())?;
    let mut ids: Vec<String> =
        names.into_iter().map(|e| e.name).filter(|n| super::ids::is_task_id(n)).collect();
    ids.sort_by(|a, b| super::ids::natural_cmp(a, b));
    Ok(ids)
}

/// Everything that has registers: the tasks, and the lanes in which they are merged.
pub fn ids_and_lanes(queue: &Queue) -> Result<Vec<String>> {
    let mut all = ids(queue)?;
    all.extend(super::lane::ids(queue)?);
    Ok(all)
}

/// All ends of a task by number, for its story.
pub fn ends(queue: &Queue, task: &Task) -> Result<BTreeMap<u32, End>> {
    task.names.ends.iter().map(|&k| Ok((k, end_of(queue, task, k)?))).collect()
}

#[cfg(test)]
mod tests;
