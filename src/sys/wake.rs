//! One wait for everything: bells, signals, deaths and deadlines.
//!
//! All of them are descriptors of one epoll set, and the program's only wait is there: no thread, and
//! nothing that wakes up without a reason. A wake-up is never trusted: it is a reason to look, nothing
//! more.
//!
//! **Without pidfds** (an old kernel, a filter that refuses them) deaths are looked for, once a second.
//!
//! **Without inotify** (EMFILE, a file system where it is blind) the times of the watched names are
//! looked at instead, every 50 ms at first, doubling to 2 s while nothing happens.

mod bells;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::{pipe2, read};
use signal_hook::SigId;

use super::alive;
use super::clock::{Clock, RealClock};
use super::fs::Fs;
use super::host::ProcessId;
use super::signals;
use bells::Bells;

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
    /// Nobody reads our standard output any more.
    Unread,
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
    /// The signals that have arrived since the last wait, for who is at work and cannot wait now. They
    /// are reported by the next wait all the same.
    fn signals(&mut self) -> Vec<i32> {
        Vec::new()
    }
}

/// The wait of one program.
pub struct Waiter {
    epoll: Epoll,
    signals: Vec<Heard>,
    bells: Bells,
    pidfds: BTreeMap<u64, OwnedFd>,
    /// Deaths that nothing tells, as there is no pidfd: they are looked for.
    unseen: BTreeMap<u64, ProcessId>,
    look_for_deaths_at: Instant,
    fallback_ms: u64,
    /// What inotify may have had to tell when it gave up, and signals that were asked for.
    missed: Vec<Wake>,
    /// Until when it need not watch.
    lazy_until: Option<Instant>,
}

/// A signal as a descriptor: its handler writes a byte. Signals are not blocked, since what this
/// process starts would inherit that.
struct Heard {
    signal: i32,
    pipe: OwnedFd,
    ids: Vec<SigId>,
}

impl Heard {
    /// Whether it has arrived since it was asked for. However often: signals are merged anyway.
    fn take(&self) -> bool {
        let mut bytes = [0; 64];
        let mut any = false;
        while let Ok(count @ 1..) = read(&self.pipe, &mut bytes) {
            any = true;
            if count < bytes.len() {
                break;
            }
        }
        any
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        for id in &self.ids {
            signal_hook::low_level::unregister(*id);
        }
    }
}

/// The first and the longest pause between two looks when there is no inotify.
const LOOK_MS: (u64, u64) = (50, 2000);
/// Between two looks for the deaths that nothing tells.
const LOOK_FOR_DEATHS: Duration = Duration::from_secs(1);
/// A wait that is over sooner does not make a lazy program begin to watch.
const LAZY: Duration = Duration::from_millis(20);
/// So long a program may be lazy.
const LAZY_MOST: Duration = Duration::from_secs(2);
/// What an epoll event is of: bells, a signal (by its place), the reader, or else the key of a death.
const BELLS: u64 = u64::MAX;
const FIRST_SIGNAL: u64 = u64::MAX - 64;
const READER: u64 = FIRST_SIGNAL - 1;

/// The least time that a thread can sleep. Only `sys/` sleeps.
#[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
pub fn nap(time: Duration) {
    std::thread::sleep(time);
}

impl Waiter {
    /// A wait that hears of these signals. `queue` decides whether inotify can be trusted there.
    pub fn new(signals: &[i32], queue: &Path) -> std::io::Result<Waiter> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut heard = Vec::new();
        let ours = signals.iter().filter(|signal| !signals::stays_ignored(**signal));
        for (at, signal) in (0_u64..).zip(ours) {
            // A byte costs a pipe less than a socket, and one is written for each job.
            let (pipe, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
            epoll.add(&pipe, EpollEvent::new(EpollFlags::EPOLLIN, FIRST_SIGNAL + at))?;
            let told = signal_hook::low_level::pipe::register(*signal, write)?;
            let ids = signals::note(*signal)?.into_iter().chain([told]).collect();
            heard.push(Heard { signal: *signal, pipe, ids });
        }
        let kind = super::machine::fs_kind(queue);
        let blind = if std::env::var_os("COORD_NO_INOTIFY").is_some() {
            Some("COORD_NO_INOTIFY is set".to_owned())
        } else {
            kind.blind.then(|| format!("{} does not tell of changes made elsewhere", kind.name))
        };
        let bells = Bells::new(blind);
        if let Some(descriptor) = bells.descriptor() {
            epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, BELLS))?;
        }
        let pidfds = BTreeMap::new();
        Ok(Waiter {
            epoll,
            signals: heard,
            bells,
            pidfds,
            unseen: BTreeMap::new(),
            look_for_deaths_at: Instant::now(),
            fallback_ms: LOOK_MS.0,
            missed: Vec::new(),
            lazy_until: None,
        })
    }

    /// The same for the paths of a directory that `fs` holds. Also that it was moved or removed is reported,
    /// as `Wake::Rescan`.
    #[must_use]
    pub fn holding(mut self, fs: Arc<dyn Fs>, root: &Path) -> Waiter {
        self.bells.hold(fs, root);
        self
    }

    /// The same for a program that may be over in a moment: it begins to watch when it has waited for
    /// 20 ms for the first time with nothing to do (`wait`), or after two seconds, and is then told that
    /// each path was rung. The kernel takes up to 16 ms to let go of a watch, and the end of a program
    /// waits for that.
    #[must_use]
    pub fn lazy(self) -> Waiter {
        Waiter { lazy_until: Some(Instant::now() + LAZY_MOST), ..self }
    }

    /// Reports `Wake::Unread` when nobody reads standard output any more. Of a file that cannot be said.
    pub fn watch_reader(&mut self) {
        // What went wrong is reported without being asked for.
        let event = EpollEvent::new(EpollFlags::empty(), READER);
        let _ = self.epoll.add(std::io::stdout(), event);
    }

    /// Whether it does not watch yet, and need not.
    pub fn is_lazy(&self) -> bool {
        self.lazy_until.is_some_and(|until| Instant::now() < until)
    }

    /// Why there is no inotify; said once.
    pub fn blind(&self) -> Option<&str> {
        self.bells.blind.as_deref()
    }

    /// Waits for the next reason to look, until `deadline` at the latest, and takes all that have
    /// come up. An empty answer means that the deadline has passed.
    pub fn wait(&mut self, deadline: Instant) -> Vec<Wake> {
        let wakes = self.wait_lazily(deadline, LAZY);
        signals::heard();
        wakes
    }

    /// As `wait`, for a program that waits for a child of its own: no bell tells it of that, and it
    /// stays lazy for as long as it may.
    pub fn wait_for_child(&mut self, deadline: Instant) -> Vec<Wake> {
        let wakes = self.wait_lazily(deadline, LAZY_MOST);
        signals::heard();
        wakes
    }

    fn wait_lazily(&mut self, deadline: Instant, most: Duration) -> Vec<Wake> {
        let mut wakes = std::mem::take(&mut self.missed);
        if !wakes.is_empty() {
            return wakes;
        }
        loop {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            if let Some(lazy_until) = self.lazy_until.filter(|_| self.bells.must_begin()) {
                if self.is_lazy() {
                    let lazily = lazy_until.saturating_duration_since(now).min(most);
                    self.gather(left.min(lazily), &mut wakes);
                    if !wakes.is_empty() || Instant::now() >= deadline {
                        return wakes;
                    }
                }
                // What was rung before this is heard now, and from now on all is watched at once.
                self.lazy_until = None;
                wakes.extend(self.bells.begin().into_iter().map(Wake::Bell));
                if !wakes.is_empty() {
                    return wakes;
                }
                continue;
            }
            let look = Duration::from_millis(self.fallback_ms);
            let must_look = self.bells.must_look();
            self.gather(if must_look { left.min(look) } else { left }, &mut wakes);
            if must_look {
                self.bells.look(&mut wakes);
            }
            if !wakes.is_empty() {
                self.fallback_ms = LOOK_MS.0;
                wakes.dedup();
                return wakes;
            }
            if Instant::now() >= deadline {
                return wakes;
            }
            if must_look {
                self.fallback_ms = (self.fallback_ms * 2).min(LOOK_MS.1);
            }
        }
    }

    /// A deadline of the monotonic clock, for a wait.
    pub fn deadline(mono_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(mono_ms.saturating_sub(RealClock.mono_ms()))
    }

    /// As `wait`, but deaf to bells: for a program that need not follow each of very many rings. They
    /// are reported by the next `wait`.
    pub fn wait_deaf(&mut self, deadline: Instant) -> Vec<Wake> {
        self.hear_bells(false);
        let mut wakes = Vec::new();
        while wakes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.gather(left, &mut wakes);
        }
        self.hear_bells(true);
        signals::heard();
        wakes
    }

    fn hear_bells(&mut self, hear: bool) {
        if self.is_lazy() {
            return;
        }
        if let Some(descriptor) = self.bells.descriptor() {
            let wanted = if hear { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
            // Fails for no descriptor that is in the set; then bells are heard, which does no harm.
            let _ = self.epoll.modify(descriptor, &mut EpollEvent::new(wanted, BELLS));
        }
    }

    /// One wait at the descriptors.
    fn gather(&mut self, patience: Duration, wakes: &mut Vec<Wake>) {
        let now = Instant::now();
        let look = self.look_for_deaths_at.saturating_duration_since(now);
        let patience = if self.unseen.is_empty() { patience } else { patience.min(look) };
        self.gather_told(patience, wakes);
        if !self.unseen.is_empty() && Instant::now() >= self.look_for_deaths_at {
            self.look_for_deaths_at = Instant::now() + LOOK_FOR_DEATHS;
            let dead = |p: &ProcessId| !alive::is_alive(p.pid, p.start);
            let dead = self.unseen.iter().filter(|(_, p)| dead(p)).map(|(key, _)| *key);
            for key in dead.collect::<Vec<_>>() {
                self.unwatch_death(key);
                wakes.push(Wake::Died(key));
            }
        }
    }

    fn gather_told(&mut self, patience: Duration, wakes: &mut Vec<Wake>) {
        let mut events = [EpollEvent::empty(); 16];
        // Rounded up: a deadline that is not over must not be waited for in a loop.
        let ms = patience.as_micros().div_ceil(1000).min(86_400_000);
        let timeout = i32::try_from(ms).ok().and_then(|ms| EpollTimeout::try_from(ms).ok());
        let count = match self.epoll.wait(&mut events, timeout.unwrap_or(EpollTimeout::ZERO)) {
            Ok(count) => count,
            // A signal, which has written its byte by now.
            Err(Errno::EINTR) => return self.gather_told(Duration::ZERO, wakes),
            Err(_) => return,
        };
        for event in &events[..count] {
            match event.data() {
                BELLS => self.bells.read(wakes),
                READER => wakes.push(Wake::Unread),
                at if at >= FIRST_SIGNAL => {
                    let at = usize::try_from(at - FIRST_SIGNAL).unwrap_or(0);
                    let Some(heard) = self.signals.get(at) else { continue };
                    if heard.take() {
                        wakes.push(Wake::Signal(heard.signal));
                    }
                }
                key => {
                    self.unwatch_death(key);
                    wakes.push(Wake::Died(key));
                }
            }
        }
    }
}

impl Watch for Waiter {
    fn watch(&mut self, path: &Path) {
        self.bells.watch(path);
        if self.lazy_until.is_none() {
            let heard = self.bells.descriptor().is_some();
            let begun = self.bells.begin();
            // Reported only where something may be lost: who watches anew in each round, and is rung by
            // that, never rests.
            if heard && self.bells.descriptor().is_none() {
                self.missed.extend(begun.into_iter().map(Wake::Bell));
            }
        }
    }

    fn unwatch(&mut self, path: &Path) {
        self.bells.unwatch(path);
    }

    fn watch_death(&mut self, key: u64, process: ProcessId) -> bool {
        let Some(handle) = alive::open(process.pid, process.start) else { return false };
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, key);
        match handle.into_pidfd() {
            Some(pidfd) if self.epoll.add(&pidfd, event).is_ok() => {
                self.pidfds.insert(key, pidfd);
            }
            _ => {
                if self.unseen.is_empty() {
                    self.look_for_deaths_at = Instant::now() + LOOK_FOR_DEATHS;
                }
                self.unseen.insert(key, process);
            }
        }
        true
    }

    fn watches_death(&self, key: u64) -> bool {
        self.pidfds.contains_key(&key) || self.unseen.contains_key(&key)
    }

    fn signals(&mut self) -> Vec<i32> {
        let new = self.signals.iter().filter(|heard| heard.take());
        let new: Vec<Wake> = new.map(|heard| Wake::Signal(heard.signal)).collect();
        self.missed.extend(new);
        let signal = |wake: &Wake| match wake {
            Wake::Signal(signal) => Some(*signal),
            _ => None,
        };
        self.missed.iter().filter_map(signal).collect()
    }

    fn unwatch_death(&mut self, key: u64) {
        self.unseen.remove(&key);
        if let Some(fd) = self.pidfds.remove(&key) {
            let _ = self.epoll.delete(fd.as_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::RealFs;

    #[test]
    fn a_lazy_program_hears_what_was_rung_before_it_watched() {
        if !super::bells::has_inotify() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let bell = dir.path().join("bell");
        RealFs.touch(&bell).unwrap();
        let mut waiter = Waiter::new(&[], dir.path()).unwrap().lazy();
        waiter.watch(&bell);
        RealFs.touch(&bell).unwrap();
        assert_eq!(waiter.wait(Instant::now() + LAZY / 4), []);
        let deadline = || Instant::now() + Duration::from_secs(30);
        assert_eq!(waiter.wait(deadline()), [Wake::Bell(bell.clone())]);
        RealFs.touch(&bell).unwrap();
        assert_eq!(waiter.wait(deadline()), [Wake::Bell(bell.clone())]);
        // Nothing is rung by being watched anew: a worker that does so in each round would never rest.
        waiter.unwatch(&bell);
        waiter.watch(&bell);
        assert_eq!(waiter.wait(Instant::now() + LAZY * 2), []);
    }

    #[test]
    fn a_lazy_program_whose_child_runs_watches_when_it_waits_for_more() {
        if !super::bells::has_inotify() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let bell = dir.path().join("bell");
        RealFs.touch(&bell).unwrap();
        let mut waiter = Waiter::new(&[], dir.path()).unwrap().lazy();
        waiter.watch(&bell);
        assert_eq!(waiter.wait_for_child(Instant::now() + LAZY * 3), []);
        assert!(waiter.bells.must_begin() || !waiter.is_lazy());
        let deadline = || Instant::now() + Duration::from_secs(30);
        assert_eq!(waiter.wait(deadline()), [Wake::Bell(bell.clone())]);
        RealFs.touch(&bell).unwrap();
        assert_eq!(waiter.wait_for_child(deadline()), [Wake::Bell(bell.clone())]);
    }

    #[test]
    fn a_lazy_program_that_never_waits_watches_in_the_end() {
        if !super::bells::has_inotify() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let bell = dir.path().join("bell");
        RealFs.touch(&bell).unwrap();
        for pause in [LAZY / 10, Duration::ZERO] {
            let mut waiter = Waiter::new(&[], dir.path()).unwrap().lazy();
            waiter.watch(&bell);
            let began = Instant::now();
            while waiter.wait(Instant::now() + pause).is_empty() {
                assert!(began.elapsed() < Duration::from_secs(30), "still deaf");
            }
            assert!(!waiter.is_lazy());
        }
    }

    #[test]
    fn a_signal_that_was_asked_for_is_reported_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let usr1 = nix::libc::SIGUSR1;
        let mut waiter = Waiter::new(&[usr1], dir.path()).unwrap();
        assert_eq!(waiter.signals(), Vec::<i32>::new());
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
        assert_eq!(waiter.signals(), [usr1]);
        assert_eq!(waiter.signals(), [usr1], "also to the next who asks");
        let deadline = || Instant::now() + Duration::from_millis(50);
        assert_eq!(waiter.wait(deadline()), [Wake::Signal(usr1)]);
        assert_eq!(waiter.wait(deadline()), []);
    }

    #[test]
    fn what_was_rung_before_inotify_gave_up_is_heard() {
        if !super::bells::has_inotify() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let bell = dir.path().join("bell");
        RealFs.touch(&bell).unwrap();
        let mut waiter = Waiter::new(&[], dir.path()).unwrap();
        waiter.watch(&bell);
        RealFs.touch(&bell).unwrap();
        // No path is as long: the kernel refuses it, as it does every one when no watch is left.
        waiter.watch(&dir.path().join("x".repeat(5000)));
        let wakes = waiter.wait(Instant::now() + Duration::from_secs(30));
        assert!(wakes.contains(&Wake::Bell(bell)), "{wakes:?}");
    }
}
