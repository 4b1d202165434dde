//! The workers of a run: as many as were asked for, whoever started them, each in a place of its own.
//!
//! Workers of a front that was killed go on. The next front of the run finds them by their cards, asks
//! them to leave after the job that each runs, and starts one of its own in place of each that has left.
//! So never more run at once than were asked for, and a place, which is what `{%}` stands for, is never
//! taken twice.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use crate::error::{Cannot, Error, Exit, Result};
use crate::queue::ids::short;
use crate::queue::procs::{self, Proc};
use crate::sys::signals;
use crate::sys::spawn::will_pass;
use crate::sys::tool::sibling;
use crate::sys::wake::{Wake, Watch};
use crate::sys::{alive, child};
use nix::sys::signal::Signal;

use super::{Front, Stopped};

/// A worker that dies sooner than this after its start, so often in a row, is not started again.
const SHORT_LIFE: Duration = Duration::from_secs(2);
const SHORT_LIVES: u32 = 5;
/// Between two tries to start what the machine refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Keys of the watched deaths of workers that another front has started.
const KEYS: u64 = 1 << 40;

/// How urgently a worker is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// After the job that it runs.
    Soon,
    /// Its job is asked to end.
    Now,
    /// Its job is killed.
    AtOnce,
}

/// A worker.
pub(super) struct Hand {
    name: String,
    pid: i32,
    place: u32,
    since: Instant,
    /// Where another front has started it: the key under which its death is watched.
    key: Option<u64>,
    told: bool,
}

/// The workers of a run.
#[derive(Default)]
pub(super) struct Hands {
    all: Vec<Hand>,
    /// Places of the workers of another front that lives: not ours.
    taken: Vec<u32>,
    short_lives: u32,
    start_at: Option<Instant>,
    said: bool,
}

impl Hands {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The highest place that is taken.
    pub(super) fn highest(&self) -> u32 {
        let places = self.all.iter().map(|hand| hand.place).chain(self.taken.iter().copied());
        places.max().unwrap_or(0)
    }

    /// Those that have left: their ends, if they are children.
    fn take_ended(&mut self, wakes: &[Wake]) -> Vec<(Hand, Option<child::Exit>)> {
        let mut left = Vec::new();
        let mut take = |of: &dyn Fn(&Hand) -> bool, exit: Option<child::Exit>| {
            if let Some(at) = self.all.iter().position(of) {
                left.push((self.all.remove(at), exit));
            }
        };
        for (pid, exit) in child::reap() {
            take(&|hand| hand.pid == pid && hand.key.is_none(), Some(exit));
        }
        for wake in wakes {
            if let Wake::Died(key) = wake {
                take(&|hand| hand.key == Some(*key), None);
            }
        }
        left
    }

    /// Buries those that have left while all are to leave.
    pub(super) fn see_off(&mut self, wakes: &[Wake]) {
        drop(self.take_ended(wakes));
    }

    /// Tells the workers to leave.
    pub(super) fn tell(&mut self, how: Leave) {
        let signal = match how {
            Leave::Soon => Signal::SIGUSR1,
            Leave::Now => Signal::SIGTERM,
            Leave::AtOnce => Signal::SIGUSR2,
        };
        for hand in &mut self.all {
            // Told so twice, it would hand back what it runs.
            if how == Leave::Soon && std::mem::replace(&mut hand.told, true) {
                continue;
            }
            // One that has ended already is reaped with the next look.
            let _ = alive::signal(hand.pid, signal);
        }
    }

    fn pass_on(&self, signal: Signal) {
        for hand in &self.all {
            let _ = alive::signal(hand.pid, signal);
        }
    }

    /// Stops the jobs, then this process; when it goes on, so do they.
    pub(super) fn suspend(&self) {
        self.pass_on(Signal::SIGTSTP);
        signals::stop_here();
        self.resume();
    }

    /// Lets the jobs go on.
    pub(super) fn resume(&self) {
        self.pass_on(Signal::SIGCONT);
    }
}

impl Front<'_> {
    /// Finds the workers that other fronts of this run have started: those of a dead one are ours now.
    pub(super) fn adopt(&mut self, waiter: &mut dyn Watch) -> Result<()> {
        let queue = &self.site.queue;
        for wid in procs::all(queue)? {
            let Some(card) = procs::card(queue, &wid) else { continue };
            if card.place == 0 || !procs::is_here(queue, &card) {
                continue;
            }
            let lives = |wid: &str| {
                procs::card(queue, wid).is_some_and(|card| {
                    procs::is_here(queue, &card) && queue.host.is_alive(card.process())
                })
            };
            let key = KEYS + self.hands.all.len() as u64;
            if lives(&card.front) {
                self.hands.taken.push(card.place);
            } else if waiter.watch_death(key, card.process()) {
                let (name, pid) = (short(&wid).to_owned(), card.pid);
                let (place, since, key) = (card.place, Instant::now(), Some(key));
                self.hands.all.push(Hand { name, pid, place, since, key, told: false });
            }
        }
        self.hands.tell(Leave::Soon);
        // Its front may have been killed while it was stopped.
        self.hands.resume();
        Ok(())
    }

    /// Starts workers until there are as many as were asked for.
    pub(super) fn fill(&mut self, me: &Proc) -> Result<()> {
        let wanted = usize::try_from(self.order.workers).unwrap_or(usize::MAX);
        let now = Instant::now();
        let must_wait = self.hands.start_at.is_some_and(|at| now < at);
        if !self.begun || self.over || self.stopping.is_some() || must_wait {
            return Ok(());
        }
        while self.hands.len() < wanted {
            let used = |place: &u32| {
                self.hands.taken.contains(place)
                    || self.hands.all.iter().any(|hand| hand.place == *place)
            };
            let place = (1..).find(|place| !used(place)).unwrap_or(1);
            if let Err(e) = self.start(me, place) {
                if !e.cause.as_ref().is_some_and(will_pass) {
                    return Err(e);
                }
                self.hands.start_at = Some(now + REFUSED_PAUSE);
                if !std::mem::replace(&mut self.hands.said, true) {
                    let running = self.hands.len();
                    let why = e.one_line();
                    (self.order.tell)(&format!("{why}; going on with {running}, trying again"));
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn start(&mut self, me: &Proc, place: u32) -> Result<()> {
        let queue = &self.site.queue;
        let program = sibling("coord-worker")?;
        let name = format!("w{place}");
        let path = queue.layout.at(&format!("log/{name}.log"));
        let log = queue.open_output(&path).cannot("open a log", &path)?;
        let number = place.to_string();
        let words = ["--name", &name, "--until-empty", "--place", &number, "--front", &me.wid];
        let mut args = vec![OsString::from("--dir"), queue.layout.root().as_os_str().to_owned()];
        args.extend(words.map(OsString::from));
        args.extend(["--only", &self.order.id].map(OsString::from));
        let pid = child::start_program(&program, &args, &self.order.cwd, &log)
            .cannot("start a worker", &program)?;
        let since = Instant::now();
        self.hands.all.push(Hand { name, pid, place, since, key: None, told: false });
        Ok(())
    }

    /// Buries workers that have ended. True: one has died, and what it leaves is to be looked after
    /// before another one takes its place.
    pub(super) fn reap(&mut self, wakes: &[Wake]) -> Result<bool> {
        let mut lost = false;
        for (hand, exit) in self.hands.take_ended(wakes) {
            let Some(exit) = exit.filter(|_| self.stopping.is_none()) else {
                lost = true;
                continue;
            };
            // It may have found nothing left, and then the array is over, or so it seemed.
            if matches!(exit, child::Exit::Code(0 | 1)) && self.is_over()?.is_some() {
                continue;
            }
            lost = true;
            let short = hand.since.elapsed() < SHORT_LIFE;
            self.hands.short_lives = if short { self.hands.short_lives + 1 } else { 0 };
            if self.hands.short_lives >= SHORT_LIVES {
                let what = format!("worker {} ended at once: {exit:?}", hand.name);
                let path = self.site.queue.layout.at(&format!("log/{}.log", hand.name));
                return Err(Error::new(Exit::Environment, what).at(&path).hint("its log says why"));
            }
        }
        Ok(lost)
    }

    /// Tells the workers to leave: after the job that each runs, or now.
    pub(super) fn stop(&mut self, why: Stopped, now: bool) {
        self.stopping.get_or_insert(why);
        if now && std::mem::replace(&mut self.urgent, true) {
            return;
        }
        self.hands.tell(if now { Leave::Now } else { Leave::Soon });
    }
}
