use super::*;
use crate::git::ground::Ground;

const MAIN: &str = "refs/heads/main";

/// Three commits on `main`, which is checked out, and `other`, which conflicts with the last one.
fn ground(options: &[&str]) -> Ground {
    let ground = Ground::with(options);
    ground.put("f", "1\n");
    let first = ground.put("f", "2\n");
    ground.branch("other", &first);
    ground.put("g", "0\n");
    ground.put("f", "other\n");
    ground.branch("main", &first);
    ground.put("f", "3\n");
    ground
}

/// What is under way with a branch, and where.
fn seen(ground: &Ground, branch: &str) -> Option<(&'static str, PathBuf)> {
    find(&ground.git(), branch).unwrap().map(|it| (it.activity.what, it.path))
}

fn what(ground: &Ground, branch: &str) -> Option<&'static str> {
    seen(ground, branch).map(|(what, _)| what)
}

/// Runs a command that stops half-way.
fn begin(ground: &Ground, dir: &str, args: &[&str]) {
    let git = ground.at(dir).env("GIT_SEQUENCE_EDITOR", "sed -i s/^pick/edit/");
    drop(git.run(args).unwrap());
}

#[test]
fn whatever_is_under_way_in_the_main_worktree() {
    let cases: [(&[&str], &[&str], &str); 8] = [
        (&["merge", "other"], &["merge", "--abort"], "a merge"),
        (&["rebase", "-i", "HEAD~1"], &["rebase", "--abort"], "a rebase"),
        (&["rebase", "--apply", "other"], &["rebase", "--abort"], "a rebase"),
        (&["rebase", "--merge", "other"], &["rebase", "--abort"], "a rebase"),
        (&["cherry-pick", "other"], &["cherry-pick", "--abort"], "a cherry-pick"),
        (&["revert", "--no-edit", "HEAD~1"], &["revert", "--abort"], "a revert"),
        (&["bisect", "start", "HEAD", "HEAD~2"], &["bisect", "reset"], "a bisection"),
        (&["am", "-q", "p"], &["am", "--abort"], "git am"),
    ];
    for options in [&[][..], &["--ref-format=reftable"][..]] {
        let ground = ground(options);
        let patch = ground.git().must("", &["format-patch", "-1", "--stdout", "other"]).unwrap();
        ground.write("p", patch.stdout);
        for (start, end, name) in cases {
            assert_eq!(what(&ground, MAIN), None, "{options:?}: before {start:?}");
            begin(&ground, "repo", start);
            let top = ground.path("repo").canonicalize().unwrap();
            assert_eq!(seen(&ground, MAIN), Some((name, top)), "{options:?}: {start:?}");
            assert_eq!(what(&ground, "refs/heads/other"), None, "{options:?}: {start:?}");
            ground.run(end);
        }
    }
}

#[test]
fn a_pick_of_several_of_which_one_was_committed_by_hand() {
    let ground = ground(&[]);
    begin(&ground, "repo", &["cherry-pick", "other", "other~1"]);
    ground.commit("resolved");
    assert_eq!(what(&ground, MAIN), Some("a cherry-pick or a revert of several commits"));
    ground.run(&["cherry-pick", "--quit"]);
    assert_eq!(what(&ground, MAIN), None);
}

#[test]
fn a_conflict_of_which_only_the_index_knows() {
    let ground = ground(&[]);
    begin(&ground, "repo", &["merge", "-q", "--squash", "other"]);
    assert_eq!(what(&ground, MAIN), Some("a conflict that is not resolved"));
    ground.run(&["reset", "-q", "--hard"]);
    assert_eq!(what(&ground, MAIN), None);
}

#[test]
fn in_a_linked_worktree_that_is_elsewhere_by_now() {
    let ground = ground(&[]);
    let tree = ground.path("a tree\nhere");
    let path = tree.to_str().unwrap();
    ground.run(&["worktree", "add", "-q", path, "other"]);
    let real = tree.canonicalize().unwrap();
    let other = "refs/heads/other";
    assert_eq!(seen(&ground, other), None);
    begin(&ground, "a tree\nhere", &["rebase", "-i", "HEAD~1"]);
    assert_eq!(seen(&ground, other), Some(("a rebase", real.clone())));
    assert_eq!(what(&ground, MAIN), None, "another branch is nobody's business");
    begin(&ground, "a tree\nhere", &["rebase", "--abort"]);
    begin(&ground, "a tree\nhere", &["bisect", "start"]);
    assert_eq!(seen(&ground, other), Some(("a bisection", real)));
    // Who removed the directory will never go back to the branch.
    crate::sys::fs::remove_tree(&tree).unwrap();
    assert_eq!(seen(&ground, other), None);
}

#[test]
fn branches_that_a_rebase_takes_along() {
    let ground = ground(&[]);
    ground.branch("top", "other");
    ground.put("h", "1\n");
    begin(&ground, "repo", &["rebase", "-i", "--update-refs", "HEAD~3"]);
    for branch in ["refs/heads/top", "refs/heads/other"] {
        assert_eq!(what(&ground, branch), Some("a rebase"), "{branch}");
    }
    assert_eq!(what(&ground, MAIN), None);
}

#[test]
fn a_bare_repository_and_one_without_commits_use_nothing() {
    for ground in [Ground::with(&["--bare"]), Ground::new()] {
        assert_eq!(what(&ground, MAIN), None);
    }
}
