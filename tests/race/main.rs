//! Many processes race for one task, again and again: exactly one wins each time.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test starts processes and looks at files from outside"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coord::queue::Queue;
use coord::queue::claim::{Claimed, claim};
use coord::queue::ids::Key;
use coord::queue::procs::{Identity, Proc};
use coord::queue::ready::Candidate;
use coord::queue::record::{Card, CardKind, Spec};
use coord::queue::submit::submit;
use coord::sys::host::Platform;

/// By this variable the test binary knows that it is a racer: number, directory and rounds.
const RACER: &str = "RACER_OF_TEST";
const RACERS: usize = 64;
const ROUNDS: usize = 1000;
/// For one round of all; they take milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(dir: &Path) -> Queue {
    Queue::open(&dir.join(".coord"), Platform::real()).unwrap()
}

fn register(queue: &Queue, name: &str, kind: CardKind) -> Proc {
    let (roles, labels) = (Vec::new(), Vec::new());
    let identity = Identity { roles, labels, ..Identity::plain(name, kind) };
    Proc::register(queue, &identity).unwrap()
}

/// The task of a round, and the hint that leads to it.
fn candidates(dir: &Path) -> Vec<Candidate> {
    let text = fs::read_to_string(dir.join("candidates")).unwrap();
    text.lines()
        .map(|path| {
            let name = path.rsplit('/').next().unwrap();
            Candidate { key: Key::parse(name).unwrap(), path: PathBuf::from(path) }
        })
        .collect()
}

/// The gate of a round is a locked file: when it is unlocked, all who wait for it go at once.
fn gate(dir: &Path, round: usize) -> PathBuf {
    dir.join(format!("gate.{round}"))
}

/// One racer; does nothing unless it was started as one.
#[test]
fn racer() {
    let Ok(told) = std::env::var(RACER) else { return };
    let (number, dir) = told.split_once(' ').unwrap();
    let dir = PathBuf::from(dir);
    let queue = open(&dir);
    let mut me = register(&queue, &format!("racer{number}"), CardKind::Worker);
    let arrivals = UnixDatagram::unbound().unwrap();
    arrivals.connect(dir.join("arrivals")).unwrap();
    let mut report = format!("{}\n", me.wid);
    for (round, candidate) in candidates(&dir).iter().enumerate() {
        let gate = File::open(gate(&dir, round)).unwrap();
        arrivals.send(b"x").unwrap();
        gate.lock_shared().unwrap();
        drop(gate);
        let line = match claim(&queue, &mut me, candidate, |_| true).unwrap() {
            Claimed::Won(lease) => format!("won {}\n", lease.key),
            Claimed::Lost => "lost\n".to_owned(),
            Claimed::Stale => "stale\n".to_owned(),
            other => format!("{other:?}\n"),
        };
        report.push_str(&line);
    }
    fs::write(dir.join(format!("report.{number}")), report).unwrap();
}

#[test]
fn of_64_processes_exactly_one_wins_in_each_of_1000_rounds() {
    if std::env::var_os(RACER).is_some() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let dir = fs::canonicalize(temporary.path()).unwrap();
    let root = dir.join(".coord");
    let queue = coord::queue::init::init(&root, Platform::real()).unwrap();
    let mut me = register(&queue, "submitter", CardKind::Cli);
    for _ in 0..ROUNDS {
        let spec = Spec { sh: "true".to_owned(), ..Spec::new("race") };
        submit(&queue, &mut me, None, spec).unwrap();
    }
    me.leave(&queue);
    let hints: Vec<String> = walkdir::WalkDir::new(queue.layout.ready())
        .into_iter()
        .map(|e| e.unwrap())
        .filter(|e| e.file_type().is_file() && e.file_name() != "bell")
        .map(|e| e.path().display().to_string())
        .collect();
    assert_eq!(hints.len(), ROUNDS);
    fs::write(dir.join("candidates"), hints.join("\n")).unwrap();
    let arrivals = UnixDatagram::bind(dir.join("arrivals")).unwrap();
    arrivals.set_read_timeout(Some(PATIENCE)).unwrap();
    let lock = |round: usize| {
        let file = File::create(gate(&dir, round)).unwrap();
        file.lock().unwrap();
        file
    };
    let mut locked = lock(0);
    let began = Instant::now();
    let mut racers: Vec<_> = (0..RACERS)
        .map(|number| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "racer", "--nocapture"]).stdout(Stdio::null());
            command.env(RACER, format!("{number} {}", dir.display())).spawn().unwrap()
        })
        .collect();
    let mut all_came = true;
    'rounds: for round in 0..ROUNDS {
        for _ in 0..RACERS {
            let mut byte = [0];
            if arrivals.recv(&mut byte).is_err() {
                all_came = false;
                break 'rounds;
            }
        }
        let next = lock(round + 1);
        drop(std::mem::replace(&mut locked, next));
    }
    for racer in &mut racers {
        if !all_came {
            racer.kill().unwrap();
        }
        let ended = racer.wait().unwrap();
        assert!(!all_came || ended.success(), "a racer failed: {ended}");
    }
    assert!(all_came, "a racer did not come to the gate");
    println!("{RACERS} processes, {ROUNDS} rounds: {:?}", began.elapsed());
    judge(&dir, &queue);
}

/// Every task has one winner, and its register names that one.
fn judge(dir: &Path, queue: &Queue) {
    let mut winners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut lost, mut stale) = (0, 0);
    for number in 0..RACERS {
        let text = fs::read_to_string(dir.join(format!("report.{number}"))).unwrap();
        let mut lines = text.lines();
        let wid = lines.next().unwrap();
        let mut own = Vec::new();
        for line in lines {
            match line.split_once(' ') {
                Some(("won", key)) => {
                    winners.entry(key.to_owned()).or_default().push(wid.to_owned());
                    own.push(key.to_owned());
                }
                _ if line == "lost" => lost += 1,
                _ if line == "stale" => stale += 1,
                _ => panic!("{wid}: {line}"),
            }
        }
        // Who won has an intent for it, and nobody else has one.
        let mut intents: Vec<String> = fs::read_dir(queue.layout.proc(wid).join("run"))
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        intents.sort();
        own.sort();
        assert_eq!(intents, own, "the intents of {wid}");
    }
    for candidate in candidates(dir) {
        let key = candidate.key;
        let names = winners.get(&key.to_string()).cloned().unwrap_or_default();
        assert_eq!(names.len(), 1, "{key} was won by {names:?}");
        let claim = fs::read(queue.layout.task(&key.task).join("1.claim")).unwrap();
        let card: Card = serde_json::from_slice(&claim).unwrap();
        assert_eq!(card.wid, names[0], "{key}");
        assert!(!candidate.path.exists(), "the hint of {key} is left");
    }
    println!("{lost} lost, {stale} came too late to try");
    // Else it was no race: everybody saw the winner's claim before trying.
    assert!(lost > ROUNDS / 10, "only {lost} of {} were decided by the link", RACERS * ROUNDS);
}
