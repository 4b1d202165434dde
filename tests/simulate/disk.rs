//! A file system in memory: inodes, directories, hard links, and nothing else.
//!
//! Every operation is one system call as other processes can tell, with the errors of Linux. It can
//! keep a journal of what was changed and what was made durable, from which the disks that a power
//! loss may leave are built.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use coord::sys::fs::{Entry, Kind, Stat};
use nix::libc;

/// Number of an inode. 1 is the root.
pub type Ino = u64;

/// The root directory.
pub const ROOT: Ino = 1;

/// Directories by number.
pub type Dirs = BTreeMap<Ino, BTreeMap<String, Ino>>;
/// Contents of files by number.
pub type Files = BTreeMap<Ino, Arc<Vec<u8>>>;

/// What an inode is.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A regular file with its content.
    File { bytes: Arc<Vec<u8>>, mtime_ns: u64, links: u32 },
    /// A directory; a removed one stays for those who have it open, and takes no names.
    Dir { names: Arc<BTreeMap<String, Ino>>, mtime_ns: u64, removed: bool },
}

/// One change, as it reaches the file system's log.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A directory got a name. `dir` is where; a new directory or file is `ino`.
    Name { dir: Ino, name: String, ino: Ino, is_dir: bool },
    /// A directory lost a name.
    Unname { dir: Ino, name: String },
    /// A name moved, replacing what was there.
    Rename { from: (Ino, String), to: (Ino, String), ino: Ino },
    /// A file got this content (all of it).
    Data { ino: Ino, bytes: Arc<Vec<u8>> },
    /// The content of a file was made durable.
    SyncFile { ino: Ino },
    /// The names of a directory were made durable.
    SyncDir { dir: Ino },
}

/// The file system.
#[derive(Debug, Clone)]
pub struct Disk {
    nodes: BTreeMap<Ino, Node>,
    next: Ino,
    /// Links that one file may have; ext4 allows 65,000.
    pub links_max: u32,
    /// What was changed, if somebody wants to know.
    pub journal: Option<Vec<Change>>,
}

fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Disk {
    /// An empty one.
    pub fn new() -> Disk {
        let root = Node::Dir { names: Arc::default(), mtime_ns: 0, removed: false };
        Disk { nodes: BTreeMap::from([(ROOT, root)]), next: 2, links_max: 65_000, journal: None }
    }

    fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(journal) = &mut self.journal {
            journal.push(change());
        }
    }

    /// The names of a directory, also of a removed one (it has none).
    pub fn names(&self, dir: Ino) -> io::Result<&BTreeMap<String, Ino>> {
        match self.nodes.get(&dir) {
            Some(Node::Dir { names, .. }) => Ok(names),
            Some(Node::File { .. }) => Err(error(libc::ENOTDIR)),
            None => Err(error(libc::ENOENT)),
        }
    }

    /// The inode behind a path.
    pub fn find(&self, path: &Path) -> io::Result<Ino> {
        let mut at = ROOT;
        for part in path.components() {
            if let Component::Normal(name) = part {
                let name = name.to_str().ok_or_else(|| error(libc::EILSEQ))?;
                at = *self.names(at)?.get(name).ok_or_else(|| error(libc::ENOENT))?;
            }
        }
        Ok(at)
    }

    fn place<'a>(&self, path: &'a Path) -> io::Result<(Ino, &'a str)> {
        let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| error(libc::EINVAL))?;
        let dir = self.find(path.parent().unwrap_or(Path::new("/")))?;
        self.names(dir)?;
        Ok((dir, name))
    }

    fn edit(&mut self, dir: Ino, now_ns: u64) -> io::Result<&mut BTreeMap<String, Ino>> {
        match self.nodes.get_mut(&dir) {
            Some(Node::Dir { removed: true, .. }) | None => Err(error(libc::ENOENT)),
            Some(Node::Dir { names, mtime_ns, .. }) => {
                *mtime_ns = now_ns;
                Ok(Arc::make_mut(names))
            }
            Some(Node::File { .. }) => Err(error(libc::ENOTDIR)),
        }
    }

    fn add(&mut self, node: Node) -> Ino {
        self.next += 1;
        self.nodes.insert(self.next, node);
        self.next
    }

    fn unlinked(&mut self, ino: Ino) {
        if let Some(Node::File { links, .. }) = self.nodes.get_mut(&ino) {
            *links -= 1;
            if *links == 0 {
                self.nodes.remove(&ino);
            }
        }
    }

    /// `link(2)` into an open directory.
    pub fn link_in(&mut self, from: &Path, dir: Ino, name: &str, now_ns: u64) -> io::Result<()> {
        let ino = self.find(from)?;
        if self.names(dir)?.contains_key(name) {
            return Err(error(libc::EEXIST));
        }
        let most = self.links_max;
        match self.nodes.get_mut(&ino) {
            Some(Node::File { links, .. }) if *links >= most => return Err(error(libc::EMLINK)),
            Some(Node::File { .. }) => {}
            _ => return Err(error(libc::EPERM)),
        }
        self.edit(dir, now_ns)?.insert(name.to_owned(), ino);
        if let Some(Node::File { links, .. }) = self.nodes.get_mut(&ino) {
            *links += 1;
        }
        self.note(|| Change::Name { dir, name: name.to_owned(), ino, is_dir: false });
        Ok(())
    }

    /// `link(2)`.
    pub fn link(&mut self, from: &Path, to: &Path, now_ns: u64) -> io::Result<()> {
        let (dir, name) = self.place(to)?;
        self.link_in(from, dir, name, now_ns)
    }

    /// `unlink(2)`.
    pub fn unlink(&mut self, path: &Path, now_ns: u64) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        let ino = *self.names(dir)?.get(name).ok_or_else(|| error(libc::ENOENT))?;
        if matches!(self.nodes.get(&ino), Some(Node::Dir { .. })) {
            return Err(error(libc::EISDIR));
        }
        self.edit(dir, now_ns)?.remove(name);
        self.unlinked(ino);
        self.note(|| Change::Unname { dir, name: name.to_owned() });
        Ok(())
    }

    /// `rename(2)`.
    pub fn rename(&mut self, from: &Path, to: &Path, now_ns: u64) -> io::Result<()> {
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        let ino = *self.names(from_dir)?.get(from_name).ok_or_else(|| error(libc::ENOENT))?;
        let is_dir = matches!(self.nodes.get(&ino), Some(Node::Dir { .. }));
        let replaced = self.names(to_dir)?.get(to_name).copied();
        if replaced == Some(ino) {
            return Ok(());
        }
        if let Some(other) = replaced {
            match (&self.nodes[&other], is_dir) {
                (Node::Dir { names, .. }, true) if !names.is_empty() => {
                    return Err(error(libc::ENOTEMPTY));
                }
                (Node::Dir { .. }, false) => return Err(error(libc::EISDIR)),
                (Node::File { .. }, true) => return Err(error(libc::ENOTDIR)),
                _ => {}
            }
        }
        self.edit(to_dir, now_ns)?.insert(to_name.to_owned(), ino);
        self.edit(from_dir, now_ns)?.remove(from_name);
        if let Some(other) = replaced {
            match self.nodes.get_mut(&other) {
                Some(Node::Dir { removed, .. }) => *removed = true,
                _ => self.unlinked(other),
            }
        }
        let (from, to) = ((from_dir, from_name.to_owned()), (to_dir, to_name.to_owned()));
        self.note(|| Change::Rename { from, to, ino });
        Ok(())
    }

    fn insert(&mut self, path: &Path, node: Node, now_ns: u64) -> io::Result<Ino> {
        let (dir, name) = self.place(path)?;
        if self.names(dir)?.contains_key(name) {
            return Err(error(libc::EEXIST));
        }
        self.edit(dir, now_ns)?;
        let is_dir = matches!(node, Node::Dir { .. });
        let ino = self.add(node);
        self.edit(dir, now_ns)?.insert(name.to_owned(), ino);
        self.note(|| Change::Name { dir, name: name.to_owned(), ino, is_dir });
        Ok(ino)
    }

    /// `mkdir(2)`.
    pub fn mkdir(&mut self, path: &Path, now_ns: u64) -> io::Result<()> {
        let node = Node::Dir { names: Arc::default(), mtime_ns: now_ns, removed: false };
        self.insert(path, node, now_ns).map(drop)
    }

    /// `rmdir(2)`.
    pub fn rmdir(&mut self, path: &Path, now_ns: u64) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        let ino = *self.names(dir)?.get(name).ok_or_else(|| error(libc::ENOENT))?;
        if !self.names(ino)?.is_empty() {
            return Err(error(libc::ENOTEMPTY));
        }
        self.edit(dir, now_ns)?.remove(name);
        if let Some(Node::Dir { removed, .. }) = self.nodes.get_mut(&ino) {
            *removed = true;
        }
        self.note(|| Change::Unname { dir, name: name.to_owned() });
        Ok(())
    }

    /// `open(O_CREAT | O_EXCL)`: an empty file.
    pub fn create(&mut self, path: &Path, now_ns: u64) -> io::Result<()> {
        let node = Node::File { bytes: Arc::default(), mtime_ns: now_ns, links: 1 };
        self.insert(path, node, now_ns).map(drop)
    }

    /// Puts `bytes` behind what the file holds. Returns its length.
    pub fn append(&mut self, path: &Path, more: &[u8], now_ns: u64) -> io::Result<u64> {
        let ino = self.find(path)?;
        let content = match self.nodes.get_mut(&ino) {
            Some(Node::File { bytes, mtime_ns, .. }) => {
                Arc::make_mut(bytes).extend_from_slice(more);
                *mtime_ns = now_ns;
                bytes.clone()
            }
            _ => return Err(error(libc::EISDIR)),
        };
        let length = content.len() as u64;
        self.note(|| Change::Data { ino, bytes: content });
        Ok(length)
    }

    /// The content of a file, shared.
    pub fn content(&self, ino: Ino) -> io::Result<Arc<Vec<u8>>> {
        match self.nodes.get(&ino) {
            Some(Node::File { bytes, .. }) => Ok(bytes.clone()),
            Some(Node::Dir { .. }) => Err(error(libc::EISDIR)),
            None => Err(error(libc::ENOENT)),
        }
    }

    /// Where a directory is now; `None` if it was removed.
    pub fn path_of(&self, dir: Ino) -> Option<PathBuf> {
        let is_it = |(path, ino): (PathBuf, Ino)| (ino == dir).then_some(path);
        self.walk(Path::new("/")).into_iter().find_map(is_it)
    }

    /// The inode behind a name of an open directory.
    pub fn find_in(&self, dir: Ino, name: &str) -> io::Result<Ino> {
        self.names(dir)?.get(name).copied().ok_or_else(|| error(libc::ENOENT))
    }

    /// The names in a directory, in no useful order: that of a hash.
    pub fn list(&self, dir: Ino) -> io::Result<Vec<Entry>> {
        let names = self.names(dir)?;
        let mut entries: Vec<Entry> = names
            .iter()
            .map(|(name, ino)| Entry { name: name.clone(), kind: self.kind(*ino), ino: *ino })
            .collect();
        entries.sort_by_key(|e| {
            e.name.bytes().fold(5381_u32, |h, b| h.wrapping_mul(33) ^ u32::from(b))
        });
        Ok(entries)
    }

    /// What an inode is.
    pub fn kind(&self, ino: Ino) -> Kind {
        match self.nodes.get(&ino) {
            Some(Node::Dir { .. }) => Kind::Dir,
            _ => Kind::File,
        }
    }

    /// `lstat(2)`.
    pub fn stat(&self, path: &Path) -> io::Result<Stat> {
        let ino = self.find(path)?;
        Ok(match &self.nodes[&ino] {
            Node::File { bytes, mtime_ns, links } => {
                let (len, links) = (bytes.len() as u64, u64::from(*links));
                Stat { ino, len, mtime_ns: *mtime_ns, kind: Kind::File, links, uid: 0 }
            }
            Node::Dir { mtime_ns, .. } => {
                Stat { ino, len: 0, mtime_ns: *mtime_ns, kind: Kind::Dir, links: 2, uid: 0 }
            }
        })
    }

    /// `utimensat(2)`, which never makes a file.
    pub fn touch(&mut self, path: &Path, now_ns: u64) -> io::Result<()> {
        let ino = self.find(path)?;
        match self.nodes.get_mut(&ino) {
            Some(Node::File { mtime_ns, .. } | Node::Dir { mtime_ns, .. }) => *mtime_ns = now_ns,
            None => return Err(error(libc::ENOENT)),
        }
        Ok(())
    }

    /// `fdatasync(2)` of a file or `fsync(2)` of a directory.
    pub fn sync(&mut self, path: &Path) -> io::Result<()> {
        let ino = self.find(path)?;
        self.sync_inode(ino);
        Ok(())
    }

    /// The same of what is open.
    pub fn sync_inode(&mut self, ino: Ino) {
        match self.kind(ino) {
            Kind::Dir => self.note(|| Change::SyncDir { dir: ino }),
            _ => self.note(|| Change::SyncFile { ino }),
        }
    }

    /// All directories and files by number, for the disks that a power loss may leave.
    pub fn parts(&self) -> (Dirs, Files) {
        let (mut dirs, mut files) = (Dirs::new(), Files::new());
        for (ino, node) in &self.nodes {
            match node {
                Node::Dir { names, .. } => drop(dirs.insert(*ino, names.as_ref().clone())),
                Node::File { bytes, .. } => drop(files.insert(*ino, bytes.clone())),
            }
        }
        (dirs, files)
    }

    /// The disk on which just these can be reached from the root.
    pub fn of_parts(mut dirs: Dirs, files: Files) -> Disk {
        let mut disk = Disk::new();
        disk.nodes.clear();
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop() {
            let mut names = dirs.remove(&dir).unwrap_or_default();
            // A directory that was renamed has one name; a half of it must not give it two.
            names.retain(|_, ino| files.contains_key(ino) || dirs.contains_key(ino));
            for ino in names.values() {
                let one = |bytes| Node::File { bytes, mtime_ns: 0, links: 0 };
                match files.get(ino) {
                    Some(bytes) => {
                        let node = disk.nodes.entry(*ino).or_insert_with(|| one(bytes.clone()));
                        if let Node::File { links, .. } = node {
                            *links += 1;
                        }
                    }
                    None => todo.push(*ino),
                }
            }
            let node = Node::Dir { names: Arc::new(names), mtime_ns: 0, removed: false };
            disk.next = disk.next.max(dir);
            disk.nodes.insert(dir, node);
        }
        disk.next = files.keys().last().copied().unwrap_or(0).max(disk.next);
        disk
    }

    /// Every file and directory below a path, with their paths, parents first.
    pub fn walk(&self, from: &Path) -> Vec<(std::path::PathBuf, Ino)> {
        let mut found = Vec::new();
        let Ok(start) = self.find(from) else { return found };
        let mut todo = vec![(from.to_owned(), start)];
        while let Some((path, ino)) = todo.pop() {
            if let Ok(names) = self.names(ino) {
                todo.extend(names.iter().map(|(name, ino)| (path.join(name), *ino)));
            }
            found.push((path, ino));
        }
        found
    }
}
