//! What came back is in the next attempt's worktree: what is left to do is the conflict.

use crate::desk::{desk, merge_of, states, work};
use crate::support::Sandbox;

/// Removes the markers of a conflict, and keeps both sides.
const BOTH: &str =
    r"sed -i -E '/^(<<<<<<<|=======|>>>>>>>)/d; /^\|\|\|\|\|\|\|/,/^=======/d' a.txt";

/// A desk with an agent that takes a prompt for a line of shell, and two tasks whose first attempts
/// commit and meet in line 3: A is merged, and B comes back and goes on as `then` says.
fn comes_back(merge: &str, then: &str) -> Sandbox {
    let s = desk(merge);
    s.coord(&["mergeq", "pause"]).ok();
    let first = |id: &str| {
        format!(
            "sed -i '3s/$/ {id}/' a.txt && echo {id} >{id}.txt && git add -A && git commit -qm {id}1 && \
             sed -i '30s/$/ {id}/' {id}.txt && echo more >>{id}.txt && git commit -qam {id}2"
        )
    };
    s.coord(&["add", "--id", "A", "--agent", "shell", "--prompt", &first("A")]).ok();
    let line = format!("if [ $COORD_ATTEMPT = 1 ]; then {}; else {then}; fi", first("B"));
    s.coord(&["add", "--id", "B", "--retries", "0", "--agent", "shell", "--prompt", &line]).ok();
    work(&s);
    assert_eq!(states(&s, &["A", "B"]), "merging merging");
    s.coord(&["mergeq", "resume"]).ok();
    s.coord(&["merge"]).ok();
    assert_eq!(states(&s, &["A", "B"]), "done ready");
    s
}

fn file(s: &Sandbox, name: &str) -> String {
    s.sh(&format!("git show main:{name}")).stdout
}

#[test]
fn the_conflict_is_all_that_is_left_to_do() {
    let look = r#"git status --porcelain >$COORD_OUT/status
        printf '%s %s' "$COORD_REAPPLIED" "$COORD_CONFLICTS" >$COORD_OUT/told
        cp $COORD_FAILURE_FILE $COORD_OUT/brief"#;
    let s =
        comes_back("", &format!("{look}; {BOTH} && git add a.txt && git commit --quiet --no-edit"));
    work(&s);
    assert_eq!(states(&s, &["A", "B"]), "done done");
    let out = |name: &str| s.text(s.queue(&format!("tasks/B/2.out/{name}")));
    assert_eq!(out("told"), "1 a.txt");
    assert_eq!(out("status"), "A  B.txt\nUU a.txt\n");
    let brief = out("brief");
    assert!(brief.contains("the change of attempt 1 is applied"), "{brief}");
    assert!(brief.contains("It conflicts in a.txt"), "{brief}");
    let context: serde_json::Value = serde_json::from_str(&out("context.json")).unwrap();
    assert_eq!(context["reapplied"]["conflicts"], serde_json::json!(["a.txt"]));
    assert_eq!(file(&s, "a.txt").lines().nth(2), Some("3 A"), "{}", file(&s, "a.txt"));
    assert_eq!(file(&s, "a.txt").lines().nth(3), Some("3 B"));
    assert_eq!(file(&s, "B.txt"), "B\nmore\n");
    // Two commits came back as one change, whose message names them.
    let message = s.sh("git log -1 --format=%B coord/B/a2").stdout;
    assert!(message.contains("- B1") && message.contains("- B2"), "{message}");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn what_is_left_unmerged_or_marked_is_never_merged() {
    for (then, why) in [
        ("true", "in the middle of a conflict"),
        ("git add -A && git commit -qm oops", "committed markers of a conflict in a.txt"),
        (
            "sed -i '/^=======/!{/^[<>]/d}' a.txt; git add -A && git commit -qm half",
            "committed markers",
        ),
    ] {
        let s = comes_back("", then);
        work(&s);
        assert_eq!(states(&s, &["A", "B"]), "done failed", "{then}");
        let end = s.end("B", 2);
        assert!(end["why"].as_str().unwrap().contains(why), "{then}: {end}");
        assert!(!file(&s, "a.txt").contains('B'), "{then}");
    }
}

#[test]
fn a_worker_that_commits_takes_what_was_edited_away_as_resolved() {
    let s = comes_back("[git]\ncommit = \"worker\"", BOTH);
    work(&s);
    assert_eq!(states(&s, &["A", "B"]), "done done");
    assert!(file(&s, "a.txt").contains("3 A\n3 B\n"), "{}", file(&s, "a.txt"));
    let s = comes_back("[git]\ncommit = \"worker\"", "true");
    work(&s);
    assert_eq!(states(&s, &["A", "B"]), "done failed");
}

#[test]
fn a_change_that_fits_is_committed_and_what_the_check_says_is_left() {
    let s = desk("");
    let line = "if [ $COORD_ATTEMPT = 1 ]; then echo BAD >b.txt && git add -A && git commit -qm bad; \
        else git log --format=%s -1 >$COORD_OUT/head; git status --porcelain >$COORD_OUT/status; \
        printf %s \"$COORD_CONFLICTS\" >$COORD_OUT/told; echo good >b.txt && git commit -qam good; fi";
    s.coord(&["add", "--id", "B", "--agent", "shell", "--prompt", line]).ok();
    work(&s);
    assert_eq!(s.state("B"), "done");
    let out = |name: &str| s.text(s.queue(&format!("tasks/B/2.out/{name}")));
    assert_eq!((out("head"), out("status"), out("told")), ("bad\n".into(), "".into(), "".into()));
    assert_eq!(file(&s, "b.txt"), "good\n");
}

#[test]
fn commits_that_are_gone_are_told_and_the_attempt_starts_from_the_branch() {
    let s = comes_back(
        "",
        "cp $COORD_FAILURE_FILE $COORD_OUT/brief; test -z \"$COORD_REAPPLIED\" && \
         sed -i '3s/$/ B/' a.txt && git commit -qam again",
    );
    s.sh(
        "git branch -D coord/B/a1 && git reflog expire --expire=now --all && git gc -q --prune=now",
    );
    work(&s);
    assert_eq!(states(&s, &["A", "B"]), "done done");
    let brief = s.text(s.queue("tasks/B/2.out/brief"));
    assert!(brief.contains("could not be applied here") && brief.contains("not in the repository"));
    assert_eq!(file(&s, "a.txt").lines().nth(2), Some("3 A B"));
}

#[test]
fn in_a_clone_as_well() {
    let then = format!("{BOTH} && git add a.txt && git commit --quiet --no-edit");
    let s = comes_back("[worktree]\nisolation = \"clone\"", &then);
    work(&s);
    assert_eq!(states(&s, &["A", "B"]), "done done");
    assert!(file(&s, "a.txt").contains("3 A\n3 B\n"));
    assert_eq!(merge_of(&s, "B", 2)["verdict"], "pass");
}

#[test]
fn commands_begin_again_unless_told_otherwise() {
    let s = desk("");
    s.coord(&["mergeq", "pause"]).ok();
    for id in ["A", "B"] {
        let line = format!(
            "test -z \"$COORD_REAPPLIED\" && sed -i '3s/$/ {id}/' a.txt && git commit -qam {id}"
        );
        s.coord(&["add", "--id", id, "--", "sh", "-c", &line]).ok();
    }
    work(&s);
    s.coord(&["mergeq", "resume"]).ok();
    work(&s);
    assert_eq!(states(&s, &["A", "B"]), "done done");
    assert_eq!(file(&s, "a.txt").lines().nth(2), Some("3 A B"));
}
