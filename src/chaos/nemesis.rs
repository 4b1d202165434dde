//! What kills, stops and doubles the programs. Its choices come from a seed: the same seed gives the
//! same order of deeds and of names; which process has a name at that moment depends on the machine.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::error::Result;
use crate::sys::clock::{Clock, RealClock};
use crate::sys::fs::remove_tree;

use super::check::Death;
use super::dice::Dice;
use super::ground::{Ground, Program};

/// A disk that can be filled for a while.
pub trait Disk {
    /// Nothing can be written any more.
    fn fill(&mut self) -> Result<()>;
    /// It can again.
    fn free(&mut self) -> Result<()>;
}

/// How often each deed comes, in thousand.
#[derive(Debug, Clone, Copy)]
pub struct Temper {
    /// SIGSTOP, and SIGCONT later.
    pub stop: u64,
    /// Removal of `ready/`.
    pub unready: u64,
    /// A second monitor.
    pub monitor: u64,
    /// A second coordinator.
    pub coordinator: u64,
    /// A full disk, where there is one to fill.
    pub disk: u64,
    /// The longest that a worker stands still, in milliseconds.
    pub still_ms: u64,
}

/// How often deeds that begin with these words were done, such as `kill` or `kill monitor`.
pub fn count(deeds: &BTreeMap<String, u64>, words: &str) -> u64 {
    deeds.iter().filter(|(deed, _)| deed.starts_with(words)).map(|(_, n)| n).sum()
}

/// The longest that a program stands still which is no worker: nobody does its work meanwhile.
const PROGRAM_STILL: Duration = Duration::from_millis(2500);

/// The adversary.
pub struct Nemesis {
    dice: Dice,
    temper: Temper,
    names: Vec<String>,
    start: Vec<String>,
    stopped: Vec<(Instant, Program)>,
    full_until: Option<Instant>,
    disk: Option<Box<dyn Disk>>,
    children: Vec<Child>,
    absent: u32,
    /// How often each deed was done.
    pub deeds: BTreeMap<String, u64>,
    /// The workers that were killed.
    pub deaths: Vec<Death>,
}

impl Nemesis {
    /// An adversary for a fleet of `workers`.
    pub fn new(seed: u64, workers: u32, temper: Temper, disk: Option<Box<dyn Disk>>) -> Nemesis {
        let mut names: Vec<String> = (1..=workers).map(|i| format!("w{i}")).collect();
        // Each program as often as a quarter of the workers, at least as often as one.
        for _ in 0..(workers / 16).max(1) {
            names.extend(["monitor", "aggregator", "coordinator"].map(str::to_owned));
        }
        Nemesis {
            dice: Dice::new(seed),
            temper,
            names,
            start: ["start", "-n", &workers.to_string()].map(str::to_owned).to_vec(),
            stopped: Vec::new(),
            full_until: None,
            disk,
            children: Vec::new(),
            absent: 0,
            deeds: BTreeMap::new(),
            deaths: Vec::new(),
        }
    }

    /// How often deeds that begin with these words were done.
    pub fn count(&self, words: &str) -> u64 {
        count(&self.deeds, words)
    }

    fn note(&mut self, deed: &str, of: &str) {
        *self.deeds.entry(format!("{deed} {of}")).or_default() += 1;
    }

    /// A pause between two deeds.
    pub fn pause(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(least_ms + self.dice.roll(most_ms.saturating_sub(least_ms) + 1))
    }

    /// When something that stands still goes on.
    pub fn due(&self) -> Option<Instant> {
        self.stopped.iter().map(|(at, _)| *at).chain(self.full_until).min()
    }

    /// Lets go on what has stood still long enough, and brings back a coordinator where there is
    /// none: nobody else would.
    pub fn tend(&mut self, ground: &Ground) -> Result<Vec<String>> {
        let now = Instant::now();
        let mut said = Vec::new();
        if self.full_until.is_some_and(|at| at <= now)
            && let Some(disk) = self.disk.as_mut()
        {
            disk.free()?;
            self.full_until = None;
            said.push("freed the disk".to_owned());
        }
        let (due, rest) =
            std::mem::take(&mut self.stopped).into_iter().partition(|(at, _)| *at <= now);
        self.stopped = rest;
        let due: Vec<(Instant, Program)> = due;
        for (_, program) in due {
            if ground.signal(program.pid, Signal::SIGCONT) {
                said.push(format!("continued {} (pid {})", program.name, program.pid));
            }
        }
        self.children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_)) | Err(_)));
        Ok(said)
    }

    /// One deed; what it did, in words. Nothing where its victim is not there.
    pub fn act(&mut self, ground: &Ground) -> Result<Option<String>> {
        let Temper { stop, unready, monitor, coordinator, disk, still_ms } = self.temper;
        let deed = self.dice.roll(1000);
        let name = self.dice.pick(&self.names).cloned().unwrap_or_default();
        let still = Duration::from_millis(100 + self.dice.roll(still_ms));
        let newer = self.dice.chance(50);
        let mut below = 0;
        let mut is = |share: u64| {
            below += share;
            deed < below
        };
        if is(unready) {
            return Ok(self.remove_ready(ground));
        }
        if is(monitor) {
            return self.second(ground, "coord-monitor", "monitor").map(Some);
        }
        if is(coordinator) {
            return self.second(ground, "coord-coordinator", "coordinator").map(Some);
        }
        if is(disk) {
            return self.fill(still);
        }
        let stops = is(stop);
        // While the disk is full `coord workers` can be asked all the same: it only reads.
        let programs = ground.programs()?;
        self.revive(ground, &programs)?;
        // Of two with a name, either.
        let mut named = programs.iter().filter(|p| p.name == name);
        let victim = if newer { named.next_back() } else { named.next() };
        let Some(victim) = victim else { return Ok(None) };
        if stops { Ok(self.stop(ground, victim, still)) } else { Ok(self.kill(ground, victim)) }
    }

    fn kill(&mut self, ground: &Ground, victim: &Program) -> Option<String> {
        if !ground.signal(victim.pid, Signal::SIGKILL) {
            return None;
        }
        if victim.kind == "worker" {
            let at_ms = RealClock.wall_ms();
            self.deaths.push(Death { wid: victim.wid.clone(), at_ms });
        }
        self.note("kill", &victim.kind);
        let held = match victim.tasks.as_slice() {
            [] => String::new(),
            tasks => format!(", which held {}", tasks.join(" ")),
        };
        Some(format!("killed {} (pid {}){held}", victim.name, victim.pid))
    }

    fn stop(&mut self, ground: &Ground, victim: &Program, still: Duration) -> Option<String> {
        let is_still = self.stopped.iter().any(|(_, p)| p.pid == victim.pid);
        if is_still || !ground.signal(victim.pid, Signal::SIGSTOP) {
            return None;
        }
        let still = if victim.kind == "worker" { still } else { still.min(PROGRAM_STILL) };
        self.stopped.push((Instant::now() + still, victim.clone()));
        self.note("stop", &victim.kind);
        let ms = still.as_millis();
        Some(format!("stopped {} (pid {}) for {ms} ms", victim.name, victim.pid))
    }

    fn remove_ready(&mut self, ground: &Ground) -> Option<String> {
        // Somebody may put a name back meanwhile: what was removed is enough.
        let whole = remove_tree(&ground.dir.join(".coord/ready")).is_ok();
        self.note("remove", "ready/");
        Some(if whole { "removed ready/" } else { "removed most of ready/" }.to_owned())
    }

    fn second(&mut self, ground: &Ground, program: &str, word: &str) -> Result<String> {
        let queue = ground.dir.join(".coord");
        let child = ground.start(program, &["--dir", &queue.to_string_lossy()])?;
        self.note("second", word);
        let text = format!("started another {word} (pid {})", child.id());
        self.children.push(child);
        Ok(text)
    }

    fn fill(&mut self, still: Duration) -> Result<Option<String>> {
        let Some(disk) = self.disk.as_mut().filter(|_| self.full_until.is_none()) else {
            return Ok(None);
        };
        disk.fill()?;
        self.full_until = Some(Instant::now() + still);
        self.note("fill", "disk");
        Ok(Some(format!("filled the disk for {} ms", still.as_millis())))
    }

    /// Starts a coordinator if none was seen twice in a row. In the background: while another one
    /// starts at the same time, one of them gives up.
    fn revive(&mut self, ground: &Ground, programs: &[Program]) -> Result<()> {
        if programs.iter().any(|p| p.kind == "coordinator") {
            self.absent = 0;
            return Ok(());
        }
        self.absent += 1;
        if self.absent >= 2 {
            self.absent = 0;
            let args: Vec<&str> = self.start.iter().map(String::as_str).collect();
            self.children.push(ground.start("coord", &args)?);
        }
        Ok(())
    }

    /// Ends all of it: nothing stands still any more, the disk is free, a coordinator is there.
    pub fn rest(&mut self, ground: &Ground) -> Result<()> {
        if let (Some(disk), Some(_)) = (self.disk.as_mut(), self.full_until.take()) {
            disk.free()?;
        }
        for (_, program) in self.stopped.drain(..) {
            ground.signal(program.pid, Signal::SIGCONT);
        }
        self.tend(ground)?;
        self.revive(ground, &ground.programs()?)
    }
}
