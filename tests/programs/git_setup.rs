//! Git as people set it up: hooks, filters, remotes and merge drivers run where and as git runs them by
//! hand, or not at all; what hangs is ended; no setting changes what `coord` reads.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Sandbox, alive, patiently, until};

/// Writes a hook, a line of shell.
fn hook(s: &Sandbox, path: &str, line: &str) {
    let path = s.root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn log(s: &Sandbox, id: &str, n: u32) -> String {
    s.text(format!(".coord/tasks/{id}/{n}.out/log"))
}

fn why(s: &Sandbox, id: &str, n: u32) -> String {
    s.end(id, n)["why"].as_str().unwrap_or_default().to_owned()
}

const COMMIT: &str = "echo 1 > one; git add -A; git commit -qm one";

#[test]
fn a_hook_that_refuses_a_push_by_hand_refuses_that_of_coord() {
    let s = Sandbox::with_git();
    s.configure("[merge]\nenabled = true\npush = \"origin\"\n");
    // Both seen from the worktree: the remote, and the directory of the hooks.
    s.sh(
        "git init -q --bare ../o.git && git remote add origin ../o.git && git push -q origin main",
    );
    hook(&s, ".husky/pre-push", "pwd > ../pushed-in; echo tests are red >&2; exit 1");
    s.sh("git config core.hooksPath .husky");
    s.add(&["--id", "T"], COMMIT);
    s.work();
    assert_eq!(s.state("T"), "done");
    let theirs = || s.sh("git -C ../o.git log --format=%s main").stdout;
    assert_eq!(theirs(), "one\n", "it went out");
    assert_eq!(s.text("../pushed-in").trim(), s.root.to_str().unwrap());
    s.coord(&["status"]).ok().says("tests are red");
    hook(&s, ".husky/pre-push", "exit 0");
    s.coord(&["merge"]).ok();
    assert_eq!(theirs().lines().count(), 3, "{}", theirs());
}

#[test]
fn a_merge_driver_finds_the_files_of_the_project() {
    let s = Sandbox::with_git();
    s.configure("[merge]\nenabled = true\n");
    fs::create_dir(s.root.join("scripts")).unwrap();
    fs::write(s.root.join("scripts/both.sh"), "cat \"$2\" \"$3\" > both.$$ && mv both.$$ \"$2\"\n")
        .unwrap();
    s.sh("echo 'list merge=both' > .gitattributes; echo 0 > list; git add -A; git commit -qm list");
    s.sh("git config merge.both.driver 'sh scripts/both.sh %O %A %B'");
    for id in ["A", "B"] {
        s.add(&["--id", id], &format!("echo {id} > list; git commit -qam {id}"));
    }
    // Both from the same base: the second meets the first.
    s.coord(&["mergeq", "pause"]).ok();
    for _ in 0..2 {
        s.coord(&["work", "--once"]).ok();
    }
    s.coord(&["mergeq", "resume"]).ok();
    s.work().ok();
    assert_eq!((s.state("A"), s.state("B")), ("done".to_owned(), "done".to_owned()));
    assert_eq!(s.sh("git show main:list").stdout, "A\nB\n");
    assert_eq!(s.sh("git status --porcelain").stdout, "", "nothing is left there");
}

#[test]
fn post_checkout_runs_once_for_an_attempt_and_its_exit_code_keeps_nobody() {
    let s = Sandbox::with_git();
    s.sh("echo deps > .gitignore; git add -A; git commit -qm ignore");
    let line = "mkdir deps; echo \"$(pwd) $1 $2 $3\" >> \"$(git rev-parse --git-common-dir)/ran\"
        echo no such tool >&2; exit 1";
    hook(&s, ".git/hooks/post-checkout", line);
    // What the hook made is there, and no cleaning took it away.
    s.add(&["--id", "A", "--retries", "0"], "test -d deps && echo x > file && git commit -qam x");
    s.work().ok();
    let first = s.sh("git rev-parse main").line().to_owned();
    s.sh("git commit -q --allow-empty -m next");
    let second = s.sh("git rev-parse main").line().to_owned();
    s.add(&["--id", "B", "--retries", "0"], "test -d deps");
    s.work().ok();
    let slot = s.beside("project.coord/w1").display().to_string();
    let ran = s.lines(".git/ran");
    let nothing = "0".repeat(40);
    let want = [format!("{slot} {nothing} {first} 1"), format!("{slot} {first} {second} 1")];
    assert_eq!(ran, want);
    let log = log(&s, "A", 1);
    assert!(log.contains("no such tool\ncoord: the hook post-checkout ended with 1"), "{log}");
    // One that takes the worktree elsewhere does keep the attempt from running there.
    hook(&s, ".git/hooks/post-checkout", "git checkout -q --detach HEAD~1");
    s.add(&["--id", "C", "--retries", "0"], "touch $COORD_ROOT/ran");
    s.work().exits(1);
    assert!(
        why(&s, "C", 1).contains("has taken the worktree from its branch"),
        "{}",
        why(&s, "C", 1)
    );
    assert!(!s.root.join("ran").exists());
}

#[test]
fn hooks_get_the_environment_that_git_gives_them() {
    let s = Sandbox::with_git();
    s.configure("[git]\ncommit = \"worker\"\n");
    let line = "env | grep ^GIT_ | grep -v -e CONFIG -e '^GIT_[ACE]' | sort > $OUT";
    let (checkout, commit) = (s.beside("checkout"), s.beside("commit"));
    hook(&s, ".git/hooks/post-checkout", &line.replace("$OUT", checkout.to_str().unwrap()));
    hook(&s, ".git/hooks/pre-commit", &line.replace("$OUT", commit.to_str().unwrap()));
    s.add(&["--id", "T"], "echo x > file");
    s.work().ok();
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let by_coord = (read(&checkout), read(&commit));
    s.sh("cd ../project.coord/w1 && git checkout -q -b by-hand && echo y > file && git add -A && git commit -qm y");
    let known = |text: &str, names: &[&str]| -> Vec<String> {
        let has = |line: &&str| names.iter().any(|name| line.starts_with(&format!("{name}=")));
        text.lines().filter(has).map(str::to_owned).collect()
    };
    let names = ["GIT_DIR", "GIT_WORK_TREE", "GIT_PREFIX", "GIT_COMMON_DIR"];
    assert_eq!(known(&by_coord.0, &names), known(&read(&checkout), &names));
    assert_eq!(known(&by_coord.1, &names), known(&read(&commit), &names));
    assert!(by_coord.1.contains("GIT_INDEX_FILE="), "{}", by_coord.1);
}

#[test]
fn a_daemon_of_a_hook_is_not_waited_for_and_ends_with_the_attempt() {
    let s = Sandbox::with_git();
    s.configure("[git]\ncommit = \"worker\"\n");
    for name in ["post-checkout", "post-commit"] {
        let line = format!("sleep 1000 & echo $! > {}", s.beside(name).display());
        hook(&s, &format!(".git/hooks/{name}"), &line);
    }
    s.add(&["--id", "T", "--limit", "30s"], "echo x > file");
    s.work().ok();
    assert_eq!(s.state("T"), "done");
    for name in ["post-checkout", "post-commit"] {
        let daemon = s.text(s.beside(name)).trim().parse().unwrap();
        assert!(patiently(|| !alive(daemon)), "the daemon of {name} still runs");
    }
    // The slot is not taken for somebody else's because of it.
    assert!(!s.beside("project.coord/w2").exists());
}

#[test]
fn a_hook_that_hangs_obeys_limit_cancel_and_term_and_is_told() {
    let s = Sandbox::with_git();
    hook(&s, ".git/hooks/post-checkout", "touch $COORD_ROOT/up; sleep 1000");
    let mut s = s;
    let root = s.root.display().to_string();
    s.set("COORD_ROOT", &root);
    s.add(&["--id", "L", "--retries", "0", "--limit", "1s"], "touch ran");
    s.work().exits(1);
    let told = why(&s, "L", 1);
    assert!(
        told.starts_with("time limit: git hook run post-checkout in slot w1 was ended"),
        "{told}"
    );
    s.add(&["--id", "C", "--retries", "0"], "touch ran");
    let worker = s.background(&["work", "--until-empty"]);
    until("why names the hook", || {
        s.coord(&["why", "C"])
            .stdout
            .contains("it waits for git hook run post-checkout in slot w1, ")
    });
    s.coord(&["status"]).ok().says("waits for git hook run post-checkout in slot w1, ");
    s.coord(&["cancel", "C"]).ok();
    s.until_state("C", "cancelled");
    s.collect(worker);
    assert!(why(&s, "C", 1).contains("cancelled: git hook run"), "{}", why(&s, "C", 1));
    assert!(!s.queue("tasks/C/1.out/waits.json").exists());
    fs::remove_file(s.root.join("up")).unwrap();
    s.add(&["--id", "T", "--retries", "0"], "touch ran");
    let worker = s.background(&["work", "--until-empty"]);
    until("the hook runs", || s.root.join("up").exists());
    let pid = i32::try_from(worker.id()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    s.collect(worker);
    assert_eq!(s.state("T"), "ready", "{}", s.coord(&["why", "T"]).stdout);
    assert!(why(&s, "T", 1).starts_with("worker was stopped: git hook run"), "{}", why(&s, "T", 1));
    assert!(patiently(|| s.processes().is_empty()), "the hook still runs");
    assert!(!s.root.join("ran").exists());
}

#[test]
fn each_command_of_git_has_a_time_limit_of_its_own() {
    let s = Sandbox::with_git();
    s.configure("[git]\ntimeout = \"1s\"\n[merge]\nenabled = true\npush = \"origin\"\n");
    s.sh(
        "git init -q --bare ../o.git && git remote add origin ../o.git && git push -q origin main",
    );
    hook(&s, ".git/hooks/pre-push", "sleep 1000");
    s.add(&["--id", "T"], COMMIT);
    s.work();
    assert_eq!(s.state("T"), "done", "it is merged, and only the push was ended");
    let logs = s.coord(&["logs", "merge:main"]).stdout;
    assert!(logs.contains("git push in ") && logs.contains("was ended after 1 s"), "{logs}");
    assert!(patiently(|| s.processes().is_empty()), "the hook still runs");
    s.configure("[git]\ntimeout = \"10ms\"\n");
    s.coord(&["work", "--once"]).fails(2, "too short");
}

#[test]
fn a_worker_whose_commit_hangs_saves_what_it_was_to_commit() {
    let s = Sandbox::with_git();
    s.configure("[git]\ncommit = \"worker\"\n");
    hook(&s, ".git/hooks/pre-commit", "sleep 1000");
    s.add(&["--id", "T", "--retries", "0", "--limit", "1s"], "echo work > new");
    s.work().exits(1);
    let told = why(&s, "T", 1);
    assert!(told.starts_with("time limit: git commit in slot w1 was ended"), "{told}");
    assert_eq!(s.sh("git show refs/coord/wip/T.a1:new").stdout, "work\n");
    assert!(patiently(|| s.processes().is_empty()), "the hook still runs");
}

#[test]
fn a_filter_that_hangs_does_not_keep_work_from_being_saved() {
    let s = Sandbox::with_git();
    s.configure("[git]\ntimeout = \"1s\"\n");
    s.sh("echo '*.big filter=big' > .gitattributes; git add -A; git commit -qm attributes");
    s.sh("git config filter.big.clean 'sleep 1000'; git config filter.big.required true");
    s.add(&["--id", "T"], "echo work > x.big; echo more > y");
    s.work().ok();
    assert_eq!(
        s.sh("git show refs/coord/wip/T.a1:x.big refs/coord/wip/T.a1:y").stdout,
        "work\nmore\n"
    );
    assert!(patiently(|| s.processes().is_empty()), "the filter still runs");
}

#[test]
fn no_setting_of_a_person_changes_what_coord_does() {
    let s = Sandbox::with_git();
    s.configure("[git]\ncommit = \"worker\"\n[merge]\nenabled = true\npush = \"origin\"\n");
    s.sh("git init -q lib && cd lib && echo l > l && git add . && git commit -qm l");
    s.sh("git -c protocol.file.allow=always submodule --quiet add ./lib lib && git commit -qm sub");
    s.sh(
        "git init -q --bare ../o.git && git remote add origin ../o.git && git push -q origin main",
    );
    for (name, value) in [
        ("submodule.recurse", "true"),
        ("push.recurseSubmodules", "check"),
        ("fetch.recurseSubmodules", "on-demand"),
        ("remote.origin.mirror", "true"),
        ("core.ignoreStat", "true"),
        ("status.showStash", "true"),
        ("status.showUntrackedFiles", "no"),
        ("status.relativePaths", "true"),
        ("status.branch", "true"),
        ("diff.ignoreSubmodules", "all"),
        ("diff.noprefix", "true"),
        ("diff.relative", "true"),
        ("diff.external", "false"),
        ("diff.orderFile", "/dev/null"),
        ("color.ui", "always"),
        ("color.push", "always"),
        ("color.transport", "always"),
        ("color.remote", "always"),
        ("color.status", "always"),
        ("column.ui", "always"),
        ("core.quotePath", "true"),
        ("core.pager", "false"),
        ("core.editor", "false"),
        ("core.commentChar", "n"),
        ("commit.cleanup", "scissors"),
        ("commit.gpgSign", "true"),
        ("commit.verbose", "true"),
        ("commit.template", "/nowhere"),
        ("push.gpgSign", "true"),
        ("push.followTags", "true"),
        ("tag.gpgSign", "true"),
        ("gpg.program", "false"),
        ("log.showSignature", "true"),
        ("i18n.commitEncoding", "ISO-8859-1"),
        ("i18n.logOutputEncoding", "ISO-8859-1"),
        ("merge.ff", "only"),
        ("pull.rebase", "true"),
        ("rebase.autoStash", "true"),
        ("branch.autoSetupMerge", "always"),
        ("branch.autoSetupRebase", "always"),
        ("checkout.guess", "false"),
        ("clean.requireForce", "true"),
        ("fetch.prune", "true"),
        ("fetch.pruneTags", "true"),
        ("fetch.all", "true"),
        ("worktree.guessRemote", "true"),
        ("alias.status", "!false"),
        ("user.useConfigOnly", "true"),
        ("core.untrackedCache", "true"),
        ("core.splitIndex", "true"),
        ("core.fsmonitor", "/nowhere"),
        ("advice.detachedHead", "true"),
        ("protocol.version", "0"),
    ] {
        s.sh(&format!("git config {name} '{value}'"));
    }
    let line = "echo changed > file; echo 1 > 'ä b'";
    s.coord(&["add", "--id", "A", "Übung", "--", "sh", "-c", line]).ok();
    // The same size at the same time, as when a mark hides it: it must be saved or committed.
    s.add(
        &["--id", "B", "--after", "A"],
        "test \"$(cat file)\" = changed && echo again > file; echo n > new",
    );
    s.work().ok();
    assert_eq!((s.state("A"), s.state("B")), ("done".to_owned(), "done".to_owned()));
    let files = s.sh("git -C ../o.git ls-tree -r -z --name-only main").stdout;
    assert!(files.contains("ä b") && files.contains("new"), "{files}");
    assert_eq!(s.sh("git -C ../o.git show main:file").stdout, "again\n");
    let raw = s.sh("git cat-file commit coord/A/a1").stdout;
    assert!(raw.contains("A: Übung") && !raw.contains("\nencoding "), "{raw}");
    let here = s.sh("git -c color.ui=false -c status.showStash=false -c status.showUntrackedFiles=normal status --porcelain --ignore-submodules=none");
    assert_eq!(here.stdout, "?? coord.toml\n", "brought along");
}

#[test]
fn a_squash_of_one_commit_keeps_its_message_and_its_trailers() {
    let s = Sandbox::with_git();
    s.configure("[merge]\nenabled = true\nstrategy = \"squash\"\n");
    let message =
        "parser: read dates\n\nThey came as text.\n\nFixes: 7\nCo-authored-by: Bo <bo@example.org>";
    s.add(&["--id", "T"], &format!("echo 1 > one; git add -A; git commit -q -m '{message}'"));
    s.work().ok();
    let body = s.sh("git log -1 --format=%B main").stdout;
    assert!(body.starts_with(&format!("{message}\nCoord-Task: T\n")), "{body}");
    assert_eq!(s.sh("git log --format=%s main").stdout.lines().count(), 2);
}

#[test]
fn tmpdir_holds_a_socket_and_a_persons_own_one_wins() {
    let s = Sandbox::with_git();
    let deep = s.beside(&"d".repeat(70));
    fs::create_dir(&deep).unwrap();
    s.configure(&format!("[worktree]\nroot = \"{}/pool\"\n", deep.display()));
    let line = "echo $TMPDIR > $COORD_OUT/tmp; touch $TMPDIR/left; stat -c %a $(dirname $TMPDIR) >> $COORD_OUT/tmp";
    s.add(&["--id", "A"], line);
    s.work().ok();
    let told = s.text(".coord/tasks/A/1.out/tmp");
    let (dir, mode) = told.trim().split_once('\n').unwrap();
    assert!(dir.len() <= 52 && mode == "700", "{told}");
    assert!(!Path::new(dir).exists() && !Path::new(dir).parent().unwrap().exists(), "it is gone");
    s.configure("[env]\nTMPDIR = \"/var/tmp\"\n");
    s.add(&["--id", "B"], "echo $TMPDIR > $COORD_OUT/tmp");
    s.add(&["--id", "C", "--env", "TMPDIR=/dev/shm"], "echo $TMPDIR > $COORD_OUT/tmp");
    s.work().ok();
    assert_eq!(s.text(".coord/tasks/B/1.out/tmp"), "/var/tmp\n");
    assert_eq!(s.text(".coord/tasks/C/1.out/tmp"), "/dev/shm\n");
}

#[test]
fn a_project_that_was_renamed_finds_its_worktrees_again() {
    let mut s = Sandbox::with_git();
    s.add(&["--id", "A"], "echo a > file; git commit -qam a");
    s.work().ok();
    let pool = s.beside("project.coord");
    // Somebody's own work in the slot, which nothing else has.
    fs::write(pool.join("w1/mine"), "precious\n").unwrap();
    let renamed = s.beside("renamed");
    fs::rename(&s.root, &renamed).unwrap();
    s.root = renamed;
    s.add(&["--id", "B", "--retries", "0"], "pwd > $COORD_OUT/pwd; git status > $COORD_OUT/status");
    s.work().ok();
    let at = s.text(".coord/tasks/B/1.out/pwd");
    assert_eq!(at.trim(), pool.join("w1").display().to_string(), "the same slot");
    assert_eq!(s.sh("git show refs/coord/wip/slot-w1:mine").stdout, "precious\n");
    assert!(!s.beside("renamed.coord").exists());
    // Both moved, and another one made in their place.
    let elsewhere = s.beside("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(pool.join("w1/again"), "precious\n").unwrap();
    fs::rename(&s.root, elsewhere.join("project")).unwrap();
    fs::rename(&pool, elsewhere.join("project.coord")).unwrap();
    s.root = elsewhere.join("project");
    s.add(&["--id", "C", "--retries", "0"], "pwd > $COORD_OUT/pwd");
    s.work().ok();
    let at = s.text(".coord/tasks/C/1.out/pwd");
    assert_eq!(at.trim(), elsewhere.join("project.coord/w1").display().to_string());
    assert_eq!(s.sh("git show refs/coord/wip/slot-w1-2:again").stdout, "precious\n");
}

#[test]
fn a_copy_of_a_project_leaves_the_worktrees_of_the_original_alone() {
    let mut s = Sandbox::with_git();
    s.add(&["--id", "A"], "true");
    s.work().ok();
    s.sh("cp -a ../project ../copy");
    let original = s.root.clone();
    s.root = s.beside("copy");
    s.add(&["--id", "B", "--retries", "0"], "pwd > $COORD_OUT/pwd");
    s.work().ok();
    let at = s.text(".coord/tasks/B/1.out/pwd");
    assert_eq!(at.trim(), s.beside("copy.coord/w1").display().to_string());
    s.root = original;
    s.sh("git -C ../project.coord/w1 status --porcelain");
}
