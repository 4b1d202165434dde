//! `Fs` on a `Disk`: what a process sees of the file system in memory.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coord::sys::fs::{Dir, Entry, Fs, Handle, Stat, Whereabouts};
use nix::libc;

use crate::disk::{Disk, Ino};

/// The file system in memory, with a clock that the owner sets. Clones share it.
#[derive(Clone)]
pub struct MemoryFs {
    disk: Arc<Mutex<Disk>>,
    now_ns: Arc<std::sync::atomic::AtomicU64>,
    /// A directory that is held, and the path by which it was opened: of this clone alone.
    held: Option<(PathBuf, Ino)>,
}

/// The inode behind an open directory.
pub fn number(dir: &Dir) -> io::Result<Ino> {
    match &dir.handle {
        Handle::Number(ino) => Ok(*ino),
        Handle::Descriptor(_) => Err(io::Error::from_raw_os_error(libc::EBADF)),
    }
}

impl MemoryFs {
    /// What is on this disk.
    pub fn new(disk: Disk) -> MemoryFs {
        MemoryFs { disk: Arc::new(Mutex::new(disk)), now_ns: Arc::default(), held: None }
    }

    /// The disk itself.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        // A simulated process that is killed inside a call unwinds; the disk stays as it is.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the clock that files are stamped with.
    pub fn set_now_ns(&self, now_ns: u64) {
        self.now_ns.store(now_ns, std::sync::atomic::Ordering::Relaxed);
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The same file system, for which what `root` leads to now stays what it means.
    pub fn holding(&self, root: &Path) -> io::Result<MemoryFs> {
        let ino = self.find(root)?;
        Ok(MemoryFs { held: Some((root.to_owned(), ino)), ..self.clone() })
    }

    /// Where a path leads: below the directory that is held, wherever that is by now.
    fn at<'a>(&self, path: &'a Path) -> Cow<'a, Path> {
        let Some((root, ino)) = &self.held else { return Cow::Borrowed(path) };
        let Ok(below) = path.strip_prefix(root) else { return Cow::Borrowed(path) };
        let disk = self.disk();
        if disk.find(root).is_ok_and(|found| found == *ino) {
            return Cow::Borrowed(path);
        }
        // The kernel makes nothing in a directory that was removed.
        let now = disk.path_of(*ino).unwrap_or_else(|| PathBuf::from("/removed"));
        Cow::Owned(now.join(below))
    }

    /// The inode behind a path.
    pub fn find(&self, path: &Path) -> io::Result<Ino> {
        let at = self.at(path);
        self.disk().find(&at)
    }

    /// The first half of `Fs::create`: the empty file, as `open` makes it.
    pub fn create_empty(&self, path: &Path) -> io::Result<()> {
        let path = &*self.at(path);
        let mut disk = self.disk();
        if disk.find(path).is_ok() {
            disk.unlink(path, self.now_ns())?;
        }
        disk.create(path, self.now_ns())
    }
}

impl Fs for MemoryFs {
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (&*self.at(from), &*self.at(to));
        self.disk().link(from, to, self.now_ns())
    }
    fn link_in(&self, from: &Path, dir: &Dir, name: &str) -> io::Result<()> {
        let from = &*self.at(from);
        self.disk().link_in(from, number(dir)?, name, self.now_ns())
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        let path = &*self.at(path);
        self.disk().unlink(path, self.now_ns())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (&*self.at(from), &*self.at(to));
        self.disk().rename(from, to, self.now_ns())
    }
    fn mkdir(&self, path: &Path) -> io::Result<()> {
        let path = &*self.at(path);
        self.disk().mkdir(path, self.now_ns())
    }
    fn rmdir(&self, path: &Path) -> io::Result<()> {
        let path = &*self.at(path);
        self.disk().rmdir(path, self.now_ns())
    }
    fn create(&self, path: &Path, bytes: &[u8], _mode: u32) -> io::Result<()> {
        self.create_empty(path)?;
        let path = &*self.at(path);
        self.disk().append(path, bytes, self.now_ns()).map(drop)
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<u64> {
        let path = &*self.at(path);
        let mut disk = self.disk();
        if disk.find(path).is_err() {
            disk.create(path, self.now_ns())?;
        }
        disk.append(path, bytes, self.now_ns())
    }
    fn read(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        let path = &*self.at(path);
        let disk = self.disk();
        let bytes = disk.content(disk.find(path)?)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes[from..bytes.len().min(from.saturating_add(limit))].to_vec())
    }
    fn read_in(&self, dir: &Dir, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        let bytes = disk.content(disk.find_in(number(dir)?, name)?)?;
        Ok(bytes[..bytes.len().min(limit)].to_vec())
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let path = &*self.at(path);
        let disk = self.disk();
        disk.list(disk.find(path)?)
    }
    fn list_in(&self, dir: &Dir) -> io::Result<Vec<Entry>> {
        self.disk().list(number(dir)?)
    }
    fn open_dir(&self, path: &Path) -> io::Result<Dir> {
        let ino = self.find(path)?;
        self.disk().names(ino)?;
        Ok(Dir { path: path.to_owned(), handle: Handle::Number(ino) })
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let path = &*self.at(path);
        self.disk().stat(path)
    }
    fn touch(&self, path: &Path) -> io::Result<()> {
        let path = &*self.at(path);
        let mut disk = self.disk();
        match disk.touch(path, self.now_ns()) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => disk.create(path, self.now_ns()),
            other => other,
        }
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let path = &*self.at(path);
        self.disk().sync(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = &*self.at(path);
        self.disk().sync(path)
    }
    fn sync_in(&self, dir: &Dir) -> io::Result<()> {
        self.disk().sync_inode(number(dir)?);
        Ok(())
    }
    fn hold(&self, root: &Path) -> io::Result<Option<Arc<dyn Fs>>> {
        Ok(Some(Arc::new(self.holding(root)?)))
    }
    fn whereabouts(&self) -> Whereabouts {
        let Some((root, ino)) = &self.held else { return Whereabouts::Here };
        let disk = self.disk();
        if disk.find(root).is_ok_and(|found| found == *ino) {
            return Whereabouts::Here;
        }
        match disk.find_in(*ino, "layout.json") {
            Ok(_) => Whereabouts::Moved(disk.path_of(*ino)),
            Err(_) => Whereabouts::Gone,
        }
    }
}
