//! Submitting the list of an array while others work on it already: a thread of its own, since its
//! input may make it wait.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Exit, Result};
use crate::queue::array::list::{self, Written};
use crate::queue::array::{self, CHUNK};
use crate::queue::procs::{Identity, Proc};
use crate::queue::record::CardKind;
use crate::queue::{Queue, tasks};
use crate::step;

/// Where the arguments of the jobs come from.
pub trait Input: Send {
    /// The arguments of the next job; `None` behind the last.
    ///
    /// # Errors
    /// When the input cannot be read, or cannot be the arguments of a job.
    fn next(&mut self) -> Result<Option<Vec<String>>>;
    /// Whether the next job is not there yet, and asking for it would wait.
    fn would_block(&self) -> bool;
}

/// What has come of the feeding.
#[derive(Debug, Default)]
pub struct Fed {
    /// How many jobs the list has, once it is complete.
    pub jobs: Option<u64>,
    /// Why it could not be completed.
    pub fault: Option<Error>,
}

/// The state of a feeder, for who waits for it.
pub type Shared = Arc<Mutex<Fed>>;

/// Submits in the background what the input has.
pub fn begin(queue: &Queue, id: &str, input: Box<dyn Input>) -> Result<Shared> {
    let shared = Shared::default();
    // Before the thread: whoever looks finds that more is to come.
    let me = Proc::register(queue, &Identity::plain("cli", CardKind::Cli))?;
    let path = me.run(&format!("_array.{id}"));
    step!("array.intent");
    queue.fs.touch(&path).map_err(|e| Error::new(Exit::Environment, e.to_string()).at(&path))?;
    let (result, queue, id, mut me) = (shared.clone(), queue.clone(), id.to_owned(), me);
    let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
        let fed = match submit_all(&queue, &me, &id, input) {
            Ok(jobs) => Fed { jobs: Some(jobs), fault: None },
            Err(fault) => Fed { jobs: None, fault: Some(fault) },
        };
        *result.lock().unwrap_or_else(PoisonError::into_inner) = fed;
        drop(queue.discard(&path));
        me.leave(&queue);
        array::ring_all(&queue, &id);
    });
    match thread {
        Ok(_) => Ok(shared),
        Err(e) => Err(Error {
            cause: Some(e),
            ..Error::new(Exit::Environment, "cannot start a thread for the input")
        }),
    }
}

/// Submits what the input has, behind what was submitted before, and closes the list. Returns how many
/// jobs it has.
///
/// # Errors
/// When the input is another than what was submitted before.
pub fn submit_all(queue: &Queue, me: &Proc, id: &str, input: Box<dyn Input>) -> Result<u64> {
    let home = array::home(queue, id);
    let lines = Vec::with_capacity(CHUNK);
    Feeder { queue, me, id, home, input, lines, start: 1 }.feed()
}

struct Feeder<'a> {
    queue: &'a Queue,
    me: &'a Proc,
    id: &'a str,
    home: PathBuf,
    input: Box<dyn Input>,
    lines: Vec<String>,
    start: u64,
}

impl Feeder<'_> {
    fn feed(&mut self) -> Result<u64> {
        self.skip_written()?;
        loop {
            match self.input.next()? {
                Some(arguments) => self.lines.push(list::line(&arguments)?),
                None => break,
            }
            if self.lines.len() >= CHUNK || self.input.would_block() {
                self.publish()?;
            }
        }
        while !self.lines.is_empty() {
            self.publish()?;
        }
        let jobs = self.start - 1;
        list::close(self.queue, self.me, self.id, jobs)?;
        Ok(jobs)
    }

    /// Compares what the input begins with with what was submitted before.
    fn skip_written(&mut self) -> Result<()> {
        let home = self.home.clone();
        let mut written = Written::new(self.queue, &home);
        let mut job = 1;
        while let Some(line) = written.next()? {
            let next = self.input.next()?;
            self.agree(job, &line, next.as_deref())?;
            job += 1;
        }
        self.start = written.end();
        Ok(())
    }

    fn agree(&self, job: u64, there: &str, next: Option<&[String]>) -> Result<()> {
        let ours = next.map(list::line).transpose()?;
        if ours.as_deref() == Some(there) {
            return Ok(());
        }
        let ours = ours.unwrap_or_else(|| "the end of the input".to_owned());
        let what = format!(
            "the input is not that of the unfinished run {}: job {job} was {there} and is now {ours}",
            self.id
        );
        Err(Error::new(Exit::Conflict, what)
            .hint("give the same input to go on, or --fresh to begin a new run"))
    }

    /// Publishes what was gathered. Somebody else may be submitting the same list.
    fn publish(&mut self) -> Result<()> {
        let there = list::append(self.queue, self.me, self.id, self.start, &self.lines)?;
        if there == self.lines {
            self.start += there.len() as u64;
            self.lines.clear();
            return Ok(());
        }
        let mut rest = std::mem::take(&mut self.lines).into_iter();
        for line in there {
            let next = match rest.next() {
                Some(ours) => serde_json::from_str(&ours).ok(),
                None => self.input.next()?,
            };
            self.agree(self.start, &line, next.as_deref())?;
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
