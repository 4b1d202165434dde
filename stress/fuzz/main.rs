//! The fuzzer: libFuzzer hands inputs to the target that `COORD_FUZZ_TARGET` names. A panic is what
//! it looks for. `scripts/stress fuzz` builds and runs it.
#![no_main]

use std::sync::LazyLock;

#[path = "../../tests/fuzz/targets/mod.rs"]
mod targets;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("COORD_FUZZ_TARGET").unwrap_or_default();
    targets::target(&name).unwrap_or_else(|| {
        let names: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("COORD_FUZZ_TARGET is {name:?}, and may be {}", names.join(", "))
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
