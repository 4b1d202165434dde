//! A small repository on somebody's desk, for tests of one thing at a time: a file of lines, and a
//! check that knows the word BAD.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::Sandbox;

/// A queue that merges into `main`, which the project has checked out.
pub fn desk(merge: &str) -> Sandbox {
    with(&format!("into = \"main\"\ncheck = \"! grep -qs BAD *.txt\"\n{merge}"))
}

/// The same with nothing else said of merging.
pub fn with(merge: &str) -> Sandbox {
    let s = Sandbox::with_git();
    s.sh("seq 30 >a.txt && git add a.txt && git commit --quiet --message lines");
    s.configure(&format!("[merge]\nenabled = true\n{merge}\n"));
    s
}

/// Adds a task that edits and commits.
pub fn edit(s: &Sandbox, id: &str, options: &[&str], line: &str) {
    let line = format!("{line} && git add --all && git commit --quiet --message {id}");
    let all: Vec<&str> = ["--id", id].iter().chain(options).copied().collect();
    s.add(&all, &line);
}

/// Works until nothing is left that could be done. A hang is a failure.
pub fn work(s: &Sandbox) {
    s.collect(s.background(&["work", "--until-empty"]));
}

/// How the merge of an attempt ended; null if it has not.
pub fn merge_of(s: &Sandbox, id: &str, n: u32) -> Value {
    let path = s.queue(&format!("tasks/{id}/{n}.merge"));
    fs::read_to_string(path).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
}

/// The states of tasks, in words.
pub fn states(s: &Sandbox, ids: &[&str]) -> String {
    ids.iter().map(|id| s.state(id)).collect::<Vec<_>>().join(" ")
}

/// The subjects of what a branch has pointed to, newest first.
pub fn subjects(s: &Sandbox, branch: &str) -> Vec<String> {
    let text = s.sh(&format!("git log --first-parent --format=%s {branch}")).stdout;
    text.lines().map(str::to_owned).collect()
}

/// What the worktree has that its branch has not, or the reverse.
pub fn undone(s: &Sandbox) -> String {
    s.sh("git status --porcelain --untracked-files=no").stdout
}

/// From now on, once: the process whose git has just moved `main` is killed, before it can know.
pub fn kill_who_moves_main(s: &Sandbox) {
    let armed = s.beside("armed");
    fs::write(&armed, "").unwrap();
    let hook = s.root.join(".git/hooks/reference-transaction");
    let script = format!(
        "#!/bin/sh\ntest \"$1\" = committed && grep -q ' refs/heads/main$' || exit 0\n\
         rm '{}' 2>/dev/null || exit 0\nset -- $(cat /proc/$PPID/stat)\nkill -9 $4\n",
        armed.display()
    );
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whether that has happened.
pub fn was_killed(s: &Sandbox) -> bool {
    !s.beside("armed").exists()
}
