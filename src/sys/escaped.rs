//! Bytes as text that is read back unchanged. File names are bytes, and records are UTF-8.
//!
//! A byte that is no part of UTF-8 stands as the character U+10FE00 + byte, of the private use area:
//! U+10FE80 to U+10FEFF. Where text has such a character already, each of its four bytes is written so.
//! Therefore each sequence of bytes has one text, and no two have the same. The idea is that of Python's
//! `surrogateescape` (PEP 383), which JSON and Rust could not hold.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

const BASE: u32 = 0x10_FE00;
const FIRST: char = '\u{10FE80}';
const LAST: char = '\u{10FEFF}';

/// The first byte of each of these characters in UTF-8; hardly any text has it.
const LEAD: u8 = 0xF4;

fn is_escape(c: char) -> bool {
    (FIRST..=LAST).contains(&c)
}

fn push(text: &mut String, byte: u8) {
    text.extend(char::from_u32(BASE + u32::from(byte)));
}

/// Bytes as text.
pub fn escape(bytes: Vec<u8>) -> String {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) if !has_escapes(&text) => return text,
        Ok(text) => text.into_bytes(),
        Err(e) => e.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match is_escape(c) {
                true => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push(&mut text, byte)),
                false => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| push(&mut text, *byte));
    }
    text
}

/// A word of the command line as text.
pub fn escape_os(word: OsString) -> String {
    escape(word.into_vec())
}

/// The bytes that a text stands for.
pub fn unescape(text: &str) -> Cow<'_, [u8]> {
    if !has_escapes(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match is_escape(c) {
            true => bytes.push((u32::from(c) & 0xFF) as u8),
            false => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// The same as a word of a command line.
pub fn unescape_os(text: &str) -> OsString {
    OsStr::from_bytes(&unescape(text)).to_owned()
}

/// The same as a path.
pub fn unescape_path(text: &str) -> PathBuf {
    unescape_os(text).into()
}

/// Whether a text stands for bytes that are not UTF-8 (or are an escape themselves).
pub fn has_escapes(text: &str) -> bool {
    text.as_bytes().contains(&LEAD) && text.contains(is_escape)
}

/// How many bytes a text stands for.
pub fn length(text: &str) -> usize {
    match has_escapes(text) {
        true => unescape(text).len(),
        false => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_text_stays_so() {
        for text in ["", "a b.c", "é€𝄞", "\u{10FE7F}\u{10FF00}\u{10FFFF}"] {
            assert_eq!(escape(text.into()), text);
            assert_eq!(unescape(text), text.as_bytes());
        }
        assert_eq!(escape(b"a\xffb\xc3".to_vec()), "a\u{10FEFF}b\u{10FEC3}");
        assert_eq!(unescape_os("a\u{10FEFF}"), OsStr::from_bytes(b"a\xff"));
        assert_eq!(escape_os(OsString::from("\u{10FEFF}")).chars().count(), 4);
        assert_eq!((length("\u{10FEFF}é"), has_escapes("é")), (3, false));
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = escape(bytes.clone());
            prop_assert_eq!(&*unescape(&text), &bytes[..]);
        }

        /// Among them texts that look escaped already.
        #[test]
        fn so_do_characters_of_that_area(text in "[a\u{10FE00}-\u{10FF10}]{0,8}") {
            let escaped = escape(text.clone().into());
            prop_assert_eq!(&*unescape(&escaped), text.as_bytes());
            if !has_escapes(&text) {
                prop_assert_eq!(escaped, text);
            }
        }
    }
}
