//! The way of a task that is over: archived, and perhaps buried later.
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
use std::path::Path;

use crate::error::{Cannot, Result};
use crate::rule;
use crate::step;
use crate::sys::fs::is_absent;

use super::super::Queue;
use super::super::durable;
use super::super::end;
use super::super::events;
use super::super::ids::{Key, random_part, short};
use super::super::layout::Lot;
use super::super::procs::{self, Proc};
use super::super::record::{self, Note};
use super::super::settle::settle;
use super::super::tasks::{self, Phase, Task};
use super::{Tombstone, event, last, look, tell, word};

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
/// How often a tombstone or its directory is made anew that has gone.
const TRIES: u32 = 3;

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
        // It is buried; what is left of it is removed by whoever may.
        unless_anothers(delete(queue, &away))?;
        // Fails while others lie there.
        drop(queue.fs.rmdir(parent(&task.dir.path)));
        Ok(Moved::Yes)
    }

    /// Links a tombstone.
    fn mark(&mut self, queue: &Queue, me: &Proc, at: &Path, stone: Tombstone) -> Result<()> {
        use std::io::ErrorKind;
        let file = me.run("_tomb");
        make_dir(queue, parent(at))?;
        let mut missing = 0;
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
                // One of the two has gone: both are made anew. A file that cannot be is an error of its own.
                Err(e) if is_absent(&e) && missing < TRIES => {
                    missing += 1;
                    self.stone = None;
                    make_dir(queue, parent(at))?;
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
    queue.make_dirs(dir).cannot("make a directory", dir)?;
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

/// That some of it is another user's, whose job has made it, is no error: it stays until that user, or
/// root, deletes what lies in the trash. False: it stays.
fn unless_anothers(deleted: Result<()>) -> Result<bool> {
    match deleted {
        Err(e) if matches!(e.errno(), Some(nix::libc::EACCES | nix::libc::EPERM)) => {
            let at = e.at.as_deref().unwrap_or(Path::new(""));
            tracing::warn!("{} stays until its owner gives coord gc", at.display());
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

/// Deletes what lies in the trash: somebody died, or failed, while deleting it. One that cannot be deleted
/// keeps no other. Returns how many went.
pub fn empty_trash(queue: &Queue) -> Result<usize> {
    let dir = queue.layout.trash();
    let (mut gone, mut failed) = (0, None);
    for entry in queue.list(&dir)? {
        match unless_anothers(delete(queue, &dir.join(&entry.name))) {
            Ok(yes) => gone += usize::from(yes),
            Err(e) => failed = Some(e),
        }
    }
    failed.map_or(Ok(gone), Err)
}
