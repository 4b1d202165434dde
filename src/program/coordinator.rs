//! The coordinator: keeps as many workers running as are wanted, and a monitor and an aggregator.
//!
//! It holds no state that matters. Killed, everything it started goes on; started again, it finds
//! them in procs/ and adopts them. What is wanted stands in control/workers.json.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use crate::error::{Cannot, Error, Exit, Result};
use crate::queue::control::{self, Wanted};
use crate::queue::events::{self, Event};
use crate::queue::procs::{self, Identity, Proc};
use crate::queue::record::CardKind;
use crate::queue::sweep::{must_be_quiet, restore};
use crate::run::site::Site;
use crate::sys::wake::{Waiter, Wake, Watch};
use crate::sys::{alive, child, machine};

use super::start::{WORK_SIGNALS, answer, warn_if_blind};
use super::worker::{self, Next, Worker};
use super::{astray, fleet};
use crate::sys::tool::sibling;

/// A program that lives this long was not in a crash loop.
const HEALTHY: Duration = Duration::from_secs(5);
/// Quick deaths that are answered at once.
const FREE_DEATHS: u32 = 3;
/// The longest pause between two starts of a program that keeps dying.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Between two tries to start what the machine refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// A place in the fleet that should be filled.
struct Slot {
    role: Option<String>,
    kind: CardKind,
    pid: Option<i32>,
    key: u64,
    started: Instant,
    deaths: u32,
    not_before: Instant,
    finished: bool,
}

/// The coordinator.
struct Coordinator<'a> {
    site: &'a Site,
    me: Proc,
    slots: BTreeMap<String, Slot>,
    next_key: u64,
    leaving: bool,
    refused: bool,
    own: Option<Worker>,
    /// What was wanted when that could last be read: a file that is lost does not send anybody home.
    wanted: Wanted,
    /// Why it leaves, if the queue is not in its place any more.
    astray: Option<Error>,
    said: BTreeMap<String, String>,
}

/// Runs the coordinator until the fleet is asked to leave.
pub fn run(site: &Site) -> Result<()> {
    let queue = &site.queue;
    let lock = queue.layout.control().join("coordinator.lock");
    let guard = crate::sys::fs::try_lock(&queue.fs.reach(&lock))
        .cannot("lock the coordinator's place", &lock)?;
    if guard.is_none() {
        return Err(already_running(site));
    }
    let mut waiter = queue.waiter(WORK_SIGNALS)?;
    let identity = Identity::plain("coordinator", CardKind::Coordinator);
    let mut me = Proc::register(queue, &identity)?;
    restore(queue, &mut me)?;
    for path in [queue.layout.control(), queue.layout.procs_bell()] {
        waiter.watch(&path);
    }
    warn_if_blind(&waiter);
    let mut coordinator = Coordinator {
        site,
        me,
        slots: BTreeMap::new(),
        next_key: 10,
        leaving: false,
        refused: false,
        own: None,
        wanted: Wanted::default(),
        astray: None,
        said: BTreeMap::new(),
    };
    let mut wakes = Vec::new();
    loop {
        if queue.is_in_place()
            && let Err(e) = answer(queue, &mut coordinator.me, &identity, &mut waiter, &wakes)
        {
            tracing::error!("cannot register anew: {}; will try again", e.one_line());
        }
        match coordinator.tick(&mut waiter, &wakes) {
            Ok(Some(next)) => wakes = waiter.wait(next),
            Ok(None) => return coordinator.astray.take().map_or(Ok(()), Err),
            Err(e) => {
                tracing::error!(error = %e, "a look went wrong; will look again");
                wakes = waiter.wait(Instant::now() + Duration::from_secs(1));
            }
        }
    }
}

/// What a second coordinator says.
pub fn already_running(site: &Site) -> Error {
    let what = match fleet::coordinator(&site.queue) {
        Some(m) => format!(
            "a coordinator is already running: pid {} on {}, since {}",
            m.pid, m.host, m.since
        ),
        None => "a coordinator is already starting here".to_owned(),
    };
    Error::new(Exit::Conflict, what).hint("coord scale N, or coord stop")
}

impl Coordinator<'_> {
    /// One look. `None`: the fleet has left.
    fn tick(&mut self, waiter: &mut Waiter, wakes: &[Wake]) -> Result<Option<Instant>> {
        let now = Instant::now();
        self.hear(wakes)?;
        let ended = self.reap(wakes, now);
        if let Some(own) = self.own.as_mut() {
            own.note_ended(&ended);
        }
        if self.astray.is_some() || !self.site.queue.is_in_place() {
            return self.leave_astray(waiter, wakes, &ended);
        }
        let asked = control::asked(&self.site.queue, "");
        self.leaving = asked.drain || asked.stop;
        must_be_quiet(&self.site.queue, &self.me)?;
        if let Some(wanted) = control::wanted(&self.site.queue) {
            self.wanted = wanted;
        }
        let wanted = self.wanted.clone();
        self.fit(&wanted, waiter, now)?;
        if self.leaving || self.all_finished(&wanted) {
            if self.workers_left() == 0 && self.own.is_none() {
                return self.close(waiter).map(|()| None);
            }
        } else {
            self.fill(&wanted, now)?;
        }
        let mut next = now + Duration::from_millis(self.site.config.workers.rescan_ms);
        let due = self.slots.values().filter(|s| s.pid.is_none() && !s.finished);
        if !self.leaving
            && let Some(due) = due.map(|s| s.not_before).min()
        {
            next = next.min(due.max(now + Duration::from_millis(10)));
        }
        if let Some(due) = self.work_alone(waiter, wakes, &ended)? {
            next = next.min(due);
        }
        Ok(Some(next))
    }

    /// The queue is elsewhere: nothing is started by its old path. The programs that run see it as well, and
    /// end what they are at; so does a worker within.
    fn leave_astray(
        &mut self,
        waiter: &mut Waiter,
        wakes: &[Wake],
        ended: &[(i32, child::Exit)],
    ) -> Result<Option<Instant>> {
        self.leaving = true;
        if self.own.is_some() {
            let next = self.work_alone(waiter, wakes, ended)?;
            return Ok(Some(next.unwrap_or_else(Instant::now)));
        }
        self.astray = astray::left(&self.site.queue, &mut self.me);
        Ok(None)
    }

    /// Ctrl-C drains, a second one hands back; SIGTERM hands back at once.
    fn hear(&mut self, wakes: &[Wake]) -> Result<()> {
        for wake in wakes {
            let Wake::Signal(signal) = wake else { continue };
            match *signal {
                nix::libc::SIGINT if !self.leaving => {
                    self.leaving = true;
                    control::ask(&self.site.queue, "drain")?;
                }
                nix::libc::SIGINT | nix::libc::SIGTERM => {
                    control::ask(&self.site.queue, "stop")?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes which programs have died.
    fn reap(&mut self, wakes: &[Wake], now: Instant) -> Vec<(i32, child::Exit)> {
        let ended = child::reap();
        for &(pid, exit) in &ended {
            let slot = self.slots.iter_mut().find(|(_, slot)| slot.pid == Some(pid));
            if let Some((name, slot)) = slot {
                let voluntary = matches!(exit, child::Exit::Code(0 | 1))
                    && slot.kind == CardKind::Worker
                    && !self.leaving;
                let told = died(slot, now, exit);
                slot.finished =
                    voluntary && control::wanted(&self.site.queue).is_some_and(|w| w.until_empty);
                if let Some(text) = told.filter(|_| !slot.finished && !self.leaving) {
                    let text = match (exit, self.site.refusal_now()) {
                        // It has said so in its log, which nobody reads who does not know where to look.
                        (child::Exit::Code(code), Some(refusal))
                            if code == Exit::Environment as i32 =>
                        {
                            let hint = refusal.hint.unwrap_or_default();
                            format!("{name} cannot work: {}: {hint}", refusal.message)
                        }
                        _ => format!("{name} {text}"),
                    };
                    self.notice(&text.clone(), &text);
                }
            }
        }
        for wake in wakes {
            let Wake::Died(key) = wake else { continue };
            if let Some(slot) = self.slots.values_mut().find(|slot| slot.key == *key) {
                slot.pid = None;
                slot.not_before = now;
            }
        }
        if self.own.is_some() {
            // The worker within may have reaped one of ours while it ended an attempt's tree.
            for slot in self.slots.values_mut() {
                if slot.pid.is_some_and(|pid| alive::proc_stat(pid).is_none()) {
                    (slot.pid, slot.not_before) = (None, now);
                }
            }
        }
        ended
    }

    /// Makes the slots what is wanted, and adopts programs that already run.
    fn fit(&mut self, wanted: &Wanted, waiter: &mut Waiter, now: Instant) -> Result<()> {
        let mut names: BTreeMap<String, (Option<String>, CardKind)> = wanted
            .slots()
            .into_iter()
            .map(|(name, role)| (name, (role, CardKind::Worker)))
            .collect();
        names.insert("monitor".to_owned(), (None, CardKind::Monitor));
        names.insert("aggregator".to_owned(), (None, CardKind::Aggregator));
        for (name, (role, kind)) in &names {
            self.slots.entry(name.clone()).or_insert_with(|| {
                self.next_key += 1;
                Slot {
                    role: role.clone(),
                    kind: *kind,
                    pid: None,
                    key: self.next_key,
                    started: now,
                    deaths: 0,
                    not_before: now,
                    finished: false,
                }
            });
        }
        let surplus: Vec<String> =
            self.slots.keys().filter(|name| !names.contains_key(*name)).cloned().collect();
        for name in surplus {
            let file = format!("drain.{name}");
            let running = self.slots.get(&name).is_some_and(|slot| slot.pid.is_some());
            if running {
                if !self.site.queue.fs.exists(&self.site.queue.layout.control().join(&file)) {
                    control::ask(&self.site.queue, &file)?;
                }
            } else {
                control::withdraw(&self.site.queue, &file)?;
                self.slots.remove(&name);
            }
        }
        self.adopt(waiter);
        Ok(())
    }

    /// Programs of an earlier coordinator: watched by pidfd instead of as children.
    fn adopt(&mut self, waiter: &mut Waiter) {
        if self.slots.values().all(|slot| slot.pid.is_some()) {
            return;
        }
        for member in fleet::members(&self.site.queue) {
            // One that opened the queue where it was before it moved claims nothing more, and is about to leave.
            if !member.lives()
                || !procs::is_here(&self.site.queue, &member.card)
                || !member.opened(self.site.queue.layout.root())
            {
                continue;
            }
            let Some(slot) = self.slots.get_mut(&member.name) else { continue };
            if slot.pid.is_some() || slot.kind != member.kind {
                continue;
            }
            if waiter.watch_death(slot.key, member.card.process()) {
                slot.pid = Some(member.pid);
                tracing::info!(name = member.name, pid = member.pid, "adopted");
            }
        }
    }

    /// Starts what is missing, as far as the machine allows.
    fn fill(&mut self, wanted: &Wanted, now: Instant) -> Result<()> {
        let missing: Vec<String> = self
            .slots
            .iter()
            .filter(|(_, s)| s.pid.is_none() && !s.finished && now >= s.not_before)
            .map(|(name, _)| name.clone())
            .collect();
        for name in missing {
            let result = self.enough_memory().and_then(|()| self.start(&name, wanted));
            let refused = result.is_err();
            let Some(slot) = self.slots.get_mut(&name) else { continue };
            match result {
                Ok(pid) => {
                    slot.pid = Some(pid);
                    slot.started = now;
                    self.said.remove(&format!("refused {name}"));
                }
                Err(e) => {
                    slot.not_before = now + REFUSED_PAUSE;
                    let running = self.workers_left();
                    let reason = e.cause.as_ref().map(|c| format!(": {c}")).unwrap_or_default();
                    let text = format!(
                        "cannot start {name}: {e}{reason}; going on with {running} workers, \
                         next try in {} s",
                        REFUSED_PAUSE.as_secs()
                    );
                    self.notice(&format!("refused {name}"), &text);
                }
            }
            self.refused = refused;
        }
        Ok(())
    }

    fn enough_memory(&self) -> Result<()> {
        let least = self.site.config.limits.memory_free_bytes;
        match machine::available_memory() {
            Some(free) if free < least => {
                let what = format!("only {} MiB of memory are free", free >> 20);
                Err(Error::new(Exit::Environment, what))
            }
            _ => Ok(()),
        }
    }

    fn start(&self, name: &str, wanted: &Wanted) -> Result<i32> {
        let queue = &self.site.queue;
        let Some(slot) = self.slots.get(name) else {
            return Err(Error::new(Exit::Internal, "no such slot"));
        };
        let program = match slot.kind {
            CardKind::Monitor => "coord-monitor",
            CardKind::Aggregator => "coord-aggregator",
            _ => "coord-worker",
        };
        let program = sibling(program)?;
        let mut args: Vec<OsString> = vec!["--dir".into(), queue.layout.root().into()];
        if slot.kind == CardKind::Worker {
            args.extend(["--name", name].map(OsString::from));
            if let Some(role) = &slot.role {
                args.extend(["--role", role].map(OsString::from));
            }
            for label in &wanted.labels {
                args.extend(["--label", label].map(OsString::from));
            }
            if wanted.until_empty {
                args.push("--until-empty".into());
            }
        }
        let path = queue.layout.at("log").join(format!("{name}.log"));
        let log = queue.open_output(&path).cannot("open a log", &path)?;
        child::start_program(&program, &args, &self.site.root, &log).cannot("start", &program)
    }

    fn workers_left(&self) -> usize {
        let workers = self.slots.values().filter(|s| s.kind == CardKind::Worker);
        workers.filter(|s| s.pid.is_some()).count()
    }

    fn all_finished(&self, wanted: &Wanted) -> bool {
        let mut workers = self.slots.values().filter(|s| s.kind == CardKind::Worker).peekable();
        wanted.until_empty && workers.peek().is_some() && workers.all(|s| s.finished)
    }

    /// Single-worker mode: where not one worker can be started, the coordinator works by itself.
    fn work_alone(
        &mut self,
        waiter: &mut Waiter,
        wakes: &[Wake],
        ended: &[(i32, child::Exit)],
    ) -> Result<Option<Instant>> {
        let wanted_workers = self.slots.values().any(|s| s.kind == CardKind::Worker && !s.finished);
        if self.own.is_none()
            && wanted_workers
            && self.refused
            && self.workers_left() == 0
            && !self.leaving
        {
            let text = "no worker can be started: the coordinator works by itself";
            self.notice("alone", text);
            let labels = control::wanted(&self.site.queue).unwrap_or_default().labels;
            let options =
                worker::Options { name: "alone".to_owned(), labels, ..worker::Options::default() };
            super::start::become_subreaper();
            self.own = Some(Worker::new(self.site, options, waiter)?);
        }
        let relieved = self.workers_left() > 0;
        let Some(own) = self.own.as_mut() else { return Ok(None) };
        if relieved {
            own.finish();
        }
        own.spare(self.slots.values().filter_map(|s| s.pid).collect());
        match own.tick(waiter, wakes, ended)? {
            Next::Wait(until_ms) => {
                let left_ms = until_ms.saturating_sub(self.site.queue.clock.mono_ms());
                Ok(Some(Instant::now() + Duration::from_millis(left_ms)))
            }
            Next::Leave(_) => {
                self.own = None;
                Ok(None)
            }
        }
    }

    /// The last act: monitor and aggregator are told to end, and the requests are withdrawn.
    fn close(&mut self, waiter: &mut Waiter) -> Result<()> {
        for slot in self.slots.values().filter(|s| s.kind != CardKind::Worker) {
            if let Some(pid) = slot.pid {
                alive::signal(pid, nix::sys::signal::Signal::SIGTERM);
            }
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.slots.values().any(|s| s.kind != CardKind::Worker && s.pid.is_some())
            && Instant::now() < deadline
        {
            let wakes = waiter.wait(deadline);
            self.reap(&wakes, Instant::now());
        }
        for file in ["drain", "stop"] {
            control::withdraw(&self.site.queue, file)?;
        }
        self.me.leave(&self.site.queue);
        Ok(())
    }

    /// Says something once: to the log, and to `coord status`.
    fn notice(&mut self, topic: &str, text: &str) {
        if self.said.get(topic).is_some_and(|said| said == text) {
            return;
        }
        self.said.insert(topic.to_owned(), text.to_owned());
        tracing::warn!("{text}");
        let event = Event { k: "notice".to_owned(), ..Event::default() };
        events::append(&self.site.queue, &mut self.me, event.why(text));
    }
}

/// A program of a slot has died: when it may be started again. What to say if it keeps dying.
fn died(slot: &mut Slot, now: Instant, exit: child::Exit) -> Option<String> {
    let quick = now.duration_since(slot.started) < HEALTHY;
    // Somebody's SIGKILL is no fault of the program.
    let own_fault = !matches!(exit, child::Exit::Signal(nix::libc::SIGKILL | nix::libc::SIGTERM));
    slot.pid = None;
    slot.deaths = if quick && own_fault { slot.deaths + 1 } else { 0 };
    let over = slot.deaths.saturating_sub(FREE_DEATHS);
    if over == 0 {
        slot.not_before = now;
        return None;
    }
    let pause = Duration::from_secs(1 << (over - 1).min(5)).min(LONGEST_PAUSE);
    slot.not_before = now + pause;
    let how = match exit {
        child::Exit::Code(code) => format!("exit {code}"),
        child::Exit::Signal(signal) => format!("signal {signal}"),
    };
    Some(format!(
        "has died {} times right after its start ({how}); next start in {} s; see log/",
        slot.deaths,
        pause.as_secs()
    ))
}
