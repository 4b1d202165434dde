//! `coord run`: a command for each line of a list, here and now; and going on where it stopped.
//!
//! A run is an array in a queue of its own. Its place follows from the command, so the same command
//! given again finds it: below the project's queue, else below the user's state directory.

use std::path::{Path, PathBuf};

use crate::error::{Cannot, Error, Exit, Result};
use crate::jobs::exit;
use crate::jobs::halt::Halt;
use crate::jobs::progress::Progress;
use crate::jobs::results::Results;
use crate::jobs::template::Template;
use crate::program::front::show::{Show, Style};
use crate::program::front::{self, Order, Outcome, Stopped, feed};
use crate::queue::array::{self, Overview, chunk::Chunk};
use crate::queue::decide::{self, How};
use crate::queue::durable::Durability;
use crate::queue::end;
use crate::queue::ids::natural_cmp;
use crate::queue::init::init_as;
use crate::queue::procs::Proc;
use crate::queue::record::Note;
use crate::queue::submit::submit;
use crate::queue::tasks::{self, Phase, Task};
use crate::queue::{Queue, control};
use crate::run::shift::pattern;
use crate::run::site::Site;
use crate::sys::fs::{Fs, RealFs, mkdir_all};
use crate::sys::host::Platform;

use super::args::{Cli, Run};
use super::joblist::{self, Listed};
use super::{output, place};

/// What stands in the coord.toml of a run.
const CONFIGURATION: &str = "# Made by coord run.\nversion = 1\n\n[worktree]\nisolation = \"none\"\n";

/// What a run that was interrupted exits with, as shells say it of SIGINT.
const INTERRUPTED: u8 = 130;

/// `coord run`. Returns what the process exits with.
pub fn run(cli: &Cli, args: &Run) -> Result<u8> {
    let halt = Halt::parse(&args.halt)?;
    let workers = args.workers.unwrap_or_else(cores);
    let listed = joblist::read(&args.jobs, usize::try_from(workers).unwrap_or(1))?;
    if args.jobs.dry_run {
        return joblist::print(listed).map(|()| 0);
    }
    let name = listed.name();
    let home = home_of(cli, args, &name)?;
    let site = open(&home, args)?;
    let queue = &site.queue;
    let mut said = !cli.quiet && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let id = place::with_proc(queue, |me| begin(queue, me, args, &name, &listed))?;
    for file in ["drain", "stop"] {
        control::withdraw(queue, file)?;
    }
    let jobs = array::home(queue, &id.name);
    array::ensure_home(queue, &jobs)?;
    let total = feed::is_closed(queue, &id.name)?;
    let before = if id.resumed { over_in(queue, &id.name)? } else { 0 };
    if id.resumed && !cli.quiet {
        let of = total.map_or("the".to_owned(), |total| format!("{total}"));
        output::note(&format!("going on with {}: {before} of {of} jobs are over", id.name));
        said = true;
    }
    let spec = tasks::existing(queue, &id.name)?.spec.unwrap_or_default();
    let array = spec.array.unwrap_or_default();
    let template = Template::new(&pattern(&array))?;
    let style = Style {
        keep_order: args.keep_order,
        tag: args.tag,
        joblog: args.joblog.clone(),
        results: match &args.results {
            Some(given) => Some(Results::new(given, &array.names)?),
            None => None,
        },
        columns: array.names.len().max(1),
    };
    let mut show = Show::new(&site, jobs.clone(), template, style)?;
    let cwd = listed.cwd.clone();
    let fed = match total {
        Some(_) => None,
        None => Some(feed::begin(queue, &id.name, listed.input)?),
    };
    let bar = args.bar || (said && std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let order = Order {
        id: id.name.clone(),
        workers,
        cwd,
        halt,
        feed: fed,
        total,
        before,
        bar: bar.then_some(draw as fn(Option<&Progress>)),
        tell: output::note,
    };
    let outcome = front::run(&site, &order, &mut show)?;
    conclude(&order, outcome, &mut show, said, &jobs)
}

fn conclude(
    order: &Order,
    outcome: Outcome,
    show: &mut Show,
    said: bool,
    jobs: &Path,
) -> Result<u8> {
    let mut counts = show.counts;
    counts.total = outcome.total;
    let over = show.over();
    let of = outcome.total.map_or("?".to_owned(), |total| total.to_string());
    let text = match outcome.stopped {
        Stopped::Finished => match counts.failed {
            0 => format!("{over} jobs done"),
            failed => format!("{} of {of} jobs done, {failed} failed", counts.succeeded),
        },
        Stopped::Cancelled => format!("cancelled: {over} of {of} jobs are over"),
        Stopped::Halted | Stopped::Interrupted => {
            format!("stopped: {over} of {of} jobs are over; the same command goes on")
        }
    };
    if said || counts.failed > 0 || outcome.stopped != Stopped::Finished {
        output::note(&format!("{}: {text}", order.id));
        if counts.failed > 0 {
            output::note(&format!("what became of each: {}", jobs.display()));
        }
    }
    if let Some(fault) = outcome.fault {
        return Err(fault);
    }
    Ok(match outcome.stopped {
        Stopped::Interrupted | Stopped::Cancelled => INTERRUPTED,
        Stopped::Finished | Stopped::Halted => exit::status(&order.halt, counts, show.first),
    })
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// A line of progress on the terminal.
fn draw(progress: Option<&Progress>) {
    use std::io::Write;
    let mut to = std::io::stderr().lock();
    let width = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(80);
    // A terminal that is gone is no reason to stop.
    let _ = match progress {
        Some(progress) => write!(to, "\r{}\x1b[K", progress.line(width)),
        None => write!(to, "\r\x1b[K"),
    };
    let _ = to.flush();
}

/// The directory of a run: `--queue`, or one that follows from its command.
fn home_of(cli: &Cli, args: &Run, name: &str) -> Result<PathBuf> {
    if let Some(dir) = &args.queue {
        return std::path::absolute(dir).cannot("find the directory", dir);
    }
    match place::find(cli) {
        Ok(queue) => Ok(queue.join("runs").join(name)),
        Err(e) if cli.dir.is_some() => Err(e),
        Err(_) => {
            let state = std::env::var_os("XDG_STATE_HOME")
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")));
            let state = state.ok_or_else(|| {
                Error::new(Exit::Environment, "there is no place to keep the run: HOME is not set")
                    .hint("coord run --queue DIR …, or coord init in the project")
            })?;
            Ok(state.join("coord/runs").join(name))
        }
    }
}

/// Opens the queue of a run, or makes it.
fn open(home: &Path, args: &Run) -> Result<Site> {
    mkdir_all(&RealFs, home).cannot("make the directory of the run", home)?;
    let (_, durability) = Durability::WORDS
        .into_iter()
        .find(|(word, _)| *word == args.durability)
        .unwrap_or(Durability::WORDS[0]);
    let queue = init_as(&home.join(".coord"), Platform::real(), durability)?;
    let toml = home.join("coord.toml");
    if !RealFs.exists(&toml) {
        let text = format!("{CONFIGURATION}\n[queue]\ndurability = \"{}\"\n", durability.word());
        queue.replace(&toml, text.as_bytes())?;
    }
    Site::open(queue.layout.root())
}

/// The array of a run.
struct Array {
    name: String,
    resumed: bool,
}

/// The array to work on: the last one of this command if it is not over, else a new one.
fn begin(queue: &Queue, me: &mut Proc, args: &Run, name: &str, listed: &Listed) -> Result<Array> {
    let prefix = format!("{name}-");
    let mut numbered: Vec<String> = tasks::ids(queue)?
        .into_iter()
        .filter(|id| id.strip_prefix(&prefix).is_some_and(|k| k.parse::<u32>().is_ok()))
        .collect();
    numbered.sort_by(|a, b| natural_cmp(a, b));
    let last = match numbered.last() {
        Some(id) => tasks::look(queue, id)?,
        None => None,
    };
    if let Some(task) = &last
        && let Some(resumed) = resume(queue, me, args, task)?
    {
        return Ok(resumed);
    }
    if args.retry_failed {
        return Err(Error::new(Exit::NotFound, "there is no run of this command that failed")
            .hint("leave out --retry-failed"));
    }
    let number = last.and_then(|task| task.id.strip_prefix(&prefix)?.parse::<u32>().ok());
    let id = format!("{prefix}{}", number.map_or(1, |k| k + 1));
    let array = submit(queue, me, Some(&id), listed.spec(&id)?)?;
    Ok(Array { name: array.id().to_owned(), resumed: false })
}

/// Whether the last run of the command is the one to go on with.
fn resume(queue: &Queue, me: &mut Proc, args: &Run, task: &Task) -> Result<Option<Array>> {
    let going_on = || Ok(Some(Array { name: task.id.clone(), resumed: true }));
    match task.phase {
        Phase::Pending(_) | Phase::Claimed(_) if args.fresh => {
            let why = "coord run --fresh";
            decide::cancel(queue, me, &task.id, How::Force, why, |_| ())?;
            Ok(None)
        }
        Phase::Pending(_) | Phase::Claimed(_) => going_on(),
        Phase::Failed(n) if args.retry_failed => {
            let note = Note::new(&me.wid, queue.now(), "coord run --retry-failed");
            end::reopen(queue, me, task, n, &note)?;
            going_on()
        }
        _ => Ok(None),
    }
}

/// How many jobs of an array are over.
fn over_in(queue: &Queue, id: &str) -> Result<u64> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(0) };
    let (home, round) = (array::home(queue, id), array::round(&task));
    let seen = Overview::read(queue, &home, round)?;
    let mut over = 0;
    for (start, state) in &seen.chunks {
        if let Some(of) = state {
            over += of.jobs;
        } else if let Some(mut chunk) = Chunk::open(queue, &home, *start)? {
            let seen = chunk.look(queue, round)?;
            over += seen.done + seen.failed;
        }
    }
    Ok(over)
}
