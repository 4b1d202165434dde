//! What comes back from its merge: it learns its scope, goes first, and comes back once.

use std::fmt::Write;

use crate::desk::{desk, edit, merge_of, states, undone, work};
use crate::is_full;
use crate::support::{Sandbox, until};

/// Lines of a file at the tip of the branch.
fn lines(s: &Sandbox, file: &str) -> Vec<String> {
    let text = s.sh(&format!("git show main:{file}")).stdout;
    text.lines().map(str::to_owned).collect()
}

/// The numbers of a task's attempts.
fn attempts(s: &Sandbox, id: &str) -> usize {
    s.names(&format!("tasks/{id}")).iter().filter(|name| name.ends_with(".claim")).count()
}

/// Appends a line, or where its own change is in the worktree already keeps both sides of the conflict.
fn append(id: &str, file: &str) -> String {
    format!(
        r#"if [ -z "$COORD_REAPPLIED" ]; then
            echo {id} >>{file}
        elif [ -n "$COORD_CONFLICTS" ]; then
            test "$COORD_CONFLICTS" = {file} || exit 65
            sed -i -E '/^(<<<<<<<|=======|>>>>>>>)/d; /^\|\|\|\|\|\|\|/,/^=======/d' {file}
        else
            exit 0
        fi
        git add --all && git commit --quiet --message {id}"#
    )
}

/// So many tasks that each append a line to one of so many files, and so many workers: all are merged,
/// each with three attempts at most, and each line is there once.
fn appends(tasks: usize, files: usize, workers: u32, merge: &str) {
    let s = desk(merge);
    for file in 0..files {
        s.sh(&format!(
            "echo top >f{file}.txt && git add . && git commit --quiet --message f{file}"
        ));
    }
    let mut list = String::new();
    for task in 0..tasks {
        let sh = append(&format!("T{task}"), &format!("f{}.txt", task % files));
        let line = serde_json::json!({ "id": format!("T{task}"), "sh": sh, "merge": true });
        writeln!(list, "{line}").unwrap();
    }
    let file = s.beside("tasks.jsonl");
    std::fs::write(&file, list).unwrap();
    s.coord(&["import", &file.to_string_lossy()]).ok();
    s.start(workers);
    s.coord(&["wait", "--timeout", "600s"]).ok();
    s.coord(&["stop"]).ok();
    let mut most = 0;
    for task in 0..tasks {
        let id = format!("T{task}");
        assert_eq!(s.state(&id), "done", "{id}");
        most = most.max(attempts(&s, &id));
        let found = lines(&s, &format!("f{}.txt", task % files));
        assert_eq!(found.iter().filter(|line| **line == id).count(), 1, "{id} of {found:?}");
    }
    for file in 0..files {
        let expected = 1 + (0..tasks).filter(|task| task % files == file).count();
        assert_eq!(lines(&s, &format!("f{file}.txt")).len(), expected);
    }
    println!(
        "{tasks} tasks on {files} files, {workers} workers, {merge:?}: {most} attempts at most"
    );
    assert!(most <= 3, "a task needed {most} attempts");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn eight_tasks_on_one_file_need_three_attempts_at_most() {
    for _ in 0..if is_full() { 20 } else { 1 } {
        appends(8, 1, 6, "on_bounce = \"again\"");
        appends(8, 1, 6, "on_bounce = \"resolve\"");
    }
}

#[test]
fn thirty_tasks_on_five_files_need_three_attempts_at_most() {
    if !is_full() {
        crate::support::skip("thirty tasks", "the large size is not wanted (COORD_STRESS=full)");
        return;
    }
    for _ in 0..20 {
        appends(30, 5, 8, "on_bounce = \"again\"");
        appends(30, 5, 8, "on_bounce = \"resolve\"");
    }
}

/// Three tasks that come to the merge together, in their order: the first is merged, and the others come
/// back.
fn three_meet(merge: &str) -> Sandbox {
    let s = desk(merge);
    s.coord(&["mergeq", "pause"]).ok();
    for id in ["A", "B", "C"] {
        edit(&s, id, &[], &format!("sed -i '3s/$/ {id}/' a.txt"));
    }
    work(&s);
    assert_eq!(states(&s, &["A", "B", "C"]), "merging merging merging");
    s
}

#[test]
fn what_came_back_learns_its_scope_and_is_told() {
    let s = three_meet("");
    assert_eq!(s.end("B", 1)["result"]["changed"], serde_json::json!(["a.txt"]));
    s.coord(&["why", "B"]).ok().silent_about("learned");
    s.coord(&["mergeq", "resume"]).ok();
    s.coord(&["merge"]).ok();
    assert_eq!(states(&s, &["A", "B", "C"]), "done ready ready");
    assert_eq!(merge_of(&s, "B", 1)["scope"], serde_json::json!(["a.txt"]));
    s.coord(&["why", "B"])
        .ok()
        .says("learned scope")
        .says("a.txt: changed by attempts that came back");
    s.coord(&["show", "B"]).ok().says("learned scope  a.txt");
    work(&s);
    assert_eq!(states(&s, &["A", "B", "C"]), "done done done");
    assert_eq!(lines(&s, "a.txt")[2], "3 A B C");
    for id in ["B", "C"] {
        assert_eq!(attempts(&s, id), 2, "{id} came back more than once");
    }
    assert_eq!(undone(&s), "");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn shared_paths_are_not_learned_and_many_become_their_directory() {
    let s = desk("[scopes]\nshared = [\"lock.txt\"]");
    s.sh("echo 1 >lock.txt && git add . && git commit --quiet --message lock");
    s.coord(&["mergeq", "pause"]).ok();
    let many = "mkdir -p src/deep && for i in $(seq 70); do echo $COORD_TASK_ID >src/deep/$i; done";
    edit(&s, "A", &[], &format!("{many} && echo A >>lock.txt"));
    edit(&s, "B", &[], &format!("{many} && echo B >>lock.txt && echo B >b.txt"));
    work(&s);
    s.coord(&["mergeq", "resume"]).ok();
    s.coord(&["merge"]).ok();
    assert_eq!(merge_of(&s, "B", 1)["scope"], serde_json::json!(["b.txt", "src/deep"]));
    work(&s);
    assert_eq!(states(&s, &["A", "B"]), "done done");
}

#[test]
fn a_first_attempt_makes_way_for_what_came_back_and_is_woken_when_that_ends() {
    let s = three_meet("");
    s.coord(&["mergeq", "resume"]).ok();
    s.coord(&["merge"]).ok();
    let gate = s.beside("gate");
    // The second attempts of B and C wait here, and those of others do not come to it.
    s.sh(&format!(
        "printf '#!/bin/sh\\nwhile ! test -e {}; do sleep 0.01; done\\n' >../wait && chmod +x ../wait",
        gate.display()
    ));
    let line = format!("{} && sed -i '3s/$/ W/' a.txt", s.beside("wait").display());
    for id in ["B", "C"] {
        s.coord(&["cancel", id]).ok();
    }
    // W comes back while its next attempt can be held up.
    s.coord(&["mergeq", "pause"]).ok();
    let once = format!("if [ $COORD_ATTEMPT = 1 ]; then sed -i '3s/$/ W/' a.txt; else {line}; fi");
    edit(&s, "W", &[], &once);
    edit(&s, "V", &["--priority", "10"], "sed -i '3s/$/ V/' a.txt");
    work(&s);
    s.coord(&["mergeq", "resume"]).ok();
    s.coord(&["merge"]).ok();
    assert_eq!(states(&s, &["V", "W"]), "done ready");
    s.start(2);
    s.until_state("W", "running");
    edit(&s, "F", &[], "sed -i '3s/$/ F/' a.txt");
    edit(&s, "G", &[], "echo g >g.txt");
    // What does not meet W's paths is merged meanwhile.
    s.until_state("G", "done");
    s.until_state("F", "merging");
    until("F makes way", || s.coord(&["why", "F"]).stdout.contains("makes way for W"));
    s.coord(&["why", "F"])
        .ok()
        .says("a.txt")
        .says("next: it is merged when attempt 2 of W is over");
    s.coord(&["mergeq", "ls"]).ok().says("for W");
    assert_eq!(s.state("W"), "running");
    // Nobody merges W's attempt: it is cancelled, and that wakes the lane.
    s.coord(&["cancel", "W", "--force"]);
    s.until_state("F", "done");
    assert_eq!(attempts(&s, "F"), 1);
    std::fs::write(&gate, "").unwrap();
    s.coord(&["stop"]).ok();
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_person_who_retries_gives_it_all_its_bounces_again() {
    let s = three_meet("max_bounces = 0");
    s.coord(&["mergeq", "resume"]).ok();
    s.coord(&["merge"]).ok();
    assert_eq!(states(&s, &["A", "B", "C"]), "done failed failed");
    s.coord(&["why", "B"]).ok().says("came back from its merge too often");
    s.sh("sed -i 's/max_bounces = 0/max_bounces = 1/' coord.toml");
    s.coord(&["retry", "B"]).ok();
    work(&s);
    assert_eq!(states(&s, &["A", "B"]), "done done");
    assert_eq!(attempts(&s, "B"), 2);
}

#[test]
fn killed_when_the_start_is_marked() {
    let mut s = three_meet("");
    s.coord(&["mergeq", "resume"]).ok();
    s.coord(&["merge"]).ok();
    let trace = s.beside("trace");
    s.set("COORD_STEP_TRACE", &trace.to_string_lossy());
    s.set("COORD_STEP", "start.mark:crash");
    s.coord(&["work", "--once"]);
    assert!(s.text(&trace).lines().any(|line| line.starts_with("start.mark")), "nobody came to it");
    assert!(!s.sh("git for-each-ref refs/coord/started").stdout.contains("started"));
    s.set("COORD_STEP", "");
    work(&s);
    assert_eq!(states(&s, &["A", "B", "C"]), "done done done");
    assert!(s.sh("git for-each-ref refs/coord/started").stdout.contains("started/default"));
    s.coord(&["fsck", "--strict"]).ok();
}
