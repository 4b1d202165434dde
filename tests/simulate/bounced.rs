//! What came back from its merge, as schedules.

use crate::platform::Call;
use crate::programs;
use crate::schedules::ensure;
use crate::stage::Stage;

/// Tasks whose first attempts are done and came back: they had changed `a`, and did not say so before.
fn came_back(ids: &[&str]) -> (Stage, usize) {
    let mut s = Stage::new();
    for id in ids {
        s.add(id, "ok", |spec| spec.merge = true);
    }
    // No turns meanwhile: the lane has nothing to do before and after.
    s.put("control/merge.pause", "");
    let w1 = s.worker("w1", 0);
    for _ in ids {
        s.until(w1, Call::Host, "spawn");
        s.go(w1);
        s.jobs();
    }
    s.until(w1, Call::Unlink, &format!("run/{}.1", ids[ids.len() - 1]));
    s.done("return", 0, programs::return_all());
    s.remove("control/merge.pause");
    (s, w1)
}

/// Two that came back have learned the same, and never run at once: the checker looks at each start.
pub fn one_after_the_other() -> Result<(), String> {
    let (mut s, w1) = came_back(&["A", "B"]);
    for id in ["A", "B"] {
        ensure(s.text(&format!("tasks/{id}/1.merge")).contains("bounce"), "it did not come back")?;
    }
    s.until(w1, Call::Host, "spawn");
    s.go(w1);
    let w2 = s.worker("w2", 0);
    s.go(w2);
    let both = s.has("tasks/A/2.claim") && s.has("tasks/B/2.claim");
    let s = s.rest()?;
    ensure(!both, "both were claimed at once")?;
    ensure(s.has("tasks/A/2.end") && s.has("tasks/B/2.end"), "one of them never ran again")
}

/// F is done and makes way for the second attempt of B. That one is lost with its worker: whoever
/// finishes what the worker had begun looks at F as well, for no merge will ever do it.
pub fn way_is_free() -> Result<(), String> {
    let (mut s, w1) = came_back(&["B"]);
    // It has swept before: nothing but recovery can find F.
    let keeper = s.start("monitor", 0, programs::monitor());
    s.go(keeper);
    s.until(w1, Call::Host, "spawn");
    s.go(w1);
    ensure(s.has("tasks/B/2.claim") && !s.has("tasks/B/2.end"), "B does not run")?;
    s.add("F", "ok", |spec| {
        spec.merge = true;
        spec.hold = true;
    });
    // As a worker in a repository writes it: the jobs here change no files.
    let claim = s.text("tasks/B/1.claim");
    s.put("tasks/F/1.claim", &claim);
    s.put(
        "tasks/F/1.end",
        r#"{"v":1,"verdict":"done","result":{"branch":"f","commit":"c","changed":["a/b"]}}"#,
    );
    s.done("settle", 0, programs::settle_one("F"));
    ensure(s.has("waiters/B/F"), "F makes way for nobody")?;
    let blocked = |s: &Stage| (1..9).any(|n| s.has(&format!("blocked/merge:default.{n}")));
    ensure(blocked(&s), "the lane has something to do already")?;
    s.kill(w1);
    // At once, before its safety net looks at what is blocked.
    s.go(keeper);
    ensure(s.has("tasks/B/2.end"), "B was not recovered")?;
    ensure(!blocked(&s), "nobody tells the lane that F may be merged")?;
    Ok(())
}
