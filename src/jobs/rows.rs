//! Rows of values from all sources together: all combinations of them, the last varying fastest.
//!
//! The first source is read as it is needed and never held. Those behind it have to be gone through
//! once for each of its rows: they are kept in memory, as they are read.

use std::path::Path;

use super::format::Format;
use super::source::{Origin, Source, SourceArg};
use crate::error::{Error, Result};
use crate::sys::input::Input;

/// The arguments of a job or a part of them, escaped (`sys::escaped`); or why there cannot be any.
pub type Given = std::result::Result<Vec<String>, String>;

/// Rows as one; a wrong one makes all of it wrong.
pub(super) fn concat(rows: &[Given]) -> Given {
    match rows.iter().find(|row| row.is_err()) {
        Some(wrong) => wrong.clone(),
        None => Ok(rows.iter().flatten().flatten().cloned().collect()),
    }
}

/// Sources that go along with each other; the shortest ends them.
#[derive(Debug)]
struct Linked {
    /// With the number of columns, where a header says how many there are.
    sources: Vec<(Source, Option<usize>)>,
}

impl Linked {
    fn next(&mut self) -> Result<Option<Given>> {
        if let [(source, None)] = self.sources.as_mut_slice() {
            return source.next();
        }
        let mut all = Vec::new();
        for (source, width) in &mut self.sources {
            let Some(row) = source.next()? else { return Ok(None) };
            all.push(match *width {
                Some(width) => row.and_then(|row| fit(row, width)),
                None => row,
            });
        }
        Ok(Some(concat(&all)))
    }

    fn would_block(&self) -> bool {
        self.sources.iter().any(|(source, _)| source.would_block())
    }
}

/// A row with as many columns as the header names, so that those of the next source are found.
fn fit(mut row: Vec<String>, width: usize) -> Given {
    if row.len() > width {
        return Err(format!(
            "a row has {} columns, and the header names {width}: it begins `{}`",
            row.len(),
            row[0]
        ));
    }
    row.resize(width, String::new());
    Ok(row)
}

/// Rows that can be gone through again.
#[derive(Debug)]
struct Stream {
    linked: Linked,
    /// `None`: it is not gone through again.
    seen: Option<Vec<Given>>,
    at: usize,
    ended: bool,
}

impl Stream {
    fn next(&mut self) -> Result<Option<Given>> {
        if let Some(row) = self.seen.as_ref().and_then(|seen| seen.get(self.at)) {
            self.at += 1;
            return Ok(Some(row.clone()));
        }
        if self.ended {
            return Ok(None);
        }
        let row = self.linked.next()?;
        match (&row, &mut self.seen) {
            (None, _) => self.ended = true,
            (Some(row), Some(seen)) => {
                seen.push(row.clone());
                self.at += 1;
            }
            (Some(_), None) => {}
        }
        Ok(row)
    }

    fn is_at_end(&self) -> bool {
        self.ended && self.seen.as_ref().is_none_or(|seen| self.at >= seen.len())
    }

    fn is_replaying(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| self.at < seen.len())
    }
}

/// All rows; see the module. After an error there are none.
#[derive(Debug)]
pub struct Rows {
    streams: Vec<Stream>,
    /// The row of each stream that the last row was made of; empty before the first.
    current: Vec<Given>,
    names: Vec<String>,
    ended: bool,
    from_terminal: bool,
}

impl Rows {
    /// Opens the sources; without any, standard input. With a header, reads the first record of each
    /// source, which may wait for it.
    ///
    /// # Errors
    /// A file that cannot be opened, standard input twice, options that exclude each other, a header
    /// that cannot be read.
    pub fn open(sources: &[SourceArg], format: &Format) -> Result<Rows> {
        format.check()?;
        let stdin = [SourceArg { origin: Origin::File("-".into()), linked: false }];
        let sources = if sources.is_empty() { &stdin[..] } else { sources };
        let is_stdin = |source: &&SourceArg| match &source.origin {
            Origin::File(path) => path == Path::new("-"),
            Origin::Values(_) => false,
        };
        let stdins = sources.iter().filter(is_stdin).count();
        if stdins > 1 {
            return Err(Error::usage(
                "standard input can be read once, and `-` stands there twice",
            )
            .hint("put its values into a file"));
        }
        let mut streams: Vec<Stream> = Vec::new();
        let mut names = Vec::new();
        for arg in sources {
            let mut source = Source::open(&arg.origin, format)?;
            let mut width = None;
            if format.header {
                let header = source.next()?.transpose().map_err(Error::usage)?.unwrap_or_default();
                // One source alone may have rows of any length: nothing stands behind them.
                width = (sources.len() > 1).then_some(header.len());
                names.extend(header);
            }
            match streams.last_mut() {
                Some(stream) if arg.linked => stream.linked.sources.push((source, width)),
                _ => {
                    let linked = Linked { sources: vec![(source, width)] };
                    let seen = (!streams.is_empty()).then(Vec::new);
                    streams.push(Stream { linked, seen, at: 0, ended: false });
                }
            }
        }
        let from_terminal = stdins > 0 && Input::stdin().is_ok_and(|input| input.is_terminal());
        Ok(Rows { streams, current: Vec::new(), names, ended: false, from_terminal })
    }

    /// The names of the columns, from the header; none without one.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether a person is to type the values: it is worth a line that says so.
    pub fn from_terminal(&self) -> bool {
        self.from_terminal
    }

    /// Whether the next row may have to be waited for. What was read already does not count as
    /// waiting. It is a hint: a line that has come in part makes a caller wait all the same.
    pub fn would_block(&self) -> bool {
        if self.ended {
            return false;
        }
        if self.current.is_empty() {
            return self.streams.iter().any(|stream| stream.linked.would_block());
        }
        let next = self.streams.iter().rev().find(|stream| !stream.is_at_end());
        next.is_some_and(|stream| !stream.is_replaying() && stream.linked.would_block())
    }

    fn advance(&mut self) -> Result<Option<Given>> {
        if self.current.is_empty() {
            for stream in &mut self.streams {
                let Some(row) = stream.next()? else { return Ok(None) };
                self.current.push(row);
            }
        } else {
            for at in (0..self.streams.len()).rev() {
                if let Some(row) = self.streams[at].next()? {
                    self.current[at] = row;
                    break;
                }
                if at == 0 {
                    return Ok(None);
                }
                self.streams[at].at = 0;
                if let Some(row) = self.streams[at].next()? {
                    self.current[at] = row;
                }
            }
        }
        // With one source nothing is made of its row again.
        if let [row] = self.current.as_mut_slice() {
            return Ok(Some(std::mem::replace(row, Ok(Vec::new()))));
        }
        Ok(Some(concat(&self.current)))
    }
}

impl Iterator for Rows {
    type Item = Result<Given>;

    fn next(&mut self) -> Option<Result<Given>> {
        if self.ended {
            return None;
        }
        let row = self.advance().transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::split;
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    fn read(line: &str, format: &Format) -> Result<Vec<String>> {
        let (_, sources) = split(words(line));
        let row = |row: Result<Given>| Ok(row?.map_or_else(|why| why, |row| row.join(" ")));
        Rows::open(&sources, format)?.map(row).collect()
    }

    /// The rows are those of GNU parallel 20221122, but for a source without values.
    #[test]
    fn combinations() {
        let format = Format::default();
        for (line, rows) in [
            ("::: a b ::: c d", &["a c", "a d", "b c", "b d"][..]),
            (
                "::: a b :::+ 1 2 3 ::: X Y :::+ 11 22",
                &["a 1 X 11", "a 1 Y 22", "b 2 X 11", "b 2 Y 22"],
            ),
            ("::: a b c :::+ 1 2", &["a 1", "b 2"]),
            (
                "::: 6 7 ::: 4 5 ::: 1 2",
                &["6 4 1", "6 4 2", "6 5 1", "6 5 2", "7 4 1", "7 4 2", "7 5 1", "7 5 2"],
            ),
            ("::: a b :::", &[]),
            (":::", &[]),
        ] {
            assert_eq!(read(line, &format).unwrap(), rows, "{line}");
        }
        let colsep = Format { colsep: Some(",".to_owned()), ..Format::default() };
        assert_eq!(read("::: a,b c,d ::: e,f", &colsep).unwrap(), ["a b e f", "c d e f"]);
        let skip = Format { skip_empty: true, ..Format::default() };
        assert_eq!(read(":::  a :::  b", &skip).unwrap(), ["a b"]);
        let csv = Format { csv: true, ..Format::default() };
        assert_eq!(read("::: \"a,b\",c ", &csv).unwrap(), ["a,b c", ""]);
    }

    #[test]
    fn headers() {
        let format = Format { header: true, colsep: Some(",".to_owned()), ..Format::default() };
        let (_, sources) = split(words("::: n,m a,b c ::: k x"));
        let mut rows = Rows::open(&sources, &format).unwrap();
        assert_eq!(rows.names(), ["n", "m", "k"]);
        assert_eq!(rows.next().unwrap().unwrap().unwrap(), ["a", "b", "x"]);
        // The name of the third column keeps its place.
        assert_eq!(rows.next().unwrap().unwrap().unwrap(), ["c", "", "x"]);
        assert!(rows.next().is_none());
        let wide = read("::: n,m a,b,c d ::: k x", &format).unwrap();
        assert!(wide[0].contains("a row has 3 columns") && wide[1] == "d  x", "{wide:?}");
        assert_eq!(read("::: n,m a,b,c d", &format).unwrap(), ["a b c", "d"]);
        assert!(read("::: n ::: k x", &format).unwrap().is_empty());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "files of a test")]
    fn files() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("f"), b"a b\nc\n").unwrap();
        std::fs::write(path("g"), b"1\n2\n\xff\n").unwrap();
        let format = Format::default();
        let line = format!(":::: {} ::: x y", path("f"));
        assert_eq!(read(&line, &format).unwrap(), ["a b x", "a b y", "c x", "c y"]);
        let line = format!(":::: {} ::::+ {}", path("f"), path("g"));
        assert_eq!(read(&line, &format).unwrap(), ["a b 1", "c 2"]);
        let (_, sources) = split(words(&format!(":::: {}", path("g"))));
        let mut rows = Rows::open(&sources, &format).unwrap();
        assert!(!rows.would_block() && !rows.from_terminal());
        assert_eq!(rows.by_ref().count(), 3);
        assert!(rows.next().is_none() && !rows.would_block());
        // One that is wrong is wrong with each row of the other source, and nothing else is.
        std::fs::write(path("h"), b"1\n2\0\n3\n").unwrap();
        let both = read(&format!("::: a b :::: {}", path("h")), &format).unwrap();
        let (wrong, right): (Vec<_>, Vec<_>) = both.iter().partition(|row| row.contains("NUL"));
        assert_eq!(wrong.len(), 2);
        assert_eq!(right, ["a 1", "a 3", "b 1", "b 3"]);
        let error = read(":::: /does/not/exist", &format).unwrap_err();
        assert!(error.message.contains("cannot open"), "{}", error.message);
        assert!(read(":::: - -", &format).unwrap_err().message.contains("twice"));
    }

    #[test]
    fn a_slow_writer_is_noticed() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (_, sources) = split(vec!["::::".to_owned(), fifo.display().to_string()]);
        let (opened, writer) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut options = std::fs::OpenOptions::new();
                #[expect(clippy::disallowed_methods, reason = "the other end of a fifo")]
                options.write(true).open(&fifo).unwrap()
            });
            (Rows::open(&sources, &Format::default()), writer.join())
        });
        let (mut rows, mut writer) = (opened.unwrap(), writer.unwrap());
        assert!(rows.would_block());
        writer.write_all(b"a\nb\nc").unwrap();
        assert!(!rows.would_block());
        assert_eq!(rows.next().unwrap().unwrap().unwrap(), ["a"]);
        assert!(!rows.would_block());
        assert_eq!(rows.next().unwrap().unwrap().unwrap(), ["b"]);
        // Half a line is no line.
        assert!(rows.would_block());
        // Its end may come late: what another test is about to start holds the descriptor, too.
        drop(writer);
        assert_eq!(rows.next().unwrap().unwrap().unwrap(), ["c"]);
        assert!(!rows.would_block());
        assert!(rows.next().is_none());
    }
}
