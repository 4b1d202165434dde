//! Whole files and trees outside a queue: copied, linked, measured.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

mod discard;
mod walk;

pub use discard::{discard, open_up};
pub use walk::{Found, What, mounted_below, walk};

/// Copies one file with its mode.
pub fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::copy(from, to).map(drop)
}

/// Copies a file, a symbolic link or a directory with everything in it. What is there already is
/// replaced, file by file, and never written through: a name there may be a link to the original, and
/// opening that for writing would empty it.
#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let meta = std::fs::symlink_metadata(from)?;
    match std::fs::symlink_metadata(to) {
        Ok(there) if !there.is_dir() => std::fs::remove_file(to)?,
        _ => {}
    }
    if meta.is_dir() {
        match std::fs::create_dir(to) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if meta.is_symlink() {
        return symlink(&std::fs::read_link(from)?, to);
    }
    if meta.is_file() { copy_file(from, to) } else { Ok(()) }
}

/// `relative` below `top`, if no directory on the way there is a symbolic link; `None` otherwise. What
/// is written or removed there is certainly below `top`.
#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
pub fn beneath(top: &Path, relative: &Path) -> Option<PathBuf> {
    let mut path = top.to_owned();
    let mut parts = relative.components().peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let on_the_way = parts.peek().is_some();
        if on_the_way && std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) {
            return None;
        }
    }
    Some(path)
}

/// Makes a symbolic link at `at`; one that is there is replaced.
#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
pub fn symlink(target: &Path, at: &Path) -> io::Result<()> {
    if std::fs::symlink_metadata(at).is_ok_and(|meta| meta.is_symlink()) {
        std::fs::remove_file(at)?;
    }
    std::os::unix::fs::symlink(target, at)
}

/// Makes a directory that only this user can use, also where others can make names; one that is there
/// already must be such a one.
#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
pub fn private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let meta = std::fs::symlink_metadata(path)?;
            let ours = meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw();
            if ours && meta.mode() & 0o022 == 0 {
                return Ok(());
            }
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to somebody else"))
        }
        made => made,
    }
}

/// Bytes that a directory takes on its disk, as far as it can be read.
#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
pub fn size(path: &Path) -> u64 {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    let below = match std::fs::read_dir(path) {
        Ok(entries) if meta.is_dir() => {
            entries.filter_map(Result::ok).map(|entry| size(&entry.path())).sum()
        }
        _ => 0,
    };
    meta.blocks() * 512 + below
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
mod tests {
    use super::*;
    use crate::sys::fs::{Fs, RealFs};

    #[test]
    fn a_copy_never_goes_through_a_link_to_its_original() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        RealFs.create(&at("original"), b"precious", 0o644).unwrap();
        symlink(&at("original"), &at("soft")).unwrap();
        RealFs.link(&at("original"), &at("hard")).unwrap();
        for name in ["soft", "hard"] {
            copy_tree(&at("original"), &at(name)).unwrap();
            assert_eq!(std::fs::read(at("original")).unwrap(), b"precious", "{name}");
            assert_eq!(std::fs::read(at(name)).unwrap(), b"precious", "{name}");
        }
        std::fs::create_dir(at("d")).unwrap();
        RealFs.create(&at("d/x"), b"deep", 0o644).unwrap();
        symlink(&at("d"), &at("to-d")).unwrap();
        copy_tree(&at("d"), &at("to-d")).unwrap();
        assert_eq!(std::fs::read(at("d/x")).unwrap(), b"deep");
        assert!(!std::fs::symlink_metadata(at("to-d")).unwrap().is_symlink());
    }

    #[test]
    fn a_private_directory_is_nobody_elses() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("own");
        private_dir(&at).unwrap();
        private_dir(&at).unwrap();
        assert_eq!(std::fs::metadata(&at).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o777)).unwrap();
        private_dir(&at).unwrap_err();
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        private_dir(&link).unwrap_err();
    }

    #[test]
    fn a_path_below_is_not_led_out_by_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        std::fs::create_dir_all(top.join("d")).unwrap();
        symlink(dir.path(), &top.join("out")).unwrap();
        assert_eq!(beneath(&top, Path::new("d/x")), Some(top.join("d/x")));
        assert_eq!(beneath(&top, Path::new("out/x")), None);
        assert_eq!(beneath(&top, Path::new("out")), Some(top.join("out")), "the link itself");
    }
}
