//! `reserve/`: disk space that is kept for making room, as a ship keeps ballast that it can throw overboard.
//!
//! What makes room on a full disk needs some itself: `coord gc` registers, notes what it is about to do, and
//! makes directories of the archive. None of that may be left out, since it is what the next process finds
//! after a crash. So `coord init` makes a few files that hold nothing, while there is room; the commands that
//! make room or end what runs remove them where the disk is full, and do then what they were told.
//! (Databases call such a file a ballast file; `mke2fs -m` keeps blocks for root for the same reason.)
//!
//! Files, not one file: a disk may have no inodes left. A directory that is there without its files is a
//! reserve that was given up: monitors fill it when there is room again. Without the directory there is none,
//! and nobody makes one but `coord init`.

use crate::error::{Cannot, Result};

use super::Queue;

/// Files of the reserve: inodes for a process's directory and card, its intents, and the first directories of
/// the archive and of what is buried.
const FILES: u64 = 16;
/// The least and the most bytes of each; between them, a 1024th of the file system.
const LEAST: u64 = 4 << 10;
const MOST: u64 = 64 << 10;

/// Makes the directory of the reserve, and fills it where there is room.
pub fn make(queue: &Queue) -> Result<()> {
    let dir = queue.layout.reserve();
    queue.make_dirs(&dir).cannot("make a directory", &dir)?;
    fill(queue);
    Ok(())
}

/// Makes the files that are missing, where there is a reserve and four times as much room as it takes. A
/// crash, or a disk that fills meanwhile, leaves some of the files: a smaller reserve.
pub fn fill(queue: &Queue) {
    let dir = queue.layout.reserve();
    if is_full(queue) || !queue.fs.exists(&dir) {
        return;
    }
    let Some((free, size)) = free_and_size(queue) else { return };
    if free < size * FILES * 4 {
        return;
    }
    let noise = noise(queue, size);
    for number in 0..FILES {
        let path = dir.join(number.to_string());
        if queue.fs.exists(&path) {
            continue;
        }
        if queue.fs.create(&path, &noise, 0o444).is_err() {
            drop(queue.fs.unlink(&path));
            return;
        }
    }
}

/// Does what makes room or ends what runs. Where the disk is full the reserve is given up for that, before it
/// or between its first try and a second one; `told` hears of it.
///
/// # Errors
/// Those of `body`, which leaves nothing half done where it fails.
pub fn spending<T>(
    queue: &Queue,
    told: impl Fn(),
    mut body: impl FnMut() -> Result<T>,
) -> Result<T> {
    if free_and_size(queue).is_some_and(|(free, size)| free < size) && give_up(queue) {
        told();
    }
    match body() {
        // No inodes, or a quota: the free bytes do not tell.
        Err(e) if e.is_no_space() && give_up(queue) => {
            told();
            body()
        }
        went => went,
    }
}

/// Free bytes, and the bytes of each file of the reserve.
fn free_and_size(queue: &Queue) -> Option<(u64, u64)> {
    let (free, total) = queue.host.disk_space(&queue.fs.reach(queue.layout.root()))?;
    Some((free, (total / 64 / FILES).clamp(LEAST, MOST)))
}

/// Removes the files of the reserve; whether there were any. A crash leaves some of them.
fn give_up(queue: &Queue) -> bool {
    let dir = queue.layout.reserve();
    let files = (0..FILES).rev().map(|number| dir.join(number.to_string()));
    files.filter(|path| queue.fs.unlink(path).is_ok()).count() > 0
}

/// Whether the last file is there, which is made last and removed first.
fn is_full(queue: &Queue) -> bool {
    queue.fs.exists(&queue.layout.reserve().join((FILES - 1).to_string()))
}

/// Bytes that no file system can pack: a linear congruential generator (Knuth, MMIX), begun at random.
fn noise(queue: &Queue, size: u64) -> Vec<u8> {
    let mut state = queue.clock.random();
    let words = std::iter::repeat_with(|| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()
    });
    words.take(usize::try_from(size / 8).unwrap_or_default()).flatten().collect()
}
