//! Every name of the queue directory: is it one that the layout knows, and of the right kind?

use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use super::super::array;
use super::super::ids::{Key, is_role, is_task_id, lane_name, shard};
use super::super::layout::{DIRECTORIES, LAYOUT, LayoutRecord, due_of};
use super::super::ready::{is_bucket, priority_of};
use super::super::scopes::version_of;
use super::super::tasks::Names;
use super::super::{record, sweep};
use super::{Severity, Survey, procs};

/// A temporary file that is younger may be somebody's who is writing it.
const YOUNG_MS: u64 = 60_000;

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A regular file that belongs there.
    File,
    /// A directory that belongs there.
    Dir,
    /// Belongs there, and what is below is not ours to judge.
    Any,
    /// A directory that belongs there; what is below is not ours to judge.
    Closed,
    /// A file that was made in order to be renamed.
    Temporary,
    /// A rejected submission.
    Rejected,
    /// What is being deleted.
    Trash,
    /// None of ours.
    Foreign,
}

/// Walks the queue directory. `walkdir` instead of `queue.fs`, because it also shows names that are
/// not UTF-8, and does not follow links.
pub(super) fn check(survey: &mut Survey<'_>) {
    layout(survey);
    let root = survey.queue.layout.root().to_owned();
    let mut walk = WalkDir::new(&root).min_depth(1).follow_links(false).into_iter();
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            // Gone since it was listed: live processes do that.
            Err(e) if e.io_error().is_some_and(crate::sys::fs::is_absent) => continue,
            Err(e) => {
                let path = e.path().unwrap_or(&root).to_owned();
                let hint = "check owner and mode";
                survey.add(Severity::Error, "format", &path, format!("cannot be read: {e}"), hint);
                continue;
            }
        };
        let relative = entry.path().strip_prefix(&root).unwrap_or(entry.path());
        let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
        let class = parts.as_deref().map_or(Class::Foreign, class);
        if judge(survey, &entry, class) && entry.file_type().is_dir() {
            walk.skip_current_dir();
        }
    }
}

/// `layout.json`, the directories and their bells.
fn layout(survey: &mut Survey<'_>) {
    let queue = survey.queue;
    let path = queue.layout.layout_record();
    let read = queue.fs.read(&path, 0, record::RECORD_MAX).map_err(|e| e.to_string());
    let parsed = read.and_then(|b| record::parse::<LayoutRecord>(&b).map_err(|e| e.to_string()));
    let wrong = match parsed {
        Err(why) => Some(format!("cannot be read: {why}")),
        Ok(l) if l.layout != LAYOUT || l.min_writer > LAYOUT || l.shards != 0 => {
            Some(format!("says layout {}, this program writes {LAYOUT}", l.layout))
        }
        Ok(_) => None,
    };
    if let Some(what) = wrong {
        let hint = "restore it from a backup or from another queue of the same version";
        survey.add(Severity::Error, "layout", &path, what, hint);
    }
    let directories = DIRECTORIES.iter().map(|name| queue.layout.at(name));
    for path in directories.chain(sweep::bells(queue)) {
        if !queue.fs.exists(&path) {
            let hint = "coord fsck --repair makes it";
            survey.add(Severity::Leftover, "layout", &path, "it is missing", hint);
        }
    }
}

/// Names what is wrong with one name. True: do not look below it.
fn judge(survey: &mut Survey<'_>, entry: &DirEntry, class: Class) -> bool {
    let (path, kind) = (entry.path(), entry.file_type());
    let harmless = "coord does not use it: move it elsewhere if it is yours";
    match class {
        Class::Any => return true,
        Class::Closed if kind.is_dir() => return true,
        Class::File if kind.is_file() => {}
        Class::Dir if kind.is_dir() => {}
        Class::Temporary => temporary(survey, path),
        Class::Trash if entry.depth() == 2 => {}
        Class::Trash => {
            let hint = "the next sweep deletes it (coord fsck --repair)";
            survey.add(Severity::Leftover, "trash", path, "a task that is being deleted", hint);
            return true;
        }
        Class::Rejected => {
            let hint = "mend it and mv it back to incoming/, or remove it";
            survey.add(Severity::Note, "rejected", path, "a rejected submission", hint);
            return true;
        }
        Class::Foreign => {
            let what = format!("a foreign {}", what_is(kind));
            survey.add(Severity::Leftover, "foreign", path, what, harmless);
            return true;
        }
        Class::File | Class::Dir | Class::Closed => {
            let wanted = if class == Class::File { "a regular file" } else { "a directory" };
            let what = format!("a {} where {wanted} belongs", what_is(kind));
            let hint = "nothing reads it as it is: move it elsewhere";
            survey.add(Severity::Error, "kind", path, what, hint);
            return true;
        }
    }
    false
}

fn what_is(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match kind {
        k if k.is_symlink() => "symbolic link",
        k if k.is_dir() => "directory",
        k if k.is_file() => "file",
        k if k.is_fifo() => "fifo",
        k if k.is_socket() => "socket",
        _ => "device",
    }
}

fn temporary(survey: &mut Survey<'_>, path: &Path) {
    let Ok(stat) = survey.queue.fs.stat(path) else { return };
    let age_ms = survey.queue.clock.wall_ms().saturating_sub(stat.mtime_ns / 1_000_000);
    let severity = if age_ms < YOUNG_MS { Severity::Note } else { Severity::Leftover };
    let what = "left by somebody who died while writing it";
    survey.add(severity, "tmp", path, what, "harmless: it may be removed");
}

/// What a path below the root is, by its parts.
pub(super) fn class(parts: &[&str]) -> Class {
    if is_temporary(parts) {
        return Class::Temporary;
    }
    // Dotfiles are people's: .gitignore, .DS_Store, .nfs….
    if parts.last().is_some_and(|name| name.starts_with('.')) {
        return if parts[0] == "procs" && parts.len() > 2 { Class::File } else { Class::Any };
    }
    match parts {
        ["layout.json" | "README" | "status.json"] => Class::File,
        [name] if DIRECTORIES.contains(name) => Class::Dir,
        // Queues of `coord run`, each of its own.
        ["runs"] | ["runs", _] => Class::Dir,
        ["runs", ..] => Class::Any,
        ["control", name] => control(name),
        ["control", "boot", name] if name.contains('.') => Class::File,
        ["control", "dismissed", name] if name.contains(':') => Class::File,
        ["incoming", "rejected"] => Class::Dir,
        ["incoming", "rejected", ..] => Class::Rejected,
        ["incoming" | "log", ..] => Class::Any,
        ["stats", "checkpoint" | "next-id"] => Class::File,
        ["reserve"] => Class::Dir,
        ["reserve", name] if name.parse::<u64>().is_ok() => Class::File,
        ["events", name] if *name == "bell" || name.ends_with(".jsonl") => Class::File,
        ["tasks", id] if is_task_id(id) => Class::Dir,
        ["tasks", _, "jobs"] => Class::Dir,
        ["tasks", _, "jobs", rest @ ..] => jobs(rest),
        ["tasks", _, name] => register(name),
        ["archive" | "buried"] => Class::Dir,
        ["archive", rest @ ..] => archived(rest),
        ["buried", "done" | "dead"] => Class::Dir,
        ["buried", "done" | "dead", xx] if is_hex(xx, 2) => Class::Dir,
        ["buried", "done" | "dead", xx, id] if is_task_id(id) && shard(id) == *xx => Class::File,
        ["waiters", id] if is_task_id(id) => Class::Dir,
        ["waiters", _, id] if is_task_id(id) => Class::File,
        ["blocked", name] if Key::parse(name).is_some() => Class::File,
        ["ready" | "delayed" | "procs" | "scopes", "bell"] => Class::File,
        ["ready", rest @ ..] => ready(rest),
        ["delayed", due] if due_of(due).is_some() => Class::Dir,
        ["delayed", _, name] if Key::parse(name).is_some() => Class::File,
        ["merge" | "merging", lane] if is_lane(lane) => Class::Dir,
        ["merge", _, "behind.json"] => Class::File,
        ["merge", _, name] => register(name),
        ["merging", _, name] if Key::parse(name).is_some() => Class::File,
        ["scopes", name] if version_of(name).is_some() => Class::File,
        ["procs", _] => Class::Dir,
        ["procs", _, rest @ ..] => process(rest),
        _ => Class::Foreign,
    }
}

fn is_temporary(parts: &[&str]) -> bool {
    let name = parts.last().copied().unwrap_or_default();
    match parts {
        ["procs", building] => building.starts_with(".new-"),
        ["tasks" | "ready" | "waiters", ..] => false,
        [_] | [_, _] | ["procs", _, _] => {
            name.starts_with(".probe.") || name.starts_with('.') && name.ends_with(".tmp")
        }
        _ => false,
    }
}

fn jobs(rest: &[&str]) -> Class {
    match rest {
        ["closed" | "bell" | "progress" | "shown"] => Class::File,
        [name] if name.starts_with("told.") => Class::File,
        [name] if array::is_part_of_closing(name) => Class::File,
        [array::live::LIVE] => Class::Dir,
        [array::live::LIVE, name] if array::live::Live::parse(name).is_some() => Class::File,
        [name] if array::halting::parse(name).is_some() => Class::File,
        [name] if name.starts_with("joined.") => Class::File,
        [name] if is_counted_for(name) => Class::Dir,
        [dir, name] if is_counted_for(dir) => {
            let digits = name.strip_prefix("of.").unwrap_or(name);
            match digits.bytes().all(|b| b.is_ascii_digit()) {
                true => Class::File,
                false => Class::Foreign,
            }
        }
        [name] if array::start_of(name).is_some() => Class::Dir,
        [name] => {
            let list = name.strip_suffix(".in").and_then(array::start_of).is_some();
            let told = [".log", ".out", ".err"].iter().any(|end| name.ends_with(end));
            match list || told || array::parse_over(name).is_some() {
                true => Class::File,
                false => Class::Foreign,
            }
        }
        [start, name] if array::start_of(start).is_some() => {
            match array::chunk::is_register(name) {
                true => Class::File,
                false => Class::Foreign,
            }
        }
        _ => Class::Foreign,
    }
}

/// `halt.N.ends`.
fn is_counted_for(name: &str) -> bool {
    name.strip_suffix(".ends").and_then(array::halting::parse).is_some()
}

fn control(name: &str) -> Class {
    match name {
        "boot" | "dismissed" => Class::Dir,
        "pause" | "merge.pause" | "drain" | "stop" | "workers.json" | "coordinator.lock" => {
            Class::File
        }
        _ if name.starts_with("drain.") => Class::File,
        _ => Class::Foreign,
    }
}

fn register(name: &str) -> Class {
    if !Names::of(std::iter::once(name)).foreign.is_empty() {
        return Class::Foreign;
    }
    if name.ends_with(".out") { Class::Closed } else { Class::File }
}

fn archived(rest: &[&str]) -> Class {
    match rest {
        ["trash", ..] => Class::Trash,
        ["done" | "dead"] => Class::Dir,
        ["done" | "dead", xx] if is_hex(xx, 2) => Class::Dir,
        ["done" | "dead", xx, id] if is_task_id(id) && shard(id) == *xx => Class::Dir,
        ["done" | "dead", _, _, name] => register(name),
        _ => Class::Foreign,
    }
}

fn ready(rest: &[&str]) -> Class {
    match rest {
        [role] if is_role(role) => Class::Dir,
        [_, "bell"] => Class::File,
        [_, level] if priority_of(level).is_some() => Class::Dir,
        [_, _, bucket] if is_bucket(bucket) => Class::Dir,
        [_, _, _, name] if Key::parse(name).is_some() => Class::File,
        _ => Class::Foreign,
    }
}

fn process(rest: &[&str]) -> Class {
    match rest {
        ["run"] => Class::Dir,
        [name] if super::super::procs::is_own(name) => Class::File,
        // A taken file may be anything.
        ["run", name] if name.starts_with("_in.") => Class::Any,
        ["run", name] if name.starts_with('_') || procs::task_of(name).is_some() => Class::File,
        _ => Class::Foreign,
    }
}

fn is_lane(name: &str) -> bool {
    lane_name(&format!("merge:{name}")).is_some()
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
