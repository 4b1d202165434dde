//! What a run shows of its jobs: their output, in the order in which they end or in that of the list,
//! and a line each in a log of the format of GNU parallel.
//!
//! The numbers of the jobs that were shown are kept in `jobs/shown`, so that a run that is given again
//! after a crash shows what is missing, and nothing twice but what was being shown at that moment.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::PathBuf;

use crate::error::{Cannot, Error, Exit, Result};
use crate::jobs::exit::Ended;
use crate::jobs::halt::Counts;
use crate::jobs::joblog;
use crate::jobs::progress::Progress;
use crate::jobs::results::{Paths, Results};
use crate::jobs::template::{Job, Template};
use crate::queue::array::chunk::read_list;
use crate::queue::array::list::{self, Given};
use crate::queue::ids::short;
use crate::queue::record::Line;
use crate::run::shift::printed;
use crate::run::site::Site;
use crate::sys::escaped::unescape;
use crate::sys::fs::Log;

use super::numbers::Numbers;

/// How jobs are shown.
#[derive(Debug, Clone, Default)]
pub struct Style {
    /// In the order of the list.
    pub keep_order: bool,
    /// With the arguments before each line.
    pub tag: bool,
    /// The log in the format of GNU parallel.
    pub joblog: Option<PathBuf>,
    /// Where the output of each job is written to as well.
    pub results: Option<Results>,
    /// How many values a row has, where a job has several rows.
    pub columns: usize,
    /// The round that the array is in: what failed in an earlier one runs again.
    pub round: u32,
}

/// What is shown.
pub struct Show {
    site: Site,
    home: PathBuf,
    style: Style,
    template: Template,
    joblog: Option<Log>,
    log: Log,
    /// Jobs that were shown in this round, and in earlier ones.
    shown: Numbers,
    shown_before: Numbers,
    over: Numbers,
    waiting: BTreeMap<u64, (String, Line)>,
    next: u64,
    lists: Lists,
    /// What became of the jobs that are over.
    pub counts: Counts,
    /// The first that failed.
    pub first: Option<Ended>,
    /// Wipes the line of progress, where there is one.
    pub wipe: Option<fn(Option<&Progress>)>,
    /// It was wiped.
    pub wiped: bool,
}

impl Show {
    /// Shows the jobs in `home`. What was shown by an earlier run is not shown again.
    pub fn new(site: &Site, home: PathBuf, template: Template, style: Style) -> Result<Show> {
        let path = home.join("shown");
        let log = site.queue.fs.open_log(&path).cannot("note what was shown", &path)?;
        let (mut shown, mut shown_before) = (Numbers::default(), Numbers::default());
        let any = each_shown(site, &path, |job, of| match of.cmp(&style.round) {
            Ordering::Equal => shown.insert(job),
            Ordering::Less => shown_before.insert(job),
            Ordering::Greater => false,
        })?;
        let joblog = match &style.joblog {
            Some(path) => Some(open_joblog(site, path, !any)?),
            None => None,
        };
        Ok(Show {
            site: site.clone(),
            lists: Lists { starts: vec![1], ends: 1, recent: VecDeque::new() },
            home,
            style,
            template,
            joblog,
            log,
            shown,
            shown_before,
            over: Numbers::default(),
            waiting: BTreeMap::new(),
            next: 1,
            counts: Counts::default(),
            first: None,
            wipe: None,
            wiped: false,
        })
    }

    /// How many jobs are over.
    pub fn over(&self) -> u64 {
        self.counts.succeeded + self.counts.failed
    }

    /// Takes note of how a try ended, and shows what can be shown. `of`: whose files have its output.
    pub fn take(&mut self, of: &str, line: Line) -> Result<()> {
        let is_final = !line.retry && line.end != "late" && line.end != "release";
        let is_past = line.end != "done" && line.round < self.style.round;
        if !is_final || is_past || !self.over.insert(line.job) {
            return Ok(());
        }
        if line.end == "done" {
            self.counts.succeeded += 1;
        } else {
            self.counts.failed += 1;
            self.first.get_or_insert(ended(&line));
        }
        if !self.style.keep_order {
            return self.emit(of, &line);
        }
        self.waiting.insert(line.job, (of.to_owned(), line));
        while let Some((of, line)) = self.waiting.remove(&self.next) {
            self.next += 1;
            self.emit(&of, &line)?;
        }
        Ok(())
    }

    /// Shows what waits for jobs that do not end in this run.
    pub fn finish(&mut self) -> Result<()> {
        for (_, (of, line)) in std::mem::take(&mut self.waiting) {
            self.emit(&of, &line)?;
        }
        Ok(())
    }

    fn emit(&mut self, of: &str, line: &Line) -> Result<()> {
        let silent = line.out.1 == 0 && line.err.1 == 0;
        let plain = self.joblog.is_none() && self.style.results.is_none();
        let earlier = line.round < self.style.round;
        let known = if earlier { &self.shown_before } else { &self.shown };
        if known.contains(line.job) || (silent && plain) {
            return Ok(());
        }
        let out = printed(&self.site, &self.home, &format!("{of}.out"), line.out);
        let err = printed(&self.site, &self.home, &format!("{of}.err"), line.err);
        let wants_arguments = self.style.tag || !plain;
        let given = match wants_arguments {
            true => self.lists.given(&self.site, &self.home, line.job)?,
            false => Ok(Vec::new()),
        };
        if let (Some(wipe), false) = (self.wipe, silent || self.wiped) {
            wipe(None);
            self.wiped = true;
        }
        let tag = self.style.tag.then(|| tag(&given));
        write_all(&mut std::io::stdout().lock(), &out, tag.as_deref())?;
        write_all(&mut std::io::stderr().lock(), &err, tag.as_deref())?;
        let slot = short(of).chars().filter(char::is_ascii_digit).collect::<String>();
        let command = given.clone();
        let args = given.unwrap_or_default();
        let job = Job { seq: line.job, slot: slot.parse().unwrap_or(1), args };
        if let Some(results) = &self.style.results {
            self.write_results(results.paths(&job, self.style.columns), line.job, &out, &err)?;
        }
        if let Some(log) = &self.joblog {
            // One without arguments has no command; the reason stands in its place.
            let command = match command {
                Ok(_) => joblog::shown(&self.template.expand(&job).unwrap_or_default()),
                Err(why) => format!("({why})"),
            };
            let Ended { exit, signal } = ended(line);
            let mut text = String::new();
            let finished = joblog::Finished {
                seq: line.job,
                host: ":".to_owned(),
                started_s: line.at as f64 / 1000.0,
                runtime_s: line.ms as f64 / 1000.0,
                receive: line.out.1,
                exit,
                signal,
                command,
            };
            joblog::push_line(&mut text, &finished);
            self.site.queue.fs.append_to(log, text.as_bytes()).cannot("append to", &log.path)?;
        }
        let number = match line.round {
            0 => format!("{}\n", line.job),
            round => format!("{}.{round}\n", line.job),
        };
        self.site
            .queue
            .fs
            .append_to(&self.log, number.as_bytes())
            .cannot("append to", &self.log.path)
    }

    fn write_results(&self, paths: Paths, job: u64, out: &[u8], err: &[u8]) -> Result<()> {
        let fs = &self.site.queue.fs;
        let seq = job.to_string();
        let files = [(paths.stdout, out), (paths.stderr, err), (paths.seq, seq.as_bytes())];
        for (path, bytes) in files {
            if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                crate::sys::fs::mkdir_all(&**fs, dir)
                    .cannot("make a directory for results", dir)?;
            }
            fs.create(&path, bytes, 0o644).cannot("write a result", &path)?;
        }
        Ok(())
    }
}

fn open_joblog(site: &Site, path: &std::path::Path, fresh: bool) -> Result<Log> {
    let fs = &site.queue.fs;
    if fresh {
        // As GNU parallel: a new run begins a new log.
        fs.create(path, joblog::HEADER.as_bytes(), 0o644).cannot("write the log of jobs", path)?;
    }
    fs.open_log(path).cannot("open the log of jobs", path)
}

/// Hands out what `jobs/shown` says, a piece of it at a time. False: nothing.
fn each_shown(
    site: &Site,
    path: &std::path::Path,
    mut each: impl FnMut(u64, u32) -> bool,
) -> Result<bool> {
    const PIECE: usize = 1 << 16;
    let mut offset = 0;
    loop {
        let bytes = site.queue.fs.read(path, offset, PIECE).cannot("read what was shown", path)?;
        // A torn last line is of a job that was being shown.
        let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else { return Ok(offset > 0) };
        for line in bytes[..end].split(|b| *b == b'\n') {
            if let Some((job, round)) = std::str::from_utf8(line).ok().and_then(parse_shown) {
                each(job, round);
            }
        }
        offset += end as u64 + 1;
    }
}

/// A line of `jobs/shown`: the job, and the round unless it is the first.
fn parse_shown(line: &str) -> Option<(u64, u32)> {
    match line.split_once('.') {
        Some((job, round)) => Some((job.parse().ok()?, round.parse().ok()?)),
        None => Some((line.parse().ok()?, 0)),
    }
}

/// How a job ended, in the numbers of its log line.
fn ended(line: &Line) -> Ended {
    match (line.code, line.signal) {
        (_, Some(signal)) => Ended { exit: 0, signal },
        (Some(exit), None) => Ended { exit, signal: 0 },
        (None, None) => Ended { exit: -1, signal: 0 },
    }
}

/// What stands before each line that a job printed: its arguments as they were given.
fn tag(given: &Given) -> Vec<u8> {
    let text = given.as_ref().map_or_else(Clone::clone, |args| args.join(" "));
    unescape(&text).into_owned()
}

fn write_all(to: &mut impl Write, bytes: &[u8], tag: Option<&[u8]>) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let written = match tag {
        None => to.write_all(bytes),
        Some(tag) => {
            let lines = bytes.split_inclusive(|b| *b == b'\n');
            lines.map(|line| [tag, b"\t", line].concat()).try_for_each(|l| to.write_all(&l))
        }
    };
    written.and_then(|()| to.flush()).map_err(|cause| Error {
        cause: Some(cause),
        ..Error::new(Exit::Environment, "cannot write the output of a job")
            .hint("the jobs' output is kept: give the same command again")
    })
}

/// The lists of an array, for the arguments of single jobs.
struct Lists {
    /// The first jobs of the chunks that are known; those of a list follow each other.
    starts: Vec<u64>,
    /// The first job behind them.
    ends: u64,
    recent: VecDeque<(u64, Vec<String>)>,
}

/// Lists that are kept in memory.
const RECENT: usize = 8;

impl Lists {
    fn given(&mut self, site: &Site, home: &std::path::Path, job: u64) -> Result<Given> {
        while self.ends <= job {
            let list = read_list(&site.queue, home, self.ends)?.unwrap_or_default();
            if list.is_empty() {
                return Ok(Ok(Vec::new()));
            }
            self.keep(self.ends, list);
        }
        let at = self.starts.partition_point(|start| *start <= job);
        let start = self.starts[at.saturating_sub(1)];
        if !self.recent.iter().any(|(of, _)| *of == start) {
            let list = read_list(&site.queue, home, start)?.unwrap_or_default();
            self.remember(start, list);
        }
        let lines = self.recent.iter().find(|(of, _)| *of == start).map(|(_, list)| list);
        let at = usize::try_from(job - start).unwrap_or(usize::MAX);
        let line = lines.and_then(|lines| lines.get(at)).map(String::as_str).unwrap_or_default();
        Ok(list::parse(line))
    }

    fn keep(&mut self, start: u64, list: Vec<String>) {
        self.ends = start + list.len() as u64;
        self.starts.push(self.ends);
        self.remember(start, list);
    }

    fn remember(&mut self, start: u64, list: Vec<String>) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((start, list));
    }
}
