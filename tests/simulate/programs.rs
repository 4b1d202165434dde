//! What the simulated processes do: the loops of the real programs around their real ticks, and
//! the commands of people.

use std::path::Path;
use std::sync::Arc;

use coord::config::Config;
use coord::git::repository::Found;
use coord::program::front::feed;
use coord::program::keeper::Keeper;
use coord::program::worker::{Next, Options, Worker};
use coord::queue::archive::{self, Archiver};
use coord::queue::array::list::Given;
use coord::queue::decide::{self, How};
use coord::queue::layout::Lot;
use coord::queue::procs::{Identity, Proc};
use coord::queue::record::{CardKind, Spec, Stage, StageVerdict};
use coord::queue::submit::submit;
use coord::queue::{Queue, array, init, lane, sweep, tasks};
use coord::run::site::Site;
use coord::sys::wake::Wake;
use nix::libc;

use crate::platform::Seat;
use crate::runner::Body;
use crate::world::ROOT;

/// A lease short enough to run out in a run, and everything else as by default.
fn config(lease_ms: u64) -> Config {
    let mut config = Config::default();
    config.lease.expire_ms = lease_ms;
    config.lease.heartbeat_ms = lease_ms / 4;
    config
}

fn is_ended(wakes: &[Wake]) -> bool {
    wakes.contains(&Wake::Signal(libc::SIGTERM))
}

fn open(seat: &Seat) -> Option<Queue> {
    for _ in 0..20 {
        if let Ok(queue) = Queue::open(Path::new(ROOT), seat.platform()) {
            return Some(queue);
        }
        if is_ended(&seat.wait(queue_time(seat) + 1000)) {
            return None;
        }
    }
    None
}

fn queue_time(seat: &Seat) -> u64 {
    seat.platform().clock.mono_ms()
}

/// Makes the queue.
pub fn initialise() -> Body {
    Box::new(|seat| {
        init::init(Path::new(ROOT), seat.platform()).expect("a queue on a sound disk");
    })
}

/// `coord-worker`: the loop of `program::start::work`.
pub fn worker(name: &str, until_empty: bool, lease_ms: u64) -> Body {
    let options = Options { name: name.to_owned(), until_empty, ..Options::default() };
    Box::new(move |mut seat| {
        let Some(queue) = open(&seat) else { return };
        let site = Site {
            queue,
            config: Arc::new(config(lease_ms)),
            root: Path::new("/q").to_owned(),
            repo: Found::Nothing,
        };
        let clock = site.queue.platform.clock.clone();
        // A worker that cannot begin ends, and the coordinator starts it anew.
        let (missing, mut worker) = loop {
            let missing = sweep::restore_directories(&site.queue);
            match (missing, Worker::new(&site, options.clone(), &mut seat)) {
                (Ok(missing), Ok(worker)) => break (missing, worker),
                _ if is_ended(&seat.wait(clock.mono_ms() + 1000)) => return,
                _ => {}
            }
        };
        let mut wakes = if missing { vec![Wake::Rescan] } else { Vec::new() };
        loop {
            let ended = seat.reap();
            match worker.tick(&mut seat, &wakes, &ended) {
                Ok(Next::Wait(until_ms)) => wakes = seat.wait(until_ms),
                Ok(Next::Leave(_)) => return,
                Err(_) => wakes = seat.wait(clock.mono_ms() + 1000),
            }
        }
    })
}

/// `coord-monitor`: the loop of `program::monitor::run`.
pub fn monitor() -> Body {
    Box::new(|mut seat| {
        let Some(queue) = open(&seat) else { return };
        let identity = Identity::plain("monitor", CardKind::Monitor);
        let Ok(mut me) = Proc::register(&queue, &identity) else { return };
        let mut keeper = Keeper::new(&queue, Config::default().workers.rescan_ms);
        let mut wakes: Vec<Wake> = Vec::new();
        loop {
            if is_ended(&wakes) {
                me.leave(&queue);
                return;
            }
            let next_ms = match keeper.tick(&queue, &mut me, &mut seat, &wakes) {
                Ok(next_ms) => next_ms,
                Err(_) => queue.clock.mono_ms() + 1000,
            };
            if me.is_declared_dead(&queue) {
                match Proc::register(&queue, &identity) {
                    Ok(anew) => me = anew,
                    Err(_) => return,
                }
            }
            wakes = seat.wait(next_ms);
        }
    })
}

/// One command: registers, acts, leaves. What fails is simply not done, as for a person.
fn command(act: impl FnOnce(&Seat, &Queue, &mut Proc) + Send + 'static) -> Body {
    Box::new(move |seat| {
        let Some(queue) = open(&seat) else { return };
        let Ok(mut me) = Proc::register(&queue, &Identity::plain("cli", CardKind::Cli)) else {
            return;
        };
        act(&seat, &queue, &mut me);
        me.leave(&queue);
    })
}

/// `coord add` for each of these, in order.
pub fn add(specs: Vec<(Option<String>, Spec)>) -> Body {
    command(move |seat, queue, me| {
        for (id, spec) in specs {
            let mut spec = spec;
            spec.uid = format!("uid{:x}", queue.clock.random());
            let uid = spec.uid.clone();
            if let Ok(submitted) = submit(queue, me, id.as_deref(), spec) {
                let id = submitted.id().to_owned();
                if matches!(submitted, coord::queue::submit::Submitted::New(_)) {
                    seat.world().checker.acknowledged.push((id, uid));
                }
            }
        }
    })
}

/// The front of `coord run`: submits an array and its list, a few lines at a time. `halt`: when the run
/// stops before its end.
pub fn submit_list(
    id: String,
    spec: Spec,
    jobs: Vec<String>,
    at_once: usize,
    halt: &'static str,
) -> Body {
    struct Lines(std::vec::IntoIter<String>, usize);
    impl feed::Input for Lines {
        fn next(&mut self) -> coord::error::Result<Option<Given>> {
            Ok(self.0.next().map(|how| Ok(vec!["/bin/job".to_owned(), how])))
        }
        fn would_block(&self) -> bool {
            self.0.len().is_multiple_of(self.1)
        }
    }
    command(move |seat, queue, me| {
        // A person gives the command again until it works.
        for _ in 0..20 {
            let mut spec = spec.clone();
            spec.uid = format!("uid{:x}", queue.clock.random());
            let intent = me.run(&format!("_array.{id}"));
            let there = tasks::look(queue, &id).is_ok_and(|t| t.is_some_and(|t| t.spec.is_ok()));
            let done = (there || submit(queue, me, Some(&id), spec).is_ok())
                && queue.fs.touch(&intent).is_ok()
                && (halt.is_empty() || begin(queue, me, &id, halt))
                && feed::here(queue, &id, Box::new(Lines(jobs.clone().into_iter(), at_once)))
                    .is_ok();
            if done {
                drop(queue.discard(&intent));
                array::ring_all(queue, &id);
                return;
            }
            if is_ended(&seat.wait(queue.clock.mono_ms() + 1000)) {
                return;
            }
        }
    })
}

fn begin(queue: &Queue, me: &Proc, id: &str, halt: &str) -> bool {
    array::ensure_home(queue, &array::home(queue, id))
        .and_then(|()| array::halting::begin(queue, me, id, halt, 1))
        .is_ok()
}

/// What a person decides.
#[derive(Debug, Clone, Copy)]
pub enum Decision {
    Cancel,
    Force,
    Hold,
    Release,
    Retry,
}

/// `coord cancel --reason WHY` of a task.
pub fn cancel_saying(id: &'static str, why: &'static str) -> Body {
    command(move |_, queue, me| {
        // A refusal is an answer too.
        let _ = decide::cancel(queue, me, id, How::Ask, why, |_| {});
    })
}

/// `coord cancel`, `hold`, `release` or `retry` of a task.
pub fn decision(what: Decision, id: String) -> Body {
    command(move |seat, queue, me| {
        if matches!(what, Decision::Force) {
            seat.world().checker.forced = true;
        }
        // Refusals are answers too.
        let _ = match what {
            Decision::Cancel => decide::cancel(queue, me, &id, How::Ask, "asked", |_| {}),
            Decision::Force => decide::cancel(queue, me, &id, How::Force, "forced", |_| {}),
            Decision::Hold => decide::hold(queue, me, &id),
            Decision::Release => decide::release(queue, me, &id),
            Decision::Retry => decide::retry(queue, me, &id, "once more"),
        };
    })
}

/// `coord gc`, again and again: archives whatever is over, of any state, and may delete it.
pub fn archiver(delete: bool) -> Body {
    Box::new(move |seat| {
        let Some(queue) = open(&seat) else { return };
        let identity = Identity::plain("gc", CardKind::Cli);
        let Ok(mut me) = Proc::register(&queue, &identity) else { return };
        let mut wakes: Vec<Wake> = Vec::new();
        while !is_ended(&wakes) {
            // As for the merger: whoever recovers a command does the rest.
            if archive_all(&queue, &mut me, delete).is_err() {
                return;
            }
            wakes = seat.wait(queue.clock.mono_ms() + 1000);
        }
        me.leave(&queue);
    })
}

fn archive_all(queue: &Queue, me: &mut Proc, delete: bool) -> coord::error::Result<()> {
    let mut archiver = Archiver::new(queue, me)?;
    for id in tasks::ids(queue)? {
        archiver.archive(queue, me, &id)?;
    }
    for lot in Lot::ALL.into_iter().filter(|_| delete) {
        for (id, _) in archive::all(queue, lot)? {
            if queue.clock.random().is_multiple_of(2) {
                archiver.bury(queue, me, &id)?;
            }
        }
    }
    archiver.finish(queue, me)
}

/// `coord gc T`, once.
pub fn archive_once(id: &str, delete: bool) -> Body {
    let id = id.to_owned();
    command(move |_, queue, me| {
        let Ok(mut archiver) = Archiver::new(queue, me) else { return };
        // What it says is read from the disk.
        let _ = archiver.archive(queue, me, &id);
        if delete {
            let _ = archiver.bury(queue, me, &id);
        }
        let _ = archiver.finish(queue, me);
    })
}

/// Somebody who merges, and now and then sends something back. What git decides is decided by chance;
/// the lane's own turns are attempts like any others.
pub fn merger(returns: bool) -> Body {
    Box::new(move |seat| {
        let Some(queue) = open(&seat) else { return };
        let identity = Identity::plain("merger", CardKind::Cli);
        let Ok(mut me) = Proc::register(&queue, &identity) else { return };
        let mut wakes: Vec<Wake> = Vec::new();
        while !is_ended(&wakes) {
            // What fails half-way is for whoever recovers a command: nobody else has its intents.
            if merge_all(&queue, &mut me, returns).is_err() {
                return;
            }
            wakes = seat.wait(queue.clock.mono_ms() + 1000);
        }
        me.leave(&queue);
    })
}

fn merge_all(queue: &Queue, me: &mut Proc, returns: bool) -> coord::error::Result<()> {
    for lane in lane::ids(queue)? {
        for entry in lane::entries(queue, &lane)? {
            if !entry.is_free() {
                continue;
            }
            let back = returns && queue.clock.random().is_multiple_of(3);
            let stage = match back {
                false => Stage::new(StageVerdict::Pass, ""),
                true => Stage {
                    retry: entry.bounces < 2,
                    scope: vec!["a".to_owned()],
                    ..Stage::new(StageVerdict::Bounce, "a conflict")
                },
            };
            lane::decide(queue, me, &entry.key, stage)?;
        }
    }
    Ok(())
}

/// Sends everything back that waits for its merge, once: all of it had changed `a`.
pub fn return_all() -> Body {
    command(move |_, queue, me| {
        for lane in lane::ids(queue).unwrap_or_default() {
            for entry in lane::entries(queue, &lane).unwrap_or_default() {
                let stage = Stage {
                    retry: true,
                    scope: vec!["a".to_owned()],
                    ..Stage::new(StageVerdict::Bounce, "a conflict")
                };
                // What it says is read from the disk.
                let _ = lane::decide(queue, me, &entry.key, stage);
            }
        }
    })
}

/// Does what follows from the registers of a task, as whoever has just made one does.
pub fn settle_one(id: &str) -> Body {
    let id = id.to_owned();
    command(move |_, queue, me| {
        let intent = me.settle_intent(queue, &id).expect("a sound disk");
        coord::queue::settle::settle(queue, me, &id).expect("a sound disk");
        queue.discard(&intent).expect("a sound disk");
    })
}

/// `coord fsck --strict`, when everybody has left.
pub fn inspect() -> Body {
    Box::new(|seat| {
        let Some(queue) = open(&seat) else {
            seat.world().violate("the queue cannot be opened at the end".to_owned());
            return;
        };
        let found = match coord::queue::fsck::check(&queue, true) {
            Ok(findings) => {
                let bad = findings.into_iter().filter(|f| f.counts(true));
                bad.map(|f| format!("{}: {}", f.invariant, f.what)).collect::<Vec<_>>()
            }
            Err(e) => vec![e.one_line()],
        };
        let (deaf, hints) = {
            let world = seat.world();
            (world.checker.deaf, world.injected.contains_key("stale hint"))
        };
        // Events that a full disk swallowed are not told again: the registers are the audit. A hint
        // for a later attempt, dropped in by hand, may stay: nobody can be misled by it.
        let counts = |what: &String| {
            !(deaf && (what.starts_with("I15") || what.starts_with("I16"))
                || hints && what.starts_with("stale"))
        };
        if let Some(first) = found.into_iter().find(counts) {
            seat.world().violate(format!("fsck --strict at the end: {first}"));
        }
    })
}
