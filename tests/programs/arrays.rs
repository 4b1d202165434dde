//! `coord map`, and what the other commands say of an array and do to it.

use std::process::Stdio;

use crate::run::sh;
use crate::support::{Sandbox, until};

/// Jobs that wait until they may go on; the third one fails until it is mended.
const GATED: &str = "echo {} up; echo {} err >&2; until [ -e go ]; do sleep 0.01; done; \
                     echo {} >> ran; [ {} != 3 ] || [ -e mended ]";

fn gated(s: &Sandbox) {
    let words = ["map", "--id", "M", "--title", "gated", "--sh", GATED, ":::", "1", "2", "3", "4"];
    assert_eq!(s.coord(&words).ok().stdout, "M\n", "stdout is the id and nothing else");
}

#[test]
fn a_list_is_one_task_for_the_workers() {
    let s = Sandbox::new();
    let made = sh(&s, "seq 2500 | coord map -p 7 --json test {} -gt 0");
    let made = made.ok().json("coord.map/1");
    assert_eq!(
        (&made["id"], &made["new"], &made["jobs"]),
        (&"1".into(), &true.into(), &2500.into())
    );
    s.coord(&["add", "--id", "after", "--after", "1", "--", "true"]).ok();
    s.start(2);
    s.coord(&["wait", "1", "after"]).ok();
    let shown = s.coord(&["show", "1", "--json"]).ok().json("coord.task/1");
    let array = &shown["array"];
    assert_eq!(
        (&array["jobs"], &array["done"], &array["failed"]),
        (&2500.into(), &2500.into(), &0.into())
    );
    assert_eq!((&shown["state"], &shown["spec"]["priority"]), (&"done".into(), &7.into()));
    s.coord(&["ls"]).ok().says("2500 of 2500 jobs over");
    s.coord(&["stop"]).ok();
    s.coord(&["fsck", "--strict"]).ok();
}

/// A job that asks for a password at the terminal would wait there for ever.
#[test]
fn a_job_has_no_terminal_and_a_group_of_its_own() {
    let s = Sandbox::new();
    let job = "(exec 3</dev/tty) 2>/dev/null && echo {} terminal; test $(ps -o pgid= -p $$) = $$ && echo {} group";
    s.coord(&["map", "--id", "M", "--sh", job, ":::", "1", "2"]).ok();
    // One in a terminal, and one without.
    s.sh("script --quiet --return --command 'coord work --once' /dev/null");
    s.coord(&["map", "--id", "N", "--sh", job, ":::", "1", "2"]).ok();
    s.sh("setsid --wait coord work --until-empty");
    for id in ["M", "N"] {
        for n in ["1", "2"] {
            let printed = s.coord(&["logs", &format!("{id}/{n}")]).ok().stdout.clone();
            assert_eq!(printed, format!("{n} group\n"), "job {n} of {id}");
        }
    }
}

#[test]
fn given_again_it_completes_the_list() {
    let s = Sandbox::new();
    let words = ["map", "--id", "M", "echo", ":::", "a", "b"];
    s.coord(&words).ok();
    let again = s.coord(&[&words[..], &["--json"]].concat());
    // Behind the command it is an argument.
    again.exits(5).warns("another list").warns("hint: give this list another --id");
    let again = s.coord(&[&["--json"], &words[..]].concat());
    assert_eq!(again.ok().json("coord.map/1")["new"], false);
    s.coord(&["map", "--id", "M", "cat", ":::", "a", "b"]).fails(5, "taken");
    // Somebody died before the list was complete.
    std::fs::remove_file(s.queue("tasks/M/jobs/closed")).unwrap();
    s.work().ok();
    s.coord(&["why", "M"])
        .ok()
        .says("2 of 2 jobs over, more to come")
        .says("nobody submits the rest");
    s.coord(&["why", "M"]).says("coord map with --id M completes it");
    s.coord(&words).ok();
    s.work().ok();
    assert_eq!(s.state("M"), "done");
    // What can be opened and not be read.
    let bad = s.coord(&["map", "--id", "N", "-a", "/proc/self/mem", "echo"]);
    bad.exits(7).says("N\n").warns("the list of N is not complete").warns("coord cancel N");
}

#[test]
fn wrong_words_are_refused_with_a_hint() {
    let s = Sandbox::new();
    s.coord(&["map", "--tag", "echo", ":::", "a"]).fails(2, "--tag is of coord run");
    s.coord(&["map", "--tittle", "x", "echo", ":::", "a"]).fails(2, "did you mean --title?");
    s.coord(&["map", "-p", "100", "echo", ":::", "a"]).fails(2, "priority");
    s.coord(&["map", "echo $HOME", ":::", "a"]).fails(2, "--sh");
    s.coord(&["map", "-a", "no-such-file", "echo"]).fails(7, "no-such-file");
    assert_eq!(s.names("tasks"), [""; 0], "nothing was added");
    assert_eq!(s.coord(&["map", "--dry-run", "echo", ":::", "a"]).ok().stdout, "echo a\n");
    s.coord(&["map", "--after", "W-9", "echo", ":::", "a"]).ok().warns("there is no task W-9 yet");
    let s = Sandbox::bare();
    s.coord(&["map", "echo", ":::", "a"]).fails(3, "hint: coord init");
}

#[test]
fn everything_that_looks_knows_its_jobs() {
    let s = Sandbox::new();
    gated(&s);
    s.coord(&["why", "M"]).ok().says("0 of 4 jobs over").says("nobody works here");
    s.coord(&["logs", "M/2"]).fails(4, "job 2 of M has printed nothing yet");
    s.start(2);
    until("two run", || s.coord(&["show", "M"]).stdout.contains("2 running"));
    s.coord(&["ls"]).ok().says("gated  (0 of 4 jobs over, 2 running)");
    s.coord(&["status"]).ok().says("ARRAYS (1)").says("0 of 4 jobs over, 2 running");
    let status = s.coord(&["status", "--json"]).ok().json("coord.status/1");
    assert_eq!(
        (&status["arrays"][0]["id"], &status["arrays"][0]["running"]),
        (&"M".into(), &2.into())
    );
    s.coord(&["why", "M"]).ok().says("M/").says(" on w").says("its workers go on: coord logs -f M");
    assert_eq!(s.coord(&["workers"]).ok().stdout.matches("M/").count(), 2);
    let workers = s.coord(&["workers", "--json"]).ok().json("coord.workers/1");
    let jobs = workers["jobs"].as_object().unwrap();
    assert_eq!(jobs.len(), 2);
    let one = jobs.values().next().unwrap().as_str().unwrap().to_owned();
    let up = format!("{} up\n", one.trim_start_matches("M/"));
    until("it has printed", || s.coord(&["logs", &one]).stdout == up);
    let follow = s.background_into("followed", &["logs", "-f", "M"]);
    s.sh("touch go");
    s.coord(&["wait", "M"]).exits(1);
    s.collect(follow).ok();
    let mut followed = s.lines("followed");
    let logs = s.coord(&["logs", "M"]);
    // Two that end in the same millisecond may come in either order.
    let mut told: Vec<String> = logs.ok().stdout.lines().map(str::to_owned).collect();
    told.sort();
    followed.sort();
    assert_eq!(followed, told);
    assert_eq!(followed, ["1 up", "2 up", "3 up", "4 up"]);
    s.coord(&["logs", "M/3"]).ok().warns("3 err");
    assert_eq!(s.coord(&["logs", "M", "--job", "4"]).ok().stdout, "4 up\n");
    assert_eq!(s.coord(&["logs", "M/4@1"]).ok().stdout, "4 up\n");
    let last = s.coord(&["logs", "M", "-n", "3"]);
    assert_eq!((last.ok().stdout.lines().count(), last.stderr.lines().count()), (1, 2));
    s.coord(&["logs", "M/5"]).fails(4, "job 5 of M");
    s.coord(&["logs", "M/x"]).fails(2, "is not the number of a job");
    s.coord(&["show", "M"]).ok().says("4 of 4 jobs over, 1 failed").says("M/3").says("exit 1");
    s.coord(&["why", "M"]).ok().says("1 of 4 jobs failed").says("M/3: exit 1: 3");
    s.coord(&["why", "M"]).says("coord retry M: what failed runs again");
    // Another round: only what failed runs again.
    s.sh("touch mended");
    s.coord(&["retry", "M"]).ok();
    s.coord(&["wait", "M"]).ok();
    assert_eq!(s.lines("ran").iter().filter(|line| *line == "3").count(), 2);
    assert_eq!(s.lines("ran").len(), 5);
    s.coord(&["show", "M"]).ok().says("4 of 4 jobs over\n");
    s.coord(&["stop"]).ok();
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_directory_that_is_gone_is_named() {
    let s = Sandbox::new();
    s.sh("mkdir sub && cd sub && coord map --id M touch ::: a && coord map --id N touch ::: b");
    s.sh("mkdir moved && cp -r .coord coord.toml moved && mkdir moved/sub && rm -r sub");
    s.work().exits(1);
    s.coord(&["logs", "M"]).ok().warns("its directory").warns("is gone");
    // Inside of the project it is relative: the project may be somewhere else.
    s.coord(&["-C", "moved", "work", "--until-empty"]).ok();
    assert!(s.root.join("moved/sub/a").exists() && s.root.join("moved/sub/b").exists());
}

#[test]
fn a_cancel_ends_what_runs() {
    let s = Sandbox::new();
    gated(&s);
    s.start(2);
    until("two run", || s.coord(&["show", "M"]).stdout.contains("2 running"));
    s.coord(&["cancel", "M"]).ok();
    let names = |kind: &str| {
        let all = s.names("tasks/M/jobs/0000000001");
        all.iter().filter(|name| name.ends_with(kind)).count()
    };
    until("they have ended", || names(".end") == names(".claim"));
    assert!(!s.coord(&["show", "M"]).ok().stdout.contains("running"));
    assert_eq!((s.state("M"), s.lines("ran").len()), ("cancelled".to_owned(), 0));
    s.coord(&["show", "M"]).ok().says("0 of 4 jobs over").says("cancel: cancelled ");
    s.sh("touch go mended");
    s.coord(&["retry", "M"]).ok();
    s.coord(&["wait", "M"]).ok();
    assert_eq!(s.lines("ran").len(), 4);
    s.coord(&["stop"]).ok();
    s.coord(&["fsck", "--strict"]).ok();
}

/// A worker that may be over in a moment does not watch bells before it waits for the first time, and
/// one whose jobs are over at once never waits: it does after two seconds.
#[test]
fn a_cancel_is_noticed_while_one_short_job_follows_the_other() {
    let s = Sandbox::new();
    s.sh("seq 100000 > list");
    s.coord(&["map", "--id", "M", "-a", "list", "true"]).ok();
    let worker = s.background(&["work", "--until-empty"]);
    let is_over = |name: &String| name.ends_with(".over");
    until("a chunk is over", || s.names("tasks/M/jobs").iter().any(is_over));
    s.coord(&["cancel", "M"]).ok();
    s.collect(worker).ok();
    let over = |name: &String| {
        name.ends_with(".log").then(|| s.lines(&format!(".coord/tasks/M/jobs/{name}")).len())
    };
    let over: usize = s.names("tasks/M/jobs").iter().filter_map(over).sum();
    assert!((1024..50_000).contains(&over), "{over} of 100000 jobs ran");
}

#[test]
fn a_worker_leaves_its_array_for_nobody_but_goes_on_while_the_list_grows() {
    let s = Sandbox::new();
    let mut command = s.command(env!("CARGO_BIN_EXE_coord"));
    command.args(["map", "--id", "M", "--sh", "echo {} >> ran"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut give = |line: &str| std::io::Write::write_all(&mut input, line.as_bytes()).unwrap();
    give("1\n");
    until("it is there", || s.names("tasks/M/jobs").contains(&"0000000001.in".to_owned()));
    let worker = s.background(&["work", "--until-empty"]);
    until("it ran", || s.lines("ran").len() == 1);
    s.coord(&["why", "M"]).ok().says("more of it is being submitted");
    give("2\n");
    until("that too", || s.lines("ran").len() == 2);
    drop(input);
    assert!(child.wait().unwrap().success());
    s.collect(worker).ok();
    assert_eq!(s.state("M"), "done");
}

#[test]
fn fsck_names_what_is_wrong_with_jobs_and_mends_hints() {
    let s = Sandbox::new();
    sh(&s, "seq 3 | coord map --id M test {} -lt 3").ok();
    s.work().exits(1);
    s.coord(&["fsck", "--strict"]).ok();
    s.coord(&["retry", "M"]).ok();
    let jobs = s.queue("tasks/M/jobs");
    let names = s.names("tasks/M/jobs");
    let over = names.iter().find(|name| name.ends_with(".over")).unwrap();
    // As if the failed job were done in the new round.
    let untrue = jobs.join(over.replace("r0.f1", "r1.f0"));
    std::fs::write(&untrue, "").unwrap();
    s.coord(&["fsck"]).exits(1).says("I7").says("but 1 of its jobs are not");
    s.coord(&["fsck", "--repair"]).ok();
    assert!(!untrue.exists());
    s.coord(&["fsck"]).ok();
    let chunk = jobs.join("0000000001");
    for (name, says) in [
        ("0000000001/2.7.end", "nobody claimed try 7 of job 2"),
        ("0000000001/9.1.claim", "which is not in this chunk"),
        ("0000000001/1.2.claim", "although an earlier one was done"),
        ("0000000007.in", "a gap"),
    ] {
        let path = jobs.join(name);
        std::fs::copy(
            chunk.join(if name.ends_with("claim") { "1.1.claim" } else { "1.1.end" }),
            &path,
        )
        .unwrap();
        s.coord(&["fsck"]).exits(1).says(says);
        std::fs::remove_file(path).unwrap();
    }
    std::fs::write(jobs.join("mine"), "").unwrap();
    std::fs::create_dir(jobs.join("0000000004")).unwrap();
    s.coord(&["fsck"]).ok().says("a foreign file").says("a chunk without a list");
}
