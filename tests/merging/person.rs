//! Somebody with a clone of their own, who pushes to the branch that the queue merges into.

use std::path::Path;

use crate::checks::patches_in;
use crate::ground::Repo;
use crate::stage::compare;
use crate::support::{PATIENCE, Sandbox, patiently_for};

/// The file that nobody else touches.
const FILE: &str = "notes.md";
/// Without news on the branch, the next push comes all the same.
const BORED: std::time::Duration = std::time::Duration::from_secs(2);

/// A person.
pub struct Person<'a> {
    clone: Repo<'a>,
    /// Pushes that were refused, as somebody else was faster.
    pub refused: usize,
    /// What was pushed.
    pub patches: Vec<String>,
}

impl<'a> Person<'a> {
    /// Clones a repository.
    pub fn join(sandbox: &'a Sandbox, upstream: &Path) -> Person<'a> {
        let dir = sandbox.beside("person");
        let (from, to) = (upstream.to_string_lossy(), dir.to_string_lossy());
        let here = Repo::at(sandbox, upstream);
        here.git(&["clone", "--quiet", "--branch", "main", &from, &to]);
        Person { clone: Repo::at(sandbox, &dir), refused: 0, patches: Vec::new() }
    }

    /// Pushes so many times, each time after the branch has moved, or soon all the same.
    pub fn push_often(mut self, times: usize) -> Person<'a> {
        for number in 1..=times {
            let seen = self.clone.git(&["rev-parse", "origin/main"]);
            patiently_for(BORED, || {
                let line = self.clone.git(&["ls-remote", "origin", "refs/heads/main"]);
                !line.starts_with(&seen)
            });
            self.push(number);
        }
        self
    }

    /// Edits and commits, and tries until it is pushed.
    fn push(&mut self, number: usize) {
        let line = format!("echo 'Note {number}' >>{FILE} && git add {FILE}");
        assert!(self.clone.sh(&line).0, "{line}");
        let note = format!("Note {number}");
        let author = "--author=Second Person <second@example.org>";
        self.clone.git(&["commit", "--quiet", author, "--message", &note]);
        let mut said = String::new();
        let pushed = patiently_for(PATIENCE, || {
            let (code, _, err) = self.clone.try_git(&["push", "--quiet", "origin", "HEAD:main"]);
            if code != 0 {
                said = err;
                self.refused += 1;
                self.clone.git(&["fetch", "--quiet", "origin"]);
                self.clone.git(&["rebase", "--quiet", "origin/main"]);
            }
            code == 0
        });
        assert!(pushed, "push {number} was refused for too long: {said}");
        self.patches.extend(patches_in(&self.clone, "HEAD^..HEAD"));
    }
}

#[test]
fn two_who_push_at_once_lose_nothing() {
    let sandbox = Sandbox::bare();
    let dir = sandbox.root.clone();
    let ours = Repo::at(&sandbox, &dir);
    sandbox.sh("git init -q -b main . && echo one >file && git add . && git commit -qm one");
    let bare = sandbox.beside("origin.git");
    ours.git(&["clone", "--quiet", "--bare", ".", &bare.to_string_lossy()]);
    ours.git(&["remote", "add", "origin", &bare.to_string_lossy()]);
    let person = Person::join(&sandbox, &bare);
    let person = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| person.push_often(4));
        // By hand what a merger does: on top of what is there, again and again.
        for number in 0..8 {
            ours.git(&["commit", "--quiet", "--allow-empty", "-m", &format!("Ours {number}")]);
            let line = "git pull --quiet --rebase origin main && git push --quiet origin main";
            assert!(patiently_for(PATIENCE, || ours.sh(line).0), "never pushed");
        }
        pushing.join().unwrap()
    });
    let remote = Repo::at(&sandbox, &bare);
    assert_eq!(person.patches.len(), 4);
    ours.git(&["pull", "--quiet", "--rebase", "origin", "main"]);
    assert_eq!(compare(&ours, &remote, &person.patches), Vec::<String>::new());
    // The comparison can fail, both ways.
    ours.git(&["reset", "--quiet", "--hard", "HEAD^"]);
    let found = compare(&ours, &remote, &person.patches);
    assert!(found[0].contains("in the remote") && found.len() == 1, "{found:?}");
    let root = ours.git(&["rev-list", "--max-parents=0", "main"]);
    ours.git(&["push", "--quiet", "--force", "origin", &format!("{root}:main")]);
    let found = compare(&ours, &remote, &person.patches);
    assert!(found.iter().any(|f| f.contains("is 0 times in the remote")), "{found:?}");
}
