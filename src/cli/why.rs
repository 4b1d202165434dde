//! `coord why`: the exact thing that a task waits for, and what has to happen next.

use std::collections::BTreeSet;

use serde_json::json;

use crate::error::Result;
use crate::plan::scope::overlap;
use crate::plan::units::human_duration;
use crate::program::fleet;
use crate::queue::evaluate::{Because, Blocker, Readiness, readiness};
use crate::queue::ids::{Key, short};
use crate::queue::learned::Way;
use crate::queue::record::CardKind;
use crate::queue::scopes::{self, Entry};
use crate::queue::status::current;
use crate::queue::tasks::{self, Phase, StageKind, Task};
use crate::queue::{Queue, archive, control, lane, leftovers, state};
use crate::run::merge::preview::{Outlook, preview};
use crate::run::site::Site;
use crate::run::{attempt, vigil};

use super::Answer;
use super::args::{Cli, One};
use super::{arrays, needs, output, place};

/// Paths, or tasks, that a reason names.
const PATHS_MAX: usize = 8;
/// Dependencies that are explained one by one.
const BLOCKERS_MAX: usize = 50;
/// Tasks of a chain of dependencies that are named before the last one.
const CHAIN_MAX: usize = 8;

/// Reasons, and what comes next.
struct Answered {
    reasons: Vec<(String, String)>,
    next: String,
}

/// `coord why`.
pub fn why(cli: &Cli, args: &One) -> Answer {
    let site = place::site(cli)?;
    let queue = &site.queue;
    let task = tasks::existing(queue, &args.id)?;
    let state = state::state(queue, &task)?;
    let Answered { reasons, next } = answer(&site, &task)?;
    if cli.json {
        let reasons: Vec<_> =
            reasons.iter().map(|(kind, text)| json!({ "kind": kind, "what": text })).collect();
        output::document(&json!({
            "schema": "coord.why/1", "id": task.id, "state": state.word(),
            "reasons": reasons, "next": next,
        }));
        return Ok(None);
    }
    let count = match reasons.len() {
        0 | 1 => String::new(),
        n => format!(" ({n} reasons)"),
    };
    output::line(&format!("{} is {}{count}", task.id, state.word()));
    let rows: Vec<Vec<String>> = reasons
        .into_iter()
        .map(|(kind, text)| vec![format!("  {kind}"), output::printable(&text)])
        .collect();
    output::columns(&rows);
    output::line(&format!("next: {next}"));
    Ok(None)
}

fn answer(site: &Site, task: &Task) -> Result<Answered> {
    let queue = &site.queue;
    let one = |kind: &str, text: String, next: &str| Answered {
        reasons: vec![(kind.to_owned(), text)],
        next: next.to_owned(),
    };
    Ok(match &task.phase {
        Phase::NoSpec => one("spec", "it is being submitted".to_owned(), "a moment's patience"),
        Phase::Corrupt(why) => one(
            "spec",
            format!("spec.json cannot be read: {why}"),
            "restore it, or add it anew under another id",
        ),
        Phase::Claimed(n) => claimed(queue, task, *n)?,
        Phase::Stage(n, StageKind::Merge) => merging(site, task, *n)?,
        Phase::Stage(_, kind) => {
            one("stage", format!("waits for {kind:?}"), "whoever does that stage")
        }
        Phase::Done(n) => one("end", format!("attempt {n} succeeded"), "nothing: it is over"),
        Phase::Failed(n) | Phase::Cancelled(n) if tasks::is_closed(queue, task, *n)? => {
            let why = tasks::end_of(queue, task, *n)?.why;
            one("end", why, "nothing: it was archived, and is over for ever")
        }
        Phase::Failed(n) => {
            let why = match tasks::merge_of(queue, task, *n)? {
                Some(stage) => format!("it came back from its merge too often: {}", stage.why),
                None => tasks::end_of(queue, task, *n)?.why,
            };
            let text = format!("attempt {n} was the last: {why}");
            let mut answered = one("end", text, &format!("coord retry {} --note \"…\"", task.id));
            if arrays::of(task).is_some() {
                answered.reasons.extend(arrays::failed(queue, task)?);
                answered.next = format!("coord retry {}: what failed runs again", task.id);
            }
            answered
        }
        Phase::Cancelled(n) => {
            let end = tasks::end_of(queue, task, *n)?;
            one("end", format!("cancelled: {}", end.why), &format!("coord retry {}", task.id))
        }
        Phase::Pending(n) => pending(site, task, *n)?,
    })
}

fn claimed(queue: &Queue, task: &Task, n: u32) -> Result<Answered> {
    let card = tasks::claimer(queue, task, n)?;
    let who = card.as_ref().map_or("nobody who can be read", |c| short(&c.wid)).to_owned();
    if card.as_ref().is_some_and(|c| c.kind == CardKind::Hold) {
        let reasons = vec![("hold".to_owned(), format!("held by {who}"))];
        return Ok(Answered { reasons, next: format!("coord release {}", task.id) });
    }
    let wid = card.as_ref().map(|c| c.wid.clone());
    let member = card.and_then(|c| fleet::members(queue).into_iter().find(|m| m.wid == c.wid));
    let state = member.map_or("no longer registered".to_owned(), |m| {
        let beat = human_duration(m.beat_age_ms);
        format!("pid {} on {}, {}, last beat {beat} ago", m.pid, m.host, m.state)
    });
    let mut reasons = vec![("claim".to_owned(), format!("{who} runs attempt {n} ({state})"))];
    let mut next = format!("coord logs -f {}", task.id);
    if let Some(wid) = wid.filter(|wid| leftovers::is_told(queue, wid)) {
        let about = leftovers::about(&wid);
        let notices = current(queue)?.notices;
        let said = notices.into_iter().find(|notice| notice.about == about);
        let unsaid = || "what it has left running cannot be ended".to_owned();
        reasons.push(("left".to_owned(), said.map_or_else(unsaid, |notice| notice.text)));
        "it goes on when that has ended".clone_into(&mut next);
    }
    if let Some(waiting) = vigil::waiting(queue, &Key::new(&task.id, n)) {
        reasons.push(("git".to_owned(), format!("it waits for {}", waiting.words(queue))));
    }
    if task.names.cancels.contains(&n) {
        reasons.push(("cancel".to_owned(), "it was asked to stop".to_owned()));
    }
    Ok(Answered { reasons, next })
}

/// Kinds of reasons, and what they are.
type Rows = Vec<(String, String)>;

/// The dependencies of a task in the chain above it that explain why `id` is not done, down to one that
/// does not wait for another; and what to type there, if a person has to.
fn root(queue: &Queue, id: &str) -> Result<(Rows, Option<String>)> {
    let mut seen = BTreeSet::from([id.to_owned()]);
    let (mut rows, mut passed) = (Rows::new(), 0);
    let mut id = id.to_owned();
    let help = loop {
        let Some(task) = tasks::seen(queue, &id)? else { break None };
        let Phase::Pending(n) = task.phase else { break None };
        let blockers = match readiness(queue, &task, n)? {
            Readiness::Blocked(blockers) => blockers,
            Readiness::Held => break Some(format!("coord release {id}")),
            Readiness::Manual => break Some(format!("coord done {id}")),
            _ => break None,
        };
        // One that a person has to look after explains more than one that goes on by itself.
        let dead = |b: &&Blocker| !matches!(b.because, Because::Unfinished(_));
        let Some(next) = blockers.iter().find(dead).or(blockers.first()) else {
            break None;
        };
        // Of a long chain, the beginning and the end.
        if rows.len() > CHAIN_MAX {
            rows.truncate(CHAIN_MAX);
            passed += 1;
        }
        let (kind, text) = blocker(queue, next);
        rows.push((kind, format!("{id} waits: {text}")));
        match &next.because {
            Because::Unknown => break Some(format!("coord add --id {} …", next.on)),
            Because::Dead(_) => break Some(format!("coord retry {}", next.on)),
            Because::Unfinished(_) if !seen.insert(next.on.clone()) => {
                let text = format!("{} is waited for by what it waits for itself", next.on);
                rows.push(("cycle".to_owned(), text));
                break Some(format!("coord cancel {}", next.on));
            }
            Because::Unfinished(_) => id.clone_from(&next.on),
        }
    };
    if passed > 0 {
        let text = format!("and {passed} more, each of which waits for the next one");
        rows.insert(CHAIN_MAX, ("dependency".to_owned(), text));
    }
    Ok((rows, help))
}

fn blocker(queue: &Queue, b: &Blocker) -> (String, String) {
    let over_for_ever = archive::holds(queue, &b.on);
    let text = match &b.because {
        Because::Unknown => format!("{} does not exist yet", b.on),
        Because::Dead(_) if over_for_ever => {
            format!("{} is dead and was archived: it will never be done", b.on)
        }
        Because::Dead(Phase::Failed(n)) => {
            let log = format!("tasks/{}/{n}.out/log", b.on);
            format!("{} failed, its log is {log}: coord retry {}", b.on, b.on)
        }
        Because::Dead(_) => format!("{} was cancelled: coord retry {}", b.on, b.on),
        Because::Unfinished(Phase::Claimed(n)) => format!("{} runs (attempt {n})", b.on),
        Because::Unfinished(Phase::Corrupt(why)) => format!("{}: {why}", b.on),
        Because::Unfinished(_) => format!("{} is not done yet", b.on),
    };
    ("dependency".to_owned(), text)
}

fn pending(site: &Site, task: &Task, n: u32) -> Result<Answered> {
    let queue = &site.queue;
    Ok(match readiness(queue, task, n)? {
        Readiness::Blocked(blockers) => {
            let dead = blockers.iter().any(|b| matches!(b.because, Because::Dead(_)));
            let on: Vec<String> = blockers.iter().map(|b| b.on.clone()).collect();
            let named = &blockers[..blockers.len().min(BLOCKERS_MAX)];
            let mut reasons: Vec<_> = named.iter().map(|b| blocker(queue, b)).collect();
            if let Some(more @ 1..) = blockers.len().checked_sub(named.len()) {
                reasons.push(("dependency".to_owned(), format!("and {more} more")));
            }
            let mut next = if dead {
                format!("a person decides about {}; or coord cancel {}", some(&on), task.id)
            } else {
                format!("becomes ready when {} reached done", some(&on))
            };
            for b in named.iter().filter(|b| matches!(b.because, Because::Unfinished(_))) {
                let (chain, helps) = root(queue, &b.on)?;
                reasons.extend(chain);
                if let Some(helps) = helps {
                    next = format!("{helps}; or coord cancel {}", task.id);
                }
            }
            Answered { reasons, next }
        }
        Readiness::Delayed(due_ms) => {
            let left = human_duration(due_ms.saturating_sub(queue.clock.wall_ms()));
            let last = task.last_end.as_ref().map(|e| format!(" (after: {})", e.why));
            let text = format!("not before {left} from now{}", last.unwrap_or_default());
            Answered {
                reasons: vec![("time".to_owned(), text)],
                next: "becomes ready by itself".to_owned(),
            }
        }
        Readiness::Held => Answered {
            reasons: vec![("hold".to_owned(), "added with --hold".to_owned())],
            next: format!("coord release {}", task.id),
        },
        Readiness::Manual => Answered {
            reasons: vec![("manual".to_owned(), "a person does it".to_owned())],
            next: format!("coord done {}", task.id),
        },
        Readiness::CancelDue(why, _) => Answered {
            reasons: vec![("cancel".to_owned(), why)],
            next: "the next process that looks ends it".to_owned(),
        },
        Readiness::Ready => ready(site, task, n)?,
    })
}

/// A ready task: who could take it, and why nobody does.
fn ready(site: &Site, task: &Task, n: u32) -> Result<Answered> {
    let queue = &site.queue;
    let mut reasons = Vec::new();
    let mut next = "the next free worker takes it".to_owned();
    let mut needs_worker = true;
    let spec = task.spec.clone().unwrap_or_default();
    let workers = fleet::workers(queue);
    let asked = control::asked(queue, "");
    if spec.array.is_some() {
        (reasons, next, needs_worker) = arrays::reasons(queue, task)?;
    } else if attempt::command(site, &spec).is_none() {
        let text = match attempt::agent_of(&site.config, &spec).unwrap_or_default() {
            "" => "it has no command, and coord.toml names no agent".to_owned(),
            agent => format!("coord.toml has no agent {agent}"),
        };
        reasons.push(("command".to_owned(), text));
        next = needs::what_helps("agent", &spec.agent);
    }
    if asked.pause {
        let text = "nothing new is claimed: control/pause is there".to_owned();
        reasons.push(("control".to_owned(), text));
        "coord resume".clone_into(&mut next);
    }
    if workers.is_empty() {
        reasons.push(("workers".to_owned(), "nobody works here".to_owned()));
        if needs_worker {
            "coord start -n 3, or coord work".clone_into(&mut next);
        }
    } else {
        let serves = |m: &&fleet::Member| {
            m.roles.is_empty() || m.roles.iter().any(|role| role == spec.role())
        };
        let suited = workers.iter().filter(serves);
        let suited: Vec<_> =
            suited.filter(|m| spec.needs.iter().all(|need| m.card.labels.contains(need))).collect();
        let idle = suited.iter().filter(|m| m.state == "idle").count();
        let all: Vec<&fleet::Member> = workers.iter().collect();
        if let Some((kind, name)) = needs::lack(None, &all, &spec) {
            let text = format!("none of {} workers has {kind} {name}", workers.len());
            reasons.push((kind.to_owned(), text));
            next = needs::what_helps(kind, &name);
        } else {
            let text =
                format!("{} of {} workers could take it, {idle} idle", suited.len(), workers.len());
            reasons.push(("workers".to_owned(), text));
        }
    }
    let key = Key::new(&task.id, n);
    let mine = scopes::entry(queue, &key, task, "")?;
    let others = scopes::in_the_way(queue, &key, task)?;
    for other in &others {
        reasons.push(("scope".to_owned(), held_by(queue, other, &mine)?));
    }
    reasons.extend(learned(&mine.learned));
    if let Some(other) = others.first() {
        next = format!("the next free worker takes it when {} is through", other.task);
    }
    reasons.push(("attempt".to_owned(), format!("{key}, priority {}", spec.priority)));
    Ok(Answered { reasons, next })
}

/// A task that waits for its merge: for whom, and what speaks against it.
fn merging(site: &Site, task: &Task, n: u32) -> Result<Answered> {
    let queue = &site.queue;
    let mut reasons = Vec::new();
    let lane = task.spec.as_ref().map(lane::of).unwrap_or_default();
    let mut next = "it is merged with the next turn".to_owned();
    let entries = lane::entries(queue, &lane)?;
    let place = entries.iter().position(|e| e.key.task == task.id).unwrap_or(0);
    let text =
        format!("attempt {n} is done, and number {} of {} to be merged", place + 1, entries.len());
    reasons.push(("merge".to_owned(), text));
    if let Some(entry) = entries.get(place) {
        for on in &entry.blockers {
            reasons.push(("merge after".to_owned(), format!("{on} is not merged yet")));
            next = format!("it is merged when {on} is");
        }
        for Way { key, paths } in &entry.makes_way {
            let on = &key.task;
            let text = format!(
                "makes way for {on}, which came back from its merge and changes {} as well \
                 (attempt {} is on its way)",
                some(paths),
                key.n
            );
            reasons.push(("scope".to_owned(), text));
            next = format!("it is merged when attempt {} of {on} is over", key.n);
        }
        reasons.extend(learned(&entry.learned.scope));
    }
    let turn = tasks::seen(queue, &lane)?;
    match turn.as_ref().map(|turn| &turn.phase) {
        Some(Phase::Claimed(k)) => {
            let who = turn.as_ref().and_then(|t| tasks::claimer(queue, t, *k).ok().flatten());
            let who = who.map_or("somebody".to_owned(), |card| short(&card.wid).to_owned());
            reasons.push(("turn".to_owned(), format!("{who} is merging (coord logs {lane})")));
        }
        Some(Phase::Pending(_)) => {
            let last = turn.as_ref().and_then(|turn| turn.last_end.as_ref());
            if let Some(end) = last.filter(|end| end.not_before.is_some()) {
                reasons.push(("last turn".to_owned(), end.why.clone()));
                "the merge is tried again by itself; at once: coord merge".clone_into(&mut next);
            }
        }
        _ => {}
    }
    if lane::is_paused(queue) {
        reasons.push(("control".to_owned(), "nothing is merged now".to_owned()));
        "coord mergeq resume".clone_into(&mut next);
    } else if fleet::workers(queue).is_empty()
        && !matches!(turn.map(|t| t.phase), Some(Phase::Claimed(_)))
    {
        reasons.push(("workers".to_owned(), "nobody works here".to_owned()));
        "coord merge, or coord start".clone_into(&mut next);
    }
    if let Ok((into, seen)) = preview(site, &lane) {
        for (entry, outlook) in seen {
            if entry.key.task != task.id {
                continue;
            }
            match outlook {
                Outlook::Conflict(paths) => {
                    let text = format!("with {into} in {}", paths.join(", "));
                    reasons.push(("conflict".to_owned(), text));
                    "it comes back to be done anew on the branch as it is then"
                        .clone_into(&mut next);
                }
                Outlook::Stuck(why) => reasons.push(("branch".to_owned(), why)),
                Outlook::Clean | Outlook::Waits(_) | Outlook::Nothing => {}
            }
        }
    }
    Ok(Answered { reasons, next })
}

/// In whose hands a part of a scope is.
fn held_by(queue: &Queue, other: &Entry, mine: &Entry) -> Result<String> {
    let common = |theirs: &&String| mine.scope.iter().any(|ours| overlap(ours, theirs));
    let paths: Vec<String> = other.scope.iter().filter(common).cloned().collect();
    let merging =
        tasks::seen(queue, &other.task)?.is_some_and(|task| matches!(task.phase, Phase::Stage(..)));
    let how = match (other.wanting, merging) {
        (true, _) => format!("is wanted by {}, which has waited longer", other.task),
        (_, true) => format!("is held by {} until it is merged", other.task),
        _ => format!("is held by {}, which runs on {}", other.task, short(&other.wid)),
    };
    Ok(format!("{} {how}", some(&paths)))
}

/// What a task has learned from its bounces, if anything.
fn learned(paths: &[String]) -> Option<(String, String)> {
    if paths.is_empty() {
        return None;
    }
    let text = format!("{}: changed by attempts that came back from their merge", some(paths));
    Some(("learned scope".to_owned(), text))
}

/// The first of some paths or tasks.
fn some(paths: &[String]) -> String {
    let named = paths.iter().take(PATHS_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match paths.len().checked_sub(PATHS_MAX) {
        Some(more @ 1..) => format!("{named} and {more} more"),
        _ => named,
    }
}
