//! Files that a user named, to be written to: whatever stands there stays what it is. A device, a FIFO, a
//! symbolic link and `>(…)` of a shell (`/dev/fd/N`) are written through, as a shell's `>` would do.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::poll::PollTimeout;

use super::stream;

/// How long a FIFO or a device may be full before what it was to get is given up, where it must not
/// block, milliseconds.
const PATIENCE_MS: u16 = 1000;

/// An open file of a user's.
#[derive(Debug)]
pub struct Through {
    /// Its name.
    pub path: PathBuf,
    file: File,
    patience: PollTimeout,
}

impl Through {
    /// Opens a log that is written to for long: at its end, or `fresh`, from its beginning. A FIFO waits
    /// for its reader, as it does for `>`.
    ///
    /// # Errors
    /// It is a directory, or may not be written to.
    #[expect(clippy::disallowed_methods, reason = "sys/ may open files")]
    pub fn log(path: &Path, fresh: bool) -> io::Result<Through> {
        let through = |file| Through { path: path.to_owned(), file, patience: PollTimeout::NONE };
        let number = descriptor(path);
        match number {
            // Opened by its name it would be written to from its beginning, over what is there.
            Some(1) => return Ok(through(io::stdout().as_fd().try_clone_to_owned()?.into())),
            Some(2) => return Ok(through(io::stderr().as_fd().try_clone_to_owned()?.into())),
            _ => {}
        }
        let mut options = std::fs::OpenOptions::new();
        // `truncate` and `append` together are refused by the library, not by the kernel. What this process
        // was given open is not emptied: others may have written to it.
        let empty = if fresh && number.is_none() { libc::O_TRUNC } else { 0 };
        let flags = libc::O_APPEND | empty;
        options.write(true).create(true).truncate(false).mode(0o666).custom_flags(flags);
        Ok(through(options.open(path)?))
    }

    /// Makes the directories that a file is to be in.
    ///
    /// # Errors
    /// Something else is in the way.
    #[expect(clippy::disallowed_methods, reason = "sys/ may make directories")]
    pub fn make_room(path: &Path) -> io::Result<()> {
        match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => std::fs::create_dir_all(dir),
            None => Ok(()),
        }
    }

    /// Opens a file for what is written once, from its beginning. It never blocks: a FIFO that nobody
    /// reads is an error, and what is not read for a second is given up.
    ///
    /// # Errors
    /// It is a directory, nobody reads it, or it may not be written to.
    #[expect(clippy::disallowed_methods, reason = "sys/ may open files")]
    pub fn once(path: &Path) -> io::Result<Through> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o666);
        let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
        let patience = PollTimeout::from(PATIENCE_MS);
        Ok(Through { path: path.to_owned(), file, patience })
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Nobody reads it any more, the disk is full, or it took too long.
    pub fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        stream::write_all(self.file.as_fd(), bytes, self.patience)
    }
}

/// The number of a descriptor of this process that a path stands for.
fn descriptor(path: &Path) -> Option<u32> {
    match path.to_str()? {
        "/dev/stdin" => Some(0),
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        text => {
            let below = ["/dev/fd/", "/proc/self/fd/"];
            below.into_iter().find_map(|dir| text.strip_prefix(dir))?.parse().ok()
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests are beside a queue")]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, symlink};

    #[test]
    fn what_is_there_stays_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "old and longer\n").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        for (name, target) in [("link", "file"), ("dangling", "nowhere")] {
            for (fresh, text) in [(true, "a\n"), (false, "a\nb\n")] {
                let line = &text[text.len() - 2..];
                Through::log(&at(name), fresh).unwrap().write_all(line.as_bytes()).unwrap();
                assert_eq!(std::fs::read_to_string(at(target)).unwrap(), text);
            }
            Through::once(&at(name)).unwrap().write_all(b"c").unwrap();
            assert_eq!(std::fs::read_to_string(at(target)).unwrap(), "c");
            assert!(std::fs::symlink_metadata(at(name)).unwrap().is_symlink());
        }
        let null = Path::new("/dev/null");
        Through::log(null, true).unwrap().write_all(b"x").unwrap();
        Through::once(null).unwrap().write_all(b"x").unwrap();
        assert!(std::fs::metadata(null).unwrap().file_type().is_char_device());
        assert!(Through::log(dir.path(), true).is_err() && Through::once(dir.path()).is_err());
    }

    #[test]
    fn a_fifo_never_blocks_what_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = Through::once(&fifo).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "nobody reads it");
        // Somebody has it open, and does not read.
        let reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let full = Through::once(&fifo).unwrap().write_all(&vec![0; 1 << 20]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
        drop(reader);
        assert!(std::fs::metadata(&fifo).unwrap().file_type().is_fifo());
    }
}
