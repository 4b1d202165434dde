//! What `coord run` and `coord map` need that touches no queue: from the words of a command line to
//! the command of each job, and from how the jobs ended to logs and an exit status.
//!
//! ```text
//! split(words) ──> command       sources
//!                     │             │ Rows::open: files, combinations, columns, header
//!                     │ names       v
//!                  Command <────── Rows        one row at a time
//!                     │             │
//!           Template::new           │
//!                     │ weight      v
//!                     ├──────────> Groups      the values of one job at a time (-N, -X)
//!                     v             │ args
//!           Template::expand <──── Job { seq, slot, args }
//!                     │
//!                     v
//!              argv of the job ──> it runs, elsewhere
//!                                   │
//!    joblog, Results::paths, Progress::line, Halt::decide, exit::status
//! ```
//!
//! Everything streams: of the input there are a buffer and a row in memory (with `-X` the values of
//! one job), but for the sources behind the first one, which are gone through again and again. Only
//! [`Rows`] does I/O; it reads. A caller that is asked to wait for input (`would_block`) first does
//! what can be done with the rows that it has.
//!
//! A command and a job are values that can be stored; expanding them again gives the same words.

pub mod exit;
pub mod format;
pub mod groups;
pub mod halt;
pub mod joblog;
pub mod progress;
pub mod records;
pub mod results;
pub mod rows;
pub mod source;
pub mod template;

mod placeholder;
mod script;
mod shell;
mod word;

pub use exit::Ended;
pub use format::Format;
pub use groups::{BYTES_MAX, Grouping, Groups};
pub use halt::{Counts, Halt, When};
pub use joblog::Finished;
pub use progress::Progress;
pub use records::RECORD_MAX;
pub use results::{Paths, Results};
pub use rows::{Given, Rows};
pub use source::{Origin, SourceArg, split};
pub use template::{ARGUMENT_MAX, Command, Job, Template, Weight};

#[cfg(test)]
mod template_table;
