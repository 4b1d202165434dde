//! `coord.toml` and the placeholders in it.

use std::collections::BTreeMap;

use coord::config::{
    AGENT_PLACEHOLDERS, CommitBy, Config, Isolation, MergeBy, OnTerm, Outside, Worktree, expand,
    expand_word,
};
use coord::plan::validate::is_env_name;
use coord::queue::ids::is_role;
use toml::{Table, Value};

use super::text;

/// Everything that a configuration says, as a text that says it.
pub fn to_text(config: &Config) -> String {
    let number = |n: u32| Value::Integer(n.into());
    let word = |text: &str| Value::String(text.to_owned());
    let ms = |n: u64| Value::String(format!("{n}ms"));
    let table = |pairs: Vec<(&str, Value)>| -> Value {
        Value::Table(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let Config {
        queue,
        workers,
        lease,
        retry,
        limits,
        git,
        worktree,
        merge,
        scopes,
        gc,
        agents,
        env,
    } = config;
    let on_term = if workers.on_term == OnTerm::Finish { "finish" } else { "requeue" };
    let mut running = vec![
        ("count", number(workers.count)),
        ("on_term", word(on_term)),
        ("rescan", ms(workers.rescan_ms)),
        ("grace", ms(workers.grace_ms)),
    ];
    if !workers.agent.is_empty() {
        running.push(("agent", word(&workers.agent)));
    }
    let mut limit = vec![("memory_free", word(&format!("{}B", limits.memory_free_bytes)))];
    limit.extend(limits.timeout_ms.map(|n| ("timeout", ms(n))));
    limit.extend(limits.disk_free_bytes.map(|n| ("disk_free", word(&format!("{n}B")))));
    let commit = match git.commit {
        CommitBy::Agent => "agent",
        CommitBy::Worker => "worker",
        CommitBy::None => "none",
    };
    let identity =
        table(vec![("name", word(&git.identity_name)), ("email", word(&git.identity_email))]);
    let isolation = match worktree.isolation {
        Isolation::Worktree => "worktree",
        Isolation::Clone => "clone",
        Isolation::None => "none",
    };
    let words = |all: &[String]| Value::Array(all.iter().map(|text| word(text)).collect());
    let trees = vec![
        ("isolation", word(isolation)),
        ("root", word(&worktree.root)),
        ("keep", words(&worktree.keep)),
        ("copy", words(&worktree.copy)),
        ("link", words(&worktree.link)),
        ("setup", word(&worktree.setup)),
    ];
    let strategy = match merge.strategy {
        MergeBy::Merge => "merge",
        MergeBy::Rebase => "rebase",
        MergeBy::Squash => "squash",
    };
    let mut merging = vec![
        ("enabled", Value::Boolean(merge.enabled)),
        ("into", word(&merge.into)),
        ("strategy", word(strategy)),
        ("check", word(&merge.check)),
        ("batch", number(merge.batch)),
        ("max_bounces", number(merge.max_bounces)),
        ("push", word(&merge.push)),
    ];
    merging.extend(merge.check_timeout_ms.map(|n| ("check_timeout", ms(n))));
    let outside = if scopes.outside == Outside::Warn { "warn" } else { "fail" };
    let scopes = vec![("outside", word(outside)), ("shared", words(&scopes.shared))];
    let agents = agents.iter().map(|(name, agent)| {
        let command = agent.command.iter().map(|w| word(w)).collect();
        (name.as_str(), table(vec![("command", Value::Array(command))]))
    });
    let all: Vec<(&str, Value)> = vec![
        ("queue", table(vec![("durability", word("process")), ("ageing", number(queue.ageing))])),
        ("workers", table(running)),
        (
            "lease",
            table(vec![("expire", ms(lease.expire_ms)), ("heartbeat", ms(lease.heartbeat_ms))]),
        ),
        (
            "retry",
            table(vec![
                ("attempts", number(retry.attempts)),
                ("backoff", ms(retry.backoff_ms)),
                ("factor", Value::Float(retry.factor)),
                ("max", ms(retry.max_ms)),
            ]),
        ),
        ("limits", table(limit)),
        (
            "git",
            table(vec![
                ("base", word(&git.base)),
                ("identity", identity),
                ("commit", word(commit)),
            ]),
        ),
        ("worktree", table(trees)),
        ("merge", table(merging)),
        ("scopes", table(scopes)),
        ("gc", table(gc.archive_after_ms.map(|n| ("archive_after", ms(n))).into_iter().collect())),
        ("agents", table(agents.collect())),
        ("env", table(env.iter().map(|(name, text)| (name.as_str(), word(text))).collect())),
    ];
    let all: Table = all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    all.to_string()
}

/// `coord.toml`.
pub fn config(bytes: &[u8]) {
    let text = text(bytes);
    let config = match Config::parse(&text, "c") {
        Ok(config) => config,
        Err(e) => {
            let mut place = e.message.splitn(4, ':');
            assert_eq!(place.next(), Some("c"), "{e}");
            let mut number = || place.next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
            let (line, column) = (number(), number());
            assert!((1..=text.lines().count().max(1) + 1).contains(&line), "{e}");
            return assert!(column >= 1, "{e}");
        }
    };
    assert!((1..=10_000).contains(&config.workers.count));
    assert!(config.lease.heartbeat_ms >= 1);
    assert!(config.lease.heartbeat_ms <= config.lease.expire_ms / 3);
    assert!(config.retry.factor.is_finite() && config.retry.factor >= 1.0);
    assert!(config.retry.backoff_ms <= config.retry.max_ms);
    assert!(config.env.iter().all(|(name, text)| is_env_name(name) && !text.contains('\0')));
    let agent = &config.workers.agent;
    assert!(agent.is_empty() || config.agents.contains_key(agent));
    let values = AGENT_PLACEHOLDERS.iter().map(|name| (*name, "{x} y".to_owned())).collect();
    for (name, agent) in &config.agents {
        assert!(is_role(name));
        let argv = expand(&agent.command, &values).expect("a command that was accepted");
        assert!(argv.len() == agent.command.len() && !argv[0].is_empty());
    }
    let worker = BTreeMap::from([("worker", "w1".to_owned())]);
    for text in [&config.git.identity_name, &config.git.identity_email] {
        assert!(!expand_word(text, &worker).expect("an identity").contains(['<', '>', '\n', '\0']));
    }
    let repo = BTreeMap::from([("repo", "r".to_owned())]);
    expand_word(&config.worktree.root, &repo).expect("a root that was accepted");
    let Worktree { keep, copy, link, .. } = &config.worktree;
    for path in keep.iter().chain(copy).chain(link) {
        let joined = std::path::Path::new("/p").join(path);
        assert!(joined.starts_with("/p") && !path.split('/').any(|part| part == ".."), "{path}");
    }
    let mut again = Config::parse(&to_text(&config), "c").expect("what was written is read");
    // Everything is written, also what has its default.
    again.worktree.isolation_named = config.worktree.isolation_named;
    assert_eq!(again, config);
}

/// Placeholders in a word; the lines below the first are values.
pub fn placeholder(bytes: &[u8]) {
    let text = text(bytes);
    let (word, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let (prompt, id) = rest.split_once('\n').unwrap_or((rest, ""));
    let values = BTreeMap::from([("prompt", prompt.to_owned()), ("id", id.to_owned())]);
    let doubled = text.replace('{', "{{").replace('}', "}}");
    assert_eq!(expand_word(&doubled, &values).ok(), Some(text.clone()));
    match expand_word(word, &values) {
        Ok(filled) => {
            // Values are put in as they are: what stands in them is not looked at again.
            let marks =
                BTreeMap::from([("prompt", "\u{1}".to_owned()), ("id", "\u{2}".to_owned())]);
            let marked = expand_word(word, &marks).expect("it does not depend on the values");
            if !word.contains(['\u{1}', '\u{2}']) && !prompt.contains('\u{2}') {
                let put = marked.replace('\u{1}', prompt).replace('\u{2}', id);
                assert_eq!(filled, put);
            }
        }
        Err(e) => assert!(e.hint.is_some() && word.contains(['{', '}'])),
    }
}
