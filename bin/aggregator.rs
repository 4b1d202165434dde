//! Folds events into status.json.

fn main() -> std::process::ExitCode {
    coord::program::start::aggregator()
}
