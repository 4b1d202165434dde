//! What `status`, `ls`, `show`, `why` and `workers` say of arrays.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::error::Result;
use crate::jobs::joblog::shown;
use crate::program::fleet::Member;
use crate::queue::array::tally::{self, Shown, Tally};
use crate::queue::record::{Array, CardKind};
use crate::queue::tasks::{self, Phase, Task};
use crate::queue::{Queue, procs};

use super::output::{self, cut, line};

/// Jobs of a kind that `show` and `why` name.
const NAMED: usize = 10;
/// Arrays that `status` names.
const ROWS: usize = 20;

/// What an array is made of; `None` of any other task.
pub fn of(task: &Task) -> Option<&Array> {
    task.spec.as_ref().ok()?.array.as_ref()
}

/// As JSON: how far it is, and which jobs run and failed, some of them.
pub fn json(queue: &Queue, task: &Task, named: bool) -> Result<Value> {
    if of(task).is_none() {
        return Ok(Value::Null);
    }
    let tally = match Tally::of(queue, task) {
        Err(e) if e.is_of_entry() => return Ok(json!({ "error": e.one_line() })),
        tally => tally?,
    };
    let mut value = serde_json::to_value(tally).unwrap_or_default();
    if named {
        value["running_jobs"] = json!(tally::running(queue, task, NAMED)?);
        value["failed_jobs"] = json!(tally::failures(queue, task, NAMED)?);
    }
    Ok(value)
}

/// How far it is, in words; or why that cannot be said.
pub fn words(queue: &Queue, task: &Task) -> Result<String> {
    match Tally::of(queue, task) {
        Err(e) if e.is_of_entry() => Ok(e.one_line()),
        tally => Ok(tally?.words()),
    }
}

/// The fields of an array for `show`.
pub fn fields(queue: &Queue, task: &Task, array: &Array) -> Result<Vec<(&'static str, String)>> {
    let command = match (array.command.as_slice(), array.sh) {
        ([], _) => "(each job has its own)".to_owned(),
        (words, true) => format!("sh -c {}", words.join(" ")),
        ([line], false) => line.clone(),
        (words, false) => shown(words),
    };
    let tries = if array.tries > 1 { format!("at most {}", array.tries) } else { String::new() };
    let words = words(queue, task)?;
    Ok(vec![("jobs", words), ("command", command), ("in", array.cwd.clone()), ("tries", tries)])
}

/// The jobs that run and those that failed, for `show`.
pub fn print_jobs(queue: &Queue, task: &Task) -> Result<()> {
    let id = &task.id;
    let print = |head: &str, jobs: &[Shown]| {
        if jobs.is_empty() {
            return;
        }
        let more = if jobs.len() < NAMED { "" } else { " (the first ones)" };
        line(&format!("{head}{more}"));
        let row = |job: &Shown| {
            let what = cut(&job.what, 40);
            vec![format!("  {id}/{}", job.job), what, cut(&shown(&job.arguments), 70)]
        };
        output::columns(&jobs.iter().map(row).collect::<Vec<_>>());
    };
    print("running", &tally::running(queue, task, NAMED)?);
    let failed = tally::failures(queue, task, NAMED)?;
    print("failed", &failed);
    match failed.first() {
        Some(job) => line(&format!("coord logs {id}/{}", job.job)),
        None => line(&format!("coord logs {id}")),
    }
    Ok(())
}

/// Whether somebody who lives submits the rest of its list.
fn is_fed(queue: &Queue, id: &str) -> bool {
    procs::all(queue).unwrap_or_default().iter().any(|wid| {
        let intent = queue.layout.proc(wid).join("run").join(format!("_array.{id}"));
        let lives = |card: &crate::queue::record::Card| {
            !procs::is_here(queue, card) || queue.host.is_alive(card.process())
        };
        queue.fs.exists(&intent) && procs::card(queue, wid).as_ref().is_some_and(lives)
    })
}

/// What each thing says that keeps a task where it is.
pub type Reasons = Vec<(String, String)>;

/// Why a pending array is where it is, what comes next, and whether that needs a worker: for `why`.
pub fn reasons(queue: &Queue, task: &Task) -> Result<(Reasons, String, bool)> {
    let (id, tally) = (&task.id, Tally::of(queue, task)?);
    let mut reasons = vec![("jobs".to_owned(), tally.words())];
    let left = tally.submitted.saturating_sub(tally.over() + tally.running);
    let mut next = match (left, tally.running) {
        (0, 0) => "the next process that looks ends it".to_owned(),
        (0, _) => format!("its last jobs run: coord logs -f {id}"),
        (_, 0) => "the next free worker takes a job of it".to_owned(),
        _ => format!("its workers go on: coord logs -f {id}"),
    };
    for job in tally::running(queue, task, NAMED)? {
        let what = format!("{id}/{} on {}: {}", job.job, job.what, shown(&job.arguments));
        reasons.push(("running".to_owned(), cut(&what, 110)));
    }
    for job in tally::failures(queue, task, NAMED)? {
        let what = format!("{id}/{}: {}: {}", job.job, job.what, shown(&job.arguments));
        reasons.push(("failed".to_owned(), cut(&what, 110)));
    }
    if tally.jobs.is_none() {
        let fed = is_fed(queue, id);
        let what =
            if fed { "more of it is being submitted" } else { "nobody submits the rest of it" };
        reasons.push(("list".to_owned(), what.to_owned()));
        if left == 0 && !fed {
            next = format!("the same coord map with --id {id} completes it; or coord cancel {id}");
        }
    }
    Ok((reasons, next, left > 0))
}

/// The jobs that failed, for the `why` of an array that is over.
pub fn failed(queue: &Queue, task: &Task) -> Result<Vec<(String, String)>> {
    let jobs = tally::failures(queue, task, NAMED)?;
    let what =
        |job: &Shown| format!("{}/{}: {}: {}", task.id, job.job, job.what, shown(&job.arguments));
    Ok(jobs.iter().map(|job| ("failed".to_owned(), cut(&what(job), 110))).collect())
}

/// Arrays that are worked at, or are among the next tasks.
pub fn open(queue: &Queue, members: &[Member], next: &[String]) -> Result<Vec<Task>> {
    let mut ids: BTreeSet<String> = next.iter().cloned().collect();
    for member in members.iter().filter(|m| m.kind == CardKind::Worker && m.lives()) {
        ids.extend(procs::arrays(queue, &member.wid));
    }
    let mut found = Vec::new();
    for id in ids {
        if found.len() < ROWS
            && let Some(task) = tasks::seen(queue, &id)?
            && of(&task).is_some()
            && matches!(task.phase, Phase::Pending(_))
        {
            found.push(task);
        }
    }
    Ok(found)
}

/// The section of arrays in `status`.
pub fn print_open(queue: &Queue, arrays: &[Task]) -> Result<()> {
    if arrays.is_empty() {
        return Ok(());
    }
    line(&format!("ARRAYS ({})", arrays.len()));
    let mut rows = Vec::new();
    for task in arrays {
        let title = task.spec.as_ref().map(|spec| spec.title.as_str()).unwrap_or_default();
        let words = words(queue, task)?;
        rows.push(vec![format!("  {}", task.id), words, cut(title, 60)]);
    }
    output::columns(&rows);
    Ok(())
}

/// The section of arrays in `status --json`.
pub fn open_json(queue: &Queue, arrays: &[Task]) -> Result<Value> {
    let mut rows = Vec::new();
    for task in arrays {
        let mut row = json(queue, task, false)?;
        row["id"] = task.id.as_str().into();
        row["title"] =
            task.spec.as_ref().map(|spec| spec.title.as_str()).unwrap_or_default().into();
        rows.push(row);
    }
    Ok(rows.into())
}

/// Which job of an array each worker runs: by its name, `ARRAY/JOB`.
pub fn jobs_of(queue: &Queue, members: &[Member]) -> Result<BTreeMap<String, String>> {
    let mut jobs = BTreeMap::new();
    for task in open(queue, members, &[])? {
        for job in tally::running(queue, &task, members.len())? {
            jobs.insert(job.what, format!("{}/{}", task.id, job.job));
        }
    }
    Ok(jobs)
}
