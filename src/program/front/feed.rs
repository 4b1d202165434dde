//! Submitting the list of an array while others work on it already. `coord run` does it in a thread of
//! its own, since its input may make it wait.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Cannot, Error, Exit, Result};
use crate::queue::array::list::{self, Given, Written};
use crate::queue::array::{self, CHUNK, halting};
use crate::queue::procs::{Identity, Proc};
use crate::queue::record::CardKind;
use crate::queue::{Queue, tasks};
use crate::step;

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
    let mut feeder = Feeder::new(queue, id, input)?;
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
        list::close(&self.queue, &self.me, &self.id, jobs)?;
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
        let closed = is_closed(&queue, &self.id)?;
        if closed.is_some()
            && let Some(more) = self.input.next()?
        {
            self.agree(job, "the end of the input", Some(&more))?;
        }
        Ok(closed)
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

/// Whether an array was closed already: then there is nothing to feed.
pub fn is_closed(queue: &Queue, id: &str) -> Result<Option<u64>> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(None) };
    Ok(array::Overview::read(queue, &array::home(queue, id), array::round(&task))?.jobs)
}
