//! What attempts left whose worker died: saved by the next attempt of the task, before its brief is
//! written, so that the brief can name it.
//!
//! Two owners of such a slot may live. Another process that is just saving the same is waited for. A
//! worker whose lease ran out on another machine may be at work until it learns of it: what is there by
//! now is saved, without taking the slot, and what it does after that it saves itself.

use std::time::Duration;

use crate::error::{Error, Exit, Result};
use crate::git::confirmed::Answer;
use crate::queue::claim::Lease;
use crate::queue::procs::Proc;
use crate::queue::recover::{self, Death};
use crate::sys::tool::{Meanwhile, Waits};
use crate::sys::wake::nap;

use super::pool::chain::{Record, State};
use super::pool::{Pool, is_over};
use super::site::Site;
use super::slot::Workshop;

/// How long a worker waits for another one that is just saving the same.
const PATIENCE_MS: u64 = 30_000;
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(50);

/// Saves what earlier attempts of the task left in slots of dead workers. A slot that another process
/// saves right now is waited for a while; its directory is named in the brief in any case.
pub fn earlier(site: &Site, me: &Proc, lease: &Lease, beat: &Meanwhile<'_>) -> Result<()> {
    let Some(pool) = Pool::of(site).filter(|_| lease.key.n > 1) else { return Ok(()) };
    let shop = Workshop { site, pool: &pool, me, beat };
    let began_ms = site.queue.clock.mono_ms();
    loop {
        let mut waiting = false;
        for record in pool.all()?.iter().filter(|record| is_of(site, lease, record)) {
            waiting |= !save(&shop, record)?;
        }
        let waited_ms = site.queue.clock.mono_ms().saturating_sub(began_ms);
        if !waiting || waited_ms >= PATIENCE_MS {
            return Ok(());
        }
        let what = "another process that saves what an earlier attempt left";
        let since = Duration::from_millis(waited_ms);
        if !beat(&Waits { what, dir: &pool.root, since }) {
            return Err(Error::new(Exit::Timeout, format!("{what} was waited for")).at(&pool.root));
        }
        nap(LOOK);
    }
}

/// Whether a slot still holds what an earlier attempt of this task left.
fn is_of(site: &Site, lease: &Lease, record: &Record) -> bool {
    record.assigned.as_ref().is_some_and(|of| {
        record.state != State::Retired
            && of.task == lease.key.task
            && of.n < lease.key.n
            && of.queue == site.queue.layout.root()
    })
}

/// Saves what is in one slot and gives it back. False: somebody is at it.
fn save(shop: &Workshop<'_>, record: &Record) -> Result<bool> {
    let queue = &shop.site.queue;
    if record.state == State::Held && !is_over(queue, record) {
        let owned_here = record.queue == queue.layout.root();
        let given_up = owned_here && recover::declared(queue, &record.owner) == Some(Death::Lease);
        if given_up && let Err(e) = shop.save_as_it_is(record) {
            // It is still where it was, and its worker saves it when it looks.
            tracing::warn!("cannot save what {} left: {}", of(record), e.one_line());
        }
        return Ok(given_up);
    }
    let Some(mut slot) = shop.pool.take_named(queue, shop.me, &record.slot)? else {
        return Ok(false);
    };
    let tree = match shop.ask(&slot)? {
        // So it is in every slot; what this one holds is saved when that is mended.
        Answer::Misled(misled) if misled.shared => {
            let error = misled.error(&slot.top);
            shop.pool.free(slot, &error.message)?;
            return Err(error);
        }
        answer => answer.must(&slot.top),
    };
    match tree.and_then(|tree| shop.rescue(&tree, &mut slot, "")) {
        Ok(saved) => match saved.unsaved.first() {
            Some(first) => {
                let why = format!("it holds {first}, of {}", of(record));
                shop.pool.retire(slot, &why)?;
            }
            None => shop.pool.free(slot, "")?,
        },
        // Git was ended, or there is no room: it is all still there, and saved another time.
        Err(e) if e.exit == Exit::Timeout || e.is_of_surroundings() => {
            shop.pool.free(slot, "")?;
            return Err(e);
        }
        Err(e) => {
            let why = format!("cannot save what {} left: {}", of(record), e.one_line());
            shop.pool.retire(slot, &why)?;
        }
    }
    Ok(true)
}

fn of(record: &Record) -> String {
    record.assigned.as_ref().map(|a| format!("attempt {}.{}", a.task, a.n)).unwrap_or_default()
}
