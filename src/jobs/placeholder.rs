//! The placeholders of GNU parallel: which there are, where one begins, and what one stands for.
//!
//! | written | stands for |
//! |---|---|
//! | `{}` `{0}` | every value of the job |
//! | `{.}` `{/}` `{//}` `{/.}` | every value: without its extension, its last part, its directory, its last part without extension |
//! | `{N}` `{-N}` | the Nth value, the Nth from the end |
//! | `{name}` | the value of the column of that name |
//! | `{N.}` `{name//}` … | the same with a modifier |
//! | `{#}` | the number of the job, from 1 |
//! | `{%}` | the slot that it runs in, from 1 |
//!
//! Everything else in braces stays as it is: `{foo}`, `{1x}`, `{a,b}`. There is no escape: `{{}}`
//! is the value in braces, as in GNU parallel. A column may be called anything; where its name is
//! also a placeholder of the table's other rows, these come first.

use std::borrow::Cow;

/// Which values of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// All.
    All,
    /// One, counted from 0.
    At(usize),
    /// One, counted from the end: 0 is the last.
    FromEnd(usize),
    /// None of the values: the number of the job.
    Seq,
    /// None of the values: the number of its slot.
    Slot,
}

impl Which {
    /// The one value that is meant; `None`: there is none, or it is not about one.
    pub(super) fn value(self, args: &[String]) -> Option<&str> {
        let at = match self {
            Which::At(at) => at,
            Which::FromEnd(back) => args.len().checked_sub(back + 1)?,
            Which::All | Which::Seq | Which::Slot => return None,
        };
        args.get(at).map(String::as_str)
    }
}

/// What is taken of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Modifier {
    /// All of it.
    Whole,
    /// `.`: without its extension.
    Stem,
    /// `/`: what follows the last slash.
    Base,
    /// `//`: the directory, as `dirname` says it.
    Dir,
    /// `/.`: what follows the last slash, without its extension.
    BaseStem,
}

impl Modifier {
    /// Applies it.
    pub(super) fn of(self, value: &str) -> Cow<'_, str> {
        let base = |value| match memchr_last(value, b'/') {
            Some(at) => &value[at + 1..],
            None => value,
        };
        Cow::Borrowed(match self {
            Modifier::Whole => value,
            Modifier::Stem => stem(value),
            Modifier::Base => base(value),
            Modifier::BaseStem => stem(base(value)),
            Modifier::Dir => return directory(value),
        })
    }
}

fn memchr_last(text: &str, byte: u8) -> Option<usize> {
    text.as_bytes().iter().rposition(|b| *b == byte)
}

/// Without the last dot and what follows it, where no slash follows.
fn stem(value: &str) -> &str {
    match value.as_bytes().iter().rposition(|b| matches!(b, b'.' | b'/')) {
        Some(at) if value.as_bytes()[at] == b'.' => &value[..at],
        _ => value,
    }
}

/// As `dirname`, but that two slashes at the start stay where something follows them.
fn directory(value: &str) -> Cow<'_, str> {
    let trimmed = value.trim_end_matches('/');
    if trimmed.is_empty() {
        return Cow::Borrowed(if value.is_empty() { "." } else { "/" });
    }
    let Some(at) = memchr_last(trimmed, b'/') else { return Cow::Borrowed(".") };
    let above = trimmed[..at].trim_end_matches('/');
    Cow::Borrowed(if above.is_empty() { "/" } else { above })
}

/// A placeholder: what it stands for, and what is taken of it.
pub(super) type Hole = (Which, Modifier);

/// The placeholder that `text` begins with, and its length in bytes.
pub(super) fn at_start(text: &str, names: &[String]) -> Option<(Hole, usize)> {
    if !text.starts_with('{') {
        return None;
    }
    // A name may have a brace in it, so the names are tried before the first one ends the search.
    let end = text.find('}')?;
    if let Some(hole) = inside(&text[1..end]) {
        return Some((hole, end + 1));
    }
    let named = |(at, name): (usize, &String)| {
        let rest = text[1..].strip_prefix(name.as_str())?;
        let (modifier, end) = modifier_and_brace(rest)?;
        Some(((Which::At(at), modifier), 1 + name.len() + end))
    };
    // The longest, so that a column `a.` is not taken for the column `a` with a modifier; of two
    // with one name the first.
    let found =
        names.iter().enumerate().rev().filter(|(_, name)| !name.is_empty()).filter_map(named);
    found.max_by_key(|((which, _), _)| match which {
        Which::At(at) => names[*at].len(),
        _ => 0,
    })
}

/// A placeholder that needs no names, from what stands between the braces.
fn inside(inner: &str) -> Option<Hole> {
    match inner {
        "#" => return Some((Which::Seq, Modifier::Whole)),
        "%" => return Some((Which::Slot, Modifier::Whole)),
        _ => {}
    }
    let (negative, rest) = match inner.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, inner),
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, modifier) = (&rest[..digits], modifier(&rest[digits..])?);
    if number.is_empty() {
        return (!negative).then_some((Which::All, modifier));
    }
    let number: usize = number.parse().ok()?;
    let which = match (number.checked_sub(1), negative) {
        (None, _) => Which::All,
        (Some(at), false) => Which::At(at),
        (Some(back), true) => Which::FromEnd(back),
    };
    Some((which, modifier))
}

fn modifier(text: &str) -> Option<Modifier> {
    Some(match text {
        "" => Modifier::Whole,
        "." => Modifier::Stem,
        "/" => Modifier::Base,
        "//" => Modifier::Dir,
        "/." => Modifier::BaseStem,
        _ => return None,
    })
}

/// A modifier, the brace that ends it, and the length of both with the opening brace's.
fn modifier_and_brace(rest: &str) -> Option<(Modifier, usize)> {
    let end = rest.find('}')?;
    modifier(&rest[..end]).map(|modifier| (modifier, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_of_a_value() {
        // As GNU parallel 20221122 printed them for {.} {/} {//} {/.}.
        for (value, stem, base, dir, both) in [
            ("foo", "foo", "foo", ".", "foo"),
            ("foo.txt", "foo", "foo.txt", ".", "foo"),
            ("dir/foo.txt", "dir/foo", "foo.txt", "dir", "foo"),
            ("dir/foo.tar.gz", "dir/foo.tar", "foo.tar.gz", "dir", "foo.tar"),
            (".hidden", "", ".hidden", ".", ""),
            ("dir/.hidden", "dir/", ".hidden", "dir", ""),
            ("/abs", "/abs", "abs", "/", "abs"),
            ("/abs/x.y", "/abs/x", "x.y", "/abs", "x"),
            ("dir.d/foo", "dir.d/foo", "foo", "dir.d", "foo"),
            ("/", "/", "", "/", ""),
            ("a b.c", "a b", "a b.c", ".", "a b"),
            ("a/b/", "a/b/", "", "a", ""),
            ("a//b.c", "a//b", "b.c", "a", "b"),
            ("./x", "./x", "x", ".", "x"),
            ("x.", "x", "x.", ".", "x"),
            ("dir.x/.y.z", "dir.x/.y", ".y.z", "dir.x", ".y"),
            ("", "", "", ".", ""),
            ("//x", "//x", "x", "/", "x"),
            ("/a/", "/a/", "", "/", ""),
            ("///", "///", "", "/", ""),
            ("a/", "a/", "", ".", ""),
            (".", "", ".", ".", ""),
            ("..", ".", "..", ".", "."),
            ("a/..", "a/.", "..", "a", "."),
            (".a.b", ".a", ".a.b", ".", ".a"),
        ] {
            let all = [Modifier::Stem, Modifier::Base, Modifier::Dir, Modifier::BaseStem];
            let found = all.map(|modifier| modifier.of(value).into_owned());
            assert_eq!(found, [stem, base, dir, both], "{value:?}");
        }
    }

    #[test]
    fn where_one_begins() {
        use Modifier::{Base, BaseStem, Dir, Stem, Whole};
        use Which::{All, At, FromEnd, Seq, Slot};
        let names: Vec<String> = ["a", "a.", "first name", "x}y", "7", ""].map(Into::into).into();
        for (text, found) in [
            ("{}", Some(((All, Whole), 2))),
            ("{0}", Some(((All, Whole), 3))),
            ("{.} x", Some(((All, Stem), 3))),
            ("{/}", Some(((All, Base), 3))),
            ("{//}", Some(((All, Dir), 4))),
            ("{/.}", Some(((All, BaseStem), 4))),
            ("{#}", Some(((Seq, Whole), 3))),
            ("{%}", Some(((Slot, Whole), 3))),
            ("{12//}", Some(((At(11), Dir), 6))),
            ("{-1}", Some(((FromEnd(0), Whole), 4))),
            ("{-2/.}", Some(((FromEnd(1), BaseStem), 6))),
            ("{01}", Some(((At(0), Whole), 4))),
            ("{7}", Some(((At(6), Whole), 3))),
            ("{a}", Some(((At(0), Whole), 3))),
            ("{a.}", Some(((At(1), Whole), 4))),
            ("{a/}", Some(((At(0), Base), 4))),
            ("{first name/.}", Some(((At(2), BaseStem), 14))),
            ("{x}y//}", Some(((At(3), Dir), 7))),
            ("{-}", None),
            ("{-.}", None),
            ("{1x}", None),
            ("{.1}", None),
            ("{..}", None),
            ("{1..}", None),
            ("{+/}", None),
            ("{##}", None),
            ("{{}}", None),
            ("{ }", None),
            ("{b}", None),
            ("{1", None),
            ("{99999999999999999999999}", None),
            ("x{}", None),
        ] {
            assert_eq!(at_start(text, &names), found, "{text}");
        }
    }
}
