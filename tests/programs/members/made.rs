//! What jobs, git and other programs make for one user of several: nobody else can change it, and nobody is
//! stopped by it.

use std::os::unix::fs::MetadataExt;

use super::{GROUP, MEMBER, OWNER, Shared, User};
use crate::support::until;

/// What a job has made its user alone can delete; it keeps nobody from deleting the rest.
#[test]
fn what_another_has_made_is_deleted_by_its_owner() {
    let name = "what_another_has_made_is_deleted_by_its_owner";
    let Some(shared) = Shared::new(name, "2775") else { return };
    let (owner, member) = (User(OWNER, "077"), User(MEMBER, "077"));
    let line = "mkdir -p $COORD_OUT/deep/er; touch $COORD_OUT/deep/er/f; chmod 500 $COORD_OUT/deep";
    for id in ["a", "b"] {
        shared.by(owner, &["add", "--id", id, "--sh", line]).ok();
    }
    shared.by(owner, &["work", "--until-empty"]).ok();
    shared.by(member, &["add", "--id", "c", "--", "true"]).ok();
    shared.by(member, &["work", "--until-empty"]).ok();
    let delete = ["gc", "--delete", "--older-than", "0s"];
    shared.by(member, &["gc", "--older-than", "0s"]).ok();
    shared.by(member, &delete).ok().says("3 tasks deleted");
    assert_eq!(shared.sandbox.names("archive/trash").len(), 2);
    shared.by(member, &["gc"]).ok();
    shared.by(owner, &["gc"]).ok();
    assert_eq!(shared.sandbox.names("archive/trash"), Vec::<String>::new());
    shared.is_clean(owner);
    // A request that was made by hand is there, whoever may touch it.
    shared.given(owner, "", "touch", &[".coord/control/pause"]).ok();
    shared.by(member, &["pause"]).ok();
    shared.by(member, &["resume"]).ok();
    assert!(!shared.sandbox.queue("control/pause").exists());
}

/// What a job has written stays as its umask has it. Where the brief of another has no part of it, it says so.
#[test]
fn a_handoff_that_only_its_user_may_read_is_named() {
    let name = "a_handoff_that_only_its_user_may_read_is_named";
    let Some(shared) = Shared::new(name, "2775") else { return };
    let (owner, member) = (User(OWNER, "077"), User(MEMBER, "022"));
    let by_hand = "echo words >$COORD_OUT/handoff.md";
    let by_coord = "echo words | coord done --handoff -";
    for (id, line) in [("hand", by_hand), ("coord", by_coord)] {
        shared.by(owner, &["add", "--id", id, "--sh", line]).ok();
    }
    shared.by(owner, &["work", "--until-empty"]).ok();
    shared
        .by(member, &["add", "--id", "next", "--after", "hand,coord", "--hold", "--", "true"])
        .ok();
    let brief = shared.by(member, &["context", "next"]);
    brief.ok().says("only its owner may read").says("hand/1.out/handoff.md").says("words");
}

/// What git makes in a slot only its user can change, so nobody is given the slot of another.
#[test]
fn members_have_worktrees_of_their_own() {
    let Some(shared) = Shared::new("members_have_worktrees_of_their_own", "2775") else { return };
    let (owner, member) = (User(OWNER, "022"), User(MEMBER, "022"));
    let place = shared.sandbox.root.parent().unwrap();
    shared.sandbox.sh(&format!("chgrp {GROUP} '{0}' && chmod 2775 '{0}'", place.display()));
    let line = "git init -q -b main --shared=group . && git config --global safe.directory '*' && \
                umask 002 && echo one >file && git add file && git commit -qm one";
    shared.given(owner, "", "sh", &["-c", line]).ok();
    shared.sandbox.configure("");
    for (id, user) in [("a", owner), ("b", member), ("c", owner), ("d", member)] {
        let change =
            "echo $COORD_PORT_BASE; echo $COORD_TASK_ID >>file && git commit -qam $COORD_TASK_ID";
        shared.by(user, &["add", "--id", id, "--sh", change]).ok();
        shared.by(user, &["work", "--until-empty"]).ok();
        shared.is_done(id);
        // The slot w1 of each, and not the same ports.
        let port = if user.0 == OWNER { "20000" } else { "27000" };
        let log = shared.sandbox.text(format!(".coord/tasks/{id}/1.out/log"));
        assert!(log.lines().any(|line| line == port), "{id}: {log}");
    }
    let pool = |name: &str| std::fs::metadata(place.join(name)).unwrap().uid();
    assert_eq!((pool("project.coord/w1"), pool("project.coord.2002/w1")), (OWNER, MEMBER));
    shared.by(member, &["worktree", "ls"]).ok().says("w1");
    shared.by(member, &["worktree", "gc"]).ok();
    assert!(place.join("project.coord/w1").exists(), "another's slot was removed");
    shared.is_clean(member);
}

/// The reference worker for other languages sees to the modes itself.
#[test]
fn a_shell_worker_makes_what_all_can_use() {
    let Some(shared) = Shared::new("a_shell_worker_makes_what_all_can_use", "2775") else { return };
    let (owner, member) = (User(OWNER, "022"), User(MEMBER, "077"));
    shared.by(owner, &["add", "--id", "a", "--sh", "umask; touch $COORD_OUT/made"]).ok();
    // It goes on when it was told to stop, as long as that has not come to it.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/shell-worker.sh");
    let line = format!(
        "sh {script} .coord & trap 'touch .coord/control/stop; wait' EXIT; \
                        until [ -e .coord/tasks/a/1.end ]; do sleep 0.05; done"
    );
    shared.given(member, "", "timeout", &["30", "sh", "-c", &line]);
    shared.by(owner, &["resume"]).ok();
    shared.by(owner, &["work", "--until-empty"]).ok();
    shared.is_done("a");
    assert_eq!(shared.sandbox.text(".coord/tasks/a/1.out/log"), "0077\n");
    assert_eq!(shared.owner_of("tasks/a/1.out"), (MEMBER, 0o2775));
    assert_eq!(shared.owner_of("tasks/a/1.out/made"), (MEMBER, 0o600));
    until("nobody is registered", || shared.sandbox.names("procs") == ["bell"]);
    shared.is_clean(owner);
}
