//! `scopes/`: who may change which paths, so that two running tasks never change the same ones.
//!
//! A scope is what a task declares, and what it has learned from attempts that came back from their
//! merge (`learned`); both are taken together.
//!
//! The table of all scopes that are held is a chain of immutable versions, `vNNNNNNNN.json`. To take
//! its scopes, a process builds the next version from the newest and links it: of all who tried from
//! the same one, the kernel picks one. All scopes of a task are taken in one link, and nobody waits
//! while holding anything, so there is no deadlock; a link fails only because another one succeeded.
//!
//! Nothing is ever given back. An entry is *dead* as soon as its attempt has ended, which anyone can
//! see, and the next version leaves it out. Old versions are removed, so a process that was stopped
//! for long might link a number that others had used and removed. Hence the second look (R7): unless
//! the newest version has my entry, my link was void.
//!
//! A task that is passed over because somebody holds a part of its scope is entered as *wanting*, if it
//! is among the oldest that are. Younger tasks that overlap with it wait from then on, so a wide scope
//! gets its turn. (Counting to some number first was tried: a worker that goes down a long list comes
//! back to its head too seldom.)
//!
//! Steps, before those of the claim:
//! 1. read the newest version, and leave out what is dead;
//! 2. somebody else's entry overlaps: the task stays ready, and its scope is tried again when the bell
//!    of scopes/ rings;
//! 3. stage the next version as `procs/W/run/_scopes`;
//! 4. link it: **the scopes are taken**, if the newest version says so.
//!
//! A crash after 4 leaves an entry whose process is dead: it is left out by the next one.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Cannot, Error, Exit, Result};
use crate::plan::scope::any_overlap;
use crate::rule;
use crate::step;
use crate::sys::fs::is_absent;

use super::Queue;
use super::ids::Key;
use super::learned;
use super::procs::Proc;
use super::record::{self, CardKind, RECORD_MAX, Verdict};
use super::tasks::{self, Phase, Task};

/// Versions that stay, for people to look at. Correctness needs only the newest.
const KEPT: u64 = 4;
/// Tasks that are entered as wanting at the same time: the oldest of all.
const WANTING_MAX: usize = 8;
/// Links that somebody else was faster with before the scopes are left for the next look.
const TRIES: u32 = 100;

/// A task in the table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// The task.
    #[serde(rename = "t")]
    pub task: String,
    /// Its attempt.
    pub n: u32,
    /// The process that entered it.
    pub wid: String,
    /// Its paths, declared and learned.
    pub scope: Vec<String>,
    /// Those that it has learned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub learned: Vec<String>,
    /// When an attempt of it first came back from its merge (RFC 3339).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub since: String,
    /// It does not hold them, and younger tasks shall not take them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wanting: bool,
    /// When the task was submitted (RFC 3339): the older one goes first.
    pub at: String,
}

impl Entry {
    fn key(&self) -> Key {
        Key::new(&self.task, self.n)
    }
    fn age(&self) -> (&str, &str) {
        (&self.at, &self.task)
    }
}

/// One version of the table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Table {
    /// Version of the record.
    pub v: u32,
    /// Everybody in it.
    pub held: Vec<Entry>,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Whether the scopes of a task could be taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// They are this process's until the attempt ends.
    Ours,
    /// This entry is in the way.
    Busy(Entry),
}

/// The name of a version.
pub fn version_name(n: u64) -> String {
    format!("v{n:08}.json")
}

/// The number of a version; `None` if it is no name of one.
pub fn version_of(name: &str) -> Option<u64> {
    let n: u64 = name.strip_prefix('v')?.strip_suffix(".json")?.parse().ok()?;
    (name == version_name(n)).then_some(n)
}

/// The newest version and its number; 0 and nobody where there is none yet.
///
/// A version that cannot be read (a power loss, somebody's hand) means: all that run now, and whatever
/// the newest readable one has. Nobody's scope gets lost that way.
pub fn newest(queue: &Queue) -> Result<(u64, Table)> {
    for _ in 0..TRIES {
        let entries = queue.list(&queue.layout.scopes())?;
        let mut numbers: Vec<u64> = entries.iter().filter_map(|e| version_of(&e.name)).collect();
        numbers.sort_unstable();
        // A listing may miss a name that was linked meanwhile.
        let mut last = numbers.last().copied().unwrap_or(0);
        while last < u64::MAX && queue.fs.stat(&queue.layout.scopes_version(last + 1)).is_ok() {
            last += 1;
            numbers.push(last);
        }
        match numbers.last() {
            None => return Ok((0, Table { held: of_running(queue)?, ..Table::default() })),
            Some(&n) => match read(queue, n)? {
                Read::Table(table) => return Ok((n, table)),
                Read::Gone => continue,
                Read::Unreadable => {
                    let mut held = of_running(queue)?;
                    for older in numbers.iter().rev() {
                        if let Read::Table(table) = read(queue, *older)? {
                            held.extend(table.held);
                            break;
                        }
                    }
                    return Ok((n, Table { held, ..Table::default() }));
                }
            },
        }
    }
    Err(too_busy())
}

enum Read {
    Table(Table),
    /// It was removed since it was listed: there is a newer one.
    Gone,
    Unreadable,
}

fn read(queue: &Queue, n: u64) -> Result<Read> {
    let path = queue.layout.scopes_version(n);
    Ok(match queue.fs.read(&path, 0, RECORD_MAX) {
        Ok(bytes) => record::parse(&bytes).map_or(Read::Unreadable, Read::Table),
        Err(e) if is_absent(&e) => Read::Gone,
        Err(e) if tasks::is_of_the_file(&e) => Read::Unreadable,
        Err(e) => return Err(e).cannot("read the scopes", &path),
    })
}

fn too_busy() -> Error {
    Error::new(Exit::Temporary, "the scopes change too fast to be taken").hint("try again")
}

/// What the registers say of who holds which scopes: for a chain that is lost.
fn of_running(queue: &Queue) -> Result<Vec<Entry>> {
    let mut held = Vec::new();
    for id in tasks::ids(queue)? {
        let Some(task) = tasks::look(queue, &id)? else { continue };
        let Phase::Claimed(n) = task.phase else { continue };
        let mine = entry(queue, &Key::new(&id, n), &task, "")?;
        if mine.scope.is_empty() {
            continue;
        }
        // Who only holds the task back changes nothing.
        if let Some(card) = tasks::claimer(queue, &task, n)?
            && card.kind == CardKind::Worker
        {
            held.push(Entry { wid: card.wid, ..mine });
        }
    }
    Ok(held)
}

/// What an attempt of the task would hold if this process had it; without paths if it needs none.
pub fn entry(queue: &Queue, key: &Key, task: &Task, wid: &str) -> Result<Entry> {
    let Ok(spec) = &task.spec else { return Ok(Entry::default()) };
    let learned = learned::of(queue, task)?;
    Ok(Entry {
        task: key.task.clone(),
        n: key.n,
        wid: wid.to_owned(),
        scope: learned::whole(spec, &learned),
        learned: learned.scope,
        since: learned.since,
        wanting: false,
        at: spec.at.clone(),
    })
}

/// Whether an entry counts no more. Every answer "dead" stays true for ever, so anyone may give it.
pub fn is_dead(queue: &Queue, entry: &Entry) -> Result<bool> {
    // Its process first, its claim afterwards: one that was declared dead may still be about to claim,
    // but looks once more behind its claim and then hands the attempt back (fault 14).
    let over = is_over(queue, &entry.wid);
    if over && !rule!("F14") {
        return Ok(true);
    }
    // Without its task nobody will ever say that it has ended (fault 15).
    let task = tasks::look(queue, &entry.task)?.filter(|task| task.names.spec);
    let Some(task) = task else { return Ok(rule!("F15")) };
    // Not the listing, which may lag behind on a shared file system.
    let register = |kind: &str| queue.fs.exists(&task.dir.path.join(format!("{}.{kind}", entry.n)));
    let claimed = register("claim");
    if entry.wanting {
        // It stands for its task as long as somebody is there who could run it.
        return Ok(over || claimed || task.phase != Phase::Pending(entry.n));
    }
    if register("end") {
        return Ok(!waits_for_merge(queue, &task, entry.n)?);
    }
    if !claimed {
        return Ok(over);
    }
    // Another one's claim: this process can never have the attempt.
    let claimer = tasks::claimer(queue, &task, entry.n)?;
    Ok(claimer.is_some_and(|card| card.wid != entry.wid))
}

/// An attempt that succeeded and waits to be merged keeps its scope: who starts meanwhile would not
/// see its changes. Not if its merge itself waits for other tasks, which may want the scope.
fn waits_for_merge(queue: &Queue, task: &Task, n: u32) -> Result<bool> {
    let Ok(spec) = &task.spec else { return Ok(false) };
    let alone = spec.merge_after.is_empty()
        && !spec.adds_deps
        && !spec.after.iter().any(|entry| entry.ends_with("@pass"));
    let waits = spec.merge && alone && !task.names.merges.contains(&n);
    Ok(waits && tasks::end_of(queue, task, n)?.verdict == Verdict::Done)
}

/// Whether a process was declared dead, has left, or is not there any more.
fn is_over(queue: &Queue, wid: &str) -> bool {
    let dir = queue.layout.proc(wid);
    queue.fs.exists(&dir.join("end")) || !queue.fs.exists(&dir)
}

/// Everybody who still counts.
pub fn live(queue: &Queue, table: &Table) -> Result<Vec<Entry>> {
    let mut live = Vec::new();
    for entry in &table.held {
        if !is_dead(queue, entry)? && !live.contains(entry) {
            live.push(entry.clone());
        }
    }
    Ok(live)
}

/// Whether `other` keeps `mine` from its paths.
fn is_in_the_way(other: &Entry, mine: &Entry) -> bool {
    let same = other.task == mine.task && (other.wanting || other.wid == mine.wid);
    let before = !other.wanting || other.age() < mine.age();
    !same && before && any_overlap(&other.scope, &mine.scope)
}

/// Who keeps a task from its scope now; for `coord why`.
pub fn in_the_way(queue: &Queue, key: &Key, task: &Task) -> Result<Vec<Entry>> {
    let mine = entry(queue, key, task, "")?;
    if mine.scope.is_empty() {
        return Ok(Vec::new());
    }
    let live = live(queue, &newest(queue)?.1)?;
    Ok(live.into_iter().filter(|other| is_in_the_way(other, &mine)).collect())
}

/// Everybody in the newest version, dead or not. Nobody where there is none: that is no reason to read
/// all tasks for those who only want to know whom to make way for.
pub fn entered(queue: &Queue) -> Result<Vec<Entry>> {
    let names = queue.list(&queue.layout.scopes())?;
    if !names.iter().any(|entry| version_of(&entry.name).is_some()) {
        return Ok(Vec::new());
    }
    Ok(newest(queue)?.1.held)
}

/// Takes the scopes of an attempt that is about to be claimed.
pub fn take(queue: &Queue, me: &mut Proc, key: &Key, mine: Entry) -> Result<Taken> {
    give_back(queue, me)?;
    for _ in 0..TRIES {
        let (n, table) = newest(queue)?;
        let mut held = live(queue, &table)?;
        if let Some(other) = held.iter().find(|other| is_in_the_way(other, &mine)) {
            let other = other.clone();
            if want(&mut held, &mine) {
                step!("scope.want");
                // Too late, or void: it is passed over again, and tried again.
                append(queue, me, n, Table { v: 1, held, more: table.more })?;
            }
            return Ok(Taken::Busy(other));
        }
        if held.contains(&mine) {
            me.scoped = Some(key.clone());
            return Ok(Taken::Ours);
        }
        held.retain(|e| !(e.wanting && e.key() == *key));
        held.push(mine.clone());
        // Noted before the link: from then on it must be given back if the claim is not made.
        me.scoped = Some(key.clone());
        if append(queue, me, n, Table { v: 1, held, more: table.more })? && still_has(queue, &mine)?
        {
            return Ok(Taken::Ours);
        }
    }
    Err(too_busy())
}

/// The second look (R7): the newest version, whatever it is by now, has the entry.
fn still_has(queue: &Queue, mine: &Entry) -> Result<bool> {
    Ok(!rule!("R7") || newest(queue)?.1.held.contains(mine))
}

/// Enters a task as wanting, instead of the youngest one if there are many. False: it is already, or
/// those who are have waited longer.
fn want(held: &mut Vec<Entry>, mine: &Entry) -> bool {
    if held.iter().any(|e| e.wanting && e.key() == mine.key()) {
        return false;
    }
    let wanting = held.iter().filter(|e| e.wanting);
    if wanting.clone().count() >= WANTING_MAX {
        let Some(youngest) = wanting.max_by_key(|e| e.age()).cloned() else { return false };
        if youngest.age() < mine.age() {
            return false;
        }
        held.retain(|e| *e != youngest);
    }
    held.push(Entry { wanting: true, ..mine.clone() });
    true
}

/// Links version n+1. False: somebody else was faster.
fn append(queue: &Queue, me: &Proc, n: u64, table: Table) -> Result<bool> {
    let Some(next) = n.checked_add(1) else {
        // Nobody counts that far: a hand has made it.
        let last = queue.layout.scopes_version(n);
        let overflow = io::Error::from_raw_os_error(nix::libc::EOVERFLOW);
        return Err(overflow).cannot("link a version of the scopes behind this one", &last);
    };
    let staged = me.run("_scopes");
    let bytes = record::to_bytes(&table);
    step!("scope.stage");
    queue.fs.create(&staged, &bytes, 0o444).cannot("write the scopes", &staged)?;
    let path = queue.layout.scopes_version(next);
    step!("scope.link");
    let linked = queue.fs.link(&staged, &path);
    queue.discard(&staged)?;
    let won = match linked {
        Ok(()) if !queue.shared => true,
        // Any other answer may be wrong (R2): what is there decides.
        answer => match queue.fs.read(&path, 0, RECORD_MAX) {
            Ok(found) => found == bytes,
            Err(e) => match answer {
                Err(reason) => return Err(reason).cannot("link the scopes", &path),
                Ok(()) => return Err(e).cannot("read the scopes back", &path),
            },
        },
    };
    if won {
        forget_old(queue, n)?;
    }
    Ok(won)
}

/// Removes versions that nobody needs any more.
fn forget_old(queue: &Queue, newest: u64) -> Result<()> {
    for entry in queue.list(&queue.layout.scopes())? {
        if version_of(&entry.name).is_some_and(|n| n.saturating_add(KEPT) <= newest) {
            step!("scope.forget");
            queue.discard(&queue.layout.scopes().join(&entry.name))?;
        }
    }
    Ok(())
}

/// Gives back the scopes of an attempt that this process took and did not claim.
pub fn give_back(queue: &Queue, me: &mut Proc) -> Result<()> {
    let Some(key) = me.scoped.clone() else { return Ok(()) };
    for _ in 0..TRIES {
        let (n, table) = newest(queue)?;
        let mut held = live(queue, &table)?;
        let before = held.len();
        held.retain(|e| e.wanting || e.wid != me.wid || e.key() != key);
        if held.len() == before || append(queue, me, n, Table { v: 1, held, more: table.more })? {
            me.scoped = None;
            ring(queue);
            return Ok(());
        }
    }
    Err(too_busy())
}

/// Tells those who wait for a scope that some may be free.
pub fn ring(queue: &Queue) {
    queue.ring(&queue.layout.scopes_bell());
}

/// What a claim of this kind needs: who runs the task needs its scope, a decision about it does not.
pub fn needed(queue: &Queue, me: &Proc, key: &Key, task: &Task) -> Result<Option<Entry>> {
    if me.card.kind != CardKind::Worker {
        return Ok(None);
    }
    Ok(Some(entry(queue, key, task, &me.wid)?).filter(|entry| !entry.scope.is_empty()))
}
