//! Claims tasks, runs them, reports.

fn main() -> std::process::ExitCode {
    coord::program::start::worker()
}
