//! `tasks/T/jobs`: the lists of an array follow each other, the registers of a job are allowed by those
//! below them (I2, I3, I4), and the hints that chunks are over are true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{Cannot, Result};
use crate::sys::fs::{Entry, Kind};

use super::super::Queue;
use super::super::array::chunk::{self, Chunk, read_list};
use super::super::array::list::readable;
use super::super::array::{self, Overview, chunk_dir, list_file};
use super::super::ids::{attempt_number, short};
use super::super::record::{self, Card, Closed, End, Line, Verdict};
use super::super::tasks::{Phase, Task};
use super::{Severity, Survey};

/// What no program does.
const KEPT: &str = "keep the directory and look who wrote it: no program does this";

/// Looks at the jobs of a task.
pub(super) fn check(survey: &mut Survey<'_>, task: &Task) -> Result<()> {
    let queue = survey.queue;
    let home = array::home(queue, &task.id);
    if queue.fs.stat(&home).map(|stat| stat.kind).ok() != Some(Kind::Dir) {
        return Ok(());
    }
    let Ok(spec) = &task.spec else { return Ok(()) };
    if spec.array.is_none() {
        let hint = "nobody looks at them: move the directory elsewhere";
        survey.add(Severity::Leftover, "foreign", &home, "jobs of a task that is no array", hint);
        return Ok(());
    }
    let names = queue.list(&home)?;
    let jobs = lists(survey, task, &home, &names)?;
    for start in jobs.keys() {
        if let Some(mut chunk) = Chunk::open(queue, &home, *start)? {
            one(survey, task, &home, &mut chunk)?;
        }
    }
    logs(survey, &home, &names);
    Ok(())
}

/// The lists, by their first job, with their lengths.
fn lists(
    survey: &mut Survey<'_>,
    task: &Task,
    home: &Path,
    names: &[Entry],
) -> Result<BTreeMap<u64, u64>> {
    let queue = survey.queue;
    let mut lists = BTreeMap::new();
    let mut next = 1;
    for start in Overview::read(queue, home, array::round(task))?.chunks.into_keys() {
        let path = list_file(home, start);
        let Some(list) = read_list(queue, home, start)? else {
            let hint = "remove it: nobody follows it";
            survey.add(
                Severity::Leftover,
                "stale",
                &path,
                "a hint about a chunk without a list",
                hint,
            );
            continue;
        };
        if start != next {
            let what = format!(
                "a gap: it begins with job {start}, the jobs before it end at {}",
                next - 1
            );
            survey.add(Severity::Error, "jobs", &path, what, KEPT);
        }
        let unreadable = list.iter().position(|line| readable(line).is_none());
        if let Some(at) = unreadable {
            let what = format!("the arguments of job {} cannot be read", start + at as u64);
            let hint = "the job has its line as its only argument";
            survey.add(Severity::Error, "format", &path, what, hint);
        }
        if list.is_empty() {
            let what = "a list without jobs: what was submitted behind it cannot be found";
            survey.add(Severity::Error, "jobs", &path, what, KEPT);
        }
        lists.insert(start, list.len() as u64);
        next = start + list.len() as u64;
        if !queue.fs.exists(&chunk_dir(home, start)) {
            let hint = "whoever takes a job of it makes it";
            let what = "the directory of its registers is missing";
            survey.add(Severity::Leftover, "jobs", &chunk_dir(home, start), what, hint);
        }
    }
    for entry in names.iter().filter(|entry| entry.kind == Kind::Dir) {
        let start = array::start_of(&entry.name);
        if start.is_some_and(|start| !lists.contains_key(&start)) {
            // Who died between the directory and its list; the same list given again fills it.
            let severity = survey.unless_remembered(&task.id).max(Severity::Leftover);
            let what = "a chunk without a list";
            survey.add(severity, "jobs", &home.join(&entry.name), what, "harmless: it has no jobs");
        }
    }
    closed(survey, home, names, next - 1);
    Ok(lists)
}

fn closed(survey: &mut Survey<'_>, home: &Path, names: &[Entry], jobs: u64) {
    // Of a list that was opened again, the end before that is the end no more.
    let times = names.iter().filter_map(|entry| attempt_number(entry.name.strip_prefix("open.")?));
    let name = times.max().map_or("closed".to_owned(), |times| format!("closed.{times}"));
    if !names.iter().any(|entry| entry.name == name) {
        return;
    }
    let path = home.join(name);
    let read = survey.queue.fs.read(&path, 0, record::RECORD_MAX).map_err(|e| e.to_string());
    match read.and_then(|b| record::parse::<Closed>(&b).map_err(|e| e.to_string())) {
        Ok(closed) if closed.jobs == jobs => {}
        Ok(closed) => {
            let what = format!("it says {} jobs, the lists have {jobs}", closed.jobs);
            survey.add(Severity::Error, "jobs", &path, what, KEPT);
        }
        Err(why) => {
            let what = format!("the register cannot be read: {why}");
            let hint = "the list ends with what is there";
            survey.add(Severity::Error, "format", &path, what, hint);
        }
    }
}

/// The names that one job has in its chunk.
#[derive(Debug, Default)]
struct Names {
    claims: BTreeSet<u32>,
    ends: BTreeMap<u32, u64>,
}

/// One chunk: its registers and its hint.
fn one(survey: &mut Survey<'_>, task: &Task, home: &Path, chunk: &mut Chunk) -> Result<()> {
    let queue = survey.queue;
    let entries = queue.fs.list_in(&chunk.dir).cannot("list a chunk of jobs", &chunk.dir.path)?;
    let mut jobs: BTreeMap<u64, Names> = BTreeMap::new();
    for entry in &entries {
        let Some((job, n, is_claim)) = chunk::parse(entry) else { continue };
        if job < chunk.start || job >= chunk.start + chunk.len() {
            let what = format!("a register of job {job}, which is not in this chunk");
            survey.add(Severity::Error, "I3", &chunk.dir.path.join(&entry.name), what, KEPT);
            continue;
        }
        let names = jobs.entry(job).or_default();
        if is_claim {
            names.claims.insert(n);
        } else {
            names.ends.insert(n, entry.ino);
        }
    }
    let mut known = BTreeMap::new();
    for (job, names) in &jobs {
        registers(survey, chunk, *job, names, &mut known)?;
    }
    if matches!(task.phase, Phase::Pending(_)) {
        claims(survey, task, chunk, &jobs)?;
        hint(survey, task, home, chunk)?;
    }
    Ok(())
}

/// Reads an end; those of plain successes are links to a few files.
fn end_of(
    survey: &mut Survey<'_>,
    chunk: &Chunk,
    (job, n, ino): (u64, u32, u64),
    known: &mut BTreeMap<u64, Option<End>>,
) -> Result<Option<End>> {
    if let Some(end) = known.get(&ino) {
        return Ok(end.clone());
    }
    let end = chunk.end(survey.queue, job, n)?;
    if end.is_none() {
        let path = chunk.dir.path.join(format!("{job}.{n}.end"));
        let hint = "it is taken as a try that did not count: the next one may run";
        survey.add(Severity::Error, "format", &path, "the register cannot be read", hint);
    }
    known.insert(ino, end.clone());
    Ok(end)
}

/// The registers of one job.
fn registers(
    survey: &mut Survey<'_>,
    chunk: &Chunk,
    job: u64,
    names: &Names,
    known: &mut BTreeMap<u64, Option<End>>,
) -> Result<()> {
    let at = |n: u32, kind: &str| chunk.dir.path.join(format!("{job}.{n}.{kind}"));
    let mut done = None;
    for (&n, &ino) in &names.ends {
        if !names.claims.contains(&n) {
            let what = format!("there is an end, but nobody claimed try {n} of job {job}");
            survey.add(Severity::Error, "I3", &at(n, "end"), what, KEPT);
        }
        let end = end_of(survey, chunk, (job, n, ino), known)?;
        if end.is_none_or(|end| end.verdict != Verdict::Done) {
            continue;
        }
        // The first one: every claim above it is wrong.
        let first = *done.get_or_insert(n);
        if first != n {
            let what = format!("tries {first} and {n} of job {job} were both done");
            survey.add(Severity::Error, "I4", &at(n, "end"), what, KEPT);
        }
    }
    for &n in &names.claims {
        let what = if n > 1 && !names.ends.contains_key(&(n - 1)) {
            format!("try {n} of job {job} was claimed before try {} had ended", n - 1)
        } else if done.is_some_and(|done| n > done) {
            format!("try {n} of job {job} was claimed although an earlier one was done")
        } else {
            continue;
        };
        survey.add(Severity::Error, "I2", &at(n, "claim"), what, KEPT);
    }
    Ok(())
}

/// I17: whoever was declared dead, or left, holds nothing for long.
fn claims(
    survey: &mut Survey<'_>,
    task: &Task,
    chunk: &Chunk,
    jobs: &BTreeMap<u64, Names>,
) -> Result<()> {
    let queue = survey.queue;
    let intent = array::job::intent_name(&task.id, chunk.start);
    for (job, names) in jobs {
        let Some(&n) = names.claims.last().filter(|n| !names.ends.contains_key(n)) else {
            continue;
        };
        let path = chunk.dir.path.join(format!("{job}.{n}.claim"));
        let key = format!("{}/{job}", task.id);
        let recovered = "recovery will take it back (coord fsck --repair)";
        let Some(Card { wid, .. }) = chunk.claimer(queue, *job, n)? else {
            let what = format!("the claim of {key} cannot be read");
            survey.add(Severity::Error, "format", &path, what, "the sweep ends it as expired");
            continue;
        };
        let Some((wid, seen)) = super::procs::holder(survey, &wid) else {
            let what = format!("{key} is held by {wid}, which is not registered");
            survey.add(Severity::Leftover, "dead", &path, what, recovered);
            continue;
        };
        let remembered = queue.fs.exists(&queue.layout.proc(wid).join("run").join(&intent));
        let name = short(wid).to_owned();
        let (ended, lives) = (seen.ended, seen.lives);
        if ended {
            let severity = if remembered { Severity::Leftover } else { Severity::Error };
            let what = format!("{name} has left or was declared dead, but {key} has no end");
            survey.add(severity, "I17", &path, what, "coord fsck --repair ends it");
        } else if !lives {
            let what = format!("{key} is held by {name}, whose process is dead");
            survey.add(Severity::Leftover, "dead", &path, what, recovered);
        } else if !remembered {
            let what = format!("{name} holds {key} without an intent in its run/");
            let hint = format!("if {name} dies now, only the sweep gives the job back");
            survey.add(Severity::Leftover, "I9", &path, what, hint);
        }
    }
    Ok(())
}

/// A hint that a chunk is over is true for ever, or its jobs would never run.
fn hint(survey: &mut Survey<'_>, task: &Task, home: &Path, chunk: &mut Chunk) -> Result<()> {
    if let Some((path, what)) = untrue(survey.queue, task, home, chunk)? {
        let help = "coord fsck --repair removes it";
        survey.add(Severity::Error, "I7", &path, what, help);
    }
    Ok(())
}

/// A hint of this round that is not true, and why.
fn untrue(
    queue: &Queue,
    task: &Task,
    home: &Path,
    chunk: &mut Chunk,
) -> Result<Option<(std::path::PathBuf, String)>> {
    let round = array::round(task);
    // The hint first: what it says stays true.
    let overview = Overview::read(queue, home, round)?;
    let Some(Some(said)) = overview.chunks.get(&chunk.start).copied() else { return Ok(None) };
    let seen = chunk.look(queue, round)?;
    let what = if !seen.is_over() {
        let open = seen.pending.len() + seen.running.len();
        format!("it says that the chunk is over, but {open} of its jobs are not")
    } else if seen.failed != said.failed {
        format!("it says that {} jobs have failed, and {} have", said.failed, seen.failed)
    } else if chunk.len() != said.jobs {
        format!("it says that the chunk has {} jobs, and it has {}", said.jobs, chunk.len())
    } else {
        return Ok(None);
    };
    let names = queue.list(home)?;
    let ours = names.iter().find(|entry| {
        array::parse_over(&entry.name).is_some_and(|(start, of, over)| {
            let counts = of == round || over.failed == 0 && of < round;
            start == chunk.start && over == said && counts
        })
    });
    Ok(ours.map(|entry| (home.join(&entry.name), what)))
}

/// Removes hints that are not true. Returns how many went.
pub(super) fn repair(queue: &Queue, task: &Task) -> Result<usize> {
    let is_array = task.spec.as_ref().is_ok_and(|spec| spec.array.is_some());
    if !is_array || !matches!(task.phase, Phase::Pending(_)) {
        return Ok(0);
    }
    let home = array::home(queue, &task.id);
    let mut removed = 0;
    for start in Overview::read(queue, &home, array::round(task))?.chunks.into_keys() {
        let Some(mut chunk) = Chunk::open(queue, &home, start)? else { continue };
        while let Some((path, _)) = untrue(queue, task, &home, &mut chunk)? {
            queue.discard(&path)?;
            removed += 1;
        }
    }
    if removed > 0 {
        array::ring_all(queue, &task.id);
    }
    Ok(removed)
}

/// Lines of logs that cannot be read. A torn one is what a crash leaves, or somebody is writing it.
fn logs(survey: &mut Survey<'_>, home: &Path, names: &[Entry]) {
    const PIECE: usize = 1 << 20;
    for entry in names.iter().filter(|entry| entry.name.ends_with(".log")) {
        let path = home.join(&entry.name);
        let (mut offset, mut rest, mut bad) = (0_u64, Vec::new(), 0_usize);
        loop {
            let bytes = match survey.queue.fs.read(&path, offset, PIECE) {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => bytes,
                Err(e) => {
                    let what = format!("cannot be read: {e}");
                    survey.add(
                        Severity::Error,
                        "format",
                        &path,
                        what,
                        "coord logs goes without it",
                    );
                    break;
                }
            };
            offset += bytes.len() as u64;
            rest.extend(bytes);
            let end = rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let lines = rest[..end].split(|b| *b == b'\n').filter(|line| !line.is_empty());
            bad += lines.filter(|line| serde_json::from_slice::<Line>(line).is_err()).count();
            rest.drain(..end);
            if rest.len() > record::RECORD_MAX {
                // No line of ours is that long, and what comes behind is read by nobody.
                bad += 1;
                break;
            }
        }
        if bad > 0 {
            let what = format!("{bad} lines cannot be read");
            let hint = "the jobs are not affected; what they printed is in the .out beside it";
            survey.add(Severity::Leftover, "format", &path, what, hint);
        }
    }
}
