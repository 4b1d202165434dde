//! What a queue is, whatever its path says: a queue may be copied, moved, removed, mounted twice.
//!
//! Its identity is the uid of `layout.json` and the inode of its directory. Processes have it in their
//! cards. One with another identity works in the directory that this one was copied from: it is never
//! signalled from here, and what it held in the copied registers is handed back (queue-layout.md, 4.21).

use std::path::Path;

use crate::error::{Cannot, Error, Exit, Result};
use crate::rule;
use crate::step;
use crate::sys::fs::{Fs, Whereabouts};

use super::Queue;
use super::durable::Durability;
use super::ids::random_part;
use super::layout::LayoutRecord;
use super::procs::{self, Proc};
use super::record::{self, Card, RECORD_MAX};
use super::recover::{self, Death};
use super::sweep;

/// The identity of the directory that `root` means to `fs`.
pub fn of(fs: &dyn Fs, root: &Path, record: &LayoutRecord) -> Result<String> {
    // Of the directory, also where the last part of its path is a symbolic link.
    let stat = fs.stat(&root.join(".")).cannot("look at the queue directory", root)?;
    Ok(format!("{}.{}", record.uid, stat.ino))
}

/// Whether a process is of another directory than this one. A card that says nothing of that is of a
/// program that knows of no identities. A snapshot, or an overlay above a queue, has the uid and the inode
/// of its original: there it counts that a process which lives does not hold this very directory.
pub fn is_of_another(queue: &Queue, card: &Card) -> bool {
    let differs = || card.queue != queue.identity || holds_another(queue, card);
    !card.queue.is_empty() && rule!("copied") && differs()
}

/// How many processes of another directory are registered in this one: it is a copy then.
pub fn of_another(queue: &Queue) -> Result<usize> {
    let cards = procs::all(queue)?.into_iter().filter_map(|wid| procs::card(queue, &wid));
    Ok(cards.filter(|card| is_of_another(queue, card)).count())
}

fn holds_another(queue: &Queue, card: &Card) -> bool {
    let root = queue.fs.reach(queue.layout.root());
    // Two mounts of a shared file system may have two devices.
    !queue.shared
        && procs::can_be_seen(queue, card)
        && queue.host.is_alive(card.process())
        && queue.host.holds(card.process(), &root) == Some(false)
}

/// Gives the queue a fresh uid: from then on no process that was registered before is of this directory,
/// and all that they held is handed back. Returns the queue as it is then, and what was handed back.
pub fn adopt(queue: &Queue) -> Result<(Queue, Vec<String>)> {
    refuse_the_living(queue)?;
    let path = queue.layout.layout_record();
    let bytes = queue.fs.read(&path, 0, RECORD_MAX).cannot("read the layout", &path)?;
    let mut record: LayoutRecord = record::parse(&bytes)
        .map_err(|e| Error::new(Exit::NoQueue, format!("layout.json cannot be read: {e}")))?;
    record.uid = random_part(queue.clock.random());
    let tmp = queue.layout.at(&format!(".layout.{}.tmp", record.uid));
    let durably = Queue { durability: Durability::Full, ..queue.clone() };
    durably.stage(&tmp, &record::to_bytes(&record), "write the layout")?;
    step!("adopt.layout");
    queue.fs.rename(&tmp, &path).cannot("replace the layout", &path)?;
    let root = queue.layout.root();
    queue.fs.sync_dir(root).cannot("make the layout durable", root)?;
    let own = Queue { identity: of(&*queue.fs, root, &record)?, ..queue.clone() };
    let mut me = Proc::register(&own, &procs::Identity::plain("cli", record::CardKind::Cli))?;
    let back = take_over(&own, &mut me);
    me.leave(&own);
    Ok((own, back?))
}

/// Whoever lives here, or may, would not be known any more.
fn refuse_the_living(queue: &Queue) -> Result<()> {
    for wid in procs::all(queue)? {
        let Some(card) = procs::card(queue, &wid) else { continue };
        if is_of_another(queue, &card) || recover::declared(queue, &wid) == Some(Death::Left) {
            continue;
        }
        let place = queue.host.place();
        let lives = match procs::is_here(queue, &card) {
            true => queue.host.is_alive(card.process()),
            false => card.host_id != place.host_id || card.boot == place.boot,
        };
        if lives {
            let what = format!(
                "this very directory is worked in: {} (pid {} on {}) is registered, and it is no copy",
                wid, card.pid, card.host
            );
            return Err(Error::new(Exit::Conflict, what)
                .at(queue.layout.root())
                .hint("only a copy is adopted; coord stop ends what works here"));
        }
    }
    Ok(())
}

/// Gives back what processes of another directory hold here.
fn take_over(queue: &Queue, me: &mut Proc) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for wid in procs::all(queue)? {
        let Some(card) = procs::card(queue, &wid) else { continue };
        if wid != me.wid && is_of_another(queue, &card) {
            let mut back = Vec::new();
            recover::recover(queue, me, &wid, Death::Copied, &mut back)?;
            all.extend(back.iter().map(ToString::to_string));
        }
    }
    sweep::sweep(queue, me)?;
    Ok(all)
}

impl Queue {
    /// Whether its path still leads to the directory that this process holds.
    pub fn is_in_place(&self) -> bool {
        !rule!("in place") || self.fs.whereabouts() == Whereabouts::Here
    }

    /// Whether the directory was removed: nothing can be recorded in it any more.
    pub fn is_gone(&self) -> bool {
        self.fs.whereabouts() == Whereabouts::Gone
    }

    /// Says in words why a program must leave: the queue is not where it was opened.
    ///
    /// # Errors
    /// It was moved, removed, or something was mounted there.
    pub fn must_be_in_place(&self) -> Result<()> {
        if !rule!("in place") {
            return Ok(());
        }
        let root = self.layout.root();
        let (what, hint) = match self.fs.whereabouts() {
            Whereabouts::Here => return Ok(()),
            Whereabouts::Moved(Some(now)) => (
                format!("the queue was moved: it is in {} now", now.display()),
                "go on there: coord start, coord work".to_owned(),
            ),
            Whereabouts::Moved(None) => (
                "its path does not lead to the queue any more: it was moved, or something is mounted there"
                    .to_owned(),
                "go on where it is now: coord start, coord work".to_owned(),
            ),
            Whereabouts::Gone => (
                "the queue was removed while this program worked in it".to_owned(),
                "coord init makes a new one".to_owned(),
            ),
        };
        Err(Error::new(Exit::Environment, what).at(root).hint(hint))
    }
}
