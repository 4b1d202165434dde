//! `coord run` killed at each step of an array, and given again: every job is done once by its registers,
//! only what was running runs again, what they print is shown, and nothing is left behind.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Output, Sandbox};

const JOBS: &[&str] = &["a", "b", "c", "d", "e"];

/// The jobs note each run in a file; `c` fails the first time.
const LINE: &str = "echo {} >>ran; test {} != c -o $COORD_ATTEMPT != 1 || exit 1; echo out-{}";

/// What the workers of the command itself do, where the test starts one of its own.
const NO_WORKERS: &str = "coord-worker/register.mkdir:crash";

struct Story {
    s: Sandbox,
    home: PathBuf,
    mode: &'static str,
}

impl Story {
    fn new(mode: &'static str) -> Story {
        let s = Sandbox::bare();
        let home = s.beside("run");
        Story { s, home, mode }
    }

    fn plan(&mut self, plan: &str) {
        self.s.set("COORD_STEP", plan);
    }

    fn run(&self) -> Output {
        let home = self.home.to_string_lossy().into_owned();
        let options = ["run", "-j", "2", "--queue", &home, "--durability", self.mode];
        let line = ["--retries", "2", "--sh", LINE, ":::"];
        self.s.coord(&[&options[..], &line, JOBS].concat())
    }

    /// A worker of the run that dies at a step.
    fn worker_dies(&mut self, step: &str) {
        self.plan(&format!("coord-worker/{step}:crash"));
        let dir = self.home.join(".coord").to_string_lossy().into_owned();
        let ended = self.s.run("coord-worker", &["--dir", &dir, "--until-empty"]);
        assert_eq!(ended.code, 128 + 9, "{step} was not reached: {}", ended.stderr);
    }

    /// The list is there but for its end, and nobody works at it.
    fn submitted(&mut self) {
        self.plan(&format!("coord/list.close:crash,{NO_WORKERS}"));
        assert_eq!(self.run().code, 128 + 9);
    }

    fn jobs(&self) -> PathBuf {
        let tasks = std::fs::read_dir(self.home.join(".coord/tasks")).unwrap();
        let ids: Vec<_> = tasks.flatten().map(|entry| entry.path()).collect();
        assert_eq!(ids.len(), 1, "one array: {ids:?}");
        ids[0].join("jobs")
    }

    /// Nobody dies any more, and all must be well. `again`: so many jobs may have run once more.
    fn heal(&mut self, what: &str, again: usize) {
        self.plan("");
        let output = self.run();
        assert_eq!(output.code, 0, "{what}: {}", output.stderr);
        let mut shown: Vec<&str> = output.stdout.lines().collect();
        shown.sort_unstable();
        let all: Vec<String> = JOBS.iter().map(|job| format!("out-{job}")).collect();
        assert_eq!(shown, all, "{what}: what the jobs print is shown, once");
        let mut done: BTreeMap<String, u32> = BTreeMap::new();
        let mut claims = 0;
        for entry in std::fs::read_dir(self.jobs().join("0000000001")).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            claims += usize::from(name.ends_with(".claim"));
            if name.ends_with(".end") {
                let bytes = std::fs::read(entry.path()).unwrap();
                let end: Value = serde_json::from_slice(&bytes).unwrap();
                let job = name.split('.').next().unwrap().to_owned();
                *done.entry(job).or_default() += u32::from(end["verdict"] == "done");
            }
        }
        assert!(done.len() == JOBS.len() && done.values().all(|n| *n == 1), "{what}: {done:?}");
        let ran = std::fs::read_to_string(self.s.root.join("ran")).unwrap().lines().count();
        // One of them is tried twice in any case.
        assert!((JOBS.len() + 1..=claims).contains(&ran), "{what}: {claims} claims, {ran} runs");
        assert!(claims <= JOBS.len() + 1 + again, "{what}: {claims} claims");
        let home = self.home.to_string_lossy().into_owned();
        let checked = self.s.coord(&["-C", &home, "fsck", "--strict"]);
        let found: Vec<&str> = checked
            .stdout
            .lines()
            // The other thread of a submitter may have died while it registered.
            .filter(|l| l.contains("procs/") && !l.contains("procs/.new-"))
            .collect();
        assert!(found.is_empty(), "{what}: {found:?}");
        assert!(self.s.processes().is_empty(), "{what}: processes are left");
    }
}

#[test]
fn a_worker_is_killed_at_each_step_of_an_array() {
    for (step, again) in [
        ("jobs.intent", 0),
        ("jobs.claim", 0),
        ("jobs.spawn", 1),
        ("jobs.keep", 1),
        ("jobs.end", 1),
        ("jobs.tell", 0),
        ("jobs.stage", 1),
        ("jobs.end_as", 1),
        ("jobs.over", 0),
        ("jobs.leave", 0),
    ] {
        let mut story = Story::new("process");
        story.submitted();
        story.worker_dies(step);
        story.heal(step, again);
    }
}

#[test]
fn who_recovers_in_an_array_is_killed_too() {
    for step in ["jobs.expire", "recover.leave"] {
        let mut story = Story::new("process");
        story.submitted();
        story.worker_dies("jobs.spawn");
        story.worker_dies(step);
        story.heal(step, 1);
    }
}

/// A list that was complete has grown; who says so dies before and behind it.
#[test]
fn the_submitter_is_killed_while_its_list_grows() {
    for step in ["list.open", "list.mkdir", "list.stage", "list.link", "list.close"] {
        let mut s = Sandbox::new();
        let line = ["run", "-k", "-j", "2", "-a", "list", "--sh", "echo {} >> ran; echo {}"];
        s.sh("printf '1\\n2\\n' > list");
        s.set("COORD_STEP", NO_WORKERS);
        // Read to its end, and nothing of it was run.
        s.coord(&line);
        s.sh("printf '3\\n4\\n' >> list");
        for _ in 0..2 {
            s.set("COORD_STEP", &format!("coord/{step}:crash,{NO_WORKERS}"));
            assert_eq!(s.coord(&line).code, 128 + 9, "{step} was not reached");
        }
        s.set("COORD_STEP", "");
        assert_eq!(s.coord(&line).ok().stdout, "1\n2\n3\n4\n", "{step}");
        assert_eq!(s.lines("ran").len(), 4, "{step}");
        let (queue, _) = crate::run::newest(&s);
        let checked = s.coord(&["-C", queue.to_str().unwrap(), "fsck", "--strict"]);
        let found: Vec<&str> = checked.stdout.lines().filter(|l| l.contains("jobs/")).collect();
        assert!(found.is_empty(), "{step}: {found:?}");
    }
}

#[test]
fn the_submitter_is_killed_at_each_step_of_a_list() {
    for step in ["array.intent", "list.mkdir", "list.stage", "list.link", "list.close", "sync.jobs"]
    {
        let mode = if step == "sync.jobs" { "accept" } else { "process" };
        let mut story = Story::new(mode);
        for _ in 0..2 {
            story.plan(&format!("coord/{step}:crash,{NO_WORKERS}"));
            assert_eq!(story.run().code, 128 + 9, "{step} was not reached");
        }
        story.heal(step, 0);
    }
}
