//! The modes of what this process makes: in a queue those that the queue's directory gives, whatever the
//! umask of the user; elsewhere what the umask leaves.
//!
//! The umask belongs to the whole process, and commands inherit it. So it is 0 for the one call that makes
//! something, and no thread starts a command meanwhile. A chmod after that call would do as well, but for
//! who dies in between: a directory in which nobody else can write would stay. Where the umask takes
//! nothing from a mode, no call is made for it.
//!
//! What is made in a place that is its owner's alone is so too: other users of the machine need not see
//! which files somebody works on, nor what commands print.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use nix::sys::stat::{Mode, umask};

/// What group and others may do.
const OTHERS: u32 = 0o077;
/// The bits that a mode asks for.
const BITS: u32 = 0o777;
/// The umask is not known yet.
const UNKNOWN: u32 = u32::MAX;

/// Whether this process works in a place that is its user's alone. Each program works in one.
static PRIVATE: AtomicBool = AtomicBool::new(false);

/// The queues that were opened, each with the bits of its directory.
static QUEUES: RwLock<Vec<(PathBuf, u32)>> = RwLock::new(Vec::new());

/// The umask of the user.
static UMASK: AtomicU32 = AtomicU32::new(UNKNOWN);

/// Who has it may change the umask, or relies on its being the user's.
static STEADY: Mutex<()> = Mutex::new(());

/// The umask is the user's as long as this is kept: to be held while a command is started.
pub fn steady_umask() -> MutexGuard<'static, ()> {
    STEADY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on what this process makes below `dir`, a queue, has the bits that `dir` has, and no others.
pub fn keep_modes(dir: &Path) {
    keep_private(dir);
    let Some(mode) = mode_of(dir) else { return };
    let mut queues = QUEUES.write().unwrap_or_else(PoisonError::into_inner);
    match queues.iter_mut().find(|(known, _)| known == dir) {
        Some((_, bits)) => *bits = mode & BITS,
        None => queues.push((dir.to_owned(), mode & BITS)),
    }
}

/// From now on this process keeps what it makes to its user, if `dir` is so.
fn keep_private(dir: &Path) {
    if mode_of(dir).is_some_and(|mode| mode & OTHERS == 0) {
        PRIVATE.store(true, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "sys/ may look at files")]
fn mode_of(dir: &Path) -> Option<u32> {
    Some(std::fs::metadata(dir).ok()?.permissions().mode())
}

/// From now on this process keeps what it makes to its user; and `dir`, which is ours, if it is there.
///
/// # Errors
/// `dir` is somebody else's.
#[expect(clippy::disallowed_methods, reason = "sys/ may look at files")]
pub fn make_private(dir: &Path) -> io::Result<()> {
    PRIVATE.store(true, Ordering::Relaxed);
    match std::fs::metadata(dir) {
        Ok(meta) if meta.permissions().mode() & OTHERS != 0 => {
            let mode = meta.permissions().mode() & !OTHERS;
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
        }
        _ => Ok(()),
    }
}

/// The bits of the innermost queue that a path lies in.
fn bits_of(path: &Path) -> Option<u32> {
    let path = path.as_os_str().as_bytes();
    let queues = QUEUES.read().unwrap_or_else(PoisonError::into_inner);
    let is_below = |queue: &Path| {
        let rest = path.strip_prefix(queue.as_os_str().as_bytes());
        rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
    };
    let found = queues.iter().filter(|(queue, _)| is_below(queue));
    found.max_by_key(|(queue, _)| queue.as_os_str().len()).map(|(_, bits)| *bits)
}

/// The mode that `asked` comes to at `path`, as far as this module decides it.
pub fn mode_at(path: &Path, asked: u32) -> u32 {
    let mode = asked & bits_of(path).unwrap_or(BITS);
    if PRIVATE.load(Ordering::Relaxed) { mode & !OTHERS } else { mode }
}

/// Makes something at `path` with the mode that it is to have there.
pub fn made<T>(path: &Path, asked: u32, make: impl FnOnce(u32) -> T) -> T {
    let mode = mode_at(path, asked);
    if bits_of(path).is_none() || mode & user_umask() == 0 {
        return make(mode);
    }
    let _alone = steady_umask();
    let _open = Open::new();
    make(mode)
}

/// The umask is 0 until this is dropped.
struct Open(Mode);

impl Open {
    fn new() -> Open {
        Open(umask(Mode::empty()))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        umask(self.0);
    }
}

/// The umask of the user. There is no call that only asks; /proc need not be there.
fn user_umask() -> u32 {
    match UMASK.load(Ordering::Relaxed) {
        UNKNOWN => {
            let _alone = steady_umask();
            let found = Open(umask(Mode::from_bits_truncate(OTHERS))).0.bits();
            UMASK.store(found, Ordering::Relaxed);
            found
        }
        known => known,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fs, RealFs};
    use super::*;

    #[test]
    fn a_queue_gives_its_modes_to_what_is_made_in_it_and_nothing_else_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let (shared, beside) = (dir.path().join("shared"), dir.path().join("shared-not"));
        for (at, mode) in [(&shared, 0o2775), (&beside, 0o755)] {
            RealFs.mkdir(at).unwrap();
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(at, mode).unwrap();
        }
        keep_modes(&shared);
        let inner = shared.join("runs");
        RealFs.mkdir(&inner).unwrap();
        let users = 0o777 & !user_umask();
        let mode = |path: &Path| mode_of(path).unwrap() & 0o7777;
        let file = |dir: &Path, asked| {
            let path = dir.join(format!("{asked:o}"));
            RealFs.create(&path, b"", asked).unwrap();
            mode(&path)
        };
        assert_eq!((mode(&inner), file(&inner, 0o666)), (0o2775, 0o664));
        assert_eq!((file(&shared, 0o444), file(&shared, 0o644)), (0o444, 0o644));
        assert_eq!(file(&beside, 0o666), 0o666 & users);
        // A queue in a queue has its own.
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o2750)).unwrap();
        keep_modes(&inner);
        assert_eq!((file(&inner, 0o444), file(&shared, 0o664)), (0o440, 0o664));
        RealFs.touch(&inner.join("bell")).unwrap();
        assert_eq!(mode(&inner.join("bell")), 0o640);
        assert_eq!(0o777 & !user_umask(), users, "the umask is the user's again");
    }
}
