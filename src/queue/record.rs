//! The records: what stands in the files of a queue.
//!
//! All are one JSON object of at most 1 MiB. Unknown fields are kept. Every reader is total: a file
//! that cannot be read as its record is an `Unreadable`, which has a defined meaning (section
//! "Unreadable records" of queue-layout.md), never a reason to stop.

mod array;
mod bytes;
mod stage;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::array::{Array, Closed, Halting, Line};
pub use self::bytes::{RECORD_MAX, Unreadable, parse, to_bytes};
pub use self::stage::{Stage, StageVerdict};

/// The longest time that a record can ask for, in seconds: a century. Deadlines are sums, which so
/// cannot overflow.
pub const SECONDS_MAX: f64 = 36_525.0 * 86_400.0;

/// A number of seconds of a record as a time; `None` where it is none, or not above 0.
pub fn duration(seconds: Option<f64>) -> Option<Duration> {
    let seconds = seconds.filter(|s| s.is_finite() && *s > 0.0)?;
    let duration = Duration::from_secs_f64(seconds.min(SECONDS_MAX));
    Some(duration.max(Duration::from_millis(1)))
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What happens to a task when one of its dependencies failed or was cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDepDead {
    /// It stays blocked until somebody retries the dependency or cancels the task.
    #[default]
    Block,
    /// It is cancelled too.
    Cancel,
    /// It runs all the same.
    Run,
}

/// How long a failed task rests before its next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// Seconds after the first failure.
    pub base_s: f64,
    /// Factor for each further failure.
    pub factor: f64,
    /// The most seconds.
    pub max_s: f64,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { base_s: 10.0, factor: 2.0, max_s: 600.0 }
    }
}

/// A task as it was submitted: `tasks/T/spec.json`. The id is the directory's name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Version of the record.
    pub v: u32,
    /// Identity of the submission, so that a repeated one is known for what it is.
    pub uid: String,
    /// One line for people.
    pub title: String,
    /// What kind of worker it wants.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// 0 to 99, smaller first.
    pub priority: u8,
    /// Ids that must be done first; `D@pass` asks only that an attempt of D succeeded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// What a failed or cancelled dependency means.
    #[serde(skip_serializing_if = "is_default")]
    pub on_dep_dead: OnDepDead,
    /// Paths that only one running task may change; see `plan::scope`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// Not before this time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// Attempts that may be charged, the first included.
    pub max_attempts: u32,
    /// Rest between attempts; the worker's configuration where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Lease in seconds; the worker's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<f64>,
    /// The longest that an attempt may run, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<f64>,
    /// A person does it.
    #[serde(skip_serializing_if = "is_default")]
    pub manual: bool,
    /// Not claimable until released.
    #[serde(skip_serializing_if = "is_default")]
    pub hold: bool,
    /// Wants a review after a successful attempt (reserved).
    #[serde(skip_serializing_if = "is_default")]
    pub review: bool,
    /// Wants to be merged after a successful attempt.
    #[serde(skip_serializing_if = "is_default")]
    pub merge: bool,
    /// The branch that it is merged into; the one that coord.toml names where empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub into: String,
    /// Ids that are merged before it, whatever the order in which they ran.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub merge_after: Vec<String>,
    /// Changes what all depend on (a lock file): merged last of its wave.
    #[serde(skip_serializing_if = "is_default")]
    pub adds_deps: bool,
    /// Words to select by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Labels that a worker must have to run it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Group of tasks released together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wave: Option<u32>,
    /// The command, as an argument vector.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// Or a line for `sh -c`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sh: String,
    /// Or a prompt for an agent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// Which agent of coord.toml runs the prompt; `[workers] agent` where absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// Or what the jobs of an array have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub array: Option<Array>,
    /// Further environment.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub env: Map<String, Value>,
    /// Where it runs, below the worktree or the project.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cwd: String,
    /// Who submitted it.
    pub by: String,
    /// When (RFC 3339).
    pub at: String,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Spec {
    /// A spec with the defaults of the format.
    pub fn new(title: &str) -> Spec {
        Spec { v: 1, title: title.to_owned(), priority: 50, max_attempts: 3, ..Spec::default() }
    }

    /// What a job has started goes on when its command has exited (`coord run --keep-children`).
    pub fn keeps_children(&self) -> bool {
        self.array.as_ref().is_some_and(|array| array.keep_children)
    }

    /// The role whose ready list it goes to.
    pub fn role(&self) -> &str {
        if self.role.is_empty() { "default" } else { &self.role }
    }

    /// Everything that it comes after, to run or to be merged: `after` and `merge_after`.
    pub fn waits_for(&self) -> Vec<String> {
        self.after.iter().chain(&self.merge_after).cloned().collect()
    }

    /// Whether two submissions ask for the same thing, whoever sent them and when.
    pub fn same_meaning(&self, other: &Spec) -> bool {
        let plain = |s: &Spec| Spec {
            uid: String::new(),
            by: String::new(),
            at: String::new(),
            ..s.clone()
        };
        plain(self) == plain(other)
    }
}

/// What kind of process, or of claim, a card stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CardKind {
    /// Runs attempts.
    Worker,
    /// Keeps the others running.
    Coordinator,
    /// Finds the dead.
    Monitor,
    /// Folds events into the status.
    Aggregator,
    /// A command that a person typed.
    Cli,
    /// A claim by a person, for a manual task.
    Human,
    /// A claim that keeps a task from running.
    Hold,
    /// A claim that ends a task as cancelled.
    Cancel,
}

/// A process's identity: `procs/W/card.K.json`; a claim is a hard link to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Version of the record.
    pub v: u32,
    /// The process id, never used again.
    pub wid: String,
    /// Number of the card: a new one after 30,000 links.
    #[serde(default)]
    pub card: u32,
    /// What it stands for.
    pub kind: CardKind,
    /// The machine's name, for people.
    #[serde(default)]
    pub host: String,
    /// The machine.
    #[serde(default)]
    pub host_id: String,
    /// Its boot.
    #[serde(default)]
    pub boot: String,
    /// The pid namespace.
    #[serde(default)]
    pub pidns: u64,
    /// The process, in that namespace.
    #[serde(default)]
    pub pid: i32,
    /// When it started, in clock ticks after boot.
    #[serde(default)]
    pub start: u64,
    /// The mark in the environment of all that it starts.
    #[serde(default)]
    pub mark: String,
    /// What the kernel calls its session, if it is a worker.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session: String,
    /// The control group that it has of its own, or may come to have.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cgroup: String,
    /// Roles it serves; all where empty.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Labels it offers.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Milliseconds without a heartbeat after which a claim may be taken away; 0 = never.
    #[serde(default)]
    pub lease_ms: u64,
    /// Its place among the workers of a run of `coord run`; 0: it is none of these.
    #[serde(default, skip_serializing_if = "is_default")]
    pub place: u32,
    /// The process that runs the run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub front: String,
    /// Of one that has registered again while it worked: the name in which it has claimed what it runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub former: String,
    /// The user.
    #[serde(default)]
    pub uid: u32,
    /// The identity of the queue's directory as the process opened it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub queue: String,
    /// The path by which it opened that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dir: String,
    /// Version of the program.
    #[serde(default)]
    pub ver: String,
    /// When it was made (RFC 3339).
    #[serde(default)]
    pub at: String,
}

impl Card {
    /// Whether a claim of this name is this process's, by whatever name it claimed.
    pub fn is_called(&self, wid: &str) -> bool {
        self.wid == wid || (!wid.is_empty() && self.former == wid)
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It succeeded.
    Done,
    /// It failed.
    Fail,
    /// It was handed back.
    Release,
    /// Its worker died or stopped beating.
    Expired,
    /// It was cancelled.
    Cancel,
    /// The register cannot be read.
    Lost,
}

impl Verdict {
    /// The word that stands in the register.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Done => "done",
            Verdict::Fail => "fail",
            Verdict::Release => "release",
            Verdict::Expired => "expired",
            Verdict::Cancel => "cancel",
            Verdict::Lost => "lost",
        }
    }
}

/// Exit status of an attempt's command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExitStatus {
    /// Exit code, if it exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// What an attempt left behind: its git branch and more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// Branch of the attempt.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub branch: String,
    /// The commit at its tip.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub commit: String,
    /// The commit that it started from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub base: String,
    /// A worktree that was kept, because it holds what cannot be saved in the repository.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub worktree: String,
    /// The ref that holds what was not on the branch: uncommitted, or committed elsewhere.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wip: String,
    /// How many paths were not committed.
    #[serde(skip_serializing_if = "is_default")]
    pub uncommitted: u32,
    /// Where it is to be merged: the paths that it changed, as scopes have them and without shared ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// `result.json` of the attempt.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// How attempt n ended: the register `tasks/T/n.end`. What follows from it is decided inside, so
/// that all readers agree for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Version of the record.
    pub v: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// Whether attempt n+1 may be claimed.
    #[serde(default)]
    pub retry: bool,
    /// Attempts charged so far, this one included.
    #[serde(default)]
    pub charged: u32,
    /// Deaths by reboot so far.
    #[serde(default, skip_serializing_if = "is_default")]
    pub boots: u32,
    /// Attempt n+1 not before this time (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// Who wrote this.
    #[serde(default)]
    pub by: String,
    /// Who held the claim.
    #[serde(default)]
    pub holder: String,
    /// Why, in a few words for people: no program reads anything out of it.
    #[serde(default)]
    pub why: String,
    /// Of a cancel that followed from a dependency which failed or was cancelled: that dependency.
    /// When the dependency is reopened, so is this task.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// Exit status of the command.
    #[serde(default)]
    pub exit: ExitStatus,
    /// When the attempt started (RFC 3339).
    #[serde(default)]
    pub started: String,
    /// When it ended (RFC 3339).
    #[serde(default)]
    pub ended: String,
    /// What it left.
    #[serde(default)]
    pub result: Outcome,
    /// The last of its output, for the next attempt.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl End {
    /// An end with this verdict and nothing else.
    pub fn new(verdict: Verdict, retry: bool) -> End {
        End {
            v: 1,
            verdict,
            retry,
            charged: 0,
            boots: 0,
            not_before: None,
            by: String::new(),
            holder: String::new(),
            why: String::new(),
            because: String::new(),
            exit: ExitStatus::default(),
            started: String::new(),
            ended: String::new(),
            result: Outcome::default(),
            context: String::new(),
            more: Map::new(),
        }
    }

    /// Leaves out what would make the record too long to be read: it would mean `lost`, and what was
    /// done would be done once more. The result stays in the attempt's `n.out/`.
    #[must_use]
    pub fn fitting(mut self) -> End {
        if to_bytes(&self).len() >= RECORD_MAX {
            self.result.value = Value::Null;
            self.context.clear();
            self.why = self.why.chars().take(1000).collect();
            self.why.push_str(" (the rest is too long to be recorded)");
        }
        self
    }

    /// What an unreadable end register means, to everyone.
    pub fn lost() -> End {
        End { why: "the register cannot be read".to_owned(), ..End::new(Verdict::Lost, true) }
    }
}

/// A small register: who did it, when and why. Used for `n.cancel`, `n.reopen`, `procs/W/end`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// Version of the record.
    pub v: u32,
    /// Who.
    pub by: String,
    /// When (RFC 3339).
    pub at: String,
    /// Why, for people; of a reopen, what the next attempt should know.
    pub why: String,
    /// Of `procs/W/end`: how it is known that the process is over, one of the words of
    /// [`Death`](super::recover::Death). Empty where the process said so itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub death: String,
    /// Of a reopen: no further attempt, for ever.
    #[serde(skip_serializing_if = "is_default")]
    pub closed: bool,
}

impl Note {
    /// A note by `by`, made at `at`.
    pub fn new(by: &str, at: String, why: &str) -> Note {
        Note { v: 1, by: by.to_owned(), at, why: why.to_owned(), ..Note::default() }
    }
}
