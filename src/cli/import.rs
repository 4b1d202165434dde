//! `import`: the tasks of a file, a checklist or JSON.

use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::queue::Queue;
use crate::queue::procs::Proc;
use crate::queue::record::Spec;
use crate::queue::submit::{Begun, acknowledge, batch, begin};
use crate::run::acceptance::Project;
use crate::run::attempt::agent_of;
use crate::run::site::{agree, open_queue, read_config};

use super::Answer;
use super::args::{self, Cli};
use super::place;
use super::put::person;

mod checklist;
mod lines;
mod report;

use checklist::Checklist;
use lines::Lines;
use report::{Report, Row};

/// What the files are imported into.
struct Import<'a> {
    queue: &'a Queue,
    config: &'a Config,
    project: &'a Project,
}

/// A file that was read and found good.
enum Source<'a> {
    List(Checklist),
    Lines(Lines<'a>),
}

/// `coord import`.
pub fn import(cli: &Cli, args: &args::Import) -> Answer {
    let dir = place::find(cli)?;
    let mut queue = open_queue(&dir)?;
    let root = dir.parent().unwrap_or(&dir);
    let project = Arc::new(Project::asked_once(root));
    queue.acceptance = Some(project.clone());
    let config = read_config(root)?;
    agree(&queue, &config)?;
    let import = Import { queue: &queue, config: &config, project: &project };
    // Everything is checked before anything is added.
    let sources = args.files.iter().map(|file| import.read(file)).collect::<Result<Vec<_>>>()?;
    let mut report = Report::new(cli, args.dry_run);
    let done = if args.dry_run {
        sources.iter().try_for_each(|source| import.plan(source, &mut report))
    } else {
        add_all(&queue, sources, &mut report)
    };
    report.end();
    done?;
    if !args.dry_run {
        // Folds what was just said, so that the next look at the status is a quick one.
        crate::queue::status::current(&queue)?;
    }
    Ok(None)
}

impl Import<'_> {
    fn read<'a>(&self, file: &'a Path) -> Result<Source<'a>> {
        let name = file.display().to_string();
        let is_list = file.extension().is_some_and(|e| e == "md" || e == "markdown");
        Ok(match is_list {
            true => Source::List(Checklist::read(self, file, &name)?),
            false => Source::Lines(Lines::read(self, file, &name)?),
        })
    }

    fn plan(&self, source: &Source<'_>, report: &mut Report) -> Result<()> {
        match source {
            Source::List(list) => list.plan(self, |row| report.row(row)),
            Source::Lines(lines) => lines.plan(self, |row| report.row(row))?,
        }
        Ok(())
    }

    /// A task that nobody could ever run is refused now, and not when somebody looks for it.
    fn can_run(&self, spec: &Spec) -> std::result::Result<(), String> {
        if agent_of(self.config, spec) != Some("") {
            return Ok(());
        }
        Err("nobody can run it: it has no command, and coord.toml names no agent ([workers] agent); a person's \
             task says so (`(manual)`, \"manual\": true)"
            .to_owned())
    }
}

/// Says where in a file something is wrong.
fn place_of(name: &str, line: usize, e: Error) -> Error {
    Error { message: format!("{name}:{line}: {}", e.message), ..e }
}

/// What would become of a task.
fn would(there: bool, hold: bool) -> &'static str {
    match (there, hold) {
        (true, _) => "there already",
        (false, false) => "would add",
        (false, true) => "would hold",
    }
}

fn add_all(queue: &Queue, sources: Vec<Source<'_>>, report: &mut Report) -> Result<()> {
    place::with_proc(queue, |me| {
        let mut adding = Adding { queue, report, begun: Vec::new(), told: Vec::new() };
        let added = sources.into_iter().try_for_each(|source| match source {
            Source::List(list) => list.add(&mut adding, me),
            Source::Lines(lines) => lines.add(&mut adding, me),
        });
        // What is linked is there, also when a later line of a file is refused.
        adding.acknowledge(me)?;
        added
    })
}

/// Submits tasks, some of which are acknowledged together, and tells of each after that.
struct Adding<'a> {
    queue: &'a Queue,
    report: &'a mut Report,
    begun: Vec<Begun>,
    told: Vec<Row>,
}

impl Adding<'_> {
    /// Adds a task; its id.
    fn add(&mut self, me: &mut Proc, id: Option<&str>, mut spec: Spec) -> Result<String> {
        if spec.by.is_empty() {
            spec.by = person();
        }
        let one = begin(self.queue, me, id, spec.clone())?;
        let id = one.id().to_owned();
        let what = if one.is_new() { "added" } else { "there already" };
        self.told.push(Row { id: id.clone(), spec, what });
        self.begun.push(one);
        if self.begun.len() >= batch(self.queue) {
            self.acknowledge(me)?;
        }
        Ok(id)
    }

    /// Tells of a task that an earlier import has added.
    fn is_there(&mut self, me: &mut Proc, id: String, spec: Spec) -> Result<()> {
        self.told.push(Row { id, spec, what: "there already" });
        if self.begun.is_empty() { self.acknowledge(me) } else { Ok(()) }
    }

    fn tell(&mut self, row: &Row) {
        self.report.row(row);
    }

    fn acknowledge(&mut self, me: &mut Proc) -> Result<()> {
        acknowledge(self.queue, me, std::mem::take(&mut self.begun), None)?;
        for row in std::mem::take(&mut self.told) {
            self.report.row(&row);
        }
        Ok(())
    }
}
