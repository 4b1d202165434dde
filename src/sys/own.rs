//! The file that a command prints into, which is that command's own, and the file that keeps what one
//! command after the other printed.
//!
//! A command may do anything with its standard output: truncate it (`echo x > /dev/stdout` does), seek in
//! it, change its flags, hand it to others. So no two commands get the same file, with one exception,
//! which saves a command that prints nothing what a new file costs: a file that nobody can hold any more,
//! and that is in every respect as it was made, is given to the next one. What was printed is copied to
//! the end of the file that keeps it.
//!
//! The file has no name (`O_TMPFILE`): nobody else finds it, and it goes with the last who holds it.
//! Where a file system has no such files it has a name in a directory of its own, until it is given up.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::libc;
use nix::sys::stat::Mode;

use super::host::Output;
use super::step::fault;

/// Bytes that are copied at a time by this program; more is left to the kernel.
const PIECE: usize = 64 << 10;

/// What there is to know of a file, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    len: i64,
    links: libc::nlink_t,
    mode: u32,
    owner: (u32, u32),
    /// Changes with each write, change of length, mode or owner, and with each name.
    changed: (i64, u64),
    offset: u64,
    flags: i32,
}

/// A file for the output of one command.
#[derive(Debug)]
pub struct Own {
    output: Output,
    made: Option<Look>,
    name: Option<PathBuf>,
}

/// What a command has left in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// How many bytes.
    pub len: u64,
    /// The file is as it was made: as far as the file goes it may be given to another command.
    pub untouched: bool,
}

impl Own {
    /// Makes a file in `dir`, without a name; where that cannot be, with the name `spare`, which must be
    /// nobody else's.
    ///
    /// # Errors
    /// Neither can be made.
    pub fn make(dir: &Path, spare: &Path) -> io::Result<Own> {
        fault()?;
        let (file, name) = match nameless(dir) {
            Ok(file) => (file, None),
            // With a name it would be the same.
            Err(errno @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EMFILE | Errno::ENFILE)) => {
                return Err(errno.into());
            }
            // Kernels and file systems without such files say so in many ways.
            Err(_) => (named(spare)?, Some(spare.to_owned())),
        };
        let made = Some(look(&file)?);
        Ok(Own { output: Output(Some(file)), made, name })
    }

    /// Without anything behind it, for a command that does not run.
    pub fn simulated() -> Own {
        Own { output: Output(None), made: None, name: None }
    }

    /// Where the command prints to.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// What is in it. Whether somebody may still write is for the caller to know.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn left(&self) -> io::Result<Left> {
        let (Some(fd), Some(made)) = (&self.output.0, &self.made) else {
            return Ok(Left { len: 0, untouched: true });
        };
        let mut now = Look { offset: made.offset, flags: made.flags, ..stat(fd)? };
        if now == *made {
            (now.offset, now.flags) = handle(fd)?;
        }
        let len = u64::try_from(now.len).unwrap_or(0);
        Ok(Left { len, untouched: now == *made })
    }

    /// Gives it a name for all to see, in a directory of the same file system. It stays the same file,
    /// and cannot be given to another command any more.
    ///
    /// # Errors
    /// The name is in use, or there is no `/proc`.
    pub fn show_as(&mut self, path: PathBuf) -> io::Result<()> {
        fault()?;
        let Some(fd) = &self.output.0 else { return Ok(()) };
        // Whoever may look into the directory may read it, as what is kept of it.
        let mode = super::fs::mode_at(&path, 0o644);
        nix::sys::stat::fchmod(fd, Mode::from_bits_truncate(mode))?;
        match &self.name {
            Some(name) => super::fs::Fs::rename(&super::fs::RealFs, name, &path)?,
            None => {
                let from = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let at = nix::fcntl::AT_FDCWD;
                let from = Path::new(&from);
                nix::unistd::linkat(at, from, at, &path, AtFlags::AT_SYMLINK_FOLLOW)?;
            }
        }
        self.name = Some(path);
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Whoever took it over has moved it.
            drop(super::fs::Fs::unlink(&super::fs::RealFs, name));
        }
    }
}

const FLAGS: OFlag = OFlag::O_RDWR.union(OFlag::O_APPEND).union(OFlag::O_CLOEXEC);

/// Tests set it, to have the files of a file system that has none without a name.
const NAMED: &str = "COORD_NO_TMPFILE";

fn nameless(dir: &Path) -> nix::Result<OwnedFd> {
    if std::env::var_os(NAMED).is_some() {
        return Err(Errno::EOPNOTSUPP);
    }
    nix::fcntl::open(dir, FLAGS | OFlag::O_TMPFILE, Mode::from_bits_truncate(0o600))
}

fn named(path: &Path) -> io::Result<OwnedFd> {
    let flags = FLAGS | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
    let open = || nix::fcntl::open(path, flags, Mode::from_bits_truncate(0o600));
    match open() {
        // Of an earlier file of this very process, which it could not remove.
        Err(Errno::EEXIST) => {
            super::fs::Fs::unlink(&super::fs::RealFs, path)?;
            Ok(open()?)
        }
        other => Ok(other?),
    }
}

fn stat(fd: &OwnedFd) -> io::Result<Look> {
    let stat = nix::sys::stat::fstat(fd)?;
    Ok(Look {
        len: stat.st_size,
        links: stat.st_nlink,
        mode: stat.st_mode,
        owner: (stat.st_uid, stat.st_gid),
        changed: (stat.st_ctime, u64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        offset: 0,
        flags: 0,
    })
}

/// Offset and flags: those who got the file from this process share them with it.
fn handle(fd: &OwnedFd) -> io::Result<(u64, i32)> {
    let offset = rustix::fs::seek(fd, rustix::fs::SeekFrom::Current(0))?;
    let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL)?;
    Ok((offset, flags))
}

fn look(fd: &OwnedFd) -> io::Result<Look> {
    let (offset, flags) = handle(fd)?;
    Ok(Look { offset, flags, ..stat(fd)? })
}

/// The file that keeps what one command after the other printed. Made when there is something to keep.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    file: Option<File>,
    /// Its length without what was not completely copied.
    end: u64,
}

impl Kept {
    /// At this path. This process is the only one that writes it.
    pub fn at(path: PathBuf) -> Kept {
        Kept { path, file: None, end: 0 }
    }

    /// Copies `len` bytes of what a command printed, and a remark of the worker's behind them. Returns
    /// offset and length of both. Where it fails nothing was kept, and the next call does it all again.
    ///
    /// # Errors
    /// The disk is full, for instance.
    #[expect(clippy::disallowed_methods, reason = "sys/ may open files")]
    pub fn take(&mut self, own: &Own, len: u64, remark: &str) -> io::Result<(u64, u64)> {
        if len == 0 && remark.is_empty() {
            return Ok((0, 0));
        }
        fault()?;
        if self.file.is_none() {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(false).custom_flags(libc::O_NOFOLLOW);
            let make = |mode| options.mode(mode).open(&self.path);
            let file = super::fs::made(&self.path, 0o644, make)?;
            self.end = file.metadata()?.len();
            self.file = Some(file);
        }
        let Some(to) = &self.file else { return Ok((0, 0)) };
        let from = self.end;
        let copied = match &own.output.0 {
            Some(fd) if len > 0 => copy(fd, to, from, len),
            _ => Ok(0),
        };
        let kept = copied.and_then(|copied| {
            to.write_all_at(remark.as_bytes(), from + copied)?;
            Ok(copied + remark.len() as u64)
        });
        match kept {
            Ok(length) => {
                self.end = from + length;
                Ok((from, length))
            }
            Err(e) => {
                // A full disk must not be left fuller by what nobody will read.
                drop(to.set_len(from));
                Err(e)
            }
        }
    }
}

/// Copies the first `len` bytes of a file to `at` of another one; fewer, if it has become shorter.
fn copy(from: &OwnedFd, to: &File, at: u64, len: u64) -> io::Result<u64> {
    let mut buffer = Vec::new();
    let mut done = 0;
    let mut by_kernel = len > PIECE as u64;
    while done < len {
        if by_kernel {
            let Some((begin, end)) = data(from, done, len)? else {
                // Only holes are left: they stay holes.
                to.set_len(at + len)?;
                return Ok(len);
            };
            done = begin;
            let (mut source, mut target) = (done, at + done);
            let most = usize::try_from(end - done).unwrap_or(usize::MAX);
            let copied =
                rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), most);
            match copied {
                Ok(0) => by_kernel = false,
                Ok(count) => done += count as u64,
                Err(rustix::io::Errno::INTR) => {}
                // Neither do all kernels, nor all file systems.
                Err(
                    rustix::io::Errno::XDEV
                    | rustix::io::Errno::INVAL
                    | rustix::io::Errno::NOSYS
                    | rustix::io::Errno::OPNOTSUPP,
                ) => by_kernel = false,
                Err(e) => return Err(e.into()),
            }
            continue;
        }
        buffer.resize(usize::try_from(len - done).unwrap_or(PIECE).min(PIECE), 0);
        let count = match rustix::io::pread(from, &mut buffer, done) {
            Ok(0) => break,
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        to.write_all_at(&buffer[..count], at + done)?;
        done += count as u64;
    }
    Ok(done)
}

/// Where the next data begins and ends, from `at` on: a file that was written far behind its beginning
/// has next to nothing on the disk.
fn data(file: &OwnedFd, at: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    match seek(file, SeekFrom::Data(at)) {
        Ok(begin) if begin >= len => Ok(None),
        Ok(begin) => {
            Ok(Some((begin, seek(file, SeekFrom::Hole(begin)).map_or(len, |e| e.min(len)))))
        }
        Err(rustix::io::Errno::NXIO) => Ok(None),
        // It cannot be told: all of it is data.
        Err(rustix::io::Errno::INVAL) => Ok(Some((at, len))),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests are beside a queue")]
mod tests {
    use super::*;
    use rustix::fs::SeekFrom;
    use std::io::Write;

    fn set_flags(file: &File, flags: OFlag) {
        nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    }

    fn writer(own: &Own) -> File {
        own.output.0.as_ref().unwrap().try_clone().unwrap().into()
    }

    fn both(dir: &Path) -> [Own; 2] {
        let file = named(&dir.join("spare")).unwrap();
        let made = Some(look(&file).unwrap());
        let other = Own { output: Output(Some(file)), made, name: Some(dir.join("spare")) };
        [Own::make(dir, &dir.join("unused")).unwrap(), other]
    }

    /// What a command may do to its output, each without leaving a byte there.
    #[test]
    fn only_what_is_as_it_was_made_is_given_on() {
        type Act = fn(&Own);
        let acts: [(&str, Act, bool); 6] = [
            ("nothing", |_| (), true),
            (
                "a seek",
                |own| assert!(rustix::fs::seek(writer(own), SeekFrom::Start(7)).is_ok()),
                false,
            ),
            ("other flags", |own| set_flags(&writer(own), OFlag::O_NONBLOCK), false),
            (
                "another mode",
                |own| nix::sys::stat::fchmod(writer(own), Mode::empty()).unwrap(),
                false,
            ),
            (
                "a longer file, emptied again",
                |own| {
                    // The clock of a file system has steps of some milliseconds.
                    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
                    while own.left().unwrap().untouched && std::time::Instant::now() < deadline {
                        writer(own).set_len(9).unwrap();
                        writer(own).set_len(0).unwrap();
                    }
                },
                false,
            ),
            ("a byte", |own| writer(own).write_all(b"x").unwrap(), false),
        ];
        for (what, act, given_on) in acts {
            let dir = tempfile::tempdir().unwrap();
            for own in both(dir.path()) {
                act(&own);
                assert_eq!(own.left().unwrap().untouched, given_on, "{what}");
            }
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no name is left");
        }
    }

    #[test]
    fn a_file_that_has_a_name_is_another_commands_no_more() {
        let dir = tempfile::tempdir().unwrap();
        for mut own in both(dir.path()) {
            writer(&own).write_all(b"here").unwrap();
            own.show_as(dir.path().join("shown")).unwrap();
            assert_eq!(std::fs::read(dir.path().join("shown")).unwrap(), b"here");
            assert!(!own.left().unwrap().untouched);
            drop(own);
            assert!(!dir.path().join("shown").exists());
        }
    }

    #[test]
    fn what_was_printed_is_kept_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept");
        let mut kept = Kept::at(path.clone());
        assert_eq!(kept.take(&Own::simulated(), 0, "").unwrap(), (0, 0));
        assert!(!path.exists(), "nothing was printed");
        let long = vec![b'l'; 3 * PIECE + 5];
        let mut all = Vec::new();
        for text in [&b"short\n"[..], &long, b"end"] {
            let own = Own::make(dir.path(), &dir.path().join("spare")).unwrap();
            writer(&own).write_all(text).unwrap();
            let at = all.len() as u64;
            all.extend_from_slice(text);
            all.extend_from_slice(b"!");
            let taken = kept.take(&own, text.len() as u64, "!").unwrap();
            assert_eq!(taken, (at, text.len() as u64 + 1));
        }
        assert!(std::fs::read(&path).unwrap() == all);
        // Another one goes on behind it.
        assert_eq!(Kept::at(path).take(&Own::simulated(), 0, "?").unwrap(), (all.len() as u64, 1));
    }

    #[test]
    fn a_file_with_a_hole_stays_small() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let own = Own::make(dir.path(), &dir.path().join("spare")).unwrap();
        let far = 1 << 33;
        writer(&own).set_len(far).unwrap();
        writer(&own).write_all(b"end").unwrap();
        let path = dir.path().join("kept");
        let taken = Kept::at(path.clone()).take(&own, far + 3, "").unwrap();
        assert_eq!(taken, (0, far + 3));
        let there = std::fs::metadata(&path).unwrap();
        assert!(there.len() == far + 3 && there.blocks() < 4096, "{} blocks", there.blocks());
    }
}
