//! The same on ext4, xfs and btrfs, each in a file that is mounted for the test, and on tmpfs.
//!
//! Mounting needs root and loop devices. Where one cannot be mounted it is counted and printed as
//! skipped; with `COORD_TESTS_NO_SKIP` that is a failure.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kills::{label, once, points_of};
use crate::place::Place;
use crate::play::Prepared;
use crate::points;
use crate::support::skip;

/// A mounted file system, unmounted and gone when it is dropped, also after a failed assertion.
struct Mount {
    at: PathBuf,
    // Dropped last: the image and the directory are in it.
    _place: Place,
}

/// Runs a program; what it said if it failed.
fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let output = Command::new("env").arg(format!("PATH={path}")).arg(program).args(args).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{program} {}: {said}", args.join(" ")))
    }
}

impl Mount {
    /// Makes and mounts one. The size is the least that mkfs.xfs takes, and a sparse file.
    fn new(kind: &str) -> Result<Mount, String> {
        let place = Place::fast();
        let at = place.path().join("mounted");
        std::fs::create_dir(&at).unwrap();
        let target = at.to_str().unwrap();
        if kind == "tmpfs" {
            run("mount", &["-t", "tmpfs", "-o", "size=256m", "coord-test", target])?;
        } else {
            let image = place.path().join("image");
            let file = std::fs::File::create(&image).unwrap();
            file.set_len(400 << 20).unwrap();
            let image = image.to_str().unwrap();
            let force = if kind == "ext4" { "-F" } else { "-f" };
            run(&format!("mkfs.{kind}"), &["-q", force, image])?;
            run("mount", &["-o", "loop", image, target])?;
        }
        Ok(Mount { at, _place: place })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let target = self.at.to_str().unwrap();
        // A loop device of `mount -o loop` is let go with the mount. Lazily where something of a
        // failed case still stands in it.
        if run("umount", &[target]).is_err()
            && let Err(why) = run("umount", &["--lazy", target])
        {
            eprintln!("cannot unmount {target}: {why}");
        }
    }
}

/// What a CI run plays on each: something of every kind of transition.
const SOME: &[&str] =
    &["add behind another", "work", "cancel", "retry", "incoming", "a worker died with a result"];
/// Points of a CI run on each.
const CI_EACH: usize = 30;

fn killed_on(kind: &str) {
    let mount = match Mount::new(kind) {
        Ok(mount) => mount,
        Err(why) => return skip(kind, &why),
    };
    let place: &Path = &mount.at;
    let prepared = Prepared::some(place, |s| points::full() || SOME.contains(&s.name));
    let all = points_of(&prepared);
    let of = all.len();
    let all = points::sample(all, CI_EACH, label);
    points::run(&format!("killed on {kind}"), of, &all, label, |kill| {
        once(kill.prepared, place, kill.call);
    });
}

#[test]
fn killed_on_ext4() {
    killed_on("ext4");
}

#[test]
fn killed_on_xfs() {
    killed_on("xfs");
}

#[test]
fn killed_on_btrfs() {
    killed_on("btrfs");
}

#[test]
fn killed_on_tmpfs() {
    killed_on("tmpfs");
}
