//! Names: task ids, attempt keys, process ids, roles.

use std::fmt;

/// The longest task id.
pub const TASK_ID_MAX: usize = 64;

/// Attempt `n` of a task, written `T.n`: the fencing token's core. Ids may contain dots, so it is
/// parsed from the right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The task's id.
    pub task: String,
    /// The attempt's number, from 1.
    pub n: u32,
}

impl Key {
    /// The key of attempt `n`.
    pub fn new(task: &str, n: u32) -> Key {
        Key { task: task.to_owned(), n }
    }

    /// Parses `T.n`.
    pub fn parse(text: &str) -> Option<Key> {
        let (task, n) = text.rsplit_once('.')?;
        let n = attempt_number(n)?;
        is_id(task).then(|| Key { task: task.to_owned(), n })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.n)
    }
}

/// The number of a register's name, `n.KIND`. The release of a task that was added with `hold` is a
/// `0.reopen`: it permits attempt 1.
pub fn register_number(n: &str, kind: &str) -> Option<u32> {
    if n == "0" && kind == "reopen" { Some(0) } else { attempt_number(n) }
}

/// Parses an attempt's number: decimal, no leading zero, at least 1.
pub fn attempt_number(text: &str) -> Option<u32> {
    if text.is_empty() || text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
pub fn is_task_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= TASK_ID_MAX
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// What the id of a lane begins with. No task's does: a colon is not possible there.
const LANE: &str = "merge:";

/// The id of the lane that merges into a branch; of the branch that coord.toml names where it is empty.
/// What a file name cannot have is written as `~` and two digits.
pub fn lane_id(into: &str) -> String {
    use fmt::Write;
    let mut id = LANE.to_owned();
    if into.is_empty() {
        id.push_str("default");
    }
    for (i, byte) in into.bytes().enumerate() {
        // A branch of that name must have another lane.
        let taken = i == 0 && into == "default";
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if plain && !taken {
            id.push(char::from(byte));
        } else {
            // Writing into memory cannot fail.
            let _ = write!(id, "~{byte:02x}");
        }
    }
    id
}

/// The name of a lane's directory, if this is the id of a lane.
pub fn lane_name(id: &str) -> Option<&str> {
    let name = id.strip_prefix(LANE)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    let fits = !name.is_empty() && name.len() <= 200 && !name.starts_with('.');
    (fits && name.bytes().all(plain)).then_some(name)
}

/// Whether this is the id of a task or of a lane: of something that has registers.
pub fn is_id(text: &str) -> bool {
    is_task_id(text) || lane_name(text).is_some()
}

/// Which of 256 directories of the archive an id belongs to, as two hexadecimal digits: the checksum of
/// `cksum`, so that a person finds it with `printf %s T | cksum`, modulo 256.
pub fn shard(id: &str) -> String {
    let mut length = id.len();
    let mut sum = id.bytes().fold(0, cksum);
    while length > 0 {
        sum = cksum(sum, u8::try_from(length & 255).unwrap_or(0));
        length >>= 8;
    }
    format!("{:02x}", !sum & 255)
}

fn cksum(sum: u32, byte: u8) -> u32 {
    let step = |sum: u32, _| if sum >> 31 == 1 { sum << 1 ^ 0x04c1_1db7 } else { sum << 1 };
    (0..8).fold(sum ^ u32::from(byte) << 24, step)
}

/// All-digit ids are given out by the counter.
pub fn is_number(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())
}

/// `[a-z0-9][a-z0-9_-]{0,31}`, and not `bell`, which stands beside the roles' directories.
pub fn is_role(text: &str) -> bool {
    let mut bytes = text.bytes();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 32
        && text != "bell"
        && bytes.next().is_some_and(plain)
        && bytes.all(|b| plain(b) || matches!(b, b'_' | b'-'))
}

/// 64 random bits as 13 characters of Crockford's base 32, in lower case.
pub fn random_part(mut bits: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut text = String::with_capacity(13);
    for _ in 0..13 {
        text.push(char::from(DIGITS[usize::try_from(bits & 31).unwrap_or(0)]));
        bits >>= 5;
    }
    text
}

/// The part of a process id that people see: `w1` of `w1-7zk3…`.
pub fn short(wid: &str) -> &str {
    wid.rsplit_once('-').map_or(wid, |(name, _)| name)
}

/// Natural order: `W-2` before `W-10`.
pub fn natural_cmp(a: &str, b: &str) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let (Some(&x), Some(&y)) = (a.first(), b.first()) {
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
            let (la, lb) = (digits(a), digits(b));
            let trim = |s: &[u8]| {
                let zeros = s.iter().take_while(|&&c| c == b'0').count();
                s[zeros..].to_vec()
            };
            let (na, nb) = (trim(&a[..la]), trim(&b[..lb]));
            let order = na.len().cmp(&nb.len()).then_with(|| na.cmp(&nb)).then(la.cmp(&lb));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (&a[la..], &b[lb..]);
        } else if x != y {
            return x.cmp(&y);
        } else {
            (a, b) = (&a[1..], &b[1..]);
        }
    }
    a.len().cmp(&b.len())
}

/// The FNV-1a hash of some bytes, folded to 32 bits: the same for ever, which a name made of it must be.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) ^ (hash & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed_from_the_right() {
        assert_eq!(Key::parse("3.1.2"), Some(Key::new("3.1", 2)));
        assert_eq!(Key::parse("bd-a1b2.1.10"), Some(Key::new("bd-a1b2.1", 10)));
        assert_eq!(Key::parse("W-3"), None);
        assert_eq!(Key::parse("W-3.0"), None);
        assert_eq!(Key::parse("W-3.01"), None);
        assert_eq!(Key::parse(".2"), None);
    }

    #[test]
    fn ids_cannot_leave_their_directory() {
        for bad in ["", ".", "..", "a/b", "-x", "_x", "a b", "ä", "a\n", "../x"] {
            assert!(!is_task_id(bad), "{bad:?}");
        }
        assert!(is_task_id("W-3"));
        assert!(is_task_id(&"x".repeat(64)));
        assert!(!is_task_id(&"x".repeat(65)));
    }

    #[test]
    fn natural_order_counts() {
        let mut ids = vec!["W-10", "W-2", "10", "9", "W-2a"];
        ids.sort_by(|a, b| natural_cmp(a, b));
        assert_eq!(ids, ["9", "10", "W-2", "W-2a", "W-10"]);
    }

    #[test]
    fn lanes_are_no_tasks() {
        assert_eq!(lane_id(""), "merge:default");
        assert_eq!(lane_id("release/1.0"), "merge:release~2f1.0");
        assert_eq!(lane_name("merge:release~2f1.0"), Some("release~2f1.0"));
        for bad in ["merge:", "merge:..", "merge:a/b", "merge:.x", "W-1", "default"] {
            assert_eq!(lane_name(bad), None, "{bad}");
        }
        assert!(!is_task_id("merge:default"));
        assert_eq!(Key::parse("merge:v1.0.12"), Some(Key::new("merge:v1.0", 12)));
    }

    #[test]
    fn shards_are_those_of_cksum() {
        // printf %s W-3 | cksum | awk '{printf "%02x\n", $1 % 256}'
        for (id, sum) in [("W-3", SUMS[0]), ("1", SUMS[1]), ("bd-a1b2.1", SUMS[2])] {
            assert_eq!(shard(id), sum, "{id}");
        }
    }

    const SUMS: [&str; 3] = ["1e", "a1", "fe"];

    #[test]
    fn short_names() {
        assert_eq!(short("w1-7zk3"), "w1");
        assert_eq!(random_part(u64::MAX).len(), 13);
        assert_ne!(random_part(1), random_part(1 << 60));
    }
}
