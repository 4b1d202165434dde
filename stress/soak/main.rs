//! The soak: a moderate load for hours, with kills now and then and phases in which nothing is to be
//! done; nothing may grow but what each finished task leaves by design.
//!
//! `COORD_SOAK_HOURS` says how long; without it a run of some seconds checks that the machinery
//! works. Log, progress and queue are in target/stress, or in `COORD_SOAK_DIR`. A run that is stopped
//! (SIGTERM, Ctrl-C, a kill) goes on where it was. `COORD_BIN` names a directory of programs to use
//! instead of those that were just built, so that a build cannot change them under a long run.
#![expect(clippy::disallowed_methods, reason = "a test looks at the machine itself")]
#![expect(clippy::unwrap_used, reason = "a failing step is a failing test")]

mod sample;
mod verdict;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coord::chaos::dice::Dice;
use coord::chaos::ground::{Ground, Settings, clean_up_after_the_dead};
use coord::chaos::pile::{Mix, Pile};
use coord::sys::wake::{Waiter, Wake};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use sample::{Sequences, Size, Vitals};
use verdict::Sample;

const MIX: Mix = Mix { slow: 30, stray: 5, fails: 10, after: 25, hides: 0, escapes: false };
/// Two of the workers are killed now and then. The others and the programs live all the time, since
/// what is started anew cannot show that it grows.
const VICTIMS: [&str; 2] = ["w1", "w2"];
const WORKERS: &str = "4";

/// The times of a soak, in seconds.
struct Times {
    whole: f64,
    work: f64,
    idle: f64,
    sample: f64,
    kill: f64,
    feed: f64,
    /// Tasks each time.
    batch: u32,
}

/// What must be known to go on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    hours: f64,
    added: u64,
    kills: u64,
    /// Number of the run: each has task ids of its own.
    run: u64,
}

struct Soak {
    ground: Ground,
    home: PathBuf,
    times: Times,
    waiter: Waiter,
    progress: Progress,
    earlier: f64,
    begun: Instant,
    dice: Dice,
    pile: Pile,
    sequences: Sequences,
    /// Voluntary switches at the end of the last sample, and when; only while nothing was to be done.
    quiet: Option<(Instant, BTreeMap<i32, u64>)>,
    stopped: bool,
}

impl Soak {
    fn hours(&self) -> f64 {
        self.earlier + self.begun.elapsed().as_secs_f64() / 3600.0
    }

    fn over(&self) -> bool {
        self.stopped || self.hours() * 3600.0 >= self.times.whole
    }

    fn queue(&self) -> PathBuf {
        self.ground.dir.join(".coord")
    }

    fn wait(&mut self, until: Instant) {
        let wakes = self.waiter.wait(until);
        self.stopped |= wakes.iter().any(|w| matches!(w, Wake::Signal(_)));
    }

    fn save(&mut self) {
        self.progress.hours = self.hours();
        let text = serde_json::to_string(&self.progress).unwrap();
        let path = self.home.join("soak.progress");
        std::fs::write(path.with_extension("new"), text).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn feed(&mut self) {
        let lines: Vec<String> =
            (0..self.times.batch).map(|_| self.pile.make().1.to_string()).collect();
        let list = self.ground.dir.join("batch.jsonl");
        std::fs::write(&list, lines.join("\n")).unwrap();
        self.ground.must(&["import", "--quiet", "batch.jsonl"]).unwrap();
        self.progress.added += lines.len() as u64;
    }

    fn kill(&mut self) {
        let name = self.dice.pick(&VICTIMS).unwrap();
        let programs = self.ground.programs().unwrap();
        if let Some(victim) = programs.iter().find(|p| p.name == *name) {
            self.progress.kills += u64::from(self.ground.signal(victim.pid, Signal::SIGKILL));
        }
    }

    fn done(&self) -> u64 {
        self.ground.must(&["status", "--count", "done"]).unwrap().trim().parse().unwrap()
    }

    /// Nothing is to be done any more, and nothing of it is left. What is left, if it stays.
    fn settle(&mut self) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let open = self.progress.added - self.done();
            let left = sample::unfinished(&self.queue(), self.ground.programs().unwrap().len());
            if open == 0 && left.is_empty() || self.stopped {
                return Vec::new();
            }
            if Instant::now() >= deadline {
                return vec![format!("{open} tasks are not done; left: {left:?}")];
            }
            self.wait(Instant::now() + Duration::from_millis(200));
        }
    }

    /// How many looks it took until fsck found nothing. What a kill has just left is there for a
    /// moment; what is still there seconds later is a fault.
    fn fsck(&mut self, faults: &mut Vec<String>) -> u32 {
        for look in 1..=4 {
            let output = self.ground.coord(&["fsck", "--strict"]).unwrap();
            if output.ok() {
                return look;
            }
            if look == 4 {
                faults.push(format!("fsck --strict: {}", output.text().trim()));
            }
            self.wait(Instant::now() + Duration::from_secs(1));
        }
        0
    }

    fn sample(&mut self, idle: bool, mut faults: Vec<String>) {
        // First of all what is looked at below would wake the programs for.
        let looked = Instant::now();
        let mut programs = BTreeMap::new();
        for program in self.ground.programs().unwrap() {
            let Some(mut vitals) = sample::vitals(program.pid) else { continue };
            // The last look of a phase comes early: two wake-ups in a second are no 120 a minute.
            let least = Duration::from_secs_f64(self.times.sample / 2.0);
            let quiet = self.quiet.as_ref().filter(|(at, _)| idle && looked - *at >= least);
            if let Some((at, before)) = quiet {
                let minutes = (looked - *at).as_secs_f64() / 60.0;
                vitals.idle_wakes = before
                    .get(&program.pid)
                    .map(|b| vitals.voluntary.saturating_sub(*b) as f64 / minutes);
            }
            programs.insert(program.name, vitals);
        }
        let sizes: BTreeMap<String, Size> = sample::sizes(&self.queue());
        self.sequences.catch_up(&self.queue().join("events"));
        faults.extend(self.sequences.gaps.drain(..).map(|gap| format!("a gap in events: {gap}")));
        let fsck = self.fsck(&mut faults);
        let sample = Sample {
            hours: self.hours(),
            idle,
            done: self.done(),
            kills: self.progress.kills,
            programs,
            sizes,
            events: self.sequences.events,
            gaps: faults.iter().filter(|f| f.starts_with("a gap")).count() as u64,
            fsck,
            faults,
        };
        if self.sequences.torn > self.progress.kills {
            println!("soak: {} torn lines in {} kills", self.sequences.torn, self.progress.kills);
        }
        let path = self.home.join("soak.log");
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(log, "{}", serde_json::to_string(&sample).unwrap()).unwrap();
        self.save();
        let pids = sample.programs.values().map(|v: &Vitals| v.pid);
        self.quiet = idle.then(|| {
            let now = pids.filter_map(|pid| Some((pid, sample::vitals(pid)?.voluntary)));
            (Instant::now(), now.collect())
        });
    }

    /// One phase of work and one in which nothing is to be done.
    fn round(&mut self) {
        let times = &self.times;
        let every = |seconds: f64| Duration::from_secs_f64(seconds);
        let (feed_every, kill_every) = (every(times.feed), every(times.kill));
        let (sample_every, idle_for) = (every(times.sample), every(times.idle));
        let now = Instant::now();
        let end = now + every(times.work);
        let (mut feed, mut kill, mut look) = (now, now + kill_every, now + sample_every);
        while Instant::now() < end && !self.over() {
            let now = Instant::now();
            if now >= feed {
                self.feed();
                feed = now + feed_every;
            }
            if now >= kill {
                self.kill();
                kill = now + kill_every;
            }
            if now >= look {
                self.sample(false, Vec::new());
                look = now + sample_every;
            }
            self.wait(feed.min(kill).min(look).min(end));
        }
        let left = self.settle();
        if self.stopped {
            return;
        }
        self.quiet = None;
        self.sample(true, left);
        let end = Instant::now() + idle_for;
        while Instant::now() < end && !self.over() {
            self.wait(end.min(Instant::now() + sample_every));
            if !self.stopped {
                self.sample(true, Vec::new());
            }
        }
        self.quiet = None;
    }
}

fn read_samples(home: &Path) -> Vec<Sample> {
    let text = std::fs::read_to_string(home.join("soak.log")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn soak(home: &Path, times: Times) -> Vec<Sample> {
    let bin = std::env::var_os("COORD_BIN").map(|dir| PathBuf::from(dir).join("coord"));
    let coord = bin.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_coord")));
    std::fs::create_dir_all(home).unwrap();
    // What a killed run has left behind would go on beside this one.
    clean_up_after_the_dead(home, "no directory of this name");
    let saved = std::fs::read_to_string(home.join("soak.progress")).unwrap_or_default();
    let mut progress: Progress = serde_json::from_str(&saved).unwrap_or_default();
    let dir = home.join("soak.d");
    if progress.run == 0 {
        drop(std::fs::remove_dir_all(&dir));
        drop(std::fs::remove_file(home.join("soak.log")));
    }
    progress.run += 1;
    let settings = Settings { lease_ms: 8000, backoff_ms: 1000 };
    let ground = Ground::make(&dir, &coord, settings).unwrap();
    // A killed run may have added some that it did not write down.
    let all = ground.must(&["ls", "--quiet"]).unwrap();
    progress.added = all.lines().count() as u64;
    ground.must(&["start", "-n", WORKERS]).unwrap();
    let waiter = Waiter::new(&[2, 15], &dir).unwrap();
    let run = progress.run;
    let mut soak = Soak {
        ground,
        home: home.to_owned(),
        times,
        waiter,
        earlier: progress.hours,
        progress,
        begun: Instant::now(),
        dice: Dice::new(run),
        pile: Pile::new(&format!("r{run}."), MIX, run),
        sequences: Sequences::default(),
        quiet: None,
        stopped: false,
    };
    // Before anything is added: the ids of a run that is killed now are not used again.
    soak.save();
    while !soak.over() {
        soak.round();
    }
    soak.save();
    soak.ground.must(&["stop", "--now", "--timeout", "60s"]).unwrap();
    let left = soak.ground.end_all();
    assert!(left.is_empty(), "processes are left: {left:?}");
    read_samples(home)
}

fn report(samples: &[Sample]) -> Vec<String> {
    let (faults, lines) = verdict::judge(samples);
    lines.iter().for_each(|line| println!("soak: {line}"));
    let Some(last) = samples.last() else { return vec!["no sample".to_owned()] };
    let (tasks, events) = (
        last.sizes.get("tasks").copied().unwrap_or_default(),
        last.sizes.get("events").copied().unwrap_or_default(),
    );
    let each = |size: Size| (size.inodes as f64, size.bytes as f64 / last.done.max(1) as f64);
    println!(
        "soak: {:.2} hours, {} samples, {} tasks done, {} kills, {} events; a finished task leaves \
         {:.1} inodes and {:.0} bytes in tasks/, {:.0} bytes in events/; {} faults",
        last.hours,
        samples.len(),
        last.done,
        last.kills,
        last.events,
        each(tasks).0 / last.done.max(1) as f64,
        each(tasks).1,
        each(events).1,
        faults.len(),
    );
    faults
}

#[test]
fn nothing_grows() {
    let hours = std::env::var("COORD_SOAK_HOURS").ok();
    let hours: Option<f64> = hours.map(|h| h.parse().expect("COORD_SOAK_HOURS is a number"));
    let (_keep, home, times) = match hours {
        Some(hours) => {
            let times = Times {
                whole: hours * 3600.0,
                work: 400.0,
                idle: 200.0,
                sample: 30.0,
                kill: 60.0,
                feed: 10.0,
                batch: 6,
            };
            let home = std::env::var_os("COORD_SOAK_DIR").map(PathBuf::from);
            let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/stress");
            (None, home.unwrap_or(here), times)
        }
        None => {
            let dir = tempfile::tempdir().unwrap();
            let home = dir.path().to_owned();
            let times = Times {
                whole: 16.0,
                work: 5.0,
                idle: 2.0,
                sample: 0.9,
                kill: 1.5,
                feed: 0.5,
                batch: 3,
            };
            (Some(dir), home, times)
        }
    };
    let samples = soak(&home, times);
    let faults = report(&samples);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let last = samples.last().unwrap();
    let whole = hours.map_or(16.0, |h| h * 3600.0);
    if last.hours * 3600.0 < whole * 0.9 {
        println!("soak: stopped after {:.2} hours; the same command goes on", last.hours);
        return;
    }
    // Of minutes only nothing can be said.
    if hours.is_some_and(|hours| hours < 0.25) {
        return;
    }
    assert!(last.done > 10 && last.kills >= 2, "{} tasks, {} kills", last.done, last.kills);
    let idle = samples.iter().flat_map(|s| s.programs.values()).any(|v| v.idle_wakes.is_some());
    assert!(idle, "no program was seen when idle");
}
