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

    /// Sorts items into lines.
    pub fn of(mut items: Vec<(String, Item)>) -> Base {
        use std::io::Write;
        items.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        let mut text = Vec::new();
        for (id, item) in &items {
            let (n, rank) = item.place;
            let (state, since_ms, by) = (item.state.word(), item.since_ms, &item.by);
            // Writing into memory cannot fail.
            let _ = writeln!(text, "{id}\t{n}\t{rank}\t{state}\t{since_ms}\t{by}");
        }
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
    use super::*;
    use proptest::prelude::*;

    fn item(n: u32) -> Item {
        let by = format!("w{n}");
        Item { place: (n, 4), state: State::Running, by, since_ms: 7 }
    }

    proptest! {
        #[test]
        fn every_task_is_found_and_no_other(ids in prop::collection::btree_set("[A-Za-z0-9][A-Za-z0-9._-]{0,5}", 0..40), other in "[a-z0-9]{1,4}") {
            let items = ids.iter().zip(1..).map(|(id, n)| (id.clone(), item(n))).collect();
            let base = Base::of(items);
            for (id, n) in ids.iter().zip(1..) {
                prop_assert_eq!(base.find(id), Some(item(n)));
            }
            prop_assert_eq!(base.find(&other).is_some(), ids.contains(&other));
            prop_assert_eq!(base.items().count(), ids.len());
        }
    }
}
