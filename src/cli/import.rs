//! `import`: the tasks of a file, a checklist or JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::plan::{jsonl, markdown, suggest};
use crate::queue::Queue;
use crate::queue::acceptance::Acceptance;
use crate::queue::procs::Proc;
use crate::queue::record::Spec;
use crate::queue::submit::{Begun, acknowledge, batch, begin, check, numbered};
use crate::run::acceptance::Project;
use crate::run::attempt::agent_of;
use crate::run::site::{agree, open_queue, read_config};

use super::Answer;
use super::args::{Cli, Import};
use super::put::{is_known, person, read_text};
use super::{output, place};

/// A task of a file, ready to be submitted once the ids it needs are known.
struct Wanted {
    id: Option<String>,
    spec: Spec,
    item: Option<markdown::Item>,
    line: usize,
}

/// A row of what is reported.
struct Row {
    /// Empty where the queue gives a number.
    id: String,
    spec: Spec,
    what: &'static str,
}

/// `coord import`.
pub fn import(cli: &Cli, args: &Import) -> Answer {
    let dir = place::find(cli)?;
    let mut queue = open_queue(&dir)?;
    let root = dir.parent().unwrap_or(&dir);
    let project = Arc::new(Project::asked_once(root));
    queue.acceptance = Some(project.clone());
    let config = read_config(root)?;
    agree(&queue, &config)?;
    let mut all = Vec::new();
    for file in &args.files {
        let name = file.display().to_string();
        let wanted = read_file(&queue, &config, file, &name)?;
        // Everything is checked before anything is added.
        for w in &wanted {
            jsonl::validate(w.id.as_deref(), &w.spec).and_then(|()| can_run(&config, w)).map_err(
                |why| Error::usage(format!("{name}:{}: {why}", w.line)).hint("nothing was added"),
            )?;
        }
        all.push((name, wanted));
    }
    let mut lists = Vec::new();
    for (name, wanted) in all {
        let ids = known_ids(&queue, &wanted)?;
        let there = |id: &Option<String>| id.as_ref().is_some_and(|id| is_known(&queue, id));
        let new = wanted.iter().zip(&ids).filter(|(w, id)| !is_done(w) && !there(id));
        for (w, _) in new {
            let at = |e: Error| Error { message: format!("{name}:{}: {}", w.line, e.message), ..e };
            project.complete(&mut w.spec.clone()).map_err(at)?;
        }
        lists.push((name, wanted, ids));
    }
    let mut rows = Vec::new();
    for (name, wanted, ids) in lists {
        rows.extend(if args.dry_run {
            would_add(&queue, &wanted, &ids)
        } else {
            place::with_proc(&queue, |me| add_all(&queue, me, &name, &wanted, &ids))?
        });
    }
    if !args.dry_run {
        // Folds what was just said, so that the next look at the status is a quick one.
        crate::queue::status::current(&queue)?;
    }
    report(cli, args.dry_run, &rows);
    Ok(None)
}

/// A task that nobody could ever run is refused now, and not when somebody looks for it.
fn can_run(config: &Config, wanted: &Wanted) -> std::result::Result<(), String> {
    let spec = &wanted.spec;
    if is_done(wanted) || agent_of(config, spec) != Some("") {
        return Ok(());
    }
    Err("nobody can run it: it has no command, and coord.toml names no agent ([workers] agent); a person's \
         task says so (`(manual)`, \"manual\": true)"
        .to_owned())
}

fn report(cli: &Cli, dry_run: bool, rows: &[Row]) {
    if cli.json {
        let tasks: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "id": row.id, "title": row.spec.title, "what": row.what, "after": row.spec.after,
                    "wave": row.spec.wave, "role": row.spec.role(), "command": command(&row.spec),
                    "held": row.spec.hold, "manual": row.spec.manual,
                })
            })
            .collect();
        output::document(&json!({ "schema": "coord.import/1", "tasks": tasks }));
    } else if cli.quiet {
        rows.iter().for_each(|row| output::line(&row.id));
    } else if dry_run {
        let mut table = vec![
            ["WHAT", "ID", "WAVE", "AFTER", "ROLE", "TITLE", "COMMAND"].map(str::to_owned).to_vec(),
        ];
        table.extend(rows.iter().map(|row| {
            let id = if row.id.is_empty() { "(next number)".to_owned() } else { row.id.clone() };
            let wave = row.spec.wave.map_or("-".to_owned(), |wave| wave.to_string());
            let after =
                if row.spec.after.is_empty() { "-".to_owned() } else { row.spec.after.join(",") };
            let role = row.spec.role().to_owned();
            vec![
                row.what.to_owned(),
                id,
                wave,
                output::cut(&after, 30),
                role,
                output::cut(&row.spec.title, 50),
                output::cut(&command(&row.spec), 50),
            ]
        }));
        output::columns(&table);
    } else {
        let table: Vec<Vec<String>> = rows
            .iter()
            .map(|row| vec![row.what.to_owned(), row.id.clone(), output::cut(&row.spec.title, 70)])
            .collect();
        output::columns(&table);
    }
}

/// What runs, in words.
fn command(spec: &Spec) -> String {
    let agent = if spec.agent.is_empty() { "the agent" } else { &spec.agent };
    if !spec.sh.is_empty() {
        format!("sh -c {}", spec.sh)
    } else if !spec.argv.is_empty() {
        shlex::try_join(spec.argv.iter().map(String::as_str)).unwrap_or_default()
    } else if spec.manual {
        "(a person)".to_owned()
    } else {
        format!("({agent})")
    }
}

/// Keys that a record leaves out where they have their default.
const OPTIONAL_KEYS: [&str; 22] = [
    "id",
    "after",
    "role",
    "not_before",
    "labels",
    "needs",
    "scope",
    "merge",
    "merge_after",
    "adds_deps",
    "into",
    "wave",
    "argv",
    "sh",
    "prompt",
    "agent",
    "env",
    "cwd",
    "manual",
    "hold",
    "time_limit_s",
    "lease_s",
];

/// Unknown keys are kept for newer programs, and mean nothing to this one.
fn warn_of_unknown_keys(name: &str, line: usize, spec: &Spec) {
    let known = serde_json::to_value(Spec::new("")).unwrap_or_default();
    let known: Vec<&str> =
        known.as_object().into_iter().flat_map(|o| o.keys()).map(String::as_str).collect();
    for key in spec.more.keys() {
        let near = suggest::nearest(key, known.iter().copied().chain(OPTIONAL_KEYS));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        output::warn(&format!(
            "{name}:{line}: unknown key `{key}` is kept, and means nothing{near}"
        ));
    }
}

fn read_file(queue: &Queue, config: &Config, file: &Path, name: &str) -> Result<Vec<Wanted>> {
    let text = read_text(file)?;
    let is_list = file.extension().is_some_and(|e| e == "md" || e == "markdown");
    if !is_list {
        let lines = jsonl::parse_lines(&text, name)?;
        let wanted = lines.into_iter().map(|l| {
            warn_of_unknown_keys(name, l.line, &l.spec);
            Wanted { id: l.id, spec: l.spec, item: None, line: l.line }
        });
        return Ok(wanted.collect());
    }
    let list = markdown::parse(&text, name)?;
    for (line, on) in &list.unknown {
        if !is_known(queue, on) {
            output::warn(&format!("{name}:{line}: there is no task {on} yet"));
        }
    }
    for (line, remark) in &list.remarks {
        output::warn(&format!("{name}:{line}: {remark}"));
    }
    let place = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let uids = markdown::uids(&list.items, &place.to_string_lossy());
    let wanted = list.items.into_iter().zip(uids).map(|(item, uid)| {
        let mut spec = item.spec.clone();
        // A checklist says nothing of merging, nor how often a task is tried; JSON does.
        spec.merge = config.merge.enabled && !spec.manual;
        spec.max_attempts = config.retry.attempts;
        // What has no id is known by its place in the file when the file is imported again.
        if item.id.is_none() {
            spec.uid = uid;
        }
        Wanted { id: item.id.clone(), spec, line: item.line, item: Some(item) }
    });
    Ok(wanted.collect())
}

fn is_done(wanted: &Wanted) -> bool {
    wanted.item.as_ref().is_some_and(|item| item.done)
}

/// The ids of what the file names, and of what it does not name and an earlier import has added.
fn known_ids(queue: &Queue, wanted: &[Wanted]) -> Result<Vec<Option<String>>> {
    let nameless = wanted.iter().any(|w| w.id.is_none() && !w.spec.uid.is_empty());
    let before = if nameless { numbered(queue)? } else { BTreeMap::new() };
    let id = |w: &Wanted| w.id.clone().or_else(|| before.get(&w.spec.uid).cloned());
    // What is ticked needs no doing, and nothing has to wait for it.
    Ok(wanted.iter().map(|w| if is_done(w) { None } else { id(w) }).collect())
}

fn would_add(queue: &Queue, wanted: &[Wanted], ids: &[Option<String>]) -> Vec<Row> {
    let row = |(w, id): (&Wanted, &Option<String>)| {
        let mut spec = w.spec.clone();
        if let Some(item) = &w.item {
            spec.after = item.after_by(|at| match &ids[at] {
                _ if is_done(&wanted[at]) => None,
                Some(id) => Some(id.clone()),
                None => Some(format!("#{}", at + 1)),
            });
        }
        let there = id.as_ref().is_some_and(|id| is_known(queue, id));
        let what = match (is_done(w), there, spec.hold) {
            (true, ..) => "done before",
            (false, true, _) => "there already",
            (false, false, false) => "would add",
            (false, false, true) => "would hold",
        };
        Row { id: w.id.clone().or_else(|| id.clone()).unwrap_or_default(), spec, what }
    };
    wanted.iter().zip(ids).map(row).collect()
}

/// Submits tasks in an order in which everybody's dependencies have their ids already.
fn add_all(
    queue: &Queue,
    me: &mut Proc,
    name: &str,
    wanted: &[Wanted],
    ids: &[Option<String>],
) -> Result<Vec<Row>> {
    let mut begun = Vec::new();
    let rows = begin_all(queue, me, name, wanted, ids.to_vec(), &mut begun);
    // What is linked is there, also when a later line of the file is refused.
    acknowledge(queue, me, begun, None)?;
    rows
}

fn begin_all(
    queue: &Queue,
    me: &mut Proc,
    name: &str,
    wanted: &[Wanted],
    mut ids: Vec<Option<String>>,
    begun: &mut Vec<Begun>,
) -> Result<Vec<Row>> {
    let mut left: Vec<usize> = (0..wanted.len()).collect();
    let mut rows: Vec<Option<Row>> = wanted.iter().map(|_| None).collect();
    for (i, w) in wanted.iter().enumerate().filter(|(_, w)| is_done(w)) {
        let id = w.id.clone().unwrap_or_default();
        rows[i] = Some(Row { id, spec: w.spec.clone(), what: "done before" });
    }
    left.retain(|&i| !is_done(&wanted[i]));
    while !left.is_empty() {
        let before = left.len();
        let mut later = Vec::new();
        for i in left {
            let w = &wanted[i];
            let needs = w.item.as_ref().map(|item| item.needs.as_slice()).unwrap_or_default();
            let open = |item: usize| ids[item].is_none() && !is_done(&wanted[item]);
            if needs.iter().any(|need| open(need.item)) {
                later.push(i);
                continue;
            }
            let mut spec = w.spec.clone();
            if let Some(item) = &w.item {
                spec.after = item.after(&ids);
            }
            if spec.by.is_empty() {
                spec.by = person();
            }
            if w.id.is_none()
                && let Some(id) = &ids[i]
            {
                rows[i] = Some(Row { id: id.clone(), spec, what: "there already" });
                continue;
            }
            let at = |e: Error| Error { message: format!("{name}:{}: {}", w.line, e.message), ..e };
            check(queue, w.id.as_deref(), &spec).map_err(at)?;
            let one = begin(queue, me, w.id.as_deref(), spec.clone()).map_err(at)?;
            let what = if one.is_new() { "added" } else { "there already" };
            ids[i] = Some(one.id().to_owned());
            rows[i] = Some(Row { id: one.id().to_owned(), spec, what });
            begun.push(one);
            if begun.len() >= batch(queue) {
                acknowledge(queue, me, std::mem::take(begun), None)?;
            }
        }
        if later.len() == before {
            return Err(Error::usage(format!("{name}: its tasks wait for each other")));
        }
        left = later;
    }
    Ok(rows.into_iter().flatten().collect())
}
