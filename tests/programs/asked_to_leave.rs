//! A worker that is asked to leave in the midst of a cascade: it leaves the rest to whoever comes next.

use std::fmt::Write as _;

use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;

use crate::support::{Sandbox, until};

/// Tasks that are cancelled when `root` fails: more than can be in the moment that a worker has for it.
const CASCADE: usize = 8_000;

fn state_of(pid: Pid) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap_or_default().split_whitespace().next().unwrap_or("").to_owned()
}

/// How many are over.
fn cancelled(s: &Sandbox) -> usize {
    (0..CASCADE).filter(|n| s.queue(&format!("tasks/t{n}/1.end")).exists()).count()
}

#[test]
fn a_worker_that_is_in_the_midst_of_a_cascade_leaves_when_it_is_told() {
    let s = Sandbox::new();
    s.add(&["--id", "root", "--attempts", "1"], "false");
    let mut lines = String::new();
    for n in 0..CASCADE {
        writeln!(lines, r#"{{"id":"t{n}","sh":"true","after":["root"],"on_dep_dead":"cancel"}}"#)
            .unwrap();
    }
    std::fs::write(s.root.join("all.jsonl"), lines).unwrap();
    s.coord(&["import", "-q", "all.jsonl"]).ok();
    for what in [Signal::SIGTERM, Signal::SIGINT] {
        let before = cancelled(&s);
        let mut command = s.command("coord");
        // The signal comes when the cascade has begun, and it has no time to lose after that.
        command.args(["work"]).env("COORD_STEP", "settle.wait_dead@2:stop");
        let worker = command
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(s.root.join("said")).unwrap())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(worker.id()).unwrap());
        until("the cascade has begun", || state_of(pid) == "T");
        signal(pid, what).unwrap();
        signal(pid, Signal::SIGCONT).unwrap();
        s.collect(worker).ok();
        let after = cancelled(&s);
        assert!(before < after && after < CASCADE, "{what}: of {CASCADE} {after} are cancelled");
    }
    s.work().exits(1);
    assert_eq!(cancelled(&s), CASCADE, "the next one does the rest");
    s.coord(&["fsck", "--strict"]).ok();
}
