//! Whole files and trees outside a queue: copied, linked, measured.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Copies one file with its mode.
pub fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::copy(from, to).map(drop)
}

/// Copies a file, a symbolic link or a directory with everything in it. What is there already is
/// written over, file by file.
#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let meta = std::fs::symlink_metadata(from)?;
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

/// Makes a symbolic link at `at`; one that is there is replaced.
#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
pub fn symlink(target: &Path, at: &Path) -> io::Result<()> {
    if std::fs::symlink_metadata(at).is_ok_and(|meta| meta.is_symlink()) {
        std::fs::remove_file(at)?;
    }
    std::os::unix::fs::symlink(target, at)
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
