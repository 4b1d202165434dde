//! `procs/W/`: identity, heartbeat and intents of one process.
//!
//! The directory is built under a dotted name and renamed into place, so a process is there with
//! its card or not at all. Only the process itself writes in it, except `end`, the register by which
//! anyone declares it dead (or it says that it left), and except the clean-up after its death.
//!
//! ```text
//! procs/W/card.K.json      identity; claims and intents are hard links to it
//! procs/W/card.KIND.K.json the same for claims that hold or cancel a task, or are a person's
//! procs/W/hb               a copy of the card; touched every heartbeat while a claim is held
//! procs/W/bell             rung by others: look at what you hold
//! procs/W/run/T.n          intent: claim T.n is being made, held or ended
//! procs/W/run/T.n.end      the staged end of T.n
//! procs/W/run/_submit.T    a staged submission       _in.UID   a file taken from incoming/
//! procs/W/run/_settle.T    T must be looked at       _end.T.n  an end staged for somebody else
//! procs/W/success.K.json   that a job of an array succeeded; the ends of such jobs are links to it
//! procs/W/run/_jobs.T.START  W has, or had, claims in that chunk of the array T
//! procs/W/run/_scopes      the next version of the table of scopes
//! procs/W/end              left, or declared dead
//! ```
//! Intents that are not claims begin with `_`, which no task id does.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Cannot, Error, Result};
use crate::step;
use crate::sys::fs::{Dir, is_absent};
use crate::sys::host::ProcessId;

use super::Queue;
use super::durable::{self, Known};
use super::identity;
use super::ids::Key;
use super::record::{self, Card, CardKind, Note};
use super::registration;
use super::settle::Waiting;

/// Links to one card before a new one is made: ext4 and btrfs allow 65,000, and each claim costs
/// two for a moment.
const LINKS_MAX: u32 = 30_000;
/// So long a process that was asked to leave goes on with what it is in the midst of, milliseconds.
const LEAVE_MS: u64 = 250;

/// What a process says of itself when it registers.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The readable part of its id.
    pub name: String,
    /// What it is.
    pub kind: CardKind,
    /// Roles it serves; all where empty.
    pub roles: Vec<String>,
    /// Labels it offers.
    pub labels: Vec<String>,
    /// Its place among the workers of a run; 0: it is none of these.
    pub place: u32,
    /// The process that runs the run.
    pub front: String,
    /// The name in which it has claimed what it runs, if it registers again.
    pub former: String,
    /// Its lease, in milliseconds; 0 = judged by its process alone.
    pub lease_ms: u64,
}

impl Identity {
    /// A program without roles, labels or a lease.
    pub fn plain(name: &str, kind: CardKind) -> Identity {
        let none = Vec::new;
        Identity {
            name: name.to_owned(),
            kind,
            roles: none(),
            labels: none(),
            place: 0,
            front: String::new(),
            former: String::new(),
            lease_ms: 0,
        }
    }
}

/// A registered process: ours.
#[derive(Debug)]
pub struct Proc {
    /// Its id.
    pub wid: String,
    /// Its card, without a kind of claim.
    pub card: Card,
    dir: PathBuf,
    /// The same, opened when it was first wanted.
    place: Option<Arc<Dir>>,
    links: u32,
    /// The card that claims link to now, by its number.
    card_file: Option<(u32, Arc<Path>)>,
    successes: u32,
    success_file: Option<Arc<Path>>,
    success_stamp: u32,
    /// Attempts that this process has won: the same one is never won twice (R2).
    pub won: BTreeSet<Key>,
    /// Number of the next event.
    pub seq: u64,
    /// Its last event may be torn, or that of whoever wrote into the same file before it.
    pub torn: bool,
    /// Events that are not written yet, each with its task.
    pub unwritten: Vec<(String, Vec<u8>)>,
    /// Attempts that this process has told to wait for a person.
    pub told: BTreeSet<Key>,
    /// Tasks of which an event could not be written.
    pub untold: BTreeSet<String>,
    /// Submissions so far, which spread over lanes of the ready index.
    pub published: u64,
    /// What it knows to be durable.
    pub known: Known,
    /// What it knows of tasks that wait for others.
    pub waiting: Waiting,
    /// An intent was left for later since this was last looked at.
    pub left_behind: bool,
    /// Tasks that it found to wait for nothing but what is there, whichever way: no circle closes there.
    pub grounded: HashSet<String>,
    /// The attempt whose scopes it has taken, or may have, and which it has not claimed yet.
    pub scoped: Option<Key>,
    /// Since when it is known, in the midst of work, that it was asked to leave.
    asked_ms: Option<u64>,
}

impl Proc {
    /// Registers this process with the queue.
    pub fn register(queue: &Queue, identity: &Identity) -> Result<Proc> {
        let (card, dir) = registration::make(queue, identity)?;
        if identity.kind != CardKind::Cli {
            queue.ring(&queue.layout.procs_bell());
        }
        Ok(Proc {
            wid: card.wid.clone(),
            card,
            dir,
            place: None,
            links: 0,
            card_file: None,
            successes: 0,
            success_file: None,
            success_stamp: 0,
            won: BTreeSet::new(),
            seq: 0,
            torn: true,
            unwritten: Vec::new(),
            told: BTreeSet::new(),
            untold: BTreeSet::new(),
            published: 0,
            known: Known::default(),
            waiting: Waiting::default(),
            left_behind: false,
            grounded: HashSet::new(),
            scoped: None,
            asked_ms: None,
        })
    }

    /// `procs/W`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `procs/W` itself, whatever its path leads to by now.
    pub fn place(&mut self, queue: &Queue) -> Result<Arc<Dir>> {
        if let Some(place) = &self.place {
            return Ok(place.clone());
        }
        let place = queue.fs.open_dir(&self.dir).cannot("open this process's directory", &self.dir);
        Ok(self.place.insert(Arc::new(place?)).clone())
    }

    /// A path in `procs/W/run`.
    pub fn run(&self, name: &str) -> PathBuf {
        self.dir.join("run").join(name)
    }

    /// The intent for a claim.
    pub fn intent(&self, key: &Key) -> PathBuf {
        self.run(&key.to_string())
    }

    /// The card that a claim of this kind links to; made on demand, and anew after many links.
    pub fn card_for(&mut self, queue: &Queue, kind: CardKind) -> Result<Arc<Path>> {
        self.links += 2;
        if self.links > LINKS_MAX {
            self.links = 2;
            self.card.card += 1;
        }
        self.card_file(queue, kind)
    }

    /// Makes the next card the current one: the file system allows no further link to this one.
    pub fn next_card(&mut self, queue: &Queue, kind: CardKind) -> Result<Arc<Path>> {
        self.links = 2;
        self.card.card += 1;
        self.card_file(queue, kind)
    }

    fn card_file(&mut self, queue: &Queue, kind: CardKind) -> Result<Arc<Path>> {
        let number = self.card.card;
        if kind != self.card.kind {
            let word = serde_json::to_value(kind).unwrap_or_default();
            let name = format!("card.{}.{number}.json", word.as_str().unwrap_or("other"));
            return self.make_card(queue, kind, &name);
        }
        match &self.card_file {
            Some((made, path)) if *made == number => Ok(path.clone()),
            _ => {
                let path = self.make_card(queue, kind, &format!("card.{number}.json"))?;
                self.card_file = Some((number, path.clone()));
                Ok(path)
            }
        }
    }

    fn make_card(&self, queue: &Queue, kind: CardKind, name: &str) -> Result<Arc<Path>> {
        let path = self.dir.join(name);
        // The first one was there before the process was.
        if (kind == self.card.kind && self.card.card == 0) || queue.fs.stat(&path).is_ok() {
            return Ok(path.into());
        }
        let card = Card { kind, ..self.card.clone() };
        let tmp = path.with_extension("tmp");
        queue.fs.create(&tmp, &record::to_bytes(&card), 0o444).cannot("write a card", &tmp)?;
        queue.fs.rename(&tmp, &path).cannot("write a card", &path)?;
        Ok(path.into())
    }

    /// A record that says that a job of an array succeeded; the ends of such jobs are links to it. Made
    /// on demand, and anew after many links, or when the file system allows no more.
    /// `stamp`: for which rule of a run they count (array/halting.rs).
    pub fn success(&mut self, queue: &Queue, anew: bool, stamp: u32) -> Result<Arc<Path>> {
        self.successes += 1;
        let other = std::mem::replace(&mut self.success_stamp, stamp) != stamp;
        if anew || other || self.successes.is_multiple_of(LINKS_MAX) {
            self.success_file = None;
        }
        if let Some(path) = &self.success_file {
            return Ok(path.clone());
        }
        let mut end = record::End::new(record::Verdict::Done, false);
        end.by.clone_from(&self.wid);
        end.holder.clone_from(&self.wid);
        end.exit.code = Some(0);
        let end = super::array::halting::stamped(end, stamp);
        let path = self.dir.join(format!("success.{}.json", self.successes));
        // By way of another name: half of it, on a full disk, would be an end that nobody can read.
        let tmp = path.with_extension("tmp");
        queue.stage(&tmp, &record::to_bytes(&end), "write a record")?;
        queue.fs.rename(&tmp, &path).cannot("write a record", &path)?;
        Ok(self.success_file.insert(path.into()).clone())
    }

    /// One heartbeat. On a shared file system the beat is a rewrite, which other hosts see.
    pub fn beat(&self, queue: &Queue) -> Result<()> {
        let path = self.dir.join("hb");
        if queue.shared {
            return queue.replace(&path, &record::to_bytes(&self.card));
        }
        // Not made anew where somebody removes the queue.
        queue.fs.refresh(&path).cannot("beat", &path)
    }

    /// Whether somebody declared this process dead, or its directory is gone: then it must not
    /// claim, and goes on under a new identity only.
    pub fn is_declared_dead(&self, queue: &Queue) -> bool {
        // Whoever removes the directory begins with run/.
        queue.fs.exists(&self.dir.join("end")) || !queue.fs.exists(&self.dir.join("run"))
    }

    /// Asked between the steps of what may take long, such as a cascade of 100,000 cancelled tasks: who was
    /// asked to leave in the middle of it has a moment to finish it.
    ///
    /// # Errors
    /// That moment is over. Whoever comes next does the rest: it is as if this process had died here, since
    /// no intent has gone.
    pub fn may_go_on(&mut self, queue: &Queue) -> Result<()> {
        if !queue.host.is_asked_to_leave() {
            self.asked_ms = None;
            return Ok(());
        }
        let now_ms = queue.clock.mono_ms();
        let asked_ms = *self.asked_ms.get_or_insert(now_ms);
        match now_ms.saturating_sub(asked_ms) < LEAVE_MS {
            true => Ok(()),
            false => Err(Error::cut_short("asked to leave: what follows is left to others")),
        }
    }

    /// Whether its directory was removed, and nobody has declared it dead: it is where it was, without a place.
    pub fn is_without_place(&self, queue: &Queue) -> bool {
        !queue.fs.exists(&self.dir)
    }

    /// Whether a verdict for the attempt is staged.
    pub fn intent_is_staged(&self, queue: &Queue, key: &Key) -> bool {
        queue.fs.exists(&self.run(&format!("{key}.end")))
    }

    /// Makes sure that `id` is looked at even if this process dies now.
    pub fn settle_intent(&self, queue: &Queue, id: &str) -> Result<PathBuf> {
        let path = self.run(&format!("_settle.{id}"));
        step!("settle.intent");
        queue.fs.touch(&path).cannot("write an intent", &path)?;
        Ok(path)
    }

    /// Leaves a task to be settled later: by this process, or by whoever finishes what it has left.
    pub fn leave_behind(&mut self, queue: &Queue, id: &str) -> Result<()> {
        self.left_behind = true;
        self.settle_intent(queue, id).map(drop)
    }

    /// Leaves the queue: the directory goes if no intent is left in it, and is left to recovery
    /// otherwise.
    pub fn leave(&mut self, queue: &Queue) {
        super::events::flush(queue, self);
        super::events::tell_again(queue, self);
        durable::events(queue, self, true);
        if self.card.kind == CardKind::Cli {
            // A command's directory simply goes; if that fails, recovery finds its process dead.
            dissolve(queue, &self.wid);
            return;
        }
        let tmp = self.dir.join("end.tmp");
        let note = Note::new(&self.wid, queue.now(), "left");
        step!("leave.end");
        if queue.fs.create(&tmp, &record::to_bytes(&note), 0o444).is_ok() {
            drop(queue.fs.link(&tmp, &self.dir.join("end")));
            drop(queue.fs.unlink(&tmp));
        }
        dissolve(queue, &self.wid);
        queue.ring(&queue.layout.procs_bell());
    }
}

/// Removes `procs/W` if its `run/` is empty. Never recursive: an intent that a process puts there
/// meanwhile keeps the directory. The card goes last, so that what is left can still be judged.
pub fn dissolve(queue: &Queue, wid: &str) -> bool {
    let dir = queue.layout.proc(wid);
    step!("leave.rmdir_run");
    match queue.fs.rmdir(&dir.join("run")) {
        Err(e) if !is_absent(&e) => return false,
        _ => {}
    }
    let mut names: Vec<String> = match queue.fs.list(&dir) {
        Ok(entries) => entries.into_iter().map(|e| e.name).collect(),
        Err(_) => return false,
    };
    // What somebody else has put there stays, and the directory with it.
    names.retain(|name| is_own(name));
    names.sort_by_key(|name| name.starts_with("card."));
    for name in names {
        step!("leave.unlink");
        drop(queue.fs.unlink(&dir.join(name)));
    }
    step!("leave.rmdir");
    queue.fs.rmdir(&dir).is_ok()
}

/// Whether `procs/W` has such a file by itself.
pub fn is_own(name: &str) -> bool {
    matches!(name, "hb" | "bell" | "end" | "end.tmp" | super::leftovers::LEFT)
        || name.starts_with("card.")
        || name.starts_with("success.")
        // Of a beat that writes `hb` anew.
        || name.starts_with(".hb.") && name.ends_with(".tmp")
}

impl Card {
    /// The process, which means something only on its own machine, boot and pid namespace.
    pub fn process(&self) -> ProcessId {
        ProcessId { pid: self.pid, start: self.start }
    }
}

/// Rings a process's own bell: look at what you hold. Of one that is gone there is none to ring.
pub fn ring(queue: &Queue, wid: &str) {
    let bell = |wid: &str| queue.layout.proc(wid).join("bell");
    let is_there = |bell: &PathBuf| queue.fs.stat(bell).is_ok();
    let later = || present_name(queue, wid).map(|wid| bell(&wid)).filter(is_there);
    if let Some(bell) = Some(bell(wid)).filter(is_there).or_else(later) {
        // Lost, at worst, to the next heartbeat.
        drop(queue.fs.touch(&bell));
    }
}

/// The names by which a process has claims: its own, and the one that it had when its directory was removed
/// while it worked.
pub fn names(queue: &Queue, wid: &str) -> Vec<String> {
    let former = card(queue, wid).map(|card| card.former).filter(|former| !former.is_empty());
    [wid.to_owned()].into_iter().chain(former).collect()
}

/// The name in which a process is registered that has claimed as `wid`: the same, or a later one. `None`: it
/// is not registered.
pub fn present_name(queue: &Queue, wid: &str) -> Option<String> {
    if queue.fs.exists(&queue.layout.proc(wid)) {
        return Some(wid.to_owned());
    }
    let is_it = |name: &String| card(queue, name).is_some_and(|card| card.is_called(wid));
    all(queue).unwrap_or_default().into_iter().find(is_it)
}

/// Whether pids of this card mean something here: same machine, boot and pid namespace, and a process
/// that works in this directory, not in one that this is a copy of.
pub fn is_here(queue: &Queue, card: &Card) -> bool {
    can_be_seen(queue, card) && !identity::is_of_another(queue, card)
}

/// Whether this machine can tell whether the process of this card lives, wherever it works.
pub fn can_be_seen(queue: &Queue, card: &Card) -> bool {
    let place = queue.host.place();
    card.host_id == place.host_id && card.boot == place.boot && card.pidns == place.pidns
}

/// Whether a process whose card cannot be read is certainly dead: on a file system of this machine
/// alone, if nothing of its directory has changed since this boot.
pub fn is_of_earlier_boot(queue: &Queue, wid: &str) -> bool {
    let dir = queue.layout.proc(wid);
    let names = [dir.clone(), dir.join("run"), dir.join("hb"), dir.join("bell")];
    let newest_ns =
        names.iter().filter_map(|path| queue.fs.stat(path).ok()).map(|s| s.mtime_ns).max();
    !queue.shared && newest_ns.is_some_and(|ns| ns / 1_000_000 < queue.host.booted_at_ms())
}

/// The ids of all registered processes.
pub fn all(queue: &Queue) -> Result<Vec<String>> {
    let names = queue.list(&queue.layout.procs())?;
    let dirs = names.into_iter().filter(|e| e.kind == crate::sys::fs::Kind::Dir);
    Ok(dirs.map(|e| e.name).filter(|n| !n.starts_with('.')).collect())
}

/// The card of a process; `None` if it cannot be read.
pub fn card(queue: &Queue, wid: &str) -> Option<Card> {
    let dir = queue.layout.proc(wid);
    let read = |name: &str| queue.fs.read(&dir.join(name), 0, record::RECORD_MAX).ok();
    // The heartbeat file carries a copy, for the case that somebody emptied the card.
    ["card.0.json", "hb"].into_iter().find_map(|name| record::parse(&read(name)?).ok())
}

/// Whether neither card of a process is there or makes sense. An error: this cannot be told now, and
/// its process may be in the best of health.
pub fn is_without_card(queue: &Queue, wid: &str) -> Result<bool> {
    let dir = queue.layout.proc(wid);
    for name in ["card.0.json", "hb"] {
        let path = dir.join(name);
        match queue.fs.read(&path, 0, record::RECORD_MAX) {
            Ok(bytes) if record::parse::<Card>(&bytes).is_ok() => return Ok(false),
            Err(e) if !super::tasks::is_of_the_file(&e) => {
                return Err(e).cannot("read a card", &path);
            }
            _ => {}
        }
    }
    Ok(true)
}

/// What a process's `run/` names: the claims that it holds or is making.
pub fn claims(queue: &Queue, wid: &str) -> Vec<Key> {
    let names = intents(queue, wid, false);
    names.iter().filter(|n| !n.starts_with('_')).filter_map(|name| Key::parse(name)).collect()
}

/// The arrays that a process has claims in.
pub fn arrays(queue: &Queue, wid: &str) -> BTreeSet<String> {
    let names = intents(queue, wid, false);
    let found = names.iter().filter_map(|name| super::array::job::parse_intent(name));
    found.map(|(id, _)| id.to_owned()).collect()
}

/// Whether a name in `run/` is that of an intent, or of what is staged for one.
pub fn is_intent(name: &str) -> bool {
    let staged = name.strip_suffix(".tmp").unwrap_or(name);
    name.starts_with('_') || Key::parse(staged.strip_suffix(".end").unwrap_or(staged)).is_some()
}

/// The names in a process's `run/`, sorted: of its claims (the jobs of an array included), or of
/// everything.
pub fn intents(queue: &Queue, wid: &str, all: bool) -> Vec<String> {
    let names = queue.list(&queue.layout.proc(wid).join("run")).unwrap_or_default();
    let of_jobs = |name: &str| super::array::job::parse_intent(name).is_some();
    let is_claim =
        |name: &str| of_jobs(name) || !name.starts_with('_') && Key::parse(name).is_some();
    let wanted = names.into_iter().map(|e| e.name).filter(|name| all || is_claim(name));
    let mut wanted: Vec<String> = wanted.collect();
    wanted.sort();
    wanted
}
