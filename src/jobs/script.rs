//! Reading a shell script just far enough to know how each place in it is quoted.
//!
//! A value that stands in `"…"` needs other care than one that stands alone. Where this reader
//! cannot know how a shell will read a place, it says so, and a placeholder there is refused:
//! better than a value that is run as a command.

use super::shell::Quote;

/// What is open at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// `"`
    Double,
    /// `'`
    Single,
    /// `(`
    Paren,
    /// `$(`
    Substitution,
    /// `${`, inside double quotes or not.
    Brace,
    /// A backtick.
    Backtick,
    /// `#` up to the end of the line.
    Comment,
}

/// A reader at some place of a script.
#[derive(Debug, Default)]
pub(super) struct Reader {
    open: Vec<Open>,
    inside_word: bool,
    /// Why no later place can be known.
    lost: Option<&'static str>,
}

impl Reader {
    /// How this place is quoted.
    ///
    /// # Errors
    /// Why that cannot be told, to follow "a placeholder".
    pub(super) fn quote(&self) -> Result<Quote, &'static str> {
        if let Some(why) = self.lost {
            return Err(why);
        }
        if self.open.contains(&Open::Backtick) {
            return Err("in backticks: write $(…) instead");
        }
        if self.open.contains(&Open::Brace) {
            return Err("in ${…}: put the value into a variable first");
        }
        Ok(match self.open.last() {
            Some(Open::Double) => Quote::Double,
            Some(Open::Single) => Quote::Single,
            _ => Quote::Bare,
        })
    }

    /// Whether this place is in a comment, where nothing is replaced.
    pub(super) fn is_comment(&self) -> bool {
        self.open.last() == Some(&Open::Comment)
    }

    /// Whether nothing is open here but a comment, which the end of the script ends, as far as can
    /// be told.
    pub(super) fn may_end(&self) -> bool {
        self.lost.is_some() || self.open.is_empty() || self.open == [Open::Comment]
    }

    /// Goes past a placeholder.
    pub(super) fn placeholder(&mut self) {
        self.inside_word = true;
    }

    /// Goes past the next few bytes of `rest`, which is not empty. Returns how many, and whether
    /// they separate words.
    pub(super) fn step(&mut self, rest: &str) -> (usize, bool) {
        let mut chars = rest.chars();
        let first = chars.next().unwrap_or(' ');
        let next = chars.next();
        let one = first.len_utf8();
        let two = one + next.map_or(0, char::len_utf8);
        match (self.open.last().copied(), first) {
            (Some(Open::Comment), '\n') => {
                self.open.pop();
                self.inside_word = false;
                return (one, true);
            }
            (Some(Open::Single), '\'') | (Some(Open::Double), '"') => {
                self.open.pop();
            }
            (Some(Open::Comment | Open::Single), _) => {}
            (_, '\\') => {
                self.inside_word = true;
                return (two, false);
            }
            (_, '`') => match self.open.iter().rposition(|open| *open == Open::Backtick) {
                Some(at) => self.open.truncate(at),
                None => self.open.push(Open::Backtick),
            },
            (_, '$') if next == Some('(') => {
                self.open.push(Open::Substitution);
                self.inside_word = false;
                return (two, false);
            }
            (_, '$') if next == Some('{') => {
                self.open.push(Open::Brace);
                return (two, false);
            }
            (_, '"') => self.open.push(Open::Double),
            (Some(Open::Substitution), ')') => {
                self.open.pop();
            }
            (Some(Open::Double), _) => {}
            (Some(Open::Brace), '}') => {
                self.open.pop();
            }
            // In "${…}" a single quote is a character, elsewhere in ${…} it quotes.
            (Some(Open::Brace), '\'') if self.open.contains(&Open::Double) => {}
            // Some shells read escapes in $'…', others do not.
            (_, '$') if next == Some('\'') => self.lost = Some("after $'…': use '…' or \"…\""),
            (_, '\'') => self.open.push(Open::Single),
            (Some(Open::Brace), _) => {}
            _ => return (one, self.bare(rest, first, next)),
        }
        self.inside_word = true;
        (one, false)
    }

    /// A character that is not quoted; returns whether it separates words.
    fn bare(&mut self, rest: &str, first: char, next: Option<char>) -> bool {
        let starts_word = !self.inside_word;
        match first {
            '#' if starts_word => self.open.push(Open::Comment),
            '(' => self.open.push(Open::Paren),
            ')' if self.open.last() == Some(&Open::Paren) => {
                self.open.pop();
            }
            '<' if next == Some('<') => self.lost = Some("after <<: put the script into a file"),
            // The `)` of its patterns opens nothing, so the end of $(…) could be anywhere.
            'c' if starts_word && !self.open.is_empty() && rest.starts_with("case") => {
                self.lost = Some("after `case` in $(…) or (…): put the script into a file");
            }
            _ => {}
        }
        let separates = " \t\n;|&<>()".contains(first);
        self.inside_word = !separates;
        separates
    }
}
