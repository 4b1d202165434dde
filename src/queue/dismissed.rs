//! `control/dismissed/`: rows of NEEDS YOU and notes that somebody does not want to see any more.
//!
//! A file for each row, `KIND:ID`, which says since when the row stood there. It changes nothing of what
//! the row is about: should that happen anew, later, the row is there again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};

use super::Queue;
use super::record::{self, RECORD_MAX};

/// A row that was dismissed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dismissal {
    /// Version of the record.
    pub v: u32,
    /// Of which kind the row is.
    pub kind: String,
    /// What it is about: a task, a file, a note.
    pub id: String,
    /// Since when it stood there, in milliseconds since 1970.
    pub since_ms: u64,
    /// Who dismissed it.
    pub by: String,
    /// When (RFC 3339).
    pub at: String,
}

/// All that was dismissed.
#[derive(Debug, Default)]
pub struct Dismissed(BTreeMap<(String, String), u64>);

impl Dismissed {
    /// Whether a row that stands there since then is not to be shown.
    pub fn hides(&self, kind: &str, id: &str, since_ms: u64) -> bool {
        self.0.get(&(kind.to_owned(), id.to_owned())).is_some_and(|until| *until >= since_ms)
    }
}

/// What was dismissed. What cannot be read hides nothing.
pub fn all(queue: &Queue) -> Dismissed {
    let dir = queue.layout.dismissed();
    let read = |name: &str| {
        let bytes = queue.fs.read(&dir.join(name), 0, RECORD_MAX).ok()?;
        record::parse::<Dismissal>(&bytes).ok()
    };
    let entries = queue.list(&dir).unwrap_or_default();
    let found = entries.iter().filter_map(|entry| read(&entry.name));
    Dismissed(found.map(|d| ((d.kind, d.id), d.since_ms)).collect())
}

/// Notes that a row is not to be shown any more.
///
/// # Errors
/// Those of the file system.
pub fn dismiss(queue: &Queue, mut row: Dismissal) -> Result<()> {
    let dir = queue.layout.dismissed();
    queue.make_dirs(&dir).cannot("make a directory", &dir)?;
    row.v = 1;
    row.at = queue.now();
    // The id may be any name that a person gave a file.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let escaped = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    let id: String = row.id.bytes().map(escaped).take(60).collect();
    let name = format!("{}:{id}", row.kind);
    queue.replace(&dir.join(name), &record::to_bytes(&row))
}
