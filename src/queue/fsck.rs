//! `coord fsck`: looks at every file of a queue and names what is not as the protocol leaves it.
//!
//! The look changes nothing, follows no symbolic link, opens nothing but regular files, and goes on
//! whatever the bytes are (I23). While programs run the queue changes under it, so a finding counts
//! only if it is still there when everything is looked at again.

mod archived;
mod arrays;
mod facts;
mod hints;
pub mod owners;
mod procs;
mod registers;
mod repair;
mod scopes;
mod streams;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::error::Result;

use super::Queue;
use facts::{Facts, Tasks};
use procs::Seen;
pub use repair::{repair, untrue};

/// How much a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// An invariant is broken: work may be lost, stuck or done twice.
    Error,
    /// A crash or a hand left it; recovery, the sweep or a person removes it, and nothing is wrong.
    Leftover,
    /// In order, but worth knowing: of a live process, or rejected input. Never counts.
    Note,
}

impl Severity {
    /// The word that people see.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Leftover => "leftover",
            Severity::Note => "note",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it means.
    pub severity: Severity,
    /// The invariant that it breaks (`I3`), or a word: format, foreign, stale, dead, tmp, …
    pub invariant: &'static str,
    /// The file or directory.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

/// A foreign name need not be UTF-8, and JSON knows nothing else.
fn as_text<S: serde::Serializer>(
    path: &Path,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl Finding {
    /// Whether it makes the answer "no".
    pub fn counts(&self, strict: bool) -> bool {
        match self.severity {
            Severity::Error => true,
            Severity::Leftover => strict,
            Severity::Note => false,
        }
    }
}

/// One look at everything.
struct Survey<'a> {
    queue: &'a Queue,
    procs: BTreeMap<String, Seen>,
    tasks: Tasks,
    /// Tasks that are blocked by one in whose `waiters/` they were not.
    unknown_to: Vec<(String, String)>,
    /// Tasks that cannot be looked at: nothing is concluded about them.
    closed: BTreeSet<String>,
    findings: Vec<Finding>,
}

impl<'a> Survey<'a> {
    fn new(queue: &'a Queue) -> Survey<'a> {
        let (procs, tasks) = (BTreeMap::new(), Tasks::default());
        let (unknown_to, closed) = (Vec::new(), BTreeSet::new());
        Survey { queue, procs, tasks, unknown_to, closed, findings: Vec::new() }
    }

    fn add(
        &mut self,
        severity: Severity,
        invariant: &'static str,
        path: &Path,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (path, what, hint) = (path.to_owned(), what.into(), hint.into());
        self.findings.push(Finding { severity, invariant, path, what, hint });
    }

    /// What could not be looked at is a finding, and no other part of the look goes without for it.
    fn broken_off(&mut self, looked: Result<()>) -> Result<()> {
        match looked {
            Err(e) if e.is_of_entry() => {
                let path = e.at.clone().unwrap_or_else(|| self.queue.layout.root().to_owned());
                let hint = "check owner and mode; what comes after it was not looked at";
                self.add(Severity::Error, "format", &path, e.one_line(), hint);
                Ok(())
            }
            other => other,
        }
    }

    /// Whether any process may still be acting.
    fn anyone_lives(&self) -> bool {
        self.procs.values().any(|seen| seen.lives)
    }

    /// How much an unfinished follow-up of a task means: nothing while a live process remembers it,
    /// little while recovery will find it in a dead one's intents. Serving those who wait is a
    /// follow-up of the task waited for, so its intents cover them too.
    fn unless_remembered(&self, id: &str) -> Severity {
        let mut best = Severity::Error;
        if self.procs.values().all(|process| process.names.is_empty()) {
            return best;
        }
        let mut seen = BTreeSet::new();
        let mut todo = vec![id.to_owned()];
        while let Some(id) = todo.pop() {
            if !seen.insert(id.clone()) {
                continue;
            }
            for process in self.procs.values().filter(|p| p.names.contains(&id)) {
                best = best.max(if process.lives { Severity::Note } else { Severity::Leftover });
            }
            if best == Severity::Note {
                break;
            }
            let facts = self.tasks.get(&id);
            todo.extend(facts.into_iter().flat_map(Facts::after).map(str::to_owned));
        }
        best
    }
}

/// Looks once. Processes first: an intent that is made later is for a change that is made later.
fn look<'a>(queue: &'a Queue, strict: bool) -> Result<Survey<'a>> {
    let mut survey = Survey::new(queue);
    tree::check(&mut survey);
    owners::check(&mut survey);
    let looked = procs::gather(&mut survey);
    survey.broken_off(looked)?;
    let looked = registers::check(&mut survey, strict);
    survey.broken_off(looked)?;
    procs::check(&mut survey);
    let looked = hints::check(&mut survey);
    survey.broken_off(looked)?;
    let looked = scopes::check(&mut survey);
    survey.broken_off(looked)?;
    let looked = archived::check(&mut survey);
    survey.broken_off(looked)?;
    let looked = streams::check(&mut survey, strict);
    survey.broken_off(looked)?;
    Ok(survey)
}

/// Everything that is wrong, the worst first. `strict` also compares every register with the events.
pub fn check(queue: &Queue, strict: bool) -> Result<Vec<Finding>> {
    /// Time for a live process to finish what it was seen doing.
    const BETWEEN: Duration = Duration::from_millis(150);
    /// Further looks at what counts: a worker that was just killed is recovered in between.
    const LOOKS: u32 = 3;
    let mut survey = look(queue, strict)?;
    for _ in 0..LOOKS {
        let counting = survey.findings.iter().filter(|f| f.counts(strict));
        let counting: BTreeSet<(&str, PathBuf)> =
            counting.map(|f| (f.invariant, f.path.clone())).collect();
        if counting.is_empty() || !survey.anyone_lives() {
            break;
        }
        crate::sys::wake::nap(BETWEEN);
        let mut again = look(queue, strict)?;
        let lasting =
            |f: &Finding| !f.counts(strict) || counting.contains(&(f.invariant, f.path.clone()));
        again.findings.retain(lasting);
        survey = again;
    }
    Ok(sorted(survey))
}

/// As `check`, for a queue on which nobody acts, whatever its cards say: a single look.
pub fn check_once(queue: &Queue, strict: bool) -> Result<Vec<Finding>> {
    look(queue, strict).map(sorted)
}

fn sorted(survey: Survey<'_>) -> Vec<Finding> {
    let mut findings = survey.findings;
    findings.sort_by(|a, b| (a.severity, &a.path).cmp(&(b.severity, &b.path)));
    findings
}
