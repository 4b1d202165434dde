//! `coord map`: puts a list into the queue as one task, an array, and prints its id.

use std::path::Path;

use serde_json::json;

use crate::error::{Error, Exit};
use crate::jobs::template::Template;
use crate::program::front::feed;
use crate::queue::submit::{Submitted, submit};
use crate::run::site::{agree, open_queue, read_config};
use crate::sys::escaped::escape_os;
use crate::sys::fs::canonical;

use super::Answer;
use super::args::{Cli, Map};
use super::put::{person, unknown};
use super::{joblist, output, place, program};

/// `coord map`.
pub fn map(cli: &Cli, args: &Map) -> Answer {
    let listed = joblist::read("map", &args.jobs, 1)?;
    if args.jobs.dry_run {
        return joblist::print(listed).map(|()| None);
    }
    // Its workers may have another PATH, so this is no reason to refuse it.
    let (path, template) = (std::env::var_os("PATH"), Template::new(&listed.command)?);
    let path = path.unwrap_or_default();
    if let Some((_, error)) = program::missing(&listed.command, &template, &path, &listed.cwd) {
        output::warn(&format!("{} here: the workers must have it", error.message));
    }
    let dir = place::find(cli)?;
    let queue = open_queue(&dir)?;
    agree(&queue, &read_config(dir.parent().unwrap_or(&dir))?)?;
    let mut spec = listed.spec("the commands of a list")?;
    if let Some(array) = &mut spec.array {
        array.cwd = below(queue.layout.root().parent(), &listed.cwd);
    }
    spec.title = args.title.clone().unwrap_or(spec.title);
    spec.priority = args.priority.unwrap_or(50);
    spec.after.clone_from(&args.after);
    spec.role = args.role.clone().unwrap_or_default();
    spec.by = person();
    let id = args.id.as_deref();
    let submitted = place::with_proc(&queue, |me| submit(&queue, me, id, spec.clone()))?;
    for on in unknown(&queue, &spec) {
        output::warn(&format!("there is no task {on} yet: {} waits for it", submitted.id()));
    }
    // Before the list: there may be hours between the first job and the last.
    if !cli.json {
        output::line(submitted.id());
    }
    let jobs = feed::here(&queue, submitted.id(), listed.input)
        .map_err(|e| unfinished(submitted.id(), e))?;
    let new = matches!(submitted, Submitted::New(_));
    if cli.json {
        let id = submitted.id();
        output::document(&json!({ "schema": "coord.map/1", "id": id, "new": new, "jobs": jobs }));
    }
    Ok(None)
}

/// A directory, relative to the project if it is below it: so the project may be moved.
fn below(root: Option<&Path>, dir: &Path) -> String {
    let root = root.map(canonical);
    let inside = root.and_then(|root| canonical(dir).strip_prefix(root).map(Path::to_owned).ok());
    escape_os(inside.as_deref().unwrap_or(dir).into())
}

/// What was submitted stays, and workers are at it already.
fn unfinished(id: &str, error: Error) -> Error {
    if error.exit == Exit::Conflict {
        let what = format!("{id} has another list already: {}", error.message);
        return Error { message: what, ..error }.hint("give this list another --id");
    }
    let what = format!("the list of {id} is not complete: {}", error.message);
    Error { message: what, ..error }.hint(format!(
        "mend the input and give the same command with --id {id}, or: coord cancel {id}"
    ))
}
