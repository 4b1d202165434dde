//! Where the values of jobs come from: words of the command line, files, standard input.

use std::path::{Path, PathBuf};

use super::format::Format;
use super::records::Records;
use super::rows::Given;
use crate::error::{Cannot, Result};
use crate::sys::escaped::{has_escapes, unescape_path};
use crate::sys::input::Input;

/// What one source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Values of the command line.
    Values(Vec<String>),
    /// A file with a value, or a row, a line; `-` is standard input.
    File(PathBuf),
}

/// A source as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceArg {
    /// What it is.
    pub origin: Origin,
    /// Whether it goes along with the source before it, first with first, second with second, and
    /// not through all combinations.
    pub linked: bool,
}

/// Splits the words after the options: the command, and the sources that follow it. They are escaped,
/// as values are (`sys::escaped`).
///
/// `::: VALUE…` is one source, `:::: FILE…` is one for each file; with a `+` behind it is linked to
/// the source before it. `:::` with nothing behind it is a source without values, so there are no
/// jobs.
pub fn split(words: Vec<String>) -> (Vec<String>, Vec<SourceArg>) {
    let mut command = Vec::new();
    let mut sources: Vec<SourceArg> = Vec::new();
    // Whether the words are files, and whether they are linked; `None` is the command.
    let mut at: Option<(bool, bool)> = None;
    for word in words {
        let next = match word.as_str() {
            ":::" => (false, false),
            ":::+" => (false, true),
            "::::" => (true, false),
            "::::+" => (true, true),
            _ => {
                match at {
                    None => command.push(word),
                    Some((true, linked)) => {
                        let origin = Origin::File(unescape_path(&word));
                        sources.push(SourceArg { origin, linked });
                    }
                    Some((false, _)) => {
                        if let Some(SourceArg { origin: Origin::Values(values), .. }) =
                            sources.last_mut()
                        {
                            values.push(word);
                        }
                    }
                }
                continue;
            }
        };
        at = Some(next);
        if let (false, linked) = next {
            sources.push(SourceArg { origin: Origin::Values(Vec::new()), linked });
        }
    }
    (command, sources)
}

/// An open source.
#[derive(Debug)]
pub(super) enum Source {
    Values(std::vec::IntoIter<String>, Format),
    Records(Records),
}

impl Source {
    pub(super) fn open(origin: &Origin, format: &Format) -> Result<Source> {
        let path = match origin {
            Origin::Values(values) => {
                return Ok(Source::Values(values.clone().into_iter(), format.clone()));
            }
            Origin::File(path) => path,
        };
        let (input, name) = if path == Path::new("-") {
            (Input::stdin().cannot("read standard input", path)?, "standard input".to_owned())
        } else {
            let input = Input::open(path).cannot("open the file of values", path)?;
            (input, path.display().to_string())
        };
        Ok(Source::Records(Records::new(Box::new(input), name, format)?))
    }

    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Given>> {
        match self {
            Source::Records(records) => records.next(),
            Source::Values(values, format) => {
                for value in values {
                    if (format.csv || format.header) && has_escapes(&value) {
                        let option = if format.csv { "--csv" } else { "--header" };
                        let why = format!(
                            "a value of the command line is not UTF-8, as {option} needs it"
                        );
                        return Ok(Some(Err(why)));
                    }
                    if !format.passes_over(&value) {
                        return format.columns(value).map(|row| Some(Ok(row)));
                    }
                }
                Ok(None)
            }
        }
    }

    pub(super) fn would_block(&self) -> bool {
        match self {
            Source::Records(records) => records.would_block(),
            Source::Values(..) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_command_line_is_split() {
        let values =
            |words: &[&str], linked| SourceArg { origin: Origin::Values(strings(words)), linked };
        let file = |name: &str, linked| SourceArg { origin: Origin::File(name.into()), linked };
        for (words, command, sources) in [
            (&["a", "{}"][..], &["a", "{}"][..], vec![]),
            (&["a", ":::"], &["a"], vec![values(&[], false)]),
            (&[":::", "a b"], &[], vec![values(&["a b"], false)]),
            (
                &["a", ":::", "1", "2", ":::+", "x", ":::", "y", "z"],
                &["a"],
                vec![values(&["1", "2"], false), values(&["x"], true), values(&["y", "z"], false)],
            ),
            (
                &["a", "::::", "f", "-", "::::+", "g", ":::", ":"],
                &["a"],
                vec![file("f", false), file("-", false), file("g", true), values(&[":"], false)],
            ),
        ] {
            assert_eq!(split(strings(words)), (strings(command), sources), "{words:?}");
        }
    }
}
