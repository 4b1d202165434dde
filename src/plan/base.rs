//! The tasks of a checkpoint as sorted text: a line for each, found by binary search.
//!
//! `coord status` must be quick on a queue of 100,000 tasks also when nobody has folded the last few
//! events: it reads the checkpoint as bytes and looks up only the tasks that those events name.

use super::fold::{Item, State};

/// Sorted lines `id TAB attempt TAB rank TAB state TAB since TAB worker`.
#[derive(Debug, Clone, Default)]
pub struct Base {
    text: Vec<u8>,
}

impl Base {
    /// Takes the lines of a checkpoint, which are sorted by the bytes of the id.
    pub fn new(text: Vec<u8>) -> Base {
        Base { text }
    }

    /// The same with other items in place of those that have their ids, or beside them, and without what
    /// is gone. The lines stay as they are: of very many tasks only the text is held.
    pub fn with(&self, mut new: Vec<(&str, &Item)>, is_gone: impl Fn(&str) -> bool) -> Base {
        new.sort_unstable_by_key(|(id, _)| id.as_bytes());
        let mut new = new.into_iter().peekable();
        let mut text = Vec::with_capacity(self.text.len());
        for line in self.text.split_inclusive(|&b| b == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let Some((id, _)) = parse(line) else { continue };
            while let Some((next, item)) = new.next_if(|(next, _)| next.as_bytes() < id.as_bytes())
            {
                write(&mut text, next, item);
            }
            let replaced = new.peek().is_some_and(|(next, _)| *next == id);
            if !replaced && !is_gone(&id) {
                text.extend_from_slice(line);
                text.push(b'\n');
            }
        }
        new.for_each(|(id, item)| write(&mut text, id, item));
        Base { text }
    }

    /// The lines.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// All tasks.
    pub fn items(&self) -> impl Iterator<Item = (String, Item)> + '_ {
        self.text.split(|&b| b == b'\n').filter_map(parse)
    }

    /// One task.
    pub fn find(&self, id: &str) -> Option<Item> {
        let (mut low, mut high) = (0, self.text.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let before = self.text[low..middle].iter().rposition(|&b| b == b'\n');
            let start = before.map_or(low, |at| low + at + 1);
            let after = self.text[middle..high].iter().position(|&b| b == b'\n');
            let end = after.map_or(high, |at| middle + at + 1);
            let line = &self.text[start..end];
            let name = line.split(|&b| b == b'\t').next().unwrap_or_default();
            match name.cmp(id.as_bytes()) {
                std::cmp::Ordering::Equal => {
                    return parse(line.strip_suffix(b"\n").unwrap_or(line)).map(|(_, item)| item);
                }
                std::cmp::Ordering::Less => low = end,
                std::cmp::Ordering::Greater => high = start,
            }
        }
        None
    }
}

fn write(text: &mut Vec<u8>, id: &str, item: &Item) {
    use std::io::Write;
    let (n, rank) = item.place;
    let (state, since_ms, by) = (item.state.word(), item.since_ms, &item.by);
    // Writing into memory cannot fail.
    let _ = writeln!(text, "{id}\t{n}\t{rank}\t{state}\t{since_ms}\t{by}");
}

fn parse(line: &[u8]) -> Option<(String, Item)> {
    let mut fields = std::str::from_utf8(line).ok()?.split('\t');
    let id = fields.next().filter(|id| !id.is_empty())?.to_owned();
    let place = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let state = State::of(fields.next()?)?;
    let since_ms = fields.next()?.parse().ok()?;
    let by = fields.next()?.to_owned();
    Some((id, Item { place, state, by, since_ms }))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use proptest::prelude::*;

    fn item(n: u32) -> Item {
        let by = format!("w{n}");
        Item { place: (n, 4), state: State::Running, by, since_ms: 7 }
    }

    proptest! {
        #[test]
        fn every_task_is_found_and_no_other(ids in prop::collection::btree_set("[A-Za-z0-9][A-Za-z0-9._-]{0,5}", 0..40), other in "[a-z0-9]{1,4}") {
            let items: Vec<(&String, Item)> = ids.iter().zip(1..).map(|(id, n)| (id, item(n))).collect();
            let items = items.iter().map(|(id, item)| (id.as_str(), item)).collect();
            let base = Base::default().with(items, |_| false);
            for (id, n) in ids.iter().zip(1..) {
                prop_assert_eq!(base.find(id), Some(item(n)));
            }
            prop_assert_eq!(base.find(&other).is_some(), ids.contains(&other));
            prop_assert_eq!(base.items().count(), ids.len());
        }

        #[test]
        fn what_changed_takes_the_place_of_what_was(
            old in prop::collection::btree_map("[a-c]{1,2}", 1u32..9, 0..12),
            new in prop::collection::btree_map("[a-c]{1,2}", 10u32..19, 0..12),
            gone in prop::collection::btree_set("[a-c]{1,2}", 0..4),
        ) {
            let base = |over: &Base, of: &BTreeMap<String, u32>, gone: &BTreeSet<String>| {
                let items: Vec<(&String, Item)> = of.iter().map(|(id, n)| (id, item(*n))).collect();
                over.with(items.iter().map(|(id, i)| (id.as_str(), i)).collect(), |id| gone.contains(id))
            };
            let both = base(&base(&Base::default(), &old, &BTreeSet::new()), &new, &gone);
            let mut wanted = old;
            wanted.retain(|id, _| !gone.contains(id));
            wanted.extend(new);
            let found: Vec<(String, u32)> = both.items().map(|(id, i)| (id, i.place.0)).collect();
            prop_assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
        }
    }
}
