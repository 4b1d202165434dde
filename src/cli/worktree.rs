//! `worktree ls`, `path` and `gc`: the pool of worktrees.

use serde_json::json;

use crate::error::{Error, Exit, Result};
use crate::queue::ids::{Key, short};
use crate::queue::tasks;
use crate::run::context::workplace;
use crate::run::pool::Pool;
use crate::run::pool::chain::Record;
use crate::run::site::Site;
use crate::run::{gc, worktree};

use super::Answer;
use super::args::{Attempt, Cli, WorktreeGc, WorktreeVerb};
use super::output::{self, line};
use super::place;

/// `coord worktree …`.
pub fn worktree(cli: &Cli, verb: &WorktreeVerb) -> Answer {
    match verb {
        WorktreeVerb::Ls => ls(cli),
        WorktreeVerb::Path(a) => path(cli, a),
        WorktreeVerb::Gc(a) => gc(cli, a),
    }
}

/// The pool of a site; a refusal where there is none.
pub fn pool(site: &Site) -> Result<Pool> {
    site.must_work()?;
    Pool::of(site).ok_or_else(|| {
        Error::new(
            Exit::NotFound,
            "attempts have no worktrees here: they share the project's directory",
        )
        .at(&site.root)
        .hint("a git repository, and [worktree] isolation = \"worktree\" in coord.toml")
    })
}

fn attempt_of(record: &Record) -> String {
    record.assigned.as_ref().map_or("-".to_owned(), |of| format!("{}.{}", of.task, of.n))
}

fn ls(cli: &Cli) -> Answer {
    let site = place::site(cli)?;
    let pool = pool(&site)?;
    let slots = gc::slots(&site.queue, &pool)?;
    if cli.json {
        let rows: Vec<_> = slots
            .iter()
            .map(|seen| {
                let record = &seen.record;
                let of = record.assigned.clone().unwrap_or_default();
                json!({
                    "slot": record.slot, "state": seen.word(), "owner": record.owner,
                    "queue": record.queue, "task": of.task, "attempt": of.n, "branch": of.branch,
                    "base": of.base, "path": pool.top(&record.slot), "bytes": seen.bytes,
                    "clone": record.clone, "why": record.why,
                })
            })
            .collect();
        output::document(&json!({
            "schema": "coord.worktrees/1", "root": pool.root, "worktrees": rows,
        }));
        return Ok(None);
    }
    if cli.quiet {
        slots.iter().for_each(|seen| line(&seen.record.slot));
        return Ok(None);
    }
    if slots.is_empty() {
        output::note("no worktrees yet: each worker makes one for its first attempt");
        return Ok(None);
    }
    let head = ["SLOT", "STATE", "OWNER", "ATTEMPT", "BRANCH", "SIZE", "WHY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for seen in &slots {
        let record = &seen.record;
        let branch = record.assigned.as_ref().map_or("-", |of| of.branch.as_str());
        let owner = if seen.word() == "free" { "-" } else { short(&record.owner) };
        rows.push(vec![
            record.slot.clone(),
            seen.word().to_owned(),
            owner.to_owned(),
            attempt_of(record),
            branch.to_owned(),
            output::size(seen.bytes),
            output::cut(&record.why, 160),
        ]);
    }
    output::columns(&rows);
    Ok(None)
}

fn path(cli: &Cli, args: &Attempt) -> Answer {
    let site = place::site(cli)?;
    let (id, wanted) = place::attempt(&args.id)?;
    let task = tasks::existing(&site.queue, &id)?;
    let n = wanted.unwrap_or(task.names.last());
    if !worktree::is_apart(&site) {
        output::name(&site.root.to_string_lossy());
        return Ok(None);
    }
    let pool = pool(&site)?;
    let found = slot_of(&site, &pool, &Key::new(&id, n))?;
    match found.and_then(|record| record.assigned) {
        Some(of) => output::name(&of.dir.to_string_lossy()),
        None => {
            let branch = workplace(&site.queue, &Key::new(&id, n)).branch;
            let what = format!("attempt {n} of {id} has no worktree now");
            let hint = if branch.is_empty() {
                format!("coord show {id}")
            } else {
                format!("its branch is {branch}: coord shell {id}@{n}, or coord checkout {id}@{n}")
            };
            return Err(Error::new(Exit::NotFound, what).hint(hint));
        }
    }
    Ok(None)
}

/// The slot that an attempt runs in, or that still has what it left.
pub fn slot_of(site: &Site, pool: &Pool, key: &Key) -> Result<Option<Record>> {
    let is_its = |record: &Record| {
        record.assigned.as_ref().is_some_and(|of| {
            of.task == key.task && of.n == key.n && of.queue == site.queue.layout.root()
        })
    };
    Ok(pool.all()?.into_iter().find(is_its))
}

fn gc(cli: &Cli, args: &WorktreeGc) -> Answer {
    let site = place::site(cli)?;
    let pool = pool(&site)?;
    let swept = place::with_proc(&site.queue, |me| gc::sweep(&site, me, &pool, args.dry_run))?;
    if cli.json {
        let rows: Vec<_> = swept
            .iter()
            .map(
                |s| json!({ "slot": s.slot, "removed": s.removed, "why": s.why, "bytes": s.bytes }),
            )
            .collect();
        output::document(&json!({
            "schema": "coord.worktree-gc/1", "dry_run": args.dry_run, "worktrees": rows,
        }));
        return Ok(None);
    }
    let done = if args.dry_run { "would be removed" } else { "removed" };
    for one in &swept {
        if one.removed {
            line(&format!("{} {done} ({})", one.slot, output::size(one.bytes)));
        } else {
            line(&format!("{} stays: {}", one.slot, one.why));
        }
    }
    if swept.is_empty() {
        output::note("no worktrees");
    }
    Ok(None)
}
