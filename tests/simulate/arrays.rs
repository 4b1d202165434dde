//! The invariants of arrays, from the names and bytes on the disk alone.
//!
//! At the call: a try is claimed once and only if the one before permits it, and never above a done one; it
//! ends once, as done only if its job succeeded, and as expired only when nothing of it is left; a hint
//! that a chunk is over is true; the task ends when every job of the closed list is over, and counts them
//! right. By the jobs: no try runs twice, no two of one job at once on a machine, none after its end. At
//! the end of a run: every job of a list that is over is done exactly once or has failed for good, and
//! nothing is claimed.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::checker::{Broken, Checker};
use crate::disk::{Disk, Ino};
use crate::halting;
use crate::platform::{Call, Op};
use crate::world::{ROOT, World};

/// An array on the disk.
#[derive(Default)]
pub struct Array {
    /// How many jobs each list has, by its first.
    lists: BTreeMap<u64, u64>,
    pub closed: Option<u64>,
    claims: BTreeMap<(u64, u32), Value>,
    pub ends: BTreeMap<(u64, u32), Value>,
    rounds: u64,
}

/// What became of a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
    Failed,
}

pub fn value(disk: &Disk, ino: Ino) -> Value {
    disk.content(ino).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
}

/// `12.3.claim` → (12, 3, "claim").
fn register(name: &str) -> Option<(u64, u32, &str)> {
    let mut parts = name.split('.');
    let (job, n) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let kind = parts.next()?;
    (["claim", "end"].contains(&kind) && parts.next().is_none()).then_some((job, n, kind))
}

impl Array {
    pub fn read(disk: &Disk, id: &str) -> Array {
        let mut array = Array::default();
        let task = Path::new(ROOT).join("tasks").join(id);
        let names = |path: &Path| disk.find(path).and_then(|ino| disk.names(ino).cloned());
        for name in names(&task).unwrap_or_default().keys() {
            array.rounds += u64::from(name.ends_with(".reopen"));
        }
        for (name, ino) in names(&task.join("jobs")).unwrap_or_default() {
            if name == "closed" {
                array.closed = value(disk, ino)["jobs"].as_u64();
            } else if let Some(start) = name.strip_suffix(".in").and_then(|s| s.parse().ok()) {
                let lines = disk.content(ino).unwrap_or_default();
                let jobs = lines.iter().filter(|b| **b == b'\n').count() as u64;
                array.lists.insert(start, jobs);
            } else if let Ok(registers) = disk.names(ino) {
                for (name, ino) in registers {
                    match register(name) {
                        Some((job, n, "claim")) => {
                            drop(array.claims.insert((job, n), value(disk, *ino)))
                        }
                        Some((job, n, _)) => drop(array.ends.insert((job, n), value(disk, *ino))),
                        None => {}
                    }
                }
            }
        }
        array
    }

    fn submitted(&self) -> u64 {
        self.lists.values().sum()
    }

    fn tries(&self, job: u64) -> u32 {
        self.claims.keys().filter(|(of, _)| *of == job).map(|(_, n)| *n).max().unwrap_or(0)
    }

    fn round_of(end: &Value) -> u64 {
        end["round"].as_u64().unwrap_or(0)
    }

    fn state(&self, job: u64, round: u64) -> State {
        match self.ends.get(&(job, self.tries(job))) {
            Some(end) if end["verdict"] == "done" => State::Done,
            Some(end) if end["retry"] == false && Array::round_of(end) >= round => State::Failed,
            _ => State::Open,
        }
    }

    /// Jobs of a chunk that are open, and those that have failed.
    fn count(&self, start: u64, round: u64) -> (u64, u64) {
        let jobs = self.lists.get(&start).copied().unwrap_or(0);
        let of = |state| {
            let is = |job: &u64| self.state(*job, round) == state;
            (start..start + jobs).filter(is).count() as u64
        };
        (of(State::Open), of(State::Failed))
    }

    /// The same of all chunks.
    fn count_all(&self, round: u64) -> (u64, u64) {
        let all = self.lists.keys().map(|start| self.count(*start, round));
        all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

impl Checker {
    /// A change below `tasks/T/jobs`.
    pub fn in_array(
        &mut self,
        world: &World,
        disk: &Disk,
        me: usize,
        op: &Op,
        id: &str,
        rest: &[&str],
    ) -> Broken {
        if let (Call::Touch | Call::Create, [dir, name]) = (op.call, rest)
            && halting::counted_for(dir).is_some()
            && name.starts_with("of.")
        {
            return Ok(());
        }
        let is_register = match rest {
            [name] => {
                *name == "closed"
                    || name.ends_with(".in")
                    || name.starts_with("joined.")
                    || halting::number(name).is_some()
            }
            [dir, _] if halting::counted_for(dir).is_some() => true,
            [_, name] => register(name).is_some(),
            _ => false,
        };
        match (op.call, rest) {
            (Call::Link, _) if is_register => {}
            (Call::Touch | Call::Create, [name]) if name.ends_with(".over") => {
                return hint_is_true(disk, id, name);
            }
            (Call::Mkdir, [_]) => return Ok(()),
            (Call::Touch | Call::Create | Call::Append, [name])
                if !is_register && !name.ends_with(".in") =>
            {
                return Ok(());
            }
            _ => return Err(format!("I22: {op} in an array")),
        }
        let path = format!("tasks/{id}/jobs/{}", rest.join("/"));
        let ino = disk.find(&Path::new(ROOT).join(&path)).map_err(|e| e.to_string())?;
        let content = disk.content(ino).map_err(|e| e.to_string())?;
        if self.registers.insert(path.clone(), (ino, content)).is_some() {
            return Err(format!("I1: {path} was published twice"));
        }
        if let [name] = rest
            && let Some(number) = halting::number(name)
        {
            return self.halts.linked(disk, id, number);
        }
        if let [dir, name] = rest
            && let Some(number) = halting::counted_for(dir)
        {
            return self.halts.counted(disk, id, number, name);
        }
        let [_, name] = rest else { return list_follows(disk, id) };
        let Some((job, n, kind)) = register(name) else { return Ok(()) };
        let array = Array::read(disk, id);
        if kind == "claim" {
            claimed_rightly(&array, id, job, n)?;
            let wid = array.claims[&(job, n)]["wid"].as_str().unwrap_or_default();
            return self.halts.claimed(disk, id, wid);
        }
        if !array.claims.contains_key(&(job, n)) {
            return Err(format!("I3: {id}/{job}.{n} ended without a claim"));
        }
        let end = array.ends.get(&(job, n)).cloned().unwrap_or_default();
        if self.forced {
            return Ok(());
        }
        self.ended_rightly(world, disk, me, &format!("{id}/{job}"), n, &end)
    }
}

/// The lists follow each other without a gap.
fn list_follows(disk: &Disk, id: &str) -> Broken {
    let mut next = 1;
    for (start, jobs) in Array::read(disk, id).lists {
        if start != next || jobs == 0 {
            return Err(format!("A1: {id}: a list begins at {start}, not at {next}"));
        }
        next = start + jobs;
    }
    Ok(())
}

fn claimed_rightly(array: &Array, id: &str, job: u64, n: u32) -> Broken {
    if !array.lists.iter().any(|(start, jobs)| (*start..start + jobs).contains(&job)) {
        return Err(format!("A1: {id}/{job}.{n} was claimed, and is in no list"));
    }
    let done = array.ends.iter().find(|((of, _), end)| *of == job && end["verdict"] == "done");
    if let Some(((_, k), _)) = done {
        return Err(format!("I4: {id}/{job}.{n} was claimed above the done try {k}"));
    }
    let before = array.ends.get(&(job, n - 1));
    let permits = |end: &Value| end["retry"] == true || Array::round_of(end) < array.rounds;
    if n > 1 && !before.is_some_and(permits) {
        return Err(format!("I2: {id}/{job}.{n} was claimed, and nothing permits it"));
    }
    Ok(())
}

fn hint_is_true(disk: &Disk, id: &str, name: &str) -> Broken {
    let parts: Vec<&str> = name.split('.').collect();
    let number = |at: usize| -> Option<u64> {
        parts.get(at)?.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()
    };
    let (start, jobs, round, failed) = (number(0), number(1), number(2), number(3));
    let (Some(start), Some(jobs), Some(round), Some(failed)) = (start, jobs, round, failed) else {
        return Err(format!("A2: {id}: what does {name} mean"));
    };
    let array = Array::read(disk, id);
    let there = array.lists.get(&start).copied();
    match array.count(start, round) {
        (0, f) if f == failed && there == Some(jobs) => Ok(()),
        (open, f) => Err(format!("A2: {id}: {name}, but {open} of {there:?} are open, {f} failed")),
    }
}

/// The task of an array has ended: when every job is over, and with the right numbers.
pub fn ended_rightly(disk: &Disk, id: &str, end: &Value) -> Broken {
    if !["done", "fail"].iter().any(|word| end["verdict"] == *word) {
        return Ok(());
    }
    let array = Array::read(disk, id);
    let numbers = &end["result"]["value"];
    let said = (numbers["jobs"].as_u64(), numbers["failed"].as_u64());
    let (open, failed) = array.count_all(array.rounds);
    let right = (Some(array.submitted()), Some(failed));
    if array.closed.is_none()
        || open > 0
        || said != right
        || (failed == 0) != (end["verdict"] == "done")
    {
        return Err(format!(
            "A3: {id} ended with {said:?}; {open} jobs are open, {right:?} is right, closed {:?}",
            array.closed
        ));
    }
    Ok(())
}

/// A job of an array is started: by who claimed it, before its end, unless it was fenced.
pub fn starts_rightly(disk: &Disk, id: &str, job: &str, n: u32, holder: &str) -> Broken {
    let array = Array::read(disk, id);
    let key = (job.parse().unwrap_or(0), n);
    if array.claims.get(&key).is_none_or(|card| card["wid"] != holder) {
        return Err(format!("I5: {id}/{job}.{n} runs, and its claim is another's"));
    }
    let home = Path::new(ROOT).join("procs").join(holder);
    let zombie = disk.find(&home.join("end")).is_ok() || disk.find(&home).is_err();
    if array.ends.contains_key(&key) && !zombie {
        return Err(format!("I6: {id}/{job}.{n} starts after its end"));
    }
    Ok(())
}

/// Nobody works any more.
pub fn at_rest(disk: &Disk, id: &str) -> Broken {
    let array = Array::read(disk, id);
    if let Some((job, n)) = array.claims.keys().find(|key| !array.ends.contains_key(key)) {
        return Err(format!("I17: {id}/{job}.{n} is still claimed"));
    }
    let mut done: BTreeMap<u64, u32> = BTreeMap::new();
    for ((job, _), end) in &array.ends {
        *done.entry(*job).or_default() += u32::from(end["verdict"] == "done");
    }
    match done.iter().find(|(_, times)| **times > 1) {
        Some((job, times)) => Err(format!("I4: {id}/{job} was done {times} times")),
        None => Ok(()),
    }
}
