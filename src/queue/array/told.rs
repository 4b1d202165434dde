//! What the workers of an array tell: the lines of all `jobs/W.log` in the order in which the tries
//! ended.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::error::{Cannot, Result};
use crate::sys::fs::is_absent;

use super::super::Queue;
use super::super::record::{self, Line};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 18;

/// A reader of all logs. It holds a piece of each, however long they are.
#[derive(Debug)]
pub struct Told {
    home: PathBuf,
    logs: Vec<Log>,
}

#[derive(Debug)]
struct Log {
    wid: String,
    offset: u64,
    lines: VecDeque<Line>,
    /// Its end was reached, as it was then.
    at_end: bool,
}

impl Told {
    /// Of the array whose jobs are in `home`, from the beginning.
    pub fn new(home: &Path) -> Told {
        Told { home: home.to_owned(), logs: Vec::new() }
    }

    /// Reads the logs of these processes too, and what was appended to those that were read.
    pub fn follow(&mut self, wids: &[String]) {
        for log in &mut self.logs {
            log.at_end = false;
        }
        for wid in wids {
            if !self.logs.iter().any(|log| log.wid == *wid) {
                let (wid, lines) = (wid.clone(), VecDeque::new());
                self.logs.push(Log { wid, offset: 0, lines, at_end: false });
            }
        }
    }

    /// The next line, with the process whose files have what the job printed. `None`: no more now.
    pub fn next(&mut self, queue: &Queue) -> Result<Option<(String, Line)>> {
        for log in &mut self.logs {
            log.fill(queue, &self.home)?;
        }
        let ended = |line: &Line| line.at.saturating_add(line.ms);
        let first = self.logs.iter_mut().filter(|log| !log.lines.is_empty());
        let Some(log) = first.min_by_key(|log| log.lines.front().map(ended)) else {
            return Ok(None);
        };
        Ok(log.lines.pop_front().map(|line| {
            let of = if line.of.is_empty() { log.wid.clone() } else { line.of.clone() };
            (of, line)
        }))
    }
}

impl Log {
    fn fill(&mut self, queue: &Queue, home: &Path) -> Result<()> {
        let mut limit = PIECE;
        while self.lines.is_empty() && !self.at_end {
            let path = home.join(format!("{}.log", self.wid));
            let bytes = match queue.fs.read(&path, self.offset, limit) {
                Ok(bytes) => bytes,
                Err(e) if is_absent(&e) => Vec::new(),
                Err(e) => return Err(e).cannot("read the log of the jobs", &path),
            };
            let whole = bytes.len() == limit;
            // A torn last line is read when it is complete.
            let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else {
                // No line of ours is longer than a record: what comes behind is no log.
                self.at_end = !whole || limit > record::RECORD_MAX;
                limit *= 2;
                continue;
            };
            let lines = bytes[..end].split(|b| *b == b'\n');
            self.lines.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()));
            self.offset += end as u64 + 1;
            self.at_end = !whole;
        }
        Ok(())
    }
}
