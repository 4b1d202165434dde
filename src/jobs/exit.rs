//! The exit status of a run, as GNU parallel has it.
//!
//! | status | what it means |
//! |---|---|
//! | 0 | no job failed; with a `--halt` for successes: there were enough |
//! | 1-100 | so many jobs failed; with a percentage in `--halt`: so many in a hundred, rounded up |
//! | 101 | more than 100 jobs failed |
//! | 255 | anything else: a wrong command line, a queue that cannot be written |
//!
//! A `--halt` for one job (`fail=1`, `done=1`) has the exit status of the first job that failed,
//! with 128 and the signal's number where a signal ended it.

use super::halt::{Counts, Halt, Limit, Why};

/// What the run exits with that could not be carried out at all.
pub const OTHER: u8 = 255;

/// How a job ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// What it exited with; 0 where a signal ended it; -1 where it was killed by its runner.
    pub exit: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
}

impl Ended {
    /// As one number, as shells say it.
    pub fn status(self) -> u8 {
        match (self.exit, self.signal) {
            (0, 0) => 0,
            (exit @ 1..=255, 0) => exit as u8,
            (_, signal @ 1..=127) => 128 + signal as u8,
            _ => OTHER,
        }
    }
}

/// The exit status of a run. `first` is the first job that failed; `counts.total` is how many jobs
/// there are, or those that ended where that is not known.
pub fn status(halt: &Halt, counts: Counts, first: Option<Ended>) -> u8 {
    let failed = match counts.failed {
        0 => 0,
        failed @ 1..=100 => failed as u8,
        _ => 101,
    };
    let Halt::At(_, why, limit) = halt else { return failed };
    if *why == Why::Success && halt.decide(counts).is_some() {
        return 0;
    }
    match (limit, first) {
        (Limit::Jobs(1), Some(first)) if *why != Why::Success && counts.failed > 0 => {
            first.status()
        }
        (Limit::Jobs(_), _) => failed,
        (Limit::Percent(_), _) => {
            let ended = counts.failed.saturating_add(counts.succeeded);
            let total = u128::from(counts.total.unwrap_or(ended).max(ended).max(1));
            (u128::from(counts.failed) * 100).div_ceil(total) as u8
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What GNU parallel 20221122 with -j1 exited with.
    #[test]
    fn as_gnu_parallel() {
        for (rule, exits, total, status_seen) in [
            ("never", &[1, 2, 0][..], 3, 2),
            ("never", &[0], 1, 0),
            ("never", &[1; 100], 100, 100),
            ("never", &[1; 150], 150, 101),
            ("now,fail=1", &[0, 7], 3, 7),
            ("soon,fail=1", &[0, 7], 3, 7),
            ("soon,fail=1", &[0, 0], 2, 0),
            ("soon,fail=2", &[0, 7, 8], 5, 2),
            ("soon,fail=3", &[0, 1], 2, 1),
            ("now,success=1", &[5, 0], 3, 0),
            ("now,success=1", &[5, 6], 2, 2),
            ("now,success=2", &[5, 0, 6], 3, 2),
            ("soon,success=50%", &[5, 0, 0, 6, 0, 0], 7, 0),
            ("soon,success=90%", &[5, 0, 0, 3], 4, 50),
            ("soon,fail=50%", &[5, 6], 4, 50),
            ("soon,fail=50%", &[5, 0, 0, 0, 6, 0], 6, 34),
            ("soon,fail=10%", &[5], 6, 17),
            ("soon,fail=90%", &[0, 1, 0], 3, 34),
            ("now,done=3", &[0, 0, 1], 6, 1),
            ("soon,done=1", &[5], 1, 5),
            ("soon,done=50%", &[0, 0, 1], 6, 17),
        ] {
            let failed = exits.iter().filter(|exit| **exit != 0).count() as u64;
            let succeeded = exits.len() as u64 - failed;
            let counts = Counts { failed, succeeded, total: Some(total) };
            let first = exits.iter().find(|exit| **exit != 0);
            let first = first.map(|exit| Ended { exit: *exit, signal: 0 });
            let status = status(&Halt::parse(rule).unwrap(), counts, first);
            assert_eq!(status, status_seen, "{rule} {exits:?}");
        }
    }

    #[test]
    fn one_number() {
        for (exit, signal, status) in
            [(0, 0, 0), (3, 0, 3), (0, 9, 137), (-1, 15, 143), (-1, 0, 255), (256, 0, 255)]
        {
            assert_eq!(Ended { exit, signal }.status(), status);
        }
        let counts = Counts { failed: u64::MAX, succeeded: u64::MAX, total: None };
        assert_eq!(status(&Halt::parse("1%").unwrap(), counts, None), 100);
    }
}
