//! A small disk of its own for a queue: a tmpfs whose size can be set to what it holds.

use std::path::{Path, PathBuf};
use std::process::Command;

use coord::chaos::nemesis::Disk;
use coord::error::{Error, Exit, Result};

/// A tmpfs; it is gone when this is dropped.
pub struct SmallDisk {
    at: PathBuf,
    bytes: u64,
}

fn run(program: &str, args: &[&str]) -> std::result::Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

impl SmallDisk {
    /// Mounts one at a directory. The reason if this machine or user does not allow it.
    pub fn mount(at: &Path, bytes: u64) -> std::result::Result<SmallDisk, String> {
        std::fs::create_dir_all(at).map_err(|e| e.to_string())?;
        let options = format!("size={bytes},nr_inodes=0,mode=700");
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", &at.to_string_lossy()])?;
        Ok(SmallDisk { at: at.to_owned(), bytes })
    }

    fn resize(&self, bytes: u64) -> Result<()> {
        let options = format!("remount,size={bytes}");
        run("mount", &["-o", &options, &self.at.to_string_lossy()]).map_err(|why| {
            Error::new(Exit::Environment, format!("the disk cannot be resized: {why}")).at(&self.at)
        })
    }
}

impl Disk for SmallDisk {
    fn fill(&mut self) -> Result<()> {
        // What is written between the look and the change lets the change fail: look again.
        for extra in [0, 1 << 16, 1 << 20] {
            let (free, total) =
                coord::sys::machine::disk_space(&self.at).unwrap_or((0, self.bytes));
            if self.resize((total - free + extra).max(4096)).is_ok() {
                return Ok(());
            }
        }
        self.resize(self.bytes)
    }

    fn free(&mut self) -> Result<()> {
        self.resize(self.bytes)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(run("umount", &["--lazy", &self.at.to_string_lossy()]));
    }
}

#[test]
fn a_small_disk_is_full_and_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("disk");
    let mut disk = match SmallDisk::mount(&at, 1 << 20) {
        Ok(disk) => disk,
        Err(why) => return crate::skip("a full disk", &why),
    };
    let write = |name: &str| std::fs::write(at.join(name), [7; 9000]);
    write("one").unwrap();
    disk.fill().unwrap();
    assert_eq!(write("two").unwrap_err().raw_os_error(), Some(28), "ENOSPC");
    disk.free().unwrap();
    write("three").unwrap();
}
