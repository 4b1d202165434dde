//! What each task of a chain or a fan costs: the calls of whoever cancels, retries or runs it, counted. It
//! must not grow with the number of tasks, or ten thousand of them take hours.

use std::path::Path;

use coord::queue::record::{OnDepDead, Spec};

use crate::machines::State;
use crate::platform::Call;
use crate::programs::{self, Decision};
use crate::runner::Body;
use crate::stage::{Stage, spec};
use crate::world::ROOT;

/// Few tasks, and several times as many.
const SIZES: [usize; 2] = [10, 40];
/// How much more one of many may cost.
const MOST: f64 = 1.5;

fn id(i: usize) -> String {
    format!("t{i:03}")
}

/// `count` tasks, each after those that `after` says.
fn tasks(count: usize, on_dep_dead: OnDepDead, after: impl Fn(usize) -> Vec<usize>) -> Stage {
    let mut s = Stage::new();
    for i in 0..count {
        let change = |spec: &mut Spec| {
            spec.after = after(i).into_iter().map(id).collect();
            spec.on_dep_dead = on_dep_dead;
        };
        s.add(&id(i), "ok", change);
    }
    s
}

fn chain(count: usize) -> Stage {
    tasks(count, OnDepDead::Cancel, |i| i.checked_sub(1).into_iter().collect())
}

fn fan_out(count: usize) -> Stage {
    tasks(count, OnDepDead::Cancel, |i| if i == 0 { Vec::new() } else { vec![0] })
}

fn fan_in(count: usize) -> Stage {
    tasks(count, OnDepDead::Block, |i| if i + 1 == count { (0..i).collect() } else { Vec::new() })
}

/// The calls of a command.
fn command(s: &mut Stage, body: Body) -> f64 {
    let who = s.start("command", 0, body);
    while s.0.world().processes[who].state != State::Dead {
        s.go(who);
    }
    f64::from(s.0.world().processes[who].steps)
}

/// The calls of a worker that does everything.
fn work(s: &mut Stage, count: usize) -> f64 {
    let who = s.worker("w", 0);
    for _ in 0..count * 4 {
        s.go(who);
        s.jobs();
        s.pass(1);
    }
    let done = |i| s.text(&format!("tasks/{}/{}.end", id(i), attempt(s, i))).contains("\"done\"");
    assert!((0..count).all(done), "not all of {count} tasks were done");
    f64::from(s.0.world().processes[who].steps)
}

/// The last attempt of a task.
fn attempt(s: &Stage, i: usize) -> usize {
    (1..9).rev().find(|n| s.has(&format!("tasks/{}/{n}.claim", id(i)))).unwrap_or(1)
}

fn decide(s: &mut Stage, what: impl Fn() -> Decision, ids: std::ops::Range<usize>) -> f64 {
    ids.map(|i| command(s, programs::decision(what(), id(i)))).sum()
}

/// Submits who waits for each task of a chain, and then the chain.
fn submit_after_its_gate(count: usize) -> f64 {
    let after = |i: usize| i.checked_sub(1).map(id).into_iter().collect();
    let task = |i: usize| (Some(id(i)), spec("ok", |spec| spec.after = after(i)));
    let gate = spec("ok", |spec| spec.after = (0..count).map(id).collect());
    let gate = (Some("gate".to_owned()), gate);
    let mut s = Stage::new();
    command(&mut s, programs::add(vec![gate]));
    command(&mut s, programs::add((0..count).map(task).collect()))
}

/// What some steps cost for few and for many tasks, for each task.
fn compare(what: &str, cost: impl Fn(usize) -> f64) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let [few, many] = SIZES.map(|count| cost(count) / count as f64);
    println!("{what}: {few:.0} calls for each of {} tasks, {many:.0} of {}", SIZES[0], SIZES[1]);
    (many > few * MOST)
        .then(|| format!("{what}: {few:.0} calls for each of few, {many:.0} of many"))
}

#[test]
fn no_task_of_a_chain_or_a_fan_costs_more_the_more_there_are() {
    let cancelled = |mut s: Stage| {
        decide(&mut s, || Decision::Cancel, 0..1);
        s
    };
    let revived = |s: Stage| {
        let mut s = cancelled(s);
        decide(&mut s, || Decision::Retry, 0..1);
        s
    };
    let all_cancelled = |count: usize| {
        let mut s = fan_in(count);
        decide(&mut s, || Decision::Cancel, 0..count - 1);
        s
    };
    let faults = [
        compare("a chain is submitted behind who waits for all of it", submit_after_its_gate),
        compare("a chain is cancelled", |n| decide(&mut chain(n), || Decision::Cancel, 0..1)),
        compare("a chain is revived", |n| {
            decide(&mut cancelled(chain(n)), || Decision::Retry, 0..1)
        }),
        compare("a chain is worked off", |n| work(&mut chain(n), n)),
        compare("a revived chain is worked off", |n| work(&mut revived(chain(n)), n)),
        compare("many after one are cancelled", |n| {
            decide(&mut fan_out(n), || Decision::Cancel, 0..1)
        }),
        compare("many after one are revived", |n| {
            decide(&mut cancelled(fan_out(n)), || Decision::Retry, 0..1)
        }),
        compare("many after one are worked off", |n| work(&mut fan_out(n), n)),
        compare("one after many is worked off", |n| work(&mut fan_in(n), n)),
        compare("what one waits for is cancelled", |n| {
            decide(&mut fan_in(n), || Decision::Cancel, 0..n - 1)
        }),
        compare("what one waits for is retried", |n| {
            decide(&mut all_cancelled(n), || Decision::Retry, 0..n - 1)
        }),
    ];
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_hint_comes_into_its_bucket_however_often_that_is_removed() {
    let mut s = Stage::new();
    let who = s.start("add", 0, programs::add(vec![(Some("T".to_owned()), spec("ok", |_| ()))]));
    let level = Path::new(ROOT).join("ready/default/00");
    let bucket = |s: &Stage| {
        let world = s.0.world();
        let disk = world.fs.disk();
        let names = disk.find(&level).and_then(|ino| disk.names(ino).cloned()).unwrap_or_default();
        names.keys().next().map(|name| level.join(name))
    };
    // Workers who look for work remove the bucket whenever it was made, and before it is filled.
    for _ in 0..20 {
        s.until(who, Call::Link, "ready/default/00");
        if let Some(bucket) = bucket(&s) {
            s.0.world().fs.disk().rmdir(&bucket, 1).expect("an empty bucket");
        }
    }
    s.go(who);
    let bucket = bucket(&s).expect("a bucket");
    assert!(s.has(&format!("{}/T.1", bucket.strip_prefix(ROOT).unwrap().display())));
    s.rest().map(drop).unwrap();
}
