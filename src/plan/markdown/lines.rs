//! The lines of a checklist: which are items, how deep they stand, and what belongs to each.

use crate::error::{Error, Result};

/// An item as it stands in the file.
#[derive(Default)]
pub(super) struct Raw<'a> {
    /// Its line, from 1.
    pub(super) line: usize,
    indent: usize,
    /// Whether it is ticked.
    pub(super) done: bool,
    /// Whether it may be left out.
    pub(super) optional: bool,
    /// The item around it.
    pub(super) parent: Option<usize>,
    /// The wave of the heading above.
    pub(super) wave: Option<u32>,
    /// What stands behind the check box.
    pub(super) text: String,
    /// The `$` lines below.
    pub(super) commands: Vec<&'a str>,
    /// The other lines below, as they are.
    pub(super) body: Vec<&'a str>,
}

/// Takes the file apart, line by line.
#[derive(Default)]
pub(super) struct Reader<'a> {
    items: Vec<Raw<'a>>,
    /// The items that the next line may be inside of, outermost first.
    open: Vec<usize>,
    /// The level of the heading that began the wave, and the wave.
    wave: Option<(usize, u32)>,
    /// The mark and the line that began a code fence.
    fence: Option<(&'a str, usize)>,
    /// The line at which a comment began that is not closed yet.
    comment: Option<usize>,
    /// A box with a mark that nobody knows: its line, and the mark.
    odd: Option<(usize, char)>,
}

impl<'a> Reader<'a> {
    /// The items of a file.
    ///
    /// # Errors
    /// A code fence that is never closed.
    pub(super) fn read(text: &'a str, file: &str) -> Result<Vec<Raw<'a>>> {
        let mut reader = Reader::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (at, line) in text.lines().enumerate() {
            reader.line(line, at + 1);
        }
        let fail = |line: usize, what: &str| Error::usage(format!("{file}:{line}: {what}"));
        // Everything below would silently be no task.
        if let Some((mark, line)) = reader.fence {
            return Err(fail(line, "the code fence is never closed")
                .hint(format!("add a line with {mark}")));
        }
        if let Some(line) = reader.comment {
            return Err(fail(line, "the comment is never closed").hint("add a line with -->"));
        }
        if let Some((line, mark)) = reader.odd {
            return Err(fail(line, &format!("`[{mark}]` is no box that is known"))
                .hint("[ ] is to be done, [x] is done, [-] is begun, [ ]* may be left out"));
        }
        Ok(reader.items)
    }

    fn line(&mut self, line: &'a str, number: usize) {
        let text = line.trim();
        if let Some((mark, _)) = self.fence {
            self.body(line);
            if text.starts_with(mark) && text.trim_start_matches(&mark[..1]).is_empty() {
                self.fence = None;
            }
            return;
        }
        if self.comment.is_some() {
            if text.contains("-->") {
                self.comment = None;
            }
            return;
        }
        if text.starts_with("<!--") {
            if !text.contains("-->") {
                self.comment = Some(number);
            }
            return;
        }
        if text.is_empty() {
            return self.body("");
        }
        let indent = indent(line);
        while self.open.last().is_some_and(|&at| self.items[at].indent >= indent) {
            self.open.pop();
        }
        if let Some(mark) = fence(text) {
            self.fence = Some((mark, number));
            self.body(line);
        } else if let Some(Checkbox { mark, optional, text }) = checkbox(text) {
            if !matches!(mark, ' ' | 'x' | 'X' | '-') {
                self.odd = self.odd.or(Some((number, mark)));
            }
            self.items.push(Raw {
                line: number,
                indent,
                done: matches!(mark, 'x' | 'X'),
                optional,
                parent: self.open.last().copied(),
                wave: self.wave.map(|(_, wave)| wave),
                text: text.to_owned(),
                ..Raw::default()
            });
            self.open.push(self.items.len() - 1);
        } else if let Some(&at) = self.open.last() {
            match text.strip_prefix("$ ") {
                Some(command) => self.items[at].commands.push(command.trim()),
                None => self.body(line),
            }
        } else if let Some((level, title)) = heading(text) {
            match wave(title) {
                Some(wave) => self.wave = Some((level, wave)),
                None => self.wave = self.wave.filter(|(above, _)| level > *above),
            }
        }
    }

    fn body(&mut self, line: &'a str) {
        if let Some(&at) = self.open.last() {
            self.items[at].body.push(line);
        }
    }
}

fn indent(line: &str) -> usize {
    let blanks = line.chars().take_while(|c| c.is_whitespace());
    blanks.fold(0, |width, c| if c == '\t' { (width / 4 + 1) * 4 } else { width + 1 })
}

fn fence(text: &str) -> Option<&str> {
    let mark = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = text.len() - text.trim_start_matches(mark).len();
    // A code span that stands alone on its line has its mark again behind it.
    (length >= 3 && !text[length..].contains('`')).then(|| &text[..length])
}

fn heading(text: &str) -> Option<(usize, &str)> {
    let title = text.trim_start_matches('#');
    let level = text.len() - title.len();
    ((1..=6).contains(&level) && title.starts_with(char::is_whitespace))
        .then(|| (level, title.trim()))
}

fn wave(title: &str) -> Option<u32> {
    let (word, rest) = title.trim_matches('*').split_once(char::is_whitespace)?;
    ["wave", "phase"].contains(&word.to_lowercase().as_str()).then_some(())?;
    let rest = rest.trim_start();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = rest.split_at(digits);
    if rest.starts_with(char::is_alphanumeric) { None } else { number.parse().ok() }
}

/// The beginning of an item.
struct Checkbox<'a> {
    mark: char,
    /// `[ ]*`, as Kiro marks what may be left out.
    optional: bool,
    text: &'a str,
}

/// A line that begins with a box. A letter or a digit in brackets begins a text (`[a]`, `[1]`).
fn checkbox(text: &str) -> Option<Checkbox<'_>> {
    let number = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = if number.len() < text.len() {
        number.strip_prefix(['.', ')'])?
    } else {
        text.strip_prefix(['-', '*', '+'])?
    };
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start().strip_prefix('[')?;
    let mark = rest.chars().next().filter(|c| matches!(c, 'x' | 'X') || !c.is_alphanumeric())?;
    let rest = rest[mark.len_utf8()..].strip_prefix(']')?;
    let (optional, rest) = rest.strip_prefix('*').map_or((false, rest), |rest| (true, rest));
    let blank = rest.is_empty() || rest.starts_with(char::is_whitespace);
    blank.then(|| Checkbox { mark, optional, text: rest.trim() })
}
