//! `archive/` and `buried/`: tasks that are over leave `tasks/`, and their ids stay taken.
//!
//! A task goes one way: `tasks/T`, then `archive/LOT/XX/T` (its whole directory, by one rename), then
//! `buried/LOT/XX/T` (a file that says how it ended; the directory is deleted). LOT is `done` or `dead`,
//! XX one of 256 shards by the id. Whoever looks for T looks in this order, so it is never missed on its
//! way. Who has opened the directory before has it wherever it lies: a late link lands in it, where every
//! register that matters is taken, or fails.
//!
//! Steps of archiving, under `_settle.T`:
//! 1. settle T: those who wait for it are served;
//! 2. of one that failed or was cancelled: link a closed `n.reopen`, which decides against a reopen;
//! 3. rename `tasks/T` to `archive/LOT/XX/T`: **T is archived**;
//! 4. event, and what still stands in `waiters/T` goes.
//!
//! Steps of burying:
//! 1. link a tombstone to `buried/LOT/XX/T`: **the id is taken for ever**;
//! 2. rename `archive/LOT/XX/T` to `archive/trash/T.RANDOM`;
//! 3. event, and the directory is deleted, the claims last.
//!
//! A tombstone is a link to one of few files, so it costs a name and no inode.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};
use crate::rule;
use crate::step;
use crate::sys::fs::{is_absent, mkdir_all};

use super::Queue;
use super::durable;
use super::end;
use super::events::{self, Event};
use super::ids::{Key, is_task_id, random_part, shard, short};
use super::layout::Lot;
use super::procs::{self, Proc};
use super::record::{self, Note, RECORD_MAX};
use super::settle::settle;
use super::tasks::{self, Phase, Task};

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

/// What became of a task that was to be archived or buried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// It was.
    Yes,
    /// It is not there (any more).
    Gone,
    /// Not now, and why.
    Stays(String),
}

/// Links to one file before another one is made, as for cards.
const LINKS_MAX: u32 = 30_000;

/// Archives and buries a number of tasks.
pub struct Archiver {
    /// Tasks that some process's intents name: somebody is still at them.
    named: BTreeSet<String>,
    /// The file that tombstones are links to: its content, and how many there are.
    stone: Option<(Tombstone, u32)>,
}

impl Archiver {
    /// Looks first who is at what.
    pub fn new(queue: &Queue, me: &Proc) -> Result<Archiver> {
        let mut named = BTreeSet::new();
        for wid in procs::all(queue)?.into_iter().filter(|wid| *wid != me.wid) {
            for name in procs::intents(queue, &wid, true) {
                let name = name.trim_end_matches(".tmp").trim_end_matches(".end");
                // `T.n`, `_settle.T`, `_cancel.T.n`: either part may be the id.
                let rest = name.strip_prefix('_').and_then(|name| name.split_once('.'));
                let name = rest.map_or(name, |(_, rest)| rest);
                named.extend(Key::parse(name).map(|key| key.task));
                named.insert(name.to_owned());
            }
        }
        Ok(Archiver { named, stone: None })
    }

    /// Moves a task that is over from `tasks/` into the archive.
    pub fn archive(&self, queue: &Queue, me: &mut Proc, id: &str) -> Result<Moved> {
        let Some(task) = tasks::look(queue, id)?.filter(|task| !task.archived) else {
            return Ok(Moved::Gone);
        };
        let Some(n) = last(&task.phase) else {
            return Ok(Moved::Stays("it is not over".to_owned()));
        };
        if let Some(who) = self.who_is_at(queue, &task, n)? {
            return Ok(Moved::Stays(format!("{who} is still at it")));
        }
        let intent = me.settle_intent(queue, id)?;
        let moved = move_away(queue, me, id)?;
        queue.discard(&intent)?;
        Ok(moved)
    }

    /// Who has not finished with a task that is over.
    fn who_is_at(&self, queue: &Queue, task: &Task, n: u32) -> Result<Option<String>> {
        if self.named.contains(&task.id) {
            return Ok(Some("somebody".to_owned()));
        }
        // Its claim may be younger than the look at all the intents.
        let Some(card) = tasks::claimer(queue, task, n)? else { return Ok(None) };
        let intent = queue.layout.proc(&card.wid).join("run").join(format!("{}.{n}", task.id));
        Ok(queue.fs.exists(&intent).then(|| short(&card.wid).to_owned()))
    }

    /// Deletes an archived task, but for its tombstone.
    pub fn bury(&mut self, queue: &Queue, me: &mut Proc, id: &str) -> Result<Moved> {
        let Some(task) = look(queue, id)? else { return Ok(Moved::Gone) };
        if last(&task.phase).is_none() {
            return Ok(Moved::Stays("its registers do not say that it is over".to_owned()));
        }
        let lot = lot(&task.phase);
        let stone = Tombstone {
            v: 1,
            state: word(&task.phase).to_owned(),
            passed: tasks::passed(queue, &task)?,
        };
        let name = format!("{id}.{}", random_part(queue.clock.random()));
        let away = queue.layout.trash().join(name);
        if rule!("F4") {
            self.mark(queue, me, &queue.layout.buried(lot, id), stone.clone())?;
        }
        make_dir(queue, &queue.layout.trash())?;
        step!("bury.move");
        match queue.fs.rename(&task.dir.path, &away) {
            Err(e) if is_absent(&e) => return Ok(Moved::Gone),
            other => other.cannot("bury a task", &task.dir.path)?,
        }
        if !rule!("F4") {
            self.mark(queue, me, &queue.layout.buried(lot, id), stone)?;
        }
        durable::moved(queue, [&queue.layout.tasks(), parent(&task.dir.path)])?;
        events::append(queue, me, event("bury", &task));
        delete(queue, &away)?;
        // Fails while others lie there.
        drop(queue.fs.rmdir(parent(&task.dir.path)));
        Ok(Moved::Yes)
    }

    /// Links a tombstone.
    fn mark(&mut self, queue: &Queue, me: &Proc, at: &Path, stone: Tombstone) -> Result<()> {
        use std::io::ErrorKind;
        let file = me.run("_tomb");
        make_dir(queue, parent(at))?;
        loop {
            let links = match &self.stone {
                Some((kind, links)) if *kind == stone && *links < LINKS_MAX => *links,
                _ => {
                    queue.stage(&file, &record::to_bytes(&stone), "write a tombstone")?;
                    0
                }
            };
            self.stone = Some((stone.clone(), links + 1));
            step!("bury.mark");
            match queue.fs.link(&file, at) {
                Ok(()) => break,
                Err(e) if e.kind() == ErrorKind::AlreadyExists => break,
                Err(e) if e.raw_os_error() == Some(nix::libc::EMLINK) && links > 0 => {
                    self.stone = None;
                }
                // On a shared file system the answer may be wrong.
                Err(_) if queue.shared && queue.fs.stat(at).is_ok() => break,
                Err(e) => return Err(e).cannot("link a tombstone", at),
            }
        }
        durable::moved(queue, [parent(at)])
    }

    /// Drops what tombstones were linked to; they stay.
    pub fn finish(self, queue: &Queue, me: &Proc) -> Result<()> {
        match self.stone {
            Some(_) => queue.discard(&me.run("_tomb")),
            None => Ok(()),
        }
    }
}

/// The last attempt of a task that is over.
fn last(phase: &Phase) -> Option<u32> {
    match phase {
        Phase::Done(n) | Phase::Failed(n) | Phase::Cancelled(n) => Some(*n),
        _ => None,
    }
}

fn lot(phase: &Phase) -> Lot {
    if matches!(phase, Phase::Done(_)) { Lot::Done } else { Lot::Dead }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Makes a directory and those above it, and in the durable modes their names: what is moved there
/// must not be lost with them.
fn make_dir(queue: &Queue, dir: &Path) -> Result<()> {
    if queue.fs.stat(dir).is_ok() {
        return Ok(());
    }
    mkdir_all(&*queue.fs, dir).cannot("make a directory", dir)?;
    let root = queue.layout.root();
    let above = dir.ancestors().skip(1).take_while(|path| path.starts_with(root));
    durable::moved(queue, above)
}

/// Steps 1 to 4 of archiving.
fn move_away(queue: &Queue, me: &mut Proc, id: &str) -> Result<Moved> {
    settle(queue, me, id)?;
    let look = || tasks::look(queue, id).map(|task| task.filter(|task| !task.archived));
    let Some(mut task) = look()? else { return Ok(Moved::Gone) };
    let Some(n) = last(&task.phase) else {
        return Ok(Moved::Stays("it was reopened".to_owned()));
    };
    let lot = lot(&task.phase);
    if lot == Lot::Dead {
        if let Some(waiter) = waiter(queue, id)? {
            return Ok(Moved::Stays(format!("{waiter} waits for it")));
        }
        if rule!("F5") {
            let why = "archived";
            let note = Note { closed: true, ..Note::new(&me.wid, queue.now(), why) };
            end::link_reopen(queue, me, &task, n, &note)?;
        }
        let Some(again) = look()? else { return Ok(Moved::Gone) };
        if rule!("F5") && !tasks::is_closed(queue, &again, n)? {
            return Ok(Moved::Stays("it was reopened".to_owned()));
        }
        task = again;
    }
    let (from, to) = (queue.layout.task(id), queue.layout.archived(lot, id));
    loop {
        make_dir(queue, parent(&to))?;
        step!("archive.move");
        match queue.fs.rename(&from, &to) {
            Ok(()) => break,
            // Its shard was empty, and was removed.
            Err(e) if is_absent(&e) && queue.fs.exists(&from) => {}
            // On a shared file system the answer may be that to a retransmission.
            Err(e) if is_absent(&e) && queue.shared && queue.fs.stat(&to).is_ok() => break,
            Err(e) if is_absent(&e) => return Ok(Moved::Gone),
            Err(e) => return Err(e).cannot("archive a task", &from),
        }
    }
    tell(queue, me, &task, false);
    forget_waiters(queue, id)?;
    Ok(Moved::Yes)
}

/// Somebody who waits for a task that is dead: for a person, who may still reopen it.
fn waiter(queue: &Queue, id: &str) -> Result<Option<String>> {
    for entry in queue.list(&queue.layout.waiters(id))? {
        let waits = tasks::look(queue, &entry.name)?.is_some_and(|task| !task.phase.is_over());
        if waits {
            return Ok(Some(entry.name));
        }
    }
    Ok(None)
}

/// Removes what stands in `waiters/T`: T was done and has served them, or it is dead for ever, and who
/// was cancelled with it will not be revived.
fn forget_waiters(queue: &Queue, id: &str) -> Result<()> {
    let dir = queue.layout.waiters(id);
    for entry in queue.list(&dir)? {
        let waits = tasks::look(queue, &entry.name)?.is_some_and(|task| !task.phase.is_over());
        if !waits {
            step!("archive.unwait");
            queue.discard(&dir.join(&entry.name))?;
        }
    }
    // Not empty, or gone already: both are fine.
    drop(queue.fs.rmdir(&dir));
    Ok(())
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

/// Deletes a directory that was moved to the trash. The claims go last: as long as they are there, no
/// process that opened the directory long ago can claim anything in it.
fn delete(queue: &Queue, dir: &Path) -> Result<()> {
    let mut names: Vec<String> = queue.list(dir)?.into_iter().map(|entry| entry.name).collect();
    names.sort_by_key(|name| name.ends_with(".claim"));
    for name in names {
        let path = dir.join(&name);
        step!("bury.delete");
        match queue.fs.unlink(&path) {
            Err(e) if is_absent(&e) => {}
            Err(_) if name.ends_with(".out") || queue.fs.list(&path).is_ok() => {
                match queue.fs.remove_tree(&path) {
                    Err(e) if !is_absent(&e) => return Err(e).cannot("delete", &path),
                    _ => {}
                }
            }
            other => other.cannot("delete a file", &path)?,
        }
    }
    match queue.fs.rmdir(dir) {
        Err(e) if !is_absent(&e) => Err(e).cannot("delete a directory", dir),
        _ => Ok(()),
    }
}

/// Deletes what lies in the trash: somebody died, or failed, while deleting it.
pub fn empty_trash(queue: &Queue) -> Result<usize> {
    let dir = queue.layout.trash();
    let names = queue.list(&dir)?;
    for entry in &names {
        delete(queue, &dir.join(&entry.name))?;
    }
    Ok(names.len())
}

/// The directories of the shards of a lot, below `archive/` or `buried/`.
fn shards(queue: &Queue, top: &Path, lot: Lot) -> Result<Vec<PathBuf>> {
    let dir = top.join(lot.word());
    Ok(queue.list(&dir)?.into_iter().map(|entry| dir.join(entry.name)).collect())
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
        let ids = queue.list(&dir)?.into_iter().map(|entry| entry.name).filter(own);
        found.extend(ids.map(|id| (id.clone(), dir.join(id))));
    }
    Ok(found)
}

/// How many tasks of a lot are archived or buried. Costs a listing of all their names.
pub fn count(queue: &Queue, lot: Lot) -> Result<usize> {
    let mut sum = 0;
    for top in [queue.layout.archive(), queue.layout.burials()] {
        for dir in shards(queue, &top, lot)? {
            sum += queue.list(&dir)?.len();
        }
    }
    Ok(sum)
}
