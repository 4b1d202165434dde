//! Tasks as JSON: the drop-in file (one object), JSONL (one object after the other) and an array.
//!
//! The keys are those of `Spec`, and further `id`; `command` may stand for `sh` (a string) or
//! `argv` (an array), and `after` may be one string. What is missing has the default of the format.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::queue::record::{RECORD_MAX, Spec};

mod values;

use super::foreign;
pub use super::validate::validate;
use values::Values;

/// A task of a file, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The line that it begins at, from 1.
    pub line: usize,
    /// The id that the file asks for.
    pub id: Option<String>,
    /// The task.
    pub spec: Spec,
}

/// Reads one drop-in file: the id that it asks for, and the task, which is valid.
///
/// # Errors
/// Why it is none, in the words of a `.why` file.
pub fn parse_submission(bytes: &[u8]) -> std::result::Result<(Option<String>, Spec), String> {
    if bytes.trim_ascii().is_empty() {
        return Err("the file is empty: one JSON object is needed".to_owned());
    }
    if bytes.len() >= RECORD_MAX {
        return Err("longer than 1 MiB: put long texts into files of the project".to_owned());
    }
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|e| format!("not JSON: {}", lower(&e.to_string())))?;
    from_value(value)
}

/// Reads a file of JSON objects one after the other (JSONL, but an object may take more lines), or
/// a JSON array of them, task by task: no more than one is held. `more` gives the next bytes of the file,
/// and none at its end; `file` is only named in messages.
///
/// # Errors
/// The first line that is wrong, and why; an id that occurs twice.
pub fn lines<'a>(
    file: &'a str,
    more: impl FnMut() -> Result<Vec<u8>> + 'a,
) -> impl Iterator<Item = Result<Line>> + 'a {
    let mut seen: HashMap<String, usize> = HashMap::new();
    Values::new(file, more).map(move |value| {
        let (line, value) = value?;
        let (id, spec) = from_value(value).map_err(|why| {
            Error::usage(format!("{file}:{line}: {why}")).hint("nothing was added")
        })?;
        if let Some(id) = &id
            && let Some(before) = seen.insert(id.clone(), line)
        {
            return Err(Error::usage(format!(
                "{file}:{line}: id `{id}` stands at line {before} too"
            ))
            .hint("give each task an id of its own, or none"));
        }
        Ok(Line { line, id, spec })
    })
}

/// The same of a text that is there already.
pub fn parse_lines(text: &str, file: &str) -> Result<Vec<Line>> {
    let mut text = Some(text.as_bytes().to_vec());
    lines(file, || Ok(text.take().unwrap_or_default())).collect()
}

/// The task of one JSON value, checked.
fn from_value(value: Value) -> std::result::Result<(Option<String>, Spec), String> {
    let Value::Object(mut given) = value else {
        return Err(format!("{} where a JSON object is needed", kind(&value)));
    };
    if let Some(what) = foreign::of_json(&given) {
        return Err(foreign::refusal(what));
    }
    let id = match given.remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id),
        Some(other) => return Err(format!("id is {}: write \"id\": \"W-1\"", kind(&other))),
    };
    match given.get("v") {
        None => {}
        Some(v) if *v == json!(1) => {}
        Some(v) => return Err(format!("v is {v}: this program knows version 1 of the record")),
    }
    if let Some(command) = given.remove("command") {
        let key = match command {
            Value::String(_) => "sh",
            Value::Array(_) => "argv",
            other => {
                return Err(format!("command is {}: write a string or an array", kind(&other)));
            }
        };
        if given.contains_key(key) {
            return Err(format!("there are both command and {key}: give one of them"));
        }
        given.insert(key.to_owned(), command);
    }
    if let Some(after @ Value::String(_)) = given.get_mut("after") {
        *after = json!([after.clone()]);
    }
    let spec = overlay(given)?;
    validate(id.as_deref(), &spec)?;
    Ok((id, spec))
}

/// The defaults of the format with the given fields on top.
fn overlay(given: Map<String, Value>) -> std::result::Result<Spec, String> {
    let Ok(Value::Object(mut all)) = serde_json::to_value(Spec::new("")) else {
        return Err("the defaults are no record: this is a bug".to_owned());
    };
    for (key, value) in given {
        // One field at a time, because an error of the whole does not say which field it is about.
        let mut alone = Map::new();
        alone.insert(key.clone(), value.clone());
        serde_json::from_value::<Spec>(Value::Object(alone))
            .map_err(|e| format!("{key}: {}", lower(&e.to_string())))?;
        all.insert(key, value);
    }
    serde_json::from_value(Value::Object(all)).map_err(|e| lower(&e.to_string()))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The parser's words, begun as ours are.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_drop_in_file() {
        let (id, spec) = parse_submission(
            br#"{"id":"W-1","title":"t","command":"make","after":"W-0","future":[1]}"#,
        )
        .unwrap();
        assert_eq!(id.as_deref(), Some("W-1"));
        assert_eq!(
            (spec.sh.as_str(), spec.priority, spec.max_attempts, spec.v),
            ("make", 50, 3, 1)
        );
        assert_eq!(spec.after, ["W-0"]);
        assert_eq!(spec.more["future"], json!([1]));

        let (id, spec) = parse_submission(br#"{"command":["a","b c"],"after":["1","2"]}"#).unwrap();
        assert_eq!((id, spec.argv.len(), spec.after.len()), (None, 2, 2));
        assert_eq!(parse_submission(b"{}"), Ok((None, Spec::new(""))));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("", "empty"),
            (" \n", "empty"),
            ("{", "not JSON"),
            ("[]", "an array where a JSON object"),
            ("7", "a number where"),
            (r#"{"id":12}"#, "id is a number"),
            (r#"{"id":"12"}"#, "plain numbers"),
            (r#"{"v":2}"#, "version 1"),
            (r#"{"priority":"high"}"#, "priority: invalid type"),
            (r#"{"priority":300}"#, "priority: invalid value"),
            (r#"{"after":[1]}"#, "after: invalid type"),
            (r#"{"command":7}"#, "command is a number"),
            (r#"{"command":"a","sh":"b"}"#, "both command and sh"),
            (r#"{"command":"a","argv":["b"]}"#, "both argv and sh"),
            (r#"{"not_before":"soon"}"#, "RFC 3339"),
            (r#"{"max_attempts":0}"#, "max_attempts is 0"),
        ] {
            let message = parse_submission(text.as_bytes()).unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
        let long = vec![b' '; RECORD_MAX];
        assert!(parse_submission(&[&long[..], b"{}"].concat()).unwrap_err().contains("1 MiB"));
    }

    #[test]
    fn lines_and_their_numbers() {
        let text = "{\"id\":\"a\"}\n\n{\"id\":\"b\",\n \"sh\":\"x\"}\r\n  {\"title\":\"c\"}";
        let tasks = parse_lines(text, "f").unwrap();
        let at: Vec<usize> = tasks.iter().map(|t| t.line).collect();
        assert_eq!(at, [1, 3, 5]);
        assert_eq!(tasks[1].spec.sh, "x");
        assert_eq!(parse_lines("\n", "f").unwrap(), []);

        let text = "[{\"id\":\"a\", \"after\":[\"x\\\"]\",\"y\"]},\n\n {\"id\":\"b\"}, {}\n]";
        let message = parse_lines(text, "f").unwrap_err().message;
        assert!(message.starts_with("f:1: after has"), "{message}");
        let tasks =
            parse_lines("[\n{\"title\":\"],[\\\"\"},\n\n {\"id\":\"b\"}, {}\n]", "f").unwrap();
        assert_eq!(tasks.iter().map(|t| t.line).collect::<Vec<_>>(), [2, 4, 4]);
    }

    #[test]
    fn wrong_lines() {
        for (text, says) in [
            ("{}\n{\"sh\":}\n", "f:2:7: not JSON: expected value"),
            ("{}\n\n{\"priority\":100}", "f:3: priority is 100"),
            ("{\"id\":\"a\"}\n{\"id\":\"a\"}", "f:2: id `a` stands at line 1 too"),
            ("[{},\n 7]", "f:2: a number where"),
            ("[{},\n", "f:2:0: not JSON"),
            ("plain text", "f:1:1: not JSON"),
        ] {
            let error = parse_lines(text, "f").unwrap_err();
            assert!(error.message.starts_with(says), "{}", error.message);
            assert!(error.hint.is_some());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _read = parse_submission(&bytes);
            let _read = parse_lines(&String::from_utf8_lossy(&bytes), "f");
        }
    }
}
