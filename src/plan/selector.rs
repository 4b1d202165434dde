//! Selectors: the one grammar by which every verb names tasks.
//!
//! `12` · `W-2` · `12,14-18` · a prefix that only one id has · `last` · `all` · `@failed` and the
//! other states · `wave:3` · `role:tester` · `label:api` · `worker:w2`. Several are united. A comma
//! after a key goes on with that key: `label:api,ui` are two labels.
//!
//! What is exactly a task's id means that task; only then is anything else tried.

#[cfg(test)]
mod tests;

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
    pub state: &'static str,
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
    let (mut ids, mut seen) = (Vec::new(), HashSet::new());
    for part in words.iter().flat_map(|word| word.split(',')) {
        if !is_task_id(part) || matches!(part, "all" | "last") || range(part).is_some() {
            return None;
        }
        if seen.insert(part) {
            ids.push(part.to_owned());
        }
    }
    Some(ids)
}

fn union<'a>(words: &[String], rows: &'a [Row]) -> Result<HashSet<&'a str>> {
    let mut chosen = HashSet::new();
    let all: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
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
                    None => match all.get(part) {
                        Some(exact) => vec![*exact],
                        None => by_name(part, rows)?,
                    },
                },
            };
            chosen.extend(found);
        }
    }
    Ok(chosen)
}

fn matching(rows: &[Row], fits: impl Fn(&Row) -> bool) -> Vec<&str> {
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
        None => error.hint("coord ls"),
    }
}
