//! A trial: tasks come in, programs work, the nemesis does its worst; then it rests, everything has
//! to be done, and the report says what came of it.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::error::{Cannot, Error, Exit, Result};
use crate::sys::wake::{Waiter, Wake};

use super::check::{Answers, Fault, Kind, Report, check};
use super::dice::Dice;
use super::ground::{Ground, write};
use super::nemesis::{Nemesis, Temper, count};
use super::pile::{Mix, Pile, Wanted};
use super::witness;

/// How large a trial is.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Repeats all choices.
    pub seed: u64,
    /// Size of the fleet.
    pub workers: u32,
    /// The nemesis goes on for so long; with `tasks`, until they are done if that is earlier.
    pub time: Option<Duration>,
    /// Tasks to be done; without it, as many as get done in the time.
    pub tasks: Option<u64>,
    /// It goes on until each of these deeds was done so often; `add` is a killed command that adds.
    pub least: Vec<(&'static str, u64)>,
    /// Tasks that are added at once; four times as many are kept open.
    pub batch: u64,
    /// Between two deeds of the nemesis, in milliseconds: least, most.
    pub gap_ms: (u64, u64),
    /// What the tasks are like.
    pub mix: Mix,
    /// What the nemesis is like.
    pub temper: Temper,
    /// Of a hundred commands that add tasks, so many are killed while they do.
    pub killed_adds: u64,
    /// The queue must be done so long after the nemesis rests.
    pub patience: Duration,
}

/// What a trial came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the checker says.
    pub report: Report,
    /// What the nemesis did.
    pub deeds: BTreeMap<String, u64>,
    /// Commands that were killed while they added tasks.
    pub killed_adds: u64,
    /// Somebody ended it early.
    pub interrupted: bool,
    /// How long it took.
    pub took: Duration,
    /// What `coord fsck` has found.
    pub fsck: String,
}

impl Outcome {
    /// Nothing was lost, nothing happened twice that was promised not to, and the queue is in order.
    pub fn is_clean(&self) -> bool {
        let is_fault = |fault: &Fault| fault.kind != Kind::Escaped;
        !self.report.faults.iter().any(is_fault) && self.fsck.is_empty()
    }

    /// How often deeds that begin with these words were done.
    pub fn count(&self, words: &str) -> u64 {
        count(&self.deeds, words)
    }
}

/// Tasks on their way into the queue.
struct Feed {
    pile: Pile,
    dice: Dice,
    killed_adds: u64,
    /// The command that adds a batch, when it is to be killed, and the batch.
    adding: Option<(Child, Option<Instant>, Vec<Wanted>)>,
    /// A command that adds one task and is killed; nobody tries again.
    stray: Option<(Child, Instant)>,
    wanted: Vec<Wanted>,
    perhaps: Vec<Wanted>,
    strays: u64,
    killed: u64,
    /// How often in a row the same tasks could not be added.
    failures: u32,
}

/// How often the same tasks may be refused: a full disk passes.
const FAILURES_MAX: u32 = 500;

/// Tasks above which the status is asked, and not all of them looked at.
const STATUS_FROM: u64 = 5000;

/// Runs a trial in a ground. `tell` hears of each deed.
pub fn run(
    ground: &Ground,
    plan: &Plan,
    nemesis: &mut Nemesis,
    waiter: &mut Waiter,
    tell: &mut dyn FnMut(&str),
) -> Result<Outcome> {
    let begun = Instant::now();
    let mut feed = Feed {
        pile: Pile::new("t", plan.mix, plan.seed),
        dice: Dice::new(plan.seed ^ 0xfeed),
        killed_adds: plan.killed_adds,
        adding: None,
        stray: None,
        wanted: Vec::new(),
        perhaps: Vec::new(),
        strays: 0,
        killed: 0,
        failures: 0,
    };
    let mut outcome = Outcome::default();
    ground.must(&["start", "-n", &plan.workers.to_string()])?;
    let mut next = Instant::now();
    let mut look = Instant::now();
    let mut done = 0;
    loop {
        let now = Instant::now();
        for line in nemesis.tend(ground)? {
            tell(&line);
        }
        feed.tend(ground)?;
        let fed = feed.wanted.len() as u64;
        let often = |deed: &str| if deed == "add" { feed.killed } else { nemesis.count(deed) };
        let enough = plan.least.iter().all(|(deed, least)| often(deed) >= *least);
        let all_fed = plan.tasks.is_some_and(|tasks| fed >= tasks);
        let late = plan.time.is_some_and(|time| begun.elapsed() >= time);
        if outcome.interrupted || late || (enough && all_fed && done >= fed) {
            break;
        }
        if now >= look {
            done = count_done(ground, fed)?.unwrap_or(done);
            look = Instant::now() + Duration::from_millis(if fed > 20_000 { 3000 } else { 300 });
        }
        let open = fed.saturating_sub(done);
        // Without time limit all tasks being done must end it, whatever the status has missed.
        let stuck = open > 0 && all_fed && enough && now >= next;
        if stuck && open < plan.batch {
            break;
        }
        let wanted = if all_fed && enough { 0 } else { plan.batch * 4 };
        if feed.adding.is_none() && open < wanted {
            feed.add(ground, plan.batch, plan.tasks)?;
        }
        if now >= next {
            if let Some(line) = nemesis.act(ground)? {
                tell(&line);
            }
            next = Instant::now() + nemesis.pause(plan.gap_ms.0, plan.gap_ms.1);
        }
        let mut until = next;
        for due in [nemesis.due(), feed.due()].into_iter().flatten() {
            until = until.min(due);
        }
        let wakes = waiter.wait(until.min(Instant::now() + Duration::from_millis(200)));
        outcome.interrupted |= wakes.iter().any(|w| matches!(w, Wake::Signal(_)));
    }
    tell("the nemesis rests");
    nemesis.rest(ground)?;
    feed.finish(ground, waiter)?;
    let finished = finish(ground, plan, nemesis, waiter, &mut outcome)?;
    stop(ground)?;
    outcome.took = begun.elapsed();
    if finished {
        // One plain worker puts the rest in order; after it nothing may be left.
        ground.coord(&["work", "--until-empty", "--quiet"])?;
    }
    outcome.deeds = nemesis.deeds.clone();
    outcome.killed_adds = feed.killed;
    // Lines are lost on a full disk; then only the registers can be compared.
    let full = nemesis.count("fill") > 0;
    let fsck = if full { vec!["fsck"] } else { vec!["fsck", "--strict"] };
    let said = ground.coord(&fsck)?;
    if !said.ok() && finished {
        outcome.fsck = format!("{}{}", said.text(), said.stderr);
    }
    let answers: Answers = ground.json(&["ls", "--json"])?;
    let witness = witness::read(&ground.dir)?;
    outcome.report = check(&feed.wanted, &feed.perhaps, &witness, &answers, &nemesis.deaths);
    Ok(outcome)
}

/// How many tasks are done. Of very many the status is asked, which costs nothing; on a disk that was
/// full it may know of too few, and then the next batch comes later.
fn count_done(ground: &Ground, fed: u64) -> Result<Option<u64>> {
    if fed > STATUS_FROM {
        return Ok(ground.must(&["status", "--count", "done"])?.trim().parse().ok());
    }
    let ids = ground.must(&["ls", "--state", "done", "--quiet"])?;
    Ok(Some(ids.lines().filter(|id| id.starts_with('t')).count() as u64))
}

/// Waits until everything is done. False if it is not in time: the checker says what is missing.
fn finish(
    ground: &Ground,
    plan: &Plan,
    nemesis: &mut Nemesis,
    waiter: &mut Waiter,
    outcome: &mut Outcome,
) -> Result<bool> {
    let deadline = Instant::now() + plan.patience;
    let mut asked = 0;
    loop {
        nemesis.rest(ground)?;
        let waited = ground.coord(&["wait", "--quiet", "--timeout", "2s"])?;
        if waited.code != 124 {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        for wake in waiter.wait(Instant::now()) {
            if matches!(wake, Wake::Signal(_)) {
                outcome.interrupted = true;
                asked += 1;
            }
        }
        // Who asks again does not want to wait for the rest.
        if asked > 1 {
            return Ok(false);
        }
    }
}

/// Asks the programs to leave, and ends those that do not.
fn stop(ground: &Ground) -> Result<()> {
    let said = ground.coord(&["stop", "--now", "--timeout", "60s"])?;
    let left = ground.end_all();
    if !said.ok() || !left.is_empty() {
        let what = format!("the programs did not stop ({}); left: {left:?}", said.stderr.trim());
        return Err(Error::new(Exit::Internal, what).at(&ground.dir));
    }
    Ok(())
}

impl Feed {
    fn due(&self) -> Option<Instant> {
        let adding = self.adding.as_ref().and_then(|(_, kill, _)| *kill);
        adding.into_iter().chain(self.stray.as_ref().map(|(_, kill)| *kill)).min()
    }

    /// Begins to add a batch. Now and then the command is killed while it does.
    fn add(&mut self, ground: &Ground, batch: u64, tasks: Option<u64>) -> Result<()> {
        let left = tasks.map_or(batch, |all| all.saturating_sub(self.wanted.len() as u64));
        let size = if left == 0 { batch } else { batch.min(left) };
        let (mut tasks, mut lines) = (Vec::new(), Vec::new());
        for _ in 0..size {
            let (task, line) = self.pile.make();
            tasks.push(task);
            lines.push(line.to_string());
        }
        write(&ground.dir.join("batch.jsonl"), lines.join("\n").as_bytes(), 0o644)?;
        self.import(ground, tasks, true)?;
        if self.dice.chance(self.killed_adds) && self.stray.is_none() {
            self.strays += 1;
            let id = format!("x{}", self.strays);
            let args = ["add", "--id", &id, "--retries", "999", "--", "./job", "quick"];
            let child = ground.start("coord", &args)?;
            self.perhaps.push(Wanted { id, after: Vec::new(), escapes: false });
            let kill = Instant::now() + Duration::from_millis(self.dice.roll(20));
            self.stray = Some((child, kill));
        }
        Ok(())
    }

    fn import(&mut self, ground: &Ground, tasks: Vec<Wanted>, may_die: bool) -> Result<()> {
        let child = ground.start("coord", &["import", "--quiet", "batch.jsonl"])?;
        let dies = self.dice.chance(self.killed_adds) && may_die;
        let after = Duration::from_millis(self.dice.roll(5 + tasks.len() as u64 / 8));
        self.adding = Some((child, dies.then(|| Instant::now() + after), tasks));
        Ok(())
    }

    /// Kills what is to be killed. A batch whose command has exited with 0 is acknowledged.
    fn tend(&mut self, ground: &Ground) -> Result<()> {
        let now = Instant::now();
        if let Some((mut child, kill)) = self.stray.take() {
            let over = child.try_wait().is_ok_and(|status| status.is_some());
            if !over && now >= kill {
                drop(child.kill());
                self.killed += 1;
                drop(child.wait());
            } else if !over {
                self.stray = Some((child, kill));
            }
        }
        let Some((mut child, mut kill, tasks)) = self.adding.take() else { return Ok(()) };
        match child.try_wait().cannot("wait for coord import", &ground.dir)? {
            Some(status) if status.success() => {
                self.wanted.extend(tasks);
                self.failures = 0;
            }
            Some(_) => {
                // Killed, or the disk was full. Adding the same tasks again is adding them once.
                self.failures += 1;
                if self.failures > FAILURES_MAX {
                    let what = "`coord import` fails again and again";
                    let log = ground.dir.join("coord.said");
                    return Err(Error::new(Exit::Internal, what).at(&log));
                }
                self.import(ground, tasks, false)?;
            }
            None => {
                if kill.is_some_and(|at| now >= at) {
                    kill = None;
                    self.killed += u64::from(child.kill().is_ok());
                }
                self.adding = Some((child, kill, tasks));
            }
        }
        Ok(())
    }

    /// Waits until what is on its way has been acknowledged.
    fn finish(&mut self, ground: &Ground, waiter: &mut Waiter) -> Result<()> {
        while self.adding.is_some() || self.stray.is_some() {
            self.tend(ground)?;
            waiter.wait(Instant::now() + Duration::from_millis(20));
        }
        Ok(())
    }
}
