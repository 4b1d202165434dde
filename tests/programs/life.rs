//! From submission to the end of a task, the exit code of every verb, and what goes where.

use serde_json::Value;

use crate::support::{Sandbox, until};

#[test]
fn a_task_is_added_worked_and_done() {
    let s = Sandbox::new();
    let added = s.coord(&["add", "greet", "--", "sh", "-c", "echo hello; echo there >&2"]);
    assert_eq!(added.ok().stdout, "1\n", "stdout of add is the id and nothing else");
    assert_eq!(added.stderr, "");
    assert_eq!(s.state("1"), "ready");
    s.work().ok();
    assert_eq!(s.state("1"), "done");
    s.coord(&["logs", "1"]).ok().says("hello\n").says("there\n");
    s.coord(&["logs", "1", "-n", "1"]).ok().says("there");
    s.coord(&["logs", "1@1", "-n", "1"]).ok().silent_about("hello");
    s.coord(&["wait"]).ok();
    s.coord(&["show", "1"]).ok().says("greet").says("attempt 1").says("done");
    let end = s.end("1", 1);
    assert_eq!((&end["verdict"], &end["retry"]), (&"done".into(), &false.into()));
    assert_eq!(end["exit"]["code"], 0);
    assert_eq!(s.names("tasks/1"), ["1.claim", "1.end", "1.out", "spec.json"]);
    assert_eq!(s.names("procs"), ["bell"], "nobody is registered any more");
}

#[test]
fn ids_are_numbers_or_given_and_the_same_task_twice_is_one() {
    let s = Sandbox::new();
    assert_eq!(s.add(&[], "true"), "1");
    assert_eq!(s.add(&["--id", "W-3"], "true"), "W-3");
    assert_eq!(s.add(&[], "true"), "2");
    let again = s.coord(&["add", "--id", "W-3", "--sh", "true", "--json"]);
    assert_eq!(again.ok().json("coord.add/1")["new"], false);
    s.coord(&["add", "--id", "W-3", "--sh", "false"]).fails(5, "taken").warns("hint: ");
    s.work().ok();
    assert_eq!(s.coord(&["ls", "-q"]).ok().stdout, "1\n2\nW-3\n");
}

#[test]
fn without_a_queue_every_verb_says_so() {
    let s = Sandbox::bare();
    let verbs: &[&[&str]] = &[
        &["add", "x", "--", "true"],
        &["import", "x.md"],
        &["status"],
        &["ls"],
        &["show", "1"],
        &["why", "1"],
        &["workers"],
        &["logs", "1"],
        &["events"],
        &["wait"],
        &["gc"],
        &["cancel", "1"],
        &["hold", "1"],
        &["release", "1"],
        &["retry", "1"],
        &["done", "1"],
        &["fail", "1", "--reason", "x"],
        &["start"],
        &["stop"],
        &["scale", "1"],
        &["pause"],
        &["resume"],
        &["work"],
        &["context", "1"],
    ];
    for verb in verbs {
        s.coord(verb).fails(3, "hint: coord init");
    }
    let error = s.coord(&["ls", "--json"]);
    error.exits(3);
    assert_eq!(error.stdout, "");
    let document: Value = serde_json::from_str(&error.stderr).unwrap();
    assert_eq!(document["schema"], "coord.error/1");
    assert_eq!((&document["exit"], &document["code"]), (&3.into(), &"no_queue".into()));
}

#[test]
fn a_task_that_is_not_there_is_exit_4() {
    let s = Sandbox::new();
    s.add(&["--id", "W-33"], "true");
    for verb in
        ["show", "why", "logs", "cancel", "hold", "release", "retry", "done", "context", "wait"]
    {
        s.coord(&[verb, "W-34"]).fails(4, "W-34");
    }
    s.coord(&["fail", "W-34", "--reason", "x"]).fails(4, "W-34");
    s.coord(&["show", "W-34"]).fails(4, "did you mean W-33?");
    s.coord(&["import", "no-such-file.md"]).fails(4, "no-such-file.md");
}

#[test]
fn wrong_usage_is_exit_2() {
    let s = Sandbox::new();
    s.coord(&["add", "-p", "100", "x", "--", "true"]).exits(2);
    s.coord(&["add", "x", "--sh", "a", "--", "b"]).fails(2, "");
    s.coord(&["add", "x", "--env", "NONSENSE", "--", "true"]).fails(2, "NAME=VALUE");
    s.coord(&["add", "x", "--limit", "soon", "--", "true"]).fails(2, "soon");
    s.coord(&["add", "x", "--agent", "shel", "--prompt", "x"]).fails(2, "did you mean `shell`?");
    s.coord(&["status", "--count", "runing"]).fails(2, "did you mean `running`?");
    s.coord(&["ls", "--state", "doone"]).fails(2, "did you mean `done`?");
    s.coord(&["strat"]).exits(2);
    s.coord(&["start", "-n", "0"]).fails(2, "no worker is wanted");
    s.coord(&["start", "--role", "Nonsense!=1"]).fails(2, "is no role");
    s.coord(&["wait", "--timeout", "x"]).fails(2, "");
    s.coord(&["done"]).fails(2, "which task?");
    assert_eq!(s.names("tasks"), [""; 0], "nothing was added");
}

#[test]
fn conflicts_are_exit_5() {
    let s = Sandbox::new();
    let done = s.add(&[], "true");
    s.work().ok();
    s.coord(&["cancel", &done]).fails(5, "over already: done");
    s.coord(&["hold", &done]).fails(5, "over already");
    s.coord(&["release", &done]).fails(5, "not held");
    s.coord(&["retry", &done]).fails(5, "has not failed");
    s.coord(&["done", &done]).fails(5, "");
    s.coord(&["scale", "3"]).exits(5);
    let ready = s.add(&[], "true");
    s.coord(&["done", &ready]).fails(5, "not a manual task");
    s.coord(&["release", &ready]).fails(5, "not held");
}

#[test]
fn nothing_to_do_is_exit_6_and_a_failure_exit_1() {
    let s = Sandbox::new();
    s.coord(&["work", "--once"]).exits(6);
    s.add(&["--retries", "0"], "exit 3");
    s.coord(&["work", "--once"]).exits(1);
    s.coord(&["work", "--once"]).exits(6);
    s.work().exits(1);
    s.coord(&["wait"]).fails(1, "1 of 1 tasks did not succeed: 1 (failed)");
    s.add(&[], "true");
    s.coord(&["work", "--max-tasks", "1"]).ok();
}

#[test]
fn wait_gives_up_after_its_timeout_with_124() {
    let s = Sandbox::new();
    s.add(&[], "true");
    s.coord(&["wait", "--timeout", "50ms"]).fails(124, "1 of 1 tasks are not over: 1");
    let waiting = s.background(&["wait", "1"]);
    s.work().ok();
    s.collect(waiting).ok();
    s.coord(&["wait", "@done", "--json"]).ok().json("coord.wait/1");
}

#[test]
fn json_documents_have_their_schema_and_stdout_has_nothing_else() {
    let s = Sandbox::new();
    s.coord(&["init", "--json"]).ok().json("coord.init/1");
    s.add(&["--id", "A"], "true");
    s.coord(&["add", "--id", "B", "--json", "--sh", "true"]).ok().json("coord.add/1");
    s.coord(&["add", "--id", "M", "--manual", "by hand"]).ok();
    s.coord(&["add", "--id", "N", "--manual", "by hand"]).ok();
    for (verb, schema) in
        [("status", "coord.status/1"), ("ls", "coord.tasks/1"), ("workers", "coord.workers/1")]
    {
        s.coord(&[verb, "--json"]).ok().json(schema);
    }
    s.coord(&["show", "A", "--json"]).ok().json("coord.task/1");
    s.coord(&["why", "A", "--json"]).ok().json("coord.why/1");
    s.coord(&["context", "A", "--json"]).ok().json("coord.context/1");
    s.coord(&["hold", "A", "--json"]).ok().json("coord.hold/1");
    s.coord(&["release", "A", "--json"]).ok().json("coord.release/1");
    s.coord(&["cancel", "A", "--json"]).ok().json("coord.cancel/1");
    s.coord(&["retry", "A", "--json"]).ok().json("coord.retry/1");
    s.coord(&["done", "M", "--json"]).ok().json("coord.done/1");
    s.coord(&["fail", "N", "--reason", "no", "--json"]).ok().json("coord.fail/1");
    std::fs::write(
        s.root.join("list.md"),
        "- [ ] X-1: one `true`\n- [ ] X-2: two (after X-1) `true`\n",
    )
    .unwrap();
    s.coord(&["import", "list.md", "--dry-run", "--json"]).ok().json("coord.import/1");
    s.coord(&["cancel", "all", "--json", "--dry-run"]).ok();
    let left = s.coord(&["work", "--until-empty", "--json"]);
    assert_eq!(left.json("coord.work/1")["left"], "empty");
    for line in s.coord(&["events", "--json"]).ok().stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["k"].is_string() && event["t"].is_string(), "{line}");
    }
    let wait = s.coord(&["wait", "--json"]);
    assert_eq!(wait.exits(1).json("coord.wait/1")["not_done"][0]["id"], "N");
}

#[test]
fn why_and_show_know_every_state() {
    let s = Sandbox::new();
    s.add(&["--id", "fails", "--retries", "0"], "exit 9");
    s.add(&["--id", "works"], "true");
    s.work().exits(1);
    s.add(&["--id", "gone"], "true");
    s.coord(&["cancel", "gone", "--reason", "not wanted"]).ok();
    s.add(&["--id", "runs"], "echo > started; exec sleep 1000");
    let worker = s.background(&["work", "--max-tasks", "1"]);
    s.until_state("runs", "running");
    s.add(&["--id", "ready"], "true");
    s.add(&["--id", "blocked", "--after", "ready"], "true");
    s.add(&["--id", "later", "--not-before", "1h"], "true");
    s.add(&["--id", "kept", "--hold"], "true");
    s.add(&["--id", "held"], "true");
    s.coord(&["hold", "held"]).ok();
    s.coord(&["add", "--id", "hand", "--manual", "sign it"]).ok();
    s.add(&["--id", "dead", "--after", "fails"], "true");
    let expected = [
        ("fails", "failed", "exit 9", "coord retry fails"),
        ("works", "done", "succeeded", "it is over"),
        ("gone", "cancelled", "not wanted", "coord retry gone"),
        ("runs", "running", "runs attempt 1", "coord logs -f runs"),
        ("ready", "ready", "priority 50", "next"),
        ("blocked", "blocked", "ready is not done yet", "when ready reached done"),
        ("later", "delayed", "not before", "by itself"),
        ("kept", "held", "hold", "coord release kept"),
        ("held", "held", "hold", "coord release held"),
        ("hand", "manual", "a person does it", "coord done hand"),
        ("dead", "blocked", "fails failed", "decides about fails"),
    ];
    for (id, state, reason, next) in expected {
        s.coord(&["why", id]).ok().says(&format!("{id} is {state}")).says(reason).says(next);
        assert_eq!(s.state(id), state);
        let count = s.coord(&["ls", "--state", state, "-q"]);
        assert!(count.ok().stdout.lines().any(|l| l == id), "ls --state {state} lacks {id}");
    }
    for (state, count) in
        [("held", "2\n"), ("blocked", "2\n"), ("delayed", "1\n"), ("review", "0\n")]
    {
        assert_eq!(s.coord(&["status", "--count", state]).ok().stdout, count, "{state}");
    }
    s.coord(&["status"]).ok().says("NEEDS YOU (4)").says("RUNNING (1)").says("sign it");
    s.coord(&["cancel", "runs"]).ok();
    s.collect(worker);
    s.until_state("runs", "cancelled");
}

#[test]
fn logs_follow_a_task_over_its_retries_to_its_end() {
    let s = Sandbox::new();
    s.add(&["--id", "T"], "echo attempt $COORD_ATTEMPT; [ $COORD_ATTEMPT = 2 ]");
    let follower = s.background(&["logs", "-f", "T"]);
    s.work().ok();
    let followed = s.collect(follower);
    assert_eq!(followed.ok().stdout, "attempt 1\nattempt 2\n");
    s.coord(&["logs", "T@1"]).ok().says("attempt 1").silent_about("attempt 2");
    s.coord(&["logs", "T@7"]).fails(4, "printed nothing yet");
    s.coord(&["logs", "T@x"]).fails(2, "is no attempt");
}

#[test]
fn every_transition_is_one_event() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "[ $COORD_ATTEMPT = 2 ]");
    s.add(&["--id", "B", "--after", "A"], "true");
    s.work().ok();
    let kinds = |id: &str| -> Vec<String> {
        let events = s.coord(&["events", "--json", id]);
        let each = events.ok().stdout.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        each.map(|e| format!("{}{}", e["k"].as_str().unwrap(), e["n"])).collect()
    };
    let sorted = |mut v: Vec<String>| {
        v.sort();
        v
    };
    let a = ["claim1", "claim2", "delayed2", "end1", "end2", "ready1", "ready2", "submitnull"];
    assert_eq!(sorted(kinds("A")), a);
    assert_eq!(sorted(kinds("B")), ["blocked1", "claim1", "end1", "ready1", "submitnull"]);
    let mut follower = s.background_into("events", &["events", "-f", "--json", "all"]);
    until("it prints what was", || s.text("events").lines().count() >= 13);
    follower.kill().unwrap();
    follower.wait().unwrap();
    let mut follower = s.background_into("events", &["events", "-f", "--json", "--since", "1h"]);
    s.add(&["--id", "C"], "true");
    s.work().ok();
    let end_of_c = |l: &str| l.contains("\"k\":\"end\"") && l.contains("\"id\":\"C\"");
    until("the end of C is printed as it comes", || s.text("events").lines().any(end_of_c));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn hints_that_went_with_their_directory_come_back_also_where_somebody_was_faster() {
    let s = Sandbox::new();
    s.add(&["--id", "A", "--role", "other"], "echo A >> ran");
    s.add(&["--id", "B"], "echo B >> ran");
    s.coord(&["work", "--until-empty", "--role", "other"]).ok();
    s.sh("rm -r .coord/ready");
    // Who publishes makes the directories and bells anew, and knows nothing of what was in them.
    s.add(&["--id", "C"], "echo C >> ran");
    let worker = s.background(&["work"]);
    until("all have run", || s.lines("ran").len() == 3);
    s.coord(&["stop", "--now", "--timeout", "20s"]).ok();
    s.collect(worker).ok();
}
