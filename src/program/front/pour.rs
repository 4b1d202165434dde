//! What jobs printed, from the files that keep it to our own standard output and standard error: a piece
//! at a time, however much it is and however slowly somebody reads it.

use std::io;
use std::path::Path;

use crate::error::{Cannot, Error, Exit, Result};
use crate::jobs::progress::Progress;
use crate::queue::Queue;
use crate::queue::array::live::Which;
use crate::sys::fs::is_absent;
use crate::sys::stream::Stream;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 18;

/// Hands out a part of a file, a piece after the other, as much of it as is there. `each` says whether it
/// wants more.
pub fn each_piece(
    queue: &Queue,
    path: &Path,
    (mut from, length): (u64, u64),
    mut each: impl FnMut(&[u8]) -> Result<bool>,
) -> Result<()> {
    let end = from.saturating_add(length);
    while from < end {
        let limit = usize::try_from(end - from).unwrap_or(PIECE).min(PIECE);
        let bytes = match queue.fs.read(path, from, limit) {
            Ok(bytes) => bytes,
            Err(e) if is_absent(&e) => return Ok(()),
            Err(e) => return Err(e).cannot("read the output of a job", path),
        };
        if bytes.is_empty() || !each(&bytes)? {
            return Ok(());
        }
        from += bytes.len() as u64;
    }
    Ok(())
}

/// The stream that an output of a job goes to.
pub fn stream(which: Which) -> Stream {
    match which {
        Which::Out => Stream::Out,
        Which::Err => Stream::Err,
    }
}

/// Our own standard output and standard error.
#[derive(Debug, Default)]
pub struct Pour {
    /// Nobody reads one of them any more: nothing more is written.
    pub unread: bool,
    /// Wipes the line of progress, where there is one.
    pub wipe: Option<fn(Option<&Progress>)>,
    /// It was wiped.
    pub wiped: bool,
}

impl Pour {
    /// Writes bytes of one job. `tag` goes before each line; `within`: the last bytes of the job ended
    /// within a line, which changes with these.
    pub fn write(
        &mut self,
        which: Which,
        bytes: &[u8],
        tag: Option<&[u8]>,
        within: &mut bool,
    ) -> Result<()> {
        if bytes.is_empty() || self.unread {
            return Ok(());
        }
        if let (Some(wipe), false) = (self.wipe, self.wiped) {
            wipe(None);
            self.wiped = true;
        }
        let written = match tag {
            None => stream(which).write_all(bytes),
            Some(tag) => stream(which).write_all(&tagged(bytes, tag, *within)),
        };
        *within = !bytes.ends_with(b"\n");
        match written {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.unread = true;
                Ok(())
            }
            other => other.map_err(|cause| Error {
                cause: Some(cause),
                ..Error::new(Exit::Environment, "cannot write the output of a job")
                    .hint("the jobs' output is kept: give the same command again")
            }),
        }
    }
}

fn tagged(bytes: &[u8], tag: &[u8], within: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() + tag.len() + 1);
    for (at, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        if at > 0 || !within {
            text.extend_from_slice(tag);
            text.push(b'\t');
        }
        text.extend_from_slice(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_stands_before_each_line_however_it_is_cut() {
        let text = b"one\n\ntwo\nthree";
        for cut in 0..=text.len() {
            let (first, rest) = text.split_at(cut);
            let mut all = if first.is_empty() { Vec::new() } else { tagged(first, b"t", false) };
            let within = !first.is_empty() && !first.ends_with(b"\n");
            all.extend(if rest.is_empty() { Vec::new() } else { tagged(rest, b"t", within) });
            assert_eq!(all, b"t\tone\nt\t\nt\ttwo\nt\tthree", "cut at {cut}");
        }
    }
}
