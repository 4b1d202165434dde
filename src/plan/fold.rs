//! Folding events into the state of every task, in any order and any number of times.
//!
//! Each line puts a task at a place `(attempt, rank)`; the highest place wins. That makes the fold a
//! maximum: lines may come late, twice, or from many files without a common order, and the result is
//! the same (a join of a semilattice, as in state-based CRDTs).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::queue::events::Event;
use crate::queue::ids::{is_task_id, natural_cmp};
use crate::sys::clock::parse_rfc3339;

use super::base::Base;
use super::notices::Notices;

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
}

/// A progress report of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The attempt.
    pub n: u32,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Percent.
    pub pct: Option<f64>,
    /// Words.
    pub words: String,
}

/// All tasks: those of a checkpoint as sorted text, and over it what was folded since.
#[derive(Debug, Clone, Default)]
pub struct Board {
    base: Base,
    items: HashMap<String, Item>,
    counts: [usize; 12],
    some: BTreeMap<State, BTreeSet<String>>,
    /// What programs wanted to say.
    pub notices: Notices,
    /// The last progress report of each running task. Kept apart: it may be read before its claim.
    pub progress: BTreeMap<String, Report>,
    /// Time of the first claim.
    pub first_claim_ms: u64,
    /// Time of the last end.
    pub last_end_ms: u64,
    /// Tasks that left for the archive: `done`, and `dead` for the others. They are counted, and nothing
    /// else is remembered of them.
    pub archived: BTreeMap<String, usize>,
    /// A line was read that may count a task twice: they have to be counted in the archive itself.
    pub recount: bool,
    /// Those of `base` that are gone.
    gone: HashSet<String>,
    /// Changes that `base` has taken in since the checkpoint.
    taken_in: usize,
}

/// Changed tasks that are held apart. Each takes three times the room of a line of text.
const APART: usize = 65_536;

/// Ids that are remembered for each state. More are counted only; when the remembered ones are used
/// up, the others are looked for.
const SOME: usize = 100;

impl Board {
    /// The board of a checkpoint.
    pub fn of(base: Base, known: &BTreeMap<String, (usize, Vec<String>)>) -> Board {
        let mut board = Board { base, ..Board::default() };
        for state in State::ALL {
            if let Some((count, some)) = known.get(state.word()) {
                board.counts[index(state)] = *count;
                board.some.insert(state, some.iter().cloned().collect());
            }
        }
        board
    }

    /// What a checkpoint remembers of each state: how many tasks, and some of them.
    pub fn known(&mut self) -> BTreeMap<String, (usize, Vec<String>)> {
        let mut one =
            |state: State| (state.word().to_owned(), (self.count(state), self.some(state, SOME)));
        State::ALL.into_iter().map(&mut one).collect()
    }

    /// How many tasks are in a state.
    pub fn count(&self, state: State) -> usize {
        self.counts[index(state)]
    }

    /// Where a task stands.
    pub fn get(&self, id: &str) -> Option<Item> {
        let old = || self.base.find(id).filter(|_| !self.gone.contains(id));
        self.items.get(id).cloned().or_else(old)
    }

    /// Forgets a task: it lies in the archive.
    pub fn forget(&mut self, id: &str) {
        let Some(old) = self.get(id) else { return };
        self.leaves(id, old.state);
        self.items.remove(id);
        self.progress.remove(id);
        if self.base.find(id).is_some() {
            self.gone.insert(id.to_owned());
        }
    }

    fn leaves(&mut self, id: &str, state: State) {
        // A checkpoint that somebody damaged may have counted fewer.
        let count = &mut self.counts[index(state)];
        *count = count.saturating_sub(1);
        if let Some(ids) = self.some.get_mut(&state) {
            ids.remove(id);
        }
    }

    fn is_new(&self, id: &str) -> bool {
        !self.items.contains_key(id) && !self.gone.contains(id)
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = String> + '_ {
        let old = self.base.items().map(|(id, _)| id).filter(|id| self.is_new(id));
        old.chain(self.items.keys().cloned())
    }

    /// Tasks that changed since the checkpoint.
    pub fn changed(&self) -> usize {
        self.items.len() + self.gone.len() + self.taken_in
    }

    /// Puts what was folded to the text of the rest, if it is much.
    pub fn pack(&mut self) {
        if self.items.len() + self.gone.len() >= APART {
            self.taken_in = self.changed();
            self.base = self.to_base();
            self.items = HashMap::new();
            self.gone = HashSet::new();
        }
    }

    /// Everything, as the text of a new checkpoint.
    pub fn to_base(&self) -> Base {
        let new = self.items.iter().map(|(id, item)| (id.as_str(), item)).collect();
        self.base.with(new, |id| self.gone.contains(id))
    }

    /// Some of the tasks in a state, in natural order.
    pub fn some(&mut self, state: State, most: usize) -> Vec<String> {
        let least = self.count(state).min(most);
        if self.some.get(&state).map_or(0, BTreeSet::len) < least {
            let new = self.items.iter().filter(|(_, i)| i.state == state).map(|(id, _)| id.clone());
            let old = self.base.items().filter(|(id, item)| item.state == state && self.is_new(id));
            let mut ids: Vec<String> = new.chain(old.map(|(id, _)| id)).collect();
            if ids.len() > SOME {
                ids.select_nth_unstable_by(SOME, |a, b| natural_cmp(a, b));
                ids.truncate(SOME);
            }
            self.some.insert(state, ids.into_iter().collect());
        }
        let known = self.some.get(&state).cloned().unwrap_or_default();
        let mut ids: Vec<String> = known.into_iter().collect();
        ids.sort_by(|a, b| natural_cmp(a, b));
        ids.truncate(most);
        ids
    }

    /// Takes in one line.
    pub fn fold(&mut self, event: &Event) {
        let at_ms = parse_rfc3339(&event.t).unwrap_or(0);
        if event.k == "notice" {
            self.notices.fold(at_ms, event);
            return;
        }
        // Whatever stands in such a line, it is not about a task.
        if !is_task_id(&event.id) {
            return;
        }
        if event.k == "progress" {
            let report = Report { n: event.n, at_ms, pct: event.pct, words: event.why.clone() };
            let last = self.progress.get(&event.id).map_or((0, 0), |r| (r.n, r.at_ms));
            if (report.n, report.at_ms) >= last {
                self.progress.insert(event.id.clone(), report);
            }
            return;
        }
        if matches!(event.k.as_str(), "archive" | "bury") {
            self.forget(&event.id);
            if event.k == "archive" && event.more.contains_key("again") {
                self.recount = true;
            } else if event.k == "archive" {
                let lot = if event.verdict == "done" { "done" } else { "dead" };
                *self.archived.entry(lot.to_owned()).or_default() += 1;
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
        if event.k == "end" && self.progress.get(&event.id).is_some_and(|r| r.n <= event.n) {
            self.progress.remove(&event.id);
        }
        // It becomes a field of a line of the checkpoint.
        let by = Some(&event.by).filter(|by| event.k == "claim" && !by.contains(['\t', '\n']));
        let by = by.cloned().unwrap_or_default();
        self.set(&event.id, Item { place, state, by, since_ms: at_ms });
    }

    /// Puts a task at a place, if that is higher than where it stands.
    pub fn set(&mut self, id: &str, item: Item) {
        if let Some(old) = self.get(id) {
            if old.place >= item.place {
                return;
            }
            self.leaves(id, old.state);
        }
        if self.gone.contains(id) {
            // A line that comes after all.
            return;
        }
        let count = &mut self.counts[index(item.state)];
        *count = count.saturating_add(1);
        let ids = self.some.entry(item.state).or_default();
        if ids.len() < SOME {
            ids.insert(id.to_owned());
        }
        self.items.insert(id.to_owned(), item);
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
    // What an attempt that was done waits for.
    let stage = |name: &str| event.more.get("stage").is_some_and(|stage| stage == name);
    Some(match event.k.as_str() {
        "submit" => ((1, 0), State::Blocked),
        "blocked" => ((n, 1), State::Blocked),
        "delayed" => ((n, 2), State::Delayed),
        "held" => ((n, 2), State::Held),
        "manual" => ((n, 3), State::Manual),
        "ready" => ((n, 3), State::Ready),
        "claim" => ((n, CLAIMED), State::Running),
        "hold" => ((n, CLAIMED), State::Held),
        "end" if event.retry == Some(true) => ((n.saturating_add(1), 0), State::Blocked),
        "end" => (
            (n, 6),
            match event.verdict.as_str() {
                "done" if stage("merging") => State::Merging,
                "done" if stage("review") => State::Review,
                "done" => State::Done,
                "cancel" => State::Cancelled,
                _ => State::Failed,
            },
        ),
        "merge" if event.retry == Some(true) => ((n.saturating_add(1), 0), State::Blocked),
        "merge" if event.verdict == "pass" => ((n, 8), State::Done),
        "merge" => ((n, 8), State::Failed),
        // One that closes the task permits nothing.
        "reopen" if event.retry == Some(false) => return None,
        "reopen" => ((n.saturating_add(1), 0), State::Blocked),
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
                board.get("a").unwrap().state
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

    #[test]
    fn what_is_no_task_and_what_is_no_name_is_not_put_into_lines() {
        let mut board = Board::default();
        for id in ["", "a\tb", "a\nb\t1\t0\tready\t0\t", "../x"] {
            board.fold(&Event { id: id.to_owned(), ..event("submit", 0, "", None) });
            board.fold(&Event { id: id.to_owned(), ..event("progress", 1, "", None) });
        }
        assert_eq!((board.ids().count(), board.progress.len()), (0, 0));
        board.fold(&Event { by: "w1\nb\t1".to_owned(), ..event("claim", 1, "", None) });
        assert_eq!(board.to_base().items().count(), 1);
        assert_eq!(board.to_base().find("a"), board.get("a"));
    }

    #[test]
    fn what_is_packed_stands_where_it_stood() {
        let mut board = Board::default();
        for i in 0..=APART {
            board.fold(&Event { id: format!("t{i}"), ..event("submit", 0, "", None) });
            board.pack();
        }
        assert!(board.items.len() == 1 && board.changed() == APART + 1);
        board.fold(&Event { id: "t7".to_owned(), ..event("claim", 1, "", None) });
        assert_eq!(board.get("t7").unwrap().state, State::Running);
        assert_eq!((board.count(State::Running), board.ids().count()), (1, APART + 1));
    }

    #[test]
    fn the_last_attempt_and_wrong_counts_do_no_harm() {
        let mut board = Board::default();
        board.fold(&event("end", u32::MAX, "fail", Some(true)));
        board.fold(&event("reopen", u32::MAX, "", None));
        assert_eq!(board.get("a").unwrap().place, (u32::MAX, 0));
        let mut damaged = Board::of(board.to_base(), &BTreeMap::new());
        damaged.fold(&event("claim", u32::MAX, "", None));
        assert_eq!((damaged.count(State::Blocked), damaged.count(State::Running)), (0, 1));
    }

    #[test]
    fn what_is_archived_is_counted_and_forgotten() {
        let mut board = Board::default();
        story().iter().for_each(|e| board.fold(e));
        // As it comes from a checkpoint, and as it was folded since.
        let known = board.known();
        for mut board in [board.clone(), Board::of(board.to_base(), &known)] {
            board.fold(&event("archive", 2, "done", None));
            assert_eq!((board.count(State::Done), board.get("a")), (0, None));
            assert_eq!((board.archived["done"], board.recount), (1, false));
            assert_eq!((board.ids().count(), board.to_base().items().count()), (0, 0));
            assert!(board.some(State::Done, 5).is_empty());
            // Told once more by whoever recovered the archiver, and then it was buried.
            board.fold(&event("bury", 2, "done", None));
            let mut again = event("archive", 2, "done", None);
            again.more.insert("again".to_owned(), true.into());
            board.fold(&again);
            assert_eq!((board.archived["done"], board.recount), (1, true));
        }
    }

    #[test]
    fn a_reopen_that_closes_permits_nothing() {
        let mut board = Board::default();
        board.fold(&event("end", 1, "fail", Some(false)));
        board.fold(&event("reopen", 1, "", Some(false)));
        assert_eq!(board.get("a").unwrap().state, State::Failed);
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
            prop_assert_eq!(board.get("a").unwrap().state, State::Done);
            let total: usize = State::ALL.iter().map(|s| board.count(*s)).sum();
            prop_assert_eq!(total, 1);
        }
    }
}
