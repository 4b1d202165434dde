//! A queue that is copied while it is worked in: what the programs of the original hold in the copied
//! registers is handed back there, and nothing in the copy ever reaches the original's processes.

use std::process::Child;

use crate::support::{Sandbox, alive, kill, until};

/// The original: one worker that is at task T until the file `go` is in its directory. T runs beside it
/// as process `pid`.
struct Original {
    s: Sandbox,
    worker: Child,
}

const SHORT_LEASE: &str = "[lease]\nexpire = \"1s\"\nheartbeat = \"200ms\"\n";
const UNTIL_GO: &str =
    "echo $$ >pid; until test -e go; do sleep 0.05; done; echo $COORD_ATTEMPT >>ran";

impl Original {
    fn new(more: &str) -> Original {
        let s = Sandbox::new();
        s.configure(more);
        s.add(&["--id", "T", "--retries", "0"], UNTIL_GO);
        let worker = s.background(&["work"]);
        until("T runs", || s.root.join("pid").exists());
        Original { s, worker }
    }

    /// From now on `s` is the copy, in which T ends at once.
    fn copied(&mut self) {
        self.s.sh("cp -a ../project ../copy && touch ../copy/go");
        self.s.root = self.s.beside("copy");
    }

    fn job(&self) -> i32 {
        self.s.text(self.s.beside("project").join("pid")).trim().parse().unwrap()
    }

    /// Back in the original nothing has happened: its worker ends what it was at.
    fn goes_on(mut self) {
        self.s.root = self.s.beside("project");
        assert!(alive(self.worker.id().cast_signed()), "the worker of the original was ended");
        assert!(alive(self.job()), "what it runs was ended");
        self.s.sh("touch go");
        self.s.until_state("T", "done");
        assert_eq!(self.s.text("ran"), "1\n");
        self.s.coord(&["stop"]).ok();
        self.s.collect(self.worker).ok();
        self.s.coord(&["fsck", "--strict"]).ok();
    }
}

/// In the copy T was handed back, and done by its second attempt.
fn was_handed_back(s: &Sandbox) {
    s.until_state("T", "done");
    let first = s.end("T", 1);
    assert_eq!((&first["verdict"], &first["why"]), (&"release".into(), &"copied".into()));
    assert_eq!(first["charged"], 0, "no fault of the task");
    assert_eq!(s.text("ran"), "2\n");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_copy_hands_back_after_a_lease_and_leaves_the_worker_of_the_original_alone() {
    let mut o = Original::new(SHORT_LEASE);
    o.copied();
    o.s.coord(&["init"]).ok().warns("this queue is a copy: programs of its original");
    o.s.work()
        .ok()
        .warns("this queue is a copy: programs of its original")
        .warns("coord init --adopt");
    o.s.coord(&["init"]).ok().silent_about("is a copy");
    was_handed_back(&o.s);
    assert_eq!(o.s.names("procs"), ["bell"], "what was copied of the dead is gone");
    o.goes_on();
}

#[test]
fn a_worker_that_stands_still_in_the_original_is_not_ended_from_its_copy() {
    let mut o = Original::new(SHORT_LEASE);
    let pid = nix::unistd::Pid::from_raw(o.worker.id().cast_signed());
    // It beats nowhere any more: in the original it would be ended for that.
    nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).unwrap();
    o.copied();
    o.s.work().ok();
    was_handed_back(&o.s);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGCONT).unwrap();
    o.goes_on();
}

#[test]
fn an_adopted_copy_is_its_own_at_once() {
    // The lease of a minute does not run out.
    let mut o = Original::new("");
    o.s.coord(&["init", "--adopt"]).fails(5, "this very directory is worked in: solo-");
    let before = o.s.text(".coord/layout.json");
    o.copied();
    o.s.coord(&["init", "--adopt"]).ok().warns("queue adopted: ").warns("handed back").warns("T.1");
    assert_ne!(o.s.text(".coord/layout.json"), before, "another uid");
    o.s.work().ok();
    was_handed_back(&o.s);
    o.goes_on();
}

#[test]
fn an_adoption_that_dies_half_way_is_given_again() {
    for step in ["adopt.layout", "recover.declare", "recover.expire", "recover.drop_intent"] {
        let mut o = Original::new("");
        o.copied();
        let mut adopt = o.s.command("coord");
        adopt.args(["init", "--adopt"]).env("COORD_STEP", format!("{step}:crash"));
        assert!(!adopt.status().unwrap().success(), "{step} was not reached");
        o.s.coord(&["init", "--adopt"]).ok();
        o.s.work().ok();
        // What was staged for the layout is nobody's.
        o.s.sh("rm -f .coord/.layout.*.tmp");
        was_handed_back(&o.s);
        o.goes_on();
    }
}

#[test]
fn a_cancel_by_force_in_a_copy_ends_nothing_of_the_original() {
    let mut o = Original::new("");
    o.copied();
    o.s.coord(&["cancel", "--force", "T"]).ok();
    assert_eq!(o.s.state("T"), "cancelled");
    o.goes_on();
}

#[test]
fn what_a_dead_worker_of_the_original_left_running_is_not_ended_from_a_copy() {
    let mut o = Original::new("");
    o.copied();
    let job = o.job();
    kill(o.worker.id().cast_signed());
    o.worker.wait().unwrap();
    // Its process is gone: no lease is waited for.
    o.s.work().ok();
    was_handed_back(&o.s);
    assert!(alive(job), "a job of the original was ended");
    // At home it is.
    o.s.root = o.s.beside("project");
    o.s.sh("touch go");
    o.s.work();
    until("its job is over", || !alive(job));
}

#[test]
fn the_programs_of_a_copy_are_started_and_stopped_by_themselves() {
    let mut s = Sandbox::new();
    s.start(1);
    s.sh("cp -a ../project ../copy");
    let original = s.root.clone();
    s.root = s.beside("copy");
    let states = |s: &Sandbox| {
        let all = s.coord(&["workers", "--json"]).ok().json("coord.workers/1")["workers"].clone();
        let all = all.as_array().unwrap().clone();
        all.iter().map(|w| w["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(states(&s).iter().all(|state| state == "copied"), "{:?}", states(&s));
    s.coord(&["stop"]).ok().warns("nobody works here");
    s.start(1);
    s.add(&["--id", "A"], "true");
    s.until_state("A", "done");
    s.coord(&["stop", "--timeout", "20s"]).ok();
    s.root = original;
    assert!(!states(&s).is_empty() && states(&s).iter().all(|state| state == "idle"));
    s.add(&["--id", "B"], "true");
    s.until_state("B", "done");
    s.coord(&["stop", "--timeout", "20s"]).ok();
}

#[test]
fn jobs_of_a_copied_list_are_handed_back_without_a_charge() {
    let mut s = Sandbox::new();
    s.configure(SHORT_LEASE);
    // A list is for the directory that it was given in, also in a copy: the second try waits for nothing.
    let line = "test $COORD_ATTEMPT != 1 || until test -e go; do sleep 0.05; done; echo {} >>ran";
    let run = s.background(&["run", "--queue", ".", "-n", "1", "--sh", line, ":::", "1"]);
    let claimed =
        || s.sh("ls .coord/tasks/*/jobs/*/1.1.claim 2>&1 || true").stdout.starts_with(".coord");
    until("a job runs", claimed);
    s.sh("cp -a ../project ../copy");
    let original = s.root.clone();
    s.root = s.beside("copy");
    s.work().ok();
    let id = s.names("tasks").pop().unwrap();
    assert_eq!(s.state(&id), "done");
    let end = s.text(format!(".coord/tasks/{id}/jobs/0000000001/1.1.end"));
    assert!(end.contains("\"release\"") && end.contains("\"copied\""), "{end}");
    s.coord(&["fsck", "--strict"]).ok();
    s.root = original;
    assert_eq!(s.text("ran"), "1\n", "by the second try");
    s.sh("touch go");
    s.collect(run).ok();
    assert_eq!(s.text("ran"), "1\n1\n", "by the first");
}

#[test]
fn a_queue_of_before_there_were_uids_is_known_by_its_inode() {
    let s = Sandbox::new();
    s.configure(SHORT_LEASE);
    let text = s.text(".coord/layout.json");
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("\"uid\"")).collect();
    assert!(without.len() + 1 == text.lines().count(), "{text}");
    std::fs::write(s.queue("layout.json"), without.join("\n")).unwrap();
    s.add(&["--id", "T", "--retries", "0"], UNTIL_GO);
    let worker = s.background(&["work"]);
    until("T runs", || s.root.join("pid").exists());
    let mut o = Original { s, worker };
    o.copied();
    o.s.coord(&["init", "--adopt"]).ok();
    assert!(o.s.text(".coord/layout.json").contains("\"uid\""));
    o.s.work().ok();
    was_handed_back(&o.s);
    o.goes_on();
}

#[test]
fn a_card_that_names_no_queue_counts_as_of_this_one() {
    // A worker of a script, or an older program: it is dead, and charged for that.
    let s = Sandbox::new();
    s.configure(SHORT_LEASE);
    s.add(&["--id", "T"], "true");
    let worker = s.background(&["work"]);
    s.until_state("T", "done");
    s.add(&["--id", "U"], UNTIL_GO);
    until("U runs", || s.root.join("pid").exists());
    let mut worker = worker;
    kill(worker.id().cast_signed());
    worker.wait().unwrap();
    let claim = s.queue("tasks/U/1.claim");
    let text = s.text(&claim);
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("\"queue\"")).collect();
    assert!(without.len() + 1 == text.lines().count(), "{text}");
    let wid = s.names("procs").into_iter().find(|name| name.starts_with("solo-")).unwrap();
    for path in [claim, s.queue(&format!("procs/{wid}/card.0.json"))] {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, without.join("\n")).unwrap();
    }
    s.sh("touch go");
    s.work().ok();
    assert_eq!(s.end("U", 1)["verdict"], "expired");
}
