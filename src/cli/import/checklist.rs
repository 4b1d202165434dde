//! Tasks as a checklist that people keep: held as a whole, since its items refer to each other by their
//! places.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{Error, Result};
use crate::plan::{jsonl, markdown};
use crate::queue::acceptance::Acceptance;
use crate::queue::procs::Proc;
use crate::queue::record::Spec;
use crate::queue::submit::numbered;

use super::super::output;
use super::super::put::{is_known, read_text};
use super::report::Row;
use super::{Adding, Import, place_of};

/// A list that was read, with what is known of its items.
pub(super) struct Checklist {
    name: String,
    items: Vec<markdown::Item>,
    /// The ids of what the file names, and of what it does not name and an earlier import has added. None
    /// of what is ticked: it needs no doing, and nothing has to wait for it.
    ids: Vec<Option<String>>,
}

impl Checklist {
    /// Reads a file and refuses what is wrong in it, before anything is added.
    pub(super) fn read(import: &Import<'_>, file: &Path, name: &str) -> Result<Checklist> {
        let (queue, config) = (import.queue, import.config);
        let text = read_text(file)?;
        let list = markdown::parse(&text, name)?;
        for (line, on) in &list.unknown {
            if !is_known(queue, on) {
                output::warn(&format!("{name}:{line}: there is no task {on} yet"));
            }
        }
        for (line, remark) in &list.remarks {
            output::warn(&format!("{name}:{line}: {remark}"));
        }
        let place = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let uids = markdown::uids(&list.items, &place.to_string_lossy());
        let mut items = list.items;
        for (item, uid) in items.iter_mut().zip(uids) {
            let spec = &mut item.spec;
            // A checklist says nothing of merging, nor how often a task is tried; JSON does.
            spec.merge = config.merge.enabled && !spec.manual;
            spec.max_attempts = config.retry.attempts;
            // What has no id is known by its place in the file when the file is imported again.
            if item.id.is_none() {
                spec.uid = uid;
            }
            jsonl::validate(item.id.as_deref(), spec)
                .and_then(|()| if item.done { Ok(()) } else { import.can_run(spec) })
                .map_err(|why| {
                    Error::usage(format!("{name}:{}: {why}", item.line)).hint("nothing was added")
                })?;
        }
        let nameless = items.iter().any(|item| item.id.is_none() && !item.spec.uid.is_empty());
        let before = if nameless { numbered(queue)? } else { BTreeMap::new() };
        let id = |item: &markdown::Item| {
            let known = || before.get(&item.spec.uid).cloned();
            if item.done { None } else { item.id.clone().or_else(known) }
        };
        let ids: Vec<Option<String>> = items.iter().map(id).collect();
        let there = |id: &Option<String>| id.as_ref().is_some_and(|id| is_known(queue, id));
        for (item, _) in items.iter().zip(&ids).filter(|(item, id)| !item.done && !there(id)) {
            let at = |e| place_of(name, item.line, e);
            import.project.complete(&mut item.spec.clone()).map_err(at)?;
        }
        Ok(Checklist { name: name.to_owned(), items, ids })
    }

    /// Says what would be added.
    pub(super) fn plan(&self, import: &Import<'_>, mut tell: impl FnMut(&Row)) {
        for (item, id) in self.items.iter().zip(&self.ids) {
            let after = item.after_by(|at| match &self.ids[at] {
                _ if self.items[at].done => None,
                Some(id) => Some(id.clone()),
                None => Some(format!("#{}", at + 1)),
            });
            let spec = Spec { after, ..item.spec.clone() };
            let there = id.as_ref().is_some_and(|id| is_known(import.queue, id));
            let what = if item.done { "done before" } else { super::would(there, spec.hold) };
            let id = item.id.clone().or_else(|| id.clone()).unwrap_or_default();
            tell(&Row { id, spec, what });
        }
    }

    /// Submits the items in an order in which everybody's dependencies have their ids already: again and
    /// again through the file, as far as it goes.
    pub(super) fn add(mut self, adding: &mut Adding<'_>, me: &mut Proc) -> Result<()> {
        let count = self.items.len();
        // How many items without an id each one waits for, and who waits for each.
        let mut open = vec![0usize; count];
        let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (i, item) in self.items.iter().enumerate() {
            let is_open = |need: &usize| self.ids[*need].is_none() && !self.items[*need].done;
            for need in item.needs.iter().map(|need| need.item).filter(is_open) {
                open[i] += 1;
                waiting[need].push(i);
            }
        }
        let mut left = 0;
        for item in self.items.iter().filter(|item| item.done) {
            let id = item.id.clone().unwrap_or_default();
            adding.tell(&Row { id, spec: item.spec.clone(), what: "done before" });
        }
        let mut pass: BTreeSet<usize> = BTreeSet::new();
        for (i, _) in self.items.iter().enumerate().filter(|(_, item)| !item.done) {
            left += 1;
            if open[i] == 0 {
                pass.insert(i);
            }
        }
        let mut next_pass = BTreeSet::new();
        loop {
            let Some(i) = pass.pop_first() else {
                if next_pass.is_empty() {
                    break;
                }
                pass = std::mem::take(&mut next_pass);
                continue;
            };
            left -= 1;
            self.add_one(adding, me, i)?;
            for &waiter in &waiting[i] {
                open[waiter] -= 1;
                if open[waiter] == 0 {
                    if waiter > i { &mut pass } else { &mut next_pass }.insert(waiter);
                }
            }
        }
        if left > 0 {
            let what = format!("{}: its tasks wait for each other", self.name);
            return Err(Error::usage(what));
        }
        Ok(())
    }

    fn add_one(&mut self, adding: &mut Adding<'_>, me: &mut Proc, i: usize) -> Result<()> {
        let item = &self.items[i];
        let spec = Spec { after: item.after(&self.ids), ..item.spec.clone() };
        if item.id.is_none()
            && let Some(id) = &self.ids[i]
        {
            return adding.is_there(me, id.clone(), spec);
        }
        let at = |e| place_of(&self.name, item.line, e);
        self.ids[i] = Some(adding.add(me, item.id.as_deref(), spec).map_err(at)?);
        Ok(())
    }
}
