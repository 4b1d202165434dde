//! Owner, group and mode of everything below the queue's directory, which says what they should be
//! (queue-layout.md, section 15), and putting them right.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use crate::sys::owner::{self, Owner};

use super::tree::{Class, class};
use super::{Finding, Severity, Survey};

const SETGID: u32 = 0o2000;
/// What a mode asks for: a directory, a file that is written in place, one that is written once.
const DIRECTORY: u32 = 0o777;
const WRITTEN: u32 = 0o666;
const READ: u32 = 0o444;
/// That others than its owner write in a directory.
const WRITE: u32 = 0o022;

/// What is not as it should be with one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// In words.
    pub what: String,
    /// Bits of the mode that are to be set.
    add: u32,
    /// Those that are to be taken away.
    take: u32,
    /// The group that it should have.
    group: Option<u32>,
    /// The owner that it should have, where only one user may work in the queue.
    user: Option<u32>,
    /// Nobody but root can put it right, or a member who owns it.
    owner: u32,
    /// Whether somebody who may work in the queue is kept from it.
    hinders: bool,
}

/// Looks at one name. Extra rights are nobody's loss, so what lacks is wrong; but who may not work in the
/// queue any more must not be able to write in its directories.
pub fn look(queue: &Owner, parts: &[&str], entry: &DirEntry) -> Option<Wrong> {
    let kind = entry.file_type();
    let asked = match class(parts) {
        Class::Dir if kind.is_dir() => DIRECTORY,
        Class::Temporary if kind.is_dir() => DIRECTORY,
        Class::File if kind.is_file() && is_written_in_place(parts) => WRITTEN,
        Class::File if kind.is_file() => READ,
        // n.out is ours, and what is in it is not.
        Class::Closed if kind.is_dir() && is_output(parts) => DIRECTORY,
        _ => return None,
    };
    let meta = entry.metadata().ok()?;
    judge(
        queue,
        asked,
        kind.is_dir(),
        &Owner { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o7777 },
    )
}

fn judge(queue: &Owner, asked: u32, is_dir: bool, is: &Owner) -> Option<Wrong> {
    let setgid = if is_dir && queue.hands_on() { SETGID } else { 0 };
    let lacking = (asked & queue.mode & 0o777 | setgid) & !is.mode;
    // Of group and others: its owner's own rights are for that one to lose.
    let group = (queue.is_shared() && is.gid != queue.gid).then_some(queue.gid);
    let alone = !queue.is_shared() && is.uid != queue.uid;
    let user = alone.then_some(queue.uid);
    let extra = if is_dir { is.mode & WRITE & !queue.mode } else { 0 };
    if lacking | extra == 0 && group.is_none() && user.is_none() {
        return None;
    }
    let mut words = vec![format!("it is that of {}", is.words())];
    if user.is_some() {
        words.push(format!("the queue is that of {}", owner::user_name(queue.uid)));
    }
    if let Some(group) = group {
        words.push(format!("the group of the queue is {}", owner::group_name(group)));
    }
    if lacking != 0 {
        words.push(format!("the mode lacks {lacking:04o}"));
    }
    if extra != 0 {
        words.push(format!("the mode has {extra:04o}, which that of the queue has not"));
    }
    // A record that all may read hinders nobody, whoever wrote it.
    let write = asked & 0o222 != 0;
    let reads_all = is.mode & READ & queue.mode == READ & queue.mode;
    let hinders = match user {
        Some(_) => write && is.mode & 0o002 == 0 || !reads_all,
        // Without the setgid bit the group is most often that of its owner alone.
        None if !queue.hands_on() && queue.mode & 0o002 == 0 => false,
        None => lacking & !SETGID != 0 || (group.is_some() && write && is.mode & 0o002 == 0),
    };
    let what = words.join("; ");
    Some(Wrong { what, add: lacking, take: extra, group, user, owner: is.uid, hinders })
}

/// Files that others than who made them write: bells, logs, the streams that commands share, requests.
fn is_written_in_place(parts: &[&str]) -> bool {
    match parts {
        ["events", name] => name.starts_with("cli@") || *name == "bell",
        ["control", "coordinator.lock"] => true,
        ["tasks", _, "jobs", name] => matches!(*name, "bell" | "progress" | "shown"),
        ["tasks", _, "jobs", dir, name] => dir.ends_with(".ends") && name.starts_with("of."),
        [.., "bell"] => true,
        _ => false,
    }
}

fn is_output(parts: &[&str]) -> bool {
    matches!(parts, ["tasks" | "merge", _, name] if name.ends_with(".out"))
}

/// Names what is wrong, and whether it keeps anybody from working.
pub(super) fn check(survey: &mut Survey<'_>) {
    let root = survey.queue.layout.root().to_owned();
    survey.findings.extend(wrong(&root));
}

/// The same of any queue, by its directory.
pub fn wrong(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Ok(queue) = Owner::of(root) else { return findings };
    let me = nix::unistd::geteuid();
    each(root, |parts, entry| {
        let Some(wrong) = look(&queue, parts, entry) else { return };
        let severity = if wrong.hinders { Severity::Error } else { Severity::Leftover };
        // Only root gives files away.
        let may = me.is_root() || (wrong.user.is_none() && wrong.owner == me.as_raw());
        let hint = match (may, wrong.user) {
            (true, _) => "coord fsck --repair".to_owned(),
            (false, Some(_)) => "sudo coord fsck --repair".to_owned(),
            (false, None) => {
                format!("{} or root: coord fsck --repair", owner::user_name(wrong.owner))
            }
        };
        let path = entry.path().to_owned();
        findings.push(Finding { severity, invariant: "owner", path, what: wrong.what, hint });
    });
    findings
}

/// Puts right what this process may. Returns how many names it changed. No link is followed, and nothing
/// is given to the owner of the queue but in its own directories.
pub fn mend(root: &Path) -> usize {
    let Ok(queue) = Owner::of(root) else { return 0 };
    let mut mended = 0;
    each(root, |parts, entry| {
        if let Some(wrong) = look(&queue, parts, entry)
            && put_right(entry.path(), &wrong).is_ok()
        {
            mended += 1;
        }
    });
    mended
}

fn put_right(path: &Path, wrong: &Wrong) -> io::Result<()> {
    use nix::fcntl::{AtFlags, OFlag, open};
    use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat};
    use nix::unistd::{Gid, Uid, fchownat};
    // By a descriptor of the name itself, so that a link that takes its place leads nowhere.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::empty())?;
    let mode = fstat(&file)?.st_mode;
    let (user, group) = (wrong.user.map(Uid::from_raw), wrong.group.map(Gid::from_raw));
    if user.is_some() || group.is_some() {
        fchownat(&file, "", user, group, AtFlags::AT_EMPTY_PATH)?;
    }
    if wrong.add | wrong.take != 0 || group.is_some() {
        use std::os::fd::AsRawFd;
        // chown takes the setgid bit away.
        let mode = Mode::from_bits_truncate((mode | wrong.add) & !wrong.take);
        let by = format!("/proc/self/fd/{}", file.as_raw_fd());
        fchmodat(nix::fcntl::AT_FDCWD, by.as_str(), mode, FchmodatFlags::FollowSymlink)?;
    }
    Ok(())
}

/// Hands out every name of the queue that is UTF-8, with its parts below the root.
fn each(root: &Path, mut each: impl FnMut(&[&str], &DirEntry)) {
    let mut walk = WalkDir::new(root).min_depth(1).follow_links(false).into_iter();
    while let Some(entry) = walk.next() {
        // What cannot be read is named by the look at names.
        let Ok(entry) = entry else { continue };
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let Some(parts) = relative.iter().map(|part| part.to_str()).collect::<Option<Vec<_>>>()
        else {
            continue;
        };
        each(&parts, &entry);
        let below = matches!(class(&parts), Class::Dir | Class::Temporary | Class::File);
        if entry.file_type().is_dir() && !below {
            walk.skip_current_dir();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_somebody_from_working_is_told_from_what_does_not() {
        let queue = |mode| Owner { uid: 7, gid: 70, mode };
        let of = |uid, gid, mode| Owner { uid, gid, mode };
        let judged = |queue: Owner, asked, is: Owner| {
            judge(&queue, asked, asked == DIRECTORY, &is).map(|wrong| wrong.hinders)
        };
        let alone = queue(0o755);
        assert_eq!(judged(alone, DIRECTORY, of(7, 70, 0o755)), None);
        assert_eq!(judged(alone, READ, of(7, 70, 0o444)), None);
        // More than is asked for, or another group where only one may work, hinders nobody.
        assert_eq!(judged(alone, WRITTEN, of(7, 99, 0o666)), None);
        assert_eq!(judged(alone, DIRECTORY, of(7, 99, 0o2755)), None);
        assert_eq!(judged(alone, DIRECTORY, of(7, 99, 0o2777)), Some(false));
        // Root's: a directory is in the way, a record can be read.
        assert_eq!(judged(alone, DIRECTORY, of(0, 0, 0o755)), Some(true));
        assert_eq!(judged(alone, WRITTEN, of(0, 0, 0o644)), Some(true));
        assert_eq!(judged(alone, READ, of(0, 0, 0o444)), Some(false));
        assert_eq!(judged(alone, READ, of(0, 0, 0o400)), Some(true));
        let shared = queue(0o2775);
        assert_eq!(judged(shared, DIRECTORY, of(8, 70, 0o2775)), None);
        assert_eq!(judged(shared, READ, of(8, 70, 0o444)), None);
        assert_eq!(judged(shared, DIRECTORY, of(8, 70, 0o2755)), Some(true));
        assert_eq!(judged(shared, DIRECTORY, of(8, 70, 0o775)), Some(false));
        assert_eq!(judged(shared, WRITTEN, of(8, 70, 0o644)), Some(true));
        // Where the group is most likely that of its owner alone.
        assert_eq!(judged(queue(0o775), WRITTEN, of(7, 70, 0o644)), Some(false));
        assert_eq!(judged(shared, READ, of(8, 80, 0o444)), Some(false));
        assert_eq!(judged(shared, DIRECTORY, of(8, 80, 0o2775)), Some(true));
    }
}
