//! Reading `events/` into a board: from a checkpoint, only what is new.
//!
//! `stats/checkpoint` is a line of JSON (which files were read how far) and a line for each task. It
//! is written by the aggregator now and then, and by `coord status` when no aggregator lives; it may
//! be deleted at any time, then all events are read once more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};
use crate::plan::fold::{Board, Item, State};

use super::Queue;
use super::events::Event;

/// Bytes that are read of a file at a time.
const CHUNK: usize = 4 << 20;

/// A board and how far it has read.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    /// The state of all tasks.
    pub board: Board,
    offsets: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    v: u32,
    files: BTreeMap<String, u64>,
    notices: Vec<(u64, String)>,
    first_claim_ms: u64,
    last_end_ms: u64,
}

impl Reader {
    /// What the checkpoint remembers; empty where there is none or it cannot be read.
    pub fn load(queue: &Queue) -> Reader {
        let path = queue.layout.at("stats/checkpoint");
        let bytes = queue.fs.read(&path, 0, usize::MAX >> 1).unwrap_or_default();
        std::str::from_utf8(&bytes).ok().and_then(Reader::parse).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Reader> {
        let mut lines = text.lines();
        let header: Header = serde_json::from_str(lines.next()?).ok()?;
        let mut board = Board::default();
        board.notices = header.notices;
        board.first_claim_ms = header.first_claim_ms;
        board.last_end_ms = header.last_end_ms;
        for line in lines {
            let mut fields = line.split('\t');
            let id = fields.next()?;
            let place = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let state = State::of(fields.next()?)?;
            let since_ms = fields.next()?.parse().ok()?;
            let by = fields.next()?.to_owned();
            board.set(id, Item { place, state, by, since_ms, progress: None });
        }
        Some(Reader { board, offsets: header.files })
    }

    /// Writes the checkpoint.
    pub fn save(&self, queue: &Queue) -> Result<()> {
        use std::fmt::Write;
        let header = Header {
            v: 1,
            files: self.offsets.clone(),
            notices: self.board.notices.clone(),
            first_claim_ms: self.board.first_claim_ms,
            last_end_ms: self.board.last_end_ms,
        };
        let mut text = serde_json::to_string(&header).unwrap_or_default();
        text.push('\n');
        for (id, item) in &self.board.items {
            let (n, rank) = item.place;
            let (state, since_ms, by) = (item.state.word(), item.since_ms, &item.by);
            // Writing into memory cannot fail.
            let _ = writeln!(text, "{id}\t{n}\t{rank}\t{state}\t{since_ms}\t{by}");
        }
        queue.replace(&queue.layout.at("stats/checkpoint"), text.as_bytes())
    }

    /// Bytes read so far, of all files: equal to `size_of_events` when nothing is missing.
    pub fn bytes(&self) -> u64 {
        self.offsets.values().sum()
    }

    /// Reads what was appended since; hands every new line to `each` too. True: there was something.
    pub fn catch_up(&mut self, queue: &Queue, mut each: impl FnMut(&Event)) -> Result<bool> {
        let mut new = false;
        for name in event_files(queue)? {
            let path = queue.layout.events().join(&name);
            let from = self.offsets.get(&name).copied().unwrap_or(0);
            let Ok(stat) = queue.fs.stat(&path) else { continue };
            if stat.len <= from {
                continue;
            }
            let mut offset = from;
            loop {
                let bytes = queue.fs.read(&path, offset, CHUNK).cannot("read events", &path)?;
                // A torn last line is read when it is complete.
                let Some(end) = bytes.iter().rposition(|&b| b == b'\n') else { break };
                for line in bytes[..=end].split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
                    if let Ok(event) = serde_json::from_slice::<Event>(line) {
                        self.board.fold(&event);
                        each(&event);
                    }
                }
                offset += end as u64 + 1;
                if bytes.len() < CHUNK {
                    break;
                }
            }
            new |= offset > from;
            self.offsets.insert(name, offset);
        }
        Ok(new)
    }
}

fn event_files(queue: &Queue) -> Result<Vec<String>> {
    let names = queue.list(&queue.layout.events())?;
    Ok(names.into_iter().map(|e| e.name).filter(|n| n.ends_with(".jsonl")).collect())
}

/// Bytes of all event files.
pub fn size_of_events(queue: &Queue) -> Result<u64> {
    let files = event_files(queue)?;
    let dir = queue.layout.events();
    Ok(files.iter().filter_map(|n| queue.fs.stat(&dir.join(n)).ok()).map(|s| s.len).sum())
}
