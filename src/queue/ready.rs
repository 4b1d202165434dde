//! `ready/ROLE/PP/BUCKET/T.n`: what may be claimed, in order. Only a hint: an entry is never
//! trusted, a missing one is rebuilt by the sweep.
//!
//! BUCKET is `<submission time in seconds >> 6, 8 hex>-<lane, 2 hex>`: names sort by age, one
//! submitter goes to the next lane after 512 entries, and buckets are removed when empty, the first of
//! the present 64 seconds when they are over. Short-lived directories matter: one that was large stays
//! slow to list after it is drained (measured on ext4: 0.46 ms for an empty one that once had 200,000
//! names, 0.005 ms for a fresh one).

use crate::error::Result;
use crate::step;
use crate::sys::clock::parse_rfc3339;

use super::Queue;
use super::ids::{Key, is_role};
use super::procs::Proc;
use super::settle::link_hint;
use super::tasks::Task;

mod finder;

pub use finder::{Candidate, Finder};

/// Entries that one submitter puts into a bucket before it takes the next lane.
const LANE_ENTRIES: u64 = 512;

/// Publishes the ready entry of an attempt and rings the bells. True: it is new.
///
/// Crash after the link: an entry without a bell; the publisher's intent repeats both.
pub fn publish(queue: &Queue, me: &mut Proc, task: &Task, key: &Key) -> Result<bool> {
    let Ok(spec) = &task.spec else { return Ok(false) };
    let role = if is_role(spec.role()) { spec.role() } else { "default" };
    // A retry keeps the time of its task: old work first.
    let created_s = parse_rfc3339(&spec.at).unwrap_or_else(|| queue.clock.wall_ms()) / 1000;
    let lane = (me.published / LANE_ENTRIES) & 0xff;
    let bucket = bucket(created_s, lane);
    let level = queue.layout.ready_level(role, spec.priority.min(99));
    step!("ready.link");
    let new = link_hint(queue, task, &level.join(bucket).join(key.to_string()))?;
    me.published += 1;
    step!("ready.bell");
    queue.ring(&queue.layout.role_bell(role));
    queue.ring(&queue.layout.ready_bell());
    Ok(new)
}

/// The priority that a name in `ready/ROLE/` stands for; `None` if it is none of ours.
pub fn priority_of(name: &str) -> Option<u8> {
    let is_ours = name.len() == 2 && name.bytes().all(|b| b.is_ascii_digit());
    is_ours.then(|| name.parse().ok()).flatten()
}

/// The name of the bucket of what was submitted then.
fn bucket(created_s: u64, lane: u64) -> String {
    format!("{:08x}-{lane:02x}", created_s >> 6)
}

/// Whether a directory of a priority has such buckets by itself: `TIME-LANE`, in hexadecimal digits.
pub fn is_bucket(name: &str) -> bool {
    let is_hex = |text: &str, digits: usize| {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        text.len() == digits && text.bytes().all(digit)
    };
    name.split_once('-').is_some_and(|(time, lane)| is_hex(time, 8) && is_hex(lane, 2))
}

/// Some of the entries, at most `most` of each role, those of small priorities first.
pub fn some(queue: &Queue, most: usize) -> Result<Vec<Key>> {
    let mut all = Vec::new();
    for role in queue.list(&queue.layout.ready())?.into_iter().filter(|e| is_role(&e.name)) {
        let dir = queue.layout.ready_role(&role.name);
        let mut keys = Vec::new();
        let mut levels = queue.list_reachable(&dir)?;
        levels.sort_by(|a, b| a.name.cmp(&b.name));
        for level in levels.into_iter().filter(|e| priority_of(&e.name).is_some()) {
            for bucket in queue.list_reachable(&dir.join(&level.name))? {
                if keys.len() >= most {
                    break;
                }
                let bucket = dir.join(&level.name).join(&bucket.name);
                let entries = queue.list_reachable(&bucket)?;
                keys.extend(entries.iter().filter_map(|entry| Key::parse(&entry.name)));
            }
        }
        keys.truncate(most);
        all.extend(keys);
    }
    Ok(all)
}

/// Removes an entry, and its bucket if that was the last one. Level directories stay: they are few.
pub fn remove(queue: &Queue, entry: &std::path::Path) -> Result<()> {
    step!("ready.unlink");
    queue.discard(entry)?;
    if let Some(bucket) = entry.parent() {
        remove_bucket(queue, bucket);
    }
    Ok(())
}

/// Removes a bucket that may be empty. Not while its time lasts: whoever submits next would have to
/// make it again, which of all that is done for a task costs most. Then it goes when somebody looks
/// for work and finds nothing in it.
fn remove_bucket(queue: &Queue, path: &std::path::Path) {
    let now = bucket(queue.clock.wall_ms() / 1000, 0);
    let is_of_now = path.file_name().is_some_and(|name| *name == *now);
    if !is_of_now {
        // Fails while it has entries, or when somebody else removed it.
        drop(queue.fs.rmdir(path));
    }
}

/// Removes the hints of an attempt that was taken by other ways than its ready entry. The entry may
/// lie in a lane that this does not guess; then the next claimer removes it.
pub fn remove_hints(queue: &Queue, task: &Task, key: &Key) -> Result<()> {
    queue.discard(&queue.layout.blocked_entry(key))?;
    let Ok(spec) = &task.spec else { return Ok(()) };
    let role = if is_role(spec.role()) { spec.role() } else { "default" };
    let level = queue.layout.ready_level(role, spec.priority.min(99));
    let created_s = parse_rfc3339(&spec.at).unwrap_or(0) / 1000;
    remove(queue, &level.join(bucket(created_s, 0)).join(key.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_bucket_goes_when_its_time_is_over() {
        use crate::sys::fs::{Fs, RealFs, mkdir_all};
        let dir = tempfile::tempdir().unwrap();
        let platform = crate::sys::host::Platform::real();
        let queue = crate::queue::init::init(&dir.path().join("q"), platform).unwrap();
        let level = queue.layout.ready_level("default", 50);
        let now_s = queue.clock.wall_ms() / 1000;
        let buckets = [bucket(now_s, 0), bucket(now_s, 1), bucket(now_s - 64, 0)];
        for name in &buckets {
            mkdir_all(&RealFs, &level.join(name)).unwrap();
            RealFs.create(&level.join(name).join("1.1"), b"", 0o644).unwrap();
            remove(&queue, &level.join(name).join("1.1")).unwrap();
        }
        let is_there = |name: &String| RealFs.exists(&level.join(name));
        let its_time_is_over = bucket(queue.clock.wall_ms() / 1000, 0) != buckets[0];
        assert!(is_there(&buckets[0]) || its_time_is_over);
        assert!(!is_there(&buckets[1]) && !is_there(&buckets[2]));
        mkdir_all(&RealFs, &level.join(&buckets[2])).unwrap();
        assert!(Finder::new(&[], 20, 0).next(&queue).unwrap().is_none());
        assert!(!is_there(&buckets[2]), "whoever looks for work removes it");
    }

    #[test]
    fn only_two_digits_are_a_priority() {
        assert_eq!((priority_of("07"), priority_of("99")), (Some(7), Some(99)));
        for name in ["+7", "7", "007", "7a", "bell", "²", ""] {
            assert_eq!(priority_of(name), None, "{name}");
        }
    }
}
