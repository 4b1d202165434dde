//! What must be on a disk after a power loss, and what must become of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use coord::config::Config;
use coord::git::repository::Found;
use coord::program::worker::{Next, Options, Worker};
use coord::queue::durable::Durability;
use coord::queue::fsck::{Finding, Severity, check};
use coord::queue::record::{self, CardKind};
use coord::queue::tasks::{self, Phase};
use coord::queue::{Queue, evaluate};
use coord::run::site::Site;
use coord::sys::wake::Wake;

use crate::disk::Disk;
use crate::machine::{Deaf, Mark, Process, ROOT, World};

/// Looks of the worker after the boot; it needs about twenty.
const LOOKS: usize = 3000;
/// In mode `full` an event is durable when it is so old and its process has looked since.
const EVENT_MS: u64 = 1000;

/// The content of a file of the queue.
pub fn file(disk: &Disk, path: &str) -> Option<Arc<Vec<u8>>> {
    disk.content(disk.find(&Path::new(ROOT).join(path)).ok()?).ok()
}

fn json(disk: &Disk, path: &str) -> Option<Value> {
    serde_json::from_slice(&file(disk, path)?).ok()
}

fn there(disk: &Disk, path: &str) -> bool {
    disk.find(&Path::new(ROOT).join(path)).is_ok()
}

/// The ends because of which a task may start now: task, attempt, verdict.
pub fn relied_on(disk: &Disk, id: &str) -> Vec<(String, u32, String)> {
    let spec = json(disk, &format!("tasks/{id}/spec.json")).unwrap_or_default();
    let after = spec["after"].as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for on in after.iter().filter_map(Value::as_str).map(|entry| evaluate::dependency(entry).0) {
        let Some(n) = (1..50).rev().find(|n| there(disk, &format!("tasks/{on}/{n}.end"))) else {
            continue;
        };
        let end = json(disk, &format!("tasks/{on}/{n}.end")).unwrap_or_default();
        found.push((on.to_owned(), n, end["verdict"].as_str().unwrap_or_default().to_owned()));
    }
    found
}

/// What the disk itself must hold, before anybody recovers anything.
pub fn holds(disk: &Disk, mode: Durability, marks: &[Mark]) -> Result<(), String> {
    if mode == Durability::Process {
        return Ok(());
    }
    let mut looked: BTreeMap<i32, u64> = BTreeMap::new();
    for mark in marks {
        if let Mark::Looked(pid, at_ms) = mark {
            looked.insert(*pid, *at_ms);
        }
    }
    for mark in marks {
        let lost = match mark {
            Mark::Made => json(disk, "layout.json").is_none() || !there(disk, "tasks"),
            Mark::Submitted(id, uid) => {
                json(disk, &format!("tasks/{id}/spec.json")).is_none_or(|s| s["uid"] != **uid)
            }
            Mark::Dropped(text) => !is_somewhere(disk, text),
            Mark::Held(id, n) => {
                json(disk, &format!("tasks/{id}/{n}.claim")).is_none_or(|c| c["kind"] != "hold")
            }
            Mark::Cancelled(id) => {
                !(1..50).any(|n| there(disk, &format!("tasks/{id}/{n}.cancel")))
                    && !(1..50).any(|n| {
                        json(disk, &format!("tasks/{id}/{n}.end"))
                            .is_some_and(|e| e["verdict"] == "cancel")
                    })
            }
            Mark::Ran(id, n) => {
                json(disk, &format!("tasks/{id}/spec.json")).is_none()
                    || (mode == Durability::Full
                        && json(disk, &format!("tasks/{id}/{n}.claim")).is_none())
            }
            Mark::Relied(id, n, verdict) => is_end_lost(disk, id, *n, verdict),
            Mark::Looked(..) => false,
            Mark::Told(event, at_ms, pid) => {
                let register = format!("tasks/{}/{}", event.id, event.n);
                let lost = match event.k.as_str() {
                    "end" => is_end_lost(disk, &event.id, event.n, &event.verdict),
                    "cancel" => !there(disk, &format!("{register}.cancel")),
                    "reopen" => json(disk, &format!("{register}.reopen")).is_none(),
                    "late" => json(disk, &format!("{register}.late")).is_none(),
                    _ => !event.id.is_empty() && !there(disk, &format!("tasks/{}", event.id)),
                };
                let old = looked.get(pid).is_some_and(|looked| *looked >= at_ms + EVENT_MS);
                lost || (mode == Durability::Full && old && !is_line_there(disk, &event.e))
            }
        };
        if lost {
            return Err(format!("lost: {mark:?}"));
        }
    }
    Ok(())
}

fn is_end_lost(disk: &Disk, id: &str, n: u32, verdict: &str) -> bool {
    json(disk, &format!("tasks/{id}/{n}.end")).is_none_or(|end| end["verdict"] != *verdict)
}

fn is_line_there(disk: &Disk, e: &str) -> bool {
    let wanted = format!("{{\"e\":\"{e}\",");
    let dir = Path::new(ROOT).join("events");
    let mut files = disk.walk(&dir).into_iter().filter_map(|(_, ino)| disk.content(ino).ok());
    files.any(|bytes| bytes.split(|&b| b == b'\n').any(|l| l.starts_with(wanted.as_bytes())))
}

/// Whether a submission's text is where somebody will find it.
fn is_somewhere(disk: &Disk, text: &str) -> bool {
    let places = ["incoming", "procs", "tasks"].map(|name| Path::new(ROOT).join(name));
    let mut files = places.iter().flat_map(|place| disk.walk(place));
    files.any(|(_, ino)| {
        let bytes = disk.content(ino).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// Boots, lets one worker do everything that is left, and looks at the result.
pub fn recovers(
    disk: Disk,
    mode: Durability,
    marks: &[Mark],
    now_ms: u64,
    seed: u64,
) -> Result<(), String> {
    // Two hours later: what is left half made is old.
    let world = World::new(disk, "boot-b", now_ms + 7_200_000, seed ^ 0xb007);
    let process = world.process();
    let queue = match Queue::open(Path::new(ROOT), process.platform()) {
        Ok(queue) => queue,
        Err(_) if mode != Durability::Process && !marks.iter().any(|m| matches!(m, Mark::Made)) => {
            return Ok(());
        }
        Err(e) => return Err(format!("the queue does not open: {e}")),
    };
    if queue.durability != mode {
        return Err(format!("the queue's mode is {:?}", queue.durability));
    }
    let survived: Vec<String> = tasks::ids(&queue)
        .map_err(|e| e.to_string())?
        .into_iter()
        .filter(|id| tasks::look(&queue, id).is_ok_and(|t| t.is_some_and(|t| t.spec.is_ok())))
        .collect();
    work(&world, &process, &queue)?;
    let ran: Vec<(String, u32)> = world
        .state()
        .marks
        .iter()
        .filter_map(|(_, mark)| match mark {
            Mark::Ran(id, n) => Some((id.clone(), *n)),
            _ => None,
        })
        .collect();
    finished(&queue, mode, &survived)?;
    once(&ran)?;
    if mode > Durability::Process {
        kept(&queue, mode, marks, &ran)?;
    }
    process.dies();
    let findings = check(&queue, true).map_err(|e| format!("fsck: {e}"))?;
    match findings.iter().find(|f| f.counts(true) && !is_allowed(&queue, mode, f)) {
        Some(found) => Err(format!("fsck: {found:?}")),
        None => Ok(()),
    }
}

/// The site of a process.
pub fn site(queue: &Queue, config: &Arc<Config>) -> Site {
    let root = Path::new(ROOT).parent().unwrap_or(Path::new("/")).to_owned();
    Site { queue: queue.clone(), config: config.clone(), root, repo: Found::Nothing }
}

fn work(world: &World, process: &Process, queue: &Queue) -> Result<(), String> {
    let config = Arc::new(Config::default());
    let mut waiter = Deaf::default();
    let options = Options { name: "after".to_owned(), until_empty: true, ..Options::default() };
    // As the programs do at their start.
    coord::queue::sweep::restore_directories(queue).map_err(|e| e.to_string())?;
    let worker = Worker::new(&site(queue, &config), options, &mut waiter);
    let mut worker = worker.map_err(|e| format!("cannot register: {e}"))?;
    let mut wakes = vec![Wake::Rescan];
    for _ in 0..LOOKS {
        let ended: Vec<_> = world
            .state()
            .ended
            .extract_if(.., |(parent, ..)| *parent == process.pid)
            .map(|(_, pid, exit)| (pid, exit))
            .collect();
        match worker.tick(&mut waiter, &wakes, &ended) {
            Ok(Next::Leave(_)) => return Ok(()),
            Ok(Next::Wait(until_ms)) if world.state().ended.is_empty() => {
                world.pass(world.booted_ms + until_ms.min(until_ms));
            }
            Ok(Next::Wait(_)) => {}
            Err(e) => return Err(format!("the worker fails: {e} {:?} {:?}", e.cause, e.at)),
        }
        wakes = vec![Wake::Bell(queue.layout.ready_bell())];
    }
    let disk = world.fs.disk();
    let left = disk.walk(&Path::new(ROOT).join("procs")).into_iter().map(|(path, _)| path);
    Err(format!("the worker does not come to an end: {:#?}", left.collect::<Vec<_>>()))
}

/// Everything that can end has ended.
fn finished(queue: &Queue, mode: Durability, survived: &[String]) -> Result<(), String> {
    for id in survived {
        let task = tasks::look(queue, id).ok().flatten();
        let Some(task) = task else { return Err(format!("{id} is gone")) };
        let stays = match &task.phase {
            phase if phase.is_over() => true,
            Phase::Claimed(n) => tasks::claimer(queue, &task, *n)
                .expect("a disk in memory")
                .is_some_and(|card| matches!(card.kind, CardKind::Hold | CardKind::Human)),
            Phase::Pending(n) => match evaluate::readiness(queue, &task, *n) {
                Ok(evaluate::Readiness::Held | evaluate::Readiness::Manual) => true,
                Ok(evaluate::Readiness::Blocked(on)) => on.iter().all(|b| is_stuck(queue, mode, b)),
                _ => false,
            },
            _ => false,
        };
        if !stays {
            return Err(format!("{id} is left as {:?}", task.phase));
        }
    }
    Ok(())
}

/// Whether it is right to wait for this: dead, held, or lost where that may be.
fn is_stuck(queue: &Queue, mode: Durability, blocker: &evaluate::Blocker) -> bool {
    match &blocker.because {
        evaluate::Because::Dead(_) => true,
        // Not acknowledged, or `holds` would have missed it.
        evaluate::Because::Unknown => true,
        evaluate::Because::Unfinished(Phase::Corrupt(_)) => mode == Durability::Process,
        evaluate::Because::Unfinished(_) => {
            finished(queue, mode, std::slice::from_ref(&blocker.on)).is_ok()
        }
    }
}

/// After the boot nothing runs twice under one number.
fn once(ran: &[(String, u32)]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match ran.iter().find(|key| !seen.insert(*key)) {
        Some((id, n)) => Err(format!("{id}@{n} ran twice after the boot")),
        None => Ok(()),
    }
}

/// What was told before the power went stays so afterwards.
fn kept(
    queue: &Queue,
    mode: Durability,
    marks: &[Mark],
    ran: &[(String, u32)],
) -> Result<(), String> {
    let mut ended: BTreeMap<&str, (u32, bool)> = BTreeMap::new();
    let mut cancelled: BTreeSet<&str> = BTreeSet::new();
    let mut reopened: BTreeSet<&str> = BTreeSet::new();
    let mut held: BTreeMap<&str, u32> = BTreeMap::new();
    for mark in marks {
        match mark {
            Mark::Told(event, ..) if event.k == "end" => {
                let last = ended.entry(&event.id).or_default();
                *last = (last.0.max(event.n), last.1 || event.verdict == "done");
                held.remove(event.id.as_str());
            }
            Mark::Told(event, ..) if event.k == "reopen" => drop(reopened.insert(&event.id)),
            Mark::Cancelled(id) => drop(cancelled.insert(id)),
            Mark::Held(id, n) => drop(held.insert(id, *n)),
            Mark::Submitted(id, _) if tasks::look(queue, id).ok().flatten().is_none() => {
                return Err(format!("{id} was acknowledged and is gone"));
            }
            Mark::Dropped(text) => dropped_once(queue, text)?,
            _ => {}
        }
    }
    for (id, n) in ran {
        let (last, done) = ended.get(id.as_str()).copied().unwrap_or_default();
        if *n <= last || done {
            return Err(format!("{id}@{n} runs although the end of {id}@{last} was told"));
        }
        if cancelled.contains(id.as_str()) && !reopened.contains(id.as_str()) {
            return Err(format!("{id}@{n} runs although its cancellation was acknowledged"));
        }
        if held.get(id.as_str()).is_some_and(|n| !is_released(queue, id, *n)) {
            return Err(format!("{id}@{n} runs although it is held"));
        }
        let same = |mark: &Mark| matches!(mark, Mark::Ran(i, m) if i == id && m == n);
        if mode == Durability::Full && marks.iter().any(same) {
            return Err(format!("{id}@{n} was given out before the power loss and again after"));
        }
    }
    Ok(())
}

/// A release that nobody had been told of yet is one, too.
fn is_released(queue: &Queue, id: &str, n: u32) -> bool {
    let task = tasks::look(queue, id).ok().flatten();
    task.is_some_and(|task| {
        tasks::end_of(queue, &task, n).expect("a disk in memory").why == "released"
    })
}

/// A file of incoming/ became one task.
fn dropped_once(queue: &Queue, title: &str) -> Result<(), String> {
    let (mut count, mut found) = (0, Vec::new());
    for id in tasks::ids(queue).map_err(|e| e.to_string())? {
        let bytes = queue.fs.read(&queue.layout.task(&id).join("spec.json"), 0, record::RECORD_MAX);
        let spec = record::parse::<record::Spec>(&bytes.unwrap_or_default());
        let Ok(spec) = spec else { continue };
        if spec.title == title {
            count += 1;
            found.push((id, spec.uid, spec.at));
        }
    }
    if count == 1 { Ok(()) } else { Err(format!("{title} is {count} tasks: {found:#?}")) }
}

/// Whether the register belongs to a task that can be read.
fn is_task(queue: &Queue, register: &Path) -> bool {
    let spec = register.with_file_name("spec.json");
    let bytes = queue.fs.read(&spec, 0, record::RECORD_MAX).unwrap_or_default();
    record::parse::<record::Spec>(&bytes).is_ok()
}

/// What queue-layout.md lets a power loss leave.
fn is_allowed(queue: &Queue, mode: Durability, finding: &Finding) -> bool {
    let path = finding.path.to_string_lossy();
    match (mode, finding.invariant) {
        // A line that is torn, or zeros.
        (_, "torn") => true,
        (_, "tmp") => finding.severity == Severity::Leftover,
        // Registers may be gone, and what was told of them is not.
        (Durability::Process, "format" | "I2" | "I3" | "I4" | "I16" | "I19" | "stale") => true,
        // What cannot be read has no line: a task, or whose claim it is.
        (Durability::Process, "I15") => path.ends_with(".claim") || !is_task(queue, &finding.path),
        (Durability::Accept, "format") => path.ends_with(".claim"),
        _ => false,
    }
}
