//! Reading what the workers of an array tell: each line of `jobs/W.log` once.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Cannot, Result};
use crate::queue::Queue;
use crate::queue::record::Line;
use crate::sys::fs::is_absent;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// How far each log was read.
#[derive(Debug, Default)]
pub struct Tails {
    offsets: BTreeMap<String, u64>,
}

impl Tails {
    /// Follows the log of a process, from its beginning.
    pub fn follow(&mut self, wid: &str) {
        self.offsets.entry(wid.to_owned()).or_default();
    }

    /// How many logs are followed.
    pub fn count(&self) -> usize {
        self.offsets.len()
    }

    /// Hands every new line to `each`, with the process that printed: whose files its output is in.
    /// True: there was one.
    pub fn catch_up(
        &mut self,
        queue: &Queue,
        home: &Path,
        mut each: impl FnMut(&str, Line) -> Result<()>,
    ) -> Result<bool> {
        let mut any = false;
        for (wid, offset) in &mut self.offsets {
            let path = home.join(format!("{wid}.log"));
            loop {
                let bytes = match queue.fs.read(&path, *offset, PIECE) {
                    Ok(bytes) => bytes,
                    Err(e) if is_absent(&e) => break,
                    Err(e) => return Err(e).cannot("read the log of the jobs", &path),
                };
                // A torn last line is read when it is complete.
                let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else { break };
                for line in bytes[..end].split(|b| *b == b'\n') {
                    if let Ok(line) = serde_json::from_slice::<Line>(line) {
                        any = true;
                        let of = if line.of.is_empty() { wid.clone() } else { line.of.clone() };
                        each(&of, line)?;
                    }
                }
                *offset += end as u64 + 1;
                if bytes.len() < PIECE {
                    break;
                }
            }
        }
        Ok(any)
    }
}
