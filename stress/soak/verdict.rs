//! What the samples of a soak say: nothing grows but what each finished task leaves by design.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sample::{Size, Vitals};

/// Samples that a program must have lived through to be judged.
const ENOUGH: usize = 12;
/// Growth of memory that is no leak: allocators keep some.
const SLACK_KB: u64 = 1536;
/// What the aggregator and the keepers remember of a task, and a worker of an attempt, at most.
const KB_A_TASK: f64 = 1.0;
/// Wake-ups of an idle program a minute, at most.
const WAKES_MAX: f64 = 120.0;

/// One line of the log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Hours of soaking so far.
    pub hours: f64,
    /// Whether tasks come in, or nothing is to be done.
    pub idle: bool,
    pub done: u64,
    pub kills: u64,
    pub programs: BTreeMap<String, Vitals>,
    pub sizes: BTreeMap<String, Size>,
    pub events: u64,
    pub gaps: u64,
    /// Looks of fsck that it took until nothing was found; 0: it never came clean.
    pub fsck: u32,
    /// What is wrong at this moment.
    pub faults: Vec<String>,
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The first and the last quarter of what a program showed.
fn quarters<T: Copy>(all: &[T]) -> (&[T], &[T]) {
    let part = (all.len() / 4).max(1);
    (&all[..part.min(all.len())], &all[all.len().saturating_sub(part)..])
}

/// Everything that is wrong with a run, and a line for each program that was judged.
pub fn judge(samples: &[Sample]) -> (Vec<String>, Vec<String>) {
    let mut faults: Vec<String> = samples
        .iter()
        .flat_map(|s| s.faults.iter().map(move |f| format!("after {:.2} h: {f}", s.hours)))
        .collect();
    let mut lines = Vec::new();
    let mut lives: BTreeMap<(String, i32), Vec<(&Sample, &Vitals)>> = BTreeMap::new();
    for sample in samples {
        for (name, vitals) in &sample.programs {
            lives.entry((name.clone(), vitals.pid)).or_default().push((sample, vitals));
        }
    }
    for ((name, _), all) in lives.iter().filter(|(_, all)| all.len() >= ENOUGH) {
        let judged = judge_life(name, all, &mut faults);
        lines.push(judged);
    }
    sizes(samples, &mut faults);
    (faults, lines)
}

fn judge_life(name: &str, all: &[(&Sample, &Vitals)], faults: &mut Vec<String>) -> String {
    // What a program needs while it starts is no growth.
    let all = &all[2..];
    let (first, last) = quarters(all);
    let middle = |part: &[(&Sample, &Vitals)], of: fn(&Vitals) -> f64| {
        median(part.iter().map(|(_, v)| of(v)).collect()).unwrap_or(0.0)
    };
    let tasks = last[0].0.done.saturating_sub(first[0].0.done) as f64;
    let rss = |v: &Vitals| v.rss_kb as f64;
    let (before, after) = (middle(first, rss), middle(last, rss));
    if after > before + SLACK_KB as f64 + tasks * KB_A_TASK {
        faults.push(format!("{name}: {before} KiB of memory became {after} in {tasks} tasks"));
    }
    let mut text = format!("{name}: {} samples, RSS {before} → {after} KiB", all.len());
    for (what, of) in [
        ("descriptors", (|v: &Vitals| v.fds as f64) as fn(&Vitals) -> f64),
        ("threads", |v| v.threads as f64),
    ] {
        let (before, after) = (middle(first, of), middle(last, of));
        if after > before + 1.0 {
            faults.push(format!("{name}: {before} {what} became {after}"));
        }
        text.push_str(&format!(", {what} {before} → {after}"));
    }
    let wakes: Vec<f64> = all.iter().filter_map(|(_, v)| v.idle_wakes).collect();
    let (first, last) = quarters(&wakes);
    if let (Some(before), Some(after)) = (median(first.to_vec()), median(last.to_vec())) {
        // Of a few windows nothing can be said.
        let enough = wakes.len() >= ENOUGH;
        if enough && (after > WAKES_MAX || after > before * 1.5 + 6.0) {
            faults.push(format!("{name}: {before:.0} idle wake-ups a minute became {after:.0}"));
        }
        text.push_str(&format!(", idle wake-ups a minute {before:.1} → {after:.1}"));
    }
    text
}

/// What each task leaves must not become more, and all else must stay.
fn sizes(samples: &[Sample], faults: &mut Vec<String>) {
    let idle: Vec<&Sample> = samples.iter().filter(|s| s.idle && s.done > 0).collect();
    if idle.len() < ENOUGH / 3 {
        return;
    }
    let (first, last) = quarters(&idle);
    let per_task = |s: &&Sample| {
        let tasks = s.sizes.get("tasks").copied().unwrap_or_default();
        tasks.inodes as f64 / s.done as f64
    };
    let a_task = |part: &[&Sample]| median(part.iter().map(per_task).collect()).unwrap_or(0.0);
    let (before, after) = (a_task(first), a_task(last));
    if after > before * 1.25 + 1.0 {
        faults.push(format!("tasks/: {before:.1} inodes a task became {after:.1}"));
    }
    for part in ["procs", "ready", "blocked", "delayed", "waiters", "control", "incoming", "stats"]
    {
        let of = |s: &&Sample| s.sizes.get(part).copied().unwrap_or_default().inodes as f64;
        let middle = |list: &[&Sample]| median(list.iter().map(of).collect()).unwrap_or(0.0);
        let (before, after) = (middle(first), middle(last));
        if after > before + 2.0 {
            faults.push(format!("{part}/: {before} inodes when idle became {after}"));
        }
    }
}

#[cfg(test)]
fn steady(count: usize, change: impl Fn(usize, &mut Sample)) -> Vec<String> {
    let samples: Vec<Sample> = (0..count)
        .map(|i| {
            let vitals = Vitals {
                pid: 7,
                rss_kb: 5000,
                fds: 10,
                threads: 3,
                idle_wakes: Some(8.0),
                ..Vitals::default()
            };
            let done = 100 * i as u64;
            let tasks = Size { inodes: done * 7, bytes: done * 2000 };
            let mut sample = Sample {
                idle: true,
                done,
                fsck: 1,
                programs: BTreeMap::from([("w".to_owned(), vitals)]),
                sizes: BTreeMap::from([("tasks".to_owned(), tasks)]),
                ..Sample::default()
            };
            change(i, &mut sample);
            sample
        })
        .collect();
    judge(&samples).0
}

#[test]
fn steady_samples_have_no_fault() {
    assert_eq!(steady(40, |_, _| ()), Vec::<String>::new());
}

#[test]
fn each_kind_of_growth_is_seen() {
    type Change = fn(usize, &mut Sample);
    let cases: [(&str, Change); 7] = [
        ("of memory", |i, s| {
            if let Some(v) = s.programs.get_mut("w") {
                v.rss_kb += 400 * i as u64;
            }
        }),
        ("descriptors", |i, s| {
            if let Some(v) = s.programs.get_mut("w") {
                v.fds += i as u64 / 5;
            }
        }),
        ("threads", |i, s| {
            if let Some(v) = s.programs.get_mut("w") {
                v.threads += i as u64 / 10;
            }
        }),
        ("idle wake-ups", |i, s| {
            if let Some(v) = s.programs.get_mut("w") {
                v.idle_wakes = Some(8.0 + i as f64);
            }
        }),
        ("inodes a task", |i, s| {
            if let Some(size) = s.sizes.get_mut("tasks") {
                size.inodes += (s.done / 10) * i as u64;
            }
        }),
        ("procs/", |i, s| {
            s.sizes.insert("procs".to_owned(), Size { inodes: 40 + i as u64, bytes: 0 });
        }),
        ("a fault of its own", |i, s| {
            if i == 3 {
                s.faults.push("a fault of its own".to_owned());
            }
        }),
    ];
    for (says, change) in cases {
        let faults = steady(40, change);
        assert!(faults.iter().any(|f| f.contains(says)), "{says:?} was not seen: {faults:?}");
    }
}
