//! The front of `coord run`: starts workers on an array, feeds its list, shows what the jobs print, and
//! looks after the dead meanwhile.
//!
//! It decides nothing. Workers claim and end jobs in the queue whether it lives or not; given again,
//! the same command finds the array and goes on. It is a command, not a worker: killed, it leaves the
//! workers to finish what was submitted.

pub mod feed;
mod hands;
mod lists;
pub mod live;
mod numbers;
pub mod pour;
pub mod show;
mod tails;

use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::error::{Error, Exit, Result};
use crate::jobs::halt::When;
use crate::jobs::progress::Progress;
use crate::queue::array::{self, halting, halting::Standing};
use crate::queue::procs::{self, Identity, Proc};
use crate::queue::record::CardKind;
use crate::queue::tasks::{self, Phase};
use crate::run::site::Site;
use crate::sys::wake::{Waiter, Wake, Watch};
use nix::libc;

use super::astray;
use super::keeper::Keeper;
use super::room;
use super::start::RUN_SIGNALS;
use hands::{Hands, Leave};
use show::Show;
use tails::Tails;

/// Between two looks at what was printed: shorter than anybody sees, and long enough that following
/// thousands of jobs a second costs them nothing.
const LOOK: Duration = Duration::from_millis(25);
/// The same while the last jobs run.
const LAST_LOOK: Duration = Duration::from_millis(2);
/// Or, where that is longer, this part of the time for which there was no news.
const LAST_LOOK_PART: u32 = 32;
/// Without being woken, it looks this often.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// The same where what jobs print is shown as it comes: nobody rings for that.
const LIVE_LOOK: Duration = Duration::from_millis(50);
/// Between two looks at who works here: somebody may have joined.
const ROLL: Duration = Duration::from_millis(100);
/// Time for the workers to leave when all is over.
const LEAVE: Duration = Duration::from_secs(10);

/// What is to be run.
pub struct Order {
    /// The array.
    pub id: String,
    /// How many workers.
    pub workers: u32,
    /// Where the workers stand: the directory of the jobs.
    pub cwd: PathBuf,
    /// When to stop before the end: the words of `--halt`.
    pub halt: String,
    /// Its list; `None` where it is complete already.
    pub feed: Option<feed::Shared>,
    /// How many jobs there are, where that is known.
    pub total: Option<u64>,
    /// How many were over when this run began.
    pub before: u64,
    /// The line of progress.
    pub bar: Option<Bar>,
    /// Says something to the person at the terminal.
    pub tell: fn(&str),
}

/// A line of progress.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// Shows it; `None` to wipe it.
    pub draw: fn(Option<&Progress>),
    /// How often.
    pub every_ms: u64,
}

/// Why a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// All jobs are over.
    Finished,
    /// `--halt` said so.
    Halted,
    /// A person did.
    Interrupted,
    /// Somebody cancelled the array.
    Cancelled,
    /// Nobody reads what is shown any more.
    Unread,
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// Why it ended.
    pub stopped: Stopped,
    /// How many jobs there are, if the list is complete.
    pub total: Option<u64>,
    /// Why the list could not be completed.
    pub fault: Option<Error>,
}

struct Front<'a> {
    site: &'a Site,
    order: &'a Order,
    home: PathBuf,
    show: &'a mut Show,
    tails: Tails,
    hands: Hands,
    /// The workers were started.
    begun: bool,
    stopping: Option<Stopped>,
    urgent: bool,
    halting: Standing,
    /// There was no room for new work.
    held_back: bool,
    /// The array was over at the last look: nobody is started for it.
    over: bool,
    /// Why it leaves, if the queue is not in its place any more.
    astray: Option<Error>,
    /// Looks that were made when every worker had left.
    looks_after: u32,
    total: Option<u64>,
    /// How many jobs there are and how many failed, by the register that ended the array.
    result: Option<(u64, u64)>,
    began: Instant,
    next_bar: Instant,
    next_roll: Instant,
}

/// Runs an array to its end, or until it is stopped.
pub fn run(site: &Site, order: &Order, show: &mut Show) -> Result<Outcome> {
    let queue = &site.queue;
    let mut waiter = queue.waiter(RUN_SIGNALS)?.lazy();
    let home = array::home(queue, &order.id);
    waiter.watch(&array::bell(&home));
    waiter.watch(&array::progress(&home));
    let mut me = Proc::register(queue, &Identity::plain("cli", CardKind::Cli))?;
    let mut keeper = Keeper::new(queue, site.config.workers.rescan_ms);
    let now = Instant::now();
    let mut front = Front {
        site,
        order,
        home,
        show,
        tails: Tails::default(),
        hands: Hands::default(),
        begun: false,
        stopping: None,
        urgent: false,
        halting: Standing::default(),
        held_back: false,
        over: false,
        astray: None,
        looks_after: 0,
        total: order.total,
        result: None,
        began: now,
        next_bar: now,
        next_roll: now,
    };
    front.tails.follow(&me.wid);
    let done = front
        .begin(&me, &mut waiter)
        .and_then(|()| front.follow_all())
        .and_then(|()| front.work(&mut me, &mut keeper, &mut waiter));
    tracing::debug!(looks = front.looks_after, "looks after the last worker had left");
    let left = front.send_home(&mut waiter);
    me.leave(queue);
    let stopped = done.map_err(|e| astray::or_else(queue, e))?;
    left.map_err(|e| astray::or_else(queue, e))?;
    if let Some(why) = front.astray {
        return Err(why);
    }
    let fault = order
        .feed
        .as_ref()
        .and_then(|fed| fed.lock().unwrap_or_else(PoisonError::into_inner).fault.take());
    Ok(Outcome { stopped, total: front.total, fault })
}

impl Front<'_> {
    fn work(&mut self, me: &mut Proc, keeper: &mut Keeper, waiter: &mut Waiter) -> Result<Stopped> {
        let queue = &self.site.queue;
        let mut wakes = Vec::new();
        let mut scan_at = Instant::now();
        let mut keep_at = scan_at;
        let mut news_at = scan_at;
        let progress = array::progress(&self.home);
        loop {
            self.hear(&wakes);
            if Instant::now() >= scan_at || wakes.contains(&Wake::Rescan) {
                self.look_where_it_is()?;
            }
            // Before it is asked why a worker has left.
            self.halt()?;
            if self.reap(&wakes)? {
                // What a dead worker has not said of its job may stop the run: before another one begins.
                keeper.look_again();
                keep_at = Instant::now();
            }
            if self.follow_workers() {
                // For the keeper, which watches their deaths: a busy front hears no bells.
                wakes.push(Wake::Bell(queue.layout.procs_bell()));
            }
            // What the jobs ring thousands of times a second is nothing to a keeper.
            let of_jobs = |wake: &Wake| matches!(wake, Wake::Bell(bell) if *bell == progress);
            if Instant::now() >= keep_at || !wakes.iter().all(of_jobs) {
                keep_at = match keeper.tick(queue, me, waiter, &wakes) {
                    Ok(until_ms) => self.instant(until_ms),
                    Err(e) => {
                        tracing::warn!(error = %e, "a look went wrong; will look again");
                        Instant::now() + IDLE_LOOK
                    }
                };
                for line in keeper.report.drain(..) {
                    tracing::info!("{line}");
                }
            }
            self.halt()?;
            self.fill(me)?;
            let moved = self.catch_up()?;
            self.hear_of_feed();
            self.draw(false);
            if let (Some(why), true) = (self.stopping, self.hands.is_empty()) {
                self.follow_all()?;
                self.catch_up()?;
                return Ok(why);
            }
            let rung = wakes.iter().any(|wake| !matches!(wake, Wake::Signal(_)));
            let agreed = self.has_agreed();
            let complete = self.total.is_some_and(|total| self.show.over() >= total);
            // A worker that has left has seen the end, and its lines may not have been read yet.
            let left = self.begun && self.hands.is_empty();
            self.looks_after += u32::from(left);
            if agreed
                && (rung || complete || left || !self.begun || Instant::now() >= scan_at)
                && let Some(stopped) = self.is_over()?
            {
                self.follow_all()?;
                self.catch_up()?;
                return Ok(stopped);
            }
            self.begin(me, waiter)?;
            if Instant::now() >= scan_at {
                scan_at = Instant::now() + IDLE_LOOK;
                self.look_for_room();
            }
            // Deaf for a moment: then one look is for all that was rung meanwhile. The last jobs, with
            // which the run is over, are waited for more closely. A run that is short does not listen to
            // bells at all.
            let now = Instant::now();
            if moved {
                news_at = now;
            }
            let last = |total| self.show.over() + self.hands.len() as u64 >= total;
            let look = match self.total.is_some_and(last) {
                true => ((now - news_at) / LAST_LOOK_PART).clamp(LAST_LOOK, LOOK),
                false => LOOK,
            };
            wakes = waiter.wait_deaf(now + look);
            if wakes.is_empty() && !waiter.is_lazy() {
                let quiet = if self.show.is_followed() { LIVE_LOOK } else { IDLE_LOOK };
                let until = scan_at.min(keep_at.max(Instant::now() + look));
                wakes = waiter.wait(until.min(Instant::now() + quiet));
            }
        }
    }

    /// Starts the workers, as soon as it is known that the input is that of the run.
    fn begin(&mut self, me: &Proc, waiter: &mut Waiter) -> Result<()> {
        let may = !self.begun && self.stopping.is_none() && self.has_agreed();
        if may && self.is_over()?.is_none() {
            self.adopt(waiter)?;
            let Order { id, halt, workers, .. } = self.order;
            let places = self.hands.highest().max(*workers);
            halting::begin(&self.site.queue, me, id, halt, places)?;
            self.halting.refresh(&self.site.queue, &self.home)?;
            self.begun = true;
            self.fill(me)?;
        }
        Ok(())
    }

    /// Whether the input is that of the run, as far as it is known. Before that, nothing is run.
    fn has_agreed(&self) -> bool {
        let agreed = |fed: &feed::Shared| fed.lock().unwrap_or_else(PoisonError::into_inner).agreed;
        self.order.feed.as_ref().is_none_or(agreed)
    }

    /// A time of the monotonic clock.
    fn instant(&self, mono_ms: u64) -> Instant {
        let left_ms = mono_ms.saturating_sub(self.site.queue.clock.mono_ms());
        Instant::now() + Duration::from_millis(left_ms)
    }

    /// Where the queue was moved its workers finish what they are at, and no other is started. Where it is gone
    /// there is nothing to wait for.
    fn look_where_it_is(&mut self) -> Result<()> {
        let Err(why) = self.site.queue.must_be_in_place() else { return Ok(()) };
        if self.site.queue.is_gone() {
            return Err(why);
        }
        if self.astray.is_none() {
            (self.order.tell)(&format!("{}; finishing what runs", why.one_line()));
            self.stop(Stopped::Interrupted, false);
            self.astray = Some(why);
        }
        Ok(())
    }

    /// Says once why the workers begin nothing.
    fn look_for_room(&mut self) {
        match room::wanting(self.site) {
            Some(why) if !std::mem::replace(&mut self.held_back, true) => (self.order.tell)(&why),
            Some(_) => {}
            None => self.held_back = false,
        }
    }

    /// Whether the task of the array is over.
    fn is_over(&mut self) -> Result<Option<Stopped>> {
        let stopped = self.look_at_end()?;
        self.over = stopped.is_some();
        Ok(stopped)
    }

    fn look_at_end(&mut self) -> Result<Option<Stopped>> {
        let task = tasks::look(&self.site.queue, &self.order.id)?;
        let Some(task) = task else {
            let what = format!("the array {} was removed while it ran", self.order.id);
            return Err(Error::new(Exit::NotFound, what).at(&self.home));
        };
        if let (Phase::Done(_) | Phase::Failed(_), Some(end)) = (&task.phase, &task.last_end) {
            let number = |name: &str| end.result.value[name].as_u64();
            self.result = number("jobs").zip(number("failed"));
            self.total = number("jobs").or(self.total);
            return Ok(Some(Stopped::Finished));
        }
        Ok(matches!(task.phase, Phase::Cancelled(_)).then_some(Stopped::Cancelled))
    }

    fn hear(&mut self, wakes: &[Wake]) {
        for wake in wakes {
            let Wake::Signal(signal) = wake else { continue };
            match *signal {
                libc::SIGCHLD => {}
                libc::SIGTSTP => self.hands.suspend(),
                libc::SIGCONT => self.hands.resume(),
                libc::SIGINT if self.stopping.is_none() => {
                    (self.order.tell)("finishing what runs (Ctrl-C again: stop at once)");
                    self.stop(Stopped::Interrupted, false);
                }
                libc::SIGINT if !self.urgent => {
                    (self.order.tell)("ending what runs (Ctrl-C again: kill it)");
                    self.stop(Stopped::Interrupted, true);
                }
                libc::SIGINT | libc::SIGQUIT => {
                    self.stop(Stopped::Interrupted, true);
                    self.hands.tell(Leave::AtOnce);
                }
                _ => self.stop(Stopped::Interrupted, true),
            }
        }
    }

    /// Stops when a worker has said that a rule is fulfilled.
    fn halt(&mut self) -> Result<()> {
        self.halting.refresh(&self.site.queue, &self.home)?;
        match self.halting.stops().filter(|_| self.begun) {
            Some(When::Now) if !self.urgent => self.stop(Stopped::Halted, true),
            Some(When::Soon) if self.stopping.is_none() => self.stop(Stopped::Halted, false),
            _ => {}
        }
        Ok(())
    }

    // --- workers ---

    /// Waits for the workers to leave; they have nothing to do any more.
    fn send_home(&mut self, waiter: &mut Waiter) -> Result<()> {
        self.stop(Stopped::Finished, false);
        let deadline = Instant::now() + LEAVE;
        let mut wakes = Vec::new();
        loop {
            self.hands.see_off(&wakes);
            if self.hands.is_empty() || Instant::now() >= deadline {
                break;
            }
            wakes = waiter.wait_deaf(deadline);
            self.hear(&wakes);
        }
        self.site.queue.host.tidy_groups();
        // Who ends the array may be faster than the worker that tells of its last job.
        self.follow_all()?;
        self.catch_up()?;
        self.draw(true);
        self.show.finish()?;
        if let Some((jobs, failed)) = self.result {
            // A line may be lost with who should have told it: what counts is the register.
            self.show.counts.failed = failed;
            self.show.counts.succeeded = jobs.saturating_sub(failed);
        }
        Ok(())
    }

    // --- what they tell ---

    /// Follows the logs of those who work here now; now and then, once its own workers are known. True:
    /// somebody is new.
    fn follow_workers(&mut self) -> bool {
        let now = Instant::now();
        if now < self.next_roll && self.tails.count() > self.hands.len() {
            return false;
        }
        self.next_roll = now + ROLL;
        let known = self.tails.count();
        for wid in procs::all(&self.site.queue).unwrap_or_default() {
            self.tails.follow(&wid);
        }
        self.tails.count() > known
    }

    /// Follows every log that is there.
    fn follow_all(&mut self) -> Result<()> {
        let seen = array::Overview::read(&self.site.queue, &self.home, 0)?;
        seen.logs.iter().for_each(|wid| self.tails.follow(wid));
        Ok(())
    }

    /// Takes what the workers told since the last time. True: there was something.
    fn catch_up(&mut self) -> Result<bool> {
        let show = &mut *self.show;
        let told =
            self.tails.catch_up(&self.site.queue, &self.home, |of, line| show.take(of, line))?;
        let seen = show.look()?;
        if show.to.unread && self.stopping.is_none() {
            // As at a first ^C: what runs may finish, and what was not shown is shown the next time.
            self.stop(Stopped::Unread, false);
        }
        Ok(told || seen)
    }

    fn hear_of_feed(&mut self) {
        let Some(feed) = &self.order.feed else { return };
        let (jobs, failed) = {
            let fed = feed.lock().unwrap_or_else(PoisonError::into_inner);
            (fed.jobs, fed.fault.is_some())
        };
        self.total = self.total.or(jobs);
        if failed && self.stopping.is_none() {
            // The rest is not known; what was submitted stays for the next time.
            self.stop(Stopped::Interrupted, false);
        }
    }

    fn draw(&mut self, over: bool) {
        let Some(bar) = self.order.bar else { return };
        if over {
            return (bar.draw)(None);
        }
        let now = Instant::now();
        // What was wiped for some output comes back at once.
        if now < self.next_bar && !std::mem::take(&mut self.show.to.wiped) {
            return;
        }
        self.next_bar = now + Duration::from_millis(bar.every_ms);
        (bar.draw)(Some(&Progress {
            done: self.show.over(),
            failed: self.show.counts.failed,
            running: self.hands.len() as u64,
            total: self.total,
            before: self.order.before,
            elapsed_s: self.began.elapsed().as_secs_f64(),
        }));
    }
}
