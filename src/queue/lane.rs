//! `merge/LANE` and `merging/LANE`: what was done and waits to be merged, and whose turn it is to do
//! that.
//!
//! A lane is a task that is never over: `merge/LANE/` has a spec.json and the registers of its *turns*,
//! n.claim and n.end, made and recovered as those of any attempt. So one process at a time merges into a
//! branch, its death is seen, and the next one goes on. A turn is ready as soon as something waits.
//!
//! What waits is named by a hint, `merging/LANE/T.n`. The truth is the task's phase: attempt n is done,
//! the task wants to be merged, and n.merge is missing. That register says how the merge ended; what
//! follows from it is settled like all else. What was merged and what not is decided in git, by
//! `git::fence`; a register only says so afterwards (`run::merge`).
//!
//! Steps of entering a lane, by `settle` of a task in that phase:
//! 1. make the lane where it is missing: stage its spec as `procs/W/run/_lane.LANE`, mkdir, link it;
//! 2. link `merging/LANE/T.n`;
//! 3. link `waiters/D/T` for each D whose merge has to come first, or which it makes way for
//!    (`learned`), and look again (R6);
//! 4. settle the lane: its next turn becomes ready, if something may be merged now.
//!
//! Steps of a decision:
//! 1. `_settle.T`; stage the register as `procs/W/run/_merge.T.n`;
//! 2. link it to `tasks/T/n.merge`: **the merge of attempt n is decided**;
//! 3. event, settle T, drop the hint and the intent.

use std::collections::{BTreeSet, HashMap};

use crate::error::{Cannot, Result};
use crate::plan::merging::{Waiting, order};
use crate::step;
use crate::sys::clock::parse_rfc3339;

use super::Queue;
use super::durable;
use super::evaluate::{Readiness, dependency, phase_for};
use super::events::{self, Event};
use super::ids::{Key, lane_id, lane_name};
use super::learned::{self, Ahead, Learned, Way};
use super::procs::Proc;
use super::record::{self, End, Spec, Stage, StageVerdict};
use super::register::publish;
use super::settle::{link_hint, settle};
use super::tasks::{self, Phase, StageKind, Task};

/// The role of those who merge. Every worker has it, besides its own ones.
pub const ROLE: &str = "merger";

/// The field of an end that says: it can only go on when a person has done something.
pub const PERSON: &str = "person";

/// The field that says what, as a command.
pub const REMEDY: &str = "remedy";

/// The field that says since when.
pub const SINCE: &str = "since";

/// The control file that keeps lanes from their turns.
pub const PAUSE: &str = "merge.pause";

/// The lane that a task is merged in.
pub fn of(spec: &Spec) -> String {
    lane_id(&spec.into)
}

/// All lanes, by id.
pub fn ids(queue: &Queue) -> Result<Vec<String>> {
    let names = queue.list(&queue.layout.lanes())?;
    let ids = names.into_iter().map(|entry| format!("merge:{}", entry.name));
    let mut ids: Vec<String> = ids.filter(|id| lane_name(id).is_some()).collect();
    ids.sort();
    Ok(ids)
}

/// What a lane is, as a submission: the same whoever makes it.
fn spec_of(queue: &Queue, me: &Proc, lane: &str, into: &str) -> Spec {
    let title = match into {
        "" => "merges into the branch that coord.toml names".to_owned(),
        into => format!("merges into {into}"),
    };
    Spec {
        uid: lane.to_owned(),
        role: ROLE.to_owned(),
        priority: 0,
        into: into.to_owned(),
        by: me.wid.clone(),
        at: queue.now(),
        ..Spec::new(&title)
    }
}

/// Makes a lane where it is missing.
fn ensure(queue: &Queue, me: &mut Proc, lane: &str, into: &str) -> Result<()> {
    let dir = queue.layout.task(lane);
    if queue.fs.stat(&dir.join("spec.json")).is_ok() {
        return Ok(());
    }
    let staged = me.run(&format!("_lane.{}", lane_name(lane).unwrap_or_default()));
    queue.stage(&staged, &record::to_bytes(&spec_of(queue, me, lane, into)), "write a lane")?;
    queue.make_dirs(&dir).cannot("make a lane", &dir)?;
    let open = queue.fs.open_dir(&dir).cannot("open a lane", &dir)?;
    step!("lane.link");
    // Whoever was faster has made the same.
    publish(queue, &staged, &open, "spec.json", |_| true)?;
    durable::task(queue, &open)?;
    events::append(queue, me, Event::of("submit", &Key::new(lane, 0)));
    queue.discard(&staged)
}

/// Puts a task whose attempt n waits for its merge into its lane; the lane's id. The caller holds an
/// intent that names the task, and settles the lane.
pub fn enter(queue: &Queue, me: &mut Proc, task: &Task, n: u32) -> Result<String> {
    let Ok(spec) = &task.spec else { return Ok(lane_id("")) };
    let lane = of(spec);
    ensure(queue, me, &lane, &spec.into)?;
    let key = Key::new(&task.id, n);
    step!("merging.link");
    if link_hint(queue, task, &queue.layout.merging_in(&lane).join(key.to_string()))? {
        events::append(queue, me, Event::of("merging", &key));
    }
    wait_for_others(queue, task, n)?;
    Ok(lane)
}

/// Registers with everything that has to be merged before, and that it makes way for, then looks again.
fn wait_for_others(queue: &Queue, task: &Task, n: u32) -> Result<()> {
    let Ok(spec) = &task.spec else { return Ok(()) };
    let mut registered = BTreeSet::new();
    loop {
        let mut missing = blockers(queue, &task.id, spec)?;
        let (_, ways) = makes_way(queue, task, n, &learned::ahead(queue)?)?;
        missing.extend(ways.into_iter().map(|way| way.key.task));
        let new: Vec<String> = missing.into_iter().filter(|on| !registered.contains(on)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for on in new {
            step!("merging.wait");
            link_hint(queue, task, &queue.layout.waiters(&on).join(&task.id))?;
            registered.insert(on);
        }
    }
}

/// What a task has learned, and whom attempt n makes way for.
fn makes_way(queue: &Queue, task: &Task, n: u32, ahead: &[Ahead]) -> Result<(Learned, Vec<Way>)> {
    let learned = learned::of(queue, task)?;
    if ahead.is_empty() {
        return Ok((learned, Vec::new()));
    }
    let changed = tasks::end_of(queue, task, n)?.result.changed;
    let ways = learned::makes_way(task, &learned, &changed, ahead);
    Ok((learned, ways))
}

/// Whether a task that waits for its merge wants to hear of `on`.
pub fn waits_for(queue: &Queue, task: &Task, on: &str) -> Result<bool> {
    let Ok(spec) = &task.spec else { return Ok(false) };
    let Phase::Stage(n, StageKind::Merge) = task.phase else { return Ok(false) };
    if may_wait_for(queue, spec, on)? {
        return Ok(true);
    }
    learned::meets(queue, &tasks::end_of(queue, task, n)?.result.changed, on)
}

fn may_wait_for(queue: &Queue, spec: &Spec, on: &str) -> Result<bool> {
    let listed = spec.merge_after.iter().any(|id| id == on)
        || spec.after.iter().any(|entry| dependency(entry) == (on, true));
    if listed || !spec.adds_deps {
        return Ok(listed);
    }
    let other = tasks::look(queue, on)?.and_then(|other| other.spec.ok());
    Ok(other.is_some_and(|other| other.wave == spec.wave && !other.adds_deps))
}

/// The tasks whose merge has to come first: those of `merge_after`, those that it started from before
/// they were merged (`D@pass`), and for one that adds dependencies all others of its wave.
pub fn blockers(queue: &Queue, id: &str, spec: &Spec) -> Result<Vec<String>> {
    let early = spec.after.iter().map(|entry| dependency(entry)).filter(|(_, pass)| *pass);
    let listed = spec.merge_after.iter().map(String::as_str).chain(early.map(|(on, _)| on));
    let mut missing = Vec::new();
    for on in listed.filter(|on| *on != id) {
        if !phase_for(queue, on, false)?.is_over() {
            missing.push(on.to_owned());
        }
    }
    if spec.adds_deps {
        for on in tasks::ids(queue)?.into_iter().filter(|on| on != id) {
            let Some(other) = tasks::look(queue, &on)? else { continue };
            let beside = other.spec.as_ref().is_ok_and(|o| o.wave == spec.wave && !o.adds_deps);
            // Who comes after this one cannot be waited for.
            if beside && !other.phase.is_over() && !comes_after(queue, &on, id)? {
                missing.push(on);
            }
        }
    }
    Ok(missing)
}

/// Whether `id` waits, perhaps by way of others, for `on`.
fn comes_after(queue: &Queue, id: &str, on: &str) -> Result<bool> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![id.to_owned()];
    while let Some(id) = todo.pop() {
        let Some(task) = tasks::look(queue, &id)? else { continue };
        let Ok(spec) = task.spec else { continue };
        for entry in spec.waits_for() {
            let next = dependency(&entry).0;
            if next == on {
                return Ok(true);
            }
            if seen.insert(next.to_owned()) {
                todo.push(next.to_owned());
            }
        }
    }
    Ok(false)
}

/// An attempt that waits for its merge.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The attempt.
    pub key: Key,
    /// Its task.
    pub spec: Spec,
    /// How it ended: its branch and commits.
    pub end: End,
    /// What has to be merged before it.
    pub blockers: Vec<String>,
    /// Attempts that it makes way for.
    pub makes_way: Vec<Way>,
    /// What the task has learned.
    pub learned: Learned,
    /// How often the task came back since a person last permitted an attempt.
    pub bounces: u32,
    /// Whether a person has cancelled it while it waited: it comes back, and is ended then.
    pub cancelled: bool,
}

impl Entry {
    /// Whether nothing has to come first.
    pub fn is_free(&self) -> bool {
        self.blockers.is_empty() && self.makes_way.is_empty()
    }
}

/// Everything that waits in a lane, in the order in which it is to be merged. Hints that mean nothing
/// any more go.
pub fn entries(queue: &Queue, lane: &str) -> Result<Vec<Entry>> {
    let dir = queue.layout.merging_in(lane);
    let ahead = learned::ahead(queue)?;
    let mut found = Vec::new();
    for hint in queue.list(&dir)? {
        let Some(key) = Key::parse(&hint.name) else { continue };
        match entry_with(queue, &key, &ahead)? {
            Some(entry) if of(&entry.spec) == lane => found.push(entry),
            _ => {
                drop_hint(queue, lane, &key)?;
            }
        }
    }
    let waiting = found.iter().map(|e| Waiting {
        id: e.key.task.clone(),
        priority: e.spec.priority,
        since_ms: parse_rfc3339(&e.end.ended).unwrap_or(0),
        bounced_ms: parse_rfc3339(&e.learned.since),
        after: e.spec.waits_for().iter().map(|on| dependency(on).0.to_owned()).collect(),
    });
    let ordered = order(waiting.collect(), queue.clock.wall_ms());
    let places: HashMap<&str, usize> =
        ordered.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    found.sort_by_key(|e| places.get(e.key.task.as_str()).copied());
    Ok(found)
}

fn drop_hint(queue: &Queue, lane: &str, key: &Key) -> Result<()> {
    step!("merging.unlink");
    queue.discard(&queue.layout.merging_in(lane).join(key.to_string()))
}

/// The attempt, if it waits for its merge.
pub fn entry(queue: &Queue, key: &Key) -> Result<Option<Entry>> {
    entry_with(queue, key, &learned::ahead(queue)?)
}

fn entry_with(queue: &Queue, key: &Key, ahead: &[Ahead]) -> Result<Option<Entry>> {
    let Some(task) = tasks::look(queue, &key.task)? else { return Ok(None) };
    let (Phase::Stage(n, StageKind::Merge), Ok(spec)) = (&task.phase, &task.spec) else {
        return Ok(None);
    };
    if *n != key.n {
        return Ok(None);
    }
    let spec = spec.clone();
    let end = tasks::end_of(queue, &task, key.n)?;
    let blockers = blockers(queue, &key.task, &spec)?;
    let (learned, makes_way) = makes_way(queue, &task, key.n, ahead)?;
    let bounces = bounces(queue, &task)?;
    let cancelled = task.names.cancels.contains(&key.n);
    let key = key.clone();
    Ok(Some(Entry { key, spec, end, blockers, makes_way, learned, bounces, cancelled }))
}

/// How often a stage has sent the task back since it was last reopened: who gives it another chance
/// means more than one more try.
fn bounces(queue: &Queue, task: &Task) -> Result<u32> {
    let mut count = 0;
    let reopened = task.names.reopens.last().copied().unwrap_or(0);
    for (kind, numbers) in [("review", &task.names.reviews), ("merge", &task.names.merges)] {
        for n in numbers.iter().filter(|n| **n > reopened) {
            let stage = tasks::read::<Stage>(queue, &task.dir, &format!("{n}.{kind}"))?;
            count += u32::from(!stage.is_ok_and(|s| s.verdict == StageVerdict::Pass));
        }
    }
    Ok(count)
}

/// What speaks against the next turn of a lane; `None`: nothing but perhaps the time.
pub fn readiness(queue: &Queue, lane: &Task) -> Result<Option<Readiness>> {
    let nothing = Some(Readiness::Blocked(Vec::new()));
    if is_paused(queue) {
        return Ok(nothing);
    }
    // Somebody has asked for it, also if nothing waits: a turn has more to do than to merge.
    if lane.names.reopens.contains(&lane.names.last()) {
        return Ok(None);
    }
    let dir = queue.layout.merging_in(&lane.id);
    let ahead = learned::ahead(queue)?;
    for hint in queue.list(&dir)? {
        let Some(key) = Key::parse(&hint.name) else { continue };
        if entry_with(queue, &key, &ahead)?.is_some_and(|e| e.is_free() || e.cancelled) {
            return Ok(None);
        }
    }
    Ok(nothing)
}

/// What a person has to do before a lane, or a task, can go on: the end that says so. It looks again
/// by itself now and then all the same.
pub fn waits_for_person(queue: &Queue, id: &str) -> Result<Option<End>> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(None) };
    let asked = |end: &End| end.more.get(PERSON).is_some_and(|person| person == true);
    let pending = matches!(task.phase, Phase::Pending(_));
    Ok(task.last_end.filter(|end| pending && asked(end)))
}

/// Whether people want nothing to be merged now.
pub fn is_paused(queue: &Queue) -> bool {
    queue.fs.stat(&queue.layout.control().join(PAUSE)).is_ok()
}

/// Everything that waits in a lane registers with what it waits for: somebody may have added to a wave.
pub fn register_all(queue: &Queue, lane: &str) -> Result<()> {
    for hint in queue.list(&queue.layout.merging_in(lane))? {
        let Some(key) = Key::parse(&hint.name) else { continue };
        let Some(task) = tasks::look(queue, &key.task)? else { continue };
        if let Phase::Stage(n, _) = task.phase {
            wait_for_others(queue, &task, n)?;
        }
    }
    Ok(())
}

/// Publishes how the merge of an attempt ended, and does what follows. False: it was decided otherwise,
/// or the attempt does not wait for it.
pub fn decide(queue: &Queue, me: &mut Proc, key: &Key, mut stage: Stage) -> Result<bool> {
    let Some(task) = tasks::look(queue, &key.task)? else { return Ok(false) };
    if task.phase != Phase::Stage(key.n, StageKind::Merge) {
        return Ok(false);
    }
    stage.by.clone_from(&me.wid);
    stage.at = queue.now();
    let intent = me.settle_intent(queue, &key.task)?;
    let bytes = record::to_bytes(&stage.fitting());
    let staged = me.run(&format!("_merge.{key}"));
    queue.stage(&staged, &bytes, "write how a merge ended")?;
    step!("merge.link");
    let held = publish(queue, &staged, &task.dir, &format!("{}.merge", key.n), |b| b == bytes)?;
    durable::task(queue, &task.dir)?;
    queue.discard(&staged)?;
    if let Some(task) = tasks::look(queue, &key.task)? {
        tell(queue, me, &task, key)?;
        let lane = task.spec.as_ref().map(of).ok();
        settle(queue, me, &key.task)?;
        if let Some(lane) = lane {
            drop_hint(queue, &lane, key)?;
        }
    }
    queue.discard(&intent)?;
    Ok(held.is_ours())
}

/// Tells of the register that decided a merge.
pub fn tell(queue: &Queue, me: &mut Proc, task: &Task, key: &Key) -> Result<()> {
    let Some(stage) = tasks::merge_of(queue, task, key.n)? else { return Ok(()) };
    let mut event = Event::of("merge", key).why(&stage.why);
    let passed = stage.verdict == StageVerdict::Pass;
    event.verdict = if passed { "pass" } else { "bounce" }.to_owned();
    event.retry = Some(stage.retry && !passed);
    events::append(queue, me, event);
    Ok(())
}
