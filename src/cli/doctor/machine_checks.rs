//! File system, disk, inotify, processes, identity and clock.

use crate::queue::ids::random_part;
use crate::queue::init::probe;
use crate::sys::clock::{Clock, RealClock, rfc3339};
use crate::sys::fs::RealFs;
use crate::sys::wake::{Waiter, Watch};
use crate::sys::{alive, cgroup, child, machine};

use super::{Check, Place};

/// 2024-01-01T00:00:00Z in milliseconds: no earlier time can be right.
const CLOCK_MIN_MS: u64 = 1_704_067_200_000;
/// Instances and watches below which many programs of one user may not get theirs.
const INSTANCES_MIN: u64 = 128;

/// All checks of the machine.
pub(super) fn all(place: &Place) -> Vec<Check> {
    vec![
        file_system(place),
        hard_links(place),
        protected(),
        inotify(place),
        pidfd(),
        subreaper(),
        control_group(),
        identity(),
        clock(),
    ]
}

fn file_system(place: &Place) -> Check {
    let kind = machine::fs_kind(&place.dir);
    if kind.blind {
        let detail = format!(
            "{}: changes made by other machines are not told; programs look on a timer, and every \
             register is read back",
            kind.name
        );
        return Check::warn(
            "file system",
            detail,
            "a local disk is faster, if one machine is enough",
        );
    }
    Check::fine("file system", kind.name)
}

fn hard_links(place: &Place) -> Check {
    match probe(&RealFs, &place.dir, &random_part(RealClock.random())) {
        Ok(()) => Check::fine("hard links", "a link is made once and refused when it is there"),
        Err(e) => {
            let hint = e.hint.clone().unwrap_or_else(|| "use another directory".to_owned());
            Check::fail("hard links", e.one_line(), hint)
        }
    }
}

fn protected() -> Check {
    match machine::sysctl("fs/protected_hardlinks") {
        Some(1) => Check::fine(
            "protected_hardlinks",
            "on: what another user has staged is copied, and the copy is linked",
        ),
        Some(_) => Check::fine("protected_hardlinks", "off"),
        None => Check::fine("protected_hardlinks", "unknown here"),
    }
}

fn inotify(place: &Place) -> Check {
    let most = |name: &str| {
        machine::sysctl(&format!("fs/inotify/{name}")).map_or("?".to_owned(), |n| n.to_string())
    };
    let (instances, watches) = (most("max_user_instances"), most("max_user_watches"));
    let limits = format!("this user may have {instances} instances and {watches} watches");
    let hint = "sysctl fs.inotify.max_user_instances=1024";
    let blind = match Waiter::new(&[], &place.dir) {
        Ok(mut waiter) => {
            waiter.watch(&place.dir);
            waiter.blind().map(str::to_owned)
        }
        Err(e) => Some(e.to_string()),
    };
    if let Some(why) = blind {
        let detail = format!(
            "inotify is not available ({why}); programs look at the bells every 50 ms to 2 s \
             instead"
        );
        return Check::warn("inotify", detail, hint);
    }
    match machine::sysctl("fs/inotify/max_user_instances") {
        Some(n) if n < INSTANCES_MIN => Check::warn("inotify", limits, hint),
        _ => Check::fine("inotify", limits),
    }
}

fn pidfd() -> Check {
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    let raw = rustix::process::Pid::from_raw(pid);
    let flags = rustix::process::PidfdFlags::empty();
    let opened = raw.map(|raw| rustix::process::pidfd_open(raw, flags));
    match opened {
        Some(Ok(_)) if alive::proc_stat(pid).is_some() => {
            Check::fine("pidfd", "a death is seen at once")
        }
        Some(Ok(_)) => Check::warn("pidfd", "/proc does not show processes", "mount /proc"),
        _ => Check::warn(
            "pidfd",
            "refused: deaths are looked for every second",
            "Linux 5.3 or newer, or a container whose filter allows pidfd_open",
        ),
    }
}

fn subreaper() -> Check {
    // Harmless for a command that ends at once and starts nothing that stays.
    match child::become_subreaper() {
        Ok(()) => Check::fine("subreaper", "what a job leaves running is found"),
        Err(e) => Check::warn("subreaper", e.to_string(), "jobs may leave processes behind"),
    }
}

fn control_group() -> Check {
    if cgroup::planned("doctor").is_empty() {
        // So it is in most sessions, and nothing is wrong with that.
        let detail = "none can be made here (cgroup v2 is not ours to write): a job that leaves its session \
                      and wipes its environment is not found when its worker dies";
        return Check::fine("control group", detail);
    }
    Check::fine("control group", "a worker has one of its own, and nothing of a job leaves it")
}

fn identity() -> Check {
    let place = machine::place();
    if place.boot == "unknown" || place.pidns == 0 {
        let hint =
            "mount /proc: without it nobody can tell whether a process of this machine lives";
        return Check::fail("identity", "no boot id or no pid namespace in /proc", hint);
    }
    let short = |text: &str| text.chars().take(8).collect::<String>();
    let (host, boot) = (short(&place.host_id), short(&place.boot));
    if place.host_id == machine::host_name() {
        let detail = format!("no machine-id: the host name `{}` stands for it", place.host_id);
        return Check::warn("identity", detail, "systemd-machine-id-setup, if hosts share a queue");
    }
    Check::fine("identity", format!("machine {host}…, boot {boot}…, pid namespace {}", place.pidns))
}

fn clock() -> Check {
    let now_ms = RealClock.wall_ms();
    if now_ms < CLOCK_MIN_MS {
        let detail = format!("the clock says {}", rfc3339(now_ms));
        return Check::fail("clock", detail, "set it: delays and the order of tasks rely on it");
    }
    Check::fine("clock", rfc3339(now_ms))
}
