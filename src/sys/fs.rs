//! The file operations that the whole product is made of, behind one small trait.
//!
//! Nothing outside `sys/` calls `std::fs`. A queue is changed only by `link`, `rename`, `mkdir`,
//! `unlink`, `rmdir` and by writing files that nobody else can see yet, so a crash between any two
//! calls leaves one of the states that queue-layout.md lists.
//!
//! Reading is total: what is no regular file (a fifo, a symbolic link, a device) is an error of its
//! own and never blocks; what is longer than the limit is cut, and parsing then fails.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod held;
mod modes;
mod real;

pub use held::{HeldFs, holds};
pub use modes::{keep_modes, made, make_private, mode_at, steady_umask};
pub use real::RealFs;

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// Anything else: a symbolic link, a fifo, a device.
    Other,
}

/// One name of a listing. Names that are not UTF-8 are left out: no record of ours has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, without its directory.
    pub name: String,
    /// What it stands for.
    pub kind: Kind,
    /// Number of its inode: names of one file have the same one.
    pub ino: u64,
}

/// What `stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub len: u64,
    /// Time of the last change of the content, nanoseconds since 1970, by the file system's clock.
    pub mtime_ns: u64,
    /// What it is.
    pub kind: Kind,
    /// How many names it has.
    pub links: u64,
    /// The user whose it is.
    pub uid: u32,
}

/// An open directory. Names linked through it land in *this* directory, also after it was moved
/// away and another one was made in its place.
#[derive(Debug)]
pub struct Dir {
    /// The path it was opened by, for messages.
    pub path: PathBuf,
    /// What stands behind it.
    pub handle: Handle,
}

/// What an open directory is to the file system that opened it.
#[derive(Debug)]
pub enum Handle {
    /// A descriptor of the kernel.
    Descriptor(OwnedFd),
    /// A number of a simulated file system.
    Number(u64),
}

/// Whether the path by which a directory was opened still leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// It does; or that cannot be told now.
    Here,
    /// It leads elsewhere, or nowhere. The directory is there, under this path if that is known.
    Moved(Option<PathBuf>),
    /// The directory was removed.
    Gone,
}

/// A file that is appended to again and again by one process.
#[derive(Debug)]
pub struct Log {
    /// The path it was opened by.
    pub path: PathBuf,
    /// Its descriptor; a simulated file system finds it by its path.
    pub file: Option<std::fs::File>,
}

/// The operations. One call is one system call as far as other processes can tell.
pub trait Fs: Send + Sync {
    /// Gives the file `from` the further name `to`. Fails if `to` exists: this is what decides races.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// As `link`, into a directory that was opened before.
    fn link_in(&self, from: &Path, dir: &Dir, name: &str) -> io::Result<()>;
    /// As `link_in`, of a file in an open directory: the kernel has no path to walk.
    fn link_between(&self, from: &Dir, file: &str, dir: &Dir, name: &str) -> io::Result<()> {
        self.link_in(&from.path.join(file), dir, name)
    }
    /// Removes a name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Renames; replaces a file that is in the way.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes one directory.
    fn mkdir(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, path: &Path) -> io::Result<()>;
    /// Writes a whole file under a name that only the caller uses. Not atomic for readers: publish
    /// it with `link` or `rename`.
    fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()>;
    /// Writes over a file of the same length that is there, in place and with a single `write`: for a
    /// hint of which a reader can tell that it saw half an update. Renaming over a file makes ext4 write to the disk at
    /// once. A simulated file system has no need of it.
    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let _ = (path, bytes);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Appends with a single `write`; returns the file's length afterwards.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<u64>;
    /// Opens a file for many appends; makes it where there is none.
    fn open_log(&self, path: &Path) -> io::Result<Log> {
        self.append(path, b"")?;
        Ok(Log { path: path.to_owned(), file: None })
    }
    /// Appends to an open file with a single `write`.
    fn append_to(&self, log: &Log, bytes: &[u8]) -> io::Result<()> {
        self.append(&log.path, bytes).map(drop)
    }
    /// At most `limit` bytes of a regular file, from `offset` on.
    fn read(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>>;
    /// As `read` from the start, through an open directory.
    fn read_in(&self, dir: &Dir, name: &str, limit: usize) -> io::Result<Vec<u8>>;
    /// The names in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// The names in a directory that is no register's: whatever bytes they have.
    fn list_bytes(&self, path: &Path) -> io::Result<Vec<(OsString, Kind)>> {
        Ok(self.list(path)?.into_iter().map(|entry| (entry.name.into(), entry.kind)).collect())
    }
    /// The names in an open directory.
    fn list_in(&self, dir: &Dir) -> io::Result<Vec<Entry>>;
    /// Hands out name and inode of each, without keeping them: for directories with very many.
    fn each_in(&self, dir: &Dir, each: &mut dyn FnMut(&str, u64)) -> io::Result<()> {
        self.list_in(dir)?.iter().for_each(|entry| each(&entry.name, entry.ino));
        Ok(())
    }
    /// Opens a directory.
    fn open_dir(&self, path: &Path) -> io::Result<Dir>;
    /// Looks at a name without following a symbolic link.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Sets the file's times to now; makes an empty file where there is none.
    fn touch(&self, path: &Path) -> io::Result<()>;
    /// Sets the times of a file that is there to now. One that was removed does not come back: a simulated
    /// file system may make it, since nobody removes whole queues there.
    fn refresh(&self, path: &Path) -> io::Result<()> {
        self.touch(path)
    }
    /// As `touch`, in an open directory.
    fn touch_in(&self, dir: &Dir, name: &str) -> io::Result<()> {
        self.touch(&dir.path.join(name))
    }

    /// Makes the content of a file durable (`fdatasync`).
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable (`fsync`).
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The same of an open directory.
    fn sync_in(&self, dir: &Dir) -> io::Result<()>;

    /// Removes a directory with all that is in it. Not at once: others see it become less.
    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        for entry in self.list(path)? {
            let below = path.join(&entry.name);
            match entry.kind {
                Kind::Dir => self.remove_tree(&below)?,
                _ => self.unlink(&below)?,
            }
        }
        self.rmdir(path)
    }

    /// The same file operations, for which the directory that `root` leads to now stays what `root` means,
    /// also when it is moved. `None`: a file system in which nothing is ever moved.
    fn hold(&self, root: &Path) -> io::Result<Option<Arc<dyn Fs>>> {
        let _ = root;
        Ok(None)
    }
    /// Where the directory is that is held, if one is.
    fn whereabouts(&self) -> Whereabouts {
        Whereabouts::Here
    }
    /// The path by which calls that are none of these reach the same place, from this process.
    fn reach(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    /// Whether the name exists. An error counts as "exists": callers use this for monotone looks
    /// where assuming too much costs time and assuming too little could cost work.
    fn exists(&self, path: &Path) -> bool {
        !matches!(self.stat(path), Err(e) if is_absent(&e))
    }
    /// As `exists`, in an open directory.
    fn exists_in(&self, dir: &Dir, name: &str) -> bool {
        self.exists(&dir.path.join(name))
    }
}

/// Whether an error says that the name, or a directory on the way to it, does not exist.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR))
}

/// Whether an error says that the name stands for something that can never be read: a directory, a
/// symbolic link, a socket.
pub fn is_no_file(error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(code) => matches!(code, nix::libc::ELOOP | nix::libc::ENXIO | nix::libc::EISDIR),
        // What `open_regular` says.
        None => error.kind() == io::ErrorKind::InvalidInput,
    }
}

/// The last component of a path as text; empty where there is none.
pub fn name_of(path: &Path) -> String {
    path.file_name().map(OsStr::as_bytes).map(String::from_utf8_lossy).unwrap_or_default().into()
}

/// A path without symbolic links; `None` if it is not there.
pub fn real_path(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}

/// Makes a directory and those above it. For places outside a queue, and for hints.
pub fn mkdir_all(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.mkdir(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) if is_absent(&e) => {
            let Some(parent) = path.parent() else { return Err(e) };
            mkdir_all(fs, parent)?;
            match fs.mkdir(path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                other => other,
            }
        }
        Err(e) => Err(e),
    }
}

/// Removes a directory with all that is in it, also what its owner may not write: a job may have made it
/// so. Only for what is no queue of anybody's (throw-away
/// directories, and the part of a queue that a test of faults takes away) and what was buried. Somebody may be making new
/// names in it meanwhile: then some of it stays.
#[expect(clippy::disallowed_methods, reason = "this is the one place that touches files")]
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            std::fs::remove_dir_all(path)
        }
        other => other,
    }
}

/// Gives their owner every right on a directory and those below it.
#[expect(clippy::disallowed_methods, reason = "this is the one place that touches files")]
fn open_up(path: &Path) {
    let mut open = vec![path.to_owned()];
    while let Some(dir) = open.pop() {
        super::tree::open_up(&dir);
        let below = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let dirs = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(dirs.map(|entry| entry.path()));
    }
}

/// Takes an exclusive lock on a file until the returned file is dropped or the process dies. `None`:
/// another process has it. Only for efficiency (one coordinator is enough): nothing is unsafe
/// without it.
#[expect(clippy::disallowed_methods, reason = "this is the one place that touches files")]
pub fn try_lock(path: &Path) -> io::Result<Option<std::fs::File>> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = match made(path, 0o666, |mode| options.mode(mode).open(path)) {
        // Another user made it; to lock it, it is enough to read it.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            std::fs::OpenOptions::new().read(true).open(path)?
        }
        other => other?,
    };
    match fs2::FileExt::try_lock_exclusive(&file) {
        Ok(()) => Ok(Some(file)),
        Err(e) if e.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether two paths lead to the same directory or file, by device and inode, symbolic links followed.
/// One that leads nowhere is not the same as anything.
#[expect(clippy::disallowed_methods, reason = "sys/ may look at files")]
pub fn is_same(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    matches!((place(a), place(b)), (Ok(a), Ok(b)) if a == b)
}

/// A path without symbolic links on its way; itself where it cannot be told.
pub fn canonical(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
