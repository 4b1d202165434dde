//! What is drawn by chance: a thing, what is in it, whose it is, and what it is called.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::chance::Chance;
use crate::places;

/// What a file has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// Bytes without a meaning.
    Noise,
    /// The first half of a record.
    Half,
    /// JSON, but no record of ours.
    Json,
    /// A hundred thousand brackets.
    Nested,
    /// A hole of so many bytes.
    Sparse(u64),
}

/// What is planted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A regular file.
    File(Content),
    /// A directory with nothing in it.
    EmptyDir,
    /// A directory with a file and a directory in it.
    FullDir,
    /// A named pipe that nobody writes to.
    Fifo,
    /// A symbolic link that leads there; `OUT` is a directory of somebody's outside of the queue.
    Link(&'static str),
    /// A further name of a file outside of the queue.
    HardLink,
    /// A socket that nobody listens at.
    Socket,
}

const CONTENTS: &[Content] = &[
    Content::Empty,
    Content::Noise,
    Content::Half,
    Content::Json,
    Content::Nested,
    Content::Sparse(2 << 20),
    Content::Sparse(10 << 30),
];

const LINKS: &[&str] =
    &["/nowhere/at/all", ".", "NAME", "OUT/precious", "/", "OUT", "/dev/zero", "../tasks"];

const MODES: &[u32] =
    &[0o000, 0o200, 0o400, 0o444, 0o644, 0o600, 0o755, 0o777, 0o4755, 0o1777, 0o2700];

const OWNERS: &[u32] = &[0, 12_345];

/// One planting, but for the place: which of those that there are is drawn with `rest`.
#[derive(Debug)]
pub struct Drawn {
    /// What it was made from.
    pub seed: u64,
    /// What is planted.
    pub thing: Thing,
    /// Its mode.
    pub mode: u32,
    /// Its owner, if not that of the queue.
    pub owner: Option<u32>,
    /// For what comes after: the place, the name, the verbs.
    pub rest: Chance,
}

impl Drawn {
    /// The planting of a seed.
    pub fn new(seed: u64) -> Drawn {
        let mut rest = Chance(seed);
        let thing = match rest.below(12) {
            0..=4 => Thing::File(rest.one(CONTENTS)),
            5 => Thing::EmptyDir,
            6 | 7 => Thing::FullDir,
            8 => Thing::Fifo,
            9 => Thing::Link(rest.one(LINKS)),
            10 => Thing::HardLink,
            _ => Thing::Socket,
        };
        let mode = rest.one(MODES);
        let owner = rest.in_a_hundred(30).then(|| rest.one(OWNERS));
        Drawn { seed, thing, mode, owner, rest }
    }

    /// A name for a place. True: it is one that the place itself has.
    pub fn name(&mut self, place: &str, ids: &places::Ids) -> (OsString, bool) {
        let real = places::names(place);
        if self.rest.in_a_hundred(45) && !real.is_empty() {
            let name = self.rest.one(real);
            let name = places::filled(name, ids, &mut self.rest);
            return (name.into(), true);
        }
        let n = self.seed;
        let bytes = match self.rest.below(9) {
            0 | 1 => format!("x{n}").into_bytes(),
            2 => format!("{n}{}", "y".repeat(255)).into_bytes()[..255].to_vec(),
            3 => [format!("z{n}").as_bytes(), b"\xff\xfe.json"].concat(),
            4 => format!("\u{1b}[31m{n}\n\u{202e}\"'$(x)").into_bytes(),
            5 => format!(".{n}").into_bytes(),
            6 => format!(".{n}.tmp").into_bytes(),
            7 => format!("{n}.tmp").into_bytes(),
            _ => format!("a b {n}~").into_bytes(),
        };
        (OsString::from_vec(bytes), false)
    }
}

impl Content {
    /// The bytes of what is no hole.
    pub fn bytes(self, chance: &mut Chance) -> Vec<u8> {
        match self {
            Content::Empty | Content::Sparse(_) => Vec::new(),
            Content::Noise => chance.bytes(3000),
            Content::Half => b"{\"v\":1,\"id\":\"half\",\"verdict\":\"done\",\"by\":\"so".to_vec(),
            Content::Json => {
                chance.one(&["{}", "[]", "7", "null", "\"x\"", "{\"v\":99}\n"]).as_bytes().to_vec()
            }
            Content::Nested => vec![b'['; 100_000],
        }
    }
}
