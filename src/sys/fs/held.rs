//! The file operations below a directory that is held open.
//!
//! A program works in the directory that it has opened, not in whatever has its path by now: a path
//! below the root is walked from the descriptor. Moved, the directory is still found; where it was
//! removed the kernel makes nothing in it; and nothing is ever made in another one that has its path.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat, stat};

use super::real::Based;
use super::{Fs, RealFs, Whereabouts, is_absent, is_same};

/// The longest `layout.json`.
const RECORD_MAX: usize = 1 << 20;

/// The paths below a root, from its descriptor; all others as they are.
#[derive(Debug)]
pub struct HeldFs {
    root: PathBuf,
    dir: OwnedFd,
}

impl HeldFs {
    /// Holds the directory that `root` leads to now. It need not be readable for that.
    ///
    /// # Errors
    /// It is not there, or no directory.
    pub fn open(root: &Path) -> io::Result<HeldFs> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(root, flags, Mode::empty()).map_err(io_error)?;
        Ok(HeldFs { root: root.to_owned(), dir })
    }

    /// Where a path is below the root; `None` if it is not.
    fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let rest = path.as_os_str().as_bytes().strip_prefix(self.root.as_os_str().as_bytes())?;
        match rest {
            [] => Some(Path::new(".")),
            [b'/'] => Some(Path::new(".")),
            [b'/', below @ ..] => Some(Path::new(OsStr::from_bytes(below))),
            _ => None,
        }
    }

    /// What `layout.json` of a directory says.
    fn record(&self, dir: &Path) -> io::Result<Vec<u8>> {
        RealFs.read(&dir.join("layout.json"), 0, RECORD_MAX)
    }

    /// The directory itself by way of this process's descriptors.
    fn link(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()))
    }
}

fn io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

fn is_one(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

impl Based for HeldFs {
    fn at<'a>(&'a self, path: &'a Path) -> (BorrowedFd<'a>, &'a Path) {
        match self.below(path) {
            Some(below) => (self.dir.as_fd(), below),
            None => (AT_FDCWD, path),
        }
    }

    fn reach(&self, path: &Path) -> PathBuf {
        match self.below(path) {
            Some(below) => self.link().join(below),
            None => path.to_owned(),
        }
    }

    fn whereabouts(&self) -> Whereabouts {
        let (there, held) = match (stat(&self.root), fstat(&self.dir)) {
            (Ok(there), Ok(held)) => (Some(there), held),
            (Err(Errno::ENOENT | Errno::ENOTDIR), Ok(held)) => (None, held),
            // That it cannot be looked at now says nothing.
            _ => return Whereabouts::Here,
        };
        if there.is_some_and(|there| is_one(&there, &held)) {
            return Whereabouts::Here;
        }
        // What is left of a directory that was removed has no name in it.
        let record = match self.record(&self.link()) {
            Err(e) if is_absent(&e) => return Whereabouts::Gone,
            record => record,
        };
        // Another mount of the same directory has another device.
        let is_mount = there.is_some_and(|there| there.st_ino == held.st_ino)
            && matches!((record, self.record(&self.root)), (Ok(a), Ok(b)) if a == b);
        if is_mount {
            return Whereabouts::Here;
        }
        let now = nix::fcntl::readlink(&self.link()).ok().map(PathBuf::from);
        Whereabouts::Moved(now.filter(|path| is_same(path, &self.link())))
    }
}

/// Whether a process has a directory open; `None` where that cannot be looked at, or it is gone.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
pub fn holds(pid: i32, dir: &Path) -> Option<bool> {
    let there = stat(dir).ok()?;
    let mut any = false;
    for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).ok()? {
        any = true;
        if stat(&fd.ok()?.path()).is_ok_and(|open| is_one(&open, &there)) {
            return Some(true);
        }
    }
    // A process of ours that lives has something open.
    any.then_some(false)
}
