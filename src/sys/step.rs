//! `step!("claim.link")`: a name at every call that changes the queue.
//!
//! The name is the anchor between the code, queue-layout.md (which lists each step with the state
//! a crash right before it leaves) and the tests, which kill real programs at each of them. In
//! release builds the macro expands to nothing.
//!
//! `COORD_STEP=claim.link:crash` kills the process with SIGKILL when it is about to take that step;
//! `claim.link@3:crash` at the third time; `:stop` sends SIGSTOP instead. Steps that were passed are
//! appended to the file that `COORD_STEP_TRACE` names, one a line. Several plans are separated by
//! commas.

/// Marks the next call as a named step of the protocol.
#[macro_export]
macro_rules! step {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::sys::step::reach($name);
    };
}

/// What a test asked for through the environment.
#[cfg(debug_assertions)]
struct Plan {
    name: String,
    nth: u64,
    stop: bool,
    seen: std::sync::atomic::AtomicU64,
}

#[cfg(debug_assertions)]
impl Plan {
    fn parse(text: &str) -> Option<Plan> {
        let (at, action) = text.rsplit_once(':')?;
        let (name, nth) = match at.split_once('@') {
            Some((name, nth)) => (name, nth.parse().ok()?),
            None => (at, 1),
        };
        let seen = std::sync::atomic::AtomicU64::new(0);
        Some(Plan { name: name.to_owned(), nth, stop: action == "stop", seen })
    }
}

/// Called by `step!`: acts when the environment names this step.
#[cfg(debug_assertions)]
#[expect(clippy::disallowed_methods, reason = "the trace of a test is no file of a queue")]
pub fn reach(name: &'static str) {
    use std::sync::LazyLock;
    use std::sync::atomic::Ordering;
    static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
        let text = std::env::var("COORD_STEP").unwrap_or_default();
        text.split(',').filter_map(Plan::parse).collect()
    });
    static TRACE: LazyLock<Option<std::path::PathBuf>> =
        LazyLock::new(|| std::env::var_os("COORD_STEP_TRACE").map(Into::into));
    if let Some(path) = TRACE.as_deref() {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        if let Ok(mut file) = file {
            // A lost trace line makes the coverage test fail, which is the right outcome.
            drop(writeln!(file, "{name}"));
        }
    }
    for plan in PLANS.iter().filter(|plan| plan.name == name) {
        if plan.seen.fetch_add(1, Ordering::SeqCst) + 1 == plan.nth {
            use nix::sys::signal::{Signal, raise};
            let signal = if plan.stop { Signal::SIGSTOP } else { Signal::SIGKILL };
            let _ = raise(signal);
        }
    }
}
