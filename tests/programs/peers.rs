//! The queue is a directory: a worker in sh beside the Rust ones, and files moved by hand.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Sandbox, patiently_for, skip, until};

fn shell_worker(s: &Sandbox) -> std::process::Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/shell-worker.sh");
    let mut command = s.command("sh");
    command.arg(script).arg(s.queue("")).stdout(Stdio::null());
    command
}

fn has(s: &Sandbox, tool: &str) -> bool {
    s.run("sh", &["-c", &format!("command -v {tool}")]).code == 0
}

#[test]
fn two_shell_workers_and_two_others_share_200_tasks() {
    let s = Sandbox::new();
    if !has(&s, "jq") || !has(&s, "setsid") {
        return skip("shell worker", "jq or setsid is not installed");
    }
    std::fs::create_dir(s.root.join("ran")).unwrap();
    let line = "echo $COORD_TOKEN >> ran/$COORD_TASK_ID; sleep 0.02";
    let specs: Vec<String> = (1..=200)
        .map(|i| serde_json::json!({ "id": format!("T{i}"), "sh": line }).to_string())
        .collect();
    std::fs::write(s.root.join("all.jsonl"), specs.join("\n")).unwrap();
    s.coord(&["import", "-q", "all.jsonl"]).ok();
    let mut shells: Vec<_> = (0..2).map(|_| shell_worker(&s).spawn().unwrap()).collect();
    s.start(2);
    let waited = s.coord(&["wait", "--timeout", "100s"]);
    waited.ok();
    for shell in &mut shells {
        shell.kill().unwrap();
        shell.wait().unwrap();
    }
    let (mut by_shell, mut by_rust) = (0, 0);
    for i in 1..=200 {
        let lines = s.lines(&format!("ran/T{i}"));
        assert_eq!(lines.len(), 1, "T{i} ran {} times: {lines:?}", lines.len());
        assert!(lines[0].starts_with(&format!("T{i}.1@")), "{lines:?}");
        if lines[0].contains("@sh") {
            by_shell += 1
        } else {
            by_rust += 1
        }
        assert_eq!(s.end(&format!("T{i}"), 1)["verdict"], "done");
    }
    println!("200 tasks: {by_shell} by sh, {by_rust} by Rust");
    assert!(by_shell > 0 && by_rust > 0, "{by_shell} by sh, {by_rust} by Rust");
}

#[test]
fn a_dead_shell_worker_is_recovered_and_its_failures_are_tried_again() {
    let s = Sandbox::new();
    if !has(&s, "jq") || !has(&s, "setsid") {
        return skip("shell worker", "jq or setsid is not installed");
    }
    s.add(&["--id", "T"], "[ $COORD_ATTEMPT != 1 ] || { echo $$ > pid; exec sleep 1000; }");
    let mut shell = shell_worker(&s).spawn().unwrap();
    until("it runs", || !s.text("pid").trim().is_empty());
    shell.kill().unwrap();
    shell.wait().unwrap();
    crate::support::kill(crate::inside::worker_of(&s, "T"));
    s.add(&["--id", "after", "-a", "T"], "true");
    s.work().ok();
    assert_eq!((s.state("T"), s.state("after")), ("done".to_owned(), "done".to_owned()));
    assert_eq!(s.end("T", 1)["verdict"], "expired");
    assert!(!crate::support::alive(s.text("pid").trim().parse().unwrap()));
}

/// Moves a file into incoming/ as users do: written elsewhere, then one `mv`.
fn drop_in(s: &Sandbox, name: &str, text: &str) {
    std::fs::write(s.root.join(name), text).unwrap();
    std::fs::rename(s.root.join(name), s.queue(&format!("incoming/{name}"))).unwrap();
}

#[test]
fn a_file_moved_into_incoming_starts_at_once() {
    let s = Sandbox::new();
    s.start(1);
    let first = s.add(&[], "true");
    s.until_state(&first, "done");
    let began = Instant::now();
    drop_in(&s, "x.json", "{\"id\":\"X\",\"sh\":\"touch started\"}");
    let there = patiently_for(Duration::from_secs(5), || s.root.join("started").exists());
    println!("from mv to the start of its command: {:?}", began.elapsed());
    assert!(there, "not started within 5 s");
    s.until_state("X", "done");
    assert_eq!(s.names("incoming"), ["rejected"]);
}

#[test]
fn a_broken_file_in_incoming_is_rejected_with_its_reason() {
    let s = Sandbox::new();
    s.start(1);
    drop_in(&s, "broken.json", "{\"id\": \"X\"");
    drop_in(&s, "wrong.json", "{\"id\":\"../X\",\"sh\":\"true\"}");
    // By name, not by number: a reason that is being written has a temporary name for a moment.
    let names = ["broken.json", "broken.json.why", "wrong.json", "wrong.json.why"];
    until("both are rejected", || s.names("incoming/rejected") == names);
    assert!(!s.text(".coord/incoming/rejected/broken.json.why").trim().is_empty());
    assert!(s.text(".coord/incoming/rejected/wrong.json.why").contains("id"));
    s.coord(&["status"]).ok().says("NEEDS YOU (2)").says("broken.json");
    // Mended and moved back, it runs.
    let mended = s.queue("incoming/rejected/broken.json");
    std::fs::write(&mended, "{\"id\": \"X\", \"sh\": \"true\"}").unwrap();
    std::fs::rename(&mended, s.queue("incoming/broken.json")).unwrap();
    s.until_state("X", "done");
}

#[test]
fn ls_of_a_task_with_two_attempts_is_readable() {
    let s = Sandbox::new();
    s.add(&["--id", "T", "--backoff", "100ms"], "echo $COORD_ATTEMPT; [ $COORD_ATTEMPT = 2 ]");
    s.work().ok();
    let names = ["1.claim", "1.end", "1.out", "2.claim", "2.end", "2.out", "spec.json"];
    assert_eq!(s.names("tasks/T"), names);
    assert_eq!(s.text(".coord/tasks/T/2.out/log"), "2\n");
    let spec: serde_json::Value =
        serde_json::from_str(&s.text(".coord/tasks/T/spec.json")).unwrap();
    assert_eq!(spec["v"], 1);
}
