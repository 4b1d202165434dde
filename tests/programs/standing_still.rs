//! What stands still says so, and what to do: NEEDS YOU of `coord status`, and `coord why`.

use crate::support::{Sandbox, until};

/// The row of NEEDS YOU about `id`, or nothing.
fn row(s: &Sandbox, id: &str) -> String {
    let status = s.coord(&["status"]);
    let rows = status.ok().stdout.lines().skip_while(|line| !line.starts_with("NEEDS YOU"));
    let mut rows = rows.skip(1).take_while(|line| line.starts_with("  "));
    rows.find(|line| line.split_whitespace().next() == Some(id)).unwrap_or_default().to_owned()
}

#[track_caller]
fn says(s: &Sandbox, id: &str, words: &[&str]) {
    let row = row(s, id);
    for word in words {
        assert!(row.contains(word), "{id}: {row:?} lacks {word:?}");
    }
}

#[test]
fn what_only_a_person_can_end_is_a_row_with_what_to_type() {
    let s = Sandbox::new();
    s.add(&["--id", "H", "--hold"], "true");
    s.add(&["--id", "C"], "true");
    s.add(&["--id", "after-C", "--after", "C"], "true");
    s.coord(&["cancel", "C"]).ok();
    s.add(&["--id", "after-X", "--after", "X"], "true");
    s.add(&["--id", "also-after-X", "--after", "X"], "true");
    s.coord(&["pause"]).ok();
    says(&s, "H", &["held", "coord release H"]);
    says(&s, "C", &["after-C waits for it, and it was cancelled", "coord retry C"]);
    says(&s, "X", &["and 1 more wait for it, and it does not exist", "coord add --id X"]);
    says(&s, "pause", &["control/pause", "coord resume"]);
    s.coord(&["resume"]).ok();
    assert_eq!(row(&s, "pause"), "");
    let needs = s.coord(&["status", "--json"]).json("coord.status/1")["needs_you"].clone();
    assert_eq!(needs.as_array().map(Vec::len), Some(3), "{needs}");
    // Each hint does what it promises.
    s.coord(&["release", "H"]).ok();
    s.coord(&["retry", "C"]).ok();
    s.add(&["--id", "X"], "true");
    s.coord(&["work", "--until-empty"]).ok();
    s.coord(&["status"]).ok().silent_about("NEEDS YOU");
}

#[test]
fn tasks_that_wait_for_each_other_are_told() {
    let s = Sandbox::new();
    s.add(&["--id", "A", "--after", "B"], "true");
    // The check at submission sees it; two at once may not.
    let spec = s.text(".coord/tasks/A/spec.json").replace("\"B\"", "\"A\"");
    std::fs::create_dir(s.queue("tasks/B")).unwrap();
    std::fs::write(s.queue("tasks/B/spec.json"), spec).unwrap();
    s.coord(&["fsck", "--repair"]).exits(1).says("cycle");
    says(&s, "A", &["cycle", "wait for each other", "coord cancel"]);
}

#[test]
fn a_role_or_label_that_nobody_serves_is_told_once_somebody_works() {
    let s = Sandbox::new();
    s.add(&["--id", "R", "--role", "painter"], "true");
    s.add(&["--id", "L", "--needs", "gpu"], "true");
    assert_eq!((row(&s, "painter"), row(&s, "gpu")), (String::new(), String::new()));
    let mut tester = s.background(&["work", "--role", "tester"]);
    until("it is told", || row(&s, "painter").contains("coord scale 1 --role painter"));
    assert_eq!(s.state("R"), "ready");
    tester.kill().unwrap();
    tester.wait().unwrap();
    let mut any = s.background(&["work"]);
    until("it is told", || row(&s, "gpu").contains("coord work --label gpu"));
    s.coord(&["why", "L"]).ok().says("has label gpu").says("coord work --label gpu");
    until("what it can do is done", || s.state("R") == "done");
    let mut with_label = s.background(&["work", "--label", "gpu"]);
    until("the hint helps", || s.state("L") == "done");
    for worker in [&mut any, &mut with_label] {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
}

#[test]
fn a_note_goes_with_its_reason() {
    let s = Sandbox::new();
    s.add(&["--id", "T"], "true");
    s.coord(&["pause"]).ok();
    let mut worker = s.background(&["work"]);
    until("it says that it is paused", || s.coord(&["status"]).stdout.contains(": paused"));
    s.coord(&["resume"]).ok();
    s.until_state("T", "done");
    s.coord(&["status"]).ok().silent_about(": paused");
    worker.kill().unwrap();
    worker.wait().unwrap();
    // Also where nobody is left who would see that it has passed.
    s.coord(&["pause"]).ok();
    let mut worker = s.background(&["work"]);
    until("it says that it is paused", || s.coord(&["status"]).stdout.contains(": paused"));
    worker.kill().unwrap();
    worker.wait().unwrap();
    s.coord(&["resume"]).ok();
    s.coord(&["status"]).ok().silent_about(": paused");
}

#[test]
fn a_dismissed_row_is_gone_until_it_happens_anew() {
    let s = Sandbox::new();
    s.add(&["--id", "F", "--retries", "0"], "false");
    s.coord(&["work", "--until-empty"]).exits(1);
    let registers = s.names("tasks/F");
    says(&s, "F", &["failed"]);
    s.coord(&["dismiss", "F"]).ok();
    assert_eq!(row(&s, "F"), "");
    assert_eq!(s.names("tasks/F"), registers, "no register of it changes");
    assert_eq!(s.state("F"), "failed");
    s.coord(&["fsck", "--strict"]).ok();
    s.coord(&["dismiss", "F"]).ok();
    s.coord(&["dismiss", "nobody"]).fails(4, "NEEDS YOU has no row `nobody`");
    s.coord(&["retry", "F"]).ok();
    s.coord(&["work", "--until-empty"]).exits(1);
    says(&s, "F", &["failed"]);
}

#[test]
fn workers_of_a_start_offer_its_labels() {
    let s = Sandbox::new();
    s.add(&["--id", "L", "--needs", "gpu", "--needs", "big"], "true");
    s.coord(&["start", "-n", "1", "--label", "gpu", "--label", "big"]).ok();
    s.until_state("L", "done");
    s.coord(&["stop", "--timeout", "20s"]).ok();
}

#[test]
fn why_goes_to_the_root_of_a_chain() {
    let s = Sandbox::new();
    s.add(&["--id", "root", "--retries", "0"], "false");
    s.add(&["--id", "middle", "--after", "root"], "true");
    s.add(&["--id", "leaf", "--after", "middle"], "true");
    s.coord(&["work", "--until-empty"]).exits(1);
    let why = s.coord(&["why", "leaf"]);
    why.ok().says("middle is not done yet").says("middle waits: root failed");
    why.says("tasks/root/1.out/log").says("next: coord retry root");
    s.add(&["--id", "held", "--hold"], "true");
    s.add(&["--id", "after-held", "--after", "held"], "true");
    s.coord(&["why", "after-held"]).ok().says("next: coord release held");
    s.coord(&["pause"]).ok();
    s.add(&["--id", "ready"], "true");
    s.coord(&["why", "ready"]).ok().says("control/pause");
}
