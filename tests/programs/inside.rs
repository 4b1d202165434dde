//! What a job finds, what it can say, and what is left of it.

use std::collections::BTreeMap;

use crate::support::{Sandbox, alive, until};

#[test]
fn a_job_finds_everything_in_its_environment() {
    let mut s = Sandbox::with_git();
    s.configure("[env]\nFROM_TOML = \"yes\"\n");
    s.set("GIT_DIR", "/nonsense");
    s.add(&["--id", "A"], "coord done --handoff - <<E\nmind the step\nE");
    // Added without the misleading variable; the worker has it.
    let args = [
        "-a",
        "A",
        "--id",
        "B",
        "--wave",
        "4",
        "--role",
        "tester",
        "--limit",
        "1h",
        "-e",
        "OWN=a b",
        "--retries",
        "1",
        "--agent",
        "shell",
        "--prompt",
    ];
    let line = "[ $COORD_ATTEMPT = 2 ] || exit 9; env -0 > $COORD_OUT/env; cp $COORD_PROMPT_FILE $COORD_OUT/prompt;
        cat $COORD_CONTEXT_FILE > $COORD_OUT/context; cat $COORD_FAILURE_FILE > $COORD_OUT/failure; pwd > $COORD_OUT/pwd";
    let mut add = vec!["add"];
    add.extend(args);
    add.push(line);
    s.coord(&add).ok();
    s.work().ok();
    let out = |name: &str| s.text(format!(".coord/tasks/B/2.out/{name}"));
    let text = out("env");
    let env: BTreeMap<&str, &str> =
        text.split('\0').filter_map(|pair| pair.split_once('=')).collect();
    let root = s.root.display().to_string();
    let has = |name: &str, value: &str| {
        assert_eq!(env.get(name), Some(&value), "{name}\n{env:#?}");
    };
    has("COORD_DIR", &format!("{root}/.coord"));
    has("COORD_ROOT", &root);
    has("COORD_FORMAT", "1");
    has("COORD_TASK_ID", "B");
    has("COORD_TASK_FILE", &format!("{root}/.coord/tasks/B/spec.json"));
    has("COORD_ATTEMPT", "2");
    has("COORD_ATTEMPTS_MAX", "2");
    has("COORD_ROLE", "tester");
    has("COORD_WAVE", "4");
    has("COORD_WORKER", "solo");
    has("COORD_OUT", &format!("{root}/.coord/tasks/B/2.out"));
    has("COORD_BRANCH", "coord/B/a2");
    has("GIT_TERMINAL_PROMPT", "0");
    has("GIT_EDITOR", "true");
    has("GIT_AUTHOR_NAME", "coord solo");
    has("GIT_COMMITTER_NAME", "coord solo");
    has("GIT_AUTHOR_EMAIL", "solo@coord.local");
    has("GIT_COMMITTER_EMAIL", "solo@coord.local");
    has("FROM_TOML", "yes");
    has("OWN", "a b");
    has("PWD", out("pwd").trim());
    has("COORD_WORKTREE", out("pwd").trim());
    assert!(env["COORD_TITLE"].contains("[ $COORD_ATTEMPT = 2 ]"), "{}", env["COORD_TITLE"]);
    assert!(env["COORD_TOKEN"].starts_with("B.2@solo-"), "{}", env["COORD_TOKEN"]);
    assert_eq!(env["COORD_BASE"].len(), 40);
    assert!(env["COORD_DEADLINE"].starts_with("20"), "{}", env["COORD_DEADLINE"]);
    assert!(!env.contains_key("GIT_DIR"), "git's own variables mislead a job");
    assert_eq!(out("prompt"), line);
    assert!(out("context").contains("mind the step"), "{}", out("context"));
    assert!(out("failure").contains("exit 9"), "{}", out("failure"));
}

#[test]
fn a_handoff_and_a_result_reach_those_who_come_after() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "echo 'use v2' | coord done --handoff - --result '{\"port\": 80}'");
    s.add(&["--id", "B", "-a", "A"], "coord context > brief; coord context --json > brief.json");
    s.work().ok();
    assert!(s.text("brief").contains("use v2"), "{}", s.text("brief"));
    let brief: serde_json::Value = serde_json::from_str(&s.text("brief.json")).unwrap();
    assert_eq!(brief["after"][0]["handoff"], "use v2\n");
    assert_eq!(brief["after"][0]["result"]["port"], 80);
    assert_eq!(s.end("A", 1)["result"]["value"]["port"], 80);
}

#[test]
fn progress_is_shown_and_refused_after_the_end() {
    let s = Sandbox::new();
    let line = "until [ -e go ]; do sleep 0.01; done; coord progress 40% half the way && touch told; exec sleep 1000";
    s.add(&["--id", "T"], line);
    let worker = s.background(&["work", "--max-tasks", "1"]);
    until("the claim shows", || s.coord(&["status"]).stdout.contains("RUNNING (1)"));
    s.sh("touch go");
    until("it told", || s.root.join("told").exists());
    s.coord(&["status"]).ok().says("40 % half the way");
    s.coord(&["events", "T"]).ok().says("40 % half the way");
    s.coord(&["cancel", "T", "--force"]).ok();
    s.collect(worker);
    let stale = s.run("env", &["COORD_TASK_ID=T", "COORD_ATTEMPT=1", "coord", "progress", "50"]);
    stale.fails(5, "attempt 1 of T is over").warns("stop working");
    s.coord(&["progress", "50"]).fails(2, "which task?");
}

#[test]
fn progress_shows_whatever_the_order_of_the_event_files() {
    let s = Sandbox::new();
    s.add(&["--id", "T"], "coord progress 40 && touch told; exec sleep 1000");
    let worker = s.background(&["work", "--max-tasks", "1"]);
    until("it told", || s.root.join("told").exists());
    let status = s.coord(&["status"]);
    s.coord(&["cancel", "T", "--force"]).ok();
    s.collect(worker);
    status.ok().says("40 %");
}

#[test]
fn progress_shows_also_after_other_events() {
    let s = Sandbox::new();
    s.add(
        &["--id", "T"],
        "until [ -e go ]; do sleep 0.01; done; coord progress 40 && touch told; exec sleep 1000",
    );
    let worker = s.background(&["work", "--max-tasks", "1"]);
    until("the claim shows", || s.coord(&["status"]).stdout.contains("RUNNING (1)"));
    s.sh("touch go");
    until("it told", || s.root.join("told").exists());
    s.coord(&["status"]).ok().says("40 %");
    s.add(&[], "true");
    let status = s.coord(&["status"]);
    s.coord(&["cancel", "T", "--force"]).ok();
    s.collect(worker);
    status.ok().says("40 %");
}

#[test]
fn nothing_that_a_job_started_outlives_its_attempt() {
    let s = Sandbox::new();
    // In a session of its own, without the worker's variables, and with a changed name.
    let line = "for i in 1 2 3; do setsid sh -c 'echo $$ >> pids; exec sleep 1000' & done
        env -i setsid sh -c 'echo $$ >> pids; exec sleep 1000' &
        until [ $(wc -l < pids) = 4 ]; do sleep 0.01; done; exit 0";
    std::fs::write(s.root.join("pids"), "").unwrap();
    s.add(&["--id", "T"], line);
    s.work().ok();
    let pids = s.lines("pids");
    assert_eq!(pids.len(), 4);
    for pid in pids {
        assert!(!alive(pid.parse().unwrap()), "{pid} lives on");
    }
}

#[test]
fn nothing_outlives_a_killed_worker_once_it_was_recovered() {
    let s = Sandbox::new();
    s.start(2);
    s.add(
        &["--id", "T"],
        "[ $COORD_ATTEMPT = 2 ] && exit 0; setsid sh -c 'echo $$ > pid; exec sleep 1000' & wait",
    );
    until("it runs", || !s.text("pid").trim().is_empty());
    let worker = worker_of(&s, "T");
    crate::support::kill(worker);
    s.until_state("T", "done");
    assert_eq!(s.end("T", 1)["verdict"], "expired");
    assert!(!alive(s.text("pid").trim().parse().unwrap()), "before the next attempt began");
}

/// The process that holds attempt 1 of a task.
pub fn worker_of(s: &Sandbox, id: &str) -> i32 {
    let shown = s.coord(&["show", id, "--json"]);
    let pid = shown.ok().json("coord.task/1")["attempts"][0]["claim"]["pid"].as_i64().unwrap();
    i32::try_from(pid).unwrap()
}

#[test]
fn every_attempt_has_a_worktree_and_a_branch() {
    let s = Sandbox::with_git();
    let line = "[ $COORD_ATTEMPT = 2 ] || exit 1; echo two >> file && git commit -qam two";
    s.add(&["--id", "T"], line);
    s.work().ok();
    let result = &s.end("T", 2)["result"];
    assert_eq!(result["branch"], "coord/T/a2");
    let commit = s.sh("git rev-parse coord/T/a2");
    assert_eq!(result["commit"], commit.line());
    assert_eq!(s.sh("git log -1 --format='%s %an' coord/T/a2").line(), "two coord solo");
    assert_eq!(s.sh("git rev-parse coord/T/a1").line(), s.sh("git rev-parse main").line());
    assert_eq!(s.text("file"), "one\n", "the project itself is not touched");
    let trees = s.sh("git worktree list --porcelain").stdout;
    assert_eq!(
        trees.matches("worktree ").count(),
        2,
        "one for the worker, whatever it did\n{trees}"
    );
    assert_eq!(s.sh("git status --porcelain").stdout, "?? coord.toml\n");
}

#[test]
fn coord_in_a_worktree_finds_the_queue_of_the_project() {
    let s = Sandbox::with_git();
    let line = "unset COORD_DIR; coord add --id child --sh true && coord ls -q > $COORD_OUT/ids";
    s.add(&["--id", "T"], line);
    s.work().ok();
    assert_eq!(s.text(".coord/tasks/T/1.out/ids"), "T\nchild\n");
}
