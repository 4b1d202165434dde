//! Many small experiments, side by side: which of them run, and what they found.
//!
//! A CI run draws a sample from a seed that it prints. `COORD_STRESS=full` runs all of them, and notes
//! each that went well in target/stress/syscalls.progress, so that a run that was interrupted goes on.
//! `COORD_SYSCALLS_ONLY=WORDS` runs the points whose name has these words.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Whether all points run.
pub fn full() -> bool {
    std::env::var("COORD_STRESS").is_ok_and(|v| v == "full")
}

/// The seed of this run's samples: `COORD_SYSCALLS_SEED`, or always the same, so that an ordinary run
/// fails only by what was changed.
pub fn seed() -> u64 {
    static SEED: AtomicU64 = AtomicU64::new(0);
    let given = std::env::var("COORD_SYSCALLS_SEED").ok().and_then(|s| s.parse().ok());
    let drawn = given.unwrap_or(7).max(1);
    let _ = SEED.compare_exchange(0, drawn, Ordering::SeqCst, Ordering::SeqCst);
    SEED.load(Ordering::SeqCst)
}

/// A number that hangs on the seed and the words only.
pub fn draw(words: impl Display) -> u64 {
    let mut hash = seed() ^ 0xcbf2_9ce4_8422_2325;
    for byte in words.to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 29;
    hash.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}

/// At most `most` of these, drawn from the seed; all in a full run.
pub fn sample<T>(all: Vec<T>, most: usize, label: impl Fn(&T) -> String) -> Vec<T> {
    if let Ok(only) = std::env::var("COORD_SYSCALLS_ONLY") {
        return all.into_iter().filter(|t| label(t).contains(&only)).collect();
    }
    // Shuffled also where all run: a full run that is not finished has looked everywhere a little.
    let mut keyed: Vec<(u64, T)> = all.into_iter().map(|t| (draw(label(&t)), t)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    if !full() {
        keyed.truncate(most);
    }
    keyed.into_iter().map(|(_, t)| t).collect()
}

struct Progress {
    file: Option<(PathBuf, Mutex<std::fs::File>)>,
    done: BTreeSet<String>,
}

impl Progress {
    fn load() -> Progress {
        if !full() {
            return Progress { file: None, done: BTreeSet::new() };
        }
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/stress");
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("syscalls.progress");
        let done = std::fs::read_to_string(&path).unwrap_or_default();
        let done = done.lines().map(str::to_owned).collect();
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        Progress { file: Some((path, Mutex::new(file))), done }
    }

    fn note(&self, label: &str) {
        if let Some((_, file)) = &self.file {
            file.lock().unwrap().write_all(format!("{label}\n").as_bytes()).unwrap();
        }
    }
}

/// Runs `point` for each of `all`, several at a time, and fails with all that went wrong. More at a
/// time than there are processors, since points often wait: for a back-off, for a second try.
pub fn run<T: Sync>(
    what: &str,
    of: usize,
    all: &[T],
    label: impl Fn(&T) -> String + Sync,
    point: impl Fn(&T) + Sync,
) {
    let started = Instant::now();
    let progress = Progress::load();
    let next = AtomicUsize::new(0);
    let resumed = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from) * 4;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let label = format!("{what}: {}", label(item));
                    if progress.done.contains(&label) {
                        resumed.fetch_add(1, Ordering::SeqCst);
                        continue;
                    }
                    match catch_unwind(AssertUnwindSafe(|| point(item))) {
                        Ok(()) => progress.note(&label),
                        Err(panic) => {
                            eprintln!("failed: {label}");
                            let text = panic
                                .downcast_ref::<String>()
                                .cloned()
                                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                            failures
                                .lock()
                                .unwrap()
                                .push(format!("{label}: {}", text.unwrap_or_default()));
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let resumed = resumed.into_inner();
    let before =
        if resumed > 0 { format!(", {resumed} of them in an earlier run") } else { String::new() };
    println!(
        "{what}: {} of {of} points{before}, seed {}, {} failed, {:.1} s",
        all.len(),
        seed(),
        failures.len(),
        started.elapsed().as_secs_f64()
    );
    assert!(
        failures.is_empty(),
        "{} of {} failed; COORD_SYSCALLS_SEED={} repeats this:\n{}",
        failures.len(),
        all.len(),
        seed(),
        failures.join("\n---\n")
    );
}
