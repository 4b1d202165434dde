use super::*;
use crate::queue::init::init;
use crate::sys::fs::{Fs, RealFs};
use crate::sys::host::Platform;

/// A task whose registers are written by hand.
struct ByHand {
    _dir: tempfile::TempDir,
    queue: Queue,
}

impl ByHand {
    fn new(spec: &str) -> ByHand {
        let dir = tempfile::tempdir().unwrap();
        let queue = init(&dir.path().join("q"), Platform::real()).unwrap();
        RealFs.mkdir(&queue.layout.task("T")).unwrap();
        let task = ByHand { _dir: dir, queue };
        task.put("spec.json", spec);
        task
    }
    fn put(&self, name: &str, text: &str) {
        RealFs.create(&self.queue.layout.task("T").join(name), text.as_bytes(), 0o444).unwrap();
    }
    fn phase(&self) -> Phase {
        look(&self.queue, "T").unwrap().unwrap().phase
    }
}

const DONE: &str = r#"{"v":1,"verdict":"done"}"#;

#[test]
fn a_done_attempt_goes_through_its_stages_in_order() {
    let task = ByHand::new(r#"{"v":1,"review":true,"merge":true}"#);
    assert_eq!(task.phase(), Phase::Pending(1));
    task.put("1.claim", "{}");
    assert_eq!(task.phase(), Phase::Claimed(1));
    task.put("1.end", DONE);
    assert_eq!(task.phase(), Phase::Stage(1, StageKind::Review));
    task.put("1.review", r#"{"v":1,"verdict":"pass"}"#);
    assert_eq!(task.phase(), Phase::Stage(1, StageKind::Merge));
    task.put("1.merge", r#"{"v":1,"verdict":"bounce","retry":true}"#);
    assert_eq!(task.phase(), Phase::Pending(2), "a bounce permits the next attempt");
    task.put("2.claim", "{}");
    task.put("2.end", DONE);
    task.put("2.review", "");
    assert_eq!(task.phase(), Phase::Pending(3), "a stage that cannot be read is one more try");
    task.put("3.claim", "{}");
    task.put("3.end", DONE);
    task.put("3.review", r#"{"v":1,"verdict":"pass"}"#);
    task.put("3.merge", r#"{"v":1,"verdict":"pass"}"#);
    assert_eq!(task.phase(), Phase::Done(3));
}

#[test]
fn a_bounce_without_retry_is_the_end_until_it_is_reopened() {
    let task = ByHand::new(r#"{"v":1,"review":true}"#);
    task.put("1.claim", "{}");
    task.put("1.end", DONE);
    task.put("1.review", r#"{"v":1,"verdict":"bounce"}"#);
    assert_eq!(task.phase(), Phase::Failed(1));
    task.put("1.reopen", r#"{"v":1}"#);
    assert_eq!(task.phase(), Phase::Pending(2));
}

#[test]
fn what_permits_the_next_attempt() {
    let task = ByHand::new(r#"{"v":1}"#);
    task.put("1.claim", "{}");
    task.put("1.end", r#"{"v":1,"verdict":"release","retry":false}"#);
    assert_eq!(task.phase(), Phase::Pending(2), "a release never ends a task (fault 7)");
    task.put("2.claim", "{}");
    task.put("2.end", "");
    assert_eq!(task.phase(), Phase::Pending(3), "an end that cannot be read is lost");
    task.put("3.claim", "{}");
    task.put("3.end", r#"{"v":1,"verdict":"cancel"}"#);
    assert_eq!(task.phase(), Phase::Cancelled(3));
    task.put("3.reopen", r#"{"v":1,"closed":true}"#);
    assert_eq!(task.phase(), Phase::Cancelled(3), "closed for ever");
    task.put("notes.txt", "a person's");
    assert_eq!(task.phase(), Phase::Cancelled(3));
}

#[test]
fn the_largest_numbers_do_not_turn_over() {
    let task = ByHand::new(r#"{"v":1}"#);
    task.put("1.claim", "{}");
    task.put("1.end", r#"{"v":1,"verdict":"fail","retry":true,"charged":4294967295}"#);
    task.put("2.claim", "{}");
    task.put("2.end", "");
    let read = look(&task.queue, "T").unwrap().unwrap();
    assert_eq!(read.last_end.unwrap().charged, u32::MAX);
    assert_eq!(read.phase, Phase::Pending(3));
    task.put("4294967295.claim", "{}");
    task.put("4294967295.end", r#"{"v":1,"verdict":"release"}"#);
    assert_eq!(task.phase(), Phase::Failed(u32::MAX), "there is no attempt after the last");
}

#[test]
fn names_are_taken_apart_strictly() {
    let names =
        Names::of(["1.claim", "01.claim", "0.end", "x.end", "2.other", "spec.json"].into_iter());
    assert!(names.spec);
    assert_eq!(names.claims.into_iter().collect::<Vec<_>>(), [1]);
    assert!(names.ends.is_empty());
    assert_eq!(names.foreign, ["01.claim", "0.end", "x.end", "2.other"]);
}
