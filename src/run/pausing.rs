//! What could not be done now, and for no fault of its own: it is put off for a while, longer each time,
//! and a person is told what to do where only a person can help.

use crate::plan::retry;
use crate::queue::claim::Lease;
use crate::queue::lane::{PERSON, REMEDY, SINCE};
use crate::queue::record::{Backoff, End};
use crate::sys::clock::rfc3339;

use super::site::Site;

/// The field of an end that counts how often in a row.
const FAILURES: &str = "failures";
/// The pauses.
const PAUSE: Backoff = Backoff { base_s: 2.0, factor: 2.0, max_s: 300.0 };
/// After so many failures in a row a person should look, whatever it is.
const PATIENCE: u64 = 3;

/// Whether it goes on by itself.
#[derive(Debug, Clone, Copy)]
pub enum Help<'a> {
    /// Only when a person has done this.
    Needed(&'a str),
    /// Perhaps. If it does not, a person has to do this.
    Perhaps(&'a str),
}

/// Completes an end that permits the next attempt: not before a pause that grows, unless the end says when.
pub fn put_off(site: &Site, lease: &Lease, mut end: End, help: Help<'_>) -> End {
    let before = lease.before.as_ref().filter(|end| end.more.contains_key(FAILURES));
    let failures =
        before.and_then(|end| end.more[FAILURES].as_u64()).unwrap_or(0).saturating_add(1);
    let since = before.and_then(|end| end.more.get(SINCE).cloned());
    let now_ms = site.queue.clock.wall_ms();
    let count = u32::try_from(failures).unwrap_or(u32::MAX);
    let pause_ms = retry::backoff_ms(&PAUSE, count, site.queue.clock.random());
    end.not_before.get_or_insert_with(|| rfc3339(now_ms.saturating_add(pause_ms)));
    end.more.insert(FAILURES.to_owned(), failures.into());
    let (Help::Needed(remedy) | Help::Perhaps(remedy)) = help;
    if matches!(help, Help::Needed(_)) || failures >= PATIENCE {
        end.more.insert(PERSON.to_owned(), true.into());
        end.more.insert(SINCE.to_owned(), since.unwrap_or_else(|| rfc3339(now_ms).into()));
        end.more.insert(REMEDY.to_owned(), remedy.into());
    }
    end
}
