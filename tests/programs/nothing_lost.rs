//! What an attempt did not commit is never thrown away, however the attempt or its worker ended.

use crate::inside::worker_of;
use crate::support::{Sandbox, kill, until};

/// Leaves every kind of change, and says that it did.
const MESS: &str =
    "echo changed > file; echo staged > staged; git add staged; mkdir d; echo new > d/new; rm gone
    touch $COORD_ROOT/up";

fn sandbox(more: &str) -> Sandbox {
    let s = Sandbox::with_git();
    s.configure(more);
    s.sh("echo gone > gone && echo '*.o' > .gitignore && git add . ':!coord.toml' && git commit -qm more");
    s
}

/// All of `MESS` is in this ref.
#[track_caller]
fn is_saved(s: &Sandbox, name: &str) {
    let changed = s.sh(&format!("git diff --name-status main {name}")).stdout;
    assert_eq!(changed, "A\td/new\nM\tfile\nD\tgone\nA\tstaged\n", "{name}");
    assert_eq!(s.sh(&format!("git show {name}:file")).stdout, "changed\n");
}

#[test]
fn uncommitted_work_is_saved_however_an_attempt_ends() {
    let s = sandbox("");
    let run = |id: &str, options: &[&str], end: &str| {
        let mut all = vec!["--id", id, "--retries", "0"];
        all.extend(options);
        s.add(&all, &format!("{MESS}; {end}"));
    };
    run("done", &[], "exit 0");
    run("fail", &[], "exit 1");
    run("signal", &[], "kill -9 $$");
    run("limit", &["--limit", "300ms"], "exec sleep 1000");
    s.work().exits(1);
    for (id, verdict) in [("done", "done"), ("fail", "fail"), ("signal", "fail"), ("limit", "fail")]
    {
        let end = s.end(id, 1);
        assert_eq!(end["verdict"], verdict, "{id}");
        assert_eq!(end["result"]["wip"], format!("refs/coord/wip/{id}.a1"));
        assert_eq!(end["result"]["uncommitted"], 4, "{id}");
        is_saved(&s, &format!("refs/coord/wip/{id}.a1"));
        let told =
            format!("uncommitted work of attempt 1 is saved in refs/coord/wip/{id}.a1 (git show ");
        s.coord(&["show", id]).ok().says(&told);
        s.coord(&["context", id]).ok().says(&told);
    }
    let by = s.end("fail", 1)["holder"].as_str().unwrap().to_owned();
    let log = s.sh("git log -1 --format='%an|%cn|%s|%(trailers:key=Coord-Worker,valueonly)' refs/coord/wip/fail.a1");
    assert_eq!(log.line(), format!("coord solo|coord solo|fail: left by attempt 1|{by}"));
    assert_eq!(
        s.sh("git rev-parse refs/coord/wip/fail.a1^").line(),
        s.sh("git rev-parse main").line()
    );
}

#[test]
fn uncommitted_work_is_saved_when_somebody_else_ends_the_attempt() {
    use nix::sys::signal::{Signal, kill};
    let s = sandbox("");
    s.add(&["--id", "T"], &format!("{MESS}; exec sleep 1000"));
    let worker = s.background(&["work", "--max-tasks", "1"]);
    until("it runs", || s.root.join("up").exists());
    s.coord(&["cancel", "T"]).ok();
    s.collect(worker);
    assert_eq!(s.end("T", 1)["verdict"], "cancel");
    is_saved(&s, "refs/coord/wip/T.a1");
    s.sh("rm up");
    s.add(&["--id", "U"], &format!("{MESS}; exec sleep 1000"));
    let worker = s.background(&["work"]);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(worker.id()).unwrap());
    until("it runs", || s.root.join("up").exists());
    kill(pid, Signal::SIGTERM).unwrap();
    s.collect(worker);
    assert_eq!(s.end("U", 1)["verdict"], "release");
    is_saved(&s, "refs/coord/wip/U.a1");
    s.coord(&["context", "U"]).ok().says("is saved in refs/coord/wip/U.a1");
}

#[test]
fn the_work_of_a_killed_worker_is_saved_and_named_to_the_next_attempt() {
    let s = sandbox("");
    let line = format!(
        "if [ $COORD_ATTEMPT = 1 ]; then {MESS}; exec sleep 1000; fi
        cp $COORD_CONTEXT_FILE $COORD_OUT/context; cp $COORD_FAILURE_FILE $COORD_OUT/failure
        git status --porcelain > $COORD_OUT/status; git show refs/coord/wip/T.a1:d/new > $COORD_OUT/new"
    );
    s.add(&["--id", "T"], &line);
    let mut victim = s.background(&["work"]);
    until("it runs", || s.root.join("up").exists());
    kill(worker_of(&s, "T"));
    victim.wait().unwrap();
    assert!(s.sh("git for-each-ref refs/coord").stdout.is_empty(), "nobody was there to save it");
    s.work().ok();
    assert_eq!(s.end("T", 1)["verdict"], "expired");
    is_saved(&s, "refs/coord/wip/T.a1");
    let out = |name: &str| s.text(format!(".coord/tasks/T/2.out/{name}"));
    let told = "uncommitted work of attempt 1 is saved in refs/coord/wip/T.a1 (git show refs/coord/wip/T.a1)";
    assert!(out("failure").contains(told), "{}", out("failure"));
    let context: serde_json::Value = serde_json::from_str(&out("context")).unwrap();
    assert_eq!(context["previous"][0]["wip"], "refs/coord/wip/T.a1");
    assert_eq!((out("status"), out("new")), (String::new(), "new\n".to_owned()));
    s.coord(&["show", "T"]).ok().says(told);
    assert_eq!(
        s.sh("git rev-parse refs/coord/wip/T.a1^").line(),
        s.sh("git rev-parse main").line()
    );
    // In the name of the one that was killed.
    let claimed = s.text(s.queue("tasks/T/1.claim"));
    let card: serde_json::Value = serde_json::from_str(&claimed).unwrap();
    let by =
        s.sh("git log -1 --format='%(trailers:key=Coord-Worker,valueonly)' refs/coord/wip/T.a1");
    assert_eq!(by.line().trim(), card["wid"]);
}

#[test]
fn the_work_of_a_killed_worker_is_saved_before_the_brief_also_by_a_worker_elsewhere() {
    let s = sandbox("");
    let line = format!(
        "[ $COORD_ATTEMPT = 1 ] || {{ pwd > $COORD_OUT/pwd; exec cp $COORD_FAILURE_FILE $COORD_OUT/failure; }}
        {MESS}; exec sleep 1000"
    );
    s.add(&["--id", "T"], &line);
    let mut victim = s.background(&["work"]);
    until("it runs", || s.root.join("up").exists());
    // Another one has a slot of its own, and goes on in that.
    s.add(
        &["--id", "H"],
        "touch $COORD_ROOT/there; until [ -e $COORD_ROOT/go ]; do sleep 0.01; done",
    );
    let other = s.background(&["work", "--until-empty"]);
    until("the other is at work", || s.root.join("there").exists());
    kill(worker_of(&s, "T"));
    victim.wait().unwrap();
    s.sh("touch go");
    s.collect(other).ok();
    let out = |name: &str| s.text(format!(".coord/tasks/T/2.out/{name}"));
    assert_eq!(out("pwd").trim(), s.beside("project.coord/w2").display().to_string());
    assert!(out("failure").contains("is saved in refs/coord/wip/T.a1"), "{}", out("failure"));
    is_saved(&s, "refs/coord/wip/T.a1");
    let slot = s.beside("project.coord/w1");
    assert_eq!(s.text(slot.join("d/new")), "new\n", "and it is still there to be looked at");
}

#[test]
fn a_fleet_saves_the_work_of_its_dead() {
    let s = sandbox("");
    s.start(2);
    let line = format!(
        "[ $COORD_ATTEMPT = 1 ] || exec cp $COORD_FAILURE_FILE $COORD_OUT/failure; {MESS}; exec sleep 1000"
    );
    s.add(&["--id", "T"], &line);
    until("it runs", || s.root.join("up").exists());
    kill(worker_of(&s, "T"));
    s.until_state("T", "done");
    is_saved(&s, "refs/coord/wip/T.a1");
    assert!(s.text(".coord/tasks/T/2.out/failure").contains("refs/coord/wip/T.a1"));
    s.coord(&["stop"]).ok();
    let listed = s.coord(&["worktree", "ls", "--json"]).ok().json("coord.worktrees/1");
    assert!(listed["worktrees"].as_array().unwrap().iter().all(|row| row["state"] == "free"));
}

#[test]
fn the_slot_of_a_dead_worker_is_saved_also_when_another_task_takes_it() {
    let s = sandbox("");
    s.add(&["--id", "T", "--retries", "0"], &format!("{MESS}; exec sleep 1000"));
    let mut victim = s.background(&["work"]);
    until("it runs", || s.root.join("up").exists());
    kill(worker_of(&s, "T"));
    victim.wait().unwrap();
    // It is found dead, and its task has no further attempt.
    s.work().exits(1);
    assert_eq!(s.end("T", 1)["verdict"], "expired");
    s.add(&["--id", "U"], "pwd > $COORD_OUT/pwd; git status --porcelain > $COORD_OUT/status");
    s.work().exits(1);
    assert_eq!(s.text(".coord/tasks/U/1.out/status"), "");
    assert_eq!(
        s.text(".coord/tasks/U/1.out/pwd").trim(),
        s.beside("project.coord/w1").display().to_string()
    );
    is_saved(&s, "refs/coord/wip/T.a1");
}

#[test]
fn gc_saves_what_the_dead_left_before_it_removes_anything() {
    let s = sandbox("");
    s.add(&["--id", "T", "--retries", "0"], &format!("{MESS}; exec sleep 1000"));
    let mut victim = s.background(&["work"]);
    until("it runs", || s.root.join("up").exists());
    let pid = worker_of(&s, "T");
    s.coord(&["worktree", "gc"]).ok().says("w1 stays: solo has it for attempt 1 of T");
    kill(pid);
    victim.wait().unwrap();
    // Its processes may still be at work until it was recovered.
    s.coord(&["worktree", "gc"]).ok().says("w1 stays: solo has it");
    s.coord(&["fsck", "--repair"]);
    s.coord(&["work", "--until-empty"]);
    s.coord(&["worktree", "gc"]).ok().says("w1 removed");
    is_saved(&s, "refs/coord/wip/T.a1");
}

#[test]
fn half_done_merges_and_rebases_are_survived() {
    let s = sandbox("");
    s.sh("git checkout -qb other && echo theirs > file && git commit -qam theirs && git checkout -q main");
    let ours = "echo ours > file && git commit -qam ours";
    s.add(
        &["--id", "merge", "--retries", "0"],
        &format!("{ours}; git merge other; echo x > new; exit 1"),
    );
    s.add(&["--id", "rebase", "--retries", "0"], &format!("{ours}; git rebase other; exit 1"));
    s.add(&["--id", "pick", "--retries", "0"], &format!("{ours}; git cherry-pick other; exit 1"));
    s.add(
        &["--id", "lock", "--retries", "0"],
        "echo x > new; touch $(git rev-parse --git-path index.lock); exit 1",
    );
    let look = "git status > $COORD_OUT/status; ls $(git rev-parse --git-dir) > $COORD_OUT/ls";
    s.add(&["--id", "after"], look);
    s.work().exits(1);
    for id in ["merge", "rebase", "pick"] {
        let file = s.sh(&format!("git show refs/coord/wip/{id}.a1:file")).stdout;
        assert!(file.contains("<<<<<<<") && file.contains("theirs"), "{id}: {file}");
        assert_eq!(s.sh(&format!("git show coord/{id}/a1:file")).stdout, "ours\n", "{id}");
    }
    assert_eq!(s.sh("git show refs/coord/wip/merge.a1:new").stdout, "x\n");
    assert_eq!(s.sh("git show refs/coord/wip/lock.a1:new").stdout, "x\n");
    assert_eq!(
        s.text(".coord/tasks/after/1.out/status"),
        "On branch coord/after/a1\nnothing to commit, working tree clean\n"
    );
    let left = s.text(".coord/tasks/after/1.out/ls");
    for name in ["MERGE_HEAD", "rebase-merge", "CHERRY_PICK_HEAD", "index.lock", "coord-index"] {
        assert!(!left.contains(name), "{name} in\n{left}");
    }
}

#[test]
fn commits_beside_the_branch_are_saved_too() {
    let s = sandbox("");
    s.add(
        &["--id", "detached"],
        "git checkout -q --detach && echo d > d.txt && git add . && git commit -qm d",
    );
    s.add(
        &["--id", "switched"],
        "git checkout -qb own && echo s > s.txt && git add . && git commit -qm s; echo more > more",
    );
    s.add(&["--id", "deleted"], "echo x > x.txt && git add . && git commit -qm x && git checkout -q --detach && git branch -qD $COORD_BRANCH");
    s.add(&["--id", "clean"], "git checkout -q --detach main");
    s.work().ok();
    for (id, path) in
        [("detached", "d.txt"), ("switched", "s.txt"), ("switched", "more"), ("deleted", "x.txt")]
    {
        s.sh(&format!("git cat-file -e refs/coord/wip/{id}.a1:{path}"));
    }
    assert_eq!(s.end("detached", 1)["result"]["uncommitted"], serde_json::Value::Null);
    assert!(s.end("clean", 1)["result"]["wip"].is_null(), "there was nothing to save");
    assert_eq!(s.end("detached", 1)["result"]["commit"], s.sh("git rev-parse main").line());
}

#[test]
fn a_nested_repository_cannot_be_saved_so_its_slot_is_set_aside() {
    let s = sandbox("");
    let line =
        "git init -q inner && echo deep > inner/file && echo x > new; [ $COORD_ATTEMPT = 2 ]";
    s.add(&["--id", "T", "--retries", "1"], line);
    s.add(&["--id", "U", "-a", "T"], "pwd > $COORD_OUT/pwd");
    s.work().ok();
    let pool = s.beside("project.coord");
    for (n, slot) in [(1, "w1"), (2, "w2")] {
        let result = s.end("T", n)["result"].clone();
        assert_eq!(result["worktree"], pool.join(slot).display().to_string());
        assert_eq!(s.text(pool.join(slot).join("inner/file")), "deep\n");
        // What can be saved, is.
        assert_eq!(s.sh(&format!("git show refs/coord/wip/T.a{n}:new")).stdout, "x\n");
    }
    assert_eq!(s.text(".coord/tasks/U/1.out/pwd").trim(), pool.join("w3").display().to_string());
    s.coord(&["worktree", "ls"])
        .ok()
        .says("retired")
        .says("the repository inner, which is not part");
    s.coord(&["doctor"]).says("set aside in").says("w1: it holds the repository inner");
    s.coord(&["show", "T"])
        .ok()
        .says(&format!("what could not be saved is in its worktree {}", pool.join("w1").display()));
    s.coord(&["worktree", "gc"])
        .ok()
        .says("w1 stays: it holds the repository inner")
        .says("w3 removed");
    assert_eq!(s.text(pool.join("w1/inner/file")), "deep\n");
    // A person took it out: then the slot serves again.
    std::fs::rename(pool.join("w1/inner"), s.beside("rescued")).unwrap();
    s.coord(&["worktree", "gc"]).ok().says("w1 removed");
    assert_eq!(s.sh("git show refs/coord/wip/T.a1:new").stdout, "x\n");
}

#[test]
fn a_person_in_a_free_slot_is_neither_disturbed_nor_robbed() {
    let s = sandbox("");
    s.add(&["--id", "A"], "true");
    s.work().ok();
    let slot = s.beside("project.coord/w1");
    let mut shell = s.command("sh");
    shell.current_dir(&slot).args(["-c", "echo mine > mine; touch there; exec sleep 1000"]);
    let mut shell = shell.spawn().unwrap();
    until("somebody is there", || slot.join("there").exists());
    s.coord(&["worktree", "gc", "--dry-run"]).ok().says("w1 stays: process");
    s.coord(&["worktree", "gc"]).ok().says("w1 stays: process").says("is in it");
    s.add(&["--id", "B"], "pwd > $COORD_OUT/pwd");
    s.work().ok();
    assert_eq!(
        s.text(".coord/tasks/B/1.out/pwd").trim(),
        s.beside("project.coord/w2").display().to_string()
    );
    assert_eq!(s.text(slot.join("mine")), "mine\n");
    kill(i32::try_from(shell.id()).unwrap());
    shell.wait().unwrap();
    // Not committed, so it is not removed; and when the slot is used again, it is saved first.
    s.coord(&["worktree", "gc"]).ok().says("w1 stays: mine is not committed");
    s.add(&["--id", "C"], "ls > $COORD_OUT/ls");
    s.work().ok();
    assert_eq!(s.text(".coord/tasks/C/1.out/ls"), "file\ngone\n");
    let refs = s.sh("git for-each-ref --format='%(refname)' refs/coord/wip").stdout;
    let mine =
        refs.lines().find(|name| name.contains("slot-w1")).unwrap_or_else(|| panic!("{refs}"));
    assert_eq!(s.sh(&format!("git show {mine}:mine")).stdout, "mine\n");
}

#[test]
fn a_late_result_is_named_with_its_branch() {
    let s = sandbox("");
    let line =
        "if [ $COORD_ATTEMPT = 1 ]; then echo l > late && git add late && git commit -qm late
        touch $COORD_ROOT/up; until [ -e $COORD_ROOT/go ]; do sleep 0.01; done; fi";
    s.add(&["--id", "T"], line);
    let worker = s.background(&["work", "--max-tasks", "1"]);
    until("it runs", || s.root.join("up").exists());
    // Somebody gave it up, as a keeper elsewhere would.
    let end = r#"{"v":1,"verdict":"expired","retry":true,"charged":1,"why":"lease"}"#;
    std::fs::write(s.queue("tasks/T/.1.end"), end).unwrap();
    std::fs::hard_link(s.queue("tasks/T/.1.end"), s.queue("tasks/T/1.end")).unwrap();
    std::fs::remove_file(s.queue("tasks/T/.1.end")).unwrap();
    s.sh("touch go");
    s.collect(worker);
    let commit = s.sh("git rev-parse coord/T/a1").line().to_owned();
    s.coord(&["context", "T"])
        .ok()
        .says(&format!("it still reported: done, branch coord/T/a1 at {commit}"));
}
