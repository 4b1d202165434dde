//! A file system that is mounted as long as a test wants it.

use std::path::{Path, PathBuf};

use crate::support::{Sandbox, skip};

/// Something mounted.
pub struct Mount(pub PathBuf);

impl Mount {
    /// Mounts on a directory, which is made; `None` where this machine cannot.
    pub fn new(s: &Sandbox, test: &str, args: &[&str], at: &Path) -> Option<Mount> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = s.run("mount", &[args, &[at.to_str().unwrap()]].concat());
        if mounted.code != 0 {
            skip(test, &format!("cannot mount: {}", mounted.stderr.trim()));
            return None;
        }
        Some(Mount(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("-l").arg(&self.0).output());
    }
}
