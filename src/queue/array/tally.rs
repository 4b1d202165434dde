//! How far an array is, for those who look: how many of its jobs are over, which run, which failed.
//!
//! Of a chunk that is over, the name of its hint says everything. So a look costs one listing of
//! `jobs/`, and one for each chunk that is not over, whatever the number of jobs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Cannot, Result};

use super::super::Queue;
use super::super::ids::short;
use super::super::record::{End, Verdict};
use super::super::tasks::Task;
use super::chunk::{self, Chunk};
use super::{Overview, home_of, round};

/// How many jobs there are, and what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many were submitted so far.
    pub submitted: u64,
    /// How many there are, once the list is complete.
    pub jobs: Option<u64>,
    /// How many are done.
    pub done: u64,
    /// How many failed for good, in this round.
    pub failed: u64,
    /// How many are claimed and have not ended.
    pub running: u64,
}

impl Tally {
    /// Looks at an array.
    pub fn of(queue: &Queue, task: &Task) -> Result<Tally> {
        let mut tally = Tally::default();
        for_each(queue, task, |part| {
            let (length, seen) = match part {
                Part::Over(length, failed) => {
                    tally.failed += failed;
                    tally.done += length.saturating_sub(failed);
                    (length, chunk::Seen::default())
                }
                Part::Open(chunk, seen) => (chunk.len(), seen),
            };
            tally.submitted += length;
            tally.done += seen.done;
            tally.failed += seen.failed;
            tally.running += seen.running.len() as u64;
            Ok(true)
        })
        .map(|jobs| Tally { jobs, ..tally })
    }

    /// How many are over.
    pub fn over(&self) -> u64 {
        self.done + self.failed
    }

    /// In words: `12 of 100 jobs over, 1 failed, 3 running`.
    pub fn words(&self) -> String {
        let of = match self.jobs {
            Some(jobs) => format!("{} of {jobs} jobs over", self.over()),
            None => format!("{} of {} jobs over, more to come", self.over(), self.submitted),
        };
        let part = |count: u64, word: &str| match count {
            0 => String::new(),
            count => format!(", {count} {word}"),
        };
        of + &part(self.failed, "failed") + &part(self.running, "running")
    }
}

/// A try of a job that is of interest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// The job's number.
    pub job: u64,
    /// Which try it is.
    #[serde(rename = "try")]
    pub n: u32,
    /// The arguments of the job, escaped (`sys::escaped`).
    pub arguments: Vec<String>,
    /// Its place in the input cannot be arguments: it has none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bad: bool,
    /// The worker that runs it; why it failed.
    pub what: String,
}

/// The jobs that run, with their workers; at most `limit`.
pub fn running(queue: &Queue, task: &Task, limit: usize) -> Result<Vec<Shown>> {
    let mut found = Vec::new();
    for_each(queue, task, |part| {
        let Part::Open(chunk, seen) = part else { return Ok(true) };
        for (job, n) in seen.running {
            let card = chunk.claimer(queue, job, n)?;
            let what = card.map_or("nobody who can be read".to_owned(), |card| card.wid);
            let arguments = chunk.arguments(job);
            let what = short(&what).to_owned();
            found.push(Shown { job, n, arguments, bad: false, what });
        }
        Ok(found.len() < limit)
    })?;
    found.truncate(limit);
    Ok(found)
}

/// The jobs that have failed in this round, the first ones first; at most `limit`.
pub fn failures(queue: &Queue, task: &Task, limit: usize) -> Result<Vec<Shown>> {
    let (home, round) = (home_of(task), round(task));
    let mut found = Vec::new();
    for (start, over) in Overview::read(queue, &home, round)?.chunks {
        if over.is_some_and(|over| over.failed == 0) || found.len() >= limit {
            continue;
        }
        let Some(chunk) = Chunk::open(queue, &home, start)? else { continue };
        for (job, n, end) in last_ends(queue, &chunk)? {
            if is_failure(&end, round) {
                let given = chunk.given(job);
                let bad = given.is_err();
                let arguments = given.unwrap_or_default();
                found.push(Shown { job, n, arguments, bad, what: end.why });
            }
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// Whether a try failed for good in this round.
fn is_failure(end: &End, round: u32) -> bool {
    end.verdict != Verdict::Done && !end.retry && chunk::round_of(end) >= round
}

/// The last try of each job of a chunk that has ended in another way than plain success.
fn last_ends(queue: &Queue, chunk: &Chunk) -> Result<Vec<(u64, u32, End)>> {
    let entries = queue.fs.list_in(&chunk.dir).cannot("list a chunk of jobs", &chunk.dir.path)?;
    let mut names: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in &entries {
        *names.entry(entry.ino).or_default() += 1;
    }
    let mut last: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
    for entry in &entries {
        let Some((job, n, is_claim)) = chunk::parse(entry) else { continue };
        let of = last.entry(job).or_default();
        if n > of.0 || n == of.0 && !is_claim {
            *of = (n, if is_claim { 0 } else { entry.ino });
        }
    }
    let mut found = Vec::new();
    for (job, (n, ino)) in last {
        // What is linked to more than one name is the record of plain successes.
        if ino != 0
            && names.get(&ino) == Some(&1)
            && let Some(end) = chunk.end(queue, job, n)?
        {
            found.push((job, n, end));
        }
    }
    Ok(found)
}

/// A chunk, as far as it had to be looked at.
enum Part<'a> {
    /// So many jobs, all of them over, of which so many failed.
    Over(u64, u64),
    Open(&'a Chunk, chunk::Seen),
}

/// Hands every chunk to `each`, which says whether to go on. Returns how many jobs there are, once the
/// list is complete.
fn for_each(
    queue: &Queue,
    task: &Task,
    mut each: impl FnMut(Part<'_>) -> Result<bool>,
) -> Result<Option<u64>> {
    let (home, round) = (home_of(task), round(task));
    let seen = Overview::read(queue, &home, round)?;
    for (start, over) in &seen.chunks {
        let part = match over {
            Some(over) => Part::Over(over.jobs, over.failed),
            None => {
                let Some(mut chunk) = Chunk::open(queue, &home, *start)? else { continue };
                let looked = chunk.look(queue, round)?;
                if !each(Part::Open(&chunk, looked))? {
                    break;
                }
                continue;
            }
        };
        if !each(part)? {
            break;
        }
    }
    Ok(seen.jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_is_known() {
        let tally = Tally { submitted: 9, jobs: Some(9), done: 3, failed: 1, running: 2 };
        assert_eq!(tally.words(), "4 of 9 jobs over, 1 failed, 2 running");
        let tally = Tally { submitted: 9, ..Tally::default() };
        assert_eq!(tally.words(), "0 of 9 jobs over, more to come");
    }
}
