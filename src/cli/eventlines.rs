//! The lines of all event files in the order of their times, however many there are: each file is in order,
//! so one line of each is enough to know the next one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::PathBuf;

use crate::error::{Cannot, Result};
use crate::queue::Queue;
use crate::queue::board::event_files;
use crate::queue::events::{Event, READ_MAX};

/// Bytes of a file that are read at a time.
const PIECE: usize = 1 << 14;
/// What has no end of line within so many bytes is no line of ours.
const LONGEST: usize = 1 << 20;

/// How far each file was read.
#[derive(Default)]
pub struct EventLines(BTreeMap<String, u64>);

impl EventLines {
    /// Hands over what was written since the last time.
    pub fn each(&mut self, queue: &Queue, mut with: impl FnMut(&Event)) -> Result<()> {
        let (mut files, mut first) = (Vec::new(), BinaryHeap::new());
        for name in event_files(queue)? {
            let path = queue.layout.events().join(&name);
            let Ok(stat) = queue.fs.stat(&path) else { continue };
            let from = self.0.get(&name).copied().unwrap_or(0);
            // Shorter than what was read of it: removed, and begun anew.
            let at = if stat.len < from { 0 } else { from };
            let mut file = File { name, path, at, bytes: Vec::new(), done: 0 };
            if let Some(event) = file.next(queue)? {
                first.push(Reverse((event.t.clone(), files.len())));
                files.push((file, event));
            } else {
                self.0.insert(file.name.clone(), file.read());
            }
        }
        while let Some(Reverse((_, at))) = first.pop() {
            let (file, event) = &mut files[at];
            with(event);
            match file.next(queue)? {
                Some(next) => {
                    first.push(Reverse((next.t.clone(), at)));
                    *event = next;
                }
                None => {
                    self.0.insert(file.name.clone(), file.read());
                    file.bytes = Vec::new();
                }
            }
        }
        Ok(())
    }
}

/// A file that is read line by line.
struct File {
    name: String,
    path: PathBuf,
    /// Behind `bytes`.
    at: u64,
    bytes: Vec<u8>,
    /// How many of them were handed over.
    done: usize,
}

impl File {
    /// How far it was read: a torn last line is read when it is complete.
    fn read(&self) -> u64 {
        self.at - (self.bytes.len() - self.done) as u64
    }

    fn next(&mut self, queue: &Queue) -> Result<Option<Event>> {
        loop {
            while let Some(end) = self.bytes[self.done..].iter().position(|byte| *byte == b'\n') {
                let line = &self.bytes[self.done..self.done + end];
                let event = serde_json::from_slice(line);
                self.done += end + 1;
                if let Ok(event) = event {
                    return Ok(Some(event));
                }
            }
            if self.bytes.len() - self.done > LONGEST {
                self.done = self.bytes.len();
            }
            let limit = usize::try_from(READ_MAX.saturating_sub(self.at)).unwrap_or(PIECE);
            let read = queue.fs.read(&self.path, self.at, limit.min(PIECE));
            let more = match read.cannot("read events", &self.path) {
                Ok(more) => more,
                // One that cannot be read keeps no other from being shown; fsck names it.
                Err(e) if e.is_of_entry() => Vec::new(),
                Err(e) => return Err(e),
            };
            if more.is_empty() {
                return Ok(None);
            }
            self.bytes.drain(..self.done);
            self.done = 0;
            self.at += more.len() as u64;
            self.bytes.extend(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::init::init;
    use crate::sys::fs::{Fs, RealFs};
    use crate::sys::host::Platform;

    #[test]
    fn lines_of_several_files_come_in_order_and_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let queue = init(&dir.path().join("q"), Platform::real()).unwrap();
        let line = |t: usize| format!("{{\"k\":\"submit\",\"t\":\"{t:06}\",\"id\":\"T\"}}\n");
        let of = |times: &mut dyn Iterator<Item = usize>| times.map(line).collect::<String>();
        let put = |name: &str, text: &str| {
            let path = queue.layout.events().join(name);
            RealFs.append(&path, text.as_bytes()).unwrap();
        };
        let mut lines = EventLines::default();
        let mut told = || {
            let mut times: Vec<usize> = Vec::new();
            lines.each(&queue, |event| times.push(event.t.parse().unwrap())).unwrap();
            times
        };
        put("a.0.jsonl", &of(&mut (0..2000).step_by(2)));
        put("b.0.jsonl", &of(&mut (1..2000).step_by(2)));
        put("b.0.jsonl", "no event\n");
        put("b.0.jsonl", &"x".repeat(2 * LONGEST));
        assert_eq!(told(), (0..2000).collect::<Vec<usize>>());
        assert_eq!(told(), Vec::<usize>::new());
        // The rest of a long line, a line, and half of another one.
        let (half, rest) = (&line(2002)[..9], &line(2002)[9..]);
        put("b.0.jsonl", &format!("\n{}", line(2001)));
        put("a.0.jsonl", half);
        assert_eq!(told(), [2001]);
        put("a.0.jsonl", rest);
        assert_eq!(told(), [2002]);
    }
}
