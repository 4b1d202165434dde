//! The queue is not where a program has opened it: somebody moved or removed it, or mounted something
//! there. Whoever finds that finishes what it is at, through the descriptor that it holds, and leaves.

use crate::error::Error;
use crate::queue::Queue;
use crate::queue::procs::Proc;

/// Why this program must leave, if it must; then it has left. In a queue that was removed there is nothing
/// to leave, and nothing is made.
pub fn left(queue: &Queue, me: &mut Proc) -> Option<Error> {
    let why = queue.must_be_in_place().err()?;
    if !queue.is_gone() {
        me.leave(queue);
    }
    Some(why)
}

/// What went wrong, or if the queue is not in its place any more, that: all else follows from it.
pub fn or_else(queue: &Queue, error: Error) -> Error {
    queue.must_be_in_place().err().unwrap_or(error)
}
