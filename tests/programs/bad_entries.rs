//! One entry that cannot be dealt with keeps nothing else from being dealt with, is named with what to do,
//! and comes into its own when it is mended.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;

use crate::support::{Sandbox, skip, until};

/// A sandbox of a plain user: nothing is closed to root.
fn plain(test: &str) -> Option<Sandbox> {
    let mut s = Sandbox::new();
    if s.as_plain_user() {
        return Some(s);
    }
    skip(test, "the programs that are tested cannot be reached by a plain user");
    None
}

fn task(s: &Sandbox, name: &str) {
    s.sh(&format!(
        "echo '{{\"id\":\"{name}\",\"sh\":\"echo ran-{name} >> ran\"}}' > .coord/{name}.tmp"
    ));
    s.sh(&format!("mv .coord/{name}.tmp .coord/incoming/{name}.json"));
}

#[test]
fn a_file_of_incoming_that_cannot_be_read_is_rejected_and_the_others_are_taken() {
    let Some(s) = plain("incoming") else { return };
    task(&s, "a");
    s.sh("chmod 000 .coord/incoming/a.json; touch -d '1 minute ago' .coord/incoming/a.json");
    task(&s, "b");
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.lines("ran"), ["ran-b"]);
    assert!(s.text(s.queue("incoming/rejected/a.json.why")).contains("Permission denied"));
    s.coord(&["status"]).ok().says("a.json").says("cannot be read");
    s.sh("cd .coord/incoming/rejected; chmod 644 a.json; mv a.json ..; rm a.json.why");
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.lines("ran"), ["ran-b", "ran-a"], "nothing of it was lost");
}

#[test]
fn what_cannot_be_moved_out_of_incoming_stays_is_named_and_blocks_nothing() {
    let Some(s) = plain("incoming") else { return };
    // Root's, in a directory of the user's: its `..` cannot be changed by the user.
    let dir = s.queue("incoming/a.json");
    std::fs::create_dir(&dir).unwrap();
    if !nix::unistd::geteuid().is_root() {
        return skip("incoming", "a directory of another user is made by root");
    }
    task(&s, "b");
    let worker = s.background(&["work"]);
    until("the other one was taken", || s.lines("ran") == ["ran-b"]);
    until("it is named", || s.coord(&["status"]).stdout.contains("incoming/a.json"));
    task(&s, "c");
    until("also later", || s.lines("ran") == ["ran-b", "ran-c"]);
    signal(Pid::from_raw(i32::try_from(worker.id()).unwrap()), Signal::SIGTERM).unwrap();
    s.collect(worker).ok();
    assert!(dir.is_dir(), "nobody has touched it");
    let done = s.coord(&["work", "--until-empty"]);
    done.ok();
    std::fs::remove_dir(&dir).unwrap();
}

#[test]
fn names_that_are_no_text_and_reasons_of_others_are_kept_apart() {
    let s = Sandbox::new();
    let incoming = s.queue("incoming");
    let put = |name: &[u8], text: &str| {
        let path = incoming.join(OsStr::from_bytes(name));
        std::fs::write(&path, text).unwrap();
        s.run("touch", &["-d", "1 minute ago"]);
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    };
    put(b"good\xff.json", r#"{"id":"good","sh":"true"}"#);
    put(b"bad\xfe.json", "no task");
    put(b"q", "no task either");
    put(b"q.why", "what somebody wrote");
    put(&[b'x'; 251], "of a long name");
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.state("good"), "done");
    let rejected = s.queue("incoming/rejected");
    let there = |name: &[u8]| std::fs::read_to_string(rejected.join(OsStr::from_bytes(name)));
    assert_eq!(there(b"bad\xfe.json").unwrap(), "no task");
    assert!(there(b"bad\xfe.json.why").is_ok() && there(b"q.why").is_ok());
    assert_eq!(there(b"q").unwrap(), "no task either");
    let files = std::fs::read_dir(&rejected).unwrap().map(|e| e.unwrap().path());
    let texts: Vec<String> = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for text in ["what somebody wrote", "of a long name"] {
        assert_eq!(texts.iter().filter(|t| *t == text).count(), 1, "{text} is kept: {texts:?}");
    }
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 1, "only rejected/ is left");
}

#[test]
fn a_task_that_is_closed_stops_no_other_and_runs_when_it_is_opened() {
    let Some(s) = plain("closed task") else { return };
    s.add(&["--id", "A"], "echo A >> ran");
    s.add(&["--id", "B"], "echo B >> ran");
    s.add(&["--id", "C", "--after", "B"], "echo C >> ran");
    s.sh("chmod 000 .coord/tasks/A");
    let worker = s.background(&["work"]);
    until("the others ran", || s.lines("ran") == ["B", "C"]);
    until("it is named", || s.coord(&["status"]).stdout.contains("tasks/A"));
    s.sh("chmod 755 .coord/tasks/A");
    until("it runs", || s.lines("ran") == ["B", "C", "A"]);
    until("nothing is said any more", || !s.coord(&["status"]).stdout.contains("tasks/A"));
    s.coord(&["stop", "--now", "--timeout", "20s"]).ok();
    s.collect(worker).ok();
}

#[test]
fn one_of_those_who_come_after_a_task_that_is_closed_keeps_no_other_waiting() {
    let Some(s) = plain("closed dependant") else { return };
    s.add(&["--id", "A"], "echo A >> ran");
    for id in ["B", "C", "D"] {
        s.add(&["--id", id, "--after", "A"], &format!("echo {id} >> ran"));
    }
    s.sh("chmod 000 .coord/tasks/B");
    let worker = s.background(&["work"]);
    until("the others ran", || s.lines("ran").len() == 3);
    assert!(!s.lines("ran").contains(&"B".to_owned()));
    s.sh("chmod 755 .coord/tasks/B");
    until("it runs", || s.lines("ran").contains(&"B".to_owned()));
    s.coord(&["stop", "--now", "--timeout", "20s"]).ok();
    s.collect(worker).ok();
}

#[test]
fn a_worker_that_cannot_do_anything_hears_that_it_is_to_leave() {
    for closed in ["tasks/A", "ready/default", "delayed", "procs"] {
        let Some(s) = plain("signals") else { return };
        s.add(&["--id", "A"], "true");
        let mut worker = s.background(&["work", "--role", "other"]);
        until("it is there", || s.names("procs").iter().any(|name| name.starts_with("solo-")));
        s.sh(&format!("chmod 000 .coord/{closed}"));
        s.sh("touch .coord/procs/bell .coord/ready/bell; true || :");
        signal(Pid::from_raw(i32::try_from(worker.id()).unwrap()), Signal::SIGTERM).unwrap();
        until("it has left", || worker.try_wait().unwrap().is_some());
        s.sh(&format!("chmod 755 .coord/{closed}"));
    }
}

#[test]
fn an_intent_that_cannot_be_carried_out_keeps_no_other_from_being_so() {
    let Some(s) = plain("intents") else { return };
    for id in ["A", "B"] {
        s.add(&["--id", id, "--attempts", "1"], "touch up; exec sleep 1000");
        let mut worker = s.background(&["work", "--max-tasks", "1"]);
        until("it runs", || s.root.join("up").exists());
        s.sh("rm up");
        crate::support::kill(i32::try_from(worker.id()).unwrap());
        worker.wait().unwrap();
    }
    s.sh("chmod 000 .coord/tasks/A");
    let worker = s.background(&["work"]);
    until("the other one is taken back", || s.queue("tasks/B/1.end").exists());
    s.sh("chmod 755 .coord/tasks/A");
    until("and this one too", || s.queue("tasks/A/1.end").exists());
    s.coord(&["stop", "--now", "--timeout", "20s"]).ok();
    s.collect(worker).ok();
}

#[test]
fn a_file_where_a_directory_should_be_is_no_reason_to_spin_or_to_hang() {
    let s = Sandbox::new();
    s.sh("seq 1030 | coord map --id M --sh 'echo {} >> jobs'");
    let chunk = s.queue("tasks/M/jobs/0000001025");
    std::fs::remove_dir(&chunk).unwrap();
    std::fs::write(&chunk, "").unwrap();
    s.add(&["--id", "T"], "true");
    let worker = s.background(&["work"]);
    until("the other one is done", || s.state("T") == "done");
    until("so are the other jobs", || s.lines("jobs").len() == 1024);
    until("it is named", || s.coord(&["status"]).stdout.contains("jobs/0000001025"));
    for verb in ["ls", "status", "fsck", "show"] {
        let words = if verb == "show" { &["show", "M"][..] } else { &[verb][..] };
        let mut child = s.background(words);
        until(&format!("{verb} ends"), || child.try_wait().unwrap().is_some());
    }
    let spent = spent(worker.id());
    s.coord(&["stop", "--now", "--timeout", "20s"]).ok();
    assert!(spent < 600, "{spent} ticks of the processor");
    s.collect(worker);
    assert!(Path::new(&chunk).is_file());
}

/// Processor time of a process so far, in hundredths of a second.
fn spent(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
