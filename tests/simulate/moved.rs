//! Schedules of a queue that moves away under its processes, is removed, or is copied.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coord::sys::fs::Kind;

use crate::machines::State;
use crate::platform::Call;
use crate::programs;
use crate::schedules::ensure;
use crate::stage::Stage;
use crate::world::ROOT;

/// Where the queue is in between.
const AWAY: &str = "/q/away";

/// `mv` of the queue. The checker looks at one path: it is told nothing as long as that leads elsewhere.
fn mv(s: &Stage, from: &str, to: &str) {
    let world = s.0.world();
    world.fs.disk().rename(Path::new(from), Path::new(to), 1).expect("a sound disk");
}

/// `cp -a` of the queue to where it was: files that have two names there are one file in the copy.
fn copy_back(s: &Stage) {
    let world = s.0.world();
    let mut disk = world.fs.disk();
    let mut made: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for (path, ino) in disk.walk(Path::new(AWAY)) {
        let below = path.strip_prefix(AWAY).expect("it is below");
        let copy = Path::new(ROOT).join(below);
        let done = match (disk.kind(ino), made.get(&ino)) {
            (Kind::Dir, _) => disk.mkdir(&copy, 1),
            (_, Some(first)) => disk.link(first, &copy, 1),
            (_, None) => {
                let bytes = disk.content(ino).expect("a file");
                made.insert(ino, copy.clone());
                disk.create(&copy, 1).and_then(|()| disk.append(&copy, &bytes, 1).map(drop))
            }
        };
        done.expect("a sound disk");
    }
}

fn there(s: &Stage, path: &str) -> bool {
    s.0.world().fs.disk().find(Path::new(path)).is_ok()
}

fn is_dead(s: &Stage, who: usize) -> bool {
    s.0.world().processes[who].state == State::Dead
}

/// It is moved while a task runs: its end is recorded where the queue is, and nothing more is begun.
pub fn moves_away() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "ok", |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Host, "spawn");
    s.go(w1);
    s.add("U", "ok", |_| ());
    let checker = std::mem::take(&mut s.0.world().checker);
    mv(&s, ROOT, AWAY);
    s.jobs();
    for _ in 0..5 {
        s.go(w1);
        s.pass(1);
    }
    let ended = there(&s, "/q/away/tasks/T/1.end");
    let (ghost, begun) = (there(&s, ROOT), there(&s, "/q/away/tasks/U/1.claim"));
    let left = is_dead(&s, w1);
    if !ghost {
        mv(&s, AWAY, ROOT);
    }
    s.0.world().checker = checker;
    ensure(ended, "the end of what ran was not recorded where the queue is")?;
    ensure(!ghost, "something was made by the old path")?;
    ensure(!begun, "another task was begun by the old path")?;
    ensure(left, "the worker has not left")
}

/// It is copied while a task runs, and a keeper of the copy sees no beat of the original's worker.
pub fn copied() -> Result<(), String> {
    let mut s = Stage::new();
    s.add("T", "ok", |_| ());
    let w1 = s.worker("w1", 0);
    s.until(w1, Call::Host, "spawn");
    s.go(w1);
    let checker = std::mem::take(&mut s.0.world().checker);
    mv(&s, ROOT, AWAY);
    copy_back(&s);
    let keeper = s.start("monitor", 0, programs::monitor());
    for _ in 0..20 {
        s.go(keeper);
        s.pass(1);
    }
    let (alive, end) = (!is_dead(&s, w1), s.text("tasks/T/1.end"));
    s.0.world().checker = checker;
    ensure(alive, "a worker of the original was ended from the copy")?;
    ensure(
        end.contains("\"release\"") && end.contains("\"copied\""),
        "its claim was not handed back",
    )?;
    // In the original it ends what it was at.
    s.0.world().checker = Default::default();
    s.jobs();
    for _ in 0..5 {
        s.go(w1);
        s.pass(1);
    }
    ensure(there(&s, "/q/away/tasks/T/1.end"), "the original has lost its end")
}

/// It is removed under a worker that is idle.
pub fn removed() -> Result<(), String> {
    let mut s = Stage::new();
    let w1 = s.worker("w1", 0);
    s.go(w1);
    let checker = std::mem::take(&mut s.0.world().checker);
    {
        let world = s.0.world();
        let mut disk = world.fs.disk();
        let mut all = disk.walk(Path::new(ROOT));
        all.reverse();
        for (path, ino) in all {
            match disk.kind(ino) {
                Kind::Dir => disk.rmdir(&path, 1),
                _ => disk.unlink(&path, 1),
            }
            .expect("a sound disk");
        }
    }
    s.0.world().removed(&Path::new(ROOT).join("ready/bell"));
    for _ in 0..40 {
        s.go(w1);
        s.pass(1);
    }
    s.0.world().checker = checker;
    ensure(!there(&s, ROOT), "it came back")?;
    ensure(is_dead(&s, w1), "its worker stays at what is gone")
}
