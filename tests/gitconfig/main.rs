//! Random settings and layouts of git, and an attempt that writes, fails or dies in each: nothing that
//! anybody wrote is lost, or `coord` refused in words.
//!
//! The seeds are printed. `COORD_GITCONFIG_SEED=N` makes the combination of one seed again,
//! `COORD_GITCONFIG=N` says how many are made, `COORD_STRESS=full` makes 2,000.
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
mod world;

use draw::Drawn;
use world::Went;

/// Combinations in the size of CI, and in the long one.
const SIZES: (u64, u64) = (60, 2000);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_git_is_told_nothing_that_anybody_wrote_is_lost() {
    if let Some(seed) = number("COORD_GITCONFIG_SEED") {
        let drawn = Drawn::new(seed);
        println!("{drawn}");
        world::try_it(&drawn, true);
        return;
    }
    let full = std::env::var("COORD_STRESS").is_ok_and(|size| size == "full");
    let count = number("COORD_GITCONFIG").unwrap_or(if full { SIZES.1 } else { SIZES.0 });
    let first = coord::sys::clock::Clock::random(&coord::sys::clock::RealClock) >> 16;
    println!("seeds {first} to {}", first + count - 1);
    let (mut ran, mut refused) = (0, 0);
    for seed in first..first + count {
        let drawn = Drawn::new(seed);
        println!("{drawn}");
        match world::try_it(&drawn, false) {
            Went::Ran => ran += 1,
            Went::Refused(why) => {
                println!("  refused: {why}");
                refused += 1;
            }
        }
    }
    println!("{ran} ran, {refused} were refused");
    // A test in which nothing happens would be green as well.
    assert!(ran * 2 > count, "only {ran} of {count} combinations let an attempt run");
}

#[test]
fn a_loss_is_seen() {
    world::losses_are_seen();
}
