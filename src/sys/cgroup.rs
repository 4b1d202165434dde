//! A control group of one's own, where one can be made: who is in it stays in it, whatever it does to its
//! session, its parents and its environment.
//!
//! Only cgroup v2, and only a directory in the group that this process is in: no controller is asked for,
//! so nothing of what is limited there changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::{AccessFlags, access};

/// Groups of ours are called so and by the mark of their program.
const PREFIX: &str = "coord-worker-";
const MEMBERS: &str = "cgroup.procs";

/// Where the tree of cgroup v2 is mounted, and which part of it.
struct Mount {
    dir: PathBuf,
    root: String,
}

#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
fn mounts() -> Vec<Mount> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of_line = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, dir) = (fields.next()?.to_owned(), PathBuf::from(fields.next()?));
        file_system.starts_with("cgroup2 ").then_some(Mount { dir, root })
    };
    text.lines().filter_map(of_line).collect()
}

/// The directory of a group.
fn place(group: &str) -> Option<PathBuf> {
    mounts().into_iter().find_map(|mount| {
        let below = match mount.root.as_str() {
            "/" => group,
            root => group.strip_prefix(root)?,
        };
        Some(mount.dir.join(below.trim_start_matches('/')))
    })
}

/// The group that this process is in.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
fn here() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned))
}

fn name(mark: &str) -> String {
    format!("{PREFIX}{mark}")
}

/// Where this process was before it had a group of its own.
static OUTSIDE: OnceLock<Option<String>> = OnceLock::new();

/// The group in which this process makes its own; `None` where it may not.
fn outside() -> Option<&'static str> {
    let found = OUTSIDE.get_or_init(|| {
        if std::env::var_os("COORD_NO_CGROUP").is_some() {
            return None;
        }
        let here = here()?;
        let dir = place(&here)?;
        let may = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
        (may(&dir) && may(&dir.join(MEMBERS))).then_some(here)
    });
    found.as_deref()
}

/// Whether a mark can be part of a name.
fn is_plain(mark: &str) -> bool {
    !mark.is_empty() && mark.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The group that the program with this mark has, or is going to have; empty where it can have none.
pub fn planned(mark: &str) -> String {
    match outside() {
        Some(outside) if is_plain(mark) => {
            format!("{}/{}", outside.trim_end_matches('/'), name(mark))
        }
        _ => String::new(),
    }
}

#[expect(clippy::disallowed_methods, reason = "sys/ may write below /sys")]
fn move_here(dir: &Path) -> io::Result<()> {
    std::fs::write(dir.join(MEMBERS), "0")
}

/// Whether this process is in its own group.
static INSIDE: AtomicBool = AtomicBool::new(false);

/// Moves this process into a group of its own. What it starts from now on is in it. False: it is there
/// already, or may not have one.
#[expect(clippy::disallowed_methods, reason = "sys/ may make directories below /sys")]
pub fn enter(mark: &str) -> io::Result<bool> {
    let Some(dir) = outside().filter(|_| is_plain(mark)).and_then(place) else { return Ok(false) };
    if INSIDE.load(Ordering::Relaxed) {
        return Ok(false);
    }
    tidy();
    let own = dir.join(name(mark));
    // Whoever tidies beside it may have taken the empty one away.
    for last in [false, true] {
        match std::fs::create_dir(&own) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        match move_here(&own) {
            Err(e) if !last && e.kind() == io::ErrorKind::NotFound => {}
            other => {
                INSIDE.store(other.is_ok(), Ordering::Relaxed);
                return other.map(|()| true);
            }
        }
    }
    Ok(false)
}

/// Moves this process back to where it was, and removes its group if nobody else is in it. False: it was in
/// none.
pub fn leave(mark: &str) -> io::Result<bool> {
    let Some(dir) = outside().filter(|_| is_plain(mark)).and_then(place) else { return Ok(false) };
    if !INSIDE.load(Ordering::Relaxed) {
        return Ok(false);
    }
    move_here(&dir)?;
    INSIDE.store(false, Ordering::Relaxed);
    remove(&dir.join(name(mark)));
    Ok(true)
}

/// Removes a group and those below it, as far as nobody is in them.
#[expect(clippy::disallowed_methods, reason = "sys/ may remove directories below /sys")]
fn remove(dir: &Path) {
    for below in directories(dir) {
        remove(&below);
    }
    // The kernel refuses it while anybody is in it.
    let _ = std::fs::remove_dir(dir);
}

/// Removes the groups of programs of ours that nobody is in, as far as they are beside this one's.
pub fn tidy() {
    let Some(dir) = outside().and_then(place) else { return };
    directories(&dir).iter().filter(|dir| is_ours(dir)).for_each(|dir| remove(dir));
}

/// Removes the group of a dead program.
pub fn bury(group: &str, mark: &str) {
    if let Some(dir) = checked(group, mark) {
        remove(&dir);
    }
}

fn is_ours(dir: &Path) -> bool {
    dir.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX))
}

#[expect(clippy::disallowed_methods, reason = "sys/ may read directories below /sys")]
fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// The directory of a group that a card names. Only one that is called as that program's: whatever a card
/// says, nobody else's is looked into.
fn checked(group: &str, mark: &str) -> Option<PathBuf> {
    let named = group.rsplit('/').next()? == name(mark) && is_plain(mark);
    let dir = place(group).filter(|_| named && !group.contains(".."))?;
    dir.is_dir().then_some(dir)
}

/// The processes in the group of the program with this mark, and in those below it that are not other
/// programs' of ours.
pub fn members(group: &str, mark: &str) -> Vec<i32> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = checked(group, mark).into_iter().collect();
    while let Some(dir) = open.pop() {
        found.extend(listed(&dir));
        open.extend(directories(&dir).into_iter().filter(|dir| !is_ours(dir)));
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "sys/ may read below /sys")]
fn listed(dir: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(dir.join(MEMBERS)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_group_is_looked_into_than_one_that_is_called_as_its_program() {
        let outside = here().unwrap_or_default();
        let cards = [(outside.as_str(), ""), ("/", "x"), ("", "x"), ("/a/../coord-worker-x", "x")];
        for (group, mark) in cards {
            assert_eq!(checked(group, mark), None, "{group:?} {mark:?}");
        }
        assert_eq!(planned("a/b"), "");
        assert_eq!(planned(""), "");
    }
}
