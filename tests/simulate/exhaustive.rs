//! Two workers, one task, one death: every point of the death, and every point at which the first one
//! makes room for the second.
//!
//! A run is (i, j, k): the first worker takes i steps, the second j, then the first goes on to its step
//! k and dies, and the second goes on. In an ordinary run j is 0 or "until it waits"; with
//! COORD_STRESS=full it is everything in between, too: all schedules with two changes of turn.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::machines::State;
use crate::stage::Stage;

/// More steps than a worker takes for a task.
const ALL: u32 = 10_000;

/// How many steps the first worker takes when nobody disturbs it.
fn undisturbed() -> u32 {
    let mut s = prepared();
    s.steps(0, ALL);
    s.jobs();
    s.steps(0, ALL);
    s.taken(0)
}

/// A queue with one task that fails once, and two workers before their first steps.
fn prepared() -> Prepared {
    let mut s = Stage::new();
    s.add("T", "fail:1", |_| ());
    let workers = [s.worker("w1", 0), s.worker("w2", 0)];
    Prepared { stage: s, workers }
}

struct Prepared {
    stage: Stage,
    workers: [usize; 2],
}

impl Prepared {
    /// Worker `which` goes on to its step `n`, or until it waits.
    fn steps(&mut self, which: usize, n: u32) {
        let who = self.workers[which];
        self.stage.0.world().halt_at = Some((who, n));
        self.stage.go(who);
        self.stage.0.world().halt_at = None;
    }
    fn jobs(&mut self) {
        self.stage.jobs();
    }
    fn taken(&self, which: usize) -> u32 {
        self.stage.0.world().processes[self.workers[which]].steps
    }
    fn kill(&mut self, which: usize) {
        self.stage.kill(self.workers[which]);
    }
}

/// One schedule. The rule that was broken, if one was.
fn run(i: u32, j: u32, k: u32) -> Result<(), String> {
    let mut s = prepared();
    s.steps(0, i);
    s.steps(1, j);
    s.steps(0, k);
    if s.taken(0) < k && s.stage.0.world().processes[s.workers[0]].state != State::Dead {
        // It waits for its job.
        s.jobs();
        s.steps(0, k);
    }
    s.kill(0);
    s.steps(1, ALL);
    s.jobs();
    s.stage.rest().map(drop)
}

#[test]
fn two_workers_one_task_one_death() {
    let full = std::env::var("COORD_STRESS").is_ok_and(|v| v == "full");
    let steps = undisturbed();
    assert!(steps > 50, "the first worker takes only {steps} steps");
    let (next, failure) = (AtomicU32::new(0), Mutex::new(None));
    let runs = AtomicU32::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i > steps || failure.lock().is_ok_and(|f| f.is_some()) {
                        return;
                    }
                    let between: Vec<u32> = if full { (0..=steps).collect() } else { vec![0, ALL] };
                    // Where the second takes no step, it does not matter when.
                    let between = between.into_iter().filter(|j| *j > 0 || i == 0);
                    for (j, k) in between.flat_map(|j| (i..=steps).map(move |k| (j, k))) {
                        runs.fetch_add(1, Ordering::Relaxed);
                        if let Err(what) = run(i, j, k)
                            && let Ok(mut failure) = failure.lock()
                        {
                            *failure = Some(format!("({i}, {j}, {k}): {what}"));
                            return;
                        }
                    }
                }
            });
        }
    });
    println!("{} schedules of {steps} steps", runs.into_inner());
    let failure = failure.into_inner().unwrap_or_default();
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
}
