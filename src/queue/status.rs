//! `status.json`: the summary that the aggregator publishes and `coord status` prints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::plan::fold::State;
use crate::plan::notices::Notice;
use crate::sys::clock::rfc3339;

use super::Queue;
use super::board::{Reader, size_of_events};
use super::incoming;
use super::owners;
use super::record::{self, Spec};

/// Changed tasks above which `coord status` writes a new checkpoint.
const CHANGED_MAX: usize = 1000;

/// Rows of a list in the summary.
const ROWS: usize = 20;

/// The whole summary.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `coord.status/1`.
    pub schema: String,
    /// When it was made (RFC 3339).
    pub as_of: String,
    /// Bytes of events that it covers.
    pub events: u64,
    /// Tasks by state. What is done counts as done wherever it lies; what else is archived does not.
    pub counts: BTreeMap<String, usize>,
    /// Tasks that are archived: `done`, and `dead` for those that failed or were cancelled.
    pub archived: BTreeMap<String, usize>,
    /// What needs a person.
    pub needs_you: Vec<Need>,
    /// What runs.
    pub running: Vec<Row>,
    /// Tasks that are ready, some of them.
    pub next: Vec<String>,
    /// What the programs wanted to say, newest last.
    pub notices: Vec<Notice>,
    /// First claim and last end (milliseconds since 1970), for the pace.
    pub first_claim_ms: u64,
    /// See `first_claim_ms`.
    pub last_end_ms: u64,
}

/// Something that waits for a person.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Need {
    /// The task, or the name of a rejected file.
    pub id: String,
    /// manual, failed, held, rejected; and what `coord status` finds when it looks (`cli::needs`).
    pub kind: String,
    /// Words.
    pub what: String,
    /// Since when (milliseconds since 1970).
    pub since_ms: u64,
    /// What to type.
    pub hint: String,
}

/// A running task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// The task.
    pub id: String,
    /// The attempt.
    pub attempt: u32,
    /// Its worker.
    pub worker: String,
    /// Its title.
    pub title: String,
    /// Since when (milliseconds since 1970).
    pub since_ms: u64,
    /// Percent, if reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pct: Option<f64>,
    /// The last report.
    pub note: String,
}

fn spec_of(queue: &Queue, id: &str) -> Spec {
    let path = queue.layout.task(id).join("spec.json");
    let bytes = queue.fs.read(&path, 0, record::RECORD_MAX).unwrap_or_default();
    record::parse(&bytes).unwrap_or_default()
}

/// Summarises a board.
pub fn summarise(queue: &Queue, reader: &mut Reader) -> Status {
    let events = reader.bytes();
    let board = &mut reader.board;
    let archived = board.archived.clone();
    let beside = |s: State| archived.get("done").filter(|_| s == State::Done).copied().unwrap_or(0);
    let count = |s: &State| (s.word().to_owned(), board.count(*s).saturating_add(beside(*s)));
    let counts = State::ALL.iter().map(count).collect();
    let mut needs_you = Vec::new();
    for (state, verb) in [(State::Manual, "done"), (State::Held, "release")] {
        for id in board.some(state, ROWS) {
            needs_you.push(Need {
                kind: state.word().to_owned(),
                what: spec_of(queue, &id).title,
                since_ms: board.get(&id).map_or(0, |i| i.since_ms),
                hint: format!("coord {verb} {id}"),
                id,
            });
        }
    }
    for id in board.some(State::Failed, ROWS) {
        let (n, since_ms) = board.get(&id).map_or((0, 0), |i| (i.place.0, i.since_ms));
        let spec = spec_of(queue, &id);
        needs_you.push(Need {
            id: id.clone(),
            kind: "failed".to_owned(),
            what: format!("{} (attempt {n} was the last)", spec.title),
            since_ms,
            hint: format!("coord show {id}"),
        });
    }
    needs_you.extend(rejected(queue));
    let mut running = Vec::new();
    for id in board.some(State::Running, ROWS) {
        let Some(item) = board.get(&id) else { continue };
        let report = board.progress.get(&id).filter(|r| r.n == item.place.0);
        let (pct, note) = report.map_or((None, String::new()), |r| (r.pct, r.words.clone()));
        running.push(Row {
            title: spec_of(queue, &id).title,
            attempt: item.place.0,
            worker: item.by,
            since_ms: item.since_ms,
            pct,
            note,
            id,
        });
    }
    Status {
        schema: "coord.status/1".to_owned(),
        as_of: rfc3339(queue.clock.wall_ms()),
        events,
        counts,
        archived,
        needs_you,
        running,
        next: board.some(State::Ready, ROWS),
        notices: board.notices.latest.clone(),
        first_claim_ms: board.first_claim_ms,
        last_end_ms: board.last_end_ms,
    }
}

fn rejected(queue: &Queue) -> Vec<Need> {
    let names = incoming::rejected(queue).unwrap_or_default();
    let more = names.len().saturating_sub(ROWS);
    let of = |name: String| {
        let path = incoming::reason(queue, &name);
        let why = queue.fs.read(&path, 0, 1000).unwrap_or_default();
        Need {
            what: String::from_utf8_lossy(&why).trim().to_owned(),
            since_ms: queue.fs.stat(&path).map_or(0, |s| s.mtime_ns / 1_000_000),
            hint: match more {
                0 => format!("mend incoming/rejected/{name} and mv it back"),
                more => {
                    format!("mend incoming/rejected/{name} and mv it back ({more} more are there)")
                }
            },
            kind: "rejected".to_owned(),
            id: name,
        }
    };
    names.into_iter().take(ROWS).map(of).collect()
}

/// The status as of now: what the aggregator has published if it covers every event, else folded
/// here, leaving a checkpoint for the next one who asks.
pub fn current(queue: &Queue) -> Result<Status> {
    let size = size_of_events(queue)?;
    if let Some(status) = published(queue).filter(|status| status.events == size) {
        return Ok(status);
    }
    let mut reader = Reader::load(queue);
    let new = reader.catch_up(queue, |_| ())?;
    let status = summarise(queue, &mut reader);
    if new && owners::may_leave_something(queue.layout.root()) {
        // A few events are folded again by the next one who asks; many are put into a checkpoint. A
        // read-only queue can be looked at all the same.
        let many = reader.board.changed() > CHANGED_MAX;
        let saved = if many { reader.save(queue) } else { Ok(()) };
        let saved = saved.and_then(|()| publish(queue, &status));
        if let Err(e) = saved {
            tracing::debug!(error = %e, "cannot leave a checkpoint");
        }
    }
    Ok(status)
}

/// The summary that was published last, as of whatever time.
pub fn published(queue: &Queue) -> Option<Status> {
    let bytes = queue.fs.read(&queue.layout.status(), 0, 16 << 20).ok()?;
    let status = serde_json::from_slice::<Status>(&bytes).ok()?;
    (status.schema == "coord.status/1").then_some(status)
}

/// Publishes a summary.
pub fn publish(queue: &Queue, status: &Status) -> Result<()> {
    queue.replace(&queue.layout.status(), &record::to_bytes(status))
}
