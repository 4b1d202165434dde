//! There and back: what is written by one side is what the other side reads. And for every target
//! inputs near those of the corpus: a few bytes changed, or pieces of two of them.

use std::collections::BTreeMap;

use coord::config::{Agent, CommitBy, Config, Isolation, OnTerm};
use coord::plan::markdown;
use coord::queue::record::{Backoff, OnDepDead, Spec, to_bytes};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::targets::{TARGETS, config, target};
use super::{corpus, entries};

/// What fails is kept in the corpus, under a name that says what it broke, and not as a seed.
fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(count) }
}

/// Runs a target that must be there.
fn run(name: &str, bytes: &[u8]) {
    target(name).expect("a target of that name")(bytes);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(".{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![1e-3f64..1e6, any::<f64>().prop_filter("JSON has it", |s| s.is_finite())]
}

prop_compose! {
    fn with_times()(
        not_before in option::of(0u64..253_402_300_799_999),
        base_s in seconds(), factor in seconds(), max_s in seconds(),
        has_backoff: bool, lease_s in option::of(seconds()), time_limit_s in option::of(seconds()),
    ) -> Spec {
        Spec {
            not_before: not_before.map(coord::sys::clock::rfc3339),
            backoff: has_backoff.then_some(Backoff { base_s, factor, max_s }),
            lease_s,
            time_limit_s,
            ..Spec::new("")
        }
    }
}

prop_compose! {
    /// Any spec that can be written, valid or not.
    fn spec()(
        times in with_times(),
        words in vec(".{0,10}", 8),
        lists in vec(vec(".{0,6}", 0..3), 5),
        numbers: (u8, u32, Option<u32>), flags: [bool; 4],
        on_dep_dead in select(vec![OnDepDead::Block, OnDepDead::Cancel, OnDepDead::Run]),
        env in btree_map("[A-Z_]{1,5}", ".{0,5}", 0..3),
        more in btree_map("x-[a-z]{1,5}", json(), 0..3),
    ) -> Spec {
        let word = |at: usize| words[at].clone();
        Spec {
            uid: word(0), title: word(1), role: word(2), sh: word(3), prompt: word(4),
            agent: word(5), cwd: word(6), by: word(7),
            priority: numbers.0, max_attempts: numbers.1, wave: numbers.2,
            manual: flags[0], hold: flags[1], review: flags[2], merge: flags[3],
            on_dep_dead,
            after: lists[0].clone(), scope: lists[1].clone(), labels: lists[2].clone(),
            needs: lists[3].clone(), argv: lists[4].clone(),
            env: env.into_iter().map(|(name, text)| (name, text.into())).collect(),
            more: more.into_iter().collect(),
            ..times
        }
    }
}

/// A word without a placeholder in it.
fn plain() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9/._ -]{1,8}".prop_filter("not blank", |text| !text.trim().is_empty())
}

prop_compose! {
    fn some_config()(
        numbers in (0u32..1000, 1u32..10_000, 1u32..1000),
        ms in vec(1u64..3_000_000_000, 5),
        lease in (4u64..3_000_000_000).prop_flat_map(|expire| {
            (Just(expire.max(3)), 1..=(expire / 3).max(1))
        }),
        factor in 1.0f64..100.0,
        limits in (option::of(1u64..1 << 40), option::of(0u64..1 << 50), 0u64..1 << 50),
        words in vec(plain(), 4),
        choices: (bool, bool, u8),
        agents in btree_map("[a-z][a-z0-9_-]{0,6}", vec(plain(), 1..4), 0..3),
        env in btree_map("[A-Z_][A-Z0-9_]{0,6}", "[^\0]{0,8}", 0..3),
    ) -> Config {
        let mut config = Config::default();
        config.queue.ageing = numbers.0;
        config.workers.count = numbers.1;
        config.retry.attempts = numbers.2;
        (config.workers.rescan_ms, config.workers.grace_ms) = (ms[0], ms[1]);
        (config.retry.backoff_ms, config.retry.max_ms) = (ms[2].min(ms[3]), ms[2].max(ms[3]));
        config.retry.factor = factor;
        (config.lease.expire_ms, config.lease.heartbeat_ms) = lease;
        config.limits.timeout_ms = limits.0;
        config.limits.disk_free_bytes = limits.1;
        config.limits.memory_free_bytes = limits.2;
        config.git.base = words[0].trim_start_matches('-').to_owned();
        config.git.identity_name = format!("{} {{worker}}", words[1]);
        config.git.identity_email.clone_from(&words[2]);
        config.worktree.root = format!("{}/{{repo}}{{{{", words[3]);
        config.workers.on_term = if choices.0 { OnTerm::Finish } else { OnTerm::Requeue };
        config.worktree.isolation = match choices.2 % 5 {
            _ if choices.1 => Isolation::None,
            0 => Isolation::Clone,
            _ => Isolation::Worktree,
        };
        config.worktree.keep = vec![format!("k{}", numbers.0), "a/b".to_owned()];
        config.worktree.setup.clone_from(&words[1]);
        config.git.commit = match choices.2 % 3 {
            0 => CommitBy::Agent,
            1 => CommitBy::Worker,
            _ => CommitBy::None,
        };
        config.workers.agent = agents.keys().next().cloned().unwrap_or_default();
        config.agents.extend(agents.into_iter().map(|(name, command)| (name, Agent { command })));
        config.env = env;
        config
    }
}

/// A line of a checklist, and what it must mean.
#[derive(Debug, Clone)]
struct Written {
    id: String,
    title: String,
    done: bool,
    role: Option<String>,
    priority: Option<u8>,
    labels: Vec<String>,
    after: Vec<Index>,
    manual: bool,
}

impl Written {
    /// The line of item `at`; it comes after some of those before it.
    fn line(&self, at: usize, all: &[Written]) -> String {
        let mark = if self.done { 'x' } else { ' ' };
        let mut line = format!("- [{mark}] {}: {}", self.id, self.title);
        line.extend(self.role.iter().map(|role| format!(" @{role}")));
        line.extend(self.priority.iter().map(|priority| format!(" !p{priority}")));
        line.extend(self.labels.iter().map(|label| format!(" #{label}")));
        let after: Vec<&str> = self.needs(at).into_iter().map(|on| all[on].id.as_str()).collect();
        if !after.is_empty() {
            line.push_str(&format!(" (after {})", after.join(", ")));
        }
        if self.manual { line + " (manual)" } else { line }
    }

    fn needs(&self, at: usize) -> Vec<usize> {
        let mut needs = Vec::new();
        for on in self.after.iter().filter(|_| at > 0).map(|index| index.index(at)) {
            if !needs.contains(&on) {
                needs.push(on);
            }
        }
        needs
    }
}

prop_compose! {
    fn written()(
        id in "[A-Z]{1,3}-[0-9]{1,3}", title in "[a-z]{1,6}( [a-z]{1,6}){0,3}", done: bool,
        role in option::of("[a-ac-z][a-z]{0,5}"), priority in option::of(0u8..100),
        labels in btree_set("[a-z]{1,5}", 0..3), after in vec(any::<Index>(), 0..3), manual: bool,
    ) -> Written {
        let labels = labels.into_iter().collect();
        Written { id, title, done, role, priority, labels, after, manual }
    }
}

/// What happens to an input: at a place, so many bytes become these.
type Change = (Index, usize, Vec<u8>);

fn change() -> impl Strategy<Value = Change> {
    let bytes = prop_oneof![
        vec(any::<u8>(), 0..4),
        select(vec![
            "\n",
            "\"",
            "{",
            "}",
            "[]",
            "null",
            "4294967295",
            "-1",
            "1e300",
            "\t",
            "é",
            ","
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    (any::<Index>(), 0usize..6, bytes)
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for (at, count, new) in changes {
        let at = at.index(bytes.len() + 1);
        let end = (at + count).min(bytes.len());
        bytes.splice(at..end, new.iter().copied());
    }
    bytes
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_spec_there_and_back(spec in spec()) {
        run("spec", &to_bytes(&spec));
        run("incoming", &to_bytes(&spec));
        let again: Result<Spec, _> = coord::queue::record::parse(&to_bytes(&spec));
        prop_assert_eq!(again, Ok(spec));
    }

    #[test]
    fn a_config_there_and_back(config in some_config()) {
        let text = config::to_text(&config);
        let mut again = Config::parse(&text, "c").map_err(|e| e.message);
        if let Ok(again) = &mut again {
            // Everything is written, also what has its default.
            again.worktree.isolation_named = config.worktree.isolation_named;
        }
        prop_assert_eq!(again, Ok(config), "{}", text);
    }

    #[test]
    fn a_checklist_there_and_back(items in vec(written(), 0..8)) {
        let mut unique = BTreeMap::new();
        for item in items {
            unique.insert(item.id.clone(), item);
        }
        let items: Vec<Written> = unique.into_values().collect();
        let lines: Vec<String> =
            items.iter().enumerate().map(|(at, item)| item.line(at, &items)).collect();
        let list = markdown::parse(&lines.join("\n"), "f").map_err(|e| e.message);
        let list = list.expect("a checklist");
        prop_assert_eq!(list.items.len(), items.len());
        for (at, (item, read)) in items.iter().zip(&list.items).enumerate() {
            prop_assert_eq!(read.id.as_ref(), Some(&item.id));
            prop_assert_eq!(&read.spec.title, &item.title);
            prop_assert_eq!((read.done, read.spec.manual), (item.done, item.manual));
            prop_assert_eq!(read.spec.role.as_str(), item.role.as_deref().unwrap_or(""));
            prop_assert_eq!(read.spec.priority, item.priority.unwrap_or(50));
            prop_assert_eq!(&read.spec.labels, &item.labels);
            let needs: Vec<usize> = read.needs.iter().map(|need| need.item).collect();
            prop_assert_eq!(needs, item.needs(at));
        }
    }

    #[test]
    fn documents_built_of_fields(bytes in vec(any::<u8>(), 0..160)) {
        run("built", &bytes);
    }

    #[test]
    fn words_that_look_like_names(
        names in vec("[a-zA-Z0-9._-]{0,6}|[0-9]{1,3}|@?[a-z]{2,6}|[a-z]{4,6}:[a-z0-9]{1,3}", 1..5)
    ) {
        let lines = names.join("\n");
        for name in ["order", "listing", "selector"] {
            run(name, lines.as_bytes());
        }
        for word in &names {
            run("ids", word.as_bytes());
            run("ids", format!("{word}.{}", names.len()).as_bytes());
        }
    }

    #[test]
    fn numbers_with_units(text in "([0-9]{1,6}(\\.[0-9]{1,3})? ?(ms|s|m|h|d|w|B|K|MiB|G)?){1,3}") {
        run("units", text.as_bytes());
    }

    #[test]
    fn times(
        text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|[+-][0-2][0-9]:[0-6][0-9])"
    ) {
        run("time", text.as_bytes());
    }
}

proptest! {
    #![proptest_config(cases(40))]

    /// Near every input of the corpus.
    #[test]
    fn inputs_that_were_changed_a_little(
        one: Index, other: Index, changes in vec(change(), 1..5), mixed: bool
    ) {
        for (name, target) in TARGETS.iter().filter(|(name, _)| *name != "directory") {
            near(name, *target, (one, other), &changes, mixed);
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn queues_that_were_changed_a_little(
        one: Index, other: Index, changes in vec(change(), 1..5), mixed: bool
    ) {
        near("directory", target("directory").expect("a target"), (one, other), &changes, mixed);
    }
}

fn near(name: &str, target: fn(&[u8]), of: (Index, Index), changes: &[Change], mixed: bool) {
    let inputs = entries(&corpus().join(name));
    let pick = |index: &Index| index.get(&inputs).1.clone();
    let mut bytes = pick(&of.0);
    if mixed {
        bytes.truncate(of.1.index(bytes.len() + 1));
        bytes.extend(pick(&of.1));
    }
    target(&changed(bytes, changes));
}
