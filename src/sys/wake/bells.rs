//! Hearing bells: by inotify, or by looking at their times.
//!
//! A bell is a file that is never replaced; ringing is `utimensat`. inotify reports that as IN_ATTRIB
//! and merges repeats (100,000 rings made one event), so a queue of events cannot overflow. Reading
//! is not reported: a program may list a directory that it watches. One inotify instance a process: a
//! user has 128.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::super::fs::{Fs, RealFs};
use super::Wake;

/// What is reported of a watched path.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_ATTRIB
    .union(AddWatchFlags::IN_MODIFY)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);

/// What is reported of the directory that all the paths are in, and of the one that it is in itself.
const MOVES: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// The watched path itself is gone, or events were lost.
const GONE: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_UNMOUNT)
    .union(AddWatchFlags::IN_IGNORED)
    .union(AddWatchFlags::IN_Q_OVERFLOW);

/// The times of the last change of a path, nanoseconds: of its content and of its inode.
type Stamp = Option<(u64, u64)>;

/// The watched paths.
pub(super) struct Bells {
    inotify: Option<Inotify>,
    watched: BTreeMap<PathBuf, Stamp>,
    paths: HashMap<WatchDescriptor, PathBuf>,
    /// Those that inotify was not asked to watch yet.
    waiting: Vec<PathBuf>,
    /// The files as the program sees them: a path is watched where that leads.
    fs: Arc<dyn Fs>,
    /// Directories that are heard of only when they are moved or removed.
    places: Vec<PathBuf>,
    /// Why there is no inotify.
    pub(super) blind: Option<String>,
}

/// The time of the last change of a path, as a poller sees it.
#[expect(clippy::disallowed_methods, reason = "sys/ may look at files")]
fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    // Opened first: on a shared file system only an open asks the server.
    let meta = std::fs::File::open(path).and_then(|f| f.metadata()).ok()?;
    let part = |seconds: i64, nanos: i64| {
        u64::try_from(seconds).unwrap_or(0) * 1_000_000_000 + u64::try_from(nanos).unwrap_or(0)
    };
    Some((part(meta.mtime(), meta.mtime_nsec()), part(meta.ctime(), meta.ctime_nsec())))
}

impl Bells {
    /// `blind`: why inotify is not to be asked at all.
    pub(super) fn new(blind: Option<String>) -> Bells {
        let (watched, paths, waiting, places) = Default::default();
        let fs = Arc::new(RealFs);
        let mut bells = Bells { inotify: None, watched, paths, waiting, fs, places, blind };
        if bells.blind.is_none() {
            match Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) {
                Ok(inotify) => bells.inotify = Some(inotify),
                Err(e) => bells.blind = Some(describe(e)),
            }
        }
        bells
    }

    /// The paths are those of a directory that the program holds: it hears when that is moved.
    pub(super) fn hold(&mut self, fs: Arc<dyn Fs>, root: &Path) {
        self.fs = fs;
        self.places =
            [Some(root), root.parent()].into_iter().flatten().map(Path::to_owned).collect();
    }

    /// What to wait at; `None` where the times must be looked at.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Whether the times of the watched paths must be looked at.
    pub(super) fn must_look(&self) -> bool {
        self.inotify.is_none() && !self.watched.is_empty()
    }

    /// Watches a path with the next `begin`, or by its times from now on.
    pub(super) fn watch(&mut self, path: &Path) {
        if self.watched.contains_key(path) {
            return;
        }
        match self.inotify {
            None => drop(self.watched.insert(path.to_owned(), stamp(&self.fs.reach(path)))),
            Some(_) => {
                self.watched.insert(path.to_owned(), None);
                self.waiting.push(path.to_owned());
            }
        }
    }

    /// Whether there are paths that wait for `begin`.
    pub(super) fn must_begin(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Begins to watch. Returns what may have been rung before that.
    pub(super) fn begin(&mut self) -> Vec<PathBuf> {
        let Some(inotify) = &self.inotify else { return Vec::new() };
        let mut begun = Vec::new();
        for place in std::mem::take(&mut self.places) {
            // Where it cannot be watched, the next rescan finds that it was moved.
            if let Ok(descriptor) = inotify.add_watch(&self.fs.reach(&place), MOVES) {
                self.paths.insert(descriptor, place);
            }
        }
        for path in std::mem::take(&mut self.waiting) {
            match inotify.add_watch(&self.fs.reach(&path), CHANGES) {
                Ok(descriptor) => {
                    self.paths.insert(descriptor, path.clone());
                    begun.push(path);
                }
                // Nothing is there to be heard of.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(e) => {
                    let why = describe(e);
                    tracing::warn!(
                        "cannot watch any more ({why}); looking at the bells every 50 ms to 2 s"
                    );
                    self.blind = Some(why);
                    self.inotify = None;
                    self.paths.clear();
                    for (path, last) in &mut self.watched {
                        *last = stamp(&self.fs.reach(path));
                    }
                    return self.watched.keys().cloned().collect();
                }
            }
        }
        begun
    }

    pub(super) fn unwatch(&mut self, path: &Path) {
        if self.watched.remove(path).is_none() {
            return;
        }
        self.waiting.retain(|waiting| waiting != path);
        let found = self.paths.iter().find(|(_, of)| of.as_path() == path).map(|(wd, _)| *wd);
        if let Some(descriptor) = found {
            self.paths.remove(&descriptor);
            if let Some(inotify) = &self.inotify {
                // A watch on a removed file is gone already.
                let _ = inotify.rm_watch(descriptor);
            }
        }
    }

    /// What inotify has to tell.
    pub(super) fn read(&mut self, wakes: &mut Vec<Wake>) {
        let Some(inotify) = &self.inotify else { return };
        while let Ok(events) = inotify.read_events() {
            for event in events {
                let overflow = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                // Not watched any more: what was reported before is no news.
                let Some(path) = self.paths.get(&event.wd).filter(|_| !overflow) else {
                    if overflow {
                        wakes.push(Wake::Rescan);
                    }
                    continue;
                };
                if event.mask.intersects(GONE) {
                    wakes.push(Wake::Rescan);
                    continue;
                }
                let path = event.name.as_ref().map_or_else(|| path.clone(), |n| path.join(n));
                wakes.push(Wake::Bell(path));
            }
        }
    }

    /// Compares the times of all watched paths with those of the last look.
    pub(super) fn look(&mut self, wakes: &mut Vec<Wake>) {
        for (path, last) in &mut self.watched {
            let now = stamp(&self.fs.reach(path));
            if now != *last {
                wakes.push(if now.is_none() { Wake::Rescan } else { Wake::Bell(path.clone()) });
                *last = now;
            }
        }
    }
}

fn describe(error: Errno) -> String {
    let text = match error {
        Errno::ENOSPC => "no inotify watch left".to_owned(),
        other => other.desc().to_owned(),
    };
    match crate::sys::machine::sysctl("fs/inotify/max_user_instances") {
        Some(most) => format!("{text}; this user may have {most} inotify instances"),
        None => text,
    }
}

/// Whether this user may have one more inotify instance; if not, says so: a test that is about
/// inotify cannot be made then. Other programs of the same user may have taken all of them.
#[cfg(test)]
pub(super) fn has_inotify() -> bool {
    let made = Inotify::init(InitFlags::IN_CLOEXEC);
    if let Err(e) = &made {
        println!("skipped: no inotify instance can be had: {e} (fs.inotify.max_user_instances)");
    }
    made.is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn where_no_watch_can_be_had_the_times_are_looked_at() {
        if !has_inotify() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let bell = dir.path().join("bell");
        RealFs.touch(&bell).unwrap();
        let mut bells = Bells::new(None);
        bells.watch(&bell);
        // No path is as long: the kernel refuses it, as it does every one when no watch is left.
        let refused = dir.path().join("x".repeat(5000));
        bells.watch(&refused);
        assert_eq!(bells.begin(), [bell.clone(), refused], "either may have been rung before");
        assert!(bells.must_look() && bells.descriptor().is_none() && bells.blind.is_some());
        let mut wakes = Vec::new();
        bells.look(&mut wakes);
        assert_eq!(wakes, []);
        // The clock of a file system may stand still for some milliseconds.
        let began = Instant::now();
        while wakes.is_empty() && began.elapsed() < Duration::from_secs(30) {
            RealFs.touch(&bell).unwrap();
            bells.look(&mut wakes);
        }
        assert_eq!(wakes, [Wake::Bell(bell)]);
    }
}
