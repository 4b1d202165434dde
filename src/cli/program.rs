//! Whether the program that all jobs of a run begin with is there, asked before anything is begun: a list
//! of 3,000 lines would fail 3,000 times otherwise, and be over.
//!
//! Where a line of the list says which program, only the job of that line fails.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::{Error, Exit};
use crate::jobs::template::{Command, Template};
use crate::sys::escaped::unescape_os;
use crate::sys::fs::{Fs, Kind, RealFs};
use crate::sys::spawn::find_program;

/// What a shell exits with where a command is not found.
pub const NOT_FOUND: u8 = 127;
/// What it exits with where that is no program.
pub const NO_PROGRAM: u8 = 126;

/// Looks for the program of a command, as its jobs will, and says what is wrong with it, with the exit
/// status of a shell. `path`: the `PATH` of the jobs.
pub fn missing(
    command: &Command,
    template: &Template,
    path: &OsStr,
    cwd: &Path,
) -> Option<(u8, Error)> {
    let is_line = |word: &str| is_line(word) && command.argv.len() > 1 && !command.sh;
    let word = match template.program() {
        Some(word) => word,
        // A line in one word, and more words behind it: no program has such a name.
        None => command.argv.first().filter(|word| is_line(word))?,
    };
    let refused = |status, what: String, hint: &str| {
        let hint = format!("{hint}; nothing was run, and the same command runs then");
        Some((status, Error::new(Exit::NotFound, what).hint(hint)))
    };
    let Some(program) = find_program(&unescape_os(word), path, cwd).ok() else {
        let what = format!("cannot find the command `{word}`");
        return match is_line(word) {
            true => refused(
                NOT_FOUND,
                what,
                "it is one word here: give each word by itself, or all of them as one; options of \
                 coord run come before it",
            ),
            false => refused(NOT_FOUND, what, "install it, or give its path"),
        };
    };
    let Ok(stat) = RealFs.stat(&program) else {
        return refused(
            NOT_FOUND,
            format!("cannot find the command `{word}`"),
            "install it, or give its path",
        );
    };
    if stat.kind == Kind::Dir
        || nix::unistd::access(&program, nix::unistd::AccessFlags::X_OK).is_err()
    {
        let hint =
            if stat.kind == Kind::Dir { "it is a directory" } else { "chmod +x makes it one" };
        return refused(NO_PROGRAM, format!("`{word}` is no program"), hint);
    }
    let first = RealFs.read(&program, 0, 256).unwrap_or_default();
    let interpreter = first.strip_prefix(b"#!").map(interpreter);
    if let Some(interpreter) = interpreter.filter(|name| !RealFs.exists(&cwd.join(name))) {
        let what = format!("cannot find the interpreter {} of `{word}`", interpreter.display());
        return refused(NOT_FOUND, what, "install it, or mend the first line of the script");
    }
    None
}

fn is_line(word: &str) -> bool {
    word.contains(char::is_whitespace) && !word.contains('/')
}

/// What stands behind `#!`.
fn interpreter(line: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\n'));
    OsStr::from_bytes(words.find(|word| !word.is_empty()).unwrap_or_default()).into()
}
