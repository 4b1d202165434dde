//! May attempt n be claimed now? Looks at everything that speaks for or against it.
//!
//! This is the only place that decides readiness: submitters, completers, claimers, releasers,
//! promoters and recoverers all ask here, so none of them can bypass a dependency, a hold or a time.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::rule;
use crate::sys::clock::parse_rfc3339;

use super::Queue;
use super::archive;
use super::events::Event;
use super::ids::{Key, lane_name};
use super::lane;
use super::record::{OnDepDead, Verdict};
use super::tasks::{self, Phase, Task};

/// What speaks against a dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// It is not submitted yet.
    Unknown,
    /// It is on its way.
    Unfinished(Phase),
    /// It failed or was cancelled.
    Dead(Phase),
}

/// A dependency that is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// The task that is waited for.
    pub on: String,
    /// Why it is not enough yet.
    pub because: Because,
}

/// The answer for attempt n of a pending task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It may be claimed.
    Ready,
    /// It was added with `hold`, and nobody has released it (`0.reopen`).
    Held,
    /// A person does it, and nothing else stands in the way.
    Manual,
    /// Dependencies are missing.
    Blocked(Vec<Blocker>),
    /// Not before this time, in milliseconds since 1970.
    Delayed(u64),
    /// It must be ended as cancelled instead: why, and because of which dependency, if of one.
    CancelDue(String, Option<String>),
}

impl Readiness {
    /// Whether it is `on` that is waited for, perhaps among others.
    pub fn is_blocked_by(&self, on: &str) -> bool {
        matches!(self, Readiness::Blocked(blockers) if blockers.iter().any(|b| b.on == on))
    }

    /// What is waited for.
    pub fn blockers(&self) -> BTreeSet<String> {
        let Readiness::Blocked(blockers) = self else { return BTreeSet::new() };
        blockers.iter().map(|b| b.on.clone()).collect()
    }

    /// What the stream of events says of it; nothing of what is about to be ended.
    pub fn event(&self, key: &Key) -> Option<Event> {
        Some(match self {
            Readiness::Ready => Event::of("ready", key),
            Readiness::Held => Event::of("held", key),
            Readiness::Manual => Event::of("manual", key),
            Readiness::Delayed(due_ms) => {
                Event::of("delayed", key).why(&crate::sys::clock::rfc3339(*due_ms))
            }
            Readiness::Blocked(blockers) => {
                let on: Vec<&str> = blockers.iter().map(|b| b.on.as_str()).collect();
                let mut event = Event::of("blocked", key).why(&on.join(" "));
                if blockers.iter().any(|b| matches!(b.because, Because::Dead(_))) {
                    event.more.insert("dead".to_owned(), true.into());
                }
                event
            }
            Readiness::CancelDue(..) => return None,
        })
    }
}

/// The id part of an entry of `after`.
pub fn dependency(entry: &str) -> (&str, bool) {
    match entry.strip_suffix("@pass") {
        Some(id) => (id, true),
        None => (entry, false),
    }
}

/// Judges attempt `n` of a task whose phase is `Pending(n)`.
pub fn readiness(queue: &Queue, task: &Task, n: u32) -> Result<Readiness> {
    let Ok(spec) = &task.spec else { return Ok(Readiness::Blocked(Vec::new())) };
    if lane_name(&task.id).is_some()
        && let Some(answer) = lane::readiness(queue, task)?
    {
        return Ok(answer);
    }
    if let Some(why) = cancel_due(task, n) {
        return Ok(Readiness::CancelDue(why, None));
    }
    if spec.hold && n == 1 && !task.names.reopens.contains(&0) {
        return Ok(Readiness::Held);
    }
    let mut blockers = Vec::new();
    for entry in &spec.after {
        let (on, pass) = dependency(entry);
        let because = match known_phase(queue, on, pass)? {
            Phase::Done(_) => continue,
            Phase::NoSpec => Because::Unknown,
            dead @ (Phase::Failed(_) | Phase::Cancelled(_)) if rule!("F11") => {
                match spec.on_dep_dead {
                    OnDepDead::Run => continue,
                    OnDepDead::Cancel => {
                        let why = format!("dependency {on} {}", ended(&dead));
                        return Ok(Readiness::CancelDue(why, Some(on.to_owned())));
                    }
                    OnDepDead::Block => Because::Dead(dead),
                }
            }
            other => Because::Unfinished(other),
        };
        blockers.push(Blocker { on: on.to_owned(), because });
    }
    if !blockers.is_empty() {
        return Ok(Readiness::Blocked(blockers));
    }
    if spec.manual {
        return Ok(Readiness::Manual);
    }
    // Only the time that belongs to this attempt: of the submission for the first, of the last end
    // for the others. A reopen waives it.
    let not_before = match &task.last_end {
        None => spec.not_before.as_deref(),
        Some(_) if task.names.reopens.contains(&task.names.last()) => None,
        Some(end) if end.verdict == Verdict::Release => {
            end.not_before.as_deref().or(spec.not_before.as_deref())
        }
        Some(end) => end.not_before.as_deref(),
    };
    match not_before.and_then(parse_rfc3339) {
        Some(due) if due > queue.clock.wall_ms() => Ok(Readiness::Delayed(due)),
        _ => Ok(Readiness::Ready),
    }
}

/// What a dependency is to who comes after it: as done, if one of its attempts succeeded and that is
/// enough. In `tasks/`, then in the archive, then by its tombstone.
pub fn phase_for(queue: &Queue, on: &str, pass: bool) -> Result<Phase> {
    let Some(other) = tasks::look(queue, on)? else {
        let tomb = if rule!("F3") { archive::tomb(queue, on)? } else { None };
        return Ok(match tomb {
            None => Phase::NoSpec,
            Some(tomb) if pass && tomb.passed => Phase::Done(0),
            Some(tomb) => tomb.phase,
        });
    };
    Ok(match other.phase {
        Phase::Done(n) => Phase::Done(n),
        _ if pass && tasks::passed(queue, &other)? => Phase::Done(other.names.last()),
        phase => phase,
    })
}

/// The same for who waits for it: one that cannot be looked at by a fault of its own is not done, as far as
/// is known, and whoever can look at it will say how it is.
pub fn known_phase(queue: &Queue, on: &str, pass: bool) -> Result<Phase> {
    match phase_for(queue, on, pass) {
        Err(e) if e.is_of_entry() => Ok(Phase::Corrupt(e.one_line())),
        found => found,
    }
}

fn ended(phase: &Phase) -> &'static str {
    if matches!(phase, Phase::Failed(_)) { "failed" } else { "was cancelled" }
}

/// A cancel was acknowledged for the running attempt n-1, and it ended in a way that would retry.
fn cancel_due(task: &Task, n: u32) -> Option<String> {
    let before = n.checked_sub(1)?;
    let served = task.last_end.as_ref().is_some_and(|end| end.verdict == Verdict::Cancel);
    let waived = task.names.reopens.contains(&before);
    (task.names.cancels.contains(&before) && !served && !waived)
        .then(|| format!("cancel was asked for during attempt {before}"))
}
