//! What jobs print, as they print it: `--ungroup` and `--line-buffer`.
//!
//! A job that has been running for a moment has its output in files with names, `jobs/live/`. What is new
//! in them is shown with each look; the rest when the job is over, from where it is kept. A job that is
//! over sooner is shown as ever.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Result;
use crate::queue::Queue;
use crate::queue::array::live::{Live, Which};

use super::pour::{Pour, each_piece};

/// What of a running job is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsItComes {
    /// Whatever is there: lines of several jobs may mix.
    Bytes,
    /// Whole lines.
    Lines,
}

/// How much of one output of a job was shown.
#[derive(Debug, Default, Clone, Copy)]
pub struct Part {
    /// Bytes.
    pub shown: u64,
    /// Bytes in which the end of the next line was looked for.
    searched: u64,
    /// What was shown ends within a line.
    pub within: bool,
}

/// What was shown of jobs that are not over.
#[derive(Debug)]
pub struct Followed {
    how: AsItComes,
    parts: BTreeMap<(u64, u32, Which), Part>,
    /// The tries that are over, of jobs that are tried again.
    tried: BTreeMap<u64, u32>,
}

impl Followed {
    /// Nothing yet.
    pub fn new(how: AsItComes) -> Followed {
        Followed { how, parts: BTreeMap::new(), tried: BTreeMap::new() }
    }

    /// Whether a try may still print. One that is over may have its files for a moment.
    pub fn runs(&self, live: &Live) -> bool {
        self.tried.get(&live.job).is_none_or(|n| *n < live.n)
    }

    /// Shows what is new of one output of a job. True: there was something.
    pub fn show(
        &mut self,
        queue: &Queue,
        home: &Path,
        live: &Live,
        tag: Option<&[u8]>,
        to: &mut Pour,
    ) -> Result<bool> {
        let part = self.parts.entry((live.job, live.n, live.which)).or_default();
        let path = live.path(home);
        let everything = u64::MAX >> 1;
        let mut until = part.shown;
        match self.how {
            AsItComes::Bytes => until = everything,
            AsItComes::Lines => {
                let mut at = part.searched.max(part.shown);
                each_piece(queue, &path, (at, everything), |bytes| {
                    if let Some(end) = bytes.iter().rposition(|b| *b == b'\n') {
                        until = at + end as u64 + 1;
                    }
                    at += bytes.len() as u64;
                    Ok(true)
                })?;
                part.searched = at;
            }
        }
        let before = part.shown;
        each_piece(queue, &path, (before, until.saturating_sub(before)), |bytes| {
            to.write(live.which, bytes, tag, &mut part.within)?;
            part.shown += bytes.len() as u64;
            Ok(!to.unread)
        })?;
        Ok(part.shown > before)
    }

    /// What was shown of a try that is over. `again`: the job is tried again.
    pub fn end(&mut self, job: u64, n: u32, again: bool) -> Option<[Part; 2]> {
        match again {
            true => drop(self.tried.insert(job, n)),
            false => drop(self.tried.remove(&job)),
        }
        let parts = Which::BOTH.map(|which| self.parts.remove(&(job, n, which)));
        let any = parts.iter().flatten().any(|part| part.shown > 0);
        any.then(|| parts.map(Option::unwrap_or_default))
    }
}
