//! Situations with a list of jobs (an array), as `coord run` makes one.

use crate::case::{Case, names};
use crate::rare::LOSES_ITS_PLACE;
use crate::situation::*;
use crate::support::{kill, until};

/// The third one fails the first time.
const RUN: &[&str] = &[
    "coord",
    "run",
    "-n",
    "1",
    "--queue",
    ".",
    "--retries",
    "2",
    "--sh",
    "umask 0; echo start $COORD_ATTEMPT >>$COORD_ROOT/wit/job-{#}; [ {} != c ] || [ $COORD_ATTEMPT != 1 ] || exit 1; \
     echo {}; echo end $COORD_ATTEMPT >>$COORD_ROOT/wit/job-{#}",
    ":::",
    "a",
    "b",
    "c",
];

/// A job that leaves its witness and does this in between.
fn job_of_list(body: &str) -> String {
    let say = |word: &str| format!("echo {word} $COORD_ATTEMPT >>$COORD_ROOT/wit/job-{{#}}");
    format!("umask 0; {}; : {{}}; {body} && {}", say("start"), say("end"))
}

/// The list is there, and nobody works at it: its command was killed, and its worker at its start.
pub fn submitted(c: &Case) {
    queue(c);
    submit(c);
}

fn submit(c: &Case) {
    let mut command = c.program(RUN);
    command.env("COORD_STEP", "coord-worker/register.mkdir:stop");
    let child = c.start(command);
    // Who comes to a run that has not begun need not join it.
    until("the list is closed, and its run has begun", || {
        let ids = names(&c.queue("tasks"));
        let has = |id: &str, name: &str| c.queue(&format!("tasks/{id}/jobs/{name}")).exists();
        ids.iter().any(|id| has(id, "closed") && has(id, "halt.1"))
    });
    // Its worker may be on its way yet, and stops only when it registers.
    until("nobody is left", || {
        let left = c.processes();
        left.iter().copied().for_each(kill);
        left.is_empty()
    });
    assert_eq!(c.finish(child).signal, Some(9));
}

/// All three jobs were done, by the registers; `Case::verify` compares those with what they wrote.
pub fn done_all(c: &Case, _: bool) {
    let ids = names(&c.queue("tasks"));
    assert_eq!(ids.len(), 1, "one list: {ids:?}");
    assert_eq!(c.state(&ids[0]), "done");
    let done: Vec<(u64, u32)> = c.jobs_done(&ids[0]);
    let jobs: Vec<u64> = done.iter().map(|(job, _)| *job).collect();
    assert_eq!(jobs, [1, 2, 3], "{done:?}");
}

/// What only steps are played in.
pub const RARE: &[Situation] = &[
    Situation {
        name: "a list of jobs is submitted",
        acts: &[RUN],
        afterwards: |c| {
            until("its workers have left", || c.processes().is_empty());
            if names(&c.queue("tasks")).iter().any(|id| c.state(id) == "done") {
                return;
            }
            // Given again, it goes on.
            let again = c.run(c.program(RUN));
            assert_eq!(again.code, Some(0), "given again: {again:?}");
            until("its workers have left", || c.processes().is_empty());
        },
        verify: Some(done_all),
        ..PLAIN
    },
    Situation {
        name: "a worker died at a job",
        prepare: |c| {
            submitted(c);
            c.dies("jobs.spawn", &["work", "--until-empty"]);
        },
        acts: KEEPERS,
        verify: Some(done_all),
        ..PLAIN
    },
    Situation {
        name: "the directory of a worker at a list is removed",
        prepare: |c| {
            queue(c);
            configure(c, "[lease]\nheartbeat = \"100ms\"\n");
            c.ok(&["map", "--sh", &job_of_list(LOSES_ITS_PLACE), ":::", "a", "b", "c"]);
        },
        acts: WORKERS,
        until: Some(|c| names(&c.queue("tasks")).iter().any(|id| c.state(id) == "done")),
        verify: Some(done_all),
        ..PLAIN
    },
    Situation {
        name: "a list of jobs that survives power losses",
        prepare: |c| {
            queue(c);
            configure(c, "[queue]\ndurability = \"full\"\n");
            c.ok(&["init"]);
            submit(c);
        },
        acts: WORKERS,
        verify: Some(done_all),
        ..PLAIN
    },
];
