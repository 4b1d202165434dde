//! Starting an attempt's command, following it, and ending its whole tree.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::error::{Cannot, Error, Exit, Result};
use crate::queue::Queue;
use crate::queue::claim::Lease;
use crate::queue::leftovers;
use crate::queue::procs::Proc;
use crate::queue::record::{End, Spec, Verdict, duration};
use crate::step;
use crate::sys::child;
use crate::sys::fs::{Kind, Stat};
use crate::sys::remains::Session;
use crate::sys::spawn::{Command, Environment, Variables, will_pass};
use crate::sys::tool::Meanwhile;

use super::base;
use super::context;
use super::environment::{self, Files};
use super::outcome::{self, Stopped};
use super::pausing::{Help, put_off};
use super::pool::Slot;
use super::rescue;
use super::site::Site;
use super::turn;
use super::vigil::Vigil;
use super::worktree::{self, Workplace};

/// The least time for git before and after a command, whatever the limit of the attempt.
const GIT_LEAST_MS: u64 = 5000;

/// A running attempt.
#[derive(Debug)]
pub struct Attempt {
    /// The claim that it runs under.
    pub lease: Lease,
    /// The session's leader.
    pub pid: i32,
    /// The session, as it was noted.
    pub session: Session,
    /// Where it runs.
    pub place: Workplace,
    /// When its time limit is over, by the monotonic clock.
    pub deadline_ms: Option<u64>,
    /// Why it was asked to end, and when it is killed, by the monotonic clock.
    pub stopped: Option<(Stopped, u64)>,
    /// How its leader ended, once it has.
    pub exit: Option<child::Exit>,
}

/// The agent whose command a task without a command of its own runs, perhaps the empty name; `None`: it
/// has a command, or a person does it.
pub fn agent_of<'a>(config: &'a Config, spec: &'a Spec) -> Option<&'a str> {
    let own = !spec.argv.is_empty() || !spec.sh.is_empty() || spec.array.is_some();
    if own || spec.manual || turn::is_lane(spec) {
        return None;
    }
    Some(if spec.agent.is_empty() { &config.workers.agent } else { &spec.agent })
}

/// The command of a task; `None` if it has none and no agent is configured.
pub fn command(site: &Site, spec: &Spec) -> Option<Vec<String>> {
    if turn::is_lane(spec) {
        return turn::command(site, spec);
    }
    if !spec.argv.is_empty() {
        return Some(spec.argv.clone());
    }
    if !spec.sh.is_empty() {
        return Some(vec!["sh".to_owned(), "-c".to_owned(), spec.sh.clone()]);
    }
    let agent = agent_of(&site.config, spec)?;
    site.config.agents.get(agent).map(|agent| agent.command.clone())
}

/// Starts the command of a claimed task. The inner error is a verdict: the attempt failed, or was
/// stopped, before its command could run. Git is ended when `handed_back` says so.
///
/// # Errors
/// What is no fault of the task: a full disk, a pool of worktrees in which this user may not write, or a
/// repository that has become such that no attempt can have a worktree of it.
pub fn start(
    site: &Site,
    me: &Proc,
    lease: Lease,
    slot: &mut Option<Slot>,
    handed_back: &dyn Fn() -> bool,
) -> Result<std::result::Result<Attempt, (Lease, End)>> {
    // What runs is started by paths: they must be those of this queue.
    site.queue.must_be_in_place()?;
    let out = site.queue.layout.out(&lease.key);
    step!("run.out");
    match site.queue.fs.mkdir(&out) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(e).cannot("make the output directory", &out);
        }
        _ => {}
    }
    let log = out.join("log");
    let output = site.queue.open_output(&log).cannot("open the log", &log)?;
    if let Some(e) = base::missing(site, &lease.spec)? {
        // The task has no part in that: its attempts are for when the branch is there again.
        let end = End { why: describe(&e), ..End::new(Verdict::Release, true) };
        let help = Help::Needed(e.hint.as_deref().unwrap_or_default());
        let end = put_off(site, &lease, end, help);
        return Ok(Err((lease, end)));
    }
    let limit_ms = git_limit_ms(site, &lease.spec);
    let vigil = Vigil::new(&site.queue, me, &lease.key, limit_ms, handed_back);
    let prepared = prepare(site, me, &lease, slot, &out, &|waits| vigil.go_on(waits));
    let stopped = vigil.stopped();
    drop(vigil);
    let prepared = match prepared {
        // Nothing of the task had a part in that.
        Err(e) if e.is_of_surroundings() => return Err(refused(site, &log, e)),
        other => other,
    };
    let is_noted = Cell::new(true);
    let spawned = prepared.and_then(|(argv, env, place)| {
        let cwd = place.dir.join(&lease.spec.cwd);
        // The kernel says the same of a program and of a directory that is not there.
        let is_dir = |stat: Stat| stat.kind == Kind::Dir;
        if !lease.spec.cwd.is_empty() && !site.queue.fs.stat(&cwd).is_ok_and(is_dir) {
            let what =
                format!("its cwd `{}` is no directory in {}", lease.spec.cwd, place.dir.display());
            return Err(Error::new(Exit::Usage, what).hint("make or commit it, then: coord retry"));
        }
        let program = argv.first().map_or("", String::as_str).to_owned();
        let argv: Vec<OsString> = argv.into_iter().map(OsString::from).collect();
        let spawned = Environment::new(&env).and_then(|env| {
            step!("run.spawn");
            site.queue.host.hold(&Command::new(&argv, &env, &cwd, &output))
        });
        let spawned = match spawned {
            Ok(held) => {
                let session = held.session.clone();
                // Before anything of the command runs: who finds this worker dead finds that, too.
                let noted = leftovers::note(&site.queue, me, &lease.key, &session);
                is_noted.set(noted.is_ok());
                noted?;
                step!("run.go");
                let gone = site.queue.host.let_go(held).map(|()| session);
                if gone.is_err() {
                    let forgotten = leftovers::forget(&site.queue, me, &lease.key);
                    is_noted.set(forgotten.is_ok());
                    forgotten?;
                }
                gone
            }
            Err(e) => Err(e),
        };
        match spawned {
            Ok(session) => Ok((session, place)),
            Err(cause) => Err(Error {
                exit: Exit::Environment,
                message: format!("cannot start `{program}`"),
                cause: Some(cause),
                at: Some(cwd),
                hint: None,
            }),
        }
    });
    match spawned {
        Ok((session, place)) => {
            let pid = session.leader.pid;
            let now_ms = site.queue.clock.mono_ms();
            let deadline_ms = limit(site, &lease.spec).map(|limit| now_ms + as_ms(limit));
            Ok(Ok(Attempt { lease, pid, session, place, deadline_ms, stopped: None, exit: None }))
        }
        // Not its fault: it is handed back, and tried later.
        Err(e) if !is_noted.get() || e.cause.as_ref().is_some_and(will_pass) => Err(e),
        Err(e) => {
            if let Some(refusal) = site.refusal_now() {
                return Err(refused(site, &log, refusal));
            }
            let why = describe(&e);
            // For whoever reads the log; the register has it too.
            drop(site.queue.fs.append(&log, format!("coord: {why}\n").as_bytes()));
            let end = match stopped.filter(|_| e.exit == Exit::Timeout) {
                Some(stopped) => outcome::cut_short(site, &lease, stopped, &e.message),
                // What the task itself says wrongly is wrong the next time, too.
                None => outcome::failed(site, &lease, e.exit == Exit::Usage, &why),
            };
            Ok(Err((lease, end)))
        }
    }
}

/// Why an attempt is handed back, for whoever reads its log.
fn refused(site: &Site, log: &Path, error: Error) -> Error {
    drop(site.queue.fs.append(log, format!("coord: {}\n", error.one_line()).as_bytes()));
    error
}

fn describe(error: &Error) -> String {
    let hint = error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    match &error.cause {
        Some(cause) => format!("{}: {cause}{hint}", error.message),
        None => format!("{}{hint}", error.message),
    }
}

/// Whole milliseconds of a duration.
pub fn as_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long git may be at work before and after the command of an attempt, in milliseconds: as long as
/// the command itself, but not so short that a busy machine makes no worktree.
pub fn git_limit_ms(site: &Site, spec: &Spec) -> Option<u64> {
    limit(site, spec).map(|limit| as_ms(limit).max(GIT_LEAST_MS))
}

fn limit(site: &Site, spec: &Spec) -> Option<Duration> {
    let usual = site.config.limits.timeout_ms.map(Duration::from_millis);
    turn::limit(spec, duration(spec.time_limit_s).or(usual))
}

type Prepared = (Vec<String>, Variables, Workplace);

/// Everything that the command needs to find when it starts.
fn prepare(
    site: &Site,
    me: &Proc,
    lease: &Lease,
    slot: &mut Option<Slot>,
    out: &Path,
    beat: &Meanwhile<'_>,
) -> Result<Prepared> {
    let template = command(site, &lease.spec).ok_or_else(|| {
        Error::new(Exit::Usage, "the task has no command and coord.toml names no agent")
    })?;
    if turn::is_lane(&lease.spec) {
        let place = Workplace { dir: site.root.clone(), ..Workplace::default() };
        let files = Files { out: out.to_owned(), ..Files::default() };
        let mut env = environment::build(site, me, lease, &place, &files, None);
        // One of our own programs: tests crash it like the others.
        env.extend(environment::of_tests());
        return Ok((template, env, place));
    }
    rescue::earlier(site, me, lease, beat)?;
    let place = worktree::prepare(site, me, lease, slot, beat)?;
    let write = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = out.join(name);
        site.queue.fs.create(&path, bytes, 0o644).cannot("write a file for the attempt", &path)?;
        Ok(path)
    };
    let mut files = Files { out: out.to_owned(), ..Files::default() };
    if !place.branch.is_empty() {
        write("workplace.json", &serde_json::to_vec_pretty(&place).unwrap_or_default())?;
    }
    let spec = &lease.spec;
    if lease.key.n > 1 || !spec.after.is_empty() || !spec.prompt.is_empty() {
        let brief = context::build(site, &lease.task, lease.key.n)?;
        let json = serde_json::to_vec_pretty(&brief).unwrap_or_default();
        files.context = Some(write("context.json", &json)?);
        if !brief.previous.is_empty() {
            let text = context::to_text(&brief);
            files.failure = Some(write("failure.txt", text.as_bytes())?);
        }
    }
    if !spec.prompt.is_empty() {
        files.prompt = Some(write("prompt.md", spec.prompt.as_bytes())?);
    }
    let deadline_ms = limit(site, spec).map(|l| site.queue.clock.wall_ms() + as_ms(l));
    let env = environment::build(site, me, lease, &place, &files, deadline_ms);
    let own = spec.argv.is_empty() && spec.sh.is_empty();
    let argv = if own { expand(site, lease, &place, &files, &template)? } else { template };
    Ok((with_setup(site, &place, argv), env, place))
}

/// Runs `[worktree] setup` before a command. As a part of it, so that limits, log and cancel hold
/// for both.
const SETUP: &str = "(cd \"$COORD_WORKTREE\" && exec sh -c \"$1\")
code=$?
if [ $code -ne 0 ]; then
    echo $code > \"$COORD_OUT/setup-failed\"
    exit $code
fi
shift
exec \"$@\"";

fn with_setup(site: &Site, place: &Workplace, argv: Vec<String>) -> Vec<String> {
    let setup = &site.config.worktree.setup;
    if setup.is_empty() || place.branch.is_empty() {
        return argv;
    }
    let before = ["sh", "-c", SETUP, "setup", setup].map(str::to_owned);
    before.into_iter().chain(argv).collect()
}

/// Fills in the placeholders of an agent's command.
fn expand(
    site: &Site,
    lease: &Lease,
    place: &Workplace,
    files: &Files,
    template: &[String],
) -> Result<Vec<String>> {
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let prompt = if lease.spec.prompt.is_empty() { &lease.spec.title } else { &lease.spec.prompt };
    let mut values = BTreeMap::new();
    values.insert("prompt", prompt.clone());
    values.insert("prompt_file", files.prompt.as_deref().map(text).unwrap_or_default());
    values.insert("id", lease.key.task.clone());
    values.insert("title", lease.spec.title.clone());
    values.insert("attempt", lease.key.n.to_string());
    values.insert("worktree", text(&place.dir));
    values.insert("branch", place.branch.clone());
    values.insert("base", place.base.clone());
    values.insert("out", text(&files.out));
    values.insert("dir", text(site.queue.layout.root()));
    crate::config::expand(template, &values)
}

impl Attempt {
    /// Asks the command to end; it is killed after the grace time.
    pub fn stop(&mut self, queue: &Queue, why: Stopped, grace_ms: u64) {
        if self.stopped.is_none() {
            queue.host.ask_to_end(self.pid);
            self.stopped = Some((why, queue.clock.mono_ms() + grace_ms));
        }
    }

    /// When the worker must look at it again by itself.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        match self.stopped {
            Some((_, kill_at_ms)) => Some(kill_at_ms),
            None => self.deadline_ms,
        }
    }
}
