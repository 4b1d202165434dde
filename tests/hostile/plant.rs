//! Makes what was drawn, says whether it is still there as it was, and takes it away.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::draw::{Content, Drawn, Thing};

/// A thing that was planted.
pub struct Planted {
    /// What it was made from.
    pub seed: u64,
    /// Where.
    pub path: PathBuf,
    /// The directory that it is in, as `places::place` says it.
    pub place: &'static str,
    /// Whether its name is one that this place has by itself.
    pub look_alike: bool,
    /// What.
    pub thing: Thing,
    was: Print,
}

/// What makes a thing the same: which one it is, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    ino: u64,
    kind: u32,
    /// Of what is no directory.
    len: u64,
    mtime: (i64, i64),
    /// Of a link where it leads, of a small file its bytes, of a directory its names.
    inside: Vec<u8>,
}

/// What a full directory has in it: names that no directory of a queue has.
const INSIDE: [&str; 2] = ["somebody's \u{1b}[1m", "a directory of somebody"];

/// Larger ones are told by size and time.
const SMALL: u64 = 1 << 20;

impl Print {
    /// Of what is at a path; `None` if nothing is.
    pub fn of(path: &Path) -> Option<Print> {
        let meta = fs::symlink_metadata(path).ok()?;
        let kind = meta.mode() & SFlag::S_IFMT.bits();
        let inside = if meta.is_symlink() {
            fs::read_link(path).ok()?.into_os_string().into_encoded_bytes()
        } else if meta.is_file() && meta.len() <= SMALL {
            fs::read(path).unwrap_or_default()
        } else if meta.is_dir() {
            let there = |name: &&&str| fs::symlink_metadata(path.join(name)).is_ok();
            INSIDE.iter().filter(there).flat_map(|name| name.bytes()).collect()
        } else {
            Vec::new()
        };
        // What a directory of ours gets beside that is no loss.
        let is_dir = meta.is_dir();
        let len = if is_dir { 0 } else { meta.len() };
        let mtime = if is_dir { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        Some(Print { ino: meta.ino(), kind, len, mtime, inside })
    }
}

/// Plants what was drawn; `None` where something is there already.
pub fn plant(
    drawn: &mut Drawn,
    path: &Path,
    (place, look_alike): (&'static str, bool),
    outside: &Path,
    user: Option<u32>,
) -> Option<Planted> {
    if fs::symlink_metadata(path).is_ok() {
        return None;
    }
    let made = match &drawn.thing {
        Thing::File(content) => file(drawn, path, *content),
        Thing::EmptyDir => fs::create_dir(path),
        Thing::FullDir => full(path),
        Thing::Fifo => mknod(path, SFlag::S_IFIFO, Mode::S_IRWXU, 0).map_err(Into::into),
        Thing::Socket => mknod(path, SFlag::S_IFSOCK, Mode::S_IRWXU, 0).map_err(Into::into),
        Thing::Link(to) => {
            let out = outside.to_str()?;
            let name = path.file_name().unwrap_or_default();
            match *to {
                "NAME" => std::os::unix::fs::symlink(name, path),
                to => std::os::unix::fs::symlink(to.replace("OUT", out), path),
            }
        }
        Thing::HardLink => fs::hard_link(outside.join("precious"), path),
    };
    // Its directory went while it was made, or somebody was faster.
    made.ok()?;
    let is_linked = matches!(drawn.thing, Thing::Link(_) | Thing::HardLink);
    if let Some(user) = drawn.owner.or(user) {
        let _ = std::os::unix::fs::lchown(path, Some(user), Some(user));
    }
    if !is_linked {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(drawn.mode));
    }
    let was = Print::of(path)?;
    let (path, thing) = (path.to_owned(), drawn.thing.clone());
    Some(Planted { seed: drawn.seed, path, place, look_alike, thing, was })
}

fn file(drawn: &mut Drawn, path: &Path, content: Content) -> std::io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    file.write_all(&content.bytes(&mut drawn.rest))?;
    if let Content::Sparse(bytes) = content {
        file.set_len(bytes)?;
    }
    Ok(())
}

fn full(path: &Path) -> std::io::Result<()> {
    fs::create_dir(path)?;
    fs::write(path.join(INSIDE[0]), "what somebody wrote")?;
    fs::create_dir(path.join(INSIDE[1]))
}

impl Planted {
    /// Whether it is there as it was.
    pub fn is_there(&self) -> bool {
        Print::of(&self.path).is_some_and(|now| now == self.was)
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self.thing, Thing::File(_) | Thing::HardLink)
    }

    /// Whether what is at a path is this thing.
    pub fn is_at(&self, path: &Path) -> bool {
        Print::of(path).is_some_and(|now| now == self.was)
    }

    /// What is there now, for a failure.
    pub fn now(&self) -> String {
        format!("it was {:?} and is {:?}", self.was, Print::of(&self.path))
    }

    /// Takes it away, wherever it is below its directory.
    pub fn remove(&self) {
        remove(&self.path);
    }
}

/// Removes whatever it is; links are not followed.
pub fn remove(path: &Path) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if meta.is_dir() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        let _ = fs::remove_dir_all(path);
    } else {
        let _ = fs::remove_file(path);
    }
}
