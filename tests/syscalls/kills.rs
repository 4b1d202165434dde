//! SIGKILL at the k-th system call: of each command, and of the recovery from that.

use std::path::Path;

use crate::case::Case;
use crate::place::Place;
use crate::play::{Prepared, play};
use crate::points;
use crate::situation::WORK;
use crate::situations::SITUATIONS;
use crate::strace::{self, Call};

/// A command killed at a call; with `again`, also the recovery from it.
pub struct Kill<'a> {
    /// The situation.
    pub prepared: &'a Prepared,
    /// The call, which is not made.
    pub call: &'a Call,
}

/// Every call of every situation at which it makes a difference to die.
pub fn points_of(prepared: &[Prepared]) -> Vec<Kill<'_>> {
    let all =
        prepared.iter().flat_map(|p| p.calls.iter().map(move |call| Kill { prepared: p, call }));
    // An open for reading changes nothing: who dies there leaves what one leaves who dies at the next
    // call that changes something. A full run looks all the same.
    all.filter(|kill| kill.call.changes || points::full()).collect()
}

/// Its name.
pub fn label(kill: &Kill<'_>) -> String {
    format!("{} {}", kill.prepared.situation.name, kill.call.label())
}

/// Killed once. Afterwards, at every second point, the command is given again, as a person would.
pub fn once(prepared: &Prepared, place: &Path, call: &Call) {
    let situation = prepared.situation;
    let case = prepared.case(place, &call.label());
    let acknowledged = play(&case, situation, situation.acts[0], |command| {
        let ended = strace::kill_at(&case, call, &command);
        let fine = ended.signal == Some(9) || matches!(ended.code, Some(0 | 1));
        assert!(fine, "neither killed nor well: {ended:?}");
        ended
    });
    case.verify(situation, acknowledged);
    case.remove();
}

/// Killed, and then the recovery from it killed too, at each of its calls or at a sample of them.
fn twice(prepared: &Prepared, place: &Path, call: &Call, most: usize) {
    let situation = prepared.situation;
    let name = format!("{} again", call.label());
    let killed = prepared.case(place, &name);
    let beside = situation.beside.map(|beside| beside(&killed));
    let ended = strace::kill_at(&killed, call, &killed.program(situation.acts[0]));
    (situation.afterwards)(&killed);
    if let Some(mut beside) = beside {
        beside.wait().unwrap();
    }
    let acknowledged = ended.code == Some(0);
    let watched = killed.copy(&place.join(format!("{} {name} watched", situation.name)));
    let calls = strace::watch(&watched, &watched.program(WORK));
    watched.remove();
    let calls: Vec<Call> = calls.into_iter().filter(|c| c.changes).collect();
    let calls = points::sample(calls, most, |c| format!("{name} {} {}", situation.name, c.label()));
    for second in &calls {
        let case =
            killed.copy(&place.join(format!("{} {name} {}", situation.name, second.label())));
        strace::kill_at(&case, second, &case.program(WORK));
        case.heal();
        case.verify(situation, acknowledged);
        case.remove();
    }
    killed.remove();
}

#[test]
fn killed_at_every_call() {
    let place = Place::fast();
    let prepared = Prepared::all(place.path());
    let all = points_of(&prepared);
    let of = all.len();
    let all = points::sample(all, CI_KILLS, label);
    points::run("killed at a call", of, &all, label, |kill| {
        once(kill.prepared, place.path(), kill.call);
    });
}

#[test]
fn killed_while_recovering_from_that() {
    let place = Place::fast();
    let prepared = Prepared::all(place.path());
    let all: Vec<Kill<'_>> =
        points_of(&prepared).into_iter().filter(|kill| kill.call.changes).collect();
    let of = all.len();
    let all = points::sample(all, CI_PAIRS, label);
    points::run("killed again in the recovery", of, &all, label, |kill| {
        twice(kill.prepared, place.path(), kill.call, 2);
    });
}

#[test]
fn only_the_main_thread_touches_the_queue() {
    let place = Place::fast();
    for situation in SITUATIONS.iter().filter(|s| ["work", "incoming"].contains(&s.name)) {
        let case = Case::new(&place.path().join(situation.name));
        (situation.prepare)(&case);
        assert_eq!(strace::elsewhere(&case, &case.program(situation.acts[0])), [""; 0]);
    }
}

/// Points of a CI run.
const CI_KILLS: usize = 300;
const CI_PAIRS: usize = 50;
