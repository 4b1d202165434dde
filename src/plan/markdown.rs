//! A checklist in Markdown, such as TASKS.md, as tasks.
//!
//! | written | means |
//! |---|---|
//! | `- [ ] W-2: title`, also `*`, `+`, `1.`, `1)` | a task; the id before the colon has a digit, or capitals only (`DOCS:`) |
//! | `- [x] …` | done already |
//! | `- [-] …` | begun, in Kiro's lists: not done yet |
//! | `- [ ]* …` | may be left out: held, with the label `optional`, and nothing waits for it |
//! | an item indented below an item | a sub-task: **the item above depends on all of its sub-tasks** |
//! | a heading `Wave 2` or `Phase 2: …` | the tasks below are of wave 2, up to a heading as high; each depends on all tasks of the wave before it in number |
//! | `(after W-1, R-2)`, `(depends on T012)` | dependencies; `#3` is the third item of this file |
//! | `@role` `!p1` `#label` `scope: dir/` `(manual)` | role, priority 1, label, scope, a person does it |
//! | `` `command` `` at the end of the line, `$ command` on a line below | the command; of several `$` lines each needs the one before |
//! | other text indented below an item | the prompt, behind the title; beside a command, notes for people |
//!
//! What stands in code fences and in `<!-- … -->` is never an item. All other text is for people. Items
//! as spec-kit, Kiro and OpenSpec write them are read as `forms` says.

mod forms;
mod head;
mod lines;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use self::forms::Form;
use self::head::{Head, head};
use self::lines::{Raw, Reader};
use super::foreign;
use super::graph::{describe, find_cycle};
use super::validate::validate;
use crate::error::{Error, Result};
use crate::queue::record::Spec;

/// A dependency on another item of the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Its place in `Checklist::items`.
    pub item: usize,
    /// Whether an attempt that succeeded is enough (`W-1@pass`).
    pub pass: bool,
}

/// One task of a checklist.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its id; where there is none, the queue gives a number.
    pub id: Option<String>,
    /// The task. `after` has only ids that are not in the file; use `Item::after` for all.
    pub spec: Spec,
    /// Whether it is ticked.
    pub done: bool,
    /// Whether it may be left out.
    pub optional: bool,
    /// Its line, from 1.
    pub line: usize,
    /// The item that it is a part of.
    pub parent: Option<usize>,
    /// The items of this file that it depends on: named ones, sub-tasks, the wave before.
    pub needs: Vec<Need>,
}

/// A file that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checklist {
    /// The tasks, in the order of the file.
    pub items: Vec<Item>,
    /// Dependencies that are not in the file, with their line: the queue must know them.
    pub unknown: Vec<(usize, String)>,
    /// What was not taken as somebody may have meant it, with its line.
    pub remarks: Vec<(usize, String)>,
}

impl Item {
    /// All dependencies as ids, once each item of the file has one. `ids` is in the order of the
    /// items; an item with `None` was done before and not submitted: nothing waits for it.
    pub fn after(&self, ids: &[Option<String>]) -> Vec<String> {
        self.after_by(|item| ids.get(item).cloned().flatten())
    }

    /// The same, with a name for each item of the file that is waited for.
    pub fn after_by(&self, name: impl Fn(usize) -> Option<String>) -> Vec<String> {
        let mut after = self.spec.after.clone();
        for need in &self.needs {
            if let Some(id) = name(need.item) {
                let entry = if need.pass { format!("{id}@pass") } else { id };
                if !after.contains(&entry) {
                    after.push(entry);
                }
            }
        }
        after
    }
}

/// An identity for each item of a file: the file, the titles of the items around it, and its own. Of
/// several that are alike, the second one and so on are counted. A changed text below an item leaves it
/// the same item.
pub fn uids(items: &[Item], file: &str) -> Vec<String> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut uids: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let above = item.parent.and_then(|parent| uids.get(parent)).map_or(file, String::as_str);
        let uid = format!("{above} / {}", item.spec.title);
        let count = seen.entry(uid.clone()).or_default();
        *count += 1;
        uids.push(if *count == 1 { uid } else { format!("{uid} ({count})") });
    }
    uids
}

/// Reads a checklist; `file` is its name in messages.
///
/// # Errors
/// With file and line: an item without a title, an id that occurs twice, a task that is not
/// possible, a code fence without an end, a dependency cycle.
pub fn parse(text: &str, file: &str) -> Result<Checklist> {
    if let Some(what) = foreign::of_markdown(text) {
        return Err(Error::usage(format!("{file}: {}", foreign::refusal(what))));
    }
    let found = Reader::read(text, file)?;
    let fail = |line: usize, what: &str, hint: &str| {
        Error::usage(format!("{file}:{line}: {what}")).hint(hint)
    };
    let mut list = Checklist::default();
    let mut heads = Vec::new();
    let mut forms = Vec::new();
    let mut by_id: HashMap<String, usize> = HashMap::new();
    for raw in found {
        let (form, name, head) = match forms::read(&raw.text) {
            Some((form, name, head)) => (form, Some(name), head),
            None => {
                let head = head(&raw.text).map_err(|(what, hint)| fail(raw.line, &what, &hint))?;
                (Form::Own, head.id.clone(), head)
            }
        };
        if let Some(id) = name
            && let Some(before) = by_id.insert(id.clone(), list.items.len())
        {
            let what = format!("id `{id}` stands at line {} too", list.items[before].line);
            return Err(fail(raw.line, &what, "give each task an id of its own, or none"));
        }
        let spec = spec_of(&raw, &head);
        if spec.title.is_empty() {
            return Err(fail(raw.line, "an item without a title", "write - [ ] W-1: title"));
        }
        validate(head.id.as_deref(), &spec)
            .map_err(|why| fail(raw.line, &why, "nothing was added"))?;
        list.items.push(Item {
            id: head.id.clone(),
            spec,
            done: raw.done,
            optional: raw.optional,
            line: raw.line,
            parent: raw.parent,
            needs: Vec::new(),
        });
        heads.push(head);
        forms.push(form);
    }
    for (at, head) in heads.iter().enumerate() {
        for entry in &head.after {
            let line = list.items[at].line;
            let (name, pass) = entry.strip_suffix("@pass").map_or((&**entry, false), |n| (n, true));
            let item = match name.strip_prefix('#') {
                Some(number) => {
                    let item = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                    let item = item.filter(|item| *item < heads.len()).ok_or_else(|| {
                        let what = format!("there is no item `{name}` in this file");
                        let hint = format!("it has {} items; of a task, name the id", heads.len());
                        fail(line, &what, &hint)
                    })?;
                    Some(item)
                }
                None => by_id.get(name).copied(),
            };
            match item {
                Some(item) => need(&mut list.items[at], item, pass),
                None => {
                    list.items[at].spec.after.push(entry.clone());
                    list.unknown.push((line, name.to_owned()));
                }
            }
        }
    }
    let waves = take_waves(text, &mut list, &by_id);
    add_structure(&mut list.items);
    forms::add_order(&mut list.items, &forms, waves);
    refuse_cycle(&list.items, file)?;
    Ok(list)
}

/// Takes over the waves of a dependency graph; whether there are any.
fn take_waves(text: &str, list: &mut Checklist, by_name: &HashMap<String, usize>) -> bool {
    let waves = match forms::waves(text) {
        None => return false,
        Some(Ok(waves)) => waves,
        Some(Err(line)) => {
            let what = "the dependency graph is not one of waves: the order of the file counts";
            list.remarks.push((line, what.to_owned()));
            return false;
        }
    };
    for (wave, names) in (1..).zip(&waves) {
        for name in names {
            match by_name.get(name) {
                Some(&at) => list.items[at].spec.wave = Some(wave),
                None => {
                    list.remarks.push((0, format!("the dependency graph has `{name}`, no item")))
                }
            }
        }
    }
    // What is in no wave, such as a checkpoint, is for what stands before it.
    for at in 0..list.items.len() {
        if list.items[at].spec.wave.is_none() && list.items[at].parent.is_none() {
            (0..at).for_each(|on| need_part(&mut list.items, at, on));
        }
    }
    true
}

/// A dependency on an item, unless that may be left out: nobody waits for it.
fn need_part(items: &mut [Item], at: usize, on: usize) {
    if !items[on].optional {
        need(&mut items[at], on, false);
    }
}

fn need(item: &mut Item, on: usize, pass: bool) {
    if !item.needs.iter().any(|need| need.item == on && need.pass == pass) {
        item.needs.push(Need { item: on, pass });
    }
}

/// Dependencies that follow from where an item stands: on its sub-tasks, and on the wave before.
fn add_structure(items: &mut [Item]) {
    let mut waves: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for at in 0..items.len() {
        if let Some(parent) = items[at].parent {
            need_part(items, parent, at);
        }
        if let Some(wave) = items[at].spec.wave {
            waves.entry(wave).or_default().push(at);
        }
    }
    let waves: Vec<&Vec<usize>> = waves.values().collect();
    for pair in waves.windows(2) {
        for &at in pair[1] {
            for &on in pair[0] {
                need_part(items, at, on);
            }
        }
    }
}

fn refuse_cycle(items: &[Item], file: &str) -> Result<()> {
    // One walk from a root above all items: a walk for each would go the same ways again.
    let cycle = find_cycle("", |at| match at.parse::<usize>() {
        Err(_) => (0..items.len()).map(|at| at.to_string()).collect(),
        Ok(at) => items[at].needs.iter().map(|need| need.item.to_string()).collect(),
    });
    let Some(cycle) = cycle else { return Ok(()) };
    let at: Vec<usize> = cycle.iter().filter_map(|at| at.parse().ok()).collect();
    let name = |at: &usize| items[*at].id.clone().unwrap_or_else(|| format!("#{}", at + 1));
    let names: Vec<String> = at.iter().map(name).collect();
    let line = at.first().map_or(0, |at| items[*at].line);
    Err(Error::usage(format!("{file}:{line}: {}", describe(&names))).hint(
        "take one `(after …)` away; an item also waits for its sub-tasks and for the wave before",
    ))
}

fn spec_of(raw: &Raw, head: &Head) -> Spec {
    let mut spec = Spec::new(&head.title);
    spec.role.clone_from(&head.role);
    spec.priority = head.priority.unwrap_or(spec.priority);
    spec.labels.clone_from(&head.labels);
    spec.scope.clone_from(&head.scope);
    spec.manual = head.manual;
    spec.wave = raw.wave;
    if raw.optional {
        spec.hold = true;
        spec.labels.push("optional".to_owned());
    }
    if raw.commands.is_empty() {
        spec.sh.clone_from(&head.code);
    } else {
        // What is in backticks is then a word of the title.
        spec.title.clone_from(&head.whole);
        spec.sh = raw.commands.join(" && ");
    }
    let text = dedent(&raw.body);
    if spec.sh.is_empty() && !text.is_empty() {
        // The text alone would not say what is to be done.
        spec.prompt = format!("{}\n\n{text}", spec.title);
    } else if !text.is_empty() {
        spec.more.insert("notes".to_owned(), text.into());
    }
    spec
}

/// The lines without the indentation that all of them have, and without empty ones at the ends.
fn dedent(lines: &[&str]) -> String {
    let blanks = |line: &&str| line.len() - line.trim_start().len();
    let least = lines.iter().filter(|l| !l.trim().is_empty()).map(blanks).min().unwrap_or(0);
    let lines = lines.iter().map(|line| line.get(least..).unwrap_or("").trim_end());
    lines.collect::<Vec<_>>().join("\n").trim_matches('\n').to_owned()
}
