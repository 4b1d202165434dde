//! Command lines: splitting one into words without a shell, and writing a value into a script so
//! that no shell takes it for anything but a value.

use std::borrow::Cow;

use crate::error::{Error, Exit, Result};

/// Words that only a shell knows. Nobody has a program of these names, so that a command that
/// begins with one would always fail.
const BUILTINS: &[&str] = &[
    "!", ".", ":", "break", "case", "cd", "continue", "eval", "exec", "exit", "export", "for",
    "if", "local", "return", "set", "shift", "source", "times", "trap", "ulimit", "umask", "unset",
    "until", "while", "{",
];

/// Splits a command line into words as a shell would, and does nothing else that a shell does.
/// `keep` tells the length of what the text begins with, if that belongs into one word as it is.
///
/// # Errors
/// What only a shell can do and is not quoted; a quote that is not closed.
pub(super) fn split(text: &str, keep: impl Fn(&str) -> Option<usize>) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text;
    let mut quote = None;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = keep(rest) {
            word.get_or_insert_default().push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        let after = &rest[c.len_utf8()..];
        let next = after.chars().next();
        rest = after;
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (_, '\\') => {
                let Some(next) = next else {
                    return Err(open_quote(text, "ends with a backslash"));
                };
                rest = &rest[next.len_utf8()..];
                let word = word.get_or_insert_default();
                if quote.is_some() && !matches!(next, '$' | '`' | '"' | '\\' | '\n') {
                    word.push('\\');
                }
                if next != '\n' {
                    word.push(next);
                }
            }
            (_, '`') => return Err(needs_shell(text, "`")),
            (_, '$') if next.is_some_and(|c| is_expansion(c, quote)) => {
                return Err(needs_shell(text, "$"));
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, ' ' | '\t' | '\n') => words.extend(word.take()),
            (None, '|' | '&' | ';' | '<' | '>' | '(' | ')' | '*' | '?' | '[') => {
                return Err(needs_shell(text, &c.to_string()));
            }
            (None, '#' | '~') if word.is_none() => return Err(needs_shell(text, &c.to_string())),
            (None, '=') if words.is_empty() && word.as_deref().is_some_and(is_name) => {
                return Err(needs_shell(text, "="));
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(open_quote(text, "has a quote that is not closed"));
    }
    words.extend(word);
    no_builtin(&words)?;
    Ok(words)
}

/// Refuses a command whose first word only a shell knows.
///
/// # Errors
/// That it is one.
pub(super) fn no_builtin(words: &[String]) -> Result<()> {
    match words.first() {
        Some(first) if BUILTINS.contains(&first.as_str()) => {
            Err(Error::usage(format!("`{first}` is no program: only a shell knows it"))
                .hint("use --sh, and the command is run by `sh -c`"))
        }
        _ => Ok(()),
    }
}

/// Whether a `$` before this begins something that a shell would replace.
fn is_expansion(next: char, quote: Option<char>) -> bool {
    let quotes = quote.is_none() && matches!(next, '\'' | '"');
    next.is_ascii_alphanumeric() || "_{(@*#?-$!".contains(next) || quotes
}

fn is_name(word: &str) -> bool {
    !word.starts_with(|c: char| c.is_ascii_digit())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn needs_shell(text: &str, what: &str) -> Error {
    Error::usage(format!("the command needs a shell for `{what}`: {}", shown(text)))
        .hint(format!("use --sh, or quote it where `{what}` is meant as it is written"))
}

fn open_quote(text: &str, what: &str) -> Error {
    Error::usage(format!("the command {what}: {}", shown(text)))
        .hint("close the quote, or give the command as several arguments")
}

/// The start of a text, for a message.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]).into(),
        None => text.into(),
    }
}

/// How a place in a script is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quote {
    /// Not at all.
    Bare,
    /// Between `"` and `"`.
    Double,
    /// Between `'` and `'`.
    Single,
}

/// Appends a value so that the shell reads exactly this value at a place that is quoted so.
///
/// # Errors
/// A value with a NUL, which no command line can have.
pub(super) fn push_quoted(out: &mut String, value: &str, quote: Quote) -> Result<()> {
    match quote {
        Quote::Bare => {
            let quoted = shlex::try_quote(value).map_err(|_| {
                Error::new(Exit::Usage, "a value has a NUL, which no command line can have")
            })?;
            out.push_str(&quoted);
        }
        Quote::Double => {
            for c in value.chars() {
                if matches!(c, '"' | '\\' | '$' | '`') {
                    out.push('\\');
                }
                out.push(c);
            }
        }
        Quote::Single => {
            for c in value.chars() {
                match c {
                    '\'' => out.push_str("'\\''"),
                    c => out.push(c),
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_as_a_shell_splits_them() {
        for (text, words) in [
            ("convert {} {.}.png", vec!["convert", "{}", "{.}.png"]),
            ("  a\tb\nc  ", vec!["a", "b", "c"]),
            ("a 'b c' \"d e\"f ''", vec!["a", "b c", "d ef", ""]),
            ("a\\ b \\'c \"\\\"\\x\\$y\"", vec!["a b", "'c", "\"\\x$y"]),
            ("a '$x|y;`z`*' \"it's | ; > *\"", vec!["a", "$x|y;`z`*", "it's | ; > *"]),
            (
                "a x#y x~y --a=b c=d 100% 5$ \"5$\"",
                vec!["a", "x#y", "x~y", "--a=b", "c=d", "100%", "5$", "5$"],
            ),
            ("a b\\\nc", vec!["a", "bc"]),
            ("", vec![]),
        ] {
            assert_eq!(split(text, |_| None).unwrap(), words, "{text}");
        }
        let keep = |rest: &str| rest.starts_with("{a b}").then_some(5);
        assert_eq!(split("x {a b}y '{a b}'", keep).unwrap(), ["x", "{a b}y", "{a b}"]);
    }

    #[test]
    fn what_needs_a_shell_is_named() {
        for (text, what) in [
            ("a | b", "`|`"),
            ("a > b", "`>`"),
            ("a < b", "`<`"),
            ("a && b", "`&`"),
            ("a; b", "`;`"),
            ("(a)", "`(`"),
            ("a $HOME", "`$`"),
            ("a \"$HOME\"", "`$`"),
            ("a $(b)", "`$`"),
            ("a $'b'", "`$`"),
            ("a `b`", "```"),
            ("a \"`b`\"", "```"),
            ("a *.c", "`*`"),
            ("a x?", "`?`"),
            ("a [ab]", "`[`"),
            ("a # b", "`#`"),
            ("a ~/b", "`~`"),
            ("A=b c", "`=`"),
            ("exit 3", "`exit`"),
            ("if x", "`if`"),
        ] {
            let error = split(text, |_| None).unwrap_err();
            assert!(error.message.contains(what), "{text}: {}", error.message);
            assert!(error.hint.unwrap().contains("--sh"), "{text}");
        }
        for text in ["a 'b", "a \"b", "a b\\"] {
            let error = split(text, |_| None).unwrap_err();
            assert!(error.hint.unwrap().contains("quote"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_split_or_refused(text in any::<String>()) {
            let _read = split(&text, |_| None);
        }

        /// As a parser of shell words does, where nothing needs a shell.
        #[test]
        fn as_another_parser(text in "[ a-z=/.\\\\'\"é\n]{0,24}") {
            if let Ok(words) = split(&format!("x {text}"), |_| None) {
                prop_assert_eq!(Some(words), shlex::split(&format!("x {text}")));
            }
        }

        #[test]
        fn joined_words_come_back(words in prop::collection::vec("[^\0]{0,8}", 1..5)) {
            let joined = shlex::try_join(words.iter().map(String::as_str)).unwrap();
            let line = format!("x {joined}");
            prop_assert_eq!(&split(&line, |_| None).unwrap()[1..], &words[..]);
        }

        #[test]
        fn a_quoted_value_is_one_word(value in "[^\0]{0,16}") {
            let mut line = String::from("x ");
            push_quoted(&mut line, &value, Quote::Bare).unwrap();
            line.push_str(" \"");
            push_quoted(&mut line, &value, Quote::Double).unwrap();
            line.push_str("\" '");
            push_quoted(&mut line, &value, Quote::Single).unwrap();
            line.push('\'');
            let same = vec!["x".to_owned(), value.clone(), value.clone(), value];
            prop_assert_eq!(shlex::split(&line), Some(same));
        }
    }
}
