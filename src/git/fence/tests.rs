use std::time::Duration;

use super::*;
use crate::git::ground::{self, Ground};

const MAIN: &str = "refs/heads/main";

/// A commit on another one, by its words.
fn commit_on(git: &Git, parent: &str, words: &str) -> String {
    let tree = format!("{parent}^{{tree}}");
    git.must("commit", &["commit-tree", "-p", parent, "-m", words, &tree])
        .unwrap()
        .text()
        .trim()
        .into()
}

fn position(git: &Git) -> String {
    value(git, MAIN).unwrap().unwrap()
}

/// The kinds of repositories: with loose refs, with packed ones, with reftables where git has them.
fn kinds() -> Vec<(Ground, String)> {
    let mut all = Vec::new();
    for kind in ["loose", "packed", "bare", "reftable"] {
        let options: &[&str] = match kind {
            "bare" => &["--bare"],
            "reftable" => &["--ref-format=reftable"],
            _ => &[],
        };
        let help = Ground::new().git().run(&["init", "-h"]).unwrap();
        if kind == "reftable" && !help.text().contains("--ref-format") {
            continue;
        }
        let ground = Ground::with(options);
        let tree = ground.run(&["hash-object", "-t", "tree", "-w", "/dev/null"]);
        let root = ground.run(&["commit-tree", "-m", "root", &tree]);
        ground.run(&["update-ref", MAIN, &root]);
        all.push((ground, root));
    }
    all
}

fn pack(ground: &Ground) {
    ground.run(&["pack-refs", "--all"]);
}

#[test]
fn decisions_in_every_kind_of_repository() {
    for (ground, root) in kinds() {
        let git = ground.git();
        let turn = begin_turn(&git, "main", "turn 1").unwrap();
        pack(&ground);
        let new = commit_on(&git, &root, "new");
        let land = |new: &str, old: &str, keys: &[&str]| {
            super::land(&git, &turn, MAIN, new, old, keys).unwrap()
        };
        assert_eq!(land(&new, &root, &["W-1.a1"]), Landed::Moved);
        assert_eq!(position(&git), new);
        // Once more, as after a lost reply; and after somebody has gone on from there.
        assert_eq!(land(&new, &root, &["W-1.a1"]), Landed::Moved);
        let further = commit_on(&git, &new, "further");
        ground.run(&["update-ref", MAIN, &further]);
        assert_eq!(land(&new, &root, &[]), Landed::Moved);
        let late = commit_on(&git, &new, "late");
        assert_eq!(land(&late, &new, &[]), Landed::Elsewhere(further.clone()));
        assert_eq!(position(&git), further);

        assert!(!is_returned(&git, "W-2.a1").unwrap());
        assert!(settle_bounce(&git, &turn, "W-2.a1").unwrap());
        assert!(settle_bounce(&git, &turn, "W-2.a1").unwrap());
        pack(&ground);
        let next = commit_on(&git, &further, "next");
        let keys = ["W-1.a1", "W-2.a1"];
        assert_eq!(land(&next, &further, &keys), Landed::Returned(vec!["W-2.a1".into()]));
        assert_eq!(position(&git), further);
        forget_returned(&git, "W-2.a1").unwrap();
        forget_returned(&git, "W-2.a1").unwrap();
        assert_eq!(land(&next, &further, &keys), Landed::Moved);
        // The reflog says who it was, where git keeps one.
        let log = git.ask(&["reflog", "-1", "--format=%gs", MAIN]).unwrap().unwrap_or_default();
        let bare = git.ask(&["rev-parse", "--is-bare-repository"]).unwrap().unwrap() == "true";
        assert_eq!(log.starts_with("coord: land"), !bare, "{log:?}");
    }
}

#[test]
fn a_start_since_the_last_look_keeps_attempts_from_landing() {
    for (ground, root) in kinds() {
        let git = ground.git();
        let mut turn = begin_turn(&git, "main", "turn 1").unwrap();
        watch_starts(&git, &mut turn).unwrap();
        mark_start(&git, "other", "of another lane").unwrap();
        let first = commit_on(&git, &root, "first");
        assert_eq!(land(&git, &turn, MAIN, &first, &root, &["A.1"]).unwrap(), Landed::Moved);
        // There was no such ref before, and then it was another one.
        let mut at = first;
        for words in ["B.2", "B.3"] {
            mark_start(&git, "main", words).unwrap();
            pack(&ground);
            let next = commit_on(&git, &at, words);
            assert_eq!(land(&git, &turn, MAIN, &next, &at, &["A.1"]).unwrap(), Landed::Started);
            assert_eq!(position(&git), at, "it landed all the same");
            watch_starts(&git, &mut turn).unwrap();
            assert_eq!(land(&git, &turn, MAIN, &next, &at, &["A.1"]).unwrap(), Landed::Moved);
            at = next;
        }
        // What others pushed is no attempt, and makes way for nobody.
        mark_start(&git, "main", "B.4").unwrap();
        let pushed = commit_on(&git, &at, "pushed");
        assert_eq!(land(&git, &turn, MAIN, &pushed, &at, &[]).unwrap(), Landed::Moved);
    }
}

#[test]
fn an_earlier_turn_decides_nothing_any_more() {
    for (ground, root) in kinds() {
        let git = ground.git();
        let zombie = begin_turn(&git, "main", "turn 1").unwrap();
        assert!(settle_bounce(&git, &zombie, "old").unwrap());
        let other = begin_turn(&git, "other", "turn 1 of another lane").unwrap();
        let turn = begin_turn(&git, "main", "turn 2").unwrap();
        let new = commit_on(&git, &root, "new");
        assert_eq!(land(&git, &zombie, MAIN, &new, &root, &[]).unwrap(), Landed::Fenced);
        assert!(!settle_bounce(&git, &zombie, "new").unwrap());
        assert!(!is_returned(&git, "new").unwrap());
        // What it decided before stands.
        assert!(settle_bounce(&git, &zombie, "old").unwrap());
        assert_eq!(position(&git), root);
        assert_eq!(land(&git, &turn, MAIN, &new, &root, &[]).unwrap(), Landed::Moved);
        assert!(settle_bounce(&git, &other, "elsewhere").unwrap());
        // Collecting garbage does not take the turn away.
        ground.run(&["gc", "-q", "--prune=now"]);
        let next = commit_on(&git, &new, "next");
        assert_eq!(land(&git, &turn, MAIN, &next, &new, &[]).unwrap(), Landed::Moved);
    }
}

#[test]
fn two_mergers_and_somebody_else() {
    const ROUNDS: usize = 200;
    for (ground, root) in kinds().into_iter().skip(2) {
        let rounds = std::sync::atomic::AtomicUsize::new(0);
        let landed: Vec<String> = std::thread::scope(|scope| {
            // Each goes on with its turn until it is fenced.
            let merger = |name: &'static str| {
                let (ground, rounds) = (&ground, &rounds);
                move || {
                    let git = ground.git();
                    let (mut landed, mut turns) = (Vec::new(), 0);
                    let mut turn = begin_turn(&git, "main", &format!("{name} 0")).unwrap();
                    loop {
                        let round = rounds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        if round >= ROUNDS {
                            return landed;
                        }
                        let words = format!("{name} {round}");
                        let old = position(&git);
                        let new = commit_on(&git, &old, &words);
                        match land(&git, &turn, MAIN, &new, &old, &[&format!("{name}-{round}")]) {
                            Ok(Landed::Moved) => landed.push(words),
                            Ok(Landed::Elsewhere(now)) => assert_ne!(now, old),
                            Ok(Landed::Fenced) => {
                                turns += 1;
                                let words = format!("{name} {turns}");
                                turn = begin_turn(&git, "main", &words).unwrap();
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
            };
            let (one, two) = (scope.spawn(merger("one")), scope.spawn(merger("two")));
            // Somebody who knows of no turns, and moves the branch with a comparison as git does.
            let person = scope.spawn(|| {
                let (git, mut landed) = (ground.git(), Vec::new());
                for n in 0.. {
                    if rounds.load(std::sync::atomic::Ordering::SeqCst) >= ROUNDS {
                        break;
                    }
                    let words = format!("person {n}");
                    let old = position(&git);
                    let new = commit_on(&git, &old, &words);
                    if git.run(&["update-ref", MAIN, &new, &old]).unwrap().ok() {
                        landed.push(words);
                    }
                    git.pause(Duration::from_millis(30));
                }
                landed
            });
            [one.join().unwrap(), two.join().unwrap(), person.join().unwrap()].concat()
        });
        let mut history: Vec<String> =
            ground.run(&["log", "--format=%s", MAIN]).lines().map(str::to_owned).collect();
        assert_eq!(history.pop().as_deref(), Some("root"));
        let mut landed = landed;
        history.sort();
        landed.sort();
        assert_eq!(history, landed);
        for name in ["one ", "two ", "person "] {
            assert!(landed.iter().any(|words| words.starts_with(name)), "{name} never landed");
        }
        assert!(position(&ground.git()) != root);
    }
}

/// Kills git, the parent of the hook, at one of its states, once.
fn killer(ground: &Ground, state: &str) {
    let flag = ground.path("killed");
    let script = format!(
        "[ \"$1\" = {state} ] || exit 0\n[ -e '{0}' ] && exit 0\ntouch '{0}'\nkill -9 $PPID",
        flag.display()
    );
    ground.hook("repo", "reference-transaction", &script);
}

/// A git that stays at work in the repository until its input ends.
#[expect(clippy::disallowed_methods, reason = "tests may start processes")]
fn another_git(git: &Git<'_>) -> std::process::Child {
    std::process::Command::new("git")
        .args(["cat-file", "--batch"])
        .current_dir(git.dir())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

fn locks(ground: &Ground) -> Vec<std::path::PathBuf> {
    let git = ground.path("repo/.git");
    let files = walkdir::WalkDir::new(&git).into_iter().filter_map(|entry| entry.ok());
    let lock = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "lock");
    files.map(|entry| entry.path().to_owned()).filter(lock).collect()
}

#[test]
fn locks_of_a_killed_git_are_cleared_when_no_git_is_at_work() {
    let (ground, root) = kinds().remove(0);
    let git = ground.git();
    let turn = begin_turn(&git, "main", "turn 1").unwrap();
    let new = commit_on(&git, &root, "new");
    killer(&ground, "prepared");
    assert_eq!(land(&git, &turn, MAIN, &new, &root, &["K"]).unwrap(), Landed::Moved);
    assert!(ground.path("killed").exists());
    assert_eq!(locks(&ground), Vec::<std::path::PathBuf>::new());
}

#[test]
fn git_killed_before_it_moves_the_branch_leaves_it_and_names_its_lock() {
    let (ground, root) = kinds().remove(0);
    let git = ground.git();
    let turn = begin_turn(&git, "main", "turn 1").unwrap();
    let new = commit_on(&git, &root, "new");
    killer(&ground, "prepared");
    // Somebody's git is at work here, as far as anyone can tell.
    let mut other = another_git(&git);
    let error = land(&git, &turn, MAIN, &new, &root, &["K"]).unwrap_err();
    assert_eq!(position(&git), root);
    let lock = error.at.clone().unwrap();
    assert!(error.message.contains("a lock of git is in the way"), "{error:?}");
    assert!(error.hint.as_ref().unwrap().contains(&format!("rm '{}'", lock.display())));
    let left = locks(&ground);
    assert!(left.contains(&lock), "{lock:?} is not one of {left:?}");
    drop(other.stdin.take());
    other.wait().unwrap();
    // A person removes what is left: the locks of all refs of the transaction.
    for lock in left {
        ground::remove(&lock);
    }
    assert_eq!(land(&git, &turn, MAIN, &new, &root, &["K"]).unwrap(), Landed::Moved);
}

#[test]
fn git_killed_after_it_moved_the_branch_has_landed() {
    for (ground, root) in kinds().into_iter().filter(|(g, _)| g.path("repo/.git").exists()) {
        let git = ground.git();
        let turn = begin_turn(&git, "main", "turn 1").unwrap();
        let new = commit_on(&git, &root, "new");
        killer(&ground, "committed");
        assert_eq!(land(&git, &turn, MAIN, &new, &root, &[]).unwrap(), Landed::Moved);
        assert!(ground.path("killed").exists());
        ground::remove(&ground.path("killed"));
        assert!(settle_bounce(&git, &turn, "K").unwrap());
        assert!(ground.path("killed").exists());
        ground::remove(&ground.path("killed"));
        assert_eq!(begin_turn(&git, "main", "turn 2").unwrap().lane, "main");
    }
}

#[test]
fn a_lock_that_goes_away_is_waited_for() {
    for (ground, root) in kinds() {
        let git = ground.git();
        let turn = begin_turn(&git, "main", "turn 1").unwrap();
        let new = commit_on(&git, &root, "new");
        let names = ["HEAD", MAIN, "refs/coord/turn/main", "reftable/tables.list"];
        for (n, name) in names.iter().enumerate() {
            let path = git.ask(&["rev-parse", "--git-path", name]).unwrap().unwrap();
            let lock = git.dir().join(format!("{path}.lock"));
            if !lock.parent().unwrap().is_dir() {
                continue;
            }
            ground::write(&lock, b"");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    crate::sys::wake::nap(Duration::from_millis(600));
                    ground::remove(&lock);
                });
                let old = position(&git);
                let new = commit_on(&git, &old, &format!("{n} {new}"));
                let landed = land(&git, &turn, MAIN, &new, &old, &[]).unwrap();
                assert_eq!(landed, Landed::Moved, "{name}");
            });
        }
    }
}

#[test]
fn a_hook_that_refuses_is_an_error_at_once() {
    let (ground, root) = kinds().remove(0);
    let git = ground.git();
    let turn = begin_turn(&git, "main", "turn 1").unwrap();
    let new = commit_on(&git, &root, "new");
    ground.hook("repo", "reference-transaction", "[ \"$1\" = prepared ] && echo no >&2 && exit 1");
    let error = land(&git, &turn, MAIN, &new, &root, &[]).unwrap_err();
    assert!(error.message.contains("aborted by hook"), "{}", error.message);
    assert_eq!(position(&git), root);
    assert!(locks(&ground).is_empty());
}

#[test]
fn a_reftable_lock_is_named() {
    let Some((ground, _)) =
        kinds().into_iter().find(|(g, _)| g.path("repo/.git/reftable").exists())
    else {
        return;
    };
    let lock = ground.path("repo/.git/reftable/tables.list.lock");
    ground::write(&lock, b"");
    let error = begin_turn(&ground.git(), "main", "turn").unwrap_err();
    assert_eq!(error.at, Some(lock));
}

#[test]
fn names_that_would_be_commands() {
    let (ground, root) = kinds().remove(0);
    let git = ground.git();
    for lane in ["", "a\0b", "a b", "a\nb", "a^", "a:b", "a/"] {
        assert_eq!(begin_turn(&git, lane, "x").unwrap_err().exit, Exit::Usage, "{lane:?}");
    }
    for lane in ["a..b", ".a", "a.lock", "a//b"] {
        let error = begin_turn(&git, lane, "x").unwrap_err();
        assert_eq!(error.exit, Exit::Environment, "{lane:?}");
    }
    let turn = begin_turn(&git, "main", "turn").unwrap();
    assert!(land(&git, &turn, "main", &root, &root, &[]).is_err());
    let gone = land(&git, &turn, "refs/heads/gone", &root, &root, &[]).unwrap_err();
    assert!(gone.message.contains("refs/heads/gone is gone"), "{}", gone.message);
}
