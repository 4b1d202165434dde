use super::*;
use crate::git::ground::Ground;

/// `repo` and `other`, two repositories with the same bare remote `origin`, whose `main` has a commit.
fn two() -> (Ground, String) {
    let ground = Ground::new();
    let root = ground.put("f", "1\n");
    let top = ground.at("");
    top.must("init", &["clone", "-q", "--bare", "repo", "bare.git"]).unwrap();
    top.must("clone", &["clone", "-q", "bare.git", "other"]).unwrap();
    let url = ground.path("bare.git");
    ground.run(&["remote", "add", "origin", url.to_str().unwrap()]);
    (ground, root)
}

fn commit_on(git: &Git, parent: &str, words: &str) -> String {
    let tree = format!("{parent}^{{tree}}");
    git.must("commit", &["commit-tree", "-p", parent, "-m", words, &tree])
        .unwrap()
        .text()
        .trim()
        .into()
}

#[test]
fn fetching_touches_nothing_of_the_users() {
    let (ground, root) = two();
    let (git, other) = (ground.git(), ground.at("other"));
    let refs = || ground.run(&["for-each-ref"]);
    assert_eq!(fetch(&git, "origin", "main").unwrap(), Some(root.clone()));
    let before = refs();
    assert!(before.contains("refs/coord/remote/origin/main"));
    assert_eq!(fetch(&git, "origin", "nothing").unwrap(), None);
    let new = commit_on(&other, &root, "new");
    other.must("tag", &["tag", "v1", &new]).unwrap();
    other.must("push", &["push", "-q", "origin", &format!("{new}:main"), "v1"]).unwrap();
    ground.run(&["config", "fetch.prune", "true"]);
    ground.run(&["update-ref", "refs/remotes/origin/main", &root]);
    ground.run(&["update-ref", "refs/remotes/origin/past", &root]);
    let before = refs();
    assert_eq!(fetch(&git, "origin", "main").unwrap(), Some(new.clone()));
    assert_eq!(refs(), before.replacen(&root, &new, 1), "only the first one, ours, has moved");
    assert!(!ground.path("repo/.git/FETCH_HEAD").exists());
    // Somebody has forced it: it is where it is.
    other.must("force", &["push", "-q", "--force", "origin", &format!("{root}:main")]).unwrap();
    assert_eq!(fetch(&git, "origin", "main").unwrap(), Some(root));
    let error = fetch(&git, "elsewhere", "main").unwrap_err();
    assert!(error.message.contains("cannot reach elsewhere"), "{}", error.message);
}

#[test]
fn pushing_goes_forward_only() {
    let (ground, root) = two();
    let (git, other) = (ground.git(), ground.at("other"));
    let ours = commit_on(&git, &root, "ours");
    let theirs = commit_on(&other, &root, "theirs");
    ground.run(&["tag", "-a", "-m", "x", "mine", &ours]);
    ground.run(&["config", "push.followTags", "true"]);
    ground.run(&["config", "push.gpgSign", "true"]);
    for _ in 0..2 {
        assert_eq!(push(&git, "origin", &ours, "main").unwrap(), Pushed::Done);
    }
    assert_eq!(push(&other, "origin", &theirs, "main").unwrap(), Pushed::Behind);
    // Also where the commit is a part of what is there.
    assert_eq!(push(&other, "origin", &root, "main").unwrap(), Pushed::Behind);
    let tip = fetch(&other, "origin", "main").unwrap().unwrap();
    assert_eq!(tip, ours);
    let next = commit_on(&other, &tip, "next");
    assert_eq!(push(&other, "origin", &next, "main").unwrap(), Pushed::Done);
    assert_eq!(push(&other, "origin", &next, "new/branch").unwrap(), Pushed::Done);
    let all = ground.at("bare.git").must("list", &["for-each-ref", "--format=%(refname)"]).unwrap();
    assert_eq!(all.text(), "refs/heads/main\nrefs/heads/new/branch\n");
    let error = push(&git, "elsewhere", &ours, "main").unwrap_err();
    assert!(error.message.contains("cannot reach elsewhere"), "{}", error.message);
    assert_eq!(push(&git, "origin", &"5".repeat(40), "main").unwrap_err().exit, Exit::NotFound);
}

#[test]
fn a_refusal_has_its_words() {
    let (ground, root) = two();
    let git = ground.git();
    let new = commit_on(&git, &root, "new");
    let refused = || match push(&git, "origin", &new, "main").unwrap() {
        Pushed::Refused(words) => words,
        other => panic!("{other:?}"),
    };
    ground.hook("bare.git", "pre-receive", "echo 'only on weekdays'; exit 1");
    let words = refused();
    assert!(words.starts_with("[remote rejected] (pre-receive hook declined)\n"), "{words}");
    assert!(words.contains("\nonly on weekdays"), "{words}");
    ground.hook("bare.git", "pre-receive", "exit 0");
    ground.hook("repo", "pre-push", "echo 'not from here' >&2; exit 1");
    assert_eq!(refused(), "not from here");
    assert_eq!(fetch(&git, "origin", "main").unwrap(), Some(root));
}

#[test]
fn a_lost_reply_of_the_remote_is_looked_up() {
    let (ground, root) = two();
    let git = ground.git();
    let new = commit_on(&git, &root, "new");
    // The connection breaks when the branch is moved.
    ground.hook("bare.git", "post-receive", "kill -9 $PPID");
    assert_eq!(push(&git, "origin", &new, "main").unwrap(), Pushed::Done);
    assert_eq!(fetch(&git, "origin", "main").unwrap(), Some(new));
}

#[test]
fn two_writers_lose_nothing() {
    const COMMITS: usize = 12;
    let (ground, _) = two();
    let writer = |name: &'static str| {
        let ground = &ground;
        move || {
            let git = ground.at(name);
            for n in 0..COMMITS {
                loop {
                    let tip = fetch(&git, "origin", "main").unwrap().unwrap();
                    let new = commit_on(&git, &tip, &format!("{name} {n}"));
                    match push(&git, "origin", &new, "main").unwrap() {
                        Pushed::Done => break,
                        Pushed::Behind => {}
                        Pushed::Refused(words) => panic!("{words}"),
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(writer("repo"));
        scope.spawn(writer("other"));
    });
    let log = ground.at("bare.git").must("log", &["log", "--format=%s", "main"]).unwrap().text();
    let mut found: Vec<&str> = log.lines().collect();
    assert_eq!(found.pop(), Some("put f"));
    found.sort();
    let mut all: Vec<String> =
        (0..COMMITS).flat_map(|n| [format!("repo {n}"), format!("other {n}")]).collect();
    all.sort();
    assert_eq!(found, all);
}
