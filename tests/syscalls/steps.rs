//! Every `step!` name in every program that passes it: killed there, and the next file operation
//! failed there. `steps.txt` is the list of them, one `step program situation` a line.
//!
//! The list is held against the sources (no name is missing), against undisturbed runs of all
//! situations by all their programs (no pair is missing that any of them passes), and each line is
//! played with a crash and with an error. `COORD_STEPS_WRITE=1` writes it anew from what is observed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

use crate::case::Case;
use crate::errors::{documented, says};
use crate::lists;
use crate::members::OUTLIVED;
use crate::place::Place;
use crate::play::{play, run};
use crate::points;
use crate::rare::RARE;
use crate::situation::Situation;
use crate::situations::SITUATIONS;

const LIST: &str = include_str!("steps.txt");
const ERRORS: &[&str] = &["eio", "enospc", "eintr", "emfile"];

/// A step in a program, and the situation in which it is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub step: String,
    pub program: String,
    pub situation: String,
}

impl Line {
    /// The situation.
    pub fn played(&self) -> &'static Situation {
        let mut all = situations().chain([&OUTLIVED]);
        all.find(|s| s.name == self.situation).expect("a known situation")
    }
}

/// The lines of the list.
pub fn listed() -> Vec<Line> {
    let lines = LIST.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            let mut next = || words.next().unwrap_or_default();
            Line { step: next(), program: next(), situation: next() }
        })
        .collect()
}

/// Every name in the sources.
fn names_in_sources() -> BTreeSet<String> {
    fn walk(dir: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, names);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                if let Some((_, rest)) = line.split_once("step!(\"") {
                    names.insert(rest.split('"').next().unwrap().to_owned());
                }
            }
        }
    }
    let mut names = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
    names
}

fn situations() -> impl Iterator<Item = &'static Situation> {
    SITUATIONS.iter().chain(RARE).chain(lists::RARE)
}

/// The pairs that a program passes, by its trace; and the words of operations that failed.
fn traced(case: &Case) -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(case.dir().join("trace")).unwrap_or_default();
    let words = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        (next(), next(), next())
    };
    text.lines().map(words).collect()
}

/// The queues of all situations.
fn templates(place: &Path) -> BTreeMap<&'static str, Case> {
    let make = |s: &'static Situation| {
        let case = Case::new(&place.join(s.name));
        (s.prepare)(&case);
        (s.name, case)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = situations().map(|s| scope.spawn(move || make(s))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// Where each pair of a step and a program is seen.
type Seen = BTreeMap<(String, String), Vec<&'static str>>;

/// What undisturbed programs pass.
fn watch(place: &Path, templates: &BTreeMap<&'static str, Case>) -> Seen {
    let runs: Vec<(&Situation, &[&str])> =
        situations().flat_map(|s| s.acts.iter().map(move |act| (s, *act))).collect();
    let seen: Mutex<Seen> = Mutex::new(BTreeMap::new());
    let label = |(s, act): &(&Situation, &[&str])| format!("{} {}", s.name, act.join(" "));
    points::run("watched", runs.len(), &runs, label, |(situation, act)| {
        let case = templates[situation.name].copy(&place.join(format!(
            "watched {} {}",
            situation.name,
            act.join(" ")
        )));
        let acknowledged =
            play(&case, situation, act, |command| run(&case, situation, command, ""));
        case.verify(situation, acknowledged);
        for (step, program, _) in traced(&case) {
            let mut seen = seen.lock().unwrap();
            let situations = seen.entry((step, program)).or_default();
            if !situations.contains(&situation.name) {
                situations.push(situation.name);
            }
        }
        case.remove();
    });
    seen.into_inner().unwrap()
}

/// Tries of a line: who passes a step first may hang on who is faster.
const TRIES: u32 = 4;

/// One line of the list with one thing going wrong there, each try in a new copy of its queue.
pub fn disturb(line: &Line, what: &str, copy: impl Fn() -> Case) {
    let reached = (0..TRIES).any(|_| reaches(copy(), line, what));
    assert!(reached, "in {TRIES} runs it did not come to its step");
}

/// False: the program did not come to that step this time.
fn reaches(case: Case, line: &Line, what: &str) -> bool {
    let situation = line.played();
    let act = acts(situation, &line.program).expect("a program of that situation");
    let plan = format!("{}/{}:{what}", line.program, line.step);
    let mut reached = false;
    let acknowledged = play(&case, situation, act, |command| {
        let ended = run(&case, situation, command, &plan);
        if what == "crash" {
            reached = ended.signal == Some(9);
        } else {
            let hit = (line.step.clone(), line.program.clone(), what.to_owned());
            reached = traced(&case).contains(&hit);
            documented(&ended);
            says(&ended, what);
        }
        ended
    });
    case.verify(situation, acknowledged);
    case.remove();
    reached
}

/// The command of a situation that is that program.
fn acts(situation: &Situation, program: &str) -> Option<&'static [&'static str]> {
    situation.acts.iter().find(|act| act[0] == program).copied()
}

/// Steps that need more than a situation here has, with the test that crashes there.
const ELSEWHERE: [&str; 9] = [
    // tests/programs/merges.rs
    "merge.link",
    "merging.unlink",
    // tests/merging/bounces.rs
    "start.mark",
    // tests/programs/halts.rs
    "halt.count",
    // tests/programs/array_crashes.rs
    "list.open",
    // Of what another user has staged: members.rs
    "copy.stage",
    "copy.link",
    // Of a worker that loses: tests/programs/zombies.rs
    "claim.help",
    // Of `coord init --adopt`, in a copy: tests/programs/copied_queues.rs.
    "adopt.layout",
];

#[test]
fn every_step_in_every_program_with_a_crash_and_an_error() {
    let place = Place::fast();
    let place = place.path();
    let templates = templates(place);
    let observed = watch(place, &templates);
    if std::env::var_os("COORD_STEPS_WRITE").is_some() {
        let more = [watch(place, &templates), watch(place, &templates)];
        return write(&observed, &more);
    }
    let list = listed();
    let in_list: BTreeSet<&str> = list.iter().map(|line| line.step.as_str()).collect();
    let missing: Vec<String> =
        names_in_sources().into_iter().filter(|n| !in_list.contains(n.as_str())).collect();
    let missing: Vec<&String> =
        missing.iter().filter(|n| !ELSEWHERE.contains(&n.as_str())).collect();
    assert!(missing.is_empty(), "no line of steps.txt has {missing:?}");
    let pairs: BTreeSet<(&str, &str)> =
        list.iter().map(|l| (l.step.as_str(), l.program.as_str())).collect();
    let unlisted: Vec<_> =
        observed.keys().filter(|(s, p)| !pairs.contains(&(s.as_str(), p.as_str()))).collect();
    assert!(unlisted.is_empty(), "passed, and not in steps.txt: {unlisted:?}");
    let mut all: Vec<(&Line, &str)> = list.iter().map(|line| (line, "crash")).collect();
    for line in &list {
        let one = points::draw(format!("{} {}", line.step, line.program)) % ERRORS.len() as u64;
        let drawn = ERRORS.iter().enumerate().filter(|(i, _)| points::full() || *i as u64 == one);
        all.extend(drawn.map(|(_, error)| (line, *error)));
    }
    let label = |(line, what): &(&Line, &str)| format!("{} {} {what}", line.step, line.program);
    points::run("at a step", all.len(), &all, label, |(line, what)| {
        let name = format!("{} {} {what}", line.step, line.program);
        disturb(line, what, || templates[line.played().name].copy(&place.join(&name)));
    });
    println!(
        "{} steps, {} pairs of step and program, each with a crash and an error",
        in_list.len(),
        pairs.len()
    );
}

/// `more`: further looks. Some situations show a pair only now and then: what is written is one that
/// shows it each time.
fn write(observed: &Seen, more: &[Seen]) {
    let mut text = String::from(
        "# Every step! name, every program that passes it, and the situation in which a crash and an error\n\
         # there are played. Checked by tests/syscalls/steps.rs, which says how it is written.\n",
    );
    for (pair, names) in observed {
        let always = |name: &str| {
            more.iter().all(|seen| seen.get(pair).is_some_and(|names| names.contains(&name)))
        };
        let steady = |s: &&Situation| {
            names.contains(&s.name) && always(s.name) && acts(s, &pair.1).is_some()
        };
        let Some(situation) = situations().find(steady) else {
            panic!("{pair:?} is passed only now and then, in {names:?}: it needs a situation");
        };
        writeln!(text, "{} {} {}", pair.0, pair.1, situation.name).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/syscalls/steps.txt");
    std::fs::write(path, text).unwrap();
}
