//! Killing everything on purpose, and finding out whether anything was lost or happened twice.
//!
//! | module | what it has |
//! |---|---|
//! | [`ground`] | a directory with a queue of throw-away tasks, and all processes that belong to it |
//! | [`pile`] | the tasks, and the job that each of them runs: it writes down what it does |
//! | [`witness`] | what the jobs wrote, in the order in which they wrote it |
//! | [`check`] | whether anything was lost or happened twice, from that and from `coord ls --json` |
//! | [`hider`] | a process of a job that cannot be looked into |
//! | [`nemesis`] | kills, stops and doubles programs |
//! | [`trial`] | all of it together, from the first task to the report |
//! | [`dice`] | choices that a seed repeats |
//!
//! Nothing here knows how a queue works inside. Programs are driven by their commands, and what is
//! believed is what the jobs themselves wrote.

pub mod check;
pub mod dice;
pub mod ground;
pub mod hider;
pub mod nemesis;
pub mod pile;
pub mod trial;
pub mod witness;
