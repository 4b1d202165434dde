//! The records of an array: a task that stands for a list of jobs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{End, is_default};

/// What the jobs of an array have in common; `array` in `spec.json`. Their arguments stand in
/// `tasks/T/jobs/START.in`, a line each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Array {
    /// The words of the command, with placeholders. None: the arguments of a job are its command.
    pub command: Vec<String>,
    /// The command is a line for `sh -c`.
    #[serde(skip_serializing_if = "is_default")]
    pub sh: bool,
    /// A job has as many arguments as fit, all for one placeholder.
    #[serde(skip_serializing_if = "is_default")]
    pub many: bool,
    /// Names of the columns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// How often a job that fails is tried; at least 1.
    pub tries: u32,
    /// The directory that its jobs run in.
    pub cwd: String,
    /// Of `coord run`: the queue that `coord` in a job reaches (`COORD_DIR`), where that is not the one of
    /// the run; empty: none. Absent: the queue that the array lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Of `coord run --keep-children`: what a job has started goes on when its command has exited.
    #[serde(skip_serializing_if = "is_default")]
    pub keep_children: bool,
}

/// `jobs/closed`: the list is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Version of the record.
    pub v: u32,
    /// How many jobs there are.
    pub jobs: u64,
}

/// `jobs/halt.N`: a run of an array began, by this rule; or an earlier rule was fulfilled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Halting {
    /// Version of the record.
    pub v: u32,
    /// Who wrote this.
    pub by: String,
    /// When (RFC 3339).
    pub at: String,
    /// The rule, in the words of `coord run --halt`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub halt: String,
    /// The highest place of a worker of the run itself; who joins comes above it.
    #[serde(skip_serializing_if = "is_default")]
    pub workers: u32,
    /// The rule of `jobs/halt.met` was fulfilled; 0: this is a rule itself.
    #[serde(skip_serializing_if = "is_default")]
    pub met: u32,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Halting {
    /// One that says nothing yet.
    pub fn new(by: &str, at: String) -> Halting {
        Halting { v: 1, by: by.to_owned(), at, ..Halting::default() }
    }
}

/// A line of `jobs/W.log`: how one try of a job ended. Written after the register that says so.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    /// The job's number.
    pub job: u64,
    /// Which try it was.
    pub n: u32,
    /// The word of its verdict.
    pub end: String,
    /// Whether another try follows.
    #[serde(skip_serializing_if = "is_default")]
    pub retry: bool,
    /// The round of the array: how often it was reopened before.
    #[serde(skip_serializing_if = "is_default")]
    pub round: u32,
    /// Exit code; absent if a signal ended it, or nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// It was ended since its time was over.
    #[serde(skip_serializing_if = "is_default")]
    pub timed_out: bool,
    /// When it started, milliseconds since 1970.
    pub at: u64,
    /// How long it ran, milliseconds.
    pub ms: u64,
    /// The number of its worker, as `{%}` says it.
    #[serde(skip_serializing_if = "is_default")]
    pub slot: u32,
    /// Where in `jobs/W.out` its standard output stands: offset and length, bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub out: (u64, u64),
    /// Where in `jobs/W.err` its standard error stands.
    #[serde(skip_serializing_if = "is_default")]
    pub err: (u64, u64),
    /// Whose output files those are, where it is not the one who wrote the line: a process, or the try
    /// itself, `W.JOB.n`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The field of an end of a job that says so.
const TIMED_OUT: &str = "timed_out";

impl End {
    /// The same of a job that was ended since its time was over.
    #[must_use]
    pub fn of_time_limit(mut self) -> End {
        self.more.insert(TIMED_OUT.to_owned(), true.into());
        self
    }

    /// Whether a job was ended since its time was over.
    pub fn timed_out(&self) -> bool {
        self.more.get(TIMED_OUT).is_some_and(|said| *said == true)
    }
}
