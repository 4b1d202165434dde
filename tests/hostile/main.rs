//! Things that nobody of ours has made, planted at random in every directory of a live queue while a fleet
//! works and commands are run: no command hangs, no program spins, every good task ends once, each thing
//! is still there as it was, and `coord fsck` names it or a rule says why it does not.
//!
//! `COORD_HOSTILE=N` says how many are planted, `COORD_HOSTILE_SEED=S` from which seed on: that repeats
//! what failed. `COORD_STRESS=full` plants 10,000 and goes on where the last such run was stopped, by
//! target/stress/hostile.progress.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests prepare and look at files from outside, as users and broken programs do"
)]
#![expect(dead_code, reason = "of tests/support only the sandbox is used here")]

#[path = "../support/chance.rs"]
mod chance;
#[path = "../support/mod.rs"]
mod support;

mod draw;
mod ground;
mod group;
mod places;
mod plant;
mod rules;
mod verbs;

use std::path::{Path, PathBuf};
use std::time::Instant;

use group::{GROUP, Totals};

/// Plantings in the size of CI, and in the long one.
const SIZES: (u64, u64) = (200, 10_000);

/// The first seed of an ordinary run: always the same, so that one says something of the change that it is
/// run for. The long size draws its own.
const ORDINARY: u64 = 50_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How far the long run is: its first seed, and how many were planted.
struct Progress {
    file: PathBuf,
    first: u64,
    planted: u64,
}

impl Progress {
    fn read() -> Progress {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/stress");
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("hostile.progress");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
        let (first, planted) = (numbers.next(), numbers.next());
        Progress { file, first: first.unwrap_or_else(fresh_seed), planted: planted.unwrap_or(0) }
    }

    fn save(&self) {
        std::fs::write(&self.file, format!("{} {}\n", self.first, self.planted)).unwrap();
    }
}

/// Groups begin at a multiple of their size, so that a seed alone says in which kind of group it is.
fn fresh_seed() -> u64 {
    let seed = coord::sys::clock::Clock::random(&coord::sys::clock::RealClock) >> 24;
    seed / GROUP * GROUP
}

#[test]
fn whatever_lies_in_a_queue_nothing_hangs_spins_or_is_lost() {
    let full = std::env::var("COORD_STRESS").is_ok_and(|size| size == "full");
    let given = number("COORD_HOSTILE_SEED");
    let count = number("COORD_HOSTILE").unwrap_or(if full { SIZES.1 } else { SIZES.0 });
    let mut progress = (full && given.is_none()).then(Progress::read);
    let first = given.or(progress.as_ref().map(|progress| progress.first)).unwrap_or(ORDINARY);
    let mut next = first + progress.as_ref().map_or(0, |progress| progress.planted);
    println!("hostile: seeds {next} to {}", first + count - 1);
    let (began, mut totals) = (Instant::now(), Totals::default());
    let from = next;
    while next < first + count {
        let end = ((next / GROUP + 1) * GROUP).min(first + count);
        group::play(next..end, &mut totals);
        next = end;
        if let Some(progress) = &mut progress {
            progress.planted = next - first;
            progress.save();
        }
    }
    let planted = next - from;
    let each = began.elapsed().as_secs_f64() / (planted.max(1)) as f64;
    println!("hostile: {planted} plantings, {each:.2} s each, {totals}");
    // A test in which nothing is planted would be green as well.
    assert!(
        totals.planted * 10 >= planted * 9,
        "only {} of {planted} were planted",
        totals.planted
    );
}
