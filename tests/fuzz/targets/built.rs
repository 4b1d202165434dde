//! Documents that are built from the bytes: the right fields in a random order, with values that are
//! right, nearly right, or wrong. Random bytes seldom become JSON; these always are.

use serde_json::{Map, Value, json};

use super::{fields, target};

/// Takes choices off the front of the bytes; zeros when they are used up.
struct Draw<'a>(&'a [u8]);

impl<'a> Draw<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> Value {
        let mut eight = [0; 8];
        let taken = self.bytes(8);
        eight[..taken.len()].copy_from_slice(taken);
        match self.byte() % 4 {
            0 => json!(u64::from_le_bytes(eight)),
            1 => json!(i64::from_le_bytes(eight)),
            2 => json!(u64::from_le_bytes(eight) % 200),
            // What is no number is null in JSON.
            _ => json!(f64::from_le_bytes(eight)),
        }
    }

    fn value(&mut self, deep: u8) -> Value {
        match self.byte() % if deep > 3 { 8 } else { 11 } {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(false),
            3 => self.of(&EDGES).parse().unwrap_or_default(),
            4 => self.number(),
            5 | 6 => json!(self.of(WORDS)),
            7 => {
                let length = usize::from(self.byte() % 24);
                json!(String::from_utf8_lossy(self.bytes(length)))
            }
            8 => (0..self.byte() % 4).map(|_| self.value(deep + 1)).collect(),
            9 => (0..self.byte() % 4).map(|_| json!(self.of(WORDS))).collect(),
            _ => self.object(INNER, deep + 1).into(),
        }
    }

    fn object(&mut self, names: &[&str], deep: u8) -> Map<String, Value> {
        let count = self.byte() % 8;
        let mut all = Map::new();
        for _ in 0..count {
            let name = self.of(names);
            all.insert(name.to_owned(), self.value(deep));
        }
        all
    }
}

/// Numbers at which something may turn over.
const EDGES: [&str; 12] = [
    "0",
    "1",
    "-1",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "1e300",
    "-0.0",
    "0.1",
    "2147483647",
    "9007199254740993",
    "1e-320",
];

/// Words that mean something in one field or another.
const WORDS: &[&str] = &[
    "",
    "W-1",
    "W-2@pass",
    "12",
    "default",
    "bell",
    "done",
    "fail",
    "release",
    "expired",
    "cancel",
    "lost",
    "pass",
    "bounce",
    "block",
    "run",
    "worker",
    "human",
    "hold",
    "cli",
    "monitor",
    "2026-11-21T06:30:00Z",
    "9999-12-31T23:59:59.999Z",
    "1969-12-31T23:59:60+00:00",
    "submit",
    "claim",
    "end",
    "reopen",
    "ready",
    "blocked",
    "delayed",
    "notice",
    "progress",
    "late",
    "x\ty",
    "x\ny",
    "../x",
    "\u{0}",
    "_settle.W-1",
];

/// Fields of what stands inside a record, and of no record.
const INNER: &[&str] = &[
    "base_s",
    "factor",
    "max_s",
    "code",
    "signal",
    "branch",
    "commit",
    "base",
    "worktree",
    "wip",
    "uncommitted",
    "value",
    "PATH",
    "9X",
    "later",
    "more",
];

/// The targets that read one object, with the fields of it. `always` makes most of them whole.
const KINDS: &[(&str, &[&[&str]], &str)] = &[
    ("spec", &[fields::SPEC, INNER], "{}"),
    ("incoming", &[fields::SPEC, fields::INCOMING], "{}"),
    ("jsonl", &[fields::SPEC, fields::INCOMING, INNER], "{}"),
    ("card", &[fields::CARD], r#"{"v":1,"wid":"w1-0","kind":"worker"}"#),
    ("end", &[fields::END, INNER], r#"{"v":1,"verdict":"done"}"#),
    ("note", &[fields::NOTE], "{}"),
    ("stage", &[fields::STAGE, INNER], r#"{"v":1,"verdict":"bounce"}"#),
    ("layout", &[fields::LAYOUT], r#"{"layout":1}"#),
    ("workers", &[fields::WORKERS], "{}"),
    ("event", &[fields::EVENT], "{}"),
    ("fold", &[fields::EVENT], r#"{"id":"W-1"}"#),
];

/// Builds documents of one kind, a line each, and hands them to its target.
pub fn built(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let (name, names, always) = draw.of(KINDS);
    let names = names.concat();
    let lines = if matches!(name, "fold" | "jsonl") { 1 + draw.byte() % 6 } else { 1 };
    let mut documents = Vec::new();
    for _ in 0..lines {
        let mut all: Map<String, Value> = serde_json::from_str(always).unwrap_or_default();
        all.extend(draw.object(&names, 0));
        documents.push(Value::Object(all).to_string());
    }
    if let Some(target) = target(name) {
        target(documents.join("\n").as_bytes());
    }
}
