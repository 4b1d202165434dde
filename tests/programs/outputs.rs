//! What jobs print: each into files of its own, shown when it is over or as it comes, to readers that are
//! slow, or gone, and written through what a user's files are.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use crate::run::{newest, runs, sh};
use crate::support::{Sandbox, until};

/// With files that have no name, and where a file system has none of those.
const BOTH: [&str; 2] = ["COORD_ANYTHING", "COORD_NO_TMPFILE"];

fn sandbox(setting: &str) -> Sandbox {
    let mut s = Sandbox::new();
    s.set(setting, "1");
    s
}

#[test]
fn what_a_job_does_with_its_output_is_nothing_to_the_others() {
    for setting in BOTH {
        for act in [
            "echo x > /dev/stdout; echo x > /dev/stderr",
            "echo x | tee /dev/stderr",
            ": > /proc/self/fd/1; : > /proc/self/fd/2",
            "truncate -s 0 /dev/stdout; truncate -s 0 /dev/stderr",
            "truncate -s 70000 /dev/stdout; truncate -s 0 /dev/stdout",
            "echo late | dd of=/dev/stdout bs=1 seek=3 conv=notrunc 2>/dev/null",
            "exec 3<>/dev/stdout; echo y >&3; exec >&-",
            "chmod 0 /dev/stdout /dev/stderr",
            "(sleep 100; echo late) &",
        ] {
            let s = sandbox(setting);
            // The third one prints before that, and the fifth does not.
            let line = format!(
                "case {{}} in 3) echo out3; echo err3 >&2; {act};; 5) {act};; \
                 *) echo out{{}}; echo err{{}} >&2;; esac; true"
            );
            let shown = s.coord(&[
                "run", "-k", "-n", "1", "--sh", &line, ":::", "1", "2", "3", "4", "5", "6",
            ]);
            shown.ok();
            for (name, text) in [("out", &shown.stdout), ("err", &shown.stderr)] {
                let of =
                    |job: &str| text.lines().filter(|line| *line == format!("{name}{job}")).count();
                let seen: Vec<usize> = ["1", "2", "4", "6"].iter().map(|job| of(job)).collect();
                assert_eq!(seen, [1; 4], "{setting}: {act}: {text}");
                assert!(text.starts_with(&format!("{name}1\n{name}2\n")), "{act}: {text}");
                assert!(text.ends_with(&format!("{name}6\n")), "{act}: {text}");
            }
            let (home, id) = newest(&s);
            let own = s.sh(&format!("find {} -path '*live/*' -o -name '*.own.*'", home.display()));
            assert_eq!(own.stdout, "", "{act}: no name of {id} is left");
        }
    }
}

#[test]
fn output_is_shown_as_it_comes_where_asked() {
    for setting in BOTH {
        for (option, first, rest) in [
            ("--line-buffer", "1\tone\n", "1\ttwo\n1\tthree\n"),
            ("--ungroup", "1\tone\n1\ttw", "o\n1\tthree\n"),
        ] {
            let s = sandbox(setting);
            let line = "[ {} = 2 ] && exit; echo one; printf tw; until [ -e go ]; do sleep 0.01; done; \
                        echo o; echo three";
            let words = ["run", "-n", "2", "--tag", option, "--sh", line, ":::", "1", "2"];
            let child = s.background_into("shown", &words);
            until("the first part is shown", || s.text("shown") == first);
            s.sh("touch go");
            s.collect(child).ok();
            assert_eq!(s.text("shown"), format!("{first}{rest}"), "{setting} {option}");
        }
    }
}

#[test]
fn lines_that_come_keep_the_order_of_the_list_where_asked() {
    let s = Sandbox::new();
    let line = "echo {}a; [ {} = 2 ] && touch two; until [ -e go ]; do sleep 0.01; done; echo {}b";
    let words = ["run", "-n", "2", "-k", "--line-buffer", "--sh", line, ":::", "1", "2"];
    let child = s.background_into("shown", &words);
    until("the first line is shown", || s.text("shown") == "1a\n");
    until("the second job runs", || s.root.join("two").exists());
    s.sh("touch go");
    s.collect(child).ok();
    assert_eq!(s.text("shown"), "1a\n1b\n2a\n2b\n");
}

#[test]
fn a_job_that_runs_is_followed() {
    for setting in BOTH {
        let s = sandbox(setting);
        let line = ": {}; echo one; until [ -e go ]; do sleep 0.01; done; echo two";
        let run = s.background(&["run", "-n", "1", "--sh", line, ":::", "1"]);
        let seen = || {
            !s.sh("ls .coord/runs/*/.coord/tasks/*/jobs/live 2>/dev/null; true").stdout.is_empty()
        };
        until("the job has been running for a while", seen);
        let (home, id) = newest(&s);
        let home = home.to_string_lossy().into_owned();
        let job = format!("{id}/1");
        let logs = s.background_into("followed", &["-C", &home, "logs", "-f", &job]);
        until("it shows what is there", || s.text("followed") == "one\n");
        assert_eq!(s.coord(&["-C", &home, "logs", &job]).ok().stdout, "one\n");
        s.sh("touch go");
        s.collect(logs).ok();
        assert_eq!(s.text("followed"), "one\ntwo\n", "{setting}");
        s.collect(run).ok();
        assert_eq!(s.coord(&["-C", &home, "logs", "-n", "1", &job]).ok().stdout, "two\n");
    }
}

/// A job prints more than the programs may have of memory.
#[test]
fn memory_is_bounded_whatever_a_job_prints() {
    let s = Sandbox::new();
    let line = ": {}; truncate -s 300M /dev/stdout; echo end";
    for options in ["", "-k", "--tag", "--line-buffer", "-u", "--results res"] {
        let shown = sh(
            &s,
            &format!(
                "ulimit -v 200000; coord run --fresh {options} -n 1 --sh '{line}' ::: 1 | wc -c"
            ),
        );
        let count: u64 = shown.ok().line().trim().parse().unwrap();
        let tag = if options == "--tag" { "1\t".len() as u64 } else { 0 };
        assert_eq!(count, (300 << 20) + 4 + tag, "{options}: {}", shown.stderr);
    }
    assert_eq!(std::fs::metadata(s.root.join("res/1/1/stdout")).unwrap().len(), (300 << 20) + 4);
    let (home, id) = newest(&s);
    let logs = |more: &str| {
        let line =
            format!("ulimit -v 200000; coord -C {} logs {more} {id} | wc -c", home.display());
        sh(&s, &line).ok().line().trim().parse::<u64>().unwrap()
    };
    assert_eq!((logs(""), logs("-n 1")), ((300 << 20) + 4, (300 << 20) + 4));
}

#[test]
fn a_reader_that_leaves_ends_the_run_quietly() {
    let s = Sandbox::new();
    let line = "coord run -n 1 -k --sh 'echo {}; head -c 100000 /dev/zero' ::: 1 2 3 4 5 6 7 8 9";
    let first = s.run("bash", &["-c", &format!("{line} | head -c 1; exit ${{PIPESTATUS[0]}}")]);
    assert_eq!((first.code, first.stdout.as_str(), first.stderr.as_str()), (141, "1", ""));
    // What was not shown is shown by who goes on.
    let rest = sh(&s, &format!("{line} | tr -d '\\0'"));
    rest.ok().warns("going on");
    assert!(rest.stdout.ends_with("7\n8\n9\n"), "{}", rest.stdout);
}

#[test]
fn following_verbs_end_with_their_reader() {
    let s = Sandbox::new();
    s.add(&["--id", "a"], "echo one; echo two");
    s.add(&["--id", "b", "--hold"], "true");
    s.add(&["--id", "c", "--hold"], "true");
    s.coord(&["work", "--until-empty"]).ok();
    for verb in ["events -f", "logs -f b", "wait --json b"] {
        // Nothing more comes, so only the pipe can tell.
        let reader = if verb.starts_with("events") { "head -1" } else { "true" };
        let ended = sh(&s, &format!("timeout 30 sh -c 'coord {verb} | {reader}'"));
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{verb}");
    }
    // A verb that does something does all of it.
    sh(&s, "coord cancel b c 2>/dev/null | true");
    assert_eq!((s.state("b"), s.state("c")), ("cancelled".into(), "cancelled".into()));
    sh(&s, "coord ls > /dev/full").fails(7, "cannot write to standard output");
}

#[test]
fn a_reader_that_is_slow_or_does_not_block_loses_nothing() {
    let s = Sandbox::new();
    for words in [
        &["run", "-n", "2", "--sh", ": {}; head -c 300000 /dev/zero", ":::", "1", "2", "3"][..],
        &[
            "run",
            "-n",
            "2",
            "--line-buffer",
            "--sh",
            ": {}; head -c 300000 /dev/zero",
            ":::",
            "1",
            "2",
            "3",
        ],
    ] {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty());
        nix::fcntl::fcntl(&reader, flags).unwrap();
        let mut command = s.command("coord");
        let output: OwnedFd = writer;
        let mut child = command.args(words).stdout(output).stdin(Stdio::null()).spawn().unwrap();
        drop(command);
        let mut all = Vec::new();
        std::fs::File::from(reader).read_to_end(&mut all).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(all.len(), 900_000, "{words:?}");
    }
}

#[test]
fn the_job_log_is_written_through_what_is_there() {
    let s = Sandbox::new();
    let run = |log: &str| {
        let line = format!("coord run -n 1 --joblog {log} echo ::: 1 2");
        s.run("bash", &["-c", &line]).ok();
    };
    s.sh("mkdir far; echo old > far/log; ln -s far/log link; ln -s missing dangling; mkfifo fifo");
    run("link");
    run("dangling");
    assert_eq!((s.lines("far/log").len(), s.lines("missing").len()), (3, 3));
    assert!(std::fs::symlink_metadata(s.root.join("link")).unwrap().is_symlink());
    run(">(cat > piped)");
    until("all of it came", || s.root.join("piped").exists() && s.lines("piped").len() == 3);
    sh(&s, "cat fifo > copy & coord run -n 1 --joblog fifo echo ::: 1 2; wait").ok();
    assert_eq!(s.lines("copy").len(), 3);
    assert!(std::fs::metadata(s.root.join("fifo")).unwrap().file_type().is_fifo());
    let out = sh(&s, "coord run -n 1 --joblog /dev/stdout true ::: 1 > out; cat out");
    assert!(out.ok().stdout.starts_with("Seq\t") && out.stdout.lines().count() == 2);
    if nix::unistd::geteuid().is_root() && s.run("mknod", &["null", "c", "1", "3"]).code == 0 {
        run("null");
        assert!(std::fs::metadata(s.root.join("null")).unwrap().file_type().is_char_device());
    } else {
        crate::support::skip(
            "the_job_log_is_written_through_what_is_there",
            "no device can be made",
        );
    }
    s.coord(&["run", "--joblog", "far", "touch", "ran", ":::", "1"]).fails(255, "far");
    assert!(!s.root.join("ran").exists(), "nothing runs where there is no log");
}

#[test]
fn a_job_that_ran_out_of_time_is_minus_one_in_the_log() {
    let s = Sandbox::new();
    for (line, signal) in
        [(": {}; sleep 100", "15"), (": {}; trap \"exit 0\" TERM; sleep 100 & wait", "0")]
    {
        s.coord(&["run", "--timeout", "200ms", "--joblog", "log", "--sh", line, ":::", "1"])
            .exits(1);
        let last = s.lines("log").pop().unwrap();
        let fields: Vec<&str> = last.split('\t').collect();
        assert_eq!((fields[6], fields[7]), ("-1", signal), "{last}");
    }
}

#[test]
fn results_never_stop_a_run() {
    let s = Sandbox::new();
    s.coord(&["run", "--results", "r", "echo {1}{2}", ":::", "a", "b", ":::", "c"]).ok();
    assert_eq!(
        (s.text("r/1/a/2/c/stdout"), s.text("r/1/b/2/c/stdout")),
        ("ac\n".into(), "bc\n".into())
    );
    s.coord(&["run", "--results", "n", "-N", "2", "echo", ":::", "a", "b"]).ok();
    assert_eq!(s.text("n/1/a/1/b/stdout"), "a b\n");
    let long = "x".repeat(300);
    s.coord(&["run", "--results", "l/{}.txt", "echo", ":::", &long]).ok();
    s.coord(&["run", "--results", "l", "echo", ":::", &long]).ok();
    assert_eq!(s.sh("find l -type f | wc -l").line().trim(), "6");
    // Three of the files cannot be written: a FIFO without a reader, a directory, a file for a directory.
    s.sh("mkdir -p w/1/b/stdout w/1/c; mkdir w/1/a; mkfifo w/1/a/stdout; rmdir w/1/c; touch w/1/c");
    s.sh("mkdir w/1/d; touch target; ln -s ../../../target w/1/d/stdout");
    let words = ["run", "--results", "w", "-n", "1", "-k", "echo", ":::", "a", "b", "c", "d", "e"];
    let ended = s.coord(&words);
    ended
        .exits(255)
        .warns("warning: the results of job 1")
        .warns("the results of 3 jobs could not");
    assert_eq!(ended.stdout, "a\nb\nc\nd\ne\n");
    assert_eq!((s.text("w/1/e/stdout"), s.text("target")), ("e\n".into(), "d\n".into()));
    assert!(s.root.join("w/1/b/stdout").is_dir());
}

#[test]
fn what_a_job_printed_is_there_after_the_death_of_its_worker() {
    for (step, setting) in
        [("jobs.keep", BOTH[0]), ("jobs.end_as", BOTH[0]), ("jobs.keep", BOTH[1])]
    {
        let mut s = Sandbox::bare();
        s.set(setting, "1");
        let home = s.beside("run").to_string_lossy().into_owned();
        // It runs for so long that its output has a name.
        let line = "echo before; [ $COORD_ATTEMPT != 2 ] || exit 0; \
                    until ls -d */.coord/tasks/*/jobs/live/* >/dev/null 2>&1; do sleep 0.01; done; exit 1";
        let line = line.replace("*/.coord", &format!("{home}/.coord"));
        let words =
            ["run", "-n", "1", "--queue", &home, "--retries", "2", "--sh", &line, ":::", "1"];
        s.set("COORD_STEP", "coord/list.close:crash,coord-worker/register.mkdir:crash");
        assert_eq!(s.coord(&words).code, 128 + 9);
        s.set("COORD_STEP", &format!("coord-worker/{step}:crash"));
        let dir = format!("{home}/.coord");
        assert_eq!(s.run("coord-worker", &["--dir", &dir, "--until-empty"]).code, 128 + 9);
        s.set("COORD_STEP", "");
        assert_eq!(s.coord(&words).ok().stdout, "before\n", "{step}");
        let id = s.sh(&format!("ls {home}/.coord/tasks")).line().to_owned();
        let first = s.coord(&["-C", &home, "logs", &format!("{id}/1@1")]);
        assert_eq!(first.ok().stdout, "before\n", "{step} {setting}");
        let live = Path::new(&home).join(format!(".coord/tasks/{id}/jobs/live"));
        assert_eq!(std::fs::read_dir(live).unwrap().count(), 0, "{step}: no name is left");
    }
}

#[test]
fn a_run_outside_of_a_project_is_its_users_alone() {
    let s = Sandbox::bare();
    let line = "umask 022; coord run --results res --joblog log --sh ': {}; touch made; umask; echo x' ::: 1";
    assert_eq!(sh(&s, line).ok().stdout, "0022\nx\n", "jobs have the umask of their user");
    let state = s.beside("home").join(".local/state/coord");
    let open = s.sh(&format!("find {} -perm /077", state.display()));
    assert_eq!(open.stdout, "", "closed to others");
    for (path, mode) in
        [("made", 0o644), ("res/1/1/stdout", 0o644), ("res/1", 0o755), ("log", 0o644)]
    {
        let meta = std::fs::metadata(s.root.join(path)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{path} is the user's own");
    }
    // One that was made by an older program.
    s.sh(&format!("chmod 755 {}/runs", state.display()));
    s.coord(&["run", "true", ":::", "1"]).ok();
    let meta = std::fs::metadata(state.join("runs")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_run_that_a_job_began_goes_with_the_run_of_the_job() {
    let s = Sandbox::new();
    let line = ["run", "-n", "1", "--sh", "coord run -q echo ::: {}", ":::", "in"];
    for _ in 0..5 {
        assert_eq!(s.coord(&line).ok().stdout, "in\n");
    }
    let of = |word: &str| runs(&s).iter().filter(|name| name.starts_with(word)).count();
    assert_eq!(of("coord"), 3, "{:?}", runs(&s));
    // One whose jobs have failed is not removed, nor the run that it belongs to.
    let failing = ["run", "-n", "1", "--sh", "coord run -q false ::: {} || true", ":::", "in"];
    for _ in 0..5 {
        s.coord(&failing).ok();
    }
    assert_eq!(of("coord"), 8, "{:?}", runs(&s));
}
