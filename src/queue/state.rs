//! The word that people see for a task, from its registers.

use crate::error::Result;
use crate::plan::fold::State;
use crate::plan::selector::Row;
use crate::sys::clock::parse_rfc3339;

use super::Queue;
use super::archive;
use super::evaluate::{Readiness, readiness};
use super::layout::Lot;
use super::record::CardKind;
use super::tasks::{self, Phase, StageKind, Task};

/// The state of a task.
pub fn state(queue: &Queue, task: &Task) -> Result<State> {
    Ok(match &task.phase {
        Phase::NoSpec => State::Blocked,
        Phase::Corrupt(_) => State::Corrupt,
        Phase::Claimed(n) => match tasks::claimer(queue, task, *n)?.map(|c| c.kind) {
            Some(CardKind::Hold) => State::Held,
            _ => State::Running,
        },
        Phase::Stage(_, StageKind::Review) => State::Review,
        Phase::Stage(_, StageKind::Merge) => State::Merging,
        Phase::Done(_) => State::Done,
        Phase::Failed(_) => State::Failed,
        Phase::Cancelled(_) => State::Cancelled,
        Phase::Pending(n) => match readiness(queue, task, *n)? {
            Readiness::Ready => State::Ready,
            Readiness::Held => State::Held,
            Readiness::Manual => State::Manual,
            Readiness::Blocked(_) | Readiness::CancelDue(..) => State::Blocked,
            Readiness::Delayed(_) => State::Delayed,
        },
    })
}

/// What selectors and listings need of a task.
pub fn row(queue: &Queue, task: &Task) -> Result<Row> {
    let spec = task.spec.as_ref().ok();
    let worker = match task.phase {
        Phase::Claimed(n) => tasks::claimer(queue, task, n)?.map(|c| c.wid).unwrap_or_default(),
        _ => String::new(),
    };
    Ok(Row {
        id: task.id.clone(),
        state: state(queue, task)?.word(),
        wave: spec.and_then(|s| s.wave),
        role: spec.map(|s| s.role.clone()).unwrap_or_default(),
        labels: spec.map(|s| s.labels.clone()).unwrap_or_default(),
        worker: super::ids::short(&worker).to_owned(),
        at_ms: spec.and_then(|s| parse_rfc3339(&s.at)).unwrap_or(0),
    })
}

/// What selectors need of every archived task.
pub fn archived(queue: &Queue) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for lot in Lot::ALL {
        for (id, _) in archive::all(queue, lot)? {
            if let Some(task) = archive::look(queue, &id)? {
                rows.push(row(queue, &task)?);
            }
        }
    }
    Ok(rows)
}

/// What selectors need of every task. Directories without a spec are left out: they are no tasks yet.
pub fn rows(queue: &Queue) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    each(queue, |found| {
        rows.push(match found {
            Found::Task(task) => row(queue, task)?,
            Found::Closed(row, _) => row,
        });
        Ok(true)
    })?;
    Ok(rows)
}

/// What a listing finds.
pub enum Found<'a> {
    /// A task.
    Task(&'a Task),
    /// One that cannot be looked at, and why.
    Closed(Row, String),
}

/// Hands every task over, one after the other, as long as more are wanted.
pub fn each(queue: &Queue, mut with: impl FnMut(Found<'_>) -> Result<bool>) -> Result<()> {
    for id in tasks::ids(queue)? {
        let more = match tasks::look(queue, &id) {
            Err(e) if e.is_of_entry() => {
                let row = Row { id, state: State::Corrupt.word(), ..Row::default() };
                with(Found::Closed(row, e.one_line()))?
            }
            found => match found?.filter(|task| task.phase != Phase::NoSpec) {
                Some(task) => with(Found::Task(&task))?,
                None => true,
            },
        };
        if !more {
            break;
        }
    }
    Ok(())
}
