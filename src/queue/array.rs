//! Arrays: a task that stands for a list of jobs, for work of which a single task each would cost
//! more than the job itself.
//!
//! ```text
//! tasks/T/spec.json                 `array`: the command that the jobs have in common
//! tasks/T/jobs/START.in             register: the jobs from number START on, a line each (a chunk)
//! tasks/T/jobs/START/JOB.n.claim    register: try n of a job; a link to the claimer's card
//! tasks/T/jobs/START/JOB.n.end      register: how it ended
//! tasks/T/jobs/START.nN.rR.fF.over  hint: in round R all N jobs of the chunk were over, F had failed
//! tasks/T/jobs/closed               register: the list is complete
//! tasks/T/jobs/open.K closed.K      registers: for the Kth time it is longer than it was; complete again
//! tasks/T/jobs/W.log W.out W.err    what W's jobs did and printed
//! tasks/T/jobs/live/W.JOB.n.out     what a job that runs has printed so far (also .err)
//! tasks/T/jobs/halt.N               register: the rule of a run, or that it was fulfilled (halting.rs)
//! tasks/T/jobs/bell progress        bells: there is something to claim; a job is over
//! ```
//! An array is pending, with its hint in `ready/`, as long as jobs are left: who finds it there takes
//! jobs of it. Only when all are over somebody claims the task itself, to end it. So dependencies,
//! holds, cancels and the status of an array are those of any task.
//!
//! A claim or an end costs one link and no inode: claims are links to the card, and the end of a job
//! that simply succeeded is a link to a record that its worker made once. What says which chunks a
//! process has claims in is one intent a chunk, `run/_jobs.T.START`.

pub mod chunk;
pub mod close;
mod deal;
pub mod halting;
pub mod job;
pub mod joined;
pub mod list;
pub mod live;
pub mod retake;
pub mod take;
pub mod tally;
pub mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Cannot, Result};
use crate::sys::fs::{is_absent, is_no_file};

use super::Queue;
use super::ids::attempt_number;
use super::record::{self, Closed, RECORD_MAX};
use super::tasks::Task;

/// The most jobs of one chunk. A directory of that size is listed in a fraction of a millisecond.
pub const CHUNK: usize = 1024;

/// The largest number of a job.
pub const JOBS_MAX: u64 = 9_999_999_999;

/// The fencing token of a try: `T/JOB.n@W`.
pub fn token(id: &str, job: u64, n: u32, wid: &str) -> String {
    format!("{id}/{job}.{n}@{wid}")
}

/// `tasks/T/jobs`.
pub fn home(queue: &Queue, id: &str) -> PathBuf {
    queue.layout.task(id).join("jobs")
}

/// The same of a task that was looked at, which may lie in the archive.
pub fn home_of(task: &Task) -> PathBuf {
    task.dir.path.join("jobs")
}

/// The chunk that begins with job `start`: `jobs/START`.
pub fn chunk_dir(home: &Path, start: u64) -> PathBuf {
    home.join(format!("{start:010}"))
}

/// `jobs/START.in`.
pub fn list_file(home: &Path, start: u64) -> PathBuf {
    home.join(format!("{start:010}.in"))
}

/// `jobs/bell`, by its name.
pub const BELL: &str = "bell";
/// `jobs/progress`, by its name.
pub const PROGRESS: &str = "progress";

/// `jobs/bell`: rung when there may be something to claim, or the array is over.
pub fn bell(home: &Path) -> PathBuf {
    home.join(BELL)
}

/// `jobs/progress`: rung when a job is over. Only who shows them listens.
pub fn progress(home: &Path) -> PathBuf {
    home.join(PROGRESS)
}

/// Tells those who work at an array, and those who watch it, to look at it.
pub fn ring_all(queue: &Queue, id: &str) {
    let home = home(queue, id);
    for bell in [bell(&home), progress(&home)] {
        // Without it there is nobody to hear.
        if queue.fs.exists(&bell) {
            queue.ring(&bell);
        }
    }
}

/// Makes `jobs/` with its bells where they are missing.
pub fn ensure_home(queue: &Queue, home: &Path) -> Result<()> {
    match queue.fs.mkdir(home) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(e).cannot("make the directory of an array", home);
        }
        _ => {}
    }
    for bell in [bell(home), progress(home)] {
        if !queue.fs.exists(&bell) {
            queue.fs.touch(&bell).cannot("make a bell", &bell)?;
        }
    }
    Ok(())
}

/// The round that an array is in: each reopen begins another, in which the jobs that failed before
/// are tried anew.
pub fn round(task: &Task) -> u32 {
    u32::try_from(task.names.reopens.len()).unwrap_or(u32::MAX)
}

/// Parses the number of a chunk: ten digits.
pub(super) fn start_of(text: &str) -> Option<u64> {
    let ours = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit());
    ours.then(|| text.parse().ok()).flatten().filter(|start| *start > 0)
}

/// What the hint says of a chunk that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// How many jobs it has.
    pub jobs: u64,
    /// How many of them have failed.
    pub failed: u64,
}

/// What the names in `jobs/` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// The chunks by their first job, and what is said of those that are over in this round.
    pub chunks: BTreeMap<u64, Option<Over>>,
    /// How many jobs there are, once the list is complete.
    pub jobs: Option<u64>,
    /// How often it was opened again after it had been complete.
    pub opened: u32,
    /// The workers that have a log here.
    pub logs: Vec<String>,
}

impl Overview {
    /// Reads it. Costs one listing, with about two names for 1024 jobs.
    pub fn read(queue: &Queue, home: &Path, round: u32) -> Result<Overview> {
        let mut opened = 0;
        loop {
            let seen = Overview::read_as(queue, home, round, opened)?;
            if seen.opened <= opened {
                return Ok(seen);
            }
            opened = seen.opened;
        }
    }

    /// Reads it, where the list was opened again so often as far as is known.
    fn read_as(queue: &Queue, home: &Path, round: u32, opened: u32) -> Result<Overview> {
        // Whether the list is complete is read first: a listing that began before may lack a chunk that
        // was submitted meanwhile, and show what was linked behind it.
        let jobs = closed_at(queue, home, opened)?;
        let mut seen = Overview { jobs, opened, ..Overview::default() };
        for entry in queue.list(home)? {
            let name = entry.name.as_str();
            if let Some(start) = name.strip_suffix(".in").and_then(start_of) {
                seen.chunks.entry(start).or_default();
            } else if let Some((start, of, over)) = parse_over(name) {
                // One in which all succeeded stays over.
                if of == round || (over.failed == 0 && of < round) {
                    seen.chunks.insert(start, Some(over));
                }
            } else if let Some(times) = name.strip_prefix("open.").and_then(attempt_number) {
                seen.opened = seen.opened.max(times);
            } else if let Some(wid) = name.strip_suffix(".log") {
                seen.logs.push(wid.to_owned());
            }
        }
        Ok(seen)
    }

    /// The chunks that are not over, in order.
    pub fn open(&self) -> impl Iterator<Item = u64> {
        self.chunks.iter().filter(|(_, over)| over.is_none()).map(|(start, _)| *start)
    }

    /// Whether every job is over: how many there are, and how many have failed. A listing of a shared
    /// file system may be an old one, so what it shows must be the whole list.
    pub fn is_over(&self) -> Option<(u64, u64)> {
        let jobs = self.jobs?;
        let (mut next, mut failed) = (1, 0);
        for (start, over) in &self.chunks {
            let over = (*over)?;
            if *start != next {
                return None;
            }
            next = start + over.jobs;
            failed += over.failed;
        }
        // Behind the end of a list there may be what somebody with another list has submitted.
        (next > jobs).then_some((next - 1, failed))
    }
}

/// Whether a job of an array may be claimed now, or the array be ended.
pub fn has_pending(queue: &Queue, task: &Task) -> Result<bool> {
    let (home, round) = (home(queue, &task.id), round(task));
    let seen = Overview::read(queue, &home, round)?;
    if halting::Standing::read(queue, &home)?.stops().is_some() {
        return Ok(seen.is_over().is_some());
    }
    for start in seen.open() {
        if let Some(mut chunk) = chunk::Chunk::reachable(queue, &home, start)?
            && !chunk.look(queue, round)?.pending.is_empty()
        {
            return Ok(true);
        }
    }
    Ok(seen.is_over().is_some())
}

/// The name of the hint that a chunk is over: `START.nN.rR.fF.over`.
fn over_file(home: &Path, start: u64, round: u32, over: Over) -> PathBuf {
    let Over { jobs, failed } = over;
    home.join(format!("{start:010}.n{jobs}.r{round}.f{failed}.over"))
}

/// The chunk, the round and what is said, of a hint's name.
pub fn parse_over(name: &str) -> Option<(u64, u32, Over)> {
    let mut parts = name.strip_suffix(".over")?.split('.');
    let start = start_of(parts.next()?)?;
    let jobs = parts.next()?.strip_prefix('n')?.parse().ok().filter(|n| *n <= CHUNK as u64)?;
    let round = parts.next()?.strip_prefix('r')?.parse().ok()?;
    let failed = parts.next()?.strip_prefix('f')?.parse().ok()?;
    parts.next().is_none().then_some((start, round, Over { jobs, failed }))
}

/// `jobs/closed`, or `closed.K` after the list was opened again K times.
fn closed_file(home: &Path, opened: u32) -> PathBuf {
    match opened {
        0 => home.join("closed"),
        times => home.join(format!("closed.{times}")),
    }
}

/// `jobs/open.K`: what follows the end of the list was submitted, the Kth time.
fn open_file(home: &Path, opened: u32) -> PathBuf {
    home.join(format!("open.{opened}"))
}

/// Whether this is the name of a register that says that a list was opened again, or is complete again.
pub fn is_part_of_closing(name: &str) -> bool {
    let times = name.strip_prefix("open.").or_else(|| name.strip_prefix("closed."));
    times.and_then(attempt_number).is_some()
}

/// How many jobs the list has that is complete, however often it was opened again.
fn closed_now(queue: &Queue, home: &Path) -> Result<Option<u64>> {
    let mut opened = 0;
    while queue.fs.exists(&open_file(home, opened + 1)) {
        opened += 1;
    }
    closed_at(queue, home, opened)
}

/// What `jobs/closed` says, if it is there. One that cannot be read closes the list at what is there.
fn closed_at(queue: &Queue, home: &Path, opened: u32) -> Result<Option<u64>> {
    let path = closed_file(home, opened);
    match queue.fs.read(&path, 0, RECORD_MAX) {
        Ok(bytes) => Ok(Some(record::parse::<Closed>(&bytes).map_or(0, |closed| closed.jobs))),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) if is_no_file(&e) => Ok(Some(0)),
        Err(e) => Err(e).cannot("read the end of a list of jobs", &path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_chunks() {
        assert_eq!(start_of("0000000001"), Some(1));
        for name in ["1", "0000000000", "00000000001", "000000000a", ""] {
            assert_eq!(start_of(name), None, "{name}");
        }
        let over = Over { jobs: 7, failed: 3 };
        let path = over_file(Path::new("/j"), 1025, 2, over);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(parse_over(name), Some((1025, 2, over)));
        for name in ["over", "r1.over", "r1.f1.over", "n1.r1.f1.x.over", "n1025.r1.f1.over"] {
            let name = format!("0000000001.{name}");
            assert_eq!(parse_over(&name), None, "{name}");
        }
    }

    #[test]
    fn an_array_is_over_only_with_its_whole_list() {
        let over = |jobs| Some(Over { jobs, failed: 1 });
        let seen = |chunks: &[(u64, Option<Over>)], jobs| Overview {
            chunks: chunks.iter().copied().collect(),
            jobs,
            ..Overview::default()
        };
        let whole = [(1, over(3)), (4, over(3)), (7, over(2))];
        assert_eq!(seen(&whole, Some(8)).is_over(), Some((8, 3)));
        assert_eq!(seen(&[], Some(0)).is_over(), Some((0, 0)), "an empty list");
        for (chunks, jobs, why) in [
            (&whole[..], None, "more is to come"),
            (&whole[..2], Some(8), "the last chunk does not show"),
            (&whole[1..], Some(8), "the first one does not"),
            (&[whole[0], whole[2]], Some(8), "one between does not"),
            (&[whole[0], (4, None), whole[2]], Some(8), "one is not over"),
        ] {
            assert_eq!(seen(chunks, jobs).is_over(), None, "{why}");
        }
        let more = seen(&whole, Some(6)).is_over();
        assert_eq!(more, Some((8, 3)), "closed by somebody with a shorter list");
    }
}
