//! `coord chaos`: the proof for whoever does not believe it.
//!
//! Nothing of the user's own is touched: the queue is made in a directory of its own and goes with
//! it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::chaos::check::Kind;
use crate::chaos::ground::{Ground, Settings, clean_up_after_the_dead};
use crate::chaos::hider;
use crate::chaos::nemesis::{Nemesis, Temper};
use crate::chaos::pile::Mix;
use crate::chaos::trial::{self, Outcome, Plan};
use crate::error::{Cannot, Error, Exit, Result};
use crate::program::start::STOP_SIGNALS;
use crate::queue::ids::random_part;
use crate::sys::cgroup;
use crate::sys::clock::{Clock, RealClock};
use crate::sys::fs::{Fs, RealFs, remove_tree};
use crate::sys::tool::sibling;
use crate::sys::wake::Waiter;

use super::Answer;
use super::args::{Chaos, ChaosHider, Cli};
use super::output;

/// Directories of ours begin so.
const PREFIX: &str = "coord-chaos-";
/// Faults that are printed one by one.
const TOLD: usize = 20;

const MIX: Mix = Mix { slow: 40, stray: 10, fails: 10, after: 25, hides: 0, escapes: false };
/// Of a hundred tasks so many hide, if that is asked for: the rest of the others.
const HIDING: u64 = 40;
const TEMPER: Temper =
    Temper { stop: 200, unready: 30, monitor: 30, coordinator: 30, disk: 0, still_ms: 4000 };

/// `coord chaos`.
pub fn chaos(cli: &Cli, args: &Chaos) -> Answer {
    if args.workers == 0 || args.workers > 512 {
        return Err(Error::usage("--workers wants 1 to 512"));
    }
    if !(args.minutes > 0.0 && args.minutes <= 24.0 * 60.0) {
        return Err(Error::usage("--minutes wants more than 0, and at most a day"));
    }
    if args.tasks == Some(0) {
        return Err(Error::usage("--tasks wants at least 1"));
    }
    let temporary = std::env::temp_dir();
    let ended = clean_up_after_the_dead(&temporary, PREFIX);
    if ended > 0 {
        output::note(&format!("ended {ended} processes that a killed run had left"));
    }
    let dir = place(cli, &temporary)?;
    let seed = args.seed.unwrap_or_else(|| RealClock.random() % 1_000_000);
    let mut waiter = Waiter::new(STOP_SIGNALS, &temporary).cannot("listen for signals", &dir)?;
    // Beside this program, as everywhere.
    let coord = sibling("coord")?;
    let settings = Settings { lease_ms: 3000, backoff_ms: 200 };
    let mut ground = Ground::make(&dir, &coord, settings)?;
    output::note(&format!("seed {seed}, {} workers, in {}", args.workers, dir.display()));
    let has_groups = !args.no_cgroup && !cgroup::planned(PREFIX.trim_end_matches('-')).is_empty();
    if args.no_cgroup {
        ground.set("COORD_NO_CGROUP", "1");
    }
    let mut mix = MIX;
    if args.hiding {
        mix = Mix { slow: 20, hides: HIDING, escapes: !has_groups, ..MIX };
        let groups =
            if has_groups { "each worker has a control group" } else { "no control groups" };
        output::note(&format!("{HIDING} of 100 jobs leave a process that hides; {groups}"));
    }
    let plan = Plan {
        seed,
        workers: args.workers,
        time: Some(Duration::from_secs_f64(args.minutes * 60.0)),
        tasks: args.tasks,
        least: Vec::new(),
        batch: u64::from(args.workers),
        gap_ms: (100, 700),
        mix,
        temper: TEMPER,
        killed_adds: 20,
        patience: Duration::from_secs(120),
    };
    let mut nemesis = Nemesis::new(seed, args.workers, TEMPER, None);
    let quiet = cli.quiet || cli.json;
    let mut tell = |text: &str| {
        if !quiet {
            output::line(text);
        }
    };
    let outcome = trial::run(&ground, &plan, &mut nemesis, &mut waiter, &mut tell);
    let left = ground.end_all();
    drop(ground);
    let keep = args.keep || cli.dir.is_some();
    let clean = outcome.as_ref().is_ok_and(Outcome::is_clean);
    if keep || !clean {
        // Without the owner's name nobody takes it for what a killed run has left.
        drop(RealFs.unlink(&dir.join("owner")));
        output::note(&format!("kept: {}", dir.display()));
    } else {
        remove_tree(&dir).cannot("remove", &dir)?;
    }
    let outcome = outcome?;
    for fault in outcome.report.faults.iter().take(TOLD) {
        output::note(&format!("{:?}: {}: {}", fault.kind, fault.id, fault.what));
    }
    if !outcome.fsck.is_empty() {
        output::note(&format!("coord fsck:\n{}", outcome.fsck.trim_end()));
    }
    if cli.json {
        output::document(&document(seed, &outcome));
    } else {
        output::line(&last_line(&outcome));
    }
    if !left.is_empty() {
        return Err(Error::new(Exit::Internal, format!("processes could not be ended: {left:?}")));
    }
    Ok((!clean).then_some(Exit::No))
}

/// `coord chaos-hider`: what a job of `coord chaos --hiding` leaves behind.
pub fn hider(args: &ChaosHider) -> Answer {
    hider::go_on(&args.order, &args.attempt, args.deeds, args.hidden).map(|()| None)
}

/// The directory: `--dir`, which must be new or empty, or one of our own.
fn place(cli: &Cli, temporary: &Path) -> Result<PathBuf> {
    let Some(dir) = &cli.dir else {
        return Ok(temporary.join(format!("{PREFIX}{}", random_part(RealClock.random()))));
    };
    let dir = std::path::absolute(dir).cannot("find the directory", dir)?;
    let names = match RealFs.list(&dir) {
        Ok(names) => names,
        Err(e) if crate::sys::fs::is_absent(&e) => Vec::new(),
        Err(e) => return Err(e).cannot("look into the directory", &dir),
    };
    if names.is_empty() {
        return Ok(dir);
    }
    let what = "coord chaos works on throw-away tasks only, and this directory is not empty";
    Err(Error::new(Exit::Conflict, what).at(&dir).hint("name one that does not exist yet"))
}

fn last_line(outcome: &Outcome) -> String {
    let report = &outcome.report;
    let early = report.count(Kind::Early) + report.count(Kind::Strange);
    let early = if early > 0 { format!(", otherwise wrong {early}") } else { String::new() };
    let escaped = report.count(Kind::Escaped);
    let escaped = match escaped {
        0 => String::new(),
        n => format!(
            ", escaped {n} (had left the session and wiped the environment, without a control group)"
        ),
    };
    let worst = match report.recoveries_ms.last() {
        Some(worst) => format!("worst time to recover {worst} ms"),
        None => "nothing had to be recovered".to_owned(),
    };
    format!(
        "tasks {}, done exactly once {}, lost {}, doubled {}{escaped}{early}; {} attempts, {} kills, {} stops; {worst}",
        report.tasks,
        report.once,
        report.count(Kind::Lost),
        report.count(Kind::Doubled),
        report.attempts,
        outcome.count("kill") + outcome.killed_adds,
        outcome.count("stop"),
    )
}

fn document(seed: u64, outcome: &Outcome) -> Value {
    let report = &outcome.report;
    json!({
        "schema": "coord.chaos/1",
        "seed": seed,
        "tasks": report.tasks,
        "done_once": report.once,
        "lost": report.count(Kind::Lost),
        "doubled": report.count(Kind::Doubled),
        "early": report.count(Kind::Early),
        "escaped": report.count(Kind::Escaped),
        "strange": report.count(Kind::Strange),
        "attempts": report.attempts,
        "deeds": outcome.deeds,
        "killed_adds": outcome.killed_adds,
        "recovered": report.recoveries_ms.len(),
        "worst_recovery_ms": report.recoveries_ms.last(),
        "seconds": outcome.took.as_secs_f64(),
        "interrupted": outcome.interrupted,
        "fsck": if outcome.fsck.is_empty() { "clean" } else { "findings" },
    })
}
