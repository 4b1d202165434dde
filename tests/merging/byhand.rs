//! A merge queue of git commands, without any of the product: to see that the tasks do what they
//! should, and that the checks accept a history in which all went well.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::checks::faults;
use crate::ground::{self, Repo};
use crate::orphans::orphans;
use crate::scene::{Attempt, Fate, Scene, Strategy};
use crate::support::Sandbox;
use crate::tasks::{Kind, Plan, SIXTY, Task};

/// How often a task is sent back here.
const MAX_BOUNCES: usize = 2;

/// A directory for everything, where rivals find each other at once.
pub fn sandbox(plan: &Plan) -> Sandbox {
    let mut sandbox = Sandbox::bare();
    let meeting = sandbox.beside("meeting");
    fs::create_dir(&meeting).unwrap();
    for pair in 0..plan.pairs {
        for side in ["a", "b"] {
            fs::write(meeting.join(format!("P{pair:02}{side}")), "").unwrap();
        }
    }
    sandbox.set("MEETING_OF_TEST", &meeting.to_string_lossy());
    sandbox
}

/// The queue of one.
struct ByHand<'a> {
    sandbox: &'a Sandbox,
    repo: Repo<'a>,
    strategy: Strategy,
    check: String,
    queue: PathBuf,
}

impl ByHand<'_> {
    /// Runs a task's script in a worktree of its own: base and commit.
    fn attempt(&self, task: &Task, n: usize) -> (String, String) {
        let base = self.repo.git(&["rev-parse", "main"]);
        let work = self.sandbox.beside("work");
        let path = work.to_string_lossy().into_owned();
        self.repo.git(&["worktree", "add", "--quiet", "--detach", &path, &base]);
        let out = self.queue.join(format!("tasks/{}/{n}.out", task.id));
        fs::create_dir_all(&out).unwrap();
        let mut command = self.sandbox.command("sh");
        command.args(["-c", &task.sh]).current_dir(&work).envs([
            ("COORD_TASK_ID", task.id.as_str()),
            ("COORD_ATTEMPT", &n.to_string()),
            ("COORD_DIR", &self.queue.to_string_lossy()),
            ("COORD_OUT", &out.to_string_lossy()),
        ]);
        if n > 1 {
            command.env("COORD_FAILURE_FILE", self.queue.join(format!("{}.why", task.id)));
        }
        let raw = command.output().unwrap();
        assert!(raw.status.success(), "{}: {}", task.id, String::from_utf8_lossy(&raw.stderr));
        let commit = Repo::at(self.sandbox, &work).git(&["rev-parse", "HEAD"]);
        self.repo.git(&["worktree", "remove", "--force", &path]);
        (base, commit)
    }

    /// Tries to merge what an attempt made: the commit, or why not.
    fn merge(&self, task: &Task, n: usize, base: &str, commit: &str) -> Result<String, String> {
        let before = self.repo.git(&["rev-parse", "HEAD"]);
        let id = &task.id;
        let trailers = format!("--trailer Coord-Task:{id} --trailer Coord-Attempt:{n}");
        let line = match self.strategy {
            Strategy::Merge => format!(
                "git merge --quiet --no-ff --no-commit {commit} && \
                 git commit --quiet -m 'Merge {id}' {trailers}"
            ),
            Strategy::Squash => format!(
                "git merge --quiet --squash {commit} && git commit --quiet -m {id} {trailers}"
            ),
            Strategy::Rebase => format!(
                "for c in $(git rev-list --reverse {base}..{commit}); do \
                 git cherry-pick --no-commit $c && git commit --quiet -C $c {trailers} || exit 1; \
                 done"
            ),
        };
        let mut result = self.repo.sh(&line);
        // The others are checked in the end.
        if result.0 && !task.is_good() {
            result = self.repo.sh(&self.check);
        }
        if !result.0 {
            self.repo.git(&["reset", "--quiet", "--hard", &before]);
            return Err(result.1);
        }
        Ok(self.repo.git(&["rev-parse", "HEAD"]))
    }

    /// The register of a verdict, also as a file.
    fn judge(&self, task: &Task, n: usize, result: &Result<String, String>) -> Value {
        let dir = self.queue.join(format!("tasks/{}", task.id));
        let merge = match result {
            Ok(commit) => json!({"v": 1, "verdict": "pass", "commit": commit}),
            Err(why) => {
                fs::write(self.queue.join(format!("{}.why", task.id)), why).unwrap();
                let retry = task.is_good() || n <= MAX_BOUNCES;
                json!({"v": 1, "verdict": "bounce", "retry": retry, "context": why})
            }
        };
        fs::write(dir.join(format!("{n}.merge")), merge.to_string()).unwrap();
        merge
    }
}

/// Makes all tasks of a plan, all at first from the same commit, and merges them in their order.
pub fn play<'a>(
    sandbox: &'a Sandbox,
    beside: &'a Path,
    plan: &Plan,
    strategy: Strategy,
) -> Scene<'a> {
    let repo = ground::make(sandbox, &sandbox.root.join("repo"), plan);
    let queue = sandbox.beside("queue");
    let hand = ByHand { sandbox, repo, strategy, check: ground::check(), queue };
    let base = hand.repo.git(&["rev-parse", "main"]);
    let tasks = plan.tasks(1);
    let mut waiting: Vec<(&Task, usize, (String, String))> =
        tasks.iter().map(|t| (t, 1, hand.attempt(t, 1))).collect();
    let mut fates: BTreeMap<String, Fate> = BTreeMap::new();
    while !waiting.is_empty() {
        let mut next = Vec::new();
        for (task, n, (base, commit)) in waiting {
            let result = hand.merge(task, n, &base, &commit);
            let merge = hand.judge(task, n, &result);
            let fate = fates.entry(task.id.clone()).or_default();
            let end = json!({"result": {"base": base, "commit": commit}});
            fate.attempts.push(Attempt { n: n as u64, end, merge: merge.clone() });
            match result {
                Ok(_) => fate.state = "done".to_owned(),
                Err(_) if merge["retry"] == true => {
                    next.push((task, n + 1, hand.attempt(task, n + 1)));
                }
                Err(why) => (fate.state, fate.shown) = ("failed".to_owned(), why),
            }
        }
        waiting = next;
    }
    Scene {
        repo: hand.repo,
        beside,
        base,
        tasks,
        fates,
        strategy,
        check: hand.check,
        least_bounces: plan.pairs,
        max_bounces: MAX_BOUNCES,
        others: Vec::new(),
    }
}

#[test]
fn the_sixty_tasks_do_by_hand_what_they_are_for() {
    let sandbox = sandbox(&SIXTY);
    let beside = sandbox.beside("clones");
    fs::create_dir(&beside).unwrap();
    let scene = play(&sandbox, &beside, &SIXTY, Strategy::Merge);
    let kinds = |kind: fn(&Kind) -> bool| scene.tasks.iter().filter(|t| kind(&t.kind)).count();
    assert_eq!(scene.tasks.len(), 60);
    assert_eq!(kinds(|k| *k == Kind::Alone), 24);
    assert_eq!(kinds(|k| *k == Kind::Rival), 30);
    assert_eq!(kinds(|k| matches!(k, Kind::Breaking(_))), 6);
    // Whether each commit is green, is looked at with fewer tasks: here it is enough that the last is.
    let mut found = faults(&scene, |name| name != "green");
    found.extend(orphans(&scene.repo, &[]));
    let (ok, said) = scene.repo.sh(&scene.check);
    assert!(ok, "{said}");
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_seed_repeats_its_tasks_and_another_has_others() {
    let scripts = |seed| SIXTY.tasks(seed).into_iter().map(|t| t.sh).collect::<Vec<_>>();
    assert_eq!(scripts(7), scripts(7));
    assert_ne!(scripts(7), scripts(8));
}
