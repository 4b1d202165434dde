//! `events/`: lines that cannot be read, registers without a line (I15), and tasks whose lines say
//! something else than their registers (I16, I19).

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use crate::error::Result;
use crate::plan::fold::{Board, State};
use crate::sys::fs::Kind;

use super::super::archive;
use super::super::events::{Event, READ_MAX};
use super::super::ids::is_task_id;
use super::super::tasks::Phase;
use super::{Severity, Survey};

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;
/// What has no end of line within so many bytes is no line of ours.
const LONGEST: usize = 1 << 20;
/// Findings of one kind that are told one by one.
const TOLD: usize = 50;

/// What one pass over all lines found.
#[derive(Default)]
struct Told {
    board: Board,
    /// Kind, task and attempt of every line, where all of them are wanted: a hash, of which there may be
    /// millions.
    lines: HashSet<u64>,
}

fn hash(kind: &str, id: &str, n: u32) -> u64 {
    let mut hash = DefaultHasher::new();
    (kind, id, n).hash(&mut hash);
    hash.finish()
}

/// Compares the events with the registers.
pub(super) fn check(survey: &mut Survey<'_>, strict: bool) -> Result<()> {
    let lives = survey.anyone_lives();
    let mut told = Told::default();
    let dir = survey.queue.layout.events();
    for entry in survey.queue.list(&dir)? {
        if entry.kind == Kind::File && entry.name.ends_with(".jsonl") {
            read(survey, &mut told, &dir.join(&entry.name), strict);
        }
    }
    // While anybody acts a register may stand a moment before its line.
    if !lives {
        states(survey, &told.board);
    }
    if strict {
        untold(survey, &told);
    }
    Ok(())
}

/// One file, in pieces; a line may reach over any number of them.
fn read(survey: &mut Survey<'_>, told: &mut Told, path: &Path, strict: bool) {
    let (mut offset, mut number, mut bad) = (0_u64, 0_usize, Vec::new());
    let mut rest: Vec<u8> = Vec::new();
    loop {
        if offset >= READ_MAX {
            let what = format!("longer than {READ_MAX} bytes, which no program makes it");
            let hint = "what comes behind is not read: move it elsewhere";
            survey.add(Severity::Leftover, "torn", path, what, hint);
            return;
        }
        let bytes = match survey.queue.fs.read(path, offset, CHUNK) {
            Ok(bytes) => bytes,
            Err(e) => {
                let hint = "status and fsck go without these lines";
                let what = format!("cannot be read: {e}");
                survey.add(Severity::Error, "format", path, what, hint);
                return;
            }
        };
        offset += bytes.len() as u64;
        let whole = bytes.len() == CHUNK;
        rest.extend(bytes);
        let Some(end) = rest.iter().rposition(|&b| b == b'\n') else {
            if !whole {
                break;
            }
            if rest.len() > LONGEST {
                // No line of ours is that long; what comes after it may be one.
                number += 1;
                bad.push(number);
                rest.clear();
            }
            continue;
        };
        let tail = rest.split_off(end + 1);
        for line in rest.split(|&b| b == b'\n') {
            number += 1;
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice::<Event>(line) {
                Ok(event) => take(told, event, strict),
                Err(_) => bad.push(number),
            }
        }
        told.board.pack();
        // The piece behind the last newline was counted as a line.
        number -= 1;
        rest = tail;
        if !whole {
            break;
        }
    }
    if !bad.is_empty() {
        let what = format!("{} lines are no events, the first is line {}", bad.len(), bad[0]);
        let hint = "readers skip them; a crash or a full disk tore them";
        survey.add(Severity::Leftover, "torn", path, what, hint);
    }
    if !rest.is_empty() {
        let live = survey.anyone_lives();
        let severity = if live { Severity::Note } else { Severity::Leftover };
        let what = format!("the last line has no end ({} bytes)", rest.len());
        survey.add(severity, "torn", path, what, "readers skip it until it is complete");
    }
}

fn take(told: &mut Told, event: Event, strict: bool) {
    told.board.fold(&event);
    if strict && event.k != "progress" {
        told.lines.insert(hash(&event.k, &event.id, event.n));
    }
}

/// I16 and I19: each task stands where its lines say. Waiting is one state here: what makes a
/// delayed task ready is the time, and nobody may have been there to write it down.
fn states(survey: &mut Survey<'_>, board: &Board) {
    let mut wrong = Vec::new();
    for (id, facts) in survey.tasks.iter().filter(|(id, _)| is_task_id(id)) {
        let Some(state) = facts.state.filter(|s| *s != State::Corrupt) else { continue };
        let in_events = board.get(id).map(|item| item.state);
        if facts.phase == Phase::NoSpec || in_events.map(class) == Some(class(state)) {
            continue;
        }
        let said = in_events.map_or("nothing", State::word);
        let what = format!("{id} is {} by its registers, the events say {said}", state.word());
        let severity = survey.unless_remembered(id);
        wrong.push((severity, "I16", survey.queue.layout.task(id), what));
    }
    for id in board.ids() {
        let absent = survey.tasks.get(&id).is_none_or(|facts| facts.phase == Phase::NoSpec);
        if absent && !survey.closed.contains(&id) && !archive::holds(survey.queue, &id) {
            let what = format!("the events tell of {id}, but it has no spec.json");
            wrong.push((Severity::Error, "I19", survey.queue.layout.task(&id), what));
        }
    }
    let more = wrong.len().saturating_sub(TOLD);
    for (severity, invariant, path, what) in wrong.into_iter().take(TOLD) {
        let hint = match invariant {
            "I16" => "the registers are right, `coord status` counts it wrongly",
            _ => "restore the directory from a backup, or add the task anew",
        };
        survey.add(severity, invariant, &path, what, hint);
    }
    if more > 0 {
        let dir = survey.queue.layout.events();
        survey.add(Severity::Error, "I16", &dir, format!("{more} more like these"), "see above");
    }
}

/// States between which the registers alone can move a task.
fn class(state: State) -> u8 {
    match state {
        State::Blocked | State::Delayed | State::Ready | State::Manual => 0,
        State::Held => 1,
        State::Running => 2,
        State::Done => 3,
        State::Failed => 4,
        State::Cancelled => 5,
        State::Review | State::Merging => 6,
        State::Corrupt => 7,
    }
}

/// I15: every register has a line, or an intent that will write it.
fn untold(survey: &mut Survey<'_>, told: &Told) {
    let mut missing = Vec::new();
    for (id, facts) in survey.tasks.iter() {
        let Some(names) = &facts.names else { continue };
        let has =
            |kinds: &[&str], n: u32| kinds.iter().any(|k| told.lines.contains(&hash(k, id, n)));
        let dir = survey.queue.layout.task(id);
        let mut wants = |register: String, told: bool| {
            if !told {
                let severity = survey.unless_remembered(id);
                missing.push((severity, dir.join(register)));
            }
        };
        if names.spec {
            wants("spec.json".to_owned(), has(&["submit"], 0));
        }
        // A claim that was made only in order to end the attempt has no line but that of the end.
        let kinds: [(&str, &BTreeSet<u32>, &[&str]); 6] = [
            ("claim", &names.claims, &["claim", "hold", "end"]),
            ("end", &names.ends, &["end"]),
            ("cancel", &names.cancels, &["cancel"]),
            ("reopen", &names.reopens, &["reopen"]),
            ("late", &names.lates, &["late"]),
            ("merge", &names.merges, &["merge"]),
        ];
        for (kind, numbers, lines) in kinds {
            for &n in numbers {
                wants(format!("{n}.{kind}"), has(lines, n));
            }
        }
    }
    let more = missing.len().saturating_sub(TOLD);
    for (severity, path) in missing.into_iter().take(TOLD) {
        let hint = "the register holds; only the story in `coord events` has a gap";
        survey.add(severity, "I15", &path, "no event tells of this register", hint);
    }
    if more > 0 {
        let dir = survey.queue.layout.events();
        survey.add(Severity::Error, "I15", &dir, format!("{more} more like these"), "see above");
    }
}
