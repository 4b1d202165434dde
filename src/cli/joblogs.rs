//! `coord logs` of an array: what its jobs printed, in the order in which they ended.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Exit, Result};
use crate::program::front::pour::{each_piece, stream};
use crate::queue::Queue;
use crate::queue::array::chunk::Chunk;
use crate::queue::array::live::{Live, Which};
use crate::queue::array::told::Told;
use crate::queue::array::{self, Overview};
use crate::queue::record::Line;
use crate::queue::tasks::{self, Task};
use crate::sys::stream::Stream;
use crate::sys::wake::{Waiter, Watch};

use super::Answer;
use super::{follow, lastlines, output};

/// Prints what the jobs printed: to standard output and standard error, as they did.
pub fn all(queue: &Queue, task: &Task, lines: Option<usize>, goes_on: bool) -> Answer {
    let home = array::home_of(task);
    let mut told = Told::new(&home);
    let mut to = Printer { queue, home: &home, last: lines.map(|n| (n, VecDeque::new())) };
    if !goes_on {
        told.follow(&Overview::read(queue, &home, 0)?.logs);
        print_new(&mut told, &mut to)?;
        return to.flush().map(|()| None);
    }
    let mut waiter = follow::printer(queue)?;
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
        to.flush()?;
        if over || !follow::goes_on(queue, &mut waiter, Instant::now() + patience)? {
            return Ok(None);
        }
    }
}

fn print_new(told: &mut Told, to: &mut Printer<'_>) -> Result<()> {
    while let Some((of, line)) = told.next(to.queue)? {
        if output::is_unread() {
            return Ok(());
        }
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

/// Prints what one job printed: the last time that it ran, or in this try. With `goes_on`, until it is over.
pub fn one(
    queue: &Queue,
    task: &Task,
    job: u64,
    n: Option<u32>,
    lines: Option<usize>,
    goes_on: bool,
) -> Answer {
    let home = array::home_of(task);
    let mut waiter = follow::printer(queue)?;
    waiter.watch(&queue.layout.events_bell());
    // What was printed of the last try, to standard output and standard error.
    let mut printed: Option<(u32, [u64; 2])> = None;
    loop {
        let over = tasks::existing(queue, &task.id)?.phase.is_over();
        let found = look(queue, task, &home, job, n)?;
        let before = |n: u32| printed.filter(|(of, _)| *of == n).map(|(_, parts)| parts);
        let ended = match &found {
            Found::Running(of) => {
                let (parts, lines) = (before(of.n), lines.filter(|_| printed.is_none()));
                let parts = parts.unwrap_or_default();
                let parts = print_live(queue, &home, of, parts, lines, &mut waiter)?;
                printed = Some((of.n, parts));
                false
            }
            Found::Told(of, line) => {
                let lines = lines.filter(|_| printed.is_none());
                let mut to =
                    Printer { queue, home: &home, last: lines.map(|n| (n, VecDeque::new())) };
                to.print_from(of, line, before(line.n).unwrap_or_default())?;
                to.flush()?;
                printed = Some((line.n, [line.out.1, line.err.1]));
                n.is_some() || is_last_try(line)
            }
            Found::Nothing => false,
        };
        if !goes_on || over || ended {
            break;
        }
        waiter.watch(&array::progress(&home));
        // A file gets its name without a word.
        if !follow::goes_on(queue, &mut waiter, Instant::now() + Duration::from_secs(1))? {
            return Ok(None);
        }
    }
    if printed.is_some() {
        return Ok(None);
    }
    let what = match n {
        Some(n) => format!("job {job} of {}, try {n}, has printed nothing", task.id),
        None => format!("job {job} of {} has printed nothing yet", task.id),
    };
    Err(Error::new(Exit::NotFound, what).hint(format!("coord show {}", task.id)))
}

/// What there is of a job.
enum Found {
    /// It runs.
    Running(Live),
    /// The last try that is told of, and whose files have its output.
    Told(String, Line),
    Nothing,
}

/// Looks for a job, or for one of its tries.
fn look(queue: &Queue, task: &Task, home: &Path, job: u64, n: Option<u32>) -> Result<Found> {
    let seen = Overview::read(queue, home, array::round(task))?;
    let running = runs(queue, home, task, &seen, job)?;
    if let Some(of) = running.filter(|of| n.is_none_or(|n| n == of.n)) {
        return Ok(Found::Running(of));
    }
    let mut told = Told::new(home);
    told.follow(&seen.logs);
    let mut found = Found::Nothing;
    while let Some((of, line)) = told.next(queue)? {
        let newer = !matches!(&found, Found::Told(_, before) if before.n > line.n);
        if line.job == job && n.is_none_or(|n| line.n == n) && newer {
            found = Found::Told(of, line);
        }
    }
    Ok(found)
}

/// Prints what a job that runs has printed so far, behind `parts` of it, and says how far that is.
fn print_live(
    queue: &Queue,
    home: &Path,
    of: &Live,
    mut parts: [u64; 2],
    lines: Option<usize>,
    waiter: &mut Waiter,
) -> Result<[u64; 2]> {
    for (which, at) in Which::BOTH.into_iter().zip(&mut parts) {
        let path = Live { which, ..of.clone() }.path(home);
        if !queue.fs.exists(&path) {
            continue;
        }
        waiter.watch(&path);
        if lines.is_some() {
            *at = lastlines::begin(queue, &path, lines)?;
        }
        each_piece(queue, &path, (*at, u64::MAX >> 1), |bytes| {
            *at += bytes.len() as u64;
            Ok(write(bytes, which))
        })?;
    }
    Ok(parts)
}

/// The try of a job that runs now, and who runs it.
fn runs(
    queue: &Queue,
    home: &Path,
    task: &Task,
    seen: &Overview,
    job: u64,
) -> Result<Option<Live>> {
    let Some((start, None)) = seen.chunks.range(..=job).next_back() else { return Ok(None) };
    let Some(mut chunk) = Chunk::open(queue, home, *start)? else { return Ok(None) };
    let looked = chunk.look(queue, array::round(task))?;
    let Some((_, n)) = looked.running.iter().find(|(number, _)| *number == job) else {
        return Ok(None);
    };
    let card = chunk.claimer(queue, job, *n)?;
    Ok(card.map(|card| Live { wid: card.wid, job, n: *n, which: Which::Out }))
}

/// Where it goes. With `last`, only so many lines at the end.
struct Printer<'a> {
    queue: &'a Queue,
    home: &'a Path,
    last: Option<(usize, VecDeque<Part>)>,
}

/// A line, by its place: what jobs print may be longer than any memory.
struct Part {
    path: PathBuf,
    which: Which,
    place: (u64, u64),
    /// It ends with the end of a line.
    whole: bool,
}

impl Printer<'_> {
    fn print(&mut self, of: &str, line: &Line) -> Result<()> {
        self.print_from(of, line, [0; 2])
    }

    /// Prints what a job printed behind `parts` of it.
    fn print_from(&mut self, of: &str, line: &Line, parts: [u64; 2]) -> Result<()> {
        let places = [line.out, line.err];
        for ((which, at), (from, length)) in Which::BOTH.into_iter().zip(parts).zip(places) {
            let path = self.home.join(format!("{of}.{}", which.suffix()));
            let mut from = from.saturating_add(at);
            let place = (from, length.saturating_sub(at));
            let last = &mut self.last;
            each_piece(self.queue, &path, place, |bytes| {
                let Some((most, kept)) = last else { return Ok(write(bytes, which)) };
                note_lines(kept, *most, &path, which, from, bytes);
                from += bytes.len() as u64;
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// Prints what was held back; what comes later is not held back any more.
    fn flush(&mut self) -> Result<()> {
        for Part { path, which, place, .. } in
            self.last.take().into_iter().flat_map(|(_, kept)| kept)
        {
            each_piece(self.queue, &path, place, |bytes| Ok(write(bytes, which)))?;
        }
        Ok(())
    }
}

/// Notes the lines of a piece that begins at `from`, at most so many in all.
fn note_lines(
    kept: &mut VecDeque<Part>,
    most: usize,
    path: &Path,
    which: Which,
    mut from: u64,
    bytes: &[u8],
) {
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let (length, whole) = (line.len() as u64, line.ends_with(b"\n"));
        match kept.back_mut() {
            // The rest of a line that was cut between two pieces, or two jobs.
            Some(of) if of.which == which && !of.whole && of.path == path => {
                of.place.1 = from + length - of.place.0;
                of.whole = whole;
            }
            _ => {
                kept.push_back(Part { path: path.to_owned(), which, place: (from, length), whole })
            }
        }
        from += length;
        if kept.len() > most {
            kept.pop_front();
        }
    }
}

/// False: nobody reads any more.
fn write(bytes: &[u8], which: Which) -> bool {
    match stream(which) {
        Stream::Out => output::data(bytes),
        to @ Stream::Err => drop(to.write_all(bytes)),
    }
    !output::is_unread()
}
