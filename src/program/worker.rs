//! The worker: claims, runs, reports; and waits without polling when there is nothing to do.
//!
//! It never waits inside: the command is a child whose end is a wake-up like any other. The
//! coordinator embeds one where it cannot start any worker.
//!
//! Before it lets go of a claim, it ends the whole tree of the attempt: as a subreaper it gets the
//! orphans of its commands, also those that called setsid, and kills until it has no child left.
//!
//! While no monitor lives on this machine, an idle worker is also a keeper.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Exit, Result};
use crate::queue::control::{self, Asked};
use crate::queue::ids::short;
use crate::queue::procs::{Identity, Proc};
use crate::queue::ready::Finder;
use crate::queue::record::CardKind;
use crate::queue::roll::Roll;
use crate::queue::{durable, lane, sweep};
use crate::run::attempt::Attempt;
use crate::run::pool::Slot;
use crate::run::site::Site;
use crate::run::worktree;
use crate::sys::child;
use crate::sys::wake::{Wake, Watch};

mod anew;
mod astray;
pub mod claiming;
mod following;
mod idle;
mod judging;
mod orders;
mod saying;
mod signals;
mod staying;

use super::aside::Aside;
use super::keeper::Keeper;
use super::stumble::Stumble;
use orders::Orders;

/// Time for what a killed tree leaves to be gone.
const TREE_PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a result that could not be written (a full disk) is tried again, milliseconds.
const RETRY_RESULT_MS: u64 = 1000;
/// The control files are looked at this often without a wake-up, milliseconds.
const ASK_MS: u64 = 1000;
/// Key under which the monitor's death is watched.
const MONITOR_KEY: u64 = 1;
/// Between the last job and what an idle worker does for others, milliseconds.
const REST_MS: u64 = 10;
/// Who has no room for new work looks again after this time, milliseconds.
const HELD_BACK_MS: u64 = 1000;
/// An attempt that took less is worth dealing out what is ready, milliseconds.
const HURRY_MS: u64 = 20;
/// Refusals in a row after which a pass over the ready list is given up until the next bell.
const LOSSES_MAX: u32 = 1000;

/// How a worker behaves.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The readable part of its id.
    pub name: String,
    /// Roles it serves; all where empty.
    pub roles: Vec<String>,
    /// Labels it offers.
    pub labels: Vec<String>,
    /// The only task that it works at; all where `None`.
    pub only: Option<String>,
    /// Leave when nothing can become ready without a person.
    pub until_empty: bool,
    /// Leave after this many attempts.
    pub max_tasks: Option<u64>,
    /// Leave when there is nothing to claim now.
    pub once: bool,
    /// Its place among the workers of a run; 0: it is none of these.
    pub place: u32,
    /// The process that runs the run.
    pub front: String,
    /// Told what happens, for a person at the terminal.
    pub tell: Option<fn(&str)>,
    /// Children that are not an attempt's: the coordinator's programs.
    pub spare: Vec<i32>,
}

/// Why a worker left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Somebody asked it to.
    Asked,
    /// Nothing can become ready; `failed` tasks have failed.
    Empty {
        /// How many.
        failed: usize,
    },
    /// It has made as many attempts as it should.
    Enough {
        /// Whether the last one succeeded.
        succeeded: bool,
    },
    /// There was nothing to claim.
    Nothing,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait until then (milliseconds of the monotonic clock), or for a wake-up.
    Wait(u64),
    /// The worker has left the queue.
    Leave(Left),
}

enum Job {
    Idle,
    Running(Box<Attempt>),
    /// At an array, whose jobs it takes one after the other.
    Array(Box<staying::Stay>),
    /// The attempt is over and its verdict could not be written yet.
    Ending(Box<following::Ending>, u64),
}

/// A worker.
pub struct Worker {
    site: Site,
    options: Options,
    me: Proc,
    finder: Finder,
    roll: Roll,
    /// The last attempt took hardly longer than finding it.
    hurried: bool,
    began_ms: u64,
    job: Job,
    keeper: Option<Keeper>,
    leaving: bool,
    hand_back: bool,
    /// What it runs has been stopped, since then.
    frozen_ms: Option<u64>,
    /// Between asking a command to end and killing it.
    grace_ms: u64,
    /// The machine has refused what an attempt needs: when it is tried again, and the pause before that.
    refused: (u64, u64),
    /// There was no room for new work at the last look; nothing tells when there is.
    is_held_back: bool,
    /// Something may have become ready since the last look.
    rung: bool,
    /// A task was passed over because of its scope; the bell of scopes/ is watched since.
    hears_scopes: bool,
    /// Its numbers at runs that it has joined.
    joined: BTreeMap<PathBuf, u32>,
    /// The bells of the arrays that it has come to.
    hears_arrays: BTreeSet<PathBuf>,
    /// What the control files said, and when they are looked at again without a wake-up.
    asked: Asked,
    ask_at_ms: u64,
    /// That bell may have rung before it was watched.
    look_again: bool,
    /// Something watched was removed: everything must be watched anew.
    rewatch: bool,
    stumble: Stumble,
    /// What it has seen in incoming/ when it wanted to leave, and when first.
    incoming: BTreeMap<String, u64>,
    /// Its directory is gone, and it has to register again.
    lost_place: bool,
    /// The name in which it has claimed what it runs.
    claimed_as: String,
    /// Tasks that it could not look at.
    aside: Aside,
    /// It was asked to leave in the midst of what takes long, and has left the rest of that to others.
    cut_short: bool,
    /// When it was told to leave while an end could not be written.
    kept_from_leaving_ms: Option<u64>,
    /// Nothing was left at the last look, and the keeper looked once more for the dead.
    looked_twice: bool,
    /// What was heard since the last look of its keeper.
    unkept: Vec<Wake>,
    /// When it has been idle for a moment; `None` where it works, or has just worked.
    rested_ms: Option<u64>,
    attempts: u64,
    last_succeeded: bool,
    next_beat_ms: u64,
    last_beat_boot_ms: u64,
    next_scan_ms: u64,
    said: String,
    /// Why it leaves though there is work: no attempt can be prepared any more.
    broken: Option<Error>,
    /// The queue is not in its place any more.
    astray: bool,
    /// What the last notice is about, as long as that has not passed.
    said_about: &'static str,
    /// Its worktree, from its first attempt on.
    slot: Option<Slot>,
}

impl Worker {
    /// Registers a worker with the queue.
    pub fn new(site: &Site, options: Options, waiter: &mut dyn Watch) -> Result<Worker> {
        let me = Proc::register(&site.queue, &identity(site, &options))?;
        tracing::info!(worker = %me.wid, "registered");
        // One that claims only once starts anywhere in the cycle of ageing.
        let phase = if options.once || options.max_tasks == Some(1) {
            site.queue.clock.random() % u64::from(site.config.queue.ageing.max(1))
        } else {
            0
        };
        let finder = Finder::new(&roles(&options), u64::from(site.config.queue.ageing), phase);
        let now_ms = site.queue.clock.mono_ms();
        let mut worker = Worker {
            site: site.clone(),
            options,
            me,
            finder,
            roll: Roll::default(),
            hurried: false,
            began_ms: now_ms,
            job: Job::Idle,
            keeper: None,
            leaving: false,
            hand_back: false,
            frozen_ms: None,
            grace_ms: site.config.workers.grace_ms,
            refused: (0, 0),
            is_held_back: false,
            rung: false,
            hears_scopes: false,
            joined: BTreeMap::new(),
            hears_arrays: BTreeSet::new(),
            asked: Asked::default(),
            ask_at_ms: now_ms,
            look_again: false,
            rewatch: false,
            stumble: Stumble::default(),
            incoming: BTreeMap::new(),
            lost_place: false,
            claimed_as: String::new(),
            aside: Aside::default(),
            cut_short: false,
            kept_from_leaving_ms: None,
            looked_twice: false,
            unkept: Vec::new(),
            rested_ms: Some(now_ms),
            attempts: 0,
            last_succeeded: true,
            next_beat_ms: now_ms,
            last_beat_boot_ms: 0,
            next_scan_ms: now_ms,
            said: String::new(),
            broken: None,
            astray: false,
            said_about: "",
            slot: None,
        };
        worker.watch(waiter);
        Ok(worker)
    }

    /// Its process id in the queue.
    pub fn wid(&self) -> &str {
        &self.me.wid
    }

    fn watch(&mut self, waiter: &mut dyn Watch) {
        let layout = &self.site.queue.layout;
        let mut bells = vec![self.me.dir().join("bell"), layout.control()];
        if self.options.roles.is_empty() {
            bells.push(layout.ready_bell());
        }
        for role in &roles(&self.options) {
            let bell = layout.role_bell(role);
            // Nobody has published for this role yet.
            self.site.queue.ring(&bell);
            bells.push(bell);
        }
        if self.options.until_empty {
            bells.push(layout.events_bell());
        }
        if self.hears_scopes {
            bells.push(layout.scopes_bell());
        }
        for bell in bells.iter().chain(&self.hears_arrays) {
            waiter.watch(bell);
        }
    }

    /// One look at everything. Returns when to look again.
    ///
    /// `ended`: the children of this process that have ended since the last look. Whoever waits for
    /// all of them hands them out, since each can be reaped only once.
    pub fn tick(
        &mut self,
        waiter: &mut dyn Watch,
        wakes: &[Wake],
        ended: &[(i32, child::Exit)],
    ) -> Result<Next> {
        self.note_ended(ended);
        let next = self.look(waiter, wakes);
        self.cut_short |= next.as_ref().is_err_and(Error::is_cut_short);
        if next.is_err() || std::mem::take(&mut self.me.left_behind) {
            self.stumble.note(&self.site.queue);
        }
        let next = self.keep_alive(next);
        let events_ms = durable::events(&self.site.queue, &mut self.me, false);
        match (next, events_ms) {
            (Ok(Next::Wait(until_ms)), Some(due_ms)) => Ok(Next::Wait(until_ms.min(due_ms))),
            (next, _) => next,
        }
    }

    /// Beats also while nothing runs, if an intent of this process is left behind: it may name a claim, and
    /// who holds one and does not beat is taken for hung.
    fn keep_alive(&mut self, next: Result<Next>) -> Result<Next> {
        if !self.stumble.is_behind() || !matches!(self.job, Job::Idle) {
            return next;
        }
        if self.now_ms() >= self.next_beat_ms {
            self.beat()?;
        }
        Ok(match next? {
            Next::Wait(until_ms) => Next::Wait(until_ms.min(self.next_beat_ms)),
            leave => leave,
        })
    }

    /// Whether it waits for the job of an array, whose end it hears of by a signal.
    pub fn runs_a_job(&self) -> bool {
        matches!(&self.job, Job::Array(stay) if stay.running.is_some())
    }

    /// Why it has left though there was work, once it has left.
    pub fn broken(&mut self) -> Option<Error> {
        self.broken.take()
    }

    /// Leaves after what runs now.
    pub fn finish(&mut self) {
        self.leaving = true;
    }

    fn look(&mut self, waiter: &mut dyn Watch, wakes: &[Wake]) -> Result<Next> {
        if self.keeper.is_some() {
            let new =
                |wake: &&Wake| !matches!(wake, Wake::Signal(_)) && !self.unkept.contains(wake);
            let new: Vec<Wake> = wakes.iter().filter(new).cloned().collect();
            self.unkept.extend(new);
        }
        // Whatever fails, each of these steps is made: who was told to leave does, and what runs is followed.
        let mut went = self.hear(waiter, wakes);
        let asked = self.asked(wakes);
        self.leaving |= asked.drain || asked.stop;
        self.hand_back |= asked.stop;
        went = went.and(self.follow(waiter, wakes));
        if self.leaves_the_rest() {
            return Ok(Next::Leave(Left::Asked));
        }
        went = went.and(self.stay(waiter, wakes, asked.pause || self.frozen_ms.is_some()));
        // Who leaves in the midst of a cascade does not begin it anew before.
        let is_cut = self.cut_short && self.leaving;
        if matches!(self.job, Job::Idle) && !is_cut {
            went = went.and(self.stumble.mend(&self.site.queue, &mut self.me));
        }
        if let (Err(_), Job::Idle, Some(left)) = (&went, &self.job, self.should_leave()) {
            // What is left behind is finished by whoever recovers it.
            self.leave();
            return Ok(Next::Leave(left));
        }
        went?;
        while matches!(self.job, Job::Idle) {
            if let Some(left) = self.should_leave() {
                self.leave();
                return Ok(Next::Leave(left));
            }
            if self.site.queue.host.is_asked_to_leave() {
                // Before the next claim it hears what it was told during the last one.
                return Ok(Next::Wait(self.now_ms()));
            }
            if self.frozen_ms.is_some() {
                return Ok(Next::Wait(self.now_ms() + self.rescan_ms()));
            }
            if !self.take_one(waiter, asked.pause)? {
                return self.idle(waiter);
            }
        }
        Ok(Next::Wait(self.busy_deadline_ms()))
    }

    /// The control files. Their directory is watched: while one short job follows the other, they are
    /// looked at when it was rung, and now and then.
    fn asked(&mut self, wakes: &[Wake]) -> Asked {
        let now_ms = self.now_ms();
        let heard = wakes.is_empty() || wakes.iter().any(|wake| !matches!(wake, Wake::Signal(_)));
        if heard || now_ms >= self.ask_at_ms {
            self.is_astray(wakes);
            self.asked = control::asked(&self.site.queue, short(&self.me.wid));
            self.ask_at_ms = now_ms + ASK_MS;
        }
        self.asked
    }

    /// Signals and lost watches.
    fn hear(&mut self, waiter: &mut dyn Watch, wakes: &[Wake]) -> Result<()> {
        for wake in wakes {
            if let Wake::Signal(signal) = wake {
                self.signalled(*signal);
            }
        }
        // Looked after before the next claim: while a job runs, what is ready does not matter.
        let staying = matches!(self.job, Job::Array(_));
        let other = |bell: &PathBuf| !(staying && self.hears_arrays.contains(bell));
        self.rung |= wakes.iter().any(|w| matches!(w, Wake::Bell(bell) if other(bell)));
        self.rewatch |= wakes.contains(&Wake::Rescan);
        if self.rewatch && !self.is_astray(wakes) {
            let layout = &self.site.queue.layout;
            let mut stale = vec![layout.ready_bell(), layout.scopes_bell(), layout.control()];
            stale.push(self.me.dir().join("bell"));
            stale.extend(roles(&self.options).iter().map(|role| layout.role_bell(role)));
            stale.iter().for_each(|bell| waiter.unwatch(bell));
            sweep::restore_at_work(&self.site.queue, &mut self.me)?;
            // What was removed may have been made anew by others, without its hints.
            sweep::sweep(&self.site.queue, &mut self.me)?;
            self.watch(waiter);
            self.rewatch = false;
            self.finder.restart(&self.site.queue)?;
        }
        Ok(())
    }

    /// What it was told so far.
    fn orders(&self) -> Orders {
        Orders {
            leaving: self.leaving,
            hand_back: self.hand_back,
            on_term: self.site.config.workers.on_term,
            queue: self.site.queue.clone(),
            name: short(&self.me.wid).to_owned(),
        }
    }

    fn should_leave(&self) -> Option<Left> {
        if self.leaving {
            return Some(Left::Asked);
        }
        if self.options.max_tasks.is_some_and(|max| self.attempts >= max) {
            return Some(Left::Enough { succeeded: self.last_succeeded });
        }
        None
    }

    fn leave(&mut self) {
        if self.astray {
            return self.leave_astray();
        }
        self.unsay();
        worktree::give_back(&self.site, self.slot.take());
        self.me.leave(&self.site.queue);
    }
}

/// The roles whose tasks it looks for; all where empty. Whoever works also merges.
fn roles(options: &Options) -> Vec<String> {
    let mut roles = options.roles.clone();
    if !roles.is_empty() && !roles.iter().any(|role| role == lane::ROLE) {
        roles.push(lane::ROLE.to_owned());
    }
    roles
}

fn identity(site: &Site, options: &Options) -> Identity {
    Identity {
        name: options.name.clone(),
        kind: CardKind::Worker,
        roles: options.roles.clone(),
        labels: options.labels.clone(),
        place: options.place,
        front: options.front.clone(),
        former: String::new(),
        lease_ms: if site.queue.shared {
            site.config.lease.expire_ms.max(120_000)
        } else {
            site.config.lease.expire_ms
        },
    }
}

/// The exit code that a reason to leave stands for.
pub fn exit_of(left: Left) -> Option<Exit> {
    match left {
        Left::Asked | Left::Empty { failed: 0 } | Left::Enough { succeeded: true } => None,
        Left::Empty { .. } | Left::Enough { succeeded: false } => Some(Exit::No),
        Left::Nothing => Some(Exit::Nothing),
    }
}
