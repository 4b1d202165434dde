//! Signals as this process was given them: what it was told to ignore when it was started stays ignored,
//! by it and by what it starts, as `nohup`, a shell's background job and `trap '' INT` mean it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use nix::libc;
use nix::sys::signal::{SigSet, Signal};

/// Signals by which people and shells end or stop what they have started. The others are between
/// programs, or are always needed.
const OF_PEOPLE: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP];

/// Bits of the signals that were ignored before this process had a handler for any.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
static IGNORED: LazyLock<u64> = LazyLock::new(|| {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
});

/// A signal that asks this process to leave has come, and its wait has not reported it yet.
static UNHEARD: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on `is_asked_to_leave` says so when this signal has come, if it is one of those.
pub fn note(signal: i32) -> std::io::Result<Option<signal_hook::SigId>> {
    let leave =
        [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];
    let is_one = leave.contains(&signal);
    is_one.then(|| signal_hook::flag::register(signal, UNHEARD.clone())).transpose()
}

/// The wait of this process has reported what has come.
pub fn heard() {
    UNHEARD.store(false, Ordering::Relaxed);
}

/// Whether a signal has come by which people and programs ask this process to leave, and it does not know yet.
/// For who is at work and cannot wait now.
pub fn is_asked_to_leave() -> bool {
    UNHEARD.load(Ordering::Relaxed)
}

fn was_ignored(signal: i32) -> bool {
    let bit = u32::try_from(signal - 1).unwrap_or(0);
    IGNORED.checked_shr(bit).unwrap_or(0) & 1 == 1
}

/// Whether a signal is to be left alone. To be asked before the first handler is made.
pub fn stays_ignored(signal: i32) -> bool {
    OF_PEOPLE.contains(&signal) && was_ignored(signal)
}

/// The signals that a command handles by default. The others it ignores, as by `exec`. This process
/// itself ignores SIGPIPE, and nobody can wait for a child who ignores SIGCHLD.
pub fn by_default() -> SigSet {
    let mut set = SigSet::all();
    let ours = [Signal::SIGPIPE, Signal::SIGCHLD];
    for signal in Signal::iterator().filter(|signal| !ours.contains(signal)) {
        if was_ignored(signal as i32) {
            set.remove(signal);
        }
    }
    set
}

/// Stops this process as Ctrl-Z does by default, until it is continued.
pub fn stop_here() {
    // Fails for no signal that there is.
    let _ = signal_hook::low_level::emulate_default_handler(libc::SIGTSTP);
}
