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
