//! Every wait for the disk, each left out once: a test that does not notice proves nothing.

use coord::queue::durable::Durability;

/// A call that is left out.
pub struct SyncPoint {
    /// Its step in queue-layout.md, and where.
    pub name: &'static str,
    /// The mode that needs it.
    pub mode: Durability,
    /// Whether a call is one of these: `file` or `dir`, its path, the last register that was linked
    /// in this directory, and whether by this very process.
    pub matches: fn(&str, &str, &str, bool) -> bool,
}

fn is_task(call: &str, path: &str) -> bool {
    call == "dir" && path.contains("/tasks/")
}

const ACCEPT: Durability = Durability::Accept;
const FULL: Durability = Durability::Full;

/// All of them.
pub const POINTS: &[SyncPoint] = &[
    SyncPoint {
        name: "init: content of layout.json",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "file" && path.contains("/.layout."),
    },
    SyncPoint {
        name: "init: the queue directory",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "dir" && path.ends_with("/.coord"),
    },
    SyncPoint {
        name: "init: the project directory",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "dir" && path.ends_with("/project"),
    },
    SyncPoint {
        name: "sync.content of a submission",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "file" && path.contains("/_submit."),
    },
    SyncPoint {
        name: "sync.task after spec.json",
        mode: ACCEPT,
        matches: |call, path, last, _| is_task(call, path) && last == "spec.json",
    },
    SyncPoint {
        name: "sync.tasks",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "dir" && path.ends_with("/tasks"),
    },
    SyncPoint {
        name: "sync.content of a worker's end",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "file" && path.ends_with(".end.tmp"),
    },
    SyncPoint {
        name: "sync.content of an end for another",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "file" && path.contains("/_end."),
    },
    SyncPoint {
        name: "sync.task after one's own end",
        mode: ACCEPT,
        matches: |call, path, last, own| is_task(call, path) && last.ends_with(".end") && own,
    },
    SyncPoint {
        name: "sync.task after somebody else's end",
        mode: ACCEPT,
        matches: |call, path, last, own| is_task(call, path) && last.ends_with(".end") && !own,
    },
    SyncPoint {
        name: "sync.content of a cancel",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "file" && path.contains("/_cancel."),
    },
    SyncPoint {
        name: "sync.task after a cancel",
        mode: ACCEPT,
        matches: |call, path, last, _| is_task(call, path) && last.ends_with(".cancel"),
    },
    SyncPoint {
        name: "sync.content of a reopen",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "file" && path.contains("/_reopen."),
    },
    SyncPoint {
        name: "sync.task after a reopen",
        mode: ACCEPT,
        matches: |call, path, last, _| is_task(call, path) && last.ends_with(".reopen"),
    },
    SyncPoint {
        name: "sync.card of a hold",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "file" && path.contains("/card.hold."),
    },
    SyncPoint {
        name: "sync.task after a hold",
        mode: ACCEPT,
        matches: |call, path, last, _| is_task(call, path) && last.ends_with(".claim"),
    },
    SyncPoint {
        name: "sync.home",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "dir" && path.ends_with("/procs"),
    },
    SyncPoint {
        name: "sync.home, run/ in it",
        mode: ACCEPT,
        matches: |call, path, _, _| {
            call == "dir" && path.contains("/procs/") && !path.ends_with("/run")
        },
    },
    SyncPoint {
        name: "sync.taken",
        mode: ACCEPT,
        matches: |call, path, _, _| {
            call == "dir" && (path.ends_with("/incoming") || path.ends_with("/run/"))
        },
    },
    SyncPoint {
        name: "sync.staged",
        mode: ACCEPT,
        matches: |call, path, _, _| call == "dir" && path.ends_with("/run"),
    },
    SyncPoint {
        name: "sync.card of a worker",
        mode: FULL,
        matches: |call, path, _, _| call == "file" && path.contains("/card.0."),
    },
    SyncPoint {
        name: "sync.task after a claim",
        mode: FULL,
        matches: |call, path, last, own| is_task(call, path) && last.ends_with(".claim") && own,
    },
    SyncPoint {
        name: "sync.events",
        mode: FULL,
        matches: |call, path, _, _| call == "file" && path.contains("/events/"),
    },
    SyncPoint {
        name: "sync.events, their names",
        mode: FULL,
        matches: |call, path, _, _| call == "dir" && path.ends_with("/events"),
    },
];
