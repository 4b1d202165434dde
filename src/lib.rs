//! `coord`: many cooperating processes on one pile of work, where the pile is a directory.

pub mod cli;
pub mod config;
pub mod error;
pub mod plan;
pub mod program;
pub mod queue;
pub mod run;
pub mod sys;
