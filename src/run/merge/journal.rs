//! What a turn notes before git decides it, and what the next turn makes of that.
//!
//! `n.out/landing.json`: the branch shall move from here to there, and then these attempts are merged.
//! `n.out/T.n.json`: this attempt comes back, for this reason. Both are complete under their name or
//! not there. A turn writes its first landing, an empty one, when it has told everything of earlier
//! ones; so a look back ends at the first turn that has one.

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};
use crate::queue::ids::Key;
use crate::queue::lane;
use crate::queue::record::{self, Stage, StageVerdict};
use crate::sys::fs::is_absent;

use super::Merger;
use super::batch::Part;

/// What is noted of a landing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Landing {
    v: u32,
    /// Where the branch was.
    old: String,
    /// Where it is if it moved.
    new: String,
    /// Attempts that are merged then, with the commit that brought each.
    merged: Vec<(String, String)>,
}

const LANDING: &str = "landing.json";

fn write(merger: &Merger<'_>, name: &str, bytes: &[u8]) -> Result<()> {
    let queue = &merger.site.queue;
    let path = merger.out.join(name);
    let tmp = merger.out.join(format!(".{name}.tmp"));
    queue.discard(&tmp)?;
    queue.stage(&tmp, bytes, "note what is about to be merged")?;
    queue.fs.rename(&tmp, &path).cannot("note what is about to be merged", &path)?;
    if queue.is_durable() {
        queue.fs.sync_dir(&merger.out).cannot("make a note durable", &merger.out)?;
    }
    Ok(())
}

/// Notes a landing before it is tried.
pub(super) fn note_landing(m: &Merger<'_>, old: &str, new: &str, parts: &[Part]) -> Result<()> {
    let merged = parts.iter().map(|p| (p.key.to_string(), p.commit.clone())).collect();
    let landing = Landing { v: 1, old: old.to_owned(), new: new.to_owned(), merged };
    write(m, LANDING, &record::to_bytes(&landing))
}

/// Notes that an attempt comes back, before that is decided.
pub(super) fn note_return(merger: &Merger<'_>, key: &Key, stage: &Stage) -> Result<()> {
    write(merger, &format!("{key}.json"), &record::to_bytes(&stage.clone().fitting()))
}

/// Why an attempt was returned by a turn that could not tell.
pub(super) fn returned(merger: &Merger<'_>, key: &Key) -> Result<Stage> {
    for n in (1..=merger.key.n).rev() {
        let turn = Key::new(&merger.key.task, n);
        let path = merger.site.queue.layout.out(&turn).join(format!("{key}.json"));
        match merger.site.queue.fs.read(&path, 0, record::RECORD_MAX) {
            Ok(bytes) => {
                if let Ok(stage) = record::parse::<Stage>(&bytes) {
                    return Ok(stage);
                }
            }
            Err(e) if is_absent(&e) => {}
            Err(e) => return Err(e).cannot("read why something came back", &path),
        }
    }
    let lost = "it was returned, and the note that says why is lost";
    Ok(Stage { retry: true, ..Stage::new(StageVerdict::Bounce, lost) })
}

/// Tells what earlier turns had landed, and then notes that all of it is told.
pub(super) fn serve(merger: &mut Merger<'_>) -> Result<()> {
    let tip = merger.target.tip(&merger.git)?;
    for n in (1..merger.key.n).rev() {
        let turn = Key::new(&merger.key.task, n);
        let path = merger.site.queue.layout.out(&turn).join(LANDING);
        let bytes = match merger.site.queue.fs.read(&path, 0, record::RECORD_MAX) {
            Ok(bytes) => bytes,
            // It died before it had told what came before it.
            Err(e) if is_absent(&e) => continue,
            Err(e) => return Err(e).cannot("read what was about to be merged", &path),
        };
        let landing: Landing = record::parse(&bytes).unwrap_or_default();
        let moved = !landing.new.is_empty()
            && merger.git.commit(&landing.new)?.is_some()
            && merger.git.is_ancestor(&landing.new, &tip)?;
        if moved {
            for (key, commit) in landing.merged {
                let Some(key) = Key::parse(&key) else { continue };
                if lane::entry(&merger.site.queue, &key)?.is_some() {
                    merger.tell_merged(&Part { key, commit })?;
                }
            }
        }
        break;
    }
    write(merger, LANDING, &record::to_bytes(&Landing { v: 1, ..Landing::default() }))
}
