//! A group of plantings in one queue: all of them lie there together until the group is over.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::draw::Drawn;
use crate::ground::Ground;
use crate::plant::{self, Planted, plant};
use crate::rules::{may_go, passed_over};
use crate::support::patiently_for;
use crate::verbs::{self, Running, VERBS};

/// Plantings that lie in one queue together.
pub const GROUP: u64 = 25;
/// Verbs that are run at a planting, and of so many plantings one runs all.
const DRAWN: usize = 5;
const ALL_OF: u64 = 20;
/// After so many plantings the programs must come to rest.
const REST_EVERY: u64 = 5;

/// What was done in all.
#[derive(Default)]
pub struct Totals {
    pub planted: u64,
    commands: u64,
    named: u64,
    passed: BTreeMap<&'static str, u64>,
    went: BTreeMap<&'static str, u64>,
    longest: BTreeMap<String, Duration>,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} planted, {} commands, {} named", self.planted, self.commands, self.named)?;
        for (rule, n) in &self.passed {
            write!(f, "\n  {n} passed over: {rule}")?;
        }
        for (rule, n) in &self.went {
            write!(f, "\n  {n} went: {rule}")?;
        }
        let slowest = self.longest.iter().max_by_key(|(_, took)| **took);
        slowest.map_or(Ok(()), |(verb, took)| write!(f, "\n  slowest: coord {verb}, {took:.2?}"))
    }
}

struct Group<'a> {
    ground: Ground,
    planted: Vec<Planted>,
    paths: Vec<PathBuf>,
    long: bool,
    number: usize,
    totals: &'a mut Totals,
}

/// Plays a group. A fault ends the test, with how to see it again.
pub fn play(seeds: Range<u64>, totals: &mut Totals) {
    let long = seeds.start / GROUP % 2 == 1;
    let (planted, paths) = (Vec::new(), Vec::new());
    let mut group = Group { ground: Ground::new(long), planted, paths, long, number: 0, totals };
    for seed in seeds.clone() {
        let wrong = group.planting(seed);
        group.fail(&seeds, seed, wrong);
    }
    let wrong = group.over();
    group.fail(&seeds, seeds.end - 1, wrong);
}

impl Group<'_> {
    fn fail(&self, seeds: &Range<u64>, at: u64, wrong: Vec<String>) {
        if wrong.is_empty() {
            return;
        }
        let s = &self.ground.s;
        for pid in s.processes() {
            crate::support::kill(pid);
        }
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/target/stress")).unwrap();
        let kept =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/stress/hostile-{at}"));
        plant::remove(&kept);
        let from = s.root.parent().unwrap_or(&s.root);
        let copied = std::process::Command::new("cp")
            .args(["-a", "--sparse=always"])
            .arg(from)
            .arg(&kept)
            .status();
        let list: Vec<String> = self
            .planted
            .iter()
            .map(|p| format!("  {} {:?} {:?}", p.seed, p.thing, p.path))
            .collect();
        panic!(
            "{}\nplanted:\n{}\nthe queue is kept in {} ({copied:?})\nagain: COORD_HOSTILE_SEED={at} COORD_HOSTILE=1 \
             cargo test --test hostile; its group: COORD_HOSTILE_SEED={} COORD_HOSTILE={}",
            wrong.join("\n"),
            list.join("\n"),
            kept.display(),
            seeds.start,
            at + 1 - seeds.start,
        );
    }

    fn planting(&mut self, seed: u64) -> Vec<String> {
        /// Tries to find a name that is free.
        const TRIES: u32 = 8;
        let mut drawn = Drawn::new(seed);
        let ids = self.ground.ids();
        for _ in 0..TRIES {
            let (place, dir) = self.ground.place(&mut drawn.rest, &self.paths);
            let (name, look_alike) = drawn.name(place, &ids);
            let (path, outside) = (dir.join(name), self.ground.s.beside("outside"));
            // What is archived cannot be looked up in a closed directory, and then nothing is accepted: in
            // words, and by rule.
            if look_alike
                && (place.is_empty() || place.starts_with("archive") || place.starts_with("buried"))
            {
                (drawn.mode, drawn.owner) = (0o755, None);
            }
            if let Some(planted) =
                plant(&mut drawn, &path, (place, look_alike), &outside, self.ground.user)
            {
                if std::env::var_os("COORD_HOSTILE_TALK").is_some() {
                    println!(
                        "{seed}: {:?} {:o} {:?} {path:?}",
                        drawn.thing, drawn.mode, drawn.owner
                    );
                }
                self.paths.push(planted.path.clone());
                self.planted.push(planted);
                self.totals.planted += 1;
                break;
            }
        }
        let mut running: Vec<Running> = self.ground.submit(self.number).into_iter().collect();
        self.ground.ring();
        // What runs and waits as long as the queue lives would keep a worker from leaving, and so would what a
        // living process seems to be about to do.
        let intent = |p: &Planted| p.place == "procs/W/run" && p.look_alike && p.is_file();
        let work: &[&str] = match self.long || self.planted.iter().any(intent) {
            true => &["work", "--once", "--role", "other"],
            false => &["work", "--until-empty"],
        };
        let work = work.iter().map(|&word| word.to_owned()).collect();
        self.number += 100;
        running.push(Running::start(&self.ground.s, work, self.number));
        let chosen: Vec<&str> = match seed % ALL_OF {
            0 => VERBS.to_vec(),
            _ => (0..DRAWN).map(|_| drawn.rest.one(VERBS)).collect(),
        };
        let mut wrong = Vec::new();
        for some in chosen.chunks(DRAWN) {
            for verb in some {
                self.number += 1;
                running.push(Running::verb(
                    &self.ground.s,
                    verb,
                    &ids,
                    &mut drawn.rest,
                    self.number,
                ));
            }
            self.totals.commands += running.len() as u64;
            wrong.extend(verbs::finish(&mut running, &mut self.totals.longest));
            running.clear();
        }
        self.number = self.planted.len();
        if seed % REST_EVERY == REST_EVERY - 1 {
            wrong.extend(verbs::rest(&self.ground.s).err());
        }
        wrong
    }

    /// What must be so in the end, with the things in their places and without them.
    fn over(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let ended = patiently_for(Ground::PATIENCE, || self.ground.lost().is_empty());
        if !ended {
            wrong.extend(self.ground.lost());
        }
        wrong.extend(verbs::rest(&self.ground.s).err());
        wrong.extend(self.things());
        wrong.extend(self.ground.outside());
        if !wrong.is_empty() {
            return wrong;
        }
        self.clean()
    }

    /// Each thing is there and is named, or a rule says why not.
    fn things(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let findings = self.ground.findings();
        for planted in &self.planted {
            let path = planted.path.to_string_lossy();
            if !planted.is_there() {
                let rejected = self.ground.s.queue("incoming/rejected");
                if planted.place == "incoming" && self.is_in(planted, &rejected) {
                    *self
                        .totals
                        .went
                        .entry("incoming/ is emptied, what is no task is rejected")
                        .or_default() += 1;
                    continue;
                }
                match may_go(planted) {
                    Some(rule) => *self.totals.went.entry(rule).or_default() += 1,
                    None => wrong.push(format!(
                        "{}: {path:?} is not as it was: {}",
                        planted.seed,
                        planted.now()
                    )),
                }
                continue;
            }
            let below = format!("{path}/");
            if findings.iter().any(|(_, at, _)| *at == path || at.starts_with(&below)) {
                self.totals.named += 1;
            } else if let Some(rule) = passed_over(planted) {
                *self.totals.passed.entry(rule).or_default() += 1;
            } else {
                let thing = &planted.thing;
                wrong.push(format!("{}: fsck does not name {path:?} ({thing:?})", planted.seed));
            }
        }
        wrong
    }

    fn is_in(&self, planted: &Planted, dir: &Path) -> bool {
        let Ok(entries) = std::fs::read_dir(dir) else { return false };
        entries.filter_map(|entry| entry.ok()).any(|entry| planted.is_at(&entry.path()))
    }

    /// Without the things nothing is wrong with the queue.
    fn clean(&mut self) -> Vec<String> {
        let s = &self.ground.s;
        self.planted.iter().for_each(Planted::remove);
        if let Ok(entries) = std::fs::read_dir(s.queue("incoming/rejected")) {
            entries.filter_map(|entry| entry.ok()).for_each(|entry| plant::remove(&entry.path()));
        }
        std::fs::write(s.beside("go"), "").unwrap();
        let mut wrong = Vec::new();
        for words in [&["stop", "--timeout", "8s"][..], &["fsck", "--repair"]] {
            let words = words.iter().map(|&word| word.to_owned()).collect();
            wrong.extend(verbs::finish(
                &mut [Running::start(s, words, 0)],
                &mut self.totals.longest,
            ));
        }
        let left = self.ground.findings();
        let counts = |finding: &&(String, String, String)| {
            finding.0 != "note" && !self.ground.is_of_victim(finding)
        };
        wrong.extend(
            left.iter()
                .filter(counts)
                .map(|finding| format!("not clean without the things: {finding:?}")),
        );
        wrong
    }
}
