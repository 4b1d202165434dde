//! The tasks, and the job that each of them runs.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Cannot, Result};
use crate::sys::fs::{RealFs, mkdir_all};

use super::dice::Dice;
use super::ground::write;

/// What a task runs; it says itself what it is.
const JOB: &str = include_str!("job.sh");

/// Attempts that a task may have: the nemesis kills some of them again and again.
const ATTEMPTS: u32 = 1000;

/// Puts the job and the directory of its witness files there.
pub(super) fn prepare(dir: &Path) -> Result<()> {
    let attempts = dir.join("witness/attempts");
    mkdir_all(&RealFs, &attempts).cannot("make a directory", &attempts)?;
    write(&dir.join("job"), JOB.as_bytes(), 0o755)
}

/// How many of a hundred tasks are of which kind. The rest does its one deed and ends.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    /// Have deeds a tenth of a second apart.
    pub slow: u64,
    /// Leave a process behind that goes on writing.
    pub stray: u64,
    /// Fail at their first attempt.
    pub fails: u64,
    /// Come after one or two earlier tasks.
    pub after: u64,
    /// Leave a process behind that hides in one way or several.
    pub hides: u64,
    /// What has left its session and has no environment is not to be found here: no control group.
    pub escapes: bool,
}

/// In how many ways a process can hide, and by which letter the job knows them: not dumpable, in a session of
/// a session of its own, without its environment.
const WAYS: [char; 3] = ['d', 's', 'e'];

/// A task as the checker knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its id.
    pub id: String,
    /// What it comes after.
    pub after: Vec<String>,
    /// What it leaves behind may not be found where its worker dies.
    pub escapes: bool,
}

/// Chooses tasks one after the other, named `PREFIX` and a number.
#[derive(Debug)]
pub struct Pile {
    prefix: String,
    mix: Mix,
    dice: Dice,
    made: u64,
}

impl Pile {
    /// A pile that a seed repeats.
    pub fn new(prefix: &str, mix: Mix, seed: u64) -> Pile {
        Pile { prefix: prefix.to_owned(), mix, dice: Dice::new(seed), made: 0 }
    }

    /// The next task: what is wanted of it, and its line of JSON.
    pub fn make(&mut self) -> (Wanted, Value) {
        self.made += 1;
        let id = format!("{}{}", self.prefix, self.made);
        let Mix { slow, stray, fails, after, hides, escapes } = self.mix;
        let kind = self.dice.roll(100);
        let mut argv = vec!["./job".to_owned()];
        if kind < slow {
            argv.extend(["slow".to_owned(), (1 + self.dice.roll(8)).to_string()]);
        } else if kind < slow + stray {
            argv.push("stray".to_owned());
        } else if kind < slow + stray + fails {
            argv.push("fails".to_owned());
        } else if kind < slow + stray + fails + hides {
            let some = 1 + self.dice.roll((1 << WAYS.len()) - 1);
            let ways = WAYS.iter().enumerate().filter(|(at, _)| some >> at & 1 == 1);
            argv.extend(["hides".to_owned(), ways.map(|(_, way)| *way).collect()]);
        } else {
            argv.push("quick".to_owned());
        }
        let mut needs = Vec::new();
        if self.made > 1 && self.dice.chance(after) {
            for _ in 0..1 + self.dice.roll(2) {
                // Near ones are still open, mostly; far ones are done.
                let back = 1 + self.dice.roll(20.min(self.made - 1));
                let other = format!("{}{}", self.prefix, self.made - back);
                if !needs.contains(&other) {
                    needs.push(other);
                }
            }
        }
        let task = json!({
            "id": id, "title": format!("{} {id}", argv[1..].join(" ")), "argv": argv,
            "after": needs, "max_attempts": ATTEMPTS,
        });
        let last = argv_of(&task, 2);
        let escapes = escapes && last.contains('s') && last.contains('e');
        (Wanted { id, after: needs, escapes }, task)
    }
}

/// A word of a task's command; empty where it has not so many.
fn argv_of(task: &Value, at: usize) -> &str {
    task["argv"][at].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIX: Mix = Mix { slow: 20, stray: 10, fails: 10, after: 30, hides: 10, escapes: true };

    #[test]
    fn a_seed_repeats_its_tasks_and_each_kind_is_there() {
        let tasks = |seed| {
            let mut pile = Pile::new("t", MIX, seed);
            (0..200).map(|_| pile.make().1).collect::<Vec<_>>()
        };
        assert_eq!(tasks(1), tasks(1));
        assert_ne!(tasks(1), tasks(2));
        let text = serde_json::to_string(&tasks(1)).unwrap();
        for kind in
            ["\"hides\"", "\"slow\"", "\"stray\"", "\"fails\"", "\"quick\"", "\"after\":[\"t"]
        {
            assert!(text.contains(kind), "no {kind}");
        }
    }

    #[test]
    fn what_a_task_comes_after_was_made_before_it() {
        let mut pile = Pile::new("t", MIX, 3);
        for made in 1..=200 {
            for other in pile.make().0.after {
                let number: u64 = other[1..].parse().unwrap();
                assert!(number >= 1 && number < made, "t{made} after {other}");
            }
        }
    }
}
