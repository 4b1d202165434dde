//! How far a run has come, as one line of text.

use std::fmt::Write as _;

/// What is known of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Jobs that ended, failed ones too.
    pub done: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that run.
    pub running: u64,
    /// How many jobs there are, once the input has ended.
    pub total: Option<u64>,
    /// Jobs of `done` that ended in an earlier run: they say nothing about the speed of this one.
    pub before: u64,
    /// Since this run began, seconds.
    pub elapsed_s: f64,
}

/// The longest bar, in columns.
const BAR_MAX: usize = 40;
/// A shorter bar shows nothing.
const BAR_MIN: usize = 5;

impl Progress {
    /// Jobs in a second, on average; `None` before the first one has ended.
    pub fn rate(&self) -> Option<f64> {
        let ended = self.done.saturating_sub(self.before);
        (ended > 0 && self.elapsed_s > 0.0).then(|| ended as f64 / self.elapsed_s)
    }

    /// How long the rest will take at this rate, seconds; `None` where that is not known.
    pub fn eta_s(&self) -> Option<f64> {
        let left = self.total?.saturating_sub(self.done);
        if left == 0 {
            return Some(0.0);
        }
        self.rate().map(|rate| left as f64 / rate)
    }

    /// One line, shorter than `width` columns so that no terminal wraps it: a bar, done/total (`?`
    /// while input still comes), failed and running jobs, rate, time left. Parts that have no room
    /// are left out, the last ones first. There are no escape codes in it.
    pub fn line(&self, width: usize) -> String {
        let room = width.saturating_sub(1);
        let mut text = match self.total {
            Some(total) => format!("{}/{total}", self.done),
            None => format!("{}/?", self.done),
        };
        let mut parts = Vec::new();
        if self.failed > 0 {
            parts.push(format!("{} failed", self.failed));
        }
        parts.push(format!("{} running", self.running));
        parts.extend(self.rate().map(|rate| format!("{}/s", short(rate))));
        if self.total.is_some_and(|total| total > self.done) {
            parts.extend(self.eta_s().map(|eta| format!("{} left", duration(eta))));
        }
        for part in parts {
            // All of it is ASCII, so bytes are columns.
            if text.len() + 2 + part.len() > room {
                break;
            }
            let _written = write!(text, ", {part}");
        }
        if text.len() > room {
            text.truncate(room);
        }
        let bar = room.saturating_sub(text.len() + 3).min(BAR_MAX);
        match self.total {
            Some(total) if bar >= BAR_MIN => format!("[{}] {text}", self.bar(bar, total)),
            _ => text,
        }
    }

    fn bar(&self, columns: usize, total: u64) -> String {
        let done = self.done.min(total);
        let filled = match total {
            0 => columns,
            total => (u128::from(done) * columns as u128 / u128::from(total)) as usize,
        };
        let head = if filled < columns { ">" } else { "" };
        format!("{}{head}{}", "=".repeat(filled), " ".repeat(columns - filled - head.len()))
    }
}

/// Three digits or so: `0.25`, `3.1`, `42`, `1200`.
fn short(rate: f64) -> String {
    match rate {
        rate if rate < 1.0 => format!("{rate:.2}"),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

/// `42s`, `3m05s`, `2h07m`, `3d4h`.
fn duration(seconds: f64) -> String {
    // What is longer than any run is cut by the conversion.
    let seconds = seconds.ceil() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ if days > 9999 => "years".to_owned(),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines() {
        let run = Progress {
            done: 50,
            failed: 2,
            running: 8,
            total: Some(200),
            before: 0,
            elapsed_s: 10.0,
        };
        for (progress, width, line) in [
            (
                run,
                80,
                "[========>                       ] 50/200, 2 failed, 8 running, 5.0/s, 30s left",
            ),
            (run, 50, "50/200, 2 failed, 8 running, 5.0/s, 30s left"),
            (run, 46, "50/200, 2 failed, 8 running, 5.0/s, 30s left"),
            (run, 20, "50/200, 2 failed"),
            (run, 8, "50/200"),
            (run, 4, "50/"),
            (run, 0, ""),
            (Progress { total: None, ..run }, 80, "50/?, 2 failed, 8 running, 5.0/s"),
            (
                Progress { failed: 0, before: 49, ..run },
                60,
                "[====>             ] 50/200, 8 running, 0.10/s, 25m00s left",
            ),
            (
                Progress { done: 200, running: 0, failed: 0, ..run },
                60,
                "[================================] 200/200, 0 running, 20/s",
            ),
            (
                Progress { total: Some(0), ..Progress::default() },
                30,
                "[============] 0/0, 0 running",
            ),
        ] {
            assert_eq!(progress.line(width), line);
        }
    }

    #[test]
    fn times() {
        for (seconds, text) in [
            (0.0, "0s"),
            (59.2, "1m00s"),
            (125.0, "2m05s"),
            (7620.0, "2h07m"),
            (273_600.0, "3d4h"),
            (f64::INFINITY, "years"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_long(
            numbers: [u64; 4], total: Option<u64>, elapsed_s: f64, width in 0usize..200
        ) {
            let [done, failed, running, before] = numbers;
            let line = Progress { done, failed, running, total, before, elapsed_s }.line(width);
            prop_assert!(line.len() <= width.saturating_sub(1));
            prop_assert!(line.bytes().all(|b| (b' '..0x7f).contains(&b)));
        }
    }
}
