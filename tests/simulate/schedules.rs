//! Rules and faults, each as a schedule that fails when its rule is taken out. Those of the rules R2 to
//! R6 are here; those of the other faults, numbered as in queue-layout.md, are in `faults.rs`.

use coord::queue::record::OnDepDead;
use coord::sys::rule::without;

use crate::archived;
use crate::bounced;
use crate::faults;
use crate::halted;
use crate::moved;
use crate::platform::Call;
use crate::programs::{self, Decision};
use crate::scenario;
use crate::stage::{Stage, spec};
use crate::unseen;

type Schedule = fn() -> Result<(), String>;

/// Name, the rule that it needs, and the schedule.
const ALL: &[(&str, &str, Schedule)] = &[
    ("a fenced winner helps before it drops its intent (R4)", "R4.loser", fenced_winner),
    ("a worker that was fenced helps before it drops its intent (R4)", "R4.fenced", fenced_worker),
    ("one's own old claim is no win (R2)", "R2.own", own_old_claim),
    ("a zombie's unclaimed intent stays (fault 13, R5)", "R5.lease", zombie_intent),
    ("who reopened a task dies when it runs already (R4)", "R4.revive", revived_while_it_runs),
    ("what was seen before a death does not count after it (R5)", "R5.order", dies_having_claimed),
    ("declared dead from afar, it is ended at home (R5)", "R5.home", ended_at_home),
    ("a job hides from the mark of its worker (R5)", "R5.leader", unseen::hidden),
    ("a process cannot be ended (R5)", "R5.unknown", unseen::stubborn),
    ("a registration that another takes for a leftover", "registered", registers_again),
    ("a dependency is done while its waiter registers (R6)", "R6.wait", waiter_looks_again),
    ("a scope becomes free before its bell is heard (R6)", "R6.scope", faults::scope_bell),
    ("a version whose number was used before (R7)", "R7", faults::old_version),
    ("a scope is not free before the fence (fault 14)", "F14", faults::scope_before_fence),
    ("no scope is held for ever (fault 15)", "F15", faults::immortal_scope),
    ("a waiter goes only when its task is published (R6)", "R6.order", waiter_stays),
    ("a cancel that comes too late is not promised (fault 10, R6)", "R6.cancel", late_cancel),
    ("what came back runs one after the other", "learned", bounced::one_after_the_other),
    ("who makes way hears that it need not any more (R4)", "R4.way", bounced::way_is_free),
    ("a queue moves away: nothing more is begun there", "in place", moved::moves_away),
    ("a queue moves away: what runs is recorded where it is", "held", moved::moves_away),
    ("a queue is removed, and does not come back", "in place", moved::removed),
    ("a copy never ends a worker of its original", "copied", moved::copied),
    ("an id is used again after archiving (fault 1)", "F1", archived::reused_id),
    ("what comes after an archived task (fault 3)", "F3", archived::dependency),
    ("a tombstone is there before the directory goes (fault 4)", "F4", archived::tombstone),
    ("a task is archived while it is reopened (fault 5)", "F5", archived::reopened),
    ("a claim into a directory that was made anew (fault 2)", "F2", faults::phantom),
    ("a reopened task runs again (fault 6)", "F6", faults::reopened),
    ("a release never kills (fault 7)", "F7", faults::release_retries),
    ("a hold has no living process (fault 8)", "F8", faults::hold_stands),
    ("a hint goes round dependencies (fault 9)", "F9", faults::wrong_hint),
    ("a dependency that is dead already (fault 11)", "F11", faults::dead_dependency),
    ("a loser's intent does not end the winner's attempt (fault 12)", "F12", faults::loser_dies),
    (
        "a rule is fulfilled while another worker is about to claim",
        "halt.look",
        halted::asks_before_each_claim,
    ),
    (
        "a worker dies before it says that a rule is fulfilled",
        "halt.recount",
        halted::said_for_the_dead,
    ),
    ("a person's reason names a dependency", "because", faults::reason_names_a_dependency),
    ("a file of incoming/ is one task (fault 16)", "F16", faults::incoming_once),
    ("what nobody can run does not block the line (fault 18)", "F18", faults::head_of_line),
];

pub fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

#[test]
fn every_fault_is_avoided_and_its_schedule_can_fail() {
    let mut tame = Vec::new();
    for (name, rule, schedule) in ALL {
        if let Err(what) = schedule() {
            panic!("{name}: {what}");
        }
        let seen = without(rule, schedule);
        println!("{name}: without {rule}: {seen:?}");
        if seen.is_ok() {
            tame.push(name);
        }
    }
    assert!(tame.is_empty(), "these do not miss their rules: {tame:?}");
}

#[test]
fn nothing_runs_that_nobody_could_find_or_wait_for() {
    unseen::stubborn_at_home().expect("it waits at home");
    unseen::noted_before_it_begins().expect("it is noted first");
}

/// A child's end is told only once. It is not forgotten when the look that hears of it fails.
#[test]
fn an_end_is_not_forgotten_when_its_look_fails() {
    let mut s = Stage::new();
    s.add("T", "ok", |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Host, "spawn");
    s.go(w1);
    s.jobs();
    // Its watches are lost as well, so it looks at every task before it looks at its job.
    scenario::remove_ready(&mut s.0);
    s.refuse(w1, Call::List, "tasks/T");
    s.go(w1);
    assert!(s.0.world().fated.is_none(), "the look did not fail");
    s.rest().expect("it ends");
}

/// Time passes, and a keeper looks, until it is about to end the attempt of a silent worker.
fn expires(s: &mut Stage, keeper: usize, end: &str) {
    s.until(keeper, Call::Link, end);
}

fn fenced_winner() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "ok", |_| ());
    let (w1, w2) = (s.worker("w1", 0), s.worker("w2", 1));
    s.until(w1, Call::Read, "T/1.end");
    expires(&mut s, w2, "T/1.end");
    s.until(w2, Call::Unlink, "_end.T.1");
    s.kill(w2);
    // It has claimed, and finds that the attempt has ended.
    s.go(w1);
    s.rest().map(drop)
}

fn fenced_worker() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "ok", |_| ());
    let (w1, w2) = (s.worker("w1", 0), s.worker("w2", 1));
    s.until(w1, Call::Host, "spawn");
    expires(&mut s, w2, "T/1.end");
    s.until(w2, Call::Unlink, "_end.T.1");
    s.kill(w2);
    // Its job runs to its end, and is too late.
    s.go(w1);
    s.jobs();
    s.go(w1);
    s.rest().map(drop)
}

fn own_old_claim() -> Result<(), String> {
    let mut s = Stage::new();
    s.0.world().shared = true;
    s.add("T", "ok", |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Unlink, "run/T.1");
    s.go(w1);
    // A hint of nobody, and a listing from before the claim.
    s.misleads(w1, "tasks/T", &["spec.json"]);
    scenario::stale_hint(&mut s.0, "T");
    s.go(w1);
    s.rest().map(drop)
}

fn zombie_intent() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "ok", |_| ());
    let w1 = s.worker("w1", 0);
    let keeper = s.start("monitor", 1, programs::monitor());
    s.until(w1, Call::Link, "T/1.claim");
    for _ in 0..20 {
        s.go(keeper);
        s.pass(1);
    }
    ensure(!s.has("tasks/T/1.claim"), "the schedule is not what it was meant to be")?;
    s.go(w1);
    s.rest().map(drop)
}

fn revived_while_it_runs() -> Result<(), String> {
    let mut s = Stage::new();
    let w1 = s.worker("w1", 0);
    s.go(w1);
    s.add("A", "perm", |_| ());
    s.until(w1, Call::Unlink, "run/A.1");
    s.go(w1);
    s.add("B", "ok", |spec| {
        spec.after.push("A".to_owned());
        spec.on_dep_dead = OnDepDead::Cancel;
    });
    let retry = s.start("retry", 0, programs::decision(Decision::Retry, "A".to_owned()));
    // B is reopened with A and has no hint yet; A runs again, and both die.
    s.until(retry, Call::Stat, "blocked/A.2");
    s.until(w1, Call::Host, "spawn");
    s.kill(retry);
    let keeper = s.start("monitor", 0, programs::monitor());
    s.until(keeper, Call::Rmdir, "procs/cli");
    s.kill(w1);
    s.comes_to(keeper, Call::Rmdir, "procs/w1", 50);
    s.rest().map(drop)
}

fn dies_having_claimed() -> Result<(), String> {
    let mut s = Stage::new();
    let keeper = s.start("monitor", 0, programs::monitor());
    s.go(keeper);
    let w1 = s.worker("w1", 0);
    s.go(w1);
    s.add("T", "ok", |_| ());
    s.until(w1, Call::Link, "T/1.claim");
    // Only without the rule does it look at the claims of the living: it has found none when it halts.
    s.comes_to(keeper, Call::Read, "T/spec.json", 3);
    s.until(w1, Call::Host, "spawn");
    s.kill(w1);
    s.go(keeper);
    s.rest().map(drop)
}

fn ended_at_home() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "ok", |_| ());
    let (w1, w2) = (s.worker("w1", 0), s.worker("w2", 1));
    s.until(w1, Call::Host, "spawn");
    expires(&mut s, w2, "T/1.end");
    s.kill(w2);
    // It can see that w1 is only stopped.
    let keeper = s.start("monitor", 0, programs::monitor());
    s.comes_to(keeper, Call::Unlink, "_end.T.1", 50);
    s.rest().map(drop)
}

fn registers_again() -> Result<(), String> {
    let mut s = Stage::new();
    s.0.world().machines[1].skew_ms = 7_200_000;
    let add = s.start("add", 0, programs::add(vec![(Some("T".to_owned()), spec("ok", |_| ()))]));
    s.until(add, Call::Rename, "procs/cli");
    // Its clock is two hours ahead; it sweeps as it starts.
    let w1 = s.worker("w1", 1);
    s.go(w1);
    s.go(add);
    ensure(s.has("tasks/T/spec.json"), "nobody could register")?;
    s.rest().map(drop)
}

/// A worker that can run A, and a command that is about to register B with it.
fn registering() -> (Stage, usize, usize) {
    let mut s = Stage::new();
    // It has swept before: nothing but the two of them can find B.
    let w1 = s.worker("w1", 0);
    s.go(w1);
    s.add("A", "ok", |_| ());
    let later = spec("ok", |spec| spec.after.push("A".to_owned()));
    let add = s.start("add", 0, programs::add(vec![(Some("B".to_owned()), later)]));
    s.until(add, Call::Link, "waiters/A/B");
    (s, w1, add)
}

fn waiter_looks_again() -> Result<(), String> {
    let (mut s, w1, add) = registering();
    s.until(w1, Call::Unlink, "run/A.1.end");
    s.go(w1);
    s.go(add);
    s.rest().map(drop)
}

fn waiter_stays() -> Result<(), String> {
    let (mut s, w1, add) = registering();
    // It has looked again, and B waits.
    s.until(add, Call::Append, "events/");
    s.until(w1, Call::List, "waiters/A");
    s.go(add);
    s.go(w1);
    s.rest().map(drop)
}

fn late_cancel() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "fail:1", |_| ());
    let w1 = s.worker("w1", 0);
    s.go(w1);
    let cancel = s.start("cancel", 0, programs::decision(Decision::Cancel, "T".to_owned()));
    s.until(cancel, Call::Link, "T/1.cancel");
    // Attempt 1 ends, and attempt 2 runs, before the request is there.
    s.until(w1, Call::Host, "spawn");
    s.go(w1);
    s.go(cancel);
    let s = s.rest()?;
    ensure(s.text("tasks/T/2.end").contains("\"cancel\""), "the promised cancel was lost")
}
