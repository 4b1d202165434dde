//! What is remembered of each task while everything else is compared with it, in few bytes: there may be
//! very many.

use crate::plan::fold::State;

use super::super::evaluate::Readiness;
use super::super::tasks::{Names, Phase};

/// What is remembered of a task. Not the task itself, which keeps its directory open.
pub(super) struct Facts {
    /// Only where they are compared with the events.
    pub(super) names: Option<Box<Names>>,
    pub(super) phase: Phase,
    pub(super) stands: Option<Stands>,
    pub(super) state: Option<State>,
    /// The ids that it comes after, a line each.
    pub(super) after: Box<str>,
    /// A hint of its pending attempt was seen, or that it waits for its merge.
    pub(super) hinted: bool,
}

impl Facts {
    /// The ids that it comes after.
    pub(super) fn after(&self) -> impl Iterator<Item = &str> {
        self.after.lines()
    }
}

/// How ready a pending attempt is, without what it waits for.
pub(super) enum Stands {
    Ready,
    Held,
    Manual,
    Blocked,
    Delayed,
    /// With the reason.
    CancelDue(Box<str>),
}

impl Stands {
    pub(super) fn of(readiness: Readiness) -> Stands {
        match readiness {
            Readiness::Ready => Stands::Ready,
            Readiness::Held => Stands::Held,
            Readiness::Manual => Stands::Manual,
            Readiness::Blocked(_) => Stands::Blocked,
            Readiness::Delayed(_) => Stands::Delayed,
            Readiness::CancelDue(why, _) => Stands::CancelDue(why.into()),
        }
    }

    pub(super) fn word(&self) -> &'static str {
        match self {
            Stands::Ready => "ready",
            Stands::Held => "held",
            Stands::Manual => "for a person",
            Stands::Blocked => "blocked",
            Stands::Delayed => "delayed",
            Stands::CancelDue(_) => "to be cancelled",
        }
    }
}

/// The tasks by id: one text with all ids, and a sorted list. A tree of texts takes three times the memory.
#[derive(Default)]
pub(super) struct Tasks {
    ids: String,
    all: Vec<Entry>,
}

struct Entry {
    /// Where the id begins in the text of all ids, and where it ends.
    id: (usize, u8),
    facts: Facts,
}

impl Tasks {
    /// Room for so many more.
    pub(super) fn expect(&mut self, count: usize) {
        self.all.reserve_exact(count);
    }

    /// Adds one, which is found after the next `sort`. No id is longer than 255 bytes: it is a name of a file.
    pub(super) fn push(&mut self, id: &str, facts: Facts) {
        let Ok(length) = u8::try_from(id.len()) else { return };
        self.all.push(Entry { id: (self.ids.len(), length), facts });
        self.ids.push_str(id);
    }

    pub(super) fn sort(&mut self) {
        let ids = &self.ids;
        self.all.sort_unstable_by(|a, b| a.name(ids).cmp(b.name(ids)));
    }

    /// The place of a task in the order of the ids.
    pub(super) fn place(&self, id: &str) -> Option<usize> {
        self.all.binary_search_by(|entry| entry.name(&self.ids).cmp(id)).ok()
    }

    /// The task in this place.
    pub(super) fn at(&self, place: usize) -> Option<(&str, &Facts)> {
        self.all.get(place).map(|entry| (entry.name(&self.ids), &entry.facts))
    }

    pub(super) fn get(&self, id: &str) -> Option<&Facts> {
        self.place(id).and_then(|place| self.at(place)).map(|(_, facts)| facts)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Facts> {
        let place = self.place(id)?;
        self.all.get_mut(place).map(|entry| &mut entry.facts)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Facts)> {
        self.all.iter().map(|entry| (entry.name(&self.ids), &entry.facts))
    }
}

impl Entry {
    fn name<'a>(&self, ids: &'a str) -> &'a str {
        let (start, length) = self.id;
        ids.get(start..start + usize::from(length)).unwrap_or_default()
    }
}
