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
