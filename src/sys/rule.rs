//! `rule!("R4.loser")`: a rule of the protocol that a test can take out, to see that it is missed.
//!
//! A rule that nothing misses is either not needed or not tested. In release builds the macro is
//! `true`. In debug builds it is `true` too, except on a thread that has called `without`; nothing
//! but `tests/simulate` does. docs/correctness.md lists what catches each.

/// Whether a rule of the protocol holds: always, outside of tests.
#[macro_export]
macro_rules! rule {
    ($name:literal) => {{
        #[cfg(debug_assertions)]
        let holds = $crate::sys::rule::holds($name);
        #[cfg(not(debug_assertions))]
        let holds = true;
        holds
    }};
}

#[cfg(debug_assertions)]
thread_local! {
    static MISSING: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
}

/// Called by `rule!`.
#[cfg(debug_assertions)]
pub fn holds(name: &str) -> bool {
    MISSING.get() != name
}

/// Runs `body` without a rule, on this thread.
#[cfg(debug_assertions)]
pub fn without<T>(name: &'static str, body: impl FnOnce() -> T) -> T {
    MISSING.set(name);
    let result = body();
    MISSING.set("");
    result
}
