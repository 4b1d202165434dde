//! A fleet: start, scale, stop, and what becomes of it when parts of it die.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::inside::worker_of;
use crate::support::{Sandbox, kill, until};

/// Names of the live programs, as `coord workers` shows them.
fn names(s: &Sandbox) -> Vec<String> {
    let shown = s.coord(&["workers", "--json"]).json("coord.workers/1");
    let mut all: Vec<Value> = shown["workers"].as_array().unwrap().clone();
    all.extend(shown["programs"].as_array().unwrap().clone());
    let live = all.iter().filter(|m| m["state"] != "dead");
    let names: BTreeSet<String> = live.map(|m| m["name"].as_str().unwrap().to_owned()).collect();
    names.into_iter().collect()
}

fn pid_of(s: &Sandbox, name: &str) -> Option<i32> {
    let shown = s.coord(&["workers", "--json"]).json("coord.workers/1");
    let all = [&shown["workers"], &shown["programs"]];
    let mut all = all.iter().flat_map(|list| list.as_array().unwrap().iter());
    let member = all.find(|m| m["name"] == name && m["state"] != "dead")?;
    i32::try_from(member["pid"].as_i64()?).ok()
}

#[test]
fn start_scale_and_stop() {
    let s = Sandbox::new();
    s.coord(&["stop"]).ok().warns("nobody works here");
    s.start(2);
    assert_eq!(names(&s).iter().filter(|n| n.starts_with('w')).count(), 2);
    s.coord(&["start"]).fails(5, "a coordinator is already running: pid ");
    s.coord(&["scale", "3"]).ok();
    let all = ["aggregator", "coordinator", "monitor", "w1", "w2", "w3"];
    until("three workers and the rest are up", || names(&s) == all);
    s.coord(&["scale", "1"]).ok();
    until("two left", || names(&s) == ["aggregator", "coordinator", "monitor", "w1"]);
    s.coord(&["scale", "1", "--role", "tester"]).ok();
    until("a tester is up", || names(&s).contains(&"tester1".to_owned()));
    s.coord(&["stop", "--timeout", "20s"]).ok();
    until("no process is left", || s.processes().is_empty());
    assert_eq!(s.names("control").iter().filter(|n| *n == "drain" || *n == "stop").count(), 0);
}

#[test]
fn stop_finishes_what_runs_and_stop_now_hands_it_back() {
    let s = Sandbox::new();
    s.start(1);
    s.add(&["--id", "T"], "touch up; until [ -e go ]; do sleep 0.01; done");
    s.add(&["--id", "U"], "true");
    until("it runs", || s.root.join("up").exists());
    let out = s.coord(&["stop", "--timeout", "300ms"]);
    out.exits(124);
    s.sh("touch go");
    s.coord(&["stop", "--timeout", "20s"]).ok();
    assert_eq!((s.state("T"), s.state("U")), ("done".to_owned(), "ready".to_owned()));
    s.add(&["--id", "V", "-p", "0"], "touch up2; [ $COORD_ATTEMPT = 2 ] || exec sleep 1000");
    s.start(1);
    until("it runs", || s.root.join("up2").exists());
    s.coord(&["stop", "--now", "--timeout", "20s"]).ok();
    let end = s.end("V", 1);
    assert_eq!(
        (&end["verdict"], &end["charged"], &end["retry"]),
        (&"release".into(), &0.into(), &true.into())
    );
    until("no process is left", || s.processes().is_empty());
    s.work().ok();
}

#[test]
fn start_until_empty_leaves_by_itself() {
    let s = Sandbox::new();
    s.add(&[], "true");
    s.add(&["--after", "1"], "true");
    s.coord(&["start", "-n", "2", "--until-empty"]).ok();
    assert_eq!(s.coord(&["status", "--count", "done"]).stdout, "2\n");
    until("no process is left", || s.processes().is_empty());
    s.add(&["--retries", "0"], "false");
    s.coord(&["start", "-n", "2", "--until-empty"]).exits(1);
}

#[test]
fn whatever_dies_comes_back_and_no_task_is_lost() {
    let s = Sandbox::new();
    s.start(2);
    let all = ["aggregator", "coordinator", "monitor", "w1", "w2"];
    until("all are up", || names(&s) == all);
    for name in ["w1", "monitor", "aggregator"] {
        let pid = pid_of(&s, name).unwrap();
        kill(pid);
        until("it is back", || pid_of(&s, name).is_some_and(|new| new != pid));
    }
    // Without the coordinator everything goes on; a new one adopts what it finds.
    kill(pid_of(&s, "coordinator").unwrap());
    let before = (pid_of(&s, "w1"), pid_of(&s, "w2"));
    let id = s.add(&[], "true");
    s.until_state(&id, "done");
    s.start(2);
    assert_eq!((pid_of(&s, "w1"), pid_of(&s, "w2")), before, "adopted, not started anew");
    s.add(&["--id", "T"], "[ $COORD_ATTEMPT = 2 ] || { touch up; exec sleep 1000; }");
    until("it runs", || s.root.join("up").exists());
    kill(worker_of(&s, "T"));
    s.until_state("T", "done");
    let end = s.end("T", 1);
    assert_eq!((&end["verdict"], &end["charged"]), (&"expired".into(), &1.into()));
    s.coord(&["stop", "--now", "--timeout", "20s"]).ok();
}

#[test]
fn a_foreground_start_drains_on_ctrl_c() {
    let s = Sandbox::new();
    let front = s.background(&["start", "-f", "-n", "1"]);
    let id = s.add(&[], "true");
    s.until_state(&id, "done");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(front.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    s.collect(front).ok();
    until("no process is left", || s.processes().is_empty());
}

/// A place with `coord` and the coordinator, and a `coord-worker` of the test's making or none.
fn install(s: &Sandbox, worker: Option<&str>) -> String {
    use std::os::unix::fs::PermissionsExt;
    let bin = s.beside("bin");
    std::fs::create_dir(&bin).unwrap();
    let built = std::path::Path::new(env!("CARGO_BIN_EXE_coord")).parent().unwrap().to_owned();
    for name in ["coord", "coord-coordinator", "coord-monitor", "coord-aggregator"] {
        std::fs::copy(built.join(name), bin.join(name)).unwrap();
    }
    if let Some(text) = worker {
        let path = bin.join("coord-worker");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    bin.join("coord").to_string_lossy().into_owned()
}

#[test]
fn where_no_worker_can_be_started_the_coordinator_works_by_itself() {
    let s = Sandbox::new();
    let coord = install(&s, None);
    let id = s.add(&[], "true");
    s.run(&coord, &["start", "-n", "2"]).ok();
    s.until_state(&id, "done");
    let end = s.end(&id, 1);
    assert!(end["by"].as_str().unwrap().starts_with("alone-"), "{end}");
    let status = s.coord(&["status"]);
    status.ok().says("no worker can be started: the coordinator works by itself");
    s.run(&coord, &["stop"]).ok();
    // What has left the queue is about to exit.
    until("no process is left", || s.processes().is_empty());
}

#[test]
fn a_worker_that_keeps_dying_is_started_less_and_less_often_and_said() {
    let s = Sandbox::new();
    let coord = install(&s, Some("#!/bin/sh\necho x >>\"$HOME/starts\"\nexit 9\n"));
    let child = {
        let mut command = s.command(&coord);
        let quiet = std::process::Stdio::null;
        command.args(["start", "-n", "1"]).stdout(quiet()).stderr(quiet()).spawn().unwrap()
    };
    until("it is said", || {
        s.coord(&["status"]).stdout.contains("has died 4 times right after its start (exit 9)")
    });
    until("the pause has grown", || {
        s.coord(&["status"]).stdout.contains("has died 5 times right after its start (exit 9)")
    });
    let starts = s.text(s.root.parent().unwrap().join("home/starts")).lines().count();
    assert!(starts <= 7, "{starts} starts: it did not back off");
    s.run(&coord, &["stop", "--now"]).ok();
    drop(child);
}
