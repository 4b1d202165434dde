//! What the jobs of a worker print: each into a file of its own, from where it is copied to the file of
//! the worker's that keeps what all of them printed, `jobs/W.out` and `jobs/W.err`.
//!
//! A job that prints nothing costs no file and no copy: what it left untouched, and nobody can hold any
//! more, the next one gets. Where the output of a job begins and ends stands in its line of `jobs/W.log`.

use std::path::{Path, PathBuf};

use crate::error::{Cannot, Error, Exit, Result};
use crate::queue::Queue;
use crate::queue::array::live::{self, LIVE, Live, Which};
use crate::sys::own::{Kept, Left, Own};

/// One of the two outputs of a worker's jobs.
#[derive(Debug)]
pub struct Printed {
    home: PathBuf,
    wid: String,
    which: Which,
    /// Of the file that keeps what all the jobs have printed.
    path: PathBuf,
    kept: Kept,
    /// The file of the job at hand, and of the next one, if it may get it.
    own: Own,
    /// It may not be given to another job.
    spent: bool,
    /// Where the output of the job at hand is kept, once it is.
    taken: Option<(u64, u64)>,
}

impl Printed {
    /// Of the jobs in `home` that process `wid` runs.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn new(queue: &Queue, home: &Path, wid: &str, which: Which) -> Result<Printed> {
        let path = home.join(format!("{wid}.{}", which.suffix()));
        let kept = Kept::at(queue.fs.reach(&path));
        let (home, wid) = (home.to_owned(), wid.to_owned());
        let own = Own::simulated();
        let mut made = Printed { home, wid, which, path, kept, own, spent: true, taken: None };
        made.renew(queue)?;
        Ok(made)
    }

    /// The file that the next job prints into.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// Sees to it that there is a file for the next job. True: it is another one.
    pub fn renew(&mut self, queue: &Queue) -> Result<bool> {
        self.taken = None;
        if !self.spent {
            return Ok(false);
        }
        // The name of the last one goes first, where it has one: the next may need it.
        self.own = Own::simulated();
        let spare = live::spare(&self.home, &self.wid, self.which);
        let fs = &queue.fs;
        let made = queue.host.open_own(&fs.reach(&self.home), &fs.reach(&spare));
        self.own = made.cannot("make a file for the output of a job", &self.home)?;
        self.spent = false;
        Ok(true)
    }

    /// What the job at hand has printed.
    pub fn left(&self) -> Result<Left> {
        self.own.left().cannot("look at the output of a job", &self.path)
    }

    /// Keeps what the job at hand has left, with a remark of the worker's behind it. `alone`: nobody can
    /// hold its file any more. Returns offset and length in the file that keeps it.
    pub fn take(&mut self, left: Left, alone: bool, remark: &str) -> Result<(u64, u64)> {
        if let Some(taken) = self.taken {
            return Ok(taken);
        }
        self.spent |= !left.untouched || !alone;
        let taken = self.kept.take(&self.own, left.len, remark);
        let taken = taken.cannot("keep the output of a job", &self.path)?;
        self.taken = Some(taken);
        Ok(taken)
    }

    /// Lets others see what the job at hand prints while it runs.
    pub fn show(&mut self, queue: &Queue, job: u64, n: u32) -> Result<()> {
        let live = Live { wid: self.wid.clone(), job, n, which: self.which };
        let path = live.path(&self.home);
        self.spent = true;
        match queue.fs.mkdir(&self.home.join(LIVE)) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(e).cannot("make the directory of what jobs print", &self.home);
            }
            _ => {}
        }
        self.own.show_as(queue.fs.reach(&path)).map_err(|cause| Error {
            cause: Some(cause),
            ..Error::new(Exit::Environment, "cannot show what a job prints while it runs").at(&path)
        })
    }
}
