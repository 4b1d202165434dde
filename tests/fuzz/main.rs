//! Every parser and every kind of name against bytes that nobody meant: the corpus of the fuzzer is
//! replayed, and property tests go there and back.
//!
//! `targets/` has the promises; `corpus/TARGET/` has inputs, among them each one that once broke a
//! promise, named by what it broke. `scripts/stress fuzz` looks for new ones.
#![expect(clippy::disallowed_methods, reason = "reads the corpus, and a queue is made by hand")]

mod properties;
mod targets;

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use coord::queue::archive::Tombstone;
use coord::queue::control::Wanted;
use coord::queue::events::Event;
use coord::queue::layout::LayoutRecord;
use coord::queue::record::{Array, Card, Closed, End, Line, Note, Outcome, Spec, Stage};
use serde_json::{Map, Value, json};

use targets::{TARGETS, fields};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

/// Name and content of what is in a directory; content of files only.
fn entries(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).expect("a directory of the corpus");
    let entry = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap_or_default())
    };
    let mut all: Vec<(String, Vec<u8>)> =
        entries.map(|e| entry(e.expect("an entry").path())).collect();
    all.sort();
    all
}

#[test]
fn every_input_of_the_corpus_keeps_its_promises() {
    let mut broken = Vec::new();
    for (name, target) in TARGETS {
        for (input, bytes) in entries(&corpus().join(name)) {
            if catch_unwind(|| target(&bytes)).is_err() {
                broken.push(format!("tests/fuzz/corpus/{name}/{input}"));
            }
        }
    }
    assert!(broken.is_empty(), "these break a promise (see above): {broken:#?}");
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let of_targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let of_corpus: BTreeSet<String> =
        entries(&corpus()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(of_targets, of_corpus);
    assert_eq!(of_targets.len(), TARGETS.len(), "two targets have one name");
    for name in of_targets {
        let inputs = entries(&corpus().join(&name));
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for (input, bytes) in inputs {
            assert!(bytes.len() <= 16 << 10, "{name}/{input} is too long to be kept");
        }
    }
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect()
}

/// A record that has every field, read from one that gives each a value of the right type.
fn whole<T>(text: Value) -> Value
where
    T: serde::de::DeserializeOwned + serde::Serialize,
{
    let record: T = serde_json::from_value(text).expect("a whole record");
    serde_json::to_value(record).expect("a record is written")
}

/// If a record gets a field, the fuzzer shall know of it.
#[test]
fn the_fields_are_those_of_the_records() {
    let spec = json!({"v":1,"uid":"u","title":"t","role":"r","priority":1,"after":["a"],
        "on_dep_dead":"run","scope":["s"],"not_before":"n","max_attempts":1,
        "backoff":{"base_s":1.0,"factor":1.0,"max_s":1.0},"lease_s":1.0,"time_limit_s":1.0,
        "manual":true,"hold":true,"review":true,"merge":true,"into":"i","merge_after":["m"],
        "adds_deps":true,"labels":["l"],"needs":["n"],
        "wave":1,"argv":["a"],"sh":"s","prompt":"p","agent":"a","env":{"A":"b"},"cwd":"c","by":"b",
        "array":{"command":["c"]},"at":"a"});
    let array = json!({"command":["c"],"sh":true,"many":true,"names":["n"],"tries":1,"cwd":"c"});
    let line = json!({"job":1,"n":1,"end":"done","retry":true,"round":1,"code":1,"signal":1,"at":1,"ms":1,
        "out":[1,1],"err":[1,1],"of":"w"});
    let end = json!({"v":1,"verdict":"done","boots":1,"not_before":"n","context":"c"});
    let result = json!({"branch":"b","commit":"c","base":"b","worktree":"w","wip":"w",
        "uncommitted":1,"value":1});
    let event = json!({"id":"i","n":1,"by":"b","verdict":"v","retry":true,"why":"w","pct":1.0});
    for (value, known, more) in [
        (whole::<Spec>(spec), fields::SPEC, &[][..]),
        (whole::<Array>(array), fields::ARRAY, &[]),
        (whole::<Closed>(json!({"v":1,"jobs":1})), fields::CLOSED, &[]),
        (whole::<Line>(line), fields::LINE, &[]),
        (whole::<Card>(json!({"v":1,"wid":"w","kind":"cli"})), fields::CARD, &[]),
        (whole::<End>(end), fields::END, &[]),
        (whole::<Outcome>(result), fields::RESULT, &[]),
        (whole::<Note>(json!({"closed":true})), fields::NOTE, &[]),
        (
            whole::<Stage>(json!({"v":1,"verdict":"pass","context":"c","commit":"c"})),
            fields::STAGE,
            &[],
        ),
        (whole::<Tombstone>(json!({})), fields::TOMBSTONE, &[]),
        (whole::<LayoutRecord>(json!({"layout":1})), fields::LAYOUT, &[]),
        (whole::<Wanted>(json!({})), fields::WORKERS, &[]),
        (whole::<Event>(event), fields::EVENT, &["wave", "holder", "again"]),
    ] {
        let mut known: BTreeSet<&str> = known.iter().copied().collect();
        known.retain(|name| !more.contains(name));
        assert_eq!(names(&value), known);
    }
}

#[test]
fn the_dictionary_has_every_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("stress/fuzz/dictionary");
    let text = std::fs::read_to_string(path).expect("the dictionary");
    let all =
        [fields::SPEC, fields::CARD, fields::END, fields::RESULT, fields::NOTE, fields::STAGE];
    let rest =
        [fields::TOMBSTONE, fields::LAYOUT, fields::WORKERS, fields::EVENT, fields::INCOMING];
    let of_arrays = [fields::ARRAY, fields::CLOSED, fields::LINE];
    for name in all.concat().into_iter().chain(rest.concat()).chain(of_arrays.concat()) {
        assert!(text.contains(&format!("\"\\\"{name}\\\":\"")), "the dictionary has no {name}");
    }
}
