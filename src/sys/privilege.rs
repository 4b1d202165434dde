//! The one right of root that a worker keeps when root has it work as the owner of a queue: ending what
//! another member of the queue has left running. Without it nobody but that member could ever end it.
//!
//! It is the capability `CAP_KILL`, of the main thread alone, which does all that is done in a queue. It is
//! permitted and not in force, so no signal of this process goes further than those of the owner, but for
//! the calls made in `in_force`. Commands do not get it: it is gone when a process executes another program.

use std::io;

use nix::unistd::geteuid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities,
};

/// Gives up root by `change`, which makes this process another user's, and keeps that right.
///
/// # Errors
/// Those of `change`, or not all else that root may do can be given up.
pub fn keep_through(change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // A container may not let it be kept, or may have taken it from root: then there is nothing to keep.
    let _ = set_keep_capabilities(true);
    change()?;
    let _ = set_keep_capabilities(false);
    permit(capabilities(None)?.permitted & CapabilitySet::KILL, false)
}

/// Whether this process has kept it.
pub fn is_kept() -> bool {
    !geteuid().is_root()
        && capabilities(None).is_ok_and(|sets| sets.permitted.contains(CapabilitySet::KILL))
}

/// Does something with it.
pub fn in_force<T>(deed: impl FnOnce() -> T) -> T {
    let kept = CapabilitySet::KILL;
    // Where it does not come into force, the signal is refused.
    drop(permit(kept, true));
    let done = deed();
    drop(permit(kept, false));
    done
}

fn permit(permitted: CapabilitySet, in_force: bool) -> io::Result<()> {
    let none = CapabilitySet::empty();
    let effective = if in_force { permitted } else { none };
    Ok(set_capabilities(None, CapabilitySets { effective, permitted, inheritable: none })?)
}
