//! What is made in a place that is its owner's alone is so too: other users of the machine need not see
//! which files somebody works on, nor what commands print.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What group and others may do.
const OTHERS: u32 = 0o077;

/// Whether this process works in such a place. Each program works in one.
static PRIVATE: AtomicBool = AtomicBool::new(false);

/// The mode of a file or directory that this process makes. The umask is not used for this: commands
/// would inherit it, and what they make is not ours.
pub fn private(mode: u32) -> u32 {
    if PRIVATE.load(Ordering::Relaxed) { mode & !OTHERS } else { mode }
}

/// From now on this process keeps what it makes to its user, if `dir` is so.
#[expect(clippy::disallowed_methods, reason = "sys/ may look at files")]
pub fn keep_private(dir: &Path) {
    let mode = std::fs::metadata(dir).map(|meta| meta.permissions().mode());
    if mode.is_ok_and(|mode| mode & OTHERS == 0) {
        PRIVATE.store(true, Ordering::Relaxed);
    }
}

/// From now on this process keeps what it makes to its user; and `dir`, which is ours, if it is there.
///
/// # Errors
/// `dir` is somebody else's.
#[expect(clippy::disallowed_methods, reason = "sys/ may look at files")]
pub fn make_private(dir: &Path) -> io::Result<()> {
    PRIVATE.store(true, Ordering::Relaxed);
    match std::fs::metadata(dir) {
        Ok(meta) if meta.permissions().mode() & OTHERS != 0 => {
            let mode = meta.permissions().mode() & !OTHERS;
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
        }
        _ => Ok(()),
    }
}
