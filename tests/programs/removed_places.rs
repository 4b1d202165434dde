//! Workers whose directory in `procs/` somebody removes while they work: they register again, and what they
//! finish counts; and when they die after that, nothing of theirs stays behind.

use std::process::Child;

use crate::support::{Sandbox, alive, kill, until};

/// A queue whose workers look at their claims all the time, and can be found by no control group.
fn sandbox() -> Sandbox {
    let mut s = Sandbox::new();
    s.configure("[lease]\nexpire = \"3s\"\nheartbeat = \"100ms\"\n");
    s.set("COORD_NO_CGROUP", "1");
    s
}

fn place(s: &Sandbox) -> Option<String> {
    s.names("procs").into_iter().find(|name| name.starts_with("solo-"))
}

/// Removes the worker's directory, and waits until it is registered again with this in its `run/`.
fn remove_place(s: &Sandbox, intent: &str) {
    let before = place(s).unwrap();
    s.sh(&format!("rm -r .coord/procs/{before}"));
    until("it has registered again, with what it holds", || {
        place(s).is_some_and(|name| s.names(&format!("procs/{name}/run")).contains(&intent.into()))
    });
}

fn die(s: &Sandbox, worker: Child) {
    kill(i32::try_from(worker.id()).unwrap());
    drop(s.collect(worker));
}

/// A list of two jobs; the first try of each waits until it may go on.
const GATED: &str =
    "echo {} >> ran; touch up; until [ -e go ]; do sleep 0.01; done; echo {} printed";

#[test]
fn a_job_of_a_list_whose_worker_was_removed_runs_once_and_is_recorded() {
    for at_the_end in [false, true] {
        let s = sandbox();
        s.coord(&["map", "--id", "M", "--sh", GATED, ":::", "1", "2"]).ok();
        let worker = s.background(&["work", "--until-empty"]);
        until("it runs", || s.root.join("up").exists());
        let before = place(&s).unwrap();
        if at_the_end {
            // At one instant: it has nowhere to stage its end.
            s.sh(&format!("touch go; mv .coord/procs/{before} gone && rm -r gone"));
        } else {
            remove_place(&s, "_jobs.M.0000000001");
            s.coord(&["fsck", "--strict"]).ok();
            s.sh("touch go");
        }
        s.collect(worker).ok();
        assert_eq!(s.state("M"), "done");
        assert_eq!(s.lines("ran"), ["1", "2"], "each job ran once");
        for (job, holder) in [("1", Some(before.as_str())), ("2", None)] {
            let end = s.text(format!(".coord/tasks/M/jobs/0000000001/{job}.1.end"));
            let end: serde_json::Value = serde_json::from_str(&end).unwrap();
            assert_eq!(end["verdict"], "done", "{end}");
            assert!(holder.is_none_or(|holder| end["holder"] == holder), "{end}");
            s.coord(&["logs", &format!("M/{job}")]).ok().says(&format!("{job} printed"));
        }
        s.coord(&["fsck", "--strict"]).ok();
    }
}

#[test]
fn a_job_whose_worker_was_removed_and_killed_is_taken_back() {
    let s = sandbox();
    s.coord(&["map", "--id", "M", "--sh", GATED, ":::", "1"]).ok();
    let worker = s.background(&["work", "--until-empty"]);
    until("it runs", || s.root.join("up").exists());
    remove_place(&s, "_jobs.M.0000000001");
    die(&s, worker);
    s.sh("touch go");
    s.work().ok();
    assert_eq!((s.state("M").as_str(), s.lines("ran").len()), ("done", 2));
    let end = s.text(".coord/tasks/M/jobs/0000000001/1.1.end");
    assert!(end.contains("expired"), "{end}");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn what_a_removed_and_killed_worker_has_left_running_is_found_by_its_leader() {
    let s = sandbox();
    // Its environment says nothing, and no parent of it lives.
    s.add(&["--id", "T"], "[ $COORD_ATTEMPT != 1 ] || { echo $$ > pid; exec env -i sleep 1000; }");
    let worker = s.background(&["work", "--until-empty"]);
    until("it runs", || !s.lines("pid").is_empty());
    remove_place(&s, "_leader.T.1");
    until("it holds it again", || {
        place(&s).is_some_and(|name| s.queue(&format!("procs/{name}/run/T.1")).exists())
    });
    die(&s, worker);
    s.work().ok();
    assert_eq!(s.end("T", 1)["verdict"], "expired");
    assert_eq!(s.state("T"), "done");
    assert!(!alive(s.lines("pid")[0].parse().unwrap()), "it runs beside the next attempt");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn who_cancels_rings_a_worker_that_was_removed_by_its_present_name() {
    let s = sandbox();
    s.add(&["--id", "T"], "trap '' TERM; touch up; while :; do sleep 0.01; done");
    let worker = s.background(&["work", "--until-empty"]);
    until("it runs", || s.root.join("up").exists());
    remove_place(&s, "T.1");
    let bell = s.queue(&format!("procs/{}/bell", place(&s).unwrap()));
    let rung = || std::fs::metadata(&bell).unwrap().modified().unwrap();
    let before = rung();
    s.coord(&["cancel", "T"]).ok();
    assert_ne!(rung(), before);
    s.collect(worker);
    assert_eq!(s.state("T"), "cancelled");
}
