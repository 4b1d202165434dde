//! Which task comes next, and what a failure, a cancel, a hold or a limit does to it.

use crate::support::{Sandbox, until};

/// A job that leaves its id in the file `order`.
const NOTE: &str = "echo $COORD_TASK_ID >> order";

fn order(s: &Sandbox) -> Vec<String> {
    s.lines("order")
}

#[test]
fn smaller_priorities_first_then_first_in_first_out() {
    let s = Sandbox::new();
    for (id, priority) in
        [("a", "50"), ("b", "50"), ("c", "10"), ("d", "99"), ("e", "0"), ("f", "50")]
    {
        s.add(&["--id", id, "-p", priority], NOTE);
    }
    s.work().ok();
    assert_eq!(order(&s), ["e", "c", "a", "b", "f", "d"]);
}

#[test]
fn dependencies_are_done_before_in_a_chain_and_in_a_diamond() {
    let s = Sandbox::new();
    // The last ones are added first, and with the best priority.
    s.add(&["--id", "bottom", "-a", "left,right", "-p", "0"], NOTE);
    s.add(&["--id", "right", "-a", "top", "-p", "20"], NOTE);
    s.add(&["--id", "left", "-a", "top", "-p", "10"], NOTE);
    s.coord(&["add", "--id", "top", "-a", "root", "-p", "90", "--sh", NOTE])
        .ok()
        .warns("no task root yet");
    s.coord(&["why", "top"]).ok().says("root does not exist yet");
    s.add(&["--id", "root", "-p", "99"], NOTE);
    s.work().ok();
    assert_eq!(order(&s), ["root", "top", "left", "right", "bottom"]);
}

#[test]
fn after_a_finished_task_nothing_waits() {
    let s = Sandbox::new();
    s.add(&["--id", "A"], NOTE);
    s.work().ok();
    s.add(&["--id", "B", "-a", "A"], NOTE);
    s.add(&["--id", "C", "-a", "A@pass"], NOTE);
    assert_eq!((s.state("B"), s.state("C")), ("ready".to_owned(), "ready".to_owned()));
    s.work().ok();
    assert_eq!(order(&s), ["A", "B", "C"]);
}

#[test]
fn a_cycle_and_an_unknown_number_are_refused() {
    let s = Sandbox::new();
    s.add(&["--id", "A", "-a", "C"], "true");
    s.add(&["--id", "B", "-a", "A"], "true");
    s.coord(&["add", "--id", "C", "-a", "B", "--sh", "true"])
        .fails(2, "dependency cycle: ")
        .warns("A")
        .warns("B");
    s.coord(&["add", "--id", "D", "-a", "D", "--sh", "true"]).fails(2, "the task itself");
    s.coord(&["add", "-a", "17", "--sh", "true"]).fails(4, "no task 17 to come after");
    s.coord(&["show", "C"]).fails(4, "C");
    s.add(&["--id", "C"], "true");
    s.work().ok();
}

#[test]
fn what_happens_after_a_failed_dependency_is_chosen() {
    let s = Sandbox::new();
    s.add(&["--id", "D", "--retries", "0"], "[ -e mended ]");
    s.add(&["--id", "blocks", "-a", "D"], NOTE);
    s.add(&["--id", "cancels", "-a", "D", "--on-dep-dead", "cancel"], NOTE);
    s.add(&["--id", "follows", "-a", "cancels", "--on-dep-dead", "cancel"], NOTE);
    s.add(&["--id", "runs", "-a", "D", "--on-dep-dead", "run"], NOTE);
    s.work().exits(1);
    let states = |ids: &[&str]| -> Vec<String> { ids.iter().map(|id| s.state(id)).collect() };
    let ids = ["D", "blocks", "cancels", "follows", "runs"];
    assert_eq!(states(&ids), ["failed", "blocked", "cancelled", "cancelled", "done"]);
    // Its retry revives what was cancelled because of it, and what was cancelled because of that.
    std::fs::write(s.root.join("mended"), "").unwrap();
    s.coord(&["retry", "D"]).ok().says("D");
    assert_eq!(states(&["D", "cancels", "follows"]), ["ready", "blocked", "blocked"]);
    s.work().ok();
    assert_eq!(states(&["D", "blocks", "cancels", "follows"]), ["done"; 4]);
    assert_eq!(order(&s).iter().filter(|id| *id == "runs").count(), 1, "and nothing ran twice");
}

#[test]
fn a_retry_revives_also_what_was_added_after_the_failure() {
    let s = Sandbox::new();
    s.add(&["--id", "D", "--retries", "0"], "[ -e mended ]");
    s.work().exits(1);
    s.add(&["--id", "late", "-a", "D", "--on-dep-dead", "cancel"], NOTE);
    assert_eq!(s.state("late"), "cancelled");
    std::fs::write(s.root.join("mended"), "").unwrap();
    s.coord(&["retry", "D"]).ok();
    s.work().ok();
    assert_eq!(s.state("late"), "done");
}

#[test]
fn a_failure_is_tried_again_after_its_back_off_until_no_attempt_is_left() {
    let s = Sandbox::new();
    s.add(
        &["--id", "T", "--retries", "2", "--backoff", "100ms"],
        "echo try $COORD_ATTEMPT; exit 7",
    );
    let worked = s.work();
    worked.exits(1).warns("T.3 fail: exit 7");
    assert_eq!(s.state("T"), "failed");
    for (n, retry) in [(1, true), (2, true), (3, false)] {
        let end = s.end("T", n);
        assert_eq!(
            (&end["verdict"], &end["retry"], &end["charged"]),
            (&"fail".into(), &retry.into(), &n.into())
        );
        assert_eq!(end["not_before"].is_string(), retry, "{end}");
        assert_eq!(end["context"], format!("try {n}\n"));
    }
    let (second, first) = (s.end("T", 2), s.end("T", 1));
    let (due, started) =
        (first["not_before"].as_str().unwrap(), second["started"].as_str().unwrap());
    assert!(started >= due, "attempt 2 started at {started}, due at {due}");
    // One more, with a note that it can read.
    s.coord(&["retry", "T", "--note", "mind the gap"]).ok();
    s.coord(&["context", "T"]).ok().says("mind the gap").says("try 3").says("exit 7");
    s.work().exits(1);
    assert!(s.queue("tasks/T/4.end").exists());
    assert_eq!(s.state("T"), "failed");
}

#[test]
fn retry_does_not_wait_for_the_back_off() {
    let s = Sandbox::new();
    s.add(&["--id", "T", "--backoff", "1h"], "[ $COORD_ATTEMPT = 2 ]");
    s.coord(&["work", "--once"]).exits(1);
    assert_eq!(s.state("T"), "delayed");
    s.coord(&["retry", "T"]).ok();
    s.coord(&["work", "--once"]).ok();
    assert_eq!(s.state("T"), "done");
}

#[test]
fn exit_75_is_not_charged_and_says_when_to_come_back() {
    let s = Sandbox::new();
    let line = "[ $COORD_ATTEMPT -gt 3 ] || { echo 0.1 > $COORD_OUT/retry-after; exit 75; }";
    s.add(&["--id", "T", "--retries", "0", "--backoff", "1h"], line);
    s.work().ok();
    assert_eq!(s.state("T"), "done");
    for n in 1..=3 {
        let end = s.end("T", n);
        assert_eq!((&end["verdict"], &end["charged"]), (&"release".into(), &0.into()));
    }
}

#[test]
fn exits_65_and_100_and_a_permanent_fail_are_not_tried_again() {
    let s = Sandbox::new();
    s.add(&["--id", "X65"], "exit 65");
    s.add(&["--id", "X100"], "exit 100");
    s.add(&["--id", "SAID"], "coord fail --permanent --reason 'no such field'; exit 0");
    s.add(&["--id", "AGAIN", "--retries", "1"], "coord fail --reason 'not yet'");
    s.work().exits(1);
    for (id, why) in [("X65", "exit 65"), ("X100", "exit 100"), ("SAID", "no such field")] {
        assert_eq!(s.state(id), "failed");
        assert_eq!((&s.end(id, 1)["why"], &s.end(id, 1)["retry"]), (&why.into(), &false.into()));
    }
    assert_eq!(s.end("AGAIN", 1)["retry"], true);
    assert_eq!(s.end("AGAIN", 2)["why"], "not yet");
}

#[test]
fn a_signal_and_a_command_that_is_not_there_are_failures_with_their_names() {
    let s = Sandbox::new();
    s.add(&["--id", "S", "--retries", "0"], "kill -SEGV $$");
    s.coord(&["add", "--id", "N", "--retries", "0", "--", "no-such-program"]).ok();
    s.work().exits(1);
    assert_eq!(s.end("S", 1)["why"], "signal SIGSEGV");
    let why = s.end("N", 1)["why"].as_str().unwrap().to_owned();
    assert!(why.contains("no-such-program"), "{why}");
}

#[test]
fn the_time_limit_ends_an_attempt_politely_and_then_for_sure() {
    let s = Sandbox::new();
    s.add(
        &["--id", "polite", "--limit", "200ms", "--retries", "0"],
        "trap 'echo bye; exit 1' TERM; sleep 1000 & wait",
    );
    s.add(
        &["--id", "deaf", "--limit", "200ms", "--retries", "0"],
        "trap '' TERM; echo $$ > pid; while :; do sleep 1; done",
    );
    s.work().exits(1);
    for id in ["polite", "deaf"] {
        assert_eq!((s.state(id).as_str(), &s.end(id, 1)["why"]), ("failed", &"time limit".into()));
    }
    s.coord(&["logs", "polite"]).ok().says("bye");
    let pid = s.text("pid").trim().parse().unwrap();
    assert!(!crate::support::alive(pid));
}

#[test]
fn cancel_asks_a_running_task_and_force_ends_it_at_once() {
    let s = Sandbox::new();
    s.start(1);
    s.add(&["--id", "soft"], "trap 'echo asked; exit 3' TERM; touch soft; sleep 1000 & wait");
    until("it runs", || s.root.join("soft").exists());
    s.coord(&["cancel", "soft", "--reason", "changed my mind"]).ok().warns("was asked to stop");
    s.until_state("soft", "cancelled");
    s.coord(&["logs", "soft"]).ok().says("asked");
    assert_eq!(s.end("soft", 1)["verdict"], "cancel");
    s.add(&["--id", "hard"], "trap '' TERM; echo $$ > hard; while :; do sleep 1; done");
    until("it runs", || !s.text("hard").is_empty());
    s.coord(&["cancel", "hard", "--force"]).ok();
    assert_eq!(s.state("hard"), "cancelled", "at once");
    let pid = s.text("hard").trim().parse().unwrap();
    until("its processes are gone", || !crate::support::alive(pid));
    // The worker is not harmed.
    let next = s.add(&[], "true");
    s.until_state(&next, "done");
    s.add(&["--id", "waits", "--hold"], "true");
    s.coord(&["cancel", "waits"]).ok();
    assert_eq!(s.state("waits"), "cancelled");
}

#[test]
fn hold_and_release() {
    let s = Sandbox::new();
    s.add(&["--id", "later", "--hold"], NOTE);
    s.add(&["--id", "held"], NOTE);
    s.add(&["--id", "free"], NOTE);
    s.coord(&["hold", "held"]).ok();
    s.coord(&["hold", "held", "later"]).ok();
    s.work().ok();
    assert_eq!(order(&s), ["free"]);
    s.coord(&["release", "later", "--dry-run"]).ok().says("would release later");
    s.coord(&["release", "later", "held"]).ok();
    s.work().ok();
    assert_eq!(order(&s).len(), 3);
    assert_eq!((s.state("later"), s.state("held")), ("done".to_owned(), "done".to_owned()));
}

#[test]
fn a_release_does_not_pass_by_dependencies_or_time() {
    let s = Sandbox::new();
    s.add(&["--id", "A", "--not-before", "1h"], NOTE);
    s.add(&["--id", "B", "--hold", "-a", "A"], NOTE);
    s.coord(&["hold", "A"]).ok();
    s.coord(&["hold", "B"]).ok();
    s.coord(&["release", "A", "B"]).ok();
    assert_eq!((s.state("A"), s.state("B")), ("delayed".to_owned(), "blocked".to_owned()));
    s.coord(&["work", "--once"]).exits(6);
}

#[test]
fn pause_stops_claims_and_resume_gives_them_free() {
    let s = Sandbox::new();
    s.coord(&["pause"]).ok();
    s.start(2);
    let id = s.add(&[], NOTE);
    s.coord(&["status"]).ok().says("PAUSED");
    s.coord(&["why", &id]).ok().says("control/pause is there").says("next: coord resume");
    s.coord(&["wait", "--timeout", "300ms"]).exits(124);
    assert_eq!(s.state(&id), "ready");
    s.coord(&["resume"]).ok();
    s.coord(&["wait", "--timeout", "20s"]).ok();
    s.coord(&["resume"]).ok().warns("nothing was paused");
}

#[test]
fn a_delayed_task_starts_after_its_time() {
    let s = Sandbox::new();
    s.add(&["--id", "T", "--not-before", "1s"], NOTE);
    assert_eq!(s.state("T"), "delayed");
    s.work().ok();
    let spec: serde_json::Value =
        serde_json::from_str(&s.text(".coord/tasks/T/spec.json")).unwrap();
    let end = s.end("T", 1);
    let (due, started) = (spec["not_before"].as_str().unwrap(), end["started"].as_str().unwrap());
    assert!(started >= due, "started at {started}, due at {due}");
}

#[test]
fn manual_tasks_wait_for_a_person_and_serve_their_dependents() {
    let s = Sandbox::new();
    s.coord(&["add", "--id", "M", "--manual", "sign"]).ok();
    s.add(&["--id", "next", "-a", "M"], "coord context > brief");
    s.coord(&["done", "next"]).fails(5, "next comes after M");
    s.work().ok();
    assert_eq!((s.state("M"), s.state("next")), ("manual".to_owned(), "blocked".to_owned()));
    std::fs::write(s.root.join("note.md"), "signed in blue\n").unwrap();
    s.coord(&["done", "M", "--handoff", "note.md", "--note", "ok"]).ok();
    s.work().ok();
    assert!(s.text("brief").contains("signed in blue"), "{}", s.text("brief"));
    s.coord(&["add", "--id", "N", "--manual", "pay"]).ok();
    s.coord(&["fail", "N", "--reason", "no money"]).ok();
    s.coord(&["why", "N"]).ok().says("no money");
}

#[test]
fn roles_and_needs_find_their_workers() {
    let s = Sandbox::new();
    s.add(&["--id", "any"], NOTE);
    s.add(&["--id", "test", "--role", "tester"], NOTE);
    s.add(&["--id", "gpu", "--needs", "gpu"], NOTE);
    s.coord(&["work", "--until-empty", "--role", "tester"]).ok();
    assert_eq!(order(&s), ["test"]);
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(order(&s), ["test", "any"]);
    s.coord(&["work", "--until-empty", "--label", "gpu"]).ok();
    assert_eq!(order(&s), ["test", "any", "gpu"]);
}

#[test]
fn nothing_starves_behind_what_is_more_urgent() {
    let s = Sandbox::new();
    s.add(&["--id", "old", "-p", "90"], "echo old >>order");
    for i in 0..20 {
        s.add(&["--id", &format!("u{i}"), "-p", "1"], "echo urgent >>order");
    }
    s.coord(&["work", "--max-tasks", "17"]).exits(0);
    let order = s.lines("order");
    assert_eq!(order.iter().position(|line| line == "old"), Some(15), "{order:?}");
}

#[test]
fn a_queue_has_one_durability() {
    let s = Sandbox::new();
    let says = |word: &str| s.text(".coord/layout.json").contains(&format!("\"{word}\""));
    assert!(says("process"));
    s.configure("[queue]\ndurability = \"full\"\n");
    // coord.toml wishes, the queue is: nobody goes on with two answers.
    s.coord(&["add", "--", "true"]).fails(2, "coord.toml says durability = \"full\"");
    s.coord(&["work", "--once"]).fails(2, "made with \"process\"");
    s.coord(&["init"]).ok().warns("durability changed: full");
    assert!(says("full"));
    let id = s.add(&[], "true");
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.state(&id), "done");
    s.coord(&["wait", &id]).ok();
    s.coord(&["fsck", "--strict"]).ok();
    // Not while a program runs that would go on as before.
    s.start(1);
    s.configure("");
    s.coord(&["init"]).fails(5, "the durability cannot be changed while");
    assert!(says("full"));
}
