//! In which order finished work is merged.

use std::collections::BTreeSet;

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
    let all: BTreeSet<String> = waiting.iter().map(|w| w.id.clone()).collect();
    let mut ordered: Vec<String> = Vec::new();
    while !waiting.is_empty() {
        let free = |w: &Waiting| w.after.iter().all(|on| !all.contains(on) || ordered.contains(on));
        // In a circle nobody is free: then the most urgent one goes first.
        let at = waiting.iter().position(free).unwrap_or(0);
        ordered.push(waiting.remove(at).id);
    }
    ordered
}

#[cfg(test)]
mod tests {
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
}
