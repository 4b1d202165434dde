use super::*;
use crate::git::ground::{self, Ground};

const MAIN: &str = "refs/heads/main";

/// A repository with `main` checked out, which was moved from `from` to `to` by its ref alone.
struct Moved {
    ground: Ground,
    from: String,
    to: String,
}

impl Moved {
    /// `before` is made of the repository before it is moved, `change` in between.
    fn new(before: impl Fn(&Ground), change: impl Fn(&Ground)) -> Moved {
        let ground = Ground::new();
        ground.write(".gitignore", "*.env\nbuild/\n*.o\n");
        ground.write("same", "1\n");
        ground.write("dir/gone", "1\n");
        ground.put("f", "1\n");
        before(&ground);
        let from = ground.commit("before");
        ground.branch("work", &from);
        change(&ground);
        let to = ground.commit("change");
        ground.branch("main", &from);
        ground.run(&["update-ref", MAIN, &to, &from]);
        Moved { ground, from, to }
    }

    fn simple() -> Moved {
        Moved::new(
            |_| {},
            |ground| {
                ground.write("f", "2\n");
                ground.write("sub/new", "new\n");
                ground.run(&["rm", "-q", "dir/gone"]);
            },
        )
    }

    fn along(&self) -> Along {
        let top = self.ground.path("repo");
        bring_along(&self.ground.git(), &top, MAIN, &self.from, &self.to).unwrap()
    }

    fn status(&self) -> String {
        self.ground.run(&["status", "--porcelain", "--untracked-files=all"])
    }
}

fn dirty(paths: &[&str]) -> Along {
    Along::Dirty(paths.iter().map(|path| (*path).to_owned()).collect())
}

#[test]
fn a_clean_worktree_comes_along_and_does_so_once() {
    let moved = Moved::simple();
    assert_ne!(moved.status(), "");
    for _ in 0..2 {
        assert_eq!(moved.along(), Along::Done);
        assert_eq!(moved.status(), "");
    }
    assert_eq!(moved.ground.read("sub/new"), "new\n");
    assert!(!moved.ground.path("repo/dir").exists());
}

#[test]
fn changes_in_other_files_are_kept() {
    let moved = Moved::simple();
    moved.ground.write("same", "mine\n");
    moved.ground.write("staged", "mine\n");
    moved.ground.run(&["add", "staged"]);
    moved.ground.write("untracked", "mine\n");
    moved.ground.write("secret.env", "mine\n");
    // Only its time is another one.
    ground::age(&moved.ground.path("repo/f"));
    assert_eq!(moved.along(), Along::Done);
    assert_eq!(moved.status(), " M same\nA  staged\n?? untracked");
    assert_eq!(moved.ground.read("same"), "mine\n");
    assert_eq!(moved.ground.read("secret.env"), "mine\n");
    assert_eq!(moved.ground.read("f"), "2\n");
}

#[test]
fn what_is_in_the_way_stays_and_nothing_else_moves() {
    type Act = fn(&Ground);
    let cases: [(&str, Act, &[&str]); 6] = [
        ("changed", |g| g.write("f", "mine\n"), &["f"]),
        (
            "staged",
            |g| {
                g.write("f", "mine\n");
                g.run(&["add", "f"]);
            },
            &["f"],
        ),
        ("untracked", |g| g.write("sub/new", "mine\n"), &["sub/new"]),
        ("a file for a directory", |g| g.write("sub", "mine\n"), &["sub"]),
        ("a directory for a file", |g| g.write("sub/new/x.o", "mine\n"), &["sub/new/x.o"]),
        (
            "several",
            |g| {
                g.write("f", "mine\n");
                g.write("dir/gone", "mine\n");
                g.write("sub/new", "mine\n");
            },
            &["dir/gone", "f", "sub/new"],
        ),
    ];
    for (name, act, paths) in cases {
        let moved = Moved::simple();
        act(&moved.ground);
        let before = moved.status();
        assert_eq!(moved.along(), dirty(paths), "{name}");
        assert_eq!(moved.status(), before, "{name}");
        assert!(paths.iter().all(|path| moved.ground.read(path) == "mine\n"), "{name}");
    }
}

#[test]
fn ignored_files_are_not_worthless() {
    let change = |ground: &Ground| {
        ground.write("x.env", "theirs\n");
        ground.write("build", "a file\n");
        ground.write("out/deep", "theirs\n");
    };
    let moved = Moved::new(|_| {}, change);
    moved.ground.write("x.env", "mine\n");
    moved.ground.write("build/y.o", "mine\n");
    moved.ground.write("out.o", "elsewhere\n");
    assert_eq!(moved.along(), dirty(&["build/y.o", "x.env"]));
    assert_eq!(moved.ground.read("x.env"), "mine\n");
    ground::remove(&moved.ground.path("repo/x.env"));
    ground::remove(&moved.ground.path("repo/build/y.o"));
    assert_eq!(moved.along(), Along::Done);
    assert_eq!(moved.ground.read("build"), "a file\n");
    assert_eq!(moved.status(), "");
}

#[test]
fn a_held_index_is_waited_for_and_then_left() {
    let moved = Moved::simple();
    let lock = moved.ground.path("repo/.git/index.lock");
    ground::write(&lock, b"");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            crate::sys::wake::nap(Duration::from_millis(400));
            ground::remove(&lock);
        });
        assert_eq!(moved.along(), Along::Done);
    });
    let moved = Moved::simple();
    ground::write(&moved.ground.path("repo/.git/index.lock"), b"");
    let Along::Busy(words) = moved.along() else { panic!("not busy") };
    assert!(words.contains("another git is at work") && words.contains("index.lock'"), "{words}");
    assert_eq!(moved.ground.read("f"), "1\n");
}

#[test]
fn a_worktree_in_the_middle_of_something_is_left_alone() {
    let moved = Moved::simple();
    moved.ground.run(&["reset", "-q", "--hard", &moved.from]);
    moved.ground.branch("side", &moved.from);
    moved.ground.put("same", "side\n");
    moved.ground.branch("main", &moved.from);
    moved.ground.run(&["merge", "-q", "--no-commit", "--no-ff", "side"]);
    moved.ground.run(&["update-ref", MAIN, &moved.to]);
    let Along::Busy(words) = moved.along() else { panic!("not busy") };
    assert!(words.starts_with("a merge is under way in "), "{words}");
    assert_eq!(moved.ground.read("f"), "1\n");

    // Conflicts of something that leaves no other trace, such as a stash.
    let moved = Moved::simple();
    let blob = moved.ground.run(&["rev-parse", "HEAD:f"]);
    let entries = format!("100644 {blob} 1\tq\n100644 {blob} 2\tq\n");
    let git = moved.ground.git();
    assert!(git.feed(&["update-index", "--index-info"], entries.into_bytes()).unwrap().ok());
    let Along::Busy(words) = moved.along() else { panic!("not busy") };
    assert!(words.contains("conflicts"), "{words}");
}

#[test]
fn a_worktree_that_is_elsewhere_now() {
    let moved = Moved::simple();
    let git = moved.ground.git();
    let gone = moved.ground.path("gone");
    let along = |top: &Path| bring_along(&git, top, MAIN, &moved.from, &moved.to).unwrap();
    assert_eq!(along(&gone), Along::NotThere);
    ground::write(&moved.ground.path("plain/file"), b"");
    let Along::Busy(words) = along(&moved.ground.path("plain")) else { panic!("not refused") };
    assert!(words.contains("is no worktree of this repository"), "{words}");
    moved.ground.run(&["reset", "-q", "--hard", &moved.from]);
    for args in [&["checkout", "-q", "--detach"][..], &["checkout", "-q", "-b", "other"]] {
        moved.ground.run(args);
        assert_eq!(along(git.dir()), Along::NotThere);
        assert_eq!(moved.ground.read("f"), "1\n");
    }
    // Another branch that has the change too.
    moved.ground.branch("ahead", &moved.to);
    assert_eq!(along(git.dir()), Along::NotThere);
}

#[test]
fn a_branch_that_has_moved_on_is_followed() {
    let moved = Moved::simple();
    let ground = &moved.ground;
    let tree = ground.run(&["rev-parse", "HEAD^{tree}"]);
    let entries = ground.run(&["ls-tree", &tree]).replace("\tsame", "\tsame-moved");
    let git = ground.git();
    let tree = git.feed(&["mktree"], format!("{entries}\n").into_bytes()).unwrap().text();
    let next = ground.run(&["commit-tree", "-p", &moved.to, "-m", "next", tree.trim()]);
    ground.run(&["update-ref", MAIN, &next]);
    assert_eq!(moved.along(), Along::Done);
    assert_eq!(moved.status(), "");
    let top = ground.path("repo");
    // The other one, who moved it on, comes later and finds it done.
    assert_eq!(bring_along(&git, &top, MAIN, &moved.to, &next).unwrap(), Along::Done);
    assert_eq!(moved.status(), "");
    assert_eq!(ground.read("same-moved"), "1\n");
}

#[test]
fn sparse_worktrees_and_submodules_stay_as_they_are() {
    let moved = Moved::new(
        |ground| {
            ground.write("far/away", "1\n");
            let lib = ground.at("lib");
            ground::write(&lib.dir().join("x"), b"x\n");
            lib.must("init", &["init", "-q", "-b", "main"]).unwrap();
            lib.must("add", &["add", "x"]).unwrap();
            lib.must("commit", &["commit", "-q", "-m", "x"]).unwrap();
            let url = lib.dir().to_str().unwrap();
            let git = ground.git().with("protocol.file.allow=always");
            git.must("add", &["submodule", "--quiet", "add", url, "lib/mod"]).unwrap();
        },
        |ground| {
            ground.write("far/away", "2\n");
            ground.write("f", "2\n");
            ground.write("lib/mod/x", "y\n");
            ground.at("repo/lib/mod").must("commit", &["commit", "-qam", "y"]).unwrap();
        },
    );
    let ground = &moved.ground;
    ground.run(&["update-ref", MAIN, &moved.from]);
    ground.run(&["sparse-checkout", "set", "--cone", "lib", "dir"]);
    assert!(!ground.path("repo/far").exists());
    ground.run(&["update-ref", MAIN, &moved.to]);
    ground.run(&["config", "submodule.recurse", "true"]);
    let sub = ground.at("repo/lib/mod");
    sub.must("go back", &["checkout", "-q", "HEAD~1"]).unwrap();
    let before = sub.commit("HEAD").unwrap();
    assert_eq!(moved.along(), Along::Done);
    assert_eq!(ground.read("f"), "2\n");
    assert!(!ground.path("repo/far").exists());
    assert_eq!(sub.commit("HEAD").unwrap(), before);
    assert_eq!(ground.read("lib/mod/x"), "x\n");
}

#[test]
fn where_a_branch_is_checked_out() {
    let moved = Moved::simple();
    let git = moved.ground.git();
    let tree = moved.ground.path("a tree\nhere");
    moved.ground.run(&["worktree", "add", "-q", "-b", "side", tree.to_str().unwrap()]);
    let at = |git: &Git, branch: &str| checked_out_at(git, branch).unwrap();
    assert_eq!(at(&git, MAIN), [git.dir().canonicalize().unwrap()]);
    assert_eq!(at(&git, "refs/heads/side"), [tree.canonicalize().unwrap()]);
    assert!(at(&git, "refs/heads/work").is_empty());
    let second = moved.ground.path("second");
    moved.ground.run(&["worktree", "add", "-q", "--force", second.to_str().unwrap(), "side"]);
    assert_eq!(at(&git, "refs/heads/side").len(), 2);
    // One was removed by hand.
    ground::remove(&tree.join(".git"));
    assert_eq!(at(&git, "refs/heads/side"), [second.canonicalize().unwrap()]);
    let bare = Ground::with(&["--bare"]);
    assert!(at(&bare.git(), MAIN).is_empty());
}
