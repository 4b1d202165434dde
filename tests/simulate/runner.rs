//! Runs simulated processes, each on a stack of its own, one step at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use generator::{Generator, Gn};

use crate::machines::State;
use crate::platform::{Killed, Seat};
use crate::world::{Actor, World};

/// What a process does.
pub type Body = Box<dyn FnOnce(Seat) + Send>;

/// Stack of a process, in words.
const STACK: usize = 0x2_0000;

/// A world with its running processes.
pub struct Runner {
    /// The world.
    pub world: Arc<Mutex<World>>,
    stacks: Vec<Option<Generator<'static, (), ()>>>,
}

impl Runner {
    /// Nobody runs yet.
    pub fn new(world: World) -> Runner {
        Runner { world: Arc::new(Mutex::new(world)), stacks: Vec::new() }
    }

    /// The world, between steps.
    pub fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process.
    pub fn start(&mut self, name: &str, machine: usize, body: Body) -> usize {
        let me = self.world().add_process(name, machine);
        let world = self.world.clone();
        let stack = Gn::new_opt(STACK, move || {
            let seat = Seat::new(&world, me);
            let ended = catch_unwind(AssertUnwindSafe(|| body(seat)));
            let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
            match ended {
                Ok(()) => world.kill(me, "exits"),
                Err(cause) if cause.is::<Killed>() => {}
                Err(cause) => {
                    let text = cause
                        .downcast_ref::<String>()
                        .cloned()
                        .or(cause.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                    world.kill(me, "panics");
                    world.violate(format!("I23: a process panics: {}", text.unwrap_or_default()));
                }
            }
        });
        self.stacks.resize_with(me + 1, || None);
        self.stacks[me] = Some(stack);
        me
    }

    /// Lets them go until nobody can, or a rule is broken, or so many steps or seconds have passed.
    /// `harm` is called when the nemesis is to act. True: it came to rest.
    pub fn run(
        &mut self,
        steps_max: u64,
        seconds_max: u64,
        mut harm: impl FnMut(&mut Runner),
    ) -> bool {
        let limit = self.world().steps + steps_max;
        let limit_us = self.world().now_us + seconds_max * 1_000_000;
        loop {
            let next = {
                let mut world = self.world();
                if world.violation.is_some() {
                    return true;
                }
                if world.steps > limit || world.now_us > limit_us {
                    return false;
                }
                world.next_actor()
            };
            match next {
                None => return true,
                Some(Actor::Process(at)) => self.resume(at),
                Some(Actor::Job(at)) => self.world().step_job(at),
                Some(Actor::Nemesis) => {
                    self.world().budget.acts -= 1;
                    harm(self);
                }
            }
            self.bury();
        }
    }

    pub fn resume(&mut self, at: usize) {
        if let Some(stack) = self.stacks.get_mut(at).and_then(Option::as_mut) {
            stack.resume();
            if stack.is_done() {
                self.stacks[at] = None;
            }
        }
    }

    /// Unwinds the stacks of those who died.
    fn bury(&mut self) {
        for at in 0..self.stacks.len() {
            if self.stacks[at].is_some() && self.world().processes[at].state == State::Dead {
                self.resume(at);
            }
        }
    }

    /// Lets one process run alone to its end, without faults.
    pub fn alone(&mut self, name: &str, machine: usize, body: Body) {
        self.world().quiet = true;
        let at = self.start(name, machine, body);
        while self.stacks[at].is_some() {
            self.resume(at);
        }
        self.world().quiet = false;
    }

    /// Ends everybody.
    pub fn close(&mut self) {
        for at in 0..self.stacks.len() {
            if self.stacks[at].is_some() {
                self.world().processes[at].state = State::Dead;
                self.resume(at);
            }
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.close();
    }
}
