//! `step!("claim.link")`: a name at every call that changes the queue.
//!
//! The name is the anchor between the code, queue-layout.md (which lists each step with the state
//! a crash right before it leaves) and the tests, which kill real programs at each of them. In
//! release builds the macro expands to nothing.
//!
//! `COORD_STEP=claim.link:crash` kills the process with SIGKILL when it is about to take that step;
//! `claim.link@3:crash` at the third time; `coord-worker/claim.link:crash` only in that program;
//! `:stop` sends SIGSTOP instead. `:eio`, `:enospc`, `:eintr` and `:emfile` make the next file
//! operation of the process fail with that error, without being made. Several plans are separated by
//! commas. Steps that were passed are appended to the file that `COORD_STEP_TRACE` names, one a line,
//! with the program behind it, and a third word for an operation that was made to fail.

/// Marks the next call as a named step of the protocol.
#[macro_export]
macro_rules! step {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::sys::step::reach($name);
    };
}

/// The error that a plan put in the way of this operation; each of `RealFs` begins with it.
#[cfg(debug_assertions)]
pub fn fault() -> std::io::Result<()> {
    plan::take_fault()
}

/// In a release build nothing is ever put in the way.
#[cfg(not(debug_assertions))]
#[inline]
pub fn fault() -> std::io::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
pub use plan::reach;

#[cfg(debug_assertions)]
mod plan {
    use std::cell::Cell;
    use std::io::{self, Write};
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::errno::Errno;
    use nix::sys::signal::{Signal, raise};

    #[derive(Clone, Copy)]
    enum Action {
        Send(Signal),
        Fail(&'static str, Errno),
    }

    /// What a test asked for through the environment.
    struct Plan {
        name: String,
        nth: u64,
        action: Action,
        seen: AtomicU64,
    }

    static PROGRAM: LazyLock<String> = LazyLock::new(|| {
        let path = std::env::current_exe().unwrap_or_default();
        crate::sys::fs::name_of(&path)
    });

    static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
        let text = std::env::var("COORD_STEP").unwrap_or_default();
        text.split(',').filter_map(Plan::parse).collect()
    });

    static TRACE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("COORD_STEP_TRACE").map(Into::into));

    thread_local! {
        /// What the next operation of this thread fails with.
        static NEXT: Cell<Option<(&'static str, &'static str, Errno)>> = const { Cell::new(None) };
    }

    impl Plan {
        /// `None` for a plan that is for another program, or that nobody understands.
        fn parse(text: &str) -> Option<Plan> {
            let (at, action) = text.rsplit_once(':')?;
            let at = match at.split_once('/') {
                Some((program, at)) if program == *PROGRAM => at,
                Some(_) => return None,
                None => at,
            };
            let (name, nth) = match at.split_once('@') {
                Some((name, nth)) => (name, nth.parse().ok()?),
                None => (at, 1),
            };
            let action = match action {
                "crash" => Action::Send(Signal::SIGKILL),
                "stop" => Action::Send(Signal::SIGSTOP),
                "eio" => Action::Fail("eio", Errno::EIO),
                "enospc" => Action::Fail("enospc", Errno::ENOSPC),
                "eintr" => Action::Fail("eintr", Errno::EINTR),
                "emfile" => Action::Fail("emfile", Errno::EMFILE),
                _ => return None,
            };
            Some(Plan { name: name.to_owned(), nth, action, seen: AtomicU64::new(0) })
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the trace of a test is no file of a queue")]
    fn note(line: &str) {
        let Some(path) = TRACE.as_deref() else { return };
        if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path) {
            // A lost trace line makes the coverage test fail, which is the right outcome. One
            // write, since several programs share the file.
            drop(file.write_all(format!("{line}\n").as_bytes()));
        }
    }

    /// Called by `step!`: acts when the environment names this step.
    pub fn reach(name: &'static str) {
        note(&format!("{name} {}", *PROGRAM));
        for plan in PLANS.iter().filter(|plan| plan.name == name) {
            if plan.seen.fetch_add(1, Ordering::SeqCst) + 1 != plan.nth {
                continue;
            }
            match plan.action {
                Action::Send(signal) => {
                    let _ = raise(signal);
                }
                Action::Fail(word, errno) => NEXT.set(Some((name, word, errno))),
            }
        }
    }

    pub fn take_fault() -> io::Result<()> {
        let Some((name, word, errno)) = NEXT.take() else { return Ok(()) };
        note(&format!("{name} {} {word}", *PROGRAM));
        Err(io::Error::from_raw_os_error(errno as i32))
    }
}
