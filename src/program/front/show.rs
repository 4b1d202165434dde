//! What a run shows of its jobs: their output, in the order in which they end or in that of the list,
//! and a line each in a log of the format of GNU parallel.
//!
//! The numbers of the jobs that were shown are kept in `jobs/shown`, so that a run that is given again
//! after a crash shows what is missing, and nothing twice but what was being shown at that moment.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Cannot, Result};
use crate::jobs::exit::Ended;
use crate::jobs::halt::Counts;
use crate::jobs::joblog;
use crate::jobs::results::{Paths, Results};
use crate::jobs::template::{Job, Template};
use crate::queue::array::list::Given;
use crate::queue::array::live::{self, Live, Which};
use crate::queue::ids::short;
use crate::queue::record::Line;
use crate::run::site::Site;
use crate::sys::escaped::unescape;
use crate::sys::fs::Log;
use crate::sys::through::Through;

use super::lists::Lists;
use super::live::{AsItComes, Followed, Part};
use super::numbers::Numbers;
use super::pour::{Pour, each_piece};

/// How jobs are shown.
#[derive(Debug, Clone, Default)]
pub struct Style {
    /// In the order of the list.
    pub keep_order: bool,
    /// With the arguments before each line.
    pub tag: bool,
    /// While they run, not when they are over.
    pub as_it_comes: Option<AsItComes>,
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
    joblog: Option<Through>,
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
    /// Where the output goes.
    pub to: Pour,
    followed: Option<Followed>,
    /// Says something to the person at the terminal.
    tell: fn(&str),
    /// How many jobs have results that could not be written.
    pub without_results: u64,
}

impl Show {
    /// Whether nobody reads any more what is to be shown.
    pub fn is_unread(&self) -> bool {
        self.to.unread
    }

    /// Shows the jobs in `home`. What was shown by an earlier run is not shown again.
    pub fn new(
        site: &Site,
        home: PathBuf,
        template: Template,
        style: Style,
        tell: fn(&str),
    ) -> Result<Show> {
        let path = home.join("shown");
        let log = site.queue.fs.open_log(&path).cannot("note what was shown", &path)?;
        let (mut shown, mut shown_before) = (Numbers::default(), Numbers::default());
        let any = each_shown(site, &path, |job, of| match of.cmp(&style.round) {
            Ordering::Equal => shown.insert(job),
            Ordering::Less => shown_before.insert(job),
            Ordering::Greater => false,
        })?;
        let joblog = match &style.joblog {
            // As GNU parallel: a new run begins a new log.
            Some(path) => Some(open_joblog(path, !any)?),
            None => None,
        };
        Ok(Show {
            site: site.clone(),
            lists: Lists::new(),
            followed: style.as_it_comes.map(Followed::new),
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
            to: Pour::default(),
            tell,
            without_results: 0,
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
        if !is_final || is_past {
            return self.end_of_try(of, &line, !is_past);
        }
        if !self.over.insert(line.job) {
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

    /// Whether what jobs print is shown as it comes.
    pub fn is_followed(&self) -> bool {
        self.followed.is_some()
    }

    /// Shows what jobs have printed that run, if it is shown as it comes. True: there was something.
    pub fn look(&mut self) -> Result<bool> {
        let Some(mut followed) = self.followed.take() else { return Ok(false) };
        let seen = self.look_at(&mut followed);
        self.followed = Some(followed);
        seen
    }

    fn look_at(&mut self, followed: &mut Followed) -> Result<bool> {
        let mut any = false;
        for live in live::all(&self.site.queue, &self.home)? {
            let known = self.over.contains(live.job) || self.shown.contains(live.job);
            let turn = !self.style.keep_order || live.job == self.next;
            if known || !turn || !followed.runs(&live) || self.to.unread {
                continue;
            }
            let tag = self.tag(live.job)?;
            let (queue, home) = (&self.site.queue, &self.home);
            any |= followed.show(queue, home, &live, tag.as_deref(), &mut self.to)?;
        }
        Ok(any)
    }

    /// A try is over and the job is not: of what was shown in part, the rest is shown.
    fn end_of_try(&mut self, of: &str, line: &Line, again: bool) -> Result<()> {
        let followed = self.followed.as_mut();
        match followed.and_then(|followed| followed.end(line.job, line.n, again)) {
            Some(parts) => self.print(of, line, parts),
            None => Ok(()),
        }
    }

    /// Shows what a job printed, but for the parts that were shown before.
    fn print(&mut self, of: &str, line: &Line, parts: [Part; 2]) -> Result<()> {
        let tag = self.tag(line.job)?;
        for (which, mut part) in Which::BOTH.into_iter().zip(parts) {
            let (path, (from, length)) = self.kept(of, line, which);
            let rest = (from + part.shown, length.saturating_sub(part.shown));
            let to = &mut self.to;
            each_piece(&self.site.queue, &path, rest, |bytes| {
                to.write(which, bytes, tag.as_deref(), &mut part.within)?;
                Ok(!to.unread)
            })?;
        }
        Ok(())
    }

    /// Where an output of a job is kept: the file, and its place there.
    fn kept(&self, of: &str, line: &Line, which: Which) -> (PathBuf, (u64, u64)) {
        let place = if which == Which::Out { line.out } else { line.err };
        (self.home.join(format!("{of}.{}", which.suffix())), place)
    }

    fn tag(&mut self, job: u64) -> Result<Option<Vec<u8>>> {
        if !self.style.tag {
            return Ok(None);
        }
        Ok(Some(tag(&self.lists.given(&self.site, &self.home, job)?)))
    }

    /// Shows what waits for jobs that do not end in this run.
    pub fn finish(&mut self) -> Result<()> {
        for (_, (of, line)) in std::mem::take(&mut self.waiting) {
            self.emit(&of, &line)?;
        }
        Ok(())
    }

    fn emit(&mut self, of: &str, line: &Line) -> Result<()> {
        let followed = self.followed.as_mut();
        let parts = followed.and_then(|followed| followed.end(line.job, line.n, false));
        let silent = line.out.1 == 0 && line.err.1 == 0;
        let plain = self.joblog.is_none() && self.style.results.is_none();
        let earlier = line.round < self.style.round;
        let known = if earlier { &self.shown_before } else { &self.shown };
        if known.contains(line.job) || (silent && plain) || self.to.unread {
            return Ok(());
        }
        self.print(of, line, parts.unwrap_or_default())?;
        if self.to.unread {
            // It is shown to who gives the same command again.
            return Ok(());
        }
        if !plain {
            self.write_down(of, line)?;
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

    /// Writes the files of a job that the user wants.
    fn write_down(&mut self, of: &str, line: &Line) -> Result<()> {
        let given = self.lists.given(&self.site, &self.home, line.job)?;
        let worker = Live::worker(of);
        // Of a job whose worker died before it told, only the name says it.
        let slot: String = short(&worker).chars().filter(char::is_ascii_digit).collect();
        let slot = if line.slot > 0 { line.slot } else { slot.parse().unwrap_or(1) };
        let command = given.clone();
        let args = given.unwrap_or_default();
        let job = Job { seq: line.job, slot, args };
        if let Some(results) = &self.style.results {
            let paths = results.paths(&job, self.style.columns);
            let written = self.write_results(&paths, of, line);
            if let Err(e) = written {
                self.without_results += 1;
                if self.without_results == 1 {
                    let text =
                        format!("warning: the results of job {}: {}", line.job, e.one_line());
                    (self.tell)(&text);
                }
            }
        }
        let Some(log) = &self.joblog else { return Ok(()) };
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
        match log.write_all(text.as_bytes()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                (self.tell)(&format!("warning: nobody reads {} any more", log.path.display()));
                self.joblog = None;
                Ok(())
            }
            other => other.cannot("append to", &log.path),
        }
    }

    fn write_results(&self, paths: &Paths, of: &str, line: &Line) -> Result<()> {
        let write = |path: &Path, write: &mut dyn FnMut(&Through) -> Result<()>| -> Result<()> {
            Through::make_room(path).cannot("make a directory for results", path)?;
            write(&Through::once(path).cannot("write a result", path)?)
        };
        for (which, path) in [(Which::Out, &paths.stdout), (Which::Err, &paths.stderr)] {
            let (from, place) = self.kept(of, line, which);
            write(path, &mut |to| {
                each_piece(&self.site.queue, &from, place, |bytes| {
                    to.write_all(bytes).cannot("write a result", path).map(|()| true)
                })
            })?;
        }
        write(&paths.seq, &mut |to| {
            to.write_all(line.job.to_string().as_bytes()).cannot("write a result", &paths.seq)
        })
    }
}

fn open_joblog(path: &Path, fresh: bool) -> Result<Through> {
    let log = Through::log(path, fresh).cannot("open the log of jobs", path)?;
    if fresh {
        log.write_all(joblog::HEADER.as_bytes()).cannot("write the log of jobs", path)?;
    }
    Ok(log)
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
        (_, signal) if line.timed_out => Ended { exit: -1, signal: signal.unwrap_or(0) },
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
