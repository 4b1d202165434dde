//! How far the long size came: `target/stress/disks.progress`, from which it goes on.

use std::path::PathBuf;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/stress/disks.progress")
}

fn is_long() -> bool {
    std::env::var("COORD_STRESS").is_ok_and(|size| size == "full")
}

/// The first seed, the disks that are done, and how many there should be.
pub fn start(usual: u64, long: u64) -> (u64, u64, u64) {
    if !is_long() {
        return (0, 0, usual);
    }
    let long = std::env::var("COORD_DISKS").ok().and_then(|n| n.parse().ok()).unwrap_or(long);
    #[expect(clippy::disallowed_methods, reason = "a test notes its progress beside the queue")]
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    let (seed, done) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    println!("going on at seed {seed}, {done} of {long} disks are done");
    (seed, done, long)
}

/// So far it came.
pub fn note(seed: u64, done: u64) {
    if is_long() {
        #[expect(clippy::disallowed_methods, reason = "a test notes its progress beside the queue")]
        let noted = std::fs::write(path(), format!("{seed} {done}\n"));
        noted.expect("scripts/stress makes the directory");
    }
}
