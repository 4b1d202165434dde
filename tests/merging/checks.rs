//! What must be true of the history and of the registers when all is over. Each check returns what is
//! wrong, in words; [`crate::broken`] shows each of them a history in which something is.

use std::collections::{BTreeMap, BTreeSet};

use crate::ground::Repo;
use crate::scene::{Attempt, Scene, Strategy};
use crate::tasks::{Kind, Task};

/// What is wrong.
pub type Faults = Vec<String>;

/// A check.
pub type Check = fn(&Scene) -> Faults;

/// All checks of the history, by name.
pub const CHECKS: &[(&str, Check)] = &[
    ("states", states),
    ("tokens", tokens),
    ("trailers", trailers),
    ("patches", patches),
    ("green", green),
    ("breaking", breaking),
    ("bounces", bounces),
    ("others", others),
];

/// What is wrong, by those checks whose names are wanted.
pub fn faults(scene: &Scene, is_wanted: fn(&str) -> bool) -> Faults {
    let named = |(name, check): &(&str, Check)| {
        check(scene).into_iter().map(|fault| format!("{name}: {fault}")).collect::<Vec<_>>()
    };
    CHECKS.iter().filter(|(name, _)| is_wanted(name)).flat_map(named).collect()
}

/// The patch-ids of what a git command prints, in its order.
fn patch_ids(repo: &Repo, command: &str) -> Vec<String> {
    let (ok, text) = repo.sh(&format!("git {command} | git patch-id --stable"));
    assert!(ok, "git {command}: {text}");
    text.lines().filter_map(|l| l.split(' ').next()).map(str::to_owned).collect()
}

/// The patch-ids of the commits in a range, merges left out.
pub fn patches_in(repo: &Repo, range: &str) -> Vec<String> {
    patch_ids(repo, &format!("log --no-merges --patch --format='commit %H' {range}"))
}

fn count<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    all.into_iter().for_each(|one| *counts.entry(one).or_default() += 1);
    counts
}

/// Good changes are done, by one accepted attempt whose merge is on the branch.
pub fn states(scene: &Scene) -> Faults {
    let mut faults = Faults::new();
    for (task, fate) in scene.good() {
        let id = &task.id;
        if fate.state != "done" {
            faults.push(format!("{id} is {}\n{}", fate.state, fate.shown));
            continue;
        }
        let passed = fate.judged("pass");
        let [accepted] = passed[..] else {
            faults.push(format!("{id} has {} accepted attempts", passed.len()));
            continue;
        };
        let commit = accepted.merge["commit"].as_str().unwrap_or("none");
        if scene.repo.try_git(&["merge-base", "--is-ancestor", commit, "main"]).0 != 0 {
            faults.push(format!("{id} was merged as {commit}, which is not on main"));
        }
    }
    faults
}

/// The word of each good change is once in the files.
pub fn tokens(scene: &Scene) -> Faults {
    let mut args = vec!["grep", "--fixed-strings", "--only-matching", "-h"];
    scene.tasks.iter().for_each(|t| args.extend(["-e", &t.token]));
    let found = scene.repo.try_git(&[&args[..], &["main", "--"]].concat()).1;
    let counts = count(found.lines());
    let of = |t: &Task| counts.get(t.token.as_str()).copied().unwrap_or(0);
    let wrong = scene.good().map(|(t, _)| (t, of(t))).filter(|(_, n)| *n != 1);
    wrong.map(|(t, n)| format!("the change of {} is {n} times in the files", t.id)).collect()
}

/// Each good change has its commits with trailers, all of its accepted attempt; nobody else has any.
pub fn trailers(scene: &Scene) -> Faults {
    let format = "--format=%(trailers:key=Coord-Task,valueonly,separator=%x2C) \
                  %(trailers:key=Coord-Attempt,valueonly,separator=%x2C)";
    let lines = scene.repo.lines(&["log", format, &scene.range()]);
    let found = count(lines.iter().map(|l| l.trim()).filter(|l| !l.is_empty()).map(str::to_owned));
    let mut wanted = BTreeMap::new();
    for (task, fate) in scene.good() {
        for accepted in fate.judged("pass") {
            let commits = match scene.strategy {
                Strategy::Rebase => attempt_patches(scene, accepted).len(),
                Strategy::Merge | Strategy::Squash => 1,
            };
            wanted.insert(format!("{} {}", task.id, accepted.n), commits);
        }
    }
    let all: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    let numbers = |key: &String| (found.get(key).copied(), wanted.get(key).copied());
    let wrong = all.into_iter().map(|key| (key, numbers(key))).filter(|(_, (f, w))| f != w);
    wrong
        .map(|(key, (found, wanted))| {
            let (found, wanted) = (found.unwrap_or(0), wanted.unwrap_or(0));
            format!("task and attempt {key}: {found} commits with trailers, not {wanted}")
        })
        .collect()
}

/// What an attempt made, as it should be found on the branch.
fn attempt_patches(scene: &Scene, attempt: &Attempt) -> Vec<String> {
    let of = |key: &str| attempt.end["result"][key].as_str().unwrap_or_default().to_owned();
    let (base, commit) = (of("base"), of("commit"));
    let known = |c: &str| !c.is_empty() && scene.repo.try_git(&["cat-file", "-e", c]).0 == 0;
    if !known(&base) || !known(&commit) {
        return Vec::new();
    }
    match scene.strategy {
        Strategy::Squash => patch_ids(&scene.repo, &format!("diff {base} {commit}")),
        _ => patches_in(&scene.repo, &format!("{base}..{commit}")),
    }
}

/// What the accepted attempts changed is on the branch once, and nothing else is but what other
/// people pushed.
pub fn patches(scene: &Scene) -> Faults {
    let found = count(patches_in(&scene.repo, &scene.range()));
    let mut faults = Faults::new();
    let mut known: BTreeSet<String> = scene.others.iter().cloned().collect();
    for (task, fate) in scene.good() {
        let made: Vec<String> =
            fate.judged("pass").iter().flat_map(|a| attempt_patches(scene, a)).collect();
        if made.is_empty() {
            faults.push(format!("{}: its registers name no commits", task.id));
        }
        for patch in made {
            let n = found.get(&patch).copied().unwrap_or(0);
            if n != 1 {
                faults.push(format!("{}: its patch {patch} is {n} times on main", task.id));
            }
            known.insert(patch);
        }
    }
    let strange = found.keys().filter(|patch| !known.contains(*patch));
    faults.extend(strange.map(|patch| format!("nobody's patch {patch} is on main")));
    faults
}

/// Each commit that the branch has pointed to passes the tests. Equal trees are tested once.
pub fn green(scene: &Scene) -> Faults {
    let dir = tempfile::Builder::new().prefix("green-").tempdir_in(scene.beside).unwrap();
    let path = dir.path().join("clone").to_string_lossy().into_owned();
    scene.repo.git(&["clone", "--quiet", "--shared", "--no-checkout", ".", &path]);
    let clone = scene.repo.elsewhere(&path);
    let mut seen = BTreeSet::new();
    let mut faults = Faults::new();
    for line in scene.repo.lines(&["log", "--first-parent", "--format=%H %T", &scene.range()]) {
        let (commit, tree) = line.split_once(' ').unwrap();
        if !seen.insert(tree.to_owned()) {
            continue;
        }
        clone.git(&["checkout", "--quiet", "--detach", commit]);
        let (ok, said) = clone.sh(&scene.check);
        if !ok {
            faults.push(format!("{commit} is red\n{said}"));
        }
    }
    if seen.is_empty() {
        faults.push("nothing was merged".to_owned());
    }
    faults
}

/// What breaks the tests is in no commit, has failed, and says why.
pub fn breaking(scene: &Scene) -> Faults {
    let commits = scene.repo.lines(&["rev-list", &scene.range()]);
    let commits: Vec<&str> = commits.iter().map(String::as_str).collect();
    let mut faults = Faults::new();
    for task in &scene.tasks {
        let Kind::Breaking(says) = task.kind else { continue };
        let (id, fate) = (&task.id, &scene.fates[&task.id]);
        let args = ["grep", "--fixed-strings", "--files-with-matches", "-e", &task.token];
        let found = scene.repo.try_git(&[&args[..], &commits, &["--"]].concat()).1;
        if let Some(place) = found.lines().next() {
            faults.push(format!("{id} breaks the tests and is in {place}"));
        }
        if fate.state != "failed" {
            faults.push(format!("{id} breaks the tests and is {}", fate.state));
        }
        if !fate.shown.contains(says) {
            faults.push(format!("coord show {id} lacks {says:?}\n{}", fate.shown));
        }
        let judged: Vec<&Attempt> = fate.attempts.iter().filter(|a| !a.merge.is_null()).collect();
        if !(scene.max_bounces..=scene.max_bounces + 1).contains(&judged.len()) {
            faults.push(format!("{id} was judged {} times", judged.len()));
        }
        for (i, attempt) in judged.iter().enumerate() {
            let (n, merge, is_last) = (attempt.n, &attempt.merge, i + 1 == judged.len());
            if merge["verdict"] != "bounce" || merge["retry"] != !is_last {
                faults.push(format!("{id} attempt {n}: a strange verdict: {merge}"));
            }
            if !merge["context"].as_str().unwrap_or_default().contains(says) {
                faults.push(format!("{id} attempt {n}: its context lacks {says:?}: {merge}"));
            }
        }
    }
    faults
}

/// Enough rivals were sent back because of a conflict, and nobody who is in nobody's way.
pub fn bounces(scene: &Scene) -> Faults {
    let mut faults = Faults::new();
    let mut number = 0;
    for (task, fate) in scene.good() {
        for bounce in fate.judged("bounce") {
            let text = bounce.merge.to_string().to_lowercase();
            if task.kind == Kind::Rival && text.contains("conflict") {
                number += 1;
            } else {
                faults.push(format!("{} attempt {}: sent back: {text}", task.id, bounce.n));
            }
        }
    }
    if number < scene.least_bounces {
        faults.push(format!("{number} rivals were sent back, not {}", scene.least_bounces));
    }
    faults
}

/// What other people pushed is on the branch once.
pub fn others(scene: &Scene) -> Faults {
    let found = count(patches_in(&scene.repo, &scene.range()));
    let times = |patch: &String| found.get(patch).copied().unwrap_or(0);
    let wrong = scene.others.iter().filter(|patch| times(patch) != 1);
    wrong.map(|p| format!("a pushed patch is {} times on main: {p}", times(p))).collect()
}
