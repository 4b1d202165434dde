//! The programs as a user meets them: real processes, real files, exit codes and texts.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests prepare and look at files from outside, as users and broken programs do"
)]

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod array_crashes;
mod arrays;
mod asked_to_leave;
mod bad_entries;
mod bad_inputs;
mod branches_in_use;
mod careful;
mod chaos;
mod copied_queues;
mod crash;
mod crowds;
mod fleet;
mod foreign_text;
mod foreign_things;
mod full_disks;
mod git_elsewhere;
mod git_setup;
mod given;
mod grown;
mod habits;
mod halts;
mod imports;
mod inputs;
mod inside;
mod kept_children;
mod left_behind;
mod life;
mod machine_faults;
mod members;
mod merges;
mod mount;
mod mounted_queues;
mod moved_queues;
mod nothing_lost;
mod outputs;
mod peers;
mod removed_places;
mod repositories;
mod restored_queues;
mod rules;
mod run;
mod run_goes_on;
mod run_limits;
mod scopes;
mod single;
mod standing_still;
mod taken_over;
mod targets;
mod unseen;
mod verdicts;
mod worktree_verbs;
mod worktrees;
mod zombies;
