//! The system's reason for a failure of git. git prints it at the end of a line, as `strerror` has it in the C
//! locale in which git is run. So a full disk, or a directory in which this user may not write, can be told
//! from what is wrong in the repository.

use std::io::Error;

use nix::libc;

/// What the C library says. glibc first; musl has words of its own for some.
const WORDS: [(&str, i32); 17] = [
    ("Permission denied", libc::EACCES),
    ("Operation not permitted", libc::EPERM),
    ("Read-only file system", libc::EROFS),
    ("No space left on device", libc::ENOSPC),
    ("Disk quota exceeded", libc::EDQUOT),
    ("Quota exceeded", libc::EDQUOT),
    ("Too many open files", libc::EMFILE),
    ("No file descriptors available", libc::EMFILE),
    ("Too many open files in system", libc::ENFILE),
    ("Cannot allocate memory", libc::ENOMEM),
    ("Out of memory", libc::ENOMEM),
    ("Resource temporarily unavailable", libc::EAGAIN),
    ("Input/output error", libc::EIO),
    ("I/O error", libc::EIO),
    ("Stale file handle", libc::ESTALE),
    ("Transport endpoint is not connected", libc::ENOTCONN),
    ("Socket not connected", libc::ENOTCONN),
];

/// What git says in its own words, in the middle of a line. Of a write that failed it keeps the reason for
/// itself: hardly ever it is another one.
const OWN: [(&str, i32); 4] = [
    ("unable to write file ", libc::ENOSPC),
    ("unable to write new index file", libc::ENOSPC),
    ("Out of memory, ", libc::ENOMEM),
    ("insufficient permission for adding an object", libc::EACCES),
];

/// What git said on standard error, and the system's reason, if it has one: then only the line with that
/// counts, without the words for it where it ends with them.
pub(super) fn split(said: &str) -> (&str, Option<Error>) {
    let found = said.lines().find_map(|line| {
        let line = line.trim_end().trim_end_matches('.');
        let named = WORDS.iter().find(|(words, _)| line.ends_with(words));
        if let Some((words, code)) = named {
            let rest = line.strip_suffix(words).and_then(|rest| rest.strip_suffix(": "));
            return Some((rest.unwrap_or(line), *code));
        }
        OWN.iter().find(|(words, _)| line.contains(words)).map(|(_, code)| (line, *code))
    });
    found.map_or((said, None), |(line, code)| (line, Some(Error::from_raw_os_error(code))))
}

/// Whether a person has to do something about it: another git that is at work does not cause it.
pub(super) fn is_lasting(said: &str) -> bool {
    let passing = [libc::ENOMEM, libc::EAGAIN, libc::EMFILE, libc::ENFILE];
    split(said).1.and_then(|e| e.raw_os_error()).is_some_and(|code| !passing.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_the_system_is_read_and_nothing_else_is_taken_for_one() {
        let code = |said: &str| split(said).1.and_then(|reason| reason.raw_os_error());
        let dir = "fatal: could not create leading directories of '/r.coord/w1/.git'";
        let denied = format!("{dir}: Permission denied");
        assert_eq!((split(&denied).0, code(&denied)), (dir, Some(libc::EACCES)));
        for (line, then, reason) in [
            ("error: unable to write file big", "fatal: Could not reset index file", libc::ENOSPC),
            (
                "error: insufficient permission for adding an object to repository database o",
                "error: file: failed to insert into database",
                libc::EACCES,
            ),
            ("fatal: Out of memory, malloc failed (tried to allocate 9 bytes)", "", libc::ENOMEM),
        ] {
            let all = format!("warning: something\n{line}\n{then}");
            assert_eq!((split(&all).0, code(&all)), (line, Some(reason)));
        }
        assert_eq!(
            code("fatal: unable to create thread: Too many open files in system"),
            Some(libc::ENFILE)
        );
        assert_eq!(code("git@example.org: Permission denied (publickey)."), None);
        assert_eq!(code("fatal: invalid reference: nowhere"), None);
        assert_eq!(code("error: pathspec 'Permission denied: x' did not match"), None);
    }
}
