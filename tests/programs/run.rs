//! `coord run` as a user meets it: what runs, what is shown, what it exits with, what is kept.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::{Output, Sandbox};

/// A line of shell, whatever it exits with.
pub fn sh(s: &Sandbox, line: &str) -> Output {
    s.run("sh", &["-c", line])
}

/// The directories of the runs that the project keeps.
pub fn runs(s: &Sandbox) -> Vec<String> {
    s.names("runs").into_iter().filter(|name| !name.starts_with('.')).collect()
}

/// The queue of the newest run of the project, and its only task.
pub fn newest(s: &Sandbox) -> (PathBuf, String) {
    let id = runs(s).pop().unwrap();
    (s.queue(&format!("runs/{id}")), id)
}

/// As many tries as a run has made, by its claims.
pub fn claims(s: &Sandbox) -> usize {
    let (home, id) = newest(s);
    let line = format!("find {}/.coord/tasks/{id}/jobs -name '*.claim' | wc -l", home.display());
    s.sh(&line).line().parse().unwrap()
}

#[test]
fn every_placeholder_and_every_source() {
    let s = Sandbox::new();
    let words = ["run", "-k", "echo", "{}", "{.}", "{/}", "{//}", "{/.}", "{#}", ":::", "a/b.c"];
    assert_eq!(s.coord(&words).ok().stdout, "a/b.c a/b b.c a b 1\n");
    let both = s.coord(&["run", "-k", "echo {2}-{1}", ":::", "a", "b", ":::", "1", "2"]);
    assert_eq!(both.ok().stdout, "1-a\n2-a\n1-b\n2-b\n");
    let linked = s.coord(&["run", "-k", "echo {1}{2}", ":::", "a", "b", ":::+", "1", "2"]);
    assert_eq!(linked.ok().stdout, "a1\nb2\n");
    assert_eq!(sh(&s, "printf 'x\\ny z\\n' | coord run -k echo").ok().stdout, "x\ny z\n");
    assert_eq!(sh(&s, "printf 'x\\0y\\nz\\0' | coord run -k0 printf %s.").ok().stdout, "x.y\nz.");
    s.sh("printf 'name,n\\n\"a, b\",7\\nc,8\\n' > t.csv; printf 'one\\ntwo\\n' > list");
    let table = s.coord(&["run", "-k", "--csv", "--header", "-a", "t.csv", "echo {n}: {name}"]);
    assert_eq!(table.ok().stdout, "7: a, b\n8: c\n");
    assert_eq!(s.coord(&["run", "-k", "echo", "::::", "list"]).ok().stdout, "one\ntwo\n");
    assert_eq!(sh(&s, "printf 'echo 1\\necho 2\\n' | coord run -k").ok().stdout, "1\n2\n");
    let hostile = s.coord(&["run", "--sh", "echo {}", ":::", "$(touch pwned); `x` 'y' \"z\""]);
    assert_eq!(hostile.ok().stdout, "$(touch pwned); `x` 'y' \"z\"\n");
    assert!(!s.root.join("pwned").exists());
    let dry = s.coord(&["run", "--dry-run", "rm {}", ":::", "a b", "c"]);
    assert_eq!(dry.ok().stdout, "rm 'a b'\nrm c\n");
}

#[test]
fn output_is_shown_in_order_with_tags_and_written_to_files() {
    let s = Sandbox::new();
    // The first job ends last.
    let line = "[ {} = 2 ] && touch two; until [ -e two ]; do sleep 0.01; done; \
                [ {} = 1 ] && sleep 0.1; echo {} out; echo {} err >&2";
    let words =
        ["run", "-k", "-n", "2", "--tag", "--joblog", "log", "--results", "res", "--sh", line];
    let shown = s.coord(&[&words[..], &[":::", "1", "2"]].concat());
    assert_eq!(shown.ok().stdout, "1\t1 out\n2\t2 out\n");
    assert_eq!(shown.stderr, "1\t1 err\n2\t2 err\n", "nothing else is said");
    assert_eq!(s.text("res/1/1/stdout"), "1 out\n");
    assert_eq!(s.text("res/1/2/stderr"), "2 err\n");
    assert_eq!(s.text("res/1/2/seq"), "2");
    let log = s.lines("log");
    assert_eq!(log[0], "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand");
    let fields: Vec<&str> = log[1].split('\t').collect();
    assert_eq!((fields[0], fields[1], fields[4], fields[5]), ("1", ":", "0", "6"));
    assert_eq!((fields[6], fields[7], fields.len()), ("0", "0", 9));
    assert!(fields[2].split_once('.').is_some_and(|(s, ms)| s.len() == 10 && ms.len() == 3));
    assert!(fields[3].len() == 10 && fields[3].trim().parse::<f64>().unwrap() >= 0.1);
    assert!(fields[8].starts_with("[ 1 = 2 ] && touch two"), "{}", fields[8]);
    // A new run begins a new log, and writes the results anew.
    s.coord(&[&words[..], &[":::", "1", "2"]].concat()).ok();
    assert_eq!(s.lines("log").len(), 3);
    let failed = s.coord(&["run", "--joblog", "log", "--sh", "kill -9 $$", ":::", "1"]);
    failed.exits(1);
    let line = s.lines("log").pop().unwrap();
    let fields: Vec<&str> = line.split('\t').collect();
    assert_eq!((fields[6], fields[7], fields[8]), ("0", "9", "kill -9 $$ 1"));
}

#[test]
fn the_exit_status_counts_failures() {
    let s = Sandbox::new();
    let quiet = s.coord(&["run", "true", ":::", "1", "2"]);
    assert_eq!((quiet.ok().stdout.as_str(), quiet.stderr.as_str()), ("", ""), "silence is golden");
    let some = s.coord(&["run", "--sh", "exit {}", ":::", "0", "3", "0", "4"]);
    some.exits(2).warns("4 jobs are over, 2 failed").warns("job 2: exit 3: exit 3");
    some.warns("--retry-failed");
    assert_eq!(s.coord(&["run", "-q", "false", ":::", "1"]).exits(1).stderr, "");
    sh(&s, "seq 102 | coord run false").exits(101).warns("and 97 more");
    s.coord(&["run", "--halt", "never,x", "true", ":::", "1"]).fails(255, "when to stop");
    s.coord(&["run", "--taag", "true", ":::", "1"]).fails(255, "did you mean --tag?");
    s.coord(&["run", "-n", "0", "true", ":::", "1"]).exits(255);
    s.coord(&["run", "a | b", ":::", "1"]).fails(255, "--sh");
}

#[test]
fn halt_stops_soon_or_now() {
    let s = Sandbox::new();
    let line = "case {} in 1) until [ -e up ]; do sleep 0.01; done; exit 7;; \
                2) touch up; until [ -e never ]; do sleep 0.01; done;; *) touch more-{};; esac";
    let list = [":::", "1", "2", "3", "4"];
    let words = ["run", "-n", "2", "--halt", "now,fail=1", "--sh", line];
    s.coord(&[&words[..], &list].concat()).exits(7).warns("stopped by --halt").warns("goes on");
    assert_eq!(s.processes(), [0; 0], "what ran was ended");
    // What was ended runs again, and what failed does not.
    s.sh("touch never");
    s.coord(&[&["run", "-n", "2", "--sh", line], &list[..]].concat())
        .exits(1)
        .warns("going on where it stopped: ")
        .warns("4 jobs are over, 1 failed");
    assert!(s.root.join("more-4").exists());
    let soon = sh(&s, "seq 3000 | coord run -n 1 -k --halt soon,done=2 echo");
    soon.ok().warns("stopped by --halt");
    let shown = soon.stdout.lines().count();
    assert!(soon.stdout.starts_with("1\n2\n") && shown < 3000, "{shown}");
    let ok = ["run", "-n", "1", "--halt", "now,success=1", "true", ":::", "1", "2"];
    s.coord(&ok).ok();
}

#[test]
fn retries_and_time_limits() {
    let s = Sandbox::new();
    let line = "echo x >> tries-{}; [ $(wc -l < tries-{}) = {} ]";
    let words = ["run", "--retries", "2", "--sh", line, ":::", "1", "2", "3"];
    s.coord(&words).exits(1).warns("job 3: exit 1");
    assert_eq!((s.lines("tries-2").len(), s.lines("tries-3").len()), (2, 2));
    let out = s.coord(&["run", "--timeout", "200ms", "sleep", ":::", "1000", "0"]);
    out.exits(1).warns("job 1: time limit: sleep 1000");
}

#[test]
fn what_failed_runs_again_when_asked() {
    let s = Sandbox::new();
    let line = "echo {} >> ran; echo {}; [ {} != 2 ] || [ -e mended ]";
    let base = ["run", "-k", "--joblog", "log", "--sh", line, ":::", "1", "2", "3"];
    let again = [&["run", "--retry-failed"], &base[1..]].concat();
    s.coord(&again).fails(255, "no run of this command that failed");
    s.coord(&base).exits(1);
    s.coord(&again).exits(1).warns("what failed runs again: 2 of 3");
    s.sh("touch mended");
    let shown = s.coord(&again);
    assert_eq!(shown.ok().stdout, "2\n", "only what it ran is shown");
    let mut ran = s.lines("ran");
    ran.sort();
    assert_eq!(ran, ["1", "2", "2", "2", "3"]);
    assert_eq!(s.lines("log").len(), 6, "a line for each time");
    s.coord(&again).fails(255, "no run of this command that failed");
    // What is done begins anew.
    assert_eq!(s.coord(&base).ok().stdout, "1\n2\n3\n");
    assert_eq!(runs(&s).len(), 2);
}

#[test]
fn finished_runs_do_not_pile_up_and_unfinished_ones_stay() {
    let s = Sandbox::new();
    let run = |line: &str| s.coord(&["run", "--sh", line, ":::", "1"]);
    run("exit 1").exits(1);
    for _ in 0..5 {
        run("true").ok();
    }
    let kept = runs(&s);
    let of = |word: &str| kept.iter().filter(|name| name.starts_with(word)).count();
    assert_eq!((of("true"), of("exit")), (3, 1), "{kept:?}");
    assert!(kept.last().unwrap().ends_with("-5"), "{kept:?}");
    for _ in 0..5 {
        run("exit 1").exits(1);
    }
    let failed = runs(&s).iter().filter(|name| name.starts_with("exit")).count();
    assert_eq!(failed, 6, "nobody has looked at them yet");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn an_empty_list_is_done_at_once() {
    let s = Sandbox::new();
    for line in
        ["coord run false < /dev/null", "coord run false :::", "printf '' | coord run -k false"]
    {
        let out = sh(&s, line);
        assert_eq!((out.ok().stdout.as_str(), out.stderr.as_str()), ("", ""), "{line}");
    }
}

#[test]
fn input_that_cannot_be_read_is_named() {
    let s = Sandbox::new();
    s.coord(&["run", "-a", "no-such-file", "echo"]).fails(255, "no-such-file");
}

#[test]
fn a_command_that_cannot_start_fails_in_words() {
    let s = Sandbox::new();
    let gone = sh(&s, "printf 'no-such-program-here\\necho ran\\n' | coord run");
    assert_eq!(
        gone.exits(1).warns("cannot start `no-such-program-here`: No such file").stdout,
        "ran\n"
    );
}

#[test]
fn without_a_place_for_the_run_nothing_runs() {
    let s = Sandbox::bare();
    let home = s.beside("home");
    if nix::unistd::geteuid().is_root() {
        // Root may write anywhere: a file where a directory belongs stands for it.
        std::fs::write(home.join(".local"), "").unwrap();
    } else {
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    s.coord(&["run", "touch", ":::", "a"]).fails(255, "make the directory").warns("--queue DIR");
    assert!(!s.root.join("a").exists());
    s.coord(&["run", "--queue", "q", "touch", ":::", "a"]).ok();
    assert!(s.root.join("a").exists() && s.root.join("q/.coord/layout.json").exists());
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_queue_that_is_there_keeps_what_it_was_made_with() {
    let s = Sandbox::new();
    std::fs::write(s.root.join("coord.toml"), "version = 1\n[queue]\ndurability = \"full\"\n")
        .unwrap();
    s.coord(&["init"]).ok();
    s.coord(&["run", "--queue", ".", "touch", "{}", ":::", "a"]).ok();
    assert!(std::fs::read_to_string(s.queue("layout.json")).unwrap().contains("full"));
    let line = ["run", "--queue", ".", "--durability", "accept", "touch", "{}", ":::", "b"];
    s.coord(&line).fails(255, "the queue has durability = \"full\"").warns("coord init");
    assert!(!s.root.join("b").exists());
}

#[test]
fn outside_of_a_project_the_user_keeps_it() {
    let mut s = Sandbox::bare();
    s.coord(&["run", "true", ":::", "1"]).ok();
    assert!(s.beside("home").join(".local/state/coord/runs").is_dir());
    let state = s.beside("state");
    s.set("XDG_STATE_HOME", state.to_str().unwrap());
    s.coord(&["run", "true", ":::", "1"]).ok();
    assert!(state.join("coord/runs").is_dir());
}
