//! Histories with one fault each: every check must find its own. A check that never fails is none.

use std::fs;

use serde_json::json;

use crate::byhand::{play, sandbox};
use crate::checks::{self, Check, Faults, patches_in};
use crate::ground::Repo;
use crate::orphans::{not_collected, orphans};
use crate::scene::{Scene, Strategy};
use crate::support::Sandbox;
use crate::tasks::{FIFTEEN, Kind, Plan, Task};

/// A copy of a good scene, whose repository can be spoilt.
fn copy<'a>(good: &Scene<'a>, sandbox: &'a Sandbox, name: &str) -> Scene<'a> {
    let dir = sandbox.beside(name);
    let (ok, said) = good.repo.sh(&format!("cp -a . '{}'", dir.display()));
    assert!(ok, "{said}");
    Scene { repo: Repo::at(sandbox, &dir), ..good.clone() }
}

fn first(scene: &Scene, kind: fn(&Kind) -> bool) -> Task {
    scene.tasks.iter().find(|t| kind(&t.kind)).unwrap().clone()
}

fn alone(scene: &Scene) -> Task {
    scene.tasks.iter().find(|t| t.id.starts_with('B')).unwrap().clone()
}

fn rival(scene: &Scene) -> Task {
    let sent_back = |t: &&Task| t.id.starts_with('P') && scene.fates[&t.id].attempts.len() > 1;
    scene.tasks.iter().find(sent_back).unwrap().clone()
}

fn breaker(scene: &Scene) -> Task {
    first(scene, |k| matches!(k, Kind::Breaking(_)))
}

/// The merge of a task on main.
fn merge_of(scene: &Scene, id: &str) -> String {
    let pass = scene.fates[id].judged("pass");
    pass[0].merge["commit"].as_str().unwrap().to_owned()
}

type Spoil = fn(&mut Scene);

/// What is done to the history, the check that must find it, and its words.
const SPOILT: &[(&str, Check, &str, Spoil)] = &[
    ("a task stays behind", checks::states, "is merging", |s| {
        let id = alone(s).id;
        s.fates.get_mut(&id).unwrap().state = "merging".to_owned();
    }),
    ("two attempts pass", checks::states, "2 accepted attempts", |s| {
        let fate = s.fates.get_mut(&alone(s).id).unwrap();
        let mut again = fate.attempts[0].clone();
        again.n = 2;
        fate.attempts.push(again);
    }),
    ("the last merges are lost", checks::states, "which is not on main", |s| {
        let before = format!("{}^", last_merge(s));
        s.repo.git(&["reset", "--quiet", "--hard", &before]);
    }),
    ("a change is lost", checks::tokens, "is 0 times in the files", |s| {
        revert(s, &alone(s).id);
    }),
    ("a change is there twice", checks::tokens, "is 2 times in the files", |s| {
        let text = format!("\n// {}\n", alone(s).token);
        append(s, "src/more/shared.rs", &text);
    }),
    ("no merge has the trailers", checks::trailers, "0 commits with trailers, not 1", |s| {
        let before = format!("{}^", last_merge(s));
        s.repo.git(&["reset", "--quiet", "--hard", &before]);
    }),
    ("two commits have the trailers", checks::trailers, "2 commits with trailers, not 1", |s| {
        let text = format!("Again\n\nCoord-Task: {}\nCoord-Attempt: 1\n", alone(s).id);
        s.repo.git(&["commit", "--quiet", "--allow-empty", "--message", &text]);
    }),
    (
        "another attempt than the accepted",
        checks::trailers,
        "1 commits with trailers, not 0",
        |s| {
            let fate = s.fates.get_mut(&alone(s).id).unwrap();
            fate.attempts[0].n = 5;
        },
    ),
    ("a breaking task has the trailers", checks::trailers, "1 commits with trailers, not 0", |s| {
        let text = format!("No\n\nCoord-Task: {}\nCoord-Attempt: 1\n", breaker(s).id);
        s.repo.git(&["commit", "--quiet", "--allow-empty", "--message", &text]);
    }),
    ("taken back and done again", checks::patches, "is 2 times on main", |s| {
        let id = alone(s).id;
        revert(s, &id);
        s.repo.git(&["cherry-pick", &format!("{}^2", merge_of(s, &id))]);
    }),
    ("the accepted commits are not there", checks::patches, "is 0 times on main", |s| {
        let before = format!("{}^", last_merge(s));
        s.repo.git(&["reset", "--quiet", "--hard", &before]);
    }),
    ("somebody else's patch", checks::patches, "nobody's patch", |s| {
        append(s, "README.md", "nobody knows\n");
    }),
    ("registers without commits", checks::patches, "name no commits", |s| {
        s.fates.get_mut(&alone(s).id).unwrap().attempts[0].end = json!(null);
    }),
    ("one red commit between green ones", checks::green, "is red", |s| {
        s.base = s.repo.git(&["rev-parse", "main"]);
        append(s, "src/more/mod.rs", "\nfn broken( {}\n");
        s.repo.git(&["revert", "--no-edit", "HEAD"]);
    }),
    ("nothing was merged", checks::green, "nothing was merged", |s| {
        s.base = s.repo.git(&["rev-parse", "main"]);
    }),
    ("a breaking change that was reverted", checks::breaking, "breaks the tests and is in", |s| {
        let text = format!("\n// {}\n", breaker(s).token);
        append(s, "src/more/mod.rs", &text);
        s.repo.git(&["revert", "--no-edit", "HEAD"]);
    }),
    ("a breaking task is done", checks::breaking, "breaks the tests and is done", |s| {
        s.fates.get_mut(&breaker(s).id).unwrap().state = "done".to_owned();
    }),
    ("show does not say why", checks::breaking, "lacks", |s| {
        s.fates.get_mut(&breaker(s).id).unwrap().shown = "failed".to_owned();
    }),
    ("too few tries", checks::breaking, "was judged 1 times", |s| {
        s.fates.get_mut(&breaker(s).id).unwrap().attempts.truncate(1);
    }),
    ("one of its merges passed", checks::breaking, "a strange verdict", |s| {
        s.fates.get_mut(&breaker(s).id).unwrap().attempts[0].merge["verdict"] = json!("pass");
    }),
    ("the last one may be tried again", checks::breaking, "a strange verdict", |s| {
        let attempts = &mut s.fates.get_mut(&breaker(s).id).unwrap().attempts;
        attempts.last_mut().unwrap().merge["retry"] = json!(true);
    }),
    ("a register without the output", checks::breaking, "its context lacks", |s| {
        s.fates.get_mut(&breaker(s).id).unwrap().attempts[0].merge["context"] = json!("red");
    }),
    ("nobody was sent back", checks::bounces, "rivals were sent back, not", |s| {
        s.fates.get_mut(&rival(s).id).unwrap().attempts[0].merge = json!(null);
    }),
    ("one without a rival was sent back", checks::bounces, "sent back: ", |s| {
        let attempts = &mut s.fates.get_mut(&alone(s).id).unwrap().attempts;
        attempts[0].merge = json!({"verdict": "bounce", "context": "a conflict"});
    }),
    ("a rival was sent back for nothing", checks::bounces, "sent back: ", |s| {
        let attempts = &mut s.fates.get_mut(&rival(s).id).unwrap().attempts;
        attempts[0].merge = json!({"verdict": "bounce", "context": "red"});
    }),
    ("a push is lost", checks::others, "is 0 times on main", |s| {
        append(s, "notes", "mine\n");
        s.others = patches_in(&s.repo, "HEAD^..HEAD");
        s.repo.git(&["reset", "--quiet", "--hard", "HEAD^"]);
    }),
    ("a push is there twice", checks::others, "is 2 times on main", |s| {
        append(s, "notes", "mine\n");
        s.others = patches_in(&s.repo, "HEAD^..HEAD");
        let pushed = s.repo.git(&["rev-parse", "HEAD"]);
        s.repo.git(&["revert", "--no-edit", "HEAD"]);
        s.repo.git(&["cherry-pick", &pushed]);
    }),
];

fn last_merge(scene: &Scene) -> String {
    scene.repo.git(&["log", "-1", "--first-parent", "--merges", "--format=%H", "main"])
}

fn revert(scene: &Scene, id: &str) {
    scene.repo.git(&["revert", "--no-edit", "--mainline", "1", &merge_of(scene, id)]);
}

fn append(scene: &Scene, file: &str, text: &str) {
    let path = scene.repo.dir.join(file);
    let old = fs::read_to_string(&path).unwrap_or_default();
    fs::write(&path, old + text).unwrap();
    scene.repo.git(&["add", file]);
    scene.repo.git(&["commit", "--quiet", "--message", "Spoilt"]);
}

fn expect(what: &str, found: &Faults, says: &str) {
    assert!(found.iter().any(|f| f.contains(says)), "{what}: {says:?} is not in {found:?}");
}

#[test]
fn each_check_of_the_history_finds_its_fault() {
    let sandbox = sandbox(&FIFTEEN);
    let beside = sandbox.beside("clones");
    fs::create_dir(&beside).unwrap();
    let good = play(&sandbox, &beside, &FIFTEEN, Strategy::Merge);
    assert_eq!(checks::faults(&good, |_| true), Faults::new());
    for (number, (what, check, says, spoil)) in SPOILT.iter().enumerate() {
        let mut scene = copy(&good, &sandbox, &format!("spoilt-{number}"));
        spoil(&mut scene);
        expect(what, &check(&scene), says);
    }
    // The whole of them has each.
    let spoilt = |check: Check| SPOILT.iter().any(|(_, c, ..)| std::ptr::fn_addr_eq(*c, check));
    for (name, check) in checks::CHECKS {
        assert!(spoilt(*check), "nothing shows that the check `{name}` can fail");
    }
}

#[test]
fn histories_of_copies_and_of_single_commits_are_judged_too() {
    for strategy in [Strategy::Rebase, Strategy::Squash] {
        let plan = Plan { alone: 4, pairs: 1, breaking: 1 };
        let sandbox = sandbox(&plan);
        let beside = sandbox.beside("clones");
        fs::create_dir(&beside).unwrap();
        let scene = play(&sandbox, &beside, &plan, strategy);
        assert_eq!(checks::faults(&scene, |_| true), Faults::new());
        // Taken for the other one, it is not what it should be.
        let other = match strategy {
            Strategy::Rebase => Strategy::Squash,
            Strategy::Merge | Strategy::Squash => Strategy::Rebase,
        };
        let mistaken = Scene { strategy: other, ..scene.clone() };
        expect("another strategy", &checks::trailers(&mistaken), "commits with trailers, not");
        expect("another strategy", &checks::patches(&mistaken), "is 0 times on main");
        scene.repo.git(&["reset", "--quiet", "--hard", "HEAD^"]);
        expect("the last is lost", &checks::trailers(&scene), "commits with trailers, not");
        expect("the last is lost", &checks::patches(&scene), "is 0 times on main");
        expect("the last is lost", &checks::states(&scene), "which is not on main");
    }
}

#[test]
fn each_orphan_is_found() {
    let plan = Plan { alone: 2, pairs: 1, breaking: 0 };
    let sandbox = sandbox(&plan);
    let beside = sandbox.beside("clones");
    let good = play(&sandbox, &beside, &plan, Strategy::Merge);
    assert_eq!(orphans(&good.repo, &[]), Faults::new());
    assert_eq!(not_collected(&good.repo), Faults::new());
    let other = sandbox.beside("other");
    let path = other.to_string_lossy().into_owned();
    let spoilt: &[(&str, &str)] = &[
        ("git worktree add --quiet --detach \"$OTHER\"", "nobody knows the worktree"),
        ("git worktree add --quiet -b coord/T/a1 \"$OTHER\"", "refs/heads/coord/T/a1 is checked"),
        (
            "git worktree add --quiet --detach \"$OTHER\" && rm -r \"$OTHER\"",
            "is gone, and git still has it",
        ),
        (": >.git/refs/heads/main.lock", "a lock is left"),
        ("git worktree add --quiet \"$OTHER\" && : >.git/worktrees/other/index.lock", "a lock"),
        ("git update-ref refs/coord/returned/T.1 HEAD", "refs/coord/returned/T.1"),
        (
            "t=$(git rev-parse 'HEAD^{tree}') && rm -f .git/objects/${t%\"${t#??}\"}/${t#??}",
            "git fsck: exit",
        ),
    ];
    for (number, (line, says)) in spoilt.iter().enumerate() {
        let scene = copy(&good, &sandbox, &format!("spoilt-{number}"));
        let (ok, said) = scene.repo.sh(&format!("OTHER='{path}'; {line}"));
        assert!(ok, "{line}: {said}");
        expect(line, &orphans(&scene.repo, &[]), says);
        if other.exists() {
            assert_eq!(not_collected(&scene.repo).len(), 1, "{line}");
            // Who is known, may be there, but not on a branch of ours.
            let known = orphans(&scene.repo, std::slice::from_ref(&other));
            assert!(!known.iter().any(|f| f.contains("nobody knows")), "{known:?}");
            fs::remove_dir_all(&other).unwrap();
        }
    }
}
