//! Keeps workers, monitor and aggregator running.

fn main() -> std::process::ExitCode {
    coord::program::start::coordinator()
}
