//! What is decided about a submission at the moment when it is accepted, by the project around the
//! queue: a queue knows nothing of configurations and repositories.

use crate::error::Result;

use super::Queue;
use super::record::Spec;
use super::tasks;

/// What a project says of a task before it is accepted.
pub trait Acceptance: Send + Sync {
    /// Writes down what the submission leaves to the project, or refuses it.
    ///
    /// # Errors
    /// Why the task cannot be accepted, and what helps.
    fn complete(&self, spec: &mut Spec) -> Result<()>;
}

/// Completes a submission. Of a task that is there already nothing is asked again: by now the answer
/// may be another one, and it would be taken for another task.
pub fn complete(queue: &Queue, id: Option<&str>, spec: &mut Spec) -> Result<()> {
    let Some(acceptance) = &queue.acceptance else { return Ok(()) };
    if let Some(id) = id.filter(|_| spec.merge && spec.into.is_empty())
        && let Some(there) = tasks::look(queue, id)?.and_then(|task| task.spec.ok())
    {
        let same = Spec { into: there.into.clone(), ..spec.clone() };
        if there.same_meaning(&same) {
            spec.into = there.into;
            return Ok(());
        }
    }
    acceptance.complete(spec)
}
