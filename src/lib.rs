//! `coord`: many cooperating processes on one pile of work, where the pile is a directory.
//!
//! What is on disk, and what a crash leaves at each step, is in `queue-layout.md`. This is the map
//! of the code.
//!
//! | module | what it has |
//! |---|---|
//! | [`cli`] | arguments in, text and JSON out |
//! | [`chaos`] | killing all of that on purpose, and counting what came of it: `coord chaos` |
//! | [`program`] | the five programs: worker, coordinator, monitor, aggregator, and how they start |
//! | [`run`] | one attempt inside one worker: environment, worktree, command, verdict |
//! | [`jobs`] | one command and many values: their sources, placeholders, logs, exit status |
//! | [`git`] | the git program, and what is done with it |
//! | [`queue`] | the directory and its protocol: registers, hints, intents, transitions |
//! | [`plan`] | decisions over values: graph, selectors, retries, the fold of events, task files |
//! | [`config`] | what `coord.toml` may say |
//! | [`sys`] | files, processes, signals, clocks, wake-ups |
//! | [`error`] | errors with hints, and exit codes |
//!
//! **Imports go one way**: `cli → program → {run, plan, queue, git} → sys`. Anybody may use `error`;
//! `config` stands beside `plan`. `git` knows repositories and nothing of queues. `jobs` reads values and knows nothing of queues. `chaos` uses `sys` alone: it knows the programs from outside. `run` may use `queue` and `plan`. `plan` knows the records and
//! names of `queue` and nothing else of it, and `queue` asks `plan` for decisions. `tests/tidy.rs`
//! has each edge with its reason, and fails on any other.
//!
//! **What there is not:**
//!
//! - No program reads another's memory, socket or standard output. They meet in the directory.
//! - No code outside `sys` opens, changes or removes a file, starts a process, sleeps, or asks the
//!   time of day. Clippy's `disallowed-methods` names the replacement.
//! - `plan` does no I/O and has no clock, so that a simulator takes the same decisions.
//! - No state is set. It is a function of the names in a task's directory.
//! - No register is written twice, renamed onto or removed.
//! - No program waits for a lock. The one lock only spares a second coordinator its work.
//! - No wake-up is trusted. It is a reason to look; a lost one costs a rescan.
//! - No repair belongs to one program. Each is open to every process.
//! - Nothing depends on the aggregator. It may be dead for a week, and only the status is stale.
//! - Nothing is lost with `ready/`, `delayed/`, `blocked/` or `status.json`.
//! - Nothing of a queue is removed recursively, but what was buried: a finished task whose tombstone is there.
//! - Losing a race is a value, not an error: no `AlreadyExists` leaves `queue`.

pub mod chaos;
pub mod cli;
pub mod config;
pub mod error;
pub mod git;
pub mod jobs;
pub mod plan;
pub mod program;
pub mod queue;
pub mod run;
pub mod sys;
