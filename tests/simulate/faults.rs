//! Faults that reviews and models had found, as schedules; `schedules.rs` runs them.

use coord::queue::record::OnDepDead;

use crate::platform::Call;
use crate::programs::{self, Decision};
use crate::schedules::ensure;
use crate::stage::{Stage, spec};

pub fn phantom() -> Result<(), String> {
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

pub fn reopened() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "fail:1", |spec| spec.max_attempts = 1);
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Unlink, "run/T.1.end");
    s.go(w1);
    s.done("retry", 0, programs::decision(Decision::Retry, "T".to_owned()));
    let s = s.rest()?;
    ensure(s.text("tasks/T/2.end").contains("\"done\""), "the reopened task did not run")
}

pub fn release_retries() -> Result<(), String> {
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

pub fn hold_stands() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "ok", |_| ());
    let hold = s.start("hold", 0, programs::decision(Decision::Hold, "T".to_owned()));
    s.until(hold, Call::Unlink, "run/T.1");
    s.kill(hold);
    let s = s.rest()?;
    ensure(!s.has("tasks/T/1.end"), "the hold went with the command that made it")
}

pub fn wrong_hint() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("A", "ok", |spec| spec.hold = true);
    s.add("B", "ok", |spec| spec.after.push("A".to_owned()));
    s.put("ready/default/10/00000000-00/B.1", "");
    let w1 = s.worker("w1", 0);
    s.go(w1);
    s.rest().map(drop)
}

pub fn dead_dependency() -> Result<(), String> {
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

pub fn reason_names_a_dependency() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("A", "ok", |spec| spec.hold = true);
    s.add("B", "ok", |spec| {
        spec.after.push("A".to_owned());
        spec.on_dep_dead = OnDepDead::Cancel;
    });
    s.done("cancel", 0, programs::cancel_saying("B", "dependency A made this unnecessary"));
    s.done("release", 0, programs::decision(Decision::Release, "A".to_owned()));
    let s = s.rest()?;
    ensure(s.text("tasks/A/1.end").contains("\"done\""), "A did not run")?;
    ensure(!s.has("tasks/B/2.claim"), "what a person cancelled ran all the same")
}

pub fn loser_dies() -> Result<(), String> {
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

pub fn incoming_once() -> Result<(), String> {
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

pub fn head_of_line() -> Result<(), String> {
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

fn scoped(s: &mut Stage, id: &str, priority: u8) {
    s.add(id, "ok", |spec| {
        spec.scope.push("a".to_owned());
        spec.priority = priority;
    });
}

pub fn scope_bell() -> Result<(), String> {
    let mut s = Stage::new();
    // So that the workers hear nothing but what concerns them.
    let monitor = s.start("monitor", 0, programs::monitor());
    s.go(monitor);
    scoped(&mut s, "T", 10);
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Host, "spawn");
    s.go(w1);
    scoped(&mut s, "U", 20);
    let w2 = s.worker("w2", 0);
    // It has seen that T runs, and does not listen to the bell yet.
    s.until(w2, Call::Read, "T/1.claim");
    s.jobs();
    s.until(w1, Call::Unlink, "run/T.1");
    ensure(
        s.comes_to(w2, Call::Link, "U/1.claim", 5),
        "nobody takes the task whose scope is free",
    )?;
    s.rest().map(drop)
}

pub fn old_version() -> Result<(), String> {
    let mut s = Stage::new();
    scoped(&mut s, "T", 90);
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Link, "scopes/v00000001.json");
    for id in ["A1", "A2", "A3", "A4", "A5", "A6", "U"] {
        scoped(&mut s, id, 10);
    }
    let w2 = s.worker("w2", 0);
    // Others use up its number, and remove it.
    for i in 1..=6 {
        s.until(w2, Call::Host, "spawn");
        s.go(w2);
        // Long enough that it takes them in their order, and not those of its share first.
        s.pass(1);
        s.jobs();
        s.until(w2, Call::Unlink, &format!("run/A{i}.1"));
    }
    ensure(!s.has("scopes/v00000001.json"), "the schedule is not what it was meant to be")?;
    s.until(w2, Call::Host, "spawn");
    s.go(w2);
    s.go(w1);
    s.rest().map(drop)
}

pub fn scope_before_fence() -> Result<(), String> {
    let mut s = Stage::new();
    scoped(&mut s, "T", 10);
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Host, "spawn");
    s.go(w1);
    // Elsewhere its lease runs out, and whoever finds that has declared it dead, and no more.
    let keeper = s.start("monitor", 1, programs::monitor());
    let declared = s.comes_to_meanwhile(keeper, Call::Link, "T/1.end", 50, |_| ());
    ensure(declared, "the schedule is not what it was meant to be")?;
    scoped(&mut s, "U", 10);
    let w2 = s.worker("w2", 1);
    s.go(w2);
    s.rest().map(drop)
}

pub fn immortal_scope() -> Result<(), String> {
    let mut s = Stage::new();
    let table = r#"{"v":1,"held":[{"t":"X","n":1,"wid":"ghost-1","scope":["a"]}]}"#;
    s.put("scopes/v00000001.json", table);
    scoped(&mut s, "T", 10);
    s.rest().map(drop)
}
