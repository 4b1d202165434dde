//! One worker in a terminal needs nothing else.

use crate::inside::worker_of;
use crate::support::{Sandbox, kill, until};

#[test]
fn one_worker_alone_finishes_everything() {
    let s = Sandbox::new();
    // A worker died in the middle of a task, and nobody noticed.
    s.add(
        &["--id", "torn"],
        "[ $COORD_ATTEMPT = 2 ] || { setsid sleep 1000 & echo $! > pid; wait; }",
    );
    let mut victim = s.background(&["work"]);
    until("it runs", || !s.text("pid").trim().is_empty());
    s.until_state("torn", "running");
    kill(worker_of(&s, "torn"));
    victim.wait().unwrap();
    assert_eq!(s.state("torn"), "running", "nobody is there to find it");
    s.add(&["--id", "chain-2", "-a", "chain-1"], "true");
    s.add(&["--id", "chain-1", "-a", "torn"], "true");
    s.add(&["--id", "again", "--backoff", "100ms"], "[ $COORD_ATTEMPT = 3 ]");
    s.add(&["--id", "later", "--not-before", "1s"], "true");
    s.add(&["--id", "last", "-a", "later,again,chain-2"], "coord add --id child --sh true");
    s.coord(&["add", "--id", "hand", "--manual", "by a person"]).ok();
    s.add(&["--id", "waits", "-a", "hand"], "true");
    std::fs::write(s.queue("incoming/.x"), "{\"id\":\"dropped\",\"sh\":\"true\"}").unwrap();
    std::fs::rename(s.queue("incoming/.x"), s.queue("incoming/x.json")).unwrap();
    s.work().ok();
    for id in ["torn", "chain-1", "chain-2", "again", "later", "last", "child", "dropped"] {
        assert_eq!(s.state(id), "done", "{id}");
    }
    assert_eq!((s.state("hand"), s.state("waits")), ("manual".to_owned(), "blocked".to_owned()));
    assert_eq!(s.end("torn", 1)["verdict"], "expired");
    assert!(!crate::support::alive(s.text("pid").trim().parse().unwrap()));
    assert!(s.processes().is_empty());
    assert_eq!(s.names("procs"), ["bell"]);
}

#[test]
fn ctrl_c_finishes_the_task_and_a_second_one_hands_it_back() {
    use nix::sys::signal::{Signal, kill};
    let s = Sandbox::new();
    s.add(&["--id", "T"], "touch up; until [ -e go ]; do sleep 0.01; done");
    s.add(&["--id", "U"], "touch up2; exec sleep 1000");
    let worker = s.background(&["work"]);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(worker.id()).unwrap());
    until("it runs", || s.root.join("up").exists());
    kill(pid, Signal::SIGINT).unwrap();
    s.sh("touch go");
    s.collect(worker).warns("finishing T, then leaving");
    assert_eq!((s.state("T"), s.state("U")), ("done".to_owned(), "ready".to_owned()));
    let worker = s.background(&["work"]);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(worker.id()).unwrap());
    until("it runs", || s.root.join("up2").exists());
    kill(pid, Signal::SIGTERM).unwrap();
    s.collect(worker);
    assert_eq!(s.end("U", 1)["verdict"], "release");
    assert_eq!(s.end("U", 1)["charged"], 0);
}

#[test]
fn a_worker_may_be_told_the_queue_by_a_relative_path() {
    let s = Sandbox::new();
    s.coord(&["add", "--id", "a", "--sh", "pwd > where"]).ok();
    s.run("coord-worker", &["--dir", ".coord", "--until-empty"]).ok();
    assert!(s.root.join("where").exists() && s.queue("tasks/a/1.end").exists());
}

#[test]
fn a_death_that_is_heard_of_while_a_task_runs_is_not_forgotten() {
    let s = Sandbox::new();
    // Nothing else than that death makes anybody look.
    s.configure("[lease]\nexpire = \"2h\"\n");
    let toml = s.text("coord.toml").replace("[workers]", "[workers]\nrescan = \"2h\"");
    std::fs::write(s.root.join("coord.toml"), toml).unwrap();
    let mut workers = [s.background(&["work"]), s.background(&["work"])];
    let pids = [0, 1].map(|at: usize| i32::try_from(workers[at].id()).unwrap());
    until("each watches the other", || watches(pids[0], pids[1]) && watches(pids[1], pids[0]));
    s.add(&["--id", "torn"], "[ $COORD_ATTEMPT = 2 ] || exec sleep 1000");
    s.until_state("torn", "running");
    let victim = worker_of(&s, "torn");
    let at = pids.iter().position(|pid| *pid == victim).unwrap();
    let other = pids[1 - at];
    // It knows of the claim, so from now on no event makes it look.
    until("it is not told of events", || !hears(other, &s.queue("events/bell")));
    s.add(&["--id", "long"], "until [ -e go ]; do sleep 0.01; done");
    s.until_state("long", "running");
    kill(victim);
    workers[at].wait().unwrap();
    // The pid of one that was reaped is shown as -1.
    until("the other one has heard of it", || !watches(other, victim) && !watches(other, -1));
    s.sh("touch go");
    s.until_state("torn", "done");
    kill(other);
    workers[1 - at].wait().unwrap();
    s.work().ok();
}

/// Whether a process watches a file by inotify.
fn hears(pid: i32, path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let number = std::fs::metadata(path).unwrap().ino();
    describes(pid, &format!(" ino:{number:x} "))
}

/// Whether a process has a descriptor for another one.
fn watches(pid: i32, other: i32) -> bool {
    describes(pid, &format!("Pid:\t{other}\n"))
}

/// Whether what the kernel says of a process's descriptors has this in it.
fn describes(pid: i32, what: &str) -> bool {
    let Ok(all) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return false };
    let text = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path()).unwrap_or_default();
    all.flatten().any(|entry| text(entry).contains(what))
}
