//! A worker's stay at one array: what its jobs have in common, made once; starting a job, and what is to
//! be told of it when it is over.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Cannot, Error, Exit, Result};
use crate::jobs::template::{Command as Pattern, Job, Template};
use crate::queue::array::{self, list::Given, live::Which};
use crate::queue::claim::Lease;
use crate::queue::procs::Proc;
use crate::queue::record::{Array, Line};
use crate::step;
use crate::sys::alive::EnvMark;
use crate::sys::child;
use crate::sys::escaped::unescape_os;
use crate::sys::fs::{Dir, Log};
use crate::sys::host::Host;
use crate::sys::remains::{Left, Traces};
use crate::sys::spawn::{Apart, Command, Environment, Wiring, find_program, will_pass};

use super::environment;
use super::printed::Printed;
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
    apart: Apart,
    /// How these are connected to a job. A simulated host connects nothing.
    wiring: Option<Wiring>,
    /// `coord run --keep-children`.
    kept: Option<Orphans>,
}

/// Where the orphans of jobs go whose children are kept. While a job runs they do not come to this process:
/// what jobs have left is then not below it when a later one is ended. They do once a job is ended by force,
/// and when the stay is over. Nor is this process in its control group meanwhile.
struct Orphans {
    host: Arc<dyn Host>,
    had_group: bool,
}

impl Orphans {
    fn kept(host: &Arc<dyn Host>) -> Orphans {
        Orphans { host: host.clone(), had_group: host.enter_group(false) }
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        self.host.adopt_orphans(true);
        if self.had_group {
            self.host.enter_group(true);
        }
    }
}

/// After this time what a job prints can be seen while it runs, milliseconds: by then most are over.
const SHOW_MS: u64 = 50;

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
    /// Why it could not be started yet.
    pub delayed: Option<String>,
    /// Its program is being written.
    pub is_being_written: bool,
    /// Why it was asked to end, and when it is killed, by the monotonic clock.
    pub stopped: Option<(super::outcome::Stopped, u64)>,
    /// When what it prints is to be seen, by the monotonic clock; `None` once it can be.
    pub show_at_ms: Option<u64>,
    /// Every process of its tree has ended, so nobody can hold its files.
    pub alone: bool,
    /// Something of its tree could not be ended.
    pub left: bool,
}

/// Why a job could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In words.
    pub why: String,
    /// It lies in the job's arguments: another try would go the same way.
    pub lasting: bool,
}

/// Why a job was not started.
enum NotStarted {
    /// It cannot be.
    Never(Fault),
    /// The machine refuses it for now. True: its program is being written.
    Yet(String, bool),
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
    /// Comes to the array that a lease is about; nothing of it is claimed yet. `slot`: the number of this
    /// worker, which `{%}` stands for.
    ///
    /// # Errors
    /// When its command makes no sense, or its files cannot be opened.
    pub fn new(site: &Site, me: &Proc, lease: Lease, slot: u32) -> Result<Shift> {
        let Some(array) = lease.spec.array.clone() else {
            return Err(Error::new(Exit::Internal, "a task that is no array has no jobs"));
        };
        let home = array::home(&site.queue, &lease.key.task);
        array::ensure_home(&site.queue, &home)?;
        let opened =
            site.queue.fs.open_dir(&home).cannot("open the directory of an array", &home)?;
        let path = home.join(format!("{}.log", me.wid));
        let log = site.queue.fs.open_log(&path).cannot("open the log of the jobs", &path)?;
        let printed = |which| Printed::new(&site.queue, &home, &me.wid, which);
        let (out, err) = (printed(Which::Out)?, printed(Which::Err)?);
        let keeps = lease.spec.keeps_children();
        let apart = apart(keeps);
        let wiring = wiring(&out, &err, apart);
        let env = environment::of_array(site, me, &lease);
        let env = Environment::new(&env).cannot("make the environment of the jobs", &home)?;
        Ok(Shift {
            home: opened,
            round: array::round(&lease.task),
            tries: array.tries.max(1),
            template: Template::new(&pattern(&array))?,
            cwd: environment::directory(site, &array),
            env,
            slot,
            wid: me.wid.clone(),
            programs: BTreeMap::new(),
            log,
            out,
            err,
            apart,
            wiring,
            kept: keeps.then(|| Orphans::kept(&site.queue.host)),
            lease,
        })
    }

    /// Asks a job to end. From now on everything of it has to.
    pub fn ask_to_end(&self, site: &Site, running: &Running) {
        if let Some(Orphans { host, .. }) = &self.kept {
            host.adopt_orphans(true);
        }
        site.queue.host.ask_to_end(running.pid);
    }

    /// Ends what runs of a job. Returns the ends that were seen, and what is left.
    pub fn end_tree(
        &self,
        site: &Site,
        running: &Running,
        spare: &[i32],
        patience: Duration,
    ) -> (Vec<(i32, child::Exit)>, Vec<Left>) {
        let host = &site.queue.host;
        let (ended, mut left) = host.end_children(spare, patience);
        if self.kept.is_some() {
            // What it has left before it was asked to end is not below this process. Its token tells it from
            // what is kept of the jobs before.
            let token = EnvMark::attempt(&self.token(running.job, running.n));
            left.extend(host.end_left(&Traces::of_mark(token), spare, patience));
        }
        (ended, left)
    }

    /// What a job has started may go on when its command has exited by itself.
    pub fn keeps_children(&self) -> bool {
        self.kept.is_some()
    }

    fn token(&self, job: u64, n: u32) -> String {
        array::token(self.id(), job, n, &self.wid)
    }

    /// The array's id.
    pub fn id(&self) -> &str {
        &self.lease.key.task
    }

    /// Starts a claimed job. One that cannot be started has a fault, which is its end.
    pub fn start(&mut self, site: &Site, job: u64, n: u32, given: Given) -> Running {
        let queue = &site.queue;
        let lasting = |why: String| NotStarted::Never(Fault { why, lasting: true });
        let argv = given.and_then(|args| {
            let job = Job { seq: job, slot: self.slot, args };
            self.template.expand(&job).map_err(|e| e.one_line())
        });
        let started = argv.map_err(lasting).and_then(|argv| self.spawn(site, job, n, &argv));
        let (pid, fault, delayed, is_being_written) = match started {
            Ok(pid) => (pid, None, None, false),
            Err(NotStarted::Never(fault)) => (0, Some(fault), None, false),
            Err(NotStarted::Yet(why, written)) => (0, None, Some(why), written),
        };
        Running {
            job,
            n,
            pid,
            at_ms: queue.clock.wall_ms(),
            since_ms: queue.clock.mono_ms(),
            exit: None,
            fault,
            delayed,
            is_being_written,
            stopped: None,
            show_at_ms: Some(queue.clock.mono_ms() + SHOW_MS),
            alone: false,
            left: false,
        }
    }

    fn spawn(
        &mut self,
        site: &Site,
        job: u64,
        n: u32,
        argv: &[String],
    ) -> std::result::Result<i32, NotStarted> {
        let name = argv.first().cloned().unwrap_or_default();
        let argv: Vec<OsString> = argv.iter().map(|word| unescape_os(word)).collect();
        let fault = |why: String| NotStarted::Never(Fault { why, lasting: false });
        let cannot = |e: &std::io::Error| {
            let why = format!("cannot start `{name}`: {e}");
            match will_pass(e) {
                true => NotStarted::Yet(why, e.raw_os_error() == Some(nix::libc::ETXTBSY)),
                false => fault(why),
            }
        };
        let number = job.to_string();
        let token = self.token(job, n);
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
            output: self.out.own().output(),
            input: None,
            errors: self.err.own().output(),
            wiring: self.wiring.as_ref(),
        };
        if let Some(Orphans { host, .. }) = &self.kept {
            host.adopt_orphans(false);
        }
        step!("jobs.spawn");
        site.queue.host.spawn(&command).map_err(|e| {
            if self.cwd.is_absolute() && !site.queue.fs.exists(&self.cwd) {
                let dir = self.cwd.display();
                return fault(format!("cannot start `{name}`: its directory {dir} is gone"));
            }
            cannot(&e)
        })
    }

    /// Sees to it that there are files for the output of the next job.
    pub fn renew(&mut self, site: &Site) -> Result<()> {
        let (out, err) = (self.out.renew(&site.queue)?, self.err.renew(&site.queue)?);
        if out || err {
            self.wiring = wiring(&self.out, &self.err, self.apart);
        }
        Ok(())
    }

    /// Lets others see what a job prints while it runs.
    pub fn show(&mut self, site: &Site, running: &mut Running) {
        running.show_at_ms = None;
        if self.kept.is_none() {
            // It takes as long as a short job: those who run only such have no group of their own.
            site.queue.host.enter_group(true);
        }
        let (job, n) = (running.job, running.n);
        let out = self.out.show(&site.queue, job, n);
        if let Err(e) = out.and_then(|()| self.err.show(&site.queue, job, n)) {
            tracing::warn!(error = %e.one_line(), "who follows the job sees it later");
        }
    }

    /// The line of a job that has ended, without its output.
    pub fn line(&self, site: &Site, running: &Running) -> Line {
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
            slot: self.slot,
            ..Line::default()
        }
    }

    /// Keeps what a job that has ended has printed, and says in its line where. Called again after an
    /// error, it does the rest.
    ///
    /// # Errors
    /// The disk is full, for instance.
    pub fn keep(&mut self, running: &Running, line: &mut Line) -> Result<()> {
        let (out, err) = (self.out.left()?, self.err.left()?);
        // What the worker has to say of a job stands where the job's own errors do.
        let fault = running.fault.as_ref().map(|fault| format!("coord: {}\n", fault.why));
        if out.len > 0 || err.len > 0 || fault.is_some() {
            step!("jobs.keep");
        }
        line.out = self.out.take(out, running.alone, "")?;
        line.err = self.err.take(err, running.alone, &fault.unwrap_or_default())?;
        Ok(())
    }

    /// Where the lines go.
    pub fn log(&self) -> &Log {
        &self.log
    }
}

/// How the files of the jobs are connected to them. A simulated host connects nothing.
fn wiring(out: &Printed, err: &Printed, apart: Apart) -> Option<Wiring> {
    Wiring::new(out.own().output(), err.own().output(), apart).ok()
}

/// What stays in the session of this worker is ended with it, and what is kept is not.
fn apart(keeps: bool) -> Apart {
    if keeps { Apart::Session } else { Apart::from_terminal() }
}
