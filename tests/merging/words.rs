//! What people are told of merging.

use crate::desk::{desk, edit, work};

#[test]
fn a_pause_of_merging_is_told_wherever_somebody_looks() {
    let s = desk("");
    s.coord(&["status"]).ok().silent_about("MERGING PAUSED");
    assert_eq!(s.coord(&["status", "--json"]).json("coord.status/1")["merging_paused"], false);
    s.coord(&["mergeq", "pause"]).ok();
    edit(&s, "A", &[], "echo a >a1.txt");
    work(&s);
    s.coord(&["status"]).ok().says("MERGING PAUSED (coord mergeq resume)");
    let status = s.coord(&["status", "--json"]).json("coord.status/1");
    assert_eq!((&status["merging_paused"], &status["paused"]), (&true.into(), &false.into()));
    // Not that nothing is left.
    let merge = s.coord(&["merge"]);
    merge.ok().warns("merging is paused: coord mergeq resume");
    assert!(!merge.stderr.contains("nothing is left"), "{merge:?}");
    assert_eq!(s.state("A"), "merging");
    s.coord(&["cancel", "A"]).ok().warns("the next turn to merge gives it back");
    assert_eq!(s.state("A"), "merging");
    s.coord(&["mergeq", "resume"]).ok();
    s.coord(&["status"]).ok().silent_about("MERGING PAUSED");
}

#[test]
fn what_does_not_wait_cannot_be_merged() {
    let s = desk("");
    edit(&s, "A1", &["--no-merge"], "echo a >a1.txt");
    work(&s);
    s.coord(&["merge", "A2"]).fails(4, "no task \"A2\"");
    s.coord(&["merge", "A1"]).fails(5, "A1 does not wait to be merged: it is done");
}
