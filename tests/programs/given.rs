//! Copies, links, repositories within and worktrees that are gone: what of an attempt gets to a branch, and
//! what does not.

use crate::support::Sandbox;

fn sandbox(more: &str) -> Sandbox {
    let s = Sandbox::with_git();
    s.sh("printf 'node_modules/\\n.env\\nbuild/\\n' > .gitignore && git add .gitignore && git commit -qm ignore");
    s.sh("mkdir -p node_modules build/out && echo dep > node_modules/dep && echo SECRET > .env && echo o > build/out/o");
    s.configure(more);
    s
}

fn run(s: &Sandbox, id: &str, line: &str) {
    s.add(&["--id", id, "--retries", "0"], line);
    s.work();
}

#[track_caller]
fn why(s: &Sandbox, id: &str) -> String {
    let end = s.end(id, 1);
    assert_eq!(end["verdict"], "fail", "{end:#}");
    end["why"].as_str().unwrap_or_default().to_owned()
}

const MERGE: &str = "[merge]\nenabled = true\n";

#[test]
fn what_was_linked_or_copied_is_not_committed_by_adding_everything() {
    let s = sandbox(&format!(
        "[worktree]\nlink = [\"node_modules\"]\ncopy = [\"local.toml\"]\n{MERGE}"
    ));
    s.sh("echo mine > local.toml; mkdir -p ../home/.config/git; echo '*.mine' > ../home/.config/git/ignore");
    run(
        &s,
        "A",
        "cat node_modules/dep local.toml && echo x > x.mine && echo 1 > one && git add -A && git commit -qm one && git status --porcelain > $COORD_OUT/status",
    );
    assert_eq!(s.state("A"), "done");
    assert_eq!(s.sh("git diff --name-only main~1 main").stdout, "one\n");
    assert_eq!(s.text(".coord/tasks/A/1.out/status"), "", "and nobody is told of them");
    // A list that the configuration names counts, too.
    s.sh("echo '*.other' > ../list && git config core.excludesFile ../../list");
    run(&s, "B", "echo x > x.other && echo x > y.mine && git add -A && git commit -qm two");
    assert_eq!(s.sh("git show --format= --name-only main^2").stdout, "y.mine\n");
    assert_eq!(s.text("local.toml"), "mine\n");
}

#[test]
fn what_was_linked_and_is_committed_all_the_same_fails_in_words() {
    let s = sandbox(&format!("[worktree]\nlink = [\"node_modules\"]\n{MERGE}"));
    run(&s, "A", "git add -f node_modules && git commit -qm forced");
    let why = why(&s, "A");
    assert!(
        why.contains("committed node_modules, which [worktree] copy or link puts there"),
        "{why}"
    );
    assert!(s.sh("git ls-tree main node_modules").stdout.is_empty());
}

#[test]
fn ignored_copies_links_and_caches_neither_fail_a_workers_commit_nor_retire_the_slot() {
    let s = sandbox(
        "[git]\ncommit = \"worker\"\n[worktree]\nlink = [\"node_modules\", \"build/out\"]\ncopy = [\".env\"]\nkeep = [\"build/cache\"]\n",
    );
    for id in ["A", "B"] {
        run(&s, id, &format!("cat .env build/out/o && mkdir -p build/cache && echo {id} > {id}"));
        assert_eq!(s.state(id), "done", "{:#}", s.end(id, 1));
        assert_eq!(s.sh(&format!("git diff --name-only main coord/{id}/a1")).line(), id);
    }
    assert_eq!(s.coord(&["worktree", "ls", "-q"]).ok().stdout, "w1\n");
}

#[test]
fn the_check_of_a_merge_finds_what_attempts_find() {
    let s = sandbox(&format!(
        "[worktree]\nlink = [\"node_modules\"]\ncopy = [\".env\"]\nsetup = \"cat .env > made && test -d $COORD_ROOT\"\n{MERGE}\
         check = \"test -f node_modules/dep && grep SECRET made\"\n"
    ));
    run(&s, "A", "echo 1 > one && git add one && git commit -qm one && rm made");
    assert_eq!(s.state("A"), "done", "{}", s.coord(&["why", "A"]).stdout);
    assert_eq!(s.sh("git diff --name-only main~1 main").stdout, "one\n");
    // A setup that fails makes the check red, and says so.
    s.configure(&format!(
        "[worktree]\nsetup = \"[ ! -e two ] || exit 3\"\n{MERGE}check = \"true\"\n"
    ));
    s.add(
        &["--id", "B", "--retries", "0"],
        "echo 2 > two && git add two && git commit -qm two; [ $COORD_ATTEMPT = 1 ]",
    );
    s.work().exits(1);
    let merge: serde_json::Value =
        serde_json::from_str(&s.text(".coord/tasks/B/1.merge")).unwrap_or_default();
    assert!(
        merge["context"].as_str().unwrap_or_default().contains("setup failed: exit 3"),
        "{merge:#}"
    );
}

#[test]
fn a_repository_within_is_no_link_by_accident() {
    let s = sandbox(&format!("[git]\ncommit = \"worker\"\n{MERGE}"));
    s.sh("git init -q -b main ../dep && cd ../dep && echo lib > lib && git add . && git commit -qm lib");
    let clone = "echo mine > mine; git clone -q $COORD_ROOT/../dep vendor/dep";
    run(&s, "A", clone);
    let said = why(&s, "A");
    assert!(
        said.contains("left the repository vendor/dep, which is not part of this one"),
        "{said}"
    );
    assert_eq!(s.sh("git show refs/coord/wip/A.a1:mine").stdout, "mine\n");
    assert!(s.beside("project.coord/w1/vendor/dep/lib").exists(), "it is kept");
    // Staged or committed by the command itself.
    for (id, more) in [("B", "git add -A"), ("C", "git add -A; git commit -qm all")] {
        run(&s, id, &format!("{clone}; {more} 2>/dev/null"));
        let said = why(&s, id);
        assert!(said.contains("repository vendor/dep"), "{id}: {said}");
    }
    assert!(s.sh("git ls-tree -r main vendor").stdout.is_empty());
    // A submodule, as git makes one, is no accident.
    run(
        &s,
        "D",
        "git -c protocol.file.allow=always submodule --quiet add $COORD_ROOT/../dep vendor/sub",
    );
    assert_eq!(s.state("D"), "done", "{:#}", s.end("D", 1));
    assert!(s.sh("git ls-tree main vendor/sub").stdout.starts_with("160000"));
}

#[test]
fn a_submodule_that_one_attempt_added_is_not_in_the_way_of_the_next() {
    let s = sandbox("");
    s.sh("git init -q -b main ../dep && cd ../dep && echo lib > lib && git add . && git commit -qm lib");
    let add = "pwd > $COORD_OUT/pwd; git -c protocol.file.allow=always submodule --quiet add $COORD_ROOT/../dep sub";
    let within = format!(
        "{add} && cd sub && git checkout -q --detach && git branch idea && git commit -q --allow-empty -m own && git update-ref refs/heads/idea HEAD && git checkout -q main"
    );
    for (id, line) in [("A", add), ("B", &within), ("C", add)] {
        run(&s, id, line);
        assert_eq!(s.state(id), "done", "{}", s.text(format!(".coord/tasks/{id}/1.out/log")));
    }
    let slot = |id: &str| s.text(format!(".coord/tasks/{id}/1.out/pwd"));
    assert_eq!(slot("A"), slot("B"));
    assert_ne!(slot("B"), slot("C"), "its branch has a commit that is nowhere else");
    s.coord(&["worktree", "ls"]).ok().says("commits of the submodule sub that are nowhere else");
}

#[test]
fn an_attempt_that_removes_its_own_worktree_has_done_its_work() {
    let s = sandbox(MERGE);
    let commit =
        "echo $COORD_TASK_ID > $COORD_TASK_ID && git add $COORD_TASK_ID && git commit -qm x";
    run(&s, "A", &format!("{commit} && rm -rf \"$COORD_WORKTREE\""));
    run(
        &s,
        "B",
        &format!("{commit} && git -C $COORD_ROOT worktree remove -f -f \"$COORD_WORKTREE\""),
    );
    run(
        &s,
        "C",
        &format!("{commit} && cd / && rm -rf \"$COORD_WORKTREE\" && mkdir \"$COORD_WORKTREE\""),
    );
    run(&s, "D", &format!("git checkout -q --detach && {commit} && rm -rf \"$COORD_WORKTREE\""));
    for id in ["A", "B", "C"] {
        assert_eq!(s.state(id), "done", "{:#}", s.end(id, 1));
        assert_eq!(s.sh(&format!("git show main:{id}")).line(), id);
    }
    let said = why(&s, "D");
    assert!(
        said.contains("left commits that are not on its branch; saved in refs/coord/wip/D.a1"),
        "{said}"
    );
    assert_eq!(s.sh("git show refs/coord/wip/D.a1:D").line(), "D");
    s.configure("[git]\ncommit = \"worker\"\n");
    run(&s, "E", "echo e > e; rm -rf \"$COORD_WORKTREE\"");
    assert!(why(&s, "E").contains("removed its worktree before anything in it was committed"));
    assert_eq!(s.coord(&["worktree", "ls", "-q"]).ok().stdout, "", "no slot is retired for it");
}

#[test]
fn objects_that_somebody_pruned_are_written_again_or_the_attempt_fails_in_words() {
    let s = sandbox(MERGE);
    let lose = |what: &str| {
        format!(
            "id=$(git rev-parse {what}); rm -f $(git rev-parse --git-common-dir)/objects/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-)"
        )
    };
    let commit = "echo $COORD_TASK_ID > f$COORD_TASK_ID && git add -A && git commit -qm one";
    run(&s, "A", &format!("{commit}; {}; {}", lose("HEAD:fA"), lose("HEAD^{tree}")));
    assert_eq!(s.state("A"), "done", "{:#}", s.end("A", 1));
    // Staged only.
    run(
        &s,
        "B",
        &format!(
            "echo staged > fB && git add fB && {}; git reset -q --soft HEAD; exit 1",
            lose(":fB")
        ),
    );
    assert_eq!(s.sh("git show refs/coord/wip/B.a1:fB").line(), "staged");
    // Of a commit whose files are others by now.
    let gone = format!(
        "{commit}; {}; echo 2 > fC; git add -A; git commit -qm two || true",
        lose("HEAD:fC")
    );
    run(&s, "C", &gone);
    let said = why(&s, "C");
    assert!(said.contains("commits are not whole"), "{said}");
    s.sh("git fsck --no-dangling --connectivity-only $(git rev-parse main)");
    assert_eq!(s.sh("git log --format=%s main").stdout.matches("two").count(), 0);
}

#[test]
fn attempts_collect_no_garbage_and_settings_by_the_environment_stay() {
    let mut s = sandbox("[worktree]\nlink = [\"node_modules\"]\n");
    for (name, value) in [
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "own.setting"),
        ("GIT_CONFIG_VALUE_0", "mine"),
    ] {
        s.set(name, value);
    }
    s.sh("git config gc.pruneExpire now");
    let ask = "for name in own.setting gc.auto maintenance.auto gc.pruneExpire; do git config $name; done > $COORD_OUT/said";
    run(&s, "A", ask);
    assert_eq!(s.text(".coord/tasks/A/1.out/said"), "mine\n0\nfalse\n2.weeks.ago\n");
}
