//! The branch is pushed to a bare repository, where somebody else pushes too.

use crate::person::Person;
use crate::scene::Strategy;
use crate::stage::{Stage, WORKERS, Wish};
use crate::tasks::TWENTY_FOUR;

/// Pushes of the other person.
const PUSHES: usize = 6;

#[test]
fn with_a_remote_nothing_of_either_side_is_lost() {
    let stage = Stage::set(Wish {
        plan: TWENTY_FOUR,
        seed: 31,
        strategy: Strategy::Merge,
        batch: 4,
        kills: false,
        push: true,
        least_bounces: TWENTY_FOUR.pairs,
    });
    let person = Person::join(&stage.sandbox, &stage.sandbox.beside("origin.git"));
    // One more comes when the last push is done: only a merge brings the remote's branch here.
    let is_last = stage.tasks.iter().position(|t| t.id == "B00").unwrap();
    let mut now = stage.tasks.clone();
    let last = now.remove(is_last);
    stage.add(&now);
    stage.sandbox.start(WORKERS);
    let person = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| person.push_often(PUSHES));
        stage.wait(1);
        pushing.join().unwrap()
    });
    stage.add(&[last]);
    stage.wait(1);
    assert_eq!(person.patches.len(), PUSHES);
    stage.judge(Some(&person));
}
