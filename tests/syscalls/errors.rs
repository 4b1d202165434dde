//! The k-th system call answers with an error: the program says what and where, loses nothing, and
//! goes on or stops cleanly.

use crate::case::Ended;
use crate::place::Place;
use crate::play::{Prepared, play};
use crate::points;
use crate::strace::{self, Call};

/// The exit codes that `coord --help` and README promise, 255 of `coord run`; 70 would be a bug and 101
/// a panic.
const DOCUMENTED: &[i32] = &[0, 1, 2, 3, 4, 5, 6, 7, 75, 124, 255];

/// It ended by itself, in a way that is promised.
#[track_caller]
pub fn documented(ended: &Ended) {
    assert!(ended.code.is_some_and(|code| DOCUMENTED.contains(&code)), "{ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
}

/// Who gives up says what could not be done, and gives the system's reason.
#[track_caller]
pub fn says(ended: &Ended, error: &str) {
    if matches!(ended.code, Some(0 | 1 | 6)) {
        return;
    }
    let number = match error.to_ascii_lowercase().as_str() {
        "eio" => 5,
        "enospc" => 28,
        "eintr" => 4,
        _ => 24,
    };
    let reason = format!("(os error {number})");
    assert!(ended.stderr.contains(&reason), "it gave up and did not say why: {ended:?}");
}

struct Failure<'a> {
    prepared: &'a Prepared,
    call: &'a Call,
    error: &'static str,
}

fn label(failure: &Failure<'_>) -> String {
    let (situation, call) = (failure.prepared.situation.name, failure.call.label());
    format!("{situation} {call} {}", failure.error)
}

#[test]
fn failed_at_every_call() {
    let place = Place::fast();
    let prepared = Prepared::all(place.path());
    let all: Vec<Failure<'_>> = prepared
        .iter()
        .flat_map(|p| p.calls.iter().map(move |call| (p, call)))
        .flat_map(|(prepared, call)| {
            call.errors().iter().map(move |error| Failure { prepared, call, error })
        })
        .collect();
    let of = all.len();
    let all = points::sample(all, CI_ERRORS, label);
    points::run("an error at a call", of, &all, label, |failure| {
        let (prepared, situation) = (failure.prepared, failure.prepared.situation);
        let case =
            prepared.case(place.path(), &format!("{} {}", failure.call.label(), failure.error));
        let acknowledged = play(&case, situation, situation.acts[0], |command| {
            let ended = strace::fail_at(&case, failure.call, failure.error, &command);
            // A library's descriptor was hit (inotify's threads write to one now and then): not ours.
            if !ended.stderr.contains("/notify-") {
                documented(&ended);
                says(&ended, failure.error);
            }
            ended
        });
        case.verify(situation, acknowledged);
        case.remove();
    });
}

/// Points of a CI run.
const CI_ERRORS: usize = 250;
