//! A lane's turn, seen from the worker that holds it: the command that takes it, and its end.
//!
//! The merger is a process of its own, `coord mergeq turn LANE`, run like any job: its death, its time
//! and its log are the worker's business, and what it had begun is the next turn's.

use std::path::Path;
use std::time::Duration;

use crate::queue::claim::Lease;
use crate::queue::ids::lane_name;
use crate::queue::record::{End, Spec, Verdict};
use crate::sys::child::Exit;
use crate::sys::tool::sibling;

use super::context::{out_file, tail};
use super::merge::{SUMMARY, Summary};
use super::outcome::Stopped;
use super::pausing::{Help, put_off};
use super::site::Site;

/// Whether this is the spec of a lane.
pub fn is_lane(spec: &Spec) -> bool {
    lane_name(&spec.uid).is_some()
}

/// The command that takes the turns of a lane; `None` where nothing can be merged.
pub fn command(site: &Site, spec: &Spec) -> Option<Vec<String>> {
    site.repo.usable()?;
    let coord = sibling("coord").ok()?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let dir = text(site.queue.layout.root());
    let words = ["--dir".to_owned(), dir, "mergeq".to_owned(), "turn".to_owned(), spec.uid.clone()];
    Some(std::iter::once(text(&coord)).chain(words).collect())
}

/// The end of a turn: always a release, since a lane is never over. After one that could not do its
/// work the next one waits a while, longer each time.
pub fn judge(site: &Site, lease: &Lease, exit: Exit, stopped: Option<Stopped>) -> End {
    let text = out_file(&site.queue, &lease.key, SUMMARY, 1 << 20);
    let summary: Summary = serde_json::from_str(&text).unwrap_or_default();
    let mut end = End::new(Verdict::Release, true);
    let (code, signal) = match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
    };
    (end.exit.code, end.exit.signal) = (code, signal);
    end.why = match (stopped, exit) {
        (Some(_), _) => "its worker was stopped".to_owned(),
        (None, Exit::Code(0)) => summary.words(),
        (None, Exit::Code(code)) => format!("exit {code}: {}", last_line(site, lease)),
        (None, Exit::Signal(signal)) => format!("signal {signal}"),
    };
    let failed = stopped.is_none() && (exit != Exit::Code(0) || !summary.waits.is_empty());
    if failed {
        let help = match exit {
            Exit::Code(0) => Help::Needed(&summary.remedy),
            _ => Help::Perhaps(""),
        };
        end = put_off(site, lease, end, help);
        end.context = tail(&site.queue, &lease.key);
    }
    end
}

fn last_line(site: &Site, lease: &Lease) -> String {
    let text = tail(&site.queue, &lease.key);
    text.lines().rev().find(|line| line.starts_with("error:")).unwrap_or_default().to_owned()
}

/// The longest that a job may run: a turn as long as it takes, its checks have limits of their own.
pub fn limit(spec: &Spec, usual: Option<Duration>) -> Option<Duration> {
    if is_lane(spec) { None } else { usual }
}
