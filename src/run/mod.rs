//! One attempt inside one worker: where it runs, with what environment, and what it left.

pub mod attempt;
pub mod context;
pub mod environment;
pub mod outcome;
pub mod site;
pub mod worktree;
