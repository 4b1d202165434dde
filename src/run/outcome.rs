//! From the exit of a command to the verdict of an attempt. Decided by exit status and files, never
//! by prose.

use serde::{Deserialize, Serialize};

use crate::plan::retry;
use crate::queue::claim::Lease;
use crate::queue::record::{Backoff, End, ExitStatus, Verdict};
use crate::sys::child::Exit;
use crate::sys::clock::rfc3339;

use super::context::{out_file, tail};
use super::site::Site;
use super::turn;

/// "Try again later, not my fault" (EX_TEMPFAIL).
const TEMPORARY: i32 = 75;
/// "Do not try again" (EX_DATAERR, and qmail's permanent failure).
const PERMANENT: [i32; 2] = [65, 100];

/// Why the worker itself ended the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// A cancel was asked for.
    Cancel,
    /// The time limit is over.
    TimeLimit,
    /// The worker was asked to hand its task back.
    HandBack,
    /// The attempt was taken away.
    Fenced,
}

/// `n.out/verdict.json`: what `coord fail` inside a job leaves for the worker.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobVerdict {
    /// `fail`.
    pub verdict: String,
    /// No further attempt.
    pub permanent: bool,
    /// Why.
    pub reason: String,
}

/// The verdict of an attempt whose command has ended and whose tree is gone.
pub fn judge(site: &Site, lease: &Lease, exit: Exit, stopped: Option<Stopped>) -> End {
    if turn::is_lane(&lease.spec) {
        return turn::judge(site, lease, exit, stopped);
    }
    let key = &lease.key;
    let said: JobVerdict =
        serde_json::from_str(&out_file(&site.queue, key, "verdict.json", 1 << 16))
            .unwrap_or_default();
    let setup = out_file(&site.queue, key, "setup-failed", 64);
    let setup = setup.trim();
    let mut end = match (stopped, exit) {
        // It was just finished when it was asked to stop.
        (Some(Stopped::Cancel | Stopped::Fenced | Stopped::HandBack) | None, Exit::Code(0))
            if said.verdict != "fail" =>
        {
            End::new(Verdict::Done, false)
        }
        (Some(Stopped::Cancel), _) => because(Verdict::Cancel, false, "cancelled while running"),
        (Some(Stopped::HandBack), _) => because(Verdict::Release, true, "worker was stopped"),
        (Some(Stopped::Fenced), _) => because(Verdict::Release, true, "taken away while running"),
        (Some(Stopped::TimeLimit), _) => failed(site, lease, false, "time limit"),
        (None, _) if said.verdict == "fail" => failed(site, lease, said.permanent, &said.reason),
        (None, _) if !setup.is_empty() => {
            failed(site, lease, false, &format!("setup failed: exit {setup}"))
        }
        (None, Exit::Code(TEMPORARY)) => put_off(site, lease),
        (None, Exit::Code(code)) => {
            failed(site, lease, PERMANENT.contains(&code), &format!("exit {code}"))
        }
        (None, Exit::Signal(signal)) => failed(site, lease, false, &signal_name(signal)),
    };
    end.exit = match exit {
        Exit::Code(code) => ExitStatus { code: Some(code), signal: None },
        Exit::Signal(signal) => ExitStatus { code: None, signal: Some(signal) },
    };
    if end.verdict != Verdict::Done {
        end.context = tail(&site.queue, key);
    }
    end.result.value = serde_json::from_str(&out_file(&site.queue, key, "result.json", 256 << 10))
        .unwrap_or_default();
    end
}

/// The verdict of an attempt that was stopped while git was at work for it, in words that say at what.
pub fn cut_short(site: &Site, lease: &Lease, stopped: Stopped, what: &str) -> End {
    match stopped {
        Stopped::Cancel => because(Verdict::Cancel, false, &format!("cancelled: {what}")),
        Stopped::HandBack => {
            because(Verdict::Release, true, &format!("worker was stopped: {what}"))
        }
        Stopped::Fenced => {
            because(Verdict::Release, true, "taken away while git was at work for it")
        }
        Stopped::TimeLimit => failed(site, lease, false, &format!("time limit: {what}")),
    }
}

fn because(verdict: Verdict, retry: bool, why: &str) -> End {
    End { why: why.to_owned(), ..End::new(verdict, retry) }
}

/// A failed attempt: charged, and delayed unless it was the last.
pub fn failed(site: &Site, lease: &Lease, permanent: bool, why: &str) -> End {
    let charged = lease.before.as_ref().map_or(0, |e| e.charged);
    let (charged, retry) = retry::after_failure(charged, lease.spec.max_attempts, permanent);
    let mut end = because(Verdict::Fail, retry, why);
    end.charged = charged;
    if retry {
        let backoff = lease.spec.backoff.unwrap_or(site.config.retry.backoff());
        let random = site.queue.clock.random();
        let due = site.queue.clock.wall_ms() + retry::backoff_ms(&backoff, charged, random);
        end.not_before = Some(rfc3339(due));
    }
    end
}

/// Exit 75: not charged, and not before the time that the job asked for (`$COORD_OUT/retry-after`,
/// in seconds), or the first pause of the back-off.
fn put_off(site: &Site, lease: &Lease) -> End {
    let asked = out_file(&site.queue, &lease.key, "retry-after", 64);
    let Backoff { base_s, .. } = lease.spec.backoff.unwrap_or(site.config.retry.backoff());
    let pause_s = asked.trim().parse::<f64>().ok().filter(|s| s.is_finite()).unwrap_or(base_s);
    let pause = std::time::Duration::from_secs_f64(pause_s.clamp(0.0, 86_400.0));
    let due = site.queue.clock.wall_ms() + u64::try_from(pause.as_millis()).unwrap_or(0);
    End {
        not_before: Some(rfc3339(due)),
        ..because(Verdict::Release, true, "exit 75: try again later")
    }
}

/// What a signal is called, for people.
pub fn signal_name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(name) => format!("signal {name}"),
        Err(_) => format!("signal {signal}"),
    }
}
