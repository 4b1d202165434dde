//! A combination made real: a user with work in hand, an attempt, and what is left of both.

use crate::draw::Drawn;
use crate::support::{Output, Sandbox};

/// What became of a combination.
pub enum Went {
    /// An attempt ran.
    Ran,
    /// None did: what coord said.
    Refused(String),
}

/// The user has work of every kind in hand, and a second worktree; then git is told this and that.
/// `$1`: the layout, `$2`: the settings.
const SETUP: &str = r#"
seed() {
    mkdir -p src && echo one > file && echo one > other && echo one > src/in && printf '*.log\n.coord/\ncoord.toml\n' > .gitignore
    git add . && git commit -qm one && git branch side
}
D=$(cd .. && pwd) PROJECT=$PWD TOP=
eval "$1" || exit 9
: "${PROJECT:=$PWD}"
HERE=${TOP:-$PROJECT}
cd "$HERE" || exit 9
COMMON=$(git rev-parse --path-format=absolute --git-common-dir) OWN=$(git rev-parse --absolute-git-dir)
mkdir -p "$D/user"
if [ -n "$TOP" ]; then
    echo user-stashed >> file && git stash -q
    echo user-changed >> file; echo user-untracked > mine.txt; echo user-ignored > secret.log
    mkdir -p dep.log && echo user-dep > dep.log/dep; echo user-staged > staged && git add staged
fi
git worktree add -q --detach "$D/second" side && echo user-second > "$D/second/mine.txt" && echo user-second >> "$D/second/file"
printf 'D=%s\nPROJECT=%s\nTOP=%s\nCOMMON=%s\nOWN=%s\n' "$D" "$PROJECT" "$TOP" "$COMMON" "$OWN" > "$D/world"
for f in file mine.txt secret.log dep.log/dep staged; do [ -z "$TOP" ] || sha256sum "$TOP/$f"; done > "$D/user/sums"
sha256sum "$D/second/mine.txt" "$D/second/file" >> "$D/user/sums"
git for-each-ref --format='%(objectname) %(refname)' > "$D/user/refs"
cd "$PROJECT" && coord init -q 2> "$D/user/init"
cd "$HERE" && printf '%s\n' "$2" | while IFS= read -r line; do (eval "$line") > /dev/null 2>&1; done
exit 0
"#;

/// What is missing, a line for each.
const CHECK: &str = r#"
. ../world; cd "$D"
sha256sum -c --quiet user/sums 2>&1 | sed 's/^/the user wrote: /'
export GIT_DIR="$COMMON"
g() { git -c safe.bareRepository=all -c core.bare=true -c log.showSignature=false -c color.ui=never "$@"; }
while read -r id name; do
    now=$(g rev-parse --verify -q "$name")
    # Whoever stashes something puts it on top of what others have stashed.
    [ "$name" = refs/stash ] && g log -g --format=%H refs/stash 2> /dev/null | grep -q "$id" && continue
    [ "$now" = "$id" ] || [ "$name" = refs/heads/main ] && g merge-base --is-ancestor "$id" "$now" 2> /dev/null || echo "the ref $name was at $id and is at ${now:-nothing}"
done < user/refs
g fsck --connectivity-only --no-dangling --no-progress 2>&1 | grep -E '^(error|fatal|missing|broken)' | sed 's/^/git fsck: /'
if [ -n "$TOP" ]; then
    GIT_DIR="$OWN" GIT_WORK_TREE="$TOP" git -c diff.external= diff --cached --name-only --no-ext-diff -- staged | grep -q staged || echo "the user had staged: staged"
fi
refs=$(g for-each-ref --format='%(refname)')
pools=$(find "$D" -maxdepth 3 -type d -name '?*.coord' ! -path '*/.git/*')
cat "$PROJECT"/.coord/tasks/*/*.out/wrote 2> /dev/null | sort -u | while read -r token; do
    g grep -qiF -e "$token" $refs -- && continue
    [ -n "$pools" ] && grep -rqiF --exclude-dir=.git -e "$token" $pools && continue
    echo "an attempt wrote: $token"
done
(cd "$PROJECT" && coord show T > /dev/null) || echo "the queue is not what it was"
"#;

/// What the attempt does: notes each thing behind writing it.
fn line(drawn: &Drawn) -> String {
    format!(
        r#"cd "$COORD_WORKTREE"; me=$COORD_TASK_ID-$COORD_ATTEMPT
w() {{ echo "$2-$me." >> "$1" && echo "$2-$me." >> "$COORD_OUT/wrote"; }}
mkdir -p newdir src; w other tracked; w new.txt new; w newdir/x deep; w src/s inside; w x.flt filtered; w committed.txt committed
{}
{}"#,
        drawn.deed, drawn.end
    )
}

/// Works, for at most a minute and a half: what hangs is a fault.
fn work(s: &Sandbox) -> Output {
    let line = ". ../world; cd \"$PROJECT\" && exec timeout -k 5 90 coord work --until-empty";
    s.run("sh", &["-c", line])
}

fn missing(s: &Sandbox) -> String {
    s.run("sh", &["-c", CHECK]).stdout
}

fn prepared(drawn: &Drawn) -> Sandbox {
    let mut s = Sandbox::bare();
    for (name, value) in &drawn.env {
        s.set(name, value);
    }
    let settings = drawn.settings.join("\n");
    let made = s.run("sh", &["-c", SETUP, "setup", drawn.layout.1, &settings]);
    assert_eq!(made.code, 0, "{drawn}\n{}", made.stderr);
    let toml = format!("version = 1\n[retry]\nattempts = 2\nbackoff = \"10ms\"\n{}", drawn.toml);
    std::fs::write(s.beside("toml"), toml).unwrap();
    s.sh(". ../world; cp ../toml \"$PROJECT/coord.toml\"");
    s
}

/// Adds a task. Where nothing can be merged, that is said, and then it is added without.
fn add(s: &Sandbox, id: &str, line: &str) -> Output {
    let script = r#". ../world; cd "$PROJECT"
coord add -q --id "$1" --sh "$2" || coord add -q --id "$1" --no-merge --sh "$2""#;
    s.run("sh", &["-c", script, "add", id, line])
}

/// Makes a combination, lets an attempt run, and looks for what was lost.
pub fn try_it(drawn: &Drawn, talk: bool) -> Went {
    let s = prepared(drawn);
    let mut said = vec![add(&s, "T", &line(drawn)), work(&s)];
    if said[1].code > 128 {
        // Its worker has died: another one comes.
        said.push(work(&s));
    }
    // Whoever comes next has the slots cleaned.
    said.extend([add(&s, "N", "true"), work(&s)]);
    let ran =
        s.run("sh", &["-c", ". ../world; ls \"$PROJECT\"/.coord/tasks/T/*.out/wrote"]).code == 0;
    let lost = missing(&s);
    let all: Vec<String> =
        said.iter().map(|o| format!("{} {}\n{}", o.code, o.stdout, o.stderr)).collect();
    let all = all.join("\n");
    if talk {
        println!("{all}");
    }
    assert!(lost.is_empty(), "{drawn}\nlost:\n{lost}\nsaid:\n{all}");
    assert!(said.iter().all(|o| o.code != 124), "it hangs\n{drawn}\nsaid:\n{all}");
    assert!(!all.contains("panicked"), "{drawn}\n{all}");
    if ran {
        return Went::Ran;
    }
    // In words: of the command itself, or in the register of an attempt that could not be prepared.
    let words = s.run(
        "sh",
        &["-c", ". ../world; cd \"$PROJECT\" && coord why T; cat .coord/tasks/T/*.out/log"],
    );
    let text = format!("{all}\n{}", words.stdout);
    let why = text
        .lines()
        .find(|l| l.contains("error: ") || l.contains("coord: ") || l.contains("cannot "));
    Went::Refused(
        why.unwrap_or_else(|| panic!("no attempt, and no word of why\n{drawn}\n{text}")).to_owned(),
    )
}

/// Each kind of loss, made by hand, is reported.
pub fn losses_are_seen() {
    let mut drawn = Drawn::new(1);
    (drawn.layout, drawn.end) = (crate::draw::LAYOUTS[0], "exit 0");
    (drawn.deed, drawn.toml) = ("", "[git]\ncommit = \"agent\"\n".to_owned());
    drawn.settings.clear();
    drawn.env.clear();
    for (loss, told) in [
        ("rm mine.txt", "the user wrote: "),
        ("git reset -q", "the user had staged: "),
        ("git branch -qD side", "the ref refs/heads/side was at "),
        ("git update-ref -d refs/coord/wip/T.a1", "an attempt wrote: new-T-1."),
        ("rm -rf .git/objects/*/", "git fsck: "),
        ("rm -rf .coord/tasks/T", "the queue is not what it was"),
    ] {
        let s = prepared(&drawn);
        add(&s, "T", &line(&drawn)).ok();
        work(&s).ok();
        assert_eq!(missing(&s), "", "before: {loss}");
        s.sh(loss);
        let found = missing(&s);
        assert!(found.contains(told), "{loss}\n{found}");
    }
}
