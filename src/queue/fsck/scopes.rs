//! `scopes/`: no two that are held overlap (I11), and the newest version can be read (I12).

use std::collections::BTreeMap;

use crate::error::Result;
use crate::plan::scope::{any_overlap, outside};

use super::super::ids::Key;
use super::super::record::CardKind;
use super::super::scopes::{self, Entry};
use super::super::tasks::{self, Phase};
use super::{Severity, Survey};

/// Compares the table with the tasks that run.
pub(super) fn check(survey: &mut Survey<'_>) -> Result<()> {
    let queue = survey.queue;
    let dir = queue.layout.scopes();
    let Some(number) = newest(survey)? else { return Ok(()) };
    let path = queue.layout.scopes_version(number);
    let bytes = queue.fs.read(&path, 0, super::super::record::RECORD_MAX).unwrap_or_default();
    if super::super::record::parse::<scopes::Table>(&bytes).is_err() {
        let what = "the newest table of scopes cannot be read; what runs is taken from the tasks";
        let hint = "nothing: the next task with a scope writes a new one";
        survey.add(Severity::Leftover, "I12", &path, what, hint);
        return Ok(());
    }
    let live: Vec<Entry> = scopes::live(queue, &scopes::newest(queue)?.1)?;
    let held: Vec<&Entry> = live.iter().filter(|entry| !entry.wanting).collect();
    for (i, one) in held.iter().enumerate() {
        let rest = &held[i + 1..];
        for other in rest.iter().filter(|other| any_overlap(&one.scope, &other.scope)) {
            let what = format!("{} and {} hold overlapping scopes", one.task, other.task);
            survey.add(Severity::Error, "I11", &path, what, "coord cancel one of them");
        }
    }
    let named: BTreeMap<&str, &Entry> = held.iter().map(|e| (e.task.as_str(), *e)).collect();
    for wanted in running(survey)? {
        let Entry { task, n, scope, .. } = &wanted;
        let holds = named.get(task.as_str()).filter(|entry| entry.n == *n);
        let missing = holds.map_or(scope.len(), |entry| outside(&entry.scope, scope).len());
        if missing > 0 {
            let what = match holds {
                None => format!("{task}.{n} runs and does not hold its scope"),
                Some(_) => format!("{task}.{n} runs and does not hold all of its scope"),
            };
            survey.add(Severity::Error, "I11", &dir, what, format!("coord cancel {task}"));
        }
    }
    Ok(())
}

fn newest(survey: &Survey<'_>) -> Result<Option<u64>> {
    let entries = survey.queue.list(&survey.queue.layout.scopes())?;
    Ok(entries.iter().filter_map(|entry| scopes::version_of(&entry.name)).max())
}

/// Attempts that run and have a scope, declared or learned.
fn running(survey: &Survey<'_>) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    for (id, facts) in survey.tasks.iter() {
        let Phase::Claimed(n) = facts.phase else { continue };
        let Some(task) = tasks::look(survey.queue, id)? else { continue };
        // It may have ended since.
        let runs = task.phase == Phase::Claimed(n)
            && tasks::claimer(survey.queue, &task, n)?.is_some_and(|c| c.kind == CardKind::Worker);
        let wanted = scopes::entry(survey.queue, &Key::new(id, n), &task, "")?;
        if runs && !wanted.scope.is_empty() {
            all.push(wanted);
        }
    }
    Ok(all)
}
