//! `coord chaos`, as a user runs it: it says what it killed and what came of it, touches nothing but
//! its own, and leaves nothing, however it ends.

use std::path::{Path, PathBuf};

use coord::sys::alive::{EnvMark, values_of};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Sandbox, until};

/// A project without a queue, and its own place for temporary files.
fn sandbox() -> (Sandbox, PathBuf) {
    let mut sandbox = Sandbox::bare();
    let temporary = sandbox.beside("tmp");
    std::fs::create_dir(&temporary).unwrap();
    sandbox.set("TMPDIR", temporary.to_str().unwrap());
    (sandbox, temporary)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// The processes of chaos in this directory.
fn programs(below: &Path) -> usize {
    let here = below.to_string_lossy().into_owned();
    let values = values_of("COORD_CHAOS").into_iter().filter(|v| v.contains(&here));
    values.map(|v| EnvMark::variable("COORD_CHAOS", &v).find(&[]).len()).sum()
}

#[test]
fn it_says_what_it_killed_and_leaves_nothing() {
    let (sandbox, temporary) = sandbox();
    let output = sandbox.coord(&["chaos", "--seed", "7", "--minutes", "0.1", "--workers", "3"]);
    output.ok().says("killed ").warns("seed 7, 3 workers");
    let last = output.stdout.lines().last().unwrap();
    assert!(last.starts_with("tasks ") && last.contains("lost 0, doubled 0;"), "{last}");
    assert_eq!((names(&temporary), programs(&temporary)), (Vec::new(), 0));
    assert!(names(&sandbox.root).is_empty(), "it wrote into the project");
}

#[test]
fn a_directory_of_its_own_can_be_looked_at_afterwards() {
    let (sandbox, _) = sandbox();
    let args = ["chaos", "--minutes", "5", "--tasks", "20", "--workers", "3", "--dir", "kept"];
    let output = sandbox.coord(&[&args[..], &["--json"]].concat());
    let document = output.ok().warns("kept: ").json("coord.chaos/1");
    assert!(document["tasks"].as_u64().unwrap() >= 20, "{document}");
    assert_eq!(document["done_once"], document["tasks"]);
    assert_eq!((&document["lost"], &document["doubled"]), (&0.into(), &0.into()));
    assert_eq!(document["fsck"], "clean");
    let listed = sandbox.coord(&["--dir", "kept", "ls", "--quiet"]);
    assert_eq!(listed.ok().stdout.lines().count() as u64, document["tasks"].as_u64().unwrap());
    // A queue of somebody's is no place for it.
    sandbox.coord(&args).fails(5, "throw-away tasks only");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (sandbox, temporary) = sandbox();
    for args in ["--workers=0", "--minutes=0", "--minutes=-1", "--minutes=NaN", "--tasks=0"] {
        let (option, _) = args.split_once('=').unwrap();
        sandbox.coord(&["chaos", args]).fails(2, option);
    }
    assert!(names(&temporary).is_empty());
}

#[test]
fn ctrl_c_ends_it_cleanly() {
    let (sandbox, temporary) = sandbox();
    let child = sandbox.background_into("said", &["chaos", "--minutes", "30", "--workers", "2"]);
    until("something is killed", || sandbox.text("said").contains("killed "));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    sandbox.collect(child).ok();
    let lines = sandbox.lines("said");
    let last = lines.last().unwrap();
    assert!(last.starts_with("tasks ") && last.contains("lost 0, doubled 0;"), "{last}");
    assert_eq!((names(&temporary), programs(&temporary)), (Vec::new(), 0));
}

#[test]
fn what_a_killed_run_leaves_is_cleaned_up_by_the_next() {
    let (sandbox, temporary) = sandbox();
    let child = sandbox.background_into("said", &["chaos", "--minutes", "30", "--workers", "2"]);
    until("something is killed", || sandbox.text("said").contains("killed "));
    let mine: Vec<String> = names(&temporary);
    assert_eq!(mine.len(), 1);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL).unwrap();
    sandbox.collect(child).exits(128 + 9);
    // By the next run here, or by one that another test makes at the same time.
    sandbox.coord(&["chaos", "--tasks", "1", "--workers", "1"]).ok();
    assert_eq!((names(&temporary), programs(&temporary)), (Vec::new(), 0));
}

#[test]
fn jobs_that_hide_do_not_overlap_but_where_nothing_promises_to_find_them() {
    let (sandbox, _) = sandbox();
    let has_groups = !coord::sys::cgroup::planned("probe").is_empty();
    for no_cgroup in [false, true] {
        let mut args =
            vec!["chaos", "--hiding", "--minutes", "2", "--tasks", "16", "--workers", "3"];
        args.extend(["--json"].iter().chain(no_cgroup.then_some(&"--no-cgroup")));
        let output = sandbox.coord(&args);
        let document = output.warns("of 100 jobs leave a process that hides").json("coord.chaos/1");
        assert_eq!(document["doubled"], 0, "{document}");
        if has_groups && !no_cgroup {
            assert_eq!(document["escaped"], 0, "{document}");
        }
    }
}
