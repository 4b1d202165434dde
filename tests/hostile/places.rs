//! The directories of a queue by what they are for, the names that each has by itself, and what is to
//! become of a thing that is planted there.

use crate::chance::Chance;

/// Ids that names are made of.
pub struct Ids {
    /// Tasks whose registers may be forged.
    pub victims: Vec<String>,
    /// Tasks that must end well.
    pub good: Vec<String>,
}

/// What a directory is for: its path below the queue, with one word for each name that varies. `None`
/// where nothing is planted, since what lies there is not the queue's.
pub fn place(parts: &[&str], is_victim: bool) -> Option<&'static str> {
    Some(match parts {
        [] => "",
        ["control"] => "control",
        ["control", "boot"] => "control/boot",
        ["control", "dismissed"] => "control/dismissed",
        ["incoming"] => "incoming",
        ["incoming", "rejected"] => "incoming/rejected",
        ["tasks"] => "tasks",
        ["tasks", _] if is_victim => "tasks/V",
        ["tasks", _] => "tasks/T",
        ["tasks", _, "jobs"] if is_victim => "tasks/V/jobs",
        ["tasks", _, "jobs", "live"] if is_victim => "tasks/V/jobs/live",
        ["tasks", _, "jobs", _] if is_victim => "tasks/V/jobs/START",
        ["tasks", _, "jobs", ..] => "tasks/T/jobs",
        ["tasks", _, _] => "tasks/T/n.out",
        ["waiters"] => "waiters",
        ["waiters", _] => "waiters/D",
        ["ready"] => "ready",
        ["ready", _] => "ready/ROLE",
        ["ready", _, _] => "ready/ROLE/PP",
        ["ready", _, _, _] => "ready/ROLE/PP/BUCKET",
        ["delayed"] => "delayed",
        ["delayed", _] => "delayed/DUE",
        ["blocked"] => "blocked",
        ["scopes"] => "scopes",
        ["merge"] => "merge",
        ["merging"] => "merging",
        ["procs"] => "procs",
        ["procs", _] => "procs/W",
        ["procs", _, "run"] => "procs/W/run",
        ["events"] => "events",
        ["stats"] => "stats",
        ["log"] => "log",
        ["archive"] => "archive",
        ["archive", "trash"] => "archive/trash",
        ["archive", _] => "archive/LOT",
        ["archive", _, _] => "archive/LOT/XX",
        ["archive", _, _, _] => "archive/LOT/XX/T",
        ["buried"] => "buried",
        ["buried", _] => "buried/LOT",
        ["buried", _, _] => "buried/LOT/XX",
        ["runs"] => "runs",
        ["runs", _] => "runs/NAME",
        _ => return None,
    })
}

/// Names as the place has them; `V` is a task that may be forged, `G` one that must end well.
pub fn names(place: &str) -> &'static [&'static str] {
    match place {
        "" => &["archive", "buried", "runs", "mail", "layout.json.tmp", "status.json.1"],
        "control" => &["drain.nobody", "boot", "dismissed", "workers.json.tmp", "next-id"],
        "control/boot" => &["host.boot", "HOST.0"],
        "control/dismissed" => &["task:V", "failed:V"],
        "incoming" => &["1", "V.json", "p.json.why", "README.md", "rejected.json"],
        "incoming/rejected" => &["V.json.why", "q", "q.why"],
        "tasks" => &["p", "0", "999999999999999999", "V.1", "ghost"],
        "tasks/V" | "archive/LOT/XX/T" => &[
            "1.claim",
            "1.end",
            "2.claim",
            "2.end",
            "1.cancel",
            "2.cancel",
            "1.reopen",
            "0.reopen",
            "1.late",
            "1.merge",
            "1.review",
            "1.out",
            "2.out",
            "99.claim",
            "4294967295.end",
            "4294967295.claim",
            "4294967296.claim",
            "jobs",
        ],
        "tasks/T/n.out" => &["brief", "result.json", "handoff.md", "waits.json", "T.n.json"],
        "tasks/V/jobs" => &[
            "0000000007.in",
            "0000001025",
            "closed.1",
            "open.1",
            "closed",
            "halt.1",
            "halt.1.ends",
            "joined.1",
            "told.1",
            "shown",
            "x.log",
            "x.out",
            "0000000001.n3.r1.f0.over",
            "live",
            "9999999999.in",
        ],
        "tasks/V/jobs/START" => &["1.1.claim", "1.1.end", "1.2.claim", "3.9.end", "999.1.claim"],
        "tasks/V/jobs/live" => &["w.1.1.out", "w.2.1.err"],
        "waiters" => &["V", "G", "ghost"],
        "waiters/D" => &["V", "G", "ghost"],
        "ready" => &["other", "reviewer"],
        "ready/ROLE" => &["00", "49", "99", "7"],
        "ready/ROLE/PP" => &["00000001-00", "ffffffff-ff", "6a000000-zz"],
        "ready/ROLE/PP/BUCKET" | "blocked" => {
            &["V.1", "V.2", "G.1", "G.9", "ghost.1", "V.4294967295"]
        }
        "delayed" => &["00000001", "7fffffff", "ffffffff", "1ffffffff"],
        "delayed/DUE" => &["V.1", "V.2", "G.9", "ghost.1"],
        "scopes" => {
            &["v00000001.json", "v00000009.json", "v99999999.json", "v18446744073709551615.json"]
        }
        "merge" | "merging" => &["main", "lane-1"],
        "procs" => &[".new-w9-0123456789abcdef", "w9-0123456789abcdef", "cli-0123456789abcdef"],
        "procs/W" => &["card.1.json", "card.9.json", "end", "end.tmp", "left", "success.7.json"],
        "procs/W/run" => &[
            "V.1",
            "V.2",
            "G.9",
            "V.1.end",
            "V.2.end.tmp",
            "_settle.V",
            "_settle.ghost",
            "_in.abc",
            "_tell.V",
            "_jobs.V.0000000001",
            "_leader.V.1",
            "_reopen.V",
            "_copy.V",
            "_x",
            "x.tmp",
        ],
        "events" => &["x.0.jsonl", "cli@boot.0.jsonl", "w1-0123456789abcdef.99.jsonl"],
        "stats" => &["checkpoint.tmp", "next-id.tmp"],
        "log" => &["monitor.log.1", "w9.log"],
        "archive" => &["trash", "dead", "old"],
        "archive/LOT" | "buried/LOT" => &["00", "7f", "zz"],
        "archive/LOT/XX" | "buried/LOT/XX" => &["V", "ghost"],
        "archive/trash" => &["V.abcdef"],
        "buried" => &["done", "dead", "old"],
        "runs" => &["echo-1", ".gone-echo-1"],
        "runs/NAME" => &["command"],
        _ => &[],
    }
}

/// A name with ids in it.
pub fn filled(name: &str, ids: &Ids, chance: &mut Chance) -> String {
    let mut name = name.to_owned();
    for (letter, of) in [('V', &ids.victims), ('G', &ids.good)] {
        if name.contains(letter) && !of.is_empty() {
            name = name.replace(letter, &chance.one(of));
        }
    }
    name
}
