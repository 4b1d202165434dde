//! How values are written down: what ends a record, what separates its columns.

use std::io;

use super::records::{Feed, Records};
use crate::error::{Error, Result};

/// How values are written down in a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format {
    /// Records end with a NUL instead of a new line.
    pub null: bool,
    /// What separates columns: fixed text, not a pattern. `\t` stands for a tab.
    pub colsep: Option<String>,
    /// Rows are CSV: RFC 4180, columns separated by commas, or by a `colsep` of one byte.
    pub csv: bool,
    /// The first record of each source has the names of its columns. Then columns are separated by
    /// tabs, where nothing else is said.
    pub header: bool,
    /// Blank records are passed over.
    pub skip_empty: bool,
}

impl Format {
    /// The text between columns.
    fn separator(&self) -> Option<&str> {
        match self.colsep.as_deref() {
            Some("\\t") => Some("\t"),
            Some(text) => Some(text),
            None => (self.header && !self.csv).then_some("\t"),
        }
    }

    /// The byte between columns of CSV.
    pub(super) fn delimiter(&self) -> Result<u8> {
        match self.separator().map(str::as_bytes) {
            None => Ok(b','),
            Some([one]) if !matches!(one, b'"' | b'\n' | b'\r') => Ok(*one),
            Some(_) => Err(Error::usage("with --csv, --colsep is one character of ASCII")
                .hint("write --colsep ';' or --colsep '\\t'")),
        }
    }

    /// Whether this can be read at all.
    pub(super) fn check(&self) -> Result<()> {
        if self.csv && self.null {
            return Err(Error::usage("--csv and --null exclude each other")
                .hint("a row of CSV ends with its line"));
        }
        if self.separator() == Some("") {
            return Err(
                Error::usage("--colsep is empty").hint("write --colsep , or --colsep '\\t'")
            );
        }
        if self.csv {
            self.delimiter()?;
        }
        Ok(())
    }

    /// Whether a record is blank, and blank ones are not wanted. One with separators is not blank.
    pub(super) fn passes_over(&self, record: &str) -> bool {
        self.skip_empty && record.trim().is_empty()
    }

    /// The columns of one record.
    pub(super) fn columns(&self, record: String) -> Result<Vec<String>> {
        if self.csv {
            let input: Box<dyn Feed> = Box::new(io::Cursor::new(record.into_bytes()));
            let mut rows = Records::new(input, "the command line".to_owned(), self)?;
            let row = rows.next()?.transpose().map_err(Error::usage)?;
            return Ok(row.unwrap_or_else(|| vec![String::new()]));
        }
        Ok(match self.separator() {
            None => vec![record],
            Some(separator) => {
                record.split(separator).map(|column| column.trim().to_owned()).collect()
            }
        })
    }
}
