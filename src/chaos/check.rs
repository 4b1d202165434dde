//! Was anything lost, did anything happen twice? Linear in what was written.
//!
//! The checker believes two things: what the jobs wrote, in its one order, and what the queue
//! answers in the end (`coord ls --json`). It knows nothing of how a queue works inside.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use crate::sys::clock::parse_rfc3339;

use super::pile::Wanted;
use super::witness::{Line, Witness, Word};

/// What a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A task that was accepted is not there, is not done, or was never really done.
    Lost,
    /// Something happened twice, or after it could not count any more.
    Doubled,
    /// A task was begun before what it comes after was done.
    Early,
    /// The answers do not fit what was asked or written.
    Strange,
    /// As `Doubled`, by a process that had left its session and wiped its environment where there is no control
    /// group: nothing promises to find that.
    Escaped,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it is.
    pub kind: Kind,
    /// The task.
    pub id: String,
    /// Words.
    pub what: String,
}

/// What the queue answers, as `coord ls --json` prints it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Answers {
    /// All tasks.
    pub tasks: Vec<Answer>,
}

/// What the queue says of a task.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Answer {
    /// The task.
    pub id: String,
    /// Its state.
    pub state: String,
    /// Its attempts.
    pub attempts: Vec<Attempt>,
}

/// What the queue says of an attempt.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Attempt {
    /// Its number.
    pub attempt: u32,
    /// How it ended.
    pub end: Option<End>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct End {
    /// done, fail, expired, …
    pub verdict: String,
    /// Who held it.
    pub holder: String,
    /// When (RFC 3339).
    pub ended: String,
}

/// A worker that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Which one.
    pub wid: String,
    /// When (milliseconds since 1970).
    pub at_ms: u64,
}

/// What came out.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Tasks that were accepted.
    pub tasks: usize,
    /// Those that were done exactly once.
    pub once: usize,
    /// Attempts that ran.
    pub attempts: usize,
    /// Lines that were torn by a kill.
    pub torn: usize,
    /// Everything that must not be.
    pub faults: Vec<Fault>,
    /// From the death of a worker to the end of what it held, in milliseconds, in order.
    pub recoveries_ms: Vec<u64>,
}

impl Report {
    /// Tasks with a fault of this kind.
    pub fn count(&self, kind: Kind) -> usize {
        let ids = self.faults.iter().filter(|f| f.kind == kind).map(|f| &f.id);
        ids.collect::<HashSet<_>>().len()
    }
}

/// What was seen of a task while its lines are read.
#[derive(Default)]
struct Seen {
    /// The attempt that wrote last.
    current: u32,
    /// Attempts that wrote that they had done everything.
    ended: Vec<u32>,
    /// Something that comes after it has begun: so it was done.
    over: bool,
    /// Attempts that began.
    started: Vec<u32>,
}

/// Checks a run. `wanted` was acknowledged; `perhaps` was asked for by commands that did not live to
/// say so: it may be there or not.
pub fn check(
    wanted: &[Wanted],
    perhaps: &[Wanted],
    witness: &Witness,
    answers: &Answers,
    deaths: &[Death],
) -> Report {
    let mut report = Report { torn: witness.bad.len(), ..Report::default() };
    let after: HashMap<&str, &[String]> =
        wanted.iter().chain(perhaps).map(|w| (w.id.as_str(), w.after.as_slice())).collect();
    let mut told: HashMap<&str, &Answer> = HashMap::new();
    for answer in &answers.tasks {
        let fault = if told.insert(&answer.id, answer).is_some() {
            "is listed twice"
        } else if !after.contains_key(answer.id.as_str()) {
            "nobody has asked for it"
        } else {
            continue;
        };
        report.fault(Kind::Strange, &answer.id, fault.to_owned());
    }
    let accepted: HashMap<&str, u32> =
        told.iter().filter_map(|(id, answer)| Some((*id, accepted(answer)?))).collect();
    let escapes: HashSet<&str> =
        wanted.iter().filter(|w| w.escapes).map(|w| w.id.as_str()).collect();
    let mut seen: HashMap<&str, Seen> = HashMap::new();
    for line in &witness.lines {
        // A job that goes on by itself is the only one that only has deeds.
        let escaped = line.word == Word::Deed && escapes.contains(line.id.as_str());
        let too_late = if escaped { Kind::Escaped } else { Kind::Doubled };
        report.read(line, too_late, &after, &accepted, &mut seen);
    }
    report.own_files(witness);
    for (task, needed) in wanted.iter().map(|w| (w, true)).chain(perhaps.iter().map(|w| (w, false)))
    {
        report.settle(&task.id, needed, told.get(task.id.as_str()).copied(), &seen);
    }
    for id in seen.keys().filter(|id| !after.contains_key(**id)) {
        report.fault(Kind::Strange, id, "it ran, and nobody has asked for it".to_owned());
    }
    report.attempts = seen.values().map(|s| s.started.len()).sum();
    report.recoveries(answers, deaths);
    let faulty: HashSet<&String> =
        report.faults.iter().filter(|f| f.kind != Kind::Escaped).map(|f| &f.id).collect();
    report.once = told.keys().filter(|id| !faulty.contains(&(**id).to_owned())).count();
    report
}

/// The attempt that was accepted as done; the first one if there are several.
fn accepted(answer: &Answer) -> Option<u32> {
    let done = |a: &&Attempt| a.end.as_ref().is_some_and(|end| end.verdict == "done");
    answer.attempts.iter().find(done).map(|a| a.attempt)
}

impl Report {
    fn fault(&mut self, kind: Kind, id: &str, what: String) {
        self.faults.push(Fault { kind, id: id.to_owned(), what });
    }

    /// One deed of a job, in the order of all of them.
    fn read<'a>(
        &mut self,
        line: &'a Line,
        too_late: Kind,
        after: &HashMap<&str, &'a [String]>,
        accepted: &HashMap<&str, u32>,
        seen: &mut HashMap<&'a str, Seen>,
    ) {
        let Line { id, n, word } = line;
        let task = seen.entry(id).or_default();
        if task.over {
            let what = format!("attempt {n} wrote {word:?} after what comes after it had begun");
            self.faults.push(Fault { kind: too_late, id: id.clone(), what });
        }
        if *n < task.current {
            let later = task.current;
            let what = format!("attempt {n} wrote {word:?} after attempt {later} had begun");
            self.faults.push(Fault { kind: too_late, id: id.clone(), what });
            return;
        }
        let begins = *word == Word::Start;
        if begins != (*n > task.current) || *word == Word::Twice {
            let what = match word {
                Word::Start | Word::Twice => format!("attempt {n} was begun twice"),
                _ => format!("attempt {n} wrote {word:?} without having begun"),
            };
            self.faults.push(Fault { kind: Kind::Doubled, id: id.clone(), what });
        }
        task.current = *n;
        match word {
            Word::Start => task.started.push(*n),
            Word::End => task.ended.push(*n),
            _ => {}
        }
        if !begins {
            return;
        }
        for other in after.get(id.as_str()).copied().unwrap_or_default() {
            let first = seen.entry(other).or_default();
            first.over = true;
            let done = accepted.get(other.as_str());
            if !done.is_some_and(|n| first.ended.contains(n)) {
                self.fault(Kind::Early, id, format!("it was begun before {other} was done"));
            }
        }
    }

    /// The witness files that each attempt has of its own say the same as the order of all.
    fn own_files(&mut self, witness: &Witness) {
        let own: HashSet<&str> = witness.attempts.iter().map(String::as_str).collect();
        let mut began = HashSet::new();
        let mut went_on = HashSet::new();
        for line in &witness.lines {
            let key = format!("{}.{}", line.id, line.n);
            if line.word == Word::Start {
                began.insert(key)
            } else {
                went_on.insert(key)
            };
        }
        for key in own.iter().filter(|key| !began.contains(**key)) {
            let id = key.rsplit_once('.').map_or(*key, |(id, _)| id);
            self.fault(
                Kind::Strange,
                id,
                format!("{key} left a file, but never wrote that it began"),
            );
        }
        // Killed between its line and its file, it did nothing else.
        for key in went_on.iter().filter(|key| !own.contains(key.as_str())) {
            let id = key.rsplit_once('.').map_or(key.as_str(), |(id, _)| id);
            self.fault(Kind::Strange, id, format!("{key} wrote, but left no file of its own"));
        }
    }

    /// What the queue answers for a task, against what its attempts wrote.
    fn settle(
        &mut self,
        id: &str,
        needed: bool,
        told: Option<&Answer>,
        seen: &HashMap<&str, Seen>,
    ) {
        let nothing = Seen::default();
        let seen = seen.get(id).unwrap_or(&nothing);
        let Some(answer) = told else {
            if needed {
                self.fault(Kind::Lost, id, "it was acknowledged, and is not there".to_owned());
            } else if !seen.started.is_empty() {
                self.fault(Kind::Lost, id, "it ran, and is not there".to_owned());
            }
            return;
        };
        self.tasks += 1;
        let known: BTreeMap<u32, Option<&End>> =
            answer.attempts.iter().map(|a| (a.attempt, a.end.as_ref())).collect();
        let done: Vec<u32> = known
            .iter()
            .filter(|(_, end)| end.is_some_and(|end| end.verdict == "done"))
            .map(|(n, _)| *n)
            .collect();
        if answer.state != "done" {
            self.fault(Kind::Lost, id, format!("it is {}, not done", answer.state));
        } else if done.is_empty() {
            self.fault(Kind::Lost, id, "it is called done without an attempt that is".to_owned());
        }
        if done.len() > 1 {
            self.fault(Kind::Doubled, id, format!("attempts {done:?} were all accepted as done"));
        }
        if let (Some(first), Some((last, _))) = (done.first(), known.last_key_value())
            && last > first
        {
            let what = format!("attempt {last} came after attempt {first} had been accepted");
            self.fault(Kind::Doubled, id, what);
        }
        for (n, end) in &known {
            if end.is_none() {
                self.fault(Kind::Lost, id, format!("attempt {n} has never ended"));
            }
        }
        for n in seen.started.iter().filter(|n| !known.contains_key(n)) {
            self.fault(Kind::Doubled, id, format!("attempt {n} ran, and the queue knows none"));
        }
        for n in done.iter().filter(|n| !seen.ended.contains(n)) {
            self.fault(
                Kind::Lost,
                id,
                format!("attempt {n} was accepted, but its job never ended"),
            );
        }
    }

    /// How long the dead kept what they held.
    fn recoveries(&mut self, answers: &Answers, deaths: &[Death]) {
        let deaths: HashMap<&str, u64> = deaths.iter().map(|d| (d.wid.as_str(), d.at_ms)).collect();
        let ends = answers.tasks.iter().flat_map(|t| &t.attempts).filter_map(|a| a.end.as_ref());
        let expired = ends.filter(|end| end.verdict == "expired").filter_map(|end| {
            let died = deaths.get(end.holder.as_str())?;
            Some(parse_rfc3339(&end.ended)?.saturating_sub(*died))
        });
        self.recoveries_ms = expired.collect();
        self.recoveries_ms.sort_unstable();
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
