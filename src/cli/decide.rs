//! `cancel`, `hold`, `release`, `retry`, `done`, `fail`: what people decide about tasks.
//!
//! A person's decision about a pending attempt competes for its claim like any worker, so there is
//! no moment in which both win.

use std::io::Read;
use std::path::Path;

use serde_json::json;

use crate::error::{Cannot, Error, Result};
use crate::queue::Queue;
use crate::queue::claim::{Claimed, Lease, seize};
use crate::queue::decide::{self, How, TRIES, conflict};
use crate::queue::end::{self, Ended};
use crate::queue::evaluate::{Readiness, readiness};
use crate::queue::ids::{Key, short};
use crate::queue::procs::Proc;
use crate::queue::record::{self, CardKind, End, Verdict};
use crate::queue::tasks::{self, Phase, StageKind};
use crate::run::outcome::JobVerdict;
use crate::sys::fs::{Fs, RealFs};

use super::Answer;
use super::args::{Cancel, Cli, Done, Fail, Retry, Select};
use super::{arrays, look, merge, output, place};

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
    // What ends work may have the reserve of a full disk.
    let ends = verb == "cancel";
    let body = |me: &mut Proc| {
        for id in &ids {
            let mut once = || act(&queue, me, id);
            match if ends { place::in_need(&queue, once) } else { once() } {
                Ok(()) => done.push(id.clone()),
                Err(e) if refused.is_none() => refused = Some(e),
                Err(e) => output::note(&format!("error: {e}")),
            }
        }
        Ok(())
    };
    if ends {
        place::with_proc_in_need(&queue, body)?;
    } else {
        place::with_proc(&queue, body)?;
    }
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
    let how = if args.force { How::Force } else { How::Ask };
    let mut merging = Vec::new();
    let answer = each(cli, "cancel", &args.tasks, |queue, me, id| {
        let waits = waits_to_be_merged(queue, id)?;
        // Of an array, jobs may have run.
        let is_array = tasks::look(queue, id)?.is_some_and(|task| arrays::of(&task).is_some());
        let reason = if is_array && args.reason.is_empty() { "cancelled" } else { &args.reason };
        decide::cancel(queue, me, id, how, reason, |card| {
            output::note(&format!("{id}: {} was asked to stop", short(&card.wid)));
        })?;
        merging.extend(waits.then(|| id.to_owned()));
        Ok(())
    });
    merge::give_back(cli, &merging)?;
    answer
}

fn waits_to_be_merged(queue: &Queue, id: &str) -> Result<bool> {
    let task = tasks::look(queue, id)?;
    Ok(task.is_some_and(|task| matches!(task.phase, Phase::Stage(_, StageKind::Merge))))
}

/// `coord hold`.
pub fn hold(cli: &Cli, args: &Select) -> Answer {
    each(cli, "hold", args, decide::hold)
}

/// `coord release`.
pub fn release(cli: &Cli, args: &Select) -> Answer {
    each(cli, "release", args, decide::release)
}

/// `coord retry`.
pub fn retry(cli: &Cli, args: &Retry) -> Answer {
    each(cli, "retry", &args.tasks, |queue, me, id| {
        if waits_to_be_merged(queue, id)? {
            return merge::hurry_all(queue, me);
        }
        decide::retry(queue, me, id, &args.note)
    })
}

/// Claims a manual task as a person.
fn take_manual(queue: &Queue, me: &mut Proc, id: &str) -> Result<Box<Lease>> {
    for _ in 0..TRIES {
        let task = tasks::existing(queue, id)?;
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
        if cli.json {
            report(cli, "done", &id);
        }
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
        if cli.json {
            report(cli, "fail", &id);
        }
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
