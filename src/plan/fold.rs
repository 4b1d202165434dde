//! Folding events into the state of every task, in any order and any number of times.
//!
//! Each line puts a task at a place `(attempt, rank)`; the highest place wins. That makes the fold a
//! maximum: lines may come late, twice, or from many files without a common order, and the result is
//! the same (a join of a semilattice, as in state-based CRDTs).

use std::collections::HashMap;

use crate::queue::events::Event;
use crate::sys::clock::parse_rfc3339;

/// The states that people see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for other tasks (or is just being looked at).
    Blocked,
    /// Waits for a time.
    Delayed,
    /// May be claimed.
    Ready,
    /// Runs.
    Running,
    /// Kept from running by a person.
    Held,
    /// A person has to do it, now.
    Manual,
    /// Waits for a review.
    Review,
    /// Waits for its merge.
    Merging,
    /// Succeeded.
    Done,
    /// Failed for good.
    Failed,
    /// Cancelled.
    Cancelled,
    /// Its spec cannot be read.
    Corrupt,
}

impl State {
    /// All of them, in the order in which people want to see them.
    pub const ALL: [State; 12] = [
        State::Running,
        State::Ready,
        State::Delayed,
        State::Blocked,
        State::Held,
        State::Manual,
        State::Review,
        State::Merging,
        State::Done,
        State::Failed,
        State::Cancelled,
        State::Corrupt,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            State::Blocked => "blocked",
            State::Delayed => "delayed",
            State::Ready => "ready",
            State::Running => "running",
            State::Held => "held",
            State::Manual => "manual",
            State::Review => "review",
            State::Merging => "merging",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Corrupt => "corrupt",
        }
    }

    /// The state that a word means.
    pub fn of(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|s| s.word() == word)
    }
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Attempt and rank: the place that the task has reached.
    pub place: (u32, u8),
    /// Its state there.
    pub state: State,
    /// Who runs it.
    pub by: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// The last progress report: percent and words.
    pub progress: Option<(Option<f64>, String)>,
}

/// All tasks.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// By id.
    pub items: HashMap<String, Item>,
    counts: [usize; 12],
    /// The latest notices, newest last: what happened and when.
    pub notices: Vec<(u64, String)>,
    /// Time of the first claim.
    pub first_claim_ms: u64,
    /// Time of the last end.
    pub last_end_ms: u64,
}

/// Notices that are remembered.
const NOTICES: usize = 5;

impl Board {
    /// How many tasks are in a state.
    pub fn count(&self, state: State) -> usize {
        self.counts[index(state)]
    }

    /// Takes in one line.
    pub fn fold(&mut self, event: &Event) {
        let at_ms = parse_rfc3339(&event.t).unwrap_or(0);
        if event.k == "notice" {
            self.notice(at_ms, &event.why);
            return;
        }
        if event.k == "progress" {
            if let Some(item) = self.items.get_mut(&event.id)
                && item.place == (event.n, CLAIMED)
            {
                item.progress = Some((event.pct, event.why.clone()));
            }
            return;
        }
        let Some((place, state)) = place_of(event) else { return };
        if event.k == "claim" && (self.first_claim_ms == 0 || at_ms < self.first_claim_ms) {
            self.first_claim_ms = at_ms;
        }
        if event.k == "end" {
            self.last_end_ms = self.last_end_ms.max(at_ms);
        }
        let by = if event.k == "claim" { event.by.clone() } else { String::new() };
        self.set(&event.id, Item { place, state, by, since_ms: at_ms, progress: None });
    }

    /// Puts a task at a place, if that is higher than where it stands.
    pub fn set(&mut self, id: &str, item: Item) {
        match self.items.get_mut(id) {
            Some(old) if old.place >= item.place => {}
            Some(old) => {
                self.counts[index(old.state)] -= 1;
                self.counts[index(item.state)] += 1;
                *old = item;
            }
            None => {
                self.counts[index(item.state)] += 1;
                self.items.insert(id.to_owned(), item);
            }
        }
    }

    fn notice(&mut self, at_ms: u64, why: &str) {
        self.notices.retain(|(_, text)| text != why);
        self.notices.push((at_ms, why.to_owned()));
        self.notices.sort();
        if self.notices.len() > NOTICES {
            self.notices.remove(0);
        }
    }
}

fn index(state: State) -> usize {
    State::ALL.iter().position(|s| *s == state).unwrap_or(0)
}

/// Rank of a claimed attempt.
const CLAIMED: u8 = 4;

/// The place and state that an event stands for.
fn place_of(event: &Event) -> Option<((u32, u8), State)> {
    let n = event.n;
    Some(match event.k.as_str() {
        "submit" => ((1, 0), State::Blocked),
        "blocked" => ((n, 1), State::Blocked),
        "delayed" => ((n, 2), State::Delayed),
        "held" => ((n, 2), State::Held),
        "manual" => ((n, 3), State::Manual),
        "ready" => ((n, 3), State::Ready),
        "claim" => ((n, CLAIMED), State::Running),
        "hold" => ((n, CLAIMED), State::Held),
        "end" if event.retry == Some(true) => ((n + 1, 0), State::Blocked),
        "end" => (
            (n, 6),
            match event.verdict.as_str() {
                "done" => State::Done,
                "cancel" => State::Cancelled,
                _ => State::Failed,
            },
        ),
        "reopen" => ((n + 1, 0), State::Blocked),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(k: &str, n: u32, verdict: &str, retry: Option<bool>) -> Event {
        Event {
            k: k.to_owned(),
            id: "a".to_owned(),
            n,
            verdict: verdict.to_owned(),
            retry,
            ..Event::default()
        }
    }

    fn story() -> Vec<Event> {
        vec![
            event("submit", 0, "", None),
            event("blocked", 1, "", None),
            event("ready", 1, "", None),
            event("claim", 1, "", None),
            event("end", 1, "fail", Some(true)),
            event("delayed", 2, "", None),
            event("ready", 2, "", None),
            event("claim", 2, "", None),
            event("end", 2, "done", Some(false)),
        ]
    }

    #[test]
    fn each_step_shows() {
        let mut board = Board::default();
        let states: Vec<State> = story()
            .iter()
            .map(|e| {
                board.fold(e);
                board.items["a"].state
            })
            .collect();
        use State::*;
        assert_eq!(
            states,
            [Blocked, Blocked, Ready, Running, Blocked, Delayed, Ready, Running, Done]
        );
        assert_eq!(board.count(Done), 1);
        assert_eq!(board.count(Running), 0);
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(order in prop::collection::vec(0usize..9, 0..40)) {
            let story = story();
            let mut board = Board::default();
            for i in &order {
                board.fold(&story[*i]);
            }
            for event in story.iter().rev() {
                board.fold(event);
            }
            prop_assert_eq!(board.items["a"].state, State::Done);
            let total: usize = State::ALL.iter().map(|s| board.count(*s)).sum();
            prop_assert_eq!(total, 1);
        }
    }
}
