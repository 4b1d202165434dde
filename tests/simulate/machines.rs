//! Machines, processes and jobs, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use coord::sys::host::ProcessId;
use coord::sys::remains::{Left, Why};
use coord::sys::wake::Wake;
use nix::libc;

use crate::world::{STEP_US, World};

/// What a process does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It wants to take a step.
    Runs,
    /// It waits for a wake-up, at most until then.
    Waits { until_us: u64 },
    /// It was stopped and goes on then.
    Stopped { until_us: u64 },
    /// It is dead.
    Dead,
}

/// A simulated process.
pub struct Process {
    /// For the trace.
    pub name: String,
    /// The machine it runs on.
    pub machine: usize,
    /// Its pid on that machine.
    pub id: ProcessId,
    /// What it does.
    pub state: State,
    /// Paths that it wants to hear of.
    pub bells: BTreeSet<PathBuf>,
    /// Deaths that it wants to hear of.
    pub deaths: BTreeMap<u64, ProcessId>,
    /// What it has not heard of yet.
    pub wakes: Vec<Wake>,
    /// Jobs of its own that have ended and were not reaped: pid and exit code.
    pub ended: Vec<(i32, Result<i32, i32>)>,
    /// How many steps it took.
    pub steps: u32,
}

/// A command that runs.
pub struct Job {
    /// Its pid.
    pub pid: i32,
    /// Who started it.
    pub owner: usize,
    /// The attempt.
    pub task: String,
    /// Its number.
    pub n: u32,
    /// Its fencing token.
    pub token: String,
    /// Steps that it still takes.
    pub left: u32,
    /// How it will end.
    pub code: i32,
    /// Whether it was asked to end.
    pub asked: bool,
    /// Whether it still runs.
    pub alive: bool,
    /// How it is to be ended.
    pub nature: Nature,
}

/// What can be read of a job's processes, and what can be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// They carry the mark of their worker.
    Plain,
    /// Their environment is wiped, or cannot be read.
    Hidden,
    /// They can be seen and not ended: another user's.
    Stubborn,
}

/// A machine.
pub struct Machine {
    /// Its boot.
    pub boot: u32,
    /// When it booted.
    pub booted_us: u64,
    /// How far its wall clock is off, milliseconds.
    pub skew_ms: i64,
}

impl World {
    /// Tells those who listen that a path was rung, or that something appeared in a directory.
    pub fn ring(&mut self, path: &Path) {
        let parent = path.parent().unwrap_or(path).to_owned();
        for process in self.processes.iter_mut().filter(|p| p.state != State::Dead) {
            if process.bells.contains(path) || process.bells.contains(&parent) {
                let wake = Wake::Bell(path.to_owned());
                if !process.wakes.contains(&wake) {
                    process.wakes.push(wake);
                }
            }
        }
    }

    /// Tells those who watch a path that it was removed.
    pub fn removed(&mut self, path: &Path) {
        for process in self.processes.iter_mut().filter(|p| p.state != State::Dead) {
            if process.bells.contains(path) && !process.wakes.contains(&Wake::Rescan) {
                process.wakes.push(Wake::Rescan);
            }
        }
    }

    /// Ends a process at once.
    pub fn kill(&mut self, who: usize, how: &str) {
        if self.processes[who].state == State::Dead {
            return;
        }
        let how = how.to_owned();
        self.tell(who, || how);
        let process = &mut self.processes[who];
        process.state = State::Dead;
        let (id, machine) = (process.id, process.machine);
        for other in self.processes.iter_mut().filter(|p| p.machine == machine) {
            let keys: Vec<u64> =
                other.deaths.iter().filter(|(_, p)| **p == id).map(|(key, _)| *key).collect();
            for key in keys {
                other.deaths.remove(&key);
                other.wakes.push(Wake::Died(key));
            }
        }
    }

    /// Kills a job, if it can be killed; else what is left of it.
    pub fn end_by_force(&mut self, at: usize) -> Option<Left> {
        let job = &self.jobs[at];
        if job.alive && job.nature == Nature::Stubborn {
            let process = ProcessId { pid: job.pid, start: 1 };
            let (name, user) = ("job".to_owned(), "another".to_owned());
            return Some(Left { process, name, user, why: Why::Refused });
        }
        self.end_job(at, Err(libc::SIGKILL));
        None
    }

    /// What the next job is like; in a schedule as the schedule says.
    pub fn nature(&mut self) -> Nature {
        if let Some(nature) = self.natures.pop_front() {
            return nature;
        }
        if self.quiet {
            return Nature::Plain;
        }
        match self.choices.below(12) {
            10 => Nature::Hidden,
            11 => Nature::Stubborn,
            _ => Nature::Plain,
        }
    }

    /// Ends a job; its owner hears of it.
    pub fn end_job(&mut self, at: usize, exit: Result<i32, i32>) {
        let job = &mut self.jobs[at];
        if !job.alive {
            return;
        }
        job.alive = false;
        let (owner, pid) = (job.owner, job.pid);
        let text = format!("job {}.{} ends: {exit:?}", job.task, job.n);
        self.tell(owner, || text);
        self.checker.job_ended(&self.jobs[at], exit);
        let process = &mut self.processes[owner];
        if process.state != State::Dead {
            process.ended.push((pid, exit));
            process.wakes.push(Wake::Signal(libc::SIGCHLD));
        }
    }

    /// One step of a job.
    pub fn step_job(&mut self, at: usize) {
        self.now_us += STEP_US;
        let job = &mut self.jobs[at];
        if job.asked && job.nature != Nature::Stubborn {
            self.end_job(at, Err(libc::SIGTERM));
        } else if job.left > 0 {
            job.left -= 1;
        } else {
            let code = job.code;
            self.end_job(at, Ok(code));
        }
    }
}
