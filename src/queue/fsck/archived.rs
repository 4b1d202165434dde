//! `archive/` and `buried/`: what lies there is over, and no id is taken twice (I21).

use crate::error::Result;

use super::super::archive;
use super::super::layout::Lot;
use super::super::tasks::{self, Phase};
use super::{Severity, Survey};

/// Looks at everything that is archived.
pub(super) fn check(survey: &mut Survey<'_>) -> Result<()> {
    let queue = survey.queue;
    let kept = "keep both directories and look who made them: no program does this";
    for lot in Lot::ALL {
        for (id, dir) in archive::all(queue, lot)? {
            let Some(task) = tasks::look_at(queue, &id, &dir)? else { continue };
            if survey.tasks.get(&id).is_some_and(|facts| facts.phase != Phase::NoSpec) {
                let what = format!("{id} is in tasks/ and in the archive");
                survey.add(Severity::Error, "I21", &dir, what, kept);
            }
            let right = match lot {
                Lot::Done => matches!(task.phase, Phase::Done(_)),
                Lot::Dead => matches!(task.phase, Phase::Failed(_) | Phase::Cancelled(_)),
            };
            if !task.names.spec {
                let hint = "coord gc removes it where it is empty";
                let what = "an archived directory without a spec.json";
                survey.add(Severity::Leftover, "archive", &dir, what, hint);
            } else if !right {
                let what = format!(
                    "{id} is archived, and its registers do not say that it is {}",
                    lot.word()
                );
                survey.add(Severity::Error, "I21", &dir, what, kept);
            } else if queue.fs.stat(&queue.layout.buried(lot, &id)).is_ok() {
                let hint = format!("coord gc --delete {id}");
                let what = "it has a tombstone, and was not deleted yet";
                survey.add(Severity::Note, "archive", &dir, what, hint);
            }
        }
        for (id, path) in archive::tombs(queue, lot)? {
            if survey.tasks.get(&id).is_some_and(|facts| facts.phase != Phase::NoSpec) {
                let what = format!("{id} is in tasks/, and has a tombstone");
                survey.add(Severity::Error, "I21", &path, what, kept);
            }
        }
    }
    Ok(())
}
