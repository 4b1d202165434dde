//! Where runs are kept, which one the same command goes on with, and which old ones go.
//!
//! ```text
//! runs/NAME-K/.coord    the queue of the K-th run of a command; its one task is called NAME-K
//! runs/.gone-…          a run that is being removed
//! ```
//! NAME follows from the command, its sources and the directory. `runs/` is in the project's queue;
//! outside of a project, below the user's state directory. With `--queue DIR` all runs are tasks of
//! the queue in DIR, and nothing is ever removed.
//!
//! What was not finished, or has failed, is never removed: only a run of which every job succeeded and
//! at which nobody works. Of those the last `KEPT` of the same command stay, and of other commands the
//! newest `OTHERS` that are not older than `DAYS`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Cannot, Error, Exit, Result};
use crate::queue::array;
use crate::queue::decide::{self, How};
use crate::queue::durable::Durability;
use crate::queue::end;
use crate::queue::ids::natural_cmp;
use crate::queue::init::init_as;
use crate::queue::procs::{self, Proc};
use crate::queue::record::Note;
use crate::queue::submit::submit;
use crate::queue::tasks::{self, Phase, Task};
use crate::queue::{Queue, control};
use crate::run::environment::OF_RUN;
use crate::run::site::{Site, read_config};
use crate::sys::escaped::escape_os;
use crate::sys::fs::{Fs, Kind, RealFs, make_private, mkdir_all, remove_tree};
use crate::sys::host::Platform;

use super::args::{Cli, Run};
use super::joblist::Listed;
use super::place;

/// What stands in the coord.toml of a run.
const CONFIGURATION: &str =
    "# Made by coord run.\nversion = 1\n\n[worktree]\nisolation = \"none\"\n";

/// Finished runs of a command that are kept, the one at hand included.
const KEPT: usize = 3;
/// Days that finished runs of other commands are kept.
const DAYS: u64 = 30;
/// Finished runs of other commands that are kept.
const OTHERS: usize = 100;

/// The run to work on.
pub struct Found {
    /// Its queue.
    pub site: Site,
    /// Its array.
    pub id: String,
    /// Whether it was begun before.
    pub resumed: bool,
}

/// The queue that a job reaches by `COORD_DIR`: that of the project which the run is given in, if there is
/// one, and not that of the run.
pub fn reached(cli: &Cli, args: &Run) -> Result<Option<String>> {
    let project = place::find(cli).ok().filter(|queue| RealFs.exists(&queue.join("layout.json")));
    let own =
        args.queue.as_deref().map(|dir| std::path::absolute(dir).cannot("find the directory", dir));
    let own = own.transpose()?.map(|dir| dir.join(".coord"));
    let same = project.is_some() && project == own;
    let text = |queue: PathBuf| escape_os(queue.into());
    Ok((!same).then(|| project.map(text).unwrap_or_default()))
}

/// The run of this command that is not over, else a new one.
pub fn find(cli: &Cli, args: &Run, listed: &Listed) -> Result<Found> {
    let name = listed.name();
    let prefix = format!("{name}-");
    let number = |id: &str| id.strip_prefix(&prefix).and_then(|k| k.parse::<u64>().ok());
    if let Some(dir) = &args.queue {
        let home = std::path::absolute(dir).cannot("find the directory", dir)?;
        let site = open(&home, args)?;
        let last = tasks::ids(&site.queue)?.iter().filter_map(|id| number(id)).max().unwrap_or(0);
        return match go_on(&site, args, listed, &format!("{prefix}{}", last.max(1)))? {
            Some((id, resumed)) => Ok(Found { site, id, resumed }),
            None => {
                let mut next = last + 1;
                // One that lies in the archive keeps its name.
                while tasks::look(&site.queue, &format!("{prefix}{next}"))?.is_some() {
                    next += 1;
                }
                let id = begin(&site, listed, &format!("{prefix}{next}"))?;
                Ok(Found { site, id, resumed: false })
            }
        };
    }
    let runs = place_of_runs(cli)?;
    make(&runs)?;
    let names = RealFs.list(&runs).cannot("list the runs", &runs)?;
    let last = names.iter().filter_map(|entry| number(&entry.name)).max();
    if let Some(last) = last {
        let id = format!("{prefix}{last}");
        let site = open(&runs.join(&id), args)?;
        if let Some((id, resumed)) = go_on(&site, args, listed, &id)? {
            return Ok(Found { site, id, resumed });
        }
    } else if args.retry_failed {
        return Err(nothing_failed());
    } else if args.resume {
        return Err(nothing_open());
    }
    let id = format!("{prefix}{}", last.unwrap_or(0) + 1);
    let site = open(&runs.join(&id), args)?;
    let id = begin(&site, listed, &id)?;
    make_room(&runs, &name);
    Ok(Found { site, id, resumed: false })
}

/// `jobs/told.R`: a front has seen round R to its end, and said what became of it.
fn told(task: &Task) -> PathBuf {
    array::home_of(task).join(format!("told.{}", array::round(task)))
}

/// Notes that a run came to its end before the eyes of its user.
pub fn note_told(queue: &Queue, task: &Task) -> Result<()> {
    let path = told(task);
    queue.fs.touch(&path).cannot("note the end of the run", &path)
}

fn nothing_open() -> Error {
    Error::new(Exit::NotFound, "there is no unfinished run of this command")
        .hint("leave out --resume")
}

fn nothing_failed() -> Error {
    Error::new(Exit::NotFound, "there is no run of this command that failed")
        .hint("leave out --retry-failed")
}

/// `runs/` of the project's queue, or of the user.
pub fn place_of_runs(cli: &Cli) -> Result<PathBuf> {
    // Inside a job of a run, below that run: it goes with it.
    if let Some(parent) = std::env::var_os(OF_RUN).map(PathBuf::from).filter(|_| cli.dir.is_none())
        && Queue::open(&parent, Platform::real()).is_ok()
    {
        return Ok(parent.join("runs"));
    }
    match place::find(cli) {
        Ok(queue) => Queue::open(&queue, Platform::real()).map(|_| queue.join("runs")),
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
            // Nobody else has a part in it, as in a project.
            let runs = state.join("coord/runs");
            make_private(&runs).cannot("keep the runs to their user", &runs)?;
            Ok(runs)
        }
    }
}

fn make(dir: &Path) -> Result<()> {
    let made = mkdir_all(&RealFs, dir).cannot("make the directory of the run", dir);
    made.map_err(|e| e.hint("keep it elsewhere: coord run --queue DIR …"))
}

/// Opens the queue of a run, or makes it.
fn open(home: &Path, args: &Run) -> Result<Site> {
    make(home)?;
    let root = home.join(".coord");
    let asked = args.durability.as_ref().and_then(|word| Durability::of_layout(word));
    let there = RealFs.exists(&root.join("layout.json"));
    let queue = if there {
        Queue::open(&root, Platform::real())?
    } else {
        let durability = asked.unwrap_or(read_config(home)?.queue.durability);
        init_as(&root, Platform::real(), durability)?
    };
    let has = queue.durability.word();
    if asked.is_some_and(|asked| asked != queue.durability) {
        return Err(Error::usage(format!("the queue has durability = \"{has}\""))
            .at(&root)
            .hint("leave out --durability, or change the queue: coord.toml, then coord init"));
    }
    let toml = home.join("coord.toml");
    if !RealFs.exists(&toml) {
        let text = format!("{CONFIGURATION}\n[queue]\ndurability = \"{has}\"\n");
        queue.replace(&toml, text.as_bytes())?;
    }
    let site = Site::open(queue.layout.root())?;
    // Whoever stopped the last run did not mean this one.
    for file in ["drain", "stop"] {
        control::withdraw(&site.queue, file)?;
    }
    Ok(site)
}

/// The array to go on with, if it is the one of that id.
fn go_on(site: &Site, args: &Run, listed: &Listed, id: &str) -> Result<Option<(String, bool)>> {
    let queue = &site.queue;
    let Some(task) = tasks::look(queue, id)?.filter(|task| task.phase != Phase::NoSpec) else {
        if args.retry_failed || args.resume {
            return Err(if args.resume { nothing_open() } else { nothing_failed() });
        }
        // Its place was made, and somebody died before it was begun.
        return begin(site, listed, id).map(|id| Some((id, false)));
    };
    place::with_proc(queue, |me| resume(queue, me, args, &task))
        .map(|resumed| resumed.then(|| (task.id.clone(), true)))
}

/// Whether the last run of the command is the one to go on with.
fn resume(queue: &Queue, me: &mut Proc, args: &Run, task: &Task) -> Result<bool> {
    match task.phase {
        Phase::Pending(_) | Phase::Claimed(_) if args.fresh => {
            decide::cancel(queue, me, &task.id, How::Force, "coord run --fresh", |_| ())?;
            Ok(false)
        }
        Phase::Pending(_) | Phase::Claimed(_) => Ok(true),
        // Its workers have finished it after their front was killed: what became of it is still to be said.
        Phase::Done(_) | Phase::Failed(_)
            if !args.fresh && !args.retry_failed && !queue.fs.exists(&told(task)) =>
        {
            Ok(true)
        }
        Phase::Failed(n) if args.retry_failed => {
            let note = Note::new(&me.wid, queue.now(), "coord run --retry-failed");
            end::reopen(queue, me, task, n, &note)?;
            Ok(true)
        }
        _ if args.retry_failed => Err(nothing_failed()),
        _ if args.resume => Err(nothing_open()),
        _ => Ok(false),
    }
}

/// Begins a run. Of two who begin the same one at once, both work on it.
fn begin(site: &Site, listed: &Listed, id: &str) -> Result<String> {
    let spec = listed.spec(id)?;
    place::with_proc(&site.queue, |me| submit(&site.queue, me, Some(id), spec))
        .map(|submitted| submitted.id().to_owned())
}

// --- what is kept ---

/// Takes old finished runs away. Their files are removed beside the jobs, and what is left of them when
/// this program ends is removed by the next.
fn make_room(runs: &Path, name: &str) {
    for old in older_of(runs, name) {
        take_away(runs, &old);
    }
    let (runs, name) = (runs.to_owned(), name.to_owned());
    // Without a thread they stay until the next time.
    drop(std::thread::Builder::new().name("make-room".to_owned()).spawn(move || {
        for old in old_of_others(&runs, &name) {
            take_away(&runs, &old);
        }
        for entry in RealFs.list(&runs).unwrap_or_default() {
            if entry.kind == Kind::Dir && entry.name.starts_with(".gone-") {
                drop(remove_tree(&runs.join(&entry.name)));
            }
        }
    }));
}

/// The runs in a directory by their command, each with its number.
fn numbered(runs: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for entry in RealFs.list(runs).unwrap_or_default() {
        if let (Kind::Dir, Some((name, number))) = (entry.kind, entry.name.rsplit_once('-'))
            && !name.starts_with('.')
            && let Ok(number) = number.parse()
        {
            all.entry(name.to_owned()).or_default().push(number);
        }
    }
    all
}

fn older_of(runs: &Path, name: &str) -> Vec<String> {
    let mut numbers = numbered(runs).remove(name).unwrap_or_default();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let older = numbers.iter().skip(KEPT).map(|number| format!("{name}-{number}"));
    older.filter(|id| is_finished(&runs.join(id), id)).collect()
}

fn old_of_others(runs: &Path, name: &str) -> Vec<String> {
    let now_ns = Platform::real().clock.wall_ms().saturating_mul(1_000_000);
    let limit_ns = DAYS * 86_400 * 1_000_000_000;
    let mut ages: Vec<(u64, String)> = Vec::new();
    for (other, numbers) in numbered(runs).into_iter().filter(|(other, _)| other != name) {
        for id in numbers.iter().map(|number| format!("{other}-{number}")) {
            // Its last register changed the directory of its task.
            let task = runs.join(&id).join(".coord/tasks").join(&id);
            if let Ok(stat) = RealFs.stat(&task) {
                ages.push((now_ns.saturating_sub(stat.mtime_ns), id));
            }
        }
    }
    ages.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| natural_cmp(&a.1, &b.1)));
    let old = ages.into_iter().enumerate();
    let old = old.filter(|(at, (age_ns, _))| *age_ns > limit_ns || *at >= OTHERS);
    old.map(|(_, (_, id))| id).filter(|id| is_finished(&runs.join(id), id)).collect()
}

/// Whether every job of a run succeeded, nobody is at it, and nothing else is in its queue.
fn is_finished(home: &Path, id: &str) -> bool {
    let root = home.join(".coord");
    let Ok(queue) = Queue::open(&root, Platform::real()) else { return false };
    let nobody = procs::all(&queue).is_ok_and(|wids| wids.is_empty());
    let alone = tasks::ids(&queue).is_ok_and(|ids| ids == [id]);
    let is_done =
        |task: &Task| matches!(task.phase, Phase::Done(_)) && queue.fs.exists(&told(task));
    let done = tasks::look(&queue, id).is_ok_and(|task| task.as_ref().is_some_and(is_done));
    nobody && alone && done && are_finished(&root.join("runs"))
}

/// Whether this holds for each run that a job of the run has begun: they go with it.
fn are_finished(runs: &Path) -> bool {
    let below = RealFs.list(runs).unwrap_or_default();
    let ours = |name: &str| name.starts_with(".gone-");
    below.iter().all(|entry| ours(&entry.name) || is_finished(&runs.join(&entry.name), &entry.name))
}

/// By one rename: a run is there as it was, or not at all.
fn take_away(runs: &Path, id: &str) {
    let random = Platform::real().clock.random();
    drop(RealFs.rename(&runs.join(id), &runs.join(format!(".gone-{id}-{random:x}"))));
}
