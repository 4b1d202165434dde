//! Stories: real transitions by several processes on one disk, some of which are killed. Everything
//! that reaches the disk is written down, with what was learnt from it and when.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

use coord::config::Config;
use coord::error::Result;
use coord::program::worker::{Next, Options, Worker};
use coord::queue::claim::{Claimed, seize};
use coord::queue::decide::{self, How};
use coord::queue::durable::Durability;
use coord::queue::ids::Key;
use coord::queue::init::init_as;
use coord::queue::procs::{Identity, Proc};
use coord::queue::record::{Backoff, CardKind, End, OnDepDead, Spec, Verdict};
use coord::queue::submit::{acknowledge, begin, submit};
use coord::queue::tasks::{self, Phase};
use coord::queue::{Queue, end};
use coord::sys::fs::Fs;
use coord::sys::wake::Wake;

use crate::disk::{Change, Disk};
use crate::machine::{Deaf, Killed, Mark, Process, ROOT, World};
use crate::mutation::SyncPoint;
use crate::reboot::site;
use coord::chaos::dice::Dice;

/// A story that was written down.
pub struct Recording {
    /// What it is called.
    pub name: &'static str,
    /// Its mode.
    pub mode: Durability,
    /// The disk before it, which is durable.
    pub base: Disk,
    /// What was changed.
    pub journal: Vec<Change>,
    /// When.
    pub times: Vec<u64>,
    /// What was learnt, and how long the journal was then.
    pub marks: Vec<(usize, Mark)>,
    /// Calls that were left out.
    pub drops: u64,
}

/// A name and what happens.
type Story = (&'static str, fn(&mut Teller));

/// All stories.
pub const STORIES: [Story; 9] = [
    ("submissions", submissions),
    ("failures", failures),
    ("people", people),
    ("incoming", incoming),
    ("a dead worker", dead_worker),
    ("two workers", two_workers),
    ("import", import),
    ("a dead submitter", dead_submitter),
    ("an end nobody waited for", unsynced_end),
];

/// Plays a story.
pub fn record(seed: u64, mode: Durability, dropped: Option<&'static SyncPoint>) -> Recording {
    let stories = STORIES.len() as u64;
    let (name, story) = STORIES[usize::try_from(seed % stories).unwrap_or(0)];
    let mut disk = Disk::new();
    for path in ["/power", "/power/project"] {
        disk.mkdir(Path::new(path), 0).expect("an empty disk");
    }
    let world = World::new(disk, "boot-a", 1_700_000_000_000, seed);
    let mut base = world.fs.disk().clone();
    let maker = world.process();
    // What mode `process` has made is on the disk by and by; the story begins afterwards.
    if mode > Durability::Process {
        world.fs.disk().journal = Some(Vec::new());
        world.state().dropped = dropped;
    }
    init_as(Path::new(ROOT), maker.platform(), mode).expect("an empty disk takes a queue");
    if mode == Durability::Process {
        base = world.fs.disk().clone();
        world.fs.disk().journal = Some(Vec::new());
    } else {
        world.mark(Mark::Made);
    }
    maker.dies();
    let mut teller = Teller {
        world: world.clone(),
        dice: Dice::new(seed ^ 0x5704),
        workers: Vec::new(),
        config: Arc::new(Config::default()),
    };
    story(&mut teller);
    let journal = world.fs.disk().journal.clone().unwrap_or_default();
    let state = world.state();
    let (times, marks) = (state.times.clone(), state.marks.clone());
    Recording { name, mode, base, journal, times, marks, drops: state.drops }
}

/// One who plays a story.
pub struct Teller {
    world: World,
    dice: Dice,
    workers: Vec<Hand>,
    config: Arc<Config>,
}

/// A worker of the story.
struct Hand {
    process: Process,
    worker: Option<Worker>,
    waiter: Deaf,
    until_ms: u64,
}

impl Teller {
    fn queue(&self, process: &Process) -> Queue {
        Queue::open(Path::new(ROOT), process.platform()).expect("the queue is there")
    }

    /// A command: a process of its own. `None`: it was killed, or refused.
    fn command<T>(&mut self, act: impl FnOnce(&Queue, &mut Proc) -> Result<T>) -> Option<T> {
        let process = self.world.process();
        self.command_by(&process, act)
    }

    fn command_by<T>(
        &mut self,
        process: &Process,
        act: impl FnOnce(&Queue, &mut Proc) -> Result<T>,
    ) -> Option<T> {
        let queue = self.queue(process);
        let done = survive(|| {
            let mut me = Proc::register(&queue, &Identity::plain("cli", CardKind::Cli))?;
            let done = act(&queue, &mut me);
            me.leave(&queue);
            // A command waits for its lines before it leaves.
            process.world.mark(Mark::Looked(process.pid, u64::MAX));
            done
        });
        process.dies();
        done.and_then(Result::ok)
    }

    fn add(&mut self, id: Option<&str>, spec: Spec) {
        let process = self.world.process();
        self.add_by(&process, id, spec);
    }

    fn add_by(&mut self, process: &Process, id: Option<&str>, mut spec: Spec) {
        spec.uid = format!("{:016x}", self.dice.number());
        let uid = spec.uid.clone();
        let id = id.map(str::to_owned);
        let world = self.world.clone();
        self.command_by(process, |queue, me| {
            let submitted = submit(queue, me, id.as_deref(), spec)?;
            if matches!(submitted, coord::queue::submit::Submitted::New(_)) {
                world.mark(Mark::Submitted(submitted.id().to_owned(), uid));
            }
            Ok(())
        });
    }

    fn hire(&mut self, name: &str) -> i32 {
        let process = self.world.process();
        let queue = self.queue(&process);
        let options = Options { name: name.to_owned(), until_empty: true, ..Options::default() };
        let mut waiter = Deaf::default();
        let site = site(&queue, &self.config);
        let worker = survive(|| Worker::new(&site, options, &mut waiter)).and_then(Result::ok);
        let pid = process.pid;
        self.workers.push(Hand { process, worker, waiter, until_ms: 0 });
        pid
    }

    fn doom(&mut self, pid: i32, most: u64) {
        let calls = self.dice.roll(most);
        self.world.state().budget.insert(pid, calls);
    }

    /// One look of one worker.
    fn look(&mut self, at: usize) {
        let hand = &mut self.workers[at];
        let Some(worker) = &mut hand.worker else { return };
        let own = hand.process.pid;
        let ended: Vec<_> = self
            .world
            .state()
            .ended
            .extract_if(.., |(parent, ..)| *parent == own)
            .map(|(_, pid, exit)| (pid, exit))
            .collect();
        let bell = Wake::Bell(Path::new(ROOT).join("ready/bell"));
        let waiter = &mut hand.waiter;
        match survive(|| worker.tick(waiter, &[bell], &ended)) {
            Some(Ok(Next::Wait(until_ms))) => {
                hand.until_ms = self.world.booted_ms + until_ms;
                let now_ms = self.world.state().now_ms;
                self.world.mark(Mark::Looked(own, now_ms));
            }
            Some(Ok(Next::Leave(_))) => {
                self.world.mark(Mark::Looked(own, u64::MAX));
                hand.worker = None;
                hand.process.dies();
            }
            Some(Err(_)) => hand.until_ms = 0,
            None => {
                hand.worker = None;
                hand.process.dies();
                self.world.state().ended.retain(|(parent, ..)| *parent != own);
            }
        }
    }

    /// The workers go on, in no order, until they have left, are dead, or have looked so often.
    fn work(&mut self, looks: usize) {
        for _ in 0..looks {
            let busy: Vec<usize> =
                (0..self.workers.len()).filter(|&at| self.workers[at].worker.is_some()).collect();
            if busy.is_empty() {
                return;
            }
            let at = busy[usize::try_from(self.dice.roll(busy.len() as u64)).unwrap_or(0)];
            self.look(at);
            if self.dice.chance(50) && self.world.state().ended.is_empty() {
                let due = busy.iter().map(|&at| self.workers[at].until_ms).min().unwrap_or(0);
                self.world.pass(due);
            }
        }
    }

    fn decide(&mut self, act: impl FnOnce(&Queue, &mut Proc) -> Result<()>) -> bool {
        self.command(act).is_some()
    }

    fn cancel(&mut self, id: &str, how: How) {
        let world = self.world.clone();
        self.decide(|queue, me| {
            decide::cancel(queue, me, id, how, "no longer", |_| {})?;
            world.mark(Mark::Cancelled(id.to_owned()));
            Ok(())
        });
    }

    fn hold(&mut self, id: &str) {
        let world = self.world.clone();
        self.decide(|queue, me| {
            decide::hold(queue, me, id)?;
            if let Phase::Claimed(n) = tasks::existing(queue, id)?.phase {
                world.mark(Mark::Held(id.to_owned(), n));
            }
            Ok(())
        });
    }

    fn retry(&mut self, id: &str) {
        self.decide(|queue, me| decide::retry(queue, me, id, "again"));
    }

    /// Something that a person mv'd into incoming/ and waited for.
    fn drop_in(&mut self, name: &str, text: &str, title: &str) {
        let person = self.world.process();
        let path = Path::new(ROOT).join("incoming").join(name);
        let dropped = self.world.state().dropped.take();
        let put = person.create(&path, text.as_bytes(), 0o644).and_then(|()| {
            person.sync_file(&path)?;
            person.sync_dir(&Path::new(ROOT).join("incoming"))?;
            // The directory's own name is durable too, as after `sync`.
            person.sync_dir(Path::new(ROOT))
        });
        self.world.state().dropped = dropped;
        person.dies();
        if put.is_ok() {
            self.world.mark(Mark::Dropped(title.to_owned()));
        }
    }
}

/// A disk that fails: what was heard of the submission and of the end while it failed, and after.
pub fn with_errors(mode: Durability, points: [&'static SyncPoint; 2]) -> [(bool, usize); 4] {
    let mut disk = Disk::new();
    for path in ["/power", "/power/project"] {
        disk.mkdir(Path::new(path), 0).expect("an empty disk");
    }
    let world = World::new(disk, "boot-a", 1_700_000_000_000, 5);
    init_as(Path::new(ROOT), world.process().platform(), mode).expect("a queue");
    let dice = Dice::new(5);
    let mut teller =
        Teller { world: world.clone(), dice, workers: Vec::new(), config: Arc::default() };
    let told = |kind: &str| {
        let state = world.state();
        let is = |mark: &Mark| matches!(mark, Mark::Told(event, ..) if event.k == kind);
        state.marks.iter().filter(|(_, mark)| is(mark)).count()
    };
    let submits = |teller: &mut Teller| {
        teller.command(|queue, me| submit(queue, me, Some("a"), job("ok"))).is_some()
    };
    world.state().broken = Some(points[0]);
    let first = (submits(&mut teller), told("submit"));
    world.state().broken = None;
    let second = (submits(&mut teller), told("submit"));
    world.state().broken = Some(points[1]);
    teller.hire("w1");
    teller.work(20);
    let third = (teller.workers[0].worker.is_none(), told("end"));
    world.state().broken = None;
    teller.work(40);
    [first, second, third, (teller.workers[0].worker.is_none(), told("end"))]
}

/// Runs until it returns, or until the process is killed.
fn survive<T>(act: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(done) => Some(done),
        Err(why) if why.is::<Killed>() => None,
        Err(why) => resume_unwind(why),
    }
}

fn job(word: &str) -> Spec {
    let backoff = Some(Backoff { base_s: 1.0, factor: 2.0, max_s: 4.0 });
    Spec { argv: vec![word.to_owned()], backoff, ..Spec::new(word) }
}

fn after(word: &str, on: &[&str]) -> Spec {
    Spec { after: on.iter().map(|id| (*id).to_owned()).collect(), ..job(word) }
}

fn submissions(story: &mut Teller) {
    story.add(Some("a"), job("ok"));
    story.add(Some("b"), after("ok", &["a"]));
    story.hire("w1");
    story.work(3);
    story.add(None, job("fail-first"));
    story.add(Some("c"), after("ok", &["a", "b"]));
    story.add(None, job("ok"));
    story.add(Some("a"), job("ok"));
    story.work(60);
}

fn failures(story: &mut Teller) {
    story.add(Some("x"), job("fail-first"));
    story.add(Some("y"), job("fail-for-ever"));
    let gives_up = Spec { on_dep_dead: OnDepDead::Cancel, ..after("ok", &["y"]) };
    story.add(Some("z"), gives_up);
    story.add(Some("v"), Spec { on_dep_dead: OnDepDead::Run, ..after("ok", &["y"]) });
    story.add(Some("l"), job("later"));
    story.hire("w1");
    story.work(60);
    let doomed = story.world.process();
    if story.dice.chance(40) {
        story.doom(doomed.pid, 30);
    }
    story.command_by(&doomed, |queue, me| decide::retry(queue, me, "y", "again"));
    story.hire("w2");
    story.work(60);
    story.retry("y");
    story.hire("w3");
    story.work(20);
}

fn people(story: &mut Teller) {
    story.add(Some("h"), job("ok"));
    story.hold("h");
    story.add(Some("p"), job("ok"));
    story.cancel("p", How::Ask);
    story.add(Some("k"), Spec { hold: true, ..job("ok") });
    story.add(Some("m"), Spec { manual: true, ..Spec::new("by hand") });
    story.add(Some("r"), job("ok"));
    let pid = story.hire("w1");
    story.look(0);
    story.cancel("r", How::Ask);
    if story.dice.chance(50) {
        story.doom(pid, 12);
    }
    story.work(10);
    story.command(|queue, me| {
        let key = Key::new("m", 1);
        let Claimed::Won(lease) = seize(queue, me, &key, CardKind::Human)? else { return Ok(()) };
        end::record(queue, me, &lease, End::new(Verdict::Done, false))?;
        end::finish(queue, me, &lease, false)
    });
    story.decide(|queue, me| decide::release(queue, me, "k"));
    story.cancel("r", How::Force);
    if story.dice.chance(50) {
        story.decide(|queue, me| decide::release(queue, me, "h"));
    }
    story.hire("w2");
    story.work(40);
}

fn incoming(story: &mut Teller) {
    story.drop_in("one.json", r#"{"argv": ["ok"], "title": "dropped one"}"#, "dropped one");
    story.drop_in(
        "2.json",
        r#"{"id": "in", "argv": ["ok"], "title": "dropped two"}"#,
        "dropped two",
    );
    story.drop_in("3.json", r#"{"argv": ["fail-first"], "title": "dropped 3"}"#, "dropped 3");
    let pid = story.hire("w1");
    story.doom(pid, 60);
    story.work(10);
    let pid = story.hire("w2");
    story.doom(pid, 90);
    story.work(10);
    story.hire("w3");
    story.work(40);
}

fn dead_worker(story: &mut Teller) {
    story.add(Some("a"), job("ok"));
    story.add(Some("b"), after("ok", &["a"]));
    story.add(Some("c"), job("fail-first"));
    let pid = story.hire("w1");
    story.doom(pid, 70);
    story.work(12);
    let pid = story.hire("w2");
    story.doom(pid, 110);
    story.work(20);
    story.hire("w3");
    story.work(60);
}

fn two_workers(story: &mut Teller) {
    for i in 0..5 {
        let on = format!("t{}", (i + 3) % 5);
        let spec = if i < 3 { job("ok") } else { after("fail-first", &[&on]) };
        story.add(Some(&format!("t{i}")), spec);
    }
    let pid = story.hire("w1");
    story.hire("w2");
    if story.dice.chance(60) {
        story.doom(pid, 150);
    }
    story.work(15);
    story.cancel("t2", How::Ask);
    story.work(60);
}

fn import(story: &mut Teller) {
    let specs: Vec<(String, Spec)> = (0..8)
        .map(|i| {
            let id = format!("i{i}");
            let spec = if i % 3 == 2 { after("ok", &["i0", "i1"]) } else { job("ok") };
            (id, Spec { uid: format!("{:016x}", story.dice.number()), ..spec })
        })
        .collect();
    let uids: BTreeMap<String, String> =
        specs.iter().map(|(id, spec)| (id.clone(), spec.uid.clone())).collect();
    let process = story.world.process();
    if story.dice.chance(40) {
        story.doom(process.pid, 120);
    }
    let world = story.world.clone();
    story.command_by(&process, |queue, me| {
        let begun: Result<Vec<_>> =
            specs.into_iter().map(|(id, spec)| begin(queue, me, Some(&id), spec)).collect();
        acknowledge(queue, me, begun?, None)?;
        uids.into_iter().for_each(|(id, uid)| world.mark(Mark::Submitted(id, uid)));
        Ok(())
    });
    story.hire("w1");
    story.work(60);
}

fn dead_submitter(story: &mut Teller) {
    for round in 0..4 {
        let process = story.world.process();
        story.doom(process.pid, 40);
        let id = if round == 3 { None } else { Some("s") };
        story.add_by(&process, id, job("ok"));
        if story.dice.chance(50) {
            story.hire("w");
            story.work(5);
        }
    }
    story.add(Some("s"), job("ok"));
    story.hire("w");
    story.work(40);
}

/// A worker dies between the link of an end and the wait for the disk; somebody finds it done.
fn unsynced_end(story: &mut Teller) {
    story.add(Some("d"), job("ok"));
    let pid = story.hire("w1");
    story.world.state().dies_after.insert(pid, ".end");
    story.work(4);
    story.add(Some("x"), after("ok", &["d"]));
    story.hire("w2");
    story.work(40);
}
