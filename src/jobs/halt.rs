//! `--halt`: when to stop before all jobs have run.
//!
//! The rules are those of GNU parallel 20221122, which has no least number of jobs for percentages
//! (older ones waited for three): `fail=10%` of 6 jobs is met by the first failure.

use crate::error::{Error, Result};

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Start no further job and wait for those that run.
    Soon,
    /// Kill those that run.
    Now,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Jobs that failed.
    Fail,
    /// Jobs that succeeded.
    Success,
    /// Both.
    Done,
}

/// How many are enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// So many, at least 1.
    Jobs(u64),
    /// So many in a hundred of all jobs, at least 1.
    Percent(u64),
}

/// A rule; see [`Halt::parse`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Halt {
    /// Run all jobs.
    #[default]
    Never,
    /// Stop when enough jobs have ended in some way.
    At(When, Why, Limit),
}

/// What has come of the jobs so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many failed for good.
    pub failed: u64,
    /// How many succeeded.
    pub succeeded: u64,
    /// How many there are in all, once the input has ended.
    pub total: Option<u64>,
}

impl Halt {
    /// Parses `never`, or `WHEN,WHY=X` where WHEN is `now` or `soon`, WHY `fail`, `success` or
    /// `done`, and X a number or a percentage, from 1. Older forms: `0` (never), `1` (soon,fail=1),
    /// `2` (now,fail=1), `-1` and `-2` (the same with success), `30%` (soon,fail=30%).
    ///
    /// # Errors
    /// What is none of these.
    pub fn parse(text: &str) -> Result<Halt> {
        let at = |when, why| Ok(Halt::At(when, why, Limit::Jobs(1)));
        match text {
            "never" | "0" => return Ok(Halt::Never),
            "1" => return at(When::Soon, Why::Fail),
            "2" => return at(When::Now, Why::Fail),
            "-1" => return at(When::Soon, Why::Success),
            "-2" => return at(When::Now, Why::Success),
            _ => {}
        }
        let halt = if text.ends_with('%') && !text.contains(',') {
            limit(text).map(|limit| Halt::At(When::Soon, Why::Fail, limit))
        } else {
            rule(text)
        };
        halt.ok_or_else(|| {
            Error::usage(format!("`{text}` does not say when to stop"))
                .hint("write never, now,fail=1, soon,fail=30%, now,success=1 or soon,done=10")
        })
    }

    /// Whether to stop now, and how.
    pub fn decide(&self, counts: Counts) -> Option<When> {
        let Halt::At(when, why, _) = self else { return None };
        let count = match why {
            Why::Fail => counts.failed,
            Why::Success => counts.succeeded,
            Why::Done => counts.failed.saturating_add(counts.succeeded),
        };
        self.is_met(count, counts.total).then_some(*when)
    }

    /// Whether it counts the end of a job, which has succeeded or failed for good.
    pub fn counts(&self, succeeded: bool) -> bool {
        match self {
            Halt::Never => false,
            Halt::At(_, Why::Fail, _) => !succeeded,
            Halt::At(_, Why::Success, _) => succeeded,
            Halt::At(_, Why::Done, _) => true,
        }
    }

    /// Whether the first end that it counts fulfils it.
    pub fn is_one(&self) -> bool {
        matches!(self, Halt::At(_, _, Limit::Jobs(1)))
    }

    /// Whether it depends on the number of all jobs.
    pub fn is_percent(&self) -> bool {
        matches!(self, Halt::At(_, _, Limit::Percent(_)))
    }

    /// Whether it is fulfilled when so many jobs have ended that it counts. A percentage is of all
    /// jobs, so it is not met before `total` is known.
    pub fn is_met(&self, count: u64, total: Option<u64>) -> bool {
        match self {
            Halt::Never => false,
            Halt::At(_, _, Limit::Jobs(jobs)) => count >= *jobs,
            Halt::At(_, _, Limit::Percent(percent)) => total.is_some_and(|total| {
                count > 0 && u128::from(count) * 100 >= u128::from(*percent) * u128::from(total)
            }),
        }
    }
}

fn rule(text: &str) -> Option<Halt> {
    let (when, rest) = text.split_once(',')?;
    let (why, limit_text) = rest.split_once('=')?;
    let when = match when {
        "now" => When::Now,
        "soon" => When::Soon,
        _ => return None,
    };
    let why = match why {
        "fail" => Why::Fail,
        "success" => Why::Success,
        "done" => Why::Done,
        _ => return None,
    };
    Some(Halt::At(when, why, limit(limit_text)?))
}

fn limit(text: &str) -> Option<Limit> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| digits && *number > 0)
    };
    match text.strip_suffix('%') {
        Some(text) => number(text).filter(|percent| *percent <= 100).map(Limit::Percent),
        None => number(text).map(Limit::Jobs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        use Limit::{Jobs, Percent};
        use When::{Now, Soon};
        use Why::{Done, Fail, Success};
        for (text, halt) in [
            ("never", Halt::Never),
            ("0", Halt::Never),
            ("1", Halt::At(Soon, Fail, Jobs(1))),
            ("2", Halt::At(Now, Fail, Jobs(1))),
            ("-1", Halt::At(Soon, Success, Jobs(1))),
            ("-2", Halt::At(Now, Success, Jobs(1))),
            ("10%", Halt::At(Soon, Fail, Percent(10))),
            ("now,fail=1", Halt::At(Now, Fail, Jobs(1))),
            ("soon,fail=30%", Halt::At(Soon, Fail, Percent(30))),
            ("now,success=1", Halt::At(Now, Success, Jobs(1))),
            ("soon,done=10", Halt::At(Soon, Done, Jobs(10))),
        ] {
            assert_eq!(Halt::parse(text).unwrap(), halt, "{text}");
        }
        for text in [
            "",
            "3",
            "now",
            "now,fail",
            "now,fail=",
            "now,fail=0",
            "now,fail=0%",
            "soon,fail=101%",
            "soon,fail=5.5%",
            "NOW,fail=1",
            "later,fail=1",
            "now,lost=1",
            "now,fail=+1",
            "%",
            "soon,fail=1,success=2",
            " never",
        ] {
            assert!(Halt::parse(text).unwrap_err().hint.is_some(), "{text}");
        }
    }

    /// The job after which GNU parallel 20221122 with -j1 started no further one, for jobs that exit
    /// with these (0: it ran all).
    #[test]
    fn as_gnu_parallel() {
        for (rule, exits, after) in [
            ("now,fail=1", &[0, 7, 0][..], 2),
            ("soon,fail=1", &[0, 7, 0], 2),
            ("soon,fail=2", &[0, 7, 8, 0, 0], 3),
            ("now,success=1", &[5, 0, 0], 2),
            ("now,success=1", &[5, 6], 0),
            ("soon,success=50%", &[5, 0, 0, 6, 0, 0, 0], 6),
            ("soon,fail=50%", &[5, 6, 0, 0], 2),
            ("soon,fail=50%", &[5, 0, 0, 0, 6, 0], 0),
            ("soon,fail=10%", &[5, 0, 0, 0, 6, 0], 1),
            ("now,fail=10%", &[0, 0, 0, 0, 6, 0], 5),
            ("now,done=3", &[0, 0, 1, 0, 6, 0], 3),
            ("soon,done=50%", &[0, 0, 1, 0, 6, 0], 3),
            ("1%", &[0, 1, 0], 2),
            ("never", &[1, 1, 1], 0),
        ] {
            let halt = Halt::parse(rule).unwrap();
            let mut counts = Counts { total: Some(exits.len() as u64), ..Counts::default() };
            let stops = exits.iter().position(|exit| {
                *(if *exit == 0 { &mut counts.succeeded } else { &mut counts.failed }) += 1;
                halt.decide(counts).is_some()
            });
            assert_eq!(stops.map_or(0, |at| at + 1), after, "{rule} {exits:?}");
        }
        let counts = Counts { failed: 100, succeeded: 100, total: None };
        assert_eq!(Halt::parse("soon,fail=1%").unwrap().decide(counts), None);
        assert_eq!(Halt::parse("soon,fail=1").unwrap().decide(counts), Some(When::Soon));
        assert_eq!(Halt::parse("now,done=200").unwrap().decide(counts), Some(When::Now));
    }
}
