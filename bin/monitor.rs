//! Finds the dead and gives their work back.

fn main() -> std::process::ExitCode {
    coord::program::start::monitor()
}
