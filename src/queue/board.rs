//! Reading `events/` into a board: from a checkpoint, only what is new.
//!
//! `stats/checkpoint` is a line of JSON (which files were read how far) and a line for each task,
//! sorted. It is written by the aggregator now and then, and by `coord status` when no aggregator
//! lives; it may be deleted at any time, then all events are read once more.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};
use crate::plan::base::Base;
use crate::plan::fold::{Board, Report};
use crate::plan::notices::Notices;

use crate::sys::fs::Kind;

use super::Queue;
use super::archive;
use super::events::{Event, READ_MAX};
use super::ids::is_task_id;
use super::layout::Lot;
use super::tasks;

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
    states: BTreeMap<String, (usize, Vec<String>)>,
    notices: Notices,
    progress: BTreeMap<String, Report>,
    first_claim_ms: u64,
    last_end_ms: u64,
    #[serde(default)]
    archived: BTreeMap<String, usize>,
}

impl Reader {
    /// What the checkpoint remembers; empty where there is none or it cannot be read.
    pub fn load(queue: &Queue) -> Reader {
        let path = queue.layout.at("stats/checkpoint");
        let bytes = queue.fs.read(&path, 0, usize::MAX >> 1).unwrap_or_default();
        Reader::parse(bytes).unwrap_or_default()
    }

    /// The checkpoint that stands in these bytes.
    pub fn parse(mut bytes: Vec<u8>) -> Option<Reader> {
        let end = bytes.iter().position(|&b| b == b'\n')?;
        let header: Header = serde_json::from_slice(&bytes[..end]).ok()?;
        bytes.drain(..=end);
        let mut board = Board::of(Base::new(bytes), &header.states);
        board.notices = header.notices;
        board.progress = header.progress;
        board.first_claim_ms = header.first_claim_ms;
        board.last_end_ms = header.last_end_ms;
        board.archived = header.archived;
        Some(Reader { board, offsets: header.files })
    }

    /// The bytes of a checkpoint.
    pub fn to_bytes(&mut self) -> Vec<u8> {
        let header = Header {
            v: 1,
            files: self.offsets.clone(),
            states: self.board.known(),
            notices: self.board.notices.clone(),
            progress: self.board.progress.clone(),
            first_claim_ms: self.board.first_claim_ms,
            last_end_ms: self.board.last_end_ms,
            archived: self.board.archived.clone(),
        };
        let mut text = serde_json::to_vec(&header).unwrap_or_default();
        text.push(b'\n');
        text.extend_from_slice(self.board.to_base().text());
        text
    }

    /// Writes the checkpoint.
    pub fn save(&mut self, queue: &Queue) -> Result<()> {
        queue.replace(&queue.layout.at("stats/checkpoint"), &self.to_bytes())
    }

    /// Bytes read so far, of all files: equal to `size_of_events` when nothing is missing.
    pub fn bytes(&self) -> u64 {
        // What a damaged checkpoint says may be more than there can be.
        self.offsets.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Reads what was appended since; hands every new line to `each` too. True: there was something.
    pub fn catch_up(&mut self, queue: &Queue, mut each: impl FnMut(&Event)) -> Result<bool> {
        let mut new = false;
        let has_archive = queue.fs.exists(&queue.layout.archive());
        // Without a checkpoint, lines of what was archived long ago may be missing.
        self.board.recount |= has_archive && self.offsets.is_empty();
        let files = event_files(queue)?;
        // A file that was removed counts no more.
        self.offsets.retain(|name, _| files.contains(name));
        for name in files {
            let path = queue.layout.events().join(&name);
            let from = self.offsets.get(&name).copied().unwrap_or(0);
            let Ok(stat) = queue.fs.stat(&path) else { continue };
            // Shorter than what was read of it: removed, and begun anew.
            let from = if stat.len < from { 0 } else { from };
            let len = stat.len.min(READ_MAX);
            if len <= from {
                continue;
            }
            let mut offset = from;
            loop {
                let limit = usize::try_from(len - offset).map_or(CHUNK, |left| left.min(CHUNK));
                let bytes = match queue.fs.read(&path, offset, limit).cannot("read events", &path) {
                    Ok(bytes) => bytes,
                    // The state is made of the others, and of this one when it can be read; fsck names it.
                    Err(e) if e.is_of_entry() => break,
                    Err(e) => return Err(e),
                };
                let end = match bytes.iter().rposition(|&b| b == b'\n') {
                    Some(end) => end,
                    // No line of ours is that long: whatever it is, what comes after is read.
                    None if bytes.len() == CHUNK => CHUNK - 1,
                    None if !bytes.is_empty() && offset + bytes.len() as u64 == READ_MAX => {
                        bytes.len() - 1
                    }
                    // A torn last line is read when it is complete.
                    None => break,
                };
                for line in bytes[..=end].split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
                    if let Ok(event) = serde_json::from_slice::<Event>(line) {
                        if !(has_archive && self.is_late(queue, &event)) {
                            self.board.fold(&event);
                        }
                        each(&event);
                    }
                }
                self.board.pack();
                offset += end as u64 + 1;
                if bytes.len() < CHUNK {
                    break;
                }
            }
            new |= offset > from;
            self.offsets.insert(name, offset);
        }
        if self.board.recount {
            self.count_archived(queue)?;
        }
        Ok(new)
    }

    /// Whether a line is about a task that is archived, and that the board does not know (any more).
    fn is_late(&self, queue: &Queue, event: &Event) -> bool {
        let counts = matches!(event.k.as_str(), "archive" | "bury");
        is_task_id(&event.id)
            && !counts
            && self.board.get(&event.id).is_none()
            && archive::holds(queue, &event.id)
    }

    /// Counts what is archived by its names, and forgets what is. Who archives meanwhile may be counted
    /// twice or not; the next count mends that.
    fn count_archived(&mut self, queue: &Queue) -> Result<()> {
        let live: HashSet<String> = tasks::ids(queue)?.into_iter().collect();
        let rest = self.board.ids().filter(|id| !live.contains(id));
        let archived: Vec<String> = rest.filter(|id| archive::holds(queue, id)).collect();
        archived.iter().for_each(|id| self.board.forget(id));
        // How the dead ended is not in their names.
        let words = [(Lot::Done, "done"), (Lot::Dead, "dead")];
        self.board.archived.clear();
        for (lot, word) in words {
            self.board.archived.insert(word.to_owned(), archive::count(queue, lot)?);
        }
        self.board.recount = false;
        Ok(())
    }
}

/// The names of all event files.
pub fn event_files(queue: &Queue) -> Result<Vec<String>> {
    let names = queue.list(&queue.layout.events())?;
    let files = names.into_iter().filter(|e| e.kind == Kind::File);
    Ok(files.map(|e| e.name).filter(|n| n.ends_with(".jsonl")).collect())
}

/// Bytes of all event files, as far as they are read.
pub fn size_of_events(queue: &Queue) -> Result<u64> {
    let files = event_files(queue)?;
    let dir = queue.layout.events();
    Ok(files
        .iter()
        .filter_map(|n| queue.fs.stat(&dir.join(n)).ok())
        .map(|s| s.len.min(READ_MAX))
        .sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_a_damaged_checkpoint_are_not_summed_beyond_the_end() {
        let mut reader = Reader::default();
        reader.offsets.extend([("a".to_owned(), u64::MAX), ("b".to_owned(), 1)]);
        let read = Reader::parse(reader.to_bytes()).unwrap();
        assert_eq!(read.bytes(), u64::MAX);
    }
}
