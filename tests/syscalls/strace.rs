//! Which system calls a command makes, and making one of them go wrong.
//!
//! strace counts the calls of each name by itself, so "the 3rd linkat" means the same in the run that
//! is only watched and in the one that is disturbed. It is used without `-f`: only the main thread is
//! traced, which makes every call on the queue (`only_the_main_thread_touches_the_queue` looks); jobs
//! and their commands are never traced, so nothing is injected into them. A program that starts
//! itself anew once, to carry its mark, stays traced and its counts go on.

use std::collections::BTreeMap;
use std::process::Command;

use crate::case::{Case, Ended};

/// The calls that are disturbed. `?` before a name: not on every architecture.
const CALLS: &str = "?link,linkat,?unlink,unlinkat,?rename,?renameat,renameat2,?mkdir,mkdirat,\
    ?open,openat,write,pwrite64,?rmdir,utimensat,fsync,fdatasync,ftruncate";

/// One system call of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Which one of that name, from 1.
    pub k: u32,
    /// Whether it may change what is on disk.
    pub changes: bool,
    /// As strace prints what it was given.
    pub text: String,
}

impl Call {
    /// What can be made of it for progress files and messages.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.k)
    }

    /// The errors that it is answered with.
    pub fn errors(&self) -> &'static [&'static str] {
        match (self.name.as_str(), self.changes) {
            ("open" | "openat", true) => &["EIO", "ENOSPC", "EINTR", "EMFILE"],
            ("open" | "openat", false) => &["EIO", "EINTR", "EMFILE"],
            _ => &["EIO", "ENOSPC", "EINTR"],
        }
    }
}

fn strace(case: &Case, options: &[&str], command: &Command) -> Command {
    let mut traced = case.command("strace");
    traced.arg("-qq").args(options).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            traced.env(name, value);
        }
    }
    traced
}

/// The calls that a command makes on the project, in their order. The command runs to its end.
pub fn watch(case: &Case, command: &Command) -> Vec<Call> {
    let file = case.dir().join("calls");
    let trace = format!("trace={CALLS}");
    let options = ["-y", "-o", file.to_str().unwrap(), "-e", &trace, "-e", "signal=none"];
    let ended = case.run(strace(case, &options, command));
    assert!(ended.code.is_some(), "the undisturbed run was killed: {ended:?}");
    let inside = format!("{}/", case.root.display());
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once('(') else { continue };
        let k = counts.entry(name).or_default();
        *k += 1;
        if rest.contains(&inside) {
            let looks =
                name.starts_with("open") && rest.contains("O_RDONLY") && !rest.contains("O_CREAT");
            let text = rest.to_owned();
            calls.push(Call { name: name.to_owned(), k: *k, changes: !looks, text });
        }
    }
    calls
}

/// The command is killed at that call, which is not made.
pub fn kill_at(case: &Case, call: &Call, command: &Command) -> Ended {
    inject(case, call, "signal=KILL", command)
}

/// That call answers with an error and is not made.
pub fn fail_at(case: &Case, call: &Call, error: &str, command: &Command) -> Ended {
    inject(case, call, &format!("error={error}"), command)
}

fn inject(case: &Case, call: &Call, what: &str, command: &Command) -> Ended {
    let trace = format!("trace={}", call.name);
    let inject = format!("inject={}:{what}:when={}", call.name, call.k);
    case.run(strace(case, &["-o", "/dev/null", "-e", &trace, "-e", &inject], command))
}

/// The calls on the queue that threads other than the main one make, and processes that the command
/// starts; each as strace prints it.
pub fn elsewhere(case: &Case, command: &Command) -> Vec<String> {
    let file = case.dir().join("calls");
    let trace = format!("trace={CALLS}");
    let options = ["-f", "-y", "-o", file.to_str().unwrap(), "-e", &trace, "-e", "signal=none"];
    let ended = case.run(strace(case, &options, command));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    let main = text.split_whitespace().next().unwrap_or_default();
    let inside = format!("{}/", case.queue("").display()).replace("//", "/");
    assert!(text.lines().any(|l| l.starts_with(main) && l.contains(&inside)), "{text}");
    let other = |line: &&str| line.contains(&inside) && !line.starts_with(main);
    text.lines().filter(other).map(str::to_owned).collect()
}
