//! What a dead worker has left running and that hides, or cannot be ended: unknown is not dead. Each with the
//! rule that it needs.

use crate::machines::Nature;
use crate::platform::Call;
use crate::programs;
use crate::schedules::ensure;
use crate::stage::Stage;

/// A worker whose job is like that, and runs.
fn at_work(nature: Nature) -> (Stage, usize) {
    let mut s = Stage::new();
    s.0.world().natures.push_back(nature);
    s.add("T", "ok", |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Host, "spawn");
    s.go(w1);
    (s, w1)
}

/// Its environment says nothing: it is found by what was noted before it began.
pub fn hidden() -> Result<(), String> {
    let (mut s, w1) = at_work(Nature::Hidden);
    s.kill(w1);
    let w2 = s.worker("w2", 0);
    s.go(w2);
    ensure(s.has("tasks/T/2.claim"), "what its worker had left was not taken back")?;
    s.rest().map(drop)
}

/// It is another user's: the next attempt begins when it is gone.
pub fn stubborn() -> Result<(), String> {
    let (mut s, w1) = at_work(Nature::Stubborn);
    s.kill(w1);
    let w2 = s.worker("w2", 0);
    s.go(w2);
    s.pass(40);
    s.go(w2);
    ensure(!s.has("tasks/T/1.end"), "T.1 was ended while a process of it runs")?;
    s.jobs();
    s.pass(40);
    s.go(w2);
    ensure(s.has("tasks/T/2.claim"), "nobody went on when it was gone")?;
    s.rest().map(drop)
}

/// A command of a living worker has failed, and something of it goes on: the same.
pub fn stubborn_at_home() -> Result<(), String> {
    let mut s = Stage::new();
    s.0.world().natures.extend([Nature::Stubborn]);
    s.add("T", "ok", |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Host, "spawn");
    s.go(w1);
    // It is asked to end, and does not.
    s.put("control/stop", "");
    s.go(w1);
    s.pass(10);
    s.go(w1);
    ensure(!s.has("tasks/T/1.end"), "T.1 was handed back while a process of it runs")?;
    s.jobs();
    s.remove("control/stop");
    s.rest().map(drop)
}

/// What is noted is noted before the command begins: killed in between, nothing runs.
pub fn noted_before_it_begins() -> Result<(), String> {
    let mut s = Stage::new();
    s.0.world().natures.push_back(Nature::Hidden);
    s.add("T", "ok", |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Host, "spawn");
    ensure(s.0.world().jobs.iter().all(|job| !job.alive), "it runs, and nobody knows it")?;
    s.kill(w1);
    let keeper = s.start("monitor", 0, programs::monitor());
    s.go(keeper);
    s.rest().map(drop)
}
