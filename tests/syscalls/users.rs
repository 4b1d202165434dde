//! Several users in one case: who gives which of its commands, with which umask.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::case::{Case, programs};
use crate::points;
use crate::support::until;

/// The owner of the queue, another member of its group, and their group; by numbers, so that no user need
/// be made. Each has one of his own besides, with his number.
pub const OWNER: u32 = 2001;
pub const MEMBER: u32 = 2002;
pub const ROOT: u32 = 0;
const GROUP: u32 = 2100;

/// A user with an umask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub umask: &'static str,
}

/// Who does what in a case.
#[derive(Debug, Clone, Copy)]
pub struct Users {
    /// Gives the command that is disturbed.
    pub disturbed: User,
    /// Does all else.
    pub who: User,
}

impl User {
    /// With an umask that hangs on the seed and the words.
    pub fn drawn(uid: u32, words: &str) -> User {
        let all = ["002", "022", "077"];
        let one = points::draw(format!("{words} umask of {uid}")) % all.len() as u64;
        User { uid, umask: all[usize::try_from(one).unwrap()] }
    }

    /// A program of this user's.
    pub fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let line = format!("umask {}; exec \"$@\"", self.umask);
        let mut command = Command::new(if self.uid == ROOT { "sh" } else { "setpriv" });
        if self.uid != ROOT {
            let (uid, groups) = (self.uid.to_string(), GROUP.to_string());
            command.args(["--reuid", &uid, "--regid", &uid, "--groups", &groups, "--", "sh"]);
        }
        command.args(["-c", &line, "sh"]).arg(program);
        command
    }

    /// The words of a command as this user has to give them.
    pub fn words<'a>(self, words: &[&'a str]) -> Vec<&'a str> {
        let mut words = words.to_vec();
        let runs = words.first() == Some(&"coord")
            && words.get(1).is_some_and(|verb| ["work", "run", "start"].contains(verb));
        if self.uid == ROOT && runs {
            words.insert(2, "--as-owner");
        }
        words
    }

    /// Whether another one is the same to the kernel: root becomes the owner.
    pub fn acts_as(self, uid: u32) -> bool {
        self.uid == uid || (self.uid == ROOT && uid == OWNER)
    }
}

/// Whether this machine has other users for us. If not, why not.
pub fn absent(place: &Path) -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root has other users");
    }
    let mut command = User { uid: OWNER, umask: "022" }.command(programs().join("coord"));
    let reached = command.arg("--version").current_dir(place).output();
    match reached {
        Ok(output) if output.status.success() => None,
        Ok(_) => Some("other users do not reach the programs that are tested"),
        Err(_) => Some("there is no setpriv"),
    }
}

/// Lets all users into a directory that is the tests' own.
pub fn let_in(place: &Path) {
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Gives a file that the test has made to the owner of the queue.
pub fn give(path: &Path, mode: u32) {
    chown(path, Some(OWNER), Some(GROUP)).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

impl Case {
    /// An empty project of several users, in which one of them prepares the queue.
    pub fn shared(dir: &Path, who: User) -> Case {
        let users = Some(Users { disturbed: who, who });
        let case = Case { users, ..Case::new(dir) };
        case.open();
        give(&case.root, 0o2775);
        give(&case.root.join("wit"), 0o777);
        case
    }

    /// Lets all users at what is beside the project.
    pub fn open(&self) {
        let trace = self.dir().join("trace");
        std::fs::write(&trace, "").unwrap();
        give(&trace, 0o666);
        give(self.dir(), 0o2777);
    }

    /// Makes the queue. It is the owner's, whoever prepares what is in it; one may look at it, or only work.
    pub fn init(&self) {
        let umask = match self.users {
            Some(Users { who, .. }) if who.uid == MEMBER => "007",
            _ => "002",
        };
        let owner = self.users.map(|_| User { uid: OWNER, umask });
        let made = self.run(self.program_of(owner, &["coord", "init", "--no-git"]));
        assert_eq!(made.code, Some(0), "{made:?}");
    }

    /// The live processes of this case that are of a user to whom this one may send no signal.
    fn processes_of_others(&self, me: User) -> Vec<(i32, u32)> {
        let uid = |pid: i32| Some(std::fs::metadata(format!("/proc/{pid}")).ok()?.uid());
        let all = self.processes().into_iter().filter_map(|pid| Some((pid, uid(pid)?)));
        all.filter(|(_, uid)| me.uid != ROOT && !me.acts_as(*uid)).collect()
    }

    /// Where a process of another one has outlived its worker, that holds its task and is named, until that
    /// user looks, or root. Returns what looked first and waited.
    pub fn waits_for_others(&self) -> Option<Child> {
        let who = self.users?.who;
        let (_, theirs) = *self.processes_of_others(who).first()?;
        let mut command = self.program(&["coord", "work", "--until-empty"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let named = || {
            let status = self.coord(&["status"]).stdout;
            status.contains("which cannot be ended") && status.contains("kill -9")
        };
        let mut over = false;
        until("what is left of another user is gone, or named", || {
            over = child.try_wait().unwrap().is_some();
            over || named()
        });
        if !over && !self.processes_of_others(who).is_empty() {
            let root = points::draw(self.dir().display()).is_multiple_of(2);
            let uid = if root { ROOT } else { theirs };
            let looks = User::drawn(uid, &self.dir().display().to_string());
            let words = ["coord", "work", "--until-empty"];
            let looked = self.run(self.program_of(Some(looks), &words));
            assert!(matches!(looked.code, Some(0 | 1)), "{looks:?}: {looked:?}");
            assert_eq!(self.processes_of_others(who), [], "{looks:?} has not ended it");
        }
        Some(child)
    }
}
