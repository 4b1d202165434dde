//! One look at everything that could grow: the programs in /proc, the queue's directories, events.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What /proc says of a program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    pub pid: i32,
    pub rss_kb: u64,
    pub fds: u64,
    pub threads: u64,
    /// Voluntary context switches of all its threads so far.
    pub voluntary: u64,
    /// The same a minute since the sample before, where nothing was to be done in between.
    pub idle_wakes: Option<f64>,
}

/// A number behind a word of a status file of /proc.
fn number(text: &str, word: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(word));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Looks at a process; `None` if it is gone.
pub fn vitals(pid: i32) -> Option<Vitals> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let switches = tasks
        .filter_map(|t| std::fs::read_to_string(t.path().join("status")).ok())
        .map(|text| number(&text, "voluntary_ctxt_switches:"))
        .sum();
    Some(Vitals {
        pid,
        rss_kb: number(&status, "VmRSS:"),
        fds,
        threads: number(&status, "Threads:"),
        voluntary: switches,
        idle_wakes: None,
    })
}

/// Inodes and bytes of a part of the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Size {
    pub inodes: u64,
    pub bytes: u64,
}

/// The size of each directory of the queue; what lies at the top is under "".
pub fn sizes(queue: &Path) -> BTreeMap<String, Size> {
    let mut all: BTreeMap<String, Size> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(queue).min_depth(1).into_iter().flatten() {
        let path = entry.path().strip_prefix(queue).unwrap_or(entry.path());
        let depth = path.components().count();
        let top = path.components().next().map(|c| c.as_os_str().to_string_lossy().into_owned());
        let top = top.filter(|_| depth > 1 || entry.file_type().is_dir()).unwrap_or_default();
        let size = all.entry(top).or_default();
        // A claim is a link to a card: an inode is counted where it has its name.
        size.inodes += 1;
        if entry.file_type().is_file() {
            size.bytes += entry.metadata().map_or(0, |m| m.len());
        }
    }
    all
}

/// What must be gone when nothing is to be done: hints, waiters, intents, dead processes.
pub fn unfinished(queue: &Path, programs: usize) -> Vec<PathBuf> {
    let mut left = Vec::new();
    for part in ["ready", "blocked", "delayed", "waiters"] {
        let files = walkdir::WalkDir::new(queue.join(part)).into_iter().flatten();
        left.extend(
            files
                .filter(|e| e.file_type().is_file() && e.file_name() != "bell")
                .map(|e| e.into_path()),
        );
    }
    let procs = std::fs::read_dir(queue.join("procs")).into_iter().flatten().flatten();
    let procs: Vec<PathBuf> = procs.map(|e| e.path()).filter(|p| p.is_dir()).collect();
    for proc in &procs {
        let run = std::fs::read_dir(proc.join("run")).into_iter().flatten().flatten();
        left.extend(run.map(|e| e.path()));
    }
    if procs.len() != programs {
        left.push(queue.join(format!("procs: {} for {programs} programs", procs.len())));
    }
    left
}

/// The sequence numbers of the events: each process counts its own from 1 without a gap.
#[derive(Debug, Default)]
pub struct Sequences {
    read: BTreeMap<PathBuf, usize>,
    last: BTreeMap<String, u64>,
    pub events: u64,
    pub gaps: Vec<String>,
    /// Lines that cannot be read: a kill may tear its process's last one.
    pub torn: u64,
}

impl Sequences {
    /// Reads what was written since the last time.
    pub fn catch_up(&mut self, events: &Path) {
        let mut files: Vec<PathBuf> = std::fs::read_dir(events)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        files.sort();
        for path in files {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let from = self.read.get(&path).copied().unwrap_or(0);
            let new = bytes.get(from..).unwrap_or_default();
            let Some(end) = new.iter().rposition(|&b| b == b'\n') else { continue };
            self.read.insert(path, from + end + 1);
            for line in new[..end].split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
                self.take(line);
            }
        }
    }

    fn take(&mut self, line: &[u8]) {
        let event: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
        let parts = event["e"].as_str().and_then(|e| e.rsplit_once(':'));
        let parsed = parts.and_then(|(wid, seq)| Some((wid.to_owned(), seq.parse::<u64>().ok()?)));
        let Some((wid, seq)) = parsed else {
            self.torn += 1;
            return;
        };
        self.events += 1;
        let last = self.last.entry(wid.clone()).or_default();
        if seq != *last + 1 {
            self.gaps.push(format!("{wid}: {seq} comes after {last}"));
        }
        *last = seq;
    }
}

#[test]
fn a_gap_in_the_sequence_is_seen() {
    let mut seen = Sequences::default();
    for line in [&br#"{"e":"w-1:1"}"#[..], br#"{"e":"v-1:1"}"#, br#"{"e":"w-1:2"}"#, b"torn"] {
        seen.take(line);
    }
    assert_eq!((seen.events, seen.torn, seen.gaps.len()), (3, 1, 0));
    seen.take(br#"{"e":"w-1:4"}"#);
    assert_eq!(seen.gaps, ["w-1: 4 comes after 2"]);
}

#[test]
fn what_is_not_finished_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    };
    for name in ["ready/bell", "ready/default/bell", "delayed/bell", "procs/w/hb"] {
        make(name);
    }
    assert_eq!(unfinished(dir.path(), 1), Vec::<PathBuf>::new());
    assert_eq!(unfinished(dir.path(), 2).len(), 1);
    for name in ["ready/default/50/b/t.1", "blocked/t.1", "waiters/d/t", "procs/w/run/t.1"] {
        make(name);
        let left = unfinished(dir.path(), 1);
        assert_eq!(left, [dir.path().join(name)]);
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
}
