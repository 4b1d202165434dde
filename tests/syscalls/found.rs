//! What these tests have found, each as the shortest story that shows it.

use crate::case::Case;
use crate::place::Place;
use crate::play::{go_on, until_stopped};
use crate::situation::{self, WORK};
use crate::strace::{self, Call};

fn case(place: &Place) -> Case {
    let case = Case::new(&place.path().join("case"));
    situation::queue(&case);
    case
}

#[test]
fn a_hold_whose_event_was_never_written_is_told_by_the_recovery() {
    let place = Place::fast();
    let c = case(&place);
    c.add("a", &[], "");
    c.dies("event.append", &["hold", "a"]);
    c.heal();
    assert_eq!(c.state("a"), "held");
}

#[test]
fn a_revived_task_whose_event_was_never_written_is_told_by_the_recovery() {
    let place = Place::fast();
    let c = case(&place);
    c.add("a", &["--retries", "9"], "test -e mended || exit 100");
    c.add("b", &["--after", "a", "--on-dep-dead", "cancel"], "");
    c.coord(&["work", "--until-empty"]);
    c.sh("touch mended");
    c.dies("event.append@2", &["retry", "a"]);
    c.heal();
    assert_eq!((c.state("a"), c.state("b")), ("done".to_owned(), "done".to_owned()));
}

#[test]
fn an_entry_in_blocked_that_a_crash_left_goes_before_the_worker_leaves() {
    let place = Place::fast();
    let c = case(&place);
    c.add("a", &[], "");
    c.add("b", &["--after", "a"], "");
    c.dies("settle.unblock", &["work", "--once"]);
    c.heal();
    assert_eq!(c.state("b"), "done");
}

#[test]
fn a_cancel_that_came_too_late_is_told() {
    let place = Place::fast();
    let c = case(&place);
    c.add("a", &[], "");
    let mut command = c.program(&["coord", "cancel", "a"]);
    command.env("COORD_STEP", "end.link:stop");
    let child = c.start(command);
    until_stopped(&child);
    c.ok(&["cancel", "--force", "a"]);
    go_on(&child);
    assert_eq!(c.finish(child).code, Some(0));
    assert!(c.queue("tasks/a/1.late").exists());
    c.heal();
    assert_eq!(c.state("a"), "cancelled");
}

#[test]
fn nobody_waits_for_the_time_of_a_task_that_was_cancelled() {
    let place = Place::fast();
    let c = case(&place);
    c.add("a", &["--not-before", "1h"], "");
    c.ok(&["cancel", "a"]);
    assert_eq!(c.coord(&["fsck", "--strict"]).code, Some(0), "its hint stays");
    c.heal();
    // Cancelled by one who died before it could remove the hint.
    c.add("b", &["--not-before", "1h"], "");
    c.dies("ready.unlink", &["cancel", "b"]);
    c.heal();
    assert_eq!((c.state("a"), c.state("b")), ("cancelled".to_owned(), "cancelled".to_owned()));
}

/// The first call of a command of which strace prints this.
fn call(place: &Place, c: &Case, command: &[&str], what: &[&str]) -> Call {
    let watched = c.copy(&place.path().join("watched"));
    let calls = strace::watch(&watched, &watched.program(command));
    let is = |call: &&Call| what.iter().all(|w| call.name.contains(w) || call.text.contains(w));
    let found = calls.iter().find(is).cloned();
    found.unwrap_or_else(|| panic!("{command:?} does not {what:?}: {calls:?}"))
}

#[test]
fn an_end_that_cannot_be_read_now_does_not_permit_another_attempt() {
    let place = Place::fast();
    let c = case(&place);
    c.add("a", &[], "");
    c.heal();
    let hold = ["coord", "hold", "a"];
    let read = call(&place, &c, &hold, &["openat", "\"1.end\""]);
    let ended = strace::fail_at(&c, &read, "EMFILE", &c.program(&hold));
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.stderr.contains("caused by: Too many open files"), "{ended:?}");
    assert!(!c.queue("tasks/a/2.claim").exists(), "a second attempt at what is done");
    c.heal();
    assert_eq!(c.state("a"), "done");
}

#[test]
fn a_staged_result_that_cannot_be_read_now_is_not_thrown_away() {
    let place = Place::fast();
    let c = case(&place);
    c.add("a", &[], "");
    c.dies("end.link", &["work", "--once"]);
    let read = call(&place, &c, WORK, &["openat", "/run/a.1.end\", O_RDONLY"]);
    strace::fail_at(&c, &read, "EIO", &c.program(WORK));
    c.heal();
    assert_eq!(c.verdict("a", 1), "done", "the job has to run twice");
}

#[test]
fn an_event_that_could_not_be_written_is_told_later() {
    let place = Place::fast();
    let c = case(&place);
    c.add("a", &[], "");
    let hold = ["coord", "-v", "hold", "a"];
    let write = call(&place, &c, &hold, &["write", "/events/"]);
    let ended = strace::fail_at(&c, &write, "ENOSPC", &c.program(&hold));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("cannot append an event"), "{ended:?}");
    assert_eq!(c.coord(&["fsck", "--strict"]).code, Some(0));
}

#[test]
fn a_staged_submission_that_failed_is_not_replaced_by_the_next() {
    let place = Place::fast();
    let c = case(&place);
    for name in ["one", "two"] {
        c.sh(&format!("echo '{{\"sh\": \"true\"}}' >{name} && mv {name} .coord/incoming/"));
        c.dies("submit.mkdir", &["work", "--until-empty"]);
        // Out of the way: the next one must die with its own.
        c.sh("mkdir -p keep && mv .coord/procs/solo-* keep/");
    }
    c.sh("mv keep/* .coord/procs/");
    let link = call(&place, &c, WORK, &["linkat", "spec.json"]);
    strace::fail_at(&c, &link, "EIO", &c.program(WORK));
    c.heal();
    assert_eq!((c.state("1"), c.state("2")), ("done".to_owned(), "done".to_owned()));
}
