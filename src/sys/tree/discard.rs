//! Removing a directory tree whatever its owner made of it: directories that may not be written, more
//! levels than a path may name or a stack may hold.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Gives the owner every right on a directory. One of somebody else's stays as it is.
#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
pub fn open_up(dir: &Path) {
    let Ok(meta) = std::fs::metadata(dir) else { return };
    let mode = meta.permissions().mode();
    if meta.is_dir() && mode & 0o700 != 0o700 {
        // What this does not help is seen when the directory is used.
        drop(std::fs::set_permissions(dir, PermissionsExt::from_mode(mode & 0o7777 | 0o700)));
    }
}

/// Removes a file, or a directory with all that is in it. Directories go into `trash` first, one beside the
/// other, so that none is ever deep; `trash` must be on the same file system, is made, and is gone
/// afterwards. What a former call left there is removed, too. Nothing that is mounted is entered.
///
/// # Errors
/// Those of the file system; then some of it is left.
#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
pub fn discard(path: &Path, trash: &Path) -> io::Result<()> {
    let mut pending = heap(trash)?;
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
        Ok(meta) if !meta.is_dir() => std::fs::remove_file(path)?,
        Ok(_) => throw(path, trash, &mut pending)?,
    }
    let mut number = 0;
    while let Some(dir) = pending.pop() {
        number += 1;
        let names: Vec<_> = std::fs::read_dir(&dir)?.collect::<io::Result<_>>()?;
        for entry in names {
            if entry.file_type()?.is_dir() {
                throw(&entry.path(), trash, &mut pending)?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        std::fs::remove_dir(&dir)?;
    }
    if number > 0 { std::fs::remove_dir(trash) } else { Ok(()) }
}

/// The directories that a former call left in the trash.
#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
fn heap(trash: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(trash) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Removes an empty directory; moves any other one into the trash.
#[expect(clippy::disallowed_methods, reason = "this is a place that touches files")]
fn throw(dir: &Path, trash: &Path, pending: &mut Vec<PathBuf>) -> io::Result<()> {
    if std::fs::remove_dir(dir).is_ok() {
        return Ok(());
    }
    match std::fs::create_dir(trash) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    // Its `..` changes, so it must be one that may be written itself.
    open_up(dir);
    let mut number = pending.len();
    loop {
        let to = trash.join(number.to_string());
        if std::fs::symlink_metadata(&to).is_err() {
            std::fs::rename(dir, &to)?;
            pending.push(to);
            return Ok(());
        }
        number += 1;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes files")]
mod tests {
    use super::*;

    /// Levels of a directory tree that neither a path nor a list of open files can hold.
    const LEVELS: usize = 3000;

    #[test]
    fn a_tree_that_is_deep_and_must_not_be_written_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (top, trash) = (dir.path().join("top"), dir.path().join("trash"));
        // Built from within: each time below the new top.
        std::fs::create_dir(&top).unwrap();
        std::fs::write(top.join("file"), "x").unwrap();
        for _ in 0..LEVELS {
            let above = dir.path().join("above");
            std::fs::create_dir(&above).unwrap();
            std::fs::rename(&top, above.join("d")).unwrap();
            std::fs::rename(&above, &top).unwrap();
        }
        std::fs::create_dir_all(top.join("closed/in")).unwrap();
        std::fs::write(top.join("closed/in/file"), "x").unwrap();
        for (name, mode) in [("closed/in", 0o555), ("closed", 0o000)] {
            std::fs::set_permissions(top.join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        discard(&top, &trash).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "and the trash is gone");
        discard(&top, &trash).unwrap();
    }

    #[test]
    fn what_a_former_call_left_goes_too_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("trash/0/d")).unwrap();
        std::fs::create_dir_all(at("kept/d")).unwrap();
        std::fs::create_dir_all(at("top/d")).unwrap();
        std::os::unix::fs::symlink(at("kept"), at("top/d/link")).unwrap();
        discard(&at("top"), &at("trash")).unwrap();
        assert!(at("kept/d").exists() && !at("trash").exists() && !at("top").exists());
        std::os::unix::fs::symlink(at("kept"), at("link")).unwrap();
        discard(&at("link"), &at("trash")).unwrap();
        assert!(at("kept/d").exists() && !at("link").exists());
    }
}
