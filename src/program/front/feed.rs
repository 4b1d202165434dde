//! Submitting the list of an array while others work on it already. `coord run` does it in a thread of
//! its own, since its input may make it wait.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Cannot, Error, Exit, Result};
use crate::queue::array::list::{self, Given, Written};
use crate::queue::array::{self, CHUNK, Overview, halting};
use crate::queue::procs::{Identity, Proc};
use crate::queue::record::CardKind;
use crate::queue::tasks::Phase;
use crate::queue::{Queue, tasks};
use crate::step;
use crate::sys::wake::nap;

/// Where the arguments of the jobs come from.
pub trait Input: Send {
    /// The arguments of the next job, or why it has none; `None` behind the last.
    ///
    /// # Errors
    /// When the input cannot be read.
    fn next(&mut self) -> Result<Option<Given>>;
    /// Whether the next job is not there yet, and asking for it would wait.
    fn would_block(&self) -> bool;
}

/// How long somebody who ends an array is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What has come of the feeding.
#[derive(Debug, Default)]
pub struct Fed {
    /// Whether the input begins as it did before, as far as it was submitted then.
    pub agreed: bool,
    /// How many jobs the list has, once it is complete.
    pub jobs: Option<u64>,
    /// Why it could not be completed.
    pub fault: Option<Error>,
}

/// The state of a feeder, for who waits for it.
pub type Shared = Arc<Mutex<Fed>>;

/// Submits in the background what the input has. `anew`: nothing was submitted before.
pub fn begin(queue: &Queue, id: &str, input: Box<dyn Input>, anew: bool) -> Result<Shared> {
    let shared = Shared::new(Mutex::new(Fed { agreed: anew, ..Fed::default() }));
    // Before the thread: whoever looks finds that more is to come.
    let mut feeder = Feeder { grows: true, ..Feeder::new(queue, id, input)? };
    let result = shared.clone();
    let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
        let fed = || result.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = feeder.skip_written().and_then(|closed| {
            fed().agreed = true;
            feeder.queue.ring(&array::progress(&feeder.home));
            closed.map_or_else(|| feeder.feed(), Ok)
        });
        match jobs {
            Ok(jobs) => fed().jobs = Some(jobs),
            Err(fault) => fed().fault = Some(fault),
        }
        feeder.leave();
    });
    match thread {
        Ok(_) => Ok(shared),
        Err(e) => Err(Error {
            cause: Some(e),
            ..Error::new(Exit::Environment, "cannot start a thread for the input")
        }),
    }
}

/// Submits here and now what the input has. Returns how many jobs the list has.
pub fn here(queue: &Queue, id: &str, input: Box<dyn Input>) -> Result<u64> {
    let mut feeder = Feeder::new(queue, id, input)?;
    let closed = feeder.skip_written();
    let fed = closed.and_then(|closed| closed.map_or_else(|| feeder.feed(), Ok));
    feeder.leave();
    fed
}

struct Feeder {
    queue: Queue,
    me: Proc,
    id: String,
    intent: PathBuf,
    home: PathBuf,
    input: Box<dyn Input>,
    lines: Vec<String>,
    start: u64,
    /// How often the list was opened again.
    opened: u32,
    /// Whether a list that was complete may have become longer.
    grows: bool,
}

impl Feeder {
    fn new(queue: &Queue, id: &str, input: Box<dyn Input>) -> Result<Feeder> {
        let me = Proc::register(queue, &Identity::plain("cli", CardKind::Cli))?;
        let intent = me.run(&format!("_array.{id}"));
        step!("array.intent");
        queue.fs.touch(&intent).cannot("write an intent", &intent)?;
        Ok(Feeder {
            queue: queue.clone(),
            me,
            id: id.to_owned(),
            intent,
            home: array::home(queue, id),
            input,
            lines: Vec::with_capacity(CHUNK),
            start: 1,
            opened: 0,
            grows: false,
        })
    }

    fn leave(&mut self) {
        drop(self.queue.discard(&self.intent));
        self.me.leave(&self.queue);
        self.queue.ring(&array::progress(&self.home));
        self.queue.ring(&array::bell(&self.home));
    }

    fn feed(&mut self) -> Result<u64> {
        while let Some(given) = self.input.next()? {
            self.lines.push(list::line(&given));
            if self.lines.len() >= CHUNK || self.input.would_block() {
                self.publish()?;
            }
        }
        while !self.lines.is_empty() {
            self.publish()?;
        }
        let jobs = self.start - 1;
        list::close(&self.queue, &self.me, &self.id, self.opened, jobs)?;
        halting::closed(&self.queue, &self.me, &self.id)?;
        Ok(jobs)
    }

    /// Compares what the input begins with with what was submitted before. Returns how many jobs there
    /// are, if that was all.
    fn skip_written(&mut self) -> Result<Option<u64>> {
        let (queue, home) = (self.queue.clone(), self.home.clone());
        let mut written = Written::new(&queue, &home);
        let mut job = 1;
        while let Some(line) = written.line()? {
            let next = self.input.next()?;
            self.agree(job, &line, next.as_ref())?;
            job += 1;
        }
        self.start = written.end();
        let Some(task) = tasks::look(&queue, &self.id)? else { return Ok(None) };
        let seen = Overview::read(&queue, &home, array::round(&task))?;
        self.opened = seen.opened;
        if let Some(jobs) = seen.jobs
            && let Some(more) = self.input.next()?
        {
            if !self.grows {
                self.agree(job, "the end of the input", Some(&more))?;
            }
            self.lines.push(list::line(&more));
            self.grow(jobs)?;
            return Ok(None);
        }
        Ok(seen.jobs)
    }

    /// The input has more than it had when it was read to its end: the run goes on with the rest.
    fn grow(&mut self, jobs: u64) -> Result<()> {
        let queue = self.queue.clone();
        let over = |phase: &Phase| !matches!(phase, Phase::Pending(_) | Phase::Claimed(_));
        if over(&tasks::existing(&queue, &self.id)?.phase) {
            return Err(self.too_late());
        }
        self.opened += 1;
        list::open_again(&queue, &self.me, &self.id, self.opened, jobs)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match tasks::existing(&queue, &self.id)?.phase {
                Phase::Pending(_) => return Ok(()),
                // Somebody ends it, and has seen what was opened, or has not.
                Phase::Claimed(_) if Instant::now() < deadline => nap(Duration::from_millis(5)),
                _ => return Err(self.too_late()),
            }
        }
    }

    fn too_late(&self) -> Error {
        let what = format!("{} is over, and its list has grown since", self.id);
        Error::new(Exit::Conflict, what)
            .hint("--resume tells what became of it; --fresh begins a new run with all of it")
    }

    fn agree(&self, job: u64, there: &str, next: Option<&Given>) -> Result<()> {
        let ours = next.map(list::line);
        if ours.as_deref() == Some(there) {
            return Ok(());
        }
        let ours = ours.unwrap_or_else(|| "the end of the input".to_owned());
        let what = format!(
            "the input is not that of the unfinished run {}: job {job} was {there} and is now {ours}",
            self.id
        );
        Err(Error::new(Exit::Conflict, what).hint(
            "give the same input; or --resume to go on without it; or --fresh to begin a new run",
        ))
    }

    /// Publishes what was gathered. Somebody else may be submitting the same list.
    fn publish(&mut self) -> Result<()> {
        let there = list::append(&self.queue, &self.me, &self.id, self.start, &self.lines)?;
        if there == self.lines {
            self.start += there.len() as u64;
            self.lines.clear();
            return Ok(());
        }
        let mut rest = std::mem::take(&mut self.lines).into_iter();
        for line in there {
            let next = match rest.next() {
                Some(ours) => Some(list::parse(&ours)),
                None => self.input.next()?,
            };
            self.agree(self.start, &line, next.as_ref())?;
            self.start += 1;
        }
        self.lines = rest.collect();
        Ok(())
    }
}
