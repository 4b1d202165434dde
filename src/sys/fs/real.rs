//! The file operations by the kernel's calls.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, UtimensatFlags, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::held::HeldFs;
use super::{Dir, Entry, Fs, Handle, Kind, Log, Stat, Whereabouts, made, remove_tree};
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
fn write_whole(mut file: &File, bytes: &[u8]) -> io::Result<()> {
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
fn read_regular(mut file: File, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
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

const READ_FLAGS: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);

const MAKE_FLAGS: OFlag =
    OFlag::O_WRONLY.union(OFlag::O_CREAT).union(OFlag::O_APPEND).union(OFlag::O_CLOEXEC);

/// Bytes of names that the kernel hands over at once.
const NAMES: usize = 32 << 10;

/// Hands out what is in an open directory, from its beginning.
fn each_entry(
    dir: &OwnedFd,
    each: &mut dyn FnMut(&[u8], &rustix::fs::RawDirEntry<'_>),
) -> io::Result<()> {
    rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = Vec::with_capacity(NAMES);
    let mut listing = rustix::fs::RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry.map_err(io::Error::from)?;
        let bytes = entry.file_name().to_bytes();
        if bytes != b"." && bytes != b".." {
            each(bytes, &entry);
        }
    }
    Ok(())
}

/// The same, as far as the names are text.
fn each_name(
    dir: &OwnedFd,
    each: &mut dyn FnMut(&str, &rustix::fs::RawDirEntry<'_>),
) -> io::Result<()> {
    each_entry(dir, &mut |name, entry| {
        if let Ok(name) = std::str::from_utf8(name) {
            each(name, entry);
        }
    })
}

fn kind_of(entry: &rustix::fs::RawDirEntry<'_>) -> Kind {
    match entry.file_type() {
        rustix::fs::FileType::RegularFile => Kind::File,
        rustix::fs::FileType::Directory => Kind::Dir,
        _ => Kind::Other,
    }
}

/// The names in an open directory.
fn list_of(dir: &OwnedFd) -> io::Result<Vec<Entry>> {
    let mut names = Vec::new();
    each_name(dir, &mut |name, entry| {
        names.push(Entry { name: name.to_owned(), kind: kind_of(entry), ino: entry.ino() });
    })?;
    Ok(names)
}

/// Whose paths these are: those of the process, or those below a directory that it holds.
pub trait Based: Send + Sync {
    /// The directory that a path begins at, and the path from there.
    fn at<'a>(&'a self, path: &'a Path) -> (BorrowedFd<'a>, &'a Path);
    /// Whether the path by which the directory was opened still leads to it.
    fn whereabouts(&self) -> Whereabouts {
        Whereabouts::Here
    }
    /// The path by which calls that know nothing of this reach the same place.
    fn reach(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }
}

impl Based for RealFs {
    fn at<'a>(&'a self, path: &'a Path) -> (BorrowedFd<'a>, &'a Path) {
        (AT_FDCWD, path)
    }
}

/// Opens a file; a signal does not keep it from that. One that is made has this mode, as far as its place
/// has it.
fn open(base: &impl Based, path: &Path, flags: OFlag, mode: u32) -> io::Result<File> {
    let (dir, name) = base.at(path);
    let open = |mode| loop {
        match openat(dir, name, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(mode)) {
            Err(Errno::EINTR) => {}
            other => return other.map(File::from).map_err(io_error),
        }
    };
    if flags.contains(OFlag::O_CREAT) { made(path, mode, open) } else { open(mode) }
}

fn unlink(base: &impl Based, path: &Path, flags: UnlinkatFlags) -> io::Result<()> {
    let (dir, path) = base.at(path);
    unlinkat(dir, path, flags).map_err(io_error)
}

impl<B: Based> Fs for B {
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fault()?;
        let ((from_dir, from), (to_dir, to)) = (self.at(from), self.at(to));
        linkat(from_dir, from, to_dir, to, AtFlags::empty()).map_err(io_error)
    }

    fn link_in(&self, from: &Path, dir: &Dir, name: &str) -> io::Result<()> {
        fault()?;
        let (from_dir, from) = self.at(from);
        linkat(from_dir, from, dir.fd()?, name, AtFlags::empty()).map_err(io_error)
    }

    fn link_between(&self, from: &Dir, file: &str, dir: &Dir, name: &str) -> io::Result<()> {
        fault()?;
        linkat(from.fd()?, file, dir.fd()?, name, AtFlags::empty()).map_err(io_error)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fault()?;
        unlink(self, path, UnlinkatFlags::NoRemoveDir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fault()?;
        let ((from_dir, from), (to_dir, to)) = (self.at(from), self.at(to));
        renameat(from_dir, from, to_dir, to).map_err(io_error)
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        fault()?;
        let (dir, name) = self.at(path);
        let make = |mode| mkdirat(dir, name, Mode::from_bits_truncate(mode));
        made(path, 0o777, make).map_err(io_error)
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        fault()?;
        unlink(self, path, UnlinkatFlags::RemoveDir)
    }

    fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        fault()?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let mut file = match open(self, path, flags, mode) {
            // A former incarnation of this very process died while writing it.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                unlink(self, path, UnlinkatFlags::NoRemoveDir)?;
                open(self, path, flags, mode)?
            }
            other => other?,
        };
        let written = file.write_all(bytes);
        if written.is_err() {
            // A full disk must not be left fuller by a file that nobody will read.
            drop(unlink(self, path, UnlinkatFlags::NoRemoveDir));
        }
        written
    }

    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fault()?;
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = open(self, path, flags, 0)?;
        let there = file.metadata()?;
        if !there.is_file() || there.len() != bytes.len() as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no file of that length"));
        }
        write_whole(&file, bytes)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<u64> {
        fault()?;
        let file = open(self, path, MAKE_FLAGS | OFlag::O_NOFOLLOW, 0o666)?;
        write_whole(&file, bytes)?;
        Ok(file.metadata()?.len())
    }

    fn open_log(&self, path: &Path) -> io::Result<Log> {
        fault()?;
        let file = open(self, path, MAKE_FLAGS | OFlag::O_NOFOLLOW, 0o666)?;
        Ok(Log { path: path.to_owned(), file: Some(file) })
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
        read_regular(open(self, path, READ_FLAGS, 0)?, offset, limit)
    }

    fn read_in(&self, dir: &Dir, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        fault()?;
        let fd = openat(dir.fd()?, name, READ_FLAGS, Mode::empty()).map_err(io_error)?;
        read_regular(File::from(fd), 0, limit)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        fault()?;
        self.list_in(&self.open_dir(path)?)
    }

    fn list_bytes(&self, path: &Path) -> io::Result<Vec<(OsString, Kind)>> {
        fault()?;
        let mut names = Vec::new();
        each_entry(self.open_dir(path)?.fd()?, &mut |name, entry| {
            names.push((OsStr::from_bytes(name).to_owned(), kind_of(entry)));
        })?;
        Ok(names)
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
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let file = open(self, path, flags, 0)?;
        Ok(Dir { path: path.to_owned(), handle: Handle::Descriptor(file.into()) })
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        fault()?;
        let (dir, path) = self.at(path);
        let meta = fstatat(dir, path, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(io_error)?;
        let kind = match meta.st_mode & nix::libc::S_IFMT {
            nix::libc::S_IFREG => Kind::File,
            nix::libc::S_IFDIR => Kind::Dir,
            _ => Kind::Other,
        };
        let seconds = u64::try_from(meta.st_mtime).unwrap_or(0);
        let nanos = u64::try_from(meta.st_mtime_nsec).unwrap_or(0);
        Ok(Stat {
            ino: meta.st_ino,
            len: u64::try_from(meta.st_size).unwrap_or(0),
            mtime_ns: seconds.saturating_mul(1_000_000_000) + nanos,
            kind,
            links: meta.st_nlink,
            uid: meta.st_uid,
        })
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        fault()?;
        let (dir, name) = self.at(path);
        let now = TimeSpec::UTIME_NOW;
        match utimensat(dir, name, &now, &now, UtimensatFlags::NoFollowSymlink) {
            Err(Errno::ENOENT) => open(self, path, MAKE_FLAGS, 0o666).map(drop),
            other => other.map_err(io_error),
        }
    }

    fn refresh(&self, path: &Path) -> io::Result<()> {
        fault()?;
        let (dir, name) = self.at(path);
        let now = TimeSpec::UTIME_NOW;
        utimensat(dir, name, &now, &now, UtimensatFlags::NoFollowSymlink).map_err(io_error)
    }

    fn touch_in(&self, dir: &Dir, name: &str) -> io::Result<()> {
        fault()?;
        let now = TimeSpec::UTIME_NOW;
        match utimensat(dir.fd()?, name, &now, &now, UtimensatFlags::NoFollowSymlink) {
            Err(Errno::ENOENT) => {
                let fd = dir.fd()?;
                let make = |mode| openat(fd, name, MAKE_FLAGS, Mode::from_bits_truncate(mode));
                made(&dir.path, 0o666, make).map(drop).map_err(io_error)
            }
            other => other.map_err(io_error),
        }
    }

    fn exists_in(&self, dir: &Dir, name: &str) -> bool {
        let Ok(fd) = dir.fd() else { return true };
        fault().is_err()
            || !matches!(
                fstatat(fd, name, AtFlags::AT_SYMLINK_NOFOLLOW),
                Err(Errno::ENOENT | Errno::ENOTDIR)
            )
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        fault()?;
        // Also what a listing of ours leaves out: names that are not UTF-8.
        remove_tree(&self.reach(path))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        open(self, path, OFlag::O_RDONLY, 0)?.sync_data()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        open(self, path, OFlag::O_RDONLY, 0)?.sync_all()
    }

    fn sync_in(&self, dir: &Dir) -> io::Result<()> {
        nix::unistd::fsync(dir.fd()?).map_err(io_error)
    }

    fn hold(&self, root: &Path) -> io::Result<Option<Arc<dyn Fs>>> {
        HeldFs::open(root).map(|held| Some(Arc::new(held) as Arc<dyn Fs>))
    }

    fn whereabouts(&self) -> Whereabouts {
        Based::whereabouts(self)
    }

    fn reach(&self, path: &Path) -> PathBuf {
        Based::reach(self, path)
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
