//! Situations that only a step needs, since somebody else has to act at the right moment or a process
//! hangs.

use crate::case::names;
use crate::play::{go_on, until_stopped};
use crate::situation::*;
use crate::situations::{litter, one, worker_beside};

fn task_file(id: &str) -> String {
    serde_json::json!({ "id": id, "sh": JOB }).to_string()
}

/// A job that removes its worker from the queue the first time, and waits until that has come back.
pub const LOSES_ITS_PLACE: &str = "{ [ $COORD_ATTEMPT != 1 ] || { rm -r $COORD_DIR/procs/${COORD_TOKEN#*@}; \
     until grep -qs former $COORD_DIR/procs/*/card.0.json; do sleep 0.05; done; }; }";

/// What only some steps need: somebody acts while the program stands still, or a process hangs.
pub const RARE: &[Situation] = &[
    Situation {
        name: "a scope is held",
        prepare: |c| {
            queue(c);
            c.add("a", &["--scope", "src"], "sleep 1");
            c.add("b", &["--scope", "src/b"], "");
        },
        acts: WORKERS,
        beside: Some(worker_beside),
        tasks: &[done("a"), done("b")],
        ..PLAIN
    },
    Situation {
        name: "tasks that want to be merged, where nobody can",
        prepare: |c| {
            queue(c);
            // Refused where it can be known: the repository goes afterwards.
            c.sh("git init -q -b main . && git -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m start");
            c.sh("cp coord.toml ../kept && sed -i '/isolation/d' coord.toml");
            c.add("a", &["--merge-after", "b"], "");
            c.add("b", &["--merge"], "");
            c.sh("rm -rf .git && mv ../kept coord.toml");
        },
        acts: WORKERS,
        tasks: &[done("a"), done("b")],
        ..PLAIN
    },
    Situation {
        name: "many tasks with one scope",
        prepare: |c| {
            queue(c);
            ["a", "b", "c", "d", "e", "f"].iter().for_each(|id| c.add(id, &["--scope", "src"], ""));
        },
        acts: WORKERS,
        tasks: &[done("a"), done("b"), done("c"), done("d"), done("e"), done("f")],
        ..PLAIN
    },
    Situation {
        name: "what a power loss took",
        prepare: |c| {
            litter(c);
            c.sh("rm -rf .coord/waiters && touch .coord/blocked/bad.1");
        },
        acts: ALL,
        tasks: &[done("root"), done("orphan"), done("third"), done("second")],
        ..PLAIN
    },
    Situation {
        name: "a queue that survives power losses",
        prepare: |c| {
            queue(c);
            configure(c, "[queue]\ndurability = \"full\"\n");
            c.ok(&["init"]);
            c.add("a", &[], "");
            c.add("b", &["--after", "a"], "");
            incoming(c, "c.json", &task_file("c"));
            c.dies("incoming.staged", &["work", "--until-empty"]);
            incoming(c, "d.json", &task_file("d"));
            c.sh("rm -rf .coord/ready .coord/control/boot");
        },
        acts: ALL,
        tasks: &[done("a"), done("b"), done("c"), done("d")],
        ..PLAIN
    },
    Situation {
        name: "what is over is archived and deleted",
        prepare: |c| {
            queue(c);
            configure(c, "[queue]\ndurability = \"full\"\n");
            c.ok(&["init"]);
            c.add("a", &["--scope", "src"], "");
            c.add("b", &["--after", "a"], "");
            c.add("bad", &["--retries", "0"], "false");
            c.add("with-bad", &["--after", "bad", "--on-dep-dead", "cancel"], "");
            c.coord(&["work", "--until-empty"]);
            c.sh("echo {} >.coord/events/w-1.0.jsonl && echo x >.coord/stats/.next-id.x.tmp");
            c.sh("touch -d '40 days ago' .coord/events/w-1.0.jsonl .coord/stats/.next-id.x.tmp");
            c.sh("mkdir -p .coord/ready/default/50/00000000-00");
        },
        acts: &[&["coord", "gc", "all", "@failed", "@cancelled", "--delete"]],
        // A command that was disturbed may leave it, and only gc removes it.
        afterwards: |c| c.sh("rm -f .coord/stats/.next-id.x.tmp"),
        verify: Some(|c, acknowledged| {
            assert!(!acknowledged || names(&c.queue("tasks")).is_empty(), "something stays");
            c.ok(&["gc", "all", "@failed", "@cancelled", "--delete"]);
            assert_eq!(names(&c.queue("tasks")), Vec::<String>::new());
            for (id, lot) in [("a", "done"), ("b", "done"), ("bad", "dead"), ("with-bad", "dead")] {
                let at = format!("{lot}/{}/{id}", coord::queue::ids::shard(id));
                assert!(c.queue(&format!("buried/{at}")).exists(), "{id} is nowhere");
                assert!(!c.queue(&format!("archive/{at}")).exists(), "{id} was not deleted");
                let again = c.coord(&["add", "--id", id, "another one", "--sh", "false"]);
                assert_eq!(again.code, Some(5), "the id {id} can be used again");
            }
            assert_eq!(names(&c.queue("archive/trash")), Vec::<String>::new());
        }),
        ..PLAIN
    },
    Situation {
        name: "somebody cancels before the claim",
        prepare: litter,
        acts: ALL,
        stop: Some(("claim.link", |c| c.ok(&["cancel", "cancel-due"]))),
        tasks: &[cancelled("cancel-due"), done("root"), done("orphan"), done("third")],
        ..PLAIN
    },
    Situation {
        name: "somebody cancels before the end",
        prepare: litter,
        acts: ALL,
        stop: Some(("end.link", |c| c.ok(&["cancel", "--force", "cancel-due"]))),
        tasks: &[cancelled("cancel-due"), done("root"), done("orphan"), done("third")],
        ..PLAIN
    },
    Situation {
        name: "a worker died too late",
        prepare: |c| {
            one(c);
            let mut command = c.program(&["coord", "work", "--once"]);
            command.env("COORD_STEP", "end.link:stop,end.late:crash");
            let child = c.start(command);
            until_stopped(&child);
            c.ok(&["cancel", "--force", "a"]);
            go_on(&child);
            assert_eq!(c.finish(child).signal, Some(9));
        },
        acts: KEEPERS,
        tasks: &[cancelled("a")],
        verify: Some(|c, _| {
            assert!(c.queue("tasks/a/1.late").exists(), "its work was thrown away")
        }),
        ..PLAIN
    },
    Situation {
        name: "a task for much later lost its hint",
        prepare: |c| {
            queue(c);
            c.add("a", &["--not-before", "1h"], "");
            c.sh("rm -rf .coord/delayed");
        },
        acts: &[MONITOR, AGGREGATOR, COORDINATOR],
        afterwards: |c| c.ok(&["cancel", "a"]),
        tasks: &[cancelled("a")],
        ..PLAIN
    },
    Situation {
        name: "a worker's directory is removed while it works",
        prepare: |c| {
            queue(c);
            configure(c, "[lease]\nheartbeat = \"100ms\"\n");
            c.add("a", &[], LOSES_ITS_PLACE);
        },
        acts: WORKERS,
        until: Some(|c| c.queue("tasks/a/1.end").exists()),
        tasks: &[done("a")],
        ..PLAIN
    },
    Situation {
        name: "a worker hangs",
        prepare: |c| {
            queue(c);
            configure(c, "[lease]\nexpire = \"2s\"\nheartbeat = \"500ms\"\n");
            c.add("a", &[], "test $COORD_ATTEMPT != 1 || sleep 30");
        },
        acts: KEEPERS,
        beside: Some(|c| {
            let child = worker_beside(c);
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).unwrap();
            child
        }),
        afterwards: |c| drop(c.coord(&["work", "--until-empty"])),
        until: Some(|c| c.queue("tasks/a/1.end").exists()),
        tasks: &[done("a")],
        verify: Some(|c, _| assert_eq!(c.verdict("a", 1), "expired")),
        ..PLAIN
    },
];
