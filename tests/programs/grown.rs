//! A list that has become longer at its end: an unfinished run goes on with what is new.

use crate::run::{newest, runs, sh};
use crate::support::{Sandbox, kill, patiently, until};

/// Jobs from the third on wait until they may go on.
const LINE: &[&str] = &[
    "run",
    "-k",
    "-n",
    "2",
    "-a",
    "list",
    "--sh",
    "echo {} >> ran; [ {} -le 2 ] || until [ -e go ]; do sleep 0.01; done; echo {}",
];

fn sorted(s: &Sandbox) -> Vec<String> {
    let mut lines = s.lines("ran");
    lines.sort();
    lines
}

/// Whether the list of the run was read to its end.
fn is_closed(s: &Sandbox) -> bool {
    let (queue, id) = newest(s);
    queue.join(format!(".coord/tasks/{id}/jobs/closed")).exists()
}

#[test]
fn a_run_that_was_killed_goes_on_with_what_is_new() {
    let s = Sandbox::new();
    s.sh("seq 4 > list");
    let child = s.background(LINE);
    until("two wait", || s.lines("ran").len() >= 4 && is_closed(&s));
    assert!(patiently(|| {
        let left = s.processes();
        left.iter().for_each(|pid| kill(*pid));
        left.is_empty()
    }));
    s.collect(child);
    s.sh("touch go; printf '5\\n6\\n' >> list");
    s.coord(LINE)
        .ok()
        .warns("going on where it stopped: 2 of 4 jobs are over")
        .warns("all 6 jobs done");
    assert_eq!(sorted(&s), ["1", "2", "3", "3", "4", "4", "5", "6"]);
    // It is the whole list now, and was over: it begins anew.
    assert_eq!(s.coord(LINE).ok().stdout, "1\n2\n3\n4\n5\n6\n");
    assert_eq!(runs(&s).len(), 2);
    for id in runs(&s) {
        let queue = s.queue(&format!("runs/{id}"));
        s.coord(&["-C", queue.to_str().unwrap(), "fsck", "--strict"]).ok();
    }
}

/// Starts it and kills its front alone, once the list was read and `closed` says so.
fn front_dies(s: &Sandbox, words: &[&str], closed: &str) {
    let mut child = s.background_into("out", words);
    until("two wait", || s.lines("ran").len() >= 4);
    let (queue, id) = newest(s);
    let closed = queue.join(format!(".coord/tasks/{id}/jobs/{closed}"));
    until("the list was read", || closed.exists());
    kill(i32::try_from(child.id()).unwrap());
    child.wait().unwrap();
}

#[test]
fn a_run_that_grows_twice() {
    let s = Sandbox::new();
    s.sh("seq 4 > list");
    for (closed, next) in [("closed", 5), ("closed.1", 6)] {
        front_dies(&s, LINE, closed);
        s.sh(&format!("echo {next} >> list"));
    }
    // Its workers live, and would finish it alone.
    let child = s.background(LINE);
    let (queue, id) = newest(&s);
    let closed = queue.join(format!(".coord/tasks/{id}/jobs/closed.2"));
    until("the rest was read", || closed.exists());
    s.sh("touch go");
    s.collect(child).ok().warns("all 6 jobs done");
    assert_eq!(sorted(&s), ["1", "2", "3", "4", "5", "6"]);
}

#[test]
fn what_its_workers_finished_alone_does_not_grow_and_says_so() {
    for (last, state) in [("true", "done"), ("false", "failed")] {
        let s = Sandbox::new();
        s.sh("seq 4 > list");
        let line = format!("{}; [ {{}} != 4 ] || {last}", LINE[7]);
        let words = [&LINE[..7], &[&line]].concat();
        front_dies(&s, &words, "closed");
        s.sh("touch go");
        until("its workers finish it", || {
            s.coord(&["runs", "--json"]).json("coord.runs/1")["runs"][0]["state"] == state
        });
        s.sh("printf '5\\n' >> list");
        s.coord(&words)
            .exits(255)
            .warns("its list has grown since")
            .warns("--resume")
            .warns("--fresh");
        let resumed = [&["run", "--resume"], &words[1..]].concat();
        let told = s.coord(&resumed);
        told.exits(i32::from(last == "false")).warns("going on where it stopped: 4 of 4");
        assert_eq!(sorted(&s), ["1", "2", "3", "4"], "nothing ran again");
    }
}

#[test]
fn from_a_pipe_as_well_and_never_for_a_task_of_the_queue() {
    let s = Sandbox::new();
    let line = "cat list | coord run -n 1 --halt now,fail=1 --sh 'echo {} >> ran; \
                until ls .coord/runs/*/.coord/tasks/*/jobs/closed > closed 2>&1; do sleep 0.01; done; \
                [ {} != 2 ] || [ -e go ]'";
    s.sh("seq 3 > list");
    sh(&s, line).exits(1).warns("stopped by --halt");
    s.sh("touch go; echo 4 >> list");
    sh(&s, &line.replace("now,fail=1", "never")).exits(1).warns("4 jobs are over, 1 failed");
    // What `now` ended has run once more.
    let mut ran = sorted(&s);
    ran.dedup();
    assert_eq!(ran, ["1", "2", "3", "4"]);
    s.coord(&["map", "--id", "M", "-a", "list", "true"]).ok();
    s.sh("echo 5 >> list");
    s.coord(&["map", "--id", "M", "-a", "list", "true"]).exits(5).warns("M has another list");
}
