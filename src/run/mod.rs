//! One attempt inside one worker: where it runs, with what environment, and what it left.

pub mod acceptance;
pub mod attempt;
pub mod base;
pub mod context;
pub mod environment;
pub mod furnish;
pub mod gc;
mod hooks;
pub mod merge;
pub mod outcome;
pub mod pausing;
pub mod pool;
pub mod ports;
pub mod printed;
pub mod reapply;
pub mod rescue;
pub mod scope;
pub mod shift;
pub mod site;
pub mod slot;
pub mod tmpdir;
pub mod turn;
pub mod unwanted;
pub mod vigil;
pub mod worktree;
