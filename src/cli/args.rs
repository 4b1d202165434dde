//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod chaos;
mod cleaning;
mod deciding;
mod merging;
mod running;
mod serving;
mod worktrees;

pub use chaos::{Chaos, ChaosHider};
pub use cleaning::{Gc, WorktreeGc};
pub use deciding::Dismiss;
pub use merging::{Merge, Mergeq};
pub use running::{Jobs, Map, Run, Sem};
pub use serving::{Scale, Start, Stop, Work};
pub use worktrees::{Attempt, Diff, WorktreeVerb};

/// Many cooperating processes on one pile of work, where the pile is a directory.
#[derive(Debug, Parser)]
#[command(name = "coord", version, max_term_width = 100)]
pub struct Cli {
    /// The queue directory, or the project that has one [default: $COORD_DIR, else the nearest
    /// ancestor with a .coord/]
    #[arg(short = 'C', long, global = true, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// One JSON document on standard output (a line each where it goes on)
    #[arg(long, global = true)]
    pub json: bool,
    /// Print ids only; of a run, say nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more about what happens (-vv: even more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do [default: status]
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// The verbs. Deferred: only the arguments of the one that was given are put together.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Verb {
    /// Make a queue here: .coord/ and coord.toml
    Init(Init),
    /// Add a task; prints its id
    Add(Box<Add>),
    /// Add the tasks of a Markdown checklist or a JSONL file
    Import(Import),
    /// Run a command for each line of a list, here and now; the same command again goes on with it
    Run(Box<Run>),
    /// List the runs of `coord run` that are kept, and where
    Runs,
    /// Put a list into the queue: one task, of which workers run a command for each line
    Map(Box<Map>),
    /// The summary: what needs you, what runs, what is next
    Status(Status),
    /// Take rows off NEEDS YOU, or notes; nothing of a task changes
    Dismiss(Dismiss),
    /// List tasks: their states, who has them, what they wait for
    #[command(visible_alias = "queue")]
    Ls(Ls),
    /// Everything about one task
    Show(One),
    /// Why a task is where it is, and what has to happen next
    Why(One),
    /// The programs at work
    #[command(visible_alias = "ps")]
    Workers,
    /// What a task printed
    #[command(visible_alias = "tail")]
    Logs(Logs),
    /// What happened
    Events(Events),
    /// Wait until tasks are over
    Wait(Wait),
    /// Cancel tasks: asks a running one to stop
    Cancel(Cancel),
    /// Keep tasks from being claimed
    Hold(Select),
    /// Give held tasks free again
    Release(Select),
    /// Run failed or cancelled tasks once more
    Retry(Retry),
    /// Say that a manual task is done (inside a job: leave a handoff or a result)
    Done(Done),
    /// Say that a manual task failed (inside a job: that this attempt did)
    Fail(Fail),
    /// Start workers, a monitor and an aggregator, and keep them running
    Start(Start),
    /// Stop them: after what runs now, or at once
    Stop(Stop),
    /// Change the number of workers
    Scale(Scale),
    /// No new claims until `coord resume`
    Pause,
    /// Go on after `coord pause`, `coord stop` or a drain
    Resume,
    /// One worker in this terminal; needs nothing else
    Work(Work),
    /// The brief of a task: what it comes after, and why earlier attempts failed
    Context(Maybe),
    /// Report how far a job is
    Progress(Progress),
    /// The worktrees that attempts run in
    #[command(subcommand)]
    Worktree(WorktreeVerb),
    /// What an attempt changed
    Diff(Diff),
    /// Switch the worktree here to an attempt's branch
    Checkout(Attempt),
    /// A shell in an attempt's worktree
    Shell(Attempt),
    /// Merge what is done and waits for it, here and now; workers do it by themselves
    Merge(Merge),
    /// What waits to be merged, in its order
    #[command(subcommand)]
    Mergeq(Mergeq),
    /// Archive what is done, and remove what nobody needs (worktrees: coord worktree gc)
    Gc(Gc),
    /// Check every invariant of the queue
    Fsck(Fsck),
    /// GNU parallel's semaphore: says how to do that with coord
    #[command(hide = true)]
    Sem(Sem),
    /// Check this machine
    Doctor,
    /// Kill everything again and again on a queue of throw-away tasks, and count what was lost
    Chaos(Chaos),
    /// What a job of `coord chaos --hiding` leaves behind
    #[command(hide = true)]
    ChaosHider(ChaosHider),
}

/// `coord init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The command that runs tasks which have none of their own: an agent of coord.toml, or a command
    #[arg(long, value_name = "NAME|CMD")]
    pub agent: Option<String>,
    /// Number of workers that `coord start` starts
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// Do not use git worktrees, even in a repository
    #[arg(long)]
    pub no_git: bool,
    /// Make a copied queue one of its own: what the programs of the original held in it is handed back
    #[arg(long, conflicts_with_all = ["agent", "workers", "no_git"])]
    pub adopt: bool,
}

/// `coord add`.
#[derive(Debug, Args)]
pub struct Add {
    /// A line for people
    pub title: Option<String>,
    /// Its id [default: the next number]; adding the same task twice is adding it once
    #[arg(long)]
    pub id: Option<String>,
    /// 0 to 99, smaller first [default: 50]
    #[arg(short, long, value_name = "0-99")]
    pub priority: Option<u8>,
    /// Only after these tasks are done (ID, or ID@pass: as soon as an attempt succeeded)
    #[arg(short, long, value_delimiter = ',', value_name = "ID")]
    pub after: Vec<String>,
    /// What to do when one of them fails: block, cancel, run
    #[arg(long, default_value = "block", value_parser = ["block", "cancel", "run"], value_name = "WHAT")]
    pub on_dep_dead: String,
    /// Wave that it belongs to
    #[arg(long, value_name = "N")]
    pub wave: Option<u32>,
    /// Kind of worker that it wants
    #[arg(long)]
    pub role: Option<String>,
    /// Label to select by (repeatable)
    #[arg(short, long)]
    pub label: Vec<String>,
    /// Label that a worker must offer to run it (repeatable)
    #[arg(long, value_name = "LABEL")]
    pub needs: Vec<String>,
    /// Path that no other running task may change: a file, or a directory with all below (repeatable)
    #[arg(long, value_name = "PATH")]
    pub scope: Vec<String>,
    /// Merge it when it is done (the default where coord.toml enables merging)
    #[arg(long, overrides_with = "no_merge")]
    pub merge: bool,
    /// Do not merge it
    #[arg(long, overrides_with = "merge")]
    pub no_merge: bool,
    /// The branch that it is merged into [default: into in coord.toml, else what is checked out now]
    #[arg(long, value_name = "BRANCH")]
    pub into: Option<String>,
    /// Merge it only after these are merged (ID, repeatable)
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub merge_after: Vec<String>,
    /// It changes what all depend on (a lock file): merge it last of its wave
    #[arg(long)]
    pub adds_deps: bool,
    /// Text for the agent; @FILE reads a file, - standard input
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Agent of coord.toml that runs it
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// A person does it
    #[arg(long)]
    pub manual: bool,
    /// Do not let it be claimed before `coord release`
    #[arg(long)]
    pub hold: bool,
    /// How often it is tried, the first time included [default: 3, or attempts in coord.toml]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempts: Option<u32>,
    /// The same without the first time
    #[arg(long, hide = true, value_name = "N", conflicts_with = "attempts")]
    pub retries: Option<u32>,
    /// Rest after the first failure, doubled after each further one [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub backoff: Option<String>,
    /// The longest that an attempt may run
    #[arg(long, alias = "limit", value_name = "DURATION")]
    pub timeout: Option<String>,
    /// Not before this time: RFC 3339, or a duration from now
    #[arg(long, value_name = "WHEN")]
    pub not_before: Option<String>,
    /// Environment for it, NAME=VALUE (repeatable)
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Directory below the project that it runs in
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// A line for `sh -c`
    #[arg(long, value_name = "LINE")]
    pub sh: Option<String>,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub argv: Vec<String>,
}

/// `coord import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Files: .md (a checklist, also as spec-kit, Kiro and OpenSpec write them), .json or .jsonl (tasks as
    /// in incoming/). Of a checklist, what was imported before is not added again
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Only say what would be added
    #[arg(long)]
    pub dry_run: bool,
}

/// `coord status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Print only the number of tasks in this state
    #[arg(long, value_name = "STATE")]
    pub count: Option<String>,
}

/// `coord ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Which: ids, 3-7, last, all, @failed, wave:2, role:R, label:L, worker:W
    pub select: Vec<String>,
    /// Leave these out
    #[arg(short = 'x', long, value_name = "SEL")]
    pub exclude: Vec<String>,
    /// Only this state
    #[arg(long)]
    pub state: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// One task.
#[derive(Debug, Args)]
pub struct One {
    /// The task
    pub id: String,
}

/// One task, or the one whose job this is.
#[derive(Debug, Args)]
pub struct Maybe {
    /// The task [default: $COORD_TASK_ID]
    pub id: Option<String>,
}

/// `coord logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The task, or ID@N for attempt N; of an array ID/JOB or ID/JOB@N [default: $COORD_TASK_ID]
    pub id: Option<String>,
    /// Only this job of an array
    #[arg(long, value_name = "N")]
    pub job: Option<u64>,
    /// Go on as it comes, also over retries, until the task is over
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,
}

/// `coord events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Only of these tasks
    pub select: Vec<String>,
    /// Go on as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Only those of the last DURATION
    #[arg(long, value_name = "DURATION")]
    pub since: Option<String>,
}

/// `coord wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// Which tasks [default: all]
    pub select: Vec<String>,
    /// Give up after this time (exit 124)
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
}

/// A selection of tasks.
#[derive(Debug, Args)]
pub struct Select {
    /// Which: ids, 3-7, last, all, @failed, wave:2, role:R, label:L, worker:W
    #[arg(required = true)]
    pub select: Vec<String>,
    /// Leave these out
    #[arg(short = 'x', long, value_name = "SEL")]
    pub exclude: Vec<String>,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// `coord cancel`.
#[derive(Debug, Args)]
pub struct Cancel {
    /// Which ones
    #[command(flatten)]
    pub tasks: Select,
    /// End running ones at once instead of asking
    #[arg(long)]
    pub force: bool,
    /// Why
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// `coord retry`.
#[derive(Debug, Args)]
pub struct Retry {
    /// Which ones
    #[command(flatten)]
    pub tasks: Select,
    /// What the next attempt should know
    #[arg(long, default_value = "")]
    pub note: String,
}

/// `coord done`.
#[derive(Debug, Args)]
pub struct Done {
    /// The task [default: $COORD_TASK_ID]
    pub id: Option<String>,
    /// A word about it
    #[arg(long, default_value = "")]
    pub note: String,
    /// Note for the tasks that come after: a file, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub handoff: Option<String>,
    /// Result as JSON
    #[arg(long, value_name = "JSON")]
    pub result: Option<String>,
}

/// `coord fail`.
#[derive(Debug, Args)]
pub struct Fail {
    /// The task [default: $COORD_TASK_ID]
    pub id: Option<String>,
    /// Why
    #[arg(long)]
    pub reason: String,
    /// No further attempt
    #[arg(long)]
    pub permanent: bool,
}

/// `coord progress`.
#[derive(Debug, Args)]
pub struct Progress {
    /// Percent, or words
    #[arg(required = true)]
    pub words: Vec<String>,
}

/// `coord fsck`.
#[derive(Debug, Args)]
pub struct Fsck {
    /// Leftovers that recovery would remove count as findings too
    #[arg(long)]
    pub strict: bool,
    /// Rebuild hints, finish what the dead left
    #[arg(long)]
    pub repair: bool,
}
