//! `coord run` that is stopped or killed goes on with the same command; it does not wait for its input,
//! and does not grow with it.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;

use crate::run::{claims, newest, runs, sh};
use crate::support::{Output, Sandbox, kill, patiently, until};

fn started(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

/// Jobs of which all but the first two wait until they may go on.
const GATED: &str = "echo {} >> ran; [ {} -le 2 ] || until [ -e go ]; do sleep 0.01; done; echo {}";

fn gated<'a>(list: &'a [&'a str]) -> Vec<&'a str> {
    [&["run", "-k", "-n", "2", "--sh", GATED, ":::"], list].concat()
}

/// Starts it, and waits until the jobs that wait are running.
fn until_two_wait(s: &Sandbox, list: &[&str]) -> Child {
    let child = s.background(&gated(list));
    until("two jobs wait", || s.lines("ran").len() >= 4);
    child
}

fn sorted(s: &Sandbox) -> Vec<String> {
    let mut lines = s.lines("ran");
    lines.sort();
    lines
}

const LIST: [&str; 6] = ["1", "2", "3", "4", "5", "6"];

#[test]
fn ctrl_c_finishes_what_runs_and_the_same_command_goes_on() {
    let s = Sandbox::new();
    let child = until_two_wait(&s, &LIST);
    signal(Pid::from_raw(pid(&child)), Signal::SIGINT).unwrap();
    s.sh("touch go");
    let out = s.collect(child);
    out.exits(130).warns("finishing what runs (Ctrl-C again").warns("4 of 6 jobs are over");
    out.warns("the same command goes on");
    let mut shown: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(shown.len(), 4);
    let again = s.coord(&gated(&LIST));
    again.ok().warns("going on where it stopped: 4 of 6 jobs are over").warns("all 6 jobs done");
    shown.extend(again.stdout.lines());
    shown.sort_unstable();
    assert_eq!(shown, LIST, "what was shown is not shown again");
    assert_eq!((sorted(&s).len(), claims(&s), runs(&s).len()), (6, 6, 1), "each ran once");
}

#[test]
fn a_second_ctrl_c_ends_what_runs_and_that_runs_again() {
    let s = Sandbox::new();
    let mut child = until_two_wait(&s, &LIST);
    // Two signals that come at once are one.
    assert!(patiently(|| {
        let _ = signal(Pid::from_raw(pid(&child)), Signal::SIGINT);
        child.try_wait().unwrap().is_some()
    }));
    s.collect(child).exits(130).warns("2 of 6 jobs are over");
    assert_eq!(s.processes(), [0; 0]);
    s.sh("touch go");
    assert_eq!(s.coord(&gated(&LIST)).ok().stdout, "3\n4\n5\n6\n");
    assert_eq!(s.lines("ran").len(), 8, "those that were ended ran again, and nothing else");
}

#[test]
fn another_list_is_not_taken_for_the_same() {
    let s = Sandbox::new();
    // The first job waits until the list was read, the second one fails, the others wait.
    let line = "cat list | coord run -n 1 --halt now,fail=1 -k --sh 'echo {} >> ran; case {} in \
                1) until ls .coord/runs/*/.coord/tasks/*/jobs/closed > closed 2>&1; do sleep 0.01; done;; \
                2) exit 3;; *) until [ -e go ]; do sleep 0.01; done;; esac; echo {}'";
    s.sh("seq 5 > list");
    sh(&s, line).exits(3).warns("stopped by --halt");
    let before = s.lines("ran");
    for (list, says) in [
        ("1 2 x 4 5", "job 3 was [\"3\"] and is now [\"x\"]"),
        ("1 2", "job 3 was [\"3\"] and is now the end of the input"),
    ] {
        s.sh(&format!("printf '%s\n' {list} > list"));
        sh(&s, line).fails(255, says).warns("--resume").warns("--fresh");
        assert_eq!(s.lines("ran"), before, "nothing ran");
    }
    s.sh("touch go; seq 6 > list");
    let rest = line.replace("now,fail=1", "never");
    let resumed = rest.replace("-k", "-k --resume");
    sh(&s, &resumed).exits(1).says("3\n4\n5\n").warns("5 jobs are over, 1 failed");
    sh(&s, &resumed).fails(255, "no unfinished run of this command");
    let fresh = sh(&s, &rest.replace("-k", "-k --fresh"));
    assert_eq!(fresh.exits(1).stdout, "1\n3\n4\n5\n6\n");
}

/// Kills with `victims` while two jobs wait, and gives the same command again.
fn killed(victims: impl Fn(&Sandbox, &Child) -> Vec<i32>) -> (Sandbox, Output) {
    let s = Sandbox::new();
    let child = until_two_wait(&s, &LIST);
    for victim in victims(&s, &child) {
        kill(victim);
    }
    s.sh("touch go");
    s.collect(child);
    let again = s.coord(&gated(&LIST));
    (s, again)
}

fn workers(s: &Sandbox) -> Vec<i32> {
    let (home, _) = newest(s);
    let out = s.coord(&["-C", home.to_str().unwrap(), "workers", "--json"]);
    let workers = out.ok().json("coord.workers/1");
    let all = workers["workers"].as_array().unwrap().iter();
    all.map(|worker| i32::try_from(worker["pid"].as_i64().unwrap()).unwrap()).collect()
}

#[test]
fn the_front_is_killed_and_its_workers_finish() {
    let (s, again) = killed(|_, child| vec![pid(child)]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stdout.ends_with("5\n6\n"), "{again:?}");
    assert_eq!(sorted(&s), LIST.map(str::to_owned), "each ran once");
    assert_eq!((claims(&s), runs(&s).len()), (6, 1));
}

#[test]
fn failures_count_by_the_registers_and_not_by_what_was_told() {
    let s = Sandbox::new();
    let failing = format!("{GATED}; [ {{}} -le 3 ]");
    let run = ["run", "-n", "2", "--sh", &failing, ":::", "1", "2", "3", "4", "5", "6"];
    let child = s.background(&run);
    until("two jobs wait", || s.lines("ran").len() >= 4);
    let (home, id) = newest(&s);
    kill(pid(&child));
    s.sh("touch go");
    s.collect(child);
    until("its workers leave", || workers(&s).is_empty());
    let logs = home.join(".coord/tasks").join(id).join("jobs/*.log");
    s.sh(&format!("rm {}", logs.display()));
    s.coord(&run).exits(3).warns("3 failed");
}

#[test]
fn a_worker_is_killed_and_its_job_runs_again() {
    let s = Sandbox::new();
    let child = until_two_wait(&s, &LIST);
    kill(workers(&s)[0]);
    until("its job runs again", || s.lines("ran").len() == 5);
    s.sh("touch go");
    assert_eq!(s.collect(child).ok().stdout, "1\n2\n3\n4\n5\n6\n");
    assert_eq!((s.lines("ran").len(), claims(&s)), (7, 7), "its job, and nothing else");
}

#[test]
fn everything_is_killed_and_only_what_ran_runs_again() {
    let (s, again) = killed(|s, _| s.processes());
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(s.lines("ran").len(), 8, "{:?}", s.lines("ran"));
    assert_eq!(claims(&s), 8);
    let (home, _) = newest(&s);
    s.coord(&["-C", home.to_str().unwrap(), "fsck", "--strict"]).ok();
    let mut shown: Vec<&str> = again.stdout.lines().collect();
    shown.sort_unstable();
    assert!(shown.ends_with(&["3", "4", "5", "6"]), "{shown:?}");
}

#[test]
fn others_may_join_from_elsewhere() {
    let s = Sandbox::bare();
    let child = s.background(&[&["run", "--queue", "q"], &gated(&LIST)[1..]].concat());
    until("two jobs wait", || s.lines("ran").len() >= 4);
    let helper = s.background(&["-C", "q", "work", "--until-empty"]);
    until("a third one runs", || s.lines("ran").len() >= 5);
    until("all three are known", || {
        s.coord(&["-C", "q", "workers"]).ok().says("solo").stdout.matches("-1/").count() == 3
    });
    s.coord(&["-C", "q", "status"]).ok().says("2 of 6 jobs over, 3 running");
    s.sh("touch go");
    assert_eq!(s.collect(child).ok().stdout, "1\n2\n3\n4\n5\n6\n");
    s.collect(helper).ok();
    assert_eq!(sorted(&s), LIST.map(str::to_owned), "each ran once");
}

#[test]
fn the_first_job_starts_before_the_input_ends() {
    let s = Sandbox::new();
    let mut command = s.command(env!("CARGO_BIN_EXE_coord"));
    command.args(["run", "-n", "1", "--sh", "echo {} >> ran"]).stdin(Stdio::piped());
    let mut child = started(&mut command);
    let mut input = child.stdin.take().unwrap();
    for n in 1..=3 {
        writeln!(input, "{n}").unwrap();
        until("it ran while the input is open", || s.lines("ran").len() == n);
    }
    drop(input);
    s.collect(child).ok();
}

/// The most memory that a run of so many jobs ever had, KiB.
fn most_memory(s: &Sandbox, jobs: u32) -> u64 {
    let list = format!("list-{jobs}");
    s.sh(&format!("seq {jobs} > {list}"));
    let mut command = s.command(env!("CARGO_BIN_EXE_coord"));
    let mut child = started(command.args(["run", "-n", "2", "-a", &list, "/bin/true"]));
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    assert!(crate::support::patiently_for(std::time::Duration::from_secs(200), || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(kib.unwrap_or(0));
        child.try_wait().unwrap().is_some()
    }));
    s.collect(child).ok();
    most
}

#[test]
fn the_front_does_not_grow_with_its_list() {
    let s = Sandbox::new();
    let (few, many) = (most_memory(&s, 1000), most_memory(&s, 20_000));
    assert!(many < few + 4096, "{few} KiB for 1,000 jobs, {many} KiB for 20,000");
}
