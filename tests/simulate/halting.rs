//! The invariants of rules that stop a run, from the names and bytes on the disk alone.
//!
//! H1: when a rule is said to be fulfilled, a process claims at most once more, what it had begun before. H2:
//! who has linked an end that the rule counts, and who sees the rule fulfilled with it, says so before it
//! claims again. H3: what is said to be fulfilled is, by the ends that count for it, and it is the rule
//! that holds. H4: what was counted has ended so. H5: what nobody has counted or said, somebody is to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::arrays::{Array, value};
use crate::checker::Broken;
use crate::disk::Disk;
use crate::world::ROOT;

/// What is remembered of them.
#[derive(Default)]
pub struct Halts {
    /// Processes that have claimed since the register of this number was linked.
    claimed: BTreeSet<(u32, String)>,
    /// The end with which the rule was fulfilled, as it was counted.
    owe: Option<Value>,
}

/// The register of a run.
pub fn number(name: &str) -> Option<u32> {
    name.strip_prefix("halt.")?.parse().ok()
}

/// The rule that is to be counted for: `halt.N.ends`.
pub fn counted_for(name: &str) -> Option<u32> {
    number(name.strip_suffix(".ends")?)
}

/// The registers of an array's runs.
fn registers(disk: &Disk, id: &str) -> BTreeMap<u32, Value> {
    let home = Path::new(ROOT).join("tasks").join(id).join("jobs");
    let names = disk.find(&home).and_then(|ino| disk.names(ino).cloned()).unwrap_or_default();
    names.iter().filter_map(|(name, ino)| Some((number(name)?, value(disk, *ino)))).collect()
}

/// Whether an end counts for the rule of this number.
fn counts(end: &Value, number: u32, rule: &str) -> bool {
    let done = end["verdict"] == "done";
    let wanted = match rule.split_once(',').and_then(|(_, rest)| rest.split_once('=')) {
        Some(("fail", _)) => !done,
        Some(("success", _)) => done,
        Some(("done", _)) => true,
        _ => false,
    };
    wanted && end["retry"] == false && end["halt"] == number
}

/// The jobs that were counted for the rule of this number.
fn counted_jobs(disk: &Disk, id: &str, number: u32) -> BTreeSet<u64> {
    let jobs = Path::new(ROOT).join("tasks").join(id).join("jobs");
    let names = disk.find(&jobs.join(format!("halt.{number}.ends")));
    let names = names.and_then(|ino| disk.names(ino).cloned()).unwrap_or_default();
    names.keys().filter_map(|name| name.parse().ok()).collect()
}

/// Whether so many fulfil a rule.
fn is_met(array: &Array, count: u64, rule: &str) -> bool {
    let limit = rule.rsplit_once('=').map_or("", |(_, limit)| limit);
    match limit.strip_suffix('%').map(|percent| percent.parse::<u64>().unwrap_or(100)) {
        None => limit.parse().is_ok_and(|limit: u64| count >= limit),
        Some(percent) => {
            array.closed.is_some_and(|total| count > 0 && count * 100 >= percent * total)
        }
    }
}

impl Halts {
    /// A register of a run was linked.
    pub fn linked(&mut self, disk: &Disk, id: &str, n: u32) -> Broken {
        let all = registers(disk, id);
        self.owe = None;
        if n > 1 && !all.contains_key(&(n - 1)) {
            return Err(format!("H3: {id}: halt.{n} without the one before"));
        }
        let Some(met) = all[&n]["met"].as_u64().and_then(|met| u32::try_from(met).ok()) else {
            return Ok(());
        };
        let rule = all.get(&met).map(|rule| rule["halt"].as_str().unwrap_or_default());
        let rule = rule.unwrap_or_default();
        let array = Array::read(disk, id);
        let ended = array.ends.iter().filter(|(_, end)| counts(end, met, rule));
        let jobs: BTreeSet<u64> = ended.map(|((job, _), _)| *job).collect();
        if met != n - 1 || !is_met(&array, jobs.len() as u64, rule) {
            return Err(format!("H3: {id}: halt.{n} says that {met} ({rule}) is fulfilled"));
        }
        Ok(())
    }

    /// A job was counted.
    pub fn counted(&mut self, disk: &Disk, id: &str, n: u32, name: &str) -> Broken {
        let all = registers(disk, id);
        let rule = all.get(&n).map_or("", |rule| rule["halt"].as_str().unwrap_or_default());
        let array = Array::read(disk, id);
        let job = name.parse::<u64>().unwrap_or(0);
        let end = array.ends.iter().find(|(key, end)| key.0 == job && counts(end, n, rule));
        let Some((_, end)) = end else {
            return Err(format!("H4: {id}/{name} was counted for {n} ({rule})"));
        };
        let count = counted_jobs(disk, id, n).len() as u64;
        if all.last_key_value().is_some_and(|(last, _)| *last == n) && is_met(&array, count, rule) {
            self.owe.get_or_insert_with(|| end.clone());
        }
        Ok(())
    }

    /// A job was claimed by the process with this id.
    pub fn claimed(&mut self, disk: &Disk, id: &str, wid: &str) -> Broken {
        let Some((n, newest)) = registers(disk, id).pop_last() else { return Ok(()) };
        if newest["met"].as_u64().is_some() {
            return match self.claimed.insert((n, wid.to_owned())) {
                true => Ok(()),
                false => Err(format!("H1: {wid} claims in {id} again, and halt.{n} is there")),
            };
        }
        let rule = newest["halt"].as_str().unwrap_or_default();
        let (array, counted) = (Array::read(disk, id), counted_jobs(disk, id, n));
        let unsaid = array.ends.iter().filter(|((job, _), end)| {
            counts(end, n, rule) && (rule.ends_with("=1") || !counted.contains(job))
        });
        let intends = |holder: &str| {
            let run = Path::new(ROOT).join("procs").join(holder).join("run");
            let names = disk.find(&run).and_then(|ino| disk.names(ino).cloned());
            names.is_ok_and(|names| names.keys().any(|name| name.starts_with("_jobs.")))
        };
        for end in unsaid.map(|(_, end)| end).chain(&self.owe) {
            if end["by"] == wid {
                return Err(format!(
                    "H2: {wid} has to say something of {rule} of {id}, and claims"
                ));
            }
            if !intends(end["holder"].as_str().unwrap_or_default()) {
                return Err(format!("H5: something is to be said of {rule} of {id}, by nobody"));
            }
        }
        Ok(())
    }
}
