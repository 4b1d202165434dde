//! `coord gc`: what is over leaves `tasks/`, its id stays taken, and nothing that people ask is lost.

use std::collections::BTreeSet;

use coord::queue::ids::shard;

use crate::support::{Sandbox, until};

fn place(top: &str, lot: &str, id: &str) -> String {
    format!("{top}/{lot}/{}/{id}", shard(id))
}

/// One that is done, with output; one that came after it; and one that failed.
fn worked() -> Sandbox {
    let s = Sandbox::new();
    s.add(&["--id", "a"], "echo hello; echo told >$COORD_OUT/handoff.md");
    s.add(&["--id", "b", "--after", "a"], "true");
    s.add(&["--id", "bad", "--retries", "0"], "false");
    s.coord(&["work", "--until-empty"]).exits(1);
    s
}

fn count(s: &Sandbox, state: &str) -> String {
    s.coord(&["status", "--count", state]).ok().line().to_owned()
}

#[test]
fn what_is_done_is_archived_and_can_still_be_asked_for() {
    let s = worked();
    s.coord(&["gc"]).ok().says("0 tasks archived");
    assert_eq!(s.names("tasks"), ["a", "b", "bad"], "it has not been over for a day");
    s.sh("touch -d '2 days ago' .coord/tasks/a").ok();
    s.coord(&["gc"]).ok().says("1 tasks archived");
    s.coord(&["gc", "--older-than", "0s"]).ok().says("1 tasks archived");
    assert_eq!(s.names("tasks"), ["bad"], "what failed stays unless it is named");
    assert!(s.queue(&place("archive", "done", "a")).join("1.out/log").exists());
    s.coord(&["show", "a"]).ok().says("archived").says("attempt 1").says("coord logs a@1");
    assert_eq!(s.coord(&["show", "a", "--json"]).ok().json("coord.task/1")["archived"], true);
    s.coord(&["logs", "a"]).ok().says("hello");
    s.coord(&["why", "a"]).ok().says("a is done");
    s.coord(&["wait", "a", "b"]).ok();
    assert_eq!((count(&s, "done"), count(&s, "failed")), ("2".to_owned(), "1".to_owned()));
    s.coord(&["status"]).ok().says("2/3 done").says("DONE 2 (2 archived)");
    // The events are read once more, without what was noted of them.
    s.sh("rm -f .coord/stats/checkpoint .coord/status.json").ok();
    s.coord(&["status"]).ok().says("2/3 done").says("DONE 2 (2 archived)");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn what_comes_after_archived_tasks_runs_and_knows_of_them() {
    let s = worked();
    s.coord(&["gc", "a"]).ok().says("1 tasks archived");
    s.add(&["--id", "c", "--after", "a"], "true");
    s.coord(&["context", "c"]).ok().says("told");
    s.coord(&["gc", "--delete", "a", "b"]).ok().says("2 tasks deleted");
    s.add(&["--id", "d", "--after", "a,b@pass"], "true");
    s.coord(&["work", "--until-empty"]).exits(1);
    assert_eq!((s.state("c"), s.state("d")), ("done".to_owned(), "done".to_owned()));
    // Dead is dead wherever it lies.
    s.coord(&["gc", "--delete", "bad"]).ok();
    s.add(&["--id", "e", "--after", "bad", "--on-dep-dead", "cancel"], "true");
    s.add(&["--id", "f", "--after", "bad", "--on-dep-dead", "run"], "true");
    s.add(&["--id", "g", "--after", "bad"], "true");
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.state("e"), "cancelled");
    assert_eq!(s.state("f"), "done");
    assert_eq!(s.state("g"), "blocked");
    s.coord(&["why", "g"]).ok().says("bad is dead and was archived");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn ids_stay_taken() {
    let s = worked();
    assert_eq!(s.add(&[], "true"), "1");
    s.work();
    s.coord(&["gc", "all"]).ok().says("3 tasks archived");
    let again = s.coord(&["add", "--id", "b", "--after", "a", "--sh", "true", "--json"]);
    assert_eq!(again.ok().json("coord.add/1")["new"], false, "the same task is there already");
    s.coord(&["add", "--id", "b", "--sh", "echo other"]).fails(5, "the id b is taken");
    assert!(!s.queue("tasks/b").exists(), "an attempt to use it again leaves a directory");
    s.sh("rm .coord/stats/next-id").ok();
    assert_eq!(s.add(&[], "true"), "2", "numbers go on behind archived ones");
    s.work();
    s.coord(&["gc", "all", "--delete"]).ok().says("4 tasks deleted");
    for id in ["a", "b"] {
        s.coord(&["add", "--id", id, "--sh", "true"]).fails(5, "is taken by another task");
        s.coord(&["show", id]).fails(4, "is over (done), and its files were deleted");
    }
    s.sh("rm .coord/stats/next-id").ok();
    assert_eq!(s.add(&[], "true"), "3");
    assert_eq!(count(&s, "done"), "4", "what was deleted still counts as done");
    assert_eq!(s.names("archive/trash"), Vec::<String>::new());
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_dry_run_says_what_and_how_much_and_does_nothing() {
    let s = worked();
    let before = s.sh("find .coord/tasks | sort").stdout;
    s.coord(&["gc", "all", "--dry-run"]).ok().says("a (done) would be archived (").says("KiB)");
    let dry = s.coord(&["gc", "--delete", "--keep", "1", "--dry-run", "--json"]);
    let dry = dry.ok().json("coord.gc/1");
    assert_eq!(dry["tasks"].as_array().unwrap().len(), 1, "one of the two that are done is kept");
    assert_eq!(
        (&dry["tasks"][0]["id"], &dry["tasks"][0]["action"]),
        (&"a".into(), &"deleted".into())
    );
    assert!(dry["tasks"][0]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(s.sh("find .coord/tasks | sort").stdout, before);
    assert!(!s.queue("archive").exists());
    // And then it is done.
    assert_eq!(s.coord(&["gc", "--keep", "1", "-q"]).ok().stdout, "a\n");
    assert_eq!(s.names("tasks"), ["b", "bad"]);
}

#[test]
fn what_is_not_done_goes_only_if_it_is_named() {
    let s = worked();
    s.add(&["--id", "held", "--hold"], "true");
    s.add(&["--id", "waits", "--after", "bad"], "true");
    s.add(&["--id", "dropped", "--hold"], "true");
    s.coord(&["cancel", "dropped"]).ok();
    s.coord(&["gc", "all", "--older-than", "0s"]).ok().says("2 tasks archived");
    s.coord(&["gc", "held", "bad"])
        .ok()
        .says("held stays: it is not over")
        .says("bad stays: waits waits for it");
    s.coord(&["cancel", "waits"]).ok();
    s.coord(&["gc", "@failed"]).ok().says("1 tasks archived");
    assert_eq!(s.names("tasks"), ["dropped", "held", "waits"]);
    // Over for ever: nobody runs it again.
    s.coord(&["retry", "bad"]).fails(5, "bad was archived, and is over for ever");
    s.coord(&["why", "bad"]).ok().says("over for ever");
    s.coord(&["gc", "@cancelled"]).ok().says("2 tasks archived");
    assert_eq!((count(&s, "failed"), count(&s, "cancelled")), ("0".to_owned(), "0".to_owned()));
    s.coord(&["gc", "a"]).fails(2, "a is archived already").warns("coord gc --delete a");
    s.coord(&["gc", "--help"]).ok().says("@failed");
    s.coord(&["worktree", "gc", "--help"]).ok();
    s.coord(&["worktree", "--help"]).ok().says("coord gc");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_drained_queue_has_small_directories() {
    let s = Sandbox::new();
    let lines: String =
        (0..200).map(|n| format!("{{\"id\": \"t{n}\", \"sh\": \"true\"}}\n")).collect();
    std::fs::write(s.beside("many.jsonl"), lines).unwrap();
    s.coord(&["import", &s.beside("many.jsonl").to_string_lossy()]).ok();
    s.work().ok();
    s.coord(&["gc", "--older-than", "0s", "--delete"]).ok().says("200 tasks deleted");
    let largest = |below: &str| {
        let line =
            format!("find .coord/{below} -type d -exec sh -c 'ls -A \"$1\" | wc -l' - {{}} \\;");
        let counts = s.sh(&line).stdout;
        counts.lines().filter_map(|n| n.trim().parse::<usize>().ok()).max().unwrap_or(0)
    };
    assert_eq!(largest("tasks"), 0, "tasks are left behind");
    assert!(largest("archive") <= 3, "shards are left behind");
    assert!(largest("buried") <= 256, "tombstones are not spread");
    // A tombstone costs a name, not a file.
    let inodes = s.sh("find .coord/buried -type f -printf '%i\\n' | sort -u | wc -l").stdout;
    assert_eq!(inodes.trim(), "1", "each tombstone is a file of its own");
    assert_eq!(count(&s, "done"), "200");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn old_events_go_and_the_status_stays() {
    let s = worked();
    s.add(&["--id", "open", "--hold"], "true");
    s.coord(&["gc", "a", "b"]).ok();
    let old = s.names("events").into_iter().find(|name| name.starts_with("cli@")).unwrap();
    // As if an earlier boot had written them.
    s.sh(&format!("mv .coord/events/{old} .coord/events/cli@0000.0.jsonl")).ok();
    s.sh("touch -d '40 days ago' .coord/events/*.jsonl").ok();
    s.sh("mkdir -p .coord/ready/default/50/00000001-00 && echo x >.coord/.x.1.tmp").ok();
    s.sh("touch -d '2 hours ago' .coord/.x.1.tmp").ok();
    s.sh("echo '{' >.coord/incoming/rejected/x.json && echo bad >.coord/incoming/rejected/x.json.why").ok();
    let said = s.coord(&["gc", "--older-than", "0s"]).ok().stdout.clone();
    assert!(said.contains("old event files removed"), "{said}");
    assert!(said.contains("1 temporary files removed") && said.contains("empty"), "{said}");
    assert!(!s.queue("events/cli@0000.0.jsonl").exists() && !s.queue(".x.1.tmp").exists());
    assert!(s.queue("incoming/rejected/x.json").exists(), "nobody asked for that");
    s.coord(&["gc", "--older-than", "0s", "--rejected"]).ok().says("2 rejected files removed");
    s.sh("rm -f .coord/stats/checkpoint .coord/status.json").ok();
    let counts = [count(&s, "done"), count(&s, "failed"), count(&s, "held")];
    assert_eq!(counts, ["2", "1", "1"], "a task was forgotten with its old events");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn keepers_archive_what_coord_toml_says() {
    let s = worked();
    s.configure("[gc]\narchive_after = \"1d\"\n");
    s.sh("touch -d '2 days ago' .coord/tasks/a .coord/tasks/bad").ok();
    // As after a boot: the first keeper sweeps.
    s.sh("rm -rf .coord/control/boot").ok();
    s.coord(&["work", "--until-empty"]).exits(1);
    assert_eq!(s.names("tasks"), ["b", "bad"], "a sweep archives what is done for long enough");
    s.coord(&["fsck", "--strict"]).ok();
}

/// Killed at each step, and then once more with all the others undisturbed.
#[test]
fn killed_at_every_step() {
    let steps = [
        "archive.move",
        "archive.unwait",
        "bury.mark",
        "bury.move",
        "bury.delete",
        "gc.events",
        "gc.unlink",
        "gc.rmdir",
        "reopen.link",
        "sync.moved",
    ];
    for step in steps {
        let mut s = Sandbox::new();
        if step == "sync.moved" {
            s.configure("[queue]\ndurability = \"accept\"\n");
            s.coord(&["init"]).ok();
        }
        s.add(&["--id", "a"], "echo hello");
        s.add(&["--id", "bad", "--retries", "0"], "false");
        s.add(&["--id", "with", "--after", "bad", "--on-dep-dead", "cancel"], "true");
        s.coord(&["work", "--until-empty"]).exits(1);
        s.sh("echo {} >.coord/events/w-1.0.jsonl && echo x >.coord/.x.1.tmp").ok();
        s.sh("touch -d '40 days ago' .coord/events/w-1.0.jsonl .coord/.x.1.tmp").ok();
        s.sh("mkdir -p .coord/ready/default/50/00000001-00").ok();
        let gc = ["gc", "all", "@failed", "@cancelled", "--delete"];
        s.set("COORD_STEP", &format!("{step}:crash"));
        s.coord(&gc).exits(128 + 9);
        // Whoever comes next may die there, too.
        s.coord(&gc);
        s.set("COORD_STEP", "");
        s.add(&["--id", "b", "--after", "a"], "true");
        s.coord(&["work", "--until-empty"]);
        assert_eq!(s.state("b"), "done", "{step}: an archived dependency was lost");
        s.coord(&["fsck"]).ok();
        s.coord(&["gc", "all", "@failed", "@cancelled", "--delete"]).ok();
        assert_eq!(s.names("tasks"), Vec::<String>::new(), "{step}");
        for id in ["a", "b", "bad", "with"] {
            let word = if id.len() > 1 { "another" } else { "other" };
            s.coord(&["add", "--id", id, word, "--sh", "true"]).fails(5, "taken");
        }
        assert_eq!(count(&s, "done"), "2", "{step}");
        let trash = s.names("archive/trash");
        assert_eq!(trash, Vec::<String>::new(), "{step}");
        s.coord(&["fsck", "--strict"]).ok();
    }
}

/// Many at once: some archive and delete, others work, and each task is done once.
#[test]
fn many_archive_at_once() {
    let s = Sandbox::new();
    let mut all = BTreeSet::new();
    for n in 0..30 {
        all.insert(s.add(&["--id", &format!("t{n}")], "echo x >>$COORD_ROOT/wit"));
    }
    let workers: Vec<_> = (0..2).map(|_| s.background(&["work", "--until-empty"])).collect();
    until("all are archived", || {
        let gcs = [&["gc", "all"][..], &["gc", "all", "--delete"]].map(|args| s.background(args));
        for gc in gcs {
            s.collect(gc).ok();
        }
        s.names("tasks").is_empty()
    });
    for worker in workers {
        s.collect(worker).ok();
    }
    s.coord(&["gc", "all", "--delete"]).ok();
    assert_eq!(s.sh("wc -l <wit").stdout.trim(), "30", "a task ran twice or not at all");
    assert!(all.iter().all(|id| s.queue(&place("buried", "done", id)).exists()));
    assert_eq!(count(&s, "done"), "30");
    s.coord(&["fsck", "--strict"]).ok();
}
