//! Schedules written by hand: who goes how far, who dies where.

use std::path::Path;

use coord::queue::record::Spec;

use crate::choices::{Choices, Script};
use crate::disk::Disk;
use crate::machines::{Machine, State};
use crate::memory::MemoryFs;
use crate::platform::{Call, Op};
use crate::programs;
use crate::runner::{Body, Runner};
use crate::scenario;
use crate::world::{Fate, ROOT, World};

/// A step before which a process stands still.
pub struct Halt {
    who: usize,
    call: Call,
    suffix: String,
}

impl Halt {
    /// Whether this is the step.
    pub fn is(&self, who: usize, op: &Op) -> bool {
        let about = if op.to.as_os_str().is_empty() { &op.path } else { &op.to };
        who == self.who && op.call == self.call && about.to_string_lossy().contains(&self.suffix)
    }
}

/// A queue in which nothing happens by chance.
pub struct Stage(pub Runner);

impl Stage {
    /// Two machines and an empty queue.
    pub fn new() -> Stage {
        let mut disk = Disk::new();
        disk.mkdir(Path::new("/q"), 0).expect("an empty disk");
        let world = World::new(1, Choices::scripted(Script::new()), MemoryFs::new(disk));
        let mut runner = Runner::new(world);
        runner.alone("init", 0, programs::initialise());
        {
            let mut world = runner.world();
            world.quiet = true;
            world.machines.push(Machine { boot: 1, booted_us: 0, skew_ms: 0 });
            world.trace = Some(Vec::new());
        }
        Stage(runner)
    }

    /// So many users, of which each next process is the next.
    pub fn users(&mut self, users: usize) {
        self.0.world().owners.users = users;
    }

    /// Submits a task whose job behaves like `how`.
    pub fn add(&mut self, id: &str, how: &str, change: impl FnOnce(&mut Spec)) {
        let body = programs::add(vec![(Some(id.to_owned()), spec(how, change))]);
        self.done("add", 0, body);
    }

    /// Starts a process; it stands before its first step.
    pub fn start(&mut self, name: &str, machine: usize, body: Body) -> usize {
        self.0.start(name, machine, body)
    }

    /// A process that goes through to its end.
    pub fn done(&mut self, name: &str, machine: usize, body: Body) {
        let who = self.start(name, machine, body);
        self.go(who);
    }

    /// A worker with a lease of 8 seconds.
    pub fn worker(&mut self, name: &str, machine: usize) -> usize {
        self.start(name, machine, programs::worker(name, false, 8_000))
    }

    /// It goes on until it is about to make that call. Jobs end meanwhile.
    pub fn until(&mut self, who: usize, call: Call, suffix: &str) {
        if !self.comes_to(who, call, suffix, 50) {
            let trace = self.0.world().trace.take().unwrap_or_default();
            panic!("{}\nit never comes to {call:?} {suffix}", trace.join("\n"));
        }
    }

    /// Whether it is about to make that call within so many seconds; if so, it stands there.
    pub fn comes_to(&mut self, who: usize, call: Call, suffix: &str, seconds: u32) -> bool {
        self.comes_to_meanwhile(who, call, suffix, seconds, Stage::jobs)
    }

    /// The same, and `meanwhile` in every second.
    pub fn comes_to_meanwhile(
        &mut self,
        who: usize,
        call: Call,
        suffix: &str,
        seconds: u32,
        meanwhile: impl Fn(&mut Stage),
    ) -> bool {
        self.0.world().halt = Some(Halt { who, call, suffix: suffix.to_owned() });
        for _ in 0..seconds {
            self.go(who);
            if self.0.world().halt.is_none() {
                return true;
            }
            meanwhile(self);
            self.pass(1);
        }
        self.0.world().halt = None;
        false
    }

    /// Its next call of that kind is answered with an I/O error.
    pub fn refuse(&mut self, who: usize, call: Call, suffix: &str) {
        let step = Halt { who, call, suffix: suffix.to_owned() };
        self.0.world().fated = Some((step, Fate::Fail(nix::libc::EIO)));
    }

    /// Its next listing of a directory shows what was there when these were all the names.
    pub fn misleads(&mut self, who: usize, path: &str, names: &[&str]) {
        let mut world = self.0.world();
        let found = world.fs.disk().find(&Path::new(ROOT).join(path));
        let versions = world.before.entry(found.expect("a directory")).or_default();
        versions.retain(|version| version.keys().eq(names));
        assert!(!versions.is_empty(), "it was never like that, or too long ago");
        let step = Halt { who, call: Call::List, suffix: path.to_owned() };
        world.fated = Some((step, Fate::Stale));
    }

    /// It goes on until it waits, ends, or comes to the halt.
    pub fn go(&mut self, who: usize) {
        let halting = |stage: &Stage| {
            let world = stage.0.world();
            world.halt.is_some() || world.halt_at.is_some()
        };
        let before = halting(self);
        for _ in 0..1000 {
            let runs = {
                let world = self.0.world();
                let now_us = world.now_us;
                let process = &world.processes[who];
                match process.state {
                    State::Runs => true,
                    State::Waits { until_us } | State::Stopped { until_us } => {
                        !process.wakes.is_empty() || until_us <= now_us
                    }
                    State::Dead => false,
                }
            };
            if !runs || (before && !halting(self)) {
                return;
            }
            self.0.resume(who);
        }
    }

    /// Time passes.
    pub fn pass(&mut self, seconds: u64) {
        self.0.world().now_us += seconds * 1_000_000;
    }

    /// All jobs run to their ends.
    pub fn jobs(&mut self) {
        let mut world = self.0.world();
        for at in 0..world.jobs.len() {
            while world.jobs[at].alive {
                world.step_job(at);
            }
        }
    }

    /// It dies where it stands.
    pub fn kill(&mut self, who: usize) {
        self.0.world().kill(who, "dies");
    }

    /// Whether a name is there.
    pub fn has(&self, path: &str) -> bool {
        self.0.world().fs.disk().find(&Path::new(ROOT).join(path)).is_ok()
    }

    /// What a file holds.
    pub fn text(&self, path: &str) -> String {
        let world = self.0.world();
        let disk = world.fs.disk();
        let content = disk.find(&Path::new(ROOT).join(path)).and_then(|ino| disk.content(ino));
        content.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// What somebody writes by hand.
    pub fn put(&mut self, path: &str, text: &str) {
        let path = Path::new(ROOT).join(path);
        let world = self.0.world();
        let mut disk = world.fs.disk();
        for part in
            path.parent().into_iter().flat_map(Path::ancestors).collect::<Vec<_>>().iter().rev()
        {
            // Most of them are there.
            drop(disk.mkdir(part, 0));
        }
        disk.create(&path, 1).expect("a new file");
        disk.append(&path, text.as_bytes(), 1).expect("a sound disk");
    }

    /// Somebody removes a file by hand.
    pub fn remove(&mut self, path: &str) {
        let world = self.0.world();
        world.fs.disk().unlink(&Path::new(ROOT).join(path), 1).expect("a file");
    }

    /// Everybody goes on, and everything must come to its end. The rule that was broken, if one was.
    pub fn rest(mut self) -> Result<Stage, String> {
        if self.0.world().violation.is_none() {
            self.0.world().quiet = false;
            scenario::settle(&mut self.0);
        }
        match self.0.world().violation.take() {
            Some(what) => Err(what),
            None => Ok(()),
        }?;
        Ok(self)
    }
}

/// A task whose job behaves like `how`.
pub fn spec(how: &str, change: impl FnOnce(&mut Spec)) -> Spec {
    let argv = vec!["job".to_owned(), how.to_owned()];
    let mut spec = Spec { v: 1, argv, max_attempts: 3, ..Spec::default() };
    spec.backoff = Some(coord::queue::record::Backoff { base_s: 0.0, factor: 1.0, max_s: 0.0 });
    change(&mut spec);
    spec
}
