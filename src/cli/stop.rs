//! `coord stop`: asks the programs to leave, waits until they have, and says who did not answer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::error::{Error, Exit, Result};
use crate::plan::units::duration_ms;
use crate::program::fleet::{self, Member};
use crate::queue::elsewhere::{self, Answer as Said, Asking};
use crate::queue::record::CardKind;
use crate::queue::{Queue, control, procs};
use crate::run::site::Site;
use crate::sys::alive;
use crate::sys::wake::Watch;

use super::Answer;
use super::args::{Cli, Stop};
use super::{output, place};

/// `coord stop`.
pub fn stop(cli: &Cli, args: &Stop) -> Answer {
    let site = place::site(cli)?;
    let queue = &site.queue;
    let timeout = args.timeout.as_deref().map(duration_ms).transpose().map_err(Error::usage)?;
    let deadline = timeout.map(|ms| Instant::now() + Duration::from_millis(ms));
    let mut waiter = queue.waiter(&[])?;
    waiter.watch(&queue.layout.procs_bell());
    let before = fleet::members(queue);
    if !before.iter().any(Member::lives) {
        output::note("nobody works here");
        return Ok(None);
    }
    let request = if args.now { "stop" } else { "drain" };
    place::in_need(queue, || control::ask(queue, request))?;
    let mut said = false;
    let mut far = Far::new(&site, cli.quiet);
    loop {
        queue.must_be_in_place()?;
        let members = fleet::members(queue);
        let live: Vec<&Member> = members.iter().filter(|m| m.lives()).collect();
        let busy: Vec<&str> =
            live.iter().filter(|m| m.state == "running").map(|m| m.task.as_str()).collect();
        if !said && !busy.is_empty() && !args.now && !cli.quiet {
            output::note(&format!("waiting for {} (coord stop --now hands back)", busy.join(" ")));
            said = true;
        }
        let is = |kind| live.iter().any(|m| m.kind == kind);
        let orders = is(CardKind::Worker) || is(CardKind::Coordinator);
        let waited_for = far.look(queue, &live, orders)?;
        if waited_for.is_empty() {
            break;
        }
        if orders && !queue.fs.exists(&queue.layout.control().join(request)) {
            // A coordinator withdraws it when its own workers have left; those elsewhere may not have heard.
            control::ask(queue, request)?;
        }
        if !orders {
            // Nobody is left who would tell them.
            for member in live.iter().filter(|m| procs::is_here(queue, &m.card)) {
                alive::signal(member.pid, Signal::SIGTERM);
            }
        }
        let now = Instant::now();
        if deadline.is_some_and(|d| now >= d) {
            let what = format!("not stopped in time: {}", waited_for.join(", "));
            return Err(Error::new(Exit::Timeout, what).hint("the request stays; coord stop --now"));
        }
        let look = now + Duration::from_millis(250);
        waiter.wait(deadline.map_or(look, |d| d.min(look)));
    }
    for file in ["drain", "stop"] {
        control::withdraw(queue, file)?;
    }
    Ok(None)
}

/// Those that cannot be seen from here: they are asked whether they live.
struct Far {
    asking: Asking,
    usual_ms: u64,
    quiet: bool,
    told: BTreeSet<String>,
}

impl Far {
    fn new(site: &Site, quiet: bool) -> Far {
        let usual_ms = site.config.lease.expire_ms;
        Far { asking: Asking::default(), usual_ms, quiet, told: BTreeSet::new() }
    }

    /// The names of those to wait for, with what is known of those elsewhere. Who does not answer is taken
    /// out of the queue.
    fn look(&mut self, queue: &Queue, live: &[&Member], orders: bool) -> Result<Vec<String>> {
        let mut waited_for = Vec::new();
        for member in live {
            if procs::is_here(queue, &member.card) {
                waited_for.push(member.name.clone());
                continue;
            }
            let who = format!("{} on {} (pid {} there)", member.name, member.host, member.pid);
            match self.asking.ask(queue, &member.card, self.usual_ms) {
                Said::Silent => {
                    let remove = |me: &mut _| elsewhere::remove(queue, me, &member.wid);
                    let back = place::with_proc_in_need(queue, remove)?;
                    let back: Vec<String> = back.iter().map(ToString::to_string).collect();
                    let back = match back.as_slice() {
                        [] => "it held nothing".to_owned(),
                        back => format!("given back: {}", back.join(" ")),
                    };
                    self.say(&format!("{who} does not answer: taken out of the queue; {back}"));
                }
                // Who only looks on is told by its coordinator, which is not there any more.
                Said::Lives if !orders => {
                    self.say(&format!("{who} answers, and can only be stopped there"));
                }
                Said::Lives => waited_for.push(format!("{who}, which answers")),
                Said::Asked => waited_for.push(format!("{who}, which has not answered yet")),
            }
        }
        Ok(waited_for)
    }

    fn say(&mut self, text: &str) {
        if self.told.insert(text.to_owned()) && !self.quiet {
            output::note(text);
        }
    }
}
