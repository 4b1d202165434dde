//! The product on the ground: a queue with the tasks, its fleet, and all checks in the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::checks::{faults, patches_in};
use crate::ground::{self, Repo};
use crate::orphans::{not_collected, orphans};
use crate::person::Person;
use crate::scene::{Attempt, Fate, Scene, Strategy};
use crate::support::{Sandbox, until};
use crate::tasks::{Plan, Task};

/// Workers of the fleet.
pub const WORKERS: u32 = 6;
/// How often a task may be sent back.
const MAX_BOUNCES: usize = 2;
/// For all tasks of any size.
const PATIENCE: &str = "600s";

/// What a test wants.
pub struct Wish {
    /// The tasks.
    pub plan: Plan,
    /// The choices.
    pub seed: u64,
    /// How changes get onto the branch.
    pub strategy: Strategy,
    /// The most that are merged and tested together.
    pub batch: u32,
    /// Whether programs will be killed.
    pub kills: bool,
    /// Where the branch is pushed to, if anywhere: a bare repository is made beside the project.
    pub push: bool,
    /// Rivals that must have been sent back.
    pub least_bounces: usize,
}

/// A queue in a repository with its tasks.
pub struct Stage {
    /// The project.
    pub sandbox: Sandbox,
    /// The tasks, in the order in which they are to be added.
    pub tasks: Vec<Task>,
    wish: Wish,
    base: String,
    check: String,
}

impl Stage {
    /// Makes the ground and the queue. No task is added. If programs will be killed, the project has
    /// another branch than `main` checked out, so that people can push to `main`.
    pub fn set(wish: Wish) -> Stage {
        let mut sandbox = Sandbox::bare();
        let directories =
            [("meeting", "MEETING_OF_TEST"), ("scripts", "SCRIPTS_OF_TEST"), ("tmp", "TMPDIR")];
        for (name, variable) in directories {
            let dir = sandbox.beside(name);
            fs::create_dir(&dir).unwrap();
            sandbox.set(variable, &dir.to_string_lossy());
        }
        fs::create_dir(sandbox.beside("clones")).unwrap();
        if wish.kills {
            sandbox.set("KILLS_OF_TEST", "yes");
        }
        let repo = ground::make(&sandbox, &sandbox.root, &wish.plan);
        let base = repo.git(&["rev-parse", "main"]);
        if wish.kills {
            repo.git(&["checkout", "--quiet", "-b", "desk"]);
        }
        if wish.push {
            let bare = sandbox.beside("origin.git").to_string_lossy().into_owned();
            repo.git(&["clone", "--quiet", "--bare", ".", &bare]);
            repo.git(&["remote", "add", "origin", &bare]);
        }
        let check = ground::check();
        sandbox.coord(&["init"]).ok();
        let mut tables = format!(
            "[git]\nbase = \"main\"\n[merge]\nenabled = true\ninto = \"main\"\nstrategy = \"{}\"\n\
             check = {check:?}\nbatch = {}\nmax_bounces = {MAX_BOUNCES}\n",
            wish.strategy.name(),
            wish.batch
        );
        if wish.push {
            tables += "push = \"origin\"\n";
        }
        if wish.kills {
            tables += "[lease]\nexpire = \"4s\"\n";
        }
        sandbox.configure(&tables);
        let tasks = wish.plan.tasks(wish.seed);
        Stage { sandbox, tasks, wish, base, check }
    }

    /// The project's repository.
    pub fn repo(&self) -> Repo<'_> {
        Repo::at(&self.sandbox, &self.sandbox.root)
    }

    /// Adds these tasks.
    pub fn add(&self, tasks: &[Task]) {
        if tasks.is_empty() {
            return;
        }
        let file = self.sandbox.beside("tasks.jsonl");
        for task in tasks {
            fs::write(self.sandbox.beside("scripts").join(&task.id), &task.sh).unwrap();
        }
        let lines: String = tasks.iter().map(Task::line).collect();
        fs::write(&file, lines).unwrap();
        self.sandbox.coord(&["import", &file.to_string_lossy()]).ok();
    }

    /// Waits until all that was added is over: one if something failed, else nought.
    pub fn wait(&self, code: i32) {
        self.sandbox.coord(&["wait", "--timeout", PATIENCE]).exits(code);
    }

    /// Ends the fleet, and makes all checks.
    pub fn judge(&self, person: Option<&Person>) {
        let s = &self.sandbox;
        s.coord(&["stop", "--timeout", "60s"]).ok();
        until("no process is left", || s.processes().is_empty());
        // A registration that a kill has cut off goes with the next sweep; one without a card, of which
        // nobody can tell whose it is, when it is old.
        s.sh("find .coord/procs -name '.new-*' -exec touch -d '2 days ago' {} +");
        let code = s.coord(&["work", "--until-empty"]).code;
        assert!(matches!(code, 0 | 1), "the worker that looks once more: {code}");
        s.coord(&["fsck", "--strict"]).ok();
        let scene = self.scene(person);
        let mut found = faults(&scene, |_| true);
        // A worker that was killed behind its last verdict leaves its worktree to who needs one next.
        let killed = person.is_some();
        if !killed {
            found.extend(orphans(&scene.repo, &self.slots()));
        }
        s.coord(&["worktree", "gc"]).ok();
        if killed {
            found.extend(orphans(&scene.repo, &self.slots()));
        }
        found.extend(not_collected(&scene.repo));
        s.coord(&["fsck", "--strict"]).ok();
        if self.wish.push {
            found.extend(self.not_pushed(&scene));
        }
        let bounces: usize = scene.fates.values().map(|f| f.judged("bounce").len()).sum();
        let attempts: usize = scene.fates.values().map(|f| f.attempts.len()).sum();
        println!(
            "merging: seed {}, {}: {} tasks, {attempts} attempts, {bounces} sent back, {} pushes \
             ({} refused)",
            self.wish.seed,
            self.wish.strategy.name(),
            scene.tasks.len(),
            person.map_or(0, |p| p.patches.len()),
            person.map_or(0, |p| p.refused),
        );
        assert!(found.is_empty(), "seed {}\n{}", self.wish.seed, found.join("\n"));
    }

    fn scene(&self, person: Option<&Person>) -> Scene<'_> {
        Scene {
            repo: self.repo(),
            beside: self.sandbox.root.parent().unwrap(),
            base: self.base.clone(),
            tasks: self.tasks.clone(),
            fates: self.tasks.iter().map(|t| (t.id.clone(), self.fate(&t.id))).collect(),
            strategy: self.wish.strategy,
            check: self.check.clone(),
            least_bounces: self.wish.least_bounces,
            max_bounces: MAX_BOUNCES,
            others: person.map_or_else(Vec::new, |p| p.patches.clone()),
        }
    }

    /// What the queue says of a task, by its commands and by its registers.
    fn fate(&self, id: &str) -> Fate {
        let s = &self.sandbox;
        let mut registers: BTreeMap<u64, Attempt> = BTreeMap::new();
        for name in s.names(&format!("tasks/{id}")) {
            let Some((n, kind)) = name.split_once('.') else { continue };
            let Ok(n) = n.parse::<u64>() else { continue };
            if !["end", "merge"].contains(&kind) {
                continue;
            }
            let text = s.text(s.queue(&format!("tasks/{id}/{name}")));
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            let attempt = registers.entry(n).or_insert(Attempt { n, ..Attempt::default() });
            if kind == "end" { attempt.end = value } else { attempt.merge = value }
        }
        let shown = s.coord(&["show", id]).stdout;
        Fate { state: s.state(id), shown, attempts: registers.into_values().collect() }
    }

    /// The worktrees that may be there: those that the queue lists, and the one that it merges in.
    fn slots(&self) -> Vec<PathBuf> {
        let listed = self.sandbox.coord(&["worktree", "ls", "--json"]);
        let listed = listed.ok().json("coord.worktrees/1");
        let path = |w: &Value| PathBuf::from(w["path"].as_str().unwrap());
        let mut slots: Vec<PathBuf> =
            listed["worktrees"].as_array().unwrap().iter().map(path).collect();
        let repo = self.sandbox.root.file_name().unwrap().to_string_lossy().into_owned();
        slots.push(self.sandbox.beside(&format!("{repo}.coord")).join("merge.default"));
        slots
    }

    /// What the remote's branch lacks or has beyond ours.
    fn not_pushed(&self, scene: &Scene) -> Vec<String> {
        let bare = Repo::at(&self.sandbox, &self.sandbox.beside("origin.git"));
        compare(&scene.repo, &bare, &scene.others)
    }
}

/// Whether the branch is the same in both, with all that was pushed.
pub fn compare(ours: &Repo, remote: &Repo, pushed: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let (here, there) = (ours.git(&["rev-parse", "main"]), remote.git(&["rev-parse", "main"]));
    if here != there {
        found.push(format!("main is {here} here and {there} in the remote"));
    }
    let patches = patches_in(remote, "main");
    for patch in pushed {
        let times = patches.iter().filter(|p| *p == patch).count();
        if times != 1 {
            found.push(format!("a pushed patch is {times} times in the remote: {patch}"));
        }
    }
    found
}
