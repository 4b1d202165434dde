//! The environment of an attempt's command.
//!
//! The environment of `coord add` is not captured (it would carry secrets into files): a command
//! gets the worker's own, plus `[env]` of coord.toml, plus the task's `env`, plus `COORD_*`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::git::MISLEADING;
use crate::queue::claim::Lease;
use crate::queue::ids::short;
use crate::queue::procs::Proc;
use crate::queue::record::{Array, Spec};
use crate::sys::alive::MARK;
use crate::sys::clock::rfc3339;
use crate::sys::escaped::unescape_path;
use crate::sys::owner;
use crate::sys::spawn::Variables;

use super::furnish::tell_git;
use super::ports;
use super::site::Site;
use super::worktree::Workplace;

/// Variables of the worker that would mislead a command, beside those of git: by these an agent
/// program recognises that it runs inside another one.
const REMOVED: &[&str] =
    &["CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "NOTIFY_SOCKET", "COORD_STEP", "COORD_STEP_TRACE"];

/// The queue of the run that a job belongs to; a run that the job starts is kept below it.
pub const OF_RUN: &str = "COORD_RUN_DIR";

/// What tests tell our own programs; a job must not see it.
pub fn of_tests() -> impl Iterator<Item = (OsString, OsString)> {
    let names = ["COORD_STEP", "COORD_STEP_TRACE"].into_iter();
    names.filter_map(|name| Some((name.into(), std::env::var_os(name)?)))
}

/// Files of an attempt that its environment names.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// `n.out`.
    pub out: PathBuf,
    /// The prompt, if the task has one.
    pub prompt: Option<PathBuf>,
    /// The context as JSON.
    pub context: Option<PathBuf>,
    /// Why the attempt before failed, as text.
    pub failure: Option<PathBuf>,
}

/// Name and mail address that a worker commits with.
pub fn identity(site: &Site, worker: &str) -> (String, String) {
    let fill = |text: &str| text.replace("{worker}", worker);
    (fill(&site.config.git.identity_name), fill(&site.config.git.identity_email))
}

/// What does not depend on the attempt: this process's own, `[env]`, and the task's.
pub fn of_person(site: &Site, spec: &Spec) -> Variables {
    let ours = ["COORD_DIR", "COORD_ROOT", OF_RUN];
    let misleads =
        |name: &OsStr| REMOVED.iter().chain(&MISLEADING).chain(&ours).any(|bad| name == *bad);
    let mut env: Variables = owner::variables();
    env.retain(|name, _| !misleads(name));
    env.extend(site.config.env.iter().map(|(name, value)| (name.into(), value.into())));
    for (name, value) in &spec.env {
        env.insert(name.into(), value.as_str().unwrap_or_default().into());
    }
    env
}

/// The whole environment.
pub fn build(
    site: &Site,
    me: &Proc,
    lease: &Lease,
    place: &Workplace,
    files: &Files,
    deadline_ms: Option<u64>,
) -> Variables {
    let mut env = of_person(site, &lease.spec);
    let mut set = |name: &str, value: &dyn AsRef<OsStr>| {
        env.insert(name.into(), value.as_ref().to_owned());
    };
    let (key, spec) = (&lease.key, &lease.spec);
    let worker = short(&me.wid).to_owned();
    set("COORD_DIR", &site.queue.layout.root());
    set("COORD_ROOT", &site.root);
    set("COORD_FORMAT", &"1");
    set("COORD_TASK_ID", &key.task);
    set("COORD_TASK_FILE", &site.queue.layout.task(&key.task).join("spec.json"));
    set("COORD_TITLE", &spec.title);
    set("COORD_ATTEMPT", &key.n.to_string());
    set("COORD_ATTEMPTS_MAX", &spec.max_attempts.to_string());
    set("COORD_TOKEN", &token(me, lease));
    set("COORD_WORKER", &worker);
    set("COORD_ROLE", &spec.role());
    set("COORD_OUT", &files.out);
    set("COORD_WORKTREE", &place.dir);
    set("PWD", &place.dir);
    set("COORD_WORKER_INDEX", &place.index.to_string());
    set("COORD_PORT_BASE", &ports::base(place.ports_from + place.index).to_string());
    let own = site.config.env.contains_key("TMPDIR") || spec.env.contains_key("TMPDIR");
    if let Some(tmp) = place.tmp.as_ref().filter(|_| !own) {
        set("TMPDIR", tmp);
    }
    if let Some(wave) = spec.wave {
        set("COORD_WAVE", &wave.to_string());
    }
    if !place.branch.is_empty() {
        set("COORD_BRANCH", &place.branch);
        set("COORD_BASE", &place.base);
        let (name, email) = identity(site, &worker);
        set("GIT_AUTHOR_NAME", &name);
        set("GIT_COMMITTER_NAME", &name);
        set("GIT_AUTHOR_EMAIL", &email);
        set("GIT_COMMITTER_EMAIL", &email);
    }
    if let Some(of) = place.reapplied.as_ref().filter(|of| of.refused.is_empty()) {
        set("COORD_REAPPLIED", &of.attempt.to_string());
        set("COORD_CONFLICTS", &of.conflicts.join("\n"));
    }
    set("GIT_TERMINAL_PROMPT", &"0");
    set("GIT_EDITOR", &"true");
    for (name, file) in [
        ("COORD_PROMPT_FILE", &files.prompt),
        ("COORD_CONTEXT_FILE", &files.context),
        ("COORD_FAILURE_FILE", &files.failure),
    ] {
        if let Some(file) = file {
            set(name, file);
        }
    }
    if let Some(ms) = deadline_ms {
        set("COORD_DEADLINE", &rfc3339(ms));
    }
    tell_git(&mut env, &place.settings);
    env
}

/// What all jobs of an array have in common; what is of one job is set when it starts.
pub fn of_array(site: &Site, me: &Proc, lease: &Lease) -> Variables {
    let (key, spec) = (&lease.key, &lease.spec);
    let mut env = of_person(site, spec);
    let mut set = |name: &str, value: &dyn AsRef<OsStr>| {
        env.insert(name.into(), value.as_ref().to_owned());
    };
    // A run has a queue of its own; what its jobs add belongs to the project.
    let project = spec.array.as_ref().and_then(|array| array.queue.as_deref()).map(unescape_path);
    let dir = project.as_deref().unwrap_or(site.queue.layout.root());
    if !dir.as_os_str().is_empty() {
        set("COORD_DIR", &dir);
        set("COORD_ROOT", &dir.parent().unwrap_or(dir));
    }
    let keeps = spec.keeps_children();
    // What is kept outlives the run: a run that it starts later does not belong to this one.
    if project.is_some() && !keeps {
        set(OF_RUN, &site.queue.layout.root());
    }
    set("COORD_FORMAT", &"1");
    set("COORD_TASK_ID", &key.task);
    set("COORD_TASK_FILE", &site.queue.layout.task(&key.task).join("spec.json"));
    set("COORD_TITLE", &spec.title);
    set("COORD_WORKER", &short(&me.wid));
    set("COORD_ROLE", &spec.role());
    if let Some(array) = &spec.array {
        set("PWD", &directory(site, array));
    }
    if keeps {
        // By this mark everything is ended that a dead worker has left. A job is found by its token.
        env.remove(OsStr::new(MARK));
    }
    env
}

/// The directory that the jobs of an array run in.
pub fn directory(site: &Site, array: &Array) -> PathBuf {
    site.root.join(unescape_path(&array.cwd))
}

/// The fencing token of an attempt: `T.n@W`.
pub fn token(me: &Proc, lease: &Lease) -> String {
    format!("{}@{}", lease.key, me.wid)
}
