//! `--results`: where the output of each job goes, as GNU parallel lays it out.
//!
//! | given | files of a job |
//! |---|---|
//! | a directory | `DIR/1/VALUE/2/VALUE/stdout`, `stderr`, `seq`; names of columns in place of numbers, sorted |
//! | a name with placeholders | that name, with `.err` and `.seq` behind it |
//! | the same, ending in `/` | `stdout`, `stderr` and `seq` in that directory |
//!
//! In a directory, a value is one name: `/` is written `\_`, `\` is `\\`, a tab `\t`, and a job
//! without values has `\0noarg`, as there. Further, so that no job writes outside the directory or
//! over another: an empty value is `\0`, `.` and `..` get a backslash in front, and a value of more
//! than 255 bytes is cut and ends with `\` and a checksum. In a name with placeholders a value may
//! have slashes, and `.` and `..` in it are written in the same way; what is too long is cut there as
//! well. Of a path that is too long as a whole the last parts are one name, `\` and a checksum.
//!
//! The command and the numbers decide a path, nothing else: it is the same in each run.

use std::path::PathBuf;

use super::placeholder::{Hole, Which, at_start};
use super::template::Job;
use crate::error::{Error, Result};
use crate::sys::escaped::unescape_path;

/// The longest name in a directory, in bytes.
const NAME_MAX: usize = 255;
/// The longest path of a directory of results, in bytes: the kernel takes 4095, and the names of the files
/// come behind it.
const PATH_MAX: usize = 4000;
/// The longest ending that a name with placeholders gets: `.err`, `.seq`.
const ENDING: usize = 4;

/// The files of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What it wrote to standard output.
    pub stdout: PathBuf,
    /// What it wrote to standard error.
    pub stderr: PathBuf,
    /// Its number, as text.
    pub seq: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Hole(Hole),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    Tree { root: PathBuf, names: Vec<String> },
    Name(Vec<Piece>),
}

/// A layout; see the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    layout: Layout,
}

impl Results {
    /// Reads what `--results` was given; `names` are those of the columns.
    ///
    /// # Errors
    /// It is empty, or one table for all jobs (`.csv`, `.tsv`, `.json`), which is not made.
    pub fn new(given: &str, names: &[String]) -> Result<Results> {
        let table = [".csv", ".tsv", ".json"].into_iter().find(|end| given.ends_with(end));
        let pieces = pieces(given, names);
        let has_hole = pieces.iter().any(|piece| matches!(piece, Piece::Hole(_)));
        let (Some(end), false) = (table, has_hole) else {
            if given.is_empty() {
                return Err(Error::usage("--results has no name")
                    .hint("write a directory, or a name such as out/{#}.txt"));
            }
            let layout = match has_hole {
                true => Layout::Name(pieces),
                false => Layout::Tree { root: given.into(), names: names.to_vec() },
            };
            return Ok(Results { layout });
        };
        Err(Error::usage(format!("no table of all results is written: `{given}` ends in {end}"))
            .hint("write a directory, or a name with placeholders such as out/{#}.csv"))
    }

    /// The files of a job. `columns` is how many values a row has, where a job has several rows.
    pub fn paths(&self, job: &Job, columns: usize) -> Paths {
        let directory = match &self.layout {
            Layout::Tree { root, names } => {
                let mut path = root.clone();
                for (key, value) in keys_and_values(job, names, columns) {
                    path.push(unescape_path(&key));
                    path.push(unescape_path(&value));
                }
                path
            }
            Layout::Name(pieces) => {
                let name = cut_parts(&name(pieces, job));
                if !name.ends_with('/') {
                    return Paths {
                        stderr: unescape_path(&format!("{name}.err")),
                        seq: unescape_path(&format!("{name}.seq")),
                        stdout: unescape_path(&name),
                    };
                }
                unescape_path(&name)
            }
        };
        let directory = cut_path(&directory.to_string_lossy()).map_or(directory, PathBuf::from);
        Paths {
            stdout: directory.join("stdout"),
            stderr: directory.join("stderr"),
            seq: directory.join("seq"),
        }
    }
}

fn keys_and_values(job: &Job, names: &[String], columns: usize) -> Vec<(String, String)> {
    if job.args.is_empty() {
        return vec![("1".to_owned(), "\\0noarg".to_owned())];
    }
    let columns = columns.clamp(1, job.args.len());
    let key = |at: usize| names.get(at).map_or_else(|| (at + 1).to_string(), |name| as_name(name));
    let mut all = Vec::with_capacity(job.args.len());
    for row in job.args.chunks(columns) {
        let from = all.len();
        all.extend(row.iter().enumerate().map(|(at, value)| (key(at), as_name(value))));
        if !names.is_empty() {
            all[from..].sort_by(|one, other| one.0.cmp(&other.0));
        }
    }
    all
}

/// A value as one name of a directory.
fn as_name(value: &str) -> String {
    let mut name = String::with_capacity(value.len());
    if matches!(value, "." | "..") {
        name.push('\\');
    }
    for c in value.chars() {
        match c {
            '\\' => name.push_str("\\\\"),
            '/' => name.push_str("\\_"),
            '\t' => name.push_str("\\t"),
            c => name.push(c),
        }
    }
    if name.is_empty() {
        name.push_str("\\0");
    }
    if name.len() > NAME_MAX { cut(&name, NAME_MAX, value) } else { name }
}

/// A name that is not longer than `most`, and another one for each text that it stands for.
fn cut(name: &str, most: usize, text: &str) -> String {
    let end = format!("\\{:016x}", checksum(text));
    let mut length = most - end.len();
    while !name.is_char_boundary(length) {
        length -= 1;
    }
    format!("{}{end}", &name[..length])
}

/// A name with placeholders of which each part can be a name, also with an ending behind it.
fn cut_parts(name: &str) -> String {
    let most = NAME_MAX - ENDING;
    let part = |part: &str| match part.len() > most {
        true => cut(part, most, part),
        false => part.to_owned(),
    };
    let parts = name.split('/').map(part).collect::<Vec<_>>().join("/");
    // A slash at its end says what it is.
    let directory = if parts.ends_with('/') { "/" } else { "" };
    cut_path(&parts).map_or(parts, |path| path + directory)
}

/// A path that the kernel takes, of one that it does not take.
fn cut_path(path: &str) -> Option<String> {
    if path.len() <= PATH_MAX {
        return None;
    }
    let end = format!("\\{:016x}", checksum(path));
    let room = PATH_MAX - end.len();
    let length = path.as_bytes()[..room].iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    Some(format!("{}{end}", &path[..length]))
}

/// FNV-1a. It has to be the same in each version of this program.
fn checksum(text: &str) -> u64 {
    let step = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

fn pieces(text: &str, names: &[String]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (piece, length) = match at_start(rest, names) {
            Some((hole, length)) => (Piece::Hole(hole), length),
            None => (Piece::Text(c.to_string()), c.len_utf8()),
        };
        match (pieces.last_mut(), piece) {
            (Some(Piece::Text(before)), Piece::Text(more)) => before.push_str(&more),
            (_, piece) => pieces.push(piece),
        }
        rest = &rest[length..];
    }
    pieces
}

fn name(pieces: &[Piece], job: &Job) -> String {
    let mut name = String::new();
    for piece in pieces {
        let (which, modifier) = match piece {
            Piece::Text(text) => {
                name.push_str(text);
                continue;
            }
            Piece::Hole(hole) => hole,
        };
        match which {
            Which::Seq => name.push_str(&job.seq.to_string()),
            Which::Slot => name.push_str(&job.slot.to_string()),
            Which::All => {
                let values = job.args.iter().map(|arg| inside(&modifier.of(arg)));
                name.push_str(&values.collect::<Vec<_>>().join(" "));
            }
            one => {
                let value = one.value(&job.args).map(|value| inside(&modifier.of(value)));
                name.push_str(&value.unwrap_or_default());
            }
        }
    }
    name
}

/// A value that may have slashes, but leads nowhere else.
fn inside(value: &str) -> String {
    let part = |part| match part {
        "." | ".." => format!("\\{part}"),
        part => part.to_owned(),
    };
    value.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn stdout(given: &str, names: &[&str], args: &[&str], columns: usize) -> String {
        let job = Job { seq: 1, slot: 1, args: strings(args) };
        let paths = Results::new(given, &strings(names)).unwrap().paths(&job, columns);
        paths.stdout.display().to_string()
    }

    /// The files that GNU parallel 20221122 made.
    #[test]
    fn as_gnu_parallel() {
        for (given, names, args, columns, path) in [
            ("res", &[][..], &["a", "c"][..], 2, "res/1/a/2/c/stdout"),
            ("res/", &[], &["a"], 1, "res/1/a/stdout"),
            ("res", &[], &["a/b"], 1, "res/1/a\\_b/stdout"),
            ("res", &[], &["c d"], 1, "res/1/c d/stdout"),
            ("res", &[], &["a\\b"], 1, "res/1/a\\\\b/stdout"),
            ("res", &[], &["tab\tx"], 1, "res/1/tab\\tx/stdout"),
            ("res", &[], &["é*?%41.x"], 1, "res/1/é*?%41.x/stdout"),
            ("res", &[], &["a", "b"], 1, "res/1/a/1/b/stdout"),
            ("res", &[], &[], 1, "res/1/\\0noarg/stdout"),
            ("res", &["b", "a"], &["1", "d/y"], 2, "res/a/d\\_y/b/1/stdout"),
            ("my_{}", &[], &["a"], 1, "my_a"),
            ("my_{}/", &[], &["a"], 1, "my_a/stdout"),
            ("my_{}/{#}_{/.}", &[], &["a/b.c"], 1, "my_a/b.c/1_b"),
            ("res/{1}-{2}", &[], &["a", "c"], 2, "res/a-c"),
            ("r_{a}/{b.}", &["b", "a"], &["1.x", "2"], 2, "r_2/1"),
        ] {
            assert_eq!(stdout(given, names, args, columns), path, "{given} {args:?}");
        }
        let job = Job { seq: 1, slot: 1, args: strings(&["a"]) };
        let paths = Results::new("my_{}", &[]).unwrap().paths(&job, 1);
        assert_eq!((paths.stderr, paths.seq), ("my_a.err".into(), "my_a.seq".into()));
    }

    #[test]
    fn values_that_would_lead_away() {
        for (given, value, path) in [
            ("res", ".", "res/1/\\./stdout"),
            ("res", "..", "res/1/\\../stdout"),
            ("res", "", "res/1/\\0/stdout"),
            ("res", "/etc", "res/1/\\_etc/stdout"),
            ("o/{}", "../../x", "o/\\../\\../x"),
            ("o/{.}", "....", "o/..."),
            ("o/{.}", "...", "o/\\.."),
        ] {
            assert_eq!(stdout(given, &[], &[value], 1), path);
        }
        let (one, other) = ("é".repeat(200), "é".repeat(201));
        assert_ne!(stdout("r", &[], &[&one], 1), stdout("r", &[], &[&other], 1));
        for given in ["o/{}", "o/{}.txt", "o/{}/x"] {
            let paths = |value: &str| {
                let job = Job { seq: 1, slot: 1, args: strings(&[value]) };
                Results::new(given, &[]).unwrap().paths(&job, 1)
            };
            for value in ["é".repeat(300), "a/".repeat(3000), "x".repeat(254)] {
                let paths = paths(&value);
                for path in [&paths.stdout, &paths.stderr, &paths.seq] {
                    let longest = path.iter().map(|part| part.len()).max();
                    assert!(longest <= Some(NAME_MAX) && path.as_os_str().len() < 4096);
                }
            }
            assert_ne!(paths(&"x".repeat(300)).stdout, paths(&"x".repeat(301)).stdout);
        }
        let many = vec!["y".repeat(200); 40];
        let words: Vec<&str> = many.iter().map(String::as_str).collect();
        let path = stdout("r", &[], &words, words.len());
        assert!(path.len() < 4096 && path.starts_with("r/1/yyy") && path.ends_with("/stdout"));
        for given in ["", "x.csv", "-.tsv", "x.json"] {
            assert!(Results::new(given, &[]).unwrap_err().hint.is_some(), "{given}");
        }
    }

    proptest! {
        #[test]
        fn each_value_has_a_name_of_its_own(one in "[./\\\\\ta_]{0,4}", other in "[./\\\\\ta_]{0,4}") {
            prop_assert_eq!(as_name(&one) == as_name(&other), one == other);
        }

        #[test]
        fn no_path_leaves_its_directory(args in prop::collection::vec("[^\0]{0,6}|[./]{0,5}|x{300}", 1..3)) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            for given in ["r", "r/{}", "r/{1}{2}", "r/{//}/{/.}"] {
                let path = stdout(given, &[], &args, args.len());
                let mut parts = Path::new(&path).components();
                prop_assert_eq!(parts.next(), Some(Component::Normal("r".as_ref())));
                prop_assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{}", path);
            }
        }
    }
}
