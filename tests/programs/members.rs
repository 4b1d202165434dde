//! Several users in one queue: two in a group, with umasks that say otherwise, root, and one who has no
//! right there. By numeric ids, so that no user need be made.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::{Output, Sandbox, skip};

mod left;
mod made;

const COORD: &str = env!("CARGO_BIN_EXE_coord");

/// The owner of the queue, another member of its group, and one who is in no group of anybody's.
const OWNER: u32 = 2001;
const MEMBER: u32 = 2002;
const STRANGER: u32 = 2003;
/// Their common group; each has one of his own besides, with his number.
const GROUP: u32 = 2100;

/// A user with an umask.
#[derive(Debug, Clone, Copy)]
struct User(u32, &'static str);

/// A project of several users.
struct Shared {
    sandbox: Sandbox,
}

impl Shared {
    /// With a queue of this mode. `None`: this machine has no other users for us.
    fn new(test: &str, mode: &str) -> Option<Shared> {
        if !nix::unistd::geteuid().is_root() {
            skip(test, "only root has other users");
            return None;
        }
        let sandbox = Sandbox::bare();
        let shared = Shared { sandbox };
        let place = shared.sandbox.root.parent().unwrap().display().to_string();
        shared.sandbox.sh(&format!(
            "chmod 755 '{place}' && chown -R {OWNER}:{GROUP} '{place}' && chmod 2775 . && chmod 777 ../home"
        ));
        let first = User(OWNER, "022");
        if shared.given(first, "", "setpriv", &["--version"]).code != 0 {
            skip(test, "there is no setpriv");
            return None;
        }
        if shared.by(first, &["--version"]).code != 0 {
            skip(test, "other users do not reach the programs that are tested");
            return None;
        }
        shared.by(first, &["init", "--no-git"]).ok();
        shared.sandbox.configure("[worktree]\nisolation = \"none\"\n");
        shared.sandbox.sh(&format!("chgrp {GROUP} .coord && chmod {mode} .coord"));
        shared.by(first, &["fsck", "--repair"]).ok();
        Some(shared)
    }

    /// Runs a program as a user, who dies at a step.
    fn given(&self, User(uid, umask): User, step: &str, program: &str, args: &[&str]) -> Output {
        let (uid, group) = (uid.to_string(), GROUP.to_string());
        let groups = if uid == STRANGER.to_string() { &uid } else { &group };
        let step = format!("COORD_STEP={step}");
        let line = format!("umask {umask}; exec \"$@\"");
        let mut words = vec!["--reuid", &uid, "--regid", &uid, "--groups", groups, "--"];
        words.extend(["env", &step, "sh", "-c", &line, "sh", program]);
        words.extend(args);
        self.sandbox.run("setpriv", &words)
    }

    fn by(&self, user: User, args: &[&str]) -> Output {
        self.given(user, "", COORD, args)
    }

    /// Who dies at every step is in tests/syscalls.
    fn dies(&self, user: User, step: &str, args: &[&str]) -> Output {
        self.given(user, &format!("{step}:crash"), COORD, args)
    }

    #[track_caller]
    fn is_done(&self, id: &str) {
        assert_eq!(self.sandbox.state(id), "done", "{}", self.sandbox.coord(&["why", id]).stdout);
        let names = self.sandbox.names(&format!("tasks/{id}"));
        let ends = names.iter().filter_map(|name| name.strip_suffix(".end")?.parse().ok());
        let done = ends.filter(|n| self.sandbox.end(id, *n)["verdict"] == "done");
        assert_eq!(done.count(), 1, "{id} was accepted more than once: {names:?}");
    }

    #[track_caller]
    fn is_clean(&self, user: User) {
        let checked = self.by(user, &["fsck", "--strict"]);
        assert_eq!(checked.code, 0, "{user:?}: {}", checked.stdout);
    }

    fn owner_of(&self, path: &str) -> (u32, u32) {
        let meta = std::fs::symlink_metadata(self.sandbox.queue(path)).unwrap();
        (meta.uid(), meta.mode() & 0o7777)
    }

    /// Every name of the queue, with its times.
    fn listing(&self) -> String {
        self.sandbox.sh("find .coord -printf '%p %U %m %C@\\n' | sort").stdout
    }
}

/// A job that says so if another of its task runs.
fn alone(id: &str) -> Vec<String> {
    let line = "mkdir busy.$COORD_TASK_ID || echo $COORD_TASK_ID >overlaps; sleep 0.02; \
                rmdir busy.$COORD_TASK_ID";
    ["add", "--id", id, "--sh", line].map(str::to_owned).to_vec()
}

#[test]
fn members_and_root_work_by_turns_whatever_their_umasks() {
    let name = "members_and_root_work_by_turns_whatever_their_umasks";
    let Some(shared) = Shared::new(name, "2775") else { return };
    let add = |user: User, id: &str| {
        let words = alone(id);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        shared.by(user, &words).ok();
    };
    let pairs = [("002", "022"), ("022", "077"), ("077", "002"), ("077", "077")];
    for (turn, (ours, theirs)) in pairs.into_iter().enumerate() {
        let id = |word: &str| format!("{word}-{turn}");
        let users = [User(OWNER, ours), User(MEMBER, theirs)];
        for (a, b) in [(users[0], users[1]), (users[1], users[0])] {
            let id = |word: &str| id(&format!("{word}-{}", a.0));
            // One adds, the other works, and what comes after it is the first one's again.
            add(a, &id("plain"));
            shared
                .by(b, &["add", "--id", &id("after"), "--after", &id("plain"), "--", "true"])
                .ok();
            shared.by(b, &["work", "--until-empty"]).ok();
            shared.is_done(&id("plain"));
            shared.is_done(&id("after"));
            // One decides about what the other has added.
            shared.by(a, &["add", "--id", &id("held"), "--hold", "--", "true"]).ok();
            shared.by(b, &["release", &id("held")]).ok();
            shared.by(a, &["add", "--id", &id("dropped"), "--", "true"]).ok();
            shared.by(b, &["cancel", &id("dropped")]).ok();
            shared.by(a, &["retry", &id("dropped")]).ok();
            let fails = "test -e ok.$COORD_TASK_ID";
            let bad = id("bad");
            shared.by(a, &["add", "--id", &bad, "--retries", "0", "--sh", fails]).ok();
            shared.by(a, &["work", "--until-empty"]).exits(1);
            shared.sandbox.sh(&format!("touch ok.{bad}"));
            shared.by(b, &["retry", &bad]).ok();
            // A fleet of the one does what the other adds, who stops it.
            shared.by(a, &["start", "-n", "2"]).ok();
            add(b, &id("fleet"));
            let words: Vec<String> = (0..20)
                .map(|n| format!("{{\"id\":\"{}\",\"argv\":[\"true\"]}}", id(&format!("many{n}"))))
                .collect();
            std::fs::write(shared.sandbox.root.join("list.jsonl"), words.join("\n")).unwrap();
            shared.by(b, &["import", "list.jsonl"]).ok();
            let all = [id("held"), id("dropped"), bad.clone(), id("fleet"), id("many19")];
            for task in &all {
                shared.by(b, &["wait", "--timeout", "30s", task]).ok();
            }
            shared.by(b, &["stop", "--timeout", "20s"]).ok();
            all.iter().for_each(|task| shared.is_done(task));
            // Root adds as the owner, and nothing of it is in anybody's way.
            let roots = id("root");
            shared.sandbox.sh(&format!("umask 077; coord add --id {roots} -- true"));
            assert_eq!(shared.owner_of(&format!("tasks/{roots}")), (OWNER, 0o2775));
            shared.by(b, &["work", "--until-empty"]).ok();
            shared.is_done(&roots);
            shared.is_clean(a);
            shared.is_clean(b);
        }
        // What the one has done is archived by the other, and deleted by the first.
        shared.by(users[1], &["gc"]).ok();
        shared.by(users[0], &["gc", "--delete"]).ok();
        shared.is_clean(users[0]);
        shared.is_clean(users[1]);
    }
    assert_eq!(shared.sandbox.text("overlaps"), "", "two attempts of a task ran at once");
}

#[test]
fn root_acts_as_the_owner_or_not_at_all() {
    let name = "root_acts_as_the_owner_or_not_at_all";
    let Some(shared) = Shared::new(name, "755") else { return };
    let (sandbox, owner) = (&shared.sandbox, User(OWNER, "022"));
    sandbox.sh("umask 022; coord add --id a --sh 'id -u; umask; echo home=$HOME; touch made'");
    for path in ["tasks/a", "ready/default", "tasks/a/spec.json"] {
        assert_eq!(shared.owner_of(path).0, OWNER, "{path}");
    }
    let before = shared.listing();
    let refusals: [&[&str]; 3] =
        [&["work", "--once"], &["start", "-n", "1"], &["run", "-n", "1", "echo", "{}", ":::", "x"]];
    for words in refusals {
        let refused = sandbox.coord(words);
        assert!(refused.code != 0, "{words:?}");
        refused.warns("root runs no commands").warns("--as-owner");
    }
    let worker = Path::new(COORD).with_file_name("coord-worker");
    let worker = worker.to_str().unwrap();
    let queue = sandbox.queue("");
    sandbox
        .run(worker, &["--dir", queue.to_str().unwrap()])
        .exits(7)
        .warns("root runs no commands");
    assert_eq!(shared.listing(), before, "a refusal has written something");
    sandbox.coord(&["work", "--until-empty", "--as-owner"]).ok();
    let log = sandbox.text(".coord/tasks/a/1.out/log");
    assert!(log.starts_with("2001\n0022\nhome="), "{log}");
    assert!(!log.contains("home=/root"), "{log}");
    let made = std::fs::metadata(sandbox.root.join("made")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o777), (OWNER, 0o644));
    // A fleet, and a run.
    shared.by(owner, &["add", "--id", "b", "--", "true"]).ok();
    sandbox.coord(&["start", "-n", "1", "--as-owner"]).ok();
    shared.by(owner, &["wait", "--timeout", "30s", "b"]).ok();
    sandbox.coord(&["stop", "--timeout", "20s"]).ok();
    sandbox.coord(&["run", "--as-owner", "-n", "1", "id", "-u", ";", ":::", "x"]);
    let others = sandbox.sh(&format!("find .coord ! -user {OWNER}")).stdout;
    assert_eq!(others, "", "root has left something of its own");
    shared.is_clean(owner);
    // A container may take from root what it needs to become another user.
    let bound = ["--bounding-set", "-setuid,-setgid", COORD];
    let by_bound = |args: &[&str]| sandbox.run("setpriv", &[&bound, args].concat());
    by_bound(&["add", "--", "true"]).fails(7, "root cannot become uid 2001");
    // Something new, which a look folds into the status.
    shared.by(owner, &["add", "--id", "new", "--hold", "--", "true"]).ok();
    by_bound(&["status"]).exits(0).says("DONE");
    let others = sandbox.sh(&format!("find .coord ! -user {OWNER}")).stdout;
    assert_eq!(others, "", "a look of root has left something");
    // Where there is no queue yet, it is that of whose directory it is made in.
    sandbox.sh(&format!(
        "mkdir ../other && chown {OWNER} ../other && cd ../other && coord init --no-git"
    ));
    let new = std::fs::metadata(sandbox.beside("other").join(".coord/tasks")).unwrap();
    assert_eq!(new.uid(), OWNER);
}

#[test]
fn who_has_no_right_there_is_refused_before_anything_is_written() {
    let name = "who_has_no_right_there_is_refused_before_anything_is_written";
    let Some(shared) = Shared::new(name, "2775") else { return };
    shared.by(User(OWNER, "022"), &["add", "--id", "a", "--hold", "--", "true"]).ok();
    let writes: [&[&str]; 6] = [
        &["add", "--", "true"],
        &["cancel", "a"],
        &["work", "--once"],
        &["start", "-n", "1"],
        &["stop"],
        &["gc"],
    ];
    let refused = |user: User, text: &str| {
        let before = shared.listing();
        for words in writes {
            shared.by(user, words).fails(7, text).warns("hint: ");
        }
        assert_eq!(shared.listing(), before, "a refusal has written something");
    };
    let stranger = User(STRANGER, "022");
    refused(
        stranger,
        "uid 2003 may not write in this queue, which is that of uid 2001, group gid 2100",
    );
    // To look is not to write.
    let before = shared.listing();
    shared.by(stranger, &["status"]).ok().says("held");
    shared.by(stranger, &["ls"]).ok().says("a ");
    shared.by(stranger, &["show", "a"]).ok();
    assert_eq!(shared.listing(), before, "a look has written something");
    shared.by(stranger, &["doctor"]).exits(1).says("may not write in this queue");
    let member = User(MEMBER, "022");
    shared.sandbox.sh("chmod g-s .coord");
    refused(member, "would not have its group");
    shared.sandbox.sh("chmod g+s,+t .coord");
    refused(member, "could not finish what others begin");
    shared.sandbox.sh("chmod -t .coord");
    shared.by(member, &["work", "--as-owner", "--once"]).fails(2, "--as-owner is for root");
    shared.by(member, &["cancel", "a"]).ok();
}

#[test]
fn what_is_wrong_is_named_and_mended() {
    let Some(shared) = Shared::new("what_is_wrong_is_named_and_mended", "755") else { return };
    let owner = User(OWNER, "022");
    shared.by(owner, &["add", "--id", "a", "--", "true"]).ok();
    shared.is_clean(owner);
    // As a `coord add` of root has left it, before root became the owner.
    shared.sandbox.sh("chown -R 0:0 .coord/ready/default .coord/tasks/a .coord/events");
    let checked = shared.by(owner, &["fsck"]);
    checked.exits(1).says("tasks/a").says("ready/default").says("that of uid 2001");
    checked.says("sudo coord fsck --repair");
    shared.by(owner, &["doctor"]).exits(1).says("FAIL").says("owner").says("such)");
    // It cannot give itself what root has.
    shared.by(owner, &["fsck", "--repair"]).exits(1);
    shared.sandbox.coord(&["fsck", "--repair"]).ok();
    shared.is_clean(owner);
    shared.by(owner, &["work", "--until-empty"]).ok();
    shared.is_done("a");
    // A queue of one becomes one of a group: the owner needs no root for that.
    shared.sandbox.sh(&format!("chgrp {GROUP} .coord && chmod 2775 .coord"));
    shared.by(owner, &["fsck"]).exits(1).says("the mode lacks 0020").says("group of the queue is");
    shared.by(owner, &["fsck", "--repair"]).ok();
    shared.is_clean(owner);
    shared.by(User(MEMBER, "077"), &["add", "--id", "b", "--", "true"]).ok();
    shared.by(owner, &["work", "--until-empty"]).ok();
    shared.is_done("b");
    shared.is_clean(User(MEMBER, "077"));
    // And that of one again: what the others have made there is given to the owner by root.
    shared.sandbox.sh("chmod 755 .coord");
    shared.by(owner, &["fsck"]).exits(1).says("that of uid 2002").says("the mode has 0020");
    shared.sandbox.coord(&["fsck", "--repair"]).ok();
    shared.is_clean(owner);
    // Nor can they write there any more.
    for path in [".coord/tasks/new", ".coord/incoming/new", ".coord/tasks/a/new"] {
        let member = User(MEMBER, "002");
        assert_ne!(shared.given(member, "", "mkdir", &[path]).code, 0, "{path}");
    }
    let others = shared.sandbox.sh(&format!("find .coord ! -user {OWNER}")).stdout;
    assert_eq!(others, "", "something is still another's");
}

#[test]
fn what_jobs_make_has_the_umask_of_their_user() {
    let Some(shared) = Shared::new("what_jobs_make_has_the_umask_of_their_user", "2775") else {
        return;
    };
    let line = "umask; mkdir $COORD_OUT/dir; touch $COORD_OUT/file $COORD_TASK_ID.made";
    for (n, umask) in ["002", "027", "077"].into_iter().enumerate() {
        let user = User(MEMBER, umask);
        let id = format!("t{n}");
        shared.by(user, &["add", "--id", &id, "--sh", line]).ok();
        shared.by(user, &["work", "--until-empty"]).ok();
        let out = format!("tasks/{id}/1.out");
        assert_eq!(shared.owner_of(&out), (MEMBER, 0o2775));
        assert_eq!(shared.sandbox.text(format!(".coord/{out}/log")), format!("0{umask}\n"));
        let bits = u32::from_str_radix(umask, 8).unwrap();
        assert_eq!(shared.owner_of(&format!("{out}/file")).1, 0o666 & !bits);
        assert_eq!(shared.owner_of(&format!("{out}/dir")).1, 0o2000 | (0o777 & !bits));
    }
    // The jobs of a list, which print into files without a name.
    let list = ["run", "-n", "1", "--sh", "umask; touch made-{}", ":::", "x"];
    let run = shared.by(User(MEMBER, "027"), &list);
    run.ok().says("0027");
    let made = std::fs::metadata(shared.sandbox.root.join("made-x")).unwrap();
    assert_eq!(made.mode() & 0o777, 0o640);
}
