//! `context`, `progress`: for use inside a job.

use crate::error::{Error, Exit};
use crate::queue::events::{self, Event};
use crate::queue::ids::{Key, attempt_number};
use crate::queue::tasks;
use crate::queue::tasks::Phase;
use crate::run::context;

use super::Answer;
use super::args::{Cli, Maybe, Progress};
use super::{output, place};

/// `coord context`.
pub fn context(cli: &Cli, args: &Maybe) -> Answer {
    let site = place::site(cli)?;
    let id = place::task_or_own(args.id.as_deref())?;
    let task = tasks::existing(&site.queue, &id)?;
    let own = std::env::var("COORD_TASK_ID").is_ok_and(|own| own == id);
    let asked = std::env::var("COORD_ATTEMPT").ok().filter(|_| own);
    let n = asked.and_then(|n| attempt_number(&n)).unwrap_or(match task.phase {
        Phase::Pending(n) | Phase::Claimed(n) => n,
        // What a further attempt would be told, if there is a number left.
        _ => task.names.last().saturating_add(1),
    });
    let brief = context::build(&site, &task, n)?;
    if cli.json {
        output::document(&serde_json::to_value(&brief).unwrap_or_default());
    } else {
        output::line(output::printable(&context::to_text(&brief)).trim_end());
    }
    Ok(None)
}

/// `coord progress`.
pub fn progress(cli: &Cli, args: &Progress) -> Answer {
    let queue = place::open(cli)?;
    let id = place::task_or_own(None)?;
    let n = std::env::var("COORD_ATTEMPT").ok().and_then(|n| attempt_number(&n)).unwrap_or(1);
    let task = tasks::existing(&queue, &id)?;
    if task.phase != Phase::Claimed(n) {
        return Err(Error::new(Exit::Conflict, format!("attempt {n} of {id} is over"))
            .hint("stop working: the task belongs to somebody else now"));
    }
    let first = args.words.first().map(|w| w.trim_end_matches('%')).unwrap_or_default();
    let pct = first.parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
    let words = if pct.is_some() { &args.words[1..] } else { &args.words[..] };
    let event = Event { pct, ..Event::of("progress", &Key::new(&id, n)) }.why(&words.join(" "));
    place::with_proc(&queue, |me| {
        events::append(&queue, me, event);
        Ok(())
    })?;
    Ok(None)
}
