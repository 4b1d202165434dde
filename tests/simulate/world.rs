//! The simulated world: machines, processes, jobs, time, and who goes next.
//!
//! One call of the trait `Fs` is one step. Before each step the world decides whether somebody else
//! goes first, and whether the process dies, stands still for a while, or gets an error. All of it
//! comes from `Choices`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coord::chaos::dice::Dice;
use coord::sys::host::ProcessId;
use nix::libc;

use crate::checker::Checker;
use crate::choices::Choices;
use crate::disk::Ino;
use crate::machines::{Job, Machine, Nature, Process, State};
use crate::memory::MemoryFs;
use crate::policy::Policy;

/// Where the queue lies.
pub const ROOT: &str = "/q/.coord";
/// Wall time when a run begins: 2026-01-01.
const EPOCH_MS: u64 = 1_767_225_600_000;
/// How long one step takes.
pub const STEP_US: u64 = 100;

/// Steps after which a run counts as hung. A process that never waits would not come back otherwise.
const STEPS_MAX: u64 = 1_000_000;

/// What may still go wrong in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Budget {
    /// Processes that die.
    pub crashes: u32,
    /// Processes that are stopped for a while.
    pub stops: u32,
    /// Calls that fail.
    pub errors: u32,
    /// Calls that have their effect and fail nevertheless.
    pub lost_replies: u32,
    /// Listings as they were before.
    pub stale: u32,
    /// Acts of the nemesis: ready/ removed, clocks set, hints dropped in.
    pub acts: u32,
}

/// Everything.
pub struct World {
    pub fs: MemoryFs,
    pub choices: Choices,
    pub policy: Policy,
    pub budget: Budget,
    pub machines: Vec<Machine>,
    pub processes: Vec<Process>,
    pub jobs: Vec<Job>,
    /// What a schedule wants the next jobs to be like.
    pub natures: VecDeque<Nature>,
    pub checker: Checker,
    pub now_us: u64,
    pub steps: u64,
    /// Whether the file system is one that several machines share, whose replies may lie.
    pub shared: bool,
    /// Whose the records are, where there are several users.
    pub owners: crate::owners::Owners,
    /// Nobody else goes, nothing goes wrong: for preparations and for the final look.
    pub quiet: bool,
    /// Likelihood of a fault at a step, of a million.
    pub fault_rate: u32,
    /// The first rule that was seen broken.
    pub violation: Option<String>,
    /// What happened, if somebody wants to read it.
    pub trace: Option<Vec<String>>,
    /// Faults that were injected, by kind.
    pub injected: BTreeMap<&'static str, u32>,
    /// What directories held before their last changes: a listing may still show it.
    pub before: BTreeMap<Ino, Vec<std::sync::Arc<BTreeMap<String, Ino>>>>,
    /// A register was published just now: faults are likelier here.
    pub hot: bool,
    /// Where a schedule that was written by hand wants a process to stand still.
    pub halt: Option<crate::stage::Halt>,
    /// A step to which this happens.
    pub fated: Option<(crate::stage::Halt, Fate)>,
    /// The same by the number of steps that a process has taken.
    pub halt_at: Option<(usize, u32)>,
    bits: Dice,
    pids: i32,
}

/// What a process that arrives at a step has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Take the step.
    Go,
    /// Let others go first.
    Yield,
    /// Die.
    Die,
    /// Take no step and get this error.
    Fail(i32),
    /// Take the step and get this error.
    Lie(i32),
    /// Take the step and be told that it worked, although the name was another's.
    Flatter,
    /// See what was there before.
    Stale,
}

impl World {
    /// A world without processes.
    pub fn new(seed: u64, choices: Choices, fs: MemoryFs) -> World {
        World {
            fs,
            choices,
            policy: Policy::default(),
            budget: Budget::default(),
            machines: vec![Machine { boot: 1, booted_us: 0, skew_ms: 0 }],
            processes: Vec::new(),
            jobs: Vec::new(),
            checker: Checker::default(),
            now_us: 10_000_000,
            steps: 0,
            shared: false,
            owners: crate::owners::Owners::default(),
            natures: VecDeque::new(),
            quiet: true,
            fault_rate: 0,
            violation: None,
            trace: None,
            injected: BTreeMap::new(),
            before: BTreeMap::new(),
            hot: false,
            halt: None,
            fated: None,
            halt_at: None,
            bits: Dice::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0xb175),
            pids: 100,
        }
    }

    /// Adds a process; it takes its first step when it is chosen.
    pub fn add_process(&mut self, name: &str, machine: usize) -> usize {
        self.pids += 1;
        let id = ProcessId { pid: self.pids, start: u64::from(self.pids.unsigned_abs()) * 10 };
        self.processes.push(Process {
            name: name.to_owned(),
            machine,
            id,
            state: State::Runs,
            bells: BTreeSet::new(),
            deaths: BTreeMap::new(),
            wakes: Vec::new(),
            ended: Vec::new(),
            steps: 0,
        });
        self.processes.len() - 1
    }

    /// A pid for a job.
    pub fn next_pid(&mut self) -> i32 {
        self.pids += 1;
        self.pids
    }

    /// Random bits for ids. Not a decision: they only have to differ.
    pub fn random(&mut self) -> u64 {
        self.bits.number()
    }

    /// Wall time on a machine.
    pub fn wall_ms(&self, machine: usize) -> u64 {
        (EPOCH_MS + self.now_us / 1000).saturating_add_signed(self.machines[machine].skew_ms)
    }

    /// A line of the trace.
    pub fn tell(&mut self, who: usize, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let name = self.processes.get(who).map_or("world", |p| p.name.as_str());
            trace.push(format!("{:>11.4} {name:<9} {}", self.now_us as f64 / 1e6, what()));
        }
    }

    /// Notes the first broken rule.
    pub fn violate(&mut self, what: String) {
        if self.violation.is_none() {
            self.tell(usize::MAX, || format!("VIOLATION {what}"));
            self.violation = Some(what);
        }
    }

    /// Decides what happens to a process that wants to take a step. `mutates`: it would change
    /// something; `listing`: it reads a directory; `links`: it links a name.
    pub fn arrive(&mut self, me: usize, what: &crate::platform::Op) -> Fate {
        if self.processes[me].state == State::Dead {
            return Fate::Die;
        }
        self.steps += 1;
        self.processes[me].steps += 1;
        self.now_us += STEP_US;
        let wall_ns = self.wall_ms(0) * 1_000_000 + self.now_us % 1000 * 1000;
        self.fs.set_now_ns(wall_ns);
        if self.violation.is_some() {
            return Fate::Yield;
        }
        if self.steps > STEPS_MAX {
            // It never waits for anything.
            self.violate("hung: a process does the same for ever".to_owned());
            return Fate::Yield;
        }
        if self.halt_at.is_some_and(|(who, step)| who == me && self.processes[me].steps > step) {
            self.halt_at = None;
            self.processes[me].steps -= 1;
            return Fate::Yield;
        }
        if self.halt.as_ref().is_some_and(|halt| halt.is(me, what)) {
            self.halt = None;
            return Fate::Yield;
        }
        if let Some((_, fate)) = self.fated.take_if(|(step, _)| step.is(me, what)) {
            return fate;
        }
        if self.quiet {
            return Fate::Go;
        }
        let fate = self.fault(what);
        let fate = match fate {
            Fate::Go if self.prefers_another(me) => Fate::Yield,
            other => other,
        };
        self.settle_fate(me, fate)
    }

    fn settle_fate(&mut self, me: usize, fate: Fate) -> Fate {
        if fate == Fate::Die {
            self.kill(me, "crashes");
        }
        fate
    }

    fn fault(&mut self, what: &crate::platform::Op) -> Fate {
        let b = self.budget;
        let rate = match self.hot {
            true => self.fault_rate * 8,
            false => self.fault_rate,
        };
        let rate = |left: u32| if left > 0 { rate } else { 0 };
        let (mutates, lists, links) = (what.mutates(), what.lists(), what.links());
        let weights = [
            rate(b.crashes),
            rate(b.stops),
            if mutates || what.reads() { rate(b.errors) } else { 0 },
            if mutates { rate(b.lost_replies) } else { 0 },
            if lists && self.shared { rate(b.stale) * 4 } else { 0 },
        ];
        if weights.iter().all(|w| *w == 0) {
            return Fate::Go;
        }
        match self.choices.pick(&weights) {
            1 => {
                self.budget.crashes -= 1;
                self.count("crash");
                Fate::Die
            }
            2 => {
                self.budget.stops -= 1;
                self.count("stop");
                // Shorter than a lease, about as long, a little longer, much longer.
                let us =
                    [20_000, 8_050_000, 11_000_000, 90_000_000][self.choices.below(4) as usize];
                self.stop_current(us);
                Fate::Yield
            }
            3 => {
                self.budget.errors -= 1;
                self.count("error");
                let code = if mutates {
                    [libc::EIO, libc::ENOSPC, libc::EMFILE][self.choices.below(3) as usize]
                } else {
                    [libc::EIO, libc::EMFILE][self.choices.below(2) as usize]
                };
                Fate::Fail(code)
            }
            4 => {
                self.budget.lost_replies -= 1;
                self.count("lost reply");
                if links && self.shared {
                    // A retransmission that meets its own effect, or one that is told "fine".
                    return match self.choices.below(3) {
                        0 => Fate::Lie(libc::EIO),
                        1 => Fate::Lie(libc::EEXIST),
                        _ => Fate::Flatter,
                    };
                }
                Fate::Lie(libc::EIO)
            }
            5 => {
                self.budget.stale -= 1;
                self.count("stale listing");
                Fate::Stale
            }
            _ => Fate::Go,
        }
    }

    /// Counts an injected fault.
    pub fn count(&mut self, kind: &'static str) {
        *self.injected.entry(kind).or_default() += 1;
    }

    fn stop_current(&mut self, us: u64) {
        let until_us = self.now_us + us;
        if let Some(me) = self.policy.current
            && let Some(process) = self.processes.get_mut(me)
        {
            process.state = State::Stopped { until_us };
            self.tell(me, || format!("is stopped for {} ms", us / 1000));
        }
    }

    /// Who could take a step now: processes by their number, then jobs.
    pub fn runnable(&self) -> Vec<Actor> {
        let ready = |p: &Process| match p.state {
            State::Runs => true,
            State::Waits { until_us } => !p.wakes.is_empty() || until_us <= self.now_us,
            State::Stopped { until_us } => until_us <= self.now_us,
            State::Dead => false,
        };
        let processes = self.processes.iter().enumerate().filter(|(_, p)| ready(p));
        let mut all: Vec<Actor> = processes.map(|(i, _)| Actor::Process(i)).collect();
        let jobs = self.jobs.iter().enumerate().filter(|(_, job)| job.alive);
        all.extend(jobs.map(|(i, _)| Actor::Job(i)));
        if self.budget.acts > 0 && !self.quiet {
            all.push(Actor::Nemesis);
        }
        all
    }

    fn prefers_another(&mut self, me: usize) -> bool {
        let mut others = self.runnable();
        others.retain(|a| *a != Actor::Process(me));
        if others.is_empty() {
            return false;
        }
        let mut all = vec![Actor::Process(me)];
        all.append(&mut others);
        let next = self.choose(&all);
        self.policy.chosen = Some(next);
        next != Actor::Process(me)
    }

    fn choose(&mut self, all: &[Actor]) -> Actor {
        let of = u32::try_from(all.len()).unwrap_or(1);
        let (policy, step) = (&mut self.policy, self.steps);
        let choice = self.choices.proposed(of, |dice| policy.propose(dice, step, all));
        all[choice as usize]
    }

    /// Who goes next. Time passes until somebody can. `None`: nobody ever will.
    pub fn next_actor(&mut self) -> Option<Actor> {
        let mut all = self.runnable();
        if all.iter().all(|a| *a == Actor::Nemesis) {
            let deadlines = self.processes.iter().filter_map(|p| match p.state {
                State::Waits { until_us } | State::Stopped { until_us } => Some(until_us),
                _ => None,
            });
            let until_us = deadlines.filter(|us| *us < u64::MAX).min();
            match until_us {
                Some(until_us) => self.now_us = self.now_us.max(until_us),
                None if all.is_empty() => return None,
                None => {}
            }
            all = self.runnable();
        }
        let chosen = self.policy.chosen.take();
        let next = match chosen.filter(|actor| all.contains(actor)) {
            Some(actor) => actor,
            None if all.is_empty() => return None,
            None => {
                let (all, _) = (all, ());
                self.choose(&all)
            }
        };
        self.policy.current = match next {
            Actor::Process(i) => Some(i),
            _ => None,
        };
        Some(next)
    }
}

/// Who can take a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A process.
    Process(usize),
    /// A job.
    Job(usize),
    /// Whoever does harm from outside.
    Nemesis,
}
