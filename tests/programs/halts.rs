//! `coord run --halt`: after the end that fulfils the rule no job begins but those that were being begun.

use std::path::PathBuf;

use crate::support::{Output, Sandbox, until};

/// A run in a queue of its own, whose jobs note that they ran.
struct Halting {
    s: Sandbox,
    home: PathBuf,
}

/// Until the rule is said to be fulfilled.
const MET: &str =
    "until [ -e $COORD_RUN_DIR/tasks/$COORD_TASK_ID/jobs/halt.2 ]; do sleep 0.01; done";

impl Halting {
    fn new() -> Halting {
        let s = Sandbox::bare();
        let home = s.beside("run");
        Halting { s, home }
    }

    fn words<'a>(&'a self, options: &[&'a str], line: &'a str, jobs: &'a [String]) -> Vec<&'a str> {
        let home = self.home.to_str().unwrap();
        let fixed = ["run", "--queue", home];
        let jobs = jobs.iter().map(String::as_str);
        let line = ["--sh", line, ":::"];
        fixed.into_iter().chain(options.iter().copied()).chain(line).chain(jobs).collect()
    }

    fn run(&self, options: &[&str], line: &str, jobs: u32) -> Output {
        let jobs: Vec<String> = (1..=jobs).map(|job| job.to_string()).collect();
        self.s.coord(&self.words(options, line, &jobs))
    }

    fn ran(&self) -> Vec<u32> {
        let mut ran: Vec<u32> = self.s.lines("ran").iter().map(|l| l.parse().unwrap()).collect();
        ran.sort_unstable();
        ran
    }
}

#[test]
fn with_one_worker_no_job_begins_after_the_one_that_fulfils_the_rule() {
    // Jobs 7 and 9 fail. Of 20: 10 % are 2 jobs.
    let line = "echo {} >> ran; [ {} != 7 -a {} != 9 ]";
    for (rule, last) in [
        ("soon,fail=1", 7),
        ("now,fail=1", 7),
        ("soon,fail=2", 9),
        ("soon,fail=10%", 9),
        ("soon,success=1", 1),
        ("now,success=8", 10),
        ("soon,success=50%", 12),
        ("soon,done=3", 3),
        ("now,done=50%", 10),
        ("1", 7),
        ("never", 20),
    ] {
        let it = Halting::new();
        let out = it.run(&["-n", "1", "--halt", rule], line, 20);
        assert_eq!(it.ran(), (1..=last).collect::<Vec<u32>>(), "{rule}: {}", out.stderr);
        let stopped = out.stderr.contains("stopped by --halt");
        assert_eq!(stopped, rule != "never", "{rule}: {}", out.stderr);
    }
}

#[test]
fn with_several_workers_only_what_runs_still_runs() {
    let it = Halting::new();
    // The first one fails when four run, and the others last until that is known.
    let line = format!(
        "echo {{}} >> ran; [ {{}} = 1 ] || {{ {MET}; exit 0; }}; \
         until [ $(wc -l <ran) = 4 ]; do sleep 0.01; done; exit 1"
    );
    let out = it.run(&["-n", "4", "--halt", "soon,fail=1"], &line, 60);
    out.exits(1).warns("stopped by --halt: 4 of 60 jobs are over, 1 failed");
    assert_eq!(it.ran().len(), 4);
}

#[test]
fn who_joins_keeps_to_the_rule_too() {
    for rule in ["soon,fail=1", "now,fail=1"] {
        let it = Halting::new();
        // The first one fails once the joiner's job runs.
        let line = format!(
            "echo {{}} >> ran; case $COORD_WORKER in w1) until [ -e joined ]; do sleep 0.01; done; \
             exit 1;; *) touch joined; {MET}; [ {rule} = soon,fail=1 ] || sleep 600;; esac"
        );
        let jobs: Vec<String> = (1..=60).map(|job| job.to_string()).collect();
        let front = it.s.background(&it.words(&["-n", "1", "--halt", rule], &line, &jobs));
        until("a job runs", || !it.s.lines("ran").is_empty());
        let home = it.home.to_str().unwrap();
        let joined = it.s.background(&["-C", home, "work", "--until-empty"]);
        it.s.collect(front).exits(1).warns("stopped by --halt");
        let left = it.s.collect(joined);
        assert_eq!(it.ran().len(), 2, "{rule}: {}", left.stderr);
        assert!(it.s.processes().is_empty(), "{rule}");
    }
}

#[test]
fn a_rule_of_the_last_run_does_not_stop_this_one() {
    let it = Halting::new();
    let line = "echo {} >> ran; [ {} != 2 -a {} != 4 -a {} != 6 ]";
    let halt = ["-n", "1", "--halt", "soon,fail=1"];
    it.run(&halt, line, 8).exits(1).warns("2 of 8 jobs are over, 1 failed");
    it.run(&halt, line, 8).exits(1).warns("4 of 8 jobs are over, 2 failed");
    assert_eq!(it.ran(), [1, 2, 3, 4], "each stops at the first of its own");
    // And one without a rule goes to the end.
    it.run(&["-n", "1"], line, 8).exits(3).warns("8 jobs are over, 3 failed");
    assert_eq!(it.ran(), (1..=8).collect::<Vec<u32>>());
}

#[test]
fn a_job_counts_when_it_has_failed_for_good() {
    let it = Halting::new();
    let line = "echo {} >> ran; [ {} -gt 3 ] || [ {} = 1 -a $COORD_ATTEMPT = 2 ]";
    let out = it.run(&["-n", "1", "--retries", "2", "--halt", "soon,fail=1"], line, 9);
    out.exits(1).warns("1 failed");
    let failed = it.ran();
    let twice = |job: &u32| failed.iter().filter(|ran| *ran == job).count() == 2;
    assert!(twice(&1) && (2..=3).any(|job| twice(&job)), "{failed:?}");
}

/// The worker that fulfils the rule dies before it has said so, or before it has counted: what its job
/// came to stands in the register of its end.
#[test]
fn a_worker_dies_between_an_end_and_what_follows_from_it() {
    for (step, rule, jobs) in [
        ("halt.count", "soon,fail=2", 2),
        ("halt.link", "soon,fail=2", 2),
        ("halt.link", "now,fail=1", 1),
    ] {
        let mut it = Halting::new();
        it.s.set("COORD_STEP", &format!("coord-worker/{step}:crash"));
        let out = it.run(&["-n", "1", "--halt", rule], "echo {} >> ran; exit 1", 9);
        out.warns(&format!("stopped by --halt: {jobs} of 9 jobs are over, {jobs} failed"));
        assert_eq!(it.ran().len(), jobs, "{step} {rule}");
        assert!(it.s.processes().is_empty());
    }
}

/// Killed before its rule stands, a run is as if it had not begun.
#[test]
fn the_front_dies_before_its_rule_stands() {
    let mut it = Halting::new();
    it.s.set("COORD_STEP", "coord/halt.link:crash");
    let halt = ["-n", "1", "--halt", "soon,fail=1"];
    let line = "echo {} >> ran; [ {} != 2 ]";
    assert_eq!(it.run(&halt, line, 5).code, 128 + 9);
    it.s.set("COORD_STEP", "");
    it.run(&halt, line, 5).exits(1).warns("2 of 5 jobs are over, 1 failed");
    assert_eq!(it.ran(), [1, 2]);
}

/// A run ends with its last worker, whatever of what that told was read: no further look is waited for.
#[test]
fn a_short_run_does_not_wait_when_its_workers_have_left() {
    let mut s = Sandbox::new();
    s.set("COORD_LOG", "coord::program::front=debug");
    for _ in 0..8 {
        for words in [
            &["run", "-n", "1", "true", ":::", "1", "2"][..],
            &["run", "-n", "2", "true", ":::", "1", "2"],
            &["run", "-n", "1", "true", ":::", "1"],
            &["run", "-n", "1", "true", ":::", "1", "2", "3"],
            &["run", "-n", "2", "true", "-a", "/dev/null"],
        ] {
            let out = s.coord(words);
            let looks = out.stderr.lines().find(|line| line.contains("looks=")).unwrap();
            let looks = looks.split("looks=").nth(1).unwrap();
            let looks: u32 =
                looks.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
            assert!(looks <= 2, "{words:?}: {looks} looks after the last worker had left");
        }
    }
}

/// Who joins dies before it has a number: nobody waits for that, and the next one gets it.
#[test]
fn who_joins_dies_before_it_has_a_number() {
    let mut it = Halting::new();
    let line = "echo {%} >> ran; until [ -e go ]; do sleep 0.01; done; : {}";
    let jobs: Vec<String> = (1..=4).map(|job| job.to_string()).collect();
    let front = it.s.background(&it.words(&["-n", "1"], line, &jobs));
    until("a job runs", || it.s.lines("ran").len() == 1);
    let home = it.home.to_str().unwrap().to_owned();
    it.s.set("COORD_STEP", "coord/jobs.join:crash");
    assert_eq!(it.s.coord(&["-C", &home, "work", "--until-empty"]).code, 128 + 9);
    it.s.set("COORD_STEP", "");
    let joined = it.s.background(&["-C", &home, "work", "--until-empty"]);
    until("it runs one too", || it.s.lines("ran").len() == 2);
    assert_eq!(it.ran(), [1, 2]);
    it.s.sh("touch go");
    it.s.collect(front).ok();
    it.s.collect(joined).ok();
}
