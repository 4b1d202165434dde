//! What the programs have in common at their start: arguments, mark, log, signals.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use nix::libc;

use crate::error::Result;
use crate::queue::procs::{Identity, Proc};
use crate::queue::{Queue, owners, sweep};
use crate::run::site::Site;
use crate::sys::clock::{Clock, RealClock};
use crate::sys::wake::{Waiter, Wake, Watch};
use crate::sys::{alive, child, gate, machine, signals};

use super::worker::{Left, Next, Options, Worker, exit_of};
use super::{aggregator, astray, coordinator, monitor};

/// Signals that end a program.
pub const STOP_SIGNALS: &[i32] = &[libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
/// The same, and the deaths of children.
pub const WORK_SIGNALS: &[i32] = &[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD];

/// The same for who runs commands, and is stopped and continued with them; and what a front says to the
/// workers of its run.
pub const RUN_SIGNALS: &[i32] = &[
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGCHLD,
    libc::SIGQUIT,
    libc::SIGTSTP,
    libc::SIGCONT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Arguments of the programs that the coordinator starts.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Args {
    /// The queue directory
    #[arg(long, value_name = "PATH")]
    dir: PathBuf,
    /// Name of the worker
    #[arg(long, default_value = "w")]
    name: String,
    /// Serve only this role (repeatable)
    #[arg(long)]
    role: Vec<String>,
    /// Offer this label to tasks that need it (repeatable)
    #[arg(long)]
    label: Vec<String>,
    /// Leave when nothing can become ready without a person
    #[arg(long)]
    until_empty: bool,
    /// Work at this task only
    #[arg(long)]
    only: Option<String>,
    /// Leave after this many attempts
    #[arg(long)]
    max_tasks: Option<u64>,
    /// Its place among the workers of a run
    #[arg(long, hide = true, default_value_t = 0)]
    place: u32,
    /// The process that runs the run
    #[arg(long, hide = true, default_value = "")]
    front: String,
    /// The mark in its environment is its own
    #[arg(long, hide = true)]
    mark: Option<String>,
}

/// Makes sure that this process carries a mark of its own in its environment, by starting itself
/// anew once: what it starts can then be found after its death.
pub fn ensure_marked() {
    let own = format!("{}-", std::process::id());
    if std::env::var(alive::MARK).is_ok_and(|mark| mark.starts_with(&own)) {
        return;
    }
    let mark = format!("{own}{}", crate::queue::ids::random_part(RealClock.random()));
    let error = child::exec_marked(&mark);
    // Without a mark, orphans of a killed worker cannot be found; all else works.
    tracing::warn!(error = %error, "cannot mark this process");
}

/// Who is rung says that it lives; who was declared dead goes on under another name.
pub fn answer(
    queue: &Queue,
    me: &mut Proc,
    identity: &Identity,
    waiter: &mut Waiter,
    wakes: &[Wake],
) -> Result<()> {
    let bell = me.dir().join("bell");
    if me.is_declared_dead(queue) {
        sweep::must_be_quiet(queue, me)?;
        waiter.unwatch(&bell);
        *me = Proc::register(queue, identity)?;
    } else if wakes.contains(&Wake::Bell(bell))
        && let Err(e) = me.beat(queue)
    {
        tracing::warn!(error = %e, "cannot say that it lives");
    }
    waiter.watch(&me.dir().join("bell"));
    Ok(())
}

/// Says once that wake-ups come late here.
pub fn warn_if_blind(waiter: &Waiter) {
    if let Some(why) = waiter.blind() {
        tracing::warn!("inotify is not available ({why}); looking at the bells every 50 ms to 2 s");
    }
}

/// Log lines as JSON on standard error, which the coordinator has put into log/.
fn log_json() {
    let lines = tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr);
    log_to(lines, "info");
}

/// Writes log lines: what `COORD_LOG` says (`info`, `coord::queue=debug,warn`), or else `usual`.
pub fn log_to<L>(lines: L, usual: &str)
where
    L: tracing_subscriber::Layer<tracing_subscriber::Registry> + Send + Sync,
{
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::prelude::*;
    let asked = std::env::var("COORD_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let wanted = asked.or_else(|| usual.parse().ok()).unwrap_or_default();
    // Fails only if one is set already.
    drop(tracing_subscriber::registry().with(lines).with(wanted).try_init());
}

fn run(body: impl FnOnce(&Args, &Site) -> Result<()>) -> ExitCode {
    let args = Args::parse();
    if args.mark.is_none() || args.mark != std::env::var(alive::MARK).ok() {
        ensure_marked();
    }
    log_json();
    let run = |site: Site| body(&args, &site).map_err(|e| astray::or_else(&site.queue, e));
    let done = owners::must_work(&args.dir).and_then(|()| Site::open(&args.dir)).and_then(run);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{}", e.one_line());
            ExitCode::from(e.exit as u8)
        }
    }
}

/// `coord-coordinator`.
pub fn coordinator() -> ExitCode {
    if let Some(code) = gate::serve() {
        return code;
    }
    run(|_, site| coordinator::run(site))
}

/// `coord-monitor`.
pub fn monitor() -> ExitCode {
    run(|_, site| monitor::run(site))
}

/// `coord-aggregator`.
pub fn aggregator() -> ExitCode {
    run(|_, site| aggregator::run(site))
}

/// `coord-worker`.
pub fn worker() -> ExitCode {
    if let Some(code) = gate::serve() {
        return code;
    }
    let mut code = ExitCode::SUCCESS;
    let ran = run(|args, site| {
        let options = Options {
            name: args.name.clone(),
            roles: args.role.clone(),
            labels: args.label.clone(),
            until_empty: args.until_empty,
            only: args.only.clone(),
            max_tasks: args.max_tasks,
            place: args.place,
            front: args.front.clone(),
            ..Options::default()
        };
        site.must_work()?;
        if let Some(exit) = exit_of(work(site, options)?) {
            code = ExitCode::from(exit as u8);
        }
        Ok(())
    });
    if ran == ExitCode::SUCCESS { code } else { ran }
}

/// Orphans of commands come back to this process. Where that fails they go to init, and are found
/// by their mark.
pub fn become_subreaper() {
    if let Err(e) = child::become_subreaper() {
        tracing::warn!(error = %e, "cannot become a subreaper");
    }
}

/// Runs one worker in this process until it leaves.
pub fn work(site: &Site, options: Options) -> Result<Left> {
    let mut waiter = site.queue.waiter(RUN_SIGNALS)?;
    if options.until_empty {
        waiter = waiter.lazy();
    }
    let tell = options.tell;
    warn_if_blind(&waiter);
    if let (Some(tell), Some(why)) = (tell, waiter.blind()) {
        tell(&format!(
            "warning: inotify is not available ({why}); looking at the bells every 50 ms to 2 s"
        ));
    }
    // Before anything can be watched; the worker sweeps if something was missing.
    let missing = sweep::restore_directories(&site.queue)?;
    become_subreaper();
    // One of a run may be over sooner.
    let grouped = options.place == 0 && site.queue.host.enter_group(true);
    let mut worker = Worker::new(site, options, &mut waiter)?;
    let mut wakes = if missing { vec![Wake::Rescan] } else { Vec::new() };
    loop {
        let ticked = worker.tick(&mut waiter, &wakes, &child::reap());
        if wakes.contains(&Wake::Signal(libc::SIGTSTP)) && machine::has_terminal() {
            // Ctrl-Z means it too. The command that it runs, which has a session of its own, has stopped.
            signals::stop_here();
        }
        match ticked {
            Ok(Next::Wait(until_ms)) => {
                let deadline = Waiter::deadline(until_ms);
                wakes = match worker.runs_a_job() {
                    true => waiter.wait_for_child(deadline),
                    false => waiter.wait(deadline),
                };
            }
            Ok(Next::Leave(left)) => {
                if grouped {
                    site.queue.host.enter_group(false);
                }
                return worker.broken().map_or(Ok(left), Err);
            }
            Err(e) => {
                // A full disk, a directory that is gone for a moment: nothing was lost.
                let text = e.one_line();
                tracing::error!("{text}");
                if let Some(tell) = tell {
                    tell(&format!("warning: {text}; will try again"));
                }
                wakes = waiter.wait(Instant::now() + std::time::Duration::from_secs(1));
            }
        }
    }
}
