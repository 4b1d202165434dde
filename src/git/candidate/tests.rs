use super::*;
use crate::git::ground::Ground;

fn change(base: &str, commit: &str) -> Change {
    Change {
        id: "W-1".into(),
        n: 2,
        title: "Add a thing".into(),
        base: base.into(),
        commit: commit.into(),
        worker: "w-7".into(),
    }
}

fn put_with(ground: &Ground, strategy: Strategy, onto: &str, change: &Change) -> Put {
    let person = Person { name: "Coord".into(), email: "coord@example.org".into() };
    put(&ground.git(), strategy, onto, change, &person).unwrap()
}

fn made(put: Put) -> (String, Strategy) {
    match put {
        Put::Made { commit, kind } => (commit, kind),
        other => panic!("not made: {other:?}"),
    }
}

fn conflict(put: Put) -> (Vec<String>, String) {
    match put {
        Put::Conflict { paths, text } => (paths, text),
        other => panic!("no conflict: {other:?}"),
    }
}

fn show(ground: &Ground, format: &str, commit: &str) -> String {
    ground.run(&["log", "-1", "--date=raw", &format!("--format={format}"), commit])
}

const LINES: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
const ALL: [Strategy; 3] = [Strategy::Merge, Strategy::Rebase, Strategy::Squash];

/// `main` with a file of its own, and a change of two commits by somebody else.
struct Story {
    ground: Ground,
    base: String,
    main: String,
    first: String,
    tip: String,
}

fn story() -> Story {
    let ground = Ground::new();
    let base = ground.put("f", LINES);
    ground.branch("work", &base);
    ground.write("f", LINES.replace("1\n", "one\n"));
    ground.run(&["add", "--all"]);
    let git = ground.git().identity("Bob", "bob@x").env("GIT_AUTHOR_DATE", "1000000000 +0530");
    git.must("", &["commit", "-q", "-m", "first\n\nwith words\n\nFixes: 3"]).unwrap();
    let first = ground.run(&["rev-parse", "HEAD"]);
    ground.write("g", "new\n");
    ground.run(&["add", "--all"]);
    git.must("", &["commit", "-q", "-m", "- second"]).unwrap();
    let tip = ground.run(&["rev-parse", "HEAD"]);
    ground.branch("main", &base);
    let main = ground.put("m", "main\n");
    Story { ground, base, main, first, tip }
}

#[test]
fn a_merge_has_both_parents_and_names_the_attempt() {
    let Story { ground, base, main, tip, .. } = story();
    let (commit, kind) = made(put_with(&ground, Strategy::Merge, "main", &change(&base, &tip)));
    assert_eq!(kind, Strategy::Merge);
    assert_eq!(show(&ground, "%P", &commit), format!("{main} {tip}"));
    let message = "Merge W-1: Add a thing\n\nCoord-Task: W-1\nCoord-Attempt: 2\nCoord-Worker: w-7";
    assert_eq!(show(&ground, "%B", &commit).trim(), message);
    assert_eq!(show(&ground, "%an %ae %cn", &commit), "Coord coord@example.org Coord");
    assert_eq!(ground.run(&["ls-tree", "--name-only", &commit]), "f\ng\nm");
    assert_eq!(changed_paths(&ground.git(), &main, &commit).unwrap(), ["f", "g"]);
    // Nothing but objects was made.
    assert_eq!(ground.run(&["status", "--porcelain"]), "");
    assert_eq!(ground.run(&["rev-parse", "main", "work"]), format!("{main}\n{tip}"));
}

#[test]
fn a_squashed_commit_has_the_last_author_and_the_subjects() {
    let Story { ground, base, main, tip, first } = story();
    let (commit, kind) = made(put_with(&ground, Strategy::Squash, &main, &change(&base, &tip)));
    assert_eq!(kind, Strategy::Squash);
    assert_eq!(show(&ground, "%P", &commit), main);
    let trailers = "Coord-Task: W-1\nCoord-Attempt: 2\nCoord-Worker: w-7";
    let message = format!("W-1: Add a thing\n\n- first\n- - second\n\n{trailers}");
    assert_eq!(show(&ground, "%B", &commit).trim(), message);
    let who = show(&ground, "%an %ae %ad %cn", &commit);
    assert_eq!(who, "Bob bob@x 1000000000 +0530 Coord");
    // A single commit keeps its own message.
    let (commit, _) = made(put_with(&ground, Strategy::Squash, &main, &change(&base, &first)));
    let message = format!("first\n\nwith words\n\nFixes: 3\n{trailers}");
    assert_eq!(show(&ground, "%B", &commit).trim(), message);
}

/// Commit and patch id of each commit of a range, oldest first.
fn patch_ids(ground: &Ground, range: &str) -> Vec<String> {
    let log = ground.run(&["log", "-p", "--reverse", range]);
    let ids = ground.git().feed(&["patch-id", "--stable"], log.into_bytes()).unwrap().text();
    ids.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn replayed_commits_keep_author_date_and_message() {
    let Story { ground, base, main, tip, .. } = story();
    let (commit, kind) = made(put_with(&ground, Strategy::Rebase, &main, &change(&base, &tip)));
    assert_eq!(kind, Strategy::Rebase);
    let range = format!("{main}..{commit}");
    assert_eq!(patch_ids(&ground, &range), patch_ids(&ground, &format!("{base}..{tip}")));
    assert_eq!(show(&ground, "%P", &format!("{commit}~1")), main);
    let trailers = "Coord-Task: W-1\nCoord-Attempt: 2\nCoord-Worker: w-7";
    let first = format!("first\n\nwith words\n\nFixes: 3\n{trailers}");
    assert_eq!(show(&ground, "%B", &format!("{commit}~1")).trim(), first);
    assert_eq!(show(&ground, "%B", &commit).trim(), format!("- second\n\n{trailers}"));
    let parsed = show(&ground, "%(trailers:only,unfold,valueonly,separator=%x2C)", &commit);
    assert_eq!(parsed, "W-1,2,w-7");
    let who = show(&ground, "%an %ae %ad %cn %ce", &commit);
    assert_eq!(who, "Bob bob@x 1000000000 +0530 Coord coord@example.org");
    // Replayed again on something else, they are not added again.
    ground.branch("main", &main);
    let later = ground.put("later", "x");
    let (again, _) = made(put_with(&ground, Strategy::Rebase, &later, &change(&main, &commit)));
    assert_eq!(show(&ground, "%B", &again), show(&ground, "%B", &commit));
}

#[test]
fn what_is_in_already_is_nothing() {
    let Story { ground, base, main, first, tip } = story();
    for strategy in ALL {
        let same = change(&base, &base);
        assert_eq!(put_with(&ground, strategy, &main, &same), Put::Nothing, "{strategy:?}");
        let (landed, _) = made(put_with(&ground, strategy, &main, &change(&base, &tip)));
        let again = put_with(&ground, strategy, &landed, &change(&base, &tip));
        assert_eq!(again, Put::Nothing, "{strategy:?}");
    }
    // The first commit is in by another way: only the second one is replayed.
    let part = change(&base, &first);
    let (landed, _) = made(put_with(&ground, Strategy::Squash, &main, &part));
    let (commit, _) = made(put_with(&ground, Strategy::Rebase, &landed, &change(&base, &tip)));
    assert_eq!(show(&ground, "%P %s", &commit), format!("{landed} - second"));
}

#[test]
fn a_change_that_was_reverted_can_come_again() {
    let Story { ground, base, main, tip, .. } = story();
    let (landed, _) = made(put_with(&ground, Strategy::Rebase, &main, &change(&base, &tip)));
    ground.branch("main", &landed);
    ground.run(&["revert", "--no-edit", "HEAD"]);
    let reverted = ground.run(&["rev-parse", "HEAD"]);
    let (commit, _) = made(put_with(&ground, Strategy::Rebase, &reverted, &change(&base, &tip)));
    assert_eq!(show(&ground, "%s", &commit), "- second");
}

#[test]
fn what_was_reverted_does_not_come_back_with_a_squashed_change() {
    let ground = Ground::new();
    let base = ground.put("f", LINES);
    let bad = ground.put("bad", "bad\n");
    ground.branch("work", &base);
    ground.put("g", "work\n");
    ground.run(&["merge", "-q", "--no-edit", &bad]);
    let tip = ground.put("h", "more\n");
    ground.branch("main", &bad);
    ground.run(&["revert", "--no-edit", "HEAD"]);
    let (commit, _) = made(put_with(&ground, Strategy::Squash, "main", &change(&base, &tip)));
    assert_eq!(ground.run(&["ls-tree", "--name-only", &commit]), "f\ng\nh");
}

#[test]
fn a_change_upon_a_squashed_one_is_its_own_difference() {
    let Story { ground, base, main, tip, .. } = story();
    ground.branch("next", &tip);
    let next = ground.put("f", LINES.replace("1\n", "uno\n"));
    let (landed, _) = made(put_with(&ground, Strategy::Squash, &main, &change(&base, &tip)));
    for strategy in [Strategy::Squash, Strategy::Rebase] {
        let (commit, _) = made(put_with(&ground, strategy, &landed, &change(&tip, &next)));
        assert_eq!(changed_paths(&ground.git(), &landed, &commit).unwrap(), ["f"]);
        let text = ground.run(&["show", &format!("{commit}:f")]);
        assert!(text.starts_with("uno\n2\n"), "{text}");
    }
}

#[test]
fn a_change_with_merges_is_merged_where_it_should_be_replayed() {
    let Story { ground, base, main, .. } = story();
    ground.branch("work", "work");
    ground.run(&["merge", "-q", "--no-edit", &main]);
    let tip = ground.put("after", "x");
    ground.branch("main", &main);
    let later = ground.put("later", "x");
    let (commit, kind) = made(put_with(&ground, Strategy::Rebase, "main", &change(&base, &tip)));
    assert_eq!(kind, Strategy::Merge);
    assert_eq!(show(&ground, "%P", &commit), format!("{later} {tip}"));
}

#[test]
fn conflicts_come_with_their_places() {
    let Story { ground, base, main, tip, .. } = story();
    ground.branch("main", &main);
    let onto = ground.put("f", LINES.replace("1\n", "eins\n"));
    for strategy in ALL {
        let (paths, text) = conflict(put_with(&ground, strategy, &onto, &change(&base, &tip)));
        assert_eq!(paths, ["f"], "{strategy:?}");
        for part in [
            "W-1 attempt 2 (",
            "in 1 file\n",
            "CONFLICT (content): Merge conflict in f",
            "\nf, line 1:\n<<<<<<< target\neins\n|||||||",
            "=======\none\n>>>>>>> W-1 attempt 2\n",
        ] {
            assert!(text.contains(part), "{strategy:?}: no {part:?} in\n{text}");
        }
        assert_eq!(text.contains("its commit 1 of 2"), strategy == Strategy::Rebase, "{text}");
    }
    assert_eq!(predict(&ground.git(), &onto, &tip).unwrap(), ["f"]);
    assert_eq!(predict(&ground.git(), &main, &tip).unwrap(), [""; 0]);
}

#[test]
fn conflicts_of_every_other_kind() {
    let ground = Ground::new();
    // Unlike each other: git looks for renames.
    let of = |name: &str| (1..600).map(|n| format!("{n} {name}\n")).collect::<String>();
    for name in ["gone", "binary", "moved", "long"] {
        ground.write(name, if name == "binary" { "a\0b".to_owned() } else { of(name) });
    }
    let base = ground.put("with space\nand line", LINES);
    let other = ground.put("elsewhere", "x");
    ground.run(&["update-index", "--add", "--cacheinfo", &format!("160000,{base},sub")]);
    ground.run(&["commit", "-q", "-m", "sub"]);
    let base = ground.run(&["rev-parse", "HEAD"]);
    let mut tips = Vec::new();
    for (side, sub) in [("ours", &other), ("theirs", &tips_of(&ground))] {
        ground.branch(side, &base);
        ground.run(&["update-index", "--cacheinfo", &format!("160000,{sub},sub")]);
        ground.write("binary", format!("{side}\0"));
        ground.write("with space\nand line", LINES.replace('5', side));
        ground.write("long", of("long").replace("long", side));
        if side == "ours" {
            ground.run(&["rm", "-q", "gone"]);
            ground.run(&["mv", "moved", "moved-here"]);
        } else {
            ground.write("gone", "changed\n");
            ground.run(&["mv", "moved", "moved-there"]);
        }
        ground.run(&["add", "binary", "long", "with space\nand line"]);
        let _ = ground.git().run(&["add", "gone"]);
        ground.run(&["commit", "-q", "-m", side]);
        tips.push(ground.run(&["rev-parse", "HEAD"]));
    }
    for strategy in ALL {
        let (paths, text) =
            conflict(put_with(&ground, strategy, &tips[0], &change(&base, &tips[1])));
        let all = [
            "binary",
            "gone",
            "long",
            "moved",
            "moved-here",
            "moved-there",
            "sub",
            "with space\nand line",
        ];
        assert_eq!(paths, all, "{text}");
        for part in [
            "Cannot merge binary files",
            "(modify/delete)",
            "(rename/rename)",
            "submodule sub",
            "(cut)",
        ] {
            assert!(text.contains(part), "{strategy:?}: no {part:?} in\n{text}");
        }
        assert!(text.lines().count() < LINES_OF_WORDS, "{}", text.lines().count());
        assert!(!text.contains('\0'));
    }
}

/// 200 lines of files, and what git says.
const LINES_OF_WORDS: usize = 260;

/// A commit that nothing else has.
fn tips_of(ground: &Ground) -> String {
    let tree = ground.run(&["rev-parse", "HEAD^{tree}"]);
    ground.run(&["commit-tree", "-m", "alone", &tree])
}

#[test]
fn names_and_messages_that_are_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let ground = Ground::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    let path = ground.path("repo").join(name);
    crate::git::ground::write(&path, b"1\n");
    let base = ground.commit("base");
    crate::git::ground::write(&path, b"ours\n");
    let main = ground.commit("ours");
    ground.branch("work", &base);
    crate::git::ground::write(&path, b"theirs\n");
    let tip = ground.commit("theirs");
    let (paths, _) = conflict(put_with(&ground, Strategy::Merge, &main, &change(&base, &tip)));
    assert_eq!(paths, ["caf\u{fffd}"]);

    // A commit in Latin 1, one with an empty message, and one that says nothing of its encoding.
    let raw = |parent: &str, rest: &[u8]| {
        let tree = ground.run(&["write-tree"]);
        let head = format!("tree {tree}\nparent {parent}\n");
        let bytes = [head.as_bytes(), rest].concat();
        let output = ground.git().feed(&["hash-object", "-t", "commit", "-w", "--stdin"], bytes);
        output.unwrap().text().trim().to_owned()
    };
    ground.branch("odd", &main);
    ground.write("a", "a");
    ground.run(&["add", "a"]);
    let author: &[u8] = b"author J\xe9r\xf4me <j@x> 5 +0000\ncommitter c <c> 6 +0000\n";
    let one = raw(&main, &[author, b"encoding ISO-8859-1\n\nd\xe9j\xe0\n"].concat());
    ground.write("b", "b");
    ground.run(&["add", "b"]);
    let two = raw(&one, &[author, b"\n"].concat());
    ground.write("c", "c");
    ground.run(&["add", "c"]);
    let three = raw(&two, &[author, b"\n-x \xe9\n"].concat());
    ground.run(&["reset", "-q", "--hard", &main]);
    let onto = ground.put("later", "x");
    let (commit, _) = made(put_with(&ground, Strategy::Rebase, &onto, &change(&main, &three)));
    let object = |c: &str| ground.git().run(&["cat-file", "commit", c]).unwrap().stdout;
    let has = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|w| w == part);
    let first = object(&format!("{commit}~2"));
    assert!(has(&first, b"author J\xe9r\xf4me <j@x> 5 +0000\n"));
    assert!(has(&first, b"encoding ISO-8859-1\n\nd\xe9j\xe0\n\nCoord-Task: W-1\n"));
    assert!(has(&object(&format!("{commit}~1")), b"\n\n\nCoord-Task: W-1\n"));
    assert!(has(&object(&commit), b"\n\n-x \xe9\n\nCoord-Task: W-1\n"));
    assert_eq!(show(&ground, "%an", &format!("{commit}~2")), "Jérôme");
    let (commit, _) = made(put_with(&ground, Strategy::Squash, &onto, &change(&main, &one)));
    assert_eq!(show(&ground, "%an", &commit), "Jérôme");
    ground.run(&["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn no_hook_and_no_setting_of_the_user_matters() {
    let Story { ground, base, main, tip, .. } = story();
    let flag = ground.path("a-hook-ran");
    for hook in
        ["pre-commit", "commit-msg", "post-commit", "reference-transaction", "pre-merge-commit"]
    {
        ground.hook("repo", hook, &format!("touch '{}'; exit 1", flag.display()));
    }
    let settings = "[commit]\ngpgsign = true\n[gpg]\nprogram = false\n\
        [i18n]\ncommitEncoding = ISO-8859-1\nlogOutputEncoding = ISO-8859-1\n\
        [log]\nshowSignature = true\nmailmap = true\n\
        [trailer]\nseparators = \"#\"\n[trailer \"sign\"]\ncmd = touch ran\n\
        [merge]\nconflictStyle = merge\nverbosity = 0\n[color]\nui = always\n\
        [diff]\nnoprefix = true\nexternal = false\n";
    crate::git::ground::write(&ground.path("gitconfig"), settings.as_bytes());
    for strategy in ALL {
        let mut change = change(&base, &tip);
        change.title = "Grüße".into();
        let (commit, _) = made(put_with(&ground, strategy, &main, &change));
        let object = ground.git().run(&["cat-file", "commit", &commit]).unwrap().text();
        assert!(!object.contains("gpgsig") && !object.contains("encoding"), "{object}");
        assert!(object.ends_with("\nCoord-Worker: w-7\n"), "{object}");
        assert_eq!(object.contains("Grüße"), strategy != Strategy::Rebase);
    }
    assert!(!flag.exists());
}

#[test]
fn attributes_are_those_of_the_commit_that_is_built_upon() {
    let ground = Ground::new();
    ground.write(".gitattributes", "list merge=union\n");
    let base = ground.put("list", "1\n");
    ground.branch("work", &base);
    let tip = ground.put("list", "1\nwork\n");
    ground.branch("main", &base);
    ground.put("list", "1\nmain\n");
    // In the worktree is something else.
    ground.run(&["checkout", "-q", "--orphan", "other"]);
    ground.run(&["rm", "-rfq", "."]);
    let (commit, _) = made(put_with(&ground, Strategy::Merge, "main", &change(&base, &tip)));
    assert_eq!(ground.run(&["show", &format!("{commit}:list")]), "1\nmain\nwork");
}

#[test]
fn histories_without_a_common_commit_and_commits_that_are_not_there() {
    let Story { ground, base, main, .. } = story();
    ground.run(&["checkout", "-q", "--orphan", "other"]);
    let other = ground.put("o", "o");
    let next = ground.put("p", "p");
    for strategy in ALL {
        let (paths, text) = conflict(put_with(&ground, strategy, &main, &change(&other, &next)));
        assert!(paths.is_empty() && text.contains("no commit in common"), "{text}");
    }
    let error = predict(&ground.git(), &main, &next).unwrap_err();
    assert!(error.message.contains("unrelated histories"), "{}", error.message);
    let person = Person { name: "c".into(), email: "c".into() };
    let gone = change(&base, &"5".repeat(40));
    let error = put(&ground.git(), Strategy::Merge, "main", &gone, &person).unwrap_err();
    assert!(error.message.contains("there is no commit 5555"), "{}", error.message);
}

#[test]
fn a_criss_cross_history_merges() {
    let ground = Ground::new();
    let base = ground.put("f", LINES);
    let a = ground.put("f", LINES.replace("1\n", "a\n"));
    ground.branch("work", &base);
    let b = ground.put("f", LINES.replace("9\n", "b\n"));
    ground.run(&["merge", "-q", "--no-edit", &a]);
    let tip = ground.put("g", "x");
    ground.branch("main", &a);
    ground.run(&["merge", "-q", "--no-edit", &b]);
    let onto = ground.put("h", "x");
    let (commit, _) = made(put_with(&ground, Strategy::Merge, &onto, &change(&base, &tip)));
    let text = ground.run(&["show", &format!("{commit}:f")]);
    assert_eq!(text, "a\n2\n3\n4\n5\n6\n7\n8\nb");
}

#[test]
fn an_old_git_is_named() {
    let Story { ground, base, main, tip, .. } = story();
    let real = ["/usr/local/bin/git", "/usr/bin/git"];
    let real = real.into_iter().find(|path| std::path::Path::new(path).exists()).unwrap();
    let fake = ground.path("bin/git");
    let script = format!(
        "#!/bin/sh\nfor a; do case $a in\nmerge-tree) echo usage >&2; exit 129;;\n\
         version) echo git version 2.34.1; exit;;\nesac; done\nexec {real} \"$@\"\n"
    );
    crate::git::ground::write(&fake, script.as_bytes());
    std::fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let git = ground.git().env("PATH", format!("{}:/usr/bin:/bin", ground.path("bin").display()));
    let person = Person { name: "c".into(), email: "c".into() };
    let error = put(&git, Strategy::Merge, &main, &change(&base, &tip), &person).unwrap_err();
    assert_eq!(error.message, "cannot merge: git 2.34.1 is too old, 2.40 is needed");
}
