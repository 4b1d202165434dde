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
