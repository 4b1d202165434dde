//! Sixty tasks at once: what fits is merged once, rivals make way for each other, and what breaks the
//! tests never arrives.

use crate::is_full;
use crate::scene::Strategy;
use crate::stage::{Stage, WORKERS, Wish};
use crate::tasks::SIXTY;

fn run(strategy: Strategy, batch: u32, seed: u64) {
    let stage = Stage::set(Wish {
        plan: SIXTY,
        seed,
        strategy,
        batch,
        kills: false,
        push: false,
        least_bounces: SIXTY.pairs,
    });
    stage.add(&stage.tasks);
    stage.sandbox.start(WORKERS);
    stage.wait(1);
    stage.judge(None);
}

#[test]
fn sixty_tasks_are_merged_once_and_the_branch_stays_green() {
    run(Strategy::Merge, 4, 11);
}

// In the other ways only in the large size: `ways` has small ones. There each commit is tested by
// itself, so each commit of the branch must be green.

#[test]
fn sixty_tasks_are_squashed() {
    if is_full() {
        run(Strategy::Squash, 1, 12);
    }
}

#[test]
fn sixty_tasks_are_replayed() {
    if is_full() {
        run(Strategy::Rebase, 1, 13);
    }
}
