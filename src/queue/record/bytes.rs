//! From the bytes of a file to a record, and back.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most bytes that a record may have.
pub const RECORD_MAX: usize = 1 << 20;

/// Why a file is not the record it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Reads a record from the bytes of a file.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    if bytes.is_empty() {
        return Err(Unreadable("the file is empty".to_owned()));
    }
    if bytes.len() >= RECORD_MAX {
        return Err(Unreadable("longer than 1 MiB".to_owned()));
    }
    // What follows must be the same for readers in any language: an array of the values in the right
    // order, or text in another encoding in a field that is passed over, would be taken here alone.
    let no = |why: &dyn std::fmt::Display| Unreadable(format!("not a record: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|e| no(&e))?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(no(&"no JSON object"));
    }
    serde_json::from_str(text).map_err(|e| no(&e))
}

/// The bytes of a record: one field a line, so that `cat` and `diff` serve people. Where that is
/// longer than readers take (each element of an array has a line, too), all on one line.
pub fn to_bytes<T: Serialize>(record: &T) -> Vec<u8> {
    let mut short = Short(Vec::new());
    let mut bytes = match serde_json::to_writer_pretty(&mut short, record) {
        Ok(()) => short.0,
        // Serialising plain structs into memory cannot fail; an empty file would be named by fsck.
        Err(_) => serde_json::to_vec(record).unwrap_or_default(),
    };
    bytes.push(b'\n');
    bytes
}

/// Takes what a record may have, less the line end, and refuses the rest.
struct Short(Vec<u8>);

impl std::io::Write for Short {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > RECORD_MAX - 2 {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
