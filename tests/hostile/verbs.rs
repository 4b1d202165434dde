//! Commands with a deadline, and programs that must come to rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::places::Ids;
use crate::support::{Sandbox, patiently_for};

/// The longest that any command may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// What is drawn from; `V` is a task that may be spoilt, `G` one that must end well, `N` a new id.
pub const VERBS: &[&str] = &[
    "status",
    "status --count ready",
    "ls",
    "ls all --limit 20",
    "queue @failed",
    "show V",
    "show G",
    "why V",
    "why G",
    "workers",
    "logs V -n 5",
    "logs G -n 5",
    "events",
    "events V",
    "events --since 10s",
    "wait V --timeout 100ms",
    "cancel V",
    "cancel V --force",
    "hold V",
    "release V",
    "retry V",
    "retry @failed",
    "done V",
    "fail V --reason x",
    "start -n 2",
    "scale 2",
    "resume",
    "work --once --role other",
    "context V",
    "worktree ls",
    "worktree gc",
    "diff V",
    "merge",
    "mergeq list",
    "gc",
    "gc --rejected --dry-run",
    "gc --dry-run --delete",
    "fsck",
    "fsck --strict",
    "fsck --repair",
    "doctor",
    "runs",
    "run echo ::: a b",
    "map --id N echo ::: 1 2",
    "add --id N --hold true",
    "import ../import.md",
    "dismiss all",
    "init",
];

/// What can be shown as JSON as well, so that it is now and then.
fn words(line: &str, ids: &Ids, chance: &mut Chance, new: &str) -> Vec<String> {
    let mut words: Vec<String> = line
        .split(' ')
        .map(|word| match word {
            "V" => chance.one(&ids.victims),
            "G" => chance.one(&ids.good),
            "N" => new.to_owned(),
            word => word.to_owned(),
        })
        .collect();
    if chance.in_a_hundred(25) && !line.starts_with("run ") && !line.starts_with("map") {
        words.insert(0, "--json".to_owned());
    }
    words
}

/// A command that runs.
pub struct Running {
    words: Vec<String>,
    child: Child,
    began: Instant,
    said: PathBuf,
    /// How it ended and how long it took.
    over: Option<(i32, Duration)>,
}

impl Running {
    /// Starts `coord` with what it prints in a file: nobody need read it for it to go on.
    pub fn start(s: &Sandbox, words: Vec<String>, number: usize) -> Running {
        let said = s.beside("said").join(number.to_string());
        let file = fs::File::create(&said).unwrap();
        let mut command = s.command(env!("CARGO_BIN_EXE_coord"));
        command.args(&words).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        Running { words, child, began: Instant::now(), said, over: None }
    }

    /// Starts a verb that was drawn.
    pub fn verb(s: &Sandbox, line: &str, ids: &Ids, chance: &mut Chance, number: usize) -> Running {
        let new = format!("n{}-{number}", chance.below(1 << 30));
        Running::start(s, words(line, ids, chance, &new), number)
    }

    fn look(&mut self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        if self.over.is_none()
            && let Some(status) = self.child.try_wait().unwrap()
        {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            self.over = Some((code, self.began.elapsed()));
        }
        self.over.is_some()
    }

    /// What it printed.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.said).unwrap_or_default()).into_owned()
    }
}

/// Waits for commands that were started together. What went wrong, a line each.
pub fn finish(running: &mut [Running], times: &mut BTreeMap<String, Duration>) -> Vec<String> {
    let _ = patiently_for(LIMIT, || {
        let ended = running.iter_mut().filter_map(|one| one.look().then_some(())).count();
        ended == running.len()
    });
    let mut wrong = Vec::new();
    for one in running.iter_mut() {
        let what = one.words.join(" ");
        let Some((code, took)) = one.over else {
            let at = stack(one.child.id());
            crate::support::kill(i32::try_from(one.child.id()).unwrap());
            let _ = one.child.wait();
            wrong.push(format!(
                "`coord {what}` takes longer than {LIMIT:?}; it is in {at}\n{}",
                one.said()
            ));
            continue;
        };
        let said = one.said();
        // Codes of runs are numbers of jobs.
        if code > 128 || code == 70 || said.contains("panicked") {
            wrong.push(format!("`coord {what}` ended with {code}:\n{said}"));
        }
        let verb = one.words.iter().find(|word| !word.starts_with('-')).cloned();
        let longest = times.entry(verb.unwrap_or_default()).or_default();
        *longest = took.max(*longest);
    }
    wrong
}

/// Where a process is in the kernel, as far as that can be read.
fn stack(pid: u32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    format!("{} {}", read("wchan"), read("syscall").trim_end())
}

/// Processor time of a process so far, in hundredths of a second.
fn spent(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split(' ').collect();
    Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
}

/// Waits for a window of time in which no program of the queue works, though nothing is to be done. Which one
/// never rests, if one does not.
pub fn rest(s: &Sandbox) -> Result<(), String> {
    /// A window, and the part of it that a program at rest may take, in hundredths of a second.
    const WINDOW: (Duration, u64) = (Duration::from_millis(250), 5);
    let mut before: BTreeMap<i32, u64> = BTreeMap::new();
    let mut since = Instant::now();
    let mut busy = Vec::new();
    let rests = patiently_for(LIMIT, || {
        if !before.is_empty() && since.elapsed() < WINDOW.0 {
            return false;
        }
        let now: BTreeMap<i32, u64> =
            s.processes().into_iter().filter_map(|pid| Some((pid, spent(pid)?))).collect();
        busy = now
            .iter()
            .filter(|(pid, ticks)| before.get(pid).is_some_and(|was| **ticks > was + WINDOW.1))
            .map(|(pid, _)| *pid)
            .collect();
        let looked = !before.is_empty() || now.is_empty();
        (before, since) = (now, Instant::now());
        looked && busy.is_empty()
    });
    if rests {
        return Ok(());
    }
    let name = |pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("{pid} {}", line.replace('\0', " "))
    };
    Err(format!("never at rest: {:?}", busy.iter().map(name).collect::<Vec<_>>()))
}
