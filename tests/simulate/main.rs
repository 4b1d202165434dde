//! Simulation: the real transitions and the real ticks of worker and keeper, on a file system,
//! clocks and machines in memory. Every call is a point at which another process may go first, the
//! process may die, stop or get an error. docs/correctness.md says what is checked.
//!
//! `COORD_SEED=7 COORD_SEEDS=1000` runs other seeds. A failure is made smaller and printed with its
//! steps and with the line that replays it. `scripts/stress simulate` runs a million.
// In a release build no rule can be taken out.
#![cfg(debug_assertions)]

mod archived;
mod arrays;
mod bounced;
mod checker;
mod choices;
mod crowds;
#[expect(dead_code, reason = "its parts serve tests/powerloss")]
mod disk;
mod exhaustive;
mod faults;
mod halted;
mod halting;
mod host;
mod lists;
mod machines;
mod memory;
mod moved;
mod mutants;
mod owners;
mod platform;
mod policy;
mod programs;
mod registers;
mod runner;
mod scenario;
mod schedules;
mod stage;
mod unseen;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of an ordinary run.
const SEEDS: u64 = 10_000;
/// Seeds after which a long run notes how far it came.
const CHUNK: u64 = 10_000;
/// Runs that are spent on making a failure smaller.
const SHRINK: u32 = 150;

/// Runs one seed; a failure is made smaller and told.
fn check(seed: u64) -> Result<scenario::Outcome, String> {
    let outcome = scenario::run(seed, None, false);
    let Some(violation) = &outcome.violation else { return Ok(outcome) };
    let kind = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
    let small = choices::shrink(&outcome.made, SHRINK, |script| {
        let again = scenario::run(seed, Some(script.clone()), false);
        again.violation.is_some_and(|what| kind(&what) == kind(violation))
    });
    let again = scenario::run(seed, Some(small.clone()), true);
    Err(format!(
        "{}\nseed {seed}: {violation}\nmade smaller: {}\nreplay: COORD_SEED={seed} COORD_SCRIPT='{}' cargo test --test simulate replay -- --nocapture",
        again.trace.join("\n"),
        again.violation.unwrap_or_default(),
        choices::to_text(&small),
    ))
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What many runs have done.
#[derive(Default)]
struct Sum {
    steps: u64,
    injected: BTreeMap<&'static str, u64>,
    failure: Option<String>,
}

/// Runs seeds on all cores until one fails.
fn run_all(first: u64, count: u64, check: fn(u64) -> Result<scenario::Outcome, String>) -> Sum {
    let (next, sum) = (AtomicU64::new(first), Mutex::new(Sum::default()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || sum.lock().is_ok_and(|s| s.failure.is_some()) {
                        return;
                    }
                    let ran = check(seed);
                    let Ok(mut sum) = sum.lock() else { return };
                    match ran {
                        Err(failure) => sum.failure = Some(failure),
                        Ok(outcome) => {
                            sum.steps += outcome.steps;
                            for (kind, n) in outcome.injected {
                                *sum.injected.entry(kind).or_default() += u64::from(n);
                            }
                        }
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap_or_default()
}

#[test]
fn seeds() {
    let (first, count) = (number("COORD_SEED", 1), number("COORD_SEEDS", SEEDS));
    let progress = std::env::var_os("COORD_PROGRESS").map(std::path::PathBuf::from);
    let mut done = progress.as_deref().map_or(0, read_progress);
    while done < count {
        let start = std::time::Instant::now();
        let chunk = CHUNK.min(count - done);
        let sum = run_all(first + done, chunk, check);
        if let Some(failure) = sum.failure {
            panic!("{failure}");
        }
        done += chunk;
        let speed = chunk as f64 / start.elapsed().as_secs_f64();
        println!(
            "{done} seeds of {count}, {speed:.0} a second; {} steps; {:?}",
            sum.steps, sum.injected
        );
        for kind in ["crash", "stop", "error", "lost reply", "stale listing", "reboot", "clock set"]
        {
            let enough = chunk < 1000 || sum.injected.get(kind).is_some_and(|n| *n > 0);
            assert!(enough, "{chunk} seeds without one {kind}: the faults do not come");
        }
        if let Some(path) = &progress {
            write_progress(path, done);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how far a long run came is no file of a queue")]
fn read_progress(path: &std::path::Path) -> u64 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[expect(clippy::disallowed_methods, reason = "how far a long run came is no file of a queue")]
fn write_progress(path: &std::path::Path, done: u64) {
    std::fs::write(path, format!("{done}\n")).expect("the progress can be noted");
}

#[test]
fn replay() {
    let (Ok(seed), Ok(script)) = (std::env::var("COORD_SEED"), std::env::var("COORD_SCRIPT"))
    else {
        // Nothing is asked for; that a script repeats its run is shown all the same.
        let first = scenario::run(3, None, true);
        let again = scenario::run(3, Some(first.made.clone()), true);
        assert_eq!(first.trace, again.trace, "the same decisions lead to another run");
        return;
    };
    let script = choices::from_text(&script).expect("COORD_SCRIPT is like 12:1,40:3");
    let outcome = scenario::run(seed.parse().expect("a number"), Some(script), true);
    println!("{}\n{:?}", outcome.trace.join("\n"), outcome.violation);
}
