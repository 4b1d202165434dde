//! `logs`, `events`, `wait`: following what happens.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::error::{Cannot, Error, Exit, Result};
use crate::plan::fold::State;
use crate::plan::units::duration_ms;
use crate::queue::events::Event;
use crate::queue::ids::short;
use crate::queue::tasks::Phase;
use crate::queue::{Queue, archive, durable, state, sweep, tasks};
use crate::sys::clock::{local_hms, parse_rfc3339};
use crate::sys::wake::{Waiter, Wake, Watch, nap};

use super::Answer;
use super::args::{Cli, Events, Logs, Wait};
use super::eventlines::EventLines;
use super::{arrays, joblogs, lastlines, look, output, place};

/// Between two looks whether a removal is over.
const REMOVAL: Duration = Duration::from_millis(100);
/// Bytes of a log that are read at a time.
const CHUNK: usize = 1 << 20;

/// A wait for changes of a verb that does nothing but print: it ends with its reader.
pub(super) fn printer(queue: &Queue) -> Result<Waiter> {
    let mut waiter = queue.waiter(&[])?;
    waiter.watch_reader();
    Ok(waiter)
}

/// Waits for a reason to look again. False: nobody reads any more. An error: the queue is not in its place.
pub(super) fn goes_on(queue: &Queue, waiter: &mut Waiter, deadline: Instant) -> Result<bool> {
    if output::is_unread() {
        return Ok(false);
    }
    let wakes = waiter.wait(deadline);
    // Half of a queue that is being removed would be taken for what became of it.
    while wakes.contains(&Wake::Rescan)
        && sweep::must_stay(queue, None).is_err_and(|e| e.exit == Exit::Temporary)
    {
        nap(REMOVAL);
    }
    queue.must_be_in_place().map(|()| !wakes.contains(&Wake::Unread))
}

/// `coord logs`.
pub fn logs(cli: &Cli, args: &Logs) -> Answer {
    let queue = place::open(cli)?;
    let word = place::task_or_own(args.id.as_deref())?;
    let (id, wanted) = place::attempt(&word)?;
    let (id, job) = match id.split_once('/') {
        Some((id, job)) => (id.to_owned(), Some(number(job)?)),
        None => (id, args.job),
    };
    let task = tasks::existing(&queue, &id)?;
    match (arrays::of(&task), job) {
        (Some(_), Some(job)) => {
            return joblogs::one(&queue, &task, job, wanted, args.lines, args.follow);
        }
        (Some(_), None) => return joblogs::all(&queue, &task, args.lines, args.follow),
        (None, Some(_)) => {
            return Err(Error::usage(format!("{id} is no array: it has no jobs"))
                .hint(format!("coord logs {id}")));
        }
        (None, None) => {}
    }
    let has_log = |n: &u32| queue.fs.exists(&task.out(*n).join("log"));
    let newest = task.names.outs.iter().rev().find(|n| has_log(n)).copied();
    let first = wanted.or(newest);
    if !args.follow {
        let Some(n) = first.filter(has_log) else {
            return Err(Error::new(Exit::NotFound, format!("{id} has printed nothing yet"))
                .hint(format!("coord logs -f {id}")));
        };
        let path = task.out(n).join("log");
        let from = lastlines::begin(&queue, &path, args.lines)?;
        return print_from(&queue, &path, from).map(|_| None);
    }
    follow_log(&queue, &id, wanted, first, args.lines)
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        Error::usage(format!("`{text}` is not the number of a job")).hint("coord logs ID/JOB")
    })
}

/// Prints a log as it grows, goes on with the next attempt, and ends with the task.
fn follow_log(
    queue: &Queue,
    id: &str,
    only: Option<u32>,
    first: Option<u32>,
    lines: Option<usize>,
) -> Answer {
    let mut waiter = printer(queue)?;
    waiter.watch(&queue.layout.events_bell());
    let mut n = first;
    let mut offset: Option<u64> = None;
    loop {
        let task = tasks::existing(queue, id)?;
        if n.is_none() {
            n = task.names.outs.last().copied();
        }
        if let Some(current) = n {
            let path = task.out(current).join("log");
            if queue.fs.exists(&path) {
                waiter.watch(&path);
                let from = match offset {
                    Some(from) => from,
                    None => lastlines::begin(queue, &path, lines)?,
                };
                offset = Some(print_from(queue, &path, from)?);
            }
            let ended = task.names.ends.contains(&current);
            let next = task.names.claims.range(current + 1..).next().copied();
            if ended && only.is_none() && next.is_some() {
                waiter.unwatch(&path);
                (n, offset) = (next, None);
                output::note(&format!("--- attempt {} ---", next.unwrap_or_default()));
                continue;
            }
            if ended && (only.is_some() || task.phase.is_over()) {
                return Ok(None);
            }
        } else if task.phase.is_over() {
            return Ok(None);
        }
        if !goes_on(queue, &mut waiter, Instant::now() + Duration::from_secs(30))? {
            return Ok(None);
        }
    }
}

/// Prints a file from `at` to its end, and says where that is.
pub(super) fn print_from(queue: &Queue, path: &std::path::Path, mut at: u64) -> Result<u64> {
    loop {
        let bytes = queue.fs.read(path, at, CHUNK).cannot("read a log", path)?;
        if bytes.is_empty() || output::is_unread() {
            return Ok(at);
        }
        output::data(&bytes);
        at += bytes.len() as u64;
    }
}

/// `coord events`.
pub fn events(cli: &Cli, args: &Events) -> Answer {
    let queue = place::open(cli)?;
    let since_ms = match &args.since {
        Some(text) => {
            let back = duration_ms(text).map_err(Error::usage)?;
            queue.clock.wall_ms().saturating_sub(back)
        }
        None => 0,
    };
    let only: Option<BTreeSet<String>> = if args.select.is_empty() {
        None
    } else {
        Some(look::select(&queue, &args.select, &[])?.into_iter().collect())
    };
    let mut waiter = printer(&queue)?;
    waiter.watch(&queue.layout.events_bell());
    let mut lines = EventLines::default();
    let mut seen = HashSet::new();
    loop {
        lines.each(&queue, |event| {
            let wanted = only.as_ref().is_none_or(|ids| ids.contains(&event.id));
            let at_ms = parse_rfc3339(&event.t).unwrap_or(0);
            if wanted && at_ms >= since_ms && is_new(&mut seen, event) {
                print_event(cli, event);
            }
        })?;
        if !args.follow || !goes_on(&queue, &mut waiter, Instant::now() + Duration::from_secs(30))?
        {
            return Ok(None);
        }
    }
}

/// Registers are written once: a second line about the same one tells nothing new.
/// Remembered is a hash, since there may be millions.
fn is_new(seen: &mut HashSet<u64>, event: &Event) -> bool {
    if matches!(event.k.as_str(), "progress" | "notice") {
        return true;
    }
    let mut hash = DefaultHasher::new();
    (&event.k, &event.id, event.n).hash(&mut hash);
    seen.insert(hash.finish())
}

fn print_event(cli: &Cli, event: &Event) {
    if cli.json {
        output::line(&serde_json::to_string(event).unwrap_or_default());
        return;
    }
    let at = parse_rfc3339(&event.t).map(local_hms).unwrap_or_default();
    let key = match (event.id.as_str(), event.n) {
        ("", _) => String::new(),
        (id, 0) => id.to_owned(),
        (id, n) => format!("{id}@{n}"),
    };
    let pct = event.pct.map(|p| format!("{p:.0} % ")).unwrap_or_default();
    let passed = match event.more.get("about").and_then(|about| about.as_str()) {
        Some(about) if event.why.is_empty() => format!("{about}: it has passed"),
        _ => String::new(),
    };
    let words = [event.verdict.as_str(), &format!("{pct}{}{passed}", event.why)].join(" ");
    let text = format!("{at} {:<9} {key:<14} {:<10} {}", event.k, short(&event.by), words.trim());
    output::line(&output::cut(text.trim_end(), 200));
}

/// `coord wait`.
pub fn wait(cli: &Cli, args: &Wait) -> Answer {
    let queue = place::open(cli)?;
    let timeout = args.timeout.as_deref().map(duration_ms).transpose().map_err(Error::usage)?;
    let deadline = timeout.map(|ms| Instant::now() + Duration::from_millis(ms));
    let words = if args.select.is_empty() { vec!["all".to_owned()] } else { args.select.clone() };
    // Without --json it prints nothing, and how it ends is what it is for.
    let mut waiter = if cli.json { printer(&queue)? } else { queue.waiter(&[])? };
    waiter.watch(&queue.layout.events_bell());
    let mut open: Vec<String> = look::select(&queue, &words, &[])?;
    let mut bad: Vec<(String, State)> = Vec::new();
    let total = open.len();
    // As long as one is not over, the others need no look.
    open.reverse();
    loop {
        while let Some(id) = open.pop() {
            match over(&queue, &id)? {
                None => {
                    open.push(id);
                    break;
                }
                Some(State::Done) => {}
                Some(state) => bad.push((id, state)),
            }
        }
        if open.is_empty() {
            return finished(cli, total, &bad);
        }
        let now = Instant::now();
        if deadline.is_some_and(|d| now >= d) {
            let mut still: Vec<&str> = Vec::new();
            for id in open.iter().rev() {
                if over(&queue, id)?.is_none() {
                    still.push(id);
                }
            }
            // All of them have come to their end while this was looked at.
            let Some(first) = still.first() else { continue };
            let some = still[..still.len().min(5)].join(" ");
            let what = format!("{} of {total} tasks are not over: {some}", still.len());
            return Err(Error::new(Exit::Timeout, what).hint(format!("coord why {first}")));
        }
        let look = now + Duration::from_secs(30);
        if !goes_on(&queue, &mut waiter, deadline.map_or(look, |d| d.min(look)))? {
            return Ok(Some(Exit::No));
        }
    }
}

/// How a task ended, if it is over; made durable, since whoever waits acts on it.
fn over(queue: &Queue, id: &str) -> Result<Option<State>> {
    Ok(match tasks::look(queue, id)? {
        Some(task) if task.phase.is_over() => {
            durable::task(queue, &task.dir)?;
            Some(state::state(queue, &task)?)
        }
        Some(_) => None,
        None => archive::tomb(queue, id)?.map(|tomb| match tomb.phase {
            Phase::Done(_) => State::Done,
            Phase::Cancelled(_) => State::Cancelled,
            _ => State::Failed,
        }),
    })
}

fn finished(cli: &Cli, total: usize, bad: &[(String, State)]) -> Answer {
    if cli.json {
        let not: Vec<_> =
            bad.iter().map(|(id, s)| json!({ "id": id, "state": s.word() })).collect();
        output::document(&json!({
            "schema": "coord.wait/1", "total": total, "done": total - bad.len(), "not_done": not,
        }));
        return Ok((!bad.is_empty()).then_some(Exit::No));
    }
    if bad.is_empty() {
        return Ok(None);
    }
    let some: Vec<String> =
        bad.iter().take(5).map(|(id, s)| format!("{id} ({})", s.word())).collect();
    let what = format!("{} of {total} tasks did not succeed: {}", bad.len(), some.join(", "));
    let hint = format!("coord show {} ; coord retry {} --note \"…\"", bad[0].0, bad[0].0);
    Err(Error::new(Exit::No, what).hint(hint))
}
