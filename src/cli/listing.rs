//! `coord runs`: the runs that are kept, the newest first, and where they are.

use std::path::Path;

use serde_json::json;

use crate::jobs::joblog::shown;
use crate::plan::units::human_duration;
use crate::queue::Queue;
use crate::queue::array::tally::Tally;
use crate::queue::tasks::{self, Phase, Task};
use crate::sys::clock::rfc3339;
use crate::sys::fs::{Fs, Kind, RealFs};
use crate::sys::host::Platform;

use super::args::Cli;
use super::{Answer, arrays, output, runs};

/// A run that is kept.
struct Kept {
    id: String,
    state: &'static str,
    tally: Tally,
    command: String,
    /// When its last register was made, milliseconds since 1970.
    changed_ms: u64,
}

/// `coord runs`.
pub fn runs(cli: &Cli) -> Answer {
    let home = runs::place_of_runs(cli)?;
    let mut kept: Vec<Kept> = RealFs
        .list(&home)
        .unwrap_or_default()
        .into_iter()
        .filter(|entry| entry.kind == Kind::Dir && !entry.name.starts_with('.'))
        .filter_map(|entry| look(&home, &entry.name))
        .collect();
    kept.sort_by(|one, other| other.changed_ms.cmp(&one.changed_ms).then(one.id.cmp(&other.id)));
    if cli.json {
        let rows: Vec<_> = kept
            .iter()
            .map(|run| {
                let Kept { id, state, tally, command, changed_ms } = run;
                let (dir, changed) = (home.join(id), rfc3339(*changed_ms));
                json!({ "id": id, "dir": dir.to_string_lossy(), "state": state, "jobs": tally,
                        "command": command, "changed": changed })
            })
            .collect();
        output::document(&json!({ "schema": "coord.runs/1", "runs": rows }));
        return Ok(None);
    }
    if cli.quiet {
        kept.iter().for_each(|run| output::line(&run.id));
        return Ok(None);
    }
    let now_ms = Platform::real().clock.wall_ms();
    let row = |run: &Kept| {
        let age = human_duration(now_ms.saturating_sub(run.changed_ms));
        let command = output::cut(&run.command, 60);
        vec![run.id.clone(), run.state.to_owned(), run.tally.words(), format!("{age} ago"), command]
    };
    output::columns(&kept.iter().map(row).collect::<Vec<_>>());
    match kept.first() {
        Some(newest) => {
            let dir = home.join(&newest.id);
            output::note(&format!("coord -C {} status|work|logs|cancel", dir.display()));
        }
        None => output::note(&format!("no runs in {}", home.display())),
    }
    Ok(None)
}

/// A run, if one is there and can be read.
fn look(home: &Path, id: &str) -> Option<Kept> {
    let queue = Queue::open(&home.join(id).join(".coord"), Platform::real()).ok()?;
    let task = tasks::look(&queue, id).ok()??;
    let array = arrays::of(&task)?;
    let changed_ns = queue.fs.stat(&task.dir.path).map_or(0, |stat| stat.mtime_ns);
    Some(Kept {
        id: id.to_owned(),
        state: state(&task),
        tally: Tally::of(&queue, &task).ok()?,
        command: match array.command.as_slice() {
            [] => "(each job has its own)".to_owned(),
            words if array.sh => words.join(" "),
            [line] => line.clone(),
            words => shown(words),
        },
        changed_ms: changed_ns / 1_000_000,
    })
}

fn state(task: &Task) -> &'static str {
    match task.phase {
        Phase::Done(_) => "done",
        Phase::Failed(_) => "failed",
        Phase::Cancelled(_) => "cancelled",
        _ => "unfinished",
    }
}
