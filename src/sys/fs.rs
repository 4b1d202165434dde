//! The file operations that the whole product is made of, behind one small trait.
//!
//! Nothing outside `sys/` calls `std::fs`. A queue is changed only by `link`, `rename`, `mkdir`,
//! `unlink`, `rmdir` and by writing files that nobody else can see yet, so a crash between any two
//! calls leaves one of the states that queue-layout.md lists.
//!
//! Reading is total: what is no regular file (a fifo, a symbolic link, a device) is an error of its
//! own and never blocks; what is longer than the limit is cut, and parsing then fails.

use std::ffi::OsStr;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::step::fault;

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

impl Dir {
    fn fd(&self) -> io::Result<&OwnedFd> {
        match &self.handle {
            Handle::Descriptor(fd) => Ok(fd),
            Handle::Number(_) => Err(io::Error::from_raw_os_error(nix::libc::EBADF)),
        }
    }
}

/// A file that is appended to again and again by one process.
#[derive(Debug)]
pub struct Log {
    /// The path it was opened by.
    pub path: PathBuf,
    /// Its descriptor; a simulated file system finds it by its path.
    pub file: Option<std::fs::File>,
}

/// Appends with a single `write`.
fn write_whole(mut file: &std::fs::File, bytes: &[u8]) -> io::Result<()> {
    let count = loop {
        match file.write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if count < bytes.len() {
        return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
    }
    Ok(())
}

/// The operations. One call is one system call as far as other processes can tell.
pub trait Fs: Send + Sync {
    /// Gives the file `from` the further name `to`. Fails if `to` exists: this is what decides races.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// As `link`, into a directory that was opened before.
    fn link_in(&self, from: &Path, dir: &Dir, name: &str) -> io::Result<()>;
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
    /// The names in an open directory.
    fn list_in(&self, dir: &Dir) -> io::Result<Vec<Entry>>;
    /// Opens a directory.
    fn open_dir(&self, path: &Path) -> io::Result<Dir>;
    /// Looks at a name without following a symbolic link.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Sets the file's times to now; makes an empty file where there is none.
    fn touch(&self, path: &Path) -> io::Result<()>;

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

    /// Whether the name exists. An error counts as "exists": callers use this for monotone looks
    /// where assuming too much costs time and assuming too little could cost work.
    fn exists(&self, path: &Path) -> bool {
        !matches!(self.stat(path), Err(e) if is_absent(&e))
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

/// The real thing.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealFs;

fn io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

/// Reads at most `limit` bytes of a regular file from `offset` on.
fn read_regular(mut file: std::fs::File, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if offset > 0 {
        file.seek(io::SeekFrom::Start(offset))?;
    }
    // With room for what is there and one more, it takes one read, and one to see the end.
    let there = usize::try_from(meta.len().saturating_sub(offset)).unwrap_or(limit);
    let mut bytes = Vec::with_capacity(there.min(limit).min(READ_AHEAD) + 1);
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The most that is reserved before it is read.
const READ_AHEAD: usize = 1 << 20;

const READ_FLAGS: nix::fcntl::OFlag = nix::fcntl::OFlag::O_RDONLY
    .union(nix::fcntl::OFlag::O_NOFOLLOW)
    .union(nix::fcntl::OFlag::O_NONBLOCK)
    .union(nix::fcntl::OFlag::O_CLOEXEC);

/// Bytes of names that the kernel hands over at once.
const NAMES: usize = 32 << 10;

/// The names in an open directory, from its beginning.
fn list_of(dir: &OwnedFd) -> io::Result<Vec<Entry>> {
    rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = Vec::with_capacity(NAMES);
    let mut listing = rustix::fs::RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry.map_err(io::Error::from)?;
        let bytes = entry.file_name().to_bytes();
        if bytes == b"." || bytes == b".." {
            continue;
        }
        let Ok(name) = std::str::from_utf8(bytes) else { continue };
        let kind = match entry.file_type() {
            rustix::fs::FileType::RegularFile => Kind::File,
            rustix::fs::FileType::Directory => Kind::Dir,
            _ => Kind::Other,
        };
        names.push(Entry { name: name.to_owned(), kind, ino: entry.ino() });
    }
    Ok(names)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that touches files")]
impl Fs for RealFs {
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fault()?;
        std::fs::hard_link(from, to)
    }

    fn link_in(&self, from: &Path, dir: &Dir, name: &str) -> io::Result<()> {
        fault()?;
        let flags = nix::fcntl::AtFlags::empty();
        nix::unistd::linkat(nix::fcntl::AT_FDCWD, from, dir.fd()?, name, flags).map_err(io_error)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fault()?;
        std::fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fault()?;
        std::fs::rename(from, to)
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        fault()?;
        std::fs::create_dir(path)
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        fault()?;
        std::fs::remove_dir(path)
    }

    fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        fault()?;
        let open = |path: &Path| {
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
        };
        let mut file = match open(path) {
            // A former incarnation of this very process died while writing it.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::remove_file(path)?;
                open(path)?
            }
            other => other?,
        };
        let written = file.write_all(bytes);
        if written.is_err() {
            // A full disk must not be left fuller by a file that nobody will read.
            drop(std::fs::remove_file(path));
        }
        written
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<u64> {
        fault()?;
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true).mode(0o644).custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(path)?;
        write_whole(&file, bytes)?;
        Ok(file.metadata()?.len())
    }

    fn open_log(&self, path: &Path) -> io::Result<Log> {
        fault()?;
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true).mode(0o644).custom_flags(nix::libc::O_NOFOLLOW);
        Ok(Log { path: path.to_owned(), file: Some(options.open(path)?) })
    }

    fn append_to(&self, log: &Log, bytes: &[u8]) -> io::Result<()> {
        fault()?;
        match &log.file {
            Some(file) => write_whole(file, bytes),
            None => Err(io::Error::from_raw_os_error(nix::libc::EBADF)),
        }
    }

    fn read(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        fault()?;
        let mut options = std::fs::OpenOptions::new();
        options.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
        read_regular(options.open(path)?, offset, limit)
    }

    fn read_in(&self, dir: &Dir, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        fault()?;
        let mode = nix::sys::stat::Mode::empty();
        let fd = nix::fcntl::openat(dir.fd()?, name, READ_FLAGS, mode).map_err(io_error)?;
        read_regular(std::fs::File::from(fd), 0, limit)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        fault()?;
        self.list_in(&self.open_dir(path)?)
    }

    fn list_in(&self, dir: &Dir) -> io::Result<Vec<Entry>> {
        fault()?;
        list_of(dir.fd()?)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Dir> {
        fault()?;
        let mut options = std::fs::OpenOptions::new();
        options.read(true).custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW);
        Ok(Dir { path: path.to_owned(), handle: Handle::Descriptor(options.open(path)?.into()) })
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        fault()?;
        let meta = std::fs::symlink_metadata(path)?;
        let kind = if meta.is_file() {
            Kind::File
        } else if meta.is_dir() {
            Kind::Dir
        } else {
            Kind::Other
        };
        let seconds = u64::try_from(meta.mtime()).unwrap_or(0);
        let nanos = u64::try_from(meta.mtime_nsec()).unwrap_or(0);
        Ok(Stat {
            ino: meta.ino(),
            len: meta.len(),
            mtime_ns: seconds.saturating_mul(1_000_000_000) + nanos,
            kind,
        })
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        fault()?;
        use nix::sys::stat::{UtimensatFlags, utimensat};
        use nix::sys::time::TimeSpec;
        let now = TimeSpec::UTIME_NOW;
        let flags = UtimensatFlags::NoFollowSymlink;
        match utimensat(nix::fcntl::AT_FDCWD, path, &now, &now, flags) {
            Err(Errno::ENOENT) => {
                let mut options = std::fs::OpenOptions::new();
                options.append(true).create(true).mode(0o666);
                options.open(path).map(drop)
            }
            other => other.map_err(io_error),
        }
    }
    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        fault()?;
        // Also what a listing of ours leaves out: names that are not UTF-8.
        remove_tree(path)
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_data()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }

    fn sync_in(&self, dir: &Dir) -> io::Result<()> {
        nix::unistd::fsync(dir.fd()?).map_err(io_error)
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

/// Removes a directory with all that is in it. Only for what is no queue of anybody's (throw-away
/// directories, and the part of a queue that a test of faults takes away) and what was buried. Somebody may be making new
/// names in it meanwhile: then some of it stays.
#[expect(clippy::disallowed_methods, reason = "this is the one place that touches files")]
pub fn remove_tree(path: &Path) -> io::Result<()> {
    std::fs::remove_dir_all(path)
}

/// Takes an exclusive lock on a file until the returned file is dropped or the process dies. `None`:
/// another process has it. Only for efficiency (one coordinator is enough): nothing is unsafe
/// without it.
#[expect(clippy::disallowed_methods, reason = "this is the one place that touches files")]
pub fn try_lock(path: &Path) -> io::Result<Option<std::fs::File>> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    match fs2::FileExt::try_lock_exclusive(&file) {
        Ok(()) => Ok(Some(file)),
        Err(e) if e.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(None),
        Err(e) => Err(e),
    }
}

/// A path without symbolic links on its way; itself where it cannot be told.
pub fn canonical(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_file_is_read_without_a_buffer_of_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        RealFs.create(&path, b"one\ntwo\n", 0o644).unwrap();
        for (offset, text) in [(0, "one\ntwo\n"), (4, "two\n"), (8, ""), (99, "")] {
            let bytes = RealFs.read(&path, offset, 4 << 20).unwrap();
            assert_eq!(bytes, text.as_bytes());
            assert!(bytes.capacity() < 4096, "{} bytes for {}", bytes.capacity(), bytes.len());
        }
        assert_eq!(RealFs.read(&path, 4, 2).unwrap(), b"tw");
    }
}
