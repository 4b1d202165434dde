#![expect(clippy::disallowed_methods, reason = "tests start what is to be found")]

use std::io::Read;
use std::process::{Child, Command, Stdio};

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// Runs a line in a session of its own; the pid that it prints, and the pid of its leader.
fn session(line: &str, env: &[(&str, &str)]) -> (Child, i32) {
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", line]).env_clear().envs(env.iter().copied());
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    let mut byte = [0];
    while child.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        text.push(char::from(byte[0]));
    }
    (child, text.parse().unwrap())
}

fn id(pid: i32) -> ProcessId {
    ProcessId { pid, start: alive::proc_stat(pid).unwrap().start }
}

fn lives(process: ProcessId) -> bool {
    alive::is_alive(process.pid, process.start)
}

#[test]
fn a_session_without_its_leader_is_known_by_its_name_and_else_in_doubt() {
    let line = "sleep 1000 >/dev/null & echo $!; read wait; exit";
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", line]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let leader = id(i32::try_from(child.id()).unwrap());
    let mut text = [0; 16];
    let count = child.stdout.as_mut().unwrap().read(&mut text).unwrap();
    let left = id(String::from_utf8_lossy(&text[..count]).trim().parse().unwrap());
    let name = session_name(leader.pid);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(lives(left), "it has outlived its leader");
    let of = |name: &str| Traces {
        sessions: vec![Session { leader, name: name.to_owned() }],
        ..Traces::default()
    };
    let doubted = end(&of(""), &[], SOON);
    assert_eq!(
        doubted.iter().map(|l| (l.process, l.why)).collect::<Vec<_>>(),
        [(left, Why::Doubt)]
    );
    assert!(lives(left));
    if !name.is_empty() {
        assert_eq!(end(&of("/autogroup-0"), &[], SOON), [], "another session of that number");
        assert!(lives(left));
    }
    let by_itself = Traces { processes: vec![left], ..Traces::default() };
    let traces = if name.is_empty() { by_itself } else { of(&name) };
    assert_eq!(end(&traces, &[], SOON), []);
    assert!(!lives(left));
}

#[test]
fn another_program_of_ours_is_not_ended_with_who_has_started_it() {
    let line = "COORD_MARK=other setsid -f sh -c 'echo $$; exec sleep 1000'; exec sleep 1000";
    let (mut child, other) = session(line, &[("COORD_MARK", "own")]);
    let (leader, other) = (id(i32::try_from(child.id()).unwrap()), id(other));
    let traces = Traces {
        mark: Some(EnvMark::program("own")),
        program: "own".to_owned(),
        processes: vec![leader, other],
        sessions: vec![Session::of(leader), Session::of(other)],
        ..Traces::default()
    };
    assert_eq!(end(&traces, &[], SOON), []);
    child.wait().unwrap();
    assert!(lives(other), "it carries a mark of its own");
    assert_eq!(end(&Traces::of_mark(EnvMark::program("other")), &[], SOON), []);
    assert!(!lives(other));
}

#[test]
fn what_is_below_a_tied_process_goes_with_it() {
    let line = "setsid -w env -i sh -c 'echo $$; exec sleep 1000' & wait";
    let (mut child, below) = session(line, &[("COORD_TOKEN", "T.1@w")]);
    let below = id(below);
    assert_eq!(end(&Traces::of_mark(EnvMark::attempt("T.1@w")), &[], SOON), []);
    child.wait().unwrap();
    assert!(!lives(below));
}
