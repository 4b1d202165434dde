//! The situations that are disturbed at every system call and at every step.

use std::process::Child;

use crate::case::{Case, names};
use crate::lists;
use crate::situation::*;

/// A queue with one task. Each death of a worker is charged, and there may be three of them.
pub fn one(c: &Case) {
    queue(c);
    c.add("a", &["--retries", "9", "--scope", "src"], "");
}

fn chain(c: &Case) {
    one(c);
    c.add("b", &["--after", "a"], "");
}

/// As after a boot, or after somebody removed what can be rebuilt: everything that a sweep may meet.
pub fn litter(c: &Case) {
    queue(c);
    // Over, failed, and cancelled because of it.
    c.add("bad", &["--retries", "0"], "test -e mended");
    c.add("with-bad", &["--after", "bad", "--on-dep-dead", "cancel"], "");
    c.coord(&["work", "--until-empty"]);
    // Reopened, and the one that it revives not yet.
    c.add("root", &["--retries", "9"], "test -e mended || exit 100");
    c.add("twig", &["--after", "root", "--on-dep-dead", "cancel"], "");
    c.coord(&["work", "--until-empty"]);
    c.sh("touch mended");
    c.dies("ready.link", &["retry", "root"]);
    c.sh("rm -f .coord/tasks/twig/1.reopen");
    // Claimed by a dead process that nobody remembers.
    c.add("orphan", &["--priority", "0"], "");
    c.dies("run.spawn", &["work", "--once"]);
    // Done, and those that came after it not served.
    c.add("first", &["--priority", "0"], "");
    c.add("second", &["--after", "first"], "");
    c.ok(&["work", "--once"]);
    c.sh("mkdir .coord/waiters/first && ln .coord/tasks/second/spec.json .coord/waiters/first/second");
    // Submitted and not settled: a sweep has to cancel it.
    die_adding(c, "submit.settle", "cancel-due", &["--after", "bad", "--on-dep-dead", "cancel"]);
    c.sh("rm -rf .coord/procs/solo-* .coord/procs/cli-*");
    c.add("later", &["--not-before", "1s"], "");
    c.add("third", &["--after", "orphan"], "");
    c.sh("rm -rf .coord/ready .coord/delayed .coord/control/boot && touch .coord/blocked/second.1");
    c.sh("mkdir .coord/tasks/empty && touch -d '2 hours ago' .coord/tasks/empty");
    c.sh("mkdir -p .coord/procs/.new-x/run && touch -d '2 hours ago' .coord/procs/.new-x");
}

fn die_adding(c: &Case, step: &str, id: &str, options: &[&str]) {
    let job = crate::case::job("");
    let mut args = vec!["add", "--id", id];
    args.extend(options);
    args.extend(["--sh", &job]);
    c.dies(step, &args);
}

/// A worker that runs the task `a`.
pub fn worker_beside(c: &Case) -> Child {
    let mut command = c.program(&["coord", "work", "--once"]);
    let quiet = std::process::Stdio::null;
    let child = command.stdout(quiet()).stderr(quiet()).spawn().unwrap();
    crate::support::until("the job runs", || c.root.join("wit/a").exists());
    child
}

/// Two tasks that run until somebody says go.
fn waiting(c: &Case) {
    queue(c);
    c.add("a", &[], "until [ -e go ]; do sleep 0.01; done");
}

fn go(c: &Case) {
    c.sh("touch go");
}

fn tasks_in(c: &Case) -> Vec<String> {
    names(&c.queue("tasks"))
}

/// What is disturbed at every system call and, with the rest of its acts, at every step.
pub const SITUATIONS: &[Situation] = &[
    Situation {
        name: "init",
        prepare: |_| (),
        acts: &[&["coord", "init", "--no-git"]],
        afterwards: |c| {
            // Whatever became of it, it is given again; and the queue that is there works.
            c.sh("rm -f coord.toml");
            queue(c);
            c.add("a", &[], "");
        },
        tasks: &[done("a")],
        ..PLAIN
    },
    Situation {
        name: "add",
        acts: &[&["coord", "add", "--id", "a", "--sh", JOB]],
        tasks: &[or("a", "done", &["absent"])],
        ..PLAIN
    },
    Situation {
        name: "add without an id",
        acts: &[&["coord", "add", "--sh", JOB]],
        verify: Some(|c, acknowledged| {
            let tasks = tasks_in(c).into_iter().filter(|id| c.state(id) == "done").count();
            assert!(tasks == 1 || (!acknowledged && tasks == 0), "one submission, {tasks} tasks");
        }),
        ..PLAIN
    },
    Situation {
        name: "add behind another",
        prepare: one,
        acts: &[&["coord", "add", "--id", "b", "--after", "a", "--sh", JOB]],
        tasks: &[done("a"), or("b", "done", &["absent"])],
        ..PLAIN
    },
    Situation {
        name: "add for later",
        acts: &[&["coord", "add", "--id", "a", "--not-before", "3s", "--sh", JOB]],
        tasks: &[or("a", "done", &["absent"])],
        ..PLAIN
    },
    Situation {
        name: "add with a number that is taken",
        prepare: |c| {
            queue(c);
            c.ok(&["add", "--sh", JOB]);
            c.sh("echo 1 >.coord/stats/next-id");
        },
        acts: &[&["coord", "add", "--sh", JOB]],
        verify: Some(|c, acknowledged| {
            let tasks = tasks_in(c).into_iter().filter(|id| c.state(id) == "done").count();
            assert!(tasks == 2 || (!acknowledged && tasks == 1), "two submissions, {tasks} tasks");
        }),
        ..PLAIN
    },
    Situation {
        name: "import",
        prepare: |c| {
            queue(c);
            let line = |id: &str, after: &str| {
                let job = serde_json::Value::from(JOB);
                format!("{{\"id\": \"{id}\", \"after\": [{after}], \"sh\": {job}}}\n")
            };
            let text = line("x", "") + &line("y", "\"x\"") + &line("z", "\"x\", \"y\"");
            std::fs::write(c.root.join("plan.jsonl"), text).unwrap();
        },
        acts: &[&["coord", "import", "plan.jsonl"]],
        tasks: &[
            or("x", "done", &["absent"]),
            or("y", "done", &["absent"]),
            or("z", "done", &["absent"]),
        ],
        ..PLAIN
    },
    Situation {
        name: "incoming",
        prepare: |c| {
            queue(c);
            c.ok(&["add", "--sh", JOB]);
            c.sh("echo 1 >.coord/stats/next-id");
            incoming(c, "good.json", &format!("{{\"sh\": {}}}", serde_json::Value::from(JOB)));
            incoming(c, "bad.json", "{");
        },
        acts: KEEPERS,
        tasks: &[done("1"), done("2")],
        verify: Some(|c, _| {
            assert_eq!(tasks_in(c), ["1", "2"]);
            let rejected = names(&c.queue("incoming/rejected"));
            let visible: Vec<&String> = rejected.iter().filter(|n| !n.starts_with('.')).collect();
            assert_eq!(visible.len(), 2, "a broken file and its reason: {rejected:?}");
        }),
        ..PLAIN
    },
    Situation {
        name: "something is due",
        prepare: |c| {
            queue(c);
            c.add("a", &["--not-before", "500ms"], "");
            let due = names(&c.queue("delayed"))
                .iter()
                .find_map(|name| u64::from_str_radix(name, 16).ok());
            // Some file systems are so slow that it was due at once; else its second is waited for.
            if let Some(due) = due {
                crate::support::until("it is due", || {
                    let now = std::time::SystemTime::now();
                    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() >= due
                });
            }
        },
        acts: KEEPERS,
        tasks: &[done("a")],
        ..PLAIN
    },
    Situation {
        name: "work",
        prepare: chain,
        acts: WORKERS,
        tasks: &[done("a"), done("b")],
        ..PLAIN
    },
    Situation {
        name: "a failure and its retry",
        prepare: |c| {
            queue(c);
            c.add("a", &["--retries", "9", "--backoff", "2s"], "test $COORD_ATTEMPT != 1");
        },
        acts: WORKERS,
        tasks: &[done("a")],
        ..PLAIN
    },
    Situation {
        name: "handed back by the job",
        prepare: |c| {
            queue(c);
            let body = "test -e once || { touch once; echo 0.2 >$COORD_OUT/retry-after; exit 75; }";
            c.add("a", &[], body);
        },
        acts: WORKERS,
        tasks: &[done("a")],
        ..PLAIN
    },
    Situation {
        name: "cancel",
        prepare: |c| {
            one(c);
            c.add("b", &["--after", "a", "--on-dep-dead", "cancel"], "");
            c.add("c", &["--after", "a", "--on-dep-dead", "run"], "");
        },
        acts: &[&["coord", "cancel", "a"]],
        tasks: &[or("a", "cancelled", &["done"]), or("b", "cancelled", &["done"]), done("c")],
        ..PLAIN
    },
    Situation {
        name: "cancel what runs",
        prepare: waiting,
        acts: &[&["coord", "cancel", "a"]],
        beside: Some(worker_beside),
        afterwards: go,
        // Where only the ring to its worker failed, the job may be done before the next heartbeat.
        verify: Some(|c, acknowledged| {
            let asked = c.queue("tasks/a/1.cancel").exists();
            let state = c.state("a");
            assert!(
                state == "cancelled" || (state == "done" && (asked || !acknowledged)),
                "{state}"
            );
        }),
        ..PLAIN
    },
    Situation {
        name: "cancel by force",
        prepare: waiting,
        acts: &[&["coord", "cancel", "--force", "a"]],
        beside: Some(worker_beside),
        afterwards: go,
        tasks: &[or("a", "cancelled", &["done"])],
        ..PLAIN
    },
    Situation {
        name: "being cancelled",
        prepare: |c| {
            queue(c);
            c.add("a", &["--retries", "9"], "coord cancel $COORD_TASK_ID; exec sleep 30");
        },
        acts: WORKERS,
        tasks: &[cancelled("a")],
        ..PLAIN
    },
    Situation {
        name: "hold",
        prepare: one,
        acts: &[&["coord", "hold", "a"]],
        tasks: &[or("a", "held", &["done"])],
        ..PLAIN
    },
    Situation {
        name: "release",
        prepare: |c| {
            one(c);
            c.ok(&["hold", "a"]);
        },
        acts: &[&["coord", "release", "a"]],
        tasks: &[or("a", "done", &["held"])],
        ..PLAIN
    },
    Situation {
        name: "release what was added so",
        prepare: |c| {
            queue(c);
            c.add("a", &["--hold"], "");
        },
        acts: &[&["coord", "release", "a"]],
        tasks: &[or("a", "done", &["pending", "held"])],
        ..PLAIN
    },
    Situation {
        name: "retry",
        prepare: |c| {
            queue(c);
            c.add("a", &["--retries", "9"], "test -e mended || exit 100");
            c.add("b", &["--after", "a", "--on-dep-dead", "cancel"], "");
            c.coord(&["work", "--until-empty"]);
            c.sh("touch mended");
        },
        acts: &[&["coord", "retry", "a"]],
        tasks: &[or("a", "done", &["failed"]), or("b", "done", &["cancelled"])],
        verify: Some(|c, _| {
            assert_eq!(c.state("a") == "done", c.state("b") == "done", "only one was reopened");
        }),
        ..PLAIN
    },
    Situation {
        name: "done by a person",
        prepare: |c| {
            queue(c);
            c.ok(&["add", "by hand", "--id", "p", "--manual"]);
            c.add("b", &["--after", "p"], "");
        },
        acts: &[&["coord", "done", "p", "--note", "did it"]],
        tasks: &[or("p", "done", &["pending"]), or("b", "done", &["pending"])],
        verify: Some(|c, _| assert_eq!(c.state("p"), c.state("b"), "b comes right after p")),
        ..PLAIN
    },
    Situation {
        name: "failed by a person",
        prepare: |c| {
            queue(c);
            c.ok(&["add", "by hand", "--id", "p", "--manual", "--retries", "0"]);
        },
        acts: &[&["coord", "fail", "p", "--reason", "no"]],
        tasks: &[or("p", "failed", &["pending"])],
        ..PLAIN
    },
    Situation {
        name: "a worker died while its job ran",
        prepare: |c| {
            chain(c);
            c.dies("run.spawn", &["work", "--once"]);
        },
        acts: KEEPERS,
        tasks: &[done("a"), done("b")],
        verify: Some(|c, _| assert_eq!(c.verdict("a", 1), "expired")),
        ..PLAIN
    },
    Situation {
        name: "a worker died with a result",
        prepare: |c| {
            chain(c);
            c.dies("end.link", &["work", "--once"]);
        },
        acts: KEEPERS,
        tasks: &[done("a"), done("b")],
        verify: Some(|c, _| assert_eq!(c.verdict("a", 1), "done", "finished work was lost")),
        ..PLAIN
    },
    Situation {
        name: "a worker died before its back-off",
        prepare: |c| {
            queue(c);
            c.add("a", &["--retries", "9", "--backoff", "2s"], "test $COORD_ATTEMPT != 1");
            c.dies("settle.delay", &["work", "--once"]);
        },
        acts: KEEPERS,
        tasks: &[done("a")],
        ..PLAIN
    },
    Situation {
        name: "a submitter died",
        prepare: |c| {
            one(c);
            die_adding(c, "submit.link", "b", &["--after", "a"]);
            die_adding(c, "submit.staged", "c", &[]);
            die_adding(c, "submit.drop", "d", &[]);
            // Staged under a number that was given away meanwhile.
            c.dies("submit.link", &["add", "--sh", JOB]);
            c.sh("mkdir -p keep && mv .coord/procs/cli-*/ keep/");
            c.ok(&["add", "--sh", JOB]);
            c.sh("mv keep/* .coord/procs/");
        },
        acts: KEEPERS,
        // A staged submission that died complete is made good, an incomplete one was never there.
        tasks: &[done("a"), done("b"), or("c", "absent", &[]), done("d"), done("1"), done("2")],
        ..PLAIN
    },
    Situation {
        name: "a keeper died with a taken file",
        prepare: |c| {
            queue(c);
            let text = format!("{{\"sh\": {}}}", serde_json::Value::from(JOB));
            incoming(c, "one.json", &text);
            c.dies("submit.stage", &["work", "--until-empty"]);
            c.sh("mkdir -p keep && mv .coord/procs/solo-*/ keep/");
            incoming(c, "two.json", &text);
            c.dies("incoming.staged", &["work", "--until-empty"]);
            c.sh("mv .coord/procs/solo-*/ keep/");
            incoming(c, "bad.json", "{");
            c.dies("incoming.reject", &["work", "--until-empty"]);
            c.sh("mv keep/* .coord/procs/");
        },
        acts: KEEPERS,
        verify: Some(|c, _| {
            let tasks: Vec<String> =
                tasks_in(c).into_iter().filter(|id| c.state(id) != "absent").collect();
            assert_eq!(tasks.len(), 2, "two files, {tasks:?}");
            assert!(tasks.iter().all(|id| c.state(id) == "done"), "{tasks:?}");
        }),
        ..PLAIN
    },
    Situation {
        name: "somebody died while deciding",
        prepare: |c| {
            one(c);
            c.ok(&["hold", "a"]);
            c.dies("decide.end", &["release", "a"]);
            c.add("b", &[], "");
            c.dies("claim.link", &["cancel", "b"]);
            c.add("p", &["--hold"], "");
            c.dies("ready.link", &["release", "p"]);
        },
        acts: KEEPERS,
        tasks: &[or("a", "held", &[]), done("b"), done("p")],
        ..PLAIN
    },
    Situation {
        name: "everything that can be rebuilt is gone",
        prepare: litter,
        acts: ALL,
        tasks: &[
            or("bad", "failed", &[]),
            cancelled("with-bad"),
            cancelled("cancel-due"),
            done("root"),
            done("twig"),
            done("orphan"),
            done("first"),
            done("second"),
            done("later"),
            done("third"),
        ],
        verify: Some(|c, _| assert_eq!(c.verdict("orphan", 1), "expired")),
        ..PLAIN
    },
    Situation {
        name: "a list of jobs",
        prepare: lists::submitted,
        acts: WORKERS,
        verify: Some(lists::done_all),
        ..PLAIN
    },
    Situation {
        name: "repair",
        prepare: |c| {
            chain(c);
            c.dies("run.spawn", &["work", "--once"]);
            c.add("over", &["--priority", "0"], "");
            c.ok(&["cancel", "over"]);
            c.sh("mkdir -p .coord/ready/default/50/00000001-00 .coord/delayed/00000001 \
                 && touch .coord/ready/default/50/00000001-00/over.1 .coord/blocked/over.1");
        },
        acts: &[&["coord", "fsck", "--repair"]],
        tasks: &[done("a"), done("b"), cancelled("over")],
        ..PLAIN
    },
];
