//! The branch that tasks are merged into is left alone while somebody is in the middle of something with
//! it, and each worktree that has it checked out is brought along.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::Sandbox;
use crate::targets::{edit, has, head, needs, sandbox, spec, work};

/// Begins to rewrite the last commit of `main` in the project.
const REBASE: &str =
    "GIT_SEQUENCE_EDITOR='sed -i s/^pick/edit/' git rebase -q -i HEAD~1 2>/dev/null";

#[test]
fn a_branch_that_is_being_rebased_is_left_alone_until_that_is_over() {
    let s = sandbox("into = \"main\"");
    let before = head(&s, "main");
    s.sh(REBASE);
    edit(&s, "A", &[], "echo a >one.txt");
    edit(&s, "B", &["--after", "A"], "test -e one.txt && echo b >two.txt");
    work(&s);
    assert_eq!(
        (s.state("A"), s.state("B"), head(&s, "main")),
        ("merging".into(), "blocked".into(), before.clone())
    );
    let place = s.root.display().to_string();
    let what = format!("main is in use: a rebase is under way in {place}");
    let command = format!("git -C {place} rebase --continue (or --abort)");
    assert_eq!(needs(&s), [("merge".to_owned(), what.clone(), command.clone())]);
    s.coord(&["status"]).ok().says("NEEDS YOU").says(&command);
    s.coord(&["why", "A"]).ok().says(&what).says(&command);
    s.coord(&["merge"]).ok().warns(&what);
    // It stands there as long as it is so, and no longer.
    let notices = s.coord(&["status", "--json"]).ok().json("coord.status/1")["notices"].clone();
    assert_eq!(notices.as_array().unwrap().len(), 0, "{notices}");
    s.sh("git rebase --abort");
    assert_eq!(head(&s, "main"), before);
    // It goes on by itself.
    s.start(1);
    s.coord(&["wait", "--timeout", "30s"]).ok();
    s.coord(&["stop"]).ok();
    assert_eq!((s.state("A"), s.state("B")), ("done".into(), "done".into()));
    assert!(
        s.text("one.txt") == "a\n" && s.text("two.txt") == "b\n",
        "the worktree was left behind"
    );
    assert!(needs(&s).is_empty(), "{:?}", needs(&s));
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn whatever_somebody_is_in_the_middle_of() {
    let s = sandbox("into = \"main\"");
    let other = s.beside("other tree").display().to_string();
    s.sh(&format!("git switch -qc side HEAD~1 && echo s >>file && git commit -qam s && git worktree add -q '{other}' main"));
    edit(&s, "A", &[], "echo a >one.txt");
    let cases = [
        ("git merge side", "git merge --abort", "a merge"),
        ("git cherry-pick side", "git cherry-pick --abort", "a cherry-pick"),
        ("git revert --no-commit HEAD", "git revert --abort", "a revert"),
        ("git format-patch -q -1 --stdout side >../p; git am -q ../p", "git am --abort", "git am"),
        ("git rebase --apply side", "git rebase --abort", "a rebase"),
        ("git bisect start HEAD HEAD~2", "git bisect reset", "a bisection"),
    ];
    for (begin, end, name) in cases {
        s.sh(&format!("cd '{other}' && {{ {begin}; }} >/dev/null 2>&1; true"));
        s.coord(&["work", "--once"]);
        s.coord(&["merge"]).ok().warns(&format!("{name} is under way in {other}"));
        assert_eq!(s.state("A"), "merging", "{begin}");
        s.sh(&format!("cd '{other}' && {end} >/dev/null 2>&1"));
    }
    s.coord(&["merge"]).ok();
    assert_eq!(s.state("A"), "done");
    assert_eq!(s.text(s.beside("other tree").join("one.txt")), "a\n");
}

#[test]
fn a_rebase_that_takes_the_branch_along() {
    let s = sandbox("into = \"main\"");
    s.sh("git switch -qc top && echo t >t && git add t && git commit -qm t");
    s.sh("GIT_SEQUENCE_EDITOR='sed -i 1s/^pick/edit/' git rebase -q -i --update-refs HEAD~2 2>/dev/null");
    edit(&s, "A", &[], "echo a >one.txt");
    work(&s);
    assert_eq!(s.state("A"), "merging");
    s.sh("git commit -q --amend -m changed && git rebase --continue 2>/dev/null");
    s.coord(&["merge"]).ok();
    assert_eq!(s.state("A"), "done");
    assert!(s.sh("git log --format=%s main").stdout.contains("changed"), "its rebase was lost");
}

#[test]
fn a_rebase_that_begins_while_the_check_runs() {
    let mut s = sandbox(
        "into = \"main\"\ncheck = \"cd $PROJECT && test -e ../armed && rm ../armed && sh -c \\\"$BEGIN\\\"; true\"",
    );
    let project = s.root.display().to_string();
    s.set("PROJECT", &project);
    s.set("BEGIN", REBASE);
    fs::write(s.beside("armed"), "").unwrap();
    let before = head(&s, "main");
    edit(&s, "A", &[], "echo a >one.txt");
    work(&s);
    assert!(!s.beside("armed").exists(), "the check has not run");
    assert_eq!((s.state("A"), head(&s, "main")), ("merging".into(), before));
    s.sh("git rebase --abort");
    s.coord(&["merge"]).ok();
    assert_eq!(s.state("A"), "done");
}

#[test]
fn a_rebase_that_begins_just_when_the_branch_moves() {
    let s = sandbox("into = \"main\"");
    let before = head(&s, "main");
    // What git notes of a rebase, put there when everybody has looked, and before the branch moves.
    s.sh(&format!(
        "{REBASE}; cp -r .git/rebase-merge ../state && git rebase --abort && touch ../armed"
    ));
    let hook = s.root.join(".git/hooks/reference-transaction");
    let state = s.beside("state").display().to_string();
    let (armed, git) =
        (s.beside("armed").display().to_string(), s.root.join(".git").display().to_string());
    let script = format!(
        "#!/bin/sh\ntest \"$1\" = prepared && grep -q ' refs/heads/main$' && rm '{armed}' 2>/dev/null && \
         cp -r '{state}' '{git}/rebase-merge'\nexit 0\n"
    );
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    edit(&s, "A", &[], "echo a >one.txt");
    work(&s);
    assert!(!s.beside("armed").exists(), "nothing was landed");
    assert_eq!(s.state("A"), "merging", "it was called merged, and may still be taken off");
    s.sh("git rebase --abort");
    assert_eq!(head(&s, "main"), before);
    s.coord(&["merge"]).ok();
    assert_eq!((s.state("A"), s.text("one.txt")), ("done".into(), "a\n".into()));
    let merges = s.sh("git log --first-parent --format=%s main").stdout;
    assert_eq!(merges.matches("Merge A").count(), 1, "{merges}");
    s.coord(&["fsck"]).ok();
}

// --- worktrees ---

#[test]
fn two_worktrees_of_the_branch_come_along_or_are_both_named() {
    let s = sandbox("into = \"main\"");
    let second = s.beside("second");
    s.sh("git worktree add -q --force ../second main");
    edit(&s, "A", &[], "sed -i 1s/$/a/ a.txt");
    work(&s);
    let undone = |dir: &str| s.sh(&format!("git -C {dir} status --porcelain -uno")).stdout;
    assert_eq!((undone("."), undone("../second")), (String::new(), String::new()));
    // One cannot, the other can; then neither.
    fs::write(second.join("a.txt"), "mine\n").unwrap();
    edit(&s, "B", &[], "sed -i 30s/$/b/ a.txt");
    work(&s);
    assert_eq!((s.state("B"), undone(".")), ("done".into(), String::new()));
    assert_eq!(s.text(second.join("a.txt")), "mine\n");
    s.coord(&["status"]).ok().says("second was left behind");
    fs::write(s.root.join("a.txt"), "mine too\n").unwrap();
    edit(&s, "C", &[], "sed -i 15s/$/c/ a.txt");
    work(&s);
    let status = s.coord(&["status"]).ok().stdout.clone();
    assert!(
        status.contains("second was left behind") && status.contains("project was left behind"),
        "{status}"
    );
    // Each comes along from where it stands.
    s.sh("git checkout-index -f a.txt && git -C ../second checkout-index -f a.txt");
    s.coord(&["merge"]).ok();
    assert_eq!((undone("."), undone("../second")), (String::new(), String::new()));
    assert_eq!(s.text("a.txt"), s.text(second.join("a.txt")));
    assert!(s.text("a.txt").starts_with("1a\n") && s.text("a.txt").contains("15c\n"));
    assert!(!s.queue("merge/default/behind.json").exists());
}

#[test]
fn a_queue_in_a_linked_worktree_starts_from_what_that_has_checked_out() {
    let s = Sandbox::bare();
    s.sh(
        "git init -q -b main ../repo && cd ../repo && echo 1 >f && git add f && git commit -qm one",
    );
    s.sh("git -C ../repo worktree add -q -b side ../project && echo 2 >f && git commit -qam two");
    s.coord(&["init"]).ok();
    s.configure("[merge]\nenabled = true\n");
    s.add(&["--id", "A", "--no-merge"], "true");
    edit(&s, "B", &[], "echo b >one.txt");
    work(&s);
    let side = s.sh("git rev-parse side~1").line().to_owned();
    assert_eq!(s.end("A", 1)["result"]["base"], side.as_str());
    assert_eq!(spec(&s, "B")["into"], "side");
    assert!(has(&s, "side", "one.txt") && !has(&s, "main", "one.txt"));
}

#[test]
fn a_bare_repository_whose_own_head_was_never_born() {
    for isolation in ["worktree", "clone"] {
        let s = Sandbox::bare();
        s.sh("git init -q --bare -b nothing ../repo.git && git -C ../repo.git worktree add -q --orphan -b main ../project 2>/dev/null");
        s.sh("echo 1 >f && git add f && git commit -qm one");
        s.coord(&["init"]).ok();
        s.configure(&format!("[worktree]\nisolation = \"{isolation}\"\n[merge]\nenabled = true\n"));
        s.coord(&["doctor"]).says("into main");
        edit(&s, "A", &[], "echo a >one.txt");
        work(&s);
        assert_eq!(s.state("A"), "done", "{isolation}: {}", s.coord(&["why", "A"]).stdout);
        assert_eq!((s.text("one.txt"), has(&s, "main", "one.txt")), ("a\n".into(), true));
        s.coord(&["worktree", "gc"]).ok();
    }
    // The queue lies in the repository itself: there is nothing to start from, and that is said.
    let s = Sandbox::bare();
    s.sh("git init -q --bare -b nothing ../repo.git && git -C ../repo.git worktree add -q --orphan -b main ../tree 2>/dev/null");
    s.sh("cd ../tree && echo 1 >f && git add f && git commit -qm one");
    let queue = s.beside("repo.git/.coord").display().to_string();
    let coord = |args: &[&str]| s.coord(&[&["--dir", &queue][..], args].concat());
    coord(&["init"]).ok();
    coord(&["add", "--", "true"]).ok();
    coord(&["work", "--once"]).fails(7, "is nothing, which has no commit");
    fs::write(s.beside("repo.git/coord.toml"), "version = 1\n[git]\nbase = \"main\"\n").unwrap();
    coord(&["work", "--until-empty"]).ok();
    coord(&["ls"]).ok().says("done");
}
