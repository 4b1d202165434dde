//! Things that nobody of ours has made, in places where they kept others from being dealt with. That there
//! are no more such places is what `tests/hostile` looks for, by chance.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;

use crate::support::{Sandbox, skip, until};

/// A hole of ten gigabytes.
fn hole(path: &Path) {
    fs::File::create_new(path).unwrap().set_len(10 << 30).unwrap();
}

/// It ends, however long that takes on a machine that has other things to do.
fn ends(s: &Sandbox, words: &[&str]) -> crate::support::Output {
    let mut child: Child = s.background(words);
    until(&format!("coord {} ends", words.join(" ")), || child.try_wait().unwrap().is_some());
    s.collect(child)
}

#[test]
fn a_closed_directory_of_hints_or_of_the_archive_keeps_nobody_from_the_others() {
    let mut s = Sandbox::new();
    s.add(&["--id", "A"], "echo A >> ran");
    s.work().ok();
    s.coord(&["gc", "A"]).ok();
    if !s.as_plain_user() {
        return skip("closed directories", "the programs cannot be reached by a plain user");
    }
    for dir in
        ["ready/default/00", "ready/other", "delayed/7fffffff", "waiters/ghost", "archive/done/zz"]
    {
        fs::create_dir_all(s.queue(dir)).unwrap();
        // An empty one goes, as ours do.
        fs::write(s.queue(dir).join("a note"), "").unwrap();
        fs::set_permissions(s.queue(dir), fs::Permissions::from_mode(0o000)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(s.queue(dir), Some(0), Some(0)).unwrap();
        }
    }
    s.add(&["--id", "B"], "echo B >> ran");
    let worker = ends(&s, &["work", "--until-empty"]);
    assert_eq!(s.lines("ran"), ["A", "B"], "{}", worker.stderr);
    s.coord(&["gc"]).ok();
    let found = s.coord(&["fsck"]);
    found.exits(1);
    for dir in ["ready/default/00", "waiters/ghost", "archive/done/zz"] {
        found.says(dir);
    }
    for dir in
        ["ready/default/00", "ready/other", "delayed/7fffffff", "waiters/ghost", "archive/done/zz"]
    {
        fs::set_permissions(s.queue(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_directory_of_somebody_in_ready_keeps_the_empty_ones_in_it() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "true");
    for dir in ["ready/default/mine/inner", "ready/Mine/50/inner", "ready/default/50/mine"] {
        fs::create_dir_all(s.queue(dir)).unwrap();
    }
    s.work().ok();
    s.coord(&["gc"]).ok();
    for dir in ["ready/default/mine/inner", "ready/Mine/50/inner", "ready/default/50/mine"] {
        assert!(s.queue(dir).is_dir(), "{dir} is there");
    }
}

#[test]
fn an_endless_file_of_events_is_read_as_far_as_one_of_ours_can_reach() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "true");
    hole(&s.queue("events/x.0.jsonl"));
    s.work().ok();
    assert_eq!(s.coord(&["status", "--count", "done"]).ok().line(), "1");
    ends(&s, &["events"]).ok().says("A");
    // Nothing of it is read twice.
    s.start(1);
    until("the aggregator has read it", || s.text(".coord/status.json").contains("\"done\": 1"));
    s.coord(&["stop", "--timeout", "20s"]).ok();
    ends(&s, &["fsck", "--strict"]).exits(1).says("events/x.0.jsonl");
}

#[test]
fn events_that_cannot_be_read_keep_no_others_from_being_shown() {
    let mut s = Sandbox::new();
    s.add(&["--id", "A"], "true");
    s.work().ok();
    if !s.as_plain_user() {
        return skip("closed events", "the programs cannot be reached by a plain user");
    }
    let closed = s.queue("events/x.0.jsonl");
    fs::write(&closed, "{}\n").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(s.coord(&["status", "--count", "done"]).ok().line(), "1");
    s.coord(&["events"]).ok().says("A");
    s.coord(&["fsck"]).exits(1).says("events/x.0.jsonl");
}

#[test]
fn a_directory_where_the_rule_of_a_run_belongs_makes_no_worker_spin() {
    let s = Sandbox::new();
    s.sh("coord map --id L --sh 'echo {} >> ran' ::: 1 2 3");
    fs::create_dir(s.queue("tasks/L/jobs/halt.1")).unwrap();
    ends(&s, &["work", "--until-empty"]).ok();
    assert_eq!(s.lines("ran").len(), 3);
}

#[test]
fn an_endless_list_or_log_is_read_as_far_as_one_of_ours_can_reach() {
    let s = Sandbox::new();
    s.sh("coord map --id L --sh 'echo {} >> ran' ::: 1 2 3");
    hole(&s.queue("tasks/L/jobs/0000000004.in"));
    hole(&s.queue("tasks/L/jobs/x.log"));
    ends(&s, &["work", "--until-empty"]);
    assert_eq!(s.lines("ran")[..3].len(), 3);
    for words in [&["logs", "L"][..], &["show", "L"], &["ls"]] {
        ends(&s, words).ok();
    }
    ends(&s, &["fsck"]).exits(1).says("0000000004.in").says("x.log");
}

#[test]
fn nobody_counts_up_to_the_number_of_a_register() {
    let s = Sandbox::new();
    s.add(&["--id", "A", "--hold"], "true");
    fs::write(s.queue("tasks/A/4294967295.claim"), "").unwrap();
    ends(&s, &["ls", "--json"]).ok();
    ends(&s, &["show", "A"]);
    ends(&s, &["context", "A"]);
    ends(&s, &["fsck"]).exits(1).says("4294967295.claim");
}

#[test]
fn behind_the_last_number_there_is_no_further_attempt() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "true");
    s.work().ok();
    for register in ["claim", "end"] {
        let of = |n: &str| s.queue(&format!("tasks/A/{n}.{register}"));
        fs::copy(of("1"), of("4294967295")).unwrap();
    }
    ends(&s, &["context", "A"]).ok();
}

#[test]
fn a_try_between_two_that_were_done_is_named() {
    let s = Sandbox::new();
    s.sh("coord map --id L --sh 'true {}' ::: 1");
    s.work().ok();
    let chunk = s.queue("tasks/L/jobs/0000000001");
    fs::write(chunk.join("1.2.claim"), "no card").unwrap();
    fs::write(chunk.join("1.2.end"), "no end").unwrap();
    fs::hard_link(chunk.join("1.1.claim"), chunk.join("1.3.claim")).unwrap();
    fs::hard_link(chunk.join("1.1.end"), chunk.join("1.3.end")).unwrap();
    s.coord(&["fsck"]).exits(1).says("1.2.claim").says("1.3.claim").says("1.3.end");
}

#[test]
fn what_somebody_put_into_the_directory_of_a_process_stays_and_nobody_waits_for_it() {
    let s = Sandbox::new();
    let worker = s.background(&["work"]);
    let home = |s: &Sandbox| {
        let names = s.names("procs");
        names
            .into_iter()
            .find(|name| name.starts_with("solo-"))
            .map(|name| s.queue(&format!("procs/{name}")))
    };
    until("it is there", || home(&s).is_some_and(|home| home.join("run").is_dir()));
    let home = home(&s).unwrap();
    let (note, in_run) = (home.join("a note"), home.join("run/a note.tmp"));
    fs::write(&note, "what somebody wrote").unwrap();
    fs::write(&in_run, "what somebody wrote").unwrap();
    // Another one does not wait for the worker, which has nothing to do.
    s.add(&["--id", "A"], "true");
    s.until_state("A", "done");
    ends(&s, &["work", "--until-empty"]).ok();
    s.coord(&["stop", "--now", "--timeout", "20s"]).ok();
    s.collect(worker).ok();
    s.coord(&["fsck", "--repair"]);
    for path in [&note, &in_run] {
        assert_eq!(fs::read_to_string(path).unwrap(), "what somebody wrote");
    }
    s.coord(&["fsck", "--strict"]).exits(1).says("a note");
    // With the last of it the directory goes.
    fs::remove_file(&in_run).unwrap();
    s.coord(&["fsck", "--repair"]);
    assert_eq!(fs::read_to_string(&note).unwrap(), "what somebody wrote");
    fs::remove_file(&note).unwrap();
    s.coord(&["fsck", "--repair"]).ok();
    assert!(!home.exists());
}

#[test]
fn no_scope_is_taken_behind_the_last_number_that_there_is() {
    let s = Sandbox::new();
    fs::write(s.queue("scopes/v18446744073709551615.json"), "").unwrap();
    s.add(&["--id", "A", "--scope", "src"], "true");
    s.add(&["--id", "B"], "echo B >> ran");
    let worker = ends(&s, &["work", "--until-empty"]);
    assert!(!worker.stderr.contains("panicked"), "{}", worker.stderr);
    assert_eq!(s.lines("ran"), ["B"]);
    fs::remove_file(s.queue("scopes/v18446744073709551615.json")).unwrap();
    s.work().ok();
    assert_eq!(s.state("A"), "done");
}
