//! Submitting the jobs of an array, a chunk at a time, while others work on it already.
//!
//! Steps of a chunk:
//! 1. make the directory of its registers;
//! 2. write the list to `run/_chunk.T`;
//! 3. link it to `jobs/START.in`: **its jobs are accepted**; ring.
//!
//! The first chunk begins with job 1, and each further one behind the last job of the one before. So
//! several that submit the same list (the same command, given again after a crash) agree chunk by
//! chunk: who finds a name taken compares and goes on behind it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Error, Exit, Result};
use crate::step;
use crate::sys::fs::name_of;

use super::super::Queue;
use super::super::durable;
use super::super::procs::Proc;
use super::super::record::{self, Closed, RECORD_MAX};
use super::super::register::{Held, publish};
use super::super::tasks;
use super::chunk::read_list;
use super::{CHUNK, JOBS_MAX, bell, chunk_dir, closed_file, ensure_home, home, open_file};

/// The longest line of a list, bytes: the arguments of one job.
pub const LINE_MAX: usize = RECORD_MAX - 1;

/// The arguments of a job, escaped (`sys::escaped`); or why it can have none, and so fails.
pub type Given = std::result::Result<Vec<String>, String>;

/// A job whose place in the input cannot be its arguments.
#[derive(Debug, Serialize, Deserialize)]
struct Bad {
    bad: String,
}

/// The line of a job. Arguments that would make a line longer than `LINE_MAX` are none.
pub fn line(given: &Given) -> String {
    let bad = |why: &str| serde_json::to_string(&Bad { bad: why.to_owned() }).unwrap_or_default();
    match given {
        Ok(arguments) => match serde_json::to_string(arguments).unwrap_or_default() {
            line if line.len() <= LINE_MAX => line,
            _ => bad("the arguments of the job are longer than 1 MiB (put long texts into files)"),
        },
        Err(why) => bad(why),
    }
}

/// What a line says. One that cannot be read is its own argument: the job runs with it and shows it.
pub fn parse(line: &str) -> Given {
    readable(line).unwrap_or_else(|| Ok(vec![line.to_owned()]))
}

/// The same; `None` if it cannot be read.
pub fn readable(line: &str) -> Option<Given> {
    match serde_json::from_str::<Vec<String>>(line) {
        Ok(arguments) => Some(Ok(arguments)),
        Err(_) => serde_json::from_str::<Bad>(line).ok().map(|of| Err(of.bad)),
    }
}

/// Publishes the chunk that begins with job `start`. `lines` has at least one line and at most
/// `CHUNK`. Returns the lines that stand there now: these, or those of whoever was first.
pub fn append(
    queue: &Queue,
    me: &Proc,
    id: &str,
    start: u64,
    lines: &[String],
) -> Result<Vec<String>> {
    let task = tasks::existing(queue, id)?;
    let jobs = home(queue, id);
    if start + lines.len() as u64 > JOBS_MAX {
        return Err(
            Error::usage(format!("more than {JOBS_MAX} jobs")).hint("split the list into several")
        );
    }
    if let Some(theirs) = read_list(queue, &jobs, start)? {
        return whole(theirs, start);
    }
    ensure_home(queue, &jobs)?;
    let dir = chunk_dir(&jobs, start);
    step!("list.mkdir");
    match queue.fs.mkdir(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(e).cannot("make the directory of a chunk", &dir);
        }
        _ => {}
    }
    let mut text = lines.join("\n");
    text.push('\n');
    let open = queue.fs.open_dir(&jobs).cannot("open the list of jobs", &jobs)?;
    let staged = me.run(&format!("_chunk.{}", task.id));
    step!("list.stage");
    queue.stage(&staged, text.as_bytes(), "write a list of jobs")?;
    step!("list.link");
    let name = format!("{start:010}.in");
    let held = publish(queue, &staged, &open, &name, |bytes| bytes == text.as_bytes());
    queue.discard(&staged)?;
    match held? {
        Held::New | Held::Ours => {
            durable::list(queue, &jobs)?;
            queue.ring(&bell(&jobs));
            Ok(lines.to_vec())
        }
        Held::Theirs(_) => whole(read_list(queue, &jobs, start)?.unwrap_or_default(), start),
    }
}

/// A list has lines. One that has none was cut off by a power loss, and nobody knows its jobs.
fn whole(lines: Vec<String>, start: u64) -> Result<Vec<String>> {
    if lines.is_empty() {
        let what = format!("the list of the jobs from number {start} on is empty");
        return Err(Error::new(Exit::Conflict, what)
            .hint("a power loss took its content; begin anew: coord run --fresh"));
    }
    Ok(lines)
}

/// Opens a list again that is complete with `jobs` jobs, the `opened`th time: more follows. Whoever
/// ends the array looks for it after the claim, so from then on either the array does not end, or the
/// caller sees that it has.
pub fn open_again(queue: &Queue, me: &Proc, id: &str, opened: u32, jobs: u64) -> Result<()> {
    let dir = home(queue, id);
    let open = queue.fs.open_dir(&dir).cannot("open the list of jobs", &dir)?;
    let bytes = record::to_bytes(&Closed { v: 1, jobs });
    let staged = me.run(&format!("_chunk.{id}"));
    queue.stage(&staged, &bytes, "open a list of jobs again")?;
    step!("list.open");
    let name = name_of(&open_file(&dir, opened));
    // Somebody else who does the same has opened it for both.
    let held = publish(queue, &staged, &open, &name, |theirs| theirs == bytes);
    queue.discard(&staged)?;
    held?;
    durable::list(queue, &dir)
}

/// Says that the list is complete with `jobs` jobs, after it was opened again `opened` times.
///
/// # Errors
/// When somebody else closed it with another number.
pub fn close(queue: &Queue, me: &Proc, id: &str, opened: u32, jobs: u64) -> Result<()> {
    let dir = home(queue, id);
    ensure_home(queue, &dir)?;
    let open = queue.fs.open_dir(&dir).cannot("open the list of jobs", &dir)?;
    let bytes = record::to_bytes(&Closed { v: 1, jobs });
    let staged = me.run(&format!("_chunk.{id}"));
    queue.stage(&staged, &bytes, "write the end of a list of jobs")?;
    step!("list.close");
    let name = name_of(&closed_file(&dir, opened));
    let held = publish(queue, &staged, &open, &name, |theirs| theirs == bytes);
    queue.discard(&staged)?;
    if let Held::Theirs(theirs) = held? {
        let said = record::parse::<Closed>(&theirs).map_or(0, |closed| closed.jobs);
        if said != jobs {
            let what = format!("the list of {id} was closed at {said} jobs; this one has {jobs}");
            return Err(Error::new(Exit::Conflict, what).at(&dir));
        }
    }
    durable::list(queue, &dir)?;
    queue.ring(&bell(&dir));
    Ok(())
}

/// Hands out the lines of a list one after the other, as they were submitted so far.
pub struct Written<'a> {
    queue: &'a Queue,
    home: &'a Path,
    start: u64,
    lines: std::vec::IntoIter<String>,
}

impl<'a> Written<'a> {
    /// From the first job on.
    pub fn new(queue: &'a Queue, home: &'a Path) -> Written<'a> {
        Written { queue, home, start: 1, lines: Vec::new().into_iter() }
    }

    /// The number of the first job that was not submitted yet, once `line` has said `None`.
    pub fn end(&self) -> u64 {
        self.start
    }

    /// The next line; `None` behind the last.
    pub fn line(&mut self) -> Result<Option<String>> {
        if let Some(line) = self.lines.next() {
            return Ok(Some(line));
        }
        let Some(lines) = read_list(self.queue, self.home, self.start)? else { return Ok(None) };
        debug_assert!(lines.len() <= CHUNK, "a list is cut when it is read");
        if lines.is_empty() {
            return Ok(None);
        }
        self.start += lines.len() as u64;
        self.lines = lines.into_iter();
        Ok(self.lines.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_says_is_what_was_given() {
        for given in [
            Ok(vec![]),
            Ok(vec!["a".to_owned(), "\u{10FEFF}\n\"".to_owned()]),
            Err("line 3 has a NUL".to_owned()),
        ] {
            let text = line(&given);
            assert!(!text.contains('\n') && text.len() <= LINE_MAX, "{text}");
            assert_eq!(parse(&text), given);
        }
        let long = line(&Ok(vec!["x".repeat(RECORD_MAX)]));
        assert!(parse(&long).unwrap_err().contains("1 MiB"), "{long}");
        assert_eq!(line(&parse(&long)), long, "who reads it and writes it agrees with itself");
        assert_eq!((parse("no list"), readable("no list")), (Ok(vec!["no list".to_owned()]), None));
    }
}
