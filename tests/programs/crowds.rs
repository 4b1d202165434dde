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
    s.sh(&format!("ulimit -s {STACK}; exec coord why t{}", DEEP - 1)).ok().says("t0");
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
