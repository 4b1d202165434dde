//! Whether a process is dead: by its process where it can be seen, else by its silence.

use crate::error::Result;
use crate::queue::Queue;
use crate::queue::elsewhere::lease_ms;
use crate::queue::identity;
use crate::queue::ids::Key;
use crate::queue::procs;
use crate::queue::record::{Card, CardKind};
use crate::queue::recover::{self, Death};
use crate::rule;
use crate::sys::wake::Watch;

use super::Keeper;

/// The silence after which a command elsewhere counts as dead, milliseconds. Its claims are given back
/// as after a lease; it may go on afterwards.
const COMMAND_LEASE_MS: u64 = 600_000;

/// What the keeper knows of a process.
pub(super) struct Watched {
    pub(super) key: u64,
    pub(super) card: Card,
    /// Its pids mean something here, and it works in this directory: it may be ended.
    pub(super) local: bool,
    /// Whether its process lives can be seen here.
    pub(super) seen: bool,
    /// The last heartbeat seen, and since when (milliseconds of the monotonic clock).
    pub(super) beat: (u64, u64),
    /// What it was at, at the last look: its claims, or all intents of a command.
    pub(super) held: Vec<String>,
}

impl Keeper {
    /// Whether a process is dead; starts to watch it if it is new.
    pub(super) fn judge(
        &mut self,
        queue: &Queue,
        wid: &str,
        waiter: &mut dyn Watch,
    ) -> Result<Option<Death>> {
        #[cfg(debug_assertions)]
        let dir = queue.layout.proc(wid);
        if !self.watched.contains_key(wid) {
            let Some(card) = procs::card(queue, wid) else {
                // The card goes last: this is what is left of one that was being removed. If its
                // run/ is not empty, a power loss took the card, or somebody did, and fsck names it.
                if procs::is_without_card(queue, wid)?
                    && !procs::dissolve(queue, wid)
                    && procs::is_of_earlier_boot(queue, wid)
                {
                    return Ok(Some(Death::Boot));
                }
                return Ok(None);
            };
            let place = queue.host.place();
            let same_host = card.host_id == place.host_id;
            let (local, seen) = (procs::is_here(queue, &card), procs::can_be_seen(queue, &card));
            let beat = self.heartbeat(queue, wid);
            // A disk of this machine cannot be another's at the same time. On a shared one a clone may
            // carry this machine's id: there the heartbeat must be older than this boot.
            let earlier = same_host && card.boot != place.boot;
            let older = || beat.0 / 1_000_000 < queue.host.booted_at_ms();
            if earlier && (!queue.shared || older()) {
                return Ok(Some(Death::Boot));
            }
            self.next_key += 1;
            let held = Vec::new();
            let watched = Watched { key: self.next_key, card, local, seen, beat, held };
            // The death of one that works in another directory is seen as well; its life is none of ours.
            let gone = seen && !waiter.watch_death(watched.key, watched.card.process());
            self.watched.insert(wid.to_owned(), watched);
            if gone {
                return Ok(Some(Death::Gone));
            }
        }
        // What was seen of its claims before its death must not count after it.
        #[cfg(debug_assertions)]
        let seen_alive = recover::seen_alive(queue, wid)?;
        let Some(watched) = self.watched.get(wid) else { return Ok(None) };
        if watched.seen && !queue.host.is_alive(watched.card.process()) {
            #[cfg(debug_assertions)]
            for key in seen_alive {
                queue.discard(&dir.join("run").join(key.to_string()))?;
            }
            return Ok(Some(Death::Gone));
        }
        match recover::declared(queue, wid) {
            // Another machine could only wait for its lease. Here it can be ended, and must be,
            // before its attempt is given to another: it may be stopped, with its job running.
            Some(Death::Lease) if watched.local && rule!("R5.home") => Ok(Some(Death::Hung)),
            Some(death) => Ok(Some(death)),
            None => self.judge_lease(queue, wid),
        }
    }

    fn heartbeat(&self, queue: &Queue, wid: &str) -> (u64, u64) {
        // A command has none, and does not beat: what counts is when it registered.
        let dir = queue.layout.proc(wid);
        let stat = ["hb", "card.0.json"].iter().find_map(|n| queue.fs.stat(&dir.join(n)).ok());
        let beat = stat.map_or(0, |s| s.mtime_ns);
        (beat, queue.clock.mono_ms())
    }

    /// A process that holds claims and has not beaten for its lease.
    fn judge_lease(&mut self, queue: &Queue, wid: &str) -> Result<Option<Death>> {
        let (beat, now) = self.heartbeat(queue, wid);
        let Some(watched) = self.watched.get_mut(wid) else { return Ok(None) };
        let copied = identity::is_of_another(queue, &watched.card);
        // A command has no lease and does not beat, but what it is at changes all the time. Here its
        // process tells; a person may have stopped it. Of one that works in another directory nothing
        // changes here.
        let command = watched.card.kind == CardKind::Cli && !watched.local
            || copied && watched.card.lease_ms == 0;
        if watched.card.lease_ms == 0 && !command {
            return Ok(None);
        }
        let held = procs::intents(queue, wid, command);
        self.busy |= !held.is_empty();
        // An idle worker does not beat: its clock starts when a claim is first seen here. The intent
        // is there before the first heartbeat, so a changed claim starts the clock too.
        let idle = held.is_empty() && !copied;
        if beat != watched.beat.0 || idle || held != watched.held {
            watched.beat = (beat, now);
            watched.held = held;
            return Ok(None);
        }
        let claims = held.iter().filter_map(|name| Key::parse(name));
        let lease_ms = match command {
            true => Some(COMMAND_LEASE_MS),
            false => claims.map(|key| lease_ms(queue, &key, &watched.card)).max(),
        };
        let silent_ms = now.saturating_sub(watched.beat.1);
        let lease_ms = lease_ms.unwrap_or(watched.card.lease_ms);
        self.doubts |= silent_ms >= lease_ms / 2;
        if silent_ms < lease_ms {
            return Ok(None);
        }
        Ok(Some(match watched.local {
            true => Death::Hung,
            // Two clients of a shared file system may see two numbers of one directory.
            false if copied && !queue.shared => Death::Copied,
            false => Death::Lease,
        }))
    }

    /// Between two looks at heartbeats: a quarter of the shortest lease.
    pub(super) fn lease_look_ms(&self) -> u64 {
        let leases = self.watched.values().map(|w| w.card.lease_ms).filter(|&ms| ms > 0);
        (leases.min().unwrap_or(self.rescan_ms) / 4).max(100)
    }

    pub(super) fn lease_due(&self, queue: &Queue) -> bool {
        let since = queue.clock.mono_ms().saturating_sub(self.last_look_ms);
        self.busy && since >= self.lease_look_ms()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes what another machine would have made")]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::queue::procs::{Identity, Proc};
    use crate::queue::record;
    use crate::sys::host::Platform;
    use crate::sys::wake::Waiter;

    #[test]
    fn a_command_of_a_clone_lives_until_its_card_is_older_than_this_boot() {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = crate::queue::init::init(&dir.path().join("q"), Platform::real()).unwrap();
        queue.shared = true;
        let me = Proc::register(&queue, &Identity::plain("cli", CardKind::Cli)).unwrap();
        // Another machine with this one's id, as a clone has it.
        let path = me.dir().join("card.0.json");
        let card = Card { boot: "another".to_owned(), ..me.card.clone() };
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, record::to_bytes(&card)).unwrap();
        assert!(!me.dir().join("hb").exists());
        let mut waiter = Waiter::new(&[], dir.path()).unwrap();
        let mut judged = || Keeper::new(&queue, 1000).judge(&queue, &me.wid, &mut waiter).unwrap();
        assert!(judged().is_none());
        let booted = Duration::from_millis(queue.host.booted_at_ms());
        let earlier = SystemTime::UNIX_EPOCH + booted - Duration::from_secs(60);
        std::fs::File::open(&path).unwrap().set_modified(earlier).unwrap();
        assert!(matches!(judged(), Some(Death::Boot)));
    }
}
