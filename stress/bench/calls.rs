//! Only the system calls of a job's life, without anything that decides: the floor for cycle.rs.
//!
//! Submission, for each 1024 jobs: a file is written, a directory made, the file linked into it. A
//! job: link (the claim), stat (was I declared dead?), write (the log), link (the end), utimensat
//! (the bell). The processes deal the jobs among them by number, so no claim is ever lost. In the
//! durable modes an end waits for its directory to be on disk, with `full` a claim too.
//! Options and output: processes.rs.
#![expect(clippy::disallowed_methods, reason = "the calls themselves are measured")]

mod processes;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::AtFlags;
use nix::sys::stat::{UtimensatFlags, fstatat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::linkat;

use processes::{Order, Outcome, Tally};

/// Jobs that one directory has.
const CHUNK: u64 = 1024;
/// Links to one file before the next one is made: ext4 allows 65,000.
const LINKS_MAX: u64 = 30_000;
/// A line as long as that of an event.
const LINE: &[u8; 80] =
    b"{\"k\":\"end\",\"t\":\"123456\",\"n\":1,\"verdict\":\"done\",\"at\":\"2000-01-01T00:00:00.000Z\"}\n";

fn main() -> ExitCode {
    processes::run(submit, work)
}

/// The chunks that jobs of this order are in.
fn chunks(order: &Order) -> std::ops::Range<u64> {
    order.first / CHUNK..(order.first + order.jobs).div_ceil(CHUNK)
}

fn submit(order: &Order) -> Outcome<()> {
    let durable = order.durability != "process";
    let queue = order.dir.join("calls");
    std::fs::create_dir_all(&queue)?;
    File::create(queue.join("bell"))?;
    let end = order.first + order.jobs;
    for chunk in chunks(order) {
        let staged = queue.join("staged");
        let mut text = String::new();
        for seq in (chunk * CHUNK).max(order.first)..((chunk + 1) * CHUNK).min(end) {
            text.push_str(&seq.to_string());
            text.push('\n');
        }
        let mut file = File::create(&staged)?;
        file.write_all(text.as_bytes())?;
        if durable {
            file.sync_all()?;
        }
        let dir = queue.join(chunk.to_string());
        // A chunk may have been begun by the order before.
        if !dir.exists() {
            std::fs::create_dir(&dir)?;
        }
        std::fs::hard_link(&staged, dir.join(format!("list.{}", order.first)))?;
        if durable {
            File::open(&dir)?.sync_all()?;
        }
        std::fs::remove_file(&staged)?;
    }
    if durable {
        File::open(&queue)?.sync_all()?;
    }
    Ok(())
}

/// `SEQ.1.claim` and the like, without a memory allocation.
struct Name {
    bytes: [u8; 40],
    digits: usize,
}

impl Name {
    fn of(seq: u64) -> Outcome<Name> {
        let mut name = Name { bytes: [0; 40], digits: 0 };
        let mut rest = &mut name.bytes[..];
        write!(rest, "{seq}")?;
        name.digits = 40 - rest.len();
        Ok(name)
    }

    fn with(&mut self, ending: &[u8]) -> Outcome<&str> {
        let end = self.digits + ending.len();
        self.bytes[self.digits..end].copy_from_slice(ending);
        Ok(std::str::from_utf8(&self.bytes[..end])?)
    }
}

/// The process's own files: what a claim and an end link to.
struct Own {
    dir: File,
    count: u64,
    card: String,
    verdict: String,
}

impl Own {
    fn new(path: &Path) -> Outcome<Own> {
        std::fs::create_dir_all(path)?;
        let none = String::new();
        let mut own = Own { dir: File::open(path)?, count: 0, card: none.clone(), verdict: none };
        own.renew(path)?;
        Ok(own)
    }

    fn renew(&mut self, path: &Path) -> Outcome<()> {
        (self.card, self.verdict) =
            (format!("card.{}", self.count), format!("done.{}", self.count));
        for name in [&self.card, &self.verdict] {
            File::create(path.join(name))?.write_all(b"{}\n")?;
        }
        Ok(())
    }
}

fn work(order: &Order, begin: &mut dyn FnMut()) -> Outcome<Tally> {
    let me = order.worker.unwrap_or_default();
    let (on_end, on_claim) = (order.durability != "process", order.durability == "full");
    let queue = order.dir.join("calls");
    let home = queue.join(format!("own.{}.{me}", order.first));
    let mut own = Own::new(&home)?;
    let mut log = File::options().append(true).create(true).open(home.join("log"))?;
    let queue_dir = File::open(&queue)?;
    let (share, end) = (order.share(me), order.first + order.jobs);
    let mut tally = Tally::default();
    begin();
    'chunks: for chunk in chunks(order) {
        let path = queue.join(chunk.to_string());
        let dir = File::open(&path)?;
        std::fs::read(path.join(format!("list.{}", order.first)))?;
        let from = (chunk * CHUNK).max(order.first);
        let skip = (me + order.processes - from % order.processes) % order.processes;
        let mut seq = from + skip;
        while seq < ((chunk + 1) * CHUNK).min(end) {
            if tally.jobs == share {
                break 'chunks;
            }
            let mut name = Name::of(seq)?;
            linkat(&own.dir, own.card.as_str(), &dir, name.with(b".1.claim")?, AtFlags::empty())?;
            if on_claim {
                dir.sync_all()?;
            }
            if fstatat(&own.dir, "end", AtFlags::empty()).is_ok() {
                return Err("declared dead".into());
            }
            log.write_all(LINE)?;
            linkat(&own.dir, own.verdict.as_str(), &dir, name.with(b".1.end")?, AtFlags::empty())?;
            if on_end {
                dir.sync_all()?;
            }
            let now = TimeSpec::UTIME_NOW;
            utimensat(&queue_dir, "bell", &now, &now, UtimensatFlags::FollowSymlink)?;
            tally.jobs += 1;
            own.count += 1;
            if own.count.is_multiple_of(LINKS_MAX) {
                own.renew(&home)?;
            }
            seq += order.processes;
        }
    }
    Ok(tally)
}
