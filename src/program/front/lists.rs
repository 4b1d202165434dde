//! The arguments of single jobs, out of the lists of an array.

use std::collections::VecDeque;
use std::path::Path;

use crate::error::Result;
use crate::queue::array::chunk::read_list;
use crate::queue::array::list::{self, Given};
use crate::run::site::Site;

/// The lists of an array, for the arguments of single jobs.
pub struct Lists {
    /// The first jobs of the chunks that are known; those of a list follow each other.
    starts: Vec<u64>,
    /// The first job behind them.
    ends: u64,
    recent: VecDeque<(u64, Vec<String>)>,
}

/// Lists that are kept in memory.
const RECENT: usize = 8;

impl Lists {
    /// Of an array that nothing is known of yet.
    pub fn new() -> Lists {
        Lists { starts: vec![1], ends: 1, recent: VecDeque::new() }
    }

    /// What a job was given; no arguments where it is not known.
    pub fn given(&mut self, site: &Site, home: &Path, job: u64) -> Result<Given> {
        while self.ends <= job {
            let list = read_list(&site.queue, home, self.ends)?.unwrap_or_default();
            if list.is_empty() {
                return Ok(Ok(Vec::new()));
            }
            self.keep(self.ends, list);
        }
        let at = self.starts.partition_point(|start| *start <= job);
        let start = self.starts[at.saturating_sub(1)];
        if !self.recent.iter().any(|(of, _)| *of == start) {
            let list = read_list(&site.queue, home, start)?.unwrap_or_default();
            self.remember(start, list);
        }
        let lines = self.recent.iter().find(|(of, _)| *of == start).map(|(_, list)| list);
        let at = usize::try_from(job - start).unwrap_or(usize::MAX);
        let line = lines.and_then(|lines| lines.get(at)).map(String::as_str).unwrap_or_default();
        Ok(list::parse(line))
    }

    fn keep(&mut self, start: u64, list: Vec<String>) {
        self.ends = start + list.len() as u64;
        self.starts.push(self.ends);
        self.remember(start, list);
    }

    fn remember(&mut self, start: u64, list: Vec<String>) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((start, list));
    }
}
