//! Selectors: the one grammar by which every verb names tasks.
//!
//! `12` · `W-2` · `12,14-18` · a prefix that only one id has · `last` · `all` · `@failed` and the
//! other states · `wave:3` · `role:tester` · `label:api` · `worker:w2`. Several are united. A comma
//! after a key goes on with that key: `label:api,ui` are two labels.
//!
//! What is exactly a task's id means that task; only then is anything else tried.

use std::collections::HashSet;

use super::suggest::{either, nearest};
use crate::error::{Error, Exit, Result};
use crate::queue::ids::{is_number, is_task_id, natural_cmp, short};

/// The states that can be selected by, with `@` before them.
pub const STATES: [&str; 9] =
    ["failed", "ready", "running", "blocked", "delayed", "held", "manual", "done", "cancelled"];

const KEYS: [&str; 4] = ["wave", "role", "label", "worker"];

/// What a selector looks at of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// Its state, as people see it: one of `STATES`.
    pub state: String,
    /// Its wave.
    pub wave: Option<u32>,
    /// Its role; empty means `default`.
    pub role: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// Who runs it, if anybody: a process id or its short form.
    pub worker: String,
    /// When it was submitted, in milliseconds since 1970; `last` is the largest.
    pub at_ms: u64,
}

/// The ids that the words name, less those that `exclude` names, in natural order. No word selects
/// nothing.
///
/// # Errors
/// `NotFound` for an id that no task has, `Usage` for what is no selector or not unique; in
/// `exclude` as well, where a slip of the pen would otherwise select too much.
pub fn select(words: &[String], exclude: &[String], rows: &[Row]) -> Result<Vec<String>> {
    let mut chosen = union(words, rows)?;
    for id in union(exclude, rows)? {
        chosen.remove(id);
    }
    let mut ids: Vec<String> = chosen.into_iter().map(str::to_owned).collect();
    ids.sort_by(|a, b| natural_cmp(a, b));
    Ok(ids)
}

/// The ids, when every word is a plain id, each once and in the order given: there is no need to
/// list the queue then. One of them may still be the prefix of an id, so a caller who finds no such
/// task goes on to `select`. `None` for ranges, states, keys, `last` and `all`.
pub fn exact_ids(words: &[String]) -> Option<Vec<String>> {
    let mut ids: Vec<String> = Vec::new();
    for part in words.iter().flat_map(|word| word.split(',')) {
        if !is_task_id(part) || matches!(part, "all" | "last") || range(part).is_some() {
            return None;
        }
        if !ids.iter().any(|id| id == part) {
            ids.push(part.to_owned());
        }
    }
    Some(ids)
}

fn union<'a>(words: &[String], rows: &'a [Row]) -> Result<HashSet<&'a str>> {
    let mut chosen = HashSet::new();
    for word in words {
        let mut key = None;
        for part in word.split(',') {
            if part.is_empty() {
                return Err(Error::usage(format!("`{word}` has an empty part"))
                    .hint("write ids with a comma and no space between them: 12,14-18"));
            }
            let found = match part.split_once(':') {
                Some((name, value)) => {
                    key = Some(name);
                    by_key(name, value, rows)?
                }
                None if part.starts_with('@') => by_state(part, rows)?,
                None => match key {
                    Some(name) => by_key(name, part, rows)?,
                    None => by_name(part, rows)?,
                },
            };
            chosen.extend(found);
        }
    }
    Ok(chosen)
}

fn matching<'a>(rows: &'a [Row], fits: impl Fn(&Row) -> bool) -> Vec<&'a str> {
    rows.iter().filter(|row| fits(row)).map(|row| row.id.as_str()).collect()
}

fn by_state<'a>(part: &str, rows: &'a [Row]) -> Result<Vec<&'a str>> {
    let state = &part[1..];
    if STATES.contains(&state) {
        return Ok(matching(rows, |row| row.state == state));
    }
    let hint = nearest(state, STATES).map_or_else(
        || format!("the states are {}", STATES.map(|s| format!("@{s}")).join(" ")),
        |near| format!("did you mean `@{near}`?"),
    );
    Err(Error::usage(format!("there is no state `{part}`")).hint(hint))
}

fn by_key<'a>(key: &str, value: &str, rows: &'a [Row]) -> Result<Vec<&'a str>> {
    let found = match key {
        "wave" => {
            let Ok(wave) = value.parse::<u32>() else {
                return Err(Error::usage(format!("`{value}` is not the number of a wave"))
                    .hint("write wave:3"));
            };
            matching(rows, |row| row.wave == Some(wave))
        }
        "role" => {
            matching(rows, |row| row.role == value || (row.role.is_empty() && value == "default"))
        }
        "label" => matching(rows, |row| row.labels.iter().any(|label| label == value)),
        "worker" => matching(rows, |row| {
            !value.is_empty() && (row.worker == value || short(&row.worker) == value)
        }),
        _ => {
            let hint = nearest(key, KEYS).map_or_else(
                || format!("tasks can be selected by {}", either(KEYS)),
                |near| format!("did you mean `{near}:{value}`?"),
            );
            return Err(Error::usage(format!("cannot select tasks by `{key}`")).hint(hint));
        }
    };
    Ok(found)
}

fn by_name<'a>(part: &str, rows: &'a [Row]) -> Result<Vec<&'a str>> {
    match part {
        "all" => return Ok(matching(rows, |_| true)),
        "last" => {
            let last = rows
                .iter()
                .max_by(|a, b| a.at_ms.cmp(&b.at_ms).then_with(|| natural_cmp(&a.id, &b.id)));
            let none = || Error::new(Exit::NotFound, "there is no last task: no tasks yet");
            return last
                .map(|row| vec![row.id.as_str()])
                .ok_or_else(|| none().hint("coord add \"…\" or coord import TASKS.md"));
        }
        _ => {}
    }
    let exact = matching(rows, |row| row.id == part);
    if !exact.is_empty() {
        return Ok(exact);
    }
    if let Some((from, to)) = range(part) {
        return by_range(part, from, to, rows);
    }
    let found = matching(rows, |row| is_prefix(part, &row.id));
    match found.as_slice() {
        [_one] => Ok(found),
        [] => Err(unknown(part, rows)),
        many => {
            let mut ids = many.to_vec();
            ids.sort_by(|a, b| natural_cmp(a, b));
            let more = if ids.len() > 5 { ", …" } else { "" };
            ids.truncate(5);
            Err(Error::usage(format!("`{part}` is not the beginning of one id only"))
                .hint(format!("it may be {}{more}", ids.join(", "))))
        }
    }
}

fn by_range<'a>(part: &str, from: u64, to: u64, rows: &'a [Row]) -> Result<Vec<&'a str>> {
    if from > to {
        return Err(Error::usage(format!("the range `{part}` runs backwards"))
            .hint(format!("write {to}-{from}")));
    }
    let inside =
        |id: &str| is_number(id) && id.parse().is_ok_and(|n: u64| (from..=to).contains(&n));
    // Gaps are usual, tasks are archived; a range of nothing is a mistake.
    let found = matching(rows, |row| inside(&row.id));
    if found.is_empty() {
        return Err(
            Error::new(Exit::NotFound, format!("there is no task in `{part}`")).hint("coord ls")
        );
    }
    Ok(found)
}

/// `14-18`.
fn range(part: &str) -> Option<(u64, u64)> {
    let (from, to) = part.split_once('-')?;
    (is_number(from) && is_number(to)).then_some(())?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

/// Whether `part` begins `id`, and not in the midst of a number: when task 1 is gone, `cancel 1`
/// must not cancel task 12.
fn is_prefix(part: &str, id: &str) -> bool {
    id.strip_prefix(part).is_some_and(|rest| {
        !(part.ends_with(|c: char| c.is_ascii_digit())
            && rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn unknown(part: &str, rows: &[Row]) -> Error {
    let error = Error::new(Exit::NotFound, format!("there is no task `{}`", part.escape_debug()));
    let words = ["all", "last"];
    match nearest(part, rows.iter().map(|row| row.id.as_str()).chain(words)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None if STATES.contains(&part) => error.hint(format!("did you mean `@{part}`?")),
        None => error.hint("coord ls --all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(id: &str, state: &str, at_ms: u64) -> Row {
        Row { id: id.into(), state: state.into(), at_ms, ..Row::default() }
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
            ("zzzzzz", Exit::NotFound, "(coord ls --all)"),
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
}
