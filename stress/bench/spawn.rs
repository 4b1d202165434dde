//! Processes that do nothing but posix_spawn and wait: the floor for running jobs.
//!
//! `spawn PROCESSES JOBS PROGRAM [ARGUMENTS]`
#![expect(clippy::disallowed_methods, reason = "the calls themselves are measured")]

use std::error::Error;
use std::ffi::CString;
use std::process::{Command, ExitCode};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::{WaitStatus, waitpid};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{e}\n")));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), Box<dyn Error>> {
    let [processes, jobs, command @ ..] = words else {
        return Err("spawn PROCESSES JOBS PROGRAM [ARGUMENTS]".into());
    };
    let (processes, jobs): (u64, u64) = (processes.parse()?, jobs.parse()?);
    if processes == 1 {
        return spawn_and_wait(jobs, command);
    }
    let mut children = Vec::new();
    for i in 0..processes {
        let share = jobs / processes + u64::from(i < jobs % processes);
        let mut child = Command::new(std::env::current_exe()?);
        children.push(child.args(["1", &share.to_string()]).args(command).spawn()?);
    }
    for mut child in children {
        if !child.wait()?.success() {
            return Err("a process failed".into());
        }
    }
    Ok(())
}

fn spawn_and_wait(jobs: u64, command: &[String]) -> Result<(), Box<dyn Error>> {
    let arguments: Vec<CString> =
        command.iter().map(|w| CString::new(w.as_str())).collect::<Result<_, _>>()?;
    let program = arguments.first().ok_or("no program to run")?;
    let variables: Vec<CString> = std::env::vars()
        .filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok())
        .collect();
    let (actions, attributes) = (PosixSpawnFileActions::init()?, PosixSpawnAttr::init()?);
    for _ in 0..jobs {
        let pid = posix_spawn(program.as_c_str(), &actions, &attributes, &arguments, &variables)?;
        if !matches!(waitpid(pid, None)?, WaitStatus::Exited(_, 0)) {
            return Err("a job failed".into());
        }
    }
    Ok(())
}
