//! What people hand in: dropped-in files, JSON lines, checklists, selectors.

use std::collections::{BTreeSet, HashSet};

use coord::plan::graph::find_cycle;
use coord::plan::jsonl::{self, parse_lines, parse_submission};
use coord::plan::markdown::{self, Checklist};
use coord::plan::selector::{Row, STATES, exact_ids, select};
use coord::plan::validate::validate;
use coord::queue::ids::{is_task_id, natural_cmp};
use coord::queue::record::{self, RECORD_MAX, Spec, to_bytes};
use serde_json::Value;

use super::records::use_spec;
use super::text;

/// What is accepted can be written, read by every program, and handed in again.
fn accepted(id: Option<&str>, spec: &Spec) {
    assert_eq!(validate(id, spec), Ok(()));
    use_spec(spec);
    let written = to_bytes(spec);
    assert!(written.len() < RECORD_MAX, "accepted, but nobody can read its record");
    assert_eq!(record::parse::<Spec>(&written).as_ref(), Ok(spec));
    assert_eq!(parse_submission(&written), Ok((None, spec.clone())));
}

/// A file dropped into `incoming/`.
pub fn incoming(bytes: &[u8]) {
    match parse_submission(bytes) {
        Ok((id, spec)) => accepted(id.as_deref(), &spec),
        Err(why) => assert!(!why.trim().is_empty()),
    }
}

/// One task as an object that can be handed in.
fn object(line: &jsonl::Line) -> Value {
    let mut value = serde_json::to_value(&line.spec).expect("a spec is written");
    if let (Some(id), Value::Object(all)) = (&line.id, &mut value) {
        all.insert("id".to_owned(), id.clone().into());
    }
    value
}

/// JSON lines, or an array.
pub fn jsonl(bytes: &[u8]) {
    let text = text(bytes);
    let lines = match parse_lines(&text, "f") {
        Ok(lines) => lines,
        Err(e) => return assert!(e.message.starts_with("f:") && e.hint.is_some(), "{e}"),
    };
    let body = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let count = serde_json::from_str::<Vec<Value>>(body).map_or_else(
        |_| serde_json::Deserializer::from_str(body).into_iter::<Value>().count(),
        |all| all.len(),
    );
    assert_eq!(lines.len(), count, "a task was lost");
    assert!(lines.is_sorted_by_key(|line| line.line));
    let last = text.matches('\n').count() + 1;
    assert!(lines.iter().all(|line| (1..=last).contains(&line.line)));
    let ids: Vec<&String> = lines.iter().filter_map(|line| line.id.as_ref()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "an id occurs twice");
    for line in &lines {
        accepted(line.id.as_deref(), &line.spec);
    }
    let objects: Vec<Value> = lines.iter().map(object).collect();
    let told = |text: &str| {
        let lines = parse_lines(text, "f").expect("what was written is read");
        lines.into_iter().map(|line| (line.id, line.spec)).collect::<Vec<_>>()
    };
    let meant: Vec<_> = lines.into_iter().map(|line| (line.id, line.spec)).collect();
    let one_a_line: Vec<String> = objects.iter().map(Value::to_string).collect();
    assert_eq!(told(&one_a_line.join("\n")), meant);
    assert_eq!(told(&serde_json::to_string_pretty(&objects).expect("it is written")), meant);
}

/// A checklist.
pub fn markdown(bytes: &[u8]) {
    let text = text(bytes);
    let list = match markdown::parse(&text, "f") {
        Ok(list) => list,
        Err(e) => return assert!(e.message.starts_with("f:") && e.hint.is_some(), "{e}"),
    };
    let last = text.lines().count();
    assert!(list.items.is_sorted_by(|a, b| a.line < b.line));
    assert!(list.items.iter().all(|item| (1..=last).contains(&item.line)));
    let ids: Vec<&String> = list.items.iter().filter_map(|item| item.id.as_ref()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "an id occurs twice");
    for (at, item) in list.items.iter().enumerate() {
        accepted(item.id.as_deref(), &item.spec);
        assert!(item.parent.is_none_or(|parent| parent < at));
        assert!(item.needs.iter().all(|need| need.item < list.items.len() && need.item != at));
        assert!(item.spec.after.iter().all(|on| !ids.contains(&on)));
    }
    waits_for_parts(&list);
    let after = |at: &str| -> Vec<String> {
        let at: usize = at.parse().expect("a place");
        list.items[at].needs.iter().map(|need| need.item.to_string()).collect()
    };
    assert!((0..list.items.len()).all(|at| find_cycle(&at.to_string(), after).is_none()));
    assert!(list.unknown.iter().all(|(line, on)| *line <= last && is_task_id(on)));
    // Line ends of another system, and words for people below, mean nothing.
    if !text.contains('\r') {
        let other = markdown::parse(&text.replace('\n', "\r\n"), "f");
        assert_eq!(other.expect("it is read with other line ends"), list);
    }
    let longer = markdown::parse(&format!("{text}\n\nThat is all.\n"), "f");
    assert_eq!(longer.expect("it is read with words below"), list);
}

/// An item waits for its parts, once all have ids.
fn waits_for_parts(list: &Checklist) {
    let number = |at| Some(format!("n-{at}"));
    let ids: Vec<Option<String>> = (0..list.items.len()).map(number).collect();
    for (at, item) in list.items.iter().enumerate() {
        let after = item.after(&ids);
        assert_eq!(after.iter().collect::<HashSet<_>>().len(), after.len(), "{after:?}");
        if let Some(parent) = item.parent {
            assert!(list.items[parent].after(&ids).contains(&format!("n-{at}")));
        }
    }
}

fn rows() -> Vec<Row> {
    let ids = ["1", "2", "12", "14", "18", "W-1", "W-2", "W-10", "all-of", "api", "last.1", "7-9"];
    let row = |(at, id): (usize, &str)| Row {
        id: id.to_owned(),
        state: STATES[at % STATES.len()],
        wave: (at % 3 > 0).then_some(3),
        role: if at % 2 == 0 { String::new() } else { "tester".to_owned() },
        labels: vec!["api".to_owned(), "ui".to_owned()],
        worker: if at % 4 == 0 { "w2-7zk3".to_owned() } else { String::new() },
        at_ms: at as u64,
    };
    ids.into_iter().enumerate().map(row).collect()
}

/// Selectors, a word a line; what follows an empty line is excluded.
pub fn selector(bytes: &[u8]) {
    let text = text(bytes);
    let (words, exclude) = text.split_once("\n\n").unwrap_or((&text, ""));
    let list = |text: &str| text.lines().map(str::to_owned).collect::<Vec<String>>();
    let (words, exclude) = (list(words), list(exclude));
    let rows = rows();
    let known: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    if let Some(ids) = exact_ids(&words) {
        assert!(ids.iter().all(|id| is_task_id(id)));
        if ids.iter().all(|id| known.contains(id.as_str())) {
            let mut ids = ids;
            ids.sort_by(|a, b| natural_cmp(a, b));
            assert_eq!(select(&words, &[], &rows).ok(), Some(ids), "ids mean themselves");
        }
    }
    let chosen = match select(&words, &[], &rows) {
        Ok(chosen) => chosen,
        Err(e) => return assert!(e.hint.is_some(), "{e}"),
    };
    assert!(chosen.is_sorted_by(|a, b| natural_cmp(a, b).is_lt()));
    assert!(chosen.iter().all(|id| known.contains(id.as_str())));
    let mut backwards = words.clone();
    backwards.reverse();
    assert_eq!(select(&backwards, &[], &rows).ok().as_ref(), Some(&chosen), "the order of words");
    for word in &words {
        let alone = select(std::slice::from_ref(word), &[], &rows).expect("a word of many");
        assert!(alone.iter().all(|id| chosen.contains(id)), "{word:?} alone selects more");
    }
    assert_eq!(select(&words, &words, &rows).ok(), Some(Vec::new()));
    if let (Ok(out), Ok(left)) = (select(&exclude, &[], &rows), select(&words, &exclude, &rows)) {
        let fits = |id: &&String| !out.contains(id);
        assert_eq!(left, chosen.iter().filter(fits).cloned().collect::<Vec<_>>());
    }
}
