//! After a boot: the events that a power loss took are told again.
//!
//! Events are hints, but the status is made of them: a task whose end has no line would be shown as
//! running for ever. So the sweep of a boot compares all registers with all lines once.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::Result;
use crate::sys::fs::Kind;

use super::Queue;
use super::end;
use super::events::{Event, READ_MAX};
use super::procs::Proc;
use super::tasks::{self, Names};

/// Which lines there are: kind, task and attempt of each.
struct Told(HashSet<u64>);

fn key(kind: &str, id: &str, n: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind, id, n).hash(&mut hasher);
    hasher.finish()
}

impl Told {
    fn read(queue: &Queue) -> Result<Told> {
        let mut told = HashSet::new();
        let dir = queue.layout.events();
        for entry in queue.list(&dir)? {
            if entry.kind != Kind::File || !entry.name.ends_with(".jsonl") {
                continue;
            }
            let limit = usize::try_from(READ_MAX).unwrap_or(usize::MAX);
            let bytes = queue.fs.read(&dir.join(&entry.name), 0, limit).unwrap_or_default();
            // What has no line end is no line yet, for any reader.
            let end = bytes.iter().rposition(|&b| b == b'\n').unwrap_or(0);
            for line in bytes[..end].split(|&b| b == b'\n') {
                if let Ok(event) = serde_json::from_slice::<Event>(line) {
                    told.insert(key(&event.k, &event.id, event.n));
                }
            }
        }
        Ok(Told(told))
    }

    fn has(&self, kinds: &[&str], id: &str, n: u32) -> bool {
        kinds.iter().any(|kind| self.0.contains(&key(kind, id, n)))
    }

    fn knows(&self, id: &str, names: &Names) -> bool {
        let all = |numbers: &std::collections::BTreeSet<u32>, kinds: &[&str]| {
            numbers.iter().all(|&n| self.has(kinds, id, n))
        };
        // A claim that was made only in order to end the attempt has no line but that of the end.
        self.has(&["submit"], id, 0)
            && all(&names.claims, &["claim", "hold", "end"])
            && all(&names.ends, &["end"])
            && all(&names.cancels, &["cancel"])
            && all(&names.reopens, &["reopen"])
            && all(&names.lates, &["late"])
            && all(&names.merges, &["merge"])
    }
}

/// Tells every task again of which a register has no line. The checkpoint goes first: it may know
/// of what was lost.
pub fn retell_lost(queue: &Queue, me: &mut Proc) -> Result<()> {
    queue.discard(&queue.layout.at("stats/checkpoint"))?;
    let told = Told::read(queue)?;
    for id in tasks::ids_and_lanes(queue)? {
        match retell_one(queue, me, &told, &id) {
            // It cannot be looked at, and the sweep before this has said so.
            Err(e) if !e.is_of_entry() => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn retell_one(queue: &Queue, me: &mut Proc, told: &Told, id: &str) -> Result<()> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(()) };
    if task.names.spec && !told.knows(id, &task.names) {
        end::retell(queue, me, id)?;
    }
    Ok(())
}
