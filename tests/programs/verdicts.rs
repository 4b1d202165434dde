//! What follows from a verdict follows from fields of the record, never from words for people.

use crate::support::Sandbox;

/// `coord cancel --reason` may say anything, also what coord itself says of a dead dependency.
#[test]
fn a_reason_that_names_a_dependency_does_not_bring_a_cancelled_task_back() {
    for reason in [
        "dependency A made this unnecessary",
        "dependency A failed",
        "dependency A was cancelled",
        "dependency A ",
    ] {
        let s = Sandbox::new();
        s.coord(&["add", "--id", "A", "--", "true"]).ok();
        s.coord(&["add", "--id", "B", "--after", "A", "--sh", "echo ran > ran"]).ok();
        s.coord(&["cancel", "B", "--reason", reason]).ok();
        s.coord(&["work", "--until-empty"]).ok();
        s.coord(&["fsck", "--repair"]).ok();
        s.coord(&["work", "--until-empty"]).ok();
        assert!(!s.root.join("ran").exists(), "{reason}: it ran");
        s.coord(&["ls", "--state", "cancelled", "-q"]).ok().says("B");
    }
}

/// The other way round: what followed from a dead dependency comes back with it.
#[test]
fn what_a_dead_dependency_cancelled_comes_back_when_it_is_retried() {
    let s = Sandbox::new();
    s.coord(&["add", "--id", "A", "--retries", "0", "--sh", "test -e good"]).ok();
    s.coord(&["add", "--id", "B", "--after", "A", "--on-dep-dead", "cancel", "--", "true"]).ok();
    s.coord(&["work", "--until-empty"]).exits(1);
    s.coord(&["show", "B"]).ok().says("cancel: dependency A failed");
    assert_eq!(s.end("B", 1)["because"], "A");
    s.sh("touch good");
    s.coord(&["retry", "A"]).ok();
    s.coord(&["work", "--until-empty"]).ok();
    s.coord(&["ls", "--state", "done", "-q"]).ok().says("A").says("B");
}

#[test]
fn a_cwd_that_is_missing_is_told_as_such_at_once() {
    for git in [false, true] {
        let s = if git { Sandbox::with_git() } else { Sandbox::new() };
        s.coord(&["add", "--id", "T", "--cwd", "no/where", "--", "true"]).ok();
        s.coord(&["work", "--until-empty"]).exits(1);
        s.coord(&["why", "T"]).ok().says("its cwd `no/where` is no directory in");
        assert_eq!((s.state("T"), s.names("tasks/T").len()), ("failed".to_owned(), 4));
        // Mended, it runs.
        s.sh("mkdir -p no/where && touch no/where/x");
        if git {
            s.sh("git add no && git commit -qm no");
        }
        s.coord(&["retry", "T"]).ok();
        s.coord(&["work", "--until-empty"]).ok();
    }
}

#[test]
fn what_was_added_as_held_begins_at_attempt_1() {
    let s = Sandbox::new();
    s.coord(&["add", "--id", "T", "--hold", "--sh", "echo $COORD_ATTEMPT > n"]).ok();
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.state("T"), "held");
    s.coord(&["release", "T"]).ok();
    s.coord(&["release", "T"]).fails(5, "T is not held");
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.text("n"), "1\n");
    assert_eq!(s.names("tasks/T"), ["0.reopen", "1.claim", "1.end", "1.out", "spec.json"]);
    s.coord(&["fsck", "--strict"]).ok();
    // Held again before it runs, the hold is attempt 1: it decided a claim.
    s.coord(&["add", "--id", "U", "--hold", "--", "true"]).ok();
    s.coord(&["release", "U"]).ok();
    s.coord(&["hold", "U"]).ok();
    assert_eq!(s.state("U"), "held");
    s.coord(&["release", "U"]).ok();
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(
        (s.state("U"), s.end("U", 2)["verdict"].as_str()),
        ("done".to_owned(), Some("done"))
    );
}

/// A task that is done and waits to be merged can be cancelled as long as it is not merged.
#[test]
fn what_waits_to_be_merged_can_be_cancelled() {
    let s = Sandbox::with_git();
    s.configure("[merge]\nenabled = true\n");
    for id in ["T", "U"] {
        let act = format!("echo {id} > {id} && git add {id} && git commit -qm {id}");
        s.coord(&["add", "--id", id, "--sh", &act]).ok();
    }
    s.coord(&["mergeq", "pause"]).ok();
    s.coord(&["work", "--max-tasks", "2"]).ok();
    assert_eq!((s.state("T"), s.state("U")), ("merging".to_owned(), "merging".to_owned()));
    // Asked while nothing is merged: it holds when merging goes on.
    s.coord(&["cancel", "T", "--reason", "not wanted"]).ok();
    s.coord(&["mergeq", "resume"]).ok();
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!((s.state("T"), s.state("U")), ("cancelled".to_owned(), "done".to_owned()));
    assert_eq!(s.sh("git ls-tree --name-only HEAD").stdout, "U\nfile\n");
    s.coord(&["fsck", "--strict"]).ok();
    s.coord(&["cancel", "U"]).fails(5, "over already");
    // Its branch is there, and another attempt may be made.
    s.sh("git rev-parse --verify -q refs/heads/coord/T/a1");
    s.coord(&["retry", "T"]).ok();
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.state("T"), "done");
}

/// Here and now, where nobody works; also where the branch that it was to be merged into is gone.
#[test]
fn a_cancel_needs_no_worker_and_no_target() {
    for gone in [false, true] {
        let s = Sandbox::with_git();
        s.configure("[merge]\nenabled = true\n");
        s.sh("git branch other");
        let act = "echo T > T && git add T && git commit -qm T";
        s.coord(&["add", "--id", "T", "--into", "other", "--sh", act]).ok();
        s.coord(&["mergeq", "pause"]).ok();
        s.coord(&["work", "--max-tasks", "1"]).ok();
        s.coord(&["mergeq", "resume"]).ok();
        if gone {
            s.sh("git branch -D other");
        }
        s.coord(&["cancel", "T"]).ok();
        assert_eq!(s.state("T"), "cancelled", "target gone: {gone}");
        s.coord(&["fsck", "--strict"]).ok();
    }
}

/// `coord retry` of what waits to be merged tries the merge once more.
#[test]
fn a_retry_of_what_waits_to_be_merged_tries_that_again() {
    let s = Sandbox::with_git();
    s.configure("[merge]\nenabled = true\n");
    s.sh("git branch other");
    let act = "echo T > T && git add T && git commit -qm T";
    s.coord(&["add", "--id", "T", "--into", "other", "--sh", act]).ok();
    s.sh("git branch -m other away");
    s.coord(&["work", "--until-empty"]);
    s.sh("git branch -m away other");
    s.coord(&["retry", "T"]).ok();
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.state("T"), "done");
}

#[test]
fn a_task_that_nobody_could_run_is_refused() {
    let s = Sandbox::new();
    s.coord(&["add", "think about it"]).fails(2, "nobody can run it").warns("--manual");
    s.coord(&["add", "think about it", "--manual"]).ok();
    assert_eq!(s.names("tasks").len(), 1);
    s.sh("echo '{\"title\":\"x\"}' > x.json && touch -d '1 minute ago' x.json && mv x.json .coord/incoming/");
    s.coord(&["work", "--once"]).exits(6);
    assert!(s.text(".coord/incoming/rejected/x.json.why").contains("nobody can run it"));
    // A role or a label that nobody serves is said in a line, and accepted.
    let mut worker = s.background(&["work", "--role", "tester"]);
    crate::support::until("it works", || s.coord(&["workers"]).stdout.contains("solo"));
    s.coord(&["add", "--id", "R", "--role", "painter", "--", "true"]).ok().warns("role painter");
    worker.kill().unwrap();
    worker.wait().unwrap();
}
