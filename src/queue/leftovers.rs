//! What a process of a queue has left running: what was noted of it, and what to say of what cannot be ended.
//! queue-layout.md (4.22) has the whole of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};
use crate::rule;
use crate::step;
use crate::sys::alive::EnvMark;
use crate::sys::host::ProcessId;
use crate::sys::remains::{Left, Session, Traces, Why, in_words};

use super::Queue;
use super::events::{self, Event};
use super::ids::{Key, short};
use super::procs::{self, Proc};
use super::record::{self, Card, CardKind, RECORD_MAX};

/// A file of `procs/W` that says that something of W is still there, and that people were told.
pub const LEFT: &str = "left";
const PREFIX: &str = "_leader.";

/// `run/_leader.T.n`: who leads the session of an attempt.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Leader {
    v: u32,
    pid: i32,
    start: u64,
    session: String,
}

/// Notes who is going to run an attempt. Its command has not begun.
pub fn note(queue: &Queue, me: &Proc, key: &Key, session: &Session) -> Result<()> {
    step!("run.leader");
    write(queue, me, key, session)
}

/// Notes it in the name in which this process has registered again.
pub fn note_again(queue: &Queue, me: &Proc, key: &Key, session: &Session) -> Result<()> {
    step!("back.leader");
    match queue.fs.exists(&me.run(&format!("{PREFIX}{key}"))) {
        true => Ok(()),
        false => write(queue, me, key, session),
    }
}

fn write(queue: &Queue, me: &Proc, key: &Key, session: &Session) -> Result<()> {
    let Session { leader, name } = session.clone();
    let leader = Leader { v: 1, pid: leader.pid, start: leader.start, session: name };
    let path = me.run(&format!("{PREFIX}{key}"));
    queue.fs.create(&path, &record::to_bytes(&leader), 0o444).cannot("note who runs it", &path)
}

/// Forgets it: nothing of the attempt runs any more.
pub fn forget(queue: &Queue, me: &Proc, key: &Key) -> Result<()> {
    step!("run.over");
    queue.discard(&me.run(&format!("{PREFIX}{key}")))
}

/// The session of an attempt of W, if one was noted.
fn leader(queue: &Queue, wid: &str, key: &str) -> Option<Session> {
    if !rule!("R5.leader") {
        return None;
    }
    let path = queue.layout.proc(wid).join("run").join(format!("{PREFIX}{key}"));
    let bytes = queue.fs.read(&path, 0, RECORD_MAX).ok()?;
    let leader: Leader = record::parse(&bytes).ok()?;
    let process = ProcessId { pid: leader.pid, start: leader.start };
    (process.pid > 1).then_some(Session { leader: process, name: leader.session })
}

/// By what everything is known that a process has started.
pub fn traces(queue: &Queue, card: &Card) -> Traces {
    let wid = procs::present_name(queue, &card.wid).unwrap_or_default();
    let names = queue.list(&queue.layout.proc(&wid).join("run")).unwrap_or_default();
    let keys = names.iter().filter_map(|entry| entry.name.strip_prefix(PREFIX));
    let user = author(queue, &wid, card.card, keys.clone());
    let mut sessions: Vec<Session> = keys.filter_map(|key| leader(queue, &wid, key)).collect();
    let processes = sessions.iter().map(|session| session.leader).collect();
    if card.kind == CardKind::Worker && card.pid > 1 {
        // Jobs of a list stay in the session of who runs them.
        sessions.push(Session { leader: card.process(), name: card.session.clone() });
    }
    Traces {
        mark: (!card.mark.is_empty()).then(|| EnvMark::program(&card.mark)),
        program: card.mark.clone(),
        processes,
        sessions,
        group: card.cgroup.clone(),
        user,
    }
}

/// The user who has written both the card of W and what it noted of these attempts; `None`: several have,
/// or nobody can tell. Who may write in the queue may put files of his own there, not those of another.
fn author<'a>(
    queue: &Queue,
    wid: &str,
    card: u32,
    keys: impl Iterator<Item = &'a str>,
) -> Option<u32> {
    let dir = queue.layout.proc(wid);
    let uid = |path: PathBuf| queue.fs.stat(&path).ok().map(|stat| stat.uid);
    let user = uid(dir.join(format!("card.{card}.json")))?;
    let mut notes = keys.map(|key| dir.join("run").join(format!("{PREFIX}{key}")));
    notes.all(|note| uid(note) == Some(user)).then_some(user)
}

/// By what the processes of one attempt are known.
pub fn traces_of(queue: &Queue, card: &Card, key: &Key) -> Traces {
    let wid = procs::present_name(queue, &card.wid).unwrap_or_default();
    let sessions: Vec<Session> = leader(queue, &wid, &key.to_string()).into_iter().collect();
    Traces {
        mark: Some(EnvMark::attempt(&format!("{key}@{}", card.wid))),
        program: card.mark.clone(),
        processes: sessions.iter().map(|session| session.leader).collect(),
        sessions,
        ..Traces::default()
    }
}

/// What a notice of these is about.
pub fn about(wid: &str) -> String {
    format!("left:{wid}")
}

/// What cannot be ended, what waits for it, and what helps.
pub fn words(queue: &Queue, wid: &str, left: &[Left]) -> String {
    let claims = procs::claims(queue, wid).into_iter().map(|key| key.to_string());
    let held: Vec<String> = claims.chain(procs::arrays(queue, wid)).collect();
    let waits = match held.as_slice() {
        [] => "what it has begun waits".to_owned(),
        held => format!("{} cannot go on", held.join(" and ")),
    };
    let pids: Vec<String> = left.iter().map(|left| left.process.pid.to_string()).collect();
    let pids = pids.join(" ");
    let help = match left.first().map(|left| left.why) {
        Some(Why::Refused) => format!(
            "as its user or as root: kill -9 {pids}, or coord work, which ends it (as root with --as-owner)"
        ),
        Some(Why::Doubt) => format!(
            "look at it: ps -f {pids}; end it, or, if it is none of this, rm -f {}/_leader.*",
            queue.layout.proc(wid).join("run").display()
        ),
        _ => "it may hang in the kernel: a disk or a server that does not answer".to_owned(),
    };
    format!(
        "{} has left {} running, which cannot be ended; {waits} before it is gone; {help}",
        short(wid),
        in_words(left)
    )
}

/// Tells people what is left of W, and leaves a sign that they were told.
pub fn tell(queue: &Queue, me: &mut Proc, wid: &str, left: &[Left]) {
    let text = words(queue, wid, left);
    tracing::error!("{text}");
    // Where it cannot be made, the notice may outlive what it is about.
    drop(queue.fs.touch(&queue.layout.proc(wid).join(LEFT)));
    events::append(queue, me, Event::notice(&about(wid), &text));
}

/// Whether people were told that something of W is left.
pub fn is_told(queue: &Queue, wid: &str) -> bool {
    queue.fs.exists(&queue.layout.proc(wid).join(LEFT))
}

/// Nothing of W is left any more.
pub fn take_back(queue: &Queue, me: &mut Proc, wid: &str) {
    drop(queue.discard(&queue.layout.proc(wid).join(LEFT)));
    events::append(queue, me, Event::notice(&about(wid), ""));
}
