//! Printing: data on standard output, everything else on standard error.

use std::fmt::Write;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::error::{Error, Exit};
use crate::program::start;
use crate::sys::stream::Stream;

/// Nobody reads standard output any more.
static UNREAD: AtomicBool = AtomicBool::new(false);
/// Why something was not printed.
static FAULT: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints data. A slow reader is waited for. When nobody reads any more nothing is printed, and the verb
/// goes on: what it does is not for the reader alone. A verb that only prints ends (`is_unread`).
pub fn data(bytes: &[u8]) {
    if is_unread() {
        return;
    }
    match Stream::Out.write_all(bytes) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => UNREAD.store(true, Ordering::Relaxed),
        Err(e) => drop(FAULT.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e)),
    }
}

/// Whether nobody reads standard output any more, as far as was noticed.
pub fn is_unread() -> bool {
    UNREAD.load(Ordering::Relaxed)
}

/// What went wrong with printing: a disk that is full. A pipe that is closed is no fault.
pub fn fault() -> Option<Error> {
    let cause = FAULT.lock().unwrap_or_else(PoisonError::into_inner).take();
    cause.map(|cause| Error {
        cause: Some(cause),
        ..Error::new(Exit::Environment, "cannot write to standard output")
    })
}

/// Prints a line. Whatever text is in it shows as text.
pub fn line(text: &str) {
    data(format!("{}\n", printable(text)).as_bytes());
}

/// Prints a name that a program may read, a line: as it is, but on a terminal.
pub fn name(text: &str) {
    match Stream::Out.is_terminal() {
        true => line(text),
        false => data(format!("{text}\n").as_bytes()),
    }
}

/// Says something on standard error. Nobody may hear it.
fn say(text: &str) {
    drop(Stream::Err.write_all(text.as_bytes()));
}

/// Prints a JSON document: on one line for programs, indented for people.
pub fn document(value: &Value) {
    let text = if Stream::Out.is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    data(format!("{}\n", plain_json(&text.unwrap_or_default())).as_bytes());
}

/// JSON with everything escaped in it that would not show as text.
fn plain_json(text: &str) -> String {
    shown_as(text, |c, to| {
        let _ = write!(to, "\\u{:04x}", u32::from(c));
    })
}

/// A remark for the person at the terminal.
pub fn note(text: &str) {
    say(&format!("{}\n", printable(text)));
}

/// A warning.
pub fn warn(text: &str) {
    say(&format!("warning: {}\n", printable(text)));
}

/// What is wrong with a command line, in lines of its own.
pub fn complaint(text: &str) {
    say(&printable(text));
}

/// An error for the person, or for the program that asked for JSON.
pub fn error(error: &Error, as_json: bool) {
    if as_json {
        let mut object = json!({
            "schema": "coord.error/1",
            "code": error.exit.word(),
            "exit": error.exit as u8,
            "message": error.message,
        });
        if let Some(cause) = &error.cause {
            object["cause"] = cause.to_string().into();
        }
        if let Some(at) = &error.at {
            object["at"] = at.to_string_lossy().into();
        }
        if let Some(hint) = &error.hint {
            object["hint"] = hint.as_str().into();
        }
        return say(&format!("{}\n", plain_json(&object.to_string())));
    }
    let mut out = String::new();
    let _ = writeln!(out, "error: {}", error.message);
    if let Some(cause) = &error.cause {
        let _ = writeln!(out, "  caused by: {cause}");
    }
    if let Some(at) = &error.at {
        let _ = writeln!(out, "  at: {}", printable(&at.to_string_lossy()));
    }
    if let Some(hint) = &error.hint {
        let _ = writeln!(out, "  hint: {hint}");
    }
    say(&printable(&out));
}

/// Whether a character does something to the text around it instead of being shown: it moves the cursor,
/// ends the line, or turns the direction of writing (Unicode's bidirectional controls, as in
/// CVE-2021-42574).
fn is_hostile(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' => true,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

fn shown_as(text: &str, escape: impl Fn(char, &mut String)) -> String {
    if !text.contains(is_hostile) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_hostile(c) {
            true => escape(c, &mut shown),
            false => shown.push(c),
        }
    }
    shown
}

/// Text of unknown origin as text: a title must not be able to move the cursor.
pub fn printable(text: &str) -> String {
    shown_as(text, |c, to| to.extend(c.escape_default()))
}

/// Text cut to a width, on one line.
pub fn cut(text: &str, width: usize) -> String {
    let text = printable(text).replace(['\n', '\t'], " ");
    if text.chars().count() <= width {
        return text;
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Bytes on a disk, for people.
pub fn size(bytes: u64) -> String {
    if bytes >= 10 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
}

/// Prints rows in columns that are as wide as needed; the last one is not padded.
pub fn columns(rows: &[Vec<String>]) {
    let shown = |row: &Vec<String>| row.iter().map(|cell| printable(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| {
        rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    for row in &rows {
        let mut text = String::new();
        for (i, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if i + 1 < row.len() {
                let pad = widths[i] - cell.chars().count() + 2;
                text.extend(std::iter::repeat_n(' ', pad));
            }
        }
        line(text.trim_end());
    }
}

/// Rows for columns, of which there may be very many: held as one text.
#[derive(Default)]
pub struct Table {
    /// Cells with a mark behind each, rows with the end of a line.
    text: String,
    widths: Vec<usize>,
}

impl Table {
    /// What stands behind a cell. Text that is shown has no such character.
    const MARK: char = '\u{1f}';

    /// Adds a row.
    pub fn row(&mut self, cells: &[&str]) {
        self.widths.resize(self.widths.len().max(cells.len()), 0);
        for (cell, width) in cells.iter().zip(&mut self.widths) {
            let cell = printable(cell).replace('\n', " ");
            *width = cell.chars().count().max(*width);
            self.text.push_str(&cell);
            self.text.push(Table::MARK);
        }
        self.text.push('\n');
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Prints the rows in columns that are as wide as needed.
    pub fn print(&self) {
        for row in self.text.lines() {
            let mut text = String::new();
            for (cell, width) in row.split_terminator(Table::MARK).zip(&self.widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
            line(text.trim_end());
        }
    }
}

/// A JSON document with a list, which is printed one element after the other.
pub struct Items {
    pretty: bool,
    any: bool,
}

impl Items {
    /// Prints the beginning. The name of the list comes behind `schema` in the alphabet, as in every
    /// document.
    pub fn new(schema: &str, name: &str) -> Items {
        let pretty = Stream::Out.is_terminal();
        let (schema, name) = (Value::from(schema), Value::from(name));
        data(
            match pretty {
                true => format!("{{\n  \"schema\": {schema},\n  {name}: ["),
                false => format!("{{\"schema\":{schema},{name}:["),
            }
            .as_bytes(),
        );
        Items { pretty, any: false }
    }

    /// Prints an element.
    pub fn push(&mut self, value: &Value) {
        let comma = if std::mem::replace(&mut self.any, true) { "," } else { "" };
        data(
            match self.pretty {
                true => {
                    let text = serde_json::to_string_pretty(value).unwrap_or_default();
                    format!("{comma}\n    {}", plain_json(&text).replace('\n', "\n    "))
                }
                false => format!("{comma}{}", plain_json(&value.to_string())),
            }
            .as_bytes(),
        );
    }

    /// Prints the end.
    pub fn end(self) {
        line(match (self.pretty, self.any) {
            (true, true) => "\n  ]\n}",
            (true, false) => "]\n}",
            (false, _) => "]}",
        });
    }
}

/// Log lines for people on standard error, if they asked for them.
pub fn log_for_people(verbose: u8) {
    let level = match verbose {
        0 => "error",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    if verbose > 0 || std::env::var_os("COORD_LOG").is_some() {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).compact();
        start::log_to(lines, &format!("coord={level}"));
    }
}
