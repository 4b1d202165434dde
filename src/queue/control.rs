//! `control/`: what people ask of the programs, as files that `touch` and `rm` can make.
//!
//! `pause`: no new claims. `drain`: finish what runs, then leave. `stop`: hand back what runs and
//! leave. `drain.NAME`: the same for one worker. `workers.json`: how many workers the coordinator
//! keeps. All are advisory: a claim in flight may still pass, at most one a worker.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};
use crate::sys::fs::is_absent;

use super::Queue;
use super::record;

/// What the control files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// No new claims.
    pub pause: bool,
    /// Leave after what runs.
    pub drain: bool,
    /// Leave now, hand back what runs.
    pub stop: bool,
}

/// Looks at the control files, for the worker called `name`.
pub fn asked(queue: &Queue, name: &str) -> Asked {
    let there = |file: &str| queue.fs.stat(&queue.layout.control().join(file)).is_ok();
    Asked {
        pause: there("pause"),
        drain: there("drain") || (!name.is_empty() && there(&format!("drain.{name}"))),
        stop: there("stop"),
    }
}

/// Makes a control file. That of another user, made by hand, may refuse to be touched: it is there.
pub fn ask(queue: &Queue, file: &str) -> Result<()> {
    let path = queue.layout.control().join(file);
    match queue.fs.touch(&path) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied && queue.fs.stat(&path).is_ok() => Ok(()),
        touched => touched.cannot("write a control file", &path),
    }
}

/// Removes a control file; false if it was not there.
pub fn withdraw(queue: &Queue, file: &str) -> Result<bool> {
    let path = queue.layout.control().join(file);
    match queue.fs.unlink(&path) {
        Ok(()) => Ok(true),
        Err(e) if is_absent(&e) => Ok(false),
        Err(e) => Err(e).cannot("remove a control file", &path),
    }
}

/// The most workers of one queue, whatever the file says: what coord.toml allows, too.
pub const WORKERS_MAX: usize = 10_000;

/// `control/workers.json`: how many workers are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// Workers that serve every role.
    pub general: u32,
    /// Workers that serve one role.
    pub roles: BTreeMap<String, u32>,
    /// Labels that all of them offer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Leave when nothing can become ready without a person.
    pub until_empty: bool,
}

impl Wanted {
    /// The workers' names with the role that each serves; at most `WORKERS_MAX`.
    pub fn slots(&self) -> Vec<(String, Option<String>)> {
        let general = (1..=self.general).map(|i| (format!("w{i}"), None));
        let roles = self.roles.iter().flat_map(|(role, count)| {
            (1..=*count).map(move |i| (format!("{role}{i}"), Some(role.clone())))
        });
        general.chain(roles).take(WORKERS_MAX).collect()
    }
}

/// Reads what is wanted; nothing where the file is missing or broken.
pub fn wanted(queue: &Queue) -> Option<Wanted> {
    let path = queue.layout.control().join("workers.json");
    record::parse(&queue.fs.read(&path, 0, record::RECORD_MAX).ok()?).ok()
}

/// Says what is wanted.
pub fn want(queue: &Queue, wanted: &Wanted) -> Result<()> {
    queue.replace(&queue.layout.control().join("workers.json"), &record::to_bytes(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_does_not_start_four_billion_workers() {
        let roles = BTreeMap::from([("tester".to_owned(), u32::MAX)]);
        for general in [1, u32::MAX] {
            let wanted = Wanted { general, roles: roles.clone(), ..Wanted::default() };
            assert_eq!(wanted.slots().len(), WORKERS_MAX);
        }
        assert!(Wanted::default().slots().is_empty());
    }
}
