//! What could not be dealt with, each entry by itself: it is said once, tried again with growing pauses,
//! and never keeps the others from being dealt with.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::queue::Queue;
use crate::queue::events::{self, Event};
use crate::queue::procs::{self, Proc};
use crate::queue::status;

use super::worker::claiming;

/// The pause before the second try, and the longest one, milliseconds.
const PAUSE_MS: (u64, u64) = (1000, 60_000);

/// The entries that are put aside, by their names below the queue.
#[derive(Debug, Default)]
pub(super) struct Aside {
    entries: BTreeMap<String, Fault>,
}

#[derive(Debug)]
struct Fault {
    due_ms: u64,
    pause_ms: u64,
    said: String,
}

/// What the entries are called that a keeper tries again.
const ENTRIES: [&str; 5] = ["tasks/", "procs/", "incoming/", "directories", "sweep"];
/// What workers say of themselves, and what is over with them.
const OF_WORKERS: [&str; 2] = [claiming::REFUSED, claiming::ROOM];

impl Aside {
    /// Takes over what was said by programs that are over, and that they cannot take back any more: it is tried
    /// again, and taken back when it is gone or good. What was said since the last summary is not known yet.
    pub(super) fn take_over(&mut self, queue: &Queue, me: &mut Proc) {
        let notices = status::published(queue).map(|status| status.notices).unwrap_or_default();
        for notice in notices {
            if notice.by == me.wid || procs::present_name(queue, &notice.by).is_some() {
                continue;
            }
            if ENTRIES.iter().any(|kind| notice.about.starts_with(kind)) {
                let fault = Fault { due_ms: 0, pause_ms: 0, said: notice.text };
                self.entries.entry(notice.about).or_insert(fault);
            } else if OF_WORKERS.contains(&notice.about.as_str()) {
                events::append(queue, me, Event::notice(&notice.about, ""));
            }
        }
    }

    /// Whether nothing is put aside.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an entry is to be tried: it never failed, or its pause is over.
    pub(super) fn is_due(&self, entry: &str, now_ms: u64) -> bool {
        self.entries.get(entry).is_none_or(|fault| now_ms >= fault.due_ms)
    }

    /// The entries below a directory whose pause is over.
    pub(super) fn due(&self, below: &str, now_ms: u64) -> Vec<String> {
        let due = self.entries.iter().filter(|(_, fault)| now_ms >= fault.due_ms);
        due.map(|(entry, _)| entry).filter(|entry| entry.starts_with(below)).cloned().collect()
    }

    /// What was said of those that are put aside.
    pub(super) fn said(&self) -> impl Iterator<Item = &str> {
        self.entries.values().map(|fault| fault.said.as_str()).filter(|said| !said.is_empty())
    }

    /// When the first of the pauses is over.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.entries.values().map(|fault| fault.due_ms).min()
    }

    /// What became of an entry. One that failed by a fault of its own is put aside.
    ///
    /// # Errors
    /// What is the machine's fault, and not the entry's: it is put aside as well, and nothing is said of it.
    pub(super) fn note<T>(
        &mut self,
        queue: &Queue,
        me: &mut Proc,
        entry: &str,
        went: Result<T>,
    ) -> Result<Option<T>> {
        let error = match went {
            Ok(done) => {
                if let Some(fault) = self.entries.remove(entry)
                    && !fault.said.is_empty()
                {
                    events::append(queue, me, Event::notice(entry, ""));
                }
                return Ok(Some(done));
            }
            Err(error) => error,
        };
        let now_ms = queue.clock.mono_ms();
        let new = Fault { due_ms: 0, pause_ms: 0, said: String::new() };
        let fault = self.entries.entry(entry.to_owned()).or_insert(new);
        fault.pause_ms = (fault.pause_ms * 2).clamp(PAUSE_MS.0, PAUSE_MS.1);
        fault.due_ms = now_ms + fault.pause_ms;
        if !error.is_of_entry() {
            return Err(error);
        }
        if error.errno() == Some(nix::libc::ENOENT) {
            // It went while it was looked at; there is nothing that a person could mend.
            return Ok(None);
        }
        let text = words(entry, &error);
        if fault.said != text {
            tracing::warn!("{text}");
            events::append(queue, me, Event::notice(entry, &text));
            fault.said = text;
        }
        Ok(None)
    }

    /// Forgets the entries below a directory that are not there any more.
    pub(super) fn keep(&mut self, queue: &Queue, me: &mut Proc, below: &str, there: &[&str]) {
        let is_gone =
            |entry: &&String| entry.strip_prefix(below).is_some_and(|name| !there.contains(&name));
        let gone: Vec<String> = self.entries.keys().filter(is_gone).cloned().collect();
        for entry in gone {
            if self.entries.remove(&entry).is_some_and(|fault| !fault.said.is_empty()) {
                events::append(queue, me, Event::notice(&entry, ""));
            }
        }
    }
}

/// What is said of an entry: the path, the system's word, and what to do.
fn words(entry: &str, error: &Error) -> String {
    let hint = error.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
    let at = error.at.as_ref().map_or_else(|| entry.to_owned(), |at| at.display().to_string());
    let cause = error.cause.as_ref().map_or(String::new(), |cause| format!(": {cause}"));
    format!("{}{cause}: {at}{hint}; it is put aside and tried again", error.message)
}
