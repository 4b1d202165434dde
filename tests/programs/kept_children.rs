//! `coord run --keep-children`: what a job has started goes on when the job is over, and only then.

use crate::run::newest;
use crate::support::{Sandbox, alive};

/// Starts a server that leaves its job as daemons do, and prints into the job's output; its pid goes into
/// `file`.
fn server(file: &str) -> String {
    let serves = format!("echo $$ > {file}; echo served; exec sleep 1000");
    format!("setsid sh -c '{serves}' & until [ -s {file} ]; do sleep 0.01; done")
}

fn pid(s: &Sandbox, file: &str) -> i32 {
    s.text(file).trim().parse().unwrap()
}

#[test]
fn a_server_that_a_job_has_started_serves_the_jobs_behind_it() {
    for keep in [true, false] {
        let s = Sandbox::new();
        let asks = "kill -0 $(cat server) 2>/dev/null && echo yes || echo no";
        let line = format!("case {{}} in 1) {};; *) {asks};; esac", server("server"));
        let option = if keep { &["--keep-children"][..] } else { &[] };
        let words = [&["run", "-n", "1", "-k"], option, &["--sh", &line, ":::", "1", "2", "3"]];
        let out = s.coord(&words.concat());
        let said = if keep { "served\nyes\nyes\n" } else { "served\nno\nno\n" };
        assert_eq!(out.ok().stdout, said);
        assert_eq!(alive(pid(&s, "server")), keep);
    }
}

#[test]
fn what_is_kept_has_no_tie_to_the_worker_and_writes_to_no_other_job() {
    let s = Sandbox::new();
    let talks = "echo $$ > server; until [ -e talk ]; do sleep 0.01; done; \
                 echo intruder; echo intruder >&2; echo > talked; exec sleep 1000";
    let line = format!(
        "case {{}} in \
         1) setsid sh -c '{talks}' & until [ -s server ]; do sleep 0.01; done; \
            tr '\\0' '\\n' < /proc/$(cat server)/environ > environ; echo first;; \
         2) touch talk; until [ -e talked ]; do sleep 0.01; done; echo second;; esac"
    );
    let words = ["run", "-n", "1", "-k", "--keep-children", "--sh", &line, ":::", "1", "2"];
    let out = s.coord(&words);
    assert_eq!(
        (out.ok().stdout.as_str(), out.stderr.contains("intruder")),
        ("first\nsecond\n", false)
    );
    let (home, id) = newest(&s);
    let logs = s.coord(&["-C", home.to_str().unwrap(), "logs", &id]);
    logs.silent_about("intruder");
    let environ = s.text("environ");
    assert!(environ.contains("COORD_TOKEN="), "by it the job is ended by force:\n{environ}");
    for name in ["COORD_MARK=", "COORD_RUN_DIR="] {
        assert!(!environ.contains(name), "{environ}");
    }
    assert!(alive(pid(&s, "server")));
}

#[test]
fn a_job_that_is_ended_by_force_keeps_nothing() {
    let s = Sandbox::new();
    // The second job leaves a daemon and a child of its own, and outlives its time.
    let line = format!(
        "case {{}} in 1) {};; 2) {}; setsid sleep 1000 & echo $! > child; exec sleep 1000;; esac",
        server("first"),
        server("second"),
    );
    let words = ["run", "-n", "1", "--timeout", "1s", "--keep-children", "--sh", &line];
    s.coord(&[&words[..], &[":::", "1", "2", "3"]].concat()).exits(1).warns("time limit");
    assert!(alive(pid(&s, "first")), "what the job before has left goes on");
    for left in ["second", "child"] {
        assert!(!alive(pid(&s, left)), "{left} goes on");
    }
}

#[test]
fn of_a_dead_worker_only_what_its_last_job_started_is_ended() {
    let s = Sandbox::new();
    // The first try of job 2 kills its worker; the second one sees what it finds. Who was ended may not have
    // been reaped yet.
    let finds = "case $(cut -d' ' -f3 /proc/$(cat second)/stat 2>/dev/null) in Z|'') ;; *) echo beside;; esac";
    let line = format!(
        "case {{}} in 1) {};; 2) [ -e second ] && {{ {finds}; exit 0; }}; \
         {}; kill -9 $PPID; exec sleep 1000;; esac",
        server("first"),
        server("second"),
    );
    let words = ["run", "-n", "1", "-k", "--keep-children", "--sh", &line, ":::", "1", "2"];
    let out = s.coord(&words);
    assert!(!out.ok().stdout.contains("beside"), "{}", out.stdout);
    assert!(alive(pid(&s, "first")));
    assert!(!alive(pid(&s, "second")));
}

#[test]
fn a_run_with_it_is_another_run() {
    let s = Sandbox::new();
    let words = ["run", "--sh", "echo {} >> ran", ":::", "1"];
    s.coord(&words).ok();
    s.coord(&[&["run", "--keep-children"], &words[1..]].concat()).ok();
    assert_eq!((s.names("runs").len(), s.lines("ran").len()), (2, 2));
}
