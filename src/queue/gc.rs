//! `coord gc`: which tasks leave `tasks/`, and what else nobody needs any more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{Cannot, Result};
use crate::step;
use crate::sys::fs::{Kind, is_absent};

use super::Queue;
use super::archive;
use super::elsewhere;
use super::end;
use super::events::Event;
use super::ids::{is_role, natural_cmp};
use super::layout::{Lot, due_of};
use super::procs::{self, Proc};
use super::ready::{is_bucket, priority_of};
use super::sweep::is_older;
use super::tasks::{self, Phase};

/// Events are kept for so long: 30 days.
pub const EVENTS_MS: u64 = 30 * 86_400_000;

/// Age from which a temporary file is nobody's any more.
const TMP_MS: u64 = 3_600_000;

/// Which tasks are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Only of these; `None`: of all.
    pub only: Option<BTreeSet<String>>,
    /// Those that were named as what they are: also if they failed or were cancelled.
    pub named: BTreeSet<String>,
    /// Only what has been over for longer than this.
    pub older_than_ms: u64,
    /// So many that were over last stay.
    pub keep: usize,
    /// Also of what is archived already, in order to bury it.
    pub archived: bool,
}

/// A task that fits a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Its id.
    pub id: String,
    /// done, failed or cancelled.
    pub state: &'static str,
    /// Its directory.
    pub dir: PathBuf,
    /// Whether it is archived already.
    pub archived: bool,
    /// When its last register came (nanoseconds since 1970).
    over_ns: u64,
}

/// A task that was named and does not fit: its id, and why.
pub type Refused = (String, String);

/// The tasks that fit, those that were over last first, and why those that were named do not.
pub fn choose(queue: &Queue, wish: &Wish) -> Result<(Vec<Chosen>, Vec<Refused>)> {
    let (mut chosen, mut refused) = (Vec::new(), Vec::new());
    let wanted = |id: &String| wish.only.as_ref().is_none_or(|only| only.contains(id));
    for id in tasks::ids(queue)?.into_iter().filter(wanted) {
        let Some(task) = tasks::seen(queue, &id)? else { continue };
        let state = match task.phase {
            Phase::Done(_) => "done",
            Phase::Failed(_) if wish.named.contains(&id) => "failed",
            Phase::Cancelled(_) if wish.named.contains(&id) => "cancelled",
            _ => {
                if wish.named.contains(&id) {
                    refused.push((id, "it is not over".to_owned()));
                }
                continue;
            }
        };
        chosen.extend(of(queue, id, state, task.dir.path, task.archived));
    }
    for lot in Lot::ALL.into_iter().filter(|_| wish.archived) {
        for (id, dir) in archive::all(queue, lot)?.into_iter().filter(|(id, _)| wanted(id)) {
            let wanted = lot == Lot::Done || wish.named.contains(&id);
            chosen.extend(of(queue, id, lot.word(), dir, true).filter(|_| wanted));
        }
    }
    chosen.sort_by(|a, b| b.over_ns.cmp(&a.over_ns).then_with(|| natural_cmp(&a.id, &b.id)));
    chosen.dedup_by(|a, b| a.id == b.id);
    let mut chosen = chosen.split_off(wish.keep.min(chosen.len()));
    let now_ns = queue.clock.wall_ms().saturating_mul(1_000_000);
    let least_ns = wish.older_than_ms.saturating_mul(1_000_000);
    chosen.retain(|one| now_ns.saturating_sub(one.over_ns) >= least_ns);
    Ok((chosen, refused))
}

fn of(
    queue: &Queue,
    id: String,
    state: &'static str,
    dir: PathBuf,
    archived: bool,
) -> Option<Chosen> {
    let over_ns = queue.fs.stat(&dir).ok()?.mtime_ns;
    Some(Chosen { id, state, dir, archived, over_ns })
}

/// What was removed besides tasks, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Files of events, older than 30 days.
    pub events: Vec<String>,
    /// Temporary files of those who died while they wrote them.
    pub temporary: usize,
    /// Empty directories of hints.
    pub empty: usize,
    /// Rejected files and their reasons.
    pub rejected: usize,
    /// Processes elsewhere that held nothing and have not answered.
    pub silent: Vec<String>,
}

/// Removes what nobody needs. `rejected_ms`: also rejected submissions that are older. With `dry_run`
/// it only looks; empty directories are not counted then, since only their removal tells.
pub fn leftovers(
    queue: &Queue,
    me: &mut Proc,
    rejected_ms: Option<u64>,
    dry_run: bool,
) -> Result<Leftovers> {
    let mut found = Leftovers::default();
    for name in old_events(queue)? {
        if !dry_run {
            remove_events(queue, me, &name)?;
        }
        found.events.push(name);
    }
    found.temporary = remove(queue, temporary(queue)?, dry_run)?;
    if let Some(age_ms) = rejected_ms {
        let dir = queue.layout.rejected();
        let files = queue.list(&dir)?.into_iter().filter(|e| e.kind == Kind::File);
        let paths = files.map(|e| dir.join(e.name)).filter(|path| is_older(queue, path, age_ms));
        found.rejected = remove(queue, paths.collect(), dry_run)?;
    }
    if !dry_run {
        archive::empty_trash(queue)?;
        found.empty = remove_empty(queue)?;
        found.silent = elsewhere::clean(queue, me)?;
    }
    Ok(found)
}

fn remove(queue: &Queue, paths: Vec<PathBuf>, dry_run: bool) -> Result<usize> {
    for path in paths.iter().filter(|_| !dry_run) {
        step!("gc.unlink");
        queue.discard(path)?;
    }
    Ok(paths.len())
}

/// Event files that nobody has written to for long, and nobody will: not the newest of a process that
/// is registered, nor of the commands of this boot.
fn old_events(queue: &Queue) -> Result<Vec<String>> {
    let dir = queue.layout.events();
    let names: Vec<String> = queue.list(&dir)?.into_iter().map(|entry| entry.name).collect();
    let segment = |name: &str| {
        let (stem, number) = name.strip_suffix(".jsonl")?.rsplit_once('.')?;
        Some((stem.to_owned(), number.parse::<u32>().ok()?))
    };
    let newest = |stem: &str| {
        let own = names.iter().filter_map(|name| segment(name)).filter(|(of, _)| of == stem);
        own.map(|(_, number)| number).max()
    };
    let living: BTreeSet<String> = procs::all(queue)?.into_iter().collect();
    let mut old = Vec::new();
    for name in &names {
        let Some((stem, number)) = segment(name) else { continue };
        let grows = newest(&stem) == Some(number)
            && (living.contains(&stem)
                || stem.starts_with("cli@") && is_of_this_boot(queue, &stem));
        if !grows && is_older(queue, &dir.join(name), EVENTS_MS) {
            old.push(name.clone());
        }
    }
    old.sort();
    Ok(old)
}

fn is_of_this_boot(queue: &Queue, stem: &str) -> bool {
    let boot = queue.host.place().boot;
    let boot: String = boot.chars().take(8).collect();
    stem.strip_prefix("cli@") == Some(boot.as_str())
}

/// Removes an event file. What it says of tasks that are not archived is told once more before, so the
/// status can always be made from the events that there are.
fn remove_events(queue: &Queue, me: &mut Proc, name: &str) -> Result<()> {
    let path = queue.layout.events().join(name);
    let limit = usize::try_from(super::events::READ_MAX).unwrap_or(usize::MAX);
    let bytes = match queue.fs.read(&path, 0, limit) {
        Err(e) if is_absent(&e) => return Ok(()),
        other => other.cannot("read events", &path)?,
    };
    let lines = bytes.split(|&b| b == b'\n');
    let events = lines.filter_map(|line| serde_json::from_slice::<Event>(line).ok());
    let ids: BTreeSet<String> =
        events.map(|event| event.id).filter(|id| is_live(queue, id)).collect();
    for id in ids {
        end::retell(queue, me, &id)?;
    }
    step!("gc.events");
    queue.discard(&path)
}

fn is_live(queue: &Queue, id: &str) -> bool {
    super::ids::is_id(id) && queue.fs.exists(&queue.layout.task(id).join("spec.json"))
}

/// Temporary files in which nobody writes any more.
fn temporary(queue: &Queue) -> Result<Vec<PathBuf>> {
    let mut dirs: Vec<PathBuf> =
        ["", "stats", "incoming/rejected"].map(|d| queue.layout.at(d)).into();
    dirs.extend(procs::all(queue)?.into_iter().map(|wid| queue.layout.proc(&wid)));
    let mut found = Vec::new();
    for dir in dirs {
        let own = |name: &str| name.starts_with('.') && name.ends_with(".tmp");
        let files = queue.list_reachable(&dir)?.into_iter();
        let files = files.filter(|e| e.kind == Kind::File && own(&e.name));
        let paths = files.map(|e| dir.join(e.name));
        found.extend(paths.filter(|path| is_older(queue, path, TMP_MS)));
    }
    Ok(found)
}

/// Removes the directories of hints that are empty. Whoever publishes there makes them anew.
fn remove_empty(queue: &Queue) -> Result<usize> {
    let below = |dir: &Path| -> Result<Vec<PathBuf>> {
        let dirs = queue.list_reachable(dir)?.into_iter().filter(|e| e.kind == Kind::Dir);
        Ok(dirs.map(|e| dir.join(e.name)).collect())
    };
    let mut dirs = below(&queue.layout.at("waiters"))?;
    let delayed = below(&queue.layout.delayed())?;
    dirs.extend(delayed.into_iter().filter(|d| due_of(&crate::sys::fs::name_of(d)).is_some()));
    // Below somebody else's directory nothing is ours, also where it is empty.
    let is = |dir: &PathBuf, ours: fn(&str) -> bool| ours(&crate::sys::fs::name_of(dir));
    for role in below(&queue.layout.ready())?.into_iter().filter(|dir| is(dir, is_role)) {
        let levels = below(&role)?.into_iter();
        for level in levels.filter(|dir| is(dir, |name| priority_of(name).is_some())) {
            dirs.extend(below(&level)?.into_iter().filter(|dir| is(dir, is_bucket)));
        }
    }
    for top in [queue.layout.archive(), queue.layout.burials()] {
        for lot in Lot::ALL {
            dirs.extend(below(&top.join(lot.word()))?);
        }
    }
    let mut count = 0;
    for dir in dirs {
        step!("gc.rmdir");
        // Fails where it is not empty.
        count += usize::from(queue.fs.rmdir(&dir).is_ok());
    }
    Ok(count)
}
