//! Every path of a queue, built in one place, and the version that programs respect.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ids::{Key, lane_name, shard};
use crate::sys::clock::LAST_MS;

/// The layout that this program writes.
pub const LAYOUT: u32 = 1;

/// `layout.json`: made once by `init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutRecord {
    /// Which layout the directory has. A higher one is neither read nor written.
    pub layout: u32,
    /// The queue's own name, for messages between queues.
    #[serde(default)]
    pub queue: String,
    /// With the inode of its directory, what it is: random bits. Empty where it was made before there
    /// were such.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Number of shards below tasks/ (0: none; other numbers belong to later layouts).
    #[serde(default)]
    pub shards: u32,
    /// What survives a power loss: a word of `Durability`. Only here: whoever opens the queue reads it.
    #[serde(default)]
    pub durability: String,
    /// The lowest layout number that a writer must know.
    #[serde(default)]
    pub min_writer: u32,
}

/// The unix seconds that a name in `delayed/` stands for; `None` if it is none of ours.
pub fn due_of(name: &str) -> Option<u64> {
    let due_s = u64::from_str_radix(name, 16).ok()?;
    // The last year that can be written as a time is 9999: a larger number was made by a hand.
    (due_s <= LAST_MS / 1000 + 1 && name == format!("{due_s:08x}")).then_some(due_s)
}

/// The directories that `init` makes; `layout.rs` and queue-layout.md list the same ones.
pub const DIRECTORIES: &[&str] = &[
    "control",
    "control/boot",
    "incoming",
    "incoming/rejected",
    "tasks",
    "waiters",
    "ready",
    "delayed",
    "blocked",
    "scopes",
    "merge",
    "merging",
    "procs",
    "events",
    "stats",
    "log",
];

/// The two halves of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lot {
    /// Tasks that are done.
    Done,
    /// Tasks that failed or were cancelled.
    Dead,
}

impl Lot {
    /// Both, the larger first.
    pub const ALL: [Lot; 2] = [Lot::Done, Lot::Dead];

    /// The name of its directory.
    pub fn word(self) -> &'static str {
        match self {
            Lot::Done => "done",
            Lot::Dead => "dead",
        }
    }
}

/// Builds the paths of one queue.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The paths below `root`, which must be absolute. It has one spelling: that something lies below it is
    /// told by its letters, which may not end with a `/`.
    pub fn new(root: PathBuf) -> Layout {
        Layout { root: root.components().collect() }
    }
    /// The queue directory.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Any path below the root.
    pub fn at(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }
    /// `layout.json`.
    pub fn layout_record(&self) -> PathBuf {
        self.at("layout.json")
    }
    /// `tasks/`.
    pub fn tasks(&self) -> PathBuf {
        self.at("tasks")
    }
    /// `tasks/T`; of a lane `merge/LANE`.
    pub fn task(&self, id: &str) -> PathBuf {
        match lane_name(id) {
            Some(name) => self.lanes().join(name),
            None => self.root.join("tasks").join(id),
        }
    }
    /// `merge/`.
    pub fn lanes(&self) -> PathBuf {
        self.at("merge")
    }
    /// `merging/`.
    pub fn merging(&self) -> PathBuf {
        self.at("merging")
    }
    /// `merging/LANE`: what waits to be merged there.
    pub fn merging_in(&self, lane: &str) -> PathBuf {
        self.merging().join(lane_name(lane).unwrap_or("default"))
    }
    /// `tasks/T/n.out`.
    pub fn out(&self, key: &Key) -> PathBuf {
        self.task(&key.task).join(format!("{}.out", key.n))
    }
    /// `archive/`.
    pub fn archive(&self) -> PathBuf {
        self.at("archive")
    }
    /// `archive/LOT/XX/T`.
    pub fn archived(&self, lot: Lot, id: &str) -> PathBuf {
        self.root.join("archive").join(lot.word()).join(shard(id)).join(id)
    }
    /// `archive/trash/`.
    pub fn trash(&self) -> PathBuf {
        self.at("archive/trash")
    }
    /// `buried/`.
    pub fn burials(&self) -> PathBuf {
        self.at("buried")
    }
    /// `buried/LOT/XX/T`.
    pub fn buried(&self, lot: Lot, id: &str) -> PathBuf {
        self.root.join("buried").join(lot.word()).join(shard(id)).join(id)
    }
    /// `waiters/D`.
    pub fn waiters(&self, on: &str) -> PathBuf {
        self.root.join("waiters").join(on)
    }
    /// `ready/`.
    pub fn ready(&self) -> PathBuf {
        self.at("ready")
    }
    /// `ready/ROLE`.
    pub fn ready_role(&self, role: &str) -> PathBuf {
        self.root.join("ready").join(role)
    }
    /// `ready/ROLE/PP`.
    pub fn ready_level(&self, role: &str, priority: u8) -> PathBuf {
        self.ready_role(role).join(format!("{priority:02}"))
    }
    /// `ready/bell`, rung for every publication.
    pub fn ready_bell(&self) -> PathBuf {
        self.at("ready/bell")
    }
    /// `ready/ROLE/bell`.
    pub fn role_bell(&self, role: &str) -> PathBuf {
        self.ready_role(role).join("bell")
    }
    /// `delayed/`.
    pub fn delayed(&self) -> PathBuf {
        self.at("delayed")
    }
    /// `delayed/bell`.
    pub fn delayed_bell(&self) -> PathBuf {
        self.at("delayed/bell")
    }
    /// `delayed/DUE`: DUE is unix seconds in eight hexadecimal digits, nine after the year 2106.
    pub fn delayed_at(&self, due_s: u64) -> PathBuf {
        self.delayed().join(format!("{due_s:08x}"))
    }
    /// `blocked/`.
    pub fn blocked(&self) -> PathBuf {
        self.at("blocked")
    }
    /// `blocked/T.n`.
    pub fn blocked_entry(&self, key: &Key) -> PathBuf {
        self.blocked().join(key.to_string())
    }
    /// `scopes/`.
    pub fn scopes(&self) -> PathBuf {
        self.at("scopes")
    }
    /// `scopes/vNNNNNNNN.json`.
    pub fn scopes_version(&self, n: u64) -> PathBuf {
        self.scopes().join(super::scopes::version_name(n))
    }
    /// `scopes/bell`, rung when a scope may have become free.
    pub fn scopes_bell(&self) -> PathBuf {
        self.at("scopes/bell")
    }
    /// `procs/`.
    pub fn procs(&self) -> PathBuf {
        self.at("procs")
    }
    /// `procs/W`.
    pub fn proc(&self, wid: &str) -> PathBuf {
        self.root.join("procs").join(wid)
    }
    /// `procs/bell`, rung when a program comes or goes.
    pub fn procs_bell(&self) -> PathBuf {
        self.at("procs/bell")
    }
    /// `control/`.
    pub fn control(&self) -> PathBuf {
        self.at("control")
    }
    /// `control/dismissed/`.
    pub fn dismissed(&self) -> PathBuf {
        self.at("control/dismissed")
    }
    /// `events/`.
    pub fn events(&self) -> PathBuf {
        self.at("events")
    }
    /// `events/bell`, rung after every line.
    pub fn events_bell(&self) -> PathBuf {
        self.at("events/bell")
    }
    /// `reserve/`.
    pub fn reserve(&self) -> PathBuf {
        self.at("reserve")
    }
    /// `incoming/`.
    pub fn incoming(&self) -> PathBuf {
        self.at("incoming")
    }
    /// `incoming/rejected/`.
    pub fn rejected(&self) -> PathBuf {
        self.at("incoming/rejected")
    }
    /// `status.json`.
    pub fn status(&self) -> PathBuf {
        self.at("status.json")
    }
    /// `stats/next-id`: a hint where the counter of numbers may start.
    pub fn next_id(&self) -> PathBuf {
        self.at("stats/next-id")
    }
    /// `control/boot/HOST.BOOT`: the hints were rebuilt since this boot.
    pub fn boot_mark(&self, host_id: &str, boot: &str) -> PathBuf {
        let part = |s: &str| s.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let (host, boot): (String, String) = (part(host_id), part(boot));
        self.at("control/boot").join(format!("{host}.{boot}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_times() {
        for due_s in [0, 1_700_000_000, 4_294_967_296, LAST_MS / 1000] {
            let path = Layout::new("/q".into()).delayed_at(due_s);
            assert_eq!(due_of(path.file_name().unwrap().to_str().unwrap()), Some(due_s));
        }
        // The last of them is one whose milliseconds do not fit.
        for name in ["", "bell", "6553F100", "+0000005", "5", "006553f100", "ffffffffffffffff"] {
            assert_eq!(due_of(name), None, "{name}");
        }
    }
}
