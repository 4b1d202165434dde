//! SIGKILL at every named step of the protocol: real programs, a real directory.
//!
//! For each `step!` name in the sources, a whole story (adding, holding, cancelling, failing,
//! retrying, delaying, incoming files, manual work) is played by processes that each die when they
//! reach that step for the first time; then again by processes that die there while they recover from
//! that. Afterwards the commands are simply repeated and one plain `coord work --until-empty` must
//! finish everything, with every task accepted once and `coord fsck --strict` clean.
//!
//! A step that no process of the story ever reached fails the test: it would not be tested.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::Sandbox;

/// Every name in the sources.
fn steps() -> BTreeSet<String> {
    fn walk(dir: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, names);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                for line in code {
                    if let Some((_, rest)) = line.split_once("step!(\"") {
                        names.insert(rest.split('"').next().unwrap().to_owned());
                    }
                }
            }
        }
    }
    let mut names = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
    names
}

/// One story on one queue.
struct Story {
    sandbox: Sandbox,
}

impl Story {
    /// `step`: what each process of the story does when it reaches it, or nothing.
    fn new(step: Option<&str>) -> Story {
        let mut sandbox = Sandbox::new();
        if step.is_some_and(|s| s.starts_with("sync.")) {
            // Only the durable modes wait for the disk.
            sandbox.configure("[queue]\ndurability = \"full\"\n");
            sandbox.coord(&["init"]).ok();
        }
        let trace = sandbox.beside("trace");
        sandbox.set("COORD_STEP_TRACE", &trace.to_string_lossy());
        sandbox.set("COORD_STEP", &step.map(|s| format!("{s}:crash")).unwrap_or_default());
        Story { sandbox }
    }

    fn reached(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.sandbox.beside("trace")).unwrap_or_default();
        let step = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        text.lines().map(step).collect()
    }

    /// Every command may be killed, refused or done already; what counts is the end.
    fn try_all(&self, commands: &[&[&str]]) {
        for command in commands {
            drop(self.sandbox.coord(command));
        }
    }

    /// The same commands are given at every stage: ids make them mean the same.
    fn put_in(&self) {
        self.try_all(&[
            &["add", "--id", "plain", "--scope", "a", "--", "true"],
            &["add", "--id", "after", "--after", "plain,twice", "--", "true"],
            &[
                "add",
                "--id",
                "twice",
                "--scope",
                "a/b",
                "--backoff",
                "10ms",
                "--sh",
                "test $COORD_ATTEMPT != 1",
            ],
            &[
                "add",
                "--id",
                "later",
                "--scope",
                ".",
                "--not-before",
                "2020-01-01T00:00:00Z",
                "--",
                "true",
            ],
            &[
                "add",
                "--id",
                "put-off",
                "--scope",
                "b",
                "--sh",
                "test -e $COORD_OUT/../1.end || { echo 0.05 >$COORD_OUT/retry-after; exit 75; }",
            ],
            &["add", "--id", "held", "--scope", "a", "--hold", "--", "true"],
            &["add", "--id", "kept", "--after", "person", "--", "true"],
            &["hold", "kept"],
            &["release", "held"],
            &["release", "kept"],
            &["add", "a word", "--id", "person", "--manual"],
            &["add", "--id", "dropped", "--hold", "--", "true"],
            &["cancel", "dropped"],
            // Nobody may run it where the hold and the cancel die: it comes after what is done last.
            &["add", "--id", "stopped", "--hold", "--after", "person", "--", "true"],
            &["release", "stopped"],
            &["hold", "stopped"],
            &["cancel", "stopped"],
            &[
                "add",
                "--id",
                "with-dropped",
                "--after",
                "dropped",
                "--on-dep-dead",
                "cancel",
                "--",
                "true",
            ],
            &["add", "--id", "bad", "--retries", "0", "--", "false"],
            &["add", "--id", "behind-bad", "--after", "bad", "--on-dep-dead", "run", "--", "true"],
            &["done", "person"],
        ]);
        let queue = self.sandbox.queue("incoming");
        let once = self.sandbox.beside("dropped-in");
        if !once.exists() {
            std::fs::write(&once, "").unwrap();
            for (name, text) in [
                ("good.json", r#"{"id": "in", "sh": "true"}"#),
                ("bad.json", "{"),
                ("n.json", r#"{"sh": "true"}"#),
            ] {
                let file = self.sandbox.beside(name);
                std::fs::write(&file, text).unwrap();
                let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
                std::fs::File::options()
                    .append(true)
                    .open(&file)
                    .unwrap()
                    .set_modified(old)
                    .unwrap();
                std::fs::rename(&file, queue.join(name)).unwrap();
            }
        }
    }

    fn work(&self) {
        self.try_all(&[&["work", "--until-empty"], &["retry", "bad", "--note", "again"]]);
    }

    /// From here on nobody dies.
    fn heal(&mut self) {
        self.sandbox.set("COORD_STEP", "");
        self.put_in();
        self.sandbox.coord(&["work", "--until-empty"]);
        self.put_in();
        let output = self.sandbox.coord(&["work", "--until-empty"]);
        assert!(matches!(output.code, 0 | 1), "{}", output.stderr);
    }

    fn verify(&self, step: &str) {
        let done = [
            "plain",
            "after",
            "twice",
            "later",
            "put-off",
            "held",
            "kept",
            "person",
            "behind-bad",
            "in",
        ];
        for id in done {
            assert_eq!(
                self.sandbox.state(id),
                "done",
                "{step}: {id}\n{}",
                self.sandbox.coord(&["show", id]).stdout
            );
            let ends = self.sandbox.names(&format!("tasks/{id}"));
            let accepted = ends
                .iter()
                .filter_map(|n| n.strip_suffix(".end")?.parse().ok())
                .filter(|n| self.sandbox.end(id, *n)["verdict"] == "done");
            assert_eq!(accepted.count(), 1, "{step}: {id} was accepted more than once");
        }
        assert_eq!(self.sandbox.state("dropped"), "cancelled", "{step}");
        assert_eq!(self.sandbox.state("stopped"), "cancelled", "{step}");
        assert_eq!(self.sandbox.state("with-dropped"), "cancelled", "{step}");
        assert_eq!(self.sandbox.state("bad"), "failed", "{step}");
        // The file without an id became one task, however often its submission was begun.
        let numbered = self
            .sandbox
            .names("tasks")
            .into_iter()
            .filter(|id| id.bytes().all(|b| b.is_ascii_digit()));
        assert_eq!(
            numbered.count(),
            1,
            "{step}: a file in incoming/ was submitted twice or not at all"
        );
        let rejected = self.sandbox.names("incoming/rejected");
        assert_eq!(
            rejected.iter().filter(|n| n.ends_with(".why")).count(),
            1,
            "{step}: {rejected:?}"
        );
        let checked = self.sandbox.coord(&["fsck", "--strict"]);
        let procs = self.sandbox.sh("find .coord/procs").stdout;
        assert_eq!(checked.code, 0, "{step}: {}\n{procs}", checked.stdout);
        assert!(self.sandbox.processes().is_empty(), "{step}: processes are left");
    }
}

fn crash_at(step: &str) -> BTreeSet<String> {
    let mut story = Story::new(Some(step));
    // A step of the recovery needs somebody to recover, who left just that.
    let first = match step {
        "recover.incoming" => "submit.stage",
        "recover.settle" => "decide.end",
        "recover.submit" => "submit.settle",
        "recover.tmp" => "submit.staged",
        _ => "run.spawn",
    };
    if step.starts_with("recover.") || step.starts_with("keeper.") {
        story.sandbox.set("COORD_STEP", &format!("{first}:crash"));
        story.put_in();
        story.work();
        story.sandbox.set("COORD_STEP", &format!("{step}:crash"));
    }
    // The second round recovers from the first, and dies at the same place.
    for _ in 0..2 {
        story.put_in();
        story.work();
    }
    // A recovery that is killed at other places: between its own decisive calls.
    for other in ["recover.expire", "recover.drop_intent", "end.settle"] {
        story.sandbox.set("COORD_STEP", &format!("{other}:crash"));
        story.work();
    }
    let reached = story.reached();
    story.heal();
    story.verify(step);
    reached
}

/// Steps that need a situation of their own: each is crashed at in array_crashes.rs, zombies.rs,
/// scopes.rs, merges.rs or archive.rs, or in tests/syscalls.
const APART: &[&str] = &[
    "adopt.layout",
    "archive.move",
    "archive.unwait",
    "bury.delete",
    "bury.mark",
    "bury.move",
    "gc.events",
    "gc.rmdir",
    "gc.unlink",
    "sync.moved",
    "array.intent",
    "jobs.claim",
    "jobs.end",
    "jobs.end_as",
    "jobs.expire",
    "halt.count",
    "halt.link",
    "jobs.join",
    "jobs.intent",
    "jobs.keep",
    "jobs.leave",
    "jobs.over",
    "jobs.spawn",
    "jobs.stage",
    "jobs.tell",
    "list.close",
    "list.link",
    "list.mkdir",
    "list.open",
    "list.stage",
    "recover.leave",
    "sync.jobs",
    "cancel.link",
    "delayed.unlink",
    "scope.want",
    "lane.link",
    "merge.link",
    "merging.link",
    "merging.unlink",
    "merging.wait",
    "start.mark",
    "fsck.unhint",
    "recover.served",
    "sync.staged",
    "recover.link_staged",
    "keeper.kill",
    "end.late",
    "claim.help",
    "claim.drop_intent",
    "copy.stage",
    "copy.link",
    "submit.rekey",
    "back.leader",
    "back.intent",
    "back.jobs",
    "sweep.orphan",
    "sweep.rmdir",
    "sweep.unhint",
];

#[test]
fn killed_at_every_step() {
    let all = steps();
    assert!(all.len() > 50, "the sources have only {} steps", all.len());
    let mut reached = BTreeSet::new();
    for step in all.iter().filter(|s| !APART.contains(&s.as_str())) {
        let seen = crash_at(step);
        assert!(seen.contains(step), "no process of the story reached {step}: it is not tested");
        reached.extend(seen);
    }
    println!("killed at {} steps", all.len() - APART.len());
    for step in APART {
        assert!(all.contains(*step), "{step} is no longer a step");
    }
}

/// What is killed while it registers leaves a directory without a name that counts.
#[test]
fn unfinished_registrations_go_with_the_next_sweep() {
    let mut sandbox = Sandbox::new();
    sandbox.set("COORD_STEP", "register.rename:crash");
    sandbox.coord(&["add", "--sh", "true"]).exits(128 + 9);
    sandbox.set("COORD_STEP", "");
    let unfinished = || -> Vec<String> {
        sandbox.names("procs").into_iter().filter(|n| n.starts_with(".new-")).collect()
    };
    assert_eq!(unfinished().len(), 1);
    // One that had not even written its card; and one that a live process is making.
    sandbox.sh("mkdir .coord/procs/.new-early && touch -d '2 minutes ago' .coord/procs/.new-early");
    sandbox.sh("mkdir .coord/procs/.new-young");
    sandbox.work().ok();
    assert_eq!(unfinished(), [".new-young"]);
    sandbox.coord(&["fsck", "--strict"]).ok();
}

/// What comes after a task registers with it and looks again; if the task was done in between, nobody
/// but the one who waits can know that it need not.
#[test]
fn a_waiter_that_came_too_late_does_not_stay() {
    let mut sandbox = Sandbox::new();
    sandbox.add(&["--id", "a"], "true");
    sandbox.set("COORD_STEP", "settle.wait:stop");
    let child = sandbox.background(&["add", "--id", "b", "--after", "a", "--sh", "true"]);
    sandbox.set("COORD_STEP", "");
    let pid = i32::try_from(child.id()).unwrap();
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    crate::support::until("the command stops", || stat().contains(") T "));
    sandbox.coord(&["work", "--once"]).ok();
    assert_eq!(sandbox.state("a"), "done");
    sandbox.sh(&format!("kill -CONT {pid}"));
    sandbox.collect(child).ok();
    assert_eq!(sandbox.names("waiters"), Vec::<String>::new());
    assert_eq!(sandbox.state("b"), "ready");
}
