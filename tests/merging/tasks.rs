//! The changes: each a script that looks at what is there, edits it, and commits. The same seed gives
//! the same changes in the same order.
//!
//! | id | what it does | what becomes of it |
//! |---|---|---|
//! | `A…` | a function and its test in the library, in two commits | merged |
//! | `B…` | a module of its own | merged |
//! | `P…a`, `P…b` | add to the same line | merged, one of the two at its second attempt |
//! | `X…` | turns the tests red, at each attempt | failed |

use coord::chaos::dice::Dice;
use serde_json::json;

use crate::ground::SHARED;

/// Attempts that a task may have: killed workers are charged too.
const ATTEMPTS_MAX: u32 = 60;

/// How many of each.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of those that are nobody's rivals.
    pub alone: usize,
    /// Pairs of rivals.
    pub pairs: usize,
    /// Of those that break the tests, at most six.
    pub breaking: usize,
}

/// 24 that are alone, 15 with their 15 rivals, and 6 that break the tests: 60.
pub const SIXTY: Plan = Plan { alone: 24, pairs: 15, breaking: 6 };
/// 24 in all.
pub const TWENTY_FOUR: Plan = Plan { alone: 8, pairs: 6, breaking: 4 };
/// 15 in all, with each way to break the tests.
pub const FIFTEEN: Plan = Plan { alone: 5, pairs: 2, breaking: 6 };

/// What kind of change it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// In conflict with nobody.
    Alone,
    /// In conflict with the other one of its pair.
    Rival,
    /// The tests fail, and their output has these words.
    Breaking(&'static str),
}

/// A change.
#[derive(Debug, Clone)]
pub struct Task {
    /// The task's id.
    pub id: String,
    /// A word that only this change brings into the code, and once.
    pub token: String,
    /// The script.
    pub sh: String,
    /// What kind of change it is.
    pub kind: Kind,
}

impl Plan {
    /// Those that have places in the library.
    pub fn in_library(&self) -> Vec<String> {
        let alone = (0..self.alone.div_ceil(2)).map(|i| format!("A{i:02}"));
        alone.chain((0..self.breaking).map(|i| format!("X{i}"))).collect()
    }

    /// Those with modules of their own.
    pub fn own_modules(&self) -> Vec<String> {
        (0..self.alone / 2).map(|i| format!("B{i:02}")).collect()
    }

    /// The tasks, in the order in which they are added. The two of a pair are neighbours, so that
    /// they are begun at about the same time.
    pub fn tasks(&self, seed: u64) -> Vec<Task> {
        let mut dice = Dice::new(seed);
        let mut task = |id: String, kind: Kind| {
            let token = format!("token-{:08x}-{id}", dice.number() >> 32);
            let sh = script(&id, &token, &kind);
            Task { id, token, sh, kind }
        };
        let mut groups: Vec<Vec<Task>> = Vec::new();
        for id in self.in_library().into_iter().chain(self.own_modules()) {
            let number = id.trim_start_matches('X').parse::<usize>();
            let kind = number.map_or(Kind::Alone, |i| Kind::Breaking(BREAKING[i].1));
            groups.push(vec![task(id, kind)]);
        }
        for pair in 0..self.pairs {
            let mut rival = |side| task(format!("P{pair:02}{side}"), Kind::Rival);
            groups.push(vec![rival("a"), rival("b")]);
        }
        for i in (1..groups.len()).rev() {
            let other = dice.roll(i as u64 + 1);
            groups.swap(i, usize::try_from(other).unwrap_or(0));
        }
        groups.into_iter().flatten().collect()
    }
}

impl Task {
    /// Whether it belongs on the branch in the end.
    pub fn is_good(&self) -> bool {
        !matches!(self.kind, Kind::Breaking(_))
    }

    /// The line for `coord import`. The script itself is in a file: `coord show` prints the command,
    /// and what is expected of the tests' output must not be found in there.
    pub fn line(&self) -> String {
        let sh = format!(". \"$SCRIPTS_OF_TEST/{}\"", self.id);
        let line = json!({
            "id": self.id, "title": format!("Change {}", self.id), "sh": sh, "merge": true,
            "max_attempts": ATTEMPTS_MAX,
            "backoff": {"base_s": 0.05, "factor": 1.0, "max_s": 0.1},
        });
        format!("{line}\n")
    }
}

/// How each of them breaks the tests, and what these say then.
const BREAKING: [(&str, &str); 6] = [
    (
        "sed -i '/^pub fn generic_hamming/,/^}/s|count += 1;|count += 2; // TOKEN|' src/lib.rs",
        "hamming_diff",
    ),
    (
        "sed -i '/^pub fn osa_distance/,/^}/s|let cost = .*|let cost = 1; // TOKEN|' src/lib.rs",
        "osa_distance_same",
    ),
    (
        "sed -i '/^pub fn sorensen_dice/,/^}/s|(2 \\* inter|/* TOKEN */ (3 * inter|' src/lib.rs",
        "sorensen_dice_all",
    ),
    (
        "insert src/lib.rs 'place test X3' <<'END'\n    #[test]\n    fn x3() {\n        \
         assert_eq!(\"TOKEN\", \"\");\n    }\nEND",
        "tests::x3",
    ),
    (
        "insert src/lib.rs 'place X4' <<'END'\n/// TOKEN\npub fn x4() -> MissingX4 {}\nEND",
        "cannot find type `MissingX4`",
    ),
    (
        "sed -i '/^pub fn generic_jaro_winkler/,/^}/s|0\\.1 \\*|0.2 * /* TOKEN */|' src/lib.rs",
        "jaro_winkler_",
    ),
];

/// Shell functions that all scripts begin with. `insert` puts its input behind a line of a file. From
/// the second attempt on, the reason must be known: a merge that was sent back, or a killed worker.
const PRELUDE: &str = r##"set -eu
die() { echo "$COORD_TASK_ID attempt $COORD_ATTEMPT: $*" >&2; exit 9; }
insert() {
  cat >"$COORD_OUT/new"
  grep -q "^ *// $2\$" "$1" || die "$1 has no line $2"
  sed -i "\|^ *// $2\$|r $COORD_OUT/new" "$1"
}
commit() { git add --all; git commit --quiet --message "$COORD_TASK_ID: $1" --message "Change: $token"; }
returned() { [ "$COORD_ATTEMPT" -gt 1 ] && [ -e "$COORD_DIR/tasks/$COORD_TASK_ID/$((COORD_ATTEMPT - 1)).merge" ]; }
told() {
  [ -f "${COORD_FAILURE_FILE:-}" ] || die "was sent back and has no COORD_FAILURE_FILE"
  for words in "$@"; do
    grep -qiF -e "$words" "$COORD_FAILURE_FILE" || die "is not told of '$words': $(cat "$COORD_FAILURE_FILE")"
  done
}
if [ "$COORD_ATTEMPT" -gt 1 ] && ! returned && [ -z "${KILLS_OF_TEST:-}" ]; then
  die "was neither sent back nor killed"
fi
"##;

fn script(id: &str, token: &str, kind: &Kind) -> String {
    let name = id.to_lowercase();
    let body = match kind {
        Kind::Alone if id.starts_with('A') => format!(
            r##"! returned || die "is in nobody's way and was sent back"
insert src/lib.rs 'place {id}' <<'END'
/// The length of both. {token}
pub fn {name}(a: &str, b: &str) -> usize {{
    a.len() + b.len()
}}
END
commit 'a function'
insert src/lib.rs 'place test {id}' <<'END'
    #[test]
    fn {name}_adds() {{
        assert_eq!({name}("one", "three"), 8);
    }}
END
commit 'and its test'"##
        ),
        Kind::Alone => format!(
            r##"! returned || die "is in nobody's way and was sent back"
cat >src/more/{name}.rs <<'END'
//! {token}

/// How often the first letter is there.
pub fn {name}(text: &str) -> usize {{
    text.chars().filter(|c| text.starts_with(*c)).count()
}}

#[cfg(test)]
mod tests {{
    #[test]
    fn {name}_counts() {{
        assert_eq!(super::{name}("abcaba"), 3);
    }}
}}
END
echo 'pub mod {name};' | insert src/more/mod.rs 'place {id}'
commit 'a module'"##
        ),
        Kind::Rival => rival(id, token),
        Kind::Breaking(says) => {
            let number: usize = id[1..].parse().unwrap_or(0);
            let edit = BREAKING[number].0.replace("TOKEN", token);
            format!("! returned || told '{says}'\n{edit}\ncommit 'breaks the tests'")
        }
    };
    format!("{PRELUDE}token={token}\n{body}\n")
}

/// Adds a word to a list. The first attempts of both rivals wait for each other, so that both start
/// from the same commit; not for ever, as one of them may not be begun for long.
fn rival(id: &str, token: &str) -> String {
    let pair = &id[1..3];
    let other = if id.ends_with('a') { "b" } else { "a" };
    format!(
        r##"! returned || told conflict {SHARED}
: >"$MEETING_OF_TEST/{id}"
tries=0
until [ -e "$MEETING_OF_TEST/P{pair}{other}" ] || [ $tries = 500 ]; do
  sleep 0.02
  tries=$((tries + 1))
done
grep -q '^pub const WORDS_{pair}: .*\];$' {SHARED} || die 'finds no list'
sed -i '/^pub const WORDS_{pair}:/s|\];$|"{token}", ];|' {SHARED}
insert {SHARED} 'place test {id}' <<'END'
    #[test]
    fn {name}_is_listed() {{
        assert!(WORDS_{pair}.iter().any(|word| word.ends_with("-{id}")));
    }}
END
commit 'a word'"##,
        name = id.to_lowercase(),
    )
}
