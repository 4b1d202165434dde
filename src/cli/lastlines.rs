//! The last lines of a file, however long it is: found from its end, without holding it.

use std::path::Path;

use crate::error::{Cannot, Result};
use crate::queue::Queue;

/// Bytes that are read at a time.
const PIECE: u64 = 1 << 18;

/// Where the last `lines` lines of a file begin; all of it without a number.
pub fn begin(queue: &Queue, path: &Path, lines: Option<usize>) -> Result<u64> {
    let Some(mut wanted) = lines else { return Ok(0) };
    let length = queue.fs.stat(path).cannot("look at a log", path)?.len;
    if wanted == 0 {
        return Ok(length);
    }
    let mut end = length;
    while end > 0 {
        let from = end.saturating_sub(PIECE);
        let limit = usize::try_from(end - from).unwrap_or(usize::MAX);
        let bytes = queue.fs.read(path, from, limit).cannot("read a log", path)?;
        for (at, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let behind = from + at as u64 + 1;
            // The last byte ends a line, and begins none.
            wanted -= usize::from(behind < length);
            if wanted == 0 {
                return Ok(behind);
            }
        }
        end = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::init::init;
    use crate::sys::fs::{Fs, RealFs};
    use crate::sys::host::Platform;

    #[test]
    fn the_last_lines_of_a_short_and_of_a_long_file() {
        let dir = tempfile::tempdir().unwrap();
        let queue = init(&dir.path().join("q"), Platform::real()).unwrap();
        let long = "x".repeat(usize::try_from(PIECE).unwrap());
        for (text, lines, rest) in [
            ("a\nb\nc\n", None, "a\nb\nc\n"),
            ("a\nb\nc\n", Some(0), ""),
            ("a\nb\nc\n", Some(1), "c\n"),
            ("a\nb\nc", Some(2), "b\nc"),
            ("a\n\n", Some(1), "\n"),
            ("a\nb\n", Some(9), "a\nb\n"),
            ("", Some(3), ""),
            (&format!("a\n{long}\nb\n"), Some(2), &format!("{long}\nb\n")),
            (&format!("{long}\n{long}\n"), Some(1), &format!("{long}\n")),
        ] {
            let path = dir.path().join("log");
            RealFs.create(&path, text.as_bytes(), 0o644).unwrap();
            let from = usize::try_from(begin(&queue, &path, lines).unwrap()).unwrap();
            assert!(text[from..] == *rest, "{lines:?} of {} bytes: from {from}", text.len());
        }
    }
}
