//! What is left of a program, or of one attempt: found by everything that can be read of a process, and
//! ended. queue-layout.md (4.22) has the ties, and what they miss.
//!
//! There are three answers. Nothing is left; or something is, and it was ended; or something is that cannot
//! be ended, or of which nobody can tell whose it is. The last one is no death.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::alive::{self, EnvMark, Handle, MARK, ProcStat, Sent};
use super::cgroup;
use super::host::ProcessId;

/// A wait for the deaths of those that were killed, before the next look.
const DEATHS: Duration = Duration::from_millis(500);

/// A session of a process, whoever gets the number of its leader later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who leads it, or has led it.
    pub leader: ProcessId,
    /// What the kernel calls it, which it does only once in a boot; empty where it has no such name.
    pub name: String,
}

impl Session {
    /// The session that a process leads, or is about to lead.
    #[must_use]
    pub fn of(leader: ProcessId) -> Session {
        Session { leader, name: session_name(leader.pid) }
    }
}

/// What the kernel calls the session of a process: its scheduling group (`sched_autogroup`).
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
pub fn session_name(pid: i32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/autogroup")).unwrap_or_default();
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// By what the processes of a program, or of one attempt, are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// What they carry in their environment.
    pub mark: Option<EnvMark>,
    /// The mark of the program: who carries another program's is not of this one, whatever else ties it.
    pub program: String,
    /// These, and what is below them.
    pub processes: Vec<ProcessId>,
    /// Who is in one of these.
    pub sessions: Vec<Session>,
    /// Who is in this control group; empty: there is none.
    pub group: String,
    /// The user who alone has written what names them. What root ends as the owner of the queue is this
    /// user's: else any member could have anybody's processes ended.
    pub user: Option<u32>,
}

impl Traces {
    /// By a mark alone.
    pub fn of_mark(mark: EnvMark) -> Traces {
        Traces { mark: Some(mark), ..Traces::default() }
    }
}

/// Why a process is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is another user's.
    Refused,
    /// It was killed and does not end.
    Stays,
    /// It is in a session of that number, which may be somebody else's by now.
    Doubt,
}

/// A process that is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Which one.
    pub process: ProcessId,
    /// What it is called.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// Why.
    pub why: Why,
}

impl Left {
    /// A process that is there, with its name and its user.
    pub fn of(process: ProcessId, why: Why) -> Left {
        let (name, user) = alive::name_and_user(process.pid);
        Left { process, name, user, why }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Left { process, name, user, why } = self;
        let why = match why {
            Why::Refused => "",
            Why::Stays => ", which was killed and does not end",
            Why::Doubt => ", of which the kernel does not say whether it belongs to this",
        };
        write!(f, "{} ({name}, of {user}{why})", process.pid)
    }
}

/// Several of them, in words.
pub fn in_words(left: &[Left]) -> String {
    left.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// What one look has found.
#[derive(Default)]
struct Found {
    tied: BTreeSet<(i32, u64)>,
    doubtful: BTreeSet<(i32, u64)>,
}

/// How a session of a process is one of those that were noted.
#[derive(PartialEq, Eq)]
enum Belongs {
    Yes,
    Perhaps,
    No,
}

fn belongs(session: &Session, pid: i32, stat: &ProcStat, all: &BTreeMap<i32, ProcStat>) -> Belongs {
    let leader = session.leader;
    if stat.session != leader.pid || stat.start < leader.start {
        return Belongs::No;
    }
    match all.get(&leader.pid) {
        Some(now) if now.start == leader.start => Belongs::Yes,
        // The number was given again: so nobody was left.
        Some(_) => Belongs::No,
        None if session.name.is_empty() => Belongs::Perhaps,
        None => match session_name(pid) {
            name if name == session.name => Belongs::Yes,
            name if name.is_empty() => Belongs::Perhaps,
            _ => Belongs::No,
        },
    }
}

/// The processes that are tied, except `spare`. `seen`: those that were at an earlier look.
fn look(traces: &Traces, spare: &[i32], seen: &BTreeSet<(i32, u64)>) -> Found {
    let all = alive::all();
    let group: BTreeSet<i32> =
        cgroup::members(&traces.group, &traces.program).into_iter().collect();
    let known = |pid: i32, stat: &ProcStat| {
        let noted = ProcessId { pid, start: stat.start };
        traces.processes.contains(&noted) || seen.contains(&(pid, stat.start))
    };
    let mut found = Found::default();
    let mut apart = BTreeSet::new();
    for (pid, stat) in &all {
        // A process that has ended has no environment, and children of others.
        if stat.zombie || spare.contains(pid) {
            apart.insert(*pid);
            continue;
        }
        let environment = alive::environment(*pid);
        let says = |mark: &EnvMark| environment.as_deref().is_some_and(|env| mark.is_in(env));
        let of = (*pid, stat.start);
        if traces.mark.as_ref().is_some_and(says) {
            found.tied.insert(of);
        } else if environment.as_deref().is_some_and(|env| is_of_another(env, &traces.program)) {
            apart.insert(*pid);
        } else if known(*pid, stat) || group.contains(pid) {
            found.tied.insert(of);
        } else {
            let answers: Vec<Belongs> =
                traces.sessions.iter().map(|s| belongs(s, *pid, stat, &all)).collect();
            if answers.contains(&Belongs::Yes) {
                found.tied.insert(of);
            } else if answers.contains(&Belongs::Perhaps) {
                found.doubtful.insert(of);
            }
        }
    }
    loop {
        let parents: BTreeSet<i32> = found.tied.iter().map(|(pid, _)| *pid).collect();
        let below = all.iter().filter(|(pid, stat)| {
            parents.contains(&stat.parent) && !parents.contains(pid) && !apart.contains(pid)
        });
        let below: Vec<(i32, u64)> = below.map(|(pid, stat)| (*pid, stat.start)).collect();
        if below.is_empty() {
            break;
        }
        found.tied.extend(below);
    }
    found.doubtful.retain(|of| !found.tied.contains(of));
    found
}

/// Whether an environment is that of another program of ours than this one.
fn is_of_another(environment: &[u8], program: &str) -> bool {
    let prefix = format!("{MARK}=");
    let mut pairs = environment.split(|&b| b == 0);
    let other = pairs.find_map(|pair| pair.strip_prefix(prefix.as_bytes()));
    other.is_some_and(|other| other != program.as_bytes())
}

/// The process and all that is below it now, as far as it is not another program of ours.
pub fn below(root: ProcessId, program: &str, spare: &[i32]) -> Vec<ProcessId> {
    let program = program.to_owned();
    let traces = Traces { processes: vec![root], program, ..Traces::default() };
    let found = look(&traces, spare, &BTreeSet::new());
    found.tied.into_iter().map(|(pid, start)| ProcessId { pid, start }).collect()
}

/// Ends what is left with SIGKILL and waits for the deaths, until a whole look finds nothing. Returns what
/// is still there after `patience`, or cannot be ended.
pub fn end(traces: &Traces, spare: &[i32], patience: Duration) -> Vec<Left> {
    let deadline = Instant::now() + patience;
    let mut seen = BTreeSet::new();
    loop {
        let mut held: BTreeMap<(i32, u64), Handle> = BTreeMap::new();
        let mut refused = BTreeSet::new();
        // What is stopped does not fork behind the next look.
        let doubtful = loop {
            let found = look(traces, spare, &seen);
            let is_new = |of: &&(i32, u64)| !held.contains_key(of) && !refused.contains(*of);
            let new: Vec<(i32, u64)> = found.tied.iter().filter(is_new).copied().collect();
            let mut any = false;
            for of in new {
                let Some(handle) = alive::open(of.0, of.1) else { continue };
                match handle.send_to(traces.user, Signal::SIGSTOP) {
                    Sent::Yes => any |= held.insert(of, handle).is_none(),
                    Sent::Refused => any |= refused.insert(of),
                    Sent::Gone => {}
                }
            }
            // Who loses its parents now stays what it was.
            seen.extend(held.keys().chain(&refused).copied());
            if !any {
                break found.doubtful;
            }
        };
        for handle in held.values() {
            handle.send_to(traces.user, Signal::SIGKILL);
        }
        let lasting = |left: &mut Vec<Left>| {
            let still = |(pid, start): &&(i32, u64)| alive::is_alive(*pid, *start);
            let of = |(pid, start): &(i32, u64)| ProcessId { pid: *pid, start: *start };
            left.extend(refused.iter().filter(still).map(|p| Left::of(of(p), Why::Refused)));
            left.extend(doubtful.iter().filter(still).map(|p| Left::of(of(p), Why::Doubt)));
        };
        let mut left = Vec::new();
        if held.is_empty() {
            lasting(&mut left);
            return left;
        }
        let until = deadline.min(Instant::now() + DEATHS);
        for handle in held.values() {
            handle.wait_dead(until.saturating_duration_since(Instant::now()));
        }
        if Instant::now() >= deadline {
            let stay = held.iter().filter(|(_, handle)| !handle.is_dead());
            let of = |(pid, start): (i32, u64)| ProcessId { pid, start };
            left.extend(stay.map(|(p, _)| Left::of(of(*p), Why::Stays)));
            lasting(&mut left);
            return left;
        }
    }
}

#[cfg(test)]
#[path = "remains_tests.rs"]
mod tests;
