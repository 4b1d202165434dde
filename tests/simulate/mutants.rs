//! Every rule of the protocol, taken out of the code one at a time: the simulation must miss it.

use coord::sys::rule::without;

use crate::scenario;

/// Rules, what they say, and a seed that misses them.
pub const RULES: &[(&str, &str, u64)] = &[
    ("R1", "a register is published by link, never by a rename that replaces", 0),
    ("R2.readback", "after a link, what the register holds decides, not the answer", 0),
    ("R2.own", "an old claim of one's own is no win", 0),
    ("R3", "an intent is removed by its whole name, never `run/*`", 0),
    ("R4.owner", "the owner drops its intent after the follow-ups exist", 0),
    ("R4.loser", "who loses a claim helps before it drops its intent", 0),
    ("R4.fenced", "who is fenced helps before it drops its intent", 0),
    ("R4.recoverer", "who finds an attempt ended helps before it drops the intent", 0),
    ("R5.order", "first the death, then the registers, then the intent", 0),
    ("R5.lease", "after a lease alone, unclaimed intents stay", 0),
    ("R6.wait", "who waits registers, and then looks again", 0),
    ("R6.cancel", "a cancel is promised only if the attempt still runs after it", 0),
];

/// Seeds within which each has to be caught.
pub const WITHIN: u64 = 10_000;

/// The first seed from `from` on that misses a rule, and what it saw.
pub fn catch(rule: &'static str, from: u64, seeds: u64) -> Option<(u64, String)> {
    (from..from + seeds).find_map(|seed| {
        let outcome = without(rule, || scenario::run(seed, None, false));
        outcome.violation.map(|what| (seed, what))
    })
}
