//! The worker: claims, runs, reports; and waits without polling when there is nothing to do.
//!
//! It never waits inside: the command is a child whose end is a wake-up like any other. The
//! coordinator embeds one where it cannot start any worker.
//!
//! Before it lets go of a claim, it ends the whole tree of the attempt: as a subreaper it gets the
//! orphans of its commands, also those that called setsid, and kills until it has no child left.
//!
//! While no monitor lives on this machine, an idle worker is also a keeper.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::OnTerm;
use crate::error::{Exit, Result};
use crate::queue::claim::{Claimed, Lease, claim};
use crate::queue::end::{self, Ended};
use crate::queue::ids::short;
use crate::queue::procs::{self, Identity, Proc};
use crate::queue::ready::Finder;
use crate::queue::record::{CardKind, End, Spec, Verdict};
use crate::queue::{control, events, sweep};
use crate::run::attempt::{self, Attempt};
use crate::run::outcome::{self, Stopped};
use crate::run::site::Site;
use crate::run::worktree;
use crate::sys::wake::{Waiter, Wake};
use crate::sys::{alive, child, machine};

use super::keeper::Keeper;

/// Time for what a killed tree leaves to be gone.
const TREE_PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a result that could not be written (a full disk) is tried again.
const RETRY_RESULT: Duration = Duration::from_secs(1);
/// Key under which the monitor's death is watched.
const MONITOR_KEY: u64 = 1;
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
    /// Leave when nothing can become ready without a person.
    pub until_empty: bool,
    /// Leave after this many attempts.
    pub max_tasks: Option<u64>,
    /// Leave when there is nothing to claim now.
    pub once: bool,
    /// Tell a person on the terminal what happens.
    pub talk: bool,
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
    /// Wait until then, or for a wake-up.
    Wait(Instant),
    /// The worker has left the queue.
    Leave(Left),
}

enum Job {
    Idle,
    Running(Box<Attempt>),
    /// The attempt is over and its verdict could not be written yet.
    Ending(Box<(Lease, End)>, Instant),
}

/// A worker.
pub struct Worker {
    site: Site,
    options: Options,
    me: Proc,
    finder: Finder,
    job: Job,
    keeper: Option<Keeper>,
    leaving: bool,
    hand_back: bool,
    attempts: u64,
    last_succeeded: bool,
    next_beat: Instant,
    last_beat_boot_ms: u64,
    next_scan: Instant,
    said: String,
}

impl Worker {
    /// Registers a worker with the queue.
    pub fn new(site: &Site, options: Options, waiter: &mut Waiter) -> Result<Worker> {
        // Where this fails, orphans of commands go to init and are found by their mark.
        if let Err(e) = child::become_subreaper() {
            tracing::warn!(error = %e, "cannot become a subreaper");
        }
        let me = Proc::register(&site.queue, &identity(site, &options))?;
        // One that claims only once starts anywhere in the cycle of ageing.
        let phase = if options.once || options.max_tasks == Some(1) {
            site.queue.clock.random() % u64::from(site.config.queue.ageing.max(1))
        } else {
            0
        };
        let finder = Finder::new(&options.roles, u64::from(site.config.queue.ageing), phase);
        let now = Instant::now();
        let mut worker = Worker {
            site: site.clone(),
            options,
            me,
            finder,
            job: Job::Idle,
            keeper: None,
            leaving: false,
            hand_back: false,
            attempts: 0,
            last_succeeded: true,
            next_beat: now,
            last_beat_boot_ms: 0,
            next_scan: now,
            said: String::new(),
        };
        worker.watch(waiter);
        Ok(worker)
    }

    /// Its process id in the queue.
    pub fn wid(&self) -> &str {
        &self.me.wid
    }

    fn watch(&mut self, waiter: &mut Waiter) {
        let layout = &self.site.queue.layout;
        let mut bells = vec![self.me.dir().join("bell"), layout.control()];
        if self.options.roles.is_empty() {
            bells.push(layout.ready_bell());
        }
        for role in &self.options.roles {
            let bell = layout.role_bell(role);
            // Nobody has published for this role yet.
            self.site.queue.ring(&bell);
            bells.push(bell);
        }
        if self.options.until_empty {
            bells.push(layout.events_bell());
        }
        for bell in bells {
            waiter.watch(&bell);
        }
    }

    /// One look at everything. Returns when to look again.
    pub fn tick(&mut self, waiter: &mut Waiter, wakes: &[Wake]) -> Result<Next> {
        self.hear(waiter, wakes)?;
        let asked = control::asked(&self.site.queue, short(&self.me.wid));
        self.leaving |= asked.drain || asked.stop;
        self.hand_back |= asked.stop;
        self.follow(waiter, wakes)?;
        while matches!(self.job, Job::Idle) {
            if let Some(left) = self.should_leave() {
                self.leave();
                return Ok(Next::Leave(left));
            }
            if !self.take_one(waiter, asked.pause)? {
                return self.idle(waiter, wakes);
            }
        }
        Ok(Next::Wait(self.busy_deadline()))
    }

    /// Signals and lost watches.
    fn hear(&mut self, waiter: &mut Waiter, wakes: &[Wake]) -> Result<()> {
        for wake in wakes {
            match wake {
                Wake::Signal(signal) => self.signalled(*signal),
                Wake::Rescan => {
                    let stale: [PathBuf; 2] =
                        [self.site.queue.layout.ready_bell(), self.me.dir().join("bell")];
                    stale.iter().for_each(|bell| waiter.unwatch(bell));
                    sweep::restore_directories(&self.site.queue)?;
                    for role in &self.options.roles {
                        waiter.unwatch(&self.site.queue.layout.role_bell(role));
                    }
                    self.watch(waiter);
                    self.finder.restart(&self.site.queue)?;
                }
                Wake::Bell(_) | Wake::Died(_) => {}
            }
        }
        if wakes.iter().any(|w| matches!(w, Wake::Bell(_))) {
            self.finder.rung(&self.site.queue)?;
        }
        Ok(())
    }

    /// SIGTERM does what coord.toml says; SIGINT finishes what runs, and a second one hands it back.
    fn signalled(&mut self, signal: i32) {
        match signal {
            nix::libc::SIGTERM if self.site.config.workers.on_term == OnTerm::Finish => {
                self.leaving = true
            }
            nix::libc::SIGTERM => (self.leaving, self.hand_back) = (true, true),
            nix::libc::SIGINT | nix::libc::SIGHUP => {
                self.hand_back |= self.leaving;
                self.leaving = true;
                if let (Job::Running(a), false) = (&self.job, self.hand_back) {
                    let id = &a.lease.key.task;
                    self.tell(&format!(
                        "finishing {id}, then leaving (Ctrl-C again: hand it back)"
                    ));
                }
            }
            _ => {}
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
        self.me.leave(&self.site.queue);
    }

    // --- claiming ---

    /// Claims and starts one task. False: there is nothing to claim now.
    fn take_one(&mut self, waiter: &mut Waiter, paused: bool) -> Result<bool> {
        if paused {
            self.say_once("paused: coord resume");
            return Ok(false);
        }
        if let Some(why) = self.no_room() {
            self.say_once(&why);
            return Ok(false);
        }
        let mut losses = 0;
        while let Some(candidate) = self.finder.next(&self.site.queue)? {
            let (site, labels) = (&self.site, &self.options.labels);
            let suits = |spec: &Spec| {
                spec.needs.iter().all(|need| labels.contains(need))
                    && attempt::command(site, spec).is_some()
            };
            match claim(&self.site.queue, &mut self.me, &candidate, suits)? {
                Claimed::Won(lease) => {
                    self.finder.won();
                    self.said.clear();
                    self.start(*lease)?;
                    return Ok(true);
                }
                Claimed::Lost => {
                    self.finder.lost();
                    losses += 1;
                    if losses > LOSSES_MAX {
                        return Ok(false);
                    }
                }
                Claimed::Stale | Claimed::Unsuited => {}
                Claimed::Dead => self.register_anew(waiter)?,
            }
        }
        Ok(false)
    }

    /// Too little disk for new work: a small file system keeps a twentieth free, a large one 64 MiB.
    fn no_room(&self) -> Option<String> {
        let (free, total) = machine::disk_space(self.site.queue.layout.root())?;
        let least = self.site.config.limits.disk_free_bytes.unwrap_or((total / 20).min(64 << 20));
        (free < least)
            .then(|| format!("no new work: only {} KiB free on the disk of the queue", free / 1024))
    }

    fn start(&mut self, lease: Lease) -> Result<()> {
        let (key, title) = (lease.key.clone(), lease.spec.title.clone());
        self.next_beat = Instant::now() + self.beat_every(&lease.spec);
        self.me.beat(&self.site.queue)?;
        self.last_beat_boot_ms = self.site.queue.clock.boot_ms();
        tracing::info!(task = %key.task, attempt = key.n, "claimed");
        self.tell(&format!("{} {} attempt {}", key.task, title, key.n));
        match attempt::start(&self.site, &self.me, lease) {
            Ok(Ok(attempt)) => self.job = Job::Running(Box::new(attempt)),
            Ok(Err((lease, end))) => self.job = Job::Ending(Box::new((lease, end)), Instant::now()),
            Err(e) => {
                // Not the task's fault (a full disk): hand it back, uncharged, for later.
                tracing::error!(error = %e, "cannot start an attempt");
                let Some(lease) = self.held(&key)? else { return Err(e) };
                let why = match &e.cause {
                    Some(cause) => format!("{e}: {cause}"),
                    None => e.to_string(),
                };
                let due = self.site.queue.clock.wall_ms() + 1000;
                let end = End {
                    why,
                    not_before: Some(crate::sys::clock::rfc3339(due)),
                    ..End::new(Verdict::Release, true)
                };
                self.job = Job::Ending(Box::new((lease, end)), Instant::now());
            }
        }
        self.conclude_ending();
        Ok(())
    }

    /// The lease on an attempt that this worker holds, read from the queue.
    fn held(&self, key: &crate::queue::ids::Key) -> Result<Option<Lease>> {
        use crate::queue::tasks;
        let Some(task) = tasks::look(&self.site.queue, &key.task)? else { return Ok(None) };
        let Ok(spec) = task.spec.clone() else { return Ok(None) };
        Ok(Some(Lease { key: key.clone(), task, spec, at: self.site.queue.now() }))
    }

    fn beat_every(&self, spec: &Spec) -> Duration {
        let own = spec.lease_s.filter(|s| s.is_finite() && *s > 0.0);
        let own = own.map(|s| Duration::from_secs_f64(s / 4.0));
        let usual = Duration::from_millis(self.site.config.lease.heartbeat_ms);
        own.map_or(usual, |own| own.min(usual))
    }

    // --- following the attempt ---

    /// Looks at the running attempt: has it ended, must it end, is a heartbeat due?
    fn follow(&mut self, waiter: &mut Waiter, wakes: &[Wake]) -> Result<()> {
        let ended = child::reap();
        let now = Instant::now();
        if let Job::Running(attempt) = &mut self.job {
            let exit = ended.iter().find(|(pid, _)| *pid == attempt.pid).map(|(_, exit)| *exit);
            if let Some(exit) = exit {
                self.finished(exit);
            } else {
                let grace = Duration::from_millis(self.site.config.workers.grace_ms);
                if self.hand_back {
                    attempt.stop(Stopped::HandBack, grace);
                }
                if attempt.deadline.is_some_and(|deadline| now >= deadline) {
                    attempt.stop(Stopped::TimeLimit, grace);
                }
                let rung = wakes.iter().any(|w| matches!(w, Wake::Bell(_) | Wake::Rescan));
                if rung || now >= self.next_beat {
                    self.look_at_claim(grace)?;
                }
                self.kill_when_due(now);
            }
        }
        if now >= self.next_beat && !matches!(self.job, Job::Idle) {
            self.beat()?;
        }
        self.conclude_ending();
        if matches!(self.job, Job::Idle) && self.me.is_declared_dead(&self.site.queue) {
            self.register_anew(waiter)?;
        }
        Ok(())
    }

    /// Was the attempt taken away, or a cancel asked for?
    fn look_at_claim(&mut self, grace: Duration) -> Result<()> {
        let Job::Running(attempt) = &mut self.job else { return Ok(()) };
        let (queue, key) = (&self.site.queue, &attempt.lease.key);
        let register = |kind: &str| {
            queue.fs.stat(&queue.layout.task(&key.task).join(format!("{}.{kind}", key.n))).is_ok()
        };
        if register("end") || self.me.is_declared_dead(queue) {
            attempt.stop(Stopped::Fenced, grace);
        } else if register("cancel") {
            attempt.stop(Stopped::Cancel, grace);
        }
        Ok(())
    }

    fn kill_when_due(&mut self, now: Instant) {
        let Job::Running(attempt) = &self.job else { return };
        if attempt.stopped.is_some_and(|(_, kill_at)| now >= kill_at) {
            let pid = attempt.pid;
            let (ended, _) = child::end_children(&self.options.spare, TREE_PATIENCE);
            if let Some((_, exit)) = ended.iter().find(|(p, _)| *p == pid) {
                self.finished(*exit);
            }
        }
    }

    /// The command has ended: end the rest of its tree, then judge.
    fn finished(&mut self, exit: child::Exit) {
        let Job::Running(attempt) = std::mem::replace(&mut self.job, Job::Idle) else { return };
        let (_, clean) = child::end_children(&self.options.spare, TREE_PATIENCE);
        if !clean {
            tracing::error!(task = %attempt.lease.key.task, "some of its processes cannot be ended");
        }
        let Attempt { lease, place, stopped, .. } = *attempt;
        let mut end = outcome::judge(&self.site, &lease, exit, stopped.map(|(why, _)| why));
        let done = end.verdict == Verdict::Done;
        let value = std::mem::take(&mut end.result.value);
        end.result = worktree::conclude(&self.site, &lease.key, &lease.spec.title, &place, done);
        end.result.value = value;
        self.job = Job::Ending(Box::new((lease, end)), Instant::now());
    }

    /// Publishes a verdict; keeps trying where the disk does not take it.
    fn conclude_ending(&mut self) {
        let Job::Ending(ending, due) = &self.job else { return };
        if Instant::now() < *due {
            return;
        }
        let (lease, end) = (&ending.0, ending.1.clone());
        let key = lease.key.clone();
        let verdict = end.verdict;
        let why = end.why.clone();
        let published = end::record(&self.site.queue, &mut self.me, lease, end).and_then(|ended| {
            let late = matches!(ended, Ended::Fenced(_));
            end::finish(&self.site.queue, &mut self.me, lease, late)?;
            Ok(ended)
        });
        match published {
            Ok(ended) => {
                self.job = Job::Idle;
                self.attempts += 1;
                self.last_succeeded = verdict == Verdict::Done && ended == Ended::Recorded;
                self.report(&key, verdict, &why, &ended);
            }
            Err(_) if self.me.is_declared_dead(&self.site.queue) => {
                // Its place to stage results is gone with its identity; the attempt was recovered.
                self.job = Job::Idle;
                self.say_once(&format!(
                    "cannot record the end of {key}: this worker was declared dead"
                ));
            }
            Err(e) => {
                let text = format!(
                    "cannot record the end of {key} ({verdict:?}): {e}{}; will try again",
                    e.cause.as_ref().map(|c| format!(": {c}")).unwrap_or_default()
                );
                self.say_once(&text);
                if let Job::Ending(_, due) = &mut self.job {
                    *due = Instant::now() + RETRY_RESULT;
                }
            }
        }
    }

    fn report(&mut self, key: &crate::queue::ids::Key, verdict: Verdict, why: &str, ended: &Ended) {
        let text = match ended {
            Ended::Recorded => {
                let word = serde_json::to_value(verdict).unwrap_or_default();
                let word = word.as_str().unwrap_or_default().to_owned();
                if why.is_empty() {
                    format!("{key} {word}")
                } else {
                    format!("{key} {word}: {why}")
                }
            }
            Ended::Fenced(end) => {
                let (id, n) = (&key.task, key.n);
                let by = serde_json::to_value(end.verdict).unwrap_or_default();
                let by = by.as_str().unwrap_or_default().to_owned();
                format!(
                    "worker {}: cannot record the end of {id} attempt {n}: fenced by '{by}' at {}; \
                     kept in tasks/{id}/{n}.late",
                    short(&self.me.wid),
                    end.ended,
                )
            }
        };
        tracing::info!("{text}");
        if matches!(ended, Ended::Fenced(_)) {
            let event = events::Event::of("notice", key).why(&text);
            events::append(&self.site.queue, &mut self.me, event);
        }
        self.tell(&text);
    }

    fn beat(&mut self) -> Result<()> {
        let queue = &self.site.queue;
        let lease_ms = self.me.card.lease_ms;
        let gap = queue.clock.boot_ms().saturating_sub(self.last_beat_boot_ms);
        if lease_ms > 0 && gap > lease_ms * 3 / 4 {
            tracing::warn!(
                gap_ms = gap,
                "late with a heartbeat; looking whether the claim still holds"
            );
        }
        // The look at the claim came before this: who was fenced meanwhile has seen it.
        if let Err(e) = self.me.beat(queue)
            && !self.me.is_declared_dead(queue)
        {
            tracing::warn!(error = %e, "cannot beat");
        }
        self.last_beat_boot_ms = queue.clock.boot_ms();
        self.next_beat = Instant::now()
            + match &self.job {
                Job::Running(attempt) => self.beat_every(&attempt.lease.spec),
                Job::Ending(ending, _) => self.beat_every(&ending.0.spec),
                Job::Idle => self.rescan(),
            };
        Ok(())
    }

    fn busy_deadline(&self) -> Instant {
        match &self.job {
            Job::Running(attempt) => match attempt.next_deadline() {
                Some(deadline) => deadline.min(self.next_beat),
                None => self.next_beat,
            },
            Job::Ending(_, due) => (*due).min(self.next_beat),
            Job::Idle => Instant::now(),
        }
    }

    // --- idle ---

    fn rescan(&self) -> Duration {
        Duration::from_millis(self.site.config.workers.rescan_ms)
    }

    /// Nothing to claim: keeper's duty where no monitor lives, then wait.
    fn idle(&mut self, waiter: &mut Waiter, wakes: &[Wake]) -> Result<Next> {
        let now = Instant::now();
        let mut next = self.next_scan;
        if now >= self.next_scan {
            self.next_scan = now + self.rescan();
            next = self.next_scan;
            self.finder.restart(&self.site.queue)?;
            waiter.unwatch_death(MONITOR_KEY);
        }
        if self.monitor_lives(waiter)? {
            if let Some(mut keeper) = self.keeper.take() {
                keeper.stand_down(&self.site.queue, waiter);
                self.watch(waiter);
            }
        } else {
            let rescan = self.rescan();
            let keeper = self.keeper.get_or_insert_with(|| Keeper::new(rescan));
            let due = keeper.tick(&self.site.queue, &mut self.me, waiter, wakes)?;
            let report = std::mem::take(&mut keeper.report);
            self.watch(waiter);
            report.iter().for_each(|line| self.tell(line));
            next = next.min(due);
            // What it has just made ready is for itself, too.
            self.finder.rung(&self.site.queue)?;
            if let Some(candidate) = self.finder.next(&self.site.queue)? {
                self.finder.restart(&self.site.queue)?;
                if self.is_for_us(&candidate) {
                    return Ok(Next::Wait(now));
                }
            }
        }
        if self.options.once {
            self.leave();
            return Ok(Next::Leave(Left::Nothing));
        }
        if self.options.until_empty
            && let Some(failed) = self.nothing_left()?
        {
            self.leave();
            return Ok(Next::Leave(Left::Empty { failed }));
        }
        Ok(Next::Wait(next))
    }

    /// Whether this worker would claim that entry if it tried; asked after its own housekeeping.
    fn is_for_us(&self, candidate: &crate::queue::ready::Candidate) -> bool {
        let asked = control::asked(&self.site.queue, short(&self.me.wid));
        let Ok(Some(lease)) = self.held(&candidate.key) else { return false };
        let open = lease.task.phase == crate::queue::tasks::Phase::Pending(candidate.key.n);
        open && !asked.pause
            && self.no_room().is_none()
            && lease.spec.needs.iter().all(|need| self.options.labels.contains(need))
            && attempt::command(&self.site, &lease.spec).is_some()
    }

    /// Whether a monitor lives on this machine; its death is watched.
    fn monitor_lives(&mut self, waiter: &mut Waiter) -> Result<bool> {
        if waiter.watches_death(MONITOR_KEY) {
            return Ok(true);
        }
        for wid in procs::all(&self.site.queue)? {
            if !wid.starts_with("monitor-") {
                continue;
            }
            let Some(card) = procs::card(&self.site.queue, &wid) else { continue };
            let place = machine::place();
            if (card.host_id.as_str(), card.boot.as_str(), card.pidns)
                != (place.host_id.as_str(), place.boot.as_str(), place.pidns)
            {
                continue;
            }
            if let Some(fd) = alive::open(card.pid, card.start) {
                waiter.watch_death(MONITOR_KEY, fd);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether nothing can become ready any more without a person: nobody works, nothing waits for
    /// a time, nothing lies in incoming/, and a sweep over all tasks finds nothing to claim. Returns
    /// the number of failed tasks then.
    fn nothing_left(&mut self) -> Result<Option<usize>> {
        let queue = &self.site.queue;
        for wid in procs::all(queue)? {
            let run = queue.layout.proc(&wid).join("run");
            if wid != self.me.wid && !queue.list(&run)?.is_empty() {
                return Ok(None);
            }
        }
        let waits = queue.list(&queue.layout.delayed())?.iter().any(|e| e.name != "bell");
        let incoming = queue.list(&queue.layout.incoming())?;
        if waits || incoming.iter().any(|e| e.name != "rejected" && !e.name.starts_with('.')) {
            return Ok(None);
        }
        let swept = sweep::sweep(queue, &mut self.me)?;
        self.finder.restart(&self.site.queue)?;
        while let Some(candidate) = self.finder.next(&self.site.queue)? {
            if self.is_for_us(&candidate) {
                return Ok(None);
            }
        }
        let delayed = self.site.queue.list(&self.site.queue.layout.delayed())?;
        let again = swept.running > 0 || delayed.iter().any(|e| e.name != "bell");
        Ok((!again).then_some(swept.failed))
    }

    /// This process was declared dead: it goes on under a new identity, and takes new work.
    fn register_anew(&mut self, waiter: &mut Waiter) -> Result<()> {
        let old = self.me.wid.clone();
        waiter.unwatch(&self.me.dir().join("bell"));
        let me = Proc::register(&self.site.queue, &identity(&self.site, &self.options))?;
        self.me = me;
        procs::dissolve(&self.site.queue, &old);
        self.watch(waiter);
        let text = format!("declared dead as {old}; going on as {}", self.me.wid);
        tracing::warn!("{text}");
        let event = events::Event { k: "notice".to_owned(), ..events::Event::default() };
        events::append(&self.site.queue, &mut self.me, event.why(&text));
        self.tell(&text);
        Ok(())
    }

    fn tell(&self, text: &str) {
        if self.options.talk {
            crate::cli::output::note(text);
        }
    }

    fn say_once(&mut self, text: &str) {
        if self.said != text {
            text.clone_into(&mut self.said);
            tracing::warn!("{text}");
            self.tell(text);
            let event = events::Event { k: "notice".to_owned(), ..events::Event::default() };
            events::append(&self.site.queue, &mut self.me, event.why(text));
        }
    }
}

fn identity(site: &Site, options: &Options) -> Identity {
    Identity {
        name: options.name.clone(),
        kind: CardKind::Worker,
        roles: options.roles.clone(),
        labels: options.labels.clone(),
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
