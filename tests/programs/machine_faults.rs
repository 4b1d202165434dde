//! What the machine, or the place, refuses while an attempt is prepared: no task is charged for it, it is said
//! once, and work goes on when it is over.

use std::path::Path;

use serde_json::Value;

use crate::mount::Mount;
use crate::support::{Sandbox, kill, skip, until};

const SAID: &str = "no attempt can be started: ";

/// Works at a task that may be tried once, while what it needs is refused with `words`; then that is mended.
#[track_caller]
fn goes_on_when_it_is_over(s: &Sandbox, words: &str, mend: &dyn Fn()) {
    s.add(&["--id", "T", "--attempts", "1"], "true");
    let work = s.background(&["work", "--until-empty"]);
    until("it is said", || {
        let status = s.coord(&["status"]).stdout;
        status.contains(SAID) && status.contains(words)
    });
    until("the attempt is handed back", || s.queue("tasks/T/1.end").exists());
    let end = s.end("T", 1);
    assert_eq!(end["verdict"], "release", "{end}");
    assert_eq!(end.get("charged").and_then(Value::as_u64).unwrap_or(0), 0, "{end}");
    mend();
    let worked = s.collect(work);
    worked.ok();
    assert_eq!(worked.stderr.matches(SAID).count(), 1, "it is said once\n{}", worked.stderr);
    assert_eq!(s.state("T"), "done");
    s.coord(&["status"]).ok().silent_about(SAID);
    s.coord(&["worktree", "ls"]).ok().silent_about("retired");
}

fn chmod(mode: u32, path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_place_for_worktrees_that_may_not_be_written_is_no_fault_of_the_task() {
    let mut s = Sandbox::with_git();
    if !s.as_plain_user() {
        return skip("no place for worktrees", "a plain user cannot reach the programs");
    }
    let above = s.beside("");
    chmod(0o555, &above);
    let words = "cannot make the directory of the worktrees: Permission denied";
    goes_on_when_it_is_over(&s, words, &|| chmod(0o755, &above));
}

#[test]
fn a_pool_that_is_read_only_or_full_is_no_fault_of_the_task() {
    for (options, words, mended) in [
        ("ro", "Read-only file system", "remount,rw"),
        ("size=256k", "No space left on device", "remount,size=16m"),
    ] {
        let s = Sandbox::with_git();
        s.sh("head -c 1000000 /dev/urandom > big && git add big && git commit -qm big");
        let pool = s.beside("pool");
        s.configure(&format!("[worktree]\nroot = \"{}\"", pool.display()));
        let args = ["-t", "tmpfs", "-o", options, "none"];
        let Some(_mount) = Mount::new(&s, "a pool without room", &args, &pool) else { return };
        let mend = || {
            s.sh(&format!("mount -o {mended} '{}'", pool.display()));
        };
        goes_on_when_it_is_over(&s, words, &mend);
    }
}

#[test]
fn what_a_dead_attempt_left_waits_until_it_can_be_saved() {
    let mut s = Sandbox::with_git();
    if !s.as_plain_user() {
        return skip("nothing can be saved", "a plain user cannot reach the programs");
    }
    s.add(
        &["--id", "D", "--attempts", "2"],
        "echo work > left; touch \"$COORD_ROOT/up\"; sleep 1000",
    );
    let first = s.background(&["work"]);
    until("it has left something", || s.root.join("up").exists());
    kill(i32::try_from(first.id()).unwrap());
    drop(s.collect(first));
    s.sh("git -C . gc -q && find .git/objects -type d -exec chmod a-w {} +");
    let second = s.background(&["work", "--until-empty"]);
    until("it is said", || s.coord(&["status"]).stdout.contains(SAID));
    s.coord(&["worktree", "ls"]).ok().silent_about("retired");
    s.sh("find .git/objects -type d -exec chmod u+w {} +");
    until("what was left is saved", || {
        s.run("git", &["show", "refs/coord/wip/D.a1:left"]).stdout.trim() == "work"
    });
    s.coord(&["cancel", "D"]).ok();
    s.collect(second);
}

#[test]
fn what_is_wrong_with_the_task_or_its_setup_is_charged_as_before() {
    let s = Sandbox::with_git();
    s.configure("[worktree]\nsetup = \"[ ! -e \\\"$COORD_ROOT/broken\\\" ]\"");
    s.coord(&["add", "--id", "N", "--attempts", "2", "--", "no-such-program"]).ok();
    s.sh("echo '#!/bin/sh' > tool && git add tool && git commit -qm tool");
    s.coord(&["add", "--id", "X", "--attempts", "2", "--", "./tool"]).ok();
    s.work().exits(1);
    s.sh("touch broken");
    s.add(&["--id", "S", "--attempts", "2"], "true");
    s.work().exits(1);
    for id in ["N", "X", "S"] {
        assert_eq!(s.state(id), "failed");
        assert_eq!(s.end(id, 2)["charged"], 2);
    }
}

#[test]
fn what_a_program_that_was_killed_had_noted_goes_when_it_is_over() {
    let mut s = Sandbox::with_git();
    if !s.as_plain_user() {
        return skip("notes of the dead", "a plain user cannot reach the programs");
    }
    // Root's, where root runs the tests: it cannot be moved out of the user's directory.
    let planted = s.queue("incoming/planted.json");
    std::fs::create_dir(&planted).unwrap();
    let above = s.beside("");
    chmod(0o555, &above);
    s.add(&["--id", "T"], "true");
    let work = s.background(&["work"]);
    let is_root = nix::unistd::geteuid().is_root();
    until("both are said", || {
        let said = s.coord(&["status"]).stdout;
        said.contains(SAID) && (!is_root || said.contains("incoming/planted.json"))
    });
    kill(i32::try_from(work.id()).unwrap());
    drop(s.collect(work));
    s.coord(&["status"]).ok().says(SAID);
    chmod(0o755, &above);
    drop(std::fs::remove_dir(&planted));
    s.work().ok();
    assert_eq!(s.state("T"), "done");
    s.coord(&["status"]).ok().silent_about(SAID).silent_about("planted.json");
}
