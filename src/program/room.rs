//! Whether the machine has room for new work: `[limits] disk_free` and `memory_free`, for every worker.

use crate::config::Limits;
use crate::queue::Queue;
use crate::run::site::Site;

/// Why no new work is begun; `None` where there is room.
pub fn wanting(site: &Site) -> Option<String> {
    let (queue, limits) = (&site.queue, &site.config.limits);
    if let Some(free) = full(queue, limits) {
        let free = free / 1024;
        return Some(format!("no new work: only {free} KiB free on the disk of the queue"));
    }
    let least = limits.memory_free_bytes;
    queue.host.memory_free().filter(|free| *free < least)?;
    // Without the number that changes all the time: the same thing is said once.
    let least = least >> 20;
    Some(format!("no new work: less than {least} MiB of memory are free ([limits] memory_free)"))
}

/// The bytes that are free on the disk of the queue, where they are too few for new work. Of its disk a small
/// file system keeps a twentieth free, a large one 64 MiB.
pub fn full(queue: &Queue, limits: &Limits) -> Option<u64> {
    let (free, total) = queue.host.disk_space(&queue.fs.reach(queue.layout.root()))?;
    let least = limits.disk_free_bytes.unwrap_or((total / 20).min(64 << 20));
    (free < least).then_some(free)
}
