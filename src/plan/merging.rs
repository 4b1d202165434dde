//! In which order finished work is merged.

use std::collections::{BTreeSet, HashMap};

/// Milliseconds of waiting that count as much as one step of priority: nothing starves.
const AGEING_MS: u64 = 600_000;

/// Something that waits to be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The task.
    pub id: String,
    /// 0 to 99, smaller first.
    pub priority: u8,
    /// Since when (milliseconds since 1970).
    pub since_ms: u64,
    /// When an attempt of it first came back, if one has.
    pub bounced_ms: Option<u64>,
    /// Tasks that go before it, if they wait too.
    pub after: Vec<String>,
}

/// The order: what others wait for first, then what has come back, the longest ago first, since each
/// further attempt of it would be wasted; then by priority, of which waiting makes up for one step every
/// ten minutes, then the older first. Ids decide between equals, so all agree.
pub fn order(mut waiting: Vec<Waiting>, now_ms: u64) -> Vec<String> {
    let urgency = |w: &Waiting| {
        let steps = now_ms.saturating_sub(w.since_ms) / AGEING_MS;
        let urgency = u64::from(w.priority).saturating_sub(steps);
        (w.bounced_ms.unwrap_or(u64::MAX), urgency, w.since_ms, w.id.clone())
    };
    waiting.sort_by_key(urgency);
    let places: HashMap<&str, usize> =
        waiting.iter().enumerate().map(|(at, w)| (w.id.as_str(), at)).collect();
    // Of each, how many of those before it are left, and who comes after it.
    let mut left = vec![0usize; waiting.len()];
    let mut behind: Vec<Vec<usize>> = vec![Vec::new(); waiting.len()];
    for (at, w) in waiting.iter().enumerate() {
        for &on in w.after.iter().filter_map(|on| places.get(on.as_str())) {
            left[at] += 1;
            behind[on].push(at);
        }
    }
    let mut rest: BTreeSet<usize> = (0..waiting.len()).collect();
    let mut free: BTreeSet<usize> = rest.iter().copied().filter(|at| left[*at] == 0).collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    // In a circle nobody is free: then the most urgent one goes first.
    while let Some(at) = free.pop_first().or_else(|| rest.first().copied()) {
        rest.remove(&at);
        ordered.push(at);
        for &next in &behind[at] {
            left[next] -= 1;
            if left[next] == 0 && rest.contains(&next) {
                free.insert(next);
            }
        }
    }
    ordered.into_iter().map(|at| waiting[at].id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting(id: &str, priority: u8, since_ms: u64, after: &[&str]) -> Waiting {
        let after = after.iter().map(|on| (*on).to_owned()).collect();
        Waiting { id: id.to_owned(), priority, since_ms, bounced_ms: None, after }
    }

    #[test]
    fn what_has_come_back_goes_first() {
        let back =
            |id, since, after| Waiting { bounced_ms: Some(since), ..waiting(id, 90, 9, after) };
        let all = vec![
            waiting("urgent", 1, 1, &[]),
            back("later", 7, &[]),
            back("first", 5, &["base"]),
            waiting("base", 50, 2, &[]),
        ];
        assert_eq!(order(all, 9), ["later", "urgent", "base", "first"]);
    }

    #[test]
    fn dependencies_then_priority_then_age() {
        let all = vec![
            waiting("old", 50, 1, &[]),
            waiting("urgent", 10, 3, &["base"]),
            waiting("base", 60, 4, &["gone"]),
            waiting("young", 50, 2, &[]),
        ];
        assert_eq!(order(all, 5), ["old", "young", "base", "urgent"]);
    }

    #[test]
    fn who_waits_long_is_not_passed_for_ever() {
        let late = 50 * AGEING_MS;
        let all = vec![waiting("new", 30, late, &[]), waiting("low", 60, 0, &[])];
        assert_eq!(order(all.clone(), late), ["low", "new"]);
        assert_eq!(order(all, 10 * AGEING_MS), ["new", "low"]);
    }

    #[test]
    fn a_circle_is_cut() {
        let all = vec![waiting("a", 1, 1, &["b"]), waiting("b", 1, 2, &["a"])];
        assert_eq!(order(all, 9), ["a", "b"]);
    }

    #[test]
    fn a_long_chain_is_gone_through_once() {
        let count = 20_000;
        // The most urgent one is the last of the chain.
        let all = (0..count).map(|i| waiting(&format!("t{i}"), 50, i, &[&format!("t{}", i + 1)]));
        let ordered = order(all.collect(), 0);
        let wanted: Vec<String> = (0..count).rev().map(|i| format!("t{i}")).collect();
        assert_eq!(ordered, wanted);
    }

    proptest! {
        #[test]
        fn always_the_most_urgent_one_that_nobody_goes_before(
            after in prop::collection::vec(prop::collection::vec(0usize..8, 0..3), 0..8),
        ) {
            let all: Vec<Waiting> = after
                .iter()
                .enumerate()
                .map(|(i, on)| Waiting {
                    after: on.iter().map(|on| on.to_string()).collect(),
                    ..waiting(&i.to_string(), 1, 1, &[])
                })
                .collect();
            let (mut left, mut wanted): (Vec<usize>, Vec<usize>) = ((0..all.len()).collect(), Vec::new());
            while !left.is_empty() {
                let free = |i: &usize| after[*i].iter().all(|on| *on >= all.len() || wanted.contains(on));
                let at = left.iter().position(free).unwrap_or(0);
                let next = left.remove(at);
                wanted.push(next);
            }
            let found: Vec<usize> = order(all, 1).iter().map(|id| id.parse().unwrap()).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
