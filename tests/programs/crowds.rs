//! Chains and fans of many tasks, and what the programs need for them.

use std::fmt::Write;

use crate::support::Sandbox;

/// Deep enough that a call for each task would need more than the stack below: some 12 KiB each.
const DEEP: usize = 300;
/// Kilobytes of stack.
const STACK: usize = 640;

/// A chain of tasks, each of which is cancelled if the one before it is dead. The first one runs `first`.
fn chain(s: &Sandbox, first: &str) {
    let mut lines = format!("{{\"id\":\"t0\",\"max_attempts\":1,\"sh\":\"{first}\"}}\n");
    for i in 1..DEEP {
        let (on, rest) = (i - 1, "\"on_dep_dead\":\"cancel\",\"sh\":\"true\"");
        writeln!(lines, "{{\"id\":\"t{i}\",\"after\":[\"t{on}\"],{rest}}}").unwrap();
    }
    std::fs::write(s.root.join("chain.jsonl"), lines).unwrap();
    s.coord(&["import", "--quiet", "chain.jsonl"]).ok();
}

/// How the last task of the chain ended with attempt n.
fn last(s: &Sandbox, n: u32) -> String {
    let end = s.end(&format!("t{}", DEEP - 1), n);
    format!("{} because of {}", end["verdict"], end["because"]).replace('"', "")
}

/// A program that may have no more than 64 MiB of its own: what it holds of a long file, and of many tasks,
/// must not grow with them. (The largest resident size would count what the test had before the program
/// began.)
fn within_64_mib(line: &str) -> String {
    format!("ulimit -d {}; exec {line}", 64 << 10)
}

#[test]
fn what_follows_along_a_chain_needs_no_stack() {
    let s = Sandbox::new();
    chain(&s, "true");
    let on = format!("cancel because of t{}", DEEP - 2);
    s.sh(&format!("ulimit -s {STACK}; exec coord cancel t0")).ok();
    assert_eq!(last(&s, 1), on);
    s.sh(&format!("ulimit -s {STACK}; exec coord retry t0")).ok();
    assert_eq!(s.names("blocked").len(), DEEP - 1);
    assert_eq!(s.names("procs"), ["bell"], "no intent is left");
    // A keeper's sweep, what explains it, and what checks it.
    std::fs::remove_dir_all(s.queue("blocked")).unwrap();
    s.sh(&format!("ulimit -s {STACK}; exec coord fsck --repair")).ok();
    assert_eq!(s.names("blocked").len(), DEEP - 1);
    let why = s.sh(&format!("ulimit -s {STACK}; exec coord why t{}", DEEP - 1));
    // The beginning and the end of a long chain.
    why.says("t298 is not done yet").says("more, each of which").says("t1 waits: t0 is not done");
    assert!(why.stdout.lines().count() < 20, "{}", why.stdout);
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_worker_whose_task_fails_cancels_a_whole_chain() {
    let s = Sandbox::new();
    chain(&s, "exit 1");
    let work = format!("ulimit -s {STACK}; exec coord work --until-empty");
    s.run("sh", &["-c", &work]).exits(1).warns("t0.1 fail: exit 1");
    assert_eq!(last(&s, 1), format!("cancel because of t{}", DEEP - 2));
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_log_of_any_size_is_not_held_to_show_its_end() {
    let s = Sandbox::new();
    let id = s.add(&[], "true");
    s.work().ok();
    // Holes of 300 MB in which no line ends, and three lines behind them.
    let path = s.queue(&format!("tasks/{id}/1.out/log"));
    let mut log = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::io::Seek::seek(&mut log, std::io::SeekFrom::Start(300_000_000)).unwrap();
    std::io::Write::write_all(&mut log, b"\none\ntwo\nthree\n").unwrap();
    let last = s.sh(&within_64_mib(&format!("coord logs -n 2 {id}")));
    assert_eq!(last.stdout, "two\nthree\n");
    let bytes = s.sh(&within_64_mib(&format!("coord logs {id} | wc -c; test $? = 0")));
    assert_eq!(bytes.stdout.trim(), "300000015");
}

#[test]
fn the_front_of_a_run_does_not_hold_what_a_job_prints() {
    let s = Sandbox::new();
    let print = "head -c 150000000 /dev/zero; : {}";
    for order in ["", "--keep-order ", "--line-buffer "] {
        let line = format!("coord run {order}-n 1 --sh '{print}' ::: 1 | wc -c");
        let said = s.sh(&within_64_mib(&line));
        assert_eq!(said.stdout.trim(), "150000000", "{order}");
    }
}

#[test]
fn a_file_of_tasks_may_have_any_length_and_is_read_task_by_task() {
    let s = Sandbox::new();
    // Forty megabytes, of which only what the tasks say is kept.
    let long = "x".repeat(400_000);
    let lines: String =
        (0..100).map(|i| format!("{{\"id\":\"t{i}\",\"sh\":\"true # {long}\"}}\n")).collect();
    std::fs::write(s.root.join("long.jsonl"), &lines).unwrap();
    for how in ["--dry-run --json", "--quiet"] {
        let said = s.sh(&format!("ulimit -d {}; exec coord import {how} long.jsonl", 24 << 10));
        assert!(said.stdout.contains("t99"), "{how}: {}", said.stdout);
    }
    assert_eq!(s.names("tasks").len(), 100);
    // A checklist is held as a whole; what does not fit is not cut.
    let list: String = (0..45).map(|i| format!("- [ ] L-{i}: {long} `true`\n")).collect();
    std::fs::write(s.root.join("long.md"), list).unwrap();
    s.coord(&["import", "long.md"]).fails(2, "longer than 16 MiB");
    assert_eq!(s.names("tasks").len(), 100);
}

#[test]
fn a_listing_holds_no_more_than_its_lines() {
    let s = Sandbox::new();
    let long = "x".repeat(400_000);
    for i in 0..100 {
        let dir = s.queue(&format!("tasks/t{i}"));
        std::fs::create_dir(&dir).unwrap();
        let spec = format!("{{\"v\":1,\"uid\":\"{i}\",\"sh\":\"true # {long}\"}}");
        std::fs::write(dir.join("spec.json"), spec).unwrap();
    }
    for how in ["", "--json", "--quiet", "@ready", "--state ready --json"] {
        let said = s.sh(&format!("ulimit -d {}; exec coord ls {how}", 24 << 10));
        assert!(said.stdout.contains("t99"), "{how}");
    }
    let few = s.coord(&["ls", "--quiet", "--limit", "3"]);
    assert_eq!(few.ok().stdout, "t0\nt1\nt2\n");
    let json = s.coord(&["ls", "--json", "t5"]);
    let listed = json.ok().json("coord.tasks/1");
    assert_eq!((&listed["tasks"][0]["id"], &listed["tasks"][1]), (&"t5".into(), &().into()));
    assert_eq!(
        s.coord(&["ls", "--json", "--state", "failed"]).json("coord.tasks/1")["tasks"],
        serde_json::json!([])
    );
}
