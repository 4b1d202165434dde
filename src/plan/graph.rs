//! Cycles among dependencies.

use std::collections::HashMap;

/// A cycle that can be reached from `start` by following `after`, as the path that closes it:
/// `["W-2", "W-4", "W-2"]`; `None` if there is none.
///
/// Every task is asked for its dependencies once, and the walk keeps its own stack: a chain of a
/// million tasks is no deeper for the machine than one of three.
pub fn find_cycle(start: &str, mut after: impl FnMut(&str) -> Vec<String>) -> Option<Vec<String>> {
    struct Step {
        id: String,
        rest: std::vec::IntoIter<String>,
    }
    // Where an id stands on the path, or `None` once all that follows from it is known to be fine.
    let mut seen: HashMap<String, Option<usize>> = HashMap::new();
    let mut path: Vec<Step> = Vec::new();
    let mut next = Some(start.to_owned());
    loop {
        if let Some(id) = next.take() {
            match seen.get(&id) {
                Some(None) => {}
                Some(Some(at)) => {
                    let mut cycle: Vec<String> =
                        path[*at..].iter().map(|step| step.id.clone()).collect();
                    cycle.push(id);
                    return Some(cycle);
                }
                None => {
                    seen.insert(id.clone(), Some(path.len()));
                    let rest = after(&id).into_iter();
                    path.push(Step { id, rest });
                }
            }
        }
        let top = path.last_mut()?;
        next = top.rest.next();
        if next.is_none()
            && let Some(step) = path.pop()
        {
            seen.insert(step.id, None);
        }
    }
}

/// The message about a cycle: `dependency cycle: W-2 → W-4 → W-2`.
pub fn describe(cycle: &[String]) -> String {
    format!("dependency cycle: {}", cycle.join(" → "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cycle_in(edges: &[(&str, &str)], start: &str) -> Option<Vec<String>> {
        find_cycle(start, |id| {
            edges.iter().filter(|(a, _)| *a == id).map(|(_, b)| (*b).to_owned()).collect()
        })
    }

    #[test]
    fn the_path_is_named() {
        let edges = [("W-2", "W-4"), ("W-4", "W-7"), ("W-7", "W-2"), ("W-4", "W-1")];
        let cycle = cycle_in(&edges, "W-2").unwrap();
        assert_eq!(describe(&cycle), "dependency cycle: W-2 → W-4 → W-7 → W-2");
        assert_eq!(cycle_in(&[("a", "b"), ("b", "b")], "a").unwrap(), ["b", "b"]);
    }

    #[test]
    fn a_diamond_is_none() {
        let edges = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")];
        assert_eq!(cycle_in(&edges, "a"), None);
        assert_eq!(cycle_in(&[], "a"), None);
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let next = |id: &str| vec![(id.parse::<u32>().unwrap() + 1).min(300_000).to_string()];
        assert_eq!(find_cycle("0", next).unwrap(), ["300000", "300000"]);
    }

    proptest! {
        #[test]
        fn agrees_with_peeling_off(edges in prop::collection::vec((0u8..9, 0u8..9), 0..24)) {
            let found = find_cycle("0", |id| {
                let id: u8 = id.parse().unwrap();
                edges.iter().filter(|(a, _)| *a == id).map(|(_, b)| b.to_string()).collect()
            });
            let mut reach = vec![0u8];
            let mut at = 0;
            while at < reach.len() {
                for (a, b) in &edges {
                    if *a == reach[at] && !reach.contains(b) {
                        reach.push(*b);
                    }
                }
                at += 1;
            }
            // Take away whatever depends on nothing that is left, until nothing changes.
            let mut left = reach.clone();
            loop {
                let stays: Vec<u8> = left
                    .iter()
                    .copied()
                    .filter(|n| edges.iter().any(|(a, b)| a == n && left.contains(b)))
                    .collect();
                if stays == left {
                    break;
                }
                left = stays;
            }
            prop_assert_eq!(found.is_some(), !left.is_empty());
            if let Some(cycle) = found {
                prop_assert_eq!(cycle.first(), cycle.last());
                prop_assert!(cycle.len() >= 2);
                for pair in cycle.windows(2) {
                    let edge = (pair[0].parse().unwrap(), pair[1].parse().unwrap());
                    prop_assert!(edges.contains(&edge));
                    prop_assert!(reach.contains(&edge.0));
                }
            }
        }
    }
}
