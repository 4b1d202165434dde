//! Going through a directory tree, however deep it is.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};

use super::super::fs::RealFs;

/// Bytes of a path from which on a directory is named by its descriptor: a path of the kernel has 4096.
const LONG: usize = 3500;

/// What is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A directory.
    Dir,
    /// A file, or a symbolic link.
    File,
    /// A fifo, a socket, a device: it holds nothing.
    Special,
}

/// One name in the tree.
#[derive(Debug)]
pub struct Found<'a> {
    /// From the top; may be longer than any path of the kernel.
    pub relative: &'a Path,
    /// The same as the kernel can be asked for it, as long as it is looked at.
    pub access: &'a Path,
    /// What it is.
    pub what: What,
}

struct Place {
    relative: PathBuf,
    access: PathBuf,
    /// What `access` names by its number.
    held: Option<Rc<OwnedFd>>,
}

/// Shows every name below `top` to `visit`, which says of a directory whether to go into it; no symbolic
/// link is followed. The directories that cannot be read.
pub fn walk(top: &Path, visit: &mut dyn FnMut(&Found<'_>) -> bool) -> Vec<PathBuf> {
    let mut closed = Vec::new();
    let start = Place { relative: PathBuf::new(), access: top.to_owned(), held: None };
    let mut pending = vec![start];
    while let Some(place) = pending.pop() {
        if look(&place, visit, &mut pending).is_err() {
            closed.push(place.relative);
        }
    }
    closed
}

#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
fn look(
    place: &Place,
    visit: &mut dyn FnMut(&Found<'_>) -> bool,
    pending: &mut Vec<Place>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(&place.access)? {
        let entry = entry?;
        let (relative, mut access) = (place.relative.join(entry.file_name()), entry.path());
        let mut held = place.held.clone();
        let kind = entry.file_type()?;
        let what = match kind {
            kind if kind.is_dir() => What::Dir,
            kind if kind.is_file() || kind.is_symlink() => What::File,
            _ => What::Special,
        };
        if !visit(&Found { relative: &relative, access: &access, what }) || what != What::Dir {
            continue;
        }
        if access.as_os_str().as_bytes().len() > LONG {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&access, flags, Mode::empty())?;
            access = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            held = Some(Rc::new(fd));
        }
        pending.push(Place { relative, access, held });
    }
    Ok(())
}

/// What is mounted somewhere below a directory.
pub fn mounted_below(top: &Path) -> Vec<PathBuf> {
    use super::super::fs::Fs;
    // Without /proc nothing is known; there is none on other systems than Linux.
    let table = RealFs.read(Path::new("/proc/self/mountinfo"), 0, 1 << 24).unwrap_or_default();
    mounts(&table).into_iter().filter(|at| at != top && at.starts_with(top)).collect()
}

/// The places of a table of mounts: the fifth field, with `\040` for a space.
fn mounts(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|&b| b == b'\n');
    let fields = lines.filter_map(|line| line.split(|&b| b == b' ').nth(4));
    fields.map(|field| PathBuf::from(std::ffi::OsStr::from_bytes(&plain(field)))).collect()
}

fn plain(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let [first, more @ ..] = rest {
        let code = more.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    bytes
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes files")]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_a_path_is_seen_until_over() {
        let dir = tempfile::tempdir().unwrap();
        let (top, name) = (dir.path().join("top"), "d".repeat(200));
        std::fs::create_dir(&top).unwrap();
        std::fs::write(top.join("file"), "x").unwrap();
        for _ in 0..60 {
            let above = dir.path().join("above");
            std::fs::create_dir(&above).unwrap();
            std::fs::rename(&top, above.join(&name)).unwrap();
            std::fs::rename(&above, &top).unwrap();
        }
        let (mut dirs, mut files) = (0, Vec::new());
        let closed = walk(&top, &mut |found| {
            match found.what {
                What::Dir => dirs += 1,
                _ => files.push((found.relative.to_owned(), std::fs::read(found.access).unwrap())),
            }
            true
        });
        assert_eq!((dirs, files.len(), closed.len()), (60, 1, 0));
        let (path, bytes) = &files[0];
        assert!(path.as_os_str().len() > 12_000 && bytes == b"x");
        super::super::discard(&top, &dir.path().join("trash")).unwrap();
    }

    #[test]
    fn places_of_mounts_are_read_with_their_escapes() {
        let table =
            b"22 1 0:20 / / rw - ext4 /dev/x rw\n33 22 0:30 /a /m/w\\0401\\134x rw - tmpfs t rw\n";
        assert_eq!(mounts(table), [Path::new("/"), Path::new("/m/w 1\\x")]);
    }
}
