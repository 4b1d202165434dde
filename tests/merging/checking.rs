//! The check before a merge: its time, its moods, what it leaves running, and where it runs.

use std::process::Stdio;

use crate::desk::{desk, edit, merge_of, states, with, work};
use crate::support::until;

#[test]
fn a_check_that_does_not_end_is_ended_and_is_red() {
    let s = with(
        "max_bounces = 0\ncheck_timeout = \"1s\"\n\
         check = \"echo looking; if test -e slow.txt; then tail -f /dev/null; fi\"",
    );
    edit(&s, "A", &[], "echo slow >slow.txt");
    edit(&s, "B", &[], "echo quick >quick.txt");
    work(&s);
    assert_eq!(states(&s, &["A", "B"]), "failed done");
    let context = merge_of(&s, "A", 1)["context"].as_str().unwrap().to_owned();
    assert!(context.contains("looking") && context.contains("its time is over"), "{context}");
    until("the check is gone", || s.processes().is_empty());
}

#[test]
fn a_check_that_is_red_and_then_green_returns_nothing_and_is_told() {
    // Red at its very first run only.
    let s = with("check = \"mkdir ../../seen 2>/dev/null && exit 1; exit 0\"");
    edit(&s, "A", &[], "echo a >a1.txt");
    work(&s);
    assert!(s.beside("seen").exists());
    assert_eq!(
        (s.state("A"), merge_of(&s, "A", 1)["verdict"].as_str()),
        ("done".into(), Some("pass"))
    );
    s.coord(&["status"]).ok().says("the check was red and then green on the same commit");
}

#[test]
fn what_a_check_leaves_running_is_ended_and_not_waited_for() {
    let s = with("batch = 1\ncheck = \"setsid tail -f /dev/null & exit 0\"");
    for id in ["A", "B", "C", "D"] {
        edit(&s, id, &[], &format!("echo {id} >{id}.txt"));
    }
    work(&s);
    assert_eq!(states(&s, &["A", "B", "C", "D"]), "done done done done");
    assert!(s.processes().is_empty(), "a check has left something running");
    // Nobody stood in its worktree, so it needed no other.
    let pool = s.beside("project.coord");
    assert!(pool.join("merge.main").exists() && !pool.join("merge.main.2").exists());
}

#[test]
fn somebody_in_the_worktree_of_the_checks_is_in_nobodys_way() {
    let s = desk("batch = 1");
    edit(&s, "A", &[], "echo a >a1.txt");
    work(&s);
    let there = s.beside("project.coord/merge.default");
    let mut somebody = s.command("tail");
    somebody.args(["-f", "/dev/null"]).current_dir(&there).stdout(Stdio::null());
    let mut somebody = somebody.spawn().unwrap();
    s.coord(&["mergeq", "pause"]).ok();
    let ids = ["B", "C", "D", "E"];
    ids.iter().for_each(|id| edit(&s, id, &[], &format!("echo {id} >{id}.txt")));
    work(&s);
    s.coord(&["mergeq", "resume"]).ok();
    // One turn, with a check for each.
    s.coord(&["merge"]).ok();
    somebody.kill().unwrap();
    somebody.wait().unwrap();
    assert_eq!(states(&s, &ids), "done done done done");
    assert!(!s.beside("project.coord/merge.default.3").exists(), "a worktree was lost on the way");
}
