use super::*;
use crate::queue::procs::Identity;
use crate::sys::fs::{Fs, RealFs};
use crate::sys::host::Platform;

#[test]
fn deaths_are_charged_to_a_task_and_not_to_a_lane() {
    let dir = tempfile::tempdir().unwrap();
    let queue = crate::queue::init::init(&dir.path().join("q"), Platform::real()).unwrap();
    let me = Proc::register(&queue, &Identity::plain("m", CardKind::Monitor)).unwrap();
    let card = record::to_bytes(&me.card);
    for (id, permitted) in [("t", false), ("merge:default", true)] {
        let task = queue.layout.task(id);
        crate::sys::fs::mkdir_all(&RealFs, &task).unwrap();
        for (name, bytes) in [
            ("spec.json", &br#"{"v":1,"max_attempts":2,"argv":["true"]}"#[..]),
            ("1.claim", &card),
            ("1.end", br#"{"v":1,"verdict":"expired","retry":true,"charged":1}"#),
            ("2.claim", &card),
        ] {
            RealFs.create(&task.join(name), bytes, 0o444).unwrap();
        }
        for death in [Death::Gone, Death::Boot] {
            let task = tasks::look(&queue, id).unwrap().unwrap();
            let end = verdict_for(&queue, &me, &task, &Key::new(id, 2), None, death).unwrap();
            assert_eq!(end.retry, permitted || death == Death::Boot, "{id} {death:?}");
            assert_eq!(end.charged > 1, !permitted && death == Death::Gone, "{id} {death:?}");
        }
    }
}

#[test]
fn intents_that_name_no_task_do_not_lead_out_of_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("q");
    let queue = crate::queue::init::init(&root, Platform::real()).unwrap();
    let mut me = Proc::register(&queue, &Identity::plain("m", CardKind::Monitor)).unwrap();
    let dead = Proc::register(&queue, &Identity::plain("w", CardKind::Worker)).unwrap();
    for name in ["_submit...", "_submit.", "_settle..."] {
        RealFs.create(&dead.run(name), br#"{"v":1,"uid":"x"}"#, 0o444).unwrap();
    }
    recover(&queue, &mut me, &dead.wid, Death::Gone, &mut Vec::new()).unwrap();
    assert!(
        !queue.fs.exists(&root.join("spec.json"))
            && !queue.fs.exists(&root.join("tasks/spec.json"))
    );
    assert!(!queue.fs.exists(dead.dir()), "nothing of them stays");
}

#[test]
fn what_says_that_claims_of_jobs_have_not_ended_stays_until_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let queue = crate::queue::init::init(&dir.path().join("q"), Platform::real()).unwrap();
    let mut me = Proc::register(&queue, &Identity::plain("m", CardKind::Monitor)).unwrap();
    let dead = Proc::register(&queue, &Identity::plain("w", CardKind::Worker)).unwrap();
    let (task, chunk) = (queue.layout.task("a"), "jobs/0000000001");
    crate::sys::fs::mkdir_all(&RealFs, &task.join("jobs")).unwrap();
    for (name, text) in [
        ("spec.json", r#"{"v":1,"array":{"command":["true"]}}"#),
        ("jobs/0000000001.in", "x\n"),
        // What stands there is no directory, for now.
        (chunk, ""),
    ] {
        RealFs.create(&task.join(name), text.as_bytes(), 0o444).unwrap();
    }
    let intent = dead.run(&array::job::intent_name("a", 1));
    RealFs.create(&intent, b"", 0o444).unwrap();
    let mut look = || recover(&queue, &mut me, &dead.wid, Death::Gone, &mut Vec::new());
    look().unwrap_err();
    assert!(queue.fs.exists(&intent), "nobody remembers the claims");
    RealFs.unlink(&task.join(chunk)).unwrap();
    RealFs.mkdir(&task.join(chunk)).unwrap();
    RealFs
        .create(&task.join(chunk).join("1.1.claim"), &record::to_bytes(&dead.card), 0o444)
        .unwrap();
    look().unwrap();
    assert!(queue.fs.exists(&task.join(chunk).join("1.1.end")));
    assert!(!queue.fs.exists(dead.dir()));
}
