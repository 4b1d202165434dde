//! What `coord import` says of each task: at once for programs, in one table for people.

use serde_json::json;

use crate::queue::record::Spec;

use super::super::args::Cli;
use super::super::output;

/// A task, and what became of it.
pub(super) struct Row {
    /// Empty where the queue gives a number.
    pub(super) id: String,
    pub(super) spec: Spec,
    pub(super) what: &'static str,
}

/// Tells of tasks as they come; no more than a table is held.
pub(super) enum Report {
    Json(output::Items),
    Ids,
    /// What would be added.
    Plan(output::Table),
    Added(output::Table),
}

impl Report {
    pub(super) fn new(cli: &Cli, dry_run: bool) -> Report {
        if cli.json {
            return Report::Json(output::Items::new("coord.import/1", "tasks"));
        }
        match (cli.quiet, dry_run) {
            (true, _) => Report::Ids,
            (false, false) => Report::Added(output::Table::default()),
            (false, true) => {
                let mut table = output::Table::default();
                table.row(&["WHAT", "ID", "WAVE", "AFTER", "ROLE", "TITLE", "COMMAND"]);
                Report::Plan(table)
            }
        }
    }

    pub(super) fn row(&mut self, Row { id, spec, what }: &Row) {
        match self {
            Report::Json(items) => items.push(&json!({
                "id": id, "title": spec.title, "what": what, "after": spec.after,
                "wave": spec.wave, "role": spec.role(), "command": command(spec),
                "held": spec.hold, "manual": spec.manual,
            })),
            Report::Ids => output::line(id),
            Report::Added(table) => table.row(&[what, id, &output::cut(&spec.title, 70)]),
            Report::Plan(table) => {
                let id = if id.is_empty() { "(next number)" } else { id };
                let wave = spec.wave.map_or("-".to_owned(), |wave| wave.to_string());
                let after =
                    if spec.after.is_empty() { "-".to_owned() } else { spec.after.join(",") };
                table.row(&[
                    what,
                    id,
                    &wave,
                    &output::cut(&after, 30),
                    spec.role(),
                    &output::cut(&spec.title, 50),
                    &output::cut(&command(spec), 50),
                ]);
            }
        }
    }

    /// After the last task, also if something went wrong with the next one.
    pub(super) fn end(self) {
        match self {
            Report::Json(items) => items.end(),
            Report::Ids => {}
            Report::Plan(table) | Report::Added(table) => table.print(),
        }
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
