//! Workers that stop in the middle: ended where this machine can reach them, fenced where it cannot;
//! and processes that are killed at the steps that only such situations reach.

use std::process::Child;

use crate::support::{Sandbox, alive, kill, until};

const SHORT_LEASE: &str = "[lease]\nexpire = \"2s\"\nheartbeat = \"500ms\"\n";

/// The one worker that runs something: its pid.
fn busy_worker(s: &Sandbox) -> Option<i32> {
    let document = s.coord(&["workers", "--json"]).json("coord.workers/1");
    let workers = document["workers"].as_array()?.clone();
    let busy = workers.iter().find(|w| w["state"] == "running")?;
    i32::try_from(busy["pid"].as_i64()?).ok()
}

fn signal(pid: i32, name: &str) {
    let signal = if name == "STOP" { nix::sys::signal::SIGSTOP } else { nix::sys::signal::SIGCONT };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// A job that says when it starts and when it ends, and goes on writing in a session of its own.
const WITNESS: &str = "echo start $COORD_ATTEMPT >>$WIT; \
    setsid sh -c 'while sleep 0.1; do echo tick $COORD_ATTEMPT >>$WIT; done' & \
    sleep 3; echo end $COORD_ATTEMPT >>$WIT";

#[test]
fn a_stopped_local_worker_is_ended_with_its_tree_before_its_task_goes_on() {
    let mut s = Sandbox::new();
    s.configure(SHORT_LEASE);
    let witness = s.beside("wit");
    s.set("WIT", &witness.to_string_lossy());
    s.start(2);
    let id = s.add(&[], WITNESS);
    s.until_state(&id, "running");
    until("the job has started", || s.text(&witness).contains("start 1"));
    let pid = busy_worker(&s).unwrap();
    signal(pid, "STOP");
    until("its attempt is ended", || s.queue(&format!("tasks/{id}/1.end")).exists());
    assert!(!alive(pid), "the worker was fenced before it was ended");
    s.until_state(&id, "done");
    assert_eq!(s.end(&id, 1)["verdict"], "expired");
    assert_eq!(s.end(&id, 1)["why"], "hung");
    assert_eq!(s.end(&id, 2)["verdict"], "done");
    let lines = s.text(&witness);
    let second = lines.find("start 2").unwrap();
    assert!(!lines[second..].contains(" 1\n"), "the first attempt went on: {lines}");
    assert!(!lines.contains("end 1"), "{lines}");
    s.coord(&["stop"]).ok();
}

#[test]
fn a_worker_that_nobody_can_reach_is_fenced_and_says_so_when_it_comes_back() {
    let s = Sandbox::new();
    s.configure(SHORT_LEASE);
    let id = s.add(&["--backoff", "10ms"], "echo $COORD_ATTEMPT; sleep 2; true");
    // A pid namespace of its own: its pids mean nothing to the monitor outside.
    let mut command = s.command("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "coord-worker", "--name", "far", "--dir"]);
    let log = std::fs::File::create(s.beside("far.log")).unwrap();
    command.arg(s.queue("")).stdout(std::process::Stdio::null()).stderr(log);
    let far: Child = command.spawn().unwrap();
    s.until_state(&id, "running");
    let outside = |child: &Child| {
        let list = format!("/proc/{0}/task/{0}/children", child.id());
        std::fs::read_to_string(list).unwrap().trim().parse::<i32>().unwrap()
    };
    let pid = outside(&far);
    signal(pid, "STOP");
    s.start(1);
    until("it is fenced", || s.queue(&format!("tasks/{id}/1.end")).exists());
    assert_eq!(s.end(&id, 1)["why"], "lease");
    assert!(alive(pid), "it cannot be reached and must not be killed");
    s.until_state(&id, "done");
    assert_eq!(s.end(&id, 2)["verdict"], "done");
    signal(pid, "CONT");
    until("its result is published as late", || s.queue(&format!("tasks/{id}/1.late")).exists());
    let said = || s.text(s.beside("far.log"));
    until("it says so", || said().contains("fenced by 'expired'"));
    until("it goes on under another name", || said().contains("going on as far-"));
    assert_eq!(s.end(&id, 1)["verdict"], "expired", "the register changed");
    let brief = s.coord(&["context", &id, "--json"]).json("coord.context/1");
    assert!(brief["previous"][0]["late"].is_object(), "{brief}");
    // It takes new work, under its new identity.
    s.coord(&["scale", "0"]).ok();
    until("only the far one is left", || {
        let document = s.coord(&["workers", "--json"]).json("coord.workers/1");
        document["workers"].as_array().unwrap().len() == 1
    });
    let next = s.add(&[], "true");
    s.until_state(&next, "done");
    assert!(s.end(&next, 1)["by"].as_str().unwrap().starts_with("far-"));
    s.coord(&["stop"]).ok();
    let mut far = far;
    far.wait().unwrap();
    s.coord(&["fsck", "--strict"]).exits(0);
}

/// A worker in the background that follows a plan of steps.
fn planned(s: &Sandbox, plan: &str, args: &[&str]) -> Child {
    let mut command = s.command(env!("CARGO_BIN_EXE_coord"));
    command.args(args).env("COORD_STEP", plan);
    let quiet = std::process::Stdio::null;
    command.stdout(quiet()).stderr(quiet()).spawn().unwrap()
}

fn is_stopped(child: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

/// One plain worker finishes, and nothing is wrong.
fn heals(s: &Sandbox) {
    s.coord(&["work", "--until-empty"]);
    s.coord(&["fsck", "--strict"]).exits(0);
}

fn killed(mut child: Child) {
    use std::os::unix::process::ExitStatusExt;
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "it was not killed at its step");
}

#[test]
fn killed_as_a_loser() {
    for step in ["claim.help", "claim.drop_intent"] {
        let s = Sandbox::new();
        let id = s.add(&["--id", "A"], "true");
        let worker = planned(&s, &format!("claim.link:stop,{step}:crash"), &["work", "--once"]);
        until("it is about to claim", || is_stopped(&worker));
        s.coord(&["cancel", &id]).ok();
        signal(pid_of(&worker), "CONT");
        killed(worker);
        heals(&s);
        assert_eq!(s.state(&id), "cancelled", "{step}");
    }
}

#[test]
fn killed_while_it_learns_that_it_is_late() {
    let s = Sandbox::new();
    let id = s.add(&["--id", "A"], "true");
    let worker = planned(&s, "end.link:stop,end.late:crash", &["work", "--once"]);
    until("it is about to end", || is_stopped(&worker));
    s.coord(&["cancel", "--force", &id]).ok();
    assert_eq!(s.state(&id), "cancelled");
    signal(pid_of(&worker), "CONT");
    killed(worker);
    heals(&s);
    assert_eq!(s.state(&id), "cancelled");
    assert!(s.queue("tasks/A/1.late").exists(), "what it had done was thrown away");
}

#[test]
fn killed_while_a_running_task_is_cancelled() {
    let s = Sandbox::new();
    let id = s.add(&["--id", "A"], "sleep 30");
    let worker = s.background(&["work", "--once"]);
    s.until_state(&id, "running");
    killed(planned(&s, "cancel.link:crash", &["cancel", &id]));
    assert!(!s.queue("tasks/A/1.cancel").exists());
    s.coord(&["cancel", &id]).ok();
    assert_eq!(s.collect(worker).code, 1);
    assert_eq!(s.state(&id), "cancelled");
    heals(&s);
}

#[test]
fn a_cancel_outlives_the_worker_that_was_asked() {
    let s = Sandbox::new();
    let id = s.add(&["--id", "A"], "sleep 30");
    let worker = planned(&s, "", &["work", "--once"]);
    s.until_state(&id, "running");
    signal(pid_of(&worker), "STOP");
    s.coord(&["cancel", &id]).ok();
    kill(pid_of(&worker));
    killed(worker);
    heals(&s);
    assert_eq!(s.state(&id), "cancelled", "a cancel that was acknowledged was lost");
}

#[test]
fn killed_while_it_links_what_a_dead_worker_had_staged() {
    let s = Sandbox::new();
    let id = s.add(&["--id", "A"], "echo once >>ran");
    killed(planned(&s, "end.link:crash", &["work", "--once"]));
    killed(planned(&s, "recover.link_staged:crash", &["work", "--until-empty"]));
    heals(&s);
    assert_eq!(s.end(&id, 1)["verdict"], "done", "finished work was thrown away");
    assert_eq!(s.lines("ran").len(), 1);
}

#[test]
fn a_file_of_incoming_becomes_one_task_whoever_dies() {
    for (first, step) in [
        ("submit.link", "recover.served"),
        ("submit.link", "recover.submit"),
        ("submit.link", "submit.link"),
        ("submit.link", "submit.drop"),
        ("submit.link", "sync.staged"),
        ("incoming.staged", "recover.served"),
        ("incoming.staged", "recover.submit"),
    ] {
        let s = Sandbox::new();
        if step == "sync.staged" {
            s.configure("[queue]\ndurability = \"accept\"\n");
            s.coord(&["init"]).ok();
        }
        std::fs::write(s.queue("incoming/a.json"), r#"{"sh": "true"}"#).unwrap();
        killed(planned(&s, &format!("{first}:crash"), &["work", "--until-empty"]));
        killed(planned(&s, &format!("{step}:crash"), &["work", "--until-empty"]));
        heals(&s);
        assert_eq!(s.names("tasks"), ["1"], "{step}");
        assert_eq!(s.state("1"), "done", "{step}");
    }
}

#[test]
fn a_file_of_incoming_whose_id_is_taken_is_rejected_and_kept() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], "true");
    let text = r#"{"id": "A", "sh": "false"}"#;
    std::fs::write(s.queue("incoming/a.json"), text).unwrap();
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.text(".coord/incoming/rejected/a.json"), text);
    assert!(s.text(".coord/incoming/rejected/a.json.why").contains("the id A is taken"));
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_submission_that_must_take_another_number_is_one_submission() {
    let s = Sandbox::new();
    s.add(&[], "true");
    std::fs::write(s.queue("stats/next-id"), "1").unwrap();
    killed(planned(&s, "submit.rekey:crash", &["add", "--", "true"]));
    heals(&s);
    assert_eq!(s.names("tasks"), ["1", "2"]);
    assert_eq!(s.state("2"), "done");
}

#[test]
fn a_worker_whose_directory_was_removed_goes_on_and_its_work_counts() {
    let s = Sandbox::new();
    s.configure("[lease]\nexpire = \"3s\"\nheartbeat = \"100ms\"\n");
    for id in ["T", "U"] {
        s.add(&["--id", id], "echo $$ > up; until [ -e go ]; do sleep 0.01; done; rm go");
        let worker = s.background(&["work", "--max-tasks", "1"]);
        until("it runs", || s.root.join("up").exists());
        let ours = |name: &String| name.starts_with("solo-");
        let before = s.names("procs").into_iter().find(ours).unwrap();
        s.sh(&format!("rm -r up .coord/procs/{before}"));
        if id == "T" {
            // While it runs: it comes back by itself.
            until("it has registered again", || s.names("procs").iter().any(ours));
        }
        s.sh("touch go");
        s.collect(worker).ok();
        let end = s.end(id, 1);
        assert_eq!((end["verdict"].as_str(), s.state(id).as_str()), (Some("done"), "done"), "{id}");
        assert_eq!(end["holder"].as_str(), Some(before.as_str()));
        assert!(!s.queue(&format!("tasks/{id}/2.claim")).exists());
    }
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_claim_that_nobody_remembers_is_ended_by_the_sweep() {
    let s = Sandbox::new();
    let id = s.add(&["--id", "A"], "true");
    killed(planned(&s, "run.spawn:crash", &["work", "--once"]));
    // As after a power loss: the claim is there, the process's directory is not.
    s.sh("rm -rf .coord/procs/solo-*");
    killed(planned(&s, "sweep.orphan:crash", &["work", "--until-empty"]));
    heals(&s);
    assert_eq!(s.end(&id, 1)["verdict"], "expired");
    assert_eq!(s.end(&id, 2)["verdict"], "done");
}

#[test]
fn killed_while_a_stale_hint_is_removed() {
    let s = Sandbox::new();
    let id = s.add(&["--id", "A"], "true");
    s.work().ok();
    s.sh("mkdir -p .coord/ready/default/50/00000001-00 && touch .coord/ready/default/50/00000001-00/A.1");
    s.coord(&["fsck", "--strict"]).exits(1);
    killed(planned(&s, "fsck.unhint:crash", &["fsck", "--repair"]));
    s.coord(&["fsck", "--repair", "--strict"]).exits(0);
    assert_eq!(s.state(&id), "done");
}

#[test]
fn killed_while_a_stale_entry_of_blocked_is_removed() {
    let s = Sandbox::new();
    let id = s.add(&["--id", "A"], "true");
    s.work().ok();
    // As after a boot: the sweep is the first to look.
    s.sh("touch .coord/blocked/A.1 && rm .coord/control/boot/*");
    s.coord(&["fsck", "--strict"]).exits(1);
    killed(planned(&s, "sweep.unhint:crash", &["work", "--until-empty"]));
    heals(&s);
    assert_eq!(s.state(&id), "done");
}

#[test]
fn an_empty_directory_of_a_task_goes_when_it_is_old() {
    let s = Sandbox::new();
    s.sh("mkdir .coord/tasks/gone && touch -d '2 hours ago' .coord/tasks/gone");
    killed(planned(&s, "sweep.rmdir:crash", &["work", "--until-empty"]));
    heals(&s);
    assert!(!s.queue("tasks/gone").exists());
}

#[test]
fn a_keeper_that_dies_while_it_ends_a_hung_worker_leaves_it_to_the_next() {
    let s = Sandbox::new();
    s.configure(SHORT_LEASE);
    let id = s.add(&["--id", "A"], "test $COORD_ATTEMPT = 2 || sleep 30");
    let worker = planned(&s, "", &["work", "--once"]);
    s.until_state(&id, "running");
    signal(pid_of(&worker), "STOP");
    killed(planned(&s, "keeper.kill:crash", &["work", "--until-empty"]));
    s.coord(&["work", "--until-empty"]).ok();
    killed(worker);
    assert_eq!(s.end(&id, 2)["verdict"], "done");
    s.coord(&["fsck", "--strict"]).exits(0);
}

#[test]
fn killed_while_it_promotes_what_is_due() {
    let s = Sandbox::new();
    let id = s.add(&["--id", "A", "--backoff", "2s"], "test $COORD_ATTEMPT = 2");
    killed(planned(&s, "delayed.unlink:crash", &["work", "--until-empty"]));
    s.coord(&["work", "--until-empty"]).ok();
    heals(&s);
    assert_eq!(s.end(&id, 2)["verdict"], "done");
}
