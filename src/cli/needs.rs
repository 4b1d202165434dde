//! NEEDS YOU: every state that only a person can end, with its age and what to type.
//!
//! The events tell of some of them (`queue::status`: what failed, is held, is for a person, was
//! rejected). The others are looked for here, when somebody asks, in at most `LOOKED_AT` tasks of a kind:
//! nobody pays for them while nobody looks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::plan::notices::Notice;
use crate::program::fleet::{self, Member};
use crate::program::room;
use crate::queue::dismissed::Dismissal;
use crate::queue::evaluate::{Because, Blocker, Readiness, readiness};
use crate::queue::ids::{Key, is_task_id, lane_name};
use crate::queue::record::{CardKind, Spec};
use crate::queue::status::{Need, Status, current};
use crate::queue::tasks::{self, Phase, Task};
use crate::queue::{Queue, archive, dismissed, lane, ready};
use crate::run::attempt::agent_of;
use crate::run::site::read_config;
use crate::sys::clock::parse_rfc3339;

use super::Answer;
use super::args::{Cli, Dismiss};
use super::put::person;
use super::{output, place};

/// Tasks of one kind that are looked at.
const LOOKED_AT: usize = 200;

/// The rows, without those that somebody has dismissed.
pub fn shown(
    queue: &Queue,
    config: Option<&Config>,
    status: &Status,
    members: &[Member],
) -> Result<Vec<Need>> {
    let mut needs = all(queue, config, status, members)?;
    let hidden = dismissed::all(queue);
    needs.retain(|need| !hidden.hides(&need.kind, &need.id, need.since_ms));
    Ok(needs)
}

fn all(
    queue: &Queue,
    config: Option<&Config>,
    status: &Status,
    members: &[Member],
) -> Result<Vec<Need>> {
    let mut needs = asked(queue, members);
    needs.extend(config.and_then(|config| full(queue, config)));
    needs.extend(put_off(queue)?);
    needs.extend(status.needs_you.iter().cloned());
    needs.extend(blocked(queue)?);
    needs.extend(unserved(queue, config, members)?);
    Ok(needs)
}

fn need(kind: &str, id: &str, what: String, since_ms: u64, hint: String) -> Need {
    Need { id: id.to_owned(), kind: kind.to_owned(), what, since_ms, hint }
}

/// What people have asked of all programs, and that holds until they take it back.
fn asked(queue: &Queue, members: &[Member]) -> Vec<Need> {
    let alive = members.iter().any(|m| m.lives());
    let files = [
        ("pause", true, "nothing new is claimed", "coord resume"),
        (lane::PAUSE, true, "nothing is merged", "coord mergeq resume"),
        // While programs leave, nobody has to do anything.
        ("drain", !alive, "workers leave at once", "coord resume"),
        ("stop", !alive, "workers leave at once", "coord resume"),
    ];
    let row = |(file, holds, what, hint): (&str, bool, &str, &str)| {
        let stat = queue.fs.stat(&queue.layout.control().join(file)).ok().filter(|_| holds)?;
        let what = format!("{what}: control/{file} is there");
        Some(need("asked", file, what, stat.mtime_ns / 1_000_000, hint.to_owned()))
    };
    files.into_iter().filter_map(row).collect()
}

/// A disk on which no worker begins anything.
fn full(queue: &Queue, config: &Config) -> Option<Need> {
    let free = room::full(queue, &config.limits)? / 1024;
    let what = format!("nothing new is begun: {free} KiB are free on the disk of the queue");
    let hint = "make room there (coord gc --delete); [limits] disk_free says how much".to_owned();
    // It is so now; nobody has noted since when.
    Some(need("full", "disk", what, queue.clock.wall_ms(), hint))
}

/// Lanes that merge nothing, and tasks that cannot start, until a person has done something.
fn put_off(queue: &Queue) -> Result<Vec<Need>> {
    let mut ids = Vec::new();
    for id in lane::ids(queue)? {
        if !lane::entries(queue, &id)?.is_empty() {
            ids.push(("merge", id));
        }
    }
    let buckets = queue.list(&queue.layout.delayed())?;
    for bucket in buckets.into_iter().take(LOOKED_AT) {
        for entry in queue.list(&queue.layout.delayed().join(&bucket.name))? {
            let task = Key::parse(&entry.name).map(|key| key.task);
            ids.extend(task.filter(|id| is_task_id(id)).map(|id| ("waits", id)));
        }
    }
    let mut rows = Vec::new();
    for (kind, id) in ids.into_iter().take(LOOKED_AT) {
        let Some(end) = lane::waits_for_person(queue, &id)? else { continue };
        let said = |field: &str| end.more.get(field).and_then(|value| value.as_str());
        let hint = match said(lane::REMEDY).filter(|remedy| !remedy.is_empty()) {
            Some(remedy) => remedy.to_owned(),
            None => "mend that, then: coord merge".to_owned(),
        };
        // The command stands beside it.
        let what = end.why.strip_suffix(&format!(" ({hint})")).unwrap_or(&end.why).to_owned();
        let since = said(lane::SINCE).unwrap_or(&end.ended);
        rows.push(need(kind, &id, what, parse_rfc3339(since).unwrap_or(0), hint));
    }
    Ok(rows)
}

/// What blocked tasks wait for in vain, each cause once with those that wait for it.
fn blocked(queue: &Queue) -> Result<Vec<Need>> {
    let mut causes: BTreeMap<(&'static str, String), Vec<(String, u64)>> = BTreeMap::new();
    for entry in queue.list(&queue.layout.blocked())?.into_iter().take(LOOKED_AT) {
        let Some(key) = Key::parse(&entry.name) else { continue };
        let Some(task) = tasks::seen(queue, &key.task)? else { continue };
        if task.phase != Phase::Pending(key.n) || lane_name(&task.id).is_some() {
            continue;
        }
        let since_ms = task.spec.as_ref().ok().and_then(|s| parse_rfc3339(&s.at)).unwrap_or(0);
        for blocker in blockers(queue, &task)? {
            let kind = match &blocker.because {
                // It has a row of its own.
                Because::Dead(Phase::Failed(_)) if !archive::holds(queue, &blocker.on) => continue,
                Because::Dead(_) => "dead",
                Because::Unknown => "missing",
                Because::Unfinished(_) if waits_for(queue, &blocker.on, &key.task)? => "cycle",
                Because::Unfinished(_) => continue,
            };
            causes.entry((kind, blocker.on)).or_default().push((key.task.clone(), since_ms));
        }
    }
    let row = |((kind, on), waiting): ((&'static str, String), Vec<(String, u64)>)| {
        let (first, since_ms) = waiting.first().cloned().unwrap_or_default();
        let others = waiting.len().saturating_sub(1);
        let who = if others == 0 { first.clone() } else { format!("{first} and {others} more") };
        let (what, hint) = match kind {
            "missing" => (
                format!("{who} wait{} for it, and it does not exist", plural(others)),
                format!("coord add --id {on} …, or coord cancel {first}"),
            ),
            "cycle" => (
                format!("{on} and {first} wait for each other"),
                format!("coord cancel {first}, and add it anew"),
            ),
            _ if archive::holds(queue, &on) => (
                format!("{who} wait{} for it, and it is over for ever", plural(others)),
                format!("coord cancel {first}"),
            ),
            _ => (
                format!("{who} wait{} for it, and it was cancelled", plural(others)),
                format!("coord retry {on}, or coord cancel {first}"),
            ),
        };
        need(kind, &on, what, since_ms, hint)
    };
    Ok(causes.into_iter().map(row).collect())
}

fn plural(others: usize) -> &'static str {
    if others == 0 { "s" } else { "" }
}

fn blockers(queue: &Queue, task: &Task) -> Result<Vec<Blocker>> {
    let Phase::Pending(n) = task.phase else { return Ok(Vec::new()) };
    Ok(match readiness(queue, task, n)? {
        Readiness::Blocked(blockers) => blockers,
        _ => Vec::new(),
    })
}

/// Whether `id` waits for `on`, by way of other tasks too.
fn waits_for(queue: &Queue, id: &str, on: &str) -> Result<bool> {
    let (mut todo, mut seen) = (vec![id.to_owned()], BTreeSet::new());
    while let Some(id) = todo.pop() {
        if id == on {
            return Ok(true);
        }
        if seen.len() < LOOKED_AT && seen.insert(id.clone()) {
            let Some(task) = tasks::seen(queue, &id)? else { continue };
            todo.extend(blockers(queue, &task)?.into_iter().map(|blocker| blocker.on));
        }
    }
    Ok(false)
}

/// Ready tasks that no living worker can take, each lack once.
fn unserved(queue: &Queue, config: Option<&Config>, members: &[Member]) -> Result<Vec<Need>> {
    let workers: Vec<&Member> =
        members.iter().filter(|m| m.kind == CardKind::Worker && m.lives()).collect();
    let mut lacks: BTreeMap<(&'static str, String), Vec<(String, u64)>> = BTreeMap::new();
    for key in ready::some(queue, LOOKED_AT)? {
        let Some(task) = tasks::seen(queue, &key.task)? else { continue };
        let Ok(spec) = &task.spec else { continue };
        let ready = task.phase == Phase::Pending(key.n)
            && readiness(queue, &task, key.n)? == Readiness::Ready;
        if let Some(lack) = lack(config, &workers, spec).filter(|_| ready) {
            let since_ms = parse_rfc3339(&spec.at).unwrap_or(0);
            lacks.entry(lack).or_default().push((key.task, since_ms));
        }
    }
    let row = |((kind, name), waiting): ((&'static str, String), Vec<(String, u64)>)| {
        let (first, since_ms) = waiting.first().cloned().unwrap_or_default();
        let others = waiting.len().saturating_sub(1);
        let who = if others == 0 { first } else { format!("{first} and {others} more") };
        let what = match kind {
            "role" => format!("no worker serves this role, which {who} want{}", plural(others)),
            "label" => format!("no worker has this label, which {who} need{}", plural(others)),
            _ => format!("coord.toml has no such agent, which {who} want{}", plural(others)),
        };
        // A row is called by what stands in front, so that must be something.
        let id = if name.is_empty() { "agent" } else { &name };
        need(kind, id, what, since_ms, what_helps(kind, &name))
    };
    Ok(lacks.into_iter().map(row).collect())
}

/// What to type where a role, a label or an agent is missing.
pub fn what_helps(kind: &str, name: &str) -> String {
    match kind {
        "role" => format!("coord scale 1 --role {name}, or coord work --role {name}"),
        "label" => format!("coord work --label {name}, or coord start --label {name}"),
        _ if name.is_empty() => "set [workers] agent in coord.toml".to_owned(),
        _ => format!("a table [agents.{name}] in coord.toml, with a command"),
    }
}

/// What is missing for anybody to take a task: a role, a label, or an agent.
pub fn lack(
    config: Option<&Config>,
    workers: &[&Member],
    spec: &Spec,
) -> Option<(&'static str, String)> {
    if let Some(config) = config
        && let Some(agent) = agent_of(config, spec)
        && !config.agents.contains_key(agent)
    {
        return Some(("agent", agent.to_owned()));
    }
    // Where nobody works, all wait alike.
    if workers.is_empty() {
        return None;
    }
    let serves = |m: &&&Member| m.roles.is_empty() || m.roles.iter().any(|r| r == spec.role());
    let serving: Vec<&&Member> = workers.iter().filter(serves).collect();
    if serving.is_empty() {
        return Some(("role", spec.role().to_owned()));
    }
    let has_all = |m: &&Member| spec.needs.iter().all(|need| m.card.labels.contains(need));
    if serving.iter().any(|m| has_all(m)) {
        return None;
    }
    let nobody = |need: &&String| !serving.iter().any(|m| m.card.labels.contains(need));
    let label = spec.needs.iter().find(nobody).cloned();
    // Each has some of them, and none has all.
    Some(("label", label.unwrap_or_else(|| spec.needs.join(" --label "))))
}

/// What a note is called, as a kind of row.
pub const NOTE: &str = "note";

/// A short name for a note, by which it can be dismissed.
pub fn name_of_note(text: &str) -> String {
    let sum = text.bytes().fold(0_u16, |sum, b| sum.rotate_left(5) ^ u16::from(b));
    format!("{sum:04x}")
}

/// `coord dismiss`.
pub fn dismiss(cli: &Cli, args: &Dismiss) -> Answer {
    let queue = place::open(cli)?;
    let status = current(&queue)?;
    let config = read_config(queue.layout.root().parent().unwrap_or(queue.layout.root())).ok();
    let rows = all(&queue, config.as_ref(), &status, &fleet::members(&queue))?;
    let mut rows: Vec<(String, String, u64)> =
        rows.into_iter().map(|need| (need.kind, need.id, need.since_ms)).collect();
    let note = |n: &Notice| (NOTE.to_owned(), name_of_note(&n.text), n.at_ms);
    rows.extend(status.notices.iter().map(note));
    for id in &args.rows {
        if !rows.iter().any(|(_, of, _)| of == id) {
            let what = format!("NEEDS YOU has no row `{id}`, nor is there such a note");
            return Err(Error::new(Exit::NotFound, what).hint("coord status"));
        }
    }
    for (kind, id, since_ms) in rows.into_iter().filter(|(_, id, _)| args.rows.contains(id)) {
        let row = Dismissal { kind, id, since_ms, by: person(), ..Dismissal::default() };
        dismissed::dismiss(&queue, row)?;
    }
    if cli.json {
        output::document(&json!({ "schema": "coord.dismiss/1", "rows": args.rows }));
    }
    Ok(None)
}
