//! What the jobs wrote, in the order in which they wrote it.
//!
//! All jobs append to one file, each line with a single write, so the file has one order for all
//! tasks: no clock is compared with another.

use std::path::Path;

use crate::error::{Cannot, Result};
use crate::sys::fs::{Fs, RealFs};

/// The longest order file that is read.
const ORDER_MAX: usize = 1 << 30;

/// What a job says that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It begins.
    Start,
    /// It has an effect.
    Deed,
    /// It has done everything.
    End,
    /// It gives up.
    Fail,
    /// It found that this attempt had been begun by another process.
    Twice,
}

/// A line of the order file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The task.
    pub id: String,
    /// The attempt.
    pub n: u32,
    /// What it did.
    pub word: Word,
}

/// Reads a line; `None` if it is none, such as one that a kill has torn.
pub fn parse(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let (id, n) = (words.next()?, words.next()?.parse().ok()?);
    let word = match words.next()? {
        "start" => Word::Start,
        "deed" => Word::Deed,
        "end" => Word::End,
        "fail" => Word::Fail,
        "twice" => Word::Twice,
        _ => return None,
    };
    (words.next().is_none() && !id.is_empty()).then(|| Line { id: id.to_owned(), n, word })
}

/// What the jobs of a ground wrote.
#[derive(Debug, Clone, Default)]
pub struct Witness {
    /// The lines of all jobs, in their order.
    pub lines: Vec<Line>,
    /// Lines that cannot be read.
    pub bad: Vec<String>,
    /// The attempts that have a witness file of their own, as `T.n`.
    pub attempts: Vec<String>,
}

/// Reads what the jobs of the ground in `dir` wrote.
pub fn read(dir: &Path) -> Result<Witness> {
    let path = dir.join("witness/order");
    let bytes = match RealFs.read(&path, 0, ORDER_MAX) {
        Err(e) if crate::sys::fs::is_absent(&e) => Vec::new(),
        other => other.cannot("read what the jobs wrote", &path)?,
    };
    let mut witness = Witness::default();
    for line in String::from_utf8_lossy(&bytes).lines().filter(|l| !l.is_empty()) {
        match parse(line) {
            Some(line) => witness.lines.push(line),
            None => witness.bad.push(line.to_owned()),
        }
    }
    let attempts = dir.join("witness/attempts");
    let files = RealFs.list(&attempts).cannot("list the witness files", &attempts)?;
    witness.attempts = files.into_iter().map(|entry| entry.name).collect();
    Ok(witness)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_others_are_not() {
        let line = parse("t1 2 deed").unwrap();
        assert_eq!((line.id.as_str(), line.n, line.word), ("t1", 2, Word::Deed));
        for bad in ["", "t1", "t1 x start", "t1 1 dee", "t1 1 deed more", " 1 deed"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
