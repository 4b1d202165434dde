//! `TMPDIR` of an attempt: a directory of its own, empty at first, removed when the attempt is over.
//!
//! It lies in the pool, or below the worker's own `TMPDIR`, if it has one. Programs make sockets in it,
//! whose whole path must fit into 108 bytes: where the pool lies too deep for that, it is below `/tmp`, in
//! a directory that nobody else can write. A `TMPDIR` of `[env]` or of the task is used as it stands there.

use std::path::{Path, PathBuf};

use crate::error::{Cannot, Result};
use crate::queue::ids::stable_hash;
use crate::sys::fs::{Fs, RealFs, mkdir_all};
use crate::sys::tree::{discard, private_dir};

use super::pool::Pool;

/// Bytes that leave room for a `/` and a name of 54: longer than those that tools choose.
const LONGEST: usize = 52;

/// Where it is for a slot.
pub fn of(pool: &Pool, slot: &str) -> PathBuf {
    let wished = std::env::var_os("TMPDIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    place(&pool.root, slot, wished.as_deref())
}

fn place(root: &Path, slot: &str, wished: Option<&Path>) -> PathBuf {
    let usual = root.join(".tmp").join(slot);
    let dir = match wished {
        Some(dir) => dir,
        None if usual.as_os_str().len() > LONGEST => Path::new("/tmp"),
        None => return usual,
    };
    // The same for the same pool, so that whoever uses the slot next finds what was left.
    let of_pool = stable_hash(root.as_os_str().as_encoded_bytes());
    dir.join(format!("coord-{}-{of_pool:08x}", nix::unistd::getuid())).join(slot)
}

/// Makes it anew, and empty.
pub fn fresh(pool: &Pool, slot: &str) -> Result<PathBuf> {
    drop_of(pool, slot);
    let mut dir = of(pool, slot);
    if !dir.starts_with(&pool.root)
        && let Some(parent) = dir.parent()
        && let Err(e) = private_dir(parent)
    {
        tracing::warn!("{} cannot be used for TMPDIR: {e}", parent.display());
        dir = pool.scratch(slot);
    }
    mkdir_all(&RealFs, &dir).cannot("make TMPDIR", &dir)?;
    Ok(dir)
}

/// Removes it. What cannot be removed now is, perhaps, before the next attempt.
pub fn drop_of(pool: &Pool, slot: &str) {
    for dir in [of(pool, slot), pool.scratch(slot)] {
        drop(discard(&dir, &dir.with_file_name(format!(".gone-{slot}"))));
        if let Some(parent) = dir.parent().filter(|parent| !parent.starts_with(&pool.root)) {
            // Others may have theirs there.
            drop(RealFs.rmdir(parent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_fits_whatever_the_place_of_the_pool() {
        let short = Path::new("/home/ann/parser.coord");
        assert_eq!(place(short, "w1", None), short.join(".tmp/w1"));
        let long = PathBuf::from(format!("/home/{}/parser.coord", "x".repeat(60)));
        for slot in ["w1", "w12345", "merge.default.3"] {
            let place = place(&long, slot, None);
            assert!(place.starts_with("/tmp") && place.ends_with(slot), "{}", place.display());
            assert!(place.as_os_str().len() <= LONGEST, "{}", place.display());
        }
        let other = long.with_file_name("other.coord");
        assert_ne!(place(&long, "w1", None), place(&other, "w1", None));
        let wished = place(short, "w1", Some(Path::new("/scratch")));
        assert!(wished.starts_with("/scratch") && wished.ends_with("w1"), "{}", wished.display());
    }
}
