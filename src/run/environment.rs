//! The environment of an attempt's command.
//!
//! The environment of `coord add` is not captured (it would carry secrets into files): a command
//! gets the worker's own, plus `[env]` of coord.toml, plus the task's `env`, plus `COORD_*`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::git::MISLEADING;
use crate::queue::claim::Lease;
use crate::queue::ids::short;
use crate::queue::procs::Proc;
use crate::queue::record::Spec;
use crate::sys::clock::rfc3339;

use super::site::Site;
use super::worktree::Workplace;

/// Variables of the worker that would mislead a command, beside those of git: by these an agent
/// program recognises that it runs inside another one.
const REMOVED: &[&str] =
    &["CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "NOTIFY_SOCKET", "COORD_STEP", "COORD_STEP_TRACE"];

/// What tests tell our own programs; a job must not see it.
pub fn of_tests() -> impl Iterator<Item = (String, String)> {
    let names = ["COORD_STEP", "COORD_STEP_TRACE"].into_iter();
    names.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
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

/// The first of a hundred ports that belong to the attempts of one worker. There are not more of
/// them than ports: the numbers begin again at 450.
pub fn port_base(index: u32) -> u32 {
    20_000 + 100 * (index % 450)
}

/// What does not depend on the attempt: this process's own, `[env]`, and the task's.
pub fn of_person(site: &Site, spec: &Spec) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .filter(|(k, _)| !REMOVED.contains(&k.as_str()) && !MISLEADING.contains(&k.as_str()))
        .collect();
    env.extend(site.config.env.clone());
    for (name, value) in &spec.env {
        env.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
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
) -> BTreeMap<String, String> {
    let mut env = of_person(site, &lease.spec);
    let mut set = |name: &str, value: String| {
        env.insert(name.to_owned(), value);
    };
    let path = |p: &PathBuf| p.to_string_lossy().into_owned();
    let (key, spec) = (&lease.key, &lease.spec);
    let worker = short(&me.wid).to_owned();
    set("COORD_DIR", path(&site.queue.layout.root().to_owned()));
    set("COORD_ROOT", path(&site.root));
    set("COORD_FORMAT", "1".to_owned());
    set("COORD_TASK_ID", key.task.clone());
    set("COORD_TASK_FILE", path(&site.queue.layout.task(&key.task).join("spec.json")));
    set("COORD_TITLE", spec.title.clone());
    set("COORD_ATTEMPT", key.n.to_string());
    set("COORD_ATTEMPTS_MAX", spec.max_attempts.to_string());
    set("COORD_TOKEN", token(me, lease));
    set("COORD_WORKER", worker.clone());
    set("COORD_ROLE", spec.role().to_owned());
    set("COORD_OUT", path(&files.out));
    set("COORD_WORKTREE", path(&place.dir));
    set("PWD", path(&place.dir));
    set("COORD_WORKER_INDEX", place.index.to_string());
    set("COORD_PORT_BASE", port_base(place.index).to_string());
    if let Some(tmp) = &place.tmp {
        set("TMPDIR", path(tmp));
    }
    if let Some(wave) = spec.wave {
        set("COORD_WAVE", wave.to_string());
    }
    if !place.branch.is_empty() {
        set("COORD_BRANCH", place.branch.clone());
        set("COORD_BASE", place.base.clone());
        let (name, email) = identity(site, &worker);
        set("GIT_AUTHOR_NAME", name.clone());
        set("GIT_COMMITTER_NAME", name);
        set("GIT_AUTHOR_EMAIL", email.clone());
        set("GIT_COMMITTER_EMAIL", email);
    }
    set("GIT_TERMINAL_PROMPT", "0".to_owned());
    set("GIT_EDITOR", "true".to_owned());
    for (name, file) in [
        ("COORD_PROMPT_FILE", &files.prompt),
        ("COORD_CONTEXT_FILE", &files.context),
        ("COORD_FAILURE_FILE", &files.failure),
    ] {
        if let Some(file) = file {
            set(name, path(file));
        }
    }
    if let Some(ms) = deadline_ms {
        set("COORD_DEADLINE", rfc3339(ms));
    }
    env
}

/// What all jobs of an array have in common; what is of one job is set when it starts.
pub fn of_array(site: &Site, me: &Proc, lease: &Lease) -> BTreeMap<String, String> {
    let (key, spec) = (&lease.key, &lease.spec);
    let mut env = of_person(site, spec);
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let worker = short(&me.wid).to_owned();
    let cwd = spec.array.as_ref().map(|array| site.root.join(&array.cwd)).unwrap_or_default();
    env.extend(
        [
            ("COORD_DIR", text(site.queue.layout.root())),
            ("COORD_ROOT", text(&site.root)),
            ("COORD_FORMAT", "1".to_owned()),
            ("COORD_TASK_ID", key.task.clone()),
            ("COORD_TASK_FILE", text(&site.queue.layout.task(&key.task).join("spec.json"))),
            ("COORD_TITLE", spec.title.clone()),
            ("COORD_WORKER", worker),
            ("COORD_ROLE", spec.role().to_owned()),
            ("PWD", text(&cwd)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    env
}

/// The fencing token of an attempt: `T.n@W`.
pub fn token(me: &Proc, lease: &Lease) -> String {
    format!("{}@{}", lease.key, me.wid)
}
