//! Names, numbers and times.

use std::cmp::Ordering;
use std::path::{Component, Path};

use coord::plan::suggest::nearest;
use coord::plan::units::{duration_ms, human_duration, size_bytes};
use coord::queue::evaluate::dependency;
use coord::queue::ids::{
    Key, attempt_number, is_number, is_role, is_task_id, natural_cmp, random_part, short,
};
use coord::queue::layout::{Layout, due_of};
use coord::queue::ready::priority_of;
use coord::queue::tasks::Names;
use coord::sys::clock::{local_hms, parse_rfc3339, rfc3339};

use super::text;

/// A century.
const DURATION_MAX_MS: u64 = 36_525 * 86_400_000;

/// Durations and sizes as people write them.
pub fn units(bytes: &[u8]) {
    let text = text(bytes);
    match duration_ms(&text) {
        Ok(ms) => {
            assert!(ms <= DURATION_MAX_MS);
            assert_eq!(duration_ms(&format!("{ms}ms")), Ok(ms));
            assert_eq!(duration_ms(&format!(" {text}\n")), Ok(ms), "blanks around it count");
            shown(ms);
        }
        Err(why) => assert!(why.contains(": write "), "no advice: {why}"),
    }
    match size_bytes(&text) {
        Ok(size) => assert_eq!(size_bytes(&format!("{size}B")), Ok(size)),
        Err(why) => assert!(why.contains(": write "), "no advice: {why}"),
    }
    shown(number(bytes));
}

/// What people are shown is never longer than it was, and can be typed.
fn shown(ms: u64) {
    let shown = human_duration(ms);
    match duration_ms(&shown) {
        Ok(back) => assert!(back <= ms, "{ms} ms is shown as {shown}"),
        Err(_) => assert!(ms > DURATION_MAX_MS, "{ms} ms is shown as {shown}"),
    }
}

fn number(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    let length = bytes.len().min(8);
    eight[..length].copy_from_slice(&bytes[..length]);
    u64::from_le_bytes(eight)
}

/// The last millisecond that RFC 3339 has.
const LAST_MS: u64 = 253_402_300_799_999;

/// RFC 3339.
pub fn time(bytes: &[u8]) {
    if let Some(ms) = parse_rfc3339(&text(bytes)) {
        assert!(ms <= LAST_MS + 1000 + 86_400_000, "{ms}");
        if ms <= LAST_MS {
            assert_eq!(parse_rfc3339(&rfc3339(ms)), Some(ms));
        }
    }
    let ms = number(bytes);
    for ms in [ms, ms >> 16, ms >> 20] {
        let written = rfc3339(ms);
        assert_eq!(parse_rfc3339(&written), Some(ms.min(LAST_MS)), "{ms} is written as {written}");
        assert_eq!(local_hms(ms).chars().filter(|c| *c == ':').count() % 2, 0);
    }
}

/// Whether a name is that of one thing right below a directory.
fn is_child(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

/// Task ids, keys, roles, process ids, priorities, times of delayed entries.
pub fn ids(bytes: &[u8]) {
    let text = text(bytes);
    if let Some(n) = attempt_number(&text) {
        assert!(n >= 1);
        assert_eq!(n.to_string(), text);
    }
    if let Some(key) = Key::parse(&text) {
        assert_eq!(key.to_string(), text);
        assert!(is_task_id(&key.task) && key.n >= 1);
        assert_eq!(Key::parse(&Key::new(&text, 7).to_string()).is_some(), is_task_id(&text));
    }
    if is_task_id(&text) {
        assert!(is_child(&text) && !text.starts_with(['_', '.']) && text.len() <= 64);
        assert_eq!(Key::parse(&format!("{text}.1")), Some(Key::new(&text, 1)));
        let layout = Layout::new("/q".into());
        assert_eq!(layout.task(&text).parent(), Some(Path::new("/q/tasks")));
    }
    if is_role(&text) {
        assert!(is_task_id(&text) && text != "bell" && text.len() <= 32);
    }
    if is_number(&text) {
        assert!(text.bytes().all(|b| b.is_ascii_digit()));
    }
    if let Some(due_s) = due_of(&text) {
        let layout = Layout::new("/q".into());
        assert_eq!(layout.delayed_at(due_s), layout.delayed().join(&text));
    }
    if let Some(priority) = priority_of(&text) {
        assert_eq!(format!("{priority:02}"), text);
    }
    let (on, pass) = dependency(&text);
    assert_eq!(if pass { format!("{on}@pass") } else { on.to_owned() }, text);
    let name = short(&text);
    let random = random_part(number(bytes));
    assert!(text.starts_with(name));
    assert_eq!(random.len(), 13);
    assert_eq!(short(&format!("{text}-{random}")), text);
    assert_ne!(random, random_part(number(bytes) ^ 1));
    // What it is compared with is short in all uses: the time is the product of the lengths.
    if text.len() <= 64 {
        let known = ["W-1", "status", text.as_str()];
        assert!(nearest(&text, known).is_none_or(|near| known.contains(&near)));
    }
}

/// The natural order is one: total, and equal is only what is the same.
pub fn order(bytes: &[u8]) {
    let all = text(bytes);
    let mut parts = all.splitn(3, '\n');
    let mut next = || parts.next().unwrap_or_default();
    let words = [next(), next(), next()];
    for a in words {
        for b in words {
            let order = natural_cmp(a, b);
            assert_eq!(order.reverse(), natural_cmp(b, a), "{a:?} {b:?}");
            assert_eq!(order == Ordering::Equal, a == b, "{a:?} {b:?}");
            for c in words {
                if order != Ordering::Greater && natural_cmp(b, c) != Ordering::Greater {
                    assert_ne!(natural_cmp(a, c), Ordering::Greater, "{a:?} {b:?} {c:?}");
                }
            }
        }
    }
    let [a, b, _] = words;
    if let (Ok(x), Ok(y)) = (a.parse::<u128>(), b.parse::<u128>())
        && is_number(a)
        && is_number(b)
        && x != y
    {
        assert_eq!(natural_cmp(a, b), x.cmp(&y), "numbers are ordered as numbers");
    }
}

/// The names in a task's directory: each is in one place, and can be told from there.
pub fn listing(bytes: &[u8]) {
    let text = text(bytes);
    let given: Vec<&str> = text.lines().collect();
    let names = Names::of(given.iter().copied());
    let mut told: Vec<String> = names.foreign.clone();
    told.extend(names.spec.then(|| "spec.json".to_owned()));
    for (kind, numbers) in [
        ("claim", &names.claims),
        ("end", &names.ends),
        ("cancel", &names.cancels),
        ("reopen", &names.reopens),
        ("review", &names.reviews),
        ("merge", &names.merges),
        ("late", &names.lates),
        ("out", &names.outs),
    ] {
        told.extend(numbers.iter().map(|n| format!("{n}.{kind}")));
    }
    told.sort();
    told.dedup();
    let mut given: Vec<String> = given.into_iter().map(str::to_owned).collect();
    given.sort();
    given.dedup();
    assert_eq!(told, given);
    assert!(names.claims.is_empty() || names.claims.contains(&names.last()));
}
