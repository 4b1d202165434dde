//! `table.txt`: what is run, one row a line.

/// What a run must show.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expect {
    /// No error, and the whole state space was searched.
    Pass,
    /// Exactly this error, as spin words it.
    Fail(String),
}

impl Expect {
    /// For the report.
    pub fn outcome(&self) -> String {
        match self {
            Expect::Pass => "no error".to_owned(),
            Expect::Fail(what) => format!("fails as it must: {what}"),
        }
    }
}

/// One run of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its line in the table.
    pub line: usize,
    /// The model.
    pub file: String,
    /// Liveness under weak fairness; otherwise assertions.
    pub live: bool,
    /// Flags of the long run.
    pub full: Vec<String>,
    /// Flags of CI; `None`: it is not run there.
    pub ci: Option<Vec<String>>,
    /// What must come out.
    pub expect: Expect,
}

impl Row {
    /// The flags of the long run without the `-D`.
    pub fn flags_for_people(&self) -> String {
        if self.full.is_empty() {
            return "–".to_owned();
        }
        self.full.iter().map(|flag| flag.trim_start_matches("-D")).collect::<Vec<_>>().join(" ")
    }
}

/// `file | safety or live | flags | CI's flags, = for the same, - for none | pass or fail: error | why`.
/// Lines that begin with # and empty ones are passed over.
pub fn parse(text: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        rows.push(row(at + 1, line).map_err(|why| format!("line {}: {why}", at + 1))?);
    }
    Ok(rows)
}

fn row(number: usize, line: &str) -> Result<Row, String> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [file, kind, full, ci, expect, why] = cells[..] else {
        return Err(format!("{} cells instead of 6", cells.len()));
    };
    if why.is_empty() {
        return Err("it does not say what it shows".to_owned());
    }
    let flags = |cell: &str| -> Result<Vec<String>, String> {
        let flags: Vec<String> = cell.split_whitespace().map(str::to_owned).collect();
        match flags.iter().find(|flag| !flag.starts_with("-D")) {
            Some(other) => Err(format!("{other:?} is no -D flag")),
            None => Ok(flags),
        }
    };
    let full = flags(full)?;
    let ci = match ci {
        "=" => Some(full.clone()),
        "-" => None,
        other => Some(flags(other)?),
    };
    Ok(Row {
        line: number,
        file: file.to_owned(),
        live: match kind {
            "safety" => false,
            "live" => true,
            other => return Err(format!("{other:?} is neither safety nor live")),
        },
        full,
        ci,
        expect: match expect.strip_prefix("fail: ") {
            Some(what) => Expect::Fail(what.to_owned()),
            None if expect == "pass" => Expect::Pass,
            None => return Err(format!("{expect:?} is neither pass nor fail: ERROR")),
        },
    })
}

/// The flags of a model that take a rule out: all that begin with NO_.
pub fn rule_flags(model: &str) -> Vec<String> {
    let lines = model.lines().filter(|line| line.starts_with('#'));
    let words = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let mut flags: Vec<String> =
        words.filter(|word| word.starts_with("NO_")).map(str::to_owned).collect();
    flags.sort();
    flags.dedup();
    flags
}

#[test]
fn a_row_is_read_strictly() {
    let rows = parse("# x\n\na.pml | live | -DA=1 | - | fail: !(x) | R4\n").unwrap();
    assert_eq!(rows.len(), 1);
    let row = rows.first().unwrap();
    assert!(row.live && row.ci.is_none() && row.line == 3);
    assert_eq!(row.expect, Expect::Fail("!(x)".to_owned()));
    assert_eq!(row.flags_for_people(), "A=1");
    for (line, says) in [
        ("a.pml | live | | = | pass", "5 cells"),
        ("a.pml | dead | | = | pass | x", "neither safety nor live"),
        ("a.pml | live | | = | failed | x", "neither pass nor fail"),
        ("a.pml | live | -O2 | = | pass | x", "no -D flag"),
        ("a.pml | live | | = | pass |", "what it shows"),
    ] {
        let why = parse(line).unwrap_err();
        assert!(why.contains(says), "{why}");
    }
    assert_eq!(rule_flags("#ifdef NO_B\n#if defined(NO_A)\n NO_C"), ["NO_A", "NO_B"]);
}
