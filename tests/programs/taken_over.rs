//! A scope is about what an attempt changed itself, not about what it took over from the branch that it
//! works for.

use crate::support::Sandbox;

/// A task whose scope is `src`. While it runs, and has not committed, `main` gets a change of `docs/d`,
/// a new `docs/e`, and loses `old`.
fn attempt(take: &str, more: &str, options: &[&str]) -> Sandbox {
    let s = Sandbox::with_git();
    s.sh("mkdir src docs && echo s >src/s && seq 9 >docs/d && echo o >old && git add . && git commit -qm start");
    let project = s.root.display().to_string();
    let others = format!(
        "(cd '{project}' && unset GIT_AUTHOR_NAME GIT_COMMITTER_NAME; echo d2 >>docs/d && git commit -qam d && \
         echo e >docs/e && git rm -q old && git add . && git commit -qm e)"
    );
    let line = format!(
        "set -e; {others}; echo x >src/x; git add -A; git commit -qm x; {take}; {more} git status --short"
    );
    let all = [&["--id", "A", "--retries", "0", "--scope", "src"], options].concat();
    s.add(&all, &line);
    s.collect(s.background(&["work", "--until-empty"]));
    s
}

#[test]
fn what_was_taken_over_is_not_its_own() {
    for take in [
        "git merge -q --no-edit main",
        "git rebase -q main",
        "git cherry-pick main~1 main >/dev/null",
        "git merge -q --squash main >/dev/null && git commit -qm squashed",
        // Nothing is committed of it.
        "git merge -q --no-commit main >/dev/null",
    ] {
        let s = attempt(take, "", &[]);
        let end = s.end("A", 1);
        assert_eq!(s.state("A"), "done", "{take}: {}", end["why"]);
    }
    let s = attempt("git merge -q --no-edit main", "", &[]);
    s.coord(&["diff", "A", "--stat"]).ok().says("src/x").silent_about("docs");
    let files = s.coord(&["diff", "A", "--json"]).ok().json("coord.diff/1")["files"].clone();
    assert_eq!(files.as_array().unwrap().len(), 1, "{files}");
}

#[test]
fn what_it_changed_besides_still_fails_it() {
    for (take, more, path) in [
        ("git merge -q --no-edit main", "echo mine >>docs/e; git commit -qam m;", "docs/e"),
        ("git rebase -q main", "git rm -q docs/d; git commit -qm m;", "docs/d"),
        ("git cherry-pick main~1 >/dev/null", "git rm -q docs/d; git commit -qm m;", "docs/d"),
        // It takes back what others have done.
        (
            "git merge -q --no-edit main",
            "git checkout -q main~2 -- docs/d old; git commit -qm m;",
            "docs/d, old",
        ),
        ("git merge -q --no-edit main", "echo left >docs/left;", "docs/left"),
        // Of a branch that nobody works for.
        (
            "git checkout -qb other; echo o >docs/o; git add .; git commit -qm o; git checkout -q -; git merge -q other",
            "",
            "docs/o",
        ),
    ] {
        let s = attempt(take, more, &[]);
        assert_eq!(s.state("A"), "failed", "{take}; {more}");
        let why = s.end("A", 1)["why"].as_str().unwrap().to_owned();
        assert!(
            why.ends_with(&format!("outside of its scope (src): {path}")),
            "{take}; {more}: {why}"
        );
    }
}

#[test]
fn from_the_branch_that_it_is_merged_into_and_from_a_remote() {
    let s = Sandbox::with_git();
    s.sh("mkdir src docs && echo s >src/s && echo d >docs/d && git add . && git commit -qm start");
    s.sh("git branch release && git clone -q . ../other && git remote add origin $PWD/../other");
    s.sh("git switch -q release && echo r >docs/r && git add . && git commit -qm r && git switch -q main");
    s.sh("git -C ../other config user.email o@example.org && cd ../other && echo o >docs/o && git add . && git commit -qm o");
    let line = "echo x >src/x && git add . && git commit -qm x";
    s.add(
        &["--id", "R", "--retries", "0", "--scope", "src", "--into", "release"],
        &format!("git reset -q --hard main && {line} && git merge -q --no-edit release"),
    );
    let fetch = format!("git fetch -q origin && git merge -q --no-edit origin/main && {line}");
    s.add(&["--id", "O", "--retries", "0", "--scope", "src"], &fetch);
    s.collect(s.background(&["work", "--until-empty"]));
    for id in ["R", "O"] {
        assert_eq!(s.state(id), "done", "{}", s.end(id, 1)["why"]);
    }
}
