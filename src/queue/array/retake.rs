//! What a dead process has left in an array: its claims end as expired, what it could not tell is
//! told, and the array goes on.
//!
//! The order is R5's: the death was observed, then the registers are read, then the intent goes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::error::{Cannot, Error, Exit, Result};
use crate::step;
use crate::sys::alive::EnvMark;
use crate::sys::fs::is_absent;
use crate::sys::remains::{Traces, in_words};

use super::super::Queue;
use super::super::identity;
use super::super::ids::Key;
use super::super::procs::{self, Proc};
use super::super::record::{Card, End, Line, Verdict};
use super::super::recover::Death;
use super::super::tasks::{self, Phase, Task};
use super::chunk::{Chunk, claim_name};
use super::close;
use super::halting;
use super::job;
use super::live::{self, Live, Which};
use super::told::Told;
use super::{Overview, home, round};

/// Time for the killed processes of a try to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How a claim ends that its holder cannot end any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As<'a> {
    /// Its holder is dead: in these words.
    Expired(&'a str),
    /// Its holder is not at it any more, or does not know what became of it: in these words. Not charged.
    HandedBack(&'a str),
}

/// How a try ends whose holder is over: one that works in the directory that this is a copy of was not
/// ended by the try.
fn how_of<'a>(queue: &Queue, card: Option<&Card>, how: As<'a>) -> As<'a> {
    match card {
        Some(card) if identity::is_of_another(queue, card) => As::HandedBack(Death::Copied.word()),
        _ => how,
    }
}

/// Ends what a process holds in a chunk (a task, and where it begins), by whatever name, and does what
/// follows. Returns the jobs that were taken back.
pub fn of_process(
    queue: &Queue,
    me: &mut Proc,
    wid: &str,
    (id, start): (&str, u64),
    how: As<'_>,
) -> Result<Vec<Key>> {
    let mut back = Vec::new();
    for name in procs::names(queue, wid) {
        back.extend(chunk_of(queue, me, &name, id, start, how)?);
    }
    Ok(back)
}

/// The same of one name.
fn chunk_of(
    queue: &Queue,
    me: &mut Proc,
    wid: &str,
    id: &str,
    start: u64,
    how: As<'_>,
) -> Result<Vec<Key>> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(Vec::new()) };
    let jobs = home(queue, id);
    let Some(mut chunk) = Chunk::open(queue, &jobs, start)? else { return Ok(Vec::new()) };
    let round = round(&task);
    let seen = chunk.look(queue, round)?;
    let stamp = halting::Standing::read(queue, &jobs)?.stamp();
    let mut running = seen.running;
    if queue.shared {
        // The listing may be older than the death. Each name tells for itself.
        let hidden = |(job, n): &(u64, u32)| chunk.has(queue, &claim_name(*job, *n));
        running.extend(seen.pending.into_iter().filter(hidden));
    }
    let mut back = Vec::new();
    for (number, n) in running {
        let card = chunk.claimer(queue, number, n)?;
        // One that cannot be read may be of anybody who has an intent here.
        if card.is_none() && is_anybody_in(queue, id, start, wid)? {
            continue;
        }
        let of = card.as_ref().map_or(wid, |card| card.wid.as_str());
        if of != wid {
            continue;
        }
        let how = how_of(queue, card.as_ref(), how);
        end_kept(queue, &task, number, n, card.as_ref(), of)?;
        if expire(queue, me, &chunk, (number, n), of, (round, stamp), how)? {
            back.push(Key::new(&format!("{id}/{number}"), n));
        }
    }
    halting::recount(queue, me, id, &chunk)?;
    tell_untold(queue, me, wid, id, &chunk)?;
    clear_live(queue, me, wid, &jobs, &chunk)?;
    follow_up(queue, me, id, &mut chunk, round)?;
    Ok(back)
}

/// Whether a process other than `but` has, or had, claims in a chunk.
fn is_anybody_in(queue: &Queue, id: &str, start: u64, but: &str) -> Result<bool> {
    let name = job::intent_name(id, start);
    let run = |wid: &String| queue.layout.proc(wid).join("run");
    let others = procs::all(queue)?.into_iter().filter(|wid| wid != but);
    Ok(others.into_iter().any(|wid| queue.fs.exists(&run(&wid).join(&name))))
}

/// Ends what runs of a try of `coord run --keep-children` whose worker is dead. It does not carry the mark
/// of that worker, by which everything else was ended before.
fn end_kept(
    queue: &Queue,
    task: &Task,
    number: u64,
    n: u32,
    card: Option<&Card>,
    holder: &str,
) -> Result<()> {
    if !task.spec.as_ref().is_ok_and(|spec| spec.keeps_children())
        || card.is_some_and(|card| identity::is_of_another(queue, card))
    {
        return Ok(());
    }
    let token = EnvMark::attempt(&super::token(&task.id, number, n, holder));
    let left = queue.host.end_left(&Traces::of_mark(token), &[], KILL_PATIENCE);
    if left.is_empty() {
        return Ok(());
    }
    let what = format!("cannot end {}, of job {number} of {}", in_words(&left), task.id);
    Err(Error::new(Exit::Conflict, what))
}

fn expire(
    queue: &Queue,
    me: &Proc,
    chunk: &Chunk,
    (number, n): (u64, u32),
    holder: &str,
    (round, stamp): (u32, u32),
    how: As<'_>,
) -> Result<bool> {
    let before = match n {
        1 => None,
        _ => chunk.end(queue, number, n - 1)?,
    };
    let end = match how {
        As::Expired(why) => job::expiry(before.as_ref(), round, why),
        As::HandedBack(why) => {
            let why = why.to_owned();
            let kept = before.as_ref().map_or((0, 0), |end| (end.charged, end.boots));
            End { why, charged: kept.0, boots: kept.1, ..End::new(Verdict::Release, true) }
        }
    };
    let end = halting::stamped(End { holder: holder.to_owned(), ..end }, stamp);
    step!("jobs.expire");
    job::end_as(queue, me, chunk, number, n, end)
}

/// Notes what is over, and wakes those who wait for something to claim.
fn follow_up(queue: &Queue, me: &mut Proc, id: &str, chunk: &mut Chunk, round: u32) -> Result<()> {
    let jobs = home(queue, id);
    let seen = chunk.look(queue, round)?;
    close::note_over(queue, &jobs, chunk, round, &seen)?;
    close::end_if_over(queue, me, id)?;
    super::ring_all(queue, id);
    Ok(())
}

/// Bytes of a log behind which the lines of one chunk cannot lie.
const TAIL: u64 = 1 << 20;

/// A try that ended between its register and its line: told in a log of ours.
fn tell_untold(queue: &Queue, me: &Proc, wid: &str, id: &str, chunk: &Chunk) -> Result<()> {
    let jobs = home(queue, id);
    let told = told(queue, &jobs.join(format!("{wid}.log")))?;
    let numbers: BTreeSet<(u64, u32)> = told.iter().map(|line| (line.job, line.n)).collect();
    let entries = queue.fs.list_in(&chunk.dir).cannot("list a chunk of jobs", &chunk.dir.path)?;
    let mut lines = Vec::new();
    for entry in &entries {
        let Some((number, n, false)) = super::chunk::parse(entry) else { continue };
        if numbers.contains(&(number, n)) {
            continue;
        }
        let Some(end) = chunk.end(queue, number, n)? else { continue };
        let holder = if end.holder.is_empty() { &end.by } else { &end.holder };
        if holder != wid {
            continue;
        }
        let after = behind_told(queue, &jobs, wid, &told)?;
        let rest = |suffix: &str, from: u64| {
            let stat = queue.fs.stat(&jobs.join(format!("{wid}.{suffix}")));
            match stat.map_or(0, |stat| stat.len).saturating_sub(from) {
                0 => (0, 0),
                length => (from, length),
            }
        };
        let (mut out, mut err) = (rest("out", after.0), rest("err", after.1));
        let mut of = wid.to_owned();
        // It ran for so long that its own files have names: those have all of it.
        let live = |which| Live { wid: wid.to_owned(), job: number, n, which };
        let saved = |which| live(which).save(queue, &jobs);
        if let (Some(of_out), Some(of_err)) = (saved(Which::Out)?, saved(Which::Err)?) {
            (out, err, of) = ((0, of_out), (0, of_err), live(Which::Out).stem());
        }
        lines.push(Line {
            job: number,
            n,
            end: end.verdict.word().to_owned(),
            retry: end.retry,
            round: super::chunk::round_of(&end),
            code: end.exit.code,
            signal: end.exit.signal,
            at: queue.clock.wall_ms(),
            timed_out: end.timed_out(),
            out,
            err,
            of,
            ..Line::default()
        });
    }
    if lines.is_empty() {
        return Ok(());
    }
    let path = jobs.join(format!("{}.log", me.wid));
    let log = queue.fs.open_log(&path).cannot("open the log of the jobs", &path)?;
    lines.iter().try_for_each(|line| job::tell(queue, &log, line))
}

/// Where the output ends of all that a process has told: in `jobs/W.out`, and in `jobs/W.err`.
fn behind_told(queue: &Queue, jobs: &Path, wid: &str, last: &[Line]) -> Result<(u64, u64)> {
    let mut ends = (0, 0);
    let mut see = |line: &Line| {
        // What it has told for others stands in other files.
        if line.of.is_empty() {
            ends.0 = ends.0.max(line.out.0 + line.out.1);
            ends.1 = ends.1.max(line.err.0 + line.err.1);
        }
    };
    last.iter().for_each(&mut see);
    // Most jobs print nothing, and their lines have no place: the last one that has may be far back.
    if ends.0 == 0 || ends.1 == 0 {
        let mut all = Told::new(jobs);
        all.follow(&[wid.to_owned()]);
        while let Some((of, line)) = all.next(queue)? {
            if of == wid {
                ends.0 = ends.0.max(line.out.0 + line.out.1);
                ends.1 = ends.1.max(line.err.0 + line.err.1);
            }
        }
    }
    Ok(ends)
}

/// Removes the names of what jobs have printed so far, of a process that is dead: they are told.
fn clear_live(queue: &Queue, me: &Proc, wid: &str, jobs: &Path, chunk: &Chunk) -> Result<()> {
    if wid == me.wid {
        return Ok(());
    }
    let here = chunk.start..chunk.start + chunk.len();
    for live in live::all(queue, jobs)? {
        if live.wid == wid && here.contains(&live.job) {
            queue.discard(&live.path(jobs))?;
        }
    }
    // Where a file must have a name.
    Which::BOTH.iter().try_for_each(|which| queue.discard(&live::spare(jobs, wid, *which)))
}

/// The last lines of a log.
fn told(queue: &Queue, path: &Path) -> Result<Vec<Line>> {
    let from = match queue.fs.stat(path) {
        Ok(stat) => stat.len.saturating_sub(TAIL),
        Err(e) if is_absent(&e) => return Ok(Vec::new()),
        Err(e) => return Err(e).cannot("look at the log of the jobs", path),
    };
    let limit = usize::try_from(TAIL).unwrap_or(usize::MAX) * 2;
    let bytes = queue.fs.read(path, from, limit).cannot("read the log of the jobs", path)?;
    let lines = bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    Ok(lines.collect())
}

/// Looks at every open chunk of an array: claims that no intent names and whose process is dead end as
/// expired, and what is over is noted. `is_orphan` judges a claim by its card.
pub fn sweep(
    queue: &Queue,
    me: &mut Proc,
    id: &str,
    is_orphan: impl Fn(&Card, u64) -> bool,
) -> Result<usize> {
    let Some(task) = tasks::look(queue, id)? else { return Ok(0) };
    if !matches!(task.phase, Phase::Pending(_)) {
        return Ok(0);
    }
    let (jobs, round) = (home(queue, id), round(&task));
    let mut running = 0;
    let stamp = halting::Standing::read(queue, &jobs)?.stamp();
    for start in Overview::read(queue, &jobs, round)?.open() {
        let Some(mut chunk) = Chunk::open(queue, &jobs, start)? else { continue };
        let seen = chunk.look(queue, round)?;
        let mut expired = false;
        for (number, n) in &seen.running {
            let card = chunk.claimer(queue, *number, *n)?;
            let orphan = match &card {
                Some(card) => is_orphan(card, start),
                None => !is_anybody_in(queue, id, start, "")?,
            };
            if orphan {
                let how = how_of(queue, card.as_ref(), As::Expired("dead"));
                let of = card.as_ref().map_or(String::new(), |card| card.wid.clone());
                end_kept(queue, &task, *number, *n, card.as_ref(), &of)?;
                expired |= expire(queue, me, &chunk, (*number, *n), &of, (round, stamp), how)?;
            } else {
                running += 1;
            }
        }
        if expired {
            halting::recount(queue, me, id, &chunk)?;
        }
        if expired || seen.is_over() {
            follow_up(queue, me, id, &mut chunk, round)?;
        }
    }
    close::end_if_over(queue, me, id)?;
    Ok(running)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::array::list;
    use crate::queue::init::init;
    use crate::queue::procs::Identity;
    use crate::queue::record::{Array, CardKind, Spec};
    use crate::queue::recover::{Death, recover};
    use crate::queue::submit::submit;
    use crate::sys::fs::{Fs, RealFs};
    use crate::sys::host::Platform;

    #[test]
    fn a_claim_that_cannot_be_read_waits_for_all_who_may_hold_it() {
        let dir = tempfile::tempdir().unwrap();
        let queue = init(&dir.path().join("q"), Platform::real()).unwrap();
        let new = |name: &str, kind| Proc::register(&queue, &Identity::plain(name, kind)).unwrap();
        let mut me = new("m", CardKind::Monitor);
        let spec = Spec { v: 1, array: Some(Array::default()), ..Spec::new("") };
        submit(&queue, &mut me, Some("A"), spec).unwrap();
        list::append(&queue, &me, "A", 1, &[r#"["x"]"#.to_owned()]).unwrap();
        let (dead, other) = (new("w1", CardKind::Worker), new("w2", CardKind::Worker));
        for worker in [&dead, &other] {
            job::intend(&queue, worker, "A", 1).unwrap().unwrap();
        }
        let chunk = home(&queue, "A").join("0000000001");
        RealFs.create(&chunk.join("1.1.claim"), b"", 0o444).unwrap();
        recover(&queue, &mut me, &dead.wid, Death::Gone, &mut Vec::new()).unwrap();
        assert!(!queue.fs.exists(dead.dir()), "nothing of it is left");
        assert!(!queue.fs.exists(&chunk.join("1.1.end")), "it may be that of the one who lives");
        recover(&queue, &mut me, &other.wid, Death::Gone, &mut Vec::new()).unwrap();
        assert!(queue.fs.exists(&chunk.join("1.1.end")), "now it is nobody's");
    }

    #[test]
    fn a_list_without_lines_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let queue = init(&dir.path().join("q"), Platform::real()).unwrap();
        let mut me = Proc::register(&queue, &Identity::plain("m", CardKind::Cli)).unwrap();
        let spec = Spec { v: 1, array: Some(Array::default()), ..Spec::new("") };
        submit(&queue, &mut me, Some("A"), spec).unwrap();
        let jobs = home(&queue, "A");
        super::super::ensure_home(&queue, &jobs).unwrap();
        RealFs.create(&super::super::list_file(&jobs, 1), b"", 0o444).unwrap();
        let e = list::append(&queue, &me, "A", 1, &[r#"["x"]"#.to_owned()]).unwrap_err();
        assert!(e.one_line().contains("is empty"), "{e}");
        list::close(&queue, &me, "A", 0, 1).unwrap();
        close::end_if_over(&queue, &mut me, "A").unwrap();
        let task = tasks::look(&queue, "A").unwrap().unwrap();
        assert_eq!(task.phase, Phase::Pending(1), "its jobs were accepted, and are not known");
    }
}
