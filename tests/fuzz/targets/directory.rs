//! A whole queue whose files have any bytes and any names (I23): every reader goes on, recovery and
//! the sweep come to an end, and none of them puts anything where nobody looks for it.
//!
//! The input is files below the queue: a line `> PATH`, then the content. What is no path below the
//! queue is passed over.

use std::cell::RefCell;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use coord::queue::board::Reader;
use coord::queue::evaluate::readiness;
use coord::queue::init::init;
use coord::queue::procs::{self, Identity, Proc};
use coord::queue::ready::Finder;
use coord::queue::record::CardKind;
use coord::queue::recover::{Death, recover};
use coord::queue::settle::settle;
use coord::queue::tasks::{self, Phase};
use coord::queue::{Queue, control, end, fsck, incoming, state, status, sweep};
use coord::sys::clock::{Clock, RealClock};
use coord::sys::fs::{Fs, RealFs, mkdir_all};
use coord::sys::host::Platform;
use coord::sys::machine;

/// The machine's clock, ahead: every file is old enough to be judged.
struct Ahead;

impl Clock for Ahead {
    fn wall_ms(&self) -> u64 {
        RealClock.wall_ms() + 2 * 3_600_000
    }
    fn mono_ms(&self) -> u64 {
        RealClock.mono_ms()
    }
    fn boot_ms(&self) -> u64 {
        RealClock.boot_ms()
    }
    fn random(&self) -> u64 {
        RealClock.random()
    }
}

/// In memory where the machine has that.
fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let near = if RealFs.stat(memory).is_ok() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(near).expect("a directory of its own")
}

/// The files of an input.
fn files(bytes: &[u8]) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    let mut taken = false;
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        if let Some(path) = line.strip_prefix(b"> ") {
            let path = String::from_utf8_lossy(path.trim_ascii_end()).into_owned();
            let path = PathBuf::from(path);
            let mut parts = path.components();
            let below = parts.all(|part| matches!(part, Component::Normal(_)));
            let depth = path.components().count();
            // What marks the directory as a queue stays, or there is nothing to look at.
            taken = below && (1..=6).contains(&depth) && path != Path::new("layout.json");
            if taken {
                files.push((path, Vec::new()));
            }
        } else if taken && let Some((_, content)) = files.last_mut() {
            content.extend_from_slice(line);
        }
    }
    files
}

fn look(queue: &Queue) {
    for id in tasks::ids(queue).expect("tasks/ is listed") {
        let Ok(Some(task)) = tasks::look(queue, &id) else { continue };
        assert!(task.names.spec || task.phase == Phase::NoSpec);
        state::row(queue, &task).expect("a task has a state");
        if let Phase::Pending(n) = task.phase {
            assert!(n > task.names.last(), "attempt {n} is pending, and claimed");
            readiness(queue, &task, n).expect("a pending task is judged");
            let _ = tasks::end_before(queue, &task, n);
        }
        for n in task.names.claims.clone() {
            let _ = tasks::claimer(queue, &task, n);
        }
        let _ = tasks::ends(queue, &task);
        let _ = tasks::passed(queue, &task);
    }
    for wid in procs::all(queue).expect("procs/ is listed") {
        procs::card(queue, &wid);
        procs::claims(queue, &wid);
    }
    if let Some(wanted) = control::wanted(queue) {
        assert!(wanted.slots().len() <= control::WORKERS_MAX);
    }
    let mut reader = Reader::load(queue);
    reader.catch_up(queue, |_| ()).expect("events are read");
    status::current(queue).expect("there is a status");
    let mut finder = Finder::new(&[], 16, 0);
    while finder.next(queue).expect("ready/ is walked").is_some() {}
}

/// What a keeper does, with a process of its own. Errors are for its log; it must come to an end.
fn keep(queue: &Queue) {
    let me = Proc::register(queue, &Identity::plain("keeper", CardKind::Monitor));
    let Ok(mut me) = me else { return };
    for wid in procs::all(queue).unwrap_or_default() {
        if wid != me.wid {
            drop(recover(queue, &mut me, &wid, Death::Gone, &mut Vec::new()));
        }
    }
    for id in tasks::ids(queue).unwrap_or_default() {
        drop(settle(queue, &mut me, &id));
        drop(end::retell(queue, &mut me, &id));
    }
    drop(incoming::take_all(queue, &mut me, &|_| false));
    drop(sweep::sweep(queue, &mut me));
    me.leave(queue);
}

fn names(queue: &Queue) -> Vec<String> {
    let mut names: Vec<String> = queue
        .list(queue.layout.root())
        .expect("the queue is listed")
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    names.sort();
    names
}

/// Puts the files into a new queue and lets everybody look at it.
pub fn directory(bytes: &[u8]) {
    thread_local! {
        static PLACE: RefCell<tempfile::TempDir> = RefCell::new(place());
    }
    // The place is made once; the queue in it is new each time.
    let home = PLACE.with_borrow(|place| place.path().to_owned());
    let inside = tempfile::tempdir_in(&home).expect("a directory of its own");
    let root = inside.path().join("q");
    let queue =
        init(&root, Platform { clock: Arc::new(Ahead), ..Platform::real() }).expect("a new queue");
    let files = files(bytes);
    let boot = &machine::place().boot;
    let of_here = |content: &[u8]| String::from_utf8_lossy(content).contains(boot.as_str());
    if files.iter().any(|(_, content)| of_here(content)) {
        // Such a card speaks of processes of this machine, and leftovers of dead ones are ended.
        return;
    }
    for (path, content) in files {
        let path = root.join(path);
        let parent = path.parent().unwrap_or(&root);
        if mkdir_all(&RealFs, parent).is_ok() {
            // A name with NUL, one that is too long, one that is a directory: not to be made.
            drop(RealFs.create(&path, &content, 0o644));
        }
    }
    look(&queue);
    fsck::check_once(&queue, true).expect("fsck looks at everything");
    let before = names(&queue);
    keep(&queue);
    look(&queue);
    fsck::check_once(&queue, true).expect("fsck looks at everything");
    let mut after = names(&queue);
    after.retain(|name| !before.contains(name));
    assert!(after.iter().all(|name| name == "status.json"), "{after:?} in the queue's directory");
    let outside: Vec<String> = queue
        .list(inside.path())
        .expect("it is listed")
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(outside, ["q"], "something lies beside the queue");
}
