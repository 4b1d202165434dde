//! Which programs are registered with a queue, and which of them live.

use serde::Serialize;

use crate::queue::Queue;
use crate::queue::identity;
use crate::queue::ids::short;
use crate::queue::procs;
use crate::queue::record::{Card, CardKind};
use crate::sys::fs::is_same;

/// A registered program.
#[derive(Debug, Clone, Serialize)]
pub struct Member {
    /// The readable part of its id.
    pub name: String,
    /// Its id.
    pub wid: String,
    /// What it is.
    pub kind: CardKind,
    /// Where it runs.
    pub host: String,
    /// Its pid there.
    pub pid: i32,
    /// Roles it serves; all where empty.
    pub roles: Vec<String>,
    /// running, idle, dead, `elsewhere` where this machine cannot tell, or `copied`: it works in the
    /// directory that this one is a copy of.
    pub state: &'static str,
    /// The attempts that it holds, and the arrays that it takes jobs of.
    pub tasks: Vec<String>,
    /// The first of them, without the attempt's number.
    pub task: String,
    /// The attempt's number; 0 if none.
    pub attempt: u32,
    /// Milliseconds since its last heartbeat or its start.
    pub beat_age_ms: u64,
    /// When it registered (RFC 3339).
    pub since: String,
    #[serde(skip)]
    /// Its card.
    pub card: Card,
}

impl Member {
    /// Whether it works here, as far as this machine can tell.
    pub fn lives(&self) -> bool {
        !matches!(self.state, "dead" | "copied")
    }

    /// Whether the path by which it opened the queue leads to `root`. That of a process in another container
    /// or on another machine may mean something else here, and says nothing.
    pub fn opened(&self, root: &std::path::Path) -> bool {
        let dir = std::path::Path::new(&self.card.dir);
        self.card.dir.is_empty() || self.state == "elsewhere" || is_same(dir, root)
    }
}

/// All registered programs, commands excepted, by name.
pub fn members(queue: &Queue) -> Vec<Member> {
    let wids = procs::all(queue).unwrap_or_default();
    let mut members: Vec<Member> = wids.iter().filter_map(|wid| member(queue, wid)).collect();
    members.sort_by(|a, b| crate::queue::ids::natural_cmp(&a.name, &b.name));
    members
}

fn member(queue: &Queue, wid: &str) -> Option<Member> {
    let card = procs::card(queue, wid)?;
    if card.kind == CardKind::Cli {
        return None;
    }
    let claims = procs::claims(queue, wid);
    let arrays: Vec<String> = procs::arrays(queue, wid).into_iter().collect();
    let alive = procs::is_here(queue, &card).then(|| queue.host.is_alive(card.process()));
    let left = queue.fs.exists(&queue.layout.proc(wid).join("end"));
    let state = match alive {
        _ if left => "dead",
        Some(false) => "dead",
        None if identity::is_of_another(queue, &card) => "copied",
        Some(true) | None if !claims.is_empty() || !arrays.is_empty() => "running",
        Some(true) => "idle",
        None => "elsewhere",
    };
    let beat_ms = queue
        .fs
        .stat(&queue.layout.proc(wid).join("hb"))
        .map_or(0, |stat| stat.mtime_ns / 1_000_000);
    Some(Member {
        name: short(wid).to_owned(),
        wid: wid.to_owned(),
        kind: card.kind,
        host: card.host.clone(),
        pid: card.pid,
        roles: card.roles.clone(),
        state,
        tasks: claims.iter().map(ToString::to_string).chain(arrays.iter().cloned()).collect(),
        task: claims.first().map(|k| &k.task).or(arrays.first()).cloned().unwrap_or_default(),
        attempt: claims.first().map_or(0, |k| k.n),
        beat_age_ms: queue.clock.wall_ms().saturating_sub(beat_ms),
        since: card.at.clone(),
        card,
    })
}

/// The workers that live, as far as this machine can tell.
pub fn workers(queue: &Queue) -> Vec<Member> {
    let all = members(queue).into_iter();
    all.filter(|m| m.kind == CardKind::Worker && m.lives()).collect()
}

/// The coordinator that lives here, if any.
pub fn coordinator(queue: &Queue) -> Option<Member> {
    members(queue).into_iter().find(|m| m.kind == CardKind::Coordinator && m.lives())
}
