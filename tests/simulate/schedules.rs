//! The faults that reviews and models had found, each as a schedule that fails when its rule is taken
//! out. The numbers are those of queue-layout.md, "Eighteen faults".

use coord::queue::record::OnDepDead;
use coord::sys::rule::without;

use crate::platform::Call;
use crate::programs::{self, Decision};
use crate::scenario;
use crate::stage::{Stage, spec};

type Schedule = fn() -> Result<(), String>;

/// Name, the rule that it needs, and the schedule.
const ALL: &[(&str, &str, Schedule)] = &[
    ("a fenced winner helps before it drops its intent (R4)", "R4.loser", fenced_winner),
    ("a worker that was fenced helps before it drops its intent (R4)", "R4.fenced", fenced_worker),
    ("a zombie's unclaimed intent stays (fault 13, R5)", "R5.lease", zombie_intent),
    ("who reopened a task dies when it runs already (R4)", "R4.revive", revived_while_it_runs),
    ("what was seen before a death does not count after it (R5)", "R5.order", dies_having_claimed),
    ("declared dead from afar, it is ended at home (R5)", "R5.home", ended_at_home),
    ("a registration that another takes for a leftover", "registered", registers_again),
    ("a dependency is done while its waiter registers (R6)", "R6.wait", waiter_looks_again),
    ("a waiter goes only when its task is published (R6)", "R6.order", waiter_stays),
    ("a cancel that comes too late is not promised (fault 10, R6)", "R6.cancel", late_cancel),
    ("a claim into a directory that was made anew (fault 2)", "F2", phantom),
    ("a reopened task runs again (fault 6)", "F6", reopened),
    ("a release never kills (fault 7)", "F7", release_retries),
    ("a hold has no living process (fault 8)", "F8", hold_stands),
    ("a hint goes round dependencies (fault 9)", "F9", wrong_hint),
    ("a dependency that is dead already (fault 11)", "F11", dead_dependency),
    ("a loser's intent does not end the winner's attempt (fault 12)", "F12", loser_dies),
    ("a file of incoming/ is one task (fault 16)", "F16", incoming_once),
    ("what nobody can run does not block the line (fault 18)", "F18", head_of_line),
];

fn ensure(holds: bool, what: &str) -> Result<(), String> {
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
    assert!(s.0.world().refusal.is_none(), "the look did not fail");
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
    s.until(w1, Call::Stat, "T/1.end");
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

fn waiter_looks_again() -> Result<(), String> {
    let mut s = Stage::new();
    // It has swept before: nothing but the two of them can find B.
    let w1 = s.worker("w1", 0);
    s.go(w1);
    s.add("A", "ok", |_| ());
    let later = spec("ok", |spec| spec.after.push("A".to_owned()));
    let add = s.start("add", 0, programs::add(vec![(Some("B".to_owned()), later)]));
    s.until(add, Call::Link, "waiters/A/B");
    s.until(w1, Call::Unlink, "run/A.1.end");
    s.go(w1);
    s.go(add);
    s.rest().map(drop)
}

fn waiter_stays() -> Result<(), String> {
    let mut s = Stage::new();
    // It has swept before: nothing but the two of them can find B.
    let w1 = s.worker("w1", 0);
    s.go(w1);
    s.add("A", "ok", |_| ());
    let later = spec("ok", |spec| spec.after.push("A".to_owned()));
    let add = s.start("add", 0, programs::add(vec![(Some("B".to_owned()), later)]));
    s.until(add, Call::Link, "waiters/A/B");
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

fn phantom() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "ok", |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Link, "T/1.claim");
    {
        // Somebody moves the task away, and its name is taken anew.
        let world = s.0.world();
        let mut disk = world.fs.disk();
        let from = std::path::Path::new(crate::world::ROOT).join("tasks/T");
        disk.rename(&from, std::path::Path::new("/q/away"), 1).expect("a sound disk");
        disk.mkdir(&from, 1).expect("a sound disk");
    }
    s.go(w1);
    ensure(!s.has("tasks/T/1.claim"), "a claim landed in a directory without a spec")
}

fn reopened() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "fail:1", |spec| spec.max_attempts = 1);
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Unlink, "run/T.1.end");
    s.go(w1);
    s.done("retry", 0, programs::decision(Decision::Retry, "T".to_owned()));
    let s = s.rest()?;
    ensure(s.text("tasks/T/2.end").contains("\"done\""), "the reopened task did not run")
}

fn release_retries() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "ok", |spec| spec.hold = true);
    s.done("hold", 0, programs::decision(Decision::Hold, "T".to_owned()));
    s.done("release", 0, programs::decision(Decision::Release, "T".to_owned()));
    s.add("U", "ok", |_| ());
    s.done("hold", 0, programs::decision(Decision::Hold, "U".to_owned()));
    // By hand, in ignorance of the field; nobody has noted what must follow.
    s.0.world().checker.unverified = true;
    s.0.world().checker.deaf = true;
    s.put("tasks/U/1.end", r#"{"v":1,"verdict":"release","retry":false}"#);
    let s = s.rest()?;
    ensure(s.text("tasks/U/2.end").contains("\"done\""), "a release has killed a task")
}

fn hold_stands() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "ok", |_| ());
    let hold = s.start("hold", 0, programs::decision(Decision::Hold, "T".to_owned()));
    s.until(hold, Call::Unlink, "run/T.1");
    s.kill(hold);
    let s = s.rest()?;
    ensure(!s.has("tasks/T/1.end"), "the hold went with the command that made it")
}

fn wrong_hint() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("A", "ok", |spec| spec.hold = true);
    s.add("B", "ok", |spec| spec.after.push("A".to_owned()));
    s.put("ready/default/10/00000000-00/B.1", "");
    let w1 = s.worker("w1", 0);
    s.go(w1);
    s.rest().map(drop)
}

fn dead_dependency() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("A", "perm", |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Unlink, "run/A.1.end");
    s.go(w1);
    s.add("B", "ok", |spec| {
        spec.after.push("A".to_owned());
        spec.on_dep_dead = OnDepDead::Cancel;
    });
    let s = s.rest()?;
    ensure(s.text("tasks/B/1.end").contains("\"cancel\""), "it waits for the dead for ever")
}

fn loser_dies() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "ok", |_| ());
    let (w1, w2) = (s.worker("w1", 0), s.worker("w2", 0));
    s.until(w1, Call::Link, "T/1.claim");
    // w2 runs it.
    s.until(w2, Call::Host, "spawn");
    s.go(w2);
    s.kill(w1);
    let keeper = s.start("monitor", 0, programs::monitor());
    s.go(keeper);
    s.rest().map(drop)
}

fn incoming_once() -> Result<(), String> {
    let mut s = Stage::new();
    s.put("incoming/task.json", r#"{"argv":["job","ok"]}"#);
    let m1 = s.start("monitor1", 0, programs::monitor());
    s.until(m1, Call::Unlink, "_in.");
    s.kill(m1);
    // The counter goes on before the redo.
    s.done("add", 0, programs::add(vec![(None, spec("ok", |_| ()))]));
    let s = s.rest()?;
    ensure(s.has("tasks/1/spec.json"), "the file was lost")?;
    ensure(s.has("tasks/2/spec.json"), "the other one was lost")?;
    ensure(!s.has("tasks/3"), "one file became two tasks")
}

fn head_of_line() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("gpu", "ok", |spec| {
        spec.needs.push("gpu".to_owned());
        spec.priority = 1;
    });
    s.add("plain", "ok", |spec| spec.priority = 50);
    let w1 = s.worker("w1", 0);
    s.go(w1);
    ensure(s.has("tasks/plain/1.claim"), "one that nobody can run keeps the others from running")
}
