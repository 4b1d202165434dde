//! Where a task is merged: the branch is fixed when the task is accepted, and waited for where it is gone.

use std::fs;

use serde_json::Value;

use crate::support::{Sandbox, until};

/// A repository with a few commits on `main`, which is checked out, and tasks that are merged.
pub fn sandbox(merge: &str) -> Sandbox {
    let s = Sandbox::with_git();
    s.sh("seq 30 >a.txt && git add a.txt && git commit -qm lines && echo m >>file && git commit -qam m");
    s.configure(&format!("[merge]\nenabled = true\n{merge}\n"));
    s
}

pub fn edit(s: &Sandbox, id: &str, options: &[&str], line: &str) {
    let line = format!("{line} && git add -A && git commit -qm {id}");
    let all: Vec<&str> = ["--id", id].iter().chain(options).copied().collect();
    s.add(&all, &line);
}

/// Works until nothing is left; a hang is a failure.
pub fn work(s: &Sandbox) {
    s.collect(s.background(&["work", "--until-empty"])).ok();
}

pub fn spec(s: &Sandbox, id: &str) -> Value {
    let text = s.text(s.queue(&format!("tasks/{id}/spec.json")));
    serde_json::from_str(&text).unwrap_or_default()
}

pub fn head(s: &Sandbox, branch: &str) -> String {
    s.sh(&format!("git rev-parse refs/heads/{branch}")).line().to_owned()
}

pub fn files(s: &Sandbox, branch: &str) -> Vec<String> {
    let names = s.sh(&format!("git ls-tree -r --name-only refs/heads/{branch}")).stdout;
    names.lines().map(str::to_owned).collect()
}

pub fn has(s: &Sandbox, branch: &str, name: &str) -> bool {
    files(s, branch).iter().any(|file| file == name)
}

/// What NEEDS YOU says: kind, what, hint.
pub fn needs(s: &Sandbox) -> Vec<(String, String, String)> {
    let status = s.coord(&["status", "--json"]).ok().json("coord.status/1");
    let text = |need: &Value, field: &str| need[field].as_str().unwrap_or_default().to_owned();
    let needs = status["needs_you"].as_array().cloned().unwrap_or_default();
    needs.iter().map(|n| (text(n, "kind"), text(n, "what"), text(n, "hint"))).collect()
}

// --- which branch ---

#[test]
fn what_is_checked_out_later_does_not_change_where_a_task_goes() {
    let s = sandbox("");
    edit(&s, "A", &[], "echo a >one.txt");
    assert_eq!(spec(&s, "A")["into"], "main");
    s.sh("git switch -qc other && echo o >o.txt && git add o.txt && git commit -qm other");
    let other = head(&s, "other");
    // The same task again is the same task.
    edit(&s, "A", &[], "echo a >one.txt");
    edit(&s, "B", &[], "echo b >two.txt");
    work(&s);
    assert_eq!((s.state("A"), s.state("B")), ("done".into(), "done".into()));
    assert!(has(&s, "main", "one.txt") && !has(&s, "main", "two.txt") && !has(&s, "main", "o.txt"));
    assert!(has(&s, "other", "two.txt") && !has(&s, "other", "one.txt"));
    assert_ne!(head(&s, "other"), other);
    s.coord(&["show", "A"]).ok().says("into main");
    edit(&s, "A", &[], "echo a >one.txt");
    s.coord(&["add", "--id", "A", "--sh", "another"]).fails(5, "the id A is taken");
}

#[test]
fn a_list_that_is_imported_again_adds_nothing() {
    let s = sandbox("");
    fs::write(s.root.join("TASKS.md"), "- [ ] W-1: one `true`\n- [ ] two `true`\n").unwrap();
    let lines = "{\"id\": \"J-1\", \"sh\": \"true\", \"merge\": true}\n{\"id\": \"J-2\", \"sh\": \"true\"}\n";
    fs::write(s.root.join("tasks.jsonl"), lines).unwrap();
    let import = || s.coord(&["import", "TASKS.md", "tasks.jsonl"]).ok().stdout.clone();
    import();
    let into = |id: &str| spec(&s, id)["into"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (into("W-1"), into("J-1"), into("J-2")),
        ("main".into(), "main".into(), String::new())
    );
    s.sh("git switch -qc other");
    let again = import();
    assert!(!again.contains("added") && again.matches("there already").count() == 4, "{again}");
}

#[test]
fn coord_toml_decides_also_afterwards() {
    let s = sandbox("into = \"main\"");
    edit(&s, "A", &[], "echo a >one.txt");
    assert_eq!(spec(&s, "A")["into"], Value::Null);
    s.sh("git branch next");
    s.configure("[merge]\nenabled = true\ninto = \"next\"\n");
    work(&s);
    assert!(has(&s, "next", "one.txt") && !has(&s, "main", "one.txt"));
    // Named nowhere any more: nothing that happens to be checked out is taken for it.
    s.coord(&["mergeq", "pause"]).ok();
    edit(&s, "B", &[], "echo b >two.txt");
    work(&s);
    s.configure("");
    s.coord(&["mergeq", "resume"]).ok();
    work(&s);
    assert_eq!(s.state("B"), "merging");
    let needs = needs(&s);
    assert!(needs[0].1.contains("no branch is named to merge into"), "{needs:?}");
    assert!(needs[0].2.contains("[merge] into"), "{needs:?}");
}

#[test]
fn from_incoming_as_from_add() {
    let s = sandbox("");
    s.start(1);
    let put = |name: &str, text: &str| {
        fs::write(s.beside(name), text).unwrap();
        fs::rename(s.beside(name), s.queue("incoming").join(name)).unwrap();
    };
    let line = "echo a >one.txt && git add . && git commit -qm a";
    put("A.json", &format!("{{\"id\": \"A\", \"merge\": true, \"sh\": \"{line}\"}}"));
    s.until_state("A", "done");
    assert_eq!(spec(&s, "A")["into"], "main");
    s.sh("git switch -q --detach && git branch release");
    put("B.json", "{\"id\": \"B\", \"merge\": true, \"sh\": \"true\"}");
    let why = || s.text(s.queue("incoming/rejected/B.json.why"));
    until("it is rejected", || !why().is_empty());
    assert!(
        why().contains("no branch is checked out") && why().contains("[merge] into"),
        "{}",
        why()
    );
    put("C.json", "{\"id\": \"C\", \"merge\": true, \"into\": \"release\", \"sh\": \"true\"}");
    s.until_state("C", "done");
    s.coord(&["stop"]).ok();
}

#[test]
fn without_a_branch_nothing_is_accepted_that_is_to_be_merged() {
    let s = sandbox("");
    s.sh("git switch -q --detach");
    s.coord(&["add", "--id", "A", "--", "true"])
        .fails(7, "no branch is checked out")
        .warns("--no-merge");
    s.coord(&["add", "--id", "A", "--merge", "--", "true"]).fails(7, "no branch is checked out");
    fs::write(s.root.join("TASKS.md"), "- [ ] W-1: one `true`\n").unwrap();
    s.coord(&["import", "TASKS.md"]).fails(7, "no branch is checked out");
    assert_eq!(s.names("tasks"), [""; 0]);
    s.coord(&["add", "--id", "A", "--no-merge", "--", "true"]).ok();
    s.coord(&["add", "--id", "B", "--into", "main", "--", "true"]).ok();
    work(&s);
    assert_eq!((s.state("A"), s.state("B")), ("done".into(), "done".into()));
    // Where there is no repository nothing will ever be merged.
    let alone = Sandbox::new();
    alone.coord(&["add", "--merge", "--", "true"]).fails(7, "nothing can be merged here");
    assert_eq!(alone.names("tasks"), [""; 0]);
}

#[test]
fn what_is_no_branch_of_this_repository_is_no_target() {
    let s = sandbox("");
    s.sh("git update-ref refs/remotes/origin/main HEAD && git tag v1 && git symbolic-ref refs/heads/odd refs/tags/v1");
    s.sh("git update-ref refs/heads/coord/X/a1 HEAD && git symbolic-ref refs/heads/master refs/heads/main");
    s.sh("git symbolic-ref refs/heads/nowhere refs/heads/gone");
    for (into, says) in [
        ("origin/main", "origin/main is a branch of a remote"),
        ("v1", "v1 is a tag"),
        ("odd", "odd stands for refs/tags/v1"),
        ("coord/X/a1", "nothing is merged into coord/X/a1"),
        ("HEAD", "there is no branch HEAD"),
        ("mian", "there is no branch mian"),
        ("nowhere", "there is no branch gone"),
        ("a.lock", "cannot be the name of a branch"),
    ] {
        s.coord(&["add", "--into", into, "--", "true"])
            .fails(if into == "a.lock" { 2 } else { 7 }, says);
    }
    assert_eq!(s.names("tasks"), [""; 0]);
    // Another name for a branch is that branch; so is its full name.
    for (id, into) in [("A", "master"), ("B", "refs/heads/main")] {
        edit(&s, id, &["--into", into], &format!("echo {id} >{id}.txt"));
        assert_eq!(spec(&s, id)["into"], "main");
    }
    work(&s);
    assert!(has(&s, "main", "A.txt") && has(&s, "main", "B.txt"));
    assert_eq!(s.sh("git symbolic-ref refs/heads/master").line(), "refs/heads/main");
    // Somebody looks at an attempt: that is no place to merge into.
    s.coord(&["checkout", "A"]).ok();
    s.coord(&["add", "--", "true"]).fails(7, "nothing is merged into coord/A/a1");
}

#[test]
fn names_that_git_could_take_for_something_else() {
    for branch in ["main", "feat/x", "HEAD", "HASH", "0123456"] {
        let s = sandbox("");
        let name = if branch == "HASH" { head(&s, "main") } else { branch.to_owned() };
        let name = name.as_str();
        let start = head(&s, "main");
        // A tag of that name, and HEAD, are elsewhere.
        s.sh(&format!(
            "git update-ref 'refs/heads/{name}' HEAD && git update-ref 'refs/tags/{name}' HEAD~1"
        ));
        s.sh(&format!("git symbolic-ref HEAD 'refs/heads/{name}' && echo x >>file && git commit -qam x 2>/dev/null"));
        let base = head(&s, name);
        edit(&s, "A", &[], "echo a >one.txt");
        assert_eq!(spec(&s, "A")["into"], name);
        work(&s);
        assert_eq!(s.state("A"), "done", "{name}: {}", s.coord(&["why", "A"]).stdout);
        assert_eq!(s.end("A", 1)["result"]["base"], base.as_str(), "{name}");
        assert!(has(&s, name, "one.txt"), "{name}");
        assert_eq!(s.text("one.txt"), "a\n", "{name}: the worktree was left behind");
        assert_eq!(s.sh("git status --porcelain -uno 2>/dev/null").stdout, "", "{name}");
        if name != "main" {
            assert_eq!(head(&s, "main"), start, "{name}");
        }
    }
}

#[test]
fn a_branch_that_is_named_like_the_commit_that_attempts_start_from() {
    let s = sandbox("into = \"main\"");
    let base = head(&s, "main");
    s.sh(&format!("git update-ref refs/heads/{base} HEAD~1"));
    // Two in the same slot: it is made, and brought to the base again.
    edit(&s, "A", &["--no-merge"], "echo a >one.txt");
    edit(&s, "B", &["--no-merge"], "echo b >two.txt");
    work(&s);
    for id in ["A", "B"] {
        assert_eq!(s.state(id), "done", "{}", s.coord(&["why", id]).stdout);
        assert_eq!(s.sh(&format!("git rev-parse coord/{id}/a1~1 2>/dev/null")).line(), base);
    }
    s.coord(&["worktree", "ls"]).ok().silent_about("retired");
}

#[test]
fn base_is_the_branch_where_a_tag_has_its_name() {
    let s = Sandbox::with_git();
    s.sh("git tag base && echo b >b.txt && git add . && git commit -qm b && git branch base && git switch -qc else && git commit -q --allow-empty -m e");
    s.configure("[git]\nbase = \"base\"\n");
    s.add(&["--id", "A"], "git rev-parse HEAD >../../was");
    s.add(&["--id", "B", "--merge"], "echo b >two.txt && git add . && git commit -qm two");
    work(&s);
    assert_eq!(s.end("A", 1)["result"]["base"], s.sh("git rev-parse refs/heads/base~1").line());
    assert!(has(&s, "base", "two.txt") && !has(&s, "else", "two.txt"), "coord.toml names it");
}

// --- a branch that is gone ---

#[test]
fn a_branch_that_was_renamed_is_told_and_waited_for() {
    let s = sandbox("");
    s.coord(&["mergeq", "pause"]).ok();
    edit(&s, "A", &[], "echo a >one.txt");
    work(&s);
    edit(&s, "B", &[], "echo b >two.txt");
    s.sh("git branch -m main trunk");
    s.coord(&["mergeq", "resume"]).ok();
    work(&s);
    // Of one that is ready no attempt is used up.
    assert_eq!((s.state("A"), s.state("B")), ("merging".into(), "delayed".into()));
    assert_eq!(s.end("B", 1)["verdict"], "release");
    let command = "git symbolic-ref refs/heads/main refs/heads/trunk";
    let told = needs(&s);
    assert_eq!(told.len(), 2, "{told:?}");
    for (_, what, hint) in &told {
        assert!(what.contains("there is no branch main to merge into"), "{told:?}");
        assert!(hint.contains("it was renamed to trunk") && hint.contains(command), "{told:?}");
    }
    for id in ["A", "B"] {
        s.coord(&["why", id]).ok().says("there is no branch main to merge into").says(command);
    }
    s.coord(&["mergeq", "ls"]).ok().says("stuck: there is no branch main");
    s.coord(&["merge"]).ok().warns("there is no branch main");
    s.sh(command);
    s.start(1);
    s.coord(&["wait", "--timeout", "30s"]).ok();
    s.coord(&["stop"]).ok();
    assert!(has(&s, "trunk", "one.txt") && has(&s, "trunk", "two.txt"));
    assert_eq!((s.text("one.txt"), s.text("two.txt")), ("a\n".into(), "b\n".into()));
    assert!(needs(&s).is_empty(), "{:?}", needs(&s));
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_branch_that_was_removed_and_is_there_again() {
    let s = sandbox("");
    s.sh("git branch release HEAD~1");
    let commit = head(&s, "release");
    s.coord(&["mergeq", "pause"]).ok();
    edit(&s, "A", &["--into", "release"], "echo a >one.txt");
    edit(&s, "M", &[], "echo m >two.txt");
    work(&s);
    s.sh("git branch -qD release");
    s.coord(&["mergeq", "resume"]).ok();
    work(&s);
    assert_eq!(
        (s.state("A"), s.state("M")),
        ("merging".into(), "done".into()),
        "it kept others from it"
    );
    assert_eq!(needs(&s)[0].2, "git branch release COMMIT makes it again");
    s.sh(&format!("git branch release {commit}"));
    s.coord(&["mergeq", "retry", "A"]).ok();
    work(&s);
    assert_eq!(s.state("A"), "done");
    assert!(has(&s, "release", "one.txt") && !has(&s, "release", "two.txt"));
}
