//! Making a queue, and finding out whether the file system can carry one.

use std::path::Path;

use crate::error::{Cannot, Error, Exit, Result};
use crate::sys::fs::{Fs, keep_modes, mkdir_all};
use crate::sys::host::Platform;

use super::Queue;
use super::durable::{self, Durability};
use super::ids::random_part;
use super::layout::{DIRECTORIES, LAYOUT, Layout, LayoutRecord};
use super::record;
use super::sweep;

/// What `.coord/README` says to whoever does `ls`.
const README: &str = include_str!("directory-readme.txt");

/// Makes the queue at `root`, which must be absolute. `layout.json` comes last, so a queue is there
/// completely or not at all; an interrupted `init` is simply repeated. A queue that is there already
/// is opened.
pub fn init(root: &Path, platform: Platform) -> Result<Queue> {
    if platform.fs.stat(&Layout::new(root.to_owned()).layout_record()).is_ok() {
        return Queue::open(root, platform);
    }
    init_as(root, platform, Durability::Process)
}

/// The same with this durability, to which a queue that is there already is changed.
pub fn init_as(root: &Path, platform: Platform, durability: Durability) -> Result<Queue> {
    let layout = Layout::new(root.to_owned());
    let root = &*layout.root().to_owned();
    let (fs, clock) = (platform.fs.clone(), platform.clock.clone());
    mkdir_all(&*fs, root).cannot("make the queue directory", root)?;
    // Whoever made the directory before has said who may work there.
    keep_modes(root);
    if fs.stat(&layout.layout_record()).is_ok() {
        return agree(Queue::open(root, platform)?, durability);
    }
    probe(&*fs, root, &random_part(clock.random()))?;
    for name in DIRECTORIES {
        let path = layout.at(name);
        mkdir_all(&*fs, &path).cannot("make a directory", &path)?;
    }
    let name = random_part(clock.random());
    let shared = platform.host.is_shared(root);
    let (identity, acceptance) = (String::new(), None);
    let queue = Queue { layout, platform, shared, durability, identity, acceptance };
    for bell in sweep::bells(&queue) {
        queue.fs.touch(&bell).cannot("make a bell", &bell)?;
    }
    queue.replace(&queue.layout.at("README"), README.as_bytes())?;
    queue.replace(&queue.layout.at(".gitignore"), b"*\n")?;
    let record = LayoutRecord {
        layout: LAYOUT,
        queue: format!("q-{}", &name[..6]),
        uid: random_part(queue.clock.random()),
        shards: 0,
        durability: durability.word().to_owned(),
        min_writer: LAYOUT,
    };
    let tmp = queue.layout.at(&format!(".layout.{name}.tmp"));
    queue.stage(&tmp, &record::to_bytes(&record), "write a file")?;
    // Two `init` at once: the first link is the queue, the other opens it.
    let linked = queue.fs.link(&tmp, &queue.layout.layout_record());
    queue.discard(&tmp)?;
    match linked {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.cannot("make the queue", root)?,
    }
    durable::made(&queue)?;
    agree(Queue::open(root, queue.platform.clone())?, durability)
}

fn agree(queue: Queue, durability: Durability) -> Result<Queue> {
    if queue.durability == durability { Ok(queue) } else { durable::change(&queue, durability) }
}

/// Tries what the protocol relies on: a hard link, its refusal when the name is taken, a rename of
/// a directory.
pub fn probe(fs: &dyn Fs, root: &Path, unique: &str) -> Result<()> {
    let (a, b) = (root.join(format!(".probe.{unique}.a")), root.join(format!(".probe.{unique}.b")));
    fs.create(&a, b"probe\n", 0o644).cannot("write in the queue directory", root)?;
    let first = fs.link(&a, &b);
    let second = first.as_ref().ok().map(|()| fs.link(&a, &b));
    drop(fs.unlink(&b));
    drop(fs.unlink(&a));
    if let Err(cause) = first {
        let kind = crate::sys::machine::fs_kind(root);
        return Err(Error {
            exit: Exit::Environment,
            message: format!("cannot create hard links in {} (file system: {})", root.display(), kind.name),
            cause: Some(cause),
            at: Some(root.to_owned()),
            hint: Some(
                "coord needs one file system with hard links: set COORD_DIR to a directory on one, \
                 such as /var/tmp/coord-queue"
                    .to_owned(),
            ),
        });
    }
    match second {
        Some(Err(e)) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Some(Err(e)) => Err(e).cannot("try a second hard link", root),
        _ => Err(Error::new(Exit::Environment, "this file system lets a link replace a name")
            .at(root)
            .hint("no queue can be safe there: use another file system")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::{Dir, Entry, RealFs, Stat};
    use std::io;
    use std::sync::Arc;

    /// A file system as vfat or some mounts of 9p are: everything but hard links.
    struct WithoutLinks;

    impl Fs for WithoutLinks {
        fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
            Err(io::Error::from_raw_os_error(nix::libc::EPERM))
        }
        fn link_in(&self, from: &Path, dir: &Dir, name: &str) -> io::Result<()> {
            self.link(from, &dir.path.join(name))
        }
        fn unlink(&self, path: &Path) -> io::Result<()> {
            RealFs.unlink(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealFs.rename(from, to)
        }
        fn mkdir(&self, path: &Path) -> io::Result<()> {
            RealFs.mkdir(path)
        }
        fn rmdir(&self, path: &Path) -> io::Result<()> {
            RealFs.rmdir(path)
        }
        fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
            RealFs.create(path, bytes, mode)
        }
        fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<u64> {
            RealFs.append(path, bytes)
        }
        fn read(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
            RealFs.read(path, offset, limit)
        }
        fn read_in(&self, dir: &Dir, name: &str, limit: usize) -> io::Result<Vec<u8>> {
            RealFs.read_in(dir, name, limit)
        }
        fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
            RealFs.list(path)
        }
        fn list_in(&self, dir: &Dir) -> io::Result<Vec<Entry>> {
            RealFs.list_in(dir)
        }
        fn open_dir(&self, path: &Path) -> io::Result<Dir> {
            RealFs.open_dir(path)
        }
        fn stat(&self, path: &Path) -> io::Result<Stat> {
            RealFs.stat(path)
        }
        fn touch(&self, path: &Path) -> io::Result<()> {
            RealFs.touch(path)
        }
        fn sync_file(&self, path: &Path) -> io::Result<()> {
            RealFs.sync_file(path)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            RealFs.sync_dir(path)
        }
        fn sync_in(&self, dir: &Dir) -> io::Result<()> {
            RealFs.sync_in(dir)
        }
    }

    #[test]
    fn without_hard_links_there_is_no_queue_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("queue");
        let Err(error) = init(&root, Platform { fs: Arc::new(WithoutLinks), ..Platform::real() })
        else {
            panic!("a queue was made where no claim is possible");
        };
        assert_eq!(error.exit, Exit::Environment);
        assert!(error.message.starts_with("cannot create hard links in "), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("COORD_DIR")));
        assert_eq!(RealFs.list(&root).unwrap(), [], "something is left behind");
        // The cause removed, the same place serves.
        assert!(init(&root, Platform::real()).is_ok());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test moves the queue as a person would")]
    fn a_queue_is_the_same_with_a_slash_behind_its_name() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (root, moved) = (dir.path().join("queue"), dir.path().join("moved"));
        init(&root, Platform::real()).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o2777)).unwrap();
        let queue = Queue::open(&root.join(""), Platform::real()).unwrap();
        let made = queue.layout.at("tasks/a");
        queue.fs.mkdir(&made).unwrap();
        assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o777);
        std::fs::rename(&root, &moved).unwrap();
        queue.fs.mkdir(&queue.layout.at("tasks/b")).unwrap();
        assert!(moved.join("tasks/b").exists(), "it is not held");
    }
}
