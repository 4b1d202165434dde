//! The file operations by the kernel's calls.

use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;

use super::{Dir, Entry, Fs, Handle, Kind, Log, Stat, private, remove_tree};
use crate::sys::step::fault;

/// The real thing.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealFs;

impl Dir {
    fn fd(&self) -> io::Result<&OwnedFd> {
        match &self.handle {
            Handle::Descriptor(fd) => Ok(fd),
            Handle::Number(_) => Err(io::Error::from_raw_os_error(nix::libc::EBADF)),
        }
    }
}

fn io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

/// Writes all of it with a single `write`.
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

const MAKE_FLAGS: nix::fcntl::OFlag = nix::fcntl::OFlag::O_WRONLY
    .union(nix::fcntl::OFlag::O_CREAT)
    .union(nix::fcntl::OFlag::O_APPEND)
    .union(nix::fcntl::OFlag::O_CLOEXEC);

/// Bytes of names that the kernel hands over at once.
const NAMES: usize = 32 << 10;

/// Hands out the names in an open directory, from its beginning.
fn each_name(
    dir: &OwnedFd,
    each: &mut dyn FnMut(&str, &rustix::fs::RawDirEntry<'_>),
) -> io::Result<()> {
    rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = Vec::with_capacity(NAMES);
    let mut listing = rustix::fs::RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry.map_err(io::Error::from)?;
        let bytes = entry.file_name().to_bytes();
        if bytes == b"." || bytes == b".." {
            continue;
        }
        let Ok(name) = std::str::from_utf8(bytes) else { continue };
        each(name, &entry);
    }
    Ok(())
}

/// The names in an open directory.
fn list_of(dir: &OwnedFd) -> io::Result<Vec<Entry>> {
    let mut names = Vec::new();
    each_name(dir, &mut |name, entry| {
        let kind = match entry.file_type() {
            rustix::fs::FileType::RegularFile => Kind::File,
            rustix::fs::FileType::Directory => Kind::Dir,
            _ => Kind::Other,
        };
        names.push(Entry { name: name.to_owned(), kind, ino: entry.ino() });
    })?;
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

    fn link_between(&self, from: &Dir, file: &str, dir: &Dir, name: &str) -> io::Result<()> {
        fault()?;
        let flags = nix::fcntl::AtFlags::empty();
        nix::unistd::linkat(from.fd()?, file, dir.fd()?, name, flags).map_err(io_error)
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
        std::fs::DirBuilder::new().mode(private(0o777)).create(path)
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        fault()?;
        std::fs::remove_dir(path)
    }

    fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        fault()?;
        let open = |path: &Path| {
            std::fs::OpenOptions::new().write(true).create_new(true).mode(private(mode)).open(path)
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

    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fault()?;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
        let file = options.open(path)?;
        let there = file.metadata()?;
        if !there.is_file() || there.len() != bytes.len() as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no file of that length"));
        }
        write_whole(&file, bytes)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<u64> {
        fault()?;
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true).mode(private(0o644)).custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(path)?;
        write_whole(&file, bytes)?;
        Ok(file.metadata()?.len())
    }

    fn open_log(&self, path: &Path) -> io::Result<Log> {
        fault()?;
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true).mode(private(0o644)).custom_flags(nix::libc::O_NOFOLLOW);
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

    fn each_in(&self, dir: &Dir, each: &mut dyn FnMut(&str, u64)) -> io::Result<()> {
        fault()?;
        each_name(dir.fd()?, &mut |name, entry| each(name, entry.ino()))
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
            links: meta.nlink(),
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
                options.append(true).create(true).mode(private(0o666));
                options.open(path).map(drop)
            }
            other => other.map_err(io_error),
        }
    }

    fn touch_in(&self, dir: &Dir, name: &str) -> io::Result<()> {
        fault()?;
        use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
        use nix::sys::time::TimeSpec;
        let now = TimeSpec::UTIME_NOW;
        match utimensat(dir.fd()?, name, &now, &now, UtimensatFlags::NoFollowSymlink) {
            Err(Errno::ENOENT) => {
                let mode = Mode::from_bits_truncate(private(0o666));
                nix::fcntl::openat(dir.fd()?, name, MAKE_FLAGS, mode).map(drop).map_err(io_error)
            }
            other => other.map_err(io_error),
        }
    }

    fn exists_in(&self, dir: &Dir, name: &str) -> bool {
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        let Ok(fd) = dir.fd() else { return true };
        fault().is_err()
            || !matches!(
                nix::sys::stat::fstatat(fd, name, flags),
                Err(Errno::ENOENT | Errno::ENOTDIR)
            )
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
