//! `--kind jobs`: the jobs of an array, as `coord run` has them, with nothing run.

use coord::queue::array::take::{Next, Taker};
use coord::queue::array::{self, CHUNK, job, list};
use coord::queue::durable::Durability;
use coord::queue::procs::{Identity, Proc};
use coord::queue::record::{Array, CardKind, Line, Spec};
use coord::queue::{Queue, init, submit};
use coord::sys::host::Platform;

use super::processes::{Order, Outcome, Tally};

fn id(order: &Order) -> String {
    format!("jobs-{}", order.first)
}

pub fn submit(order: &Order) -> Outcome<()> {
    let durability = Durability::of_layout(&order.durability)
        .ok_or_else(|| format!("there is no durability {}", order.durability))?;
    let queue = init::init_as(&order.dir.join("queue"), Platform::real(), durability)?;
    let mut me = Proc::register(&queue, &Identity::plain("submit", CardKind::Cli))?;
    let mut spec = Spec::new("");
    let command = vec!["true".to_owned()];
    spec.array = Some(Array { command, tries: 1, ..Array::default() });
    let id = id(order);
    submit::submit(&queue, &mut me, Some(&id), spec)?;
    let (mut start, mut lines) = (1, Vec::new());
    for number in 1..=order.jobs {
        lines.push(list::line(&Ok(vec![number.to_string()])));
        if lines.len() == CHUNK || number == order.jobs {
            list::append(&queue, &me, &id, start, &lines)?;
            start += lines.len() as u64;
            lines.clear();
        }
    }
    list::close(&queue, &me, &id, 0, order.jobs)?;
    me.leave(&queue);
    Ok(())
}

pub fn work(order: &Order, begin: &mut dyn FnMut()) -> Outcome<Tally> {
    let queue = Queue::open(&order.dir.join("queue"), Platform::real())?;
    let mut me = Proc::register(&queue, &Identity::plain("work", CardKind::Worker))?;
    let id = id(order);
    let home = array::home(&queue, &id);
    array::ensure_home(&queue, &home)?;
    let log = queue.fs.open_log(&home.join(format!("{}.log", me.wid)))?;
    let opened = queue.fs.open_dir(&home)?;
    let mut taker = Taker::new(&id, &home, 0);
    let share = order.share(order.worker.unwrap_or_default());
    let mut tally = Tally::default();
    begin();
    while tally.jobs < share {
        let (number, n) = match taker.next(&queue, &mut me, false)? {
            Next::Job(number, n) => (number, n),
            Next::Nothing | Next::Over => break,
            Next::Dead => return Err("declared dead".into()),
        };
        let chunk = taker.chunk().ok_or("a job without a chunk")?;
        if chunk.arguments(number).is_empty() {
            return Err("a job without arguments".into());
        }
        job::succeed(&queue, &mut me, chunk, (number, n), 0)?;
        let line = Line {
            job: number,
            n,
            end: "done".to_owned(),
            code: Some(0),
            at: queue.clock.wall_ms(),
            ..Line::default()
        };
        job::tell(&queue, &log, &line)?;
        queue.ring_in(&opened, array::PROGRESS);
        tally.jobs += 1;
    }
    tally.lost = taker.lost;
    taker.leave(&queue, &mut me)?;
    me.leave(&queue);
    Ok(tally)
}
