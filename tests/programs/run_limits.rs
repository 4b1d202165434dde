//! How many run at once, what the machine refuses, and what people do to a run with signals.

use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;

use crate::support::{Sandbox, kill, until};

fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

fn send(child: &Child, what: Signal) {
    signal(Pid::from_raw(pid(child)), what).unwrap();
}

/// `coord` with what a terminal leaves to it, whatever this process was told to ignore.
fn at_a_terminal(s: &Sandbox, args: &[&str]) -> Child {
    let mut command = s.command("env");
    command.arg("--default-signal=HUP,INT,QUIT,TSTP").arg("coord").args(args);
    let said = std::fs::File::create(s.root.join("said")).unwrap();
    command.stdout(Stdio::piped()).stderr(said).spawn().unwrap()
}

/// The state of a process, as /proc says it.
fn state(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap_or_default().split_whitespace().next().unwrap_or("").to_owned()
}

fn number(s: &Sandbox, file: &str) -> i32 {
    until(file, || s.lines(file).first().is_some_and(|line| line.parse::<i32>().is_ok()));
    s.lines(file)[0].parse().unwrap()
}

#[test]
fn what_is_stopped_with_ctrl_z_stands_still_with_its_children_and_goes_on() {
    let s = Sandbox::new();
    let line = "echo $$ >job; (until [ -e go ]; do sleep 0.01; done) & echo $! >child; wait; : {}";
    let run = at_a_terminal(&s, &["run", "-n", "1", "--timeout", "60s", "--sh", line, ":::", "1"]);
    let all = [pid(&run), number(&s, "job"), number(&s, "child")];
    send(&run, Signal::SIGTSTP);
    for one in all {
        until("it stands still", || state(one) == "T");
    }
    send(&run, Signal::SIGCONT);
    for one in all {
        until("it goes on", || state(one) != "T");
    }
    s.sh("touch go");
    s.collect(run).ok();
}

#[test]
fn who_does_not_listen_is_killed_at_once_when_that_is_asked_for() {
    for signals in [&[Signal::SIGQUIT][..], &[Signal::SIGINT, Signal::SIGINT, Signal::SIGINT]] {
        let s = Sandbox::new();
        let line = "trap '' TERM; echo $$ >job; until [ -e go ]; do sleep 0.01; done; : {}";
        let run = at_a_terminal(&s, &["run", "-n", "1", "--sh", line, ":::", "1"]);
        let job = number(&s, "job");
        for (what, answer) in signals.iter().zip(["finishing what runs", "ending what runs", ""]) {
            send(&run, *what);
            // Two that come at once are one.
            if signals.len() > 1 {
                until(answer, || s.text("said").contains(answer));
            }
        }
        s.collect(run).exits(130);
        assert!(s.text("said").contains("the same command goes on"));
        assert_eq!(state(job), "", "{signals:?}");
    }
}

#[test]
fn a_signal_that_was_ignored_stays_ignored_for_coord_and_its_jobs() {
    let s = Sandbox::new();
    let line = "grep SigIgn /proc/self/status >ignored; until [ -e go ]; do sleep 0.01; done; : {}";
    let mut command = s.command("env");
    command.args(["--default-signal=QUIT", "--ignore-signal=HUP,INT", "coord", "run", "-n", "1"]);
    command.args(["--sh", line, ":::", "1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = command.spawn().unwrap();
    until("the job runs", || !s.lines("ignored").is_empty());
    send(&run, Signal::SIGHUP);
    send(&run, Signal::SIGINT);
    s.sh("touch go");
    s.collect(run).ok();
    let mask = s.lines("ignored")[0].split_whitespace().nth(1).unwrap().to_owned();
    let mask = u64::from_str_radix(&mask, 16).unwrap();
    assert_eq!(mask & 0b111, 0b011, "HUP and INT, as by exec, and QUIT not");
}

#[test]
fn no_more_run_than_were_asked_for_when_a_run_goes_on_beside_its_old_workers() {
    let s = Sandbox::new();
    let line = "echo {%} >> places; mkdir in.{%} || echo two in {%} >> twice; \
                until [ -e go ]; do sleep 0.01; done; sleep 0.05; rmdir in.{%}; : {}";
    let words = |n: &'static str| {
        ["run", "-n", n, "--queue", "q", "--sh", line, ":::", "1", "2", "3", "4", "5", "6", "7"]
    };
    let first = s.background(&words("3"));
    until("three jobs run", || s.lines("places").len() == 3);
    kill(pid(&first));
    drop(s.collect(first));
    let second = s.background(&words("2"));
    until("it goes on", || s.sh("ls q/.coord/tasks/*/jobs").stdout.contains("halt.2"));
    let joined = s.background(&["-C", "q", "work", "--until-empty"]);
    until("who has joined runs one too", || s.lines("places").len() == 4);
    assert_eq!(s.lines("places")[3], "4", "above those of the run that are still there");
    s.sh("touch go");
    s.collect(second).ok();
    s.collect(joined).ok();
    assert!(!s.root.join("twice").exists(), "{:?}", s.lines("twice"));
    let later = s.lines("places").split_off(4);
    assert!(later.iter().all(|place| ["1", "2", "4"].contains(&place.as_str())), "{later:?}");
}

/// A program that is being written is not started, as one is not for which the machine has no process:
/// it is tried again, and is no failure of the job.
#[test]
fn what_cannot_be_started_yet_is_waited_for() {
    let s = Sandbox::new();
    s.sh("cp /bin/true program");
    let path = s.root.join("program");
    // Not inherited by what is started here.
    let written = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    let run = s.background(&["run", "-n", "1", "--queue", "q", "./program", ":::", "1", "2"]);
    until("it was tried", || {
        s.sh("cat q/.coord/log/*.log 2>&1 || true").stdout.contains("trying again")
    });
    drop(written);
    s.collect(run).ok();
}

#[test]
fn a_limit_of_memory_holds_for_every_worker_and_says_so() {
    let s = Sandbox::new();
    s.configure("[limits]\nmemory_free = \"9000TB\"\n");
    s.add(&[], "true");
    let worker = s.background(&["work", "--until-empty"]);
    until("it says why", || s.coord(&["status"]).stdout.contains("MiB of memory are free"));
    assert_eq!(s.state("1"), "ready");
    s.sh("sed -i s/9000TB/1M/ coord.toml");
    send(&worker, Signal::SIGTERM);
    s.collect(worker).warns("no new work: less than");
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.state("1"), "done");
}

#[test]
fn a_worker_that_has_left_since_all_is_over_is_not_replaced() {
    let s = Sandbox::bare();
    for round in 0..12 {
        let home = s.beside(&format!("run{round}"));
        s.coord(&["run", "--queue", home.to_str().unwrap(), "-n", "1", "true", ":::", "1"]).ok();
        let log = s.text(home.join(".coord/log/w1.log"));
        assert_eq!(log.matches("registered").count(), 1, "{log}");
    }
}
