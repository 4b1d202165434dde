//! The line of an item: its id, its title, and the marks between the words.

use crate::queue::ids::{is_number, is_role, is_task_id};

/// Words in capitals before a colon that are remarks, not ids.
const REMARKS: [&str; 8] = ["TODO", "FIXME", "NOTE", "XXX", "WIP", "BUG", "HACK", "IMPORTANT"];

/// What one line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub id: Option<String>,
    /// Without the command at its end.
    pub title: String,
    /// With it.
    pub whole: String,
    /// The command in backticks at the end; empty if there is none.
    pub code: String,
    pub role: String,
    pub priority: Option<u8>,
    pub labels: Vec<String>,
    pub scope: Vec<String>,
    pub manual: bool,
    /// Ids, `id@pass`, and `#3` for the third item of the file.
    pub after: Vec<String>,
}

/// Reads the line behind the check box.
///
/// # Errors
/// What is wrong, and what would be right.
pub(super) fn head(text: &str) -> Result<Head, (String, String)> {
    let mut head = Head::default();
    let (id, rest) = id_and_rest(text);
    head.id = id.map(str::to_owned);
    // Every second piece is a code span, in which nothing is a mark. The last one is text even if
    // a backtick without its partner stands before it.
    let pieces: Vec<&str> = rest.split('`').collect();
    let mut title = String::new();
    let mut last_code: Option<(usize, &str)> = None;
    for (at, piece) in pieces.iter().enumerate() {
        let closed = at + 1 < pieces.len();
        if at % 2 == 1 && closed {
            last_code = Some((title.len(), piece));
            title.push_str(&format!("`{piece}`"));
        } else {
            if at % 2 == 1 {
                title.push('`');
            }
            let piece = head.groups(piece)?;
            head.words(&piece, &mut title)?;
        }
    }
    head.whole = one_line(&title);
    head.title.clone_from(&head.whole);
    if let Some((at, code)) = last_code
        && title[at + code.len() + 2..].trim().is_empty()
        && !code.trim().is_empty()
    {
        code.trim().clone_into(&mut head.code);
        head.title = one_line(title[..at].trim_end().trim_end_matches([':', '—', '–']));
        if head.title.is_empty() {
            head.title.clone_from(&head.code);
        }
    }
    Ok(head)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `W-2: title`. A colon without a blank behind it is part of something else, such as 10:30.
fn id_and_rest(text: &str) -> (Option<&str>, &str) {
    let Some((word, rest)) = text.split_once(':') else { return (None, text) };
    // `**W-2**: title` and `**W-2:** title` are as usual.
    let rest = rest.strip_prefix("**").unwrap_or(rest);
    let id = word.trim().trim_matches('*');
    let capitals = id.len() > 1
        && id.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_' | b'.'))
        && !REMARKS.contains(&id);
    let fits = is_task_id(id) && !is_number(id);
    let named = capitals || id.bytes().any(|b| b.is_ascii_digit());
    let blank = rest.is_empty() || rest.starts_with(char::is_whitespace);
    if fits && named && blank { (Some(id), rest) } else { (None, text) }
}

impl Head {
    /// Takes `(after …)`, `(depends on …)` and `(manual)` out of a text.
    fn groups(&mut self, text: &str) -> Result<String, (String, String)> {
        let mut kept = String::new();
        let mut rest = text;
        while let Some((before, group)) = rest.split_once('(') {
            kept.push_str(before);
            let Some((inside, behind)) = group.split_once(')') else {
                kept.push('(');
                rest = group;
                continue;
            };
            if inside.contains('(') || !self.group(inside)? {
                kept.push('(');
                rest = group;
            } else {
                kept.push(' ');
                rest = behind;
            }
        }
        kept.push_str(rest);
        Ok(kept)
    }

    /// Whether what stands in the brackets is for us.
    fn group(&mut self, inside: &str) -> Result<bool, (String, String)> {
        let text = one_line(inside);
        let lower = text.to_ascii_lowercase();
        if lower == "manual" {
            self.manual = true;
            return Ok(true);
        }
        let starts = ["after ", "after: ", "depends on ", "depends on: ", "depends: "];
        let Some(start) = starts.iter().find(|start| lower.starts_with(*start)) else {
            return Ok(false);
        };
        let mut ids = Vec::new();
        for entry in text[start.len()..].split(',') {
            let words: Vec<&str> =
                entry.split_whitespace().filter(|w| !matches!(*w, "and" | "&")).collect();
            // "(after the meeting)" is prose; names with a blank between them are a list all the
            // same if they look like ids.
            if words.len() > 1 && !words.iter().all(|w| w.bytes().any(|b| b.is_ascii_digit())) {
                return Ok(false);
            }
            ids.extend(words);
        }
        for id in ids {
            let name = id.strip_suffix("@pass").unwrap_or(id);
            let possible = name.strip_prefix('#').map_or_else(|| is_task_id(name), is_number);
            if !possible {
                let what = format!("`({text})` has `{id}`, which is no id");
                return Err((what, "write (after W-1, R-2)".to_owned()));
            }
            if !self.after.iter().any(|entry| entry == id) {
                self.after.push(id.to_owned());
            }
        }
        Ok(true)
    }

    /// Takes `@role`, `!p1`, `#label` and `scope: dir/` out of a text; the rest goes to the title.
    fn words(&mut self, text: &str, title: &mut String) -> Result<(), (String, String)> {
        let mut words = text.split_inclusive(char::is_whitespace);
        while let Some(blanks) = words.next() {
            let word = blanks.trim_end();
            let bare = word.trim_end_matches([',', ';', '.']);
            if let Some(role) = bare.strip_prefix('@').filter(|role| is_role(role)) {
                if !self.role.is_empty() && self.role != role {
                    let what = format!("two roles, `@{}` and `@{role}`", self.role);
                    return Err((what, "a task is for one role".to_owned()));
                }
                role.clone_into(&mut self.role);
            } else if let Some(number) = bare.strip_prefix("!p").filter(|n| is_number(n)) {
                let priority = number.parse::<u8>().ok().filter(|priority| *priority <= 99);
                self.priority = Some(priority.ok_or_else(|| {
                    let hint = "!p0 to !p99 are possible, smaller first; the default is 50";
                    (format!("priority `{bare}` is out of range"), hint.to_owned())
                })?);
            } else if let Some(label) = bare.strip_prefix('#').filter(|label| is_label(label)) {
                if !self.labels.iter().any(|other| other == label) {
                    self.labels.push(label.to_owned());
                }
            } else if bare == "scope:" {
                let path = words.by_ref().map(str::trim_end).find(|path| !path.is_empty());
                self.scope.extend(path.map(|path| path.trim_end_matches([',', ';']).to_owned()));
            } else {
                title.push_str(blanks);
            }
        }
        Ok(())
    }
}

/// `#123` is an issue of some tracker and stays in the title.
fn is_label(text: &str) -> bool {
    !is_number(text)
        && text.starts_with(char::is_alphanumeric)
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Head {
        head(text).unwrap()
    }

    #[test]
    fn ids() {
        for (text, id, title) in [
            ("W-2: title", Some("W-2"), "title"),
            ("**W-2**: title", Some("W-2"), "title"),
            ("**W-2:** title", Some("W-2"), "title"),
            ("DOCS: write", Some("DOCS"), "write"),
            ("3.1: a: b", Some("3.1"), "a: b"),
            ("TODO: write", None, "TODO: write"),
            ("Fix: the bug", None, "Fix: the bug"),
            ("12: x", None, "12: x"),
            ("at 10:30 sharp", None, "at 10:30 sharp"),
            ("v2:x", None, "v2:x"),
            ("the 2nd: x", None, "the 2nd: x"),
            ("plain", None, "plain"),
        ] {
            let head = read(text);
            assert_eq!((head.id.as_deref(), head.title.as_str()), (id, title), "{text}");
        }
    }

    #[test]
    fn marks() {
        let head = read("W-3: do it @tester !p1 now #api, #ui (after W-1, R-2@pass) scope: src/x/");
        assert_eq!(
            (head.title.as_str(), head.role.as_str(), head.priority),
            ("do it now", "tester", Some(1))
        );
        assert_eq!(head.labels, ["api", "ui"]);
        assert_eq!(head.after, ["W-1", "R-2@pass"]);
        assert_eq!(head.scope, ["src/x/"]);
        assert!(!head.manual);
        let head = read("dns (MANUAL) (Depends on T012 and T013, #3)");
        assert!(head.manual);
        assert_eq!((head.title.as_str(), head.after.join(" ")), ("dns", "T012 T013 #3".to_owned()));
    }

    #[test]
    fn what_is_not_a_mark_stays() {
        for text in [
            "mail anna@example.org @Anna !px !important # 1 #12 (see W-1) f(x) (after the meeting)",
            "keep `@role #x !p1 (manual)` in code spans, always",
            "one ` backtick",
            "open (after W-1",
        ] {
            let head = read(text);
            assert_eq!(head, Head { title: text.into(), whole: text.into(), ..Head::default() });
        }
    }

    #[test]
    fn commands() {
        for (text, title, code) in [
            ("W-1: test: `cargo test -p core`", "test", "cargo test -p core"),
            ("build `make` #x (after W-1)", "build", "make"),
            ("`make all`", "make all", "make all"),
            ("the `x` of y", "the `x` of y", ""),
            ("`a` then `b c`", "`a` then", "b c"),
            ("empty ``", "empty ``", ""),
        ] {
            let head = read(text);
            assert_eq!((head.title.as_str(), head.code.as_str()), (title, code), "{text}");
        }
        assert_eq!(read("rename `x`").whole, "rename `x`");
    }

    #[test]
    fn mistakes() {
        for (text, says) in [
            ("x !p100", "out of range"),
            ("x @a @b", "two roles"),
            ("x (after W-1, ../y)", "`../y`, which is no id"),
            ("x (after #y)", "`#y`, which is no id"),
        ] {
            assert!(head(text).unwrap_err().0.contains(says), "{text}");
        }
    }
}
