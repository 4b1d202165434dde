//! The queue directory and its protocol: one module a directory, and the transitions.
//!
//! The truth is in write-once registers below `tasks/`. A register is published by linking a
//! complete file to its name; it is never opened for writing, renamed onto or removed. Everything
//! else (ready/, delayed/, blocked/, status.json) is a hint that can be rebuilt from them.
//!
//! What must be done after a register is published is remembered by an *intent* in the process's
//! own `run/`: made before, removed only when the follow-ups exist. Whoever finds a dead process
//! finishes its intents. queue-layout.md has every step with the state that a crash leaves.

pub mod acceptance;
pub mod archive;
pub mod array;
pub mod board;
pub mod claim;
pub mod control;
pub mod decide;
pub mod dismissed;
pub mod durable;
pub mod elsewhere;
pub mod end;
pub mod evaluate;
pub mod events;
pub mod fsck;
pub mod gc;
pub mod identity;
pub mod ids;
pub mod incoming;
pub mod init;
pub mod lane;
pub mod layout;
pub mod learned;
pub mod leftovers;
pub mod owners;
pub mod procs;
pub mod ready;
pub mod record;
pub mod recover;
pub mod register;
mod registration;
pub mod reserve;
pub mod retell;
pub mod roll;
pub mod scopes;
pub mod settle;
pub mod state;
pub mod status;
pub mod submit;
pub mod sweep;
pub mod tasks;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Cannot, Error, Exit, Result};
use crate::rule;
use crate::sys::fs::{Dir, Entry, is_absent, keep_modes, mkdir_all};
use crate::sys::host::{Output, Platform};
use crate::sys::wake::Waiter;

use acceptance::Acceptance;
use durable::Durability;
use layout::{LAYOUT, Layout, LayoutRecord};

/// An open queue: its paths, and the file system and clocks to use.
#[derive(Clone)]
pub struct Queue {
    /// The paths.
    pub layout: Layout,
    /// The files, clocks and machine that it works with.
    pub platform: Platform,
    /// Whether replies of the file system may lie (a network mount): every link is read back.
    pub shared: bool,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// What this directory is: its uid and its inode.
    pub identity: String,
    /// What the project says of new tasks; nothing where the queue is alone.
    pub acceptance: Option<Arc<dyn Acceptance>>,
}

/// `queue.fs`, `queue.clock` and `queue.host` are what every transition is made of.
impl Deref for Queue {
    type Target = Platform;
    fn deref(&self) -> &Platform {
        &self.platform
    }
}

impl Queue {
    /// Opens the queue at `root` after looking at its version.
    pub fn open(root: &Path, platform: Platform) -> Result<Queue> {
        let layout = Layout::new(root.to_owned());
        let root = &*layout.root().to_owned();
        keep_modes(root);
        let none = || {
            Error::new(Exit::NoQueue, "this is no queue: it has no layout.json")
                .at(root)
                .hint("coord init")
        };
        let held = match if rule!("held") { platform.fs.hold(root) } else { Ok(None) } {
            Err(e) if is_absent(&e) => return Err(none()),
            other => other.cannot("open the queue directory", root)?,
        };
        let fs = held.unwrap_or_else(|| platform.fs.clone());
        let platform = Platform { fs, ..platform };
        let path = layout.layout_record();
        // What is opened by way of the descriptor has another path.
        if let Some(held) = platform.fs.reach(&path).parent() {
            keep_modes(held);
        }
        let bytes = match platform.fs.read(&path, 0, record::RECORD_MAX) {
            Ok(bytes) => bytes,
            Err(e) if is_absent(&e) => return Err(none()),
            Err(e) => return Err(e).cannot("read the layout of the queue", &path),
        };
        let record: LayoutRecord = record::parse(&bytes).map_err(|e| {
            Error::new(Exit::NoQueue, format!("layout.json cannot be read: {e}"))
                .at(&path)
                .hint("restore it from another queue of the same version, or from a backup")
        })?;
        if record.layout > LAYOUT || record.min_writer > LAYOUT || record.shards != 0 {
            let found = record.layout.max(record.min_writer);
            let what = format!("the queue has layout {found}, but this coord knows only {LAYOUT}");
            return Err(Error::new(Exit::NoQueue, what)
                .at(root)
                .hint("use the coord that made it, or a newer one"));
        }
        let durability = Durability::of_layout(&record.durability).ok_or_else(|| {
            let what = format!(
                "the queue has the durability `{}`, which this coord does not know",
                record.durability
            );
            Error::new(Exit::NoQueue, what)
                .at(&path)
                .hint("use the coord that made it, or a newer one")
        })?;
        let shared = platform.host.is_shared(root);
        let identity = identity::of(&*platform.fs, root, &record)?;
        Ok(Queue { layout, platform, shared, durability, identity, acceptance: None })
    }

    /// The wall time as text.
    pub fn now(&self) -> String {
        crate::sys::clock::rfc3339(self.clock.wall_ms())
    }

    /// A wait for what happens in this queue, and for these signals.
    pub fn waiter(&self, signals: &[i32]) -> Result<Waiter> {
        let root = self.layout.root();
        let waiter = Waiter::new(signals, root).cannot("listen for signals and changes", root)?;
        Ok(waiter.holding(self.fs.clone(), root))
    }

    /// Opens the file that a command's output is appended to.
    pub fn open_output(&self, path: &Path) -> std::io::Result<Output> {
        self.host.open_output(&self.fs.reach(path))
    }

    /// The names in a directory; none where the directory does not exist.
    pub fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        match self.fs.list(path) {
            Err(e) if is_absent(&e) => Ok(Vec::new()),
            other => other.cannot("list a directory", path),
        }
    }

    /// As `list`; no names as well where the directory cannot be listed by a fault of its own: it keeps no
    /// other from being looked at, and `coord fsck` names it.
    ///
    /// # Errors
    /// What is the machine's fault.
    pub fn list_reachable(&self, path: &Path) -> Result<Vec<Entry>> {
        match self.list(path) {
            Err(e) if e.is_of_entry() => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// Removes a name that may be gone already. For hints and for one's own files.
    pub fn discard(&self, path: &Path) -> Result<()> {
        match self.fs.unlink(path) {
            Err(e) if !is_absent(&e) => Err(e).cannot("remove a file", path),
            _ => Ok(()),
        }
    }

    /// Rings a bell. A lost ring costs a safety scan, so it is no error; the bell is made anew
    /// where somebody removed it, in the directory that this process holds.
    pub fn ring(&self, bell: &Path) {
        if let Err(e) = self.fs.touch(bell)
            && is_absent(&e)
            && let Some(parent) = bell.parent()
            && self.make_dirs(parent).is_ok()
        {
            drop(self.fs.touch(bell));
        }
    }

    /// Makes a directory of the queue and those above it. Not where there is no queue any more: what
    /// somebody has removed does not come back.
    pub fn make_dirs(&self, path: &Path) -> std::io::Result<()> {
        match self.fs.mkdir(path) {
            Err(e) if is_absent(&e) && self.fs.exists(&self.layout.layout_record()) => {
                let top = path.strip_prefix(self.layout.root()).ok().and_then(|p| p.iter().next());
                let lost = top.is_some_and(|top| !self.fs.exists(&self.layout.root().join(top)));
                mkdir_all(&*self.fs, path)?;
                if lost {
                    self.forget_sweeps();
                }
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// A directory was removed with all hints in it, and now it is there again: nothing else says that
    /// somebody has to look at every task. The next keeper sweeps as after a boot.
    fn forget_sweeps(&self) {
        let dir = self.layout.at("control/boot");
        let marks = self.fs.list(&dir).unwrap_or_default();
        for entry in marks.into_iter().filter(|entry| entry.name.contains('.')) {
            drop(self.fs.unlink(&dir.join(entry.name)));
        }
    }

    /// Rings a bell of an open directory.
    pub fn ring_in(&self, dir: &Dir, bell: &str) {
        // Lost, at worst, to the next look: a bell is never the only reason for one.
        drop(self.fs.touch_in(dir, bell));
    }

    /// Writes a complete file under a final name that only one writer has, by way of a temporary
    /// name: readers see the old or the new content.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let suffix = ids::random_part(self.clock.random());
        // A name may be as long as the file system allows, and not be text.
        let name: String = crate::sys::fs::name_of(path).chars().take(50).collect();
        let tmp = path.with_file_name(format!(".{name}.{suffix}.tmp"));
        self.fs.create(&tmp, bytes, 0o666).cannot("write a file", &tmp)?;
        let renamed = self.fs.rename(&tmp, path).cannot("replace a file", path);
        if renamed.is_err() {
            drop(self.fs.unlink(&tmp));
        }
        renamed
    }
}
