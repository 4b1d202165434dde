//! Finding the queue, and the identity of a command that changes it.

use std::path::{Path, PathBuf};

use crate::config::{Config, Isolation};
use crate::error::{Cannot, Error, Exit, Result};
use crate::git::repository::{homes_of_linked, passed_by};
use crate::queue::procs::{Identity, Proc};
use crate::queue::record::CardKind;
use crate::queue::{Queue, identity, reserve};
use crate::run::pool::chain::Chains;
use crate::run::site::{Site, open_queue};
use crate::sys::fs::{Fs, RealFs, name_of};

use super::args::Cli;
use super::output;

/// Where the queue is: `--dir`, `$COORD_DIR`, the nearest ancestor that has one, or (in a linked
/// worktree) the same place in the main one or in the bare repository.
pub fn find(cli: &Cli) -> Result<PathBuf> {
    let here = std::env::current_dir().cannot("find the current directory", Path::new("."))?;
    if let Some(dir) = &cli.dir {
        return Ok(queue_in(&here.join(dir)));
    }
    if let Some(dir) = std::env::var_os("COORD_DIR").filter(|d| !d.is_empty()) {
        return Ok(queue_in(&here.join(dir)));
    }
    for dir in here.ancestors() {
        if is_queue(&dir.join(".coord")) {
            return Ok(dir.join(".coord"));
        }
        // A queue above a linked worktree is that of another project: first comes the repository's.
        let below = here.strip_prefix(dir).unwrap_or(Path::new(""));
        if let Some(homes) = homes_of_linked(dir, below) {
            let mut queues = homes.iter().map(|home| home.join(".coord")).chain(of_slot(dir));
            if let Some(found) = queues.find(|queue| is_queue(queue)) {
                return Ok(found);
            }
        }
    }
    let what = format!("no queue in {} or above it", here.display());
    Err(Error::new(Exit::NoQueue, what).hint("coord init"))
}

/// A path may name the queue itself or the project around it.
fn queue_in(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let inner = path.join(".coord");
    if !is_queue(&path) && (is_queue(&inner) || !RealFs.exists(&path)) { inner } else { path }
}

fn is_queue(path: &Path) -> bool {
    RealFs.stat(&path.join("layout.json")).is_ok()
}

/// The queue that a slot of a pool is used for, by the slot's own record.
fn of_slot(top: &Path) -> Option<PathBuf> {
    let (_, record) = Chains::new(top.parent()?).newest(&name_of(top)).ok()??;
    Some(record.queue)
}

/// Opens the queue for looking.
pub fn open(cli: &Cli) -> Result<Queue> {
    open_queue(&find(cli)?)
}

/// Opens the queue with its configuration and repository.
pub fn site(cli: &Cli) -> Result<Site> {
    Site::open(&find(cli)?)
}

/// Registers this command with the queue for the time of `body`.
pub fn with_proc<T>(queue: &Queue, body: impl FnOnce(&mut Proc) -> Result<T>) -> Result<T> {
    let identity = Identity::plain("cli", CardKind::Cli);
    let mut me = Proc::register(queue, &identity)?;
    let result = body(&mut me);
    me.leave(queue);
    result
}

/// As `with_proc`, for what makes room or ends what runs: the reserve of the disk may be spent on it.
pub fn with_proc_in_need<T>(queue: &Queue, body: impl FnOnce(&mut Proc) -> Result<T>) -> Result<T> {
    let identity = Identity::plain("cli", CardKind::Cli);
    let mut me = in_need(queue, || Proc::register(queue, &identity))?;
    let result = body(&mut me);
    me.leave(queue);
    result
}

/// Does what makes room or ends what runs, if need be with the reserve of the disk.
pub fn in_need<T>(queue: &Queue, body: impl FnMut() -> Result<T>) -> Result<T> {
    let told = || output::note("the disk of the queue is full: its reserve is given up for this");
    reserve::spending(queue, told, body)
}

/// The task that a job works on, where no id was given.
pub fn task_or_own(id: Option<&str>) -> Result<String> {
    if let Some(id) = id {
        return Ok(id.to_owned());
    }
    std::env::var("COORD_TASK_ID").map_err(|_| {
        Error::usage("which task? give an id")
            .hint("inside a job the task of the job is meant; this is not inside one")
    })
}

/// What `ID` or `ID@N` names: the task, and the attempt where one is given.
pub fn attempt(word: &str) -> Result<(String, Option<u32>)> {
    match word.rsplit_once('@') {
        Some((id, n)) => match crate::queue::ids::attempt_number(n) {
            Some(n) => Ok((id.to_owned(), Some(n))),
            None => Err(Error::usage(format!("`{n}` is no attempt")).hint("W-3@2")),
        },
        None => Ok((word.to_owned(), None)),
    }
}

/// Says that a queue is a copy, as long as what programs of its original held is not handed back.
pub fn name_copy(queue: &Queue) -> Result<()> {
    let count = identity::of_another(queue)?;
    if count > 0 {
        output::note(&format!(
            "this queue is a copy: programs of its original are registered in it ({count}); what they hold comes back \
             when they have not beaten here for a lease, or at once: coord init --adopt"
        ));
    }
    Ok(())
}

/// Names the empty directories `.git` that git walks past, and `coord` with it, on the way to the
/// repository of a project. Somebody may believe that there is one.
pub fn name_passed(root: &Path, config: &Config) {
    if config.worktree.isolation == Isolation::None {
        return;
    }
    for empty in passed_by(root) {
        output::warn(&format!(
            "{} is empty and no repository: git walks past it, and coord does so too",
            empty.display()
        ));
    }
}
