//! What an attempt leaves in its slot does not reach the next one there, and none of it is lost.

use std::os::unix::net::UnixListener;

use crate::support::{Sandbox, skip};

/// A project with two directories, and the slot `w1`, in which a first attempt has looked around.
fn sandbox(more: &str) -> Sandbox {
    let s = Sandbox::with_git();
    s.configure(more);
    s.sh("mkdir src docs && echo s > src/s && echo d > docs/d && echo 'ign/' > .gitignore && git add .gitignore src docs && git commit -qm base");
    s
}

/// Runs one attempt after the other, each in the slot that the first one had, if it was not retired.
fn run(s: &Sandbox, tasks: &[(&str, &str)]) {
    for (id, line) in tasks {
        s.add(&["--id", id, "--retries", "0"], &format!("pwd > $COORD_OUT/pwd; {line}"));
        s.work();
    }
}

fn out(s: &Sandbox, id: &str, name: &str) -> String {
    s.text(format!(".coord/tasks/{id}/1.out/{name}"))
}

/// Which slot an attempt had.
fn slot(s: &Sandbox, id: &str) -> String {
    out(s, id, "pwd").trim().rsplit('/').next().unwrap_or_default().to_owned()
}

#[track_caller]
fn done(s: &Sandbox, id: &str, slot_name: &str) {
    assert_eq!(s.state(id), "done", "{id}\n{}", out(s, id, "log"));
    assert_eq!(slot(s, id), slot_name, "{}", s.coord(&["worktree", "ls"]).stdout);
}

#[test]
fn settings_and_a_sparse_checkout_of_one_attempt_are_not_those_of_the_next() {
    let s = sandbox("");
    run(
        &s,
        &[
            (
                "A",
                "git sparse-checkout set docs && git config --worktree core.abbrev 12 && [ ! -e src ]",
            ),
            (
                "B",
                "[ -f src/s ] && [ -z \"$(git config core.abbrev)\" ] && git status --porcelain > $COORD_OUT/status",
            ),
        ],
    );
    done(&s, "A", "w1");
    done(&s, "B", "w1");
    assert_eq!(out(&s, "B", "status"), "");
    assert!(s.root.join("src/s").exists(), "the project's own worktree is as it was");
}

#[test]
fn attempts_are_as_sparse_as_the_project_is_by_then() {
    let s = sandbox("");
    s.sh("git sparse-checkout set docs && git config --worktree core.abbrev 11");
    let sparse = "[ ! -e src ] && [ -f docs/d ] && [ $(git config core.abbrev) = 11 ]";
    run(&s, &[("A", &format!("{sparse} && git sparse-checkout disable && [ -f src/s ]"))]);
    run(&s, &[("B", sparse)]);
    s.sh("git sparse-checkout disable");
    run(&s, &[("C", "[ -f src/s ]")]);
    for id in ["A", "B", "C"] {
        done(&s, id, "w1");
    }
}

#[test]
fn what_was_begun_and_refs_and_locks_of_the_worktree_go_and_their_commits_are_saved() {
    let s = sandbox("");
    let list = "find $(git rev-parse --absolute-git-dir) -type f | sort > $COORD_OUT/own; git for-each-ref refs/bisect refs/worktree > $COORD_OUT/refs";
    let leave = "own=$(git rev-parse --absolute-git-dir)
        git update-ref refs/worktree/kept $(git commit-tree -m only HEAD^{tree} -p HEAD)
        git bisect start -q; git bisect bad; git bisect good HEAD~1
        mkdir $own/rebase-apply $own/odd; touch $own/odd/x $own/rebase-apply/applying
        echo a > $own/info/attributes; mkdir -p $own/info; echo '* -text' > $own/info/attributes
        for name in index HEAD config.worktree ORIG_HEAD; do touch $own/$name.lock; done
        git rev-parse HEAD > $own/MERGE_HEAD; echo x > $own/SQUASH_MSG; true";
    run(&s, &[("A", list), ("B", leave), ("C", list)]);
    for id in ["A", "B", "C"] {
        done(&s, id, "w1");
    }
    let logs =
        |text: &str| text.lines().filter(|l| !l.contains("/logs")).collect::<Vec<_>>().join("\n");
    assert_eq!(logs(&out(&s, "C", "own")), logs(&out(&s, "A", "own")));
    assert_eq!(out(&s, "C", "refs"), "");
    assert_eq!(s.sh("git log -1 --format=%s refs/coord/wip/B.a1").line(), "only");
}

#[test]
fn a_clone_has_the_settings_and_hooks_that_it_was_made_with() {
    let s = sandbox("[worktree]\nisolation = \"clone\"\n");
    let leave =
        "printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/pre-commit && chmod +x .git/hooks/pre-commit
        git config core.abbrev 12; git sparse-checkout set docs; echo '*' > .git/info/exclude
        touch .git/index.lock .git/config.lock .git/MERGE_MSG";
    let look = "[ -f src/s ] && [ ! -e .git/MERGE_MSG ] && [ -z \"$(git config core.abbrev)\" ] && echo b > b && git add b && git commit -qm b";
    run(&s, &[("A", leave), ("B", look)]);
    done(&s, "A", "w1");
    done(&s, "B", "w1");
    assert_eq!(s.sh("git show coord/B/a1:b").line(), "b");
}

#[test]
fn fifos_sockets_and_empty_directories_go() {
    let s = sandbox("");
    run(&s, &[("A", "mkfifo pipe src/p && mkdir -p src/empty/.git none")]);
    let socket = s.beside("project.coord/w1/docs/socket");
    drop(UnixListener::bind(&socket).unwrap());
    run(&s, &[("B", "find . -path ./.git -prune -o -print | sort > $COORD_OUT/all")]);
    done(&s, "B", "w1");
    assert_eq!(out(&s, "B", "all"), ".\n./.gitignore\n./docs\n./docs/d\n./file\n./src\n./src/s\n");
}

#[test]
fn a_plain_user_gets_rid_of_what_was_closed() {
    let mut s = sandbox("[worktree]\nkeep = [\"tmp\"]\n");
    if !s.as_plain_user() {
        return skip(
            "a_plain_user_gets_rid_of_what_was_closed",
            "a plain user cannot run coord here",
        );
    }
    let closed = "mkdir -p new/d ign/mod && echo n > new/d/n && echo m > ign/mod/m && echo secret > secret && chmod 000 secret
        chmod 555 new/d new ign/mod ign && echo more >> src/s && echo x > src/x && chmod 444 src/s && chmod 555 src
        mkdir dark && echo k > dark/k && chmod 000 dark; mkdir -p $TMPDIR/mod && echo t > $TMPDIR/mod/t && chmod 555 $TMPDIR/mod";
    run(
        &s,
        &[
            ("A", closed),
            (
                "B",
                "echo b >> src/s && echo y > src/y && ls . $TMPDIR > $COORD_OUT/ls && chmod 500 docs",
            ),
        ],
    );
    run(&s, &[("C", "echo c >> docs/d && cat src/s > $COORD_OUT/s")]);
    for id in ["A", "B", "C"] {
        done(&s, id, "w1");
    }
    let listed = out(&s, "B", "ls");
    assert!(listed.starts_with(".:\ndocs\nfile\nsrc\n\n/") && listed.ends_with(":\n"), "{listed}");
    assert_eq!(out(&s, "C", "s"), "s\n");
    let names = s.sh("git diff --name-only main refs/coord/wip/A.a1").stdout;
    assert_eq!(names, "dark/k\nnew/d/n\nsecret\nsrc/s\nsrc/x\n", "all of it is saved");
    assert_eq!(s.sh("git show refs/coord/wip/A.a1:secret").stdout, "secret\n");
}

/// Makes directories in each other, 40 of 200 letters, with a file in the innermost or not.
fn deep(name: &str, file: &str) -> String {
    format!(
        "d=$(printf 'd%.0s' $(seq 200)); mkdir {name}; {file}
        for i in $(seq 40); do mkdir .above && mv {name} .above/$d && mv .above {name} || exit; done"
    )
}

#[test]
fn what_is_deeper_than_a_path_goes_where_it_is_nobodys_and_stays_where_it_is_work() {
    let s = sandbox("");
    run(&s, &[("A", &deep("empty", "true")), ("B", "[ ! -e empty ]")]);
    done(&s, "B", "w1");
    run(&s, &[("C", &format!("mkdir ign && cd ign && {}", deep("ignored", "echo x > ignored/x")))]);
    run(&s, &[("D", "[ ! -e ign ]")]);
    done(&s, "D", "w1");
    run(&s, &[("E", &deep("work", "echo x > work/x")), ("F", "[ ! -e work ]")]);
    done(&s, "E", "w1");
    done(&s, "F", "w2");
    s.coord(&["worktree", "ls"]).ok().says("files below work whose paths are too long for git");
    assert!(s.beside("project.coord/w1/work").exists(), "it is kept");
    s.coord(&["worktree", "gc"]).ok().says("w1 stays: ");
    assert!(s.beside("project.coord/w1/work").exists(), "it is kept");
}

#[test]
fn a_repository_that_git_passes_over_stays_and_is_named() {
    for (make, words) in [
        ("git init -q src && cd src && git add s && git commit -qm inner", "src/.git"),
        ("mkdir -p q/.git && echo only > q/.git/only", "q/.git"),
    ] {
        let s = sandbox("");
        run(&s, &[("A", make), ("B", "[ ! -e src/.git ] && [ ! -e q ]")]);
        done(&s, "A", "w1");
        done(&s, "B", "w2");
        s.coord(&["worktree", "ls"]).ok().says(words);
        assert!(s.beside("project.coord/w1").join(words).exists(), "{words} is kept");
        assert!(s.end("A", 1)["result"]["worktree"].as_str().unwrap_or_default().ends_with("/w1"));
    }
}

#[test]
fn a_second_name_of_a_tracked_file_is_not_written_through() {
    let s = sandbox("");
    run(&s, &[("A", "ln src/s $COORD_ROOT/backup"), ("B", "echo more >> src/s")]);
    done(&s, "B", "w1");
    assert_eq!(s.text("backup"), "s\n");
}

#[test]
fn a_cache_within_an_ignored_directory_stays_alone() {
    let s = sandbox("[worktree]\nkeep = [\"ign/cache\"]\n");
    run(&s, &[("A", "mkdir -p ign/cache ign/other && echo a > ign/cache/a && echo o > ign/o")]);
    run(&s, &[("B", "cat ign/cache/a && ls ign > $COORD_OUT/ls"), ("C", "ls ign > $COORD_OUT/ls")]);
    done(&s, "B", "w1");
    done(&s, "C", "w1");
    assert_eq!((out(&s, "B", "ls"), out(&s, "C", "ls")), ("cache\n".into(), "cache\n".into()));
}

#[test]
fn what_is_mounted_in_a_slot_is_not_touched() {
    let s = sandbox("");
    s.sh("mkdir ../precious && echo p > ../precious/p");
    run(&s, &[("A", "true")]);
    s.sh("mkdir ../project.coord/w1/m");
    let mounted = s.run("mount", &["--bind", "../precious", "../project.coord/w1/m"]);
    if mounted.code != 0 {
        return skip("what_is_mounted_in_a_slot_is_not_touched", mounted.stderr.trim());
    }
    run(&s, &[("B", "[ ! -e m ]")]);
    let kept = s.text("../precious/p");
    let listed = s.coord(&["worktree", "ls"]);
    s.sh("umount ../project.coord/w1/m");
    assert_eq!(kept, "p\n");
    done(&s, "B", "w2");
    listed.ok().says("it holds what is mounted at m");
}
