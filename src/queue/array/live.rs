//! What jobs that run have printed so far: files with names as long as they run, in `jobs/live/`.
//!
//! A job's output has no name while it is short; one that runs for longer gets one, so that who follows
//! it can look. When the job is over its output is in its worker's files, and the name goes. Where its
//! worker died before that, recovery moves the file to `jobs/W.JOB.n.out`: the line of the job's end
//! names `W.JOB.n` in place of a worker.

use std::path::{Path, PathBuf};

use crate::error::{Cannot, Result};
use crate::sys::fs::is_absent;

use super::super::Queue;

/// `jobs/live`, by its name.
pub const LIVE: &str = "live";

/// Which of the two outputs of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Which {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Which {
    /// Both.
    pub const BOTH: [Which; 2] = [Which::Out, Which::Err];

    /// How the names of its files end.
    pub fn suffix(self) -> &'static str {
        match self {
            Which::Out => "out",
            Which::Err => "err",
        }
    }
}

/// An output of a job that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Who runs the job.
    pub wid: String,
    /// Its number.
    pub job: u64,
    /// The try.
    pub n: u32,
    /// Which output.
    pub which: Which,
}

impl Live {
    /// `W.JOB.n`.
    pub fn stem(&self) -> String {
        format!("{}.{}.{}", self.wid, self.job, self.n)
    }

    /// `W.JOB.n.out` or `.err`.
    fn name(&self) -> String {
        format!("{}.{}", self.stem(), self.which.suffix())
    }

    /// Its file while the job runs.
    pub fn path(&self, home: &Path) -> PathBuf {
        home.join(LIVE).join(self.name())
    }

    /// What a name in `jobs/live/` stands for.
    pub fn parse(name: &str) -> Option<Live> {
        let mut parts = name.rsplitn(4, '.');
        let which = match parts.next()? {
            "out" => Which::Out,
            "err" => Which::Err,
            _ => return None,
        };
        let n = parts.next()?.parse().ok()?;
        let job = parts.next()?.parse().ok()?;
        Some(Live { wid: parts.next()?.to_owned(), job, n, which })
    }

    /// The process whose number is meant by what a line names: a process, or `W.JOB.n`.
    pub fn worker(of: &str) -> String {
        Live::parse(&format!("{of}.out")).map_or_else(|| of.to_owned(), |live| live.wid)
    }

    /// Moves it to where it stays after the death of its worker. Returns its length; `None`: there is
    /// none, neither here nor there.
    pub fn save(&self, queue: &Queue, home: &Path) -> Result<Option<u64>> {
        let (from, to) = (self.path(home), home.join(self.name()));
        match queue.fs.rename(&from, &to) {
            Err(e) if !is_absent(&e) => return Err(e).cannot("save the output of a job", &from),
            _ => {}
        }
        match queue.fs.stat(&to) {
            Err(e) if is_absent(&e) => Ok(None),
            other => other.map(|stat| Some(stat.len)).cannot("look at the output of a job", &to),
        }
    }
}

/// The file of the job at hand before it is seen, where a file system has none without a name.
pub fn spare(home: &Path, wid: &str, which: Which) -> PathBuf {
    home.join(format!("{wid}.own.{}", which.suffix()))
}

/// The outputs that can be seen now: two for each job that has been running for a while.
pub fn all(queue: &Queue, home: &Path) -> Result<Vec<Live>> {
    let entries = queue.list(&home.join(LIVE))?;
    Ok(entries.iter().filter_map(|entry| Live::parse(&entry.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whose_output_it_is() {
        let live = Live { wid: "w1-a.b".to_owned(), job: 17, n: 2, which: Which::Err };
        let path = live.path(Path::new("jobs"));
        assert_eq!(path, Path::new("jobs/live/w1-a.b.17.2.err"));
        assert_eq!(Live::parse("w1-a.b.17.2.err"), Some(live));
        assert_eq!(Live::worker("w1-a.17.2"), "w1-a");
        assert_eq!(Live::worker("w1-a"), "w1-a");
        for name in ["17.2.err", "w.17.2.log", "w.x.2.out", "w.1.-1.out", ""] {
            assert_eq!(Live::parse(name), None, "{name}");
        }
    }
}
