//! A process of a job that hides: it is not dumpable, so that only root can read its environment, and goes on
//! writing down what it does.

use std::path::Path;
use std::time::Duration;

use crate::error::{Cannot, Error, Exit, Result};
use crate::sys::fs::{Fs, RealFs};
use crate::sys::wake::nap;

/// Between two deeds.
const PAUSE: Duration = Duration::from_millis(50);

/// Writes so many deeds of an attempt, `ID N`, one after the other, not dumpable where `hidden` says so.
///
/// # Errors
/// When the file cannot be written, such as when the ground is gone.
pub fn go_on(order: &Path, me: &str, deeds: u32, hidden: bool) -> Result<()> {
    if hidden && let Err(errno) = nix::sys::prctl::set_dumpable(false) {
        let what = format!("cannot hide: {errno}");
        return Err(Error::new(Exit::Environment, what));
    }
    for _ in 0..deeds {
        nap(PAUSE);
        let line = format!("\n{me} deed");
        RealFs.append(order, line.as_bytes()).cannot("write what it does", order)?;
    }
    Ok(())
}
