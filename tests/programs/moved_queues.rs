//! A queue that is moved or removed under the programs that work in it: they finish what runs, through the
//! directory that they hold, and leave in words. Nothing is made by the old path.

use std::fs;
use std::process::Child;

use crate::support::{Output, Sandbox, alive, patiently, until};

/// Runs until the file `go` is in the directory in which it was started, wherever that is by then.
const UNTIL_GO: &str =
    "touch began; until test -e go; do sleep 0.05; done; echo $COORD_ATTEMPT >>ran";

/// `mv project moved`; from now on `s` is there.
fn moved(s: &mut Sandbox) {
    let to = s.beside("moved");
    fs::rename(&s.root, &to).unwrap();
    s.root = to;
}

fn interrupt(child: &Child) {
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGINT).unwrap();
}

/// A program in the background ends by itself, with the exit code of the environment and these words.
fn leaves(s: &Sandbox, child: Child, words: &str) -> Output {
    let output = s.collect(child);
    assert!(output.exits(7).stderr.contains(words), "{}", output.stderr);
    output
}

#[test]
fn a_moved_fleet_finishes_what_runs_and_is_started_anew_where_it_is() {
    let mut s = Sandbox::new();
    s.start(2);
    s.add(&["--id", "T"], UNTIL_GO);
    until("T runs", || s.root.join("began").exists());
    let old = s.processes();
    moved(&mut s);
    // At once: the coordinator of the old path makes room.
    s.coord(&["start", "-n", "1"]).ok();
    s.add(&["--id", "A"], "true");
    s.until_state("A", "done");
    assert_eq!(s.state("T"), "running", "its worker is still at it");
    s.sh("touch go");
    s.until_state("T", "done");
    assert_eq!((s.text("ran"), &s.end("T", 1)["verdict"]), ("1\n".to_owned(), &"done".into()));
    until("those of the old path have left", || {
        let now = s.processes();
        old.iter().all(|pid| !now.contains(pid))
    });
    s.coord(&["stop", "--timeout", "20s"]).ok();
    assert!(!s.beside("project").exists(), "something was made by the old path");
    let log = s.text(".coord/log/monitor.log");
    assert!(log.contains("the queue was moved: it is in "), "{log}");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn what_still_runs_by_the_old_path_is_stopped_from_the_new_one() {
    let mut s = Sandbox::new();
    s.start(1);
    s.add(&["--id", "T"], UNTIL_GO);
    until("T runs", || s.root.join("began").exists());
    moved(&mut s);
    s.coord(&["stop", "--now", "--timeout", "20s"]).ok();
    assert_eq!(s.end("T", 1)["verdict"], "release");
    until("all have left", || s.processes().is_empty());
    assert!(!s.beside("project").exists());
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn nothing_is_made_in_another_project_that_has_the_old_path() {
    let mut s = Sandbox::new();
    s.start(2);
    s.add(&["--id", "T"], UNTIL_GO);
    until("T runs", || s.root.join("began").exists());
    s.sh("mkdir ../other && cd ../other && coord init && coord add --id B --sh true");
    let list = |s: &Sandbox| s.sh("cd ../project && find . | sort").stdout;
    moved(&mut s);
    fs::rename(s.beside("other"), s.beside("project")).unwrap();
    let before = list(&s);
    s.sh("touch go");
    s.until_state("T", "done");
    until("all have left", || s.processes().is_empty());
    assert_eq!(list(&s), before);
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_removed_queue_does_not_come_back() {
    for (task, workers) in [(None, 3), (Some(UNTIL_GO), 2)] {
        let s = Sandbox::new();
        s.start(workers);
        if let Some(line) = task {
            s.add(&["--id", "T"], line);
            until("T runs", || s.root.join("began").exists());
        }
        s.sh("rm -rf .coord");
        if task.is_some() {
            // What runs is left to its end, though nothing of it can be recorded.
            until("only its worker is left", || s.processes().len() <= 3);
            s.sh("touch go");
        }
        until("all have left", || s.processes().is_empty());
        assert!(!s.root.join(".coord").exists(), "it came back");
        s.coord(&["status"]).fails(3, "no queue in");
    }
}

#[test]
fn a_worker_alone_leaves_in_words() {
    let mut s = Sandbox::new();
    let idle = s.background(&["work"]);
    until("it is there", || s.names("procs").iter().any(|name| name.starts_with("solo-")));
    s.sh("rm -rf .coord");
    leaves(&s, idle, "the queue was removed while this program worked in it");
    assert!(!s.root.join(".coord").exists());
    s.coord(&["init"]).ok();
    let idle = s.background(&["work"]);
    until("it is there", || s.names("procs").iter().any(|name| name.starts_with("solo-")));
    moved(&mut s);
    leaves(&s, idle, &format!("the queue was moved: it is in {}/.coord now", s.root.display()));
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn ctrl_c_ends_what_runs_of_a_queue_that_is_gone() {
    let s = Sandbox::new();
    s.add(&["--id", "T"], "echo $$ >pid; sleep 1000");
    let worker = s.background(&["work"]);
    until("T runs", || s.text("pid").ends_with('\n'));
    let job: i32 = s.text("pid").trim().parse().unwrap();
    s.sh("rm -rf .coord");
    interrupt(&worker);
    leaves(&s, worker, "the queue was removed while this program worked in it");
    assert!(!alive(job) && !s.root.join(".coord").exists());
}

#[test]
fn who_follows_a_queue_that_goes_says_so() {
    let verbs: [&[&str]; 4] =
        [&["wait", "T"], &["events", "-f"], &["logs", "-f", "T"], &["wait", "--json", "T"]];
    let mut s = Sandbox::new();
    s.add(&["--id", "T", "--hold"], "true");
    let start = |s: &Sandbox| {
        let all: Vec<Child> = verbs.iter().map(|args| s.background(args)).collect();
        // They watch: what each holds is the queue.
        let holds = |child: &Child| {
            let fds = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
            let at = fds.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
            at.into_iter().any(|path| path == *"anon_inode:inotify")
        };
        until("they watch", || all.iter().all(holds));
        all
    };
    let all = start(&s);
    moved(&mut s);
    s.coord(&["add", "--id", "U", "--hold", "--sh", "true"]).ok();
    for child in all {
        leaves(&s, child, "the queue was moved");
    }
    let all = start(&s);
    s.sh("rm -rf .coord");
    for child in all {
        leaves(&s, child, "the queue was removed");
    }
}

#[test]
fn a_run_whose_queue_is_moved_goes_on_where_it_is() {
    let mut s = Sandbox::new();
    // Not the directory of the jobs is moved, but only the queue.
    let line = "echo {} >>$WIT; until test -e $GO; do sleep 0.05; done";
    let (wit, go) = (s.beside("wit"), s.beside("go"));
    s.set("WIT", &wit.to_string_lossy());
    s.set("GO", &go.to_string_lossy());
    let jobs = s.beside("jobs");
    fs::create_dir(&jobs).unwrap();
    let args = ["run", "--queue", "../project", "-n", "1", "--sh", line, ":::", "1", "2"];
    let mut command = s.command(env!("CARGO_BIN_EXE_coord"));
    command.args(args).current_dir(&jobs);
    let piped = std::process::Stdio::piped;
    let front = command.stdout(piped()).stderr(piped()).spawn().unwrap();
    until("the first job runs", || s.text(&wit) == "1\n");
    moved(&mut s);
    fs::write(&go, "").unwrap();
    let front = s.collect(front);
    // Its worker may have done both jobs before anybody looked where the queue is: then all is well.
    if front.code != 0 {
        assert!(front.exits(255).stderr.contains("the queue was moved"), "{}", front.stderr);
    }
    until("its worker has left", || s.processes().is_empty());
    assert!(!s.beside("project").exists());
    // Its worker may have taken the second job before it looked.
    s.work().ok();
    let mut ran: Vec<String> = s.text(&wit).lines().map(str::to_owned).collect();
    ran.sort();
    assert_eq!(ran, ["1", "2"], "each job once");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn an_attempt_in_a_worktree_is_handed_back_when_its_project_moves() {
    let mut s = Sandbox::with_git();
    let go = s.beside("go");
    s.set("GO", &go.to_string_lossy());
    s.add(
        &["--id", "T"],
        "echo mine >new; touch $GO.began; until test -e $GO; do sleep 0.05; done",
    );
    let worker = s.background(&["work"]);
    until("T runs", || s.beside("go.began").exists());
    moved(&mut s);
    fs::write(&go, "").unwrap();
    leaves(&s, worker, "the queue was moved");
    let end = s.end("T", 1);
    assert_eq!(end["verdict"], "release");
    assert!(
        end["why"].as_str().unwrap().starts_with("its project was moved while it ran"),
        "{end}"
    );
    s.work().ok();
    assert_eq!(s.state("T"), "done");
    // What the first attempt had made is somewhere.
    let kept = s.sh("git for-each-ref --format='%(refname)' refs/coord/wip").stdout;
    let has = |name: &&str| s.sh(&format!("git show {name}:new")).stdout == "mine\n";
    assert!(kept.lines().any(|name| has(&name)), "{kept}");
}

#[test]
fn what_was_removed_of_a_queue_comes_back_when_nobody_removes_any_more() {
    let s = Sandbox::new();
    s.start(1);
    s.sh("rm -rf .coord/ready .coord/waiters .coord/events/bell");
    s.add(&["--id", "A"], "true");
    s.until_state("A", "done");
    let back = || s.queue("waiters").exists() && s.queue("events/bell").exists();
    assert!(patiently(back), "{:?}", s.names(""));
    s.coord(&["stop", "--timeout", "20s"]).ok();
    s.coord(&["fsck", "--strict"]).ok();
}
