//! What a file may say, and how it is told where it is wrong.

use super::*;
use crate::error::Exit;
use proptest::prelude::*;

fn read(text: &str) -> Config {
    Config::parse(text, "coord.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn wrong(text: &str) -> String {
    let error = Config::parse(text, "coord.toml").unwrap_err();
    assert_eq!(error.exit, Exit::Usage);
    error.message
}

/// The lines that show a key or the name of a table, without their comment sign.
fn uncommented(text: &str) -> String {
    let setting = |line: &&str| {
        line.split_once(" = ").is_some_and(|(key, _)| {
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        }) || (line.starts_with('[') && line.ends_with(']'))
    };
    let lines = text.lines().map(|line| line.strip_prefix("# ").filter(setting).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_template_says_the_defaults() {
    assert_eq!(read(TEMPLATE), Config::default());
    assert_eq!(read(""), Config::default());
    let shown = uncommented(TEMPLATE);
    let mut said = read(&shown);
    // Whether a default was written down is known, too.
    assert!(std::mem::take(&mut said.worktree.isolation_named));
    assert_eq!(said, Config::default());
    // Every key that has a default is shown, so the comparison above is one of all of them.
    let keys = shown.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
    assert_eq!(keys, 1 + 2 + 5 + 2 + 4 + 1 + 4 + 6 + 7 + 2 + 1, "{shown}");
    assert_eq!(shown.lines().filter(|line| line.starts_with('[')).count(), 12);
    // A table can be appended.
    assert_eq!(read(&format!("{TEMPLATE}[workers]\ncount = 7\n")).workers.count, 7);
}

#[test]
fn everything_can_be_set() {
    let config = read(
        r#"
version = 1
[queue]
durability = "accept"
ageing = 0
[workers]
count = 5
agent = "mine"
on_term = "finish"
rescan = "500ms"
grace = "0s"
[lease]
expire = "2m"
[retry]
attempts = 1
backoff = "1s"
factor = 3
max = "1m"
[limits]
timeout = "45m"
disk_free = "1.5G"
memory_free = "0"
[git]
base = "main"
identity = { name = "x", email = "{worker}@y" }
commit = "none"
[worktree]
isolation = "clone"
root = "/tmp/{repo}"
keep = ["target", "./a/b/"]
copy = [".env"]
link = ["node_modules"]
setup = "pnpm i"
[gc]
archive_after = "30d"
[agents.mine]
command = ["claude", "-p", "--dir={worktree}", "{{}}"]
[env]
RUST_BACKTRACE = "1"
"#,
    );
    assert_eq!(config.queue, Queue { durability: Durability::Accept, ageing: 0 });
    let full = read("[queue]\ndurability = \"full\"");
    assert_eq!(full.queue.durability, Durability::Full);
    assert_eq!(read("").queue.durability, Durability::Process);
    assert_eq!(
        (config.workers.count, config.workers.rescan_ms, config.workers.grace_ms),
        (5, 500, 0)
    );
    assert_eq!(config.workers.on_term, OnTerm::Finish);
    assert_eq!(config.lease, Lease { expire_ms: 120_000, heartbeat_ms: 30_000 });
    assert_eq!(config.retry.backoff(), Backoff { base_s: 1.0, factor: 3.0, max_s: 60.0 });
    assert_eq!(config.limits.timeout_ms, Some(2_700_000));
    assert_eq!(config.limits.disk_free_bytes, Some(1_610_612_736));
    assert_eq!(config.limits.memory_free_bytes, 0);
    assert_eq!((config.git.identity_name.as_str(), config.git.commit), ("x", CommitBy::None));
    let Worktree { isolation, keep, copy, link, setup, .. } = &config.worktree;
    assert_eq!((*isolation, setup.as_str()), (Isolation::Clone, "pnpm i"));
    assert_eq!(
        (&keep[..], &copy[..], &link[..]),
        (
            &["target".to_owned(), "a/b".to_owned()][..],
            &[".env".to_owned()][..],
            &["node_modules".to_owned()][..]
        )
    );
    assert_eq!(config.agents.keys().collect::<Vec<_>>(), ["mine", "shell"]);
    assert_eq!(config.agents["mine"].command.len(), 4);
    assert_eq!(config.gc, Gc { archive_after_ms: Some(30 * 86_400_000) });
    assert_eq!(read("").gc.archive_after_ms, None, "nothing is archived unless that is asked for");
    assert_eq!(config.env["RUST_BACKTRACE"], "1");
    assert_eq!(Config::default().retry.backoff(), Backoff::default());
}

#[test]
fn the_place_is_shown() {
    let text = format!("{}[retry]\nretires = 3\n", "\n".repeat(12));
    assert_eq!(
        wrong(&text),
        "coord.toml:14:1: unknown key `retires` in [retry]\n   |\n14 | retires = 3\n   | ^^^^^^^ \
         did you mean `attempts`?"
    );
    // Tabs and characters of several bytes before the place.
    assert_eq!(
        wrong("[env]\n\tA = \"ä\" # ä\nB =  7 # ö"),
        "coord.toml:3:6: `B` in [env] has a whole number here\n  |\n3 | B =  7 # ö\n  |      ^ write \
         a string, such as \"1\""
    );
    let message = wrong("[workers]\r\n\tcuont = 1\r\n");
    assert!(message.ends_with("2 | \tcuont = 1\n  | \t^^^^^ did you mean `count`?"), "{message}");
    // The first in the file is reported, whatever table is read first.
    assert!(wrong("[env]\nA = 1\n[queue]\nx = 1\n").starts_with("coord.toml:2:5:"));
}

#[test]
fn mistakes() {
    for (text, says) in [
        ("x", "coord.toml:1:2: not TOML: "),
        ("[retry]\nattempts = 1\nattempts = 2", "coord.toml:3:1: not TOML: duplicate key"),
        ("version = 2", "coord.toml:1:11: version 2 is not known"),
        ("version = \"1\"", "`version` has a string here"),
        ("wrokers = 1", "did you mean `workers`?"),
        ("zebra = 1", "known: version, queue, workers"),
        ("[gates]\n", "[gates] is not available in this version"),
        ("[merge]\nenabled = 1", "write true or false"),
        ("[merge]\ntarget = \"main\"", "did you mean `into`?"),
        ("[merge]\nstrategy = \"rebsae\"", "did you mean `rebase`?"),
        ("[merge]\ninto = \"-x\"", "`into` in [merge] cannot be `-x`"),
        ("[merge]\nbatch = 0", "1 to 1000 are possible"),
        ("[scopes]\nshared = [\"../x\"]", "leads out of the project"),
        ("[scopes]\noutside = \"ignore\"", "possible: fail, warn"),
        ("[gc]\narchive_after = \"0s\"", "at least 1 ms is needed"),
        ("[gc]\nkeep = \"1d\"", "did you mean `archive_after`?"),
        ("queue = 1", "write it as a table: [queue]"),
        ("[queue]\ndurability = \"fsync\"", "possible: process, accept, full"),
        ("[queue]\ndurability = \"proces\"", "did you mean `process`?"),
        ("[queue]\nageing = -1", "0 to 1000000 are possible"),
        ("[workers]\ncount = 0", "1 to 10000 are possible"),
        ("[workers]\ncount = 99999999999999999999", "1 to 10000 are possible"),
        ("[workers]\ncount = 2.5", "has a number here"),
        ("[workers]\non_term = \"drop\"", "possible: requeue, finish"),
        ("[workers]\nrescan = 30", "write a string, such as rescan = \"90s\""),
        ("[workers]\nrescan = \"0s\"", "at least 1 ms is needed"),
        ("[workers]\nagent = \"shel\"", "did you mean `shell`?"),
        ("[workers]\nagent = \"claude\"", "add a table [agents.claude]"),
        ("[workers]\nzebra = 1", "known: count, agent, on_term, rescan, grace"),
        ("[lease]\nexpire = \"5 parsecs\"", "there is no unit `parsecs`"),
        ("[lease]\nheartbeat = \"21s\"", "at most 20s, a third of expire"),
        ("[lease]\nttl = \"21s\"", "did you mean `expire`?"),
        ("[retry]\nattempts = 0", "1 to 1000 are possible"),
        ("[retry]\nfactor = 0.5", "1.0 to 100.0 are possible"),
        ("[retry]\nfactor = nan", "1.0 to 100.0 are possible"),
        ("[retry]\nbackoff = \"11m\"", "longer than `max`"),
        ("[limits]\ndisk_free = \"64X\"", "`64X` is not a size"),
        ("[git]\nbase = \"--all\"", "begins with `-`"),
        ("[git]\nidentity = { name = \"{wroker}\" }", "did you mean `{worker}`?"),
        ("[git]\nidentity = { email = \"<x>\" }", "git cannot use this email"),
        ("[git]\nidentity = \"x\"", "`identity` is a string"),
        ("[worktree]\nroot = \"{home}\"", "unknown placeholder `{home}`"),
        ("[worktree]\nisolation = \"worktre\"", "did you mean `worktree`?"),
        ("[worktree]\nkep = []", "did you mean `keep`?"),
        ("[worktree]\nscript = \"x\"", "did you mean `setup`?"),
        ("[worktree]\nkeep = \"target\"", "write an array of strings, such as [\"target\"]"),
        ("[worktree]\ncopy = [\"../x\"]", "`../x` in `copy` does not name something below"),
        ("[worktree]\nlink = [\"/etc\"]", "coord.toml:2:9: `/etc` in `link`"),
        ("[worktree]\nkeep = [\".git\"]", "does not name something below the project"),
        ("[worktree]\nkeep = [\"\"]", "does not name something below the project"),
        ("[worktree]\nroot = \"\"", "`root` in [worktree] is empty"),
        ("[agents.x]\ncommand = [\"a\", \"{promt}\"]", "2:17: unknown placeholder `{promt}`"),
        ("[agents.x]\ncommand = \"a\"", "write an array of strings"),
        ("[agents.x]\ncommand = [\"a\", 1]", "coord.toml:2:17: `command` in [agents.x]"),
        ("[agents.x]\ncommand = []", "the command has no program"),
        ("[agents.x]\n", "agent `x` has no command"),
        ("[agents.X]\ncommand = [\"a\"]", "`X` cannot name an agent"),
        ("[agents]\nx = 1", "write it as a table: [agents.x]"),
        ("[env]\n\"A=B\" = \"x\"", "cannot be set in an environment"),
        ("[env]\nA = \"\\u0000\"", "NUL"),
    ] {
        let message = wrong(text);
        assert!(message.contains(says), "{text}: {message}");
        assert!(message.starts_with("coord.toml:"), "{message}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read(text in "(\\[[a-z]{1,9}\\]\n|[a-z]{1,8} = [0-9\"äs{}\t]{0,5}\n|.{0,6}){0,6}") {
        let _config = Config::parse(&text, "coord.toml");
    }
}
