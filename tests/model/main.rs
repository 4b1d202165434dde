//! The models of the protocol, checked exhaustively by spin: the design as it is must have no error,
//! and each variant that lacks a rule must fail with the assertion that the rule protects.
//!
//! `table.txt` says what is run; README.md explains the models. By default with the bounds of CI;
//! `COORD_STRESS=full` (scripts/stress models) takes the long ones and can be stopped and resumed.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test starts spin, gcc and the checker, and looks at files from outside"
)]

mod judge;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use table::{Expect, Row};

/// Mebibytes that one checker may have; two run at once. Only the largest of the long sizes comes near.
const MEMORY_MB: usize = 7800;
const CHECKERS_MAX: usize = 2;

/// How large the runs are.
#[derive(Clone, Copy, PartialEq)]
enum Size {
    Ci,
    Full,
}

impl Size {
    fn flags(self, row: &Row) -> Option<&[String]> {
        if self == Size::Full { Some(&row.full) } else { row.ci.as_deref() }
    }
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

fn rows() -> Vec<Row> {
    let path = dir().join("table.txt");
    table::parse(&read(&path)).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The models' names and texts.
fn models() -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir()).unwrap().map(|entry| entry.unwrap());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let names = names.filter(|name| name.ends_with(".pml"));
    names.map(|name| (name.clone(), read(&dir().join(name)))).collect()
}

/// Runs one program in `at`; all that it said.
fn run(program: &str, args: &[String], at: &Path) -> Result<String, String> {
    let mut command = Command::new(program);
    let output = command.args(args).current_dir(at).output().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            let package = program.rsplit('/').next().unwrap_or(program);
            format!("{program} is not installed: apt-get install {package} (Debian), and run again")
        }
        _ => format!("cannot run {program}: {e}"),
    })?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{program} {} ended with {}:\n{said}", args.join(" "), output.status))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Makes the checker of a row and runs it. The number of states that it stored.
fn check(row: &Row, size: Size) -> Result<u64, String> {
    let at = tempfile::tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
    let flags = size.flags(row).unwrap_or_default();
    let model = dir().join(&row.file);
    let mut spin = words("-a");
    spin.extend(flags.iter().cloned());
    spin.push(model.display().to_string());
    run("spin", &spin, at.path())?;
    // The time to compile counts where nothing is searched for long.
    let optimise = match (size, &row.expect) {
        (Size::Full, _) => "-O2",
        (Size::Ci, Expect::Pass) => "-O1",
        (Size::Ci, Expect::Fail(_)) => "-O0",
    };
    let kind = if row.live { "-DNFAIR=4" } else { "-DSAFETY -DNOCLAIM" };
    let gcc = format!(
        "-w {optimise} {kind} -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM={MEMORY_MB} -o pan pan.c"
    );
    run("gcc", &words(&gcc), at.path())?;
    let bounds = if size == Size::Full { "-m1000000 -w26" } else { "-m200000 -w20" };
    let fair = if row.live { "-a -f" } else { "" };
    let pan = at.path().join("pan").display().to_string();
    let said = run(&pan, &words(&format!("{bounds} {fair}")), at.path())?;
    judge::judge(&said, &row.expect)
}

/// Rows that were finished before, one a line; of a model that was not changed since.
struct Progress {
    path: Option<PathBuf>,
    done: BTreeMap<String, String>,
}

impl Progress {
    fn open(size: Size) -> Progress {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = (size == Size::Full).then(|| root.join("target/stress/models.progress"));
        let text = path.as_deref().and_then(|p| fs::read_to_string(p).ok()).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        Progress { path, done: lines.map(|(k, v)| (k.to_owned(), v.to_owned())).collect() }
    }

    /// What a row's result depends on.
    fn key(row: &Row, text: &str) -> String {
        use std::hash::{Hash, Hasher};
        let mut hash = std::hash::DefaultHasher::new();
        text.hash(&mut hash);
        format!("{} {} {:?} {:016x}", row.file, row.full.join(" "), row.expect, hash.finish())
    }

    fn note(&self, key: &str, result: &str) {
        let Some(path) = &self.path else { return };
        let file = fs::create_dir_all(path.parent().unwrap())
            .and_then(|()| fs::OpenOptions::new().append(true).create(true).open(path));
        let noted = file.and_then(|mut file| writeln!(file, "{key}\t{result}"));
        noted.unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    }
}

#[test]
fn the_design_has_no_error_and_every_broken_variant_fails() {
    let size = if std::env::var("COORD_STRESS").is_ok_and(|s| s == "full") {
        Size::Full
    } else {
        Size::Ci
    };
    let (models, progress) = (models(), Progress::open(size));
    let all = rows();
    let todo: Vec<&Row> = all.iter().filter(|row| size.flags(row).is_some()).collect();
    let (next, faults, begun) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Instant::now());
    let states = Mutex::new(0);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let work = || {
        while let Some(row) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
            let flags = size.flags(row).unwrap_or_default().join(" ");
            let name = format!("{:<12} {flags}", row.file);
            let text = models.get(&row.file).map_or("", String::as_str);
            let key = Progress::key(row, text);
            if let Some(before) = progress.done.get(&key) {
                println!("{name}: {before} (before)");
                continue;
            }
            let start = Instant::now();
            match check(row, size) {
                Ok(stored) => {
                    let seconds = start.elapsed().as_secs_f64();
                    let what = row.expect.outcome();
                    let result = format!("{stored} states, {seconds:.1} s, {what}");
                    println!("{name}: {result}");
                    progress.note(&key, &result);
                    *states.lock().unwrap() += stored;
                }
                Err(why) => {
                    println!("{name}: WRONG: {why}");
                    let fault = format!("table.txt:{}: {name}: {why}", row.line);
                    faults.lock().unwrap().push(fault);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..cores.min(CHECKERS_MAX) {
            scope.spawn(work);
        }
    });
    let faults = faults.into_inner().unwrap();
    let passes = todo.iter().filter(|row| row.expect == Expect::Pass).count();
    println!(
        "models: {} rows, {passes} without an error, {} that fail as they must, {} wrong; {} states, {:.0} s",
        todo.len(),
        todo.len() - passes,
        faults.len(),
        states.into_inner().unwrap(),
        begun.elapsed().as_secs_f64()
    );
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// What is missing in the table, given the models and the page that explains them.
fn gaps(rows: &[Row], models: &BTreeMap<String, String>, readme: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for row in rows.iter().filter(|row| !models.contains_key(&row.file)) {
        faults.push(format!("table.txt:{}: there is no {}", row.line, row.file));
    }
    for (file, text) in models {
        let of = || rows.iter().filter(|row| row.file == *file && row.ci.is_some());
        if !of().any(|row| row.expect == Expect::Pass) {
            faults.push(format!("{file} has no row in table.txt that must pass in CI"));
        }
        if !of().any(|row| row.expect != Expect::Pass) {
            faults
                .push(format!("{file} has no row in table.txt that must fail: it proves nothing"));
        }
        // A flag that takes a rule out is used by some row that fails.
        let used: BTreeSet<&str> = of()
            .filter(|row| row.expect != Expect::Pass)
            .flat_map(|row| row.ci.iter().flatten())
            .filter_map(|flag| flag.strip_prefix("-D"))
            .collect();
        for flag in table::rule_flags(text).iter().filter(|flag| !used.contains(flag.as_str())) {
            faults.push(format!("{file}: no row that must fail has -D{flag}"));
        }
    }
    for row in rows {
        let cell = format!("| {} | {} |", row.file, row.flags_for_people());
        if !readme.contains(&cell) {
            faults.push(format!("table.txt:{}: README.md has no row {cell}", row.line));
        }
    }
    faults
}

#[test]
fn every_model_and_every_rule_has_its_rows() {
    let faults = gaps(&rows(), &models(), &read(&dir().join("README.md")));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn gaps_are_found() {
    let table =
        "a.pml | safety | | = | pass | all\na.pml | safety | -DNO_X | = | fail: !(lost) | X";
    let rows = table::parse(table).unwrap();
    let model = |text: &str| BTreeMap::from([("a.pml".to_owned(), text.to_owned())]);
    let readme = "| a.pml | – |\n| a.pml | NO_X |";
    assert_eq!(gaps(&rows, &model("#ifdef NO_X"), readme), [""; 0]);
    let says = |faults: Vec<String>, what: &str| {
        assert!(faults.iter().any(|f| f.contains(what)), "{what:?} is not in {faults:?}");
    };
    says(gaps(&rows, &model("#ifndef NO_Y"), readme), "no row that must fail has -DNO_Y");
    says(gaps(&rows[..1], &model(""), readme), "it proves nothing");
    says(gaps(&rows[1..], &model(""), readme), "must pass in CI");
    says(gaps(&rows, &BTreeMap::new(), readme), "there is no a.pml");
    says(gaps(&rows, &model(""), "| a.pml | – |"), "README.md has no row | a.pml | NO_X |");
    let mut two = model("");
    two.insert("b.pml".to_owned(), String::new());
    says(gaps(&rows, &two, readme), "b.pml has no row");
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let why = run("spin-that-is-not-there", &[], Path::new("/")).unwrap_err();
    assert!(why.contains("apt-get install spin-that-is-not-there"), "{why}");
}
