//! Each fault is made by hand in a real queue; fsck must name it and leave every byte alone.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::queue::claim::{Claimed, claim};
use crate::queue::procs::{Identity, Proc};
use crate::queue::ready::Finder;
use crate::queue::record::{self, CardKind, End, Spec, Verdict};
use crate::queue::{end, events, init, submit};
use crate::sys::fs::RealFs;
use crate::sys::host::Platform;

struct Bench {
    _dir: tempfile::TempDir,
    queue: Queue,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(".coord");
    let queue = init::init(&root, Platform::real()).unwrap();
    Bench { _dir: dir, queue }
}

impl Bench {
    fn act<T>(&self, body: impl FnOnce(&mut Proc) -> T) -> T {
        let (roles, labels) = (Vec::new(), Vec::new());
        let identity =
            Identity { roles, labels, lease_ms: 60_000, ..Identity::plain("t", CardKind::Worker) };
        let mut me = Proc::register(&self.queue, &identity).unwrap();
        let result = body(&mut me);
        me.leave(&self.queue);
        result
    }

    fn add(&self, id: &str, after: &[&str]) {
        let after = after.iter().map(|s| (*s).to_owned()).collect();
        let spec = Spec { argv: vec!["true".into()], after, ..Spec::new(id) };
        self.act(|me| submit::submit(&self.queue, me, Some(id), spec).unwrap());
    }

    /// Runs everything that is ready.
    fn work(&self, verdict: Verdict, retry: bool) {
        let queue = &self.queue;
        self.act(|me| {
            let mut finder = Finder::new(&[], 16, 0);
            while let Some(candidate) = finder.next(queue).unwrap() {
                let Claimed::Won(lease) = claim(queue, me, &candidate, |_| true).unwrap() else {
                    continue;
                };
                end::record(queue, me, &lease, End::new(verdict, retry)).unwrap();
                end::finish(queue, me, &lease, false).unwrap();
            }
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.queue.layout.at(name)
    }

    #[expect(clippy::disallowed_methods, reason = "a hand that makes a fault")]
    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        drop(std::fs::remove_file(&path));
        std::fs::write(path, bytes).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "a hand that makes a fault")]
    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    /// Name, kind, length, time and content of everything.
    #[expect(clippy::disallowed_methods, reason = "reads what fsck must not have changed")]
    fn picture(&self) -> BTreeMap<PathBuf, String> {
        use std::os::unix::fs::MetadataExt;
        let walk = walkdir::WalkDir::new(self.queue.layout.root());
        walk.into_iter()
            .map(|entry| {
                let entry = entry.unwrap();
                let meta = entry.metadata().unwrap();
                let is_file = entry.file_type().is_file();
                let bytes = if is_file { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
                let text =
                    format!("{} {} {} {bytes:?}", meta.mode(), meta.mtime_nsec(), meta.nlink());
                (entry.into_path(), text)
            })
            .collect()
    }

    /// What fsck says; checks that it changed nothing.
    fn check(&self, strict: bool) -> Vec<Finding> {
        let before = self.picture();
        let findings = check(&self.queue, strict).unwrap();
        assert_eq!(before, self.picture());
        findings
    }

    /// The only finding that counts.
    fn finds(&self, severity: Severity, invariant: &str, path: &str) {
        let findings = self.check(true);
        let wanted = |f: &&Finding| (f.severity, f.invariant) == (severity, invariant);
        let found = findings.iter().filter(wanted).find(|f| f.path == self.path(path));
        assert!(found.is_some(), "no {invariant} at {path}: {findings:#?}");
    }

    fn finds_no(&self, invariant: &str) {
        let findings = self.check(true);
        assert!(!findings.iter().any(|f| f.invariant == invariant), "{findings:#?}");
    }
}

fn done_with_end(retry: bool) -> Vec<u8> {
    record::to_bytes(&End::new(Verdict::Done, retry))
}

#[test]
fn a_healthy_queue_is_clean_at_every_stage() {
    let bench = bench();
    assert_eq!(bench.check(true), []);
    bench.add("a", &[]);
    bench.add("b", &["a", "c"]);
    bench.add("c", &[]);
    assert_eq!(bench.check(true), []);
    bench.work(Verdict::Done, false);
    assert_eq!(bench.check(true), []);
    bench.work(Verdict::Done, false);
    assert_eq!(bench.check(true), []);
}

#[test]
fn a_retry_is_allowed_and_a_failure_is_no_fault() {
    let bench = bench();
    bench.add("a", &[]);
    bench.act(|me| {
        let mut finder = Finder::new(&[], 16, 0);
        for retry in [true, false] {
            finder.restart(&bench.queue).unwrap();
            let candidate = finder.next(&bench.queue).unwrap().unwrap();
            let Ok(Claimed::Won(lease)) = claim(&bench.queue, me, &candidate, |_| true) else {
                panic!("lost");
            };
            end::record(&bench.queue, me, &lease, End::new(Verdict::Fail, retry)).unwrap();
            end::finish(&bench.queue, me, &lease, false).unwrap();
        }
    });
    assert_eq!(bench.check(true), []);
}

#[test]
fn an_emptied_spec_is_named_with_what_to_do() {
    let bench = bench();
    bench.add("a", &[]);
    bench.write("tasks/a/spec.json", b"");
    bench.finds(Severity::Error, "format", "tasks/a/spec.json");
    let findings = bench.check(false);
    let spec = findings.iter().find(|f| f.invariant == "format").unwrap();
    assert!(spec.hint.contains("from a backup, or add the task anew under another id"));
    assert!(spec.hint.contains("tasks/a/spec.json"));
}

#[test]
fn any_bytes_in_any_register_are_survived() {
    for bytes in [&b""[..], b"\0", b"{", b"[]", b"\xff\xff", b"null", &[b'['; 4000]] {
        let bench = bench();
        bench.add("a", &[]);
        for name in ["claim", "end", "cancel", "reopen", "late", "review", "merge"] {
            bench.write(&format!("tasks/a/1.{name}"), bytes);
        }
        bench.write("procs/bell", bytes);
        bench.write("events/x.0.jsonl", bytes);
        bench.write("stats/checkpoint", bytes);
        bench.finds(Severity::Error, "format", "tasks/a/1.claim");
        bench.finds(Severity::Error, "format", "tasks/a/1.end");
    }
}

#[test]
fn what_is_no_file_is_neither_opened_nor_followed() {
    let bench = bench();
    bench.add("a", &[]);
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&bench.path("tasks/pipe"), mode).unwrap();
    nix::unistd::mkfifo(&bench.path("tasks/a/2.end"), mode).unwrap();
    nix::unistd::mkfifo(&bench.path("events/pipe.jsonl"), mode).unwrap();
    std::os::unix::fs::symlink("/etc", bench.path("tasks/link")).unwrap();
    std::os::unix::fs::symlink("/", bench.path("tasks/a/loop")).unwrap();
    bench.finds(Severity::Error, "kind", "tasks/pipe");
    bench.finds(Severity::Error, "kind", "tasks/a/2.end");
    bench.finds(Severity::Error, "kind", "tasks/link");
    bench.finds(Severity::Error, "kind", "events/pipe.jsonl");
    bench.finds(Severity::Leftover, "foreign", "tasks/a/loop");
}

#[test]
fn foreign_names_are_leftovers() {
    let bench = bench();
    bench.write("notes.txt", b"x");
    bench.write("tasks/..odd", b"x");
    bench.write("ready/x y", b"x");
    bench.write("blocked/nothing", b"x");
    bench.write("incoming/rejected/bad.json", b"x");
    let odd = bench.path("tasks").join(std::ffi::OsStr::from_bytes(b"\xff"));
    std::os::unix::fs::symlink("x", &odd).unwrap();
    for path in ["notes.txt", "ready/x y", "blocked/nothing"] {
        bench.finds(Severity::Leftover, "foreign", path);
    }
    bench.finds(Severity::Note, "rejected", "incoming/rejected/bad.json");
    let findings = bench.check(false);
    assert!(findings.iter().any(|f| f.path == odd));
    assert!(!findings.iter().any(|f| f.counts(false)), "{findings:?}");
    assert!(serde_json::to_value(&findings).is_ok());
}

#[test]
fn registers_that_nothing_permits() {
    let bench = bench();
    for id in ["a", "b", "c", "d"] {
        bench.add(id, &[]);
    }
    bench.write("tasks/a/1.end", &done_with_end(false));
    bench.finds(Severity::Error, "I3", "tasks/a/1.end");
    bench.work(Verdict::Done, false);
    let card = bench.queue.fs.read(&bench.path("tasks/b/1.claim"), 0, 4096).unwrap();
    bench.write("tasks/b/2.claim", &card);
    bench.finds(Severity::Error, "I4", "tasks/b/2.claim");
    bench.finds(Severity::Error, "I2", "tasks/b/2.claim");
    bench.write("tasks/b/2.end", &done_with_end(false));
    bench.finds(Severity::Error, "I4", "tasks/b/2.end");
    bench.write("tasks/c/3.claim", &card);
    bench.finds(Severity::Error, "I2", "tasks/c/3.claim");
    bench.remove("tasks/d/spec.json");
    bench.finds(Severity::Error, "I2", "tasks/d/1.claim");
    bench.finds(Severity::Error, "I19", "tasks/d");
}

#[test]
fn a_turn_of_a_lane_follows_any_end_of_the_one_before() {
    let bench = bench();
    bench.act(|me| {
        let spec = Spec { merge: true, argv: vec!["true".into()], ..Spec::new("m") };
        submit::submit(&bench.queue, me, Some("m"), spec).unwrap();
    });
    bench.work(Verdict::Done, false);
    // It waits for its merge, so its lane is there. Mergers have died in it again and again.
    let card = bench.queue.fs.read(&bench.path("tasks/m/1.claim"), 0, 4096).unwrap();
    let dead = br#"{"v":1,"verdict":"expired","retry":false}"#;
    for n in 1..=4 {
        bench.write(&format!("merge/default/{n}.claim"), &card);
        bench.finds_no("I2");
        bench.write(&format!("merge/default/{n}.end"), dead);
    }
    bench.remove("merge/default/3.end");
    bench.finds(Severity::Error, "I2", "merge/default/4.claim");
}

/// The path of the only ready hint.
fn hint_of(bench: &Bench) -> PathBuf {
    let mut all = Vec::new();
    hints::each(&bench.queue, |hint| all.push(hint)).unwrap();
    assert_eq!(all.len(), 1);
    all[0].path.clone()
}

#[test]
fn a_lost_hint_breaks_the_invariant_unless_somebody_remembers() {
    let bench = bench();
    bench.add("a", &[]);
    bench.queue.discard(&hint_of(&bench)).unwrap();
    bench.finds(Severity::Error, "I7", "tasks/a");
    bench.act(|me| {
        me.settle_intent(&bench.queue, "a").unwrap();
        bench.finds(Severity::Note, "I7", "tasks/a");
        assert!(!bench.check(true).iter().any(|f| f.counts(true)));
        bench.queue.discard(&me.run("_settle.a")).unwrap();
    });
    bench.act(|me| {
        crate::queue::sweep::sweep(&bench.queue, me).unwrap();
        repair(&bench.queue, me).unwrap();
    });
    assert_eq!(bench.check(true), []);
}

#[test]
fn a_stale_hint_is_named_and_repaired() {
    let bench = bench();
    bench.add("a", &[]);
    bench.add("b", &["a"]);
    bench.write("blocked/a.1", b"");
    bench.write("blocked/gone.1", b"");
    bench.finds(Severity::Leftover, "stale", "blocked/a.1");
    bench.finds(Severity::Leftover, "stale", "blocked/gone.1");
    assert_eq!(bench.act(|me| repair(&bench.queue, me).unwrap()), 2);
    assert_eq!(bench.check(true), []);
}

#[test]
fn what_the_living_clean_up_at_once_does_not_count() {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    let bench = bench();
    bench.add("a", &[]);
    bench.act(|_| {
        // At each moment there is a stale hint, and never one for long.
        let (over, wait) = channel::<()>();
        let path = |i: u64| bench.path(&format!("blocked/gone{i}.1"));
        bench.queue.fs.touch(&path(0)).unwrap();
        let findings = std::thread::scope(|scope| {
            let (path, bench) = (&path, &bench);
            scope.spawn(move || {
                let mut i = 0;
                while let Err(RecvTimeoutError::Timeout) =
                    wait.recv_timeout(Duration::from_millis(5))
                {
                    bench.queue.fs.touch(&path(i + 1)).unwrap();
                    bench.queue.fs.unlink(&path(i)).unwrap();
                    i += 1;
                }
            });
            let findings = check(&bench.queue, true);
            drop(over);
            findings.unwrap()
        });
        let counting: Vec<_> = findings.iter().filter(|f| f.counts(true)).collect();
        assert!(counting.is_empty(), "{counting:?}");
    });
    // What stays does count, also while somebody lives.
    bench.act(|_| {
        bench.write("blocked/stays.1", b"");
        bench.finds(Severity::Leftover, "stale", "blocked/stays.1");
    });
}

#[test]
fn a_waiter_that_nobody_serves() {
    let bench = bench();
    bench.add("b", &["a"]);
    bench.remove("waiters/a/b");
    bench.finds(Severity::Error, "I14", "waiters/a/b");
}

#[test]
fn a_cycle_is_named_once() {
    let bench = bench();
    bench.add("a", &["b"]);
    bench.add("c", &["a"]);
    let spec = Spec { after: vec!["c".into()], ..Spec::new("b") };
    bench.act(|me| drop(submit::submit(&bench.queue, me, Some("b"), spec.clone())));
    let cycle = |b: &Bench| b.check(false).iter().filter(|f| f.invariant == "cycle").count();
    assert_eq!(cycle(&bench), 0);
    // Only a hand can close it: submission refuses.
    crate::sys::fs::mkdir_all(&RealFs, &bench.path("tasks/b")).unwrap();
    bench.write("tasks/b/spec.json", &record::to_bytes(&spec));
    assert_eq!(cycle(&bench), 1);
}

#[test]
fn the_dead_and_their_claims() {
    let bench = bench();
    bench.add("a", &[]);
    let identity = Identity::plain("w1", CardKind::Worker);
    let mut me = Proc::register(&bench.queue, &identity).unwrap();
    let candidate = Finder::new(&[], 16, 0).next(&bench.queue).unwrap().unwrap();
    assert!(matches!(claim(&bench.queue, &mut me, &candidate, |_| true), Ok(Claimed::Won(_))));
    events::flush(&bench.queue, &mut me);
    assert_eq!(bench.check(true), []);
    let wid = me.wid.clone();
    let end = format!("procs/{wid}/end");
    bench.write(&end, &record::to_bytes(&record::Note::default()));
    bench.finds(Severity::Leftover, "I17", "tasks/a/1.claim");
    bench.remove(&format!("procs/{wid}/run/a.1"));
    bench.finds(Severity::Error, "I17", "tasks/a/1.claim");
    bench.remove(&end);
    let card = record::Card { pid: 1, start: 1, ..me.card.clone() };
    bench.write(&format!("procs/{wid}/card.0.json"), &record::to_bytes(&card));
    bench.finds(Severity::Leftover, "dead", &format!("procs/{wid}"));
    bench.finds(Severity::Leftover, "dead", "tasks/a/1.claim");
    bench.write(&format!("procs/{wid}/card.0.json"), b"");
    bench.finds(Severity::Error, "format", &format!("procs/{wid}/card.0.json"));
}

#[test]
fn events_that_are_torn_or_missing() {
    let bench = bench();
    bench.add("a", &[]);
    bench.work(Verdict::Done, false);
    bench.write("events/x.0.jsonl", b"{\"k\":\n{\"k\":\"notice\"}\n");
    bench.finds(Severity::Leftover, "torn", "events/x.0.jsonl");
    bench.write("events/x.0.jsonl", b"{\"k\":\"notice\"}\n{\"k\":");
    bench.finds(Severity::Leftover, "torn", "events/x.0.jsonl");
    let line = b"{\"k\":\"end\",\"id\":\"a\",\"n\":9,\"verdict\":\"fail\",\"retry\":false}\n";
    bench.write("events/x.0.jsonl", line);
    bench.finds(Severity::Error, "I16", "tasks/a");
    bench.remove("events/x.0.jsonl");
    assert_eq!(bench.check(true), []);
    for entry in bench.queue.list(&bench.queue.layout.events()).unwrap() {
        if entry.name.ends_with(".jsonl") {
            bench.remove(&format!("events/{}", entry.name));
        }
    }
    bench.finds(Severity::Error, "I15", "tasks/a/1.end");
    bench.finds(Severity::Error, "I15", "tasks/a/spec.json");
    bench.finds(Severity::Error, "I16", "tasks/a");
}

#[test]
fn a_missing_directory_or_bell() {
    let bench = bench();
    bench.remove("ready/bell");
    bench.finds(Severity::Leftover, "layout", "ready/bell");
    bench.queue.fs.rmdir(&bench.path("log")).unwrap();
    bench.finds(Severity::Leftover, "layout", "log");
    bench.write("layout.json", b"");
    bench.finds(Severity::Error, "layout", "layout.json");
}

#[test]
fn a_time_after_the_year_2106_is_in_order() {
    let bench = bench();
    let not_before = Some("9999-12-31T23:59:59Z".to_owned());
    let spec = Spec { sh: "true".to_owned(), not_before, ..Spec::new("t") };
    bench.act(|me| submit::submit(&bench.queue, me, Some("W-1"), spec).unwrap());
    assert!(bench.path("delayed/3afff4417f/W-1.1").exists());
    assert_eq!(bench.check(true), []);
}
