//! The situations in which programs are disturbed: a queue, a command on it, and what may and must
//! have become of each task when all is over.

use std::process::Child;

use crate::case::Case;

/// A task, and the states that it may end in.
pub struct Task {
    /// Its id.
    pub id: &'static str,
    /// What it must be when the command has said that it succeeded, and in the end when the command
    /// is given again until it does.
    pub acknowledged: &'static str,
    /// What it may be instead when the command was never acknowledged.
    pub otherwise: &'static [&'static str],
}

/// Something that is done to a case.
pub type Deed = fn(&Case);

/// What is looked at besides the tasks; told whether the command was acknowledged.
pub type Verify = fn(&Case, bool);

/// A situation.
pub struct Situation {
    /// For messages and for the coverage list.
    pub name: &'static str,
    /// Makes the queue; done once, then copied for each case.
    pub prepare: Deed,
    /// The commands that are disturbed in it, one a case. The first one also at every system call.
    pub acts: &'static [&'static [&'static str]],
    /// What runs beside the command, undisturbed; started before it.
    pub beside: Option<fn(&Case) -> Child>,
    /// What lets go of that when the command has ended.
    pub afterwards: Deed,
    /// The step at which the command stops, and what is done meanwhile.
    pub stop: Option<(&'static str, Deed)>,
    /// When a program that runs for ever has done what it is there for, if that is not when it waits.
    pub until: Option<fn(&Case) -> bool>,
    /// The tasks.
    pub tasks: &'static [Task],
    /// What else must hold.
    pub verify: Option<Verify>,
}

pub const WORK: &[&str] = &["coord", "work", "--until-empty"];
pub const WORKER: &[&str] = &["coord-worker", "--until-empty"];
pub const MONITOR: &[&str] = &["coord-monitor"];
pub const AGGREGATOR: &[&str] = &["coord-aggregator"];
pub const COORDINATOR: &[&str] = &["coord-coordinator"];

pub const WORKERS: &[&[&str]] = &[WORK, WORKER, COORDINATOR];
pub const KEEPERS: &[&[&str]] = &[WORK, WORKER, MONITOR, COORDINATOR];
pub const ALL: &[&[&str]] = &[WORK, WORKER, MONITOR, AGGREGATOR, COORDINATOR];

pub const PLAIN: Situation = Situation {
    name: "plain",
    prepare: queue,
    acts: &[WORK],
    beside: None,
    afterwards: |_| (),
    stop: None,
    until: None,
    tasks: &[],
    verify: None,
};

/// Done, whatever happens.
pub const fn done(id: &'static str) -> Task {
    Task { id, acknowledged: "done", otherwise: &[] }
}

pub const fn cancelled(id: &'static str) -> Task {
    Task { id, acknowledged: "cancelled", otherwise: &[] }
}

pub const fn or(
    id: &'static str,
    acknowledged: &'static str,
    otherwise: &'static [&'static str],
) -> Task {
    Task { id, acknowledged, otherwise }
}

/// An empty queue with short waits.
pub fn queue(c: &Case) {
    c.init();
    configure(c, "");
}

pub fn configure(c: &Case, more: &str) {
    let text = format!(
        "version = 1\n[workers]\ngrace = \"1s\"\ncount = 1\n[retry]\nbackoff = \"10ms\"\n\
         [worktree]\nisolation = \"none\"\n{more}"
    );
    std::fs::write(c.root.join("coord.toml"), text).unwrap();
}

/// A file that lies in incoming/ long enough not to be written any more.
pub fn incoming(c: &Case, name: &str, text: &str) {
    let file = c.dir().join(name);
    std::fs::write(&file, text).unwrap();
    if let Some(users) = c.users {
        std::os::unix::fs::chown(&file, Some(users.who.uid), None).unwrap();
    }
    c.sh(&format!("touch -d '1 hour ago' {0} && mv {0} .coord/incoming/", file.display()));
}

/// The job of tasks that are added as part of a command under test.
pub const JOB: &str = "umask 0; echo start $COORD_ATTEMPT >>wit/$COORD_TASK_ID; echo end $COORD_ATTEMPT >>wit/$COORD_TASK_ID";
