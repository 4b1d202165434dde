//! Scopes: two running tasks never change the same paths, and a wide scope gets its turn.

use crate::support::{Sandbox, until};

/// Start and end of each job, in the order in which they happened: an append of a line is one call.
const WITNESS: &str = "echo + $COORD_TASK_ID >>$WIT; sleep 0.01; echo - $COORD_TASK_ID >>$WIT";

fn sandbox() -> Sandbox {
    let mut s = Sandbox::new();
    let witness = s.beside("wit");
    s.set("WIT", &witness.to_string_lossy());
    s
}

/// `+`/`-` and the task, as they happened.
fn story(s: &Sandbox) -> Vec<(bool, String)> {
    let text = s.text(s.beside("wit"));
    text.lines().map(|l| (l.starts_with('+'), l[2..].to_owned())).collect()
}

/// By the definition, not by the code: equal, or one below the other.
fn overlap(a: &str, b: &str) -> bool {
    let below = |a: &str, b: &str| b == "." || format!("{a}/").starts_with(&format!("{b}/"));
    below(a, b) || below(b, a)
}

#[test]
fn two_tasks_with_overlapping_scopes_never_run_at_once() {
    let s = sandbox();
    let scopes = ["a", "a/b", "a/b/c", "a/d", "b", "b/c", "ab", "."];
    let mut lines = String::new();
    for i in 0..200 {
        // The whole tree now and then, the others in turn.
        let scope = if i % 40 == 39 { "." } else { scopes[i % 7] };
        lines += &format!(r#"{{"id":"T{i}","scope":["{scope}"],"sh":"{WITNESS}"}}"#);
        lines.push('\n');
    }
    let file = s.beside("tasks.jsonl");
    std::fs::write(&file, lines).unwrap();
    s.coord(&["import", &file.to_string_lossy()]).ok();
    s.start(8);
    s.coord(&["wait", "--timeout", "120s"]).ok();
    s.coord(&["stop"]).ok();
    let scope_of = |id: &str| {
        let i: usize = id[1..].parse().unwrap();
        if i % 40 == 39 { "." } else { scopes[i % 7] }
    };
    let mut running: Vec<String> = Vec::new();
    let (mut most, mut ran) = (0, 0);
    for (starts, id) in story(&s) {
        if starts {
            for other in &running {
                assert!(
                    !overlap(scope_of(&id), scope_of(other)),
                    "{id} started in {} while {other} ran in {}",
                    scope_of(&id),
                    scope_of(other)
                );
            }
            running.push(id);
            ran += 1;
        } else {
            running.retain(|other| *other != id);
        }
        most = most.max(running.len());
    }
    assert_eq!(ran, 200);
    assert!(most > 1, "nothing ever ran at the same time, so nothing was tested");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_wide_scope_is_not_starved_by_narrow_ones() {
    let s = sandbox();
    let mut lines = String::new();
    let mut task = |id: &str, scope: &str| {
        lines += &format!(r#"{{"id":"{id}","scope":["{scope}"],"sh":"{WITNESS}"}}"#);
        lines.push('\n');
    };
    for i in 0..8 {
        task(&format!("old{i}"), &format!("a/{i}"));
    }
    task("wide", "a");
    for i in 0..120 {
        task(&format!("young{i}"), &format!("a/{}", i % 12));
    }
    let file = s.beside("tasks.jsonl");
    std::fs::write(&file, lines).unwrap();
    s.coord(&["import", &file.to_string_lossy()]).ok();
    s.start(4);
    s.coord(&["wait", "--timeout", "120s"]).ok();
    s.coord(&["stop"]).ok();
    let story = story(&s);
    let wide = story.iter().position(|(starts, id)| *starts && id == "wide").unwrap();
    let later = story[wide..].iter().filter(|(starts, id)| *starts && id.starts_with("young"));
    let later = later.count();
    // Passed over a few times, then the younger ones wait for it. Without that it comes last.
    assert!(later > 60, "only {later} of 120 younger tasks started after the wide one");
}

#[test]
fn why_says_who_holds_the_scope() {
    let s = sandbox();
    let gate = s.beside("gate");
    s.coord(&["add", "--id", "W-2", "--scope", "packages/wallet/", "--sh"]).exits(2);
    let wait = format!("while ! test -e {}; do sleep 0.01; done", gate.display());
    s.coord(&["add", "--id", "W-2", "--scope", "packages/wallet/", "--sh", &wait]).ok();
    s.start(2);
    s.until_state("W-2", "running");
    s.coord(&["add", "--id", "W-4", "--scope", "./packages//wallet/send.ts", "--", "true"]).ok();
    until("it is passed over", || {
        s.coord(&["why", "W-4"]).stdout.contains("packages/wallet is held by W-2")
    });
    assert_eq!(s.state("W-4"), "ready");
    s.coord(&["why", "W-4", "--json"]).ok().says(r#""kind":"scope""#);
    std::fs::write(&gate, "").unwrap();
    s.until_state("W-4", "done");
    s.coord(&["stop"]).ok();
}

#[test]
fn what_no_scope_can_be_is_refused() {
    let s = sandbox();
    for bad in ["/etc", "../x", "a/../b", ""] {
        s.coord(&["add", "--scope", bad, "--", "true"]).fails(2, "scope `");
    }
    s.sh("mkdir real && ln -s real link && ln -s /etc out");
    s.coord(&["add", "--scope", "out", "--", "true"]).fails(2, "leads to /etc");
    let id =
        s.coord(&["add", "--scope", "link/x", "--scope", "link", "--", "true"]).line().to_owned();
    let spec = s.text(s.queue(&format!("tasks/{id}/spec.json")));
    assert!(spec.contains(r#""real""#), "{spec}");
}

#[test]
fn killed_while_it_enters_a_task_that_was_passed_over() {
    let mut s = sandbox();
    let gate = s.beside("gate");
    let wait = format!("while ! test -e {}; do sleep 0.01; done", gate.display());
    s.coord(&["add", "--id", "holder", "--scope", "a", "--sh", &wait]).ok();
    let holder = s.background(&["work", "--once"]);
    s.until_state("holder", "running");
    s.coord(&["add", "--id", "wide", "--scope", ".", "--", "true"]).ok();
    s.set("COORD_STEP", "scope.want:crash");
    let dies = s.background(&["work"]);
    s.set("COORD_STEP", "");
    // Each new task makes it look again, and pass over the wide one once more.
    let pid = dies.id().cast_signed();
    let mut count = 0;
    until("it has had enough", || {
        count += 1;
        s.coord(&["add", "--id", &format!("other{count}"), "--", "true"]);
        !crate::support::alive(pid)
    });
    s.collect(dies);
    std::fs::write(&gate, "").unwrap();
    s.collect(holder);
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.state("wide"), "done");
    s.coord(&["fsck", "--strict"]).ok();
}
