//! The worktree that has the branch checked out, when something comes between the branch's move and
//! the files': somebody's changes, a death, an error. Left with an old index it would show what was
//! merged as undone, and the next commit there would take it back.

use std::fs;

use crate::desk::{
    desk, edit, kill_who_moves_main, merge_of, states, subjects, undone, was_killed, with, work,
};
use crate::support::{Sandbox, until};

fn behind(s: &Sandbox) -> bool {
    s.queue("merge/default/behind.json").exists()
}

#[test]
fn a_worktree_that_was_left_behind_comes_along_though_nothing_waits() {
    let s = desk("");
    fs::write(s.root.join("a.txt"), "mine\n").unwrap();
    edit(&s, "A", &[], "sed -i 1s/$/a/ a.txt");
    work(&s);
    assert_eq!((s.state("A"), behind(&s)), ("done".into(), true));
    // Not while the changes are there.
    s.coord(&["merge"]).ok();
    assert_eq!((s.text("a.txt"), behind(&s)), ("mine\n".into(), true));
    s.sh("git checkout-index --force a.txt");
    assert_ne!(undone(&s), "");
    s.coord(&["merge"]).ok();
    assert_eq!((undone(&s), behind(&s)), (String::new(), false));
    assert!(s.text("a.txt").starts_with("1a\n"));
    // And nobody takes turns for ever.
    let turns = s.names("merge/default");
    s.coord(&["merge"]).ok().warns("nothing is left to merge now");
    assert_eq!(s.names("merge/default"), turns);
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn killed_when_the_branch_has_moved_and_the_worktree_has_not() {
    let s = desk("");
    kill_who_moves_main(&s);
    edit(&s, "A", &[], "sed -i 1s/$/a/ a.txt");
    s.coord(&["work", "--once"]);
    s.coord(&["merge"]);
    assert!(was_killed(&s));
    until("it is told", || {
        s.coord(&["merge"]);
        s.state("A") == "done"
    });
    assert_eq!(undone(&s), "", "the worktree was left behind without a word");
    assert_eq!(subjects(&s, "main").iter().filter(|l| l.starts_with("Merge A")).count(), 1);
    s.coord(&["fsck"]).ok();
}

#[test]
fn killed_when_somebodys_push_was_taken_in_and_the_worktree_has_not_moved() {
    let s = desk("push = \"origin\"");
    s.sh("git clone --quiet --bare . ../origin.git && git remote add origin $PWD/../origin.git");
    s.sh("git clone --quiet ../origin.git ../other && cd ../other && sed -i 30s/$/o/ a.txt && \
         git commit --quiet --all --message theirs && git push --quiet origin HEAD:main");
    kill_who_moves_main(&s);
    edit(&s, "A", &[], "sed -i 1s/$/a/ a.txt");
    s.coord(&["work", "--once"]);
    s.coord(&["merge"]);
    assert!(was_killed(&s));
    until("it is merged", || {
        s.coord(&["merge"]);
        s.state("A") == "done"
    });
    assert_eq!(undone(&s), "");
    let (ours, theirs) = (s.sh("git rev-parse main"), s.sh("git -C ../origin.git rev-parse main"));
    assert_eq!(ours.stdout, theirs.stdout);
    assert!(s.text("a.txt").starts_with("1a\n") && s.text("a.txt").ends_with("30o\n"));
}

#[test]
fn what_was_merged_and_not_pushed_is_pushed_though_nothing_waits() {
    let s = desk("");
    s.sh("git clone --quiet --bare . ../origin.git && git remote add origin $PWD/../origin.git");
    edit(&s, "A", &[], "sed -i 1s/$/a/ a.txt");
    work(&s);
    s.configure("[merge]\nenabled = true\ninto = \"main\"\npush = \"origin\"\n");
    s.coord(&["merge"]).ok();
    let (ours, theirs) = (s.sh("git rev-parse main"), s.sh("git -C ../origin.git rev-parse main"));
    assert_eq!(ours.stdout, theirs.stdout);
}

#[test]
fn killed_and_then_another_branch_is_checked_out() {
    // Without `into` the branch is the one that is checked out.
    let s = with("");
    kill_who_moves_main(&s);
    edit(&s, "A", &[], "echo a >a1.txt");
    s.coord(&["work", "--once"]);
    s.coord(&["merge"]);
    assert!(was_killed(&s));
    s.sh("git switch --quiet --create desk main^");
    until("it is told", || {
        s.coord(&["merge"]);
        s.state("A") == "done"
    });
    assert_eq!(merge_of(&s, "A", 1)["why"], "merged into main");
    assert!(!s.sh("git ls-tree --name-only desk").stdout.contains("a1.txt"), "merged twice");
}

#[test]
fn killed_when_it_has_told_what_comes_back_the_next_turn_forgets_it() {
    let mut s = desk("max_bounces = 0");
    let refs = |s: &Sandbox| s.sh("git for-each-ref refs/coord/returned").stdout;
    edit(&s, "A", &[], "echo BAD >bad.txt");
    s.set("COORD_STEP", "merging.unlink:crash");
    s.coord(&["work", "--once"]);
    s.coord(&["merge"]);
    assert_ne!(refs(&s), "", "it was not killed there");
    assert_eq!(s.state("A"), "failed");
    s.set("COORD_STEP", "");
    edit(&s, "B", &[], "echo b >b1.txt");
    work(&s);
    assert_eq!((s.state("B"), refs(&s)), ("done".into(), String::new()));
}

#[test]
fn a_worktree_that_cannot_be_written_keeps_nobody_from_merging() {
    let s = desk("");
    let name = s.root.display().to_string();
    s.sh("echo '*.odd filter=odd' >.gitattributes && git add . && git commit --quiet -m odd");
    // It cannot be written here only.
    s.sh(&format!(
        "git config filter.odd.required true && git config filter.odd.clean cat && \
         git config filter.odd.smudge 'test $PWD != {name} -o -e ../mended && cat'"
    ));
    edit(&s, "A", &[], "echo a >a.odd");
    edit(&s, "B", &["--after", "A"], "sed -i 1s/$/b/ a.txt");
    work(&s);
    assert_eq!(states(&s, &["A", "B"]), "done done");
    s.coord(&["status"]).ok().says("was left behind");
    assert!(behind(&s));
    fs::write(s.beside("mended"), "").unwrap();
    s.coord(&["merge"]).ok();
    assert_eq!((undone(&s), behind(&s)), (String::new(), false));
    assert_eq!(s.text("a.odd"), "a\n");
}

#[test]
fn where_a_worktree_stood_may_be_gone() {
    let s = desk("");
    edit(&s, "A", &[], "sed -i 1s/$/a/ a.txt");
    work(&s);
    let nowhere = format!("{{\"v\": 1, \"at\": \"{}\"}}", "1".repeat(40));
    fs::write(s.queue("merge/default/behind.json"), nowhere).unwrap();
    edit(&s, "B", &[], "sed -i 30s/$/b/ a.txt");
    work(&s);
    assert_eq!((s.state("B"), undone(&s), behind(&s)), ("done".into(), String::new(), false));
}
