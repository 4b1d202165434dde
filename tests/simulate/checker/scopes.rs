//! Scopes, as the jobs see them.

use super::{Broken, Checker};
use crate::machines::Job;
use crate::registers::Tasks;
use crate::world::World;

impl Checker {
    /// I11: no job runs whose scope overlaps with this one's. Only one elsewhere that was fenced may
    /// still run: nobody here can end it.
    pub(super) fn scopes_are_free(&self, world: &World, tasks: &Tasks, job: &Job) -> Broken {
        let scope = |id: &str| tasks.get(id).map(|task| task.scope()).unwrap_or_default();
        let common = |a: &String, b: &String| {
            let below =
                |a: &str, b: &str| b == "." || format!("{a}/").starts_with(&format!("{b}/"));
            below(a, b) || below(b, a)
        };
        let machine = |job: &Job| world.processes[job.owner].machine;
        for other in world.jobs.iter().filter(|other| other.alive && other.task != job.task) {
            let fenced = tasks.get(&other.task).is_some_and(|task| task.has_end(other.n));
            let overlaps =
                scope(&job.task).iter().any(|a| scope(&other.task).iter().any(|b| common(a, b)));
            let excused = fenced && (machine(other) != machine(job) || self.forced);
            if overlaps && !excused {
                return Err(format!(
                    "I11: {}.{} starts while {}.{} runs in its scope",
                    job.task, job.n, other.task, other.n
                ));
            }
        }
        Ok(())
    }
}
