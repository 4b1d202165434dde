//! `procs/`: who is registered, who lives, and what each one remembers in its `run/`.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::sys::fs::Kind;

use super::super::array;
use super::super::ids::{Key, short};
use super::super::procs as registered;
use super::super::record::{self, Card};
use super::super::tasks::Phase;
use super::{Severity, Survey};

/// A registered process as it was seen.
pub(super) struct Seen {
    /// Its card; `None` if none can be read.
    pub card: Option<Card>,
    /// Whether it may still act: alive here, or elsewhere and not declared dead.
    pub lives: bool,
    /// `procs/W/end` is there.
    pub ended: bool,
    /// The tasks that its intents name.
    pub names: BTreeSet<String>,
    /// The attempts that its intents name.
    pub claims: BTreeSet<Key>,
}

/// The task that an entry of `run/` is about.
pub(super) fn task_of(name: &str) -> Option<String> {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    if let Some((id, _)) = array::job::parse_intent(name) {
        return Some(id.to_owned());
    }
    for prefix in ["_settle.", "_submit.", "_reopen.", "_tell.", "_array.", "_chunk.", "_halt."] {
        if let Some(id) = name.strip_prefix(prefix) {
            return Some(id.to_owned());
        }
    }
    let rest = ["_end.", "_cancel.", "_merge.", "_leader."]
        .iter()
        .find_map(|p| name.strip_prefix(p))
        .unwrap_or(name);
    Key::parse(rest.strip_suffix(".end").unwrap_or(rest)).map(|key| key.task)
}

/// Reads all processes.
pub(super) fn gather(survey: &mut Survey<'_>) -> Result<()> {
    for wid in registered::all(survey.queue)? {
        let seen = look(survey, &wid);
        survey.procs.insert(wid, seen);
    }
    Ok(())
}

fn look(survey: &mut Survey<'_>, wid: &str) -> Seen {
    let queue = survey.queue;
    let dir = queue.layout.proc(wid);
    let card = registered::card(queue, wid);
    let ended = queue.fs.stat(&dir.join("end")).is_ok();
    let place = queue.host.place();
    let lives = card.as_ref().is_some_and(|card| {
        let same_host = card.host_id == place.host_id;
        if registered::can_be_seen(queue, card) {
            return queue.host.is_alive(card.process());
        }
        let earlier_boot = same_host && card.boot != place.boot;
        !(ended || earlier_boot)
    });
    let names = queue.list(&dir.join("run")).unwrap_or_default();
    let names: BTreeSet<String> = names.iter().filter_map(|e| task_of(&e.name)).collect();
    let claims = registered::claims(queue, wid).into_iter().collect();
    Seen { card, lives, ended, names, claims }
}

/// The process that has a claim in this name, and how it is called now.
pub(super) fn holder<'a>(survey: &'a Survey<'_>, wid: &str) -> Option<(&'a str, &'a Seen)> {
    let is_it = |seen: &Seen| seen.card.as_ref().is_some_and(|card| card.is_called(wid));
    let found = survey.procs.get_key_value(wid);
    let found = found.or_else(|| survey.procs.iter().find(|(_, seen)| is_it(seen)));
    found.map(|(wid, seen)| (wid.as_str(), seen))
}

/// Names dead processes, unreadable cards, and ends that leave a claim behind (I17).
pub(super) fn check(survey: &mut Survey<'_>) {
    cards(survey);
    let queue = survey.queue;
    let mut dead = Vec::new();
    for (wid, seen) in &survey.procs {
        if seen.lives || seen.card.is_none() {
            continue;
        }
        let count = queue.list(&queue.layout.proc(wid).join("run")).map_or(0, |names| names.len());
        dead.push((queue.layout.proc(wid), short(wid).to_owned(), count));
    }
    for (path, name, count) in dead {
        let what = format!("the process of {name} is dead; {count} files in its run/");
        survey.add(Severity::Leftover, "dead", &path, what, "recovery will take it back");
    }
    claims_after_end(survey);
}

fn cards(survey: &mut Survey<'_>) {
    let queue = survey.queue;
    let wids: Vec<String> = survey.procs.keys().cloned().collect();
    for wid in wids {
        let dir = queue.layout.proc(&wid);
        let mut cards = 0;
        for entry in queue.list(&dir).unwrap_or_default() {
            let name = &entry.name;
            if !(name.starts_with("card.") && name.ends_with(".json")) {
                continue;
            }
            cards += 1;
            let path = dir.join(name);
            let read = match entry.kind {
                Kind::File => queue.fs.read(&path, 0, record::RECORD_MAX),
                _ => Err(std::io::ErrorKind::InvalidInput.into()),
            };
            let why = match read {
                Ok(bytes) => record::parse::<Card>(&bytes).err().map(|e| e.to_string()),
                Err(e) => Some(e.to_string()),
            };
            if let Some(why) = why {
                let what = format!("the card cannot be read: {why}");
                let hint = format!("nobody can tell whether {wid} lives: end it, remove {wid}/");
                survey.add(Severity::Error, "format", &path, what, hint);
            }
        }
        if cards == 0 {
            let hint = "recovery removes it when it is empty";
            survey.add(Severity::Leftover, "dead", &dir, "a process without a card", hint);
        }
    }
}

/// I17: whoever was declared dead, or left, holds nothing for long.
fn claims_after_end(survey: &mut Survey<'_>) {
    let queue = survey.queue;
    let mut open: BTreeMap<String, Vec<Key>> = BTreeMap::new();
    for (id, facts) in survey.tasks.iter() {
        let Phase::Claimed(n) = facts.phase else { continue };
        let path = queue.layout.task(id).join(format!("{n}.claim"));
        let Ok(bytes) = queue.fs.read(&path, 0, record::RECORD_MAX) else { continue };
        if let Ok(card) = record::parse::<Card>(&bytes)
            && super::super::tasks::has_liveness(card.kind)
        {
            open.entry(card.wid).or_default().push(Key::new(id, n));
        }
    }
    for (wid, keys) in open {
        for key in keys {
            let path = queue.layout.task(&key.task).join(format!("{}.claim", key.n));
            let Some((wid, seen)) = holder(survey, &wid) else {
                let what = format!("{key} is held by {wid}, which is not registered");
                let hint = "recovery will take it back (coord fsck --repair)";
                survey.add(Severity::Leftover, "dead", &path, what, hint);
                continue;
            };
            let (ended, lives) = (seen.ended, seen.lives);
            let remembered = seen.claims.contains(&key);
            let name = short(wid).to_owned();
            if ended {
                let severity = if remembered { Severity::Leftover } else { Severity::Error };
                let what = format!("{name} has left or was declared dead, but {key} has no end");
                survey.add(severity, "I17", &path, what, "coord fsck --repair ends it");
            } else if !lives {
                let what = format!("{key} is held by {name}, whose process is dead");
                survey.add(Severity::Leftover, "dead", &path, what, "recovery will take it back");
            } else if !remembered {
                let what = format!("{name} holds {key} without an intent in its run/");
                let hint = format!("if {name} dies now, only the sweep gives the task back");
                survey.add(Severity::Leftover, "I9", &path, what, hint);
            }
        }
    }
}
