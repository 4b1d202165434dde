//! Histories by hand: a good one, and each kind of bad one, which the checker must refuse.

use super::*;
use crate::chaos::witness::parse;

/// A history: tasks as `ID` or `ID<DEPENDENCY`, what the jobs wrote, and what the queue answers as
/// `ID STATE VERDICT…`.
struct History {
    wanted: Vec<Wanted>,
    perhaps: Vec<Wanted>,
    witness: Witness,
    answers: Answers,
}

fn tasks(text: &str) -> Vec<Wanted> {
    let one = |word: &str| {
        let (id, after) = word.split_once('<').unwrap_or((word, ""));
        let after = after.split('<').filter(|a| !a.is_empty()).map(str::to_owned).collect();
        Wanted { id: id.to_owned(), after, escapes: false }
    };
    text.split_whitespace().map(one).collect()
}

fn history(wanted: &str, lines: &[&str], answers: &[&str]) -> History {
    let lines: Vec<Line> = lines.iter().map(|l| parse(l).unwrap()).collect();
    let attempts: HashSet<String> = lines.iter().map(|l| format!("{}.{}", l.id, l.n)).collect();
    let answer = |text: &&str| {
        let words: Vec<&str> = text.split(' ').collect();
        let attempts = words[2..].iter().zip(1..).map(|(verdict, attempt)| {
            let end = End {
                verdict: (*verdict).to_owned(),
                holder: format!("w{attempt}"),
                ended: "2026-01-01T00:00:10.000Z".to_owned(),
            };
            Attempt { attempt, end: (*verdict != "-").then_some(end) }
        });
        let (id, state) = (words[0].to_owned(), words[1].to_owned());
        Answer { id, state, attempts: attempts.collect() }
    };
    History {
        wanted: tasks(wanted),
        perhaps: Vec::new(),
        witness: Witness { lines, bad: Vec::new(), attempts: attempts.into_iter().collect() },
        answers: Answers { tasks: answers.iter().map(answer).collect() },
    }
}

impl History {
    fn report(&self) -> Report {
        check(&self.wanted, &self.perhaps, &self.witness, &self.answers, &[])
    }

    /// The only kind of fault there is, and what is said of it.
    #[track_caller]
    fn refused(&self, kind: Kind, says: &str) {
        let faults = self.report().faults;
        assert!(
            faults.iter().any(|f| f.kind == kind && f.what.contains(says)),
            "no {kind:?} that says {says:?}: {faults:?}"
        );
    }
}

const GOOD: [&str; 8] = [
    "a 1 start",
    "a 1 deed",
    "a 2 start",
    "a 2 deed",
    "a 2 end",
    "b 1 start",
    "b 1 deed",
    "b 1 end",
];

#[test]
fn a_good_history_passes() {
    let report = history("a b<a", &GOOD, &["a done expired done", "b done done"]).report();
    assert_eq!(report.faults, []);
    assert_eq!((report.tasks, report.once, report.attempts), (2, 2, 3));
}

#[test]
fn a_task_that_is_not_there_is_lost() {
    let lines = &GOOD[..5];
    history("a b<a", lines, &["a done expired done"]).refused(Kind::Lost, "is not there");
}

#[test]
fn what_nobody_acknowledged_may_be_absent_or_done_but_nothing_between() {
    let mut some = history("a", &GOOD[..5], &["a done expired done"]);
    some.perhaps = tasks("p");
    assert_eq!(some.report().faults, []);
    some.answers.tasks.extend(history("", &[], &["p ready"]).answers.tasks);
    some.refused(Kind::Lost, "it is ready, not done");
    let mut ran = history("", &["p 1 start", "p 1 end"], &[]);
    ran.perhaps = tasks("p");
    ran.refused(Kind::Lost, "it ran, and is not there");
}

#[test]
fn a_task_that_is_not_done_is_lost() {
    let lines = ["a 1 start", "a 1 deed"];
    history("a", &lines, &["a running -"]).refused(Kind::Lost, "not done");
    history("a", &lines, &["a running -"]).refused(Kind::Lost, "never ended");
    history("a", &lines, &["a done expired"]).refused(Kind::Lost, "without an attempt");
}

#[test]
fn an_accepted_attempt_must_have_done_its_work() {
    let lines = ["a 1 start", "a 1 deed"];
    history("a", &lines, &["a done done"]).refused(Kind::Lost, "its job never ended");
    history("a", &[], &["a done done"]).refused(Kind::Lost, "its job never ended");
}

#[test]
fn a_deed_after_the_next_attempt_began_is_doubled() {
    let lines = ["a 1 start", "a 2 start", "a 1 deed", "a 2 end"];
    let history = history("a", &lines, &["a done expired done"]);
    history.refused(Kind::Doubled, "after attempt 2 had begun");
    assert_eq!(history.report().count(Kind::Doubled), 1);
    assert_eq!(history.report().once, 0);
}

#[test]
fn a_deed_after_what_comes_after_began_is_doubled() {
    let lines = ["a 1 start", "a 1 end", "b 1 start", "a 1 deed", "b 1 end"];
    history("a b<a", &lines, &["a done done", "b done done"])
        .refused(Kind::Doubled, "after what comes after it");
}

#[test]
fn an_attempt_that_begins_twice_is_doubled() {
    let lines = ["a 1 start", "a 1 start", "a 1 end"];
    history("a", &lines, &["a done done"]).refused(Kind::Doubled, "begun twice");
    let lines = ["a 1 start", "a 1 twice", "a 1 end"];
    history("a", &lines, &["a done done"]).refused(Kind::Doubled, "begun twice");
    let lines = ["a 1 deed", "a 1 end"];
    history("a", &lines, &["a done done"]).refused(Kind::Doubled, "without having begun");
}

#[test]
fn two_accepted_attempts_are_doubled() {
    let lines = ["a 1 start", "a 1 end", "a 2 start", "a 2 end"];
    history("a", &lines, &["a done done done"]).refused(Kind::Doubled, "all accepted");
    history("a", &lines, &["a done done expired"]).refused(Kind::Doubled, "had been accepted");
    history("a", &lines, &["a done done"]).refused(Kind::Doubled, "the queue knows none");
}

#[test]
fn a_task_that_begins_too_early_is_seen() {
    let lines = ["a 1 start", "b 1 start", "a 1 end", "b 1 end"];
    history("a b<a", &lines, &["a done done", "b done done"]).refused(Kind::Early, "before a");
    // The end of an attempt that was not accepted is not that of the task.
    let lines = ["a 1 start", "a 1 end", "b 1 start", "a 2 start", "a 2 end", "b 1 end"];
    history("a b<a", &lines, &["a done expired done", "b done done"])
        .refused(Kind::Early, "before a");
}

#[test]
fn answers_that_fit_nothing_are_strange() {
    let lines = ["a 1 start", "a 1 end"];
    history("a", &lines, &["a done done", "a done done"]).refused(Kind::Strange, "twice");
    history("", &lines, &["a done done"]).refused(Kind::Strange, "nobody has asked");
    history("", &lines, &[]).refused(Kind::Strange, "it ran");
}

#[test]
fn the_files_of_the_attempts_must_fit_the_order() {
    let mut more = history("a", &["a 1 start", "a 1 end"], &["a done done"]);
    more.witness.attempts.push("a.2".to_owned());
    more.refused(Kind::Strange, "never wrote that it began");
    let mut less = history("a", &["a 1 start", "a 1 end"], &["a done done"]);
    less.witness.attempts.clear();
    less.refused(Kind::Strange, "left no file");
    // Killed right after its first line.
    let lines = ["a 1 start", "a 2 start", "a 2 end"];
    let mut killed = history("a", &lines, &["a done expired done"]);
    killed.witness.attempts = vec!["a.2".to_owned()];
    assert_eq!(killed.report().faults, []);
}

#[test]
fn recoveries_are_those_of_killed_workers() {
    let history = history("a", &GOOD[..5], &["a done expired done"]);
    let death =
        |wid: &str, at: &str| Death { wid: wid.to_owned(), at_ms: parse_rfc3339(at).unwrap() };
    // w2 held what was done: that was no recovery.
    let deaths = [death("w1", "2026-01-01T00:00:09.500Z"), death("w2", "2026-01-01T00:00:01.000Z")];
    let report = check(&history.wanted, &[], &history.witness, &history.answers, &deaths);
    assert_eq!(report.recoveries_ms, [500]);
}
