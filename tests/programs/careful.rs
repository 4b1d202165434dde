//! Slots in bad company: people in them, links that lead out, repositories around them, half of what
//! git needs. Nothing of anybody's is lost, and work goes on.

use std::path::Path;

use crate::inside::worker_of;
use crate::support::{Sandbox, kill, until};

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What is saved under a name, one `path` a line.
fn saved(s: &Sandbox, name: &str) -> String {
    s.sh(&format!("git diff --name-only main refs/coord/wip/{name} || true")).stdout
}

/// Runs a task to its end, whatever that is.
fn run(s: &Sandbox, id: &str, line: &str) {
    s.add(&["--id", id, "--retries", "0"], line);
    s.work();
}

#[test]
fn a_link_that_an_attempt_made_does_not_lead_out_of_its_slot() {
    let s = Sandbox::with_git();
    s.configure("[worktree]\ncopy = [\"conf/local\"]\nkeep = [\"deps\"]\n");
    s.sh("printf 'conf\\ndeps\\n' > .gitignore && git add .gitignore && git commit -qm ignore
        mkdir conf deps && echo precious > conf/local && echo big > deps/x");
    run(&s, "A", "rm -rf conf && ln -s $COORD_ROOT/conf conf");
    s.coord(&["worktree", "gc"]).ok().says("w1 removed");
    assert_eq!(s.text("conf/local"), "precious\n", "of the project, behind the link");
    // A cache that is a link stays; what is copied must not go through it.
    s.configure("[worktree]\ncopy = [\"deps/x\"]\nkeep = [\"deps\"]\n");
    run(&s, "B", "rm -rf deps && ln -s $COORD_ROOT/deps deps");
    run(&s, "C", "true");
    let why = s.end("C", 1)["why"].as_str().unwrap().to_owned();
    assert!(why.contains("`deps/x` lies behind a symbolic link in the worktree"), "{why}");
    assert_eq!(s.text("deps/x"), "big\n");
}

#[test]
fn a_person_who_is_in_a_slot_when_its_attempt_ends_finds_everything_there() {
    let s = Sandbox::with_git();
    let line =
        "echo new > new; touch $COORD_ROOT/up; until [ -e $COORD_ROOT/go ]; do sleep 0.01; done";
    s.add(&["--id", "T"], line);
    let worker = s.background(&["work", "--until-empty"]);
    until("it runs", || s.root.join("up").exists());
    let slot = s.beside("project.coord/w1");
    let mut shell = s.command("sh");
    shell.current_dir(&slot).args([
        "-c",
        "touch $0/there; exec sleep 1000",
        s.root.to_str().unwrap(),
    ]);
    let mut shell = shell.spawn().unwrap();
    until("somebody is there", || s.root.join("there").exists());
    s.sh("touch go");
    s.collect(worker).ok();
    assert_eq!(saved(&s, "T.a1"), "new\n");
    assert_eq!(read(slot.join("new")), "new\n", "not cleaned away under somebody's feet");
    kill(i32::try_from(shell.id()).unwrap());
    shell.wait().unwrap();
    run(&s, "U", "ls > $COORD_OUT/ls");
    assert_eq!(s.text(".coord/tasks/U/1.out/ls"), "file\n");
}

#[test]
fn what_somebody_writes_while_a_slot_is_saved_is_not_cleaned_away() {
    let s = Sandbox::with_git();
    // A filter that makes a file, as somebody in the slot would, and lets that one leave.
    s.sh("echo '*.slow filter=slow' > .gitattributes && git add . && git commit -qm slow
        printf '#!/bin/sh\\ncat; [ -e %s/shell ] || exit 0; echo late > late; kill -9 $(cat %s/shell)\\n' \"$PWD\" \"$PWD\" > ../filter
        chmod +x ../filter && git config filter.slow.clean \"$PWD/../filter\"");
    run(&s, "A", "true");
    let slot = s.beside("project.coord/w1");
    let mut shell = s.command("sh");
    shell.current_dir(&slot).args(["-c", "echo x > mine.slow; exec sleep 1000"]);
    let mut shell = shell.spawn().unwrap();
    until("somebody is there", || slot.join("mine.slow").exists());
    std::fs::write(s.root.join("shell"), shell.id().to_string()).unwrap();
    run(&s, "B", "pwd > $COORD_OUT/pwd");
    s.sh("rm shell");
    kill(i32::try_from(shell.id()).unwrap());
    shell.wait().unwrap();
    assert_eq!(
        s.text(".coord/tasks/B/1.out/pwd").trim(),
        s.beside("project.coord/w2").display().to_string()
    );
    run(&s, "C", "true");
    let all = s.sh("for r in $(git for-each-ref --format='%(refname)' refs/coord/wip); do git ls-tree --name-only $r; done").stdout;
    assert!(slot.join("mine.slow").exists() || all.contains("mine.slow"), "{all}");
}

#[test]
fn changes_of_tracked_files_are_work_wherever_they_lie() {
    let s = Sandbox::with_git();
    s.configure("[worktree]\nkeep = [\"vendor\"]\n");
    s.sh("mkdir vendor && echo v > vendor/lib && git add vendor && git commit -qm vendor");
    run(&s, "A", "echo mended > vendor/lib; echo cached > vendor/cache; exit 1");
    assert_eq!(saved(&s, "A.a1"), "vendor/lib\n", "of the rest nothing");
    s.configure("[worktree]\nkeep = [\"vendor\"]\n[git]\ncommit = \"worker\"\n");
    run(&s, "B", "cat vendor/lib vendor/cache > $COORD_OUT/lib; echo mended > vendor/lib");
    assert_eq!(s.text(".coord/tasks/B/1.out/lib"), "v\ncached\n");
    assert_eq!(s.sh("git diff --name-only main coord/B/a1").stdout, "vendor/lib\n");
    s.coord(&["worktree", "gc"]).ok().says("w1 removed");
}

#[test]
fn files_that_git_is_told_not_to_look_at_are_saved_and_do_not_stay() {
    let s = Sandbox::with_git();
    s.sh("echo one > other && git add other && git commit -qm other");
    let hide = "git update-index --assume-unchanged file && git update-index --skip-worktree other
        echo hidden > file; echo hidden > other; exit 1";
    run(&s, "A", hide);
    assert_eq!(saved(&s, "A.a1"), "file\nother\n");
    // Also where the next attempt starts from another commit, and git would refuse to go there.
    s.sh("echo two > file && git commit -qam two");
    run(&s, "B", "cat file other > $COORD_OUT/files; git ls-files -v > $COORD_OUT/marks");
    assert_eq!(s.text(".coord/tasks/B/1.out/files"), "two\none\n");
    assert_eq!(s.text(".coord/tasks/B/1.out/marks"), "H file\nH other\n");
}

#[test]
fn an_index_that_cannot_be_read_costs_a_slot_and_not_the_work() {
    let s = Sandbox::with_git();
    run(&s, "A", "true");
    let index = s.sh("git -C ../project.coord/w1 rev-parse --git-path index").line().to_owned();
    s.sh(&format!("echo torn > {index}"));
    run(&s, "B", "true");
    assert_eq!(s.state("B"), "done", "in another slot");
    s.coord(&["worktree", "ls"]).ok().says("retired").says("cannot save what it holds");
    // And the others are cleared all the same.
    for args in [&["worktree", "gc", "--dry-run"][..], &["worktree", "gc"]] {
        s.coord(args).ok().says("w1 stays: ").says("w2 ").says("removed");
    }
    assert!(s.beside("project.coord/w1/file").exists());
}

#[test]
fn a_branch_without_commits_in_a_slot_is_saved_too() {
    let s = Sandbox::with_git();
    run(&s, "A", "true");
    s.sh("cd ../project.coord/w1 && git checkout -q --orphan fresh && git rm -rqf . && echo mine > mine");
    run(&s, "B", "pwd > $COORD_OUT/pwd; ls > $COORD_OUT/ls");
    assert_eq!(s.text(".coord/tasks/B/1.out/ls"), "file\n");
    assert!(s.text(".coord/tasks/B/1.out/pwd").ends_with("/w1\n"));
    assert_eq!(s.sh("git show refs/coord/wip/slot-w1:mine").stdout, "mine\n");
}

#[test]
fn line_endings_that_git_refuses_to_change_are_saved_as_they_are() {
    let s = Sandbox::with_git();
    s.sh("git config core.autocrlf input && git config core.safecrlf true");
    run(&s, "A", "printf 'a\\r\\nb\\r\\n' > crlf; exit 1");
    assert!(s.end("A", 1)["result"]["worktree"].is_null(), "{:#}", s.end("A", 1));
    assert_eq!(s.sh("git cat-file blob refs/coord/wip/A.a1:crlf").stdout, "a\r\nb\r\n");
}

#[test]
fn a_slot_that_somebody_removed_by_hand_is_forgotten_and_its_commits_are_not() {
    let s = Sandbox::with_git();
    let line = "git checkout -q --detach; echo x > x; git add x; git commit -qm beside
        git rev-parse HEAD > $COORD_ROOT/id; touch $COORD_ROOT/up; exec sleep 1000";
    s.add(&["--id", "T", "--retries", "0"], line);
    let mut victim = s.background(&["work"]);
    until("it runs", || s.root.join("up").exists());
    kill(worker_of(&s, "T"));
    victim.wait().unwrap();
    s.work().exits(1);
    std::fs::remove_dir_all(s.beside("project.coord/w1")).unwrap();
    s.coord(&["worktree", "gc"]).ok();
    assert_eq!(s.sh("git worktree list").stdout.lines().count(), 1);
    assert_eq!(s.sh("git rev-parse refs/coord/wip/T.a1").stdout, s.text("id"));
    // Of a free one git forgets the place too.
    run(&s, "U", "true");
    std::fs::remove_dir_all(s.beside("project.coord/w1")).unwrap();
    s.coord(&["worktree", "gc"]).ok();
    assert_eq!(s.sh("git worktree list").stdout.lines().count(), 1);
}

#[test]
fn a_pool_behind_a_symbolic_link() {
    let s = Sandbox::with_git();
    s.sh("mkdir ../disk && ln -s disk ../link");
    s.configure("[worktree]\nroot = \"../link/pool\"\n");
    run(&s, "A", "true");
    std::fs::remove_dir_all(s.beside("disk/pool/w1")).unwrap();
    run(&s, "B", "true");
    assert_eq!(s.state("B"), "done", "{}", s.coord(&["why", "B"]).stdout);
    s.coord(&["worktree", "gc"]).ok().says("w1 removed");
}

#[test]
fn a_shell_beside_clones_leaves_no_worktree_behind_and_no_clone_loses_a_commit() {
    let mut s = Sandbox::with_git();
    s.configure("[worktree]\nisolation = \"clone\"\n");
    run(&s, "A", "echo x > x && git add x && git commit -qm x");
    s.set("SHELL", "/bin/true");
    s.coord(&["shell", "A"]).ok().warns("is removed");
    assert_eq!(s.sh("git worktree list").stdout.lines().count(), 1);
    s.sh("git checkout -q coord/A/a1 && git checkout -q main");
    // Somebody commits in a free clone, where HEAD is detached.
    s.sh("cd ../project.coord/w1 && echo mine > mine && git add mine && git commit -qm mine");
    let commit = s.sh("git -C ../project.coord/w1 rev-parse HEAD").line().to_owned();
    let told = format!("w1 stays: the repository does not have its commit {commit}");
    s.coord(&["worktree", "gc"]).ok().says(&told);
}

#[test]
fn half_a_clone_is_not_taken_for_a_part_of_the_repository_around_it() {
    let s = Sandbox::bare();
    let outer = s.beside("");
    let at = outer.display();
    s.sh(&format!("cd {at} && git init -q -b outer . && printf 'home\\nproject\\n' > .gitignore && echo o > own && git add . && git commit -qm outer"));
    s.sh("git init -q -b main . && echo one > file && git add file && git commit -qm one");
    s.coord(&["init", "-q"]).ok();
    s.configure("[worktree]\nisolation = \"clone\"\n");
    run(&s, "A", "true");
    let slot = s.beside("project.coord/w1");
    std::fs::remove_file(slot.join(".git/HEAD")).unwrap();
    std::fs::remove_file(s.beside("project.coord/.gitignore")).unwrap();
    s.sh(&format!("cd {at} && echo changed > own && echo mine > mine"));
    let before = s.sh(&format!("cd {at} && git status --porcelain --branch")).stdout;
    run(&s, "B", "true");
    assert_eq!(s.state("B"), "done", "in another slot");
    assert_eq!(s.sh(&format!("cd {at} && git status --porcelain --branch")).stdout, before);
    assert_eq!(s.sh(&format!("cd {at} && git for-each-ref")).stdout.lines().count(), 1);
    // What a killed one had begun to make is made anew.
    std::fs::create_dir_all(s.beside("project.coord/.tmp/w3/.git")).unwrap();
    run(&s, "C", "true");
    assert_eq!(s.state("C"), "done");
}

#[test]
fn a_history_of_its_own_is_compared_all_the_same() {
    let s = Sandbox::with_git();
    let line = "git checkout -q --orphan fresh && echo out > out && git add out && git commit -qm fresh && git branch -qM $COORD_BRANCH";
    s.add(&["--id", "T", "--retries", "0", "--scope", "file"], line);
    s.work().exits(1);
    let end = s.end("T", 1);
    assert_eq!(end["why"], "changed a path outside of its scope (file): out");
    assert_eq!(end["result"]["commit"], s.sh("git rev-parse coord/T/a1").line());
}

#[test]
fn checkout_does_not_write_over_an_ignored_file() {
    let s = Sandbox::with_git();
    s.sh("echo .env > .gitignore && git add .gitignore && git commit -qm ignore");
    run(&s, "T", "echo theirs > .env && git add -f .env && git commit -qm env");
    s.sh("echo mine > .env");
    s.coord(&["checkout", "T"]).fails(7, "cannot check out the branch");
    assert_eq!(s.text(".env"), "mine\n");
}

#[test]
fn diff_of_an_attempt_whose_slot_somebody_removed() {
    let s = Sandbox::with_git();
    let line = "echo x > x; git add x; git commit -qm x; touch $COORD_ROOT/up; exec sleep 1000";
    s.add(&["--id", "T", "--retries", "0"], line);
    let mut victim = s.background(&["work"]);
    until("it runs", || s.root.join("up").exists());
    kill(worker_of(&s, "T"));
    victim.wait().unwrap();
    s.work().exits(1);
    std::fs::remove_dir_all(s.beside("project.coord/w1")).unwrap();
    s.coord(&["diff", "T"]).ok().says("+x");
}

#[test]
fn a_check_that_leaves_something_behind_fills_no_refs_and_its_slot_can_go() {
    let s = Sandbox::with_git();
    s.configure(
        "[merge]\nenabled = true\nbatch = 1\ncheck = \"echo built > built; echo more >> file\"\n",
    );
    for id in ["A", "B"] {
        s.add(&["--id", id], &format!("echo {id} > {id} && git add {id} && git commit -qm {id}"));
    }
    s.work().ok();
    assert_eq!((s.state("A"), s.state("B")), ("done".to_owned(), "done".to_owned()));
    assert_eq!(s.sh("git for-each-ref refs/coord/wip").stdout, "");
    s.coord(&["worktree", "gc"]).ok().says("merge.main removed");
}

#[test]
fn a_rescuer_that_is_at_it_is_waited_for() {
    let s = Sandbox::with_git();
    // A filter that stands still, as a slow one does, until it may go on.
    s.sh("echo '*.slow filter=slow' > .gitattributes && git add . && git commit -qm slow
        printf '#!/bin/sh\\ncat; [ -e %s/slowly ] || exit 0; touch %s/saving; until [ -e %s/go ]; do sleep 0.01; done\\n' \"$PWD\" \"$PWD\" \"$PWD\" > ../filter
        chmod +x ../filter && git config filter.slow.clean \"$PWD/../filter\"");
    let line = "[ $COORD_ATTEMPT = 1 ] || exec cp $COORD_FAILURE_FILE $COORD_OUT/failure
        echo x > x.slow; touch $COORD_ROOT/up; exec sleep 1000";
    s.add(&["--id", "T"], line);
    let mut victim = s.background(&["work"]);
    until("it runs", || s.root.join("up").exists());
    kill(worker_of(&s, "T"));
    victim.wait().unwrap();
    // Recovered, and not worked on.
    s.coord(&["work", "--until-empty", "--role", "other"]);
    s.sh("touch slowly");
    let rescuer = s.background(&["worktree", "gc"]);
    until("it is being saved", || s.root.join("saving").exists());
    let worker = s.background(&["work", "--until-empty"]);
    until("the next attempt is claimed", || s.queue("tasks/T/2.claim").exists());
    // Who waits beats: twice, so it was seen to wait.
    let pid = worker.id();
    let beat = || {
        let is_its = |wid: &String| {
            let text = read(s.queue(&format!("procs/{wid}/hb")));
            let card: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            card["pid"] == pid
        };
        let own = s.names("procs").into_iter().find(is_its);
        own.and_then(|wid| s.queue(&format!("procs/{wid}/hb")).metadata().ok()?.modified().ok())
    };
    for _ in 0..2 {
        let before = beat();
        until("it beats", || beat().is_some() && beat() != before);
    }
    assert!(!s.queue("tasks/T/2.out/workplace.json").exists(), "it waits");
    s.sh("touch go");
    s.collect(rescuer).ok();
    s.collect(worker).ok();
    let failure = s.text(".coord/tasks/T/2.out/failure");
    assert!(
        failure.contains("uncommitted work of attempt 1 is saved in refs/coord/wip/T.a1 "),
        "{failure}"
    );
    assert!(!failure.contains("what could not be saved"), "{failure}");
    assert_eq!(saved(&s, "T.a1"), "x.slow\n");
}

#[test]
fn doctor_says_where_merging_would_go() {
    let s = Sandbox::with_git();
    s.coord(&["doctor"]).says("git version").says("only what asks for it");
    s.configure("[merge]\nenabled = true\n");
    s.coord(&["doctor"]).says("merging").says("into main");
    s.configure("[merge]\nenabled = true\ninto = \"release\"\n");
    s.coord(&["doctor"])
        .exits(1)
        .says("there is no branch release to merge into")
        .says("[merge] into");
    // An old git works, and does not merge.
    s.sh("mkdir ../old && printf '#!/bin/sh\\nfor a; do [ \"$a\" != --version ] || exec echo git version 2.30.2; done\\nexec /usr/bin/env PATH=/usr/local/bin:/usr/bin:/bin git \"$@\"\\n' > ../old/git && chmod +x ../old/git");
    let mut old = s;
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", old.beside("old").display());
    old.set("PATH", &path);
    let bin = env!("CARGO_BIN_EXE_coord");
    old.configure("[merge]\nenabled = true\n");
    old.run(bin, &["doctor"]).exits(1).says("merging needs git 2.38");
    old.configure("");
    old.run(bin, &["doctor"]).exits(0).says("merging needs git 2.38");
}
