//! What a claim and its end cost, in instructions counted by callgrind: the same on every run, whatever
//! else the machine does, so a regression shows without a clock. Only the programs' own instructions
//! count, not the kernel's.
//!
//! Each kind runs with two sizes; what one cycle costs is the difference, so that starting costs nothing.
//! The limits are what was counted (`--nocapture` prints it) and a fourth more: compilers differ. They
//! go down with what gets better. `scripts/bench --instructions` counts the optimised program.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test starts valgrind and looks at files from outside"
)]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

const SMALL: u64 = 100;
const LARGE: u64 = 300;

/// Kind, instructions of a cycle as they were counted for this profile (opt-level 1), and of a submission.
const COUNTED: [(&str, u64, u64); 2] = [("jobs", 17_260, 1_780), ("tasks", 240_500, 171_100)];

/// Cargo builds the examples beside the tests.
fn program() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    deps.parent().unwrap().parent().unwrap().join("examples/bench-cycle")
}

/// Instructions of the process that works, and of the one that submits.
fn count(kind: &str, jobs: u64) -> [u64; 2] {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("queue")).unwrap();
    let counts = format!("--callgrind-out-file={}/counts.%p", place.path().display());
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--trace-children=yes", &counts]).arg(program());
    command.arg("--dir").arg(place.path().join("queue"));
    command.args(["--processes", "1", "--kind", kind, "--jobs", &jobs.to_string()]);
    let output = match command.output() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            panic!("valgrind is not installed: apt-get install valgrind (Debian), and run again")
        }
        other => other.unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found = [0, 0];
    for entry in std::fs::read_dir(place.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let (submits, total) = read(&path);
            found[usize::from(submits)] = total;
        }
    }
    found
}

/// Of a file that callgrind wrote: whether it is of the process that submits, and the instructions.
fn read(path: &Path) -> (bool, u64) {
    let text = std::fs::read_to_string(path).unwrap();
    let after = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let total = after("totals: ").or_else(|| after("summary: ")).unwrap();
    (!after("cmd: ").unwrap().contains("--worker"), total.trim().parse().unwrap())
}

#[test]
fn a_cycle_costs_no_more_instructions_than_it_did() {
    for (kind, cycle, submission) in COUNTED {
        let (small, large) = (count(kind, SMALL), count(kind, LARGE));
        let each = |at: usize| (large[at] - small[at]) / (LARGE - SMALL);
        println!("{kind}: {} instructions a cycle, {} a submission", each(0), each(1));
        for (what, counted, limit) in
            [("cycle", each(0), cycle), ("submission", each(1), submission)]
        {
            let most = limit + limit / 4;
            assert!(counted > 0, "a {what} of {kind} must cost something");
            assert!(
                counted <= most,
                "a {what} of {kind} costs {counted} instructions, at most {most}"
            );
        }
    }
}
