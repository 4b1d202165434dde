//! What `coord run` is given: bytes that are no text arrive, and what cannot be an argument fails alone.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Output as Raw;

use crate::run::{newest, sh};
use crate::support::Sandbox;

/// Runs `coord` with words that need not be text; returns what it printed as it is.
fn raw(s: &Sandbox, words: &[&[u8]]) -> Raw {
    let words = words.iter().map(|word| OsStr::from_bytes(word));
    s.command(env!("CARGO_BIN_EXE_coord")).args(words).output().unwrap()
}

/// As `LC_ALL=C od` and `xargs` see it: the same bytes.
#[track_caller]
fn prints(raw: &Raw, bytes: &[u8]) {
    let said = String::from_utf8_lossy(&raw.stderr);
    assert_eq!(raw.stdout, bytes, "{said}");
    assert!(raw.status.success(), "{said}");
}

#[test]
fn a_line_that_is_no_text_arrives_as_it_is() {
    let s = Sandbox::new();
    s.sh("printf 'a\\377.x\\nd\\303/\\200.y\\n' > list; printf 'p\\377\\0q\\n\\376\\0' > nuls");
    prints(
        &raw(&s, &[b"run", b"-k", b"-a", b"list", b"printf", b"%s\\n"]),
        b"a\xff.x\nd\xc3/\x80.y\n",
    );
    let parts: &[&[u8]] = &[b"run", b"-k", b"-a", b"list", b"echo", b"{.} {/} {//} {/.}"];
    let shown = b"a\xff a\xff.x . a\xff\nd\xc3/\x80 \x80.y d\xc3 \x80\n";
    prints(&raw(&s, parts), shown);
    prints(&raw(&s, &[b"run", b"-k0", b"-a", b"nuls", b"printf", b"%s|"]), b"p\xff|q\n\xfe|");
    prints(&raw(&s, &[b"run", b"-X", b"-n1", b"-a", b"list", b"echo"]), b"a\xff.x d\xc3/\x80.y\n");
    // For a shell it is quoted for where it stands.
    let script = b"printf '%s\\n' {} \"{}\" '{}'";
    let three = b"a\xff.x\na\xff.x\na\xff.x\nd\xc3/\x80.y\nd\xc3/\x80.y\nd\xc3/\x80.y\n";
    prints(&raw(&s, &[b"run", b"-k", b"-a", b"list", b"--sh", script]), three);
    // The line before each line of output, the name of a file of results, and a column.
    let tagged: &[&[u8]] =
        &[b"run", b"--tag", b"--results", b"res", b"echo", b"o", b"{1}", b":::", b"\xfe"];
    prints(&raw(&s, tagged), b"\xfe\to \xfe\n");
    let of = OsStr::from_bytes(b"res/1/\xfe/stdout");
    assert_eq!(std::fs::read(s.root.join(of)).unwrap(), b"o \xfe\n");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn so_do_words_of_the_command_line_files_and_directories() {
    let s = Sandbox::new();
    let odd = s.root.join(OsStr::from_bytes(b"odd\xff"));
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join(OsStr::from_bytes(b"list\xfe")), b"1\n2\n").unwrap();
    let list = b"odd\xff/list\xfe";
    prints(&raw(&s, &[b"run", b"-k", b"echo", b"\xfd{}", b"::::", list]), b"\xfd1\n\xfd2\n");
    prints(&raw(&s, &[b"run", b"-k", b"-a", list, b"echo", b"x"]), b"x 1\nx 2\n");
    // The directory that it is given in, and a program in it.
    s.sh("printf '#!/bin/sh\\npwd; echo \"$@\"\\n' > program; chmod +x program; mv program odd*");
    let mut command = s.command(env!("CARGO_BIN_EXE_coord"));
    let out = command.args(["run", "./program", ":::", "a"]).current_dir(&odd).output().unwrap();
    prints(&out, &[odd.as_os_str().as_bytes(), b"\na\n"].concat());
    // A queue that lies there.
    let out = raw(&s, &[b"run", b"--queue", b"odd\xff/q", b"echo", b":::", b"a"]);
    prints(&out, b"a\n");
}

#[test]
fn an_environment_that_is_no_text_arrives() {
    let s = Sandbox::new();
    let value = OsStr::from_bytes(b"v\xff");
    let mut command = s.command(env!("CARGO_BIN_EXE_coord"));
    let out = command.env("ODD", value).args(["run", "--sh", "printf %s \"$ODD\"; :", ":::", "1"]);
    prints(&out.output().unwrap(), b"v\xff");
    let id = s.add(&[], "printf %s \"$ODD\" > odd");
    let mut work = s.command(env!("CARGO_BIN_EXE_coord"));
    work.env("ODD", value).args(["work", "--until-empty"]).output().unwrap();
    assert_eq!(
        (s.state(&id).as_str(), std::fs::read(s.root.join("odd")).unwrap()),
        ("done", b"v\xff".to_vec())
    );
    let mut start = s.command(env!("CARGO_BIN_EXE_coord"));
    assert!(start.env("ODD", value).args(["start", "-n", "1"]).status().unwrap().success());
    let id = s.add(&[], "printf %s \"$ODD\" > odder");
    s.until_state(&id, "done");
    assert_eq!(std::fs::read(s.root.join("odder")).unwrap(), b"v\xff");
}

#[test]
fn a_bad_line_fails_alone_and_is_not_tried_again() {
    let s = Sandbox::new();
    let list = "(seq 300; printf 'a\\0b\\n'; head -c 140000 /dev/zero | tr '\\0' x; echo; \
                head -c 700000 /dev/zero | tr '\\0' y; echo; echo last) > list";
    s.sh(list);
    let words = ["run", "-k", "--retries", "3", "--joblog", "log", "-a", "list", "echo"];
    let out = s.coord(&words);
    out.exits(3).warns("job 301: list: line 301 has a NUL").warns("-0");
    out.warns("job 302: an argument has 140000 bytes, and the system takes 131071");
    out.warns("job 303: list: line 303 is longer than 524288 bytes");
    let shown: Vec<&str> = out.stdout.lines().collect();
    assert_eq!((shown.len(), shown[299], shown[300]), (301, "300", "last"));
    let bad: Vec<String> = s.lines("log").into_iter().filter(|l| l.contains("\t(")).collect();
    assert_eq!(bad.len(), 3, "one try each: {bad:?}");
    assert!(
        bad[0].ends_with(
            "301 has a NUL (if a NUL ends each value, use -0, as after `find -print0`))"
        )
    );
    // Given again, with that line mended, it is another list; as it was, only what failed is left.
    s.coord(&[&["run", "--retry-failed"], &words[1..]].concat()).exits(3).warns("301 of 304");
    let (queue, id) = newest(&s);
    let queue = queue.to_str().unwrap();
    let shown = s.coord(&["-C", queue, "show", &id, "--json"]).json("coord.task/1");
    assert_eq!(shown["array"]["failed_jobs"][0]["bad"], true, "{shown}");
    s.coord(&["-C", queue, "logs", &format!("{id}/301")]).ok().warns("has a NUL");
    s.coord(&["-C", queue, "fsck", "--strict"]).ok();
}

#[test]
fn text_is_asked_for_where_columns_are_named_and_rows_that_do_not_fit_fail_alone() {
    let s = Sandbox::new();
    s.sh("printf 'n\\na\\n\\377\\nb\\n' > t; printf 'n,m\\n1,2\\n1,2,3\\n4,5\\n' > wide.csv");
    for option in ["--csv", "--header"] {
        let words = ["run", "-k", "--csv", "--header", "-a", "t", "echo", "{n}"];
        let words: Vec<&str> =
            words.into_iter().filter(|word| option == "--csv" || *word != "--csv").collect();
        let out = s.coord(&words);
        let said = format!("job 2: t: line 3 is not UTF-8, as {option} needs it");
        assert_eq!(out.exits(1).warns(&said).stdout, "a\nb\n");
    }
    let words =
        ["run", "-k", "--csv", "--header", "echo {n}{m}{x}", "::::", "wide.csv", ":::", "x", "y"];
    let out = s.coord(&words);
    assert_eq!(out.exits(1).warns("job 2: a row has 3 columns").stdout, "12y\n45y\n");
    // What names the columns must be right: nothing came before it.
    sh(&s, "printf 'n\\377\\na\\n' | coord run --header echo {n}")
        .fails(255, "line 1 is not UTF-8");
    // Three lines a job: their places count, so the job with the bad one fails as a whole.
    let three = sh(&s, "printf '1\\n2\\n3\\n4\\0\\n5\\n6\\n7\\n' | coord run -k -N3 echo");
    assert_eq!(
        three.exits(1).warns("job 2: standard input: line 4 has a NUL").stdout,
        "1 2 3\n7\n"
    );
    let many = sh(&s, "printf '1\\n2\\n3\\n4\\0\\n5\\n6\\n7\\n' | coord run -kX -n1 echo");
    assert_eq!(many.exits(1).warns("job 2: standard input: line 4").stdout, "1 2 3\n5 6 7\n");
}

#[test]
fn what_is_shown_of_such_an_argument_can_be_read_back() {
    let s = Sandbox::new();
    let words: &[&[u8]] = &[b"run", b"--joblog", b"log", b"ls", b"--", b":::", b"it's\xff"];
    let out = raw(&s, words);
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("ls -- $'it\\'s\\xff'"), "{said}");
    assert!(s.lines("log")[1].ends_with("ls -- $'it\\'s\\xff'"), "{}", s.lines("log")[1]);
    let (queue, id) = newest(&s);
    let shown =
        s.coord(&["-C", queue.to_str().unwrap(), "show", &id, "--json"]).json("coord.task/1");
    assert_eq!(shown["array"]["failed_jobs"][0]["arguments"][0], "it's\u{10FEFF}");
    let dry = raw(&s, &[b"run", b"--dry-run", b"rm", b":::", b"\xff"]);
    prints(&dry, b"rm $'\\xff'\n");
}
