//! How a process comes to be in `procs/`: its directory is built under a dotted name and renamed.

use std::path::{Path, PathBuf};

use crate::error::{Cannot, Error, Exit, Result};
use crate::rule;
use crate::step;

use super::Queue;
use super::ids::random_part;
use super::procs::Identity;
use super::record::{self, Card, CardKind};

/// Registrations that may be removed by others before this process gives up.
const TRIES: usize = 3;

/// Registers this process under a new id. Returns its card, and `procs/W`.
///
/// Crash: a dotted directory that nobody looks at, removed by the sweep; or a process without
/// intents, removed by the recovery pass.
pub fn make(queue: &Queue, identity: &Identity) -> Result<(Card, PathBuf)> {
    for _ in 0..TRIES {
        let card = new_card(queue, identity);
        let dir = queue.layout.proc(&card.wid);
        // A machine whose clock is hours ahead takes what is being built for a leftover, and removes
        // run/ first: if that is still there, so is everything, and now it has its name.
        match build(queue, &card, &dir) {
            Err(e) if !is_removed(queue, &e) || !rule!("registered") => return Err(e),
            Ok(()) if queue.fs.exists(&dir.join("run")) => return Ok((card, dir)),
            _ => remove_parts(queue, &dir),
        }
    }
    let what = "somebody removes what this process registers, as soon as it does";
    let hint = "compare the clocks of the machines that share this queue";
    Err(Error::new(Exit::Temporary, what).at(&queue.layout.procs()).hint(hint))
}

/// Whether what was being built is gone, and not the whole queue.
fn is_removed(queue: &Queue, e: &Error) -> bool {
    e.errno() == Some(nix::libc::ENOENT) && queue.fs.exists(&queue.layout.layout_record())
}

fn new_card(queue: &Queue, identity: &Identity) -> Card {
    let (process, place) = (queue.host.me(), queue.host.place());
    let works = identity.kind == CardKind::Worker;
    Card {
        v: 1,
        wid: format!("{}-{}", identity.name, random_part(queue.clock.random())),
        card: 0,
        kind: identity.kind,
        host: queue.host.name(),
        host_id: place.host_id,
        boot: place.boot,
        pidns: place.pidns,
        pid: process.pid,
        start: process.start,
        mark: own_mark(queue, identity.kind),
        session: if works { queue.host.session() } else { String::new() },
        cgroup: if works { queue.host.group() } else { String::new() },
        roles: identity.roles.clone(),
        labels: identity.labels.clone(),
        lease_ms: identity.lease_ms,
        place: identity.place,
        front: identity.front.clone(),
        former: identity.former.clone(),
        uid: nix::unistd::getuid().as_raw(),
        queue: queue.identity.clone(),
        dir: queue.layout.root().to_string_lossy().into_owned(),
        ver: env!("CARGO_PKG_VERSION").to_owned(),
        at: queue.now(),
    }
}

/// The mark of what this process starts. A command has none of its own: inside a job it would carry
/// the worker's, and its death must not be taken for the worker's.
fn own_mark(queue: &Queue, kind: CardKind) -> String {
    if kind == CardKind::Cli {
        return String::new();
    }
    queue.host.mark()
}

fn build(queue: &Queue, card: &Card, dir: &Path) -> Result<()> {
    let fs = &queue.fs;
    let building = queue.layout.procs().join(format!(".new-{}", card.wid));
    step!("register.mkdir");
    // Also where somebody removed procs/; whoever restores the rest sweeps.
    queue.make_dirs(&building).cannot("register with the queue", &building)?;
    let built = (|| {
        fs.mkdir(&building.join("run")).cannot("register with the queue", &building)?;
        let path = building.join("card.0.json");
        fs.create(&path, &record::to_bytes(card), 0o444).cannot("write a card", &path)?;
        // A command is judged by its process alone, nobody rings it, and its claims are links to
        // other cards: they are in the way of who waits for what it submits.
        if card.kind != CardKind::Cli {
            // A copy, which no claim is a link to: emptying a claim empties the card with it.
            let hb = building.join("hb");
            fs.create(&hb, &record::to_bytes(card), 0o644).cannot("write a heartbeat", &hb)?;
            fs.touch(&building.join("bell")).cannot("make a bell", &building)?;
        }
        step!("register.rename");
        fs.rename(&building, dir).cannot("register with the queue", dir)
    })();
    if built.is_err() {
        // Leave nothing of it on a disk that may be full.
        remove_parts(queue, &building);
    }
    built
}

fn remove_parts(queue: &Queue, dir: &Path) {
    for name in ["bell", "hb", "card.0.json"] {
        drop(queue.fs.unlink(&dir.join(name)));
    }
    drop(queue.fs.rmdir(&dir.join("run")));
    drop(queue.fs.rmdir(dir));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::init::init;
    use crate::sys::host::Platform;

    #[test]
    fn a_command_makes_no_more_than_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let queue = init(&dir.path().join("q"), Platform::real()).unwrap();
        for (kind, wanted) in [
            (CardKind::Cli, &["card.0.json", "run"][..]),
            (CardKind::Worker, &["bell", "card.0.json", "hb", "run"]),
        ] {
            let (_, dir) = make(&queue, &Identity::plain("x", kind)).unwrap();
            let mut names: Vec<_> = queue.list(&dir).unwrap().into_iter().map(|e| e.name).collect();
            names.sort();
            assert_eq!(names, wanted);
        }
    }
}
