//! Rules that stop a run, as schedules.

use crate::lists;
use crate::platform::Call;
use crate::programs;
use crate::schedules::ensure;
use crate::stage::Stage;

const JOBS: [&str; 6] = ["fail:9", "ok", "ok", "ok", "ok", "ok"];

fn submit(s: &mut Stage, name: &str, halt: &'static str) {
    let jobs = JOBS.map(str::to_owned).to_vec();
    let body = programs::submit_list("A".to_owned(), lists::array(1), jobs, JOBS.len(), halt);
    s.done(name, 0, body);
}

fn claims(s: &Stage) -> usize {
    (1..=JOBS.len()).filter(|job| s.has(&format!("tasks/A/jobs/0000000001/{job}.1.claim"))).count()
}

/// A worker has heard all bells, and is about to claim its next job, when another one's job fulfils the
/// rule: it asks once more before it claims.
pub fn asks_before_each_claim() -> Result<(), String> {
    let mut s = Stage::new();
    submit(&mut s, "run", "soon,fail=1");
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Host, "spawn");
    s.go(w1);
    let w2 = s.worker("w2", 0);
    s.until(w2, Call::Host, "spawn");
    s.go(w2);
    s.jobs();
    s.until(w2, Call::Append, ".log");
    s.go(w1);
    ensure(s.has("tasks/A/jobs/halt.2"), "the failure of w1's job does not fulfil the rule")?;
    let before = claims(&s);
    s.go(w2);
    let after = claims(&s);
    submit(&mut s, "again", "never");
    s.rest()?;
    ensure(after == before, "a job was claimed although the rule was fulfilled")
}

/// A worker dies between the end that fulfils the rule and saying so: whoever recovers it says so.
pub fn said_for_the_dead() -> Result<(), String> {
    let mut s = Stage::new();
    submit(&mut s, "run", "soon,fail=1");
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Link, "jobs/halt.2");
    ensure(s.has("tasks/A/jobs/0000000001/1.1.end"), "its job has no end yet")?;
    s.kill(w1);
    let keeper = s.start("monitor", 0, programs::monitor());
    s.go(keeper);
    let said = s.has("tasks/A/jobs/halt.2");
    submit(&mut s, "again", "never");
    s.rest()?;
    ensure(said, "nobody says that the rule was fulfilled")
}
