//! Whose a directory is, what this process may do there, and becoming its owner.
//!
//! A queue says by owner, group and mode of its directory who may work in it (queue-layout.md, section
//! 15). All is judged by the effective user, as the kernel does it.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, Gid, Group, Uid, User};

use super::privilege;
use super::spawn::Variables;

const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const WRITE_GROUP: u32 = 0o020;
const WRITE_ALL: u32 = 0o002;

/// Owner, group and mode of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permissions, setgid and sticky bit.
    pub mode: u32,
}

/// What this process is to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its owner.
    Owner,
    /// It may write there, and the others who may can use what it makes.
    Member,
    /// It may write there, but what it makes would have another group, which the others are not in.
    OfAnotherGroup,
    /// It may write there, but nobody could finish what others have begun: the sticky bit is set.
    Sticky,
    /// Root, in the directory of somebody else.
    Root,
    /// It may not write there.
    Stranger,
}

impl Owner {
    /// That of a directory.
    #[expect(clippy::disallowed_methods, reason = "sys/ may look at files")]
    pub fn of(dir: &Path) -> io::Result<Owner> {
        let meta = std::fs::metadata(dir)?;
        Ok(Owner { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o7777 })
    }

    /// The same in words: `alice (1000), group dev (2100), mode 2775`.
    pub fn words(&self) -> String {
        format!("{}, group {}, mode {:o}", user_name(self.uid), group_name(self.gid), self.mode)
    }

    /// Whether others than the owner may work there.
    pub fn is_shared(&self) -> bool {
        self.mode & (WRITE_GROUP | WRITE_ALL) != 0
    }

    /// Whether what is made there gets the group of the directory, whoever makes it.
    pub fn hands_on(&self) -> bool {
        self.mode & SETGID != 0
    }

    /// What this process is to it.
    pub fn part(&self, dir: &Path) -> Part {
        let me = nix::unistd::geteuid();
        if me.as_raw() == self.uid {
            return Part::Owner;
        }
        if me.is_root() {
            return Part::Root;
        }
        // A file system that is read-only is so for everybody: what is done there says so.
        let may = nix::unistd::eaccess(dir, AccessFlags::W_OK | AccessFlags::X_OK);
        if matches!(may, Err(Errno::EACCES | Errno::EPERM)) {
            return Part::Stranger;
        }
        if self.mode & STICKY != 0 {
            return Part::Sticky;
        }
        let same_group = nix::unistd::getegid().as_raw() == self.gid;
        match self.hands_on() || same_group || self.mode & WRITE_ALL != 0 {
            true => Part::Member,
            false => Part::OfAnotherGroup,
        }
    }
}

/// `alice (1000)`, or `uid 1000` where nobody has a name for it.
pub fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("{} ({uid})", user.name),
        _ => format!("uid {uid}"),
    }
}

/// `dev (2100)`, or `gid 2100` where nobody has a name for it.
pub fn group_name(gid: u32) -> String {
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => format!("{} ({gid})", group.name),
        _ => format!("gid {gid}"),
    }
}

/// The user that this process is.
pub fn me() -> String {
    user_name(nix::unistd::geteuid().as_raw())
}

/// What the environment of commands says otherwise than this process's own, since it has become another
/// user: values, and names that must not be there.
static CHANGED: OnceLock<Vec<(&'static str, Option<OsString>)>> = OnceLock::new();

/// Places of the user who this process was.
const PLACES: [&str; 5] =
    ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"];

/// Makes this process, which is root's, one of that owner, for good: groups, group and user by the user
/// database, or those of the directory where it does not know the user. `keep`: it is going to look after
/// what others have left running, and keeps the right to end it (`privilege`).
///
/// # Errors
/// It is not allowed to, as in some containers.
pub fn become_owner(owner: &Owner, keep: bool) -> io::Result<()> {
    let uid = Uid::from_raw(owner.uid);
    let user = User::from_uid(uid).ok().flatten();
    let gid = user.as_ref().map_or(Gid::from_raw(owner.gid), |user| user.gid);
    match user.as_ref().and_then(|user| CString::new(user.name.as_bytes()).ok()) {
        Some(name) => nix::unistd::initgroups(&name, gid)?,
        None => nix::unistd::setgroups(&[gid])?,
    }
    nix::unistd::setgid(gid)?;
    let change = || Ok(nix::unistd::setuid(uid)?);
    if keep {
        privilege::keep_through(change)?
    } else {
        change()?
    }
    let mut changed: Vec<_> = PLACES.iter().map(|name| (*name, None)).collect();
    changed.push(("HOME", user.as_ref().map(|user| user.dir.clone().into_os_string())));
    for name in ["USER", "LOGNAME"] {
        changed.push((name, user.as_ref().map(|user| user.name.clone().into())));
    }
    // Nobody becomes two.
    drop(CHANGED.set(changed));
    Ok(())
}

/// What a command's environment has otherwise than this process's.
pub fn changes() -> &'static [(&'static str, Option<OsString>)] {
    CHANGED.get().map_or(&[], Vec::as_slice)
}

/// The environment that commands inherit.
pub fn variables() -> Variables {
    let mut all: Variables = std::env::vars_os().collect();
    for (name, value) in changes() {
        match value {
            Some(value) => drop(all.insert((*name).into(), value.clone())),
            None => drop(all.remove(std::ffi::OsStr::new(name))),
        }
    }
    all
}

/// The same for a command that is started by the standard library.
pub fn environ(command: &mut std::process::Command) {
    for (name, value) in changes() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_work_is_told_by_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mine = Owner::of(dir.path()).unwrap();
        assert_eq!(mine.part(dir.path()), Part::Owner);
        let others = Owner { uid: mine.uid + 1, ..mine };
        let part = others.part(dir.path());
        match nix::unistd::geteuid().is_root() {
            true => assert_eq!(part, Part::Root),
            // The directory itself can be written: only what the mode says of groups counts.
            false => assert_eq!(part, Part::Member),
        }
        let shared = |mode| Owner { mode, ..mine }.is_shared();
        assert_eq!([0o755, 0o700, 0o2775, 0o777].map(shared), [false, false, true, true]);
        assert_eq!(
            Owner { uid: 4_000_000, gid: 4_000_001, mode: 0o2770 }.words(),
            "uid 4000000, group gid 4000001, mode 2770"
        );
    }

    #[test]
    fn who_became_nobody_else_has_the_environment_as_it_is() {
        assert!(changes().is_empty());
        assert_eq!(variables(), std::env::vars_os().collect::<Variables>());
    }
}
