//! One wait for everything: bells, signals, deaths and deadlines.
//!
//! Sources (notify's callback, signal-hook, pidfds) put a word into one channel, and the program's
//! only wait reads it. A wake-up is never trusted: it is a reason to look, nothing more.
//!
//! **Bells.** A bell is a file that is never replaced; ringing is `utimensat`. inotify reports that
//! as IN_ATTRIB and merges repeats (100,000 rings made one event), so a queue of events cannot
//! overflow. notify also asks for IN_OPEN, so a watched directory that the same program lists would
//! wake it for ever: access events are dropped, and directories are watched only where they are
//! quiet. One inotify instance a process: a user has 128.
//!
//! **Without inotify** (EMFILE, a file system where it is blind) the times of the watched names are
//! looked at instead, every 50 ms at first, doubling to 2 s while nothing happens.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use notify::{EventKind, RecursiveMode, Watcher};

use super::alive;
use super::clock::{Clock, RealClock};
use super::host::ProcessId;

/// Why a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// Something changed at a watched path.
    Bell(PathBuf),
    /// A watched path was removed, or events were lost: look at everything.
    Rescan,
    /// A signal arrived.
    Signal(i32),
    /// The process registered under this key has died.
    Died(u64),
}

/// What the parts of a program want to hear of.
pub trait Watch {
    /// Reports `Wake::Bell(path)` when the path is rung, or something changes in that directory.
    /// Watching twice is watching once. Register, then look: what happens in between is reported.
    fn watch(&mut self, path: &Path);
    /// Forgets a path, for instance because it was removed and made anew.
    fn unwatch(&mut self, path: &Path);
    /// Reports `Wake::Died(key)` when the process ends. False: it is dead already.
    fn watch_death(&mut self, key: u64, process: ProcessId) -> bool;
    /// Whether a death is watched under this key.
    fn watches_death(&self, key: u64) -> bool;
    /// No longer reports that death.
    fn unwatch_death(&mut self, key: u64);
}

/// The wait of one program.
pub struct Waiter {
    sender: Sender<Wake>,
    receiver: Receiver<Wake>,
    watcher: Option<notify::RecommendedWatcher>,
    watched: BTreeMap<PathBuf, Option<(u64, u64)>>,
    deaths: Option<std::sync::Arc<Epoll>>,
    pidfds: BTreeMap<u64, OwnedFd>,
    fallback_ms: u64,
    /// Why there is no inotify; said once.
    pub blind: Option<String>,
}

/// The first and the longest pause between two looks when there is no inotify.
const LOOK_MS: (u64, u64) = (50, 2000);

/// The least time that a thread can sleep. Only `sys/` sleeps.
#[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
pub fn nap(time: Duration) {
    std::thread::sleep(time);
}

/// The time of the last change of a path, as a poller sees it.
#[expect(clippy::disallowed_methods, reason = "sys/ may look at files")]
fn stamp(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    // Opened first: on a shared file system only an open asks the server.
    let meta = std::fs::File::open(path).and_then(|f| f.metadata()).ok()?;
    let part = |seconds: i64, nanos: i64| {
        u64::try_from(seconds).unwrap_or(0) * 1_000_000_000 + u64::try_from(nanos).unwrap_or(0)
    };
    Some((part(meta.mtime(), meta.mtime_nsec()), part(meta.ctime(), meta.ctime_nsec())))
}

impl Waiter {
    /// A wait that hears of these signals. `queue` decides whether inotify can be trusted there.
    pub fn new(signals: &[i32], queue: &Path) -> std::io::Result<Waiter> {
        let (sender, receiver) = channel();
        if !signals.is_empty() {
            let mut incoming = signal_hook::iterator::Signals::new(signals)?;
            let sender = sender.clone();
            std::thread::Builder::new().name("signals".into()).spawn(move || {
                for signal in incoming.forever() {
                    if sender.send(Wake::Signal(signal)).is_err() {
                        return;
                    }
                }
            })?;
        }
        let kind = super::machine::fs_kind(queue);
        let (watcher, blind) = if std::env::var_os("COORD_NO_INOTIFY").is_some() {
            (None, Some("COORD_NO_INOTIFY is set".to_owned()))
        } else if kind.blind {
            (None, Some(format!("{} does not tell of changes made elsewhere", kind.name)))
        } else {
            match notify_watcher(sender.clone()) {
                Ok(watcher) => (Some(watcher), None),
                Err(e) => (None, Some(describe(&e))),
            }
        };
        Ok(Waiter {
            sender,
            receiver,
            watcher,
            watched: BTreeMap::new(),
            deaths: None,
            pidfds: BTreeMap::new(),
            fallback_ms: LOOK_MS.0,
            blind,
        })
    }

    fn death_watch(&mut self) -> Option<std::sync::Arc<Epoll>> {
        if self.deaths.is_none() {
            let epoll = std::sync::Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok()?);
            let (shared, sender) = (epoll.clone(), self.sender.clone());
            let thread = std::thread::Builder::new().name("deaths".into()).spawn(move || {
                let mut events = [EpollEvent::empty(); 16];
                loop {
                    let wait = shared.wait(&mut events, nix::sys::epoll::EpollTimeout::NONE);
                    let count = match wait {
                        Ok(count) => count,
                        Err(nix::errno::Errno::EINTR) => continue,
                        Err(_) => return,
                    };
                    for event in &events[..count] {
                        if sender.send(Wake::Died(event.data())).is_err() {
                            return;
                        }
                    }
                }
            });
            thread.ok()?;
            self.deaths = Some(epoll);
        }
        self.deaths.clone()
    }

    /// Waits for the next reason to look, until `deadline` at the latest, and takes all that have
    /// come up. An empty answer means that the deadline has passed.
    pub fn wait(&mut self, deadline: Instant) -> Vec<Wake> {
        let mut wakes = Vec::new();
        loop {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            let look = Duration::from_millis(self.fallback_ms);
            let blind = self.watcher.is_none() && !self.watched.is_empty();
            let patience = if blind { left.min(look) } else { left };
            match self.receiver.recv_timeout(patience) {
                Ok(wake) => wakes.push(wake),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            wakes.extend(self.receiver.try_iter());
            if blind {
                wakes.extend(self.look());
            }
            if !wakes.is_empty() {
                self.fallback_ms = LOOK_MS.0;
                for wake in &wakes {
                    if let Wake::Died(key) = wake {
                        let key = *key;
                        self.unwatch_death(key);
                    }
                }
                wakes.dedup();
                return wakes;
            }
            if Instant::now() >= deadline {
                return wakes;
            }
            self.fallback_ms = (self.fallback_ms * 2).min(LOOK_MS.1);
        }
    }

    /// The same with a deadline of the monotonic clock.
    pub fn wait_until(&mut self, mono_ms: u64) -> Vec<Wake> {
        let left = mono_ms.saturating_sub(RealClock.mono_ms());
        self.wait(Instant::now() + Duration::from_millis(left))
    }

    /// The fall-back: compares the times of all watched paths with those of the last look.
    fn look(&mut self) -> Vec<Wake> {
        let mut wakes = Vec::new();
        for (path, last) in &mut self.watched {
            let now = stamp(path);
            if now != *last {
                wakes.push(if now.is_none() { Wake::Rescan } else { Wake::Bell(path.clone()) });
                *last = now;
            }
        }
        wakes
    }
}

impl Watch for Waiter {
    fn watch(&mut self, path: &Path) {
        if self.watched.contains_key(path) {
            return;
        }
        self.watched.insert(path.to_owned(), stamp(path));
        let Some(watcher) = self.watcher.as_mut() else { return };
        if let Err(e) = watcher.watch(path, RecursiveMode::NonRecursive)
            && !matches!(e.kind, notify::ErrorKind::PathNotFound)
        {
            self.blind = Some(describe(&e));
            self.watcher = None;
        }
    }

    fn unwatch(&mut self, path: &Path) {
        if self.watched.remove(path).is_some()
            && let Some(watcher) = self.watcher.as_mut()
        {
            // A watch on a removed file is gone already.
            drop(watcher.unwatch(path));
        }
    }

    fn watch_death(&mut self, key: u64, process: ProcessId) -> bool {
        let Some(pidfd) = alive::open(process.pid, process.start) else { return false };
        let Some(epoll) = self.death_watch() else { return true };
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, key);
        if epoll.add(&pidfd, event).is_ok() {
            self.pidfds.insert(key, pidfd);
        }
        true
    }

    fn watches_death(&self, key: u64) -> bool {
        self.pidfds.contains_key(&key)
    }

    fn unwatch_death(&mut self, key: u64) {
        if let (Some(fd), Some(epoll)) = (self.pidfds.remove(&key), self.deaths.as_ref()) {
            let _ = epoll.delete(&fd);
        }
    }
}

fn describe(error: &notify::Error) -> String {
    let text = match &error.kind {
        notify::ErrorKind::Io(e) => e.to_string(),
        notify::ErrorKind::MaxFilesWatch => "no inotify watch left".to_owned(),
        other => format!("{other:?}"),
    };
    match super::machine::sysctl("fs/inotify/max_user_instances") {
        Some(most) => format!("{text}; this user may have {most} inotify instances"),
        None => text,
    }
}

fn notify_watcher(sender: Sender<Wake>) -> notify::Result<notify::RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let wake = match event {
            Err(_) => Wake::Rescan,
            Ok(event) if event.need_rescan() => Wake::Rescan,
            Ok(event) => match event.kind {
                EventKind::Access(_) => return,
                EventKind::Remove(_) => Wake::Rescan,
                _ => match event.paths.into_iter().next() {
                    Some(path) => Wake::Bell(path),
                    None => Wake::Rescan,
                },
            },
        };
        // The program is ending when nobody listens any more.
        drop(sender.send(wake));
    })
}
