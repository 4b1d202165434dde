//! Whether the machine has room for new work: `[limits] disk_free` and `memory_free`, for every worker.

use crate::run::site::Site;

/// Why no new work is begun; `None` where there is room. Of its disk a small file system keeps a
/// twentieth free, a large one 64 MiB.
pub fn wanting(site: &Site) -> Option<String> {
    let (host, limits) = (&site.queue.host, &site.config.limits);
    if let Some((free, total)) = host.disk_space(&site.queue.fs.reach(site.queue.layout.root())) {
        let least = limits.disk_free_bytes.unwrap_or((total / 20).min(64 << 20));
        if free < least {
            let free = free / 1024;
            return Some(format!("no new work: only {free} KiB free on the disk of the queue"));
        }
    }
    let least = limits.memory_free_bytes;
    host.memory_free().filter(|free| *free < least)?;
    // Without the number that changes all the time: the same thing is said once.
    let least = least >> 20;
    Some(format!("no new work: less than {least} MiB of memory are free ([limits] memory_free)"))
}
