//! Playing a situation: its queue is made once, then copied and disturbed for each point.

use std::path::Path;
use std::process::{Child, Command};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::case::{Case, Ended};
use crate::situation::{COORDINATOR, Situation};
use crate::situations::SITUATIONS;
use crate::strace::{self, Call};
use crate::support::until;
use crate::users;

/// A situation whose queue is made, and the calls that its command makes there.
pub struct Prepared {
    pub situation: &'static Situation,
    pub template: Case,
    pub calls: Vec<Call>,
}

impl Prepared {
    pub fn new(situation: &'static Situation, place: &Path) -> Prepared {
        let template = Case::new(&place.join(format!("{} template", situation.name)));
        (situation.prepare)(&template);
        let watched = template.copy(&place.join(format!("{} watched", situation.name)));
        let mut calls = Vec::new();
        play(&watched, situation, situation.acts[0], |command| {
            calls = strace::watch(&watched, &command);
            Ended { code: Some(0), ..Ended::default() }
        });
        watched.verify(situation, true);
        watched.remove();
        Prepared { situation, template, calls }
    }

    pub fn all(place: &Path) -> Vec<Prepared> {
        Prepared::some(place, |_| true)
    }

    pub fn some(place: &Path, pick: impl Fn(&Situation) -> bool) -> Vec<Prepared> {
        let picked: Vec<&'static Situation> = SITUATIONS.iter().filter(|s| pick(s)).collect();
        std::thread::scope(|scope| {
            let make = |s: &'static Situation| scope.spawn(move || Prepared::new(s, place));
            let threads: Vec<_> = picked.into_iter().map(make).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    /// A copy of the queue to disturb.
    pub fn case(&self, place: &Path, label: &str) -> Case {
        self.template.copy(&place.join(format!("{} {label}", self.situation.name)))
    }
}

/// Plays a situation to its end with one of its commands run by `how`, and heals. Returns whether the
/// command was acknowledged.
pub fn play(
    case: &Case,
    situation: &Situation,
    act: &[&str],
    how: impl FnOnce(Command) -> Ended,
) -> bool {
    let beside = situation.beside.map(|beside| beside(case));
    if act == COORDINATOR {
        let wanted = case.queue("control/workers.json");
        std::fs::write(&wanted, "{\"general\": 1}").unwrap();
        if case.users.is_some() {
            users::give(&wanted, 0o664);
        }
    }
    let ended = how(case.disturbed(act));
    if act == COORDINATOR {
        // It makes control/stop when it is told to end; where it died, that stays until somebody
        // says so.
        case.ok(&["resume"]);
    }
    (situation.afterwards)(case);
    if let Some(mut beside) = beside {
        beside.wait().unwrap();
    }
    case.heal();
    ended.code == Some(0)
}

/// Runs a program to its end; one that runs for ever is told to end when it has nothing more to do.
/// Where the situation says so it is stopped at a step, and somebody else acts.
pub fn run(case: &Case, situation: &Situation, mut command: Command, plan: &str) -> Ended {
    let stop = situation.stop.map(|(step, _)| format!("{step}:stop"));
    let plans: Vec<&str> = stop.iter().map(String::as_str).chain([plan]).collect();
    command.env("COORD_STEP", plans.join(",")).env("COORD_STEP_TRACE", case.dir().join("trace"));
    let mut words = std::iter::once(command.get_program()).chain(command.get_args());
    let resident = !words.any(|word| {
        let word = word.to_str().unwrap();
        word.ends_with("/coord") || word.ends_with("/coord-worker")
    });
    let child = case.start(command);
    if let Some((_, meanwhile)) = situation.stop {
        let mut over = false;
        until("it stands still", || {
            over = is_over(&child);
            over || is_stopped(&child)
        });
        if !over {
            meanwhile(case);
            go_on(&child);
        }
    }
    if resident {
        let mut quiet = 0;
        until("it has done what it can", || {
            quiet = if is_waiting(&child) { quiet + 1 } else { 0 };
            is_over(&child) || situation.until.map_or(quiet > 3, |until| until(case))
        });
        let _ = nix::sys::signal::kill(pid(&child), Signal::SIGTERM);
    }
    case.finish(child)
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

fn state(child: &Child) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    rest.trim_start().chars().next().unwrap_or('X')
}

fn is_over(child: &Child) -> bool {
    matches!(state(child), 'Z' | 'X')
}

fn is_stopped(child: &Child) -> bool {
    state(child) == 'T'
}

/// Its main thread stands in its one wait, that for its set of descriptors.
fn is_waiting(child: &Child) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap_or_default();
    let number = call.split(' ').next().and_then(|number| number.parse().ok());
    [nix::libc::SYS_epoll_wait, nix::libc::SYS_epoll_pwait].map(Some).contains(&number)
}

/// Waits until a child has stopped at its step.
pub fn until_stopped(child: &Child) {
    until("it stands still at its step", || is_stopped(child));
}

/// Lets a stopped child go on.
pub fn go_on(child: &Child) {
    nix::sys::signal::kill(pid(child), Signal::SIGCONT).unwrap();
}
