//! What a submitted task must be like, whichever way it came in: typed, imported or dropped in.
//!
//! Each message names the field, says what is wrong with it and what would be right.

use crate::queue::ids::{is_number, is_role, is_task_id, lane_id, lane_name};
use crate::queue::record::{Backoff, RECORD_MAX, SECONDS_MAX, Spec, to_bytes};
use crate::sys::clock::parse_rfc3339;

/// The longest title, in characters.
pub const TITLE_MAX: usize = 500;

/// The longest record of a task: what the queue adds (the submission's id, sender and time) must fit
/// below the limit of every reader, too.
pub const SPEC_MAX: usize = RECORD_MAX - 1024;

/// Whether a task may be accepted; `id` is the one that the submitter chose, if any.
///
/// # Errors
/// The first thing that is wrong, as a sentence without its beginning: the caller says which task.
pub fn validate(id: Option<&str>, spec: &Spec) -> Result<(), String> {
    if let Some(id) = id {
        check_id(id)?;
    }
    check_title(&spec.title)?;
    if spec.priority > 99 {
        return Err(format!("priority is {}: 0 to 99 are possible, smaller first", spec.priority));
    }
    if spec.max_attempts == 0 {
        return Err("max_attempts is 0: at least 1, the first attempt, is needed".to_owned());
    }
    if !spec.role.is_empty() && !is_role(&spec.role) {
        return Err(format!(
            "role `{}` is not a name: use 1 to 32 of a-z, 0-9, `_` and `-`, a letter or digit first \
             (`bell` is taken)",
            spec.role
        ));
    }
    for entry in &spec.after {
        check_after(id, entry)?;
    }
    for scope in &spec.scope {
        super::scope::normal(scope)?;
    }
    check_work(spec)?;
    check_environment(spec)?;
    check_times(spec)?;
    if spec.review {
        return Err("review is not available in this version: leave it out".to_owned());
    }
    check_merge(id, spec)?;
    // As it is written: with the defaults, and numbers in full.
    if to_bytes(spec).len() > SPEC_MAX {
        return Err(
            "the task is longer than 1 MiB: put long texts into files of the project".into()
        );
    }
    Ok(())
}

/// Whether a name may be set in an environment.
pub fn is_env_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn check_id(id: &str) -> Result<(), String> {
    if !is_task_id(id) {
        return Err(format!(
            "id `{}` is not possible: use 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`, a letter or \
             digit first",
            id.escape_debug()
        ));
    }
    if is_number(id) {
        return Err(format!(
            "id `{id}` is not possible: plain numbers are given out by the queue; use `T-{id}`, or \
             no id"
        ));
    }
    Ok(())
}

fn check_title(title: &str) -> Result<(), String> {
    if title.chars().count() > TITLE_MAX {
        return Err(format!(
            "the title is longer than {TITLE_MAX} characters: put it in the prompt"
        ));
    }
    if title.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        return Err(
            "the title has a line break or another control character: one plain line, and \
                    the rest in the prompt"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_after(id: Option<&str>, entry: &str) -> Result<(), String> {
    let on = entry.strip_suffix("@pass").unwrap_or(entry);
    if !is_task_id(on) {
        return Err(format!(
            "after has `{}`: each entry is a task's id, such as `W-2`, or `W-2@pass`",
            entry.escape_debug()
        ));
    }
    if id == Some(on) {
        return Err(format!("after has `{on}`, the task itself: name only other tasks"));
    }
    Ok(())
}

fn check_merge(id: Option<&str>, spec: &Spec) -> Result<(), String> {
    for on in &spec.merge_after {
        if !is_task_id(on) || id == Some(on) {
            return Err(format!(
                "merge_after has `{}`: each entry is the id of another task",
                on.escape_debug()
            ));
        }
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    let into = spec.into.as_str();
    if into.starts_with(['-', '/', '.']) || into.contains("..") || into.contains(odd) {
        return Err(format!("into has `{}`: it is the name of a branch", into.escape_debug()));
    }
    if lane_name(&lane_id(into)).is_none() {
        return Err("into is too long: name a branch with a shorter name".to_owned());
    }
    let wanted = !spec.merge_after.is_empty() || spec.adds_deps || !into.is_empty();
    if wanted && !spec.merge {
        return Err("into, merge_after and adds_deps are for tasks with merge: true".to_owned());
    }
    Ok(())
}

fn check_work(spec: &Spec) -> Result<(), String> {
    let forms = [
        ("argv", !spec.argv.is_empty()),
        ("sh", !spec.sh.is_empty()),
        ("prompt", !spec.prompt.is_empty()),
    ];
    let given: Vec<&str> =
        forms.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if given.len() > 1 {
        return Err(format!(
            "there are both {}: give one of argv, sh and prompt",
            given.join(" and ")
        ));
    }
    if spec.argv.first().is_some_and(String::is_empty) {
        return Err("argv begins with an empty word: the program's name must come first".to_owned());
    }
    let words = spec.argv.iter().map(|w| ("argv", w));
    let lines = [("sh", &spec.sh), ("prompt", &spec.prompt), ("cwd", &spec.cwd)];
    if let Some((name, _)) = words.chain(lines).find(|(_, text)| text.contains('\0')) {
        return Err(format!(
            "{name} has a NUL character: no program can be given one; leave it out"
        ));
    }
    if spec.cwd.starts_with('/') || spec.cwd.split('/').any(|part| part == "..") {
        return Err(format!(
            "cwd `{}` leads out of the project: give a path below it, without `..`",
            spec.cwd
        ));
    }
    Ok(())
}

fn check_environment(spec: &Spec) -> Result<(), String> {
    for (name, value) in &spec.env {
        if !is_env_name(name) {
            return Err(format!(
                "env has the name `{}`: letters, digits and `_` are possible, no digit first",
                name.escape_debug()
            ));
        }
        match value.as_str() {
            None => {
                return Err(format!("env {name} is not a string: write \"{name}\": \"…\""));
            }
            Some(text) if text.contains('\0') => {
                return Err(format!("env {name} has a NUL character: leave it out"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn check_times(spec: &Spec) -> Result<(), String> {
    for (name, value) in [("lease_s", spec.lease_s), ("time_limit_s", spec.time_limit_s)] {
        if let Some(value) = value
            && !(value > 0.0 && value <= SECONDS_MAX)
        {
            return Err(format!(
                "{name} is {value}: a number of seconds above 0 is needed, a century at most"
            ));
        }
    }
    if let Some(Backoff { base_s, factor, max_s }) = spec.backoff {
        for (name, value, least) in
            [("base_s", base_s, 0.0), ("factor", factor, 1.0), ("max_s", max_s, 0.0)]
        {
            if !(value.is_finite() && value >= least) {
                return Err(format!("backoff.{name} is {value}: at least {least} is needed"));
            }
        }
    }
    if let Some(text) = &spec.not_before
        && parse_rfc3339(text).is_none()
    {
        return Err(format!(
            "not_before `{}` is not a time: write it as RFC 3339, such as 2026-11-21T06:30:00Z",
            text.escape_debug()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn with(change: Value) -> Spec {
        let mut value = serde_json::to_value(Spec::new("t")).unwrap();
        value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn good_tasks() {
        for change in [
            json!({}),
            json!({"argv": ["true", ""], "after": ["W-1", "12", "W-2@pass"], "role": "tester"}),
            json!({"sh": "a\nb", "env": {"A_1": "", "_": "x"}, "cwd": "a/b..c/d"}),
            json!({"prompt": "do", "not_before": "2026-11-21T06:30:00+01:00", "lease_s": 0.5}),
            json!({"title": "ä".repeat(500), "priority": 99, "max_attempts": 1}),
            json!({"backoff": {"base_s": 0.0, "factor": 1.0, "max_s": 0.0}, "manual": true}),
        ] {
            assert_eq!(validate(Some("W-9"), &with(change.clone())), Ok(()), "{change}");
        }
    }

    #[test]
    fn bad_fields_are_named() {
        for (change, says) in [
            (json!({"title": "x".repeat(501)}), "longer than 500"),
            (json!({"title": "a\nb"}), "line break"),
            (json!({"title": "a\u{2028}b"}), "line break"),
            (json!({"title": "a\u{1b}[2J"}), "control character"),
            (json!({"priority": 100}), "priority is 100"),
            (json!({"max_attempts": 0}), "max_attempts"),
            (json!({"role": "Tester"}), "role `Tester`"),
            (json!({"role": "bell"}), "role `bell`"),
            (json!({"after": ["a b"]}), "after has `a b`"),
            (json!({"after": ["W-1@fail"]}), "after has `W-1@fail`"),
            (json!({"after": ["W-9@pass"]}), "the task itself"),
            (json!({"argv": ["a"], "sh": "b"}), "both argv and sh"),
            (json!({"argv": ["a"], "prompt": "b"}), "both argv and prompt"),
            (json!({"argv": ["", "a"]}), "empty word"),
            (json!({"argv": ["a", "b\0"]}), "argv has a NUL"),
            (json!({"sh": "b\0"}), "sh has a NUL"),
            (json!({"env": {"A": "b\0"}}), "env A has a NUL"),
            (json!({"env": {"A": 1}}), "env A is not a string"),
            (json!({"env": {"1A": "x"}}), "env has the name `1A`"),
            (json!({"env": {"A=B": "x"}}), "env has the name"),
            (json!({"cwd": "/tmp"}), "leads out"),
            (json!({"cwd": "a/../.."}), "leads out"),
            (json!({"lease_s": 0.0}), "lease_s is 0"),
            (json!({"time_limit_s": -1.0}), "time_limit_s is -1"),
            (json!({"backoff": {"base_s": -1.0, "factor": 2.0, "max_s": 1.0}}), "backoff.base_s"),
            (json!({"backoff": {"base_s": 1.0, "factor": 0.5, "max_s": 1.0}}), "backoff.factor"),
            (json!({"not_before": "tomorrow"}), "RFC 3339"),
            (json!({"review": true}), "review is not available in this version"),
            (json!({"merge": true, "merge_after": ["W-9"]}), "merge_after has `W-9`"),
            (json!({"merge": true, "into": "a b"}), "into has `a b`"),
            (json!({"adds_deps": true}), "for tasks with merge: true"),
            (json!({"scope": ["../x"]}), "leads out"),
        ] {
            let message = validate(Some("W-9"), &with(change.clone())).unwrap_err();
            assert!(message.contains(says), "{change}: {message}");
        }
        let many = |count| Spec { labels: vec!["a".to_owned(); count], ..Spec::new("t") };
        assert_eq!(validate(None, &many(250_000)), Ok(()));
        assert!(validate(None, &many(262_000)).unwrap_err().contains("longer than 1 MiB"));
        let long = Spec { time_limit_s: Some(1e300), ..Spec::new("t") };
        assert!(validate(None, &long).unwrap_err().contains("a century at most"));
        let endless = Spec { time_limit_s: Some(f64::INFINITY), ..Spec::new("t") };
        assert!(validate(None, &endless).unwrap_err().contains("time_limit_s"));
    }

    #[test]
    fn ids() {
        let spec = Spec::new("t");
        for (id, says) in
            [("", "not possible"), ("../x", "letter or digit"), ("12", "plain numbers")]
        {
            let message = validate(Some(id), &spec).unwrap_err();
            assert!(message.contains(says), "{id}: {message}");
        }
        assert_eq!(validate(Some("3.1"), &spec), Ok(()));
    }
}
