//! What a worker does while git is at work for an attempt: it beats, hears what ends the attempt, and
//! tells what it waits for.
//!
//! Git may take any time, with the hooks and filters of the repository and with the network. So the same
//! ends it that would end the command of the attempt: a cancel, the time limit, the end of the worker,
//! and that the attempt was taken away. The file `n.out/waits.json` says what is waited for, from two
//! seconds on until that is over.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::queue::Queue;
use crate::queue::ids::Key;
use crate::queue::procs::Proc;
use crate::queue::record;
use crate::sys::clock::{parse_rfc3339, rfc3339};
use crate::sys::tool::Waits;

use super::outcome::Stopped;

/// The file name.
const WAITS: &str = "waits.json";
/// What is over sooner is told to nobody.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// Between two looks, where one short command follows the other.
const LOOK_MS: u64 = 200;

/// What an attempt, or a turn of a lane, waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// Version of this format.
    v: u32,
    /// What, for people: `git checkout in slot w1`.
    pub what: String,
    /// Since when, RFC 3339.
    pub since: String,
}

impl Waiting {
    /// In words: `git checkout in slot w1, 40 s`.
    pub fn words(&self, queue: &Queue) -> String {
        let since_ms = parse_rfc3339(&self.since).unwrap_or_else(|| queue.clock.wall_ms());
        let seconds = queue.clock.wall_ms().saturating_sub(since_ms) / 1000;
        format!("{}, {seconds} s", self.what)
    }
}

/// What a running attempt waits for; `None` where it is nothing.
pub fn waiting(queue: &Queue, key: &Key) -> Option<Waiting> {
    let bytes = queue.fs.read(&queue.layout.out(key).join(WAITS), 0, record::RECORD_MAX).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The telling of it.
pub struct Teller<'a> {
    queue: &'a Queue,
    path: PathBuf,
    told: RefCell<String>,
}

impl<'a> Teller<'a> {
    /// For an attempt whose output directory is `out`.
    pub fn new(queue: &'a Queue, out: &Path) -> Teller<'a> {
        Teller { queue, path: out.join(WAITS), told: RefCell::default() }
    }

    /// Tells of what has gone on for a while.
    pub fn tell(&self, waits: &Waits<'_>) {
        let mut told = self.told.borrow_mut();
        if waits.since < TOLD_AFTER {
            // Another one by now.
            if !told.is_empty() && waits.since.is_zero() {
                told.clear();
                self.forget();
            }
            return;
        }
        if *told == waits.what {
            return;
        }
        let began_ms =
            self.queue.clock.wall_ms().saturating_sub(super::attempt::as_ms(waits.since));
        let waiting = Waiting { v: 1, what: waits.what.to_owned(), since: rfc3339(began_ms) };
        // Who cannot read it is told the rest all the same.
        if self.queue.replace(&self.path, &record::to_bytes(&waiting)).is_ok() {
            waits.what.clone_into(&mut told);
        }
    }

    fn forget(&self) {
        drop(self.queue.discard(&self.path));
    }
}

impl Drop for Teller<'_> {
    fn drop(&mut self) {
        if !self.told.borrow().is_empty() {
            self.forget();
        }
    }
}

/// The vigil over one attempt.
pub struct Vigil<'a> {
    queue: &'a Queue,
    me: &'a Proc,
    key: &'a Key,
    deadline_ms: Option<u64>,
    /// Whether its worker was told to hand it back.
    handed_back: &'a dyn Fn() -> bool,
    /// The attempt was stopped before: only its deadline counts.
    stopped_before: bool,
    stopped: Cell<Option<Stopped>>,
    look_at_ms: Cell<u64>,
    teller: Teller<'a>,
}

impl<'a> Vigil<'a> {
    /// A vigil that ends what takes longer than `limit_ms` from now on.
    pub fn new(
        queue: &'a Queue,
        me: &'a Proc,
        key: &'a Key,
        limit_ms: Option<u64>,
        handed_back: &'a dyn Fn() -> bool,
    ) -> Vigil<'a> {
        Vigil {
            queue,
            me,
            key,
            deadline_ms: limit_ms.map(|limit_ms| queue.clock.mono_ms().saturating_add(limit_ms)),
            handed_back,
            stopped_before: false,
            stopped: Cell::new(None),
            look_at_ms: Cell::new(0),
            teller: Teller::new(queue, &queue.layout.out(key)),
        }
    }

    /// The same for an attempt that was stopped already.
    #[must_use]
    pub fn of_stopped(self) -> Vigil<'a> {
        Vigil { stopped_before: true, ..self }
    }

    /// What has stopped the attempt during the vigil.
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped.get()
    }

    /// Whether git may go on.
    pub fn go_on(&self, waits: &Waits<'_>) -> bool {
        self.teller.tell(waits);
        let now_ms = self.queue.clock.mono_ms();
        if self.stopped.get().is_none() && now_ms >= self.look_at_ms.get() {
            self.look_at_ms.set(now_ms + LOOK_MS);
            // A lost beat is made up for by the next one.
            drop(self.me.beat(self.queue));
            self.stopped.set(self.look(now_ms));
        }
        self.stopped.get().is_none()
    }

    fn look(&self, now_ms: u64) -> Option<Stopped> {
        let register = |kind: &str| {
            let name = format!("{}.{kind}", self.key.n);
            self.queue.fs.exists(&self.queue.layout.task(&self.key.task).join(name))
        };
        if self.deadline_ms.is_some_and(|deadline_ms| now_ms >= deadline_ms) {
            return Some(Stopped::TimeLimit);
        }
        if self.stopped_before {
            return None;
        }
        if register("end") || self.me.is_declared_dead(self.queue) {
            return Some(Stopped::Fenced);
        }
        if register("cancel") {
            return Some(Stopped::Cancel);
        }
        (self.handed_back)().then_some(Stopped::HandBack)
    }
}
