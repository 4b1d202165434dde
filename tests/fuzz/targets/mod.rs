//! What is fuzzed: one function for each parser and each kind of name. It takes any bytes, and
//! panics where a promise does not hold. "Does not panic" is the least of the promises: what is read
//! is written and read again, what one way accepts all ways accept, orders are orders.
//!
//! Three drivers call them: the fuzzer (`stress/fuzz`), the replay of the corpus and the property
//! tests (`tests/fuzz/main.rs`).

mod board;
mod built;
pub mod config;
mod directory;
pub mod fields;
mod jobs;
mod names;
mod plans;
mod records;

/// A target: its name, which is also that of its directory in the corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("spec", records::spec),
    ("card", records::card),
    ("end", records::end),
    ("note", records::note),
    ("stage", records::stage),
    ("closed", records::closed),
    ("line", records::line),
    ("layout", records::layout),
    ("workers", records::workers),
    ("status", records::status),
    ("event", board::event),
    ("fold", board::fold),
    ("checkpoint", board::checkpoint),
    ("incoming", plans::incoming),
    ("jsonl", plans::jsonl),
    ("markdown", plans::markdown),
    ("selector", plans::selector),
    ("units", names::units),
    ("time", names::time),
    ("ids", names::ids),
    ("order", names::order),
    ("listing", names::listing),
    ("config", config::config),
    ("placeholder", config::placeholder),
    ("template", jobs::template),
    ("built", built::built),
    ("directory", directory::directory),
];

/// The function of a target.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// The bytes as text, for parsers that are given text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
