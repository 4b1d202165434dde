//! `start`, `stop`, `scale`, `pause`, `resume`, `work`: running the programs.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::error::{Cannot, Error, Exit, Result};
use crate::program::start::{ensure_marked, work as run_worker};
use crate::program::worker::{Left, Options, claiming, exit_of};
use crate::program::{coordinator, fleet};
use crate::queue::control::{self, Wanted};
use crate::queue::events::{self, Event};
use crate::queue::ids::is_role;
use crate::queue::record::CardKind;
use crate::queue::{Queue, reserve, sweep};
use crate::run::site::Site;
use crate::sys::tool::sibling;
use crate::sys::wake::Watch;
use crate::sys::{alive, child};

use super::Answer;
use super::args::{Cli, Scale, Start, Work};
use super::{output, place};

/// How long `start` waits for its workers.
const UP: Duration = Duration::from_secs(15);

/// `coord start`.
pub fn start(cli: &Cli, args: &Start) -> Answer {
    let site = place::site(cli)?;
    site.must_work()?;
    place::name_passed(&site.root, &site.config);
    place::name_copy(&site.queue)?;
    let queue = &site.queue;
    let wanted = wanted(&site, args)?;
    see_off_the_old(queue)?;
    if fleet::coordinator(queue).is_some() {
        return Err(coordinator::already_running(&site));
    }
    place::with_proc(queue, |me| sweep::restore(queue, me))?;
    for file in ["drain", "stop"] {
        control::withdraw(queue, file)?;
    }
    control::want(queue, &wanted)?;
    reserve::fill(queue);
    if control::asked(queue, "").pause {
        output::warn("the queue is paused: workers start, but claim nothing before coord resume");
    }
    if args.foreground {
        ensure_marked();
        return coordinator::run(&site).map(|()| None);
    }
    let program = sibling("coord-coordinator")?;
    let path = queue.layout.at("log/coordinator.log");
    let log = queue.open_output(&path).cannot("open a log", &path)?;
    let words = ["--dir".into(), queue.layout.root().into()];
    let pid = child::start_program(&program, &words, &site.root, &log)
        .cannot("start the coordinator", &program)?;
    wait_until_up(&site, &wanted, pid)?;
    report_started(cli, queue);
    if args.until_empty {
        return wait_until_gone(queue, pid);
    }
    Ok(None)
}

/// Waits for the coordinator of a queue that was moved to leave: it works by a path that does not lead here
/// any more, and looks where the queue is when it is rung.
fn see_off_the_old(queue: &Queue) -> Result<()> {
    let (root, began) = (queue.layout.root(), Instant::now());
    let mut waiter = queue.waiter(&[])?;
    waiter.watch(&queue.layout.procs_bell());
    let mut said = false;
    while let Some(old) = fleet::coordinator(queue).filter(|old| !old.opened(root)) {
        let by = format!("{} (pid {}) works by {}", old.name, old.pid, old.card.dir);
        if began.elapsed() >= UP {
            let what = format!("{by}, which was moved here, and does not leave");
            return Err(Error::new(Exit::Conflict, what).hint(format!("kill {}", old.pid)));
        }
        if !std::mem::replace(&mut said, true) {
            output::note(&format!("{by}, which was moved here: waiting for it to leave"));
        }
        queue.ring(&queue.layout.procs_bell());
        waiter.wait(Instant::now() + Duration::from_millis(250));
    }
    Ok(())
}

fn wanted(site: &Site, args: &Start) -> Result<Wanted> {
    let labels = args.label.clone();
    let mut wanted = Wanted { until_empty: args.until_empty, labels, ..Wanted::default() };
    for pair in &args.role {
        let (role, count) = pair.split_once('=').unwrap_or((pair, "1"));
        let count: u32 = count
            .parse()
            .map_err(|_| Error::usage(format!("`{pair}` is not ROLE=N")).hint("--role tester=1"))?;
        if !is_role(role) {
            return Err(Error::usage(format!("`{role}` is no role"))
                .hint("lower-case letters, digits, - and _, at most 32"));
        }
        *wanted.roles.entry(role.to_owned()).or_default() += count;
    }
    let usual = if args.role.is_empty() { site.config.workers.count } else { 0 };
    wanted.general = args.workers.unwrap_or(usual);
    if wanted.slots().is_empty() {
        return Err(Error::usage("no worker is wanted").hint("coord start -n 3"));
    }
    Ok(wanted)
}

/// Waits until every wanted worker has registered, or the coordinator has said why not.
fn wait_until_up(site: &Site, wanted: &Wanted, pid: i32) -> Result<()> {
    let queue = &site.queue;
    let mut waiter = queue.waiter(&[nix::libc::SIGCHLD])?;
    waiter.watch(&queue.layout.procs_bell());
    let names: Vec<String> = wanted.slots().into_iter().map(|(name, _)| name).collect();
    let deadline = Instant::now() + UP;
    loop {
        let workers = fleet::workers(queue);
        let ours = |m: &fleet::Member| m.opened(queue.layout.root());
        let up = |name: &String| workers.iter().any(|m| m.name == *name && ours(m));
        let alone = workers.iter().any(|m| m.name == "alone");
        // With --until-empty they may be done before we look.
        if alone || names.iter().all(up) {
            return Ok(());
        }
        if let Some((_, exit)) = child::reap().into_iter().find(|(p, _)| *p == pid) {
            if wanted.until_empty && exit == child::Exit::Code(0) {
                return Ok(());
            }
            if fleet::coordinator(queue).is_some() {
                return Err(coordinator::already_running(site));
            }
            return Err(Error::new(
                Exit::Environment,
                format!("the coordinator ended at once: {exit:?}"),
            )
            .at(&queue.layout.at("log/coordinator.log"))
            .hint("its log says why"));
        }
        let now = Instant::now();
        if now >= deadline {
            let missing: Vec<&String> = names.iter().filter(|name| !up(name)).collect();
            output::warn(&format!("not up yet: {missing:?}; see coord status and log/"));
            return Ok(());
        }
        waiter.wait(deadline.min(now + Duration::from_millis(500)));
    }
}

fn report_started(cli: &Cli, queue: &Queue) {
    let members = fleet::members(queue);
    if cli.json {
        output::document(&json!({ "schema": "coord.start/1", "programs": members }));
        return;
    }
    let workers: Vec<&str> =
        members.iter().filter(|m| m.kind == CardKind::Worker).map(|m| m.name.as_str()).collect();
    output::note(&format!("{} up: {}", workers.len(), workers.join(" ")));
}

/// Waits for the coordinator to leave; 1 if something failed.
fn wait_until_gone(queue: &Queue, pid: i32) -> Answer {
    let mut waiter = queue.waiter(&[nix::libc::SIGCHLD])?;
    let start = alive::proc_stat(pid).map_or(0, |s| s.start);
    while alive::is_alive(pid, start) {
        child::reap();
        waiter.wait(Instant::now() + Duration::from_secs(1));
    }
    let status = crate::queue::status::current(queue)?;
    let failed = status.counts.get("failed").copied().unwrap_or(0);
    Ok((failed > 0).then_some(Exit::No))
}

/// `coord scale`.
pub fn scale(cli: &Cli, args: &Scale) -> Answer {
    let site = place::site(cli)?;
    let queue = &site.queue;
    let mut wanted = control::wanted(queue).unwrap_or_default();
    match &args.role {
        Some(role) if !is_role(role) => {
            return Err(Error::usage(format!("`{role}` is no role")));
        }
        Some(role) => {
            wanted.roles.insert(role.clone(), args.count);
        }
        None => wanted.general = args.count,
    }
    control::want(queue, &wanted)?;
    if fleet::coordinator(queue).is_none() {
        output::note("no coordinator runs: this counts from the next coord start of one");
        return Err(Error::new(Exit::Conflict, "no coordinator runs here").hint("coord start"));
    }
    Ok(None)
}

/// `coord pause`.
pub fn pause(cli: &Cli) -> Answer {
    let queue = place::open(cli)?;
    place::in_need(&queue, || control::ask(&queue, "pause")).map(|()| None)
}

/// `coord resume`.
pub fn resume(cli: &Cli) -> Answer {
    let queue = place::open(cli)?;
    let mut any = false;
    for file in ["pause", "drain", "stop"] {
        any |= control::withdraw(&queue, file)?;
    }
    queue.ring(&queue.layout.ready_bell());
    if any {
        // What was said of it goes now, also where no worker is left to see that it has passed.
        place::with_proc(&queue, |me| {
            events::append(&queue, me, Event::notice(claiming::PAUSED, ""));
            Ok(())
        })?;
    } else {
        output::note("nothing was paused");
    }
    Ok(None)
}

/// `coord work`.
pub fn work(cli: &Cli, args: &Work) -> Answer {
    let site = place::site(cli)?;
    site.must_work()?;
    place::name_passed(&site.root, &site.config);
    place::name_copy(&site.queue)?;
    let asked = control::asked(&site.queue, "");
    if asked.drain || asked.stop {
        let what = "this queue is being stopped (control/drain or control/stop is there)";
        return Err(Error::new(Exit::Temporary, what).hint("coord resume"));
    }
    ensure_marked();
    let options = Options {
        name: "solo".to_owned(),
        roles: args.role.clone(),
        labels: args.label.clone(),
        until_empty: args.until_empty,
        only: None,
        once: args.once,
        max_tasks: if args.once { Some(1) } else { args.max_tasks },
        tell: (!cli.quiet && !cli.json).then_some(output::note as fn(&str)),
        ..Options::default()
    };
    let left = run_worker(&site, options)?;
    if cli.json {
        let word = match left {
            Left::Asked => "asked",
            Left::Empty { .. } => "empty",
            Left::Enough { .. } => "enough",
            Left::Nothing => "nothing",
        };
        output::document(&json!({ "schema": "coord.work/1", "left": word }));
    }
    Ok(exit_of(left))
}
