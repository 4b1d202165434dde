//! The records: whatever is read is an object, is written as one that means the same, and keeps what
//! a newer program put there.

use std::fmt::Debug;

use coord::plan::retry::backoff_ms;
use coord::plan::validate::validate;
use coord::queue::control::{WORKERS_MAX, Wanted};
use coord::queue::layout::LayoutRecord;
use coord::queue::record::{
    self, Card, Closed, End, Line, Note, RECORD_MAX, SECONDS_MAX, Spec, Stage, duration, parse,
    to_bytes,
};
use coord::queue::status::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fields;

/// The most bytes that one byte of a record can become when it is written again: an element of an
/// array that lies as deep as the parser goes has a line of its own, with two blanks for each level.
const GROWTH: usize = 300;
/// The same where all is on one line: `1e15` is written in full.
const GROWTH_IN_LINE: usize = 6;
/// And what the defaults add.
const DEFAULTS: usize = 1024;

/// Reads, writes and reads again. The record, and the object that it was read from.
fn twice<T>(bytes: &[u8]) -> Option<(T, Map<String, Value>)>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let first: T = parse(bytes).ok()?;
    let given = match serde_json::from_slice(bytes) {
        Ok(Value::Object(given)) => given,
        Ok(_) => panic!("read as a record, but no object"),
        // A number that no float can hold, in a field that is passed over.
        Err(e) => {
            assert!(e.to_string().contains("number out of range"), "no JSON, but a record: {e}");
            Map::new()
        }
    };
    let written = to_bytes(&first);
    let most = if written.len() < RECORD_MAX { GROWTH } else { GROWTH_IN_LINE };
    assert!(written.len() <= bytes.len() * most + DEFAULTS, "it grew to {}", written.len());
    if written.len() < RECORD_MAX {
        let again: T = parse(&written).expect("what was written is read");
        assert_eq!(first, again, "it means another thing when it is written again");
        assert_eq!(written, to_bytes(&again));
    }
    Some((first, given))
}

/// Fields of newer programs are in what is written, as they were.
fn keeps<T: Serialize>(record: &T, given: &Map<String, Value>, known: &[&str]) {
    let Ok(Value::Object(written)) = serde_json::to_value(record) else {
        panic!("a record is written as an object");
    };
    for (key, value) in given.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        assert_eq!(written.get(key), Some(value), "the unknown field {key:?} was lost");
    }
}

/// What programs do with a spec, whoever wrote it.
pub fn use_spec(spec: &Spec) {
    assert!(spec.same_meaning(spec));
    assert!(!spec.role().is_empty());
    for seconds in [spec.lease_s, spec.time_limit_s] {
        let duration = duration(seconds);
        assert!(duration.is_none_or(|d| !d.is_zero() && d.as_secs_f64() <= SECONDS_MAX));
        // Deadlines are sums with it.
        assert!(duration.is_none_or(|d| std::time::Instant::now().checked_add(d).is_some()));
    }
    let backoff = spec.backoff.unwrap_or_default();
    for charged in [0, 1, spec.max_attempts, u32::MAX] {
        for random in [0, u64::MAX] {
            let rest = backoff_ms(&backoff, charged, random);
            assert!(rest as f64 <= SECONDS_MAX * 1000.0, "a rest of {rest} ms");
        }
    }
}

/// `spec.json`.
pub fn spec(bytes: &[u8]) {
    let Some((spec, given)) = twice::<Spec>(bytes) else { return };
    keeps(&spec, &given, fields::SPEC);
    use_spec(&spec);
    if validate(None, &spec).is_ok() {
        let written = to_bytes(&spec);
        let again: Spec = record::parse(&written).expect("a valid spec can be read");
        assert_eq!(validate(None, &again), Ok(()), "it is valid after a rewrite");
    }
}

/// A card, which is also a claim.
pub fn card(bytes: &[u8]) {
    let Some((card, _)) = twice::<Card>(bytes) else { return };
    let short = coord::queue::ids::short(&card.wid);
    assert!(card.wid.starts_with(short));
}

/// `n.end`.
pub fn end(bytes: &[u8]) {
    let Some((end, given)) = twice::<End>(bytes) else { return };
    keeps(&end, &given, fields::END);
    if let Some(Value::Object(result)) = given.get("result") {
        keeps(&end.result, result, fields::RESULT);
    }
}

/// `n.cancel`, `n.reopen`, `procs/W/end`.
pub fn note(bytes: &[u8]) {
    twice::<Note>(bytes);
}

/// `n.review`, `n.merge`.
pub fn stage(bytes: &[u8]) {
    let Some((stage, given)) = twice::<Stage>(bytes) else { return };
    keeps(&stage, &given, fields::STAGE);
}

/// `jobs/closed`.
pub fn closed(bytes: &[u8]) {
    twice::<Closed>(bytes);
}

/// A line of `jobs/W.log`: it is one, whatever the worker has to tell.
pub fn line(bytes: &[u8]) {
    let Some((line, given)) = twice::<Line>(bytes) else { return };
    keeps(&line, &given, fields::LINE);
    let written = serde_json::to_vec(&line).expect("a line is written");
    assert!(!written.contains(&b'\n'), "it is more than one line");
}

/// `layout.json`.
pub fn layout(bytes: &[u8]) {
    twice::<LayoutRecord>(bytes);
}

/// `control/workers.json`: a number in it may be any, the workers are not.
pub fn workers(bytes: &[u8]) {
    let Some((wanted, _)) = twice::<Wanted>(bytes) else { return };
    let slots = wanted.slots();
    assert!(slots.len() <= WORKERS_MAX, "{} workers", slots.len());
    let asked = wanted.roles.values().fold(u64::from(wanted.general), |sum, n| sum + u64::from(*n));
    assert!(slots.len() as u64 <= asked);
    assert_eq!(slots.is_empty(), asked == 0);
}

/// `status.json`.
pub fn status(bytes: &[u8]) {
    let Ok(first) = serde_json::from_slice::<Status>(bytes) else { return };
    let again: Status = serde_json::from_slice(&to_bytes(&first)).expect("a status is read");
    assert_eq!(first, again);
}
