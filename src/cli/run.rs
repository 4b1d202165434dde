//! `coord run`: a command for each line of a list, here and now; and going on where it stopped.
//!
//! A run is an array in a queue of its own; runs.rs says where. The same command given again finds it.

use std::ffi::OsString;

use crate::error::{Error, Exit, Result};
use crate::jobs::exit;
use crate::jobs::halt::Halt;
use crate::jobs::joblog::shown;
use crate::jobs::progress::Progress;
use crate::jobs::results::Results;
use crate::jobs::template::{Job, Template};
use crate::program::front::live::AsItComes;
use crate::program::front::show::{Show, Style};
use crate::program::front::{self, Bar, Order, Outcome, Stopped, feed};
use crate::queue::Queue;
use crate::queue::array::{self, tally};
use crate::queue::tasks;
use crate::run::shift::pattern;
use crate::run::site::read_config;

use super::args::{Cli, Run};
use super::{joblist, output, program, runs};

/// Failed jobs that are named at the end.
const NAMED: usize = 5;

/// What a run that was interrupted exits with, as shells say it of SIGINT.
const INTERRUPTED: u8 = 130;

/// What a run exits with whose output nobody reads any more, as shells say it of SIGPIPE.
const UNREAD: u8 = 141;

/// `coord run`. Returns what the process exits with.
pub fn run(cli: &Cli, args: &Run) -> Result<u8> {
    let halt = Halt::parse(&args.halt)?;
    let workers = args.workers.unwrap_or_else(cores);
    let mut listed = joblist::read("run", &args.jobs, usize::try_from(workers).unwrap_or(1))?;
    if args.jobs.dry_run {
        return joblist::print(listed).map(|()| 0);
    }
    listed.queue = runs::reached(cli, args)?;
    if args.keep_children {
        listed.keep_children();
    }
    let path = match &args.queue {
        Some(dir) => read_config(dir)?.env.get("PATH").map(OsString::from),
        None => None,
    };
    let path = path.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let template = Template::new(&listed.command)?;
    if let Some((status, error)) = program::missing(&listed.command, &template, &path, &listed.cwd)
    {
        output::error(&error, cli.json);
        return Ok(status);
    }
    let found = runs::find(cli, args, &listed)?;
    let (site, id) = (&found.site, &found.id);
    let queue = &site.queue;
    let jobs = array::home(queue, id);
    array::ensure_home(queue, &jobs)?;
    let task = tasks::existing(queue, id)?;
    let before = match found.resumed {
        true => tally::Tally::of(queue, &task)?,
        false => tally::Tally::default(),
    };
    if found.resumed && !cli.quiet {
        output::note(&going_on(id, &before, args.retry_failed));
    }
    let array = task.spec.clone().unwrap_or_default().array.unwrap_or_default();
    let template = Template::new(&pattern(&array))?;
    let style = Style {
        keep_order: args.keep_order,
        tag: args.tag,
        as_it_comes: match (args.ungroup, args.line_buffer) {
            (true, _) => Some(AsItComes::Bytes),
            (false, true) => Some(AsItComes::Lines),
            (false, false) => None,
        },
        joblog: args.joblog.clone(),
        results: match &args.results {
            Some(given) => Some(Results::new(given, &array.names)?),
            None => None,
        },
        columns: listed.columns,
        round: array::round(&task),
    };
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let bar = match (args.bar, terminal && !cli.quiet) {
        (_, true) => Some(Bar { draw, every_ms: 100 }),
        (true, false) => Some(Bar { draw: draw_lines, every_ms: 1000 }),
        (false, false) => None,
    };
    let mut show = Show::new(site, jobs, template, style, output::note)?;
    show.to.wipe = bar.filter(|_| terminal).map(|bar| bar.draw);
    // What failed was read before, and its input may be gone.
    let known = found.resumed && (args.resume || args.retry_failed);
    let fed = match before.jobs {
        Some(_) if known => None,
        None if args.resume => return Err(not_read(id)),
        _ => Some(feed::begin(queue, id, listed.input, !found.resumed)?),
    };
    let order = Order {
        id: id.clone(),
        workers,
        cwd: listed.cwd,
        halt: args.halt.clone(),
        feed: fed,
        total: before.jobs.filter(|_| known),
        before: before.over(),
        bar,
        tell: output::note,
    };
    let outcome = front::run(site, &order, &mut show)?;
    // Also where all jobs were over by then: what was not shown is shown by who goes on.
    if outcome.stopped == Stopped::Unread || show.is_unread() {
        return Ok(UNREAD);
    }
    let wordy = !cli.quiet && (terminal || found.resumed);
    if outcome.stopped == Stopped::Finished && outcome.fault.is_none() {
        runs::note_told(queue, &task)?;
    }
    let text = summary(&order, &outcome, &show);
    let refused = outcome.fault.as_ref().is_some_and(|e| e.exit == Exit::Conflict);
    let bad = !refused && (show.counts.failed > 0 || outcome.stopped != Stopped::Finished);
    if wordy && !refused || bad && !cli.quiet {
        output::note(&text);
        name_failures(&found, show.counts.failed)?;
    }
    if let (Some(0), Some(doubt)) = (outcome.total, &listed.doubt) {
        output::warn(&format!("standard input was empty, and nothing was run: {doubt}"));
    }
    if let Some(fault) = outcome.fault {
        return Err(fault);
    }
    if show.without_results > 0 {
        let count = show.without_results;
        let jobs = if count == 1 { "job" } else { "jobs" };
        let what = format!("the results of {count} {jobs} could not be written");
        return Err(Error::new(Exit::Environment, what).hint(format!(
            "what they printed is kept: coord -C {} logs {id}/JOB",
            home_of(queue)
        )));
    }
    let mut counts = show.counts;
    counts.total = outcome.total;
    Ok(match outcome.stopped {
        Stopped::Interrupted | Stopped::Cancelled => INTERRUPTED,
        Stopped::Unread => UNREAD,
        Stopped::Finished | Stopped::Halted => exit::status(&halt, counts, show.first),
    })
}

/// Where the queue of a run is found, for `coord -C`.
fn home_of(queue: &Queue) -> String {
    let root = queue.layout.root();
    root.parent().unwrap_or(root).display().to_string()
}

fn not_read(id: &str) -> Error {
    Error::new(Exit::Conflict, format!("the input of {id} was not read to its end"))
        .hint("give it again, without --resume")
}

fn going_on(id: &str, before: &tally::Tally, retry: bool) -> String {
    let over = match (before.over(), before.jobs) {
        (1, None) => "1 job is over".to_owned(),
        (over, None) => format!("{over} jobs are over"),
        (over, Some(jobs)) => format!("{over} of {jobs} jobs are over"),
    };
    match retry {
        true => format!("{id}: what failed runs again: {over}"),
        false => format!("{id}: going on where it stopped: {over}"),
    }
}

/// What has come of a run, in a line.
fn summary(order: &Order, outcome: &Outcome, show: &Show) -> String {
    let (over, failed) = (show.over(), show.counts.failed);
    let of = outcome.total.map_or(String::new(), |total| format!(" of {total}"));
    let failed = match failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    let id = &order.id;
    match outcome.stopped {
        Stopped::Finished if over == 0 => format!("{id}: the list is empty"),
        Stopped::Finished if !failed.is_empty() => format!("{id}: {over} jobs are over{failed}"),
        Stopped::Finished if over == 1 => format!("{id}: 1 job done"),
        Stopped::Finished => format!("{id}: all {over} jobs done"),
        Stopped::Cancelled => format!("{id}: cancelled: {over}{of} jobs are over{failed}"),
        Stopped::Halted => {
            format!(
                "{id}: stopped by --halt: {over}{of} jobs are over{failed}; the same command goes on"
            )
        }
        Stopped::Interrupted | Stopped::Unread => {
            format!("{id}: stopped: {over}{of} jobs are over{failed}; the same command goes on")
        }
    }
}

/// The first jobs that failed, and what to do about them.
fn name_failures(found: &runs::Found, failed: u64) -> Result<()> {
    if failed == 0 {
        return Ok(());
    }
    let queue = &found.site.queue;
    let task = tasks::existing(queue, &found.id)?;
    let array = task.spec.clone().unwrap_or_default().array.unwrap_or_default();
    let template = Template::new(&pattern(&array))?;
    for job in tally::failures(queue, &task, NAMED)? {
        let of = Job { seq: job.job, slot: 1, args: job.arguments };
        // One without arguments has no command.
        let command = template.expand(&of).ok().filter(|_| !job.bad).map(|argv| shown(&argv));
        let command = command.map(|text| format!(": {}", output::cut(&text, 80)));
        output::note(&format!("  job {}: {}{}", job.job, job.what, command.unwrap_or_default()));
    }
    let more = failed.saturating_sub(NAMED as u64);
    let rest = if more > 0 { format!("  and {more} more; ") } else { "  ".to_owned() };
    if task.phase.is_over() {
        output::note(&format!("{rest}to run again what failed: --retry-failed"));
    } else if more > 0 {
        output::note(rest.trim_end_matches("; "));
    }
    Ok(())
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// A line of progress on the terminal.
fn draw(progress: Option<&Progress>) {
    use std::io::Write;
    let mut to = std::io::stderr().lock();
    // A terminal that is gone is no reason to stop.
    let _ = match progress {
        Some(progress) => write!(to, "\r{}\x1b[K", progress.line(width())),
        None => write!(to, "\r\x1b[K"),
    };
    let _ = to.flush();
}

fn width() -> usize {
    let said = rustix::termios::tcgetwinsize(std::io::stderr()).map(|size| size.ws_col);
    usize::from(said.ok().filter(|columns| *columns > 0).unwrap_or(80))
}

/// A line of progress in a file, a line each time.
fn draw_lines(progress: Option<&Progress>) {
    if let Some(progress) = progress {
        output::note(&progress.line(80));
    }
}
