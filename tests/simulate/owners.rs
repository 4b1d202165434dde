//! Files of several users: what is written once can be linked by its own user only, as with
//! `fs.protected_hardlinks`. A process's user is told by its number.

use std::collections::BTreeMap;

use coord::sys::rule::without;

use crate::disk::Ino;
use crate::platform::Call;
use crate::programs;
use crate::schedules::ensure;
use crate::stage::{Stage, spec};

/// Whose the records are.
#[derive(Default)]
pub struct Owners {
    /// How many users there are; none where nobody asks.
    pub users: usize,
    of: BTreeMap<Ino, usize>,
}

impl Owners {
    fn user(&self, process: usize) -> usize {
        process % self.users.max(1)
    }

    /// A process has made a file with this mode.
    pub fn made(&mut self, ino: Ino, mode: u32, process: usize) {
        let user = self.user(process);
        if self.users > 1 && mode & 0o222 == 0 {
            self.of.insert(ino, user);
        }
    }

    /// Whether a process may link a file.
    pub fn may_link(&self, ino: Ino, process: usize) -> bool {
        self.of.get(&ino).is_none_or(|user| *user == self.user(process))
    }
}

/// A worker has staged the end of what it did, and dies. One of another user links a copy of it.
pub fn staged_end() -> Result<(), String> {
    let mut s = Stage::new();
    s.users(2);
    s.add("T", "ok", |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Link, "T/1.end");
    s.kill(w1);
    let w2 = s.worker("w2", 0);
    let recovered = s.comes_to(w2, Call::Unlink, "run/T.1.end", 20);
    ensure(recovered, "the staged end of another user is never linked")?;
    ensure(s.text("tasks/T/1.end").contains("done"), "work that was finished is thrown away")?;
    s.rest().map(drop)
}

/// The same where it dies once more between the copy and its link, and the copy is dropped.
pub fn copier_dies() -> Result<(), String> {
    let mut s = Stage::new();
    s.users(2);
    s.add("T", "ok", |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Link, "T/1.end");
    s.kill(w1);
    let w2 = s.worker("w2", 0);
    let copies = s.comes_to(w2, Call::Create, "run/_copy.T.1", 20);
    ensure(copies, "the staged end of another user is not copied")?;
    s.until(w2, Call::Link, "T/1.end");
    s.kill(w2);
    ensure(!s.has("tasks/T/1.end"), "it is linked before it was copied")?;
    let s = s.rest()?;
    ensure(s.text("tasks/T/1.end").contains("done"), "work that was finished is thrown away")
}

/// A submission is staged, and its process dies. One of another user has it accepted.
pub fn staged_submission() -> Result<(), String> {
    let mut s = Stage::new();
    s.users(2);
    let tasks = vec![(Some("T".to_owned()), spec("ok", |_| ()))];
    let add = s.start("add", 0, programs::add(tasks));
    s.until(add, Call::Link, "T/spec.json");
    s.kill(add);
    let w2 = s.worker("w2", 0);
    let recovered = s.comes_to(w2, Call::Unlink, "run/_submit.T", 20);
    ensure(recovered, "the staged submission of another user is never linked")?;
    ensure(s.has("tasks/T/spec.json"), "the submission is lost")?;
    s.rest().map(drop)
}

/// Who has not copied it cannot go on, and nobody of that user ever can.
#[test]
fn without_a_copy_nobody_of_another_user_goes_on() {
    for (name, schedule) in [
        ("a staged end", staged_end as fn() -> Result<(), String>),
        ("a staged submission", staged_submission),
        ("who copies dies", copier_dies),
    ] {
        assert_eq!(schedule(), Ok(()), "{name}");
        assert!(without("owner.copy", schedule).is_err(), "{name}: the rule is not missed");
    }
}
