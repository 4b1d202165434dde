//! Tasks as JSON: the file is read twice, task by task, so it may have any length.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::plan::{jsonl, suggest};
use crate::queue::acceptance::Acceptance;
use crate::queue::procs::Proc;
use crate::queue::record::Spec;
use crate::queue::submit::numbered;
use crate::sys::fs::{Fs, RealFs};

use super::super::output;
use super::super::put::{cannot_read, is_known};
use super::report::Row;
use super::{Adding, Import, place_of};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 18;

/// A file that was read once, and can be added.
pub(super) struct Lines<'a> {
    file: &'a Path,
    name: String,
    /// The tasks that an earlier import has added without an id, by the identity that the file gives them.
    before: BTreeMap<String, String>,
}

impl<'a> Lines<'a> {
    /// Reads a file and refuses what is wrong in it, before anything is added.
    pub(super) fn read(import: &Import<'_>, file: &'a Path, name: &str) -> Result<Lines<'a>> {
        let mut lines = Lines { file, name: name.to_owned(), before: BTreeMap::new() };
        let mut is_listed = false;
        for line in all(file, name) {
            let jsonl::Line { line, id, mut spec } = line?;
            warn_of_unknown_keys(name, line, &spec);
            let id = id.as_deref();
            jsonl::validate(id, &spec).and_then(|()| import.can_run(&spec)).map_err(|why| {
                Error::usage(format!("{name}:{line}: {why}")).hint("nothing was added")
            })?;
            if id.is_none() && !spec.uid.is_empty() && !is_listed {
                is_listed = true;
                lines.before = numbered(import.queue)?;
            }
            let id = id.or_else(|| lines.id_before(&spec));
            if !id.is_some_and(|id| is_known(import.queue, id)) {
                import.project.complete(&mut spec).map_err(|e| place_of(name, line, e))?;
            }
        }
        Ok(lines)
    }

    fn all(&self) -> impl Iterator<Item = Result<jsonl::Line>> {
        all(self.file, &self.name)
    }

    fn id_before(&self, spec: &Spec) -> Option<&str> {
        self.before.get(&spec.uid).filter(|_| !spec.uid.is_empty()).map(String::as_str)
    }

    /// Says what would be added.
    pub(super) fn plan(&self, import: &Import<'_>, mut tell: impl FnMut(&Row)) -> Result<()> {
        for line in self.all() {
            let jsonl::Line { id, spec, .. } = line?;
            let id = id.or_else(|| self.id_before(&spec).map(str::to_owned));
            let there = id.as_ref().is_some_and(|id| is_known(import.queue, id));
            let what = super::would(there, spec.hold);
            tell(&Row { id: id.unwrap_or_default(), spec, what });
        }
        Ok(())
    }

    /// Adds everything, in the order of the file.
    pub(super) fn add(&self, adding: &mut Adding<'_>, me: &mut Proc) -> Result<()> {
        for line in self.all() {
            let jsonl::Line { line, id, spec } = line?;
            let at = |e| place_of(&self.name, line, e);
            match self.id_before(&spec).filter(|_| id.is_none()) {
                Some(before) => adding.is_there(me, before.to_owned(), spec)?,
                None => drop(adding.add(me, id.as_deref(), spec).map_err(at)?),
            }
        }
        Ok(())
    }
}

/// The tasks of a file, one by one.
fn all<'a>(file: &'a Path, name: &'a str) -> impl Iterator<Item = Result<jsonl::Line>> + 'a {
    let mut at = 0;
    jsonl::lines(name, move || {
        let bytes = RealFs.read(file, at, PIECE).map_err(|cause| cannot_read(file, cause))?;
        at += bytes.len() as u64;
        Ok(bytes)
    })
}

/// Keys that a record leaves out where they have their default.
const OPTIONAL_KEYS: [&str; 22] = [
    "id",
    "after",
    "role",
    "not_before",
    "labels",
    "needs",
    "scope",
    "merge",
    "merge_after",
    "adds_deps",
    "into",
    "wave",
    "argv",
    "sh",
    "prompt",
    "agent",
    "env",
    "cwd",
    "manual",
    "hold",
    "time_limit_s",
    "lease_s",
];

/// Unknown keys are kept for newer programs, and mean nothing to this one.
fn warn_of_unknown_keys(name: &str, line: usize, spec: &Spec) {
    let known = serde_json::to_value(Spec::new("")).unwrap_or_default();
    let known: Vec<&str> =
        known.as_object().into_iter().flat_map(|o| o.keys()).map(String::as_str).collect();
    for key in spec.more.keys() {
        let near = suggest::nearest(key, known.iter().copied().chain(OPTIONAL_KEYS));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        output::warn(&format!(
            "{name}:{line}: unknown key `{key}` is kept, and means nothing{near}"
        ));
    }
}
