//! `coord doctor`: can this machine carry a queue here, and how well?

mod machine_checks;
mod project_checks;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::error::{Cannot, Exit, Result};
use crate::queue::fsck::{self, Severity};
use crate::queue::owners;
use crate::sys::fs::{Fs, RealFs};
use crate::sys::host::Platform;
use crate::sys::owner::Owner;

use super::Answer;
use super::args::Cli;
use super::output::{self, cut};
use super::place;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Status {
    /// As it should be.
    #[serde(rename = "ok")]
    Fine,
    /// It works, but not as well as it could.
    #[serde(rename = "warn")]
    Warn,
    /// It does not work.
    #[serde(rename = "FAIL")]
    Fail,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Fine => "ok",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        }
    }
}

/// One line of the answer.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    detail: String,
    hint: String,
}

impl Check {
    fn fine(name: &'static str, detail: impl Into<String>) -> Check {
        Check { name, status: Status::Fine, detail: detail.into(), hint: String::new() }
    }

    fn warn(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Check {
        Check { name, status: Status::Warn, detail: detail.into(), hint: hint.into() }
    }

    fn fail(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Check {
        Check { name, status: Status::Fail, detail: detail.into(), hint: hint.into() }
    }
}

/// What is looked at: a queue and its project, or the directory where one could be made.
struct Place {
    /// The queue directory, or the current one.
    dir: PathBuf,
    /// The project around it.
    root: PathBuf,
    /// Whether there is a queue.
    queue: bool,
}

/// `coord doctor`.
pub fn doctor(cli: &Cli) -> Answer {
    let place = locate(cli)?;
    let mut checks = vec![queue(&place)];
    checks.extend(owner(&place));
    checks.extend(machine_checks::all(&place));
    checks.extend(project_checks::all(&place));
    if cli.json {
        output::document(&json!({ "schema": "coord.doctor/1", "checks": checks }));
    } else {
        print(&checks);
    }
    Ok(checks.iter().any(|check| check.status == Status::Fail).then_some(Exit::No))
}

fn locate(cli: &Cli) -> Result<Place> {
    let here = std::env::current_dir().cannot("find the current directory", Path::new("."))?;
    match place::find(cli) {
        Ok(dir) if RealFs.exists(&dir) => {
            let root = dir.parent().unwrap_or(&dir).to_owned();
            let queue = RealFs.exists(&dir.join("layout.json"));
            Ok(Place { dir, root, queue })
        }
        // Somebody named a place: then another one is no answer.
        Ok(dir) => {
            let parent = dir.parent().filter(|p| RealFs.exists(p)).unwrap_or(&here).to_owned();
            Ok(Place { dir: parent.clone(), root: parent, queue: false })
        }
        Err(_) => Ok(Place { dir: here.clone(), root: here, queue: false }),
    }
}

fn queue(place: &Place) -> Check {
    let at = place.dir.display();
    if !place.queue {
        return Check::warn("queue", format!("none: {at} is looked at instead"), "coord init");
    }
    match crate::queue::Queue::open(&place.dir, Platform::real()) {
        Ok(_) => Check::fine("queue", at.to_string()),
        Err(e) => Check::fail("queue", e.one_line(), e.hint.unwrap_or_default()),
    }
}

/// Whether this user may work in the queue, and whether all of it can be used by those who may.
fn owner(place: &Place) -> Option<Check> {
    let owner = Owner::of(&place.dir).ok().filter(|_| place.queue)?;
    if let Some(e) = owners::refusal(&place.dir, &owner, owner.part(&place.dir)) {
        return Some(Check::fail("owner", e.message, e.hint.unwrap_or_default()));
    }
    let wrong = fsck::owners::wrong(&place.dir);
    let hindering = wrong.iter().find(|finding| finding.severity == Severity::Error);
    if let Some(first) = hindering.or(wrong.first()) {
        let path = first.path.strip_prefix(&place.dir).unwrap_or(&first.path).display();
        let detail = format!("{path}: {} ({} such)", first.what, wrong.len());
        let made = if hindering.is_some() { Check::fail } else { Check::warn };
        return Some(made("owner", detail, first.hint.clone()));
    }
    if owner.is_shared() && !owner.hands_on() && owner.mode & 0o002 == 0 {
        let detail = format!("{}: its group gets nothing of what its owner makes", owner.words());
        let hint = "if others are to work here: chmod g+s, then coord fsck --repair";
        return Some(Check::fine("owner", format!("{detail}; {hint}")));
    }
    Some(Check::fine("owner", owner.words()))
}

fn print(checks: &[Check]) {
    let rows = checks.iter().map(|check| {
        let hint =
            if check.hint.is_empty() { String::new() } else { format!(" → {}", check.hint) };
        let text = format!("{}{hint}", check.detail);
        vec![check.status.word().to_owned(), check.name.to_owned(), cut(&text, 500)]
    });
    output::columns(&rows.collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(root: &Path) -> Vec<Check> {
        let place = Place { dir: root.to_owned(), root: root.to_owned(), queue: false };
        let mut checks = vec![queue(&place)];
        checks.extend(machine_checks::all(&place));
        checks.extend(project_checks::all(&place));
        checks
    }

    fn status(checks: &[Check], name: &str) -> Status {
        checks.iter().find(|c| c.name == name).unwrap().status
    }

    #[test]
    fn works_without_a_queue_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let checks = look(dir.path());
        assert_eq!(status(&checks, "queue"), Status::Warn);
        assert_eq!(status(&checks, "hard links"), Status::Fine);
        assert_eq!(status(&checks, "config"), Status::Fine);
        assert_eq!(status(&checks, "clock"), Status::Fine);
        assert!(RealFs.list(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_broken_configuration_fails() {
        let dir = tempfile::tempdir().unwrap();
        RealFs.create(&dir.path().join("coord.toml"), b"nonsense = 1\n", 0o644).unwrap();
        assert_eq!(status(&look(dir.path()), "config"), Status::Fail);
    }

    #[test]
    fn an_agent_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let toml = b"[workers]\nagent = \"own\"\n[agents.own]\ncommand = [\"no-such-agent\", \"{prompt}\"]\n";
        RealFs.create(&dir.path().join("coord.toml"), toml, 0o644).unwrap();
        let checks = look(dir.path());
        let agent = checks.iter().find(|c| c.detail.contains("no-such-agent")).unwrap();
        assert_eq!((agent.name, agent.status), ("agents", Status::Fail));
    }

    #[test]
    fn a_place_that_cannot_be_written_fails() {
        let checks = look(Path::new("/proc"));
        assert_eq!(status(&checks, "hard links"), Status::Fail);
    }
}
