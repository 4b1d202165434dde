//! A worker's stay at one array: what its jobs have in common, made once; starting a job, and what it
//! printed.
//!
//! The jobs of a worker all print into two files of the worker's, `jobs/W.out` and `jobs/W.err`, one
//! after the other: a job that prints nothing costs no file, and one that does no more than its bytes.
//! Where the output of a job begins and ends stands in its line of `jobs/W.log`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Cannot, Error, Exit, Result};
use crate::jobs::template::{Command as Pattern, Job, Template};
use crate::queue::array::{self, list::Given};
use crate::queue::claim::Lease;
use crate::queue::ids::short;
use crate::queue::procs::Proc;
use crate::queue::record::{Array, Line};
use crate::step;
use crate::sys::child;
use crate::sys::escaped::unescape_os;
use crate::sys::fs::{Dir, Log};
use crate::sys::host::Output;
use crate::sys::spawn::{Apart, Command, Environment, Wiring, find_program};

use super::environment;
use super::site::Site;

/// What the jobs of an array have in common.
pub struct Shift {
    /// The array, as it was when the worker came.
    pub lease: Lease,
    /// `tasks/T/jobs`.
    pub home: Dir,
    /// The round that the array is in.
    pub round: u32,
    /// How often a job is tried.
    pub tries: u32,
    template: Template,
    cwd: PathBuf,
    env: Environment,
    slot: u32,
    wid: String,
    programs: BTreeMap<String, PathBuf>,
    log: Log,
    out: Printed,
    err: Printed,
    /// How these are connected to a job. A simulated host connects nothing.
    wiring: Option<Wiring>,
}

/// A file that one job after the other prints into.
struct Printed {
    path: PathBuf,
    file: Output,
    /// Its length at the start of the job that runs.
    from: u64,
}

impl Printed {
    fn open(site: &Site, path: PathBuf) -> Result<Printed> {
        let file =
            site.queue.host.open_output(&path).cannot("open the output of the jobs", &path)?;
        let from = site.queue.fs.stat(&path).map_or(0, |stat| stat.len);
        Ok(Printed { path, file, from })
    }

    /// Offset and length of what was printed since the last call.
    fn take(&mut self, site: &Site) -> (u64, u64) {
        let from = self.from;
        self.from = self
            .file
            .len()
            .unwrap_or_else(|| site.queue.fs.stat(&self.path).map_or(from, |stat| stat.len));
        let length = self.from.saturating_sub(from);
        if length == 0 { (0, 0) } else { (from, length) }
    }
}

/// A job that runs.
#[derive(Debug)]
pub struct Running {
    /// Its number.
    pub job: u64,
    /// Which try it is.
    pub n: u32,
    /// The leader of its session or group; 0 of one that could not be started.
    pub pid: i32,
    /// When it started, milliseconds since 1970.
    pub at_ms: u64,
    /// The same by the monotonic clock.
    pub since_ms: u64,
    /// How it ended, once it has.
    pub exit: Option<child::Exit>,
    /// Why it could not be started.
    pub fault: Option<Fault>,
    /// Why it was asked to end, and when it is killed, by the monotonic clock.
    pub stopped: Option<(super::outcome::Stopped, u64)>,
}

/// Why a job could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In words.
    pub why: String,
    /// It lies in the job's arguments: another try would go the same way.
    pub lasting: bool,
}

/// The pattern of an array's jobs.
pub fn pattern(array: &Array) -> Pattern {
    Pattern {
        argv: array.command.clone(),
        sh: array.sh,
        many: array.many,
        names: array.names.clone(),
    }
}

impl Shift {
    /// Comes to the array that a lease is about; nothing of it is claimed yet.
    ///
    /// # Errors
    /// When its command makes no sense, or its files cannot be opened.
    pub fn new(site: &Site, me: &Proc, lease: Lease) -> Result<Shift> {
        let Some(array) = lease.spec.array.clone() else {
            return Err(Error::new(Exit::Internal, "a task that is no array has no jobs"));
        };
        let home = array::home(&site.queue, &lease.key.task);
        array::ensure_home(&site.queue, &home)?;
        let opened =
            site.queue.fs.open_dir(&home).cannot("open the directory of an array", &home)?;
        let file = |suffix: &str| home.join(format!("{}.{suffix}", me.wid));
        let path = file("log");
        let log = site.queue.fs.open_log(&path).cannot("open the log of the jobs", &path)?;
        let (out, err) = (Printed::open(site, file("out"))?, Printed::open(site, file("err"))?);
        let wiring = Wiring::new(&out.file, &err.file, Apart::from_terminal()).ok();
        let env = environment::of_array(site, me, &lease);
        let env = Environment::new(&env).cannot("make the environment of the jobs", &home)?;
        let digits: String = short(&me.wid).chars().filter(char::is_ascii_digit).collect();
        Ok(Shift {
            home: opened,
            round: array::round(&lease.task),
            tries: array.tries.max(1),
            template: Template::new(&pattern(&array))?,
            cwd: environment::directory(site, &array),
            env,
            slot: digits.parse().unwrap_or(1),
            wid: me.wid.clone(),
            programs: BTreeMap::new(),
            log,
            out,
            err,
            wiring,
            lease,
        })
    }

    /// The array's id.
    pub fn id(&self) -> &str {
        &self.lease.key.task
    }

    /// Starts a claimed job. One that cannot be started has a fault, which is its end.
    pub fn start(&mut self, site: &Site, job: u64, n: u32, given: Given) -> Running {
        let queue = &site.queue;
        let lasting = |why: String| Fault { why, lasting: true };
        let argv = given.and_then(|args| {
            let job = Job { seq: job, slot: self.slot, args };
            self.template.expand(&job).map_err(|e| e.one_line())
        });
        let started = argv.map_err(lasting).and_then(|argv| {
            let passing = |why| Fault { why, lasting: false };
            self.spawn(site, job, n, &argv).map_err(passing)
        });
        let (pid, fault) = match started {
            Ok(pid) => (pid, None),
            Err(fault) => (0, Some(fault)),
        };
        Running {
            job,
            n,
            pid,
            at_ms: queue.clock.wall_ms(),
            since_ms: queue.clock.mono_ms(),
            exit: None,
            fault,
            stopped: None,
        }
    }

    fn spawn(
        &mut self,
        site: &Site,
        job: u64,
        n: u32,
        argv: &[String],
    ) -> std::result::Result<i32, String> {
        let name = argv.first().cloned().unwrap_or_default();
        let argv: Vec<OsString> = argv.iter().map(|word| unescape_os(word)).collect();
        let cannot = |e: &dyn std::fmt::Display| format!("cannot start `{name}`: {e}");
        let number = job.to_string();
        let id = &self.lease.key.task;
        let token = format!("{id}/{job}.{n}@{}", self.wid);
        for (variable, value) in [
            ("COORD_JOB", number.as_str()),
            ("PARALLEL_SEQ", number.as_str()),
            ("COORD_ATTEMPT", n.to_string().as_str()),
            ("COORD_TOKEN", token.as_str()),
        ] {
            self.env.set(variable, value).map_err(|e| cannot(&e))?;
        }
        if !self.programs.contains_key(&name) {
            let word = unescape_os(&name);
            let found = find_program(&word, self.env.path(), &self.cwd).map_err(|e| cannot(&e))?;
            self.programs.insert(name.clone(), found);
        }
        let command = Command {
            argv: &argv,
            program: self.programs.get(&name).map(PathBuf::as_path),
            env: &self.env,
            cwd: &self.cwd,
            output: &self.out.file,
            errors: &self.err.file,
            wiring: self.wiring.as_ref(),
        };
        step!("jobs.spawn");
        site.queue.host.spawn(&command).map_err(|e| {
            if self.cwd.is_absolute() && !site.queue.fs.exists(&self.cwd) {
                return format!(
                    "cannot start `{name}`: its directory {} is gone",
                    self.cwd.display()
                );
            }
            cannot(&e)
        })
    }

    /// The line of a job that has ended, with the place of what it printed since it started.
    pub fn line(&mut self, site: &Site, running: &Running) -> Line {
        let (out, err) = (self.out.take(site), self.err.take(site));
        let (code, signal) = match running.exit {
            Some(child::Exit::Code(code)) => (Some(code), None),
            Some(child::Exit::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        Line {
            job: running.job,
            n: running.n,
            code,
            signal,
            at: running.at_ms,
            ms: site.queue.clock.mono_ms().saturating_sub(running.since_ms),
            out,
            err,
            ..Line::default()
        }
    }

    /// Where the lines go.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Writes what the worker has to say of a job to where the job's own errors stand.
    pub fn complain(&self, site: &Site, text: &str) {
        drop(site.queue.fs.append(&self.err.path, format!("coord: {text}\n").as_bytes()));
    }
}

/// What a job printed: the bytes of one of its files.
pub fn printed(site: &Site, home: &Path, file: &str, (from, length): (u64, u64)) -> Vec<u8> {
    let limit = usize::try_from(length).unwrap_or(usize::MAX);
    site.queue.fs.read(&home.join(file), from, limit).unwrap_or_default()
}
