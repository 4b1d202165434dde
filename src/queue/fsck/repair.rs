//! What `coord fsck --repair` adds to recovery and sweep: stale hints go. No register is ever touched.

use crate::error::Result;
use crate::step;

use super::super::procs::Proc;
use super::super::settle::settle;
use super::super::{Queue, ready, tasks};
use super::hints::{self, Index};
use super::{Severity, Survey, arrays, procs, registers};

/// Removes stale hints. Recovery and sweep are done by the caller
/// before. Returns how many hints went.
pub fn repair(queue: &Queue, me: &mut Proc) -> Result<usize> {
    let mut survey = Survey::new(queue);
    procs::gather(&mut survey)?;
    registers::check(&mut survey, false)?;
    let mut removed = 0;
    let mut stale = Vec::new();
    hints::each(queue, |hint| {
        // What a live process remembers it cleans up itself.
        if hints::stale(&survey, &hint).is_some()
            && survey.unless_remembered(&hint.key.task) != Severity::Note
        {
            stale.push(hint);
        }
    })?;
    for hint in stale {
        let id = &hint.key.task;
        // Removed first and settled after: what has become true meanwhile is put back.
        let intent = me.settle_intent(queue, id)?;
        step!("fsck.unhint");
        match hint.index {
            Index::Ready => ready::remove(queue, &hint.path)?,
            Index::Delayed(_) | Index::Blocked | Index::Merging => queue.discard(&hint.path)?,
        }
        settle(queue, me, id)?;
        queue.discard(&intent)?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes hints that chunks are over which are not true. Before recovery and sweep, which would
/// believe them and end the array. Returns how many went.
pub fn untrue(queue: &Queue) -> Result<usize> {
    let mut removed = 0;
    for id in tasks::ids(queue)? {
        if let Some(task) = tasks::look(queue, &id)? {
            removed += arrays::repair(queue, &task)?;
        }
    }
    Ok(removed)
}
