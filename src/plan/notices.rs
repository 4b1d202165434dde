//! What programs wanted to say, until it has passed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::queue::events::Event;

/// Notices that are remembered, and words for what they are about.
const LATEST: usize = 5;
const PASSED: usize = 50;

/// What a program wanted to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub text: String,
    /// What it is about, in a word; empty where it is about nothing that passes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The process that said it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// The notices that count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notices {
    /// The latest ones, newest last.
    pub latest: Vec<Notice>,
    /// When what notices are about has passed, in milliseconds since 1970. The files of several processes
    /// are read one after the other, so a notice may be read after its end.
    passed: BTreeMap<String, u64>,
}

impl Notices {
    /// A notice takes the place of the one before it that says the same or is about the same. One without
    /// words says that what it is about has passed.
    pub fn fold(&mut self, at_ms: u64, event: &Event) {
        let about = event.more.get("about").and_then(|about| about.as_str()).unwrap_or_default();
        let same = |n: &Notice| match about {
            "" => n.text == event.why,
            about => n.about == about,
        };
        let over = self.passed.get(about).is_some_and(|passed_ms| *passed_ms > at_ms);
        if over || self.latest.iter().any(|n| same(n) && n.at_ms > at_ms) {
            return;
        }
        self.latest.retain(|n| !same(n));
        if event.why.is_empty() {
            self.passed.insert(about.to_owned(), at_ms);
            while self.passed.len() > PASSED {
                self.passed.pop_first();
            }
            return;
        }
        let (about, by) = (about.to_owned(), event.by.clone());
        self.latest.push(Notice { at_ms, text: event.why.clone(), about, by });
        self.latest.sort();
        if self.latest.len() > LATEST {
            self.latest.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(notices: &mut Notices, at_ms: u64, about: &str, why: &str) {
        notices.fold(at_ms, &Event::notice(about, why));
    }

    fn texts(notices: &Notices) -> Vec<&str> {
        notices.latest.iter().map(|n| n.text.as_str()).collect()
    }

    #[test]
    fn a_notice_goes_when_what_it_is_about_has_passed() {
        let mut notices = Notices::default();
        say(&mut notices, 1, "disk", "9 KiB free");
        say(&mut notices, 2, "disk", "8 KiB free");
        say(&mut notices, 2, "", "disk");
        assert_eq!(texts(&notices), ["8 KiB free", "disk"]);
        // Read late, from the file of another process.
        say(&mut notices, 0, "disk", "");
        assert_eq!(texts(&notices), ["8 KiB free", "disk"]);
        say(&mut notices, 3, "disk", "");
        assert_eq!(texts(&notices), ["disk"]);
        say(&mut notices, 2, "disk", "8 KiB free");
        assert_eq!(texts(&notices), ["disk"]);
        say(&mut notices, 4, "disk", "7 KiB free");
        assert_eq!(texts(&notices), ["disk", "7 KiB free"]);
    }

    #[test]
    fn only_the_latest_are_kept() {
        let mut notices = Notices::default();
        for at_ms in 0..100 {
            say(&mut notices, at_ms, "", &at_ms.to_string());
            say(&mut notices, at_ms, &at_ms.to_string(), "");
        }
        assert_eq!(texts(&notices), ["95", "96", "97", "98", "99"]);
        assert_eq!(notices.passed.len(), PASSED);
    }
}
