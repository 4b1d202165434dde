//! Standard output and standard error as others left them: a pipe that nobody reads any more, a slow
//! reader, a descriptor that some other program has made non-blocking.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    fn with<T>(self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Stream::Out => act(io::stdout().as_fd()),
            Stream::Err => act(io::stderr().as_fd()),
        }
    }

    /// Writes all of it, however long the reader takes.
    ///
    /// # Errors
    /// `BrokenPipe` where nobody reads any more; the disk is full, and the like.
    pub fn write_all(self, bytes: &[u8]) -> io::Result<()> {
        self.with(|to| write_all(to, bytes, PollTimeout::NONE))
    }

    /// Whether a person sees it.
    pub fn is_terminal(self) -> bool {
        self.with(|to| to.is_terminal())
    }
}

/// Writes all of it to something that may be full for a while, but not for longer than `patience`.
pub(super) fn write_all(
    to: BorrowedFd<'_>,
    mut bytes: &[u8],
    patience: PollTimeout,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut wanted = [PollFd::new(to, PollFlags::POLLOUT)];
                match poll(&mut wanted, patience) {
                    Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
