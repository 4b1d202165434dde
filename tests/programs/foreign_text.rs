//! Text from outside is shown as text, whatever field or argument it is in and whatever verb shows it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::support::{Output, Sandbox, until};

/// Turns a terminal red, by two ways, and the direction of writing; ends the line; and can be found.
const MARKER: &str = "MARK\u{1b}[31m\u{9b}31m\u{202e}\u{2066}\r\u{2028}er";

/// The same for a title, in which control characters are refused.
const TITLE: &str = "MARK\u{202e}\u{2066}er";

fn is_hostile(c: char) -> bool {
    let turns =
        matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
    turns || c.is_control() && c != '\n' && c != '\t'
}

/// No character of it does anything.
fn is_plain(out: &Output) {
    for text in [&out.stdout, &out.stderr] {
        let found = text.chars().find(|c| is_hostile(*c));
        assert_eq!(found, None, "{}: {}", out.what, text.escape_debug());
    }
}

#[test]
fn no_field_and_no_argument_does_anything_to_a_terminal() {
    let s = Sandbox::new();
    let name = format!("{MARKER}.json");
    let mut shown = String::new();
    let mut run = |words: &[&str]| {
        let out = s.coord(words);
        is_plain(&out);
        shown.push_str(&out.stdout);
        shown.push_str(&out.stderr);
        if !words.contains(&"--json") && !words.contains(&"-f") {
            is_plain(&s.coord(&[&["--json"], words].concat()));
        }
    };
    s.configure(
        &format!("[agents.{MARKER:?}]\ncommand = [\"true\"]\n")
            .replace("\\u{", "\\U000000")
            .replace('}', ""),
    );
    is_plain(&s.coord(&["status"]));
    s.configure("");
    let by = |id: &'static str| ["add", "--id", id, "--attempts", "1"];
    let fails = format!("printf '%s' '{MARKER}' >&2; exit 3");
    s.coord(&[&by("F")[..], &["--sh", &fails, TITLE]].concat()).ok();
    s.coord(
        &[
            &by("P")[..],
            &[
                "--sh",
                "coord progress 10 \"$MARKED\"; coord fail --reason \"$MARKED\"",
                "--env",
                &format!("MARKED={MARKER}"),
                "p",
            ],
        ]
        .concat(),
    )
    .ok();
    s.coord(&[&by("M")[..], &["--manual", TITLE]].concat()).ok();
    s.coord(
        &[&by("W")[..], &["--cwd", MARKER, "--prompt", MARKER, "w", "--", "true", MARKER]].concat(),
    );
    s.coord(&["add", "--id", "C", "--hold", "c", "--", "true", MARKER]).ok();
    s.coord(&["cancel", "--reason", MARKER, "C"]).ok();
    s.coord(&["map", "--id", "L", "--title", TITLE, "sh", "-c", "exit 4", ":::", MARKER]).ok();
    let put = |dir: &str, name: &str| {
        std::fs::write(s.queue(dir).join(OsStr::from_bytes(name.as_bytes())), MARKER).unwrap()
    };
    put("incoming", &name);
    for dir in ["tasks", "tasks/F", "procs", "events", "ready", "control", "blocked", "delayed"] {
        put(dir, MARKER);
    }
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    let file = std::fs::File::options().write(true).open(s.queue("incoming").join(&name)).unwrap();
    file.set_modified(old).unwrap();
    run(&["work", "--until-empty"]);
    until("the file is rejected", || s.names("incoming/rejected").len() == 2);
    run(&["run", "--sh", "exit 5", ":::", MARKER]);
    for id in ["F", "P", "M", "W", "C", "L"] {
        for verb in [
            "show", "why", "retry", "cancel", "hold", "release", "dismiss", "done", "fail", "diff",
            "checkout",
        ] {
            run(&[verb, id]);
        }
    }
    for verb in [
        "show", "why", "logs", "events", "ls", "retry", "cancel", "hold", "release", "wait",
        "done", "fail", "dismiss", "diff", "checkout", "shell", "import", "-C", "merge", "scale",
        "gc",
    ] {
        run(&[verb, MARKER]);
    }
    for words in [
        &["status"][..],
        &["ls"],
        &["events"],
        &["workers"],
        &["runs"],
        &["fsck"],
        &["doctor"],
        &["gc", "--dry-run"],
        &["mergeq", "ls"],
        &["worktree", "ls"],
        &["worktree", "path", MARKER],
        &["add", "--id", MARKER, "x", "--", "true"],
        &["add", "--after", MARKER, "x", "--", "true"],
        &["add", "--role", MARKER, "x", "--", "true"],
        &["run", "--halt", MARKER, "true", ":::", "1"],
        &["run", "--queue", "q", "--retry-failed", MARKER, ":::", "1"],
        &["start", "--role", MARKER],
        &["import", MARKER],
        &["stop", "--timeout", MARKER],
        &["wait", "--timeout", "10ms"],
    ] {
        run(words);
    }
    assert!(shown.matches("MARK").count() > 40, "it was planted where it is shown:\n{shown}");
}
