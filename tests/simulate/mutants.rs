//! Every rule of the protocol, taken out of the code one at a time: a seed must miss it. Rules that no
//! seed within 10,000 misses have a schedule in `schedules.rs`.
//!
//! `COORD_SEARCH=1 cargo test --test simulate mutants -- --nocapture` looks for the first seed of each,
//! for the case that the code has changed and the seeds below miss nothing any more.

use coord::sys::rule::without;

use crate::scenario;

/// Rules, what they say, and a seed that misses them.
const RULES: &[(&str, &str, u64)] = &[
    ("R1", "a register is published by link, never by a rename that replaces", 1),
    ("R2.readback", "after a link, what the register holds decides, not the answer", 7),
    ("R3", "an intent is removed by its whole name, never `run/*`", 11),
    ("R4.owner", "the owner drops its intent after the follow-ups exist", 3),
    ("R4.recoverer", "who finds an attempt ended helps before it drops the intent", 138),
];

/// Seeds within which each has to be caught.
const WITHIN: u64 = 10_000;

fn broken(rule: &'static str, seed: u64) -> Option<String> {
    without(rule, || scenario::run(seed, None, false)).violation
}

#[test]
fn every_rule_is_missed() {
    let search = std::env::var_os("COORD_SEARCH").is_some();
    let mut unnoticed = Vec::new();
    for (rule, what, seed) in RULES {
        let first = if search {
            // A seed that fails with the rule in place says nothing.
            (1..=WITHIN).find(|seed| {
                broken(rule, *seed).is_some()
                    && scenario::run(*seed, None, false).violation.is_none()
            })
        } else {
            Some(*seed)
        };
        let seen = first.and_then(|seed| broken(rule, seed));
        println!("{rule} ({what}): seed {first:?}: {}", seen.as_deref().unwrap_or("nothing"));
        if seen.is_none() {
            unnoticed.push(*rule);
        }
    }
    assert!(unnoticed.is_empty(), "nothing misses the rules {unnoticed:?}");
}
