//! Reads TOML with its places, so that every complaint shows the line and points at the word.
//!
//! Reading goes on after a complaint; the one that stands first in the file is reported.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Error;
use crate::plan::suggest::nearest;
use crate::plan::units::{duration_ms, human_duration, size_bytes};

/// A text that is read, and what was wrong with it so far.
pub(super) struct Source<'a> {
    text: &'a str,
    file: &'a str,
    problems: RefCell<Vec<Problem>>,
}

struct Problem {
    span: Range<usize>,
    what: String,
    label: String,
}

/// A table of the text, which may not be there.
pub(super) struct Table<'a> {
    source: &'a Source<'a>,
    /// As people write it: `[retry]`; empty for the top of the file.
    name: String,
    table: Option<&'a DeTable<'a>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, file: &'a str) -> Source<'a> {
        Source { text, file, problems: RefCell::new(Vec::new()) }
    }

    /// The error of a text that is not TOML.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> Error {
        let what = error.message().lines().collect::<Vec<_>>().join(": ");
        self.render(&Problem {
            span: error.span().unwrap_or(0..0),
            what: format!("not TOML: {what}"),
            label: String::new(),
        })
    }

    /// Notes a complaint: what is wrong with the place, and what to do.
    pub(super) fn complain(
        &self,
        span: Range<usize>,
        what: impl Into<String>,
        label: impl Into<String>,
    ) {
        let problem = Problem { span, what: what.into(), label: label.into() };
        self.problems.borrow_mut().push(problem);
    }

    /// The first complaint in the order of the text.
    pub(super) fn first_problem(&self) -> Option<Error> {
        let problems = self.problems.borrow();
        problems.iter().min_by_key(|problem| problem.span.start).map(|problem| self.render(problem))
    }

    /// A table by its place in the document.
    pub(super) fn table(&'a self, name: &str, table: Option<&'a DeTable<'a>>) -> Table<'a> {
        Table { source: self, name: name.to_owned(), table }
    }

    /// The beginning of the character at a place, which a parser may name within one.
    fn boundary(&self, place: usize) -> usize {
        let place = place.min(self.text.len());
        (0..=place).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
    }

    fn render(&self, problem: &Problem) -> Error {
        let before = &self.text[..self.boundary(problem.span.start)];
        let number = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[line_start..].lines().next().unwrap_or("");
        let lead = &before[line_start..];
        let end = self.boundary(problem.span.end).max(before.len());
        let marked = &self.text[before.len()..end];
        let carets = marked.lines().next().map_or(1, |text| text.chars().count().max(1));
        // Tabs stay tabs, or the marks would stand elsewhere than the word.
        let pad: String = lead.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let gutter = " ".repeat(number.to_string().len());
        let marks = format!("{pad}{} {}", "^".repeat(carets), problem.label);
        Error::usage(format!(
            "{}:{number}:{}: {}\n{gutter} |\n{number} | {line}\n{gutter} | {}",
            self.file,
            lead.chars().count() + 1,
            problem.what,
            marks.trim_end(),
        ))
    }
}

impl<'a> Table<'a> {
    /// The entries: name, its place, value and its place.
    pub(super) fn entries(&self) -> Vec<(&'a str, Range<usize>, &'a Spanned<DeValue<'a>>)> {
        let entries = self.table.into_iter().flat_map(|table| table.iter());
        entries.map(|(key, value)| (key.get_ref().as_ref(), key.span(), value)).collect()
    }

    /// Complains of every key that is not known. `meant` are words that people use for a key.
    pub(super) fn only(&self, known: &[&str], meant: &[(&str, &str)]) {
        for (key, span, _) in self.entries() {
            if known.contains(&key) {
                continue;
            }
            let words = known.iter().copied().chain(meant.iter().map(|(word, _)| *word));
            let near = nearest(key, words).map(|near| {
                meant.iter().find(|(word, _)| *word == near).map_or(near, |(_, key)| *key)
            });
            let label = near.map_or_else(
                || format!("known: {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            let place = if self.name.is_empty() { String::new() } else { self.of() };
            self.source.complain(span, format!("unknown key `{key}`{place}"), label);
        }
    }

    /// The place of a key's value.
    pub(super) fn span(&self, key: &str) -> Option<Range<usize>> {
        self.value(key).map(Spanned::span)
    }

    /// A table inside this one.
    pub(super) fn table(&self, key: &str, name: &str) -> Table<'a> {
        let table = self.value(key).and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            other => {
                let what = format!("`{key}` is {}", kind(other));
                self.source.complain(value.span(), what, format!("write it as a table: {name}"));
                None
            }
        });
        self.source.table(name, table)
    }

    /// A string, with its place.
    pub(super) fn string(&self, key: &str, example: &str) -> Option<(&'a str, Range<usize>)> {
        let value = self.value(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, &format!("write a string, such as {key} = \"{example}\""));
        }
        text.map(|text| (text, value.span()))
    }

    /// A whole number within a range.
    pub(super) fn number(&self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.value(key)?;
        let possible = format!("{} to {} are possible", range.start(), range.end());
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, &format!("write a whole number: {possible}"));
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n));
        if number.is_none() {
            let what = format!("`{key}`{} is out of range", self.of());
            self.source.complain(value.span(), what, possible);
        }
        number
    }

    /// A number within a range, whole or not.
    pub(super) fn float(&self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.value(key)?;
        let text = match value.get_ref() {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            _ => {
                self.wrong_type(key, value, "write a number, such as 2.0");
                return None;
            }
        };
        let number = text.parse::<f64>().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let what = format!("`{key}`{} is out of range", self.of());
            let possible = format!("{:?} to {:?} are possible", range.start(), range.end());
            self.source.complain(value.span(), what, possible);
        }
        number
    }

    /// A duration in milliseconds, at least `least`.
    pub(super) fn duration(&self, key: &str, least: u64) -> Option<u64> {
        let (text, span) = self.string(key, "90s")?;
        match duration_ms(text) {
            Ok(ms) if ms >= least => return Some(ms),
            Ok(_) => {
                let what = format!("`{key}`{} is too short", self.of());
                let label = format!("at least {} is needed", human_duration(least));
                self.source.complain(span, what, label);
            }
            Err(why) => self.two_parts(span, &why),
        }
        None
    }

    /// A size in bytes.
    pub(super) fn size(&self, key: &str) -> Option<u64> {
        let (text, span) = self.string(key, "64M")?;
        size_bytes(text).map_err(|why| self.two_parts(span, &why)).ok()
    }

    /// true or false.
    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref().as_bool() {
            Some(value) => Some(value),
            None => {
                self.wrong_type(key, value, "write true or false");
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let (text, span) = self.string(key, choices.first().map_or("", |(word, _)| word))?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words = choices.iter().map(|(word, _)| *word);
            let label = nearest(text, words.clone()).map_or_else(
                || format!("possible: {}", words.collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.source.complain(span, format!("`{text}` is no `{key}`{}", self.of()), label);
        }
        found
    }

    /// The strings of an array, each with its place. `example` stands between the first and the last
    /// quotation mark of the advice.
    pub(super) fn strings(&self, key: &str, example: &str) -> Option<Vec<(&'a str, Range<usize>)>> {
        let value = self.value(key)?;
        let advice = &format!("write an array of strings, such as [\"{example}\"]");
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, advice);
            return None;
        };
        let mut words = Vec::new();
        for element in array.iter() {
            match element.get_ref().as_str() {
                Some(word) => words.push((word, element.span())),
                None => self.wrong_type(key, element, advice),
            }
        }
        (words.len() == array.iter().count()).then_some(words)
    }

    /// Complains of a value that has another type than it should.
    pub(super) fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, advice: &str) {
        let what = format!("`{key}`{} has {} here", self.of(), kind(value.get_ref()));
        self.source.complain(value.span(), what, advice);
    }

    fn two_parts(&self, span: Range<usize>, why: &str) {
        let (what, label) = why.split_once(": ").unwrap_or((why, ""));
        self.source.complain(span, what, label);
    }

    fn of(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in {}", self.name) }
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let (_, value) = self.table?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(value)
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
