//! One chunk of an array: its list, and what the registers of its jobs mean.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Cannot, Result};
use crate::sys::fs::{Dir, Entry, is_absent};

use super::super::Queue;
use super::super::ids::attempt_number;
use super::super::record::{self, End, Verdict};
use super::super::tasks;
use super::list::{self, Given};
use super::{CHUNK, chunk_dir, list_file};

/// Bytes of a list that are read at a time. A job's line is shorter, so where a piece has no end of a line
/// the list is no list from there on.
const PIECE: usize = record::RECORD_MAX;

/// How often the directory of a chunk is made that is not there.
const TRIES: u32 = 8;

/// How a try ended, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Retry,
    /// For good, in that round.
    Failed(u32),
}

/// A chunk that was opened.
#[derive(Debug)]
pub struct Chunk {
    /// Number of its first job.
    pub start: u64,
    /// The directory of its registers.
    pub dir: Dir,
    /// Its list: the lines, and where each of them ends.
    list: String,
    ends: Vec<usize>,
    /// What an end says, by its inode: most are links to a few files. Registers are never removed, so
    /// an inode that was seen here stays what it is. Only numbers that mean something: some file
    /// systems (FUSE) put the same one into every entry of a listing.
    known: BTreeMap<u64, Outcome>,
    /// Tries that this process has won: the same one is never won twice (R2).
    pub won: BTreeSet<(u64, u32)>,
}

/// What a look at a chunk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Jobs that may be claimed, with the number of the try; in order.
    pub pending: Vec<(u64, u32)>,
    /// Tries that are claimed and have not ended.
    pub running: Vec<(u64, u32)>,
    /// Jobs that have failed in this round.
    pub failed: u64,
    /// Jobs that are done.
    pub done: u64,
}

impl Seen {
    /// Whether no job is left.
    pub fn is_over(&self) -> bool {
        self.pending.is_empty() && self.running.is_empty()
    }
}

impl Chunk {
    /// Opens a chunk; `None` if there is none.
    pub fn open(queue: &Queue, home: &Path, start: u64) -> Result<Option<Chunk>> {
        let Some(list) = read_text(queue, home, start)? else { return Ok(None) };
        let ends = list.match_indices('\n').map(|(at, _)| at);
        let torn = (!list.is_empty() && !list.ends_with('\n')).then_some(list.len());
        let ends: Vec<usize> = ends.chain(torn).take(CHUNK).collect();
        let path = chunk_dir(home, start);
        let mut tries = 0;
        let dir = loop {
            tries += 1;
            match queue.fs.open_dir(&path) {
                Ok(dir) => break dir,
                // Not where something else stands in its place (ENOTDIR): that stays what it is.
                Err(e) if e.kind() == ErrorKind::NotFound && tries < TRIES => {
                    // Its submitter makes it first; a hand may have removed it.
                    queue.make_dirs(&path).cannot("make the directory of a chunk", &path)?;
                }
                Err(e) => return Err(e).cannot("open a chunk of jobs", &path),
            }
        };
        Ok(Some(Chunk { start, dir, list, ends, known: BTreeMap::new(), won: BTreeSet::new() }))
    }

    /// As `open`; `None` as well of one that cannot be opened by a fault of its own: who wants jobs takes
    /// those of the others. The sweep says so.
    ///
    /// # Errors
    /// What is the machine's fault.
    pub fn reachable(queue: &Queue, home: &Path, start: u64) -> Result<Option<Chunk>> {
        match Chunk::open(queue, home, start) {
            Err(e) if e.is_of_entry() => Ok(None),
            opened => opened,
        }
    }

    /// How many jobs it has.
    pub fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Whether it has none; no list of ours is empty.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The arguments of a job, or why it has none.
    pub fn given(&self, job: u64) -> Given {
        let at = usize::try_from(job.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let line = self.ends.get(at).and_then(|end| {
            let begin = at.checked_sub(1).map_or(0, |before| self.ends[before] + 1);
            self.list.get(begin..*end)
        });
        list::parse(line.unwrap_or_default())
    }

    /// The arguments of a job; none where it has none.
    pub fn arguments(&self, job: u64) -> Vec<String> {
        self.given(job).unwrap_or_default()
    }

    /// Looks at the registers of all jobs. One listing, and one read for each end whose inode was not
    /// seen before.
    pub fn look(&mut self, queue: &Queue, round: u32) -> Result<Seen> {
        let mut tries = vec![Tries::default(); self.ends.len()];
        let start = self.start;
        let mut note = |name: &str, ino: u64| {
            let Some((job, n, is_claim)) = parse_name(name) else { return };
            let at = job.checked_sub(start).and_then(|at| usize::try_from(at).ok());
            let Some(of) = at.and_then(|at| tries.get_mut(at)) else { return };
            if is_claim {
                of.claimed = of.claimed.max(n);
            } else if n >= of.ended {
                (of.ended, of.ino) = (n, ino);
            }
        };
        let listed = queue.fs.each_in(&self.dir, &mut note);
        listed.cannot("list a chunk of jobs", &self.dir.path)?;
        let mut seen = Seen::default();
        for (at, of) in tries.iter().enumerate() {
            let job = self.start + at as u64;
            let n = of.claimed.max(of.ended);
            if n == 0 {
                seen.pending.push((job, 1));
                continue;
            }
            if of.ended < n {
                seen.running.push((job, n));
                continue;
            }
            match self.outcome(queue, job, n, of.ino)? {
                Outcome::Done => seen.done += 1,
                Outcome::Failed(of) if of >= round => seen.failed += 1,
                // Behind the last number, which a hand has made, there is no further try.
                Outcome::Retry | Outcome::Failed(_) => {
                    seen.pending.extend(n.checked_add(1).map(|next| (job, next)));
                }
            }
        }
        Ok(seen)
    }

    fn outcome(&mut self, queue: &Queue, job: u64, n: u32, ino: u64) -> Result<Outcome> {
        if let Some(known) = self.known.get(&ino) {
            return Ok(*known);
        }
        let outcome = match self.end(queue, job, n)? {
            Some(end) if end.verdict == Verdict::Done => Outcome::Done,
            Some(end) if !end.retry => Outcome::Failed(round_of(&end)),
            // One that cannot be read permits the next try, as that of a task does.
            _ => Outcome::Retry,
        };
        let path = self.dir.path.join(end_name(job, n));
        if queue.fs.stat(&path).is_ok_and(|stat| stat.ino == ino) {
            self.known.insert(ino, outcome);
        }
        Ok(outcome)
    }

    /// The end of a try; `None` if it is not there or cannot be read as one.
    pub fn end(&self, queue: &Queue, job: u64, n: u32) -> Result<Option<End>> {
        Ok(tasks::read::<End>(queue, &self.dir, &end_name(job, n))?.ok())
    }

    /// The last end of each job whose last try has ended, as far as they can be read.
    pub fn last_ends(&self, queue: &Queue) -> Result<Vec<(u64, End)>> {
        let mut last: BTreeMap<u64, (u32, bool)> = BTreeMap::new();
        let entries = queue.fs.list_in(&self.dir).cannot("list a chunk of jobs", &self.dir.path)?;
        for (job, n, is_claim) in entries.iter().filter_map(parse) {
            let of = last.entry(job).or_default();
            *of = (*of).max((n, !is_claim));
        }
        let mut ends = Vec::new();
        for (job, (n, _)) in last.into_iter().filter(|(_, (_, ended))| *ended) {
            ends.extend(self.end(queue, job, n)?.map(|end| (job, end)));
        }
        Ok(ends)
    }

    /// The card of the process that holds a claim; `None` if it cannot be told.
    pub fn claimer(&self, queue: &Queue, job: u64, n: u32) -> Result<Option<record::Card>> {
        Ok(tasks::read(queue, &self.dir, &claim_name(job, n))?.ok())
    }

    /// Whether a try has this register, whatever a listing shows.
    pub fn has(&self, queue: &Queue, name: &str) -> bool {
        queue.fs.exists(&self.dir.path.join(name))
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    claimed: u32,
    ended: u32,
    ino: u64,
}

/// `JOB.n.claim`.
pub(super) fn claim_name(job: u64, n: u32) -> String {
    format!("{job}.{n}.claim")
}

/// `JOB.n.end`.
pub(super) fn end_name(job: u64, n: u32) -> String {
    format!("{job}.{n}.end")
}

/// The same read: job, try, and whether it is the claim.
pub(in super::super) fn parse(entry: &Entry) -> Option<(u64, u32, bool)> {
    parse_name(&entry.name)
}

/// Whether this is the name of a register of a job.
pub(in super::super) fn is_register(name: &str) -> bool {
    parse_name(name).is_some()
}

fn parse_name(name: &str) -> Option<(u64, u32, bool)> {
    let (rest, is_claim) = match name.strip_suffix(".claim") {
        Some(rest) => (rest, true),
        None => (name.strip_suffix(".end")?, false),
    };
    let (job, n) = rest.split_once('.')?;
    Some((job.parse().ok()?, attempt_number(n)?, is_claim))
}

/// The round in which a try failed for good.
pub(super) fn round_of(end: &End) -> u32 {
    end.more
        .get("round")
        .and_then(serde_json::Value::as_u64)
        .map_or(0, |round| u32::try_from(round).unwrap_or(u32::MAX))
}

/// The lines of a chunk's list; `None` if there is no such chunk.
pub fn read_list(queue: &Queue, home: &Path, start: u64) -> Result<Option<Vec<String>>> {
    let text = read_text(queue, home, start)?;
    Ok(text.map(|text| text.lines().take(CHUNK).map(str::to_owned).collect()))
}

fn read_text(queue: &Queue, home: &Path, start: u64) -> Result<Option<String>> {
    let path = list_file(home, start);
    let (mut text, mut lines) = (Vec::new(), 0);
    loop {
        let bytes = match queue.fs.read(&path, text.len() as u64, PIECE) {
            Ok(bytes) => bytes,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(e).cannot("read a list of jobs", &path),
        };
        let ends = bytes.iter().filter(|&&byte| byte == b'\n').count();
        lines += ends;
        let more = bytes.len() == PIECE && ends > 0 && lines < CHUNK;
        text.extend(bytes);
        if !more {
            break;
        }
    }
    Ok(Some(match String::from_utf8(text) {
        Ok(text) => text,
        Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::home;
    use super::*;
    use crate::queue::init::init;
    use crate::sys::fs::{Fs, RealFs, mkdir_all};
    use crate::sys::host::Platform;

    #[test]
    fn each_job_has_its_line_of_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let queue = init(&dir.path().join("q"), Platform::real()).unwrap();
        let jobs = home(&queue, "A");
        mkdir_all(&RealFs, &jobs).unwrap();
        let many: String = (1..=CHUNK + 1).map(|n| format!("[\"{n}\"]\n")).collect();
        for (start, text) in [
            (1, ""),
            (2, "[\"a\",\"b\"]\nno list\n{\"bad\":\"x\"}\n"),
            (9, "[\"a\"]\ntorn"),
            (20, &many),
        ] {
            RealFs.create(&list_file(&jobs, start), text.as_bytes(), 0o444).unwrap();
            let chunk = Chunk::open(&queue, &jobs, start).unwrap().unwrap();
            let lines = read_list(&queue, &jobs, start).unwrap().unwrap();
            assert_eq!(chunk.len(), lines.len() as u64);
            for (job, line) in (start..).zip(&lines) {
                assert_eq!(chunk.given(job), list::parse(line), "{start}: {job}");
            }
            let none = chunk.given(start + chunk.len());
            assert_eq!(none, Ok(vec![String::new()]), "there is no such job");
        }
    }

    /// Some file systems put one number into every entry of a listing.
    #[test]
    fn an_inode_that_is_none_says_nothing_of_another_end() {
        let dir = tempfile::tempdir().unwrap();
        let queue = init(&dir.path().join("q"), Platform::real()).unwrap();
        let jobs = home(&queue, "A");
        mkdir_all(&RealFs, &chunk_dir(&jobs, 1)).unwrap();
        RealFs.create(&list_file(&jobs, 1), b"[\"a\"]\n[\"b\"]\n", 0o444).unwrap();
        for (name, text) in [
            ("1.1.end", r#"{"v":1,"verdict":"done"}"#),
            ("2.1.end", r#"{"v":1,"verdict":"fail","retry":false}"#),
        ] {
            RealFs.create(&chunk_dir(&jobs, 1).join(name), text.as_bytes(), 0o444).unwrap();
        }
        let mut chunk = Chunk::open(&queue, &jobs, 1).unwrap().unwrap();
        let no_number = 0xffff_ffff;
        assert_eq!(chunk.outcome(&queue, 1, 1, no_number).unwrap(), Outcome::Done);
        assert_eq!(chunk.outcome(&queue, 2, 1, no_number).unwrap(), Outcome::Failed(0));
        assert!(chunk.known.is_empty());
        let seen = chunk.look(&queue, 0).unwrap();
        assert_eq!((seen.done, seen.failed), (1, 1));
        assert_eq!(chunk.known.len(), 2, "where numbers mean something they are kept");
    }
}
