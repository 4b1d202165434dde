//! The merge queue before a real code base: tasks that edit it, conflict and break its tests, programs
//! that are killed meanwhile, and people who push. What is believed afterwards is what git says.
//!
//! | module | what it has |
//! |---|---|
//! | [`ground`] | the code base: a published crate with its own tests, and places for changes |
//! | [`tasks`] | the changes: scripts of shell that edit and commit |
//! | [`scene`] | what is looked at in the end |
//! | [`checks`] | what must be true of the history in the end |
//! | [`orphans`] | what nobody may leave behind |
//! | [`byhand`] | a merge queue of git commands, to try the tasks and the checks without the product |
//! | [`broken`] | histories with one fault each, which the checks must find |
//! | [`stage`] | the product on the ground, and all checks in the end |
//! | [`person`] | somebody with a clone of their own, who pushes to the same branch |
//! | [`many`], [`chaos`], [`remote`] | the tests of the product |
//! | [`desk`] | a small repository, for tests of one thing at a time |
//! | [`bounces`], [`resolve`], [`order`], [`checking`], [`ways`], [`along`], [`words`] | those tests |
//!
//! `COORD_STRESS=full` asks for the large sizes.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests prepare and look at files from outside, as users and broken programs do"
)]

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "it serves several test programs")]
mod support;

mod along;
mod bounces;
mod broken;
mod byhand;
mod chaos;
mod checking;
mod checks;
mod desk;
mod ground;
mod many;
mod order;
mod orphans;
mod person;
mod remote;
mod resolve;
mod scene;
mod stage;
mod tasks;
mod ways;
mod words;

/// Whether the large sizes are wanted.
fn is_full() -> bool {
    std::env::var("COORD_STRESS").is_ok_and(|size| size == "full")
}
