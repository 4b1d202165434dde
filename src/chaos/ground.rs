//! A directory with a queue of throw-away tasks, and all processes that belong to it.
//!
//! ```text
//! DIR/owner          who made it: pid and start of a process; a dead owner's directory may go
//! DIR/coord.toml     short leases and pauses
//! DIR/.coord/        the queue
//! DIR/job            what each task runs
//! DIR/witness/       what the jobs wrote
//! ```
//!
//! Every process that is started here carries `COORD_CHAOS=PID.START:DIR` in its environment, and
//! all that it starts inherits it: programs, jobs, what the jobs leave behind. So nothing of it can
//! stay, and what a killed owner leaves is found and ended by the next one.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::error::{Cannot, Error, Exit, Result};
use crate::sys::alive::{self, EnvMark, Sent};
use crate::sys::child;
use crate::sys::fs::{Fs, RealFs, mkdir_all, remove_tree};
use crate::sys::remains::{self, Left, Traces};
use crate::sys::tool::{self, Output, Tool};

use super::pile;

/// The variable that all processes of a ground carry.
pub const VARIABLE: &str = "COORD_CHAOS";

/// Time for killed processes to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// A queue for chaos.
#[derive(Debug)]
pub struct Ground {
    /// The directory.
    pub dir: PathBuf,
    coord: PathBuf,
    env: Vec<(String, String)>,
    mark: EnvMark,
}

/// A program at work, as `coord workers --json` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name, such as `w1` or `monitor`.
    pub name: String,
    /// Its id.
    pub wid: String,
    /// worker, monitor, coordinator or aggregator.
    pub kind: String,
    /// Its process.
    pub pid: i32,
    /// The attempts that it holds, as `T.n`.
    pub tasks: Vec<String>,
}

/// How the queue of a ground is set up.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A worker that gives no sign for so long loses its task.
    pub lease_ms: u64,
    /// The rest after a failed attempt.
    pub backoff_ms: u64,
}

impl Ground {
    /// Makes the directory and the queue in it, or takes up one that was made earlier. `coord` is the
    /// program of that name; the others are beside it.
    pub fn make(dir: &Path, coord: &Path, settings: Settings) -> Result<Ground> {
        mkdir_all(&RealFs, dir).cannot("make a directory", dir)?;
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let start = alive::proc_stat(pid).map_or(0, |stat| stat.start);
        let owner = format!("{pid}.{start}");
        let value = format!("{owner}:{}", dir.display());
        let path = dir.join("owner");
        write(&path, owner.as_bytes(), 0o644)?;
        let env = vec![
            (VARIABLE.to_owned(), value.clone()),
            ("COORD_DIR".to_owned(), String::new()),
            ("COORD_STEP".to_owned(), String::new()),
            ("COORD_CHAOS_COORD".to_owned(), coord.display().to_string()),
        ];
        let mark = EnvMark::variable(VARIABLE, &value);
        let ground = Ground { dir: dir.to_owned(), coord: coord.to_owned(), env, mark };
        write(&dir.join("coord.toml"), configuration(settings).as_bytes(), 0o644)?;
        pile::prepare(dir)?;
        ground.must(&["init"])?;
        Ok(ground)
    }

    /// A further variable for everything that is started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Runs `coord`; the code and what it printed.
    pub fn coord(&self, args: &[&str]) -> Result<Output> {
        let mut coord = Tool::new(&self.coord, &self.dir).args(args).own_group();
        for (name, value) in &self.env {
            coord = coord.env(name, value);
        }
        coord.run(&tool::nothing).cannot("run coord", &self.coord)
    }

    /// Runs `coord`, which must succeed; what it printed.
    pub fn must(&self, args: &[&str]) -> Result<String> {
        let output = self.coord(args)?;
        if output.ok() {
            return Ok(output.text());
        }
        let code = output.code;
        let words = args.iter().take(4).copied().collect::<Vec<_>>().join(" ");
        let said = format!("{}{}", output.text(), output.stderr);
        let said: String = said.chars().take(2000).collect();
        let what = format!("`coord {words}` exited with {code}: {}", said.trim());
        Err(Error::new(Exit::Internal, what).at(&self.dir))
    }

    /// Runs `coord`, which must succeed and print one JSON document.
    pub fn json<T: serde::de::DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let text = self.must(args)?;
        serde_json::from_str(&text).map_err(|e| {
            let what = format!("what `coord {}` prints is not what it should be: {e}", args[0]);
            Error::new(Exit::Internal, what)
        })
    }

    /// Starts one of the programs, or `coord` itself, in the background; what it says goes to
    /// `NAME.said` in the directory.
    pub fn start(&self, program: &str, args: &[&str]) -> Result<Child> {
        let beside = self.coord.with_file_name(program);
        let apart = self.coord.with_file_name("../libexec/coord").join(program);
        let path = if RealFs.exists(&beside) { beside } else { apart };
        let log = self.dir.join(format!("{program}.said"));
        let log = child::open_output(&log).cannot("open a log", &log)?;
        child::start_with(&path, args, &self.dir, &self.env, &log).cannot("start", &path)
    }

    /// The programs that live.
    pub fn programs(&self) -> Result<Vec<Program>> {
        let document: Value = self.json(&["workers", "--json"])?;
        let lists = [&document["workers"], &document["programs"]];
        let all = lists.into_iter().filter_map(Value::as_array).flatten();
        let text = |m: &Value, field: &str| m[field].as_str().unwrap_or_default().to_owned();
        Ok(all
            .filter(|m| m["state"] != "dead")
            .map(|m| Program {
                name: text(m, "name"),
                wid: text(m, "wid"),
                kind: text(m, "kind"),
                pid: m["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0),
                tasks: m["tasks"]
                    .as_array()
                    .map(|all| all.iter().filter_map(|t| t.as_str().map(str::to_owned)).collect())
                    .unwrap_or_default(),
            })
            .filter(|program| self.owns(program.pid))
            .collect())
    }

    /// Whether a process belongs to this ground.
    pub fn owns(&self, pid: i32) -> bool {
        pid > 1 && self.mark.is_on(pid)
    }

    /// Sends a signal to a process, if it still belongs to this ground.
    pub fn signal(&self, pid: i32, signal: Signal) -> bool {
        let process = alive::proc_stat(pid).and_then(|stat| alive::open(pid, stat.start));
        // The look comes after the open: a number that was used again meanwhile is somebody else's.
        process.is_some_and(|process| self.owns(pid) && process.send(signal) == Sent::Yes)
    }

    /// Every process that belongs to this ground.
    pub fn processes(&self) -> Vec<i32> {
        self.mark.find(&[])
    }

    /// Ends every process that belongs to this ground; those that could not be ended.
    pub fn end_all(&self) -> Vec<Left> {
        remains::end(&Traces::of_mark(self.mark.clone()), &[], PATIENCE)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// Writes a file whole.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let tmp = path.with_extension("new");
    RealFs.create(&tmp, bytes, mode).cannot("write", path)?;
    RealFs.rename(&tmp, path).cannot("write", path)
}

fn configuration(settings: Settings) -> String {
    let Settings { lease_ms, backoff_ms } = settings;
    format!(
        "version = 1\n[workers]\ngrace = \"1s\"\n[lease]\nexpire = \"{lease_ms}ms\"\n\
         [retry]\nattempts = 1000\nbackoff = \"{backoff_ms}ms\"\nfactor = 1.0\n\
         [worktree]\nisolation = \"none\"\n"
    )
}

/// Ends what the grounds of dead owners left running, and removes their directories below `below`
/// that begin with `prefix`. Returns how many processes were ended.
pub fn clean_up_after_the_dead(below: &Path, prefix: &str) -> usize {
    let mut ended = 0;
    for value in alive::values_of(VARIABLE) {
        let owner = value.split(':').next().unwrap_or_default();
        if !lives(owner) {
            let mark = EnvMark::variable(VARIABLE, &value);
            ended += mark.find(&[]).len();
            remains::end(&Traces::of_mark(mark), &[], PATIENCE);
        }
    }
    for entry in RealFs.list(below).unwrap_or_default() {
        let dir = below.join(&entry.name);
        if !entry.name.starts_with(prefix) {
            continue;
        }
        // Without the file it was kept on purpose, or is somebody else's.
        let Ok(owner) = RealFs.read(&dir.join("owner"), 0, 100) else { continue };
        if !lives(&String::from_utf8_lossy(&owner)) {
            drop(remove_tree(&dir));
        }
    }
    ended
}

/// Whether the process `PID.START` lives. What cannot be read counts as alive: it is left alone.
fn lives(owner: &str) -> bool {
    let parts = owner.trim().split_once('.');
    let parsed = parts.and_then(|(pid, start)| Some((pid.parse().ok()?, start.parse().ok()?)));
    parsed.is_none_or(|(pid, start): (i32, u64)| alive::is_alive(pid, start))
}
