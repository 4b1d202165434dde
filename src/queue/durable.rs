//! What survives a power loss: the three modes, and the calls that wait for the disk.
//!
//! The mode stands in `layout.json`, which every program reads when it opens the queue, so all agree.
//! In mode `process` nothing here makes a system call.
//!
//! The order is always: content durable, name linked, directory durable, effects. A register may be
//! found linked by a process that did not write it, before its writer has made it durable. So whoever
//! acts on a task's registers makes them durable first (`registers`); whoever finds a hint need not,
//! because hints are published only after that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Cannot, Error, Exit, Result};
use crate::step;
use crate::sys::fs::Dir;

use super::Queue;
use super::evaluate::dependency;
use super::procs::{self, Proc};
use super::record::{self, CardKind, RECORD_MAX};
use super::tasks::{self, Task};

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The death of any process, not of the machine.
    #[default]
    Process,
    /// The machine's too: what was acknowledged, and every end that anybody was told of.
    Accept,
    /// The same, and no attempt number is given out twice.
    Full,
}

impl Durability {
    /// All of them, with the word that files use.
    pub const WORDS: [(&'static str, Durability); 3] = [
        ("process", Durability::Process),
        ("accept", Durability::Accept),
        ("full", Durability::Full),
    ];

    /// The word that `layout.json` and coord.toml use.
    pub fn word(self) -> &'static str {
        Durability::WORDS[self as usize].0
    }

    /// The mode that `layout.json` names. An empty word is that of a queue made before there were
    /// modes; `None`: a mode of a newer program.
    pub fn of_layout(word: &str) -> Option<Durability> {
        if word.is_empty() {
            return Some(Durability::Process);
        }
        Durability::WORDS.iter().find(|(known, _)| *known == word).map(|(_, mode)| *mode)
    }
}

/// What a process knows to be durable; lost with it, which costs some calls.
#[derive(Debug, Default)]
pub struct Known {
    /// Tasks, and how many registers each had.
    tasks: BTreeMap<String, usize>,
    /// The last card.
    card: Option<PathBuf>,
    /// Its own directory.
    home: bool,
    /// The event file with lines that are not durable yet.
    pub events_open: Option<PathBuf>,
    /// The event file whose name is durable.
    events_named: Option<PathBuf>,
    /// When events were made durable the last time, by the monotonic clock.
    events_synced_ms: u64,
}

/// Tasks of which a process remembers that it has made them durable.
const REMEMBERED: usize = 65_536;
/// In mode `full`, events are durable after this time.
const EVENTS_MS: u64 = 1000;

impl Queue {
    /// Whether anything has to survive a power loss.
    pub fn is_durable(&self) -> bool {
        self.durability > Durability::Process
    }

    /// Writes a file that is linked or renamed afterwards: its content is durable before its name.
    pub fn stage(&self, path: &Path, bytes: &[u8], what: &str) -> Result<()> {
        self.fs.create(path, bytes, 0o444).cannot(what, path)?;
        if self.is_durable() {
            step!("sync.content");
            self.fs.sync_file(path).cannot("make a file durable", path)?;
        }
        Ok(())
    }
}

/// Makes the names in a task's directory durable: after a register was linked, before its effects.
pub fn task(queue: &Queue, dir: &Dir) -> Result<()> {
    if queue.is_durable() {
        step!("sync.task");
        queue.fs.sync_in(dir).cannot("make a task durable", &dir.path)?;
    }
    Ok(())
}

/// Makes what was submitted of an array durable: the names in `jobs/`, and that directory's own.
pub fn list(queue: &Queue, jobs: &Path) -> Result<()> {
    if queue.is_durable() {
        step!("sync.jobs");
        for dir in [Some(jobs), jobs.parent()].into_iter().flatten() {
            queue.fs.sync_dir(dir).cannot("make a list of jobs durable", dir)?;
        }
    }
    Ok(())
}

/// Makes the names of new tasks durable.
pub fn all_tasks(queue: &Queue) -> Result<()> {
    if queue.is_durable() {
        let path = queue.layout.tasks();
        step!("sync.tasks");
        queue.fs.sync_dir(&path).cannot("make the tasks durable", &path)?;
    }
    Ok(())
}

/// Makes durable what was seen of a task, whoever wrote it, before anything follows from it. A task
/// with a claim has a durable name: claims come after hints, and hints after this.
pub fn registers(queue: &Queue, me: &mut Proc, seen: &Task) -> Result<()> {
    if !queue.is_durable() || me.known.tasks.get(&seen.id) == Some(&seen.names.registers()) {
        return Ok(());
    }
    task(queue, &seen.dir)?;
    if seen.names.claims.is_empty() {
        all_tasks(queue)?;
    }
    remember(me, &seen.id, seen.names.registers());
    Ok(())
}

/// A submission that this process has just made durable: a directory with one register.
pub fn remember_new(queue: &Queue, me: &mut Proc, id: &str) {
    if queue.is_durable() {
        remember(me, id, 1);
    }
}

/// Registers are never removed, so their number says which ones there are.
fn remember(me: &mut Proc, id: &str, registers: usize) {
    if me.known.tasks.len() >= REMEMBERED {
        me.known.tasks.clear();
    }
    me.known.tasks.insert(id.to_owned(), registers);
}

/// Makes durable what everything that a task comes after says of itself: if it could be lost, the
/// task must not start because of it.
pub fn dependencies(queue: &Queue, me: &mut Proc, waiting: &Task) -> Result<()> {
    if !queue.is_durable() {
        return Ok(());
    }
    let after = waiting.spec.as_ref().map(|s| s.after.as_slice()).unwrap_or_default();
    for entry in after {
        if let Some(on) = tasks::look(queue, dependency(entry).0)? {
            registers(queue, me, &on)?;
        }
    }
    Ok(())
}

/// Makes the card that a claim links to durable, once a card: in mode `full` every claim names its
/// holder after a power loss, and in mode `accept` a hold, whose kind stands only there.
pub fn card(queue: &Queue, me: &mut Proc, card: &Path, kind: CardKind) -> Result<()> {
    let wanted = match queue.durability {
        Durability::Process => false,
        Durability::Accept => kind == CardKind::Hold,
        Durability::Full => true,
    };
    if wanted && me.known.card.as_deref() != Some(card) {
        step!("sync.card");
        queue.fs.sync_file(card).cannot("make a card durable", card)?;
        me.known.card = Some(card.to_owned());
    }
    Ok(())
}

/// Makes a claim durable before its attempt runs (mode `full`), and a hold before it is acknowledged.
/// The other kinds are made durable with their end.
pub fn claim(queue: &Queue, dir: &Dir, kind: CardKind) -> Result<()> {
    let wanted = match kind {
        CardKind::Hold => true,
        CardKind::Human | CardKind::Cancel => false,
        _ => queue.durability == Durability::Full,
    };
    if wanted { task(queue, dir) } else { Ok(()) }
}

/// Makes this process's directory durable, once, before a file of somebody else is moved into it.
pub fn home(queue: &Queue, me: &mut Proc) -> Result<()> {
    if queue.is_durable() && !me.known.home {
        step!("sync.home");
        for dir in [me.dir().to_owned(), queue.layout.procs()] {
            queue.fs.sync_dir(&dir).cannot("make this process durable", &dir)?;
        }
        me.known.home = true;
    }
    Ok(())
}

/// Makes it durable that a file has left incoming/ for the `run/` of a process, before it becomes a
/// task: else it would come back and become another one.
pub fn taken(queue: &Queue, run: &Path) -> Result<()> {
    if queue.is_durable() {
        step!("sync.taken");
        for dir in [run, &queue.layout.incoming()] {
            queue.fs.sync_dir(dir).cannot("make a taken file durable", dir)?;
        }
    }
    Ok(())
}

/// Makes the names in a process's `run/` durable: before a file of somebody else goes because a staged
/// copy is there.
pub fn staged(queue: &Queue, run: &Path) -> Result<()> {
    if queue.is_durable() {
        step!("sync.staged");
        queue.fs.sync_dir(run).cannot("make a staged task durable", run)?;
    }
    Ok(())
}

/// In mode `full`: makes this process's events durable if a second has passed since the last time.
/// Returns when it wants to be called again (milliseconds of the monotonic clock), if at all.
pub fn events(queue: &Queue, me: &mut Proc, now: bool) -> Option<u64> {
    let path = me.known.events_open.clone()?;
    let due_ms = me.known.events_synced_ms + EVENTS_MS;
    if !now && queue.clock.mono_ms() < due_ms {
        return Some(due_ms);
    }
    step!("sync.events");
    let mut synced = queue.fs.sync_file(&path);
    if synced.is_ok() && me.known.events_named.as_ref() != Some(&path) {
        synced = queue.fs.sync_dir(&queue.layout.events());
        me.known.events_named = Some(path.clone());
    }
    if let Err(e) = synced {
        // Events are hints; the boot's sweep tells again what was lost.
        tracing::warn!(path = %path.display(), error = %e, "cannot make events durable");
    }
    me.known.events_open = None;
    me.known.events_synced_ms = queue.clock.mono_ms();
    None
}

/// Changes the mode of a queue in which no process is registered. What is there already is made
/// durable before `layout.json` promises it.
pub fn change(queue: &Queue, to: Durability) -> Result<Queue> {
    if let Some(wid) = procs::all(queue)?.first() {
        let what = format!("the durability cannot be changed while {wid} is registered");
        return Err(Error::new(Exit::Conflict, what)
            .at(queue.layout.root())
            .hint("coord stop; and coord fsck --repair for what is dead"));
    }
    let changed = Queue { durability: to, ..queue.clone() };
    if changed.is_durable() && !queue.is_durable() {
        adopt(&changed)?;
    }
    let path = queue.layout.layout_record();
    let bytes = queue.fs.read(&path, 0, RECORD_MAX).cannot("read the layout", &path)?;
    let mut fields: Map<String, Value> = record::parse(&bytes)
        .map_err(|e| Error::new(Exit::NoQueue, format!("layout.json cannot be read: {e}")))?;
    fields.insert("durability".to_owned(), to.word().into());
    let unique = super::ids::random_part(queue.clock.random());
    let tmp = queue.layout.at(&format!(".layout.{unique}.tmp"));
    Queue { durability: Durability::Full, ..queue.clone() }.stage(
        &tmp,
        &record::to_bytes(&fields),
        "write the layout",
    )?;
    queue.fs.rename(&tmp, &path).cannot("replace the layout", &path)?;
    let root = queue.layout.root();
    queue.fs.sync_dir(root).cannot("make the layout durable", root)?;
    Ok(changed)
}

/// Makes everything below `tasks/` durable that was written when nobody asked for it.
fn adopt(queue: &Queue) -> Result<()> {
    for id in tasks::ids_and_lanes(queue)? {
        let Some(found) = tasks::look(queue, &id)? else { continue };
        for entry in queue.fs.list_in(&found.dir).cannot("list a task", &found.dir.path)? {
            if entry.kind == crate::sys::fs::Kind::File {
                let path = found.dir.path.join(&entry.name);
                queue.fs.sync_file(&path).cannot("make a register durable", &path)?;
            }
        }
        task(queue, &found.dir)?;
    }
    all_tasks(queue)?;
    made(queue)
}

/// Makes the queue's own directory durable, and its name.
pub fn made(queue: &Queue) -> Result<()> {
    if queue.is_durable() {
        let root = queue.layout.root();
        for dir in [Some(root), root.parent()].into_iter().flatten() {
            queue.fs.sync_dir(dir).cannot("make the queue durable", dir)?;
        }
    }
    Ok(())
}
