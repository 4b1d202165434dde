//! The only code that touches files, processes, signals and clocks.
//!
//! Everything above works through these modules, so that the same transitions run on real
//! directories, on simulated ones and under injected faults.

pub mod alive;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod descent;
pub mod escaped;
pub mod fs;
pub mod gate;
pub mod host;
pub mod input;
pub mod machine;
pub mod own;
pub mod owner;
pub mod privilege;
pub mod remains;
pub mod rule;
pub mod signals;
pub mod spawn;
pub mod step;
pub mod stream;
pub mod through;
pub mod tool;
pub mod tree;
pub mod wake;
