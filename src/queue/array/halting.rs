//! When a run stops before its end, decided where jobs are taken.
//!
//! ```text
//! tasks/T/jobs/halt.N            register: a run began, with this rule and so many workers of its own;
//!                                or: the rule in halt.M was fulfilled
//! tasks/T/jobs/halt.N.ends/JOB   a job ended in a way that the rule of halt.N counts: a link to of.K
//! ```
//! The registers are one chain, of which the newest holds: who knows it asks for one name before each
//! claim, that of the next, whatever that will say. Without a rule nobody asks. The end of a job says
//! which rule it counts for, so that whoever finds it can count it: the process that links it, before
//! its next claim, or who recovers that process. A job is counted by a name of its own, thus once, and
//! how many there are is the number of links of the files that the names are links to.

use std::path::{Path, PathBuf};

use crate::error::{Cannot, Result};
use crate::jobs::halt::{Halt, When};
use crate::rule;
use crate::step;
use crate::sys::fs::{is_absent, is_no_file};

use super::super::Queue;
use super::super::procs::Proc;
use super::super::record::{self, End, Halting, RECORD_MAX};
use super::super::register::{Held, publish};
use super::chunk::Chunk;
use super::{closed_now, home, ring_all};

/// The key of an end under which it says for which rule it counts.
const KEY: &str = "halt";

/// What a process knows of the rules of an array.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The number of the newest register that it has read.
    newest: u32,
    /// The number of the one that holds the rule.
    of: u32,
    halt: Halt,
    met: bool,
    /// The highest place of a worker of the run itself.
    pub workers: u32,
}

impl Standing {
    /// What holds now.
    pub fn read(queue: &Queue, home: &Path) -> Result<Standing> {
        let mut standing = Standing::default();
        standing.refresh(queue, home)?;
        Ok(standing)
    }

    /// Reads what was written since. One call where that is nothing.
    pub fn refresh(&mut self, queue: &Queue, home: &Path) -> Result<()> {
        let mut last = self.newest;
        if !queue.fs.exists(&register(home, last + 1)) {
            return Ok(());
        }
        if last == 0 {
            let names = queue.list(home)?;
            last = names.iter().filter_map(|entry| parse(&entry.name)).max().unwrap_or(1);
        }
        while queue.fs.exists(&register(home, last + 1)) {
            last += 1;
        }
        let newest = read(queue, home, last)?;
        let of = if newest.met > 0 { newest.met } else { last };
        let rule = if newest.met > 0 { read(queue, home, of)? } else { newest };
        // Words of a newer program stop nothing.
        let halt = Halt::parse(&rule.halt).unwrap_or_default();
        *self = Standing { newest: last, of, halt, met: of != last, workers: rule.workers };
        Ok(())
    }

    /// Whether a job may be claimed. Without a rule that costs no call, else one.
    pub fn may_claim(&mut self, queue: &Queue, home: &Path) -> Result<bool> {
        if self.halt != Halt::Never && rule!("halt.look") {
            self.refresh(queue, home)?;
        }
        Ok(!self.met)
    }

    /// How the run stops, if its rule was fulfilled.
    pub fn stops(&self) -> Option<When> {
        match self.halt {
            Halt::At(when, ..) if self.met => Some(when),
            _ => None,
        }
    }

    /// What the end of a job says of the rule that it counts for; 0: there is none.
    pub fn stamp(&self) -> u32 {
        if self.halt == Halt::Never { 0 } else { self.of }
    }

    /// Counts the end of a job, if the rule does; says so if the rule is fulfilled with it. To be called
    /// before the next claim.
    pub fn ended(
        &mut self,
        queue: &Queue,
        me: &Proc,
        id: &str,
        job: u64,
        done: bool,
    ) -> Result<()> {
        if self.met || !self.halt.counts(done) || !rule!("halt.count") {
            return Ok(());
        }
        let home = home(queue, id);
        let count = match self.halt.is_one() {
            true => 1,
            false => count(queue, &home, self.of, Some(job))?,
        };
        self.decide(queue, me, id, count)
    }

    /// Says that the rule is fulfilled, if it is with so many.
    fn decide(&mut self, queue: &Queue, me: &Proc, id: &str, count: u64) -> Result<()> {
        let home = home(queue, id);
        let total = if self.halt.is_percent() { closed_now(queue, &home)? } else { None };
        while !self.met && self.halt.is_met(count, total) {
            let of = self.of;
            let note = Halting { met: of, ..Halting::new(&me.wid, queue.now()) };
            if link(queue, me, id, self.newest + 1, &note)? {
                (self.newest, self.met) = (self.newest + 1, true);
                ring_all(queue, id);
                return Ok(());
            }
            self.refresh(queue, &home)?;
            if self.of != of {
                // Another run has begun, which does not count this.
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A run begins, with this rule and so many workers of its own. What ended before does not count for it.
pub fn begin(queue: &Queue, me: &Proc, id: &str, halt: &str, workers: u32) -> Result<()> {
    let home = home(queue, id);
    let mut standing = Standing::read(queue, &home)?;
    let rule = Halting { halt: halt.to_owned(), workers, ..Halting::new(&me.wid, queue.now()) };
    while !link(queue, me, id, standing.newest + 1, &rule)? {
        standing.refresh(queue, &home)?;
    }
    ring_all(queue, id);
    Ok(())
}

/// The list is complete: a rule of percentages may be fulfilled by what has ended.
pub fn closed(queue: &Queue, me: &Proc, id: &str) -> Result<()> {
    let home = home(queue, id);
    let mut standing = Standing::read(queue, &home)?;
    if standing.met || !standing.halt.is_percent() {
        return Ok(());
    }
    let count = count(queue, &home, standing.of, None)?;
    standing.decide(queue, me, id, count)
}

/// Counts the ends of a chunk that its workers may not have counted any more.
pub fn recount(queue: &Queue, me: &Proc, id: &str, chunk: &Chunk) -> Result<()> {
    let mut standing = Standing::read(queue, &home(queue, id))?;
    if standing.met || standing.stamp() == 0 || !rule!("halt.recount") {
        return Ok(());
    }
    for (job, end) in chunk.last_ends(queue)? {
        let done = end.verdict == record::Verdict::Done;
        if !end.retry && stamp_of(&end) == standing.of {
            standing.ended(queue, me, id, job, done)?;
        }
    }
    Ok(())
}

/// The same end, which says for which rule it counts.
pub fn stamped(mut end: End, stamp: u32) -> End {
    if stamp > 0 && !end.retry {
        end.more.insert(KEY.to_owned(), stamp.into());
    }
    end
}

/// The rule that an end counts for; 0: none.
fn stamp_of(end: &End) -> u32 {
    let said = end.more.get(KEY).and_then(serde_json::Value::as_u64);
    said.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// `jobs/halt.N`.
fn register(home: &Path, number: u32) -> PathBuf {
    home.join(name(number))
}

fn name(number: u32) -> String {
    format!("halt.{number}")
}

/// The number of a register.
pub fn parse(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("halt.")?;
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    (!digits.starts_with(['0', '+'])).then_some(number)
}

/// A register; one that cannot be read is a run without a rule.
fn read(queue: &Queue, home: &Path, number: u32) -> Result<Halting> {
    let path = register(home, number);
    match queue.fs.read(&path, 0, RECORD_MAX) {
        Ok(bytes) => Ok(record::parse(&bytes).unwrap_or_default()),
        Err(e) if is_no_file(&e) => Ok(Halting::default()),
        Err(e) => Err(e).cannot("read the rule of a run", &path),
    }
}

/// Links the register of that number. False: somebody else has.
fn link(queue: &Queue, me: &Proc, id: &str, number: u32, note: &Halting) -> Result<bool> {
    let home = home(queue, id);
    let dir = queue.fs.open_dir(&home).cannot("open the directory of an array", &home)?;
    let bytes = record::to_bytes(note);
    let staged = me.run(&format!("_halt.{id}"));
    queue.stage(&staged, &bytes, "write the rule of a run")?;
    step!("halt.link");
    let held = publish(queue, &staged, &dir, &name(number), |theirs| theirs == bytes);
    queue.discard(&staged)?;
    Ok(matches!(held?, Held::New | Held::Ours))
}

/// Notes a job, if any, that the rule of that number counts. Returns how many there are.
fn count(queue: &Queue, home: &Path, number: u32, job: Option<u64>) -> Result<u64> {
    let dir = home.join(format!("halt.{number}.ends"));
    let mut noted = job.is_none();
    let mut sum = 0;
    for k in 0.. {
        let of = dir.join(format!("of.{k}"));
        if !queue.fs.exists(&of) {
            if noted {
                break;
            }
            match queue.fs.mkdir(&dir) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(e).cannot("make a directory", &dir);
                }
                _ => {}
            }
            queue.fs.touch(&of).cannot("make a file", &of)?;
        }
        if let Some(job) = job.filter(|_| !noted) {
            step!("halt.count");
            noted = match queue.fs.link(&of, &dir.join(job.to_string())) {
                Ok(()) => true,
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => true,
                // As many as a file may have; the next one takes more.
                Err(e) if e.raw_os_error() == Some(nix::libc::EMLINK) => false,
                Err(e) => return Err(e).cannot("count the end of a job", &dir),
            };
        }
        match queue.fs.stat(&of) {
            Ok(stat) => sum += stat.links.saturating_sub(1),
            Err(e) if is_absent(&e) => {}
            Err(e) => return Err(e).cannot("count the ends of jobs", &of),
        }
    }
    if sum == 0 && job.is_some() {
        // A file system that does not tell how many names a file has: they are counted one by one.
        let names = queue.list(&dir)?;
        sum = names.iter().filter(|entry| entry.name.parse::<u64>().is_ok()).count() as u64;
    }
    Ok(sum)
}
