//! `coord fsck`.

use std::path::Path;

use serde_json::json;

use crate::error::{Exit, Result};
use crate::program::keeper::Keeper;
use crate::queue::fsck::{self as checks, Finding, Severity};
use crate::queue::{Queue, sweep};

use super::Answer;
use super::args::{Cli, Fsck};
use super::output::{self, cut};
use super::place;

/// `coord fsck`.
pub fn fsck(cli: &Cli, args: &Fsck) -> Answer {
    let queue = place::open(cli)?;
    if args.repair {
        repair(cli, &queue)?;
    }
    let findings = checks::check(&queue, args.strict)?;
    let bad = findings.iter().any(|finding| finding.counts(args.strict));
    if cli.json {
        output::document(&json!({ "schema": "coord.fsck/1", "findings": findings }));
    } else if findings.is_empty() {
        output::note("clean");
    } else {
        print(queue.layout.root(), &findings);
    }
    Ok(bad.then_some(Exit::No))
}

/// Recovery, sweep, and what only fsck does. Everything of it may be done while programs run.
fn repair(cli: &Cli, queue: &Queue) -> Result<()> {
    /// The keeper looks once and is then dropped: how often it would look does not matter.
    const RESCAN_MS: u64 = 30_000;
    let owned = checks::owners::mend(queue.layout.root());
    // Without procs/ nobody can register.
    sweep::restore_directories(queue)?;
    let untrue = checks::untrue(queue)?;
    place::with_proc(queue, |me| {
        let mut waiter = queue.waiter(&[])?;
        let mut keeper = Keeper::new(queue, RESCAN_MS);
        keeper.tick(queue, me, &mut waiter, &[])?;
        let swept = sweep::sweep(queue, me)?;
        let hints = untrue + checks::repair(queue, me)?;
        if !cli.json {
            keeper.report.iter().for_each(|text| output::note(text));
            let (back, orphans) = (keeper.report.len(), swept.orphans);
            output::note(&format!(
                "repaired: {back} taken back, {orphans} orphans ended, {hints} stale hints removed, \
                 {owned} owners, groups or modes put right"
            ));
        }
        Ok(())
    })
}

fn print(root: &Path, findings: &[Finding]) {
    let mut rows = vec![["SEVERITY", "INVARIANT", "PATH", "WHAT"].map(str::to_owned).to_vec()];
    for finding in findings {
        let path = finding.path.strip_prefix(root).unwrap_or(&finding.path);
        rows.push(vec![
            finding.severity.word().to_owned(),
            finding.invariant.to_owned(),
            cut(&path.to_string_lossy(), 80),
            format!("{} → {}", cut(&finding.what, 200), cut(&finding.hint, 300)),
        ]);
    }
    output::columns(&rows);
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (errors, leftovers) = (count(Severity::Error), count(Severity::Leftover));
    output::note(&format!("errors: {errors}, leftovers: {leftovers}"));
}
