//! Pure decisions over values: no file, no clock, no process.

pub mod base;
pub mod fold;
pub mod foreign;
pub mod graph;
pub mod jsonl;
pub mod markdown;
pub mod merging;
pub mod notices;
pub mod retry;
pub mod scope;
pub mod selector;
pub mod suggest;
pub mod units;
pub mod validate;
