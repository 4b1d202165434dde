//! Crash and error at every system call and at every step: the real programs on real directories.
//!
//! For each situation (`situation.rs`) a command is first run undisturbed under strace, which counts
//! its calls; then it is run again for each call, and killed there (`kills.rs`) or answered with an
//! error (`errors.rs`), on several file systems (`filesystems.rs`). Afterwards one plain `coord work
//! --until-empty` must finish everything, each task done exactly once by the witness of its own jobs,
//! and `coord fsck --strict` must be clean. `steps.rs` does the same at each `step!` name in every
//! program that passes it, and checks the list of them, `steps.txt`; `members.rs` as users of a group.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests prepare and look at files from outside, as users and broken programs do"
)]
#![expect(dead_code, reason = "of tests/support only the waits are used here")]

#[path = "../support/mod.rs"]
mod support;

mod case;
mod errors;
mod filesystems;
mod found;
mod kills;
mod lists;
mod members;
mod place;
mod play;
mod points;
mod rare;
mod situation;
mod situations;
mod steps;
mod strace;
mod users;
