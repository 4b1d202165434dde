//! What an attempt should know: its task, what its dependencies left, and why earlier attempts
//! failed. Built from the registers, so it is the same whoever asks.

use serde::Serialize;
use serde_json::Value;

use crate::error::Result;
use crate::git::repository::wip_ref;
use crate::git::wip;
use crate::queue::evaluate::dependency;
use crate::queue::ids::Key;
use crate::queue::record::{End, Spec, Stage, StageVerdict, Verdict};
use crate::queue::tasks::{self, Task};
use crate::queue::{Queue, archive};

use super::pool::Pool;
use super::pool::chain::Record;
use super::reapply::Reapplied;
use super::site::Site;
use super::worktree::{Workplace, repository};

/// The task, as its worker sees it.
#[derive(Debug, Serialize)]
pub struct Subject {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its prompt.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prompt: String,
}

/// What a dependency left.
#[derive(Debug, Serialize)]
pub struct Dependency {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: String,
    /// Branch of its accepted attempt.
    pub branch: String,
    /// The commit that it ended with.
    pub commit: String,
    /// Its handoff note.
    pub handoff: String,
    /// Its result.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub result: Value,
}

/// An earlier attempt.
#[derive(Debug, Serialize)]
pub struct Previous {
    /// Its number.
    pub attempt: u32,
    /// How it ended.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
    /// The last of its output.
    pub context: String,
    /// Its branch.
    pub branch: String,
    /// The ref that holds what was not on its branch.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wip: String,
    /// A worktree that still holds what could not be saved.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub worktree: String,
    /// The result that it reported after it had been given up.
    pub late: Option<End>,
    /// Why it came back from its merge, and what to know for the next try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned: Option<Stage>,
}

/// The whole brief.
#[derive(Debug, Serialize)]
pub struct Context {
    /// Name and version of this document.
    pub schema: &'static str,
    /// The task.
    pub task: Subject,
    /// The attempt that is asked about.
    pub attempt: u32,
    /// Notes that people gave with a retry, newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What it comes after.
    pub after: Vec<Dependency>,
    /// Earlier attempts, in order.
    pub previous: Vec<Previous>,
    /// What came back from its merge and is in the worktree of this attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reapplied: Option<Reapplied>,
}

/// The word for a phase where only a word is wanted.
fn state_word(task: &Task) -> String {
    use tasks::Phase;
    match &task.phase {
        Phase::NoSpec => "unknown",
        Phase::Corrupt(_) => "corrupt",
        Phase::Pending(_) => "pending",
        Phase::Claimed(_) => "running",
        Phase::Stage(..) => "review",
        Phase::Done(_) => "done",
        Phase::Failed(_) => "failed",
        Phase::Cancelled(_) => "cancelled",
    }
    .to_owned()
}

/// Text of a file in an attempt's output directory; empty where there is none.
pub fn out_file(queue: &Queue, key: &Key, name: &str, limit: usize) -> String {
    match queue.fs.read(&archive::out(queue, key).join(name), 0, limit) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// The handoff note of an attempt. That a job of another user has made one which only that user may read is
/// said in its place.
fn handoff(queue: &Queue, key: &Key) -> String {
    let path = archive::out(queue, key).join("handoff.md");
    match queue.fs.read(&path, 0, 1) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            format!("(only its owner may read {})", path.display())
        }
        _ => out_file(queue, key, "handoff.md", 16 << 10),
    }
}

/// Where an attempt ran.
pub fn workplace(queue: &Queue, key: &Key) -> Workplace {
    serde_json::from_str(&out_file(queue, key, "workplace.json", 1 << 16)).unwrap_or_default()
}

/// Builds the brief for attempt `n`.
pub fn build(site: &Site, task: &Task, n: u32) -> Result<Context> {
    let queue = &site.queue;
    let spec = task.spec.clone().unwrap_or_default();
    let mut after = Vec::new();
    for entry in &spec.after {
        after.push(dependency_of(queue, dependency(entry).0)?);
    }
    let mut previous = Vec::new();
    let mut notes = Vec::new();
    for &k in task.names.claims.range(1..n) {
        let key = Key::new(&task.id, k);
        let late = task.names.lates.contains(&k);
        let reopen: std::result::Result<crate::queue::record::Note, _> =
            tasks::read(queue, &task.dir, &format!("{k}.reopen"))?;
        if let Ok(note) = reopen
            && !note.why.is_empty()
        {
            notes.push(note.why);
        }
        let end = tasks::end_of(queue, task, k)?;
        let place = workplace(queue, &key);
        let (wip, worktree) = leftovers(site, task, &key, &end)?;
        let tried = late || end.exit.code.is_some() || !wip.is_empty() || !worktree.is_empty();
        if end.verdict == Verdict::Release && !tried {
            // Handed back or held: nothing was tried that the next attempt could learn from.
            continue;
        }
        previous.push(Previous {
            attempt: k,
            verdict: end.verdict,
            why: end.why,
            context: if end.context.is_empty() { tail(queue, &key) } else { end.context },
            branch: if end.result.branch.is_empty() { place.branch } else { end.result.branch },
            wip,
            worktree,
            returned: tasks::merge_of(queue, task, k)?
                .filter(|stage| stage.verdict == StageVerdict::Bounce),
            late: if late {
                tasks::read(queue, &task.dir, &format!("{k}.late"))?.ok()
            } else {
                None
            },
        });
    }
    let Spec { title, prompt, .. } = spec;
    Ok(Context {
        schema: "coord.context/1",
        task: Subject { id: task.id.clone(), title, prompt },
        attempt: n,
        notes,
        after,
        previous,
        reapplied: workplace(queue, &Key::new(&task.id, n)).reapplied,
    })
}

/// Where work of an attempt is that is not on its branch: the ref, and a worktree that was kept. A
/// dead worker could not tell; then the ref is looked for, and the slot that still has the work.
pub fn leftovers(site: &Site, task: &Task, key: &Key, end: &End) -> Result<(String, String)> {
    let result = &end.result;
    let mut found = (result.wip.clone(), result.worktree.clone());
    if !result.branch.is_empty() {
        return Ok(found);
    }
    let (Some(git), Some(pool)) = (repository(site), Pool::of(site)) else { return Ok(found) };
    if let Some(claimer) = tasks::claimer(&site.queue, task, key.n)? {
        let refs = wip::find(&git, &wip_ref(&key.task, key.n))?;
        let own = refs.into_iter().rev().find(|(_, by)| *by == claimer.wid);
        found.0 = own.map(|(name, _)| name).unwrap_or_default();
    }
    let holds = |record: &Record| {
        record.assigned.as_ref().is_some_and(|of| {
            of.task == key.task && of.n == key.n && of.queue == site.queue.layout.root()
        })
    };
    if let Some(record) = pool.all()?.iter().find(|record| holds(record)) {
        found.1 = pool.top(&record.slot).to_string_lossy().into_owned();
    }
    Ok(found)
}

fn dependency_of(queue: &Queue, id: &str) -> Result<Dependency> {
    let mut found = Dependency {
        id: id.to_owned(),
        state: "unknown".to_owned(),
        branch: String::new(),
        commit: String::new(),
        handoff: String::new(),
        result: Value::Null,
    };
    let Some(task) = tasks::look(queue, id)? else { return Ok(found) };
    found.state = state_word(&task);
    let done =
        tasks::ends(queue, &task)?.into_iter().rev().find(|(_, e)| e.verdict == Verdict::Done);
    if let Some((k, end)) = done {
        found.handoff = handoff(queue, &Key::new(id, k));
        found.branch = end.result.branch;
        found.commit = end.result.commit;
        found.result = end.result.value;
    }
    Ok(found)
}

/// The last 4 KiB of an attempt's log.
pub fn tail(queue: &Queue, key: &Key) -> String {
    const TAIL: u64 = 4096;
    let path = queue.layout.out(key).join("log");
    let Ok(stat) = queue.fs.stat(&path) else { return String::new() };
    let from = stat.len.saturating_sub(TAIL);
    let Ok(bytes) = queue.fs.read(&path, from, 4096) else { return String::new() };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match text.split_once('\n') {
        // The first line is cut in the middle when the log is longer.
        Some((_, rest)) if from > 0 => rest.to_owned(),
        _ => text,
    }
}

/// The brief for people and prompts.
pub fn to_text(context: &Context) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let mut line = |s: String| {
        // Writing into memory cannot fail.
        let _ = writeln!(text, "{s}");
    };
    line(format!("task {}: {} (attempt {})", context.task.id, context.task.title, context.attempt));
    if !context.task.prompt.is_empty() {
        line(format!("\n{}", context.task.prompt.trim_end()));
    }
    for note in &context.notes {
        line(format!("\nnote: {note}"));
    }
    if let Some(reapplied) = &context.reapplied {
        line(format!("\n{}", reapplied.words()));
    }
    for d in &context.after {
        line(format!("\nafter {}: {}", d.id, d.state));
        if !d.branch.is_empty() {
            line(format!("  branch {} at {}", d.branch, d.commit));
        }
        if !d.handoff.trim().is_empty() {
            line(format!("  handoff:\n{}", indent(d.handoff.trim_end())));
        }
    }
    for p in &context.previous {
        line(format!("\nattempt {} ended: {} ({})", p.attempt, p.verdict.word(), p.why));
        if !p.branch.is_empty() {
            line(format!("  its work is on branch {}", p.branch));
        }
        if !p.wip.is_empty() {
            let (n, wip) = (p.attempt, &p.wip);
            line(format!("  uncommitted work of attempt {n} is saved in {wip} (git show {wip})"));
        }
        if !p.worktree.is_empty() {
            line(format!("  what could not be saved is in its worktree {}", p.worktree));
        }
        if !p.context.trim().is_empty() {
            line(format!("  the last it printed:\n{}", indent(p.context.trim_end())));
        }
        if let Some(back) = &p.returned {
            line(format!("  it was done and came back from its merge: {}", back.why));
            line("  this attempt starts from the branch as it is now".to_owned());
            if !back.context.trim().is_empty() {
                line(format!("  what was found:\n{}", indent(back.context.trim_end())));
            }
        }
        if let Some(late) = &p.late {
            let (verdict, branch) = (late.verdict.word(), &late.result.branch);
            let at = if branch.is_empty() {
                String::new()
            } else {
                format!(", branch {branch} at {}", late.result.commit)
            };
            line(format!("  after it was given up it still reported: {verdict}{at}"));
            if !late.result.wip.is_empty() && late.result.wip != p.wip {
                line(format!("  and left uncommitted work in {0} (git show {0})", late.result.wip));
            }
        }
    }
    text
}

fn indent(text: &str) -> String {
    text.lines().map(|l| format!("    {l}")).collect::<Vec<_>>().join("\n")
}
