//! Who joins a run that somebody else has begun gets a number of its own above the places of the run's
//! workers: `tasks/T/jobs/joined.J`, a link to its card. The number is never given again.

use std::path::Path;

use crate::error::{Cannot, Result};
use crate::step;

use super::super::Queue;
use super::super::procs::Proc;
use super::super::record::{self, Card};
use super::super::register::{Source, publish};

/// Joins the array whose jobs are in `home`. Returns the number of this process among those who have.
pub fn join(queue: &Queue, me: &mut Proc, home: &Path) -> Result<u32> {
    let dir = queue.fs.open_dir(home).cannot("open the directory of an array", home)?;
    let names = queue.list(home)?;
    let mut number = names.iter().filter_map(|entry| parse(&entry.name)).max().unwrap_or(0) + 1;
    let place = me.place(queue)?;
    let kind = me.card.kind;
    let card = me.card_for(queue, kind)?;
    loop {
        let ours = |bytes: &[u8]| record::parse::<Card>(bytes).is_ok_and(|c| c.wid == me.wid);
        step!("jobs.join");
        let name = format!("joined.{number}");
        if publish(queue, Source::of(&place, &card), &dir, &name, ours)?.is_ours() {
            return Ok(number);
        }
        number += 1;
    }
}

fn parse(name: &str) -> Option<u32> {
    name.strip_prefix("joined.")?.parse().ok()
}
