//! `coord logs` of an array: what its jobs printed, in the order in which they ended.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Cannot, Error, Exit, Result};
use crate::queue::Queue;
use crate::queue::array::chunk::Chunk;
use crate::queue::array::told::Told;
use crate::queue::array::{self, Overview};
use crate::queue::record::Line;
use crate::queue::tasks::{self, Task};
use crate::sys::fs::is_absent;
use crate::sys::wake::Watch;

use super::Answer;
use super::follow;

/// Bytes of output that are read at a time.
const PIECE: u64 = 1 << 20;

/// Prints what the jobs printed: to standard output and standard error, as they did.
pub fn all(queue: &Queue, task: &Task, lines: Option<usize>, goes_on: bool) -> Answer {
    let home = array::home_of(task);
    let mut told = Told::new(&home);
    let mut to = Printer { queue, home: &home, last: lines.map(|n| (n, VecDeque::new())) };
    if !goes_on {
        told.follow(&Overview::read(queue, &home, 0)?.logs);
        print_new(&mut told, &mut to)?;
        to.flush();
        return Ok(None);
    }
    let mut waiter = follow::waiter(queue)?;
    waiter.watch(&queue.layout.events_bell());
    loop {
        let progress = array::progress(&home);
        let patience = match queue.fs.exists(&progress) {
            true => Duration::from_secs(30),
            false => Duration::from_secs(1),
        };
        waiter.watch(&progress);
        // Looked at before the lines: what the last jobs told is there when it is over.
        let over = tasks::existing(queue, &task.id)?.phase.is_over();
        told.follow(&Overview::read(queue, &home, 0)?.logs);
        print_new(&mut told, &mut to)?;
        to.flush();
        if over {
            return Ok(None);
        }
        waiter.wait(Instant::now() + patience);
    }
}

fn print_new(told: &mut Told, to: &mut Printer<'_>) -> Result<()> {
    while let Some((of, line)) = told.next(to.queue)? {
        if is_last_try(&line) {
            to.print(&of, &line)?;
        }
    }
    Ok(())
}

/// Whether the job was over with this try, as far as its round goes.
fn is_last_try(line: &Line) -> bool {
    !line.retry && line.end != "late" && line.end != "release"
}

/// Prints what one job printed: the last time that it ran, or in this try.
pub fn one(queue: &Queue, task: &Task, job: u64, n: Option<u32>, lines: Option<usize>) -> Answer {
    let home = array::home_of(task);
    let seen = Overview::read(queue, &home, array::round(task))?;
    let mut told = Told::new(&home);
    told.follow(&seen.logs);
    let mut found: Option<(String, Line)> = None;
    let mut ends: HashMap<String, (u64, u64)> = HashMap::new();
    while let Some((of, line)) = told.next(queue)? {
        let end = ends.entry(of.clone()).or_default();
        *end = (end.0.max(line.out.0 + line.out.1), end.1.max(line.err.0 + line.err.1));
        let wanted = line.job == job && n.is_none_or(|n| line.n == n);
        if wanted && found.as_ref().is_none_or(|(_, before)| before.n <= line.n) {
            found = Some((of, line));
        }
    }
    if let Some((of, running)) = runs(queue, &home, task, &seen, job)?
        && n.is_none_or(|n| n == running.n)
    {
        // What it has printed so far begins where the job before it ended.
        let from = ends.get(&of).copied().unwrap_or_default();
        let rest = u64::MAX >> 1;
        found = Some((of, Line { out: (from.0, rest), err: (from.1, rest), ..running }));
    }
    let Some((of, line)) = found else {
        let what = match n {
            Some(n) => format!("job {job} of {}, try {n}, has printed nothing", task.id),
            None => format!("job {job} of {} has printed nothing yet", task.id),
        };
        return Err(Error::new(Exit::NotFound, what).hint(format!("coord show {}", task.id)));
    };
    let mut to = Printer { queue, home: &home, last: lines.map(|n| (n, VecDeque::new())) };
    to.print(&of, &line)?;
    to.flush();
    Ok(None)
}

/// The try of a job that runs now, and who runs it.
fn runs(
    queue: &Queue,
    home: &Path,
    task: &Task,
    seen: &Overview,
    job: u64,
) -> Result<Option<(String, Line)>> {
    let Some((start, None)) = seen.chunks.range(..=job).next_back() else { return Ok(None) };
    let Some(mut chunk) = Chunk::open(queue, home, *start)? else { return Ok(None) };
    let looked = chunk.look(queue, array::round(task))?;
    let Some((_, n)) = looked.running.iter().find(|(number, _)| *number == job) else {
        return Ok(None);
    };
    let card = chunk.claimer(queue, job, *n)?;
    Ok(card.map(|card| (card.wid, Line { job, n: *n, ..Line::default() })))
}

/// Where it goes. With `last`, only so many lines at the end.
struct Printer<'a> {
    queue: &'a Queue,
    home: &'a Path,
    last: Option<(usize, VecDeque<Printed>)>,
}

/// A line, and whether it went to standard error.
type Printed = (bool, Vec<u8>);

impl Printer<'_> {
    fn print(&mut self, of: &str, line: &Line) -> Result<()> {
        self.file(&format!("{of}.out"), line.out, false)?;
        self.file(&format!("{of}.err"), line.err, true)
    }

    fn file(&mut self, name: &str, (mut from, length): (u64, u64), is_error: bool) -> Result<()> {
        let path = self.home.join(name);
        let end = from.saturating_add(length);
        while from < end {
            let limit = usize::try_from((end - from).min(PIECE)).unwrap_or(usize::MAX);
            let bytes = match self.queue.fs.read(&path, from, limit) {
                Ok(bytes) => bytes,
                Err(e) if is_absent(&e) => return Ok(()),
                Err(e) => return Err(e).cannot("read the output of a job", &path),
            };
            if bytes.is_empty() {
                return Ok(());
            }
            from += bytes.len() as u64;
            self.take(bytes, is_error);
        }
        Ok(())
    }

    fn take(&mut self, bytes: Vec<u8>, is_error: bool) {
        let Some((most, kept)) = &mut self.last else { return write(&bytes, is_error) };
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            match kept.back_mut() {
                // The rest of a line that was cut between two pieces.
                Some((of, before)) if *of == is_error && !before.ends_with(b"\n") => {
                    before.extend_from_slice(line);
                }
                _ => kept.push_back((is_error, line.to_vec())),
            }
            if kept.len() > *most {
                kept.pop_front();
            }
        }
    }

    /// Prints what was held back; what comes later is not held back any more.
    fn flush(&mut self) {
        for (is_error, line) in self.last.take().into_iter().flat_map(|(_, kept)| kept) {
            write(&line, is_error);
        }
    }
}

fn write(bytes: &[u8], is_error: bool) {
    // A closed pipe: nobody reads any more.
    let _ = match is_error {
        true => std::io::stderr().lock().write_all(bytes),
        false => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
    };
}
