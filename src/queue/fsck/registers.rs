//! `tasks/`: every register must be readable, and allowed by those below it (I2, I3, I4).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};

use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::plan::graph::{describe, find_cycle};

use super::super::Queue;
use super::super::evaluate::{Readiness, dependency, readiness};
use super::super::ids::lane_name;
use super::super::record::{self, Card, End, Note, Spec, Stage, StageVerdict, Verdict};
use super::super::state::state;
use super::super::tasks::{self, Phase, Task};
use super::facts::{Facts, Stands};
use super::{Severity, Survey, arrays};

/// Looks at every task and remembers what the other checks need.
pub(super) fn check(survey: &mut Survey<'_>, strict: bool) -> Result<()> {
    let queue = survey.queue;
    let ids = tasks::ids_and_lanes(queue)?;
    survey.tasks.expect(ids.len());
    for id in ids {
        let looked = tasks::look(queue, &id).and_then(|task| match task {
            Some(task) if !task.archived => one(survey, &task, strict),
            // Not a directory: the walk names it. Or an empty one, of somebody who wanted an archived id.
            _ => Ok(()),
        });
        if let Err(e) = looked {
            let path = e.at.clone().unwrap_or_else(|| queue.layout.task(&id));
            let hint = "check owner and mode of the directory, and the disk";
            let what = format!("the task cannot be read: {}", e.one_line());
            survey.add(Severity::Error, "format", &path, what, hint);
            survey.closed.insert(id);
        }
    }
    survey.tasks.sort();
    cycles(survey);
    Ok(())
}

fn one(survey: &mut Survey<'_>, task: &Task, strict: bool) -> Result<()> {
    let queue = survey.queue;
    readable(survey, task)?;
    permitted(survey, task)?;
    arrays::check(survey, task)?;
    let after = task.spec.as_ref().map(|s| s.after.as_slice()).unwrap_or_default();
    let after: Vec<&str> = after.iter().map(|entry| dependency(entry).0).collect();
    let judged = match task.phase {
        Phase::Pending(n) => readiness(queue, task, n).ok(),
        _ => None,
    };
    if let Some(Readiness::Blocked(blockers)) = &judged {
        let unknown = |on: &&String| !queue.fs.exists(&queue.layout.waiters(on).join(&task.id));
        let unknown = blockers.iter().map(|b| &b.on).filter(unknown);
        survey.unknown_to.extend(unknown.map(|on| (task.id.clone(), on.clone())));
    }
    let facts = Facts {
        names: strict.then(|| Box::new(task.names.clone())),
        phase: task.phase.clone(),
        stands: judged.map(Stands::of),
        state: state(queue, task).ok(),
        after: after.join("\n").into(),
        hinted: false,
    };
    survey.tasks.push(&task.id, facts);
    Ok(())
}

/// All registers that are there can be read.
fn readable(survey: &mut Survey<'_>, task: &Task) -> Result<()> {
    let queue = survey.queue;
    let names = &task.names;
    if names.spec
        && let Some(why) = unreadable::<Spec>(queue, task, "spec.json")?
    {
        let path = task.dir.path.join("spec.json");
        let what = format!("{} never runs, its spec cannot be read: {why}", task.id);
        let hint = format!(
            "restore {} from a backup, or add the task anew under another id",
            path.display()
        );
        survey.add(Severity::Error, "format", &path, what, hint);
    }
    let read_as: [(&BTreeSet<u32>, &str, Reading); 7] = [
        (&names.claims, "claim", unreadable::<Card>),
        (&names.ends, "end", unreadable::<End>),
        (&names.cancels, "cancel", unreadable::<Note>),
        (&names.reopens, "reopen", unreadable::<Note>),
        (&names.lates, "late", unreadable::<End>),
        (&names.reviews, "review", unreadable::<Stage>),
        (&names.merges, "merge", unreadable::<Stage>),
    ];
    for (numbers, kind, reading) in read_as {
        for n in numbers {
            let name = format!("{n}.{kind}");
            let Some(why) = reading(queue, task, &name)? else { continue };
            let what = format!("the register cannot be read: {why}");
            survey.add(Severity::Error, "format", &task.dir.path.join(&name), what, taken_as(kind));
        }
    }
    Ok(())
}

type Reading = fn(&Queue, &Task, &str) -> Result<Option<String>>;

fn unreadable<T: DeserializeOwned>(
    queue: &Queue,
    task: &Task,
    name: &str,
) -> Result<Option<String>> {
    Ok(tasks::read::<T>(queue, &task.dir, name)?.err().map(|why| why.to_string()))
}

/// What everyone takes an unreadable register for.
fn taken_as(kind: &str) -> &'static str {
    match kind {
        "claim" => "nobody knows who holds it: if it has no end, the sweep ends it as expired",
        "end" => "it is taken as `lost`: the next attempt may run",
        "cancel" => "it is taken as a request to cancel",
        "reopen" => "it is taken as a permit for the next attempt",
        "late" => "the late result is lost, nothing else",
        _ => "it is taken as a bounce: the next attempt may run",
    }
}

/// Every register is allowed by those below it.
fn permitted(survey: &mut Survey<'_>, task: &Task) -> Result<()> {
    let queue = survey.queue;
    let names = &task.names;
    let at = |n: u32, kind: &str| task.dir.path.join(format!("{n}.{kind}"));
    let kept = "keep the directory and look who wrote it: no program does this";
    for &n in &names.claims {
        let what = if !names.spec {
            "a claim of a task without a spec.json".to_owned()
        } else if n > 1 && !follows(queue, task, n - 1)? {
            let below = n - 1;
            format!("attempt {n} was claimed, but attempt {below} permits no further one")
        } else {
            continue;
        };
        survey.add(Severity::Error, "I2", &at(n, "claim"), what, kept);
    }
    for (kind, numbers) in [
        ("end", &names.ends),
        ("cancel", &names.cancels),
        ("reopen", &names.reopens),
        ("late", &names.lates),
        ("review", &names.reviews),
        ("merge", &names.merges),
    ] {
        // The release of a task that was added with `hold` has no attempt before it.
        let unclaimed = numbers.difference(&names.claims).filter(|n| **n > 0);
        for &n in unclaimed {
            let what = format!("there is {n}.{kind}, but nobody claimed attempt {n}");
            survey.add(Severity::Error, "I3", &at(n, kind), what, kept);
        }
    }
    let mut good = Vec::new();
    for &n in &names.ends {
        if passed(queue, task, n)? {
            good.push(n);
        }
    }
    let Some(&first) = good.first() else { return Ok(()) };
    if let Some(&second) = good.get(1) {
        let what = format!("attempts {first} and {second} were both done");
        survey.add(Severity::Error, "I4", &at(second, "end"), what, kept);
    }
    if let Some(&above) = names.claims.range((Excluded(first), Unbounded)).next() {
        let what = format!("attempt {above} was claimed although attempt {first} was done");
        survey.add(Severity::Error, "I4", &at(above, "claim"), what, kept);
    }
    Ok(())
}

/// Whether attempt k permits attempt k+1: by its end, a reopen or a stage that sent it back.
fn follows(queue: &Queue, task: &Task, k: u32) -> Result<bool> {
    let names = &task.names;
    if !names.claims.contains(&k) || !names.ends.contains(&k) {
        return Ok(false);
    }
    if lane_name(&task.id).is_some() {
        // One turn after the other, for ever.
        return Ok(true);
    }
    // What cannot be read permits.
    if names.reopens.contains(&k) {
        let note = tasks::read::<Note>(queue, &task.dir, &format!("{k}.reopen"))?;
        if note.map_or(true, |note| !note.closed) {
            return Ok(true);
        }
    }
    for (kind, set) in [("review", &names.reviews), ("merge", &names.merges)] {
        if set.contains(&k) {
            let stage = tasks::read::<Stage>(queue, &task.dir, &format!("{k}.{kind}"))?;
            if stage.map_or(true, |stage| stage.verdict == StageVerdict::Bounce && stage.retry) {
                return Ok(true);
            }
        }
    }
    let end = tasks::end_of(queue, task, k)?;
    Ok(end.retry && end.verdict != Verdict::Done)
}

/// Whether attempt n succeeded and passed every wanted stage.
fn passed(queue: &Queue, task: &Task, n: u32) -> Result<bool> {
    let Ok(spec) = &task.spec else { return Ok(false) };
    if tasks::end_of(queue, task, n)?.verdict != record::Verdict::Done {
        return Ok(false);
    }
    for (wanted, kind) in [(spec.review, "review"), (spec.merge, "merge")] {
        if wanted {
            let stage = tasks::read::<Stage>(queue, &task.dir, &format!("{n}.{kind}"))?;
            if !stage.is_ok_and(|stage| stage.verdict == StageVerdict::Pass) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Pending tasks that wait for each other in a circle never run.
fn cycles(survey: &mut Survey<'_>) {
    let circular = circular(survey);
    let mut known: HashSet<String> = HashSet::new();
    let mut found = Vec::new();
    for &id in &circular {
        let mut visited = Vec::new();
        let cycle = find_cycle(id, |of| {
            // What was looked at from another start is fine, or named already.
            if known.contains(of) || !circular.contains(of) {
                return Vec::new();
            }
            visited.push(of.to_owned());
            survey.tasks.get(of).map(|f| f.after().map(str::to_owned).collect()).unwrap_or_default()
        });
        known.extend(visited);
        found.extend(cycle);
    }
    for cycle in found {
        let Some(first) = cycle.first() else { continue };
        let path = survey.queue.layout.task(first).join("spec.json");
        let hint = format!("cancel one of them: coord cancel {first}");
        survey.add(Severity::Error, "cycle", &path, describe(&cycle), hint);
    }
}

/// The pending tasks that are in a circle or come after one: what is left when those are taken away that
/// wait for nobody who is left (Kahn's algorithm, on the places of the tasks in the order of their ids).
fn circular<'a>(survey: &'a Survey<'_>) -> BTreeSet<&'a str> {
    let tasks = &survey.tasks;
    let is_pending = |facts: &Facts| matches!(facts.phase, Phase::Pending(_));
    // Whom each waits for, and who waits: the one that is waited for first.
    let mut edges: Vec<(usize, usize)> = Vec::new();
    let mut open: HashMap<usize, usize> = HashMap::new();
    for (place, (_, facts)) in tasks.iter().enumerate().filter(|(_, (_, f))| is_pending(f)) {
        let before = edges.len();
        let pending = |place: &usize| tasks.at(*place).is_some_and(|(_, f)| is_pending(f));
        let on = facts.after().filter_map(|on| tasks.place(on)).filter(pending);
        edges.extend(on.map(|on| (on, place)));
        if edges.len() > before {
            open.insert(place, edges.len() - before);
        }
    }
    edges.sort_unstable();
    let mut free: Vec<usize> =
        edges.iter().map(|(on, _)| *on).filter(|on| !open.contains_key(on)).collect();
    free.dedup();
    while let Some(on) = free.pop() {
        let from = edges.partition_point(|(of, _)| *of < on);
        for (_, place) in edges[from..].iter().take_while(|(of, _)| *of == on) {
            if let Some(left) = open.get_mut(place) {
                *left -= 1;
                if *left == 0 {
                    open.remove(place);
                    free.push(*place);
                }
            }
        }
    }
    open.into_keys().filter_map(|place| tasks.at(place)).map(|(id, _)| id).collect()
}
