//! `status.json`: the summary that the aggregator publishes and `coord status` prints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::plan::fold::{Board, State};
use crate::sys::clock::rfc3339;

use super::Queue;
use super::board::{Reader, size_of_events};
use super::ids::natural_cmp;
use super::record::{self, Spec};

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
    /// Tasks by state.
    pub counts: BTreeMap<String, usize>,
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
    /// manual, failed, rejected, corrupt.
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

/// What a program wanted to say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// When (milliseconds since 1970).
    pub at_ms: u64,
    /// What.
    pub text: String,
}

fn spec_of(queue: &Queue, id: &str) -> Spec {
    let path = queue.layout.task(id).join("spec.json");
    let bytes = queue.fs.read(&path, 0, record::RECORD_MAX).unwrap_or_default();
    record::parse(&bytes).unwrap_or_default()
}

/// The ids in a state, in natural order, at most `ROWS`.
fn some(board: &Board, state: State) -> Vec<&String> {
    if board.count(state) == 0 {
        return Vec::new();
    }
    let mut ids: Vec<&String> =
        board.items.iter().filter(|(_, item)| item.state == state).map(|(id, _)| id).collect();
    if ids.len() > ROWS {
        ids.select_nth_unstable_by(ROWS, |a, b| natural_cmp(a, b));
        ids.truncate(ROWS);
    }
    ids.sort_by(|a, b| natural_cmp(a, b));
    ids
}

/// Summarises a board.
pub fn summarise(queue: &Queue, reader: &Reader) -> Status {
    let board = &reader.board;
    let counts = State::ALL.iter().map(|s| (s.word().to_owned(), board.count(*s))).collect();
    let since = |id: &str| board.items.get(id).map_or(0, |i| i.since_ms);
    let mut needs_you = Vec::new();
    for id in some(board, State::Manual) {
        needs_you.push(Need {
            id: id.clone(),
            kind: "manual".to_owned(),
            what: spec_of(queue, id).title,
            since_ms: since(id),
            hint: format!("coord done {id}"),
        });
    }
    for id in some(board, State::Failed) {
        let n = board.items.get(id).map_or(0, |i| i.place.0);
        let spec = spec_of(queue, id);
        needs_you.push(Need {
            id: id.clone(),
            kind: "failed".to_owned(),
            what: format!("{} (attempt {n} was the last)", spec.title),
            since_ms: since(id),
            hint: format!("coord show {id}"),
        });
    }
    needs_you.extend(rejected(queue));
    let running = some(board, State::Running)
        .into_iter()
        .map(|id| {
            let item = &board.items[id];
            let (pct, note) = item.progress.clone().unwrap_or_default();
            Row {
                id: id.clone(),
                attempt: item.place.0,
                worker: item.by.clone(),
                title: spec_of(queue, id).title,
                since_ms: item.since_ms,
                pct,
                note,
            }
        })
        .collect();
    Status {
        schema: "coord.status/1".to_owned(),
        as_of: rfc3339(queue.clock.wall_ms()),
        events: reader.bytes(),
        counts,
        needs_you,
        running,
        next: some(board, State::Ready).into_iter().cloned().collect(),
        notices: board
            .notices
            .iter()
            .map(|(at_ms, text)| Notice { at_ms: *at_ms, text: text.clone() })
            .collect(),
        first_claim_ms: board.first_claim_ms,
        last_end_ms: board.last_end_ms,
    }
}

fn rejected(queue: &Queue) -> Vec<Need> {
    let dir = queue.layout.rejected();
    let names = queue.list(&dir).unwrap_or_default();
    let mut needs: Vec<Need> = names
        .iter()
        .filter_map(|e| e.name.strip_suffix(".why"))
        .map(|name| {
            let path = dir.join(format!("{name}.why"));
            let why = queue.fs.read(&path, 0, 1000).unwrap_or_default();
            Need {
                id: name.to_owned(),
                kind: "rejected".to_owned(),
                what: String::from_utf8_lossy(&why).trim().to_owned(),
                since_ms: queue.fs.stat(&path).map_or(0, |s| s.mtime_ns / 1_000_000),
                hint: format!("mend incoming/rejected/{name} and mv it back"),
            }
        })
        .collect();
    needs.truncate(ROWS);
    needs
}

/// The status as of now: what the aggregator has published if it covers every event, else folded
/// here, leaving a checkpoint for the next one who asks.
pub fn current(queue: &Queue) -> Result<Status> {
    let size = size_of_events(queue)?;
    let bytes = queue.fs.read(&queue.layout.status(), 0, 16 << 20).unwrap_or_default();
    if let Ok(status) = serde_json::from_slice::<Status>(&bytes)
        && status.events == size
        && status.schema == "coord.status/1"
    {
        return Ok(status);
    }
    let mut reader = Reader::load(queue);
    let new = reader.catch_up(queue, |_| ())?;
    let status = summarise(queue, &reader);
    if new {
        // A read-only queue can be looked at all the same.
        let saved = reader.save(queue).and_then(|()| publish(queue, &status));
        if let Err(e) = saved {
            tracing::debug!(error = %e, "cannot leave a checkpoint");
        }
    }
    Ok(status)
}

/// Publishes a summary.
pub fn publish(queue: &Queue, status: &Status) -> Result<()> {
    queue.replace(&queue.layout.status(), &record::to_bytes(status))
}
