//! Input that comes from anywhere: a file, a fifo, a terminal, the output of another program.
//!
//! Unlike `sys::fs`, which never blocks, this waits for whoever writes. A caller that has something
//! to do meanwhile asks `is_silent` first.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// An open input.
#[derive(Debug)]
pub struct Input {
    file: File,
}

impl Input {
    /// Opens what is at a path. Opening a fifo waits for its writer.
    ///
    /// # Errors
    /// As `open`; a directory is one too.
    #[expect(clippy::disallowed_methods, reason = "a fifo is welcome here, and may block")]
    pub fn open(path: &Path) -> io::Result<Input> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::Error::from_raw_os_error(nix::libc::EISDIR));
        }
        Ok(Input { file })
    }

    /// Standard input, through a descriptor of its own.
    ///
    /// # Errors
    /// It is closed, or there are no more descriptors.
    pub fn stdin() -> io::Result<Input> {
        let fd = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Input { file: File::from(fd) })
    }

    /// Whether a read would wait now. The end of the input is no reason to wait, nor is an error.
    pub fn is_silent(&self) -> bool {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// Whether a person types it.
    pub fn is_terminal(&self) -> bool {
        self.file.is_terminal()
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_pipe_is_silent_until_something_comes() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut input = Input { file: File::from(std::os::fd::OwnedFd::from(reader)) };
        assert!(input.is_silent() && !input.is_terminal());
        writer.write_all(b"x").unwrap();
        assert!(!input.is_silent());
        assert_eq!(input.read(&mut [0; 8]).unwrap(), 1);
        assert!(input.is_silent());
        drop(writer);
        assert!(!input.is_silent());
        assert_eq!(input.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn a_file_is_never_silent_and_a_directory_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(Input::open(&path).is_err());
        assert!(Input::open(dir.path()).is_err());
        crate::sys::fs::Fs::create(&crate::sys::fs::RealFs, &path, b"", 0o644).unwrap();
        assert!(!Input::open(&path).unwrap().is_silent());
    }
}
