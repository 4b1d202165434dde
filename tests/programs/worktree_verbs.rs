//! `coord worktree`, `diff`, `checkout` and `shell`, and many at once on one repository.

use std::process::Child;

use crate::support::{Sandbox, kill, until};

/// A task whose first attempt fails and whose second changes two files.
fn two_attempts() -> Sandbox {
    let s = Sandbox::with_git();
    let line = "if [ $COORD_ATTEMPT = 1 ]; then echo wrong > file; echo w > wip; exit 1; fi
        echo two >> file; echo n > new; git add new; git commit -qam right";
    s.add(&["--id", "T"], line);
    s.work().ok();
    s
}

#[test]
fn diff_shows_what_an_attempt_changed() {
    let s = two_attempts();
    s.coord(&["diff", "T"]).ok().says("+two").says("new file mode").silent_about("wrong");
    s.coord(&["diff", "T", "--stat"]).ok().says("2 files changed, 2 insertions(+)");
    let first = s.coord(&["diff", "T@1"]);
    first.ok().warns("uncommitted work, saved in refs/coord/wip/T.a1");
    assert_eq!(first.stdout, "", "nothing was committed");
    let told = s.coord(&["diff", "T", "--json"]).ok().json("coord.diff/1");
    assert_eq!((&told["attempt"], &told["branch"]), (&2.into(), &"coord/T/a2".into()));
    assert_eq!(told["files"][0]["path"], "file");
    assert_eq!((&told["files"][0]["added"], &told["files"][0]["removed"]), (&1.into(), &0.into()));
    // What came to main since is not the attempt's.
    s.sh("echo later > later && git add later && git commit -qm later");
    s.coord(&["diff", "T"]).ok().silent_about("later");
    s.coord(&["diff", "T@7"]).fails(4, "T has no attempt 7");
    s.coord(&["diff", "T@x"]).fails(2, "`x` is no attempt");
    s.coord(&["diff", "nobody"]).fails(4, "nobody");
    s.add(&["--id", "U"], "true");
    s.coord(&["diff", "U"]).fails(4, "nothing of U has run yet");
}

#[test]
fn diff_of_a_running_attempt_has_what_is_not_committed() {
    let s = Sandbox::with_git();
    let line = "echo committed > c && git add c && git commit -qm c; echo open >> file; echo new > untracked
        touch $COORD_ROOT/up; exec sleep 1000";
    s.add(&["--id", "T"], line);
    let worker = s.background(&["work", "--max-tasks", "1"]);
    until("it runs", || s.root.join("up").exists());
    s.coord(&["diff", "T"]).ok().says("+committed").says("+open").says("+new");
    let status = "git -C $(coord worktree path T) status --porcelain";
    assert_eq!(s.sh(status).stdout, " M file\n?? untracked\n", "its index is not touched");
    s.coord(&["cancel", "T"]).ok();
    s.collect(worker);
}

#[test]
fn checkout_switches_here_and_refuses_when_something_would_be_mixed() {
    let s = two_attempts();
    s.sh("echo mine >> file");
    s.coord(&["checkout", "T"]).fails(5, "file is not committed here").warns("commit or stash");
    assert_eq!(s.sh("git branch --show-current").line(), "main");
    s.sh("git checkout -q file");
    s.coord(&["checkout", "T"]).ok().warns("is on coord/T/a2 now");
    assert_eq!(s.text("file"), "one\ntwo\n");
    s.coord(&["checkout", "T@1"])
        .ok()
        .warns("not on it: uncommitted work, saved in refs/coord/wip/T.a1");
    s.sh("git checkout -q main");
    s.add(&["--id", "U"], "touch $COORD_ROOT/up; exec sleep 1000");
    let worker = s.background(&["work", "--max-tasks", "1"]);
    until("it runs", || s.root.join("up").exists());
    s.coord(&["checkout", "U"]).fails(7, "cannot check out the branch").warns("coord shell U");
    s.coord(&["cancel", "U"]).ok();
    s.collect(worker);
}

/// A shell that runs one line and says where it was.
fn with_shell(s: &mut Sandbox, line: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = s.beside("shell");
    std::fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let path = path.display().to_string();
    s.set("SHELL", &path);
}

#[test]
fn a_shell_in_an_attempt() {
    let mut s = two_attempts();
    let told = "echo $COORD_TASK_ID $COORD_ATTEMPT $COORD_BRANCH $COORD_TOKEN; pwd; git log -1 --format=%s; git branch --show-current";
    with_shell(&mut s, told);
    let pool = s.beside("project.coord");
    let own = pool.join("shell-T.a2");
    let shell = s.coord(&["shell", "T"]);
    let expected = format!("T 2 coord/T/a2\n{}\nright\ncoord/T/a2\n", own.display());
    assert_eq!(shell.ok().stdout, expected);
    assert!(!own.exists(), "clean, so it is gone");
    // What is left there stays.
    with_shell(&mut s, "echo mine > mine");
    s.coord(&["shell", "T"]).ok().warns("the worktree stays").warns("mine is not committed");
    assert_eq!(s.text(own.join("mine")), "mine\n");
    s.coord(&["worktree", "ls"]).ok().says("shell-T.a2").says("mine is not committed");
    s.coord(&["worktree", "gc"]).ok().says("shell-T.a2 stays: mine is not committed");
    // The next one is in the same; committed on the branch, it may go.
    with_shell(&mut s, "git add mine && git commit -qm mine");
    s.coord(&["shell", "T"]).ok().warns("is removed");
    assert!(!own.exists());
    assert_eq!(s.sh("git log -1 --format='%s %an' coord/T/a2").line(), "mine Tester");
    s.add(&["--id", "U"], "touch $COORD_ROOT/up; exec sleep 1000");
    let worker = s.background(&["work", "--max-tasks", "1"]);
    until("it runs", || s.root.join("up").exists());
    with_shell(&mut s, told);
    let shell = s.coord(&["shell", "U"]);
    assert_eq!(shell.ok().stdout.lines().nth(1).unwrap(), pool.join("w1").display().to_string());
    s.coord(&["cancel", "U"]).ok();
    s.collect(worker);
}

#[test]
fn gc_says_what_it_would_do_and_touches_nothing_of_others() {
    let s = two_attempts();
    s.sh("git worktree add -q --detach ../by-hand && git worktree add -q --lock --detach ../gone && rm -r ../gone");
    let before = s.sh("git worktree list --porcelain").stdout;
    let dry = s.coord(&["worktree", "gc", "--dry-run", "--json"]).ok().json("coord.worktree-gc/1");
    assert_eq!(dry["worktrees"][0]["removed"], true);
    assert!(dry["worktrees"][0]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(s.sh("git worktree list --porcelain").stdout, before);
    s.coord(&["worktree", "gc"]).ok().says("w1 removed");
    let after = s.sh("git worktree list --porcelain").stdout;
    assert!(
        after.contains("by-hand") && after.contains("gone") && !after.contains("project.coord"),
        "{after}"
    );
    s.sh("git rev-parse -q --verify coord/T/a2");
    s.coord(&["worktree", "gc"]).ok().warns("no worktrees");
}

#[test]
fn without_a_repository_there_are_no_worktrees() {
    let s = Sandbox::new();
    s.add(&["--id", "T"], "true");
    for args in [&["worktree", "ls"][..], &["worktree", "gc"], &["diff", "T"], &["shell", "T"]] {
        s.coord(args).fails(4, "attempts have no worktrees here");
    }
    assert_eq!(s.coord(&["worktree", "path", "T"]).ok().line(), s.root.display().to_string());
}

#[test]
fn sixty_four_workers_start_at_once_on_one_repository() {
    let s = Sandbox::with_git();
    let tasks = s.beside("tasks.jsonl");
    // Each has its slot as long as not all have one.
    let line = "touch $COORD_ROOT/.coord/up.$COORD_TASK_ID; until [ -e $COORD_ROOT/go ]; do sleep 0.1; done";
    let lines =
        (0..64).map(|i| format!("{{\"id\":\"t{i}\",\"sh\":\"{line}\",\"max_attempts\":1}}\n"));
    std::fs::write(&tasks, lines.collect::<String>()).unwrap();
    s.coord(&["import", "-q", tasks.to_str().unwrap()]).ok();
    let workers: Vec<Child> = (0..64).map(|_| s.background(&["work", "--once"])).collect();
    let up = || s.names("").iter().filter(|name| name.starts_with("up.")).count();
    assert!(crate::support::patiently_for(crate::support::PATIENCE * 3, || up() == 64), "{}", up());
    let trees = s.sh("git worktree list --porcelain").stdout;
    assert_eq!(trees.matches("locked coord solo-").count(), 64, "{trees}");
    s.sh("touch go");
    for worker in workers {
        let told = s.collect(worker);
        told.ok();
        assert!(
            !told.stderr.contains("warning") && !told.stderr.contains("error"),
            "{}",
            told.stderr
        );
    }
    s.sh("git fsck --strict --no-dangling");
}

/// Sixteen processes make and remove worktrees of one repository at once: 160 times by default, a
/// thousand times with COORD_STRESS=full. Each `coord work --once` makes a slot for a task and each
/// `coord worktree gc`, in between, removes those that are free.
#[test]
fn worktrees_are_made_and_removed_by_many_processes_at_once() {
    const PROCESSES: usize = 16;
    let full = std::env::var("COORD_STRESS").is_ok_and(|size| size == "full");
    let total = if full { 1000 } else { 160 };
    let s = Sandbox::with_git();
    s.sh("for i in 1 2 3 4 5 6 7 8; do mkdir -p d$i && echo $i > d$i/f; done; git add . && git commit -qm more");
    let tasks = s.beside("tasks.jsonl");
    let lines = (0..total).map(|i| {
        format!("{{\"id\":\"t{i}\",\"sh\":\"echo {i} > new && git add new && git commit -qm {i}\",\"max_attempts\":1}}\n")
    });
    std::fs::write(&tasks, lines.collect::<String>()).unwrap();
    s.coord(&["import", "-q", tasks.to_str().unwrap()]).ok();
    // Whoever finds nothing to claim (exit 6) is done; every other code but 0 is an error.
    let own = s.beside("own");
    std::fs::create_dir(&own).unwrap();
    let line = "while :; do coord work --once 2>> $OWN/errors.$1; code=$?; [ $code = 6 ] && exit 0
        [ $code = 0 ] || exit $code; coord worktree gc >> $OWN/gc.$1 2>&1 || exit 99; done";
    let start = |i: usize| -> Child {
        let mut command = s.command("sh");
        command.env("OWN", &own);
        command.args(["-c", line, "sh", &i.to_string()]).spawn().unwrap()
    };
    let mut children: Vec<Child> = (0..PROCESSES).map(start).collect();
    let mut codes = vec![None; PROCESSES];
    let patience = std::time::Duration::from_secs(if full { 1200 } else { 240 });
    let ended = crate::support::patiently_for(patience, || {
        for (child, code) in children.iter_mut().zip(&mut codes) {
            if code.is_none() {
                *code = child.try_wait().unwrap();
            }
        }
        codes.iter().all(Option::is_some)
    });
    if !ended {
        children.iter().for_each(|child| kill(i32::try_from(child.id()).unwrap()));
    }
    let text = |name: &str| s.sh(&format!("cat ../own/{name}.* || true")).stdout;
    let (told, cleared) = (text("errors"), text("gc"));
    assert!(
        ended && codes.iter().all(|code| code.unwrap().success()),
        "{codes:?}\n{told}\n{cleared}"
    );
    for word in ["error", "warning", "cannot"] {
        assert!(!told.contains(word) && !cleared.contains(word), "{told}\n{cleared}");
    }
    let state = s.coord(&["status", "--json"]).ok().json("coord.status/1");
    assert_eq!(state["counts"]["done"], total, "{state}");
    assert_eq!(s.sh("git for-each-ref refs/heads/coord | wc -l").line(), total.to_string());
    assert!(s.sh("git for-each-ref refs/coord").stdout.is_empty(), "nothing had to be saved");
    assert!(cleared.matches(" removed (").count() > PROCESSES, "{cleared}");
    s.coord(&["worktree", "gc"]).ok();
    let left = s.sh("git worktree list --porcelain").stdout;
    assert_eq!(left.matches("worktree ").count(), 1, "{left}");
    assert!(!s.root.join(".git/worktrees").exists() || s.sh("ls .git/worktrees").stdout.is_empty());
    let fsck = s.sh("git fsck --strict --no-dangling 2>&1");
    assert_eq!(fsck.stdout, "");
    let listed = s.coord(&["worktree", "ls", "--json"]).ok().json("coord.worktrees/1");
    assert_eq!(listed["worktrees"], serde_json::json!([]));
}
