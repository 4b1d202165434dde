//! `events/`: the stream of what happened, for status and for people. The registers are the audit.
//!
//! Each long-lived process appends to a file of its own, so nothing is contended and a shared file
//! system cannot mix lines up. Short-lived commands of one machine and boot share a file: on one
//! kernel a single appending `write` is whole. A torn last line is ignored by readers.
//!
//! An event is written before the intent that covers it is dropped, so every decided transition has
//! at least one line. Lines may repeat; folding them is idempotent (`plan::fold`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::step;

use super::Queue;
use super::durable::{self, Durability};
use super::ids::Key;
use super::procs::Proc;
use super::record::CardKind;

/// The longest line.
pub const LINE_MAX: usize = 4096;

/// Length at which a file is followed by the next segment.
pub const SEGMENT_MAX: u64 = 16 << 20;

/// What is read of a file. Each of ours is followed by the next one long before: what comes behind was not
/// written by a program, and may be a hole without an end.
pub const READ_MAX: u64 = 2 * SEGMENT_MAX;

/// One line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Identity of the line: `W:SEQ`.
    pub e: String,
    /// When (RFC 3339).
    pub t: String,
    /// What happened: submit, blocked, delayed, ready, manual, held, claim, end, merging, merge,
    /// late, cancel, reopen, progress, notice, start, stop.
    pub k: String,
    /// The task.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The attempt.
    #[serde(skip_serializing_if = "is_zero")]
    pub n: u32,
    /// The process that did it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Of an end: the verdict.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub verdict: String,
    /// Of an end: whether attempt n+1 follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<bool>,
    /// Words for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Of a progress report: percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pct: Option<f64>,
    /// Of a claim: milliseconds between submission or retry and claim; more fields.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Event {
    /// An event about an attempt.
    pub fn of(k: &str, key: &Key) -> Event {
        Event { k: k.to_owned(), id: key.task.clone(), n: key.n, ..Event::default() }
    }

    /// Something that a program wants to say. A later one about the same (`about`, a word) takes its place,
    /// and takes it away if it has no words.
    pub fn notice(about: &str, words: &str) -> Event {
        let mut event = Event { k: "notice".to_owned(), ..Event::default() }.why(words);
        if !about.is_empty() {
            event.more.insert("about".to_owned(), about.into());
        }
        event
    }

    /// With words for people, cut to what a line can hold.
    #[must_use]
    pub fn why(mut self, why: &str) -> Event {
        self.why = why.chars().take(1000).collect();
        self
    }
}

/// Appends an event, and those that wait for it, and rings the bell of the aggregator.
pub fn append(queue: &Queue, me: &mut Proc, event: Event) {
    later(queue, me, event);
    flush(queue, me);
}

/// An event of now that goes into the file with the next one, or with `flush`: behind what others wait
/// for. The caller holds the intent that covers it until then.
pub fn later(queue: &Queue, me: &mut Proc, mut event: Event) {
    me.seq += 1;
    event.e = format!("{}:{}", me.wid, me.seq);
    event.t = queue.now();
    if event.by.is_empty() {
        event.by.clone_from(&me.wid);
    }
    let mut line = serde_json::to_vec(&event).unwrap_or_default();
    if line.len() >= LINE_MAX {
        event.why.clear();
        event.more.clear();
        line = serde_json::to_vec(&event).unwrap_or_default();
    }
    line.push(b'\n');
    me.unwritten.push((event.id, line));
}

/// Writes the events that wait, with one call. Events that cannot be written do not stop the work: the
/// status is stale until the next look at the registers.
pub fn flush(queue: &Queue, me: &mut Proc) {
    let unwritten = std::mem::take(&mut me.unwritten);
    if unwritten.is_empty() {
        return;
    }
    let mut lines: Vec<u8> = unwritten.iter().flat_map(|(_, line)| line).copied().collect();
    let stem = stem(queue, me);
    let segment = segment(queue, &stem);
    let path = queue.layout.events().join(format!("{stem}.{segment}.jsonl"));
    if me.torn {
        // The last line may be torn, by a full disk or a crash: it must not swallow this one.
        let end = queue.fs.stat(&path).map_or(0, |stat| stat.len);
        if end > 0 && queue.fs.read(&path, end - 1, 1).is_ok_and(|last| last != b"\n") {
            lines.insert(0, b'\n');
        }
    }
    step!("event.append");
    let appended = queue.fs.append(&path, &lines);
    me.torn = appended.is_err();
    if queue.durability == Durability::Full {
        me.known.events_open = Some(path.clone());
        durable::events(queue, me, false);
    }
    match appended {
        Ok(_) => tell_again(queue, me),
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "cannot append an event");
            for (id, _) in unwritten.into_iter().filter(|(id, _)| !id.is_empty()) {
                // For the case that this process dies before it can tell. On a full disk there may
                // be no room for an empty file either: then there is a gap in the story.
                drop(queue.fs.touch(&untold(me, &id)));
                me.untold.insert(id);
            }
        }
    }
    queue.ring(&queue.layout.events_bell());
}

/// The intent to tell the story of a task once more.
fn untold(me: &Proc, id: &str) -> std::path::PathBuf {
    me.run(&format!("_tell.{id}"))
}

/// Tells what could not be told before. What still cannot be told stays noted.
pub fn tell_again(queue: &Queue, me: &mut Proc) {
    for id in std::mem::take(&mut me.untold) {
        match super::end::retell(queue, me, &id) {
            Ok(()) if me.untold.contains(&id) => {}
            Ok(()) => drop(queue.discard(&untold(me, &id))),
            Err(e) => {
                tracing::warn!(task = id, error = %e, "cannot tell what happened");
                me.untold.insert(id);
            }
        }
    }
}

fn stem(queue: &Queue, me: &Proc) -> String {
    if me.card.kind == CardKind::Cli {
        let boot: String = queue.host.place().boot.chars().take(8).collect();
        return format!("cli@{boot}");
    }
    me.wid.clone()
}

fn segment(queue: &Queue, stem: &str) -> u32 {
    let full = |segment: u32| {
        let path = queue.layout.events().join(format!("{stem}.{segment}.jsonl"));
        queue.fs.stat(&path).is_ok_and(|s| s.len >= SEGMENT_MAX)
    };
    (0..).find(|&segment| !full(segment)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::init::init;
    use crate::queue::procs::Identity;
    use crate::sys::fs::{Fs, RealFs};
    use crate::sys::host::Platform;

    #[test]
    fn what_waits_is_written_with_the_next_and_before_the_process_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let queue = init(&dir.path().join("q"), Platform::real()).unwrap();
        let mut me = Proc::register(&queue, &Identity::plain("w", CardKind::Worker)).unwrap();
        let path = queue.layout.events().join(format!("{}.0.jsonl", me.wid));
        let kinds = || -> Vec<String> {
            let text = RealFs.read(&path, 0, 1 << 20).unwrap_or_default();
            let lines = text.split(|&b| b == b'\n').filter(|line| !line.is_empty());
            lines.map(|line| serde_json::from_slice::<Event>(line).unwrap().k).collect()
        };
        let event = |k: &str| Event::of(k, &Key::new("T", 1));
        later(&queue, &mut me, event("claim"));
        assert!(kinds().is_empty());
        append(&queue, &mut me, event("end"));
        assert_eq!(kinds(), ["claim", "end"]);
        later(&queue, &mut me, event("late"));
        me.leave(&queue);
        assert_eq!(kinds(), ["claim", "end", "late"]);
    }
}
