//! `cancel`, `hold`, `release`, `retry`, `done`, `fail`: what people decide about tasks.
//!
//! A person's decision about a pending attempt competes for its claim like any worker, so there is
//! no moment in which both win.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::error::{Cannot, Error, Exit, Result};
use crate::queue::Queue;
use crate::queue::claim::{Claimed, Lease, seize};
use crate::queue::end::{self, Ended};
use crate::queue::evaluate::{Readiness, readiness};
use crate::queue::events::{self, Event};
use crate::queue::ids::{Key, short};
use crate::queue::procs::{self, Proc};
use crate::queue::record::{self, CardKind, End, Note, Verdict};
use crate::queue::register::{Held, publish};
use crate::queue::tasks::{self, Phase, Task};
use crate::run::outcome::JobVerdict;
use crate::step;
use crate::sys::alive::EnvMark;
use crate::sys::fs::{Fs, RealFs};

use super::Answer;
use super::args::{Cancel, Cli, Done, Fail, Retry, Select};
use super::{look, output, place};

/// Tries to do something to a task whose state others change at the same time.
const TRIES: u32 = 20;

fn conflict(what: String) -> Error {
    Error::new(Exit::Conflict, what)
}

/// Does `act` to every selected task; goes on after a refusal and reports the first one.
fn each(
    cli: &Cli,
    verb: &str,
    tasks: &Select,
    mut act: impl FnMut(&Queue, &mut Proc, &str) -> Result<()>,
) -> Answer {
    let queue = place::open(cli)?;
    let ids = look::select(&queue, &tasks.select, &tasks.exclude)?;
    if tasks.dry_run {
        ids.iter().for_each(|id| output::line(&format!("would {verb} {id}")));
        return Ok(None);
    }
    let mut done = Vec::new();
    let mut refused: Option<Error> = None;
    place::with_proc(&queue, |me| {
        for id in &ids {
            match act(&queue, me, id) {
                Ok(()) => done.push(id.clone()),
                Err(e) if refused.is_none() => refused = Some(e),
                Err(e) => output::note(&format!("error: {e}")),
            }
        }
        Ok(())
    })?;
    if cli.json {
        output::document(&json!({ "schema": format!("coord.{verb}/1"), "ids": done }));
    } else {
        done.iter().for_each(|id| output::line(id));
    }
    match refused {
        Some(e) => Err(e),
        None => Ok(None),
    }
}

/// `coord cancel`.
pub fn cancel(cli: &Cli, args: &Cancel) -> Answer {
    each(cli, "cancel", &args.tasks, |queue, me, id| {
        for _ in 0..TRIES {
            let task = look::existing(queue, id)?;
            match task.phase {
                Phase::Cancelled(_) => return Ok(()),
                Phase::Done(_) | Phase::Failed(_) | Phase::Stage(..) => {
                    let state = crate::queue::state::state(queue, &task)?.word();
                    return Err(conflict(format!("{id} is over already: {state}")));
                }
                Phase::NoSpec | Phase::Corrupt(_) => {
                    return Err(conflict(format!("{id} cannot be read")).hint("coord fsck"));
                }
                Phase::Pending(n) => {
                    if cancel_pending(queue, me, &Key::new(id, n), &args.reason)? {
                        return Ok(());
                    }
                }
                Phase::Claimed(n) => {
                    if cancel_claimed(queue, me, &task, n, args)? {
                        return Ok(());
                    }
                }
            }
        }
        Err(conflict(format!("{id} changes too fast to be cancelled")).hint("try again"))
    })
}

/// Competes for the attempt. True: it is ours and ended as cancelled.
fn cancel_pending(queue: &Queue, me: &mut Proc, key: &Key, reason: &str) -> Result<bool> {
    let Claimed::Won(lease) = seize(queue, me, key, CardKind::Cancel)? else { return Ok(false) };
    let why = if reason.is_empty() { "cancelled before it ran" } else { reason };
    let end = End { why: why.to_owned(), ..End::new(Verdict::Cancel, false) };
    end::record(queue, me, &lease, end)?;
    end::finish(queue, me, &lease, false)?;
    Ok(true)
}

/// Cancels a claimed attempt. False: it ended meanwhile, look again.
fn cancel_claimed(
    queue: &Queue,
    me: &mut Proc,
    task: &Task,
    n: u32,
    args: &Cancel,
) -> Result<bool> {
    let card = tasks::claimer(queue, task, n)?;
    let has_process = card.as_ref().is_none_or(|c| tasks::has_liveness(c.kind));
    if !has_process {
        return end_as_cancelled(queue, me, task, n, args);
    }
    let note = Note::new(&me.wid, queue.now(), &args.reason);
    let key = Key::new(&task.id, n);
    let intent = me.settle_intent(queue, &task.id)?;
    let tmp = me.run(&format!("_cancel.{key}"));
    queue.fs.create(&tmp, &record::to_bytes(&note), 0o444).cannot("write a cancel", &tmp)?;
    step!("cancel.link");
    publish(queue, &tmp, &task.dir, &format!("{n}.cancel"), |_| true)?;
    queue.discard(&tmp)?;
    events::append(queue, me, Event::of("cancel", &key).why(&args.reason));
    queue.discard(&intent)?;
    if let Some(card) = &card {
        procs::ring(queue, &card.wid);
        if !args.force {
            output::note(&format!("{}: {} was asked to stop", task.id, short(&card.wid)));
        }
    }
    // Acknowledged only if the attempt still runs: who ends it from now on sees the request.
    if queue.fs.exists(&task.dir.path.join(format!("{n}.end"))) {
        return Ok(false);
    }
    if args.force {
        // Its processes end before the fence, where this machine can reach them.
        if let Some(card) = &card
            && procs::is_here(card)
        {
            let token = format!("{key}@{}", card.wid);
            let left = EnvMark::attempt(&token).kill_all(&[], Duration::from_secs(10));
            if !left.is_empty() {
                return Err(conflict(format!("cannot end the processes {left:?} of {key}")));
            }
        }
        return end_as_cancelled(queue, me, task, n, args);
    }
    Ok(true)
}

/// Links `n.end` = cancel for a claim of somebody else. False: it ended meanwhile.
fn end_as_cancelled(
    queue: &Queue,
    me: &mut Proc,
    task: &Task,
    n: u32,
    args: &Cancel,
) -> Result<bool> {
    let why = if args.reason.is_empty() { "cancelled" } else { &args.reason };
    let end = End { why: why.to_owned(), ..End::new(Verdict::Cancel, false) };
    end_for_another(queue, me, task, n, end)
}

/// Ends an attempt whose claim is not this process's. False: it ended otherwise meanwhile.
fn end_for_another(
    queue: &Queue,
    me: &mut Proc,
    task: &Task,
    n: u32,
    mut end: End,
) -> Result<bool> {
    let key = Key::new(&task.id, n);
    let intent = me.settle_intent(queue, &task.id)?;
    end.by.clone_from(&me.wid);
    end.ended = queue.now();
    end.charged = tasks::end_before(queue, task, n)?.map_or(0, |e| e.charged);
    end.holder = tasks::claimer(queue, task, n)?.map(|c| c.wid).unwrap_or_default();
    let bytes = record::to_bytes(&end);
    let tmp = me.run(&format!("_end.{key}"));
    queue.fs.create(&tmp, &bytes, 0o444).cannot("write a record", &tmp)?;
    step!("decide.end");
    let held = publish(queue, &tmp, &task.dir, &format!("{n}.end"), |b| b == bytes)?;
    queue.discard(&tmp)?;
    end::announce(queue, me, &key, false)?;
    queue.discard(&intent)?;
    if let Some(card) = tasks::claimer(queue, task, n)? {
        procs::ring(queue, &card.wid);
    }
    Ok(held == Held::Ours)
}

/// `coord hold`.
pub fn hold(cli: &Cli, args: &Select) -> Answer {
    each(cli, "hold", args, |queue, me, id| {
        for _ in 0..TRIES {
            let task = look::existing(queue, id)?;
            match task.phase {
                Phase::Pending(n) => {
                    let key = Key::new(id, n);
                    if let Readiness::Held = readiness(queue, &task, n)? {
                        return Ok(());
                    }
                    if let Claimed::Won(_) = seize(queue, me, &key, CardKind::Hold)? {
                        events::append(queue, me, Event::of("hold", &key));
                        step!("hold.drop_intent");
                        // A hold has no process behind it: the claim stands by itself.
                        return queue.discard(&me.intent(&key));
                    }
                }
                Phase::Claimed(n) => {
                    let kind = tasks::claimer(queue, &task, n)?.map(|c| c.kind);
                    if kind == Some(CardKind::Hold) {
                        return Ok(());
                    }
                    return Err(
                        conflict(format!("{id} runs already")).hint(format!("coord cancel {id}"))
                    );
                }
                _ => return Err(conflict(format!("{id} is over already"))),
            }
        }
        Err(conflict(format!("{id} changes too fast to be held")).hint("try again"))
    })
}

/// `coord release`.
pub fn release(cli: &Cli, args: &Select) -> Answer {
    each(cli, "release", args, |queue, me, id| {
        for _ in 0..TRIES {
            let task = look::existing(queue, id)?;
            let n = match task.phase {
                // Added with --hold: the hold becomes a claim, and its end is the release.
                Phase::Pending(n) => {
                    if readiness(queue, &task, n)? != Readiness::Held {
                        return Err(conflict(format!("{id} is not held")));
                    }
                    let key = Key::new(id, n);
                    let Claimed::Won(lease) = seize(queue, me, &key, CardKind::Hold)? else {
                        continue;
                    };
                    let end =
                        End { why: "released".to_owned(), ..End::new(Verdict::Release, true) };
                    end::record(queue, me, &lease, end)?;
                    return end::finish(queue, me, &lease, false);
                }
                Phase::Claimed(n) => n,
                _ => return Err(conflict(format!("{id} is not held"))),
            };
            let kind = tasks::claimer(queue, &task, n)?.map(|c| c.kind);
            if kind != Some(CardKind::Hold) {
                return Err(conflict(format!("{id} is not held: it runs")));
            }
            let end = End { why: "released".to_owned(), ..End::new(Verdict::Release, true) };
            if end_for_another(queue, me, &task, n, end)? {
                return Ok(());
            }
        }
        Err(conflict(format!("{id} changes too fast to be released")).hint("try again"))
    })
}

/// `coord retry`.
pub fn retry(cli: &Cli, args: &Retry) -> Answer {
    each(cli, "retry", &args.tasks, |queue, me, id| {
        let task = look::existing(queue, id)?;
        match task.phase {
            Phase::Failed(n) | Phase::Cancelled(n) => {
                let note = Note::new(&me.wid, queue.now(), &args.note);
                end::reopen(queue, me, &task, n, &note).map(drop)
            }
            Phase::Pending(n) => match readiness(queue, &task, n)? {
                // It waits for its next attempt: not any longer.
                Readiness::Delayed(_) if n > 1 => {
                    let note = Note::new(&me.wid, queue.now(), &args.note);
                    end::reopen(queue, me, &task, n - 1, &note).map(drop)
                }
                _ => Err(conflict(format!("{id} has not failed")).hint(format!("coord why {id}"))),
            },
            _ => Err(conflict(format!("{id} has not failed")).hint(format!("coord why {id}"))),
        }
    })
}

/// Claims a manual task as a person.
fn take_manual(queue: &Queue, me: &mut Proc, id: &str) -> Result<Box<Lease>> {
    for _ in 0..TRIES {
        let task = look::existing(queue, id)?;
        let Phase::Pending(n) = task.phase else {
            return Err(conflict(format!("{id} is not waiting for a person"))
                .hint(format!("coord why {id}")));
        };
        match readiness(queue, &task, n)? {
            Readiness::Manual => {}
            Readiness::Blocked(blockers) => {
                let on: Vec<&str> = blockers.iter().map(|b| b.on.as_str()).collect();
                return Err(conflict(format!("{id} comes after {}", on.join(", ")))
                    .hint(format!("coord why {id}")));
            }
            _ => {
                return Err(conflict(format!("{id} is not a manual task"))
                    .hint("a task with a command is done when its command succeeds"));
            }
        }
        if let Claimed::Won(lease) = seize(queue, me, &Key::new(id, n), CardKind::Human)? {
            return Ok(lease);
        }
    }
    Err(conflict(format!("{id} changes too fast")).hint("try again"))
}

fn finish_manual(queue: &Queue, me: &mut Proc, lease: &Lease, end: End) -> Result<()> {
    let ended = end::record(queue, me, lease, end)?;
    end::finish(queue, me, lease, ended != Ended::Recorded)
}

/// Whether this command runs inside the job of that task.
fn inside(id: &str) -> Option<std::path::PathBuf> {
    let own = std::env::var("COORD_TASK_ID").is_ok_and(|own| own == id);
    if !own { None } else { std::env::var_os("COORD_OUT").map(Into::into) }
}

/// `coord done`.
pub fn done(cli: &Cli, args: &Done) -> Answer {
    let id = place::task_or_own(args.id.as_deref())?;
    let handoff = args.handoff.as_deref().map(read_input).transpose()?;
    let result: Option<serde_json::Value> = match &args.result {
        None => None,
        Some(text) => Some(
            serde_json::from_str(text)
                .map_err(|e| Error::usage(format!("--result is not JSON: {e}")))?,
        ),
    };
    let queue = place::open(cli)?;
    if let Some(out) = inside(&id) {
        // The verdict is the exit status of the job; this leaves what goes with it.
        if let Some(text) = handoff {
            queue.replace(&out.join("handoff.md"), text.as_bytes())?;
        }
        if let Some(value) = result {
            queue.replace(&out.join("result.json"), value.to_string().as_bytes())?;
        }
        output::note(&format!("noted; {id} is done when this job exits with 0"));
        return Ok(None);
    }
    place::with_proc(&queue, |me| {
        let lease = take_manual(&queue, me, &id)?;
        if let Some(text) = handoff {
            let out = queue.layout.out(&lease.key);
            queue.fs.mkdir(&out).cannot("make the output directory", &out)?;
            queue.replace(&out.join("handoff.md"), text.as_bytes())?;
        }
        let why = if args.note.is_empty() { "done by a person" } else { &args.note };
        let mut end = End { why: why.to_owned(), ..End::new(Verdict::Done, false) };
        end.result.value = result.unwrap_or_default();
        finish_manual(&queue, me, &lease, end)
    })?;
    report(cli, "done", &id);
    Ok(None)
}

/// `coord fail`.
pub fn fail(cli: &Cli, args: &Fail) -> Answer {
    let id = place::task_or_own(args.id.as_deref())?;
    let queue = place::open(cli)?;
    if let Some(out) = inside(&id) {
        let verdict = JobVerdict {
            verdict: "fail".to_owned(),
            permanent: args.permanent,
            reason: args.reason.clone(),
        };
        queue.replace(&out.join("verdict.json"), &record::to_bytes(&verdict))?;
        output::note(&format!("noted; this attempt of {id} fails when its job exits"));
        return Ok(None);
    }
    place::with_proc(&queue, |me| {
        let lease = take_manual(&queue, me, &id)?;
        let end = End { why: args.reason.clone(), ..End::new(Verdict::Fail, false) };
        finish_manual(&queue, me, &lease, end)
    })?;
    report(cli, "fail", &id);
    Ok(None)
}

fn report(cli: &Cli, verb: &str, id: &str) {
    if cli.json {
        output::document(&json!({ "schema": format!("coord.{verb}/1"), "ids": [id] }));
    } else {
        output::line(id);
    }
}

fn read_input(file: &str) -> Result<String> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).cannot("read standard input", Path::new("-"))?;
        return Ok(text);
    }
    let bytes = RealFs.read(Path::new(file), 0, 1 << 20).cannot("read a file", Path::new(file))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
