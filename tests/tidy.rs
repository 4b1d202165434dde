//! The rules about the text of the project: names, sizes, import directions, and that
//! queue-layout.md and the code speak of the same steps and directories.
//!
//! Each rule is a function from the text of the tree to its faults. `every_rule_can_fail` breaks a
//! copy of the tree once for each rule, so none of them is green because it looks at nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Path from the project's root, and text.
type Tree = BTreeMap<String, String>;
type Faults = Vec<String>;

/// Lines that a Rust file may have.
const LINES_MAX: usize = 500;
/// Columns that a line of queue-layout.md may have.
const COLUMNS_MAX: usize = 140;
/// Lines of code that a file of bin/ may have.
const BIN_CODE_MAX: usize = 9;

/// Directories of the document that are made on demand and so are not in `DIRECTORIES`.
const ON_DEMAND: &[&str] = &[
    "control/dismissed",
    "reserve",
    "tasks/T",
    "tasks/T/n.out",
    "archive",
    "archive/done",
    "archive/dead",
    "archive/LOT/XX/T",
    "archive/trash",
    "buried",
    "tasks/T/jobs",
    "tasks/T/jobs/START",
    "tasks/T/jobs/halt.N.ends",
    "waiters/D",
    "ready/ROLE",
    "ready/ROLE/PP",
    "ready/ROLE/PP/BUCKET",
    "delayed/DUE",
    "procs/W",
    "procs/W/run",
    "runs",
];

/// An allowed import: from, to, and which submodules (all where empty).
type Edge = (&'static str, &'static str, &'static [&'static str], &'static str);

const EDGES: &[Edge] = &[
    ("cli", "chaos", &[], "coord chaos"),
    ("cli", "program", &[], "the layers, downwards"),
    ("cli", "run", &[], "the layers, downwards"),
    ("cli", "plan", &[], "the layers, downwards"),
    ("cli", "queue", &[], "the layers, downwards"),
    ("cli", "sys", &[], "the layers, downwards"),
    ("cli", "git", &[], "the layers, downwards"),
    ("cli", "config", &[], "reads coord.toml"),
    ("chaos", "sys", &[], "the only thing that it uses: of the rest it knows the commands"),
    ("program", "run", &[], "the layers, downwards"),
    ("program", "git", &[], "the layers, downwards"),
    ("program", "plan", &[], "the layers, downwards"),
    ("program", "queue", &[], "the layers, downwards"),
    ("program", "sys", &[], "the layers, downwards"),
    ("program", "config", &[], "settings of the fleet"),
    ("run", "git", &[], "worktrees, and what attempts leave in them"),
    ("run", "queue", &[], "leases, ends and where an attempt's output goes"),
    ("run", "plan", &[], "whether a failure is tried again"),
    ("run", "sys", &[], "the layers, downwards"),
    ("run", "config", &[], "settings of an attempt"),
    ("queue", "plan", &[], "decisions: validity, cycles, retries, states"),
    ("queue", "sys", &[], "the layers, downwards"),
    ("git", "sys", &[], "the layers, downwards"),
    ("cli", "jobs", &[], "coord run and coord map"),
    ("program", "jobs", &[], "the front of coord run shows its jobs"),
    ("run", "jobs", &["template"], "the commands of an array's jobs"),
    ("queue", "jobs", &["halt"], "when a run stops: a rule by its words, no I/O"),
    ("jobs", "sys", &["input"], "where values are read from"),
    ("jobs", "sys", &["escaped"], "bytes as text: pure functions"),
    ("jobs", "sys", &["fs::Fs", "fs::RealFs"], "its tests make files"),
    ("plan", "queue", &["record", "ids", "events"], "types of records and names: values, no I/O"),
    ("plan", "sys", &["clock::parse_rfc3339"], "a pure function over text"),
    ("config", "plan", &["suggest", "units", "validate", "scope"], "pure functions over words"),
    ("config", "queue", &["record", "ids"], "types of records and names: values, no I/O"),
    ("config", "queue", &["durable::Durability"], "the modes by name: a value, no I/O"),
];

fn read_into(tree: &mut Tree, root: &Path, relative: &str) {
    let path = root.join(relative);
    if path.is_dir() {
        #[expect(clippy::disallowed_methods, reason = "a test reads the sources")]
        let entries = std::fs::read_dir(&path).expect("list a directory of the sources");
        for entry in entries {
            let name = entry.expect("an entry").file_name();
            read_into(tree, root, &format!("{relative}/{}", name.to_string_lossy()));
        }
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "a test reads the sources")]
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    tree.insert(relative.to_owned(), text);
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in
        ["src", "bin", "tests", "Cargo.toml", "README.md", "CHANGELOG.md", "queue-layout.md"]
    {
        read_into(&mut tree, root, name);
    }
    tree
}

fn rust<'a>(tree: &'a Tree, below: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let files = tree.iter().filter(move |(p, _)| p.starts_with(below) && p.ends_with(".rs"));
    files.map(|(path, text)| (path.as_str(), text.as_str()))
}

/// The code of a line: without what follows `//`. A `//` in a string cuts too much, never too little.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

// --- queue-layout.md ---

fn document(tree: &Tree) -> &str {
    tree.get("queue-layout.md").map_or("", String::as_str)
}

/// The lines between the heading that begins so and the next one of its level.
fn section<'a>(tree: &'a Tree, heading: &str) -> Vec<&'a str> {
    let lines = document(tree).lines().skip_while(|l| !l.starts_with(heading)).skip(1);
    lines.take_while(|l| !l.starts_with("## ")).collect()
}

/// The words in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// A cell of a row of a table, counted from 1.
fn cell(line: &str, number: usize) -> Option<&str> {
    line.starts_with('|').then(|| line.split('|').nth(number)).flatten()
}

/// `step!` names in the code, with the files.
fn steps_in_code(tree: &Tree) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    for (path, text) in rust(tree, "src/") {
        for line in text.lines().map(code) {
            for rest in line.split("step!(\"").skip(1) {
                let name = rest.split('"').next().unwrap_or_default();
                steps.push((name.to_owned(), path.to_owned()));
            }
        }
    }
    steps
}

fn steps(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    let in_code = steps_in_code(tree);
    let mut seen = BTreeMap::new();
    for (name, path) in &in_code {
        if let Some(first) = seen.insert(name.as_str(), path) {
            faults.push(format!("step {name} is in {first} and in {path}"));
        }
    }
    let rows = section(tree, "## 4. Transitions");
    let in_document: BTreeSet<&str> =
        rows.iter().filter_map(|l| cell(l, 2)).flat_map(quoted).collect();
    for (name, path) in &in_code {
        if !in_document.contains(name.as_str()) {
            faults.push(format!("step {name} ({path}) is in no table of queue-layout.md"));
        }
    }
    for name in in_document.iter().filter(|name| !seen.contains_key(*name)) {
        faults.push(format!("queue-layout.md has a step {name} that is nowhere in the code"));
    }
    faults
}

/// tests/programs/crash.rs kills at every step of the sources but those that it sets apart, so it is
/// enough that these are steps and that each step is written where its search finds it: one a line.
fn steps_are_crashed(tree: &Tree) -> Faults {
    let text = tree.get("tests/programs/crash.rs").map_or("", String::as_str);
    let Some(list) = text.split("APART: &[&str] = &[").nth(1).and_then(|l| l.split("];").next())
    else {
        return vec!["crash.rs has no list APART".to_owned()];
    };
    let steps: BTreeSet<String> = steps_in_code(tree).into_iter().map(|(name, _)| name).collect();
    let mut faults = Faults::new();
    for name in list.split('"').skip(1).step_by(2).filter(|name| !steps.contains(*name)) {
        faults.push(format!("crash.rs sets {name} apart, which is no step"));
    }
    if !text.contains("for step in all.iter().filter(|s| !APART.contains(") {
        faults.push("crash.rs does not kill at every other step".to_owned());
    }
    for (path, text) in rust(tree, "src/") {
        for line in text.lines().filter(|line| line.matches("step!(\"").count() > 1) {
            faults.push(format!("{path}: two steps in a line, crash.rs sees one: {}", line.trim()));
        }
    }
    faults
}

fn directories(tree: &Tree) -> Faults {
    let layout = tree.get("src/queue/layout.rs").map_or("", String::as_str);
    let list = layout.split("DIRECTORIES: &[&str] = &[").nth(1).unwrap_or_default();
    let list = list.split("];").next().unwrap_or_default();
    let made: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    let rows = section(tree, "## 2. Directories");
    let told: Vec<&str> = rows
        .iter()
        .filter_map(|l| cell(l, 1))
        .filter_map(|cell| quoted(cell).first().copied())
        .map(|path| path.trim_end_matches('/'))
        .collect();
    let mut faults = Faults::new();
    for path in made.iter().chain(ON_DEMAND) {
        let count = told.iter().filter(|told| *told == path).count();
        if count != 1 {
            faults.push(format!("{path}/ has {count} rows in the table of directories"));
        }
    }
    for path in told.iter().filter(|path| !made.contains(*path) && !ON_DEMAND.contains(path)) {
        faults.push(format!("queue-layout.md has {path}/, which is not in DIRECTORIES"));
    }
    faults
}

fn columns(tree: &Tree) -> Faults {
    let lines = document(tree).lines().enumerate();
    lines
        .filter(|(_, line)| line.chars().count() > COLUMNS_MAX)
        .map(|(i, _)| format!("queue-layout.md:{}: over {COLUMNS_MAX} columns", i + 1))
        .collect()
}

fn layout_number(tree: &Tree) -> Faults {
    let layout = tree.get("src/queue/layout.rs").map_or("", String::as_str);
    let number = layout.split("LAYOUT: u32 = ").nth(1).and_then(|rest| rest.split(';').next());
    let Some(number) = number else { return vec!["layout.rs has no LAYOUT".to_owned()] };
    let phrase = format!("layout {number}");
    let says = |text: &str| {
        let text = text.to_lowercase();
        let mut rest = text.split(&phrase).skip(1);
        rest.any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    ["README.md", "CHANGELOG.md", "queue-layout.md"]
        .iter()
        .filter(|path| !tree.get(**path).is_some_and(|text| says(text)))
        .map(|path| format!("{path} does not say `{phrase}`"))
        .collect()
}

// --- imports ---

/// The top module that a file belongs to.
fn module(path: &str) -> &str {
    let rest = path.strip_prefix("src/").unwrap_or(path);
    rest.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// What stands behind each `crate::` of a text, as `a::b::c`; braces are opened.
fn imports(text: &str) -> Vec<String> {
    let text: String = text.lines().map(code).collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for rest in text.split("crate::").skip(1) {
        expand(String::new(), rest, &mut found);
    }
    found
}

/// Reads a path at the start of `rest`, and the members of a group of one.
fn expand(prefix: String, rest: &str, found: &mut Vec<String>) {
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let (path, rest) = rest.split_at(end.unwrap_or(rest.len()));
    let path = format!("{prefix}{path}");
    let Some(group) = rest.strip_prefix('{').filter(|_| path.is_empty() || path.ends_with("::"))
    else {
        found.push(path.trim_end_matches(':').to_owned());
        return;
    };
    let (mut depth, mut member) = (0, String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(path.clone(), member.trim(), found);
                member.clear();
                continue;
            }
            _ => {}
        }
        member.push(c);
    }
    if !member.trim().is_empty() {
        expand(path, member.trim(), found);
    }
}

fn is_allowed(from: &str, to: &str) -> bool {
    let (top, rest) = to.split_once("::").unwrap_or((to, ""));
    // `step` is the macro of sys; errors are everybody's.
    if top == from || matches!(top, "error" | "step" | "rule") || from == "lib" {
        return true;
    }
    EDGES.iter().any(|(f, t, only, _)| {
        let fits = |part: &&str| rest == *part || rest.starts_with(&format!("{part}::"));
        *f == from && *t == top && (only.is_empty() || only.iter().any(fits))
    })
}

fn import_direction(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    for (path, text) in rust(tree, "src/") {
        let wrong = imports(text).into_iter().filter(|to| !is_allowed(module(path), to));
        faults.extend(wrong.map(|to| format!("{path} imports {to}")));
    }
    faults
}

// --- files ---

fn sizes(tree: &Tree) -> Faults {
    let all = ["src/", "bin/", "tests/"].into_iter().flat_map(|below| rust(tree, below));
    all.map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path} has {lines} lines, {LINES_MAX} are allowed"))
        .collect()
}

fn module_names(tree: &Tree) -> Faults {
    let bad = ["util", "utils", "common", "helper", "helpers", "types", "misc"];
    let all = ["src/", "bin/", "tests/"].into_iter().flat_map(|below| rust(tree, below));
    let mut faults = Faults::new();
    for (path, text) in all {
        let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
        let inline = text.lines().filter_map(|l| code(l).trim().strip_prefix("mod "));
        let inline = inline.filter_map(|l| l.split([' ', ';', '{']).next());
        for name in parts.into_iter().chain(inline).filter(|name| bad.contains(name)) {
            faults.push(format!("{path}: a module called {name} says nothing"));
        }
    }
    faults
}

fn bins_are_short(tree: &Tree) -> Faults {
    let long = |text: &str| text.lines().filter(|l| !code(l).trim().is_empty()).count();
    rust(tree, "bin/")
        .filter(|(_, text)| long(text) > BIN_CODE_MAX)
        .map(|(path, text)| format!("{path} has {} lines of code", long(text)))
        .collect()
}

fn tests_are_declared(tree: &Tree) -> Faults {
    let manifest = tree.get("Cargo.toml").map_or("", String::as_str);
    let is_top = |path: &str| path.matches('/').count() == 1;
    rust(tree, "tests/")
        .filter(|(path, _)| is_top(path) && !manifest.contains(&format!("path = \"{path}\"")))
        .map(|(path, _)| format!("{path} is not in Cargo.toml, so it never runs"))
        .collect()
}

/// Words of unfinished work. In a string, right behind its quote, they are data.
fn nothing_unfinished(tree: &Tree) -> Faults {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("dbg", "!"),
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
    ];
    let mut faults = Faults::new();
    let all = ["src/", "bin/", "tests/"].into_iter().flat_map(|below| rust(tree, below));
    for (path, text) in all {
        for (i, line) in text.lines().enumerate() {
            for word in words {
                let open = line.match_indices(word).any(|(at, _)| !line[..at].ends_with('"'));
                if open {
                    faults.push(format!("{path}:{}: {word}", i + 1));
                }
            }
        }
    }
    faults
}

type Rule = fn(&Tree) -> Faults;

const RULES: &[(&str, Rule)] = &[
    ("steps", steps),
    ("steps are crashed", steps_are_crashed),
    ("directories", directories),
    ("columns", columns),
    ("layout number", layout_number),
    ("import direction", import_direction),
    ("sizes", sizes),
    ("module names", module_names),
    ("bins are short", bins_are_short),
    ("tests are declared", tests_are_declared),
    ("nothing unfinished", nothing_unfinished),
];

#[test]
fn the_tree_is_tidy() {
    let tree = tree();
    assert!(tree.len() > 50 && steps_in_code(&tree).len() > 40, "the sources were not found");
    let faults: Vec<String> = RULES
        .iter()
        .flat_map(|(name, rule)| rule(&tree).into_iter().map(move |f| format!("{name}: {f}")))
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn imports_are_read() {
    let text = "use crate::queue::{self, ids::{Key, short}, record};\ncrate::step!(x) // crate::y";
    let found = ["queue::self", "queue::ids::Key", "queue::ids::short", "queue::record", "step"];
    assert_eq!(imports(text), found);
}

/// Breaks one file of a copy of the tree, and expects one rule to say so in these words.
fn broken(rule: Rule, path: &str, from: &str, to: &str, says: &str) {
    let mut tree = tree();
    let text = tree.entry(path.to_owned()).or_default();
    assert!(text.contains(from), "{path} has no {from:?} to be broken");
    *text = text.replacen(from, to, 1);
    let faults = rule(&tree);
    assert!(faults.iter().any(|f| f.contains(says)), "not noticed: {says:?} in {faults:?}");
}

#[test]
fn every_rule_can_fail() {
    let (doc, layout) = ("queue-layout.md", "src/queue/layout.rs");
    let claim = "src/queue/claim.rs";
    broken(steps, claim, "step!(\"claim.help\")", "step!(\"claim.link\")", "claim.link is in");
    broken(steps, claim, "step!(\"claim.help\")", "step!(\"claim.new\")", "claim.new (src");
    broken(steps, claim, "step!(\"claim.help\");", "", "a step claim.help that is nowhere");
    broken(steps, doc, "| `claim.help` |", "| – |", "claim.help (src");
    let (crashed, crash) = (steps_are_crashed as Rule, "tests/programs/crash.rs");
    broken(crashed, crash, "\"claim.help\"", "\"claim.helped\"", "sets claim.helped apart");
    broken(crashed, crash, "APART: &", "REST: &", "no list APART");
    broken(crashed, crash, "in all.iter()", "in some.iter()", "every other step");
    let two = "step!(\"a.b\"); step!(\"claim.help\")";
    broken(crashed, claim, "step!(\"claim.help\")", two, "two steps in a line");
    broken(directories, layout, "\"stats\",", "", "has stats/, which");
    broken(directories, layout, "\"stats\",", "\"stats\", \"mail\",", "mail/ has 0 rows");
    broken(directories, doc, "| `procs/W/run/` |", "| `procs/W/runs/` |", "procs/W/run/ has 0");
    broken(columns, doc, "## 1. ", &"x".repeat(COLUMNS_MAX + 1), "over 140");
    broken(layout_number, layout, "LAYOUT: u32 = 1", "LAYOUT: u32 = 2", "README.md does not");
    broken(layout_number, "CHANGELOG.md", "Layout 1", "Layout 11", "CHANGELOG.md does not");
    let (direction, keeper) = (import_direction as Rule, "src/program/keeper/bury.rs");
    broken(direction, keeper, "use crate::step;", "use crate::cli::look;", "imports cli::look");
    let (graph, fold) = ("src/plan/graph.rs", "src/plan/fold.rs");
    broken(
        direction,
        graph,
        "use ",
        "use crate::queue::{Queue, ids};\nuse ",
        "imports queue::Queue",
    );
    broken(direction, fold, "parse_rfc3339", "rfc3339", "imports sys::clock::rfc3339");
    broken(sizes, claim, "\n", &"\n".repeat(LINES_MAX), "500 are allowed");
    broken(module_names, "src/queue/mod.rs", "pub mod ids;", "mod common;", "called common");
    broken(module_names, "src/queue/types.rs", "", "x", "called types");
    broken(bins_are_short, "bin/coord.rs", "\n", &"\nx;\n".repeat(9), "lines of code");
    broken(tests_are_declared, "tests/new.rs", "", "x", "never runs");
    let unfinished = concat!("// TO", "DO later");
    broken(nothing_unfinished, claim, "\n", &format!("\n{unfinished}\n"), "claim.rs:2");
}
