//! `coord gc`: what is over leaves `tasks/`, and what nobody needs is removed.

use std::collections::{BTreeSet, HashSet};

use serde_json::json;

use crate::error::{Error, Result};
use crate::plan::selector::{self, Row};
use crate::plan::units::duration_ms;
use crate::queue::archive::{self, Archiver, Moved};
use crate::queue::gc::{self, Chosen, Leftovers, Wish};
use crate::queue::procs::Proc;
use crate::queue::{Queue, reserve, state};
use crate::sys::tree;

use super::Answer;
use super::args::{Cli, Gc};
use super::output::{self, line};
use super::place;

/// Age from which what is done is archived when nothing is said.
const DAY_MS: u64 = 86_400_000;

/// What was done about one task.
struct Task {
    id: String,
    state: &'static str,
    action: &'static str,
    why: String,
    bytes: Option<u64>,
}

/// `coord gc`.
pub fn gc(cli: &Cli, args: &Gc) -> Answer {
    let queue = place::open(cli)?;
    let wish = wish(&queue, args)?;
    let (chosen, refused) = gc::choose(&queue, &wish)?;
    let rejected_ms = args.rejected.then_some(wish.older_than_ms);
    let mut failed = None;
    let (mut rows, left) = with_proc(&queue, args.dry_run, |me| {
        let mut archiver = Archiver::new(&queue, me)?;
        let mut rows = Vec::new();
        for one in chosen {
            rows.push(match args.dry_run {
                true => would(one, args.delete),
                false => {
                    let mut act = || act(&queue, me, &mut archiver, &one, args.delete);
                    let moved = place::in_need(&queue, &mut act);
                    // One that cannot be moved must not keep the others from it.
                    let moved = moved.unwrap_or_else(|e| {
                        let why = Moved::Stays(e.one_line());
                        failed = failed.take().or(Some(e));
                        why
                    });
                    done(one, moved, args.delete)
                }
            });
        }
        archiver.finish(&queue, me)?;
        Ok((rows, gc::leftovers(&queue, me, rejected_ms, args.dry_run)?))
    })?;
    if !args.dry_run {
        reserve::fill(&queue);
    }
    rows.extend(refused.into_iter().map(|(id, why)| stays(id, "", why)));
    tell(cli, args, &rows, &left);
    failed.map_or(Ok(None), Err)
}

/// What only looks spends nothing.
fn with_proc<T>(
    queue: &Queue,
    looks: bool,
    body: impl FnOnce(&mut Proc) -> Result<T>,
) -> Result<T> {
    if looks { place::with_proc(queue, body) } else { place::with_proc_in_need(queue, body) }
}

fn act(
    queue: &Queue,
    me: &mut Proc,
    archiver: &mut Archiver,
    one: &Chosen,
    delete: bool,
) -> Result<Moved> {
    let mut moved = Moved::Yes;
    if !one.archived {
        moved = archiver.archive(queue, me, &one.id)?;
    }
    if delete && !matches!(moved, Moved::Stays(_)) {
        moved = archiver.bury(queue, me, &one.id)?;
    }
    Ok(moved)
}

fn stays(id: String, state: &'static str, why: String) -> Task {
    Task { id, state, action: "stays", why, bytes: None }
}

fn would(one: Chosen, delete: bool) -> Task {
    let action = if delete { "deleted" } else { "archived" };
    let bytes = Some(tree::size(&one.dir));
    Task { id: one.id, state: one.state, action, why: String::new(), bytes }
}

fn done(one: Chosen, moved: Moved, delete: bool) -> Task {
    let action = if delete { "deleted" } else { "archived" };
    match moved {
        Moved::Yes => {
            Task { id: one.id, state: one.state, action, why: String::new(), bytes: None }
        }
        Moved::Gone => stays(one.id, one.state, "somebody was faster".to_owned()),
        Moved::Stays(why) => stays(one.id, one.state, why),
    }
}

/// What the arguments ask for.
fn wish(queue: &Queue, args: &Gc) -> Result<Wish> {
    let older_than_ms = match &args.older_than {
        Some(text) => duration_ms(text).map_err(Error::usage)?,
        None if args.select.is_empty() && args.keep.is_none() => DAY_MS,
        None => 0,
    };
    let mut wish = Wish {
        older_than_ms,
        keep: args.keep.unwrap_or(0),
        archived: args.delete,
        ..Wish::default()
    };
    if args.select.is_empty() && args.exclude.is_empty() {
        return Ok(wish);
    }
    let mut rows: Vec<Row> = state::rows(queue)?;
    if args.delete {
        rows.extend(state::archived(queue)?);
    }
    let ids: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let all = vec!["all".to_owned()];
    let words = if args.select.is_empty() { &all } else { &args.select };
    for word in words.iter().flat_map(|word| word.split(',')) {
        if ids.contains(word) {
            wish.named.insert(word.to_owned());
        } else if archive::holds(queue, word) {
            let what = format!("{word} is archived already");
            let hint = format!("coord gc --delete {word} deletes its files");
            return Err(Error::usage(what).hint(hint));
        }
        let state = word.strip_prefix('@').unwrap_or_default();
        let own = rows.iter().filter(|row| !state.is_empty() && row.state == state);
        wish.named.extend(own.map(|row| row.id.clone()));
    }
    let only: BTreeSet<String> =
        selector::select(words, &args.exclude, &rows)?.into_iter().collect();
    wish.named.retain(|id| only.contains(id));
    wish.only = Some(only);
    Ok(wish)
}

fn tell(cli: &Cli, args: &Gc, rows: &[Task], left: &Leftovers) {
    if cli.json {
        let tasks: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({ "id": row.id, "state": row.state, "action": row.action, "why": row.why,
                        "bytes": row.bytes })
            })
            .collect();
        output::document(&json!({
            "schema": "coord.gc/1", "dry_run": args.dry_run, "tasks": tasks,
            "leftovers": { "events": left.events, "temporary": left.temporary,
                           "empty": left.empty, "rejected": left.rejected,
                           "silent": left.silent },
        }));
        return;
    }
    let moved = rows.iter().filter(|row| row.action != "stays");
    if cli.quiet {
        moved.for_each(|row| line(&row.id));
        return;
    }
    let would = if args.dry_run { "would be " } else { "" };
    if args.dry_run {
        for row in moved.clone() {
            let size = output::size(row.bytes.unwrap_or(0));
            line(&format!("{} ({}) would be {} ({size})", row.id, row.state, row.action));
        }
    }
    for row in rows.iter().filter(|row| row.action == "stays") {
        line(&format!("{} stays: {}", row.id, row.why));
    }
    let action = if args.delete { "deleted" } else { "archived" };
    let bytes: u64 = moved.clone().filter_map(|row| row.bytes).sum();
    let size = if args.dry_run { format!(" ({})", output::size(bytes)) } else { String::new() };
    let mut words = vec![format!("{} tasks {would}{action}{size}", moved.count())];
    for (count, what) in [
        (left.events.len(), "old event files"),
        (left.temporary, "temporary files"),
        (left.empty, "empty directories"),
        (left.rejected, "rejected files"),
        (left.silent.len(), "processes elsewhere that do not answer"),
    ] {
        if count > 0 {
            words.push(format!("{count} {what} {would}removed"));
        }
    }
    line(&words.join(", "));
}
