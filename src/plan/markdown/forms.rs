//! Items as other tools write them, without the colon behind an id.
//!
//! | written | by | means |
//! |---|---|---|
//! | `T012 [P] [US1] text (depends on T009-T011)` | spec-kit | id `T012`, label `us1`; see below for `[P]` |
//! | `1.2 text`, below `1. text` | Kiro, OpenSpec | id `1.2`; the item above has no id, a plain number cannot be one |
//!
//! **Order.** In these files the order is a dependency, which a checklist of our own has not. Of
//! spec-kit an item without `[P]` waits for all before it in its phase, one with `[P]` for the last one
//! without. Numbered items are done one after the other, an item after its sub-tasks; where the file
//! has Kiro's "Task Dependency Graph", its waves count instead.
//!
//! In such texts nothing is a mark of ours: no `@role`, no `#label`, and what stands in backticks at the
//! end is a path more often than a command.

use serde_json::Value;

use super::head::Head;
use super::{Item, need};

/// How an item was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// As the table of `markdown` says.
    #[default]
    Own,
    /// spec-kit's; `beside`: with `[P]`.
    SpecKit { beside: bool },
    /// With a number in front.
    Numbered,
}

/// An item in one of the forms, and the name that others call it by; `None`: it is one of ours.
pub(super) fn read(text: &str) -> Option<(Form, String, Head)> {
    let (word, rest) = text.split_once(char::is_whitespace)?;
    let word = word.trim_matches('*');
    let mut head = Head::default();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (form, name) = if word.strip_prefix('T').is_some_and(|n| digits(n) && n.len() >= 3) {
        head.id = Some(word.to_owned());
        (Form::SpecKit { beside: false }, word.to_owned())
    } else {
        let name = word.strip_suffix('.').unwrap_or(word);
        let parts: Vec<&str> = name.split('.').collect();
        // "3 apples" is a text; "3. apples" and "3.1 apples" are numbered.
        if !parts.iter().all(|part| digits(part)) || name == word && parts.len() == 1 {
            return None;
        }
        head.id = (parts.len() > 1).then(|| name.to_owned());
        (Form::Numbered, name.to_owned())
    };
    let (form, rest) = match form {
        Form::SpecKit { .. } => marks(rest.trim(), &mut head),
        other => (other, rest.trim()),
    };
    head.title = rest.split_whitespace().collect::<Vec<_>>().join(" ");
    head.whole.clone_from(&head.title);
    head.after = depends(&head.title);
    Some((form, name, head))
}

/// Takes `[P]` and `[US1]` off the front of a text.
fn marks<'a>(text: &'a str, head: &mut Head) -> (Form, &'a str) {
    let (mut beside, mut rest) = (false, text);
    while let Some((mark, behind)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        let story = mark.strip_prefix("US").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        match mark {
            "P" => beside = true,
            _ if story => head.labels.push(mark.to_lowercase()),
            _ => break,
        }
        rest = behind.trim_start();
    }
    (Form::SpecKit { beside }, rest)
}

/// The ids in `(depends on T009-T011, T015)`, wherever it stands and whatever words are between.
fn depends(text: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for group in text.split('(').skip(1).filter_map(|rest| rest.split(')').next()) {
        let group = group.to_ascii_lowercase();
        let starts = ["depends on", "depends:", "after ", "requires ", "blocked by "];
        if !starts.iter().any(|start| group.starts_with(start)) {
            continue;
        }
        let words = group.split(|c: char| c.is_whitespace() || c == ',' || c == ';');
        for word in words.filter(|word| !word.is_empty()) {
            let ends: Vec<u32> = word.split(['-', '–', '—']).filter_map(number).collect();
            let range = match ends[..] {
                [from, to] if from <= to && to - from < 1000 => from..=to,
                [one] => one..=one,
                _ => continue,
            };
            ids.extend(range.map(|n| format!("T{n:03}")));
        }
    }
    ids.dedup();
    ids
}

/// The number of `t012`.
fn number(word: &str) -> Option<u32> {
    word.strip_prefix('t').filter(|digits| digits.len() >= 3)?.parse().ok()
}

/// Adds the dependencies that follow from the order of the items.
pub(super) fn add_order(items: &mut [Item], forms: &[Form], waves: bool) {
    add_phases(items, forms);
    if !waves {
        add_sequence(items, forms);
    }
}

/// spec-kit: `[P]` says that an item may run beside its neighbours.
fn add_phases(items: &mut [Item], forms: &[Form]) {
    let (mut phase, mut barrier, mut since) = (None, None, Vec::new());
    for at in 0..items.len() {
        let Form::SpecKit { beside } = forms[at] else { continue };
        if items[at].spec.wave != phase {
            (phase, barrier, since) = (items[at].spec.wave, None, Vec::new());
        }
        // What is ticked holds nobody up, and what stands before it still does.
        if items[at].done {
            continue;
        }
        for &on in since.iter().filter(|_| !beside).chain(&barrier) {
            need(&mut items[at], on, false);
        }
        if beside {
            since.push(at);
        } else {
            (barrier, since) = (Some(at), Vec::new());
        }
    }
}

/// Numbered items: each after the one before it, a group after its parts.
fn add_sequence(items: &mut [Item], forms: &[Form]) {
    let mut before: Option<usize> = None;
    for at in order(items).into_iter().filter(|&at| forms[at] == Form::Numbered) {
        if items[at].done {
            continue;
        }
        if let Some(before) = before {
            need(&mut items[at], before, false);
        }
        // Nobody waits for what may be left out.
        if !items[at].optional {
            before = Some(at);
        }
    }
}

/// The items, each behind those inside of it.
fn order(items: &[Item]) -> Vec<usize> {
    let mut done = Vec::with_capacity(items.len());
    let mut open: Vec<usize> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        while let Some(&last) = open.last().filter(|&&last| item.parent != Some(last)) {
            open.pop();
            done.push(last);
        }
        open.push(at);
    }
    done.extend(open.into_iter().rev());
    done
}

/// The waves of Kiro's "Task Dependency Graph", as names of items; `None`: there is no such section.
/// The inner error is the line of one that cannot be read.
pub(super) fn waves(text: &str) -> Option<Result<Vec<Vec<String>>, usize>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_heading =
        |line: &&str| line.starts_with('#') && line.to_lowercase().contains("dependency graph");
    let heading = lines.iter().position(is_heading)?;
    let fence = |line: &&&str| line.trim_start().starts_with("```");
    let inside = lines[heading + 1..].iter().skip_while(|line| !fence(line)).skip(1);
    let json: Vec<&str> = inside.take_while(|line| !fence(line)).copied().collect();
    let parsed = serde_json::from_str::<Value>(&json.join("\n")).ok();
    Some(parsed.and_then(|graph| of_graph(&graph)).ok_or(heading + 1))
}

/// `{"waves": [{"id": 0, "tasks": ["1.1"]}]}`, also with `wave` for `id`, or with plain lists.
fn of_graph(graph: &Value) -> Option<Vec<Vec<String>>> {
    let name = |task: &Value| match task {
        Value::String(name) => Some(name.trim_end_matches('.').to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let names = |tasks: &Value| tasks.as_array()?.iter().map(name).collect::<Option<Vec<_>>>();
    let mut waves = Vec::new();
    for (at, wave) in graph.get("waves").unwrap_or(graph).as_array()?.iter().enumerate() {
        let number = wave.get("id").or(wave.get("wave")).and_then(Value::as_u64);
        let number = number.unwrap_or(u64::try_from(at).ok()?);
        waves.push((number, names(wave.get("tasks").unwrap_or(wave))?));
    }
    waves.sort_by_key(|(number, _)| *number);
    Some(waves.into_iter().map(|(_, names)| names).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_name_without_a_colon() {
        for (text, name, id, title) in [
            ("T012 [P] [US1] Parse it", "T012", Some("T012"), "Parse it"),
            ("**T012** Parse it", "T012", Some("T012"), "Parse it"),
            ("1.2 Add types", "1.2", Some("1.2"), "Add types"),
            ("1.1.4.1 Copy", "1.1.4.1", Some("1.1.4.1"), "Copy"),
            ("12. Final", "12", None, "Final"),
        ] {
            let (_, called, head) = read(text).unwrap();
            assert_eq!((called.as_str(), head.id.as_deref()), (name, id), "{text}");
            assert_eq!(head.title, title, "{text}");
        }
        for text in ["T1 tank", "TNNN [P] title", "3 apples", "W-2: title", "1.2", "v1.2 out", ""] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn dependencies_in_prose() {
        for (text, ids) in [
            ("T026 Do (depends on T009-T011 tests)", vec!["T009", "T010", "T011"]),
            ("T026 Do (URLs) (depends on T009, T012 and T015)", vec!["T009", "T012", "T015"]),
            ("T026 Do (after T001)", vec!["T001"]),
            ("T026 Do (see T001)", vec![]),
            ("T026 Do (after the meeting)", vec![]),
        ] {
            assert_eq!(read(text).unwrap().2.after, ids, "{text}");
        }
    }

    #[test]
    fn graphs() {
        let with = |json: &str| {
            waves(&format!("# Plan\n## Task Dependency Graph\n\n```json\n{json}\n```\n"))
        };
        let two = Some(Ok(vec![vec!["1.1".to_owned(), "2".to_owned()], vec!["1.2".to_owned()]]));
        for json in [
            r#"{"waves":[{"id":0,"tasks":["1.1","2."]},{"id":1,"tasks":["1.2"]}]}"#,
            r#"{"waves":[{"wave":2,"tasks":["1.2"]},{"wave":1,"tasks":["1.1",2]}]}"#,
            r#"{"waves":[["1.1","2"],["1.2"]]}"#,
            r#"[["1.1","2"],["1.2"]]"#,
        ] {
            assert_eq!(with(json), two, "{json}");
        }
        for json in
            ["1.1 -> 1.2", r#"{"tasks":[{"id":"1.1","depends_on":[]}]}"#, r#"{"waves":[7]}"#]
        {
            assert_eq!(with(json), Some(Err(2)), "{json}");
        }
        assert_eq!(waves("# Plan\n- [ ] 1.1 x\n"), None);
    }
}
