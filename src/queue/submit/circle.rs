//! Circles of dependencies, looked for when a task is submitted.

use crate::plan::graph::find_cycle;

use super::super::Queue;
use super::super::archive;
use super::super::evaluate::dependency;
use super::super::procs::Proc;
use super::super::record::Spec;
use super::super::tasks;

/// Tasks that a process remembers to lead to no new one.
const GROUNDED_MAX: usize = 65_536;

/// The circle that a task would close. It can only close over somebody who waits for its id already.
///
/// What was walked over once, and is there to its last dependency, does not lead to a task that is still
/// to come, for ever: specs do not change. So a chain whose tasks somebody waits for before they are
/// there is not walked again with each of them.
pub(super) fn closed_by(
    queue: &Queue,
    me: &mut Proc,
    id: &str,
    spec: &Spec,
) -> Option<Vec<String>> {
    if !queue.fs.exists(&queue.layout.waiters(id)) {
        return None;
    }
    let (mut walked, mut all_there) = (Vec::new(), true);
    let cycle = find_cycle(id, |of| {
        if me.grounded.contains(of) {
            return Vec::new();
        }
        let entries = if of == id {
            spec.waits_for()
        } else {
            walked.push(of.to_owned());
            match tasks::look(queue, of).ok().flatten().and_then(|task| task.spec.ok()) {
                Some(other) => other.waits_for(),
                None => {
                    all_there &= archive::holds(queue, of);
                    Vec::new()
                }
            }
        };
        entries.iter().map(|e| dependency(e).0.to_owned()).collect()
    });
    if cycle.is_none() && all_there {
        if me.grounded.len() > GROUNDED_MAX {
            me.grounded.clear();
        }
        me.grounded.extend(walked);
    }
    cycle
}
