//! Who may not work in a queue, in words. Whom its directory admits is told in `sys::owner`.

use std::path::Path;

use crate::error::{Error, Exit, Result};
use crate::sys::owner::{self, Owner, Part};

/// Why this process may not work in a queue; `None`: it may, or it is root, who may do anything.
pub fn refusal(dir: &Path, owner: &Owner, part: Part) -> Option<Error> {
    let (me, whose) = (owner::me(), owner.words());
    let (what, hint) = match part {
        Part::Owner | Part::Member | Part::Root => return None,
        Part::Stranger => (
            format!("{me} may not write in this queue, which is that of {whose}"),
            "work as its owner, or let a group work there: its owner gives chgrp GROUP and chmod 2775 \
             for the directory, then coord fsck --repair",
        ),
        Part::OfAnotherGroup => (
            format!(
                "what {me} makes in this queue would not have its group: it is that of {whose}"
            ),
            "its owner gives chmod g+s for the directory, then coord fsck --repair",
        ),
        Part::Sticky => (
            format!(
                "{me} could not finish what others begin in this queue, which is that of {whose}"
            ),
            "its owner gives chmod -t for the directory",
        ),
    };
    Some(Error::new(Exit::Environment, what).at(dir).hint(hint))
}

/// Whether what this process leaves in a queue that it only looks at is in nobody's way: not if it is root in
/// the queue of another, and could not become that one.
pub fn may_leave_something(dir: &Path) -> bool {
    let owner = Owner::of(dir);
    owner.map_or(true, |owner| matches!(owner.part(dir), Part::Owner | Part::Member))
}

/// That root runs no commands in the queue of somebody else.
pub fn refusal_of_root(dir: &Path, owner: &Owner) -> Error {
    let whose = owner::user_name(owner.uid);
    let what = format!("this queue is that of {whose}: root runs no commands of its tasks");
    Error::new(Exit::Environment, what).at(dir)
}

/// Refuses to run one of the programs where its user may not work, or is root in the queue of another.
pub fn must_work(dir: &Path) -> Result<()> {
    // What cannot be looked at is an error of whoever opens it.
    let Ok(owner) = Owner::of(dir) else { return Ok(()) };
    match owner.part(dir) {
        Part::Root => {
            Err(refusal_of_root(dir, &owner).hint("coord start --as-owner runs them as that user"))
        }
        part => refusal(dir, &owner, part).map_or(Ok(()), Err),
    }
}
