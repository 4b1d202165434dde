//! The fields of the records, as queue-layout.md lists them. `main.rs` checks that they are those of
//! the structs and that the fuzzer's dictionary has them.

/// Of `spec.json`.
pub const SPEC: &[&str] = &[
    "v",
    "uid",
    "title",
    "role",
    "priority",
    "after",
    "on_dep_dead",
    "scope",
    "not_before",
    "max_attempts",
    "backoff",
    "lease_s",
    "time_limit_s",
    "manual",
    "hold",
    "review",
    "merge",
    "into",
    "merge_after",
    "adds_deps",
    "labels",
    "needs",
    "wave",
    "argv",
    "sh",
    "prompt",
    "agent",
    "env",
    "cwd",
    "array",
    "by",
    "at",
];

/// Of `array` in a spec.
pub const ARRAY: &[&str] = &["command", "sh", "many", "names", "tries", "cwd"];

/// Of `jobs/closed`.
pub const CLOSED: &[&str] = &["v", "jobs"];

/// Of a line of `jobs/W.log`.
pub const LINE: &[&str] =
    &["job", "n", "end", "retry", "round", "code", "signal", "at", "ms", "out", "err", "of"];

/// Of a card.
pub const CARD: &[&str] = &[
    "v", "wid", "card", "kind", "host", "host_id", "boot", "pidns", "pid", "start", "mark",
    "roles", "labels", "lease_ms", "uid", "ver", "at",
];

/// Of an end.
pub const END: &[&str] = &[
    "v",
    "verdict",
    "retry",
    "charged",
    "boots",
    "not_before",
    "by",
    "holder",
    "why",
    "exit",
    "started",
    "ended",
    "result",
    "context",
];

/// Of what an end has in `result`.
pub const RESULT: &[&str] =
    &["branch", "commit", "base", "worktree", "wip", "uncommitted", "value"];

/// Of a note.
pub const NOTE: &[&str] = &["v", "by", "at", "why", "closed"];

/// Of a stage.
pub const STAGE: &[&str] = &["v", "verdict", "retry", "by", "why", "context", "commit", "at"];

/// Of a tombstone.
pub const TOMBSTONE: &[&str] = &["v", "state", "passed"];

/// Of `layout.json`.
pub const LAYOUT: &[&str] = &["layout", "queue", "shards", "durability", "min_writer"];

/// Of `control/workers.json`.
pub const WORKERS: &[&str] = &["general", "roles", "until_empty"];

/// Of a line of events.
pub const EVENT: &[&str] =
    &["e", "t", "k", "id", "n", "by", "verdict", "retry", "why", "pct", "wave", "holder", "again"];

/// Of a dropped-in task that are not those of a spec.
pub const INCOMING: &[&str] = &["id", "command"];
