//! The kill storm: real programs at work on real tasks, while each of them is killed with SIGKILL
//! again and again at jittered times. Afterwards everything must have happened exactly once.
//!
//! The jobs themselves are the witnesses: each writes a line when it starts, while it works and when
//! it ends, into one file per task. The checker reads those files and the end registers, and knows
//! nothing of how coord works.
//!
//! `COORD_STRESS=full` makes it ten times as long. `COORD_STORM_SEED` repeats a run's choices.
#![expect(clippy::disallowed_methods, reason = "a nemesis works on the machine itself")]
#![expect(clippy::unwrap_used, reason = "a failing step is a failing test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// A small generator (xorshift64*): the storm only needs jitter that a seed repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % below
    }
}

struct Storm {
    dir: tempfile::TempDir,
    mark: String,
    never: Receiver<()>,
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Storm {
    fn coord(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_coord"))
            .args(args)
            .current_dir(self.dir.path())
            .env("STORM_MARK", &self.mark)
            .env_remove("COORD_DIR")
            .env_remove("COORD_STEP")
            .output()
            .unwrap()
    }

    fn must(&self, args: &[&str]) -> String {
        let output = self.coord(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "coord {args:?}: {text}{errors}");
        text
    }

    fn pause(&self, time: Duration) {
        // Nobody ever sends: this is jitter, not a wait for something.
        let _ = self.never.recv_timeout(time);
    }

    /// Id, kind and pid of every live program.
    fn programs(&self) -> Vec<(String, String, i32)> {
        let output = self.coord(&["workers", "--json"]);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let lists = [&document["workers"], &document["programs"]];
        lists
            .into_iter()
            .flat_map(|list| list.as_array().cloned().unwrap_or_default())
            .filter(|m| m["state"] != "dead")
            .map(|m| {
                let text = |field: &str| m[field].as_str().unwrap_or_default().to_owned();
                (text("wid"), text("kind"), i32::try_from(m["pid"].as_i64().unwrap()).unwrap())
            })
            .collect()
    }

    fn done(&self) -> usize {
        self.must(&["status", "--count", "done"]).trim().parse().unwrap()
    }

    /// Processes that carry this storm's mark: programs and jobs.
    fn processes(&self) -> Vec<(i32, String)> {
        let mark = format!("STORM_MARK={}", self.mark);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.split(|b| *b == 0).any(|pair| pair == mark.as_bytes()) {
                let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push((pid, String::from_utf8_lossy(&cmdline).replace('\0', " ")));
            }
        }
        found
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            kill(pid);
        }
    }
}

fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
}

/// The job: says when it starts, works in four steps and says so, leaves a child in a session of
/// its own that would go on writing, and says when it ends.
const JOB: &str = r#"
say() { echo "$1 $(date +%s%3N) $COORD_ATTEMPT" >>"$WITNESS/$COORD_TASK_ID"; }
say start
setsid sh -c 'while sleep 0.05; do echo "tick $(date +%s%3N) $COORD_ATTEMPT" >>"$WITNESS/$COORD_TASK_ID"; done' &
for i in 1 2 3 4; do sleep 0.1; say tick; done
say end
"#;

#[test]
fn nothing_is_lost_and_nothing_happens_twice() {
    let full = std::env::var("COORD_STRESS").is_ok_and(|v| v == "full");
    let (tasks, kills_wanted) = if full { (3000, 1000) } else { (300, 100) };
    let seed = std::env::var("COORD_STORM_SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| now_ms() | 1);
    println!("storm: seed {seed}, {tasks} tasks");
    let mut dice = Dice(seed);
    let (_keep, never) = channel();
    let storm = Storm { dir: tempfile::tempdir().unwrap(), mark: format!("storm-{seed}"), never };
    let witness = storm.dir.path().join("witness");
    std::fs::create_dir(&witness).unwrap();

    storm.must(&["init", "--no-git"]);
    let lines: Vec<String> = (1..=tasks)
        .map(|i| {
            let after = if i % 10 == 0 { vec![format!("t{}", i - 5)] } else { Vec::new() };
            serde_json::json!({
                "id": format!("t{i}"), "sh": JOB, "after": after, "max_attempts": 1000,
                "env": { "WITNESS": witness },
            })
            .to_string()
        })
        .collect();
    let list = storm.dir.path().join("tasks.jsonl");
    std::fs::write(&list, lines.join("\n")).unwrap();
    storm.must(&["import", "--quiet", "tasks.jsonl"]);

    let start: &[&str] = &["start", "-n", "3"];
    storm.must(start);
    let mut kills: BTreeMap<String, u32> = BTreeMap::new();
    let mut deaths: BTreeMap<String, u64> = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(if full { 1800 } else { 240 });
    while storm.done() < tasks {
        assert!(Instant::now() < deadline, "not done in time:\n{}", storm.must(&["status"]));
        storm.pause(Duration::from_millis(30 + dice.roll(360)));
        let programs = storm.programs();
        if !programs.iter().any(|(_, kind, _)| kind == "coordinator") {
            storm.pause(Duration::from_millis(dice.roll(250)));
            let output = storm.coord(start);
            // 5: it came up by itself between our look and our start, which cannot be.
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            continue;
        }
        let pick = usize::try_from(dice.roll(programs.len() as u64)).unwrap();
        let (wid, kind, pid) = &programs[pick];
        kill(*pid);
        deaths.insert(wid.clone(), now_ms());
        *kills.entry(kind.clone()).or_default() += 1;
    }
    let total: u32 = kills.values().sum();
    println!("storm: {total} kills: {kills:?}");
    if storm.programs().iter().all(|(_, kind, _)| kind != "coordinator") {
        storm.must(start);
    }
    storm.must(&["stop", "--timeout", "30s"]);

    let report = check(storm.dir.path(), &witness, tasks, &deaths);
    println!("storm: {report}");
    storm.must(&["fsck", "--strict"]);
    let left = storm.processes();
    assert!(left.is_empty(), "processes are left: {left:?}");
    assert!(total >= kills_wanted, "only {total} kills: the tasks were over too soon");
    for kind in ["worker", "coordinator", "monitor", "aggregator"] {
        assert!(kills.contains_key(kind), "no {kind} was killed");
    }
}

/// A line of a witness file.
struct Line {
    what: String,
    at_ms: u64,
    attempt: u32,
}

fn lines_of(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split(' ');
        Some(Line {
            what: words.next()?.to_owned(),
            at_ms: words.next()?.parse().ok()?,
            attempt: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(parse).collect()
}

/// Reads what the jobs and the registers say, task by task.
fn check(root: &Path, witness: &Path, tasks: usize, deaths: &BTreeMap<String, u64>) -> String {
    let mut attempts = 0;
    let mut expired: Vec<u64> = Vec::new();
    for i in 1..=tasks {
        let id = format!("t{i}");
        let dir: PathBuf = root.join(".coord/tasks").join(&id);
        let mut ends: BTreeMap<u32, Value> = BTreeMap::new();
        for entry in std::fs::read_dir(&dir).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if let Some(n) = name.strip_suffix(".end").and_then(|n| n.parse().ok()) {
                ends.insert(
                    n,
                    serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap(),
                );
            }
        }
        let done: Vec<u32> =
            ends.iter().filter(|(_, e)| e["verdict"] == "done").map(|(n, _)| *n).collect();
        assert_eq!(done.len(), 1, "{id} was accepted {} times", done.len());
        assert_eq!(ends.keys().last(), done.first(), "{id} went on after it was done");
        for end in ends.values().filter(|e| e["verdict"] == "expired") {
            let holder = end["holder"].as_str().unwrap();
            let death = deaths.get(holder).expect("only the dead lose their tasks");
            expired.push(ended_ms(end).saturating_sub(*death));
        }
        let lines = lines_of(&witness.join(&id));
        let mut current = 0;
        for line in &lines {
            assert!(
                line.attempt >= current,
                "{id}: attempt {} did something ({}) after attempt {current} had begun",
                line.attempt,
                line.what,
            );
            if line.attempt > current {
                assert_eq!(line.what, "start", "{id}: attempt {} began twice", line.attempt);
                attempts += 1;
            } else {
                assert_ne!(line.what, "start", "{id}: attempt {current} was started twice");
            }
            current = line.attempt;
            let end = ends.get(&line.attempt).expect("an attempt that ran has ended");
            let fence_ms = ended_ms(end);
            assert!(
                line.at_ms <= fence_ms,
                "{id}: attempt {current} did something ({}) {} ms after its fence",
                line.what,
                line.at_ms - fence_ms,
            );
        }
        let finished = lines.iter().any(|l| l.what == "end" && l.attempt == done[0]);
        assert!(finished, "{id} was accepted, but its accepted attempt never ended");
    }
    expired.sort_unstable();
    let at = |part: usize| expired.get(expired.len() * part / 100).or(expired.last()).copied();
    let worst = expired.last().copied().unwrap_or(0);
    // Includes the time in which neither monitor nor coordinator lived.
    assert!(worst < 10_000, "a dead worker's task was given back after {worst} ms only");
    format!(
        "{tasks} tasks done exactly once, {attempts} attempts ran, {} expired; from a worker's death \
         to its task given back: median {} ms, 90 % {} ms, worst {worst} ms",
        expired.len(),
        at(50).unwrap_or(0),
        at(90).unwrap_or(0),
    )
}

fn ended_ms(end: &Value) -> u64 {
    let ended = end["ended"].as_str().unwrap();
    let time = chrono::DateTime::parse_from_rfc3339(ended).unwrap();
    u64::try_from(time.timestamp_millis()).unwrap()
}
