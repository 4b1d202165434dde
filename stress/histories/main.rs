//! Histories of real programs: many workers, tasks that come in all the time, and a nemesis that
//! kills and stops the programs, takes away `ready/`, fills the disk, starts a second monitor and a
//! second coordinator, and kills commands while they add. Afterwards everything must have happened
//! exactly once, by what the jobs themselves wrote.
//!
//! `COORD_HISTORIES_ROUNDS` asks for so many rounds of the long size: 64 workers, 100,000 tasks, at
//! least 2,000 kills and 500 stops. What was done stands in target/stress/histories.progress; a round
//! that was interrupted is made anew with its seed. `COORD_HISTORIES_SEED` repeats a run's choices.
#![expect(clippy::disallowed_methods, reason = "a test works on the machine itself")]
#![expect(clippy::unwrap_used, reason = "a failing step is a failing test")]

mod disk;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coord::chaos::check::Kind;
use coord::chaos::ground::{Ground, Settings};
use coord::chaos::nemesis::{Disk, Nemesis, Temper};
use coord::chaos::pile::Mix;
use coord::chaos::trial::{self, Outcome, Plan};
use coord::sys::clock::{Clock, RealClock};
use coord::sys::wake::Waiter;
use serde::{Deserialize, Serialize};

use disk::SmallDisk;

/// Deeds that a run of either size must have seen.
const EACH: [(&str, u64); 9] = [
    ("kill worker", 1),
    ("kill monitor", 1),
    ("kill aggregator", 1),
    ("kill coordinator", 1),
    ("stop worker", 1),
    ("second monitor", 1),
    ("second coordinator", 1),
    ("remove ready/", 1),
    ("add", 1),
];

/// Says that something cannot be done here. With `COORD_TESTS_NO_SKIP`, as in CI, that is a failure.
fn skip(what: &str, why: &str) {
    let line = format!("skipped: {what}: {why}\n");
    // Past the capture of the test harness: it must be seen.
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
    assert!(std::env::var_os("COORD_TESTS_NO_SKIP").is_none(), "{line}");
}

struct Size {
    plan: Plan,
    settings: Settings,
    disk_bytes: u64,
}

fn small(seed: u64) -> Size {
    let temper =
        Temper { stop: 220, unready: 25, monitor: 25, coordinator: 25, disk: 25, still_ms: 5000 };
    let plan = Plan {
        seed,
        workers: 8,
        time: Some(Duration::from_secs(300)),
        tasks: Some(500),
        least: [("kill ", 100), ("stop ", 25)].into_iter().chain(EACH).collect(),
        batch: 20,
        gap_ms: (60, 300),
        mix: Mix { slow: 40, stray: 10, fails: 10, after: 25, hides: 0, escapes: false },
        temper,
        killed_adds: 30,
        patience: Duration::from_secs(120),
    };
    Size { plan, settings: Settings { lease_ms: 3000, backoff_ms: 200 }, disk_bytes: 256 << 20 }
}

fn large(seed: u64) -> Size {
    let temper =
        Temper { stop: 220, unready: 2, monitor: 10, coordinator: 10, disk: 3, still_ms: 12_000 };
    let plan = Plan {
        workers: 64,
        time: Some(Duration::from_secs(3600)),
        tasks: Some(100_000),
        least: [("kill ", 2000), ("stop ", 500)].into_iter().chain(EACH).collect(),
        batch: 1000,
        gap_ms: (0, 80),
        mix: Mix { slow: 1, stray: 1, fails: 4, after: 20, hides: 0, escapes: false },
        temper,
        patience: Duration::from_secs(600),
        ..small(seed).plan
    };
    Size { plan, settings: Settings { lease_ms: 8000, backoff_ms: 500 }, disk_bytes: 8 << 30 }
}

/// One run of a size; everything of it is gone afterwards, unless something is wrong.
fn run(mut size: Size, below: &Path) -> Outcome {
    let dir = tempfile::Builder::new().prefix("coord-histories-").tempdir_in(below).unwrap();
    let root = dir.path().join("ground");
    let disk = match SmallDisk::mount(&root.join(".coord"), size.disk_bytes) {
        Ok(disk) => {
            size.plan.least.push(("fill disk", 1));
            Some(Box::new(disk) as Box<dyn Disk>)
        }
        Err(why) => {
            skip("a full disk", &why);
            None
        }
    };
    let plan = &size.plan;
    println!("histories: seed {}, {} workers", plan.seed, plan.workers);
    let bin = std::env::var_os("COORD_BIN").map(|dir| PathBuf::from(dir).join("coord"));
    let coord = bin.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_coord")));
    let mut nemesis = Nemesis::new(plan.seed, plan.workers, plan.temper, disk);
    let ground = Ground::make(&root, &coord, size.settings).unwrap();
    let mut waiter = Waiter::new(&[2, 15], &root).unwrap();
    let log = std::fs::File::create(root.join("deeds")).unwrap();
    let mut log = std::io::BufWriter::new(log);
    let mut tell = |text: &str| writeln!(log, "{text}").unwrap();
    let outcome = trial::run(&ground, plan, &mut nemesis, &mut waiter, &mut tell);
    drop(log);
    let clean = outcome.as_ref().is_ok_and(Outcome::is_clean);
    if !clean {
        let kept = below.join(format!("coord-histories-failed-{}", plan.seed));
        let copied = std::process::Command::new("cp").args(["-a"]).arg(&root).arg(&kept).status();
        println!("histories: kept in {} ({copied:?})", kept.display());
    }
    drop(ground);
    drop(nemesis);
    let outcome = outcome.unwrap();
    report(&outcome);
    outcome
}

fn report(outcome: &Outcome) {
    let report = &outcome.report;
    let at = |percent: usize| {
        let all = &report.recoveries_ms;
        all.get((all.len() * percent / 100).min(all.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    println!(
        "histories: tasks {}, done exactly once {}, lost {}, doubled {}, early {}, strange {}; {} \
         attempts, {} kills, {} stops, {} killed adds, {} torn lines; {} recoveries: median {} ms, \
         99 % {} ms, worst {} ms; {:.0} s",
        report.tasks,
        report.once,
        report.count(Kind::Lost),
        report.count(Kind::Doubled),
        report.count(Kind::Early),
        report.count(Kind::Strange),
        report.attempts,
        outcome.count("kill "),
        outcome.count("stop "),
        outcome.killed_adds,
        report.torn,
        report.recoveries_ms.len(),
        at(50),
        at(99),
        at(100),
        outcome.took.as_secs_f64(),
    );
    println!("histories: {:?}", outcome.deeds);
    for fault in report.faults.iter().take(30) {
        println!("histories: {:?}: {}: {}", fault.kind, fault.id, fault.what);
    }
}

fn judge(outcome: &Outcome, size: &Size) {
    assert!(!outcome.interrupted, "interrupted");
    assert_eq!(outcome.fsck, "", "coord fsck");
    assert!(outcome.report.faults.is_empty(), "{} faults", outcome.report.faults.len());
    assert_eq!(outcome.report.once, outcome.report.tasks);
    assert!(outcome.report.tasks as u64 >= size.plan.tasks.unwrap(), "too few tasks");
    assert!(outcome.report.torn as u64 <= outcome.count("kill "), "more torn lines than kills");
    for (deed, least) in &size.plan.least {
        let often = if *deed == "add" { outcome.killed_adds } else { outcome.count(deed) };
        assert!(often >= *least, "{deed}: {often}, not {least}; it ended by its time");
    }
    assert!(!outcome.report.recoveries_ms.is_empty(), "no killed worker held anything");
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    seed: u64,
    rounds: u64,
    tasks: u64,
    attempts: u64,
    kills: u64,
    stops: u64,
    worst_ms: u64,
}

fn seed() -> u64 {
    let given = std::env::var("COORD_HISTORIES_SEED").ok();
    given.map_or_else(|| RealClock.random() % 1_000_000, |s| s.parse().unwrap())
}

fn rounds(wanted: u64) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/stress/histories.progress");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let mut progress: Progress = serde_json::from_str(&text)
        .unwrap_or_else(|_| Progress { seed: seed(), ..Progress::default() });
    let save = |progress: &Progress| {
        std::fs::write(&file, serde_json::to_string(progress).unwrap()).unwrap();
    };
    save(&progress);
    let below = ["/dev/shm", "/tmp"].map(Path::new).into_iter().find(|p| p.is_dir()).unwrap();
    while progress.rounds < wanted {
        let size = || large(progress.seed + progress.rounds);
        let outcome = run(size(), below);
        judge(&outcome, &size());
        progress.rounds += 1;
        progress.tasks += outcome.report.tasks as u64;
        progress.attempts += outcome.report.attempts as u64;
        progress.kills += outcome.count("kill ");
        progress.stops += outcome.count("stop ");
        let worst = outcome.report.recoveries_ms.last().copied().unwrap_or(0);
        progress.worst_ms = progress.worst_ms.max(worst);
        save(&progress);
    }
    println!("histories: in all {progress:?}");
}

#[test]
fn nothing_is_lost_and_nothing_happens_twice() {
    if let Ok(wanted) = std::env::var("COORD_HISTORIES_ROUNDS") {
        return rounds(wanted.parse().unwrap());
    }
    let seed = seed();
    let outcome = run(small(seed), &std::env::temp_dir());
    judge(&outcome, &small(seed));
}
