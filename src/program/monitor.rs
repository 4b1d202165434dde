//! The monitor: a keeper, and nothing else. Restarts nobody, runs nothing.

use crate::error::Result;
use crate::queue::procs::{Identity, Proc};
use crate::queue::record::CardKind;
use crate::queue::{durable, reserve};
use crate::run::site::Site;
use crate::sys::wake::{Waiter, Wake};

use super::astray;
use super::keeper::Keeper;
use super::start::{STOP_SIGNALS, answer, warn_if_blind};

/// Runs the monitor until it is told to end.
pub fn run(site: &Site) -> Result<()> {
    let queue = &site.queue;
    let mut waiter = queue.waiter(STOP_SIGNALS)?;
    let identity = Identity::plain("monitor", CardKind::Monitor);
    let mut me = Proc::register(queue, &identity)?;
    warn_if_blind(&waiter);
    let mut keeper = Keeper::new(queue, site.config.workers.rescan_ms)
        .archiving(site.config.gc.archive_after_ms);
    let mut wakes: Vec<Wake> = Vec::new();
    let mut fill_ms = 0;
    loop {
        if wakes.iter().any(|w| matches!(w, Wake::Signal(_))) {
            me.leave(queue);
            return Ok(());
        }
        if let Some(why) = astray::left(queue, &mut me) {
            return Err(why);
        }
        let next_ms = match keeper.tick(queue, &mut me, &mut waiter, &wakes) {
            Ok(next_ms) => next_ms,
            Err(e) => {
                // A full disk or the like: nothing was lost, and it is tried again.
                tracing::error!(error = %e, "a look went wrong; will look again");
                queue.clock.mono_ms() + 1000
            }
        };
        if queue.clock.mono_ms() >= fill_ms {
            reserve::fill(queue);
            fill_ms = queue.clock.mono_ms() + site.config.workers.rescan_ms;
        }
        for line in keeper.report.drain(..) {
            tracing::info!("{line}");
        }
        if let Err(e) = answer(queue, &mut me, &identity, &mut waiter, &wakes) {
            tracing::error!("cannot register anew: {}; will try again", e.one_line());
        }
        let events_ms = durable::events(queue, &mut me, false);
        wakes =
            waiter.wait(Waiter::deadline(events_ms.map_or(next_ms, |due_ms| due_ms.min(next_ms))));
    }
}
