//! The words of a command: text and placeholders, how they are read and how they are filled.

use super::placeholder::{Hole, Modifier, Which, at_start};
use super::script::Reader;
use super::shell::{self, Quote};
use super::template::Job;
use crate::error::{Error, Result};

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Hole(Hole, Quote),
}

/// A word, or in a script a run of characters without a blank outside quotes, or what separates
/// two such runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) parts: Vec<Part>,
    /// Whether there is a placeholder for all values in it.
    pub(super) repeats: bool,
}

impl Word {
    /// Calls for each time that the word is in the command: with the number of the value that `{}`
    /// stands for there, or with `None` where it stands for all.
    pub(super) fn each(
        &self,
        job: &Job,
        many: bool,
        mut call: impl FnMut(Option<usize>) -> Result<()>,
    ) -> Result<()> {
        if many && self.repeats {
            return (0..job.args.len()).try_for_each(|at| call(Some(at)));
        }
        call(None)
    }

    pub(super) fn push(
        &self,
        out: &mut String,
        job: &Job,
        at: Option<usize>,
        quoted: bool,
    ) -> Result<()> {
        let put = |out: &mut String, (_, modifier): &Hole, value: &str, quote: Quote| {
            let value = modifier.of(value);
            if quoted {
                return shell::push_quoted(out, &value, quote);
            }
            out.push_str(&value);
            Ok(())
        };
        for part in &self.parts {
            let (hole, quote) = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Hole(hole, quote) => (hole, *quote),
            };
            match hole.0 {
                Which::Seq => out.push_str(&job.seq.to_string()),
                Which::Slot => out.push_str(&job.slot.to_string()),
                Which::All => match at {
                    Some(at) => put(out, hole, &job.args[at], quote)?,
                    None => {
                        for (at, arg) in job.args.iter().enumerate() {
                            if at > 0 {
                                out.push(' ');
                            }
                            put(out, hole, arg, quote)?;
                        }
                    }
                },
                one => {
                    if let Some(value) = one.value(&job.args) {
                        put(out, hole, value, quote)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// About how long it gets, to reserve that at once.
    pub(super) fn length(&self, job: &Job) -> usize {
        let of = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Hole((which, _), _) => {
                which.value(&job.args).or(job.args.first().map(String::as_str)).map_or(8, str::len)
            }
        };
        self.parts.iter().map(of).sum()
    }
}

impl Part {
    /// Whether it is for a value that the job does not have.
    pub(super) fn is_absent(&self, job: &Job) -> bool {
        match self {
            Part::Hole((which @ (Which::At(_) | Which::FromEnd(_)), _), _) => {
                which.value(&job.args).is_none()
            }
            _ => false,
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(before)) => before.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

impl Word {
    pub(super) fn has_hole(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Hole(..)))
    }

    fn push_hole(&mut self, hole: Hole, quote: Quote) {
        self.repeats |= hole.0 == Which::All;
        self.parts.push(Part::Hole(hole, quote));
    }
}

/// Reads one word of a command that no shell runs.
pub(super) fn parse_word(text: &str, names: &[String]) -> Word {
    let mut word = Word::default();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some((hole, length)) = at_start(rest, names) {
            word.push_hole(hole, Quote::Bare);
            rest = &rest[length..];
            continue;
        }
        // A brace that it begins with is text: the search starts behind it.
        let end = rest.char_indices().skip(1).find(|(_, c)| *c == '{');
        let end = end.map_or(rest.len(), |(at, _)| at);
        push_text(&mut word.parts, &rest[..end]);
        rest = &rest[end..];
    }
    if word.parts.is_empty() {
        word.parts.push(Part::Text(String::new()));
    }
    word
}

/// Reads a script for `sh -c`; without any placeholder it gets `{}` at its end.
///
/// # Errors
/// A placeholder where its value could not be quoted; a quote that is not closed.
pub(super) fn parse_script(text: &str, names: &[String]) -> Result<Vec<Word>> {
    let mut words = vec![Word::default()];
    let mut reader = Reader::default();
    let mut after_separator = false;
    let mut rest = text;
    while !rest.is_empty() {
        let found = if reader.is_comment() { None } else { at_start(rest, names) };
        let (length, separates) = match found {
            Some((_, length)) => (length, false),
            None => reader.step(rest),
        };
        if separates != after_separator {
            words.push(Word::default());
            after_separator = separates;
        }
        let Some(word) = words.last_mut() else { break };
        if let Some((hole, _)) = found {
            let quote = quote_at(&reader)?;
            word.push_hole(hole, quote);
            reader.placeholder();
        } else {
            push_text(&mut word.parts, &rest[..length]);
        }
        rest = &rest[length..];
    }
    if !reader.may_end() {
        return Err(Error::usage(format!(
            "the script ends inside a quote or a parenthesis: {}",
            shell::shown(text)
        ))
        .hint("close it; nothing was run"));
    }
    if !words.iter().any(Word::has_hole) {
        if reader.is_comment() {
            let message = "the script ends in a comment, and no {} says where values go";
            return Err(Error::usage(message).hint("write {} where the values go"));
        }
        let quote = quote_at(&reader)?;
        let mut word = Word::default();
        push_text(&mut words.last_mut().unwrap_or(&mut word).parts, " ");
        word.push_hole((Which::All, Modifier::Whole), quote);
        words.push(word);
    }
    Ok(words)
}

fn quote_at(reader: &Reader) -> Result<Quote> {
    reader.quote().map_err(|why| {
        Error::usage(format!("no value can stand {why}"))
            .hint("or give it as an argument, without --sh: sh -c '… \"$1\" …' sh {}")
    })
}
