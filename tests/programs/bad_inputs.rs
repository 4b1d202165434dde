//! Broken surroundings: each has its own message and exit code, and loses nothing once it is over.

use std::path::PathBuf;

use crate::mount::Mount;
use crate::support::{Sandbox, kill, skip, until};

const TMPFS: &[&str] = &["-t", "tmpfs", "-o", "size=2m", "none"];

/// What makes files of a sandbox immutable, also for who has them open, until it is gone.
struct Immutable<'a>(&'a Sandbox, &'static str);

impl Drop for Immutable<'_> {
    fn drop(&mut self) {
        self.0.run("sh", &["-c", &format!("chattr -i {}", self.1)]);
    }
}

#[test]
fn when_nobody_can_beat_for_longer_than_a_lease_nobody_is_killed() {
    let s = Sandbox::new();
    s.configure("[lease]\nexpire = \"1s\"\nheartbeat = \"200ms\"\n");
    s.add(&["--id", "T"], "touch up; until [ -e go ]; do sleep 0.01; done");
    s.start(1);
    until("it runs", || s.root.join("up").exists());
    let worker = || s.names("procs").into_iter().find(|name| name.starts_with("w1-"));
    let before = worker();
    // As on a file system that has become read-only: that cannot be had while files are open for writing.
    let beats = Immutable(&s, ".coord/procs/*/hb");
    let made = s.run("sh", &["-c", &format!("chattr +i {}", beats.1)]);
    if made.code != 0 {
        return skip("immutable files", made.stderr.trim());
    }
    // As many leases as a keeper needs to lose its patience.
    let since = std::time::Instant::now();
    until("the time is over", || since.elapsed() > std::time::Duration::from_secs(5));
    drop(beats);
    s.sh("touch go");
    s.coord(&["wait", "T", "--timeout", "30s"]).ok();
    assert_eq!((s.end("T", 1)["verdict"].as_str(), worker()), (Some("done"), before));
    s.coord(&["stop", "--now", "--timeout", "30s"]).ok();
}

#[test]
fn a_full_disk_refuses_new_tasks_and_loses_no_result() {
    let s = Sandbox::bare();
    let Some(_mount) = Mount::new(&s, "full disk", TMPFS, &s.queue("")) else { return };
    s.coord(&["init"]).ok();
    s.configure("");
    // A result of several pages: what goes with the attempt makes room for one.
    let line = "printf '\"%20000s\"' x > $COORD_OUT/result.json; \
                touch up; until [ -e go ]; do sleep 0.01; done";
    s.add(&["--id", "T", "--retries", "0"], line);
    s.add(&["--id", "U"], "true");
    let worker = s.background(&["work", "--max-tasks", "2"]);
    until("it runs", || s.root.join("up").exists());
    s.run("dd", &["if=/dev/zero", "of=.coord/filler", "bs=4k"]).exits(1);
    let refused = s.coord(&["add", "--id", "V", "--sh", "true"]);
    refused.fails(7, "No space left on device").warns("hint: the file system is full: make room");
    s.coord(&["ls"]).ok().says("T").says("running");
    s.sh("touch go");
    // Its result cannot be written for now; then room is made.
    let waited = s.coord(&["wait", "T", "--timeout", "1500ms"]);
    waited.exits(124);
    std::fs::remove_file(s.queue("filler")).unwrap();
    let worked = s.collect(worker);
    worked.ok().warns("cannot record the end of T.1").warns("will try again");
    assert_eq!((s.state("T"), s.state("U")), ("done".to_owned(), "done".to_owned()));
    assert_eq!(s.end("T", 1)["verdict"], "done");
    assert_eq!(s.names("procs"), ["bell"], "nothing is left of the refused one");
    s.coord(&["show", "V"]).fails(4, "V");
    s.add(&["--id", "V"], "true");
}

#[test]
fn a_read_only_queue_can_be_looked_at_and_says_why_not_more() {
    let s = Sandbox::bare();
    let Some(_mount) = Mount::new(&s, "read-only queue", TMPFS, &s.queue("")) else { return };
    s.coord(&["init"]).ok();
    s.configure("");
    s.add(&["--id", "T"], "true");
    s.sh("mount -o remount,ro .coord");
    let text = "Read-only file system";
    let hint = "hint: the file system is read-only";
    s.coord(&["add", "--id", "U", "--sh", "true"]).fails(7, text).warns(hint);
    s.coord(&["cancel", "T"]).fails(7, text).warns(hint);
    s.coord(&["pause"]).fails(7, text).warns(hint);
    s.coord(&["work", "--once"]).fails(7, text).warns(hint);
    s.coord(&["start", "-n", "1"]).fails(7, text).warns(hint);
    s.coord(&["ls"]).ok().says("T");
    s.coord(&["status"]).ok().says("READY 1");
    s.coord(&["show", "T"]).ok().says("ready");
    s.coord(&["why", "T"]).ok();
    s.coord(&["events"]).ok().says("submit");
    s.sh("mount -o remount,rw .coord");
    s.work().ok();
    assert_eq!(s.coord(&["ls", "-q"]).stdout, "T\n");
}

#[test]
fn a_file_system_without_hard_links_is_refused_by_init() {
    let mut s = Sandbox::bare();
    let image = s.beside("image").display().to_string();
    s.run("dd", &["if=/dev/zero", &format!("of={image}"), "bs=1M", "count=4"]).ok();
    if s.run("mkfs.vfat", &[&image]).code != 0 {
        return skip("no hard links", "mkfs.vfat is not there or failed");
    }
    let Some(_mount) = Mount::new(&s, "no hard links", &["-o", "loop", &image], &s.queue(""))
    else {
        return;
    };
    let refused = s.coord(&["init"]);
    refused
        .fails(7, "cannot create hard links in ")
        .warns("vfat")
        .warns("hint: ")
        .warns("COORD_DIR");
    assert_eq!(s.names(""), [""; 0], "the probe left something");
    s.coord(&["ls"]).exits(3);
    let elsewhere = s.beside("elsewhere").display().to_string();
    s.set("COORD_DIR", &elsewhere);
    s.coord(&["init"]).ok();
    s.coord(&["add", "--sh", "true"]).ok();
}

#[test]
fn without_inotify_everything_works_by_looking() {
    let mut s = Sandbox::new();
    s.set("COORD_NO_INOTIFY", "1");
    s.start(1);
    let id = s.add(&[], "true");
    s.until_state(&id, "done");
    std::fs::write(s.root.join("x"), "{\"id\":\"X\",\"sh\":\"true\"}").unwrap();
    std::fs::rename(s.root.join("x"), s.queue("incoming/x.json")).unwrap();
    s.coord(&["pause"]).ok();
    s.coord(&["resume"]).ok();
    until("it is taken", || s.names("tasks").contains(&"X".to_owned()));
    s.coord(&["wait", "X", "--timeout", "20s"]).ok();
    s.add(&["--id", "C"], "touch up; exec sleep 1000");
    until("it runs", || s.root.join("up").exists());
    s.coord(&["cancel", "C"]).ok();
    s.until_state("C", "cancelled");
    s.coord(&["stop", "--timeout", "20s"]).ok();
}

#[test]
fn used_up_inotify_instances_are_said_and_survived() {
    let s = Sandbox::new();
    // A user namespace has limits of its own: nobody else on this machine is disturbed.
    let alone = |line: &str| {
        let line = format!("echo 0 > /proc/sys/user/max_inotify_instances && {line}");
        s.run("unshare", &["--user", "--map-root-user", "sh", "-c", &line])
    };
    if alone("true").code != 0 {
        return skip("inotify used up", "no user namespaces with limits of their own here");
    }
    s.add(&["--id", "T", "--backoff", "100ms"], "[ $COORD_ATTEMPT = 2 ]");
    let worked = alone("coord work --until-empty -v");
    worked.ok().warns("inotify");
    assert_eq!(s.state("T"), "done");
    let waited = alone("coord wait --timeout 20s");
    waited.ok();
}

/// Changes a file as an editor does, also one that may not be written.
fn put(path: PathBuf, text: &str) {
    let new = path.with_extension("edited");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, &path).unwrap();
}

#[test]
fn a_queue_of_a_newer_layout_is_not_touched() {
    let s = Sandbox::new();
    s.add(&["--id", "T"], "true");
    let layout = s.text(".coord/layout.json");
    let newer =
        layout.replace("\"layout\":1", "\"layout\":2").replace("\"layout\": 1", "\"layout\": 2");
    assert_ne!(layout, newer);
    put(s.queue("layout.json"), &newer);
    let tree = || s.sh("cd .coord && find . -printf '%p %T@ %s\\n' | sort").stdout;
    let before = tree();
    let text = "the queue has layout 2, but this coord knows only 1";
    for verb in
        [&["ls"][..], &["add", "--sh", "true"], &["work"], &["start"], &["status"], &["init"]]
    {
        s.coord(verb).fails(3, text).warns("hint: ");
    }
    let worker =
        s.run("coord-worker", &["--dir", &s.queue("").display().to_string(), "--name", "w1"]);
    worker.exits(3);
    assert_eq!(tree(), before, "it was touched");
    put(s.queue("layout.json"), &layout);
    s.work().ok();
    put(s.queue("layout.json"), "");
    s.coord(&["ls"]).fails(3, "layout.json cannot be read");
}

#[test]
fn deleted_hints_and_directories_come_back() {
    let s = Sandbox::new();
    s.configure("");
    let toml = s.text("coord.toml").replace("[workers]", "[workers]\nrescan = \"1s\"");
    put(s.root.join("coord.toml"), &toml);
    s.start(2);
    let first = s.add(&[], "true");
    s.until_state(&first, "done");
    // Gone at one instant: an rm would meet the workers that restore it.
    s.sh("mv .coord/ready gone");
    let id = s.add(&[], "true");
    s.until_state(&id, "done");
    // Everything that can be rebuilt, at once.
    s.sh("rm -rf .coord/ready .coord/delayed .coord/blocked .coord/incoming .coord/status.json .coord/stats || true");
    let id = s.add(&["--backoff", "100ms"], "[ $COORD_ATTEMPT = 2 ]");
    s.until_state(&id, "done");
    until("incoming/ is back", || s.queue("incoming").is_dir());
    std::fs::write(s.root.join("x"), "{\"id\":\"X\",\"sh\":\"true\"}").unwrap();
    std::fs::rename(s.root.join("x"), s.queue("incoming/x.json")).unwrap();
    until("it is taken", || s.names("tasks").contains(&"X".to_owned()));
    s.until_state("X", "done");
}

#[test]
fn a_worker_alone_rebuilds_the_hints_of_tasks_that_wait() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "true");
    s.add(&["--id", "B", "-a", "A"], "true");
    s.add(&["--id", "C", "--not-before", "1s"], "true");
    s.sh("rm -rf .coord/ready .coord/delayed .coord/blocked .coord/waiters");
    s.work().ok();
    assert_eq!(["A", "B", "C"].map(|id| s.state(id)), ["done"; 3]);
}

/// Cuts a register to nothing, as a power cut does on a file system that loses data.
fn empty(s: &Sandbox, register: &str) {
    std::fs::OpenOptions::new().write(true).truncate(true).open(s.queue(register)).unwrap();
}

#[test]
fn an_emptied_spec_is_named_and_runs_never() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "touch ran");
    s.add(&["--id", "B"], "true");
    s.add(&["--id", "C", "-a", "A"], "true");
    empty(&s, "tasks/A/spec.json");
    s.work();
    assert_eq!(
        (s.state("A"), s.state("B"), s.state("C")),
        ("corrupt".to_owned(), "done".to_owned(), "blocked".to_owned())
    );
    assert!(!s.root.join("ran").exists());
    s.coord(&["why", "A"]).ok().says("cannot be read");
    s.coord(&["cancel", "A"]).fails(5, "cannot be read").warns("coord fsck");
    s.coord(&["show", "A"]).ok();
    s.coord(&["status"]).ok();
}

#[test]
fn an_emptied_end_means_that_the_attempt_is_lost() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "echo ran >> ran");
    s.work().ok();
    empty(&s, "tasks/A/1.end");
    s.add(&["--id", "B", "-a", "A"], "true");
    s.coord(&["show", "A"]).ok().says("lost");
    s.work().ok();
    assert_eq!(
        (s.state("A"), s.state("B"), s.lines("ran").len()),
        ("done".to_owned(), "done".to_owned(), 2)
    );
}

#[test]
fn an_emptied_claim_of_a_dead_worker_is_recovered() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "[ $COORD_ATTEMPT = 2 ] || { echo $$ > pid; exec sleep 1000; }");
    let mut worker = s.background(&["work"]);
    until("it runs", || !s.text("pid").trim().is_empty());
    kill(crate::inside::worker_of(&s, "A"));
    worker.wait().unwrap();
    empty(&s, "tasks/A/1.claim");
    s.coord(&["why", "A"]).ok().says("nobody who can be read");
    s.coord(&["show", "A"]).ok().says("unreadable claim");
    let worked = s.run("timeout", &["20", "coord", "work", "--until-empty"]);
    kill(s.text("pid").trim().parse().unwrap());
    worked.ok();
    assert_eq!(s.state("A"), "done");
}

#[test]
fn an_emptied_claim_of_a_task_that_is_over_changes_nothing() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "true");
    s.work().ok();
    empty(&s, "tasks/A/1.claim");
    assert_eq!(s.state("A"), "done");
    s.add(&["--id", "B", "-a", "A"], "true");
    s.work().ok();
}

#[test]
fn garbage_in_events_and_control_is_no_obstacle() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "true");
    s.sh("for f in .coord/events/*.jsonl; do printf 'garbage\\n{\"k\":3}\\n{\"torn' >> $f; done");
    s.sh("echo '{' > .coord/control/workers.json; echo x > .coord/events/foreign.jsonl; : > .coord/status.json");
    s.sh("mkdir .coord/tasks/.hidden .coord/tasks/'no id' .coord/procs/strange; touch .coord/procs/file .coord/tasks/file");
    s.sh("mkdir -p .coord/ready/default/50; touch .coord/ready/default/50/file .coord/ready/x");
    s.coord(&["status"]).ok();
    s.coord(&["events"]).ok();
    s.coord(&["ls"]).ok();
    s.coord(&["start", "-n", "1"]).ok();
    s.until_state("A", "done");
    s.coord(&["stop", "--timeout", "20s"]).ok();
}

#[test]
fn an_unknown_key_is_an_error_that_knows_better() {
    let s = Sandbox::new();
    s.configure("[lease]\nexpires = \"60s\"\n");
    for verb in [&["add", "--sh", "true"][..], &["work"], &["start"]] {
        let refused = s.coord(verb);
        refused
            .fails(2, "unknown key `expires` in [lease]")
            .warns("did you mean `expire`?")
            .warns("coord.toml:8");
    }
    s.coord(&["ls"]).ok();
    s.configure("[retry\n");
    s.coord(&["work"]).fails(2, "coord.toml:");
    s.configure("");
    s.work().ok();
}

#[test]
fn hostile_ids_are_refused_and_titles_are_shown_harmless() {
    let s = Sandbox::new();
    let long = "x".repeat(300);
    for id in
        ["../x", "a/b", "a\nb", "a\x1b[2Jb", "", ".", "..", ".hidden", "a b", "ä", &long, "_settle"]
    {
        let refused = s.coord(&["add", "--id", id, "--sh", "true"]);
        refused.fails(2, "id");
        assert!(
            !refused.stderr.contains('\x1b'),
            "an escape reached the terminal: {:?}",
            refused.stderr
        );
        s.coord(&["show", id]).exits(4);
    }
    s.coord(&["add", "--id=-x", "--sh", "true"]).fails(2, "id");
    s.coord(&["add", "--id", "17", "--sh", "true"]).fails(2, "17");
    s.coord(&["add", "-a", "../../x", "--sh", "true"]).fails(2, "");
    s.coord(&["add", "--role", "../x", "--sh", "true"]).fails(2, "role");
    s.coord(&["add", "--cwd", "../..", "--sh", "true"]).fails(2, "cwd");
    assert_eq!(s.names("tasks"), [""; 0]);
    // A title is anybody's text, and a job's output too.
    s.coord(&[
        "add",
        "two\nlines\x1b[2J\x07",
        "--retries",
        "0",
        "--sh",
        "printf '\\033[2Jred\\n'; exit 1",
    ]);
    s.coord(&["add", &long, "--sh", "true"]);
    s.sh("printf '{\"id\":\"T\",\"title\":\"a\\\\u001b[2Jb\",\"sh\":\"coord progress 1 \\\"$(printf \\\\033[2J)\\\"\"}' > x.json");
    s.sh("mv x.json .coord/incoming/");
    s.work();
    for verb in
        [&["ls"][..], &["status"], &["events"], &["show", "1"], &["why", "1"], &["context", "1"]]
    {
        let shown = s.coord(verb);
        assert!(!shown.stdout.contains(['\x1b', '\x07']), "{verb:?}: {:?}", shown.stdout);
        assert!(!shown.stderr.contains(['\x1b', '\x07']), "{verb:?}: {:?}", shown.stderr);
    }
}

#[test]
fn what_is_no_file_in_incoming_is_rejected_and_holds_nothing_up() {
    let s = Sandbox::new();
    s.start(1);
    s.sh("cd .coord/incoming && mkfifo fifo.json && ln -s /etc/hostname link.json && mkdir dir.json && ln -s nowhere dangling.json");
    std::fs::write(s.root.join("x"), "{\"id\":\"X\",\"sh\":\"true\"}").unwrap();
    std::fs::rename(s.root.join("x"), s.queue("incoming/x\x1b[2J\n.json")).unwrap();
    until("the good one is taken", || s.names("tasks").contains(&"X".to_owned()));
    s.until_state("X", "done");
    until("the others are rejected", || s.names("incoming") == ["rejected"]);
    for name in ["fifo", "link", "dir", "dangling"] {
        let why = s.text(format!(".coord/incoming/rejected/{name}.json.why"));
        assert!(why.contains("not a regular file"), "{name}: {why:?}");
    }
    s.coord(&["status"]).ok().says("NEEDS YOU (4)");
    assert!(!s.coord(&["status"]).stdout.contains('\x1b'));
}

#[test]
fn a_file_that_is_still_being_written_is_waited_for() {
    let s = Sandbox::new();
    s.start(1);
    let path = s.queue("incoming/slow.json");
    std::fs::write(&path, "{\"id\":\"SLOW\",").unwrap();
    let id = s.add(&[], "true");
    s.until_state(&id, "done");
    std::fs::write(&path, "{\"id\":\"SLOW\",\"sh\":\"true\"}").unwrap();
    until("it is taken when it is complete", || s.names("tasks").contains(&"SLOW".to_owned()));
    s.until_state("SLOW", "done");
    assert_eq!(s.names("incoming/rejected"), [""; 0]);
}

#[test]
fn a_task_that_was_removed_while_it_ran_does_not_hold_its_worker() {
    let s = Sandbox::new();
    let id = s.add(&["--id", "A"], "while ! [ -e go ]; do sleep 0.05; done");
    let worker = s.background(&["work", "--until-empty"]);
    s.until_state(&id, "running");
    let next = s.add(&["--id", "B"], "true");
    s.sh("rm -rf .coord/tasks/A && touch go");
    s.until_state(&next, "done");
    let output = s.collect(worker);
    output.exits(0);
    assert!(output.stderr.contains("A was removed from tasks/ while it ran"), "{}", output.stderr);
}
