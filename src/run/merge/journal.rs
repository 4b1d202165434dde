//! What a turn notes before git decides it, and what the next turn makes of that.
//!
//! `n.out/landing.json`: the branch shall move from here to there, and then these attempts are merged.
//! `n.out/T.n.json`: this attempt comes back, for this reason. Both are complete under their name or
//! not there. A turn writes its first landing, an empty one, when it has told everything of earlier
//! ones; so a look back ends at the first turn that has one.

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};
use crate::git::fence;
use crate::queue::ids::Key;
use crate::queue::lane;
use crate::queue::record::{self, Stage, StageVerdict};
use crate::sys::fs::is_absent;

use super::batch::Part;
use super::moving::Wait;
use super::{Merger, ref_key};

/// What is noted of a landing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Landing {
    v: u32,
    /// The branch: by the next turn coord.toml may name another one, or another be checked out.
    branch: String,
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
    let branch = m.target.branch.clone();
    let landing = Landing { v: 1, branch, old: old.to_owned(), new: new.to_owned(), merged };
    write(m, LANDING, &record::to_bytes(&landing))
}

/// Notes that all that follows from a landing is done.
pub(super) fn note_told(merger: &Merger<'_>) -> Result<()> {
    write(merger, LANDING, &record::to_bytes(&Landing { v: 1, ..Landing::default() }))
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

/// Tells what earlier turns had landed, and then notes that all of it is told. `Some`: why that is not
/// known yet.
pub(super) fn serve(merger: &mut Merger<'_>) -> Result<Option<Wait>> {
    for n in (1..merger.key.n).rev() {
        let turn = Key::new(&merger.key.task, n);
        forget_told(merger, &turn)?;
        let path = merger.site.queue.layout.out(&turn).join(LANDING);
        let bytes = match merger.site.queue.fs.read(&path, 0, record::RECORD_MAX) {
            Ok(bytes) => bytes,
            // It died before it had told what came before it.
            Err(e) if is_absent(&e) => continue,
            Err(e) => return Err(e).cannot("read what was about to be merged", &path),
        };
        if let Some(wait) = finish(merger, record::parse(&bytes).unwrap_or_default())? {
            return Ok(Some(wait));
        }
        break;
    }
    note_told(merger).map(|()| None)
}

/// Removes the refs of what a turn had returned and told: it may have died in between.
fn forget_told(merger: &Merger<'_>, turn: &Key) -> Result<()> {
    let queue = &merger.site.queue;
    for note in queue.list(&queue.layout.out(turn))? {
        let Some(key) = note.name.strip_suffix(".json").and_then(Key::parse) else { continue };
        if lane::entry(queue, &key)?.is_none() {
            fence::forget_returned(&merger.git, &ref_key(&key))?;
        }
    }
    Ok(())
}

/// Does what is left of a landing, if the branch has moved. `Some`: whether it stays so is not known
/// yet.
fn finish(merger: &mut Merger<'_>, landing: Landing) -> Result<Option<Wait>> {
    let branch = format!("refs/heads/{}", landing.branch);
    let moved = match (merger.git.exact(&branch)?, merger.git.commit(&landing.new)?) {
        (Some(tip), Some(new)) => merger.git.is_ancestor(&new, &tip)?,
        _ => false,
    };
    if !moved {
        return Ok(None);
    }
    if let Some(wait) = merger.in_use(&branch)? {
        return Ok(Some(wait));
    }
    let mut untold = Vec::new();
    for (key, commit) in &landing.merged {
        let Some(key) = Key::parse(key) else { continue };
        if lane::entry(&merger.site.queue, &key)?.is_some() {
            untold.push(Part { key, commit: commit.clone() });
        }
    }
    // The worktree is brought along before anything is told: now that may not have been done.
    let may_be_behind = !untold.is_empty() || landing.merged.is_empty();
    if may_be_behind && landing.branch == merger.target.branch {
        merger.is_behind(&landing.old)?;
    }
    untold.iter().try_for_each(|part| merger.tell_merged(part, &landing.branch))?;
    Ok(None)
}
