//! The other two ways onto the branch: squashed, and replayed.

use crate::desk::{desk, merge_of, states, subjects, work};
use crate::support::Sandbox;

/// A has two commits; B is begun on the same commit; D is built on C before that is merged.
fn play(strategy: &str) -> Sandbox {
    let s = desk(&format!("strategy = \"{strategy}\""));
    s.coord(&["mergeq", "pause"]).ok();
    let add = |id: &str, options: &[&str], line: &str| {
        let title = format!("Task {id}");
        s.add(&[&["--id", id, &title], options].concat(), line);
    };
    let commit = "git add --all && git commit --quiet --message";
    add(
        "A",
        &[],
        &format!("sed -i 1s/$/a/ a.txt && {commit} one && echo a >a1.txt && {commit} two"),
    );
    add("B", &[], &format!("sed -i 30s/$/b/ a.txt && {commit} three"));
    add("C", &[], &format!("sed -i 10s/$/c/ a.txt && {commit} four"));
    add("D", &["--after", "C@pass"], &format!("sed -i 10s/$/d/ a.txt && {commit} five"));
    work(&s);
    assert_eq!(states(&s, &["A", "B", "C", "D"]), "merging merging merging merging");
    s.coord(&["mergeq", "resume"]).ok();
    work(&s);
    assert_eq!(states(&s, &["A", "B", "C", "D"]), "done done done done");
    for id in ["A", "B", "C", "D"] {
        let commit = merge_of(&s, id, 1)["commit"].as_str().unwrap().to_owned();
        s.sh(&format!("git merge-base --is-ancestor {commit} main"));
        // What the register names is the task's own.
        let trailers = s.sh(&format!("git log -1 --format=%B {commit}")).stdout;
        assert!(trailers.contains(&format!("Coord-Task: {id}\n")), "{id}: {trailers}");
    }
    assert_eq!(s.sh("git rev-list --count --merges main").line(), "0", "not a line of commits");
    let lines = s.sh("git show main:a.txt").stdout;
    let changed: Vec<&str> = lines.lines().filter(|l| l.parse::<u32>().is_err()).collect();
    assert_eq!(changed, ["1a", "10cd", "30b"]);
    assert_eq!(s.sh("git status --porcelain --untracked-files=no").stdout, "");
    s.coord(&["fsck", "--strict"]).ok();
    s
}

/// The subjects of what has come to the branch, sorted.
fn new_subjects(s: &Sandbox) -> Vec<String> {
    let mut all = subjects(s, "main");
    all.truncate(all.len() - 2);
    all.sort();
    all
}

#[test]
fn squashed_each_task_is_one_commit() {
    let s = play("squash");
    // A task of one commit keeps its message.
    assert_eq!(new_subjects(&s), ["A: Task A", "five", "four", "three"]);
    let text = s.sh("git log -1 --format=%B --grep 'A: Task A' main").stdout;
    assert!(text.contains("- one\n- two\n"), "{text}");
}

#[test]
fn replayed_each_commit_keeps_its_words_and_its_author() {
    let s = play("rebase");
    assert_eq!(new_subjects(&s), ["five", "four", "one", "three", "two"]);
    let format = "--format=%an|%(trailers:key=Coord-Task,valueonly,separator=%x2C)";
    let one = s.sh(&format!("git log -1 '{format}' --grep '^one$' main")).line().to_owned();
    assert!(one.starts_with("coord ") && one.ends_with("|A"), "{one}");
}
