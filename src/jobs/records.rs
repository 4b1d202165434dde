//! Input cut into records, and records into columns, with no more than one record in memory.
//!
//! A record is a line, what ends with a NUL (`-0`), or a row of CSV. Without a separator of columns
//! it has one. With one, blanks around a column are taken away, as GNU parallel does; CSV keeps
//! them. A carriage return at the end of a line stays, as there, but in columns, where it is a blank
//! as any other, and in CSV, where it belongs to the end of the row. Empty rows of CSV are passed
//! over.
//!
//! Where a record cannot be the arguments of a job, the reason stands in its place, and those behind
//! it are read all the same.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::format::Format;
use super::rows::Given;
use crate::error::{Cannot, Result};
use crate::sys::escaped::escape;
use crate::sys::input::Input;

/// The longest record, in bytes: a job must fit into a record of a queue.
pub const RECORD_MAX: usize = 512 * 1024;

/// What can be read, and asked whether reading would wait.
pub(super) trait Feed: Read + Send {
    fn is_silent(&self) -> bool;
}

impl Feed for Input {
    fn is_silent(&self) -> bool {
        Input::is_silent(self)
    }
}

impl Feed for io::Cursor<Vec<u8>> {
    fn is_silent(&self) -> bool {
        false
    }
}

/// Records of one input.
pub(super) struct Records {
    reader: BufReader<Box<dyn Feed>>,
    format: Format,
    csv: Option<Box<Reader>>,
    /// For messages.
    name: String,
    /// The line, or record with `-0`, that was read last, from 1.
    line: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("name", &self.name).field("line", &self.line).finish()
    }
}

impl Records {
    pub(super) fn new(input: Box<dyn Feed>, name: String, format: &Format) -> Result<Records> {
        let csv = match format.csv {
            true => Some(Box::new(ReaderBuilder::new().delimiter(format.delimiter()?).build())),
            false => None,
        };
        let reader = BufReader::with_capacity(64 << 10, input);
        let format = format.clone();
        Ok(Records { reader, format, csv, name, line: 0, bytes: Vec::new(), ends: Vec::new() })
    }

    /// The next row that is not passed over; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Given>> {
        let Some(mut csv) = self.csv.take() else {
            loop {
                match self.next_line()? {
                    Some(Ok(record)) if self.format.passes_over(&record) => {}
                    Some(Ok(record)) => {
                        return self.format.columns(record).map(|row| Some(Ok(row)));
                    }
                    Some(Err(why)) => return Ok(Some(Err(why))),
                    None => return Ok(None),
                }
            }
        };
        let row = loop {
            match self.next_row(&mut csv) {
                Ok(Some(Ok(row))) if row.len() == 1 && self.format.passes_over(&row[0]) => {}
                row => break row,
            }
        };
        self.csv = Some(csv);
        row
    }

    fn next_line(&mut self) -> Result<Option<std::result::Result<String, String>>> {
        let end = if self.format.null { 0 } else { b'\n' };
        self.bytes.clear();
        let mut some = (&mut self.reader).take(RECORD_MAX as u64 + 1);
        let length =
            some.read_until(end, &mut self.bytes).cannot("read values", Path::new(&self.name))?;
        if length == 0 {
            return Ok(None);
        }
        self.line += 1;
        let whole = self.bytes.last() == Some(&end);
        if whole {
            self.bytes.pop();
        }
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.contains(&0) {
            self.bytes = bytes;
            self.skip_rest(end, whole)?;
            let why = "has a NUL (if a NUL ends each value, use -0, as after `find -print0`)";
            return Ok(Some(Err(self.wrong(why))));
        }
        if length > RECORD_MAX && !whole {
            self.bytes = bytes;
            self.skip_rest(end, whole)?;
            return Ok(Some(Err(self.too_long())));
        }
        // Names of columns are text, and so is what stands below them.
        if self.format.header && std::str::from_utf8(&bytes).is_err() {
            return Ok(Some(Err(self.not_text("--header"))));
        }
        Ok(Some(Ok(escape(bytes))))
    }

    /// Goes past what is left of a record of which not all was read.
    fn skip_rest(&mut self, end: u8, whole: bool) -> Result<()> {
        let mut whole = whole || self.bytes.len() <= RECORD_MAX;
        while !whole {
            self.bytes.clear();
            let mut some = (&mut self.reader).take(RECORD_MAX as u64);
            let length = some
                .read_until(end, &mut self.bytes)
                .cannot("read values", Path::new(&self.name))?;
            whole = length == 0 || self.bytes.last() == Some(&end);
        }
        Ok(())
    }

    fn next_row(&mut self, csv: &mut Reader) -> Result<Option<Given>> {
        let (mut filled, mut count, mut too_long) = (0, 0, false);
        self.bytes.resize(4096.max(self.bytes.len()), 0);
        self.ends.resize(64.max(self.ends.len()), 0);
        self.line = csv.line();
        loop {
            let input = match self.reader.fill_buf() {
                Ok(input) => input,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e).cannot("read values", Path::new(&self.name)),
            };
            let (result, read, written, ended) =
                csv.read_record(input, &mut self.bytes[filled..], &mut self.ends[count..]);
            self.reader.consume(read);
            (filled, count) = (filled + written, count + ended);
            match result {
                ReadRecordResult::InputEmpty => {}
                // What it has is not looked at any more; its end must still be found.
                ReadRecordResult::OutputFull if self.bytes.len() >= RECORD_MAX => {
                    (filled, too_long) = (0, true);
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() >= RECORD_MAX => {
                    (count, too_long) = (0, true);
                }
                ReadRecordResult::OutputFull => self.bytes.resize(self.bytes.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
        }
        if too_long {
            return Ok(Some(Err(self.too_long())));
        }
        let mut row = Vec::with_capacity(count);
        let mut start = 0;
        for end in &self.ends[..count] {
            match std::str::from_utf8(&self.bytes[start..*end]) {
                Ok(text) if text.contains('\0') => return Ok(Some(Err(self.wrong("has a NUL")))),
                // It may still be a text that must be told from bytes which are none.
                Ok(text) => row.push(escape(text.into())),
                Err(_) => return Ok(Some(Err(self.not_text("--csv")))),
            }
            start = *end;
        }
        Ok(Some(Ok(row)))
    }

    /// Whether the next record may have to be waited for: no whole line is here, and nothing comes.
    /// A row of CSV with new lines in quotes may have to be waited for although it says no.
    pub(super) fn would_block(&self) -> bool {
        let end = if self.format.null { 0 } else { b'\n' };
        !self.reader.buffer().contains(&end) && self.reader.get_ref().is_silent()
    }

    fn wrong(&self, what: &str) -> String {
        let unit = if self.format.null { "record" } else { "line" };
        format!("{}: {unit} {} {what}", self.name, self.line)
    }

    fn not_text(&self, option: &str) -> String {
        self.wrong(&format!("is not UTF-8, as {option} needs it (iconv converts it)"))
    }

    fn too_long(&self) -> String {
        self.wrong(&format!("is longer than {RECORD_MAX} bytes (put long texts into files)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::escaped::unescape;
    use proptest::prelude::*;

    fn given(bytes: &[u8], format: &Format) -> Result<Vec<Given>> {
        format.check()?;
        let feed = Box::new(io::Cursor::new(bytes.to_vec()));
        let mut records = Records::new(feed, "f".to_owned(), format)?;
        let mut rows = Vec::new();
        while let Some(row) = records.next()? {
            rows.push(row);
        }
        Ok(rows)
    }

    /// Rows of which none is wrong.
    fn read(bytes: &[u8], format: &Format) -> Result<Vec<Vec<String>>> {
        Ok(given(bytes, format)?.into_iter().map(|row| row.unwrap()).collect())
    }

    fn format(flags: &str, colsep: Option<&str>) -> Format {
        Format {
            null: flags.contains('0'),
            csv: flags.contains('c'),
            header: flags.contains('h'),
            skip_empty: flags.contains('r'),
            colsep: colsep.map(str::to_owned),
        }
    }

    /// The outcomes are those of GNU parallel 20221122, but for blank rows and quotes in the middle
    /// of CSV.
    #[test]
    fn records_and_columns() {
        for (flags, colsep, text, rows) in [
            ("", None, "a\n\nb\n", vec![vec!["a"], vec![""], vec!["b"]]),
            ("r", None, "a\n\n  \nb\n", vec![vec!["a"], vec!["b"]]),
            ("", None, "a\nb", vec![vec!["a"], vec!["b"]]),
            ("", None, "\n", vec![vec![""]]),
            ("", None, "", vec![]),
            ("", None, "a\r\n  b \n", vec![vec!["a\r"], vec!["  b "]]),
            ("0", None, "a\0\0b", vec![vec!["a"], vec![""], vec!["b"]]),
            ("0", None, "a\nb\0c\n\0", vec![vec!["a\nb"], vec!["c\n"]]),
            (
                "",
                Some(","),
                "a,b , c\nd,,f\ng\n",
                vec![vec!["a", "b", "c"], vec!["d", "", "f"], vec!["g"]],
            ),
            ("", Some(", "), "a, b,c\r\n", vec![vec!["a", "b,c"]]),
            ("", Some("\\t"), "a\tb\n", vec![vec!["a", "b"]]),
            ("h", None, "a\tb\n", vec![vec!["a", "b"]]),
            (
                "c",
                None,
                "\"a,x\",\"b \"\"q\"\"\",\" c \"\nd,,f\ng\n",
                vec![vec!["a,x", "b \"q\"", " c "], vec!["d", "", "f"], vec!["g"]],
            ),
            ("c", None, "\"a\nx\",b\r\nd,e\r\n", vec![vec!["a\nx", "b"], vec!["d", "e"]]),
            ("c", Some(";"), "a;b,c", vec![vec!["a", "b,c"]]),
            ("c", None, "\n\"a\"x,b", vec![vec!["ax", "b"]]),
            ("cr", None, " , \n  \nx\n", vec![vec![" ", " "], vec!["x"]]),
            ("r", Some(","), ",,\n\na,b,\n", vec![vec!["", "", ""], vec!["a", "b", ""]]),
        ] {
            assert_eq!(read(text.as_bytes(), &format(flags, colsep)).unwrap(), rows, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_line_and_undoes_nothing() {
        let long = [&b"a\n"[..], &[b'x'; 3 * RECORD_MAX], b"\nz\n"].concat();
        let columns = [&b"a\n"[..], &[b','; 3 * RECORD_MAX], b"\nz\n"].concat();
        for (flags, bytes, says) in [
            ("", &b"a\nb\0c\nz\n"[..], "f: line 2 has a NUL"),
            ("h", b"a\n\xff\nz\n", "f: line 2 is not UTF-8, as --header"),
            ("c", b"a\nb,\"\n\",\xff\nz\n", "f: line 2 is not UTF-8, as --csv"),
            ("c", b"a\nb\0\nz\n", "f: line 2 has a NUL"),
            ("", &long, "f: line 2 is longer"),
            ("c", &long, "f: line 2 is longer"),
            ("c", &columns, "f: line 2 is longer"),
        ] {
            let rows = given(bytes, &format(flags, None)).unwrap();
            let [Ok(first), Err(why), Ok(last)] = &rows[..] else { panic!("{flags} {says}") };
            assert!(why.contains(says), "{why}");
            assert_eq!((&first[..], &last[..]), (&["a".to_owned()][..], &["z".to_owned()][..]));
        }
        let whole = [&[b'x'; RECORD_MAX][..], b"\n"].concat();
        assert_eq!(read(&whole, &format("", None)).unwrap()[0][0].len(), RECORD_MAX);
        let torn = given(&long[..2 * RECORD_MAX], &format("", None)).unwrap();
        assert!(torn.len() == 2 && torn[1].is_err(), "the end of the input ends it");
        for (flags, colsep, says) in [
            ("c0", None, "--csv and --null"),
            ("c", Some(", "), "one character"),
            ("", Some(""), "empty"),
        ] {
            let error = read(b"", &format(flags, colsep)).unwrap_err();
            assert!(error.message.contains(says), "{}", error.message);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_values_too() {
        let rows = read(b"a\xff,\xfeb\n", &format("", Some(","))).unwrap();
        assert_eq!(rows, [["a\u{10FEFF}", "\u{10FEFE}b"]]);
        assert_eq!(read(b"\xff\0b", &format("0", None)).unwrap(), [["\u{10FEFF}"], ["b"]]);
    }

    proptest! {
        #[test]
        fn csv_there_and_back(rows in prop::collection::vec(prop::collection::vec("[a\",\n\r é]{0,5}", 1..4), 0..5)) {
            let quoted = |column: &String| format!("\"{}\"", column.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\r\n";
            let text: String = rows.iter().map(line).collect();
            prop_assert_eq!(read(text.as_bytes(), &format("c", None)).unwrap(), rows);
        }

        #[test]
        fn lines_there_and_back(lines in prop::collection::vec("[^\n\0]{0,8}", 0..5)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            // As bytes: the few characters that stand for bytes are written as bytes themselves.
            let read = read(text.as_bytes(), &format("", None)).unwrap();
            let bytes: Vec<_> = read.iter().map(|row| unescape(&row[0]).into_owned()).collect();
            let given: Vec<_> = lines.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(bytes, given);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..64), csv: bool, null: bool) {
            let _read = given(&bytes, &Format { csv, null: null && !csv, ..Format::default() });
        }
    }
}
