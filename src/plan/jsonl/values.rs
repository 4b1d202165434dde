//! The JSON values of a text that is read piece by piece: one after the other, or the elements of one
//! array. No more than one value is held, however long the text is.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::queue::record::RECORD_MAX;

/// Bytes of a value that are read: what is longer is no task, but may be an open quote, which the parser
/// can name.
const VALUE_MAX: usize = 2 * RECORD_MAX;

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing was read yet.
    Start,
    /// A value, or the end.
    Value,
    /// The first element of the array, or its end.
    First,
    /// An element.
    Element,
    /// A comma, or the end of the array.
    Comma,
    /// The end of the text.
    End,
    /// There was an error, or the end.
    Nothing,
}

/// Reads values; `more` gives the next bytes of the text, and none at its end.
pub struct Values<'a, F> {
    file: &'a str,
    more: F,
    bytes: Vec<u8>,
    at: usize,
    next: Next,
    /// Of the next byte: its line, from 1, and how many bytes of it were read.
    place: (usize, usize),
}

impl<'a, F: FnMut() -> Result<Vec<u8>>> Values<'a, F> {
    /// A reader at the beginning of a text. `file` is only named in messages.
    pub fn new(file: &'a str, more: F) -> Values<'a, F> {
        Values { file, more, bytes: Vec::new(), at: 0, next: Next::Start, place: (1, 0) }
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        if self.at == self.bytes.len() {
            (self.bytes, self.at) = ((self.more)()?, 0);
        }
        Ok(self.bytes.get(self.at).copied())
    }

    fn pass(&mut self, byte: u8) {
        self.at += 1;
        self.place =
            if byte == b'\n' { (self.place.0 + 1, 0) } else { (self.place.0, self.place.1 + 1) };
    }

    /// The next byte that is no white space, which stays.
    fn begin(&mut self) -> Result<Option<u8>> {
        while let Some(byte) = self.peek()? {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Ok(Some(byte));
            }
            self.pass(byte);
        }
        Ok(None)
    }

    fn pass_mark(&mut self) -> Result<()> {
        // A byte order mark is three bytes, which may stand in two pieces.
        let mut passed = Vec::new();
        for byte in [0xef, 0xbb, 0xbf] {
            if self.peek()? != Some(byte) {
                // Another character that begins as the mark does.
                passed.extend_from_slice(&self.bytes[self.at..]);
                (self.bytes, self.at) = (passed, 0);
                return Ok(());
            }
            self.at += 1;
            passed.push(byte);
        }
        Ok(())
    }

    /// The next value, with the line that it begins at.
    fn value(&mut self) -> Result<Option<(usize, Value)>> {
        if self.next == Next::Start {
            self.pass_mark()?;
            self.next = Next::Value;
            if let Some(byte @ b'[') = self.begin()? {
                self.pass(byte);
                self.next = Next::First;
            }
        }
        loop {
            let byte = self.begin()?;
            match (self.next, byte) {
                (Next::Nothing, _) | (Next::Value | Next::End, None) => return Ok(None),
                (Next::End, Some(_)) => return Err(self.wrong(self.place, "trailing characters")),
                (_, None) => return Err(self.wrong(self.place, "EOF while parsing a list")),
                (Next::First | Next::Comma, Some(end @ b']')) => {
                    self.pass(end);
                    self.next = Next::End;
                }
                (Next::Comma, Some(comma @ b',')) => {
                    self.pass(comma);
                    self.next = Next::Element;
                }
                (Next::Comma, Some(_)) => {
                    return Err(self.wrong(self.place, "expected `,` or `]`"));
                }
                (Next::Element, Some(b']')) => {
                    return Err(self.wrong(self.place, "trailing comma"));
                }
                (next, Some(_)) => {
                    if next != Next::Value {
                        self.next = Next::Comma;
                    }
                    return self.parse(next != Next::Value).map(Some);
                }
            }
        }
    }

    fn parse(&mut self, is_element: bool) -> Result<(usize, Value)> {
        let begun = self.place;
        let text = self.take(is_element)?;
        if std::str::from_utf8(&text).is_err() {
            let what = format!("{}:{}: this is not UTF-8 text", self.file, begun.0);
            return Err(Error::usage(what).hint("save it as UTF-8 (iconv -f latin1 -t utf-8)"));
        }
        let cut = text.len() >= VALUE_MAX;
        serde_json::from_slice(&text).map(|value| (begun.0, value)).map_err(|e| {
            if cut && e.is_eof() {
                let what = format!("{}:{}: longer than 1 MiB", self.file, begun.0);
                return Error::usage(what).hint(
                    "put long texts into files of the project; or is a quote or brace not closed?",
                );
            }
            let (line, column) = (e.line().max(1), e.column());
            let before = if line == 1 { begun.1 } else { 0 };
            let text = e.to_string();
            // Its own place is that within the value.
            let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
            self.wrong((begun.0 + line - 1, before + column), what)
        })
    }

    /// The bytes of one value, not checked: up to the bracket that closes it, or what is none to the end of
    /// its line or element.
    fn take(&mut self, is_element: bool) -> Result<Vec<u8>> {
        let (mut text, mut depth) = (Vec::new(), 0usize);
        let (mut quoted, mut escaped) = (false, false);
        while let Some(byte) = self.peek()? {
            let ends = match byte {
                b'\n' => depth == 0,
                b',' | b']' => is_element && depth == 0 && !quoted,
                _ => false,
            };
            if ends || text.len() >= VALUE_MAX {
                break;
            }
            text.push(byte);
            self.pass(byte);
            if quoted {
                (quoted, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
                continue;
            }
            match byte {
                b'"' => quoted = true,
                b'[' | b'{' => depth += 1,
                b']' | b'}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        break;
                    }
                }
                _ => {}
            }
        }
        Ok(text)
    }

    fn wrong(&self, (line, column): (usize, usize), what: &str) -> Error {
        Error::usage(format!("{}:{line}:{column}: not JSON: {}", self.file, super::lower(what)))
            .hint("one JSON object a line, such as {\"id\": \"W-1\", \"sh\": \"make\"}")
    }
}

impl<F: FnMut() -> Result<Vec<u8>>> Iterator for Values<'_, F> {
    type Item = Result<(usize, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.value().transpose();
        if !matches!(found, Some(Ok(_))) {
            self.next = Next::Nothing;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The values of a text that comes in pieces of that many bytes.
    fn read(text: &[u8], size: usize) -> Vec<std::result::Result<(usize, Value), String>> {
        let mut pieces = text.chunks(size);
        let more = || Ok(pieces.next().unwrap_or_default().to_vec());
        let values = Values::new("f", more);
        values.map(|value| value.map_err(|e| e.message)).collect()
    }

    #[test]
    fn an_open_quote_is_named_and_not_read_to_the_end() {
        let open = format!("{{\"a\": \"b}}\n{}", "{}\n".repeat(VALUE_MAX));
        let found = read(open.as_bytes(), 1 << 16);
        let says = found[0].as_ref().unwrap_err();
        assert!(says.starts_with("f:2:0: not JSON: control character"), "{says}");
        let long = format!("{{\"a\": \"{}", "x".repeat(2 * VALUE_MAX));
        assert_eq!(read(long.as_bytes(), 1 << 16), [Err("f:1: longer than 1 MiB".to_owned())]);
        assert_eq!(read(b"{}\n\xff\n", 9)[1], Err("f:2: this is not UTF-8 text".to_owned()));
        // It begins with the first byte of a byte order mark.
        for size in 1..4 {
            let says = read("\u{fffd}{}".as_bytes(), size)[0].as_ref().unwrap_err().clone();
            assert!(says.starts_with("f:1:1: not JSON"), "{says}");
            assert_eq!(read("\u{feff}{}".as_bytes(), size).len(), 1);
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_are_the_same_text(
            values in prop::collection::vec("[\\[\\]{},\"\\\\a\n ]{0,6}", 0..6),
            size in 1usize..9,
            is_list in any::<bool>(),
        ) {
            let values: Vec<Value> = values.into_iter().map(Value::from).collect();
            let text = match is_list {
                true => serde_json::to_string_pretty(&values).unwrap(),
                false => values.iter().map(|v| format!("{{\"k\":{v}}}\r\n\n")).collect(),
            };
            let found: Vec<Value> =
                read(text.as_bytes(), size).into_iter().map(|v| v.unwrap().1).collect();
            let found: Vec<Value> = match is_list {
                true => found,
                false => found.into_iter().map(|v| v["k"].clone()).collect(),
            };
            prop_assert_eq!(found, values);
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(read(&bytes, 1), read(&bytes, 64));
        }
    }
}
