//! Claim-and-complete cycles of coord's own library, with nothing run: `scripts/bench`.
//!
//! `--kind tasks` are tasks as `coord add` makes them, `--kind jobs` the jobs of an array, as of
//! `coord run`. Options and output: processes.rs.
#![expect(clippy::disallowed_methods, reason = "a benchmark works on the machine itself")]

mod arrays;
mod processes;

use std::process::ExitCode;

use coord::queue::claim::{Claimed, claim};
use coord::queue::durable::{self, Durability};
use coord::queue::end::{self, Ended};
use coord::queue::procs::{Identity, Proc};
use coord::queue::ready::Finder;
use coord::queue::record::{CardKind, End, Spec, Verdict};
use coord::queue::roll::Roll;
use coord::queue::{Queue, init, submit};
use coord::sys::host::Platform;

use processes::{Order, Outcome, Tally};

/// As coord.toml has it where nobody says otherwise.
const AGEING: u64 = 20;

fn main() -> ExitCode {
    processes::run(submit_all, work)
}

fn submit_all(order: &Order) -> Outcome<()> {
    match order.kind.as_str() {
        "jobs" => arrays::submit(order),
        "tasks" => submit_tasks(order),
        other => Err(format!("there is no --kind {other}").into()),
    }
}

fn work(order: &Order, begin: &mut dyn FnMut()) -> Outcome<Tally> {
    match order.kind.as_str() {
        "jobs" => arrays::work(order, begin),
        "tasks" => work_on_tasks(order, begin),
        other => Err(format!("there is no --kind {other}").into()),
    }
}

fn submit_tasks(order: &Order) -> Outcome<()> {
    let durability = Durability::of_layout(&order.durability)
        .ok_or_else(|| format!("there is no durability {}", order.durability))?;
    let queue = init::init_as(&order.dir.join("queue"), Platform::real(), durability)?;
    let mut me = Proc::register(&queue, &Identity::plain("submit", CardKind::Cli))?;
    let mut begun = Vec::new();
    for number in 1..=order.jobs {
        let mut spec = Spec::new("");
        spec.argv.push("true".to_owned());
        begun.push(submit::begin(&queue, &mut me, None, spec)?);
        if begun.len() >= submit::batch(&queue) || number == order.jobs {
            submit::acknowledge(&queue, &mut me, std::mem::take(&mut begun), None)?;
        }
    }
    me.leave(&queue);
    Ok(())
}

fn work_on_tasks(order: &Order, begin: &mut dyn FnMut()) -> Outcome<Tally> {
    let queue = Queue::open(&order.dir.join("queue"), Platform::real())?;
    let mut me = Proc::register(&queue, &Identity::plain("work", CardKind::Worker))?;
    let mut finder = Finder::new(&[], AGEING, 0);
    let share = order.share(order.worker.unwrap_or_default());
    let mut tally = Tally::default();
    begin();
    let (mut roll, mut won_in_this_pass) = (Roll::default(), true);
    while tally.jobs < share {
        // As a worker whose attempts take no time.
        roll.call(&queue, &me)?;
        finder.hurry(Some(&roll));
        let Some(candidate) = finder.next(&queue)? else {
            if !std::mem::take(&mut won_in_this_pass) {
                break;
            }
            continue;
        };
        match claim(&queue, &mut me, &candidate, |_| true)? {
            Claimed::Won(lease) => {
                finder.won();
                won_in_this_pass = true;
                let ended = end::record(&queue, &mut me, &lease, End::new(Verdict::Done, false))?;
                end::finish(&queue, &mut me, &lease, ended != Ended::Recorded)?;
                durable::events(&queue, &mut me, false);
                tally.jobs += 1;
            }
            // Somebody was faster, as the claim showed,
            Claimed::Lost => {
                finder.lost();
                tally.lost += 1;
            }
            // or the look before it.
            Claimed::Stale => {
                finder.gone();
                tally.lost += 1;
            }
            Claimed::Unsuited | Claimed::Busy | Claimed::Array(_) => {}
            Claimed::Dead => return Err("declared dead".into()),
        }
    }
    durable::events(&queue, &mut me, true);
    me.leave(&queue);
    Ok(tally)
}
