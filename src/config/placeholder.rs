//! Placeholders in command templates: `{prompt}` inside a word, `{{` and `}}` for a brace.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::plan::suggest::nearest;

/// What may stand in `[agents.NAME] command`.
pub const AGENT_PLACEHOLDERS: [&str; 10] =
    ["prompt", "prompt_file", "id", "title", "attempt", "worktree", "branch", "base", "out", "dir"];

/// Replaces the placeholders of a command. A value stays within its word, whatever blanks or quotes
/// it holds, and what stands in it is not looked at for placeholders.
///
/// # Errors
/// A placeholder that has no value, and a brace that belongs to none.
pub fn expand(template: &[String], values: &BTreeMap<&str, String>) -> Result<Vec<String>> {
    template.iter().map(|word| expand_word(word, values)).collect()
}

/// Replaces the placeholders of one word.
///
/// # Errors
/// As of `expand`.
pub fn expand_word(word: &str, values: &BTreeMap<&str, String>) -> Result<String> {
    let known: Vec<&str> = values.keys().copied().collect();
    let refuse = |(why, what): (String, String)| {
        Error::usage(format!("cannot fill in `{word}`: {why}")).hint(what)
    };
    let mut text = String::new();
    for part in parts(word, &known).map_err(refuse)? {
        match part {
            Part::Text(c) => text.push(c),
            Part::Name(name) => text.push_str(values.get(name).map_or("", String::as_str)),
        }
    }
    Ok(text)
}

/// Whether a word uses known placeholders only.
///
/// # Errors
/// What is wrong, and what would be right.
pub(super) fn check(word: &str, known: &[&str]) -> std::result::Result<(), (String, String)> {
    parts(word, known).map(|_| ())
}

enum Part<'a> {
    Text(char),
    Name(&'a str),
}

fn parts<'a>(
    word: &'a str,
    known: &[&str],
) -> std::result::Result<Vec<Part<'a>>, (String, String)> {
    let mut parts = Vec::new();
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if matches!(c, '{' | '}') && after.starts_with(c) {
            parts.push(Part::Text(c));
            rest = &after[1..];
        } else if c == '{' {
            let Some((name, behind)) = after.split_once('}') else {
                let what = "write `{{` for the character itself";
                return Err(("`{` without `}`".to_owned(), what.to_owned()));
            };
            if !known.contains(&name) {
                return Err(unknown(name, known));
            }
            parts.push(Part::Name(name));
            rest = behind;
        } else if c == '}' {
            let what = "write `}}` for the character itself";
            return Err(("`}` without `{`".to_owned(), what.to_owned()));
        } else {
            parts.push(Part::Text(c));
            rest = after;
        }
    }
    Ok(parts)
}

fn unknown(name: &str, known: &[&str]) -> (String, String) {
    let what = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{{{near}}}`?"),
        None => {
            let all: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
            format!("known: {}; write `{{{{` for the character itself", all.join(" "))
        }
    };
    (format!("unknown placeholder `{{{name}}}`"), what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(words: &[&str], values: &[(&'static str, &str)]) -> Result<Vec<String>> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        expand(&words, &values.iter().map(|(k, v)| (*k, (*v).to_owned())).collect())
    }

    #[test]
    fn inside_a_word_and_never_split_again() {
        let values = [("prompt", "a b; 'c' {id} $(x)"), ("id", "W-1"), ("out", "")];
        let words = ["sh", "-c", "{prompt}", "--id={id}/{id}", "{{{id}}}", "{out}", "ä{{}}"];
        assert_eq!(
            filled(&words, &values).unwrap(),
            ["sh", "-c", "a b; 'c' {id} $(x)", "--id=W-1/W-1", "{W-1}", "", "ä{}"]
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (word, says, hint) in [
            ("{promt}", "unknown placeholder `{promt}`", "did you mean `{prompt}`?"),
            ("{}", "unknown placeholder `{}`", "known: {prompt}"),
            ("{print $1}", "unknown placeholder `{print $1}`", "write `{{`"),
            ("a{b", "`{` without `}`", "write `{{`"),
            ("a}b", "`}` without `{`", "write `}}`"),
        ] {
            let error = filled(&[word], &[("prompt", "x")]).unwrap_err();
            assert!(error.message.contains(says), "{word}: {}", error.message);
            assert!(error.hint.unwrap().contains(hint), "{word}");
        }
    }

    proptest! {
        #[test]
        fn doubled_braces_give_any_text(text in ".{0,20}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(expand_word(&doubled, &BTreeMap::new()).unwrap(), text);
        }
    }
}
