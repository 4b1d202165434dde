//! Faults 1 and 3 to 5, which are about the archive, as schedules; `schedules.rs` runs them. And late
//! links into directories that were moved away.

use coord::queue::ids::shard;

use crate::platform::Call;
use crate::programs::{self, Decision};
use crate::schedules::ensure;
use crate::stage::{Stage, spec};

/// A queue with T, which is over, and the worker that did it.
fn over(how: &str) -> (Stage, usize) {
    let mut s = Stage::new();
    s.add("T", how, |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Unlink, "run/T.1.end");
    s.go(w1);
    (s, w1)
}

/// Somebody who wants the id of T for another task.
fn again(s: &mut Stage) -> usize {
    let other = spec("ok", |spec| "another one".clone_into(&mut spec.title));
    s.start("add", 0, programs::add(vec![(Some("T".to_owned()), other)]))
}

fn place(top: &str, lot: &str, id: &str) -> String {
    format!("{top}/{lot}/{}/{id}", shard(id))
}

pub fn reused_id() -> Result<(), String> {
    let (mut s, w1) = over("ok");
    // Nobody was at T when the archiver looked. Then somebody finds the directory there, and makes it anew.
    let gc = s.start("gc", 0, programs::archive_once("T", false));
    s.until(gc, Call::Rename, "archive/done");
    let add = again(&mut s);
    s.until(add, Call::Mkdir, "tasks/T");
    s.go(gc);
    ensure(s.has(&place("archive", "done", "T")), "the schedule is not what it was meant to be")?;
    s.go(add);
    s.go(w1);
    let s = s.rest()?;
    ensure(!s.has("tasks/T"), "the id was used again")
}

pub fn dependency() -> Result<(), String> {
    let (mut s, _) = over("ok");
    s.done("gc", 0, programs::archive_once("T", false));
    s.add("B", "ok", |spec| spec.after.push("T".to_owned()));
    s.done("gc", 0, programs::archive_once("T", true));
    s.add("C", "ok", |spec| spec.after.push("T".to_owned()));
    let s = s.rest()?;
    for id in ["B", "C"] {
        let end = s.text(&format!("tasks/{id}/1.end"));
        ensure(end.contains("\"done\""), "it waits for an archived task for ever")?;
    }
    Ok(())
}

pub fn tombstone() -> Result<(), String> {
    let (mut s, _) = over("ok");
    let gc = s.start("gc", 0, programs::archive_once("T", true));
    // About to make the place for the tombstone: the directory must still be there.
    s.comes_to(gc, Call::Mkdir, "buried", 5);
    s.kill(gc);
    let add = again(&mut s);
    s.go(add);
    s.rest().map(drop)
}

pub fn reopened() -> Result<(), String> {
    let (mut s, w1) = over("perm");
    let retry = s.start("retry", 0, programs::decision(Decision::Retry, "T".to_owned()));
    // It has seen that T failed.
    s.until(retry, Call::Touch, "_settle.T");
    s.done("gc", 0, programs::archive_once("T", false));
    s.go(retry);
    s.go(w1);
    let s = s.rest()?;
    let closed = s.text(&format!("{}/1.reopen", place("archive", "dead", "T")));
    ensure(closed.contains("\"closed\": true"), "an archived task was reopened")
}

/// A worker stands before its claim while another one does the task and it is archived, then deleted.
#[test]
fn a_late_claim_finds_nothing_to_run() {
    for delete in [false, true] {
        let mut s = Stage::new();
        s.add("T", "ok", |_| ());
        let (w1, w2) = (s.worker("w1", 0), s.worker("w2", 0));
        s.until(w1, Call::Link, "run/T.1");
        s.until(w2, Call::Unlink, "run/T.1.end");
        s.go(w2);
        s.done("gc", 0, programs::archive_once("T", delete));
        s.go(w1);
        let lot = if delete { "buried" } else { "archive" };
        let s = s.rest().expect("nothing runs twice");
        assert!(s.has(&place(lot, "done", "T")), "it was not {lot}");
        assert!(!s.has("tasks/T"), "a late link made it anew");
    }
}

/// The archiver dies before each of its calls in turn, and somebody else goes on.
#[test]
fn the_archiver_dies_anywhere() {
    for how in ["ok", "perm"] {
        let mut halted = 0;
        for step in 1.. {
            let (mut s, _) = over(how);
            let gc = s.start("gc", 0, programs::archive_once("T", true));
            s.0.world().halt_at = Some((gc, step));
            s.go(gc);
            if s.0.world().halt_at.take().is_none() {
                halted = step;
            }
            let ended = halted != step;
            s.kill(gc);
            s.add("B", "ok", |spec| spec.after.push("T".to_owned()));
            s.done("gc", 0, programs::archive_once("T", true));
            let add = again(&mut s);
            s.go(add);
            let s = s.rest().unwrap_or_else(|what| panic!("{how}, step {step}: {what}"));
            let b = s.text("tasks/B/1.end");
            assert!(how != "ok" || b.contains("\"done\""), "{how}, step {step}: {b}");
            if ended {
                break;
            }
        }
        assert!(halted > 20, "the archiver takes only {halted} steps");
    }
}
