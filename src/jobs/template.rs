//! Commands with placeholders, parsed once and expanded for each job.
//!
//! A value replaces its placeholder inside a word and is never split again, whatever is in it. Words
//! and values are bytes, escaped as text (`sys::escaped`): those of a job are, too.
//!
//! | the command | what runs |
//! |---|---|
//! | several arguments | these words, as they are |
//! | one argument | its words, split as a shell would, without a shell; what needs a shell is refused |
//! | none, or only `{}` | each job is a command line of its own, split in the same way |
//! | with `sh` | `sh -c` and the words joined by blanks; values are quoted for where they stand |
//!
//! A command without any placeholder gets `{}` as a last word.
//!
//! **More values than one** (several sources, columns, or [`Command::many`]): a word that is just
//! `{}` (or `{.}` …) becomes one word for each value. In a longer word, all values are put in with
//! blanks between them and it stays one word; with `many` the word is repeated instead, once for
//! each value, as `parallel -X` does. A word that consists of `{N}` whose column the job does not
//! have is left out; in a longer word such a placeholder becomes nothing.

use serde::{Deserialize, Serialize};

use super::placeholder::{Which, at_start};
use super::shell;
use super::word::{Part, Word, parse_script, parse_word};
use crate::error::{Error, Result};
use crate::sys::escaped::length;

/// The longest argument that Linux takes, in bytes without the NUL. `sh -c` gets all of its script
/// as one.
pub const ARGUMENT_MAX: usize = 128 * 1024 - 1;

/// A command, as the user gave it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Command {
    /// Its words. One: a command line. None: the values are command lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// Whether a shell runs it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sh: bool,
    /// Whether a job has the values of several rows, and words with `{}` are repeated (`-X`, and
    /// `-N` with a number over 1).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub many: bool,
    /// The names of the columns, from the first on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// One job of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// Its number, from 1: `{#}`.
    pub seq: u64,
    /// The slot that it runs in, from 1: `{%}`.
    pub slot: u32,
    /// Its values.
    pub args: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// The values are command lines; for a shell, or not.
    Lines { sh: bool },
    /// Words without a shell.
    Words,
    /// A script for `sh -c`.
    Script,
}

/// A command that was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    kind: Kind,
    words: Vec<Word>,
    many: bool,
}

/// What a job's command costs in bytes; see [`Template::weight`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Of the command without values.
    pub fixed: usize,
    /// Of each value, besides the value itself.
    pub each: usize,
    /// How often a value is in the command.
    pub times: usize,
    /// Whether values are quoted.
    pub quoted: bool,
    /// The longest value that there can be, bytes.
    pub longest: usize,
}

impl Weight {
    /// What one value adds at most, in bytes.
    pub fn of(&self, value: &str) -> usize {
        // The longest that quoting makes of one of these is five bytes.
        let special = |b: &u8| matches!(b, b'\'' | b'"' | b'\\' | b'$' | b'`' | b'^' | b'!');
        let quoting = match self.quoted {
            true => 2 + 4 * value.bytes().filter(|b| special(b)).count(),
            false => 0,
        };
        self.each + self.times * (value.len() + quoting)
    }
}

impl Template {
    /// Parses a command.
    ///
    /// # Errors
    /// A command line that needs a shell, without `sh`; a quote that is not closed; in a script, a
    /// placeholder where its value could not be quoted.
    pub fn new(command: &Command) -> Result<Template> {
        let Command { argv, sh, many, names } = command;
        let only_value = matches!(argv.as_slice(), [one] if one.trim() == "{}");
        if argv.iter().all(|word| word.trim().is_empty()) || only_value {
            let kind = Kind::Lines { sh: *sh };
            return Ok(Template { kind, words: Vec::new(), many: *many });
        }
        let (kind, mut words) = if *sh {
            (Kind::Script, parse_script(&argv.join(" "), names)?)
        } else if let [line] = argv.as_slice() {
            let keep = |rest: &str| at_start(rest, names).map(|(_, length)| length);
            let words = shell::split(line, keep)?;
            (Kind::Words, words.iter().map(|word| parse_word(word, names)).collect())
        } else {
            shell::no_builtin(argv)?;
            (Kind::Words, argv.iter().map(|word| parse_word(word, names)).collect())
        };
        if !words.iter().any(Word::has_hole) {
            words.push(parse_word("{}", names));
        }
        Ok(Template { kind, words, many: *many })
    }

    /// The words of one job's command: a program and its arguments.
    ///
    /// # Errors
    /// Where values are command lines, those that need a shell or are empty. With `sh`, a script
    /// that is longer than [`ARGUMENT_MAX`].
    pub fn expand(&self, job: &Job) -> Result<Vec<String>> {
        match self.kind {
            Kind::Words => self.expand_words(job),
            Kind::Script => {
                let mut script = String::with_capacity(64);
                for word in &self.words {
                    word.each(job, self.many, |at| {
                        if at.is_some_and(|at| at > 0) {
                            script.push(' ');
                        }
                        word.push(&mut script, job, at, true)
                    })?;
                }
                shell_command(script)
            }
            Kind::Lines { sh: true } => shell_command(job.args.join(" ")),
            Kind::Lines { sh: false } => {
                let line = job.args.join(" ");
                let words = shell::split(&line, |_| None)?;
                match words.is_empty() {
                    false => Ok(words),
                    true => Err(Error::usage("an empty line is no command")
                        .hint("use -r to leave out empty lines")),
                }
            }
        }
    }

    fn expand_words(&self, job: &Job) -> Result<Vec<String>> {
        let mut argv = Vec::with_capacity(self.words.len() + job.args.len());
        for word in &self.words {
            match word.parts.as_slice() {
                [Part::Text(text)] => argv.push(text.clone()),
                [Part::Hole((Which::All, modifier), _)] => {
                    argv.extend(job.args.iter().map(|arg| modifier.of(arg).into_owned()));
                }
                parts if parts.iter().all(|part| part.is_absent(job)) && !parts.is_empty() => {}
                _ => word.each(job, self.many, |at| {
                    let mut text = String::with_capacity(word.length(job));
                    word.push(&mut text, job, at, false)?;
                    argv.push(text);
                    Ok(())
                })?,
            }
        }
        if argv.is_empty() {
            return Err(Error::usage(format!("job {} has no command", job.seq)));
        }
        Ok(argv)
    }

    /// The program, where it is the same for all jobs and no shell runs it.
    pub fn program(&self) -> Option<&str> {
        match self.words.first().map(|word| word.parts.as_slice()) {
            Some([Part::Text(text)]) if self.kind == Kind::Words => Some(text),
            _ => None,
        }
    }

    /// The shell whose script a value is put into as it is: `sh -c 'cat {}'`. What is in the value would
    /// be run.
    pub fn shell_of_script(&self) -> Option<&str> {
        if self.kind != Kind::Words {
            return None;
        }
        let mut words = self.words.iter().skip_while(|word| !text(word).is_some_and(is_shell));
        let shell = words.next()?;
        // Options, and the words of those that have one: `-o pipefail -c`.
        let mut words = words.skip_while(|word| !text(word).is_some_and(is_script_option));
        let script = words.nth(1)?;
        let is_value = |part: &Part| match part {
            Part::Hole((which, _), _) => !matches!(which, Which::Seq | Which::Slot),
            Part::Text(_) => false,
        };
        // One that is all of it is a list of scripts, and meant so.
        let alone = matches!(script.parts.as_slice(), [Part::Hole(..)]);
        (!alone && script.parts.iter().any(is_value)).then(|| text(shell)).flatten()
    }

    /// What the values of a job cost, in bytes, so that as many as fit can be put into one.
    pub fn weight(&self) -> Weight {
        // A string of a command line costs its NUL and a pointer; a number has at most 20 digits.
        const STRING: usize = 9;
        const NUMBER: usize = 20;
        let quoted = self.kind == Kind::Script;
        let mut weight = Weight { fixed: 0, each: 0, times: 0, quoted, longest: ARGUMENT_MAX };
        for word in &self.words {
            let mut context = STRING;
            for part in &word.parts {
                match part {
                    Part::Text(text) => context += text.len(),
                    Part::Hole((Which::All, _), _) => weight.times += 1,
                    Part::Hole(..) => context += NUMBER,
                }
            }
            *if word.repeats { &mut weight.each } else { &mut weight.fixed } += context;
        }
        if let Kind::Lines { .. } = self.kind {
            (weight.each, weight.times, weight.longest) = (STRING, 1, usize::MAX);
        }
        weight
    }
}

/// A word without placeholders.
fn text(word: &Word) -> Option<&str> {
    match word.parts.as_slice() {
        [Part::Text(text)] => Some(text),
        _ => None,
    }
}

fn is_shell(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    matches!(name, "sh" | "bash" | "dash" | "ash" | "ksh" | "mksh" | "zsh")
}

fn is_script_option(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|letters| !letters.starts_with('-') && letters.contains('c'))
}

fn shell_command(script: String) -> Result<Vec<String>> {
    if length(&script) > ARGUMENT_MAX {
        return Err(Error::usage(format!(
            "the command has {} bytes, and a shell takes {ARGUMENT_MAX}: {}",
            length(&script),
            shell::shown(&script)
        ))
        .hint("give the job fewer values with -N, or leave out --sh"));
    }
    Ok(vec!["sh".to_owned(), "-c".to_owned(), script])
}
