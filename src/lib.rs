//! `coord`: many cooperating processes on one pile of work, where the pile is a directory.

pub mod config;
pub mod error;
pub mod plan;
pub mod queue;
pub mod sys;
