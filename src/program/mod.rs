//! The programs: each a `tick` over what is in the queue, plus one wait for all reasons to tick.

pub mod aggregator;
mod aside;
pub mod astray;
pub mod coordinator;
pub mod fleet;
pub mod front;
pub mod keeper;
pub mod monitor;
pub mod room;
pub mod start;
pub mod stumble;
pub mod worker;
