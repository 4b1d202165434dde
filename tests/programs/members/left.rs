//! A process of one member that outlives its worker: another member cannot end it, so its task is held back
//! and the process named, until that member looks, or root.

use std::process::{Child, Stdio};

use super::{COORD, GROUP, MEMBER, OWNER, STRANGER, Shared, User};
use crate::support::{alive, kill, patiently, until};

const NAMED: &str = "(sleep, of user 2002)";

impl Shared {
    /// Starts `coord` as a user.
    fn background(&self, User(uid, umask): User, args: &[&str]) -> Child {
        let (uid, group) = (uid.to_string(), GROUP.to_string());
        let line = format!("umask {umask}; exec \"$@\"");
        let mut command = self.sandbox.command("setpriv");
        command.args(["--reuid", &uid, "--regid", &uid, "--groups", &group, "--", "sh", "-c"]);
        command.args([&line, "sh", COORD]).args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A task whose first attempt of the member has left a process in a session of its own, and whose worker
    /// is dead. Returns the process.
    fn outlived(&self, id: &str) -> i32 {
        let file = self.sandbox.beside("home/pid").display().to_string();
        let line = format!(
            "[ $COORD_ATTEMPT = 1 ] || {{ case $(cut -d' ' -f3 /proc/$(cat {file})/stat) in \
             ''|Z) ;; *) echo $COORD_ATTEMPT >>overlaps ;; esac; exit 0; }}; \
             setsid sh -c 'echo $$ >{file}; exec sleep 1000' & sleep 1000"
        );
        self.by(User(OWNER, "077"), &["add", "--id", id, "--sh", &line]).ok();
        let worker = self.background(User(MEMBER, "022"), &["work"]);
        let pid = || self.sandbox.text(&file).trim().parse::<i32>().ok();
        until("its process runs", || pid().is_some_and(alive));
        kill(i32::try_from(worker.id()).unwrap());
        self.sandbox.collect(worker).exits(128 + 9);
        pid().unwrap()
    }

    /// It is not begun anew, and everybody is told why and what to do.
    #[track_caller]
    fn is_held_back(&self, id: &str, pid: i32) {
        let owner = User(OWNER, "077");
        let named = |verb: &[&str]| self.by(owner, verb).stdout.contains(NAMED);
        until("it is named in status", || named(&["status"]));
        let why = self.by(owner, &["why", id]);
        why.ok().says(NAMED).says(&pid.to_string()).says("kill -9").says("when that has ended");
        assert!(alive(pid) && self.sandbox.state(id) == "running", "{id} goes on beside it");
        assert!(!self.sandbox.queue(&format!("tasks/{id}/1.end")).exists());
    }

    /// It went on when that process had ended.
    #[track_caller]
    fn went_on(&self, id: &str, pid: i32) {
        assert!(!alive(pid), "nobody has ended it");
        self.is_done(id);
        assert_eq!(self.sandbox.end(id, 1)["verdict"], "expired");
        assert_eq!(self.sandbox.text("overlaps"), "");
        for user in [User(OWNER, "077"), User(MEMBER, "022")] {
            self.by(user, &["status"]).ok().silent_about(NAMED);
            self.is_clean(user);
        }
    }
}

/// Also where a monitor of the owner lives, which could not end it.
#[test]
fn what_a_member_has_left_holds_its_task_until_that_member_looks() {
    let name = "what_a_member_has_left_holds_its_task_until_that_member_looks";
    let Some(shared) = Shared::new(name, "2775") else { return };
    let (owner, member) = (User(OWNER, "077"), User(MEMBER, "077"));
    let pid = shared.outlived("a");
    shared.by(owner, &["start", "-n", "1"]).ok();
    shared.is_held_back("a", pid);
    shared.by(owner, &["add", "--id", "b", "--", "true"]).ok();
    shared.by(owner, &["wait", "--timeout", "30s", "b"]).ok();
    assert!(alive(pid), "another task is not kept waiting");
    shared.by(member, &["work", "--until-empty"]).ok();
    shared.by(owner, &["stop", "--timeout", "20s"]).ok();
    shared.went_on("a", pid);
}

#[test]
fn what_a_member_has_left_holds_its_task_until_root_looks() {
    let name = "what_a_member_has_left_holds_its_task_until_root_looks";
    let Some(shared) = Shared::new(name, "2770") else { return };
    let pid = shared.outlived("a");
    let works = shared.background(User(OWNER, "077"), &["work", "--until-empty"]);
    shared.is_held_back("a", pid);
    // Root that only looks ends nothing.
    shared.sandbox.coord(&["status"]).ok().says(NAMED);
    shared.sandbox.coord(&["gc"]).ok();
    assert!(alive(pid));
    shared.sandbox.coord(&["work", "--as-owner", "--until-empty"]).ok();
    shared.sandbox.collect(works).ok();
    shared.went_on("a", pid);
}

/// A worker that hangs is ended by its user, or by root.
#[test]
fn a_worker_of_a_member_that_hangs_is_named_and_ended_by_root() {
    let name = "a_worker_of_a_member_that_hangs_is_named_and_ended_by_root";
    let Some(shared) = Shared::new(name, "2775") else { return };
    let sandbox = &shared.sandbox;
    sandbox.configure(
        "[worktree]\nisolation = \"none\"\n[lease]\nexpire = \"2s\"\nheartbeat = \"500ms\"\n",
    );
    let (owner, member) = (User(OWNER, "022"), User(MEMBER, "077"));
    let line = "[ $COORD_ATTEMPT != 1 ] || { touch begun; exec sleep 1000; }";
    shared.by(member, &["add", "--id", "a", "--sh", line]).ok();
    let worker = shared.background(member, &["work"]);
    until("its job runs", || sandbox.root.join("begun").exists());
    let pid = i32::try_from(worker.id()).unwrap();
    let pid_of = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid_of, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let works = shared.background(owner, &["work", "--until-empty"]);
    let named = format!("{pid} (coord, of user 2002)");
    until("it is named", || shared.by(owner, &["status"]).stdout.contains(&named));
    shared.by(owner, &["why", "a"]).ok().says(&named);
    assert!(alive(pid) && sandbox.state("a") == "running");
    sandbox.coord(&["work", "--as-owner", "--until-empty"]).ok();
    sandbox.collect(worker).exits(128 + 9);
    sandbox.collect(works).ok();
    shared.is_done("a");
    shared.is_clean(owner);
}

/// Who may write in a queue may write there what names anybody's process. Root ends what the one who wrote
/// it could have ended.
#[test]
fn root_ends_nothing_of_those_who_did_not_write_what_names_it() {
    let name = "root_ends_nothing_of_those_who_did_not_write_what_names_it";
    let Some(shared) = Shared::new(name, "2775") else { return };
    let sandbox = &shared.sandbox;
    let (owner, member) = (User(OWNER, "022"), User(MEMBER, "022"));
    let uid = STRANGER.to_string();
    let mut bystander = sandbox
        .command("setpriv")
        .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--", "sleep", "1000"])
        .spawn()
        .unwrap();
    let pid = i32::try_from(bystander.id()).unwrap();
    let is_theirs = || sandbox.sh(&format!("stat -c %u /proc/{pid}")).line() == uid;
    until("it is the other user's", is_theirs);
    shared.by(owner, &["add", "--id", "a", "--", "true"]).ok();
    shared.dies(member, "run.go", &["work", "--once"]);
    let wid = sandbox.names("procs").into_iter().find(|name| name.starts_with("solo-")).unwrap();
    let start = coord::sys::alive::proc_stat(pid).unwrap().start;
    let note = format!(".coord/procs/{wid}/run/_leader.a.1");
    assert!(sandbox.root.join(&note).exists());
    let forge = format!(
        "rm -f {note}; echo '{{\"v\":1,\"pid\":{pid},\"start\":{start},\"session\":\"\"}}' >{note}"
    );
    shared.given(member, "", "sh", &["-c", &forge]).ok();
    let mut works = sandbox.background(&["work", "--as-owner", "--until-empty"]);
    let named = format!("{pid} (sleep, of user {STRANGER})");
    until("it is named", || shared.by(owner, &["status"]).stdout.contains(&named));
    assert!(alive(pid), "root has ended what is nobody's here");
    assert!(works.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    sandbox.collect(works).ok();
    assert!(patiently(|| sandbox.state("a") == "done"));
    shared.is_clean(owner);
}
