//! "Did you mean": the known word that is nearest to what somebody typed.

/// The candidate nearest to `word`, if one is near enough: at most a third of its letters wrong (at
/// least one may be), where two neighbouring letters that changed places count once. Case does not
/// count. Of equally near ones the first wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other: Vec<char> = candidate.to_lowercase().chars().collect();
        // A distance is at least the difference in length, so a long list costs little.
        let allowed = (word.len().max(other.len()) / 3).max(1);
        if word.len().abs_diff(other.len()) > allowed || word.is_empty() {
            continue;
        }
        let found = distance(&word, &other);
        // One letter of one letter is no resemblance.
        if found <= allowed
            && found < other.len()
            && best.is_none_or(|(distance, _)| found < distance)
        {
            best = Some((found, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The words of a list as people write them: `` `a`, `b` or `c` ``.
pub fn either<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|w| format!("`{w}`")).collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} or {last}", all.join(", ")),
    }
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut cost = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(a: &str, b: &str) -> usize {
        distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
    }

    #[test]
    fn distances() {
        assert_eq!(apart("", ""), 0);
        assert_eq!(apart("", "abc"), 3);
        assert_eq!(apart("abc", ""), 3);
        assert_eq!(apart("strat", "start"), 1);
        assert_eq!(apart("kitten", "sitting"), 3);
    }

    #[test]
    fn the_nearest_wins_and_strangers_do_not() {
        let verbs = ["start", "status", "stop", "add"];
        assert_eq!(nearest("strat", verbs), Some("start"));
        assert_eq!(nearest("STATUS", verbs), Some("status"));
        assert_eq!(nearest("statuss", verbs), Some("status"));
        assert_eq!(nearest("frobnicate", verbs), None);
        assert_eq!(nearest("", verbs), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("W-3", ["W-4", "R-3"]), Some("W-4"));
    }

    #[test]
    fn lists_for_people() {
        assert_eq!(either(["a"]), "`a`");
        assert_eq!(either(["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
