//! Settings and layouts by which git takes another directory for a worktree than the one that is meant:
//! nothing in either is touched, and the words name the setting.

use std::path::Path;

use crate::support::{Output, Sandbox};

/// Everything that lies in a directory, with contents: what must be the same afterwards.
fn content(s: &Sandbox, dir: &Path) -> String {
    let at = dir.display();
    // The queue's own files change, and what belongs to another slot and its attempt.
    let line = format!(
        "cd '{at}' && find . -path ./.coord -prune -o -path '*/worktrees/w2*' -prune -o -path '*/coord/B*' -prune -o -type f -print0 | sort -z | xargs -0 sha256sum"
    );
    s.sh(&line).stdout
}

fn project() -> Sandbox {
    let s = Sandbox::with_git();
    s.sh("printf 'coord.toml\\n*.log\\nnode_modules/\\n' > .gitignore; git add .gitignore; git commit -qm ignore");
    s
}

/// No slot has been made.
fn no_slots(s: &Sandbox, pool: &str) {
    let pool = s.beside(pool);
    assert!(!pool.join("w1").exists(), "{}", s.sh(&format!("ls -A {}", pool.display())).stdout);
}

fn work_refuses(s: &Sandbox, words: &[&str]) -> Output {
    let output = s.work();
    words.iter().for_each(|word| {
        output.fails(7, word);
    });
    output
}

#[test]
fn core_worktree_that_counts_in_every_worktree_is_refused_and_nothing_is_touched() {
    let s = project();
    s.sh("git config core.worktree \"$PWD\" && git config extensions.worktreeConfig true
        echo change >> file; echo mine > mine.txt; echo secret > secret.log; mkdir node_modules; echo dep > node_modules/dep");
    s.add(&["--id", "T"], "true");
    let before = content(&s, &s.root);
    let said = work_refuses(
        &s,
        &["core.worktree = ", "extensions.worktreeConfig", "hint: git config --file "],
    );
    s.coord(&["start"]).fails(7, "core.worktree");
    assert_eq!(content(&s, &s.root), before);
    no_slots(&s, "project.coord");
    assert_eq!(s.state("T"), "ready");
    s.coord(&["doctor"]).says("core.worktree = ");
    // What the hint says helps, as it stands.
    let hint = said.stderr.lines().find_map(|line| line.trim().strip_prefix("hint: ")).unwrap();
    s.sh(hint);
    s.work().ok();
    assert_eq!(s.state("T"), "done");
}

#[test]
fn a_submodule_with_settings_of_its_own_for_each_worktree_is_not_emptied() {
    let s = Sandbox::bare();
    s.sh("git init -q -b main ../lib && cd ../lib && echo lib > file && git add . && git commit -qm lib
        cd ../project && git init -q -b main . && git -c protocol.file.allow=always submodule --quiet add ../lib lib && git commit -qm sub
        cd lib && coord init -q && coord add -q --id T --sh 'echo more >> file; git commit -qam more' && git config extensions.worktreeConfig true");
    let before = content(&s, &s.root.join(".git/modules/lib"));
    let output = s.run("sh", &["-c", "cd lib && coord work --until-empty"]);
    output.fails(7, "core.worktree = ../../../lib in ");
    assert_eq!(content(&s, &s.root.join(".git/modules/lib")), before);
    let hint = output.stderr.lines().find_map(|line| line.trim().strip_prefix("hint: ")).unwrap();
    s.sh(hint);
    s.sh("cd lib && git status --short && coord work --until-empty");
    assert_eq!(s.sh("git -C lib log -1 --format=%s coord/T/a1").line(), "more");
    assert_eq!(
        s.sh("git -C lib rev-parse --show-toplevel").line(),
        s.root.join("lib").display().to_string()
    );
}

#[test]
fn an_agent_that_sets_both_to_its_own_slot_loses_nothing_and_stops_the_next() {
    let s = project();
    // What no ref can hold sets its slot aside: the next one would be cleaned in the first.
    let line = "git config core.worktree \"$PWD\"; git config extensions.worktreeConfig true
        echo mine > mine.txt; git init -q nested; echo deep > nested/deep; exit 1";
    s.add(&["--id", "A", "--retries", "0"], line);
    s.add(&["--id", "B"], "true");
    s.work().exits(7).warns("core.worktree = ");
    let slot = s.beside("project.coord/w1");
    assert_eq!(s.text(slot.join("mine.txt")), "mine\n");
    assert_eq!(s.text(slot.join("nested/deep")), "deep\n");
    let wip = s.end("A", 1)["result"]["wip"].as_str().unwrap_or_default().to_owned();
    assert_eq!(s.sh(&format!("git --git-dir=.git show {wip}:mine.txt")).line(), "mine");
    assert!(!s.beside("project.coord/w3").exists(), "one slot is enough to see it");
    assert_ne!(s.state("B"), "failed", "it is not the task's fault");
    s.sh("git config --file .git/config --unset core.worktree");
    s.work().exits(1);
    assert_eq!(s.state("B"), "done");
}

#[test]
fn settings_of_one_slot_retire_that_slot_alone() {
    let s = project();
    s.sh("git config extensions.worktreeConfig true");
    s.add(
        &["--id", "A", "--retries", "0"],
        "git config --worktree core.worktree \"$COORD_ROOT\"; echo mine > mine.txt",
    );
    s.add(&["--id", "B"], "pwd > $COORD_OUT/pwd; echo two > two; git add two; git commit -qm two");
    s.sh("echo kept > untracked.txt");
    s.work();
    assert_eq!(s.text("untracked.txt"), "kept\n");
    assert_eq!(s.text("file"), "one\n");
    assert_eq!(std::fs::read_to_string(s.beside("project.coord/w1/mine.txt")).unwrap(), "mine\n");
    assert_eq!(s.state("B"), "done");
    assert!(s.text(".coord/tasks/B/1.out/pwd").trim().ends_with("/w2"));
    s.coord(&["worktree", "ls"]).ok().says("retired").says("core.worktree = ");
    // Mended by the person, it is saved and goes.
    s.sh("git config --file .git/worktrees/w1/config.worktree --unset core.worktree && coord worktree gc");
    assert!(!s.beside("project.coord/w1").exists());
    assert_eq!(s.sh("git show refs/coord/wip/A.a1:mine.txt").line(), "mine");
}

#[test]
fn core_bare_set_by_a_tool_is_told_before_anything_is_merged() {
    let s = project();
    s.configure("[merge]\nenabled = true\n");
    s.add(&["--id", "T"], "echo 1 > one; git add -A; git commit -qm one");
    s.sh("git config core.bare true");
    s.coord(&["add", "--id", "U", "--", "true"]).fails(7, "core.bare = true in ");
    work_refuses(
        &s,
        &["for a bare one, though its files are there", "core.bare = true in ", "core.bare false"],
    );
    assert_eq!(s.sh("git log --format=%s main").line(), "ignore\none");
    // Seen from a linked worktree as well.
    s.sh("git worktree add -q --detach ../linked && cp coord.toml ../linked && cd ../linked && coord init -q && coord add -q --id L --no-merge --sh true");
    s.run("sh", &["-c", "cd ../linked && coord work --until-empty"]).fails(7, "core.bare");
    s.sh("git config core.bare false");
    s.work().ok();
    assert_eq!(s.state("T"), "done");
    assert_eq!(s.sh("git status --short").stdout, "");
    assert_eq!(s.text("one"), "1\n");
}

#[test]
fn core_bare_is_told_also_of_a_repository_that_stands_elsewhere() {
    for made in [
        // A submodule, and what git init --separate-git-dir makes.
        "git init -q -b main ../lib && git -C ../lib commit -q --allow-empty -m one && echo 1 > ../lib/file && git -C ../lib add file && git -C ../lib commit -qm two && git init -q -b main . && git -c protocol.file.allow=always submodule --quiet add ../lib sub",
        "git init -q -b main --separate-git-dir ../store sub && cd sub && echo 1 > file && git add file && git commit -qm one",
    ] {
        let s = Sandbox::bare();
        s.sh(made);
        s.sh("cd sub && coord init -q && coord add -q --id T -- true && git config core.bare true");
        s.run("sh", &["-c", "cd sub && coord work --until-empty"])
            .fails(7, "for a bare one, though its files are there")
            .warns("core.bare false");
        s.sh("cd sub && git config core.bare false && coord work -q --until-empty");
        assert!(s.root.join("sub.coord/w1/file").exists(), "{made}");
    }
}

#[test]
fn core_bare_set_while_a_task_runs_leaves_the_main_worktree_for_later() {
    let s = project();
    s.configure("[merge]\nenabled = true\n");
    s.add(
        &["--id", "T"],
        "echo 1 > one; git add -A; git commit -qm one; git config core.bare true",
    );
    s.work();
    let merged = s.sh("git log --format=%s main").stdout;
    assert!(!merged.contains("Merge"), "{merged}");
    s.sh("git config core.bare false && coord merge");
    assert_eq!(s.state("T"), "done");
    assert_eq!((s.sh("git status --short").stdout.as_str(), s.text("one").as_str()), ("", "1\n"));
}

#[test]
fn a_repository_that_was_made_bare_on_purpose_is_bare() {
    let s = project();
    s.sh("git worktree add -q --detach ../linked && git config core.bare true && rm -r file .gitignore && cd ../linked && coord init -q && coord add -q --id T --sh 'cat file > $COORD_OUT/file' && coord work --until-empty");
    let said = std::fs::read_to_string(s.beside("linked/.coord/tasks/T/1.out/file")).unwrap();
    assert_eq!(said, "one\n");
}

#[test]
fn a_slot_that_is_a_link_or_leads_elsewhere_is_left_alone() {
    for broken in [
        // Another slot, under this one's name.
        "mv w1 w1.moved && ln -s \"$PWD/w1.moved\" w1",
        "rm -rf w1 && ln -s ../project w1",
        // A copy of another slot's link: its HEAD and its index would be moved.
        "git -C ../project worktree add -q --detach ../other && cp ../other/.git w1/.git",
        // Another repository.
        "rm w1/.git && git init -q w1",
        "echo nonsense > w1/.git",
    ] {
        let s = project();
        s.add(&["--id", "A"], "true");
        s.work().ok();
        let pool = s.beside("project.coord");
        s.sh(&format!("cd {} && echo precious > w1/precious && {broken}", pool.display()));
        let (before, other) = (content(&s, &s.root), s.beside("other"));
        let head = |s: &Sandbox| match other.exists() {
            true => s.sh("git -C ../other status --porcelain=v2 --branch").stdout,
            false => String::new(),
        };
        let head_before = head(&s);
        s.add(&["--id", "B"], "pwd > $COORD_OUT/pwd");
        s.work().ok();
        assert_eq!(
            s.text(".coord/tasks/B/1.out/pwd").trim(),
            pool.join("w2").display().to_string(),
            "{broken}"
        );
        assert_eq!((content(&s, &s.root), head(&s)), (before, head_before), "{broken}");
        s.coord(&["worktree", "ls"]).ok().says("retired");
        let gc = s.coord(&["worktree", "gc"]);
        gc.ok().says("w1 stays: ");
        let there = s.sh(&format!("find {} -name precious", pool.display())).stdout;
        assert!(there.contains("precious") || broken.starts_with("rm -rf"), "{broken}: {there}");
    }
}

#[test]
fn an_empty_git_directory_is_walked_past_and_named() {
    let s = Sandbox::bare();
    s.sh("mkdir .git ../.git && coord init -q");
    s.configure("");
    s.add(&["--id", "T"], "pwd > $COORD_OUT/pwd");
    let output = s.work();
    output.ok().warns("/project/.git is empty and no repository");
    assert_eq!(s.text(".coord/tasks/T/1.out/pwd").trim(), s.root.display().to_string());
    s.coord(&["doctor"]).says("walks past ");
    for asks in ["[worktree]\nisolation = \"worktree\"\n", "[merge]\nenabled = true\n"] {
        s.configure(asks);
        work_refuses(
            &s,
            &["/project/.git is no repository", "in coord.toml asks for one", "rmdir"],
        );
    }
    s.configure("[worktree]\nisolation = \"none\"\n");
    assert!(!s.work().ok().stderr.contains("empty"));
    // A file that leads nowhere is a repository that cannot be used, whatever is set.
    s.configure("");
    s.sh("rmdir .git && echo 'gitdir: ../nowhere' > .git");
    work_refuses(&s, &["cannot look at the git repository"]);
}

#[test]
fn a_damaged_repository_is_not_passed_by_for_the_one_around_it() {
    let mut s = Sandbox::bare();
    s.set("GIT_CEILING_DIRECTORIES", "/");
    s.sh("cd .. && git init -q -b main . && git commit -q --allow-empty -m outer && cd project && git init -q -b main . && echo one > file && git add . && git commit -qm one && rm .git/HEAD && coord init -q");
    s.configure("");
    s.add(&["--id", "T"], "true");
    work_refuses(&s, &["git cannot read the repository ", "/project/.git, and takes "]);
}

#[test]
fn separate_git_directories_work_and_are_brought_along() {
    let s = Sandbox::bare();
    s.sh("git init -q -b main --separate-git-dir ../store . && echo one > file && printf 'coord.toml\\n' > .gitignore && git add file .gitignore && git commit -qm one && coord init -q");
    s.configure("[merge]\nenabled = true\n");
    s.add(&["--id", "T"], "echo two > two && git add two && git commit -qm two");
    s.work().ok();
    assert_eq!((s.sh("git status --short").stdout.as_str(), s.text("two").as_str()), ("", "two\n"));
}

#[test]
fn a_bare_repository_is_used_by_those_who_want_it_named() {
    let mut s = project();
    s.sh("git clone -q --bare . ../bare.git && git -C ../bare.git worktree add -q ../tree main");
    s.set("GIT_CONFIG_COUNT", "1");
    s.set("GIT_CONFIG_KEY_0", "safe.bareRepository");
    s.set("GIT_CONFIG_VALUE_0", "explicit");
    s.sh("cd ../tree && coord init -q && coord add -q --merge --id T --sh 'echo two > two && git add two && git commit -qm two' && coord work --until-empty");
    assert_eq!(
        s.sh("cd ../tree && git log -1 --format=%s && git status --short two file && cat two")
            .stdout,
        "Merge T: echo two > two && git add two && git commit -qm two\ntwo\n"
    );
    s.sh("rm -rf ../bare.git/.coord; mkdir ../bare.git/x");
    let refused = s.run("sh", &["-c", "cd ../bare.git && coord init -q && coord add -q --id T --sh true >&2 && coord work --until-empty"]);
    refused.fails(7, "safe.bareRepository");
}

#[test]
fn a_ceiling_below_the_repository_is_named() {
    let mut s = project();
    s.sh("mkdir -p deep && cd deep && coord init -q && coord add -q --id T --sh true");
    let root = s.root.display().to_string();
    s.set("GIT_CEILING_DIRECTORIES", &root);
    s.run("sh", &["-c", "cd deep && coord work --until-empty"]).fails(7, "GIT_CEILING_DIRECTORIES");
}

#[test]
fn included_settings_of_a_slot_lead_git_nowhere() {
    let s = project();
    let git = s.root.join(".git").display().to_string();
    // git reads these three from the repository's own file only; others count in slots alone.
    s.sh(&format!(
        "printf '[core]\\nworktree = /nowhere\\nbare = true\\n[user]\\nname = In Slot\\n' > ../slot.inc
         git config --global includeIf.gitdir:{git}/worktrees/.path \"$PWD/../slot.inc\"
         git config extensions.worktreeConfig true"
    ));
    s.add(
        &["--id", "T"],
        "git config user.name > $COORD_OUT/name; echo x > x; git add x; git commit -qm x",
    );
    s.work().ok();
    assert_eq!(s.text(".coord/tasks/T/1.out/name"), "In Slot\n");
    assert_eq!(s.sh("git show coord/T/a1:x").line(), "x");
}

#[test]
fn a_fresh_clone_has_nothing_to_be_saved() {
    let s = project();
    s.configure("[worktree]\nisolation = \"clone\"\n");
    s.add(&["--id", "T"], "cat file > $COORD_OUT/file");
    s.work().ok();
    assert_eq!(s.text(".coord/tasks/T/1.out/file"), "one\n");
    assert_eq!(s.sh("git for-each-ref refs/coord/wip; git -C ../project.coord/w1 for-each-ref refs/coord/wip").stdout, "");
    // One whose index an attempt has taken away keeps what was changed, and loses no file.
    s.add(
        &["--id", "U", "--retries", "0"],
        "echo new > new; echo changed > file; rm .git/index; exit 1",
    );
    s.work().exits(1);
    let wip = s.end("U", 1)["result"]["wip"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        s.sh(&format!("git show --name-status --format= {wip}")).stdout,
        "M\tfile\nA\tnew\n"
    );
}

#[test]
fn commands_see_no_variables_of_coord_and_hooks_those_of_git() {
    let s = project();
    s.configure("[git]\ncommit = \"worker\"\n[worktree]\nsetup = \"env | grep -E '^GIT_(DIR|WORK_TREE|INDEX_FILE)=' > $COORD_OUT/setup; true\"\n");
    s.sh("printf '#!/bin/sh\\ngit rev-parse --show-toplevel --absolute-git-dir > \"$(git rev-parse --git-common-dir)\"/said; pwd >> \"$(git rev-parse --git-common-dir)\"/said\\n' > .git/hooks/pre-commit && chmod +x .git/hooks/pre-commit");
    s.add(
        &["--id", "T"],
        "env | grep -E '^GIT_(DIR|WORK_TREE|INDEX_FILE)=' > $COORD_OUT/command; echo two > two",
    );
    s.work().ok();
    assert_eq!(
        (s.text(".coord/tasks/T/1.out/setup"), s.text(".coord/tasks/T/1.out/command")),
        (String::new(), String::new())
    );
    let slot = s.beside("project.coord/w1").display().to_string();
    let own = s.root.join(".git/worktrees/w1").display().to_string();
    let said = s.text(".git/said");
    println!("{said}");
    assert_eq!(said, format!("{slot}\n{own}\n{slot}\n"));
}

#[test]
fn checkout_goes_nowhere_but_where_the_caller_stands() {
    let s = project();
    s.add(&["--id", "T"], "echo two > two && git add two && git commit -qm two");
    s.work().ok();
    s.sh("git worktree add -q --detach ../mine && git config extensions.worktreeConfig true && git -C ../mine config --worktree core.worktree \"$PWD\"");
    let refused = s.run("sh", &["-c", "cd ../mine && coord checkout T"]);
    refused.fails(7, "core.worktree");
    assert_eq!(s.sh("git symbolic-ref --short HEAD && git status --short").line(), "main");
}
