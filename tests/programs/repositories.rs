//! What kinds of repository attempts can run in, and how the others are refused.

use std::path::Path;

use crate::support::Sandbox;

/// One attempt for each task, and the tables that a test needs.
fn toml(more: &str) -> String {
    format!("version = 1\n[retry]\nattempts = 1\n{more}")
}

/// Makes a queue in a directory of the sandbox and works a task there that says where it runs.
fn work_in(s: &Sandbox, dir: &Path, more: &str, line: &str) {
    let at = dir.display();
    s.sh(&format!("cd {at} && coord init -q"));
    std::fs::write(dir.join("coord.toml"), toml(more)).unwrap();
    s.sh(&format!("cd {at} && coord add -q --id T --sh '{line}' && coord work --until-empty"));
}

fn said(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(".coord/tasks/T/1.out").join(name)).unwrap_or_default()
}

fn repository(s: &Sandbox) {
    s.sh("git init -q -b main . && mkdir -p a/b w1 && echo one > a/b/file && echo two > w1/file && git add . && git commit -qm one");
}

const WHERE: &str = "pwd > $COORD_OUT/pwd; cat file > $COORD_OUT/file; unset COORD_DIR; coord ls -q > $COORD_OUT/ids";

#[test]
fn a_queue_below_the_top_runs_in_the_same_place_of_its_worktree() {
    let s = Sandbox::bare();
    repository(&s);
    let pool = s.beside("project.coord");
    for (below, slot) in [("a/b", "a-b/w1/a/b"), ("w1", "sub-w1/w1/w1")] {
        let dir = s.root.join(below);
        work_in(&s, &dir, "", WHERE);
        assert_eq!(said(&dir, "pwd").trim(), pool.join(slot).display().to_string());
        assert_eq!(said(&dir, "file"), s.text(dir.join("file")));
        assert_eq!(said(&dir, "ids"), "T\n", "the queue is found from its worktree");
    }
    // A queue at the top has its own slots, and does not meet the others.
    work_in(&s, &s.root, "", "pwd > $COORD_OUT/pwd; [ ! -e .coord ]");
    assert_eq!(said(&s.root, "pwd").trim(), pool.join("w1").display().to_string());
    assert_eq!(s.coord(&["worktree", "ls", "-q"]).ok().stdout, "w1\n");
}

#[test]
fn a_queue_above_a_linked_worktree_is_not_taken_for_the_projects() {
    let s = Sandbox::bare();
    repository(&s);
    s.coord(&["init"]).ok();
    s.add(&["--id", "inner"], "true");
    let outer = s.beside("").display().to_string();
    s.sh(&format!("cd {outer} && coord init -q && coord add -q --id outer --sh true"));
    s.sh("git worktree add -q --detach ../linked && git worktree add -q --detach ../deep/linked");
    for place in ["../linked", "../deep/linked/a/b"] {
        assert_eq!(s.sh(&format!("cd {place} && coord ls -q")).stdout, "inner\n", "{place}");
    }
    assert_eq!(s.sh("cd .. && coord ls -q").stdout, "outer\n");
}

#[test]
fn a_nested_repository_is_the_one_that_counts() {
    let s = Sandbox::bare();
    repository(&s);
    s.sh("git init -q -b main inner && cd inner && echo deep > file && git add . && git commit -qm deep");
    let inner = s.root.join("inner");
    work_in(&s, &inner, "", WHERE);
    assert_eq!(said(&inner, "file"), "deep\n");
    assert_eq!(said(&inner, "pwd").trim(), s.root.join("inner.coord/w1").display().to_string());
    let outside = s.sh("git status --porcelain").stdout;
    assert_eq!(outside, "?? inner/\n", "the pool hides itself from the outer repository");
}

#[test]
fn a_queue_in_a_submodule() {
    let s = Sandbox::bare();
    s.sh("git init -q -b main ../lib && cd ../lib && echo lib > file && git add . && git commit -qm lib");
    repository(&s);
    s.sh(
        "git -c protocol.file.allow=always submodule --quiet add ../lib lib && git commit -qm sub",
    );
    let lib = s.root.join("lib");
    work_in(&s, &lib, "", &format!("{WHERE}; echo more >> file; git commit -qam more"));
    assert_eq!(said(&lib, "file"), "lib\n");
    assert_eq!(said(&lib, "ids"), "T\n");
    assert_eq!(s.sh("git -C lib log -1 --format=%s coord/T/a1").line(), "more");
    assert_eq!(s.sh("git status --porcelain").stdout, " M lib\n", "only its untracked queue");
}

#[test]
fn submodules_of_the_project_come_by_setup_and_commits_in_them_are_not_lost() {
    let s = Sandbox::bare();
    s.sh("git init -q -b main ../lib && cd ../lib && echo lib > file && git add . && git commit -qm lib");
    repository(&s);
    s.sh(
        "git -c protocol.file.allow=always submodule --quiet add ../lib lib && git commit -qm sub",
    );
    s.coord(&["init", "-q"]).ok();
    let setup = "[worktree]\nsetup = \"git -c protocol.file.allow=always submodule --quiet update --init\"\n";
    std::fs::write(s.root.join("coord.toml"), toml(setup)).unwrap();
    s.add(&["--id", "A"], "cat lib/file");
    s.add(&["--id", "B"], "cat lib/file && cd lib && echo x >> file && git commit -qam inside");
    s.add(&["--id", "C"], "cat lib/file");
    s.work().ok();
    let end = s.end("B", 1);
    assert_eq!(end["verdict"], "done");
    let kept = end["result"]["worktree"].as_str().unwrap_or_default().to_owned();
    assert!(kept.ends_with("/w1"), "{end:#}");
    assert_eq!(s.sh(&format!("git -C {kept}/lib log -1 --format=%s")).line(), "inside");
    s.coord(&["worktree", "ls"])
        .ok()
        .says("commits inside the submodule lib that are nowhere else");
    assert_eq!(s.state("C"), "done", "in another slot");
    // It stays, whatever is cleared up.
    s.coord(&["worktree", "gc"]).ok().says("w1 stays: ");
    assert_eq!(s.sh(&format!("git -C {kept}/lib log -1 --format=%s")).line(), "inside");
}

#[test]
fn a_filter_that_fails_is_told_with_what_helps() {
    let s = Sandbox::bare();
    repository(&s);
    s.sh("echo '*.bin filter=large' > .gitattributes && echo big > x.bin && git add . && git commit -qm big
        git config filter.large.smudge false && git config filter.large.clean cat && git config filter.large.required true");
    s.coord(&["init", "-q"]).ok();
    std::fs::write(s.root.join("coord.toml"), toml("")).unwrap();
    s.add(&["--id", "T"], "true");
    s.work().exits(1);
    let why = s.end("T", 1)["why"].as_str().unwrap().to_owned();
    assert!(why.contains("cannot make a worktree") && why.contains("smudge filter large"), "{why}");
    assert!(why.contains("a filter of .gitattributes (such as git-lfs) has to work"), "{why}");
    // The filter mended, the same slot serves.
    s.sh("git config filter.large.smudge cat");
    s.coord(&["retry", "T"]).ok();
    s.work().ok();
    assert_eq!(s.state("T"), "done");
}

#[test]
fn a_repository_whose_files_are_never_clean_is_told_so_and_does_not_fill_the_disk() {
    let s = Sandbox::bare();
    repository(&s);
    s.sh("echo 'a/b/file filter=odd' > .gitattributes && git add . && git commit -qm odd
        git config filter.odd.smudge 'cat; echo x' && git config filter.odd.clean cat");
    s.coord(&["init", "-q"]).ok();
    std::fs::write(s.root.join("coord.toml"), toml("")).unwrap();
    for id in ["A", "B", "C"] {
        s.add(&["--id", id], "true");
    }
    s.work();
    let why = s.end("C", 1)["why"].as_str().unwrap_or_default().to_owned();
    assert!(
        why.contains("a new worktree is not clean: a/b/file is changed after a reset"),
        "{why}"
    );
    assert!(why.contains("a hook, a filter or line endings"), "{why}");
    let trees = s.sh("git worktree list").stdout.lines().count();
    assert!(trees <= 6, "{trees} worktrees");
}

#[test]
fn work_that_a_failing_filter_refuses_is_saved_as_it_is() {
    let s = Sandbox::bare();
    repository(&s);
    s.sh("git config filter.large.smudge cat && git config filter.large.clean false && git config filter.large.required true");
    s.coord(&["init", "-q"]).ok();
    std::fs::write(s.root.join("coord.toml"), toml("")).unwrap();
    s.add(&["--id", "T"], "echo \"*.bin filter=large\" > .gitattributes; echo raw > x.bin; exit 1");
    s.work().exits(1);
    assert_eq!(s.sh("git show refs/coord/wip/T.a1:x.bin").stdout, "raw\n");
}

#[test]
fn a_sparse_checkout_stays_sparse_and_loses_nothing() {
    let s = Sandbox::bare();
    repository(&s);
    s.sh("git sparse-checkout set --cone a");
    s.coord(&["init", "-q"]).ok();
    std::fs::write(s.root.join("coord.toml"), toml("")).unwrap();
    s.add(
        &["--id", "T"],
        "ls > $COORD_OUT/ls; echo in > a/b/new; mkdir -p w1; echo out > w1/new; exit 1",
    );
    s.work().exits(1);
    assert_eq!(said(&s.root, "ls"), "a\n");
    let tree = s.sh("git ls-tree -r --name-only refs/coord/wip/T.a1").stdout;
    assert_eq!(
        tree, "a/b/file\na/b/new\nw1/file\nw1/new\n",
        "what is not checked out is still there"
    );
    s.add(&["--id", "U"], "[ ! -e w1/new ] && [ ! -e a/b/new ]");
    s.coord(&["work", "--once"]).ok();
}

#[test]
fn a_detached_head_is_a_base_like_any_other() {
    let s = Sandbox::bare();
    repository(&s);
    s.sh("git checkout -q --detach && echo three > file && git add file && git commit -qm three");
    work_in(&s, &s.root, "", WHERE);
    assert_eq!(said(&s.root, "file"), "three\n");
}

#[test]
fn a_bare_repository_has_worktrees_beside_it() {
    let s = Sandbox::bare();
    repository(&s);
    let bare = s.beside("repo.git");
    s.sh("echo three > file && git add file && git commit -qm three && git clone -q --bare . ../repo.git");
    work_in(&s, &bare, "", WHERE);
    assert_eq!(said(&bare, "file"), "three\n");
    assert_eq!(said(&bare, "pwd").trim(), s.beside("repo.coord/w1").display().to_string());
    assert_eq!(said(&bare, "ids"), "T\n", "its worktrees find the queue");
    s.sh(
        "git -C ../repo.git worktree add -q --detach ../by-hand && cd ../by-hand/a && coord ls -q",
    );
    // Hidden in a directory that has nothing but worktrees.
    s.sh("mkdir ../hidden && git clone -q --bare . ../hidden/.bare && echo 'gitdir: ./.bare' > ../hidden/.git");
    let hidden = s.beside("hidden");
    work_in(&s, &hidden, "", WHERE);
    assert_eq!(said(&hidden, "file"), "three\n");
    assert_eq!(said(&hidden, "pwd").trim(), s.beside("hidden.coord/w1").display().to_string());
    assert_eq!(said(&hidden, "ids"), "T\n");
}

#[test]
fn an_empty_repository_is_refused_and_not_worked_in_silently() {
    let s = Sandbox::bare();
    s.sh("git init -q -b main .");
    s.coord(&["init"]).ok().warns("no commit yet");
    s.add(&["--id", "T"], "touch ran-in-the-project");
    for verb in [&["start"][..], &["work", "--once"]] {
        s.coord(verb).fails(7, "the git repository has no commit yet").warns("git commit");
    }
    let doctor = s.coord(&["doctor"]);
    doctor.exits(1).says("no commit yet").says("isolation = \"none\"");
    assert_eq!(s.state("T"), "ready");
    assert!(!s.root.join("ran-in-the-project").exists());
    // Either way out that the hint names.
    s.sh("git add -A && git commit -qm start");
    s.coord(&["work", "--once"]).ok();
    assert!(!s.root.join("ran-in-the-project").exists());
    s.sh("rm -rf .git && git init -q . && echo '[worktree]' >> coord.toml && echo 'isolation = \"none\"' >> coord.toml");
    s.add(&["--id", "U"], "touch ran-in-the-project");
    s.coord(&["work", "--once"]).ok();
    assert!(s.root.join("ran-in-the-project").exists());
}

#[test]
fn a_base_that_is_not_there_is_refused() {
    let s = Sandbox::with_git();
    s.configure("[git]\nbase = \"release\"\n");
    s.add(&["--id", "T"], "true");
    s.coord(&["work", "--once"]).fails(7, "there is no commit release").warns("[git] base");
    s.sh("git branch release");
    s.coord(&["work", "--once"]).ok();
}

#[test]
fn a_dirty_project_is_neither_used_nor_touched() {
    let s = Sandbox::with_git();
    s.sh("echo changed >> file && echo staged > staged && git add staged && echo new > new");
    let before = s.sh("git status --porcelain").stdout;
    s.add(
        &["--id", "T"],
        "cat file > $COORD_OUT/file; ls > $COORD_OUT/ls; echo x > file; rm -f new",
    );
    s.work().ok();
    assert_eq!(said(&s.root, "file"), "one\n");
    assert_eq!(said(&s.root, "ls"), "file\n");
    assert_eq!(s.sh("git status --porcelain").stdout, before);
    assert_eq!(s.text("file"), "one\nchanged\n");
}

#[test]
fn a_branch_called_coord_is_named_as_what_is_in_the_way() {
    let s = Sandbox::with_git();
    s.sh("git branch coord");
    s.add(&["--id", "T"], "true");
    let refused = s.coord(&["work", "--once"]);
    refused
        .fails(7, "a branch named `coord` stands where")
        .warns("git branch -m coord another-name");
    s.coord(&["start"]).fails(7, "a branch named `coord`");
    s.sh("git branch -m coord another-name");
    s.coord(&["work", "--once"]).ok();
}

#[test]
fn ids_that_are_no_names_of_refs() {
    let s = Sandbox::with_git();
    for id in ["a..b", "a.lock", "a.", "3.1"] {
        s.add(&["--id", id, "--retries", "0"], "echo x > new; exit 1");
    }
    s.work().exits(1);
    for (id, part) in [("a..b", "a.%2Eb"), ("a.lock", "a%2Elock"), ("a.", "a%2E"), ("3.1", "3.1")] {
        let result = &s.end(id, 1)["result"];
        assert_eq!(result["branch"], format!("coord/{part}/a1"), "{id}");
        assert_eq!(result["wip"], format!("refs/coord/wip/{part}.a1"), "{id}");
        assert_eq!(s.sh(&format!("git show refs/coord/wip/{part}.a1:new")).stdout, "x\n");
    }
}

#[test]
fn a_branch_of_a_former_queue_is_left_alone() {
    let s = Sandbox::with_git();
    s.sh("git branch coord/T/a1 && git update-ref refs/coord/wip/T.a1 HEAD");
    let before = s.sh("git rev-parse coord/T/a1").stdout;
    s.add(&["--id", "T", "--retries", "0"], "echo x > new; exit 1");
    s.work().exits(1);
    let result = s.end("T", 1)["result"].clone();
    let branch = result["branch"].as_str().unwrap().to_owned();
    assert!(branch.starts_with("coord/T/a1-"), "{branch}");
    assert_eq!(result["wip"], "refs/coord/wip/T.a1-2");
    assert_eq!(s.sh("git rev-parse coord/T/a1").stdout, before);
    assert_eq!(s.sh("git rev-parse refs/coord/wip/T.a1").stdout, before);
}
