//! Every form, every mistake.

use super::*;
use proptest::prelude::*;

fn row(id: &str, state: &'static str, at_ms: u64) -> Row {
    Row { id: id.into(), state, at_ms, ..Row::default() }
}

fn rows() -> Vec<Row> {
    vec![
        Row { wave: Some(1), labels: vec!["api".into()], ..row("W-10", "ready", 5) },
        Row { wave: Some(1), role: "tester".into(), ..row("W-2", "failed", 9) },
        Row { wave: Some(2), labels: vec!["ui".into()], ..row("W-3", "done", 1) },
        Row { worker: "w2-7zk3".into(), ..row("12", "running", 2) },
        row("14", "failed", 3),
        row("20", "held", 4),
        row("build-api", "ready", 9),
    ]
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn ids(text: &str) -> String {
    select(&words(text), &[], &rows()).unwrap().join(" ")
}

fn fails(text: &str) -> (Exit, String) {
    let error = select(&words(text), &[], &rows()).unwrap_err();
    (error.exit, format!("{} ({})", error.message, error.hint.unwrap()))
}

#[test]
fn every_form() {
    assert_eq!(ids("12"), "12");
    assert_eq!(ids("W-10 W-2 12"), "12 W-2 W-10");
    assert_eq!(ids("20,12-14 12"), "12 14 20");
    assert_eq!(ids("build"), "build-api");
    assert_eq!(ids("last"), "build-api");
    assert_eq!(ids("all"), "12 14 20 W-2 W-3 W-10 build-api");
    assert_eq!(ids("@failed"), "14 W-2");
    assert_eq!(ids("@failed,@held"), "14 20 W-2");
    assert_eq!(ids("@cancelled"), "");
    assert_eq!(ids("wave:1"), "W-2 W-10");
    assert_eq!(ids("wave:1,2"), "W-2 W-3 W-10");
    assert_eq!(ids("role:tester"), "W-2");
    assert_eq!(ids("role:default wave:1"), "12 14 20 W-2 W-3 W-10 build-api");
    assert_eq!(ids("label:api,ui"), "W-3 W-10");
    assert_eq!(ids("worker:w2"), "12");
    assert_eq!(ids("worker:w2-7zk3"), "12");
    assert_eq!(ids(""), "");
}

#[test]
fn exclusion() {
    let left = select(&words("all"), &words("@failed wave:2 12"), &rows()).unwrap();
    assert_eq!(left.join(" "), "20 W-10 build-api");
    let error = select(&words("all"), &words("W-99"), &rows()).unwrap_err();
    assert_eq!(error.exit, Exit::NotFound);
}

#[test]
fn mistakes() {
    for (text, exit, says) in [
        ("W-4", Exit::NotFound, "no task `W-4` (did you mean `W-2`?)"),
        ("zzzzzz", Exit::NotFound, "(coord ls)"),
        ("failed", Exit::NotFound, "(did you mean `@failed`?)"),
        ("W", Exit::Usage, "it may be W-2, W-3, W-10"),
        ("1", Exit::NotFound, "no task `1`"),
        ("W-1", Exit::NotFound, "no task `W-1`"),
        ("15-19", Exit::NotFound, "no task in `15-19`"),
        ("14-12", Exit::Usage, "write 12-14"),
        ("@faild", Exit::Usage, "did you mean `@failed`?"),
        ("@nonsense", Exit::Usage, "the states are @failed @ready"),
        ("rol:x", Exit::Usage, "did you mean `role:x`?"),
        ("planet:x", Exit::Usage, "`wave`, `role`, `label` or `worker`"),
        ("wave:x", Exit::Usage, "not the number of a wave"),
        ("12,,14", Exit::Usage, "empty part"),
    ] {
        let (code, message) = fails(text);
        assert_eq!(code, exit, "{text}");
        assert!(message.contains(says), "{text}: {message}");
    }
    let error = select(&words("last"), &[], &[]).unwrap_err();
    assert_eq!(error.exit, Exit::NotFound);
}

#[test]
fn an_id_comes_before_what_it_looks_like() {
    let rows = vec![row("1-3", "done", 0), row("2", "done", 0), row("W", "done", 0)];
    assert_eq!(select(&words("1-3"), &[], &rows).unwrap(), ["1-3"]);
    assert_eq!(select(&words("W"), &[], &rows).unwrap(), ["W"]);
}

#[test]
fn plain_ids_need_no_list() {
    assert_eq!(exact_ids(&words("12,W-2 12")), Some(words("12 W-2")));
    assert_eq!(exact_ids(&[]), Some(vec![]));
    for other in ["12-14", "@failed", "all", "last", "wave:1", "a,,b", "W-*", ""] {
        assert_eq!(exact_ids(&[other.to_owned()]), None, "{other}");
    }
}

proptest! {
    #[test]
    fn any_word_is_answered(word in "[W0-9@:,a-z-]{0,10}") {
        if let Ok(ids) = select(&[word], &[], &rows()) {
            prop_assert!(ids.iter().all(|id| rows().iter().any(|row| row.id == *id)));
            prop_assert!(ids.windows(2).all(|pair| natural_cmp(&pair[0], &pair[1]).is_lt()));
        }
    }
}
