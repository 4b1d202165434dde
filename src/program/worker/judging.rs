//! The verdict of a job of a list.

use crate::queue::array::job;
use crate::queue::record::{End, Verdict};
use crate::run::outcome::{Stopped, signal_name};
use crate::run::shift::Running;
use crate::sys::child::Exit;

/// The verdict of a job.
pub(super) fn judge(running: &Running, before: Option<&End>, tries: u32, round: u32) -> End {
    let kept = |end: End| {
        let counts = before.map_or((0, 0), |before| (before.charged, before.boots));
        End { charged: counts.0, boots: counts.1, ..end }
    };
    let failed = |why: &str| job::failure(before, tries, round, why);
    let because = |why: &str| End { why: why.to_owned(), ..End::new(Verdict::Release, true) };
    let mut end = match (&running.fault, running.stopped.map(|(why, _)| why), running.exit) {
        (Some(fault), ..) if fault.lasting => job::failure(before, 1, round, &fault.why),
        (Some(fault), ..) => failed(&fault.why),
        (_, why, Some(Exit::Code(0))) if why != Some(Stopped::TimeLimit) => {
            End::new(Verdict::Done, false)
        }
        (_, Some(Stopped::TimeLimit), _) => End::of_time_limit(failed("time limit")),
        (_, Some(Stopped::Cancel), _) => kept(because("cancelled while running")),
        (_, Some(Stopped::HandBack), _) => kept(because("worker was stopped")),
        (_, Some(Stopped::Fenced), _) => kept(because("taken away while running")),
        (_, None, Some(Exit::Code(code))) => failed(&format!("exit {code}")),
        (_, None, Some(Exit::Signal(signal))) => failed(&signal_name(signal)),
        (_, None, None) => failed("its end was not seen"),
    };
    match running.exit {
        Some(Exit::Code(code)) => end.exit.code = Some(code),
        Some(Exit::Signal(signal)) => end.exit.signal = Some(signal),
        None => {}
    }
    end
}
