//! The end of a chunk, and of the array.
//!
//! Who finds every job of a chunk over says so with a hint; who finds every chunk over and the list
//! closed claims the task and ends it. Whoever ends a job looks behind it: of two who end the last two
//! jobs at once, the second sees both ends, since each links before it looks.

use std::path::Path;

use serde_json::json;

use crate::error::{Cannot, Result};
use crate::rule;
use crate::step;

use super::super::Queue;
use super::super::claim::{self, Claimed};
use super::super::durable;
use super::super::end;
use super::super::ids::Key;
use super::super::procs::Proc;
use super::super::record::{CardKind, End, Verdict};
use super::super::tasks::{self, Phase};
use super::chunk::{Chunk, Seen};
use super::{Over, Overview, bell, home, open_file, over_file, round};

/// Notes that every job of a chunk is over. `seen`: what a look in this round found.
pub fn note_over(queue: &Queue, home: &Path, chunk: &Chunk, round: u32, seen: &Seen) -> Result<()> {
    let over = if rule!("over") { seen.is_over() } else { seen.pending.is_empty() };
    if !over {
        return Ok(());
    }
    // What follows from the ends must not outlive them.
    durable::task(queue, &chunk.dir)?;
    let over = Over { jobs: chunk.len(), failed: seen.failed };
    let path = over_file(home, chunk.start, round, over);
    if !queue.fs.exists(&path) {
        step!("jobs.over");
        queue.fs.touch(&path).cannot("note that a chunk is over", &path)?;
        queue.ring(&bell(home));
    }
    Ok(())
}

/// Whether a list that was over with so many jobs is not any more.
fn has_grown(queue: &Queue, home: &Path, round: u32, total: u64) -> Result<bool> {
    let seen = Overview::read(queue, home, round)?;
    let over = seen.is_over().is_some_and(|(jobs, _)| jobs == total);
    // By its name, too: a listing of a shared file system may be an old one.
    Ok(!over || queue.fs.exists(&open_file(home, seen.opened + 1)))
}

/// Ends the task if every job is over. True: it was looked at and is over now, whoever ended it.
pub fn end_if_over(queue: &Queue, me: &mut Proc, id: &str) -> Result<bool> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(true) };
    let Phase::Pending(n) = task.phase else { return Ok(true) };
    let jobs = home(queue, id);
    let Some((total, failed)) = Overview::read(queue, &jobs, round(&task))?.is_over() else {
        return Ok(false);
    };
    let Ok(spec) = task.spec.clone() else { return Ok(true) };
    let key = Key::new(id, n);
    let kind = me.card.kind;
    let kind = if kind == CardKind::Worker { kind } else { CardKind::Human };
    if let Claimed::Won(lease) = claim::take(queue, me, &key, task, spec, kind)? {
        // Who opens the list again looks at the task behind that, and this looks behind its claim: of
        // the two, one sees the other.
        if has_grown(queue, &jobs, round(&lease.task), total)? {
            let end =
                End { why: "the list has grown".to_owned(), ..End::new(Verdict::Release, true) };
            end::record(queue, me, &lease, end)?;
            end::finish(queue, me, &lease, false)?;
            return Ok(false);
        }
        let mut end = if failed == 0 {
            End::new(Verdict::Done, false)
        } else {
            let why = format!("{failed} of {total} jobs failed");
            End { why, ..End::new(Verdict::Fail, false) }
        };
        end.result.value = json!({ "jobs": total, "failed": failed });
        end::record(queue, me, &lease, end)?;
        end::finish(queue, me, &lease, false)?;
        super::super::ready::remove_hints(queue, &lease.task, &key)?;
    }
    Ok(true)
}
