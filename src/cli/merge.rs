//! `coord merge` and `coord mergeq`: what waits to be merged, and merging it.

use std::sync::Arc;

use serde_json::json;

use crate::error::{Cannot, Error, Exit, Result};
use crate::program::fleet;
use crate::program::start::{ensure_marked, work as run_worker};
use crate::program::worker::{Left, Options};
use crate::queue::ids::{Key, lane_name, short};
use crate::queue::procs::Proc;
use crate::queue::record::{CardKind, Note, Stage, StageVerdict};
use crate::queue::settle::settle;
use crate::queue::state::state;
use crate::queue::tasks::{self, Phase, StageKind};
use crate::queue::{Queue, control, decide, end, lane};
use crate::run::merge::preview::{Outlook, preview};
use crate::run::merge::{SUMMARY, is_left_behind, take_turn};
use crate::run::pool::Pool;
use crate::run::site::Site;
use crate::run::vigil;

use super::Answer;
use super::args::{Cli, Merge, Mergeq};
use super::{output, place};

/// `coord merge`.
pub fn merge(cli: &Cli, args: &Merge) -> Answer {
    ensure_marked();
    let mut site = place::site(cli)?;
    site.must_work()?;
    if args.dry_run {
        return list(cli, &site);
    }
    for id in &args.select {
        let task = tasks::existing(&site.queue, id)?;
        if !matches!(task.phase, Phase::Stage(_, StageKind::Merge)) {
            let state = state(&site.queue, &task)?.word();
            let what = format!("{id} does not wait to be merged: it is {state}");
            return Err(Error::new(Exit::Conflict, what).hint(format!("coord why {id}")));
        }
    }
    if !args.select.is_empty() {
        let mut config = (*site.config).clone();
        config.env.insert("COORD_MERGE_ONLY".to_owned(), args.select.join(" "));
        site.config = Arc::new(config);
    }
    if lane::is_paused(&site.queue) {
        output::note("merging is paused: coord mergeq resume");
        return Ok(None);
    }
    // What waits after a turn that could not do its work is tried at once. And where nothing waits, a
    // turn may still have to bring a worktree along, or to push what an earlier one could not.
    let pushes = !site.config.merge.push.is_empty();
    place::with_proc(&site.queue, |me| {
        lane::ids(&site.queue)?.iter().try_for_each(|lane| {
            hurry(&site.queue, me, lane, pushes || is_left_behind(&site.queue, lane))
        })
    })?;
    if let Some(Turn { lane, who, .. }) = holder(&site.queue)? {
        output::note(&format!("{who} is merging already: coord logs -f {lane}"));
        return Ok(None);
    }
    let options = Options {
        name: "merge".to_owned(),
        roles: vec![lane::ROLE.to_owned()],
        once: true,
        // Others may wait that nobody named.
        max_tasks: (!args.select.is_empty()).then_some(1),
        tell: (!cli.quiet).then_some(output::note as fn(&str)),
        ..Options::default()
    };
    // The turn may have been that of a lane in which none of those waits that were named.
    let turns = if args.select.is_empty() { 1 } else { lane::ids(&site.queue)?.len() * 2 };
    for _ in 0..turns {
        if run_worker(&site, options.clone())? == Left::Nothing {
            output::note("nothing is left to merge now");
            break;
        }
        if !waits_any(&site.queue, &args.select)? {
            break;
        }
    }
    Ok(None)
}

/// Lets those that were cancelled while they waited to be merged come back: the next turn does that, here
/// and now where nobody else works.
pub(super) fn give_back(cli: &Cli, ids: &[String]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let site = place::site(cli)?;
    let queue = &site.queue;
    if Pool::of(&site).is_none() && site.repo.refusal(&site.root).is_none() {
        // Without a repository nothing can have been merged, nor can anybody take a turn.
        return place::with_proc(queue, |me| {
            for id in ids {
                let Phase::Stage(n, _) = tasks::existing(queue, id)?.phase else { continue };
                let why = "cancelled; there is no git repository to merge it in";
                let stage = Stage { retry: true, ..Stage::new(StageVerdict::Bounce, why) };
                lane::decide(queue, me, &Key::new(id, n), stage)?;
            }
            Ok(())
        });
    }
    place::with_proc(queue, |me| hurry_all(queue, me))?;
    if lane::is_paused(queue) || !fleet::workers(queue).is_empty() || holder(queue)?.is_some() {
        output::note("the next turn to merge gives it back (coord mergeq ls)");
        return Ok(());
    }
    let waits = |id: &String| {
        let task = tasks::existing(queue, id)?;
        Ok::<_, Error>(matches!(task.phase, Phase::Stage(_, StageKind::Merge)))
    };
    let mut select = Vec::new();
    for id in ids {
        if waits(id)? {
            select.push(id.clone());
        }
    }
    if select.is_empty() {
        return Ok(());
    }
    merge(cli, &Merge { select, dry_run: false }).map(drop)
}

/// Lets the next turn of every lane begin now, whatever pause the last one asked for.
pub(super) fn hurry_all(queue: &Queue, me: &mut Proc) -> Result<()> {
    lane::ids(queue)?.iter().try_for_each(|lane| hurry(queue, me, lane, false))
}

/// Whether any of these tasks could be merged now.
fn waits_any(queue: &Queue, ids: &[String]) -> Result<bool> {
    for id in ids {
        let task = tasks::existing(queue, id)?;
        if let Phase::Stage(n, StageKind::Merge) = task.phase
            && lane::entry(queue, &Key::new(id, n))?.is_some_and(|entry| entry.is_free())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A turn that somebody takes now.
struct Turn {
    lane: String,
    who: String,
    /// What git, or the check, is at.
    waiting: Option<String>,
}

fn holder(queue: &Queue) -> Result<Option<Turn>> {
    for id in lane::ids(queue)? {
        let Some(task) = tasks::seen(queue, &id)? else { continue };
        if let Phase::Claimed(n) = task.phase {
            let card = tasks::claimer(queue, &task, n)?;
            let who = card.map_or("somebody".to_owned(), |c| short(&c.wid).to_owned());
            let waiting = vigil::waiting(queue, &Key::new(&id, n));
            return Ok(Some(Turn { lane: id, who, waiting: waiting.map(|w| w.words(queue)) }));
        }
    }
    Ok(None)
}

/// `coord mergeq`.
pub fn mergeq(cli: &Cli, args: &Mergeq) -> Answer {
    match args {
        Mergeq::Ls => list(cli, &place::site(cli)?),
        Mergeq::Pause => {
            control::ask(&place::open(cli)?, lane::PAUSE)?;
            output::note("nothing more is merged: coord mergeq resume");
            Ok(None)
        }
        Mergeq::Resume => {
            let queue = place::open(cli)?;
            control::withdraw(&queue, lane::PAUSE)?;
            place::with_proc(&queue, |me| hurry_all(&queue, me))?;
            Ok(None)
        }
        Mergeq::Retry { id } => {
            let queue = place::open(cli)?;
            place::with_proc(&queue, |me| match tasks::existing(&queue, id)?.phase {
                Phase::Stage(_, StageKind::Merge) => hurry_all(&queue, me),
                _ => decide::retry(&queue, me, id, "its merge is tried again"),
            })?;
            Ok(None)
        }
        Mergeq::Turn { lane } => turn(cli, lane),
    }
}

/// Lets the next turn of a lane begin now, whatever pause the last one asked for; if `anyway`, also
/// where nothing waits.
fn hurry(queue: &Queue, me: &mut Proc, lane: &str, anyway: bool) -> Result<()> {
    let Some(task) = tasks::look(queue, lane)? else { return Ok(()) };
    if let Phase::Pending(n) = task.phase
        && n > 1
        && (anyway || task.last_end.as_ref().is_some_and(|end| end.not_before.is_some()))
    {
        let note = Note::new(&me.wid, queue.now(), "somebody asked for it");
        return end::reopen(queue, me, &task, n - 1, &note).map(drop);
    }
    let intent = me.settle_intent(queue, lane)?;
    settle(queue, me, lane)?;
    queue.discard(&intent)
}

fn list(cli: &Cli, site: &Site) -> Answer {
    let mut rows = Vec::new();
    let mut documents = Vec::new();
    let mut targets = Vec::new();
    for id in lane::ids(&site.queue)? {
        let (into, seen) = preview(site, &id)?;
        for (entry, outlook) in seen {
            let (word, what) = match &outlook {
                Outlook::Clean => ("clean", String::new()),
                Outlook::Nothing => ("empty", "changes nothing".to_owned()),
                Outlook::Waits(on) => ("waits", format!("for {}", on.join(", "))),
                Outlook::Conflict(paths) => ("conflict", paths.join(", ")),
                Outlook::Stuck(why) => ("stuck", why.clone()),
            };
            documents.push(json!({
                "id": entry.key.task, "attempt": entry.key.n, "into": into,
                "outlook": word, "what": what, "bounces": entry.bounces,
                "branch": entry.end.result.branch, "commit": entry.end.result.commit,
            }));
            let what = if what.is_empty() { word.to_owned() } else { format!("{word}: {what}") };
            let back = if entry.bounces > 0 {
                format!("came back {}×", entry.bounces)
            } else {
                String::new()
            };
            rows.push(vec![
                (rows.len() + 1).to_string(),
                entry.key.to_string(),
                output::cut(&entry.spec.title, 40),
                what,
                back,
            ]);
        }
        targets.extend((!into.is_empty()).then_some(into));
    }
    let paused = lane::is_paused(&site.queue);
    let now = holder(&site.queue)?;
    if cli.json {
        output::document(&json!({
            "schema": "coord.mergeq/1", "paused": paused, "waiting": documents,
            "merging": now.as_ref().map(|turn| &turn.who),
            "waits_for": now.as_ref().and_then(|turn| turn.waiting.as_ref()),
        }));
        return Ok(None);
    }
    if cli.quiet {
        documents.iter().filter_map(|d| d["id"].as_str()).for_each(output::line);
        return Ok(None);
    }
    output::columns(&rows);
    let into =
        if targets.is_empty() { "a branch that is missing".to_owned() } else { targets.join(", ") };
    let state = match (paused, now) {
        (true, _) => "paused: coord mergeq resume".to_owned(),
        (_, Some(Turn { who, waiting: None, .. })) => format!("{who} is merging"),
        (_, Some(Turn { who, waiting: Some(what), .. })) => format!("{who} is merging: {what}"),
        _ if rows.is_empty() => "nothing waits to be merged".to_owned(),
        _ => format!("{} to be merged into {into}", rows.len()),
    };
    output::note(&state);
    Ok(None)
}

/// One turn, for the worker that has claimed it.
fn turn(cli: &Cli, lane: &str) -> Answer {
    let site = place::site(cli)?;
    let wrong = || Error::usage("a turn is taken by a worker: coord merge");
    let attempt = std::env::var("COORD_ATTEMPT").ok().and_then(|n| n.parse().ok());
    let token = std::env::var("COORD_TOKEN").unwrap_or_default();
    let (Some(n), Some(_)) = (attempt, lane_name(lane)) else { return Err(wrong()) };
    let key = Key::new(lane, n);
    let task = tasks::existing(&site.queue, lane)?;
    let claimer = tasks::claimer(&site.queue, &task, n)?;
    let ours = claimer.is_some_and(|card| {
        card.kind == CardKind::Worker && token == format!("{key}@{}", card.wid)
    });
    if !ours || task.names.ends.contains(&n) {
        return Err(Error::new(Exit::Conflict, format!("{key} is not this process's turn")));
    }
    let summary = place::with_proc(&site.queue, |me| take_turn(&site, me, &key))?;
    let path = site.queue.layout.out(&key).join(SUMMARY);
    let bytes = serde_json::to_vec_pretty(&summary).unwrap_or_default();
    site.queue.fs.create(&path, &bytes, 0o644).cannot("write what the turn came to", &path)?;
    output::line(&summary.words());
    Ok(None)
}
