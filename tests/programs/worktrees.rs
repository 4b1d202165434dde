//! Where attempts run: slots that are used again, what they get, and under which name they commit.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use crate::support::{Sandbox, until};

/// What an attempt left in a file of its output.
fn out(s: &Sandbox, id: &str, n: u32, name: &str) -> String {
    s.text(format!(".coord/tasks/{id}/{n}.out/{name}"))
}

#[test]
fn a_slot_is_used_again_and_nothing_of_before_is_in_it() {
    let s = Sandbox::with_git();
    s.configure("[worktree]\nkeep = [\"cache\"]\n");
    s.sh("echo '*.o' > .gitignore && git add .gitignore && git commit -qm ignore");
    let dirty =
        "pwd > $COORD_OUT/pwd; mkdir -p cache d; echo a >> cache/x; echo a > d/new; echo a > y.o
        echo changed > file; echo a > .gitignore; git checkout -q --orphan lost; exit 1";
    s.add(&["--id", "T", "--retries", "0"], dirty);
    let look = "pwd > $COORD_OUT/pwd; git status --porcelain --ignored > $COORD_OUT/status; cat file cache/x > $COORD_OUT/files
        git rev-parse HEAD > $COORD_OUT/head; git symbolic-ref --short HEAD >> $COORD_OUT/head";
    s.add(&["--id", "U"], look);
    s.work().exits(1);
    assert_eq!(out(&s, "T", 1, "pwd"), out(&s, "U", 1, "pwd"), "the worker keeps its slot");
    assert_eq!(out(&s, "U", 1, "status"), "?? cache/\n");
    assert_eq!(out(&s, "U", 1, "files"), "one\na\n", "the cache stayed");
    let main = s.sh("git rev-parse main").stdout;
    assert_eq!(out(&s, "U", 1, "head"), format!("{main}coord/U/a1\n"));
    // Free, and nobody is on a branch: a person can check out any.
    s.sh("git checkout -q coord/U/a1 && git checkout -q main");
    s.coord(&["worktree", "ls"]).ok().says("free");
    assert!(!s.beside("project.coord/.tmp/w1").exists(), "TMPDIR is gone");
}

#[test]
fn two_workers_have_two_slots_and_a_third_takes_what_is_free() {
    let s = Sandbox::with_git();
    s.start(2);
    for id in ["A", "B"] {
        let line = "pwd > $COORD_OUT/pwd; env > $COORD_OUT/env; touch $COORD_ROOT/up$COORD_TASK_ID
            until [ -e $COORD_ROOT/go ]; do sleep 0.01; done";
        s.add(&["--id", id], line);
    }
    until("both run", || s.root.join("upA").exists() && s.root.join("upB").exists());
    let listed = s.coord(&["worktree", "ls", "--json"]).ok().json("coord.worktrees/1");
    for row in listed["worktrees"].as_array().unwrap() {
        let (slot, owner) = (row["slot"].as_str().unwrap(), row["owner"].as_str().unwrap());
        assert!(owner.starts_with(&format!("{slot}-")), "each has its own: {row}");
        assert_eq!(row["state"], "held");
    }
    let path = s.coord(&["worktree", "path", "A"]).ok().line().to_owned();
    assert_eq!(path, out(&s, "A", 1, "pwd").trim());
    s.coord(&["worktree", "gc"]).ok().says("w1 stays: w1 has it for attempt 1 of");
    // Another worker beside them: the smallest number that is free.
    s.add(&["--id", "C", "--role", "other"], "pwd > $COORD_OUT/pwd; env > $COORD_OUT/env");
    s.coord(&["work", "--once", "--role", "other"]).ok();
    assert_eq!(out(&s, "C", 1, "pwd").trim(), s.beside("project.coord/w3").display().to_string());
    s.sh("touch go");
    s.until_state("A", "done");
    s.until_state("B", "done");
    for id in ["A", "B", "C"] {
        let text = out(&s, id, 1, "env");
        let env: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
        let slot = env["COORD_WORKTREE"].rsplit_once('w').unwrap().1;
        let index = slot.parse::<u32>().unwrap() - 1;
        assert_eq!(env["COORD_WORKER_INDEX"], index.to_string(), "{id}");
        assert_eq!(env["COORD_PORT_BASE"], (20_000 + 100 * index).to_string(), "{id}");
        let tmp = s.beside("project.coord/.tmp").join(format!("w{slot}"));
        assert_eq!(env["TMPDIR"], tmp.display().to_string(), "{id}");
    }
    s.coord(&["stop"]).ok();
    let listed = s.coord(&["worktree", "ls", "--json"]).ok().json("coord.worktrees/1");
    let rows = listed["worktrees"].as_array().unwrap().clone();
    assert!(rows.len() == 3 && rows.iter().all(|row| row["state"] == "free"), "{rows:#?}");
    s.coord(&["worktree", "path", "A"]).fails(4, "attempt 1 of A has no worktree now");
}

#[test]
fn without_git_the_number_is_the_workers_and_tmpdir_is_left_alone() {
    let mut s = Sandbox::new();
    s.set("TMPDIR", "/var/tmp");
    s.start(1);
    s.add(&["--id", "T"], "env > env.w; touch up");
    s.until_state("T", "done");
    let env = s.text("env.w");
    for line in ["COORD_WORKER_INDEX=0", "COORD_PORT_BASE=20000", "TMPDIR=/var/tmp"] {
        assert!(env.lines().any(|l| l == line), "{line}\n{env}");
    }
}

#[test]
fn tmpdir_is_there_and_empty_for_each_attempt() {
    let s = Sandbox::with_git();
    let line = "ls $TMPDIR > $COORD_OUT/ls && touch $TMPDIR/left && [ $COORD_ATTEMPT = 2 ]";
    s.add(&["--id", "T"], line);
    s.work().ok();
    assert_eq!((out(&s, "T", 1, "ls"), out(&s, "T", 2, "ls")), (String::new(), String::new()));
}

#[test]
fn copies_links_and_setup_come_before_the_command_and_are_never_committed() {
    let s = Sandbox::with_git();
    s.configure(
        "[git]\ncommit = \"worker\"\n[worktree]\ncopy = [\".env\", \"conf\", \"absent\"]\n\
         link = [\"deps\"]\nsetup = \"cat .env deps/x > made; echo $PWD\"\n",
    );
    s.sh("echo SECRET > .env; mkdir -p conf/d deps; echo c > conf/d/c; ln -s d/c conf/link; echo dep > deps/x");
    let line = "cat made conf/link > $COORD_OUT/made; echo more >> .env; echo n > new; echo x >> deps/shared";
    s.add(&["--id", "A"], line);
    s.add(&["--id", "B"], "cat .env > $COORD_OUT/env; ls -A > $COORD_OUT/ls");
    s.work().ok();
    assert_eq!(out(&s, "A", 1, "made"), "SECRET\ndep\nc\n");
    assert!(out(&s, "A", 1, "log").contains("project.coord/w1"), "{}", out(&s, "A", 1, "log"));
    let names = s.sh("git show --name-only --format= coord/A/a1").stdout;
    assert_eq!(names, "made\nnew\n", "what was copied and linked is nobody's work");
    assert!(s.end("A", 1)["result"]["wip"].is_null());
    assert_eq!(out(&s, "B", 1, "env"), "SECRET\n", "a fresh copy for each attempt");
    assert_eq!(out(&s, "B", 1, "ls"), ".env\n.git\nconf\ndeps\nfile\nmade\n");
    assert_eq!(s.text("deps/shared"), "x\n", "a link is to the project's own");
    assert_eq!(s.text(".env"), "SECRET\n");
    // And they do not keep a slot from being removed.
    s.coord(&["worktree", "gc"]).ok().says("w1 removed");
    assert_eq!(s.text("deps/shared"), "x\n");
}

#[test]
fn a_setup_that_fails_is_the_verdict() {
    let s = Sandbox::with_git();
    s.configure("[worktree]\nsetup = \"echo broken; exit 65\"\n");
    s.add(&["--id", "T", "--retries", "1"], "touch ran");
    s.work().exits(1);
    for n in [1, 2] {
        assert_eq!(s.end("T", n)["why"], "setup failed: exit 65", "and it is tried again");
        assert_eq!(out(&s, "T", n, "log"), "broken\n");
    }
    // The limit of the attempt holds for it too.
    s.configure("[worktree]\nsetup = \"sleep 1000\"\n");
    s.add(&["--id", "U", "--retries", "0", "--limit", "200ms"], "touch ran");
    s.work().exits(1);
    assert_eq!(s.end("U", 1)["why"], "time limit");
}

#[test]
fn a_clone_instead_of_a_worktree() {
    let s = Sandbox::with_git();
    s.configure("[worktree]\nisolation = \"clone\"\n[git]\ncommit = \"agent\"\n");
    let line = "[ -d .git ] && echo two >> file && git commit -qam two && echo rest > rest; [ $COORD_ATTEMPT = 2 ]";
    s.add(&["--id", "T"], line);
    s.sh("git tag before");
    s.work().ok();
    for n in [1, 2] {
        let result = &s.end("T", n)["result"];
        let commit = s.sh(&format!("git rev-parse coord/T/a{n}")).line().to_owned();
        assert_eq!(result["commit"], commit);
        assert_eq!(s.sh(&format!("git show refs/coord/wip/T.a{n}:rest")).stdout, "rest\n");
        assert_eq!(result["wip"], format!("refs/coord/wip/T.a{n}"));
    }
    assert_eq!(s.sh("git log -1 --format='%s %an' coord/T/a2").line(), "two coord solo");
    assert_eq!(s.sh("git worktree list").stdout.lines().count(), 1);
    assert!(s.beside("project.coord/w1/.git").is_dir());
    // A base that the clone does not have yet.
    s.sh("echo later > later && git add later && git commit -qm later");
    s.add(&["--id", "U"], "cat later");
    s.work().ok();
    s.coord(&["worktree", "gc"]).ok().says("w1 removed");
    assert!(!s.beside("project.coord/w1").exists());
    s.sh("git fsck --no-dangling");
}

#[test]
fn commits_have_the_workers_name_and_no_configuration_is_written() {
    let s = Sandbox::with_git();
    s.configure("[git]\ncommit = \"worker\"\nidentity = { name = \"bot {worker}\", email = \"{worker}@bots\" }\n");
    s.sh("git config user.name Somebody; git config commit.gpgsign true; git config gpg.program false");
    let before = s.text(".git/config");
    s.add(&["--id", "T"], "echo new > new; git commit --allow-empty --no-gpg-sign -qm own");
    s.coord(&["add", "--id", "U", "A title", "--sh", "echo u > u; rm file"]).ok();
    s.work().ok();
    assert_eq!(s.text(".git/config"), before, "byte for byte");
    assert!(!s.beside("home/.gitconfig").exists());
    let log = |branch: &str| {
        s.sh(&format!("git log --format='%s|%an|%ae|%cn|%ce' main..{branch}")).stdout
    };
    let who = "bot solo|solo@bots|bot solo|solo@bots";
    assert_eq!(log("coord/T/a1").lines().last().unwrap(), format!("own|{who}"));
    assert_eq!(log("coord/U/a1"), format!("U: A title|{who}\n"));
    let by = s.end("U", 1)["holder"].as_str().unwrap().to_owned();
    let trailers = s.sh("git log -1 --format='%(trailers:only)' coord/U/a1").stdout;
    assert_eq!(trailers.trim(), format!("Coord-Task: U\nCoord-Attempt: 1\nCoord-Worker: {by}"));
    assert_eq!(s.sh("git show --name-status --format= coord/U/a1").stdout, "D\tfile\nA\tu\n");
    assert_eq!(s.end("U", 1)["result"]["commit"], s.sh("git rev-parse coord/U/a1").line());
}

#[test]
fn who_commits_is_what_the_configuration_says() {
    for (by, branch, wip) in [("agent", "", "new"), ("none", "", "new"), ("worker", "new", "")] {
        let s = Sandbox::with_git();
        s.configure(&format!("[git]\ncommit = \"{by}\"\n"));
        s.add(&["--id", "T"], "echo new > new");
        s.add(&["--id", "F", "--retries", "0"], "echo new > new; exit 1");
        s.work().exits(1);
        assert_eq!(s.end("T", 1)["verdict"], "done", "{by}");
        assert_eq!(s.sh("git diff --name-only main coord/T/a1").line(), branch, "{by}");
        let saved = s.sh("git diff --name-only main refs/coord/wip/T.a1 || true");
        assert_eq!(saved.line(), wip, "{by}");
        // What failed is never committed on the branch.
        assert_eq!(s.sh("git diff --name-only main coord/F/a1").line(), "", "{by}");
        assert_eq!(s.sh("git diff --name-only main refs/coord/wip/F.a1").line(), "new", "{by}");
    }
}

#[test]
fn a_hook_that_refuses_the_workers_commit_fails_the_attempt() {
    let s = Sandbox::with_git();
    s.configure("[git]\ncommit = \"worker\"\n");
    s.sh(
        "printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/pre-commit && chmod +x .git/hooks/pre-commit",
    );
    s.add(&["--id", "T", "--retries", "0"], "echo new > new");
    s.work().exits(1);
    let end = s.end("T", 1);
    assert_eq!(end["verdict"], "fail");
    assert_eq!(end["why"], "left 1 change uncommitted: new; saved in refs/coord/wip/T.a1");
    assert_eq!(end["exit"]["code"], 0);
    assert_eq!(s.sh("git show refs/coord/wip/T.a1:new").stdout, "new\n");
}

#[test]
fn a_done_attempt_that_is_to_be_merged_must_be_whole() {
    let s = Sandbox::with_git();
    let id = s.add(
        &["--id", "T", "--retries", "0", "--hold"],
        "echo a > a; echo b > b; git checkout -q --detach",
    );
    // As a merging release of this program writes it.
    let path = s.queue(&format!("tasks/{id}/spec.json"));
    let mut spec: serde_json::Value = serde_json::from_str(&s.text(&path)).unwrap();
    (spec["merge"], spec["into"]) = (true.into(), "main".into());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, spec.to_string()).unwrap();
    s.coord(&["release", "T"]).ok();
    s.work().exits(1);
    let end = s.end("T", 1);
    assert_eq!(end["why"], "left 2 changes uncommitted: a, b; saved in refs/coord/wip/T.a1");
    assert_eq!((&end["verdict"], &end["result"]["uncommitted"]), (&"fail".into(), &2.into()));
}

#[test]
fn a_slot_whose_directory_was_removed_or_is_not_ours() {
    let s = Sandbox::with_git();
    s.add(&["--id", "A"], "pwd");
    s.work().ok();
    let pool = s.beside("project.coord");
    std::fs::remove_dir_all(pool.join("w1")).unwrap();
    s.add(&["--id", "B"], "pwd > $COORD_OUT/pwd");
    s.work().ok();
    assert_eq!(out(&s, "B", 1, "pwd").trim(), pool.join("w1").display().to_string());
    // Somebody's own directory in its place is left alone.
    s.coord(&["worktree", "gc"]).ok().says("w1 removed");
    std::fs::create_dir(pool.join("w1")).unwrap();
    std::fs::write(pool.join("w1/precious"), "mine").unwrap();
    s.add(&["--id", "C"], "pwd > $COORD_OUT/pwd");
    s.work().ok();
    assert_eq!(out(&s, "C", 1, "pwd").trim(), pool.join("w2").display().to_string());
    assert_eq!(s.text(pool.join("w1/precious")), "mine");
    s.coord(&["worktree", "ls"]).ok().says("is in the way");
    s.coord(&["worktree", "gc"]).ok().says("w1 stays: ");
    assert_eq!(s.text(pool.join("w1/precious")), "mine");
}

#[test]
fn caches_are_not_copied_or_made_anew() {
    let s = Sandbox::with_git();
    s.configure("[worktree]\nkeep = [\"target\"]\n");
    s.sh("echo target > .gitignore && git add .gitignore && git commit -qm ignore");
    s.add(&["--id", "A"], "mkdir target && touch target/x");
    s.work().ok();
    let ino = |s: &Sandbox| s.beside("project.coord/w1/target/x").metadata().unwrap().ino();
    let before = ino(&s);
    s.add(&["--id", "B"], "[ -e target/x ]");
    s.work().ok();
    assert_eq!(ino(&s), before);
}
