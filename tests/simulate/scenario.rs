//! One run: a queue, some tasks and processes, a time of trouble, and then rest, in which everything
//! must come to its end.

use std::path::Path;

use coord::queue::record::{Backoff, Spec};
use coord::sys::wake::Wake;
use nix::libc;

use crate::choices::{Choices, Script};
use crate::disk::Disk;
use crate::machines::{Job, Machine, Nature, State};
use crate::memory::MemoryFs;
use crate::policy::Policy;
use crate::programs::{self, Decision};
use crate::registers::Tasks;
use crate::runner::Runner;
use crate::world::{Budget, ROOT, World};

/// How a run ended.
pub struct Outcome {
    /// The rule that was broken.
    pub violation: Option<String>,
    /// The decisions that were not 0.
    pub made: Script,
    /// Steps that were taken.
    pub steps: u64,
    /// Faults that were injected, by kind.
    pub injected: std::collections::BTreeMap<&'static str, u32>,
    /// What happened, if asked for.
    pub trace: Vec<String>,
}

/// Of five seeds the one in which there is somebody who archives. Not drawn: the others stay as they are.
const ARCHIVED: u64 = 2;
/// Steps and seconds of the time of trouble.
pub const TROUBLE: (u64, u64) = (6_000, 240);
/// Steps and seconds after it, before a run counts as hung.
const REST: (u64, u64) = (600_000, 86_400);

/// Of four seeds the one in which there are two users, who cannot link each other's records.
const TWO_USERS: u64 = 2;

/// Decisions from the seed alone, or as the script says.
pub fn run(seed: u64, script: Option<Script>, verbose: bool) -> Outcome {
    let choices = match script {
        None => Choices::random(seed),
        Some(script) => Choices::scripted(script),
    };
    let mut disk = Disk::new();
    disk.mkdir(Path::new("/q"), 0).expect("an empty disk");
    let mut world = World::new(seed, choices, MemoryFs::new(disk));
    world.trace = verbose.then(Vec::new);
    let mut runner = Runner::new(world);
    runner.alone("init", 0, programs::initialise());
    // Every fourth seed has two users. Not drawn: the others stay as they are.
    runner.world().owners.users = if seed % 4 == TWO_USERS { 2 } else { 1 };
    let plan = prepare(&mut runner, seed);
    // Whether or not all is done by then.
    runner.run(TROUBLE.0, TROUBLE.1, |runner| harm(runner, &plan));
    settle(&mut runner);
    runner.close();
    let mut world = runner.world();
    Outcome {
        violation: world.violation.take(),
        made: std::mem::take(&mut world.choices.made),
        steps: world.steps,
        injected: std::mem::take(&mut world.injected),
        trace: world.trace.take().unwrap_or_default(),
    }
}

/// What the nemesis needs to know.
struct Setting {
    tasks: Vec<String>,
    machines: usize,
    lease_ms: u64,
}

/// Chooses tasks, processes and faults, and starts them.
fn prepare(runner: &mut Runner, seed: u64) -> Setting {
    let mut world = runner.world();
    let c = &mut world.choices;
    // Two workers on two machines, one task and a short lease: where zombies are made.
    let duel = c.below(4) == 3;
    let machines = if duel { 2 } else { 1 + c.below(2) as usize };
    let shared = machines > 1 && c.below(2) == 1;
    let (workers, monitors) = if duel { (2, 0) } else { (1 + c.below(3), c.below(3)) };
    let count = if duel { 1 } else { 1 + c.below(3) };
    let lease_ms = if duel { 8_000 } else { [60_000, 8_000][c.below(2) as usize] };
    let mut specs = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for i in 0..count {
        let (id, spec) = task(c, i, &ids);
        ids.push(id.clone().unwrap_or_else(|| (i + 1).to_string()));
        specs.push((id, spec));
    }
    let merges = specs.iter().any(|(_, spec)| spec.merge);
    let mergers = if merges { c.below(3) } else { 0 };
    let decisions = [0, 0, 1, 2][c.below(4) as usize];
    let mut decided = Vec::new();
    for _ in 0..decisions {
        use Decision::{Cancel, Force, Hold, Release, Retry};
        let what = [Cancel, Force, Hold, Release, Retry][c.below(5) as usize];
        decided.push((what, ids[c.below(count) as usize].clone()));
    }
    let acts = c.below(4);
    let budget = Budget {
        crashes: c.below(4),
        stops: u32::from(duel) + c.below(3),
        errors: c.below(3),
        lost_replies: c.below(3),
        stale: if shared { c.below(4) } else { 0 },
        acts,
    };
    let rate = if duel { 30_000 } else { [0, 2_000, 10_000, 30_000][c.below(4) as usize] };
    let links_max = [65_000, 6][c.below(2) as usize];
    let policy = match c.below(4) {
        0 => Policy::uniform(30_000),
        1 => Policy::uniform(300_000),
        _ => {
            let changes = (0..3).map(|_| u64::from(c.below(2000))).collect();
            Policy::pct(changes)
        }
    };
    world.machines.resize_with(machines, || Machine { boot: 1, booted_us: 0, skew_ms: 0 });
    world.fs.disk().links_max = links_max;
    (world.shared, world.budget, world.fault_rate, world.policy) = (shared, budget, rate, policy);
    // Where listings lag, or calls fail, hints and events may be late: the end shows all the same.
    world.checker.unverified = budget.stale > 0;
    world.checker.deaf = budget.errors + budget.lost_replies + budget.stale > 0;
    drop(world);
    if seed % 5 == ARCHIVED {
        // Somebody wants the same ids for other tasks, before, while or after they are archived.
        let again = specs.iter().filter(|(id, _)| id.is_some()).cloned();
        let again = again.map(|(id, spec)| (id, Spec { title: "again".to_owned(), ..spec }));
        runner.start("add-again", 0, programs::add(again.collect()));
        runner.start("gc", 0, programs::archiver(seed.is_multiple_of(2)));
    }
    runner.start("add", 0, programs::add(specs));
    let place = |runner: &Runner| runner.world().choices.below(machines as u32) as usize;
    for i in 0..workers {
        let machine = if duel { i as usize } else { place(runner) };
        let name = format!("w{}", i + 1);
        runner.start(&name, machine, programs::worker(&name, false, lease_ms));
    }
    for i in 0..monitors {
        let machine = place(runner);
        runner.start(&format!("monitor{}", i + 1), machine, programs::monitor());
    }
    for i in 0..mergers {
        let machine = place(runner);
        runner.start(&format!("merger{}", i + 1), machine, programs::merger(true));
    }
    for (what, id) in decided {
        runner.start(&format!("{what:?}").to_lowercase(), 0, programs::decision(what, id));
    }
    Setting { tasks: ids, machines, lease_ms }
}

fn task(c: &mut Choices, number: u32, before: &[String]) -> (Option<String>, Spec) {
    let how = ["ok", "fail:1", "fail:9", "temp:1", "perm"]
        [c.pick(&[250_000, 80_000, 80_000, 60_000]) as usize];
    let mut spec = Spec { v: 1, argv: vec!["job".to_owned(), how.to_owned()], ..Spec::default() };
    spec.max_attempts = 3;
    spec.backoff = Some(Backoff { base_s: f64::from(c.below(2)), factor: 1.0, max_s: 2.0 });
    if let Some(last) = before.last()
        && c.below(2) == 1
    {
        spec.after.push(last.clone());
        spec.on_dep_dead = match c.below(3) {
            0 => coord::queue::record::OnDepDead::Block,
            1 => coord::queue::record::OnDepDead::Cancel,
            _ => coord::queue::record::OnDepDead::Run,
        };
    }
    spec.hold = c.chance(60_000);
    if c.chance(80_000) {
        // Later than the run begins, by a few seconds.
        spec.not_before = Some("2026-01-01T00:00:13Z".to_owned());
    }
    if c.below(3) == 2 {
        spec.scope = vec![["a", "a/b", "."][c.below(3) as usize].to_owned()];
    }
    if c.below(4) == 3 {
        spec.merge = true;
        spec.merge_after.extend(before.last().filter(|_| c.below(2) == 1).cloned());
    }
    let given = c.below(4) != 3;
    (given.then(|| format!("T{}", number + 1)), spec)
}

/// Something from outside.
fn harm(runner: &mut Runner, setting: &Setting) {
    let (act, extra) = {
        let mut world = runner.world();
        (world.choices.below(8), world.choices.below(setting.tasks.len() as u32) as usize)
    };
    let machine = {
        let mut world = runner.world();
        world.choices.below(setting.machines as u32) as usize
    };
    match act {
        0 => {
            runner.world().count("worker started");
            let name = "w9";
            runner.start(name, machine, programs::worker(name, false, setting.lease_ms));
        }
        1 => remove_ready(runner),
        2 => {
            let mut world = runner.world();
            let skew = [-30_000, 7_200_000, -7_200_000][world.choices.below(3) as usize];
            // Further back, and what waits for its time takes more steps than a run has.
            let clock = &mut world.machines[machine].skew_ms;
            *clock = (*clock + skew).max(-7_200_000);
            world.count("clock set");
            world
                .tell(usize::MAX, || format!("the clock of machine {machine} is set by {skew} ms"));
        }
        3 => reboot(runner, machine),
        4 => stale_hint(runner, &setting.tasks[extra]),
        5 => drop_incoming(runner),
        6 => {
            runner.world().count("monitor started");
            runner.start("monitor9", machine, programs::monitor());
        }
        _ => {
            runner.world().count("retry");
            let id = setting.tasks[extra].clone();
            runner.start("retry", 0, programs::decision(Decision::Retry, id));
        }
    }
}

/// `rm -rf ready`.
pub fn remove_ready(runner: &mut Runner) {
    let mut world = runner.world();
    world.count("ready removed");
    world.tell(usize::MAX, || "rm -rf ready".to_owned());
    world.checker.unverified = true;
    let found = world.fs.disk().walk(&Path::new(ROOT).join("ready"));
    for (path, ino) in found.iter().rev() {
        let gone = {
            let mut disk = world.fs.disk();
            if disk.names(*ino).is_ok() { disk.rmdir(path, 0) } else { disk.unlink(path, 0) }
        };
        if gone.is_ok() {
            world.removed(path);
        }
    }
}

/// All processes and jobs of a machine are gone, and it comes up again.
pub fn reboot(runner: &mut Runner, machine: usize) {
    let mut world = runner.world();
    world.count("reboot");
    for at in 0..world.processes.len() {
        if world.processes[at].machine == machine {
            world.kill(at, "is gone with its machine");
        }
    }
    for job in 0..world.jobs.len() {
        let owner = world.jobs[job].owner;
        if world.jobs[job].alive && world.processes[owner].machine == machine {
            world.jobs[job].alive = false;
            let job = &world.jobs[job];
            let (task, n) = (job.task.clone(), job.n);
            world.checker.job_ended(&Job { task, n, ..blank() }, Err(libc::SIGKILL));
        }
    }
    let now_us = world.now_us;
    world.machines[machine].boot += 1;
    world.machines[machine].booted_us = now_us;
    drop(world);
    runner.start("w8", machine, programs::worker("w8", false, 8_000));
}

fn blank() -> Job {
    Job {
        pid: 0,
        owner: 0,
        task: String::new(),
        n: 0,
        token: String::new(),
        left: 0,
        code: 0,
        asked: false,
        alive: false,
        nature: Nature::Plain,
    }
}

/// An entry in ready/ that nothing supports (I8).
pub fn stale_hint(runner: &mut Runner, id: &str) {
    let mut world = runner.world();
    world.count("stale hint");
    let n = 1 + world.choices.below(3);
    world.tell(usize::MAX, || format!("somebody puts {id}.{n} into ready/"));
    let dir = Path::new(ROOT).join("ready/default/10/00000000-00");
    let mut disk = world.fs.disk();
    for part in dir.ancestors().collect::<Vec<_>>().into_iter().rev() {
        // Most of them are there.
        drop(disk.mkdir(part, 0));
    }
    drop(disk.create(&dir.join(format!("{id}.{n}")), 0));
    drop(disk);
    world.ring(&Path::new(ROOT).join("ready/bell"));
}

/// `mv task.json incoming/`.
fn drop_incoming(runner: &mut Runner) {
    let mut world = runner.world();
    world.count("incoming");
    world.tell(usize::MAX, || "mv task.json incoming/".to_owned());
    let number = world.random() % 1000;
    let path = Path::new(ROOT).join("incoming").join(format!("task{number}.json"));
    let text = format!(r#"{{"id":"I{number}","argv":["job","ok"]}}"#);
    let mut disk = world.fs.disk();
    if disk.create(&path, 1).is_ok() {
        drop(disk.append(&path, text.as_bytes(), 1));
    }
    drop(disk);
    world.ring(&path);
}

/// The trouble is over: a worker on each machine finishes everything, all leave, and the queue is
/// looked at.
pub fn settle(runner: &mut Runner) {
    let machines = {
        let mut world = runner.world();
        if world.violation.is_some() {
            return;
        }
        world.tell(usize::MAX, || "the trouble is over".to_owned());
        world.budget = Budget::default();
        world.fault_rate = 0;
        world.shared = false;
        world.policy = Policy::uniform(100_000);
        world.fs.disk().links_max = 65_000;
        world.machines.len()
    };
    if !finish(runner, machines, "last") {
        return;
    }
    // Everybody leaves; what they leave behind is for the next to look.
    let drain = Path::new(ROOT).join("control/drain");
    {
        let mut world = runner.world();
        let touched = world.fs.disk().create(&drain, 1);
        touched.expect("a sound disk");
        for process in &mut world.processes {
            process.wakes.push(Wake::Signal(libc::SIGTERM));
        }
    }
    let rest = runner.run(REST.0, REST.1, |_| {});
    if !rest {
        runner.world().violate("the programs do not leave".to_owned());
    }
    runner.world().fs.disk().unlink(&drain, 1).expect("a sound disk");
    if runner.world().violation.is_some() || !finish(runner, machines, "plain") {
        return;
    }
    let verdict = {
        let mut world = runner.world();
        let mut checker = std::mem::take(&mut world.checker);
        let verdict = checker.at_rest(&world);
        world.checker = checker;
        verdict
    };
    if let Err(what) = verdict {
        runner.world().violate(what);
        return;
    }
    runner.alone("fsck", 0, programs::inspect());
}

/// `coord work --until-empty` on each machine, and somebody who merges, until nothing is left. False: a
/// rule was broken, or it does not come to rest.
fn finish(runner: &mut Runner, machines: usize, name: &str) -> bool {
    runner.start(&format!("merger-{name}"), 0, programs::merger(false));
    // What comes after a task that is merged becomes ready when the workers have left.
    for round in 0..10 {
        if !work(runner, machines, &format!("{name}{round}-")) {
            return false;
        }
        let merging = |runner: &Runner| {
            let world = runner.world();
            let disk = world.fs.disk();
            Tasks::read(&disk, &mut Default::default()).is_anything_open()
        };
        // What is merged now leaves the hint of its lane to whoever works next.
        let merges = merging(runner);
        for _ in 0..REST.0 / 100 {
            if !merging(runner) || runner.world().violation.is_some() {
                break;
            }
            runner.run(100, REST.1, |_| {});
        }
        let merged = merges && !merging(runner);
        let mut world = runner.world();
        let mut checker = std::mem::take(&mut world.checker);
        let at_rest = checker.at_rest(&world);
        world.checker = checker;
        if at_rest.is_ok() && !merged {
            return true;
        }
    }
    // The checker says at the end what is missing.
    true
}

fn work(runner: &mut Runner, machines: usize, name: &str) -> bool {
    for machine in 0..machines {
        let name = format!("{name}{machine}");
        runner.start(&name, machine, programs::worker(&name, true, 60_000));
    }
    let finished = |runner: &Runner| {
        let world = runner.world();
        let mut own = world.processes.iter().filter(|p| p.name.starts_with(name));
        own.all(|p| p.state == State::Dead)
    };
    for _ in 0..REST.0 / 100 {
        runner.run(100, REST.1, |_| {});
        if runner.world().violation.is_some() {
            return false;
        }
        if finished(runner) {
            return true;
        }
    }
    let mut world = runner.world();
    let mut checker = std::mem::take(&mut world.checker);
    let why = checker.at_rest(&world).err().unwrap_or_default();
    world.checker = checker;
    world.violate(format!("it does not come to rest: {why}"));
    false
}
