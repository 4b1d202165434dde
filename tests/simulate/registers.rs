//! What the names and bytes of a queue mean, read a second time and independently of `src/queue`:
//! "Directories" and "States" of queue-layout.md, as small as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::disk::{Disk, Ino};
use crate::world::ROOT;

/// Parsed records by inode.
pub type Parsed = BTreeMap<Ino, Value>;

/// What comes next for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This attempt waits for its merge.
    Merging(u32),
    /// Nothing: done, failed or cancelled.
    Over,
    /// A person decides: held, manual, corrupt, in a stage.
    Kept,
    /// Attempt n is claimed.
    Running(u32),
    /// Attempt m may run now.
    Ready(u32),
    /// Attempt m may run later.
    Delayed(u32),
    /// Attempt m waits for other tasks.
    Blocked(u32),
    /// Attempt m has to be taken and ended as cancelled.
    CancelDue(u32),
}

/// The registers of one task.
pub struct Registers {
    names: BTreeMap<String, Value>,
}

/// All tasks, archived ones too; and of those that were deleted, whether they were done.
pub struct Tasks(BTreeMap<String, Registers>, BTreeMap<String, bool>);

/// The directories of the archive, and what they hold.
fn shelves(disk: &Disk, top: &str) -> Vec<(bool, BTreeMap<String, Ino>)> {
    let mut all = Vec::new();
    for lot in ["done", "dead"] {
        let dir = disk.find(&Path::new(ROOT).join(top).join(lot));
        for shard in dir.and_then(|ino| disk.names(ino)).into_iter().flat_map(BTreeMap::values) {
            all.extend(disk.names(*shard).ok().map(|names| (lot == "done", names.clone())));
        }
    }
    all
}

fn parse(disk: &Disk, ino: Ino, parsed: &mut Parsed) -> Value {
    parsed
        .entry(ino)
        .or_insert_with(|| {
            let bytes = disk.content(ino).unwrap_or_default();
            serde_json::from_slice(&bytes).unwrap_or_default()
        })
        .clone()
}

impl Registers {
    fn attempts(&self, kind: &str) -> impl Iterator<Item = u32> {
        let numbers = self.names.keys().filter_map(|name| {
            let (n, k) = name.split_once('.')?;
            (k == kind).then_some(())?;
            n.parse().ok()
        });
        numbers.collect::<BTreeSet<u32>>().into_iter()
    }
    fn get(&self, n: u32, kind: &str) -> Option<&Value> {
        self.names.get(&format!("{n}.{kind}"))
    }
    fn last(&self) -> u32 {
        self.attempts("claim").last().unwrap_or(0)
    }
    /// The identity of the submission.
    pub fn uid(&self) -> String {
        self.names["spec.json"]["uid"].as_str().unwrap_or_default().to_owned()
    }
    /// Whether it stands for a list of jobs.
    pub fn is_array(&self) -> bool {
        self.names["spec.json"]["array"].is_object()
    }
    /// The paths that its next or running attempt may change alone: declared, and of those that came
    /// back.
    pub fn scope(&self) -> Vec<String> {
        let learned =
            self.attempts("merge").filter_map(|n| self.merge(n)).map(|stage| &stage["scope"]);
        let all = std::iter::once(&self.names["spec.json"]["scope"]).chain(learned);
        let paths = all.flat_map(|scope| scope.as_array().cloned().unwrap_or_default());
        paths.filter_map(|path| path.as_str().map(str::to_owned)).collect()
    }
    /// The card behind a claim.
    pub fn claim(&self, n: u32) -> Option<&Value> {
        self.get(n, "claim")
    }
    /// What kind of claim it is.
    pub fn claim_kind(&self, n: u32) -> String {
        self.claim(n).and_then(|c| c["kind"].as_str()).unwrap_or_default().to_owned()
    }
    /// Whether attempt n has ended.
    pub fn has_end(&self, n: u32) -> bool {
        self.get(n, "end").is_some()
    }
    /// What the end of attempt n says.
    pub fn end(&self, n: u32) -> Value {
        self.get(n, "end").cloned().unwrap_or_default()
    }
    /// Whether attempt n succeeded, merged or not.
    pub fn succeeded(&self, n: u32) -> bool {
        self.end(n)["verdict"] == "done"
    }
    fn wants_merge(&self) -> bool {
        self.names["spec.json"]["merge"] == true
    }
    fn merge(&self, n: u32) -> Option<&Value> {
        self.get(n, "merge")
    }
    fn is_done(&self, n: u32) -> bool {
        let merged = || self.merge(n).is_some_and(|stage| stage["verdict"] == "pass");
        self.succeeded(n) && (!self.wants_merge() || merged())
    }
    fn came_back(&self, n: u32) -> bool {
        self.merge(n).is_some_and(|stage| stage["verdict"] != "pass" && stage["retry"] != false)
    }
    /// Attempts that ended as done, and were merged where that is wanted.
    pub fn done_attempts(&self) -> Vec<u32> {
        self.attempts("end").filter(|n| self.is_done(*n)).collect()
    }
    /// Whether the last attempt is done.
    pub fn ended_well(&self) -> bool {
        self.is_done(self.last())
    }
    fn retries(&self, n: u32) -> bool {
        let end = self.end(n);
        end["retry"] == true || matches!(end["verdict"].as_str(), Some("release") | None)
    }
    fn reopened(&self, n: u32) -> bool {
        self.get(n, "reopen").is_some_and(|note| note["closed"] != true)
    }
    /// Whether attempt n may be claimed, by the registers of n-1.
    pub fn permits(&self, n: u32) -> bool {
        let before = n - 1;
        let sent_back = self.retries(before) || self.reopened(before) || self.came_back(before);
        n == 1 || (self.has_end(before) && sent_back)
    }
    /// Registers that an event must tell of.
    pub fn told(&self) -> Vec<(&'static str, u32)> {
        let mut all = Vec::new();
        for kind in ["claim", "end"] {
            // A claim that only served to cancel or to release is told by its end.
            let counts = |n: &u32| {
                kind == "end" || matches!(self.claim_kind(*n).as_str(), "worker" | "hold")
            };
            let own = |n: &u32| kind == "end" || !self.has_end(*n);
            all.extend(self.attempts(kind).filter(counts).filter(own).map(|n| (kind, n)));
        }
        all.extend(self.attempts("merge").map(|n| ("merge", n)));
        all
    }
}

impl Tasks {
    /// Reads all tasks that have a spec.
    pub fn read(disk: &Disk, parsed: &mut Parsed) -> Tasks {
        let mut all = BTreeMap::new();
        let root = disk.find(&Path::new(ROOT).join("tasks"));
        let live = root.and_then(|ino| disk.names(ino)).into_iter().flatten();
        let mut dirs: Vec<(String, Ino)> = live.map(|(id, dir)| (id.clone(), *dir)).collect();
        dirs.extend(shelves(disk, "archive").into_iter().flat_map(|(_, names)| names));
        for (id, dir) in &dirs {
            let Ok(names) = disk.names(*dir) else { continue };
            if !names.contains_key("spec.json") {
                continue;
            }
            let files = names.iter().filter(|(name, _)| !name.ends_with(".out"));
            let names =
                files.map(|(name, ino)| (name.clone(), parse(disk, *ino, parsed))).collect();
            all.insert(id.clone(), Registers { names });
        }
        let tombs = shelves(disk, "buried").into_iter();
        let tombs = tombs.flat_map(|(done, names)| names.into_keys().map(move |id| (id, done)));
        Tasks(all, tombs.collect())
    }
    /// Whether a task was deleted.
    pub fn is_buried(&self, id: &str) -> bool {
        self.1.contains_key(id)
    }
    /// Whether nothing of a task will ever run again.
    pub fn is_over(&self, id: &str) -> bool {
        self.over(id)
    }
    /// One task.
    pub fn get(&self, id: &str) -> Option<&Registers> {
        self.0.get(id)
    }
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Registers)> {
        self.0.iter().map(|(id, task)| (id.as_str(), task))
    }
    /// What a task comes after.
    pub fn after(&self, id: &str) -> Vec<String> {
        let Some(task) = self.get(id) else { return Vec::new() };
        let after = task.names["spec.json"]["after"].as_array().cloned().unwrap_or_default();
        let ids = after.iter().filter_map(|on| on.as_str());
        let mut all: Vec<String> =
            ids.map(|on| on.split('@').next().unwrap_or(on).to_owned()).collect();
        for on in all.clone() {
            all.extend(self.after(&on));
        }
        all
    }
    fn direct(&self, id: &str) -> Vec<String> {
        let Some(task) = self.get(id) else { return Vec::new() };
        let after = task.names["spec.json"]["after"].as_array().cloned().unwrap_or_default();
        after.iter().filter_map(|on| on.as_str()).map(str::to_owned).collect()
    }
    /// Whether anything waits for its merge that can come.
    pub fn is_anything_open(&self) -> bool {
        let open = |id: &&String| matches!(self.phase(id), Next::Merging(_));
        self.0.keys().filter(open).any(|id| !self.waits_for_ever(id))
    }
    fn over(&self, id: &str) -> bool {
        self.phase(id) == Next::Over || (self.get(id).is_none() && self.is_buried(id))
    }
    fn is_done(&self, id: &str) -> bool {
        let buried = self.1.get(id).copied().unwrap_or(false);
        buried || self.get(id).is_some_and(|task| !task.done_attempts().is_empty())
    }
    /// Dependencies that are not met.
    pub fn unmet(&self, id: &str) -> Vec<String> {
        self.unmet_unless(id, |on| self.over(on))
    }
    /// Dependencies that were not met at any time. With `run` a dead one counts, and it may be
    /// reopened behind the look of a claimer.
    pub fn never_met(&self, id: &str) -> Vec<String> {
        let reopened =
            |on: &str| self.get(on).is_some_and(|t| t.attempts("reopen").next().is_some());
        self.unmet_unless(id, |on| self.over(on) || reopened(on))
    }
    fn unmet_unless(&self, id: &str, dead: impl Fn(&str) -> bool) -> Vec<String> {
        let Some(task) = self.get(id) else { return Vec::new() };
        let run = task.names["spec.json"]["on_dep_dead"] == "run";
        let open = self.direct(id).into_iter().filter(|on| {
            let on = on.split('@').next().unwrap_or(on);
            !(self.is_done(on) || (run && dead(on)))
        });
        open.collect()
    }
    /// Of a task that was cancelled because of a dependency: that one, if it is not dead any more.
    pub fn cancelled_without_cause(&self, id: &str) -> Option<String> {
        let task = self.get(id)?;
        let end = task.end(task.last());
        let on = end["because"].as_str()?.to_owned();
        let cancelled = end["verdict"] == "cancel" && self.over(id);
        let dead = self.over(&on) && !self.is_done(&on);
        (cancelled && !dead).then_some(on)
    }
    /// Whether a blocked task waits for something that will never be done.
    pub fn waits_for_ever(&self, id: &str) -> bool {
        let first = self.get(id).map(|task| task.names["spec.json"]["merge_after"].clone());
        let first = first.and_then(|ids| ids.as_array().cloned()).unwrap_or_default();
        let first = first.iter().filter_map(|on| on.as_str()).filter(|on| !self.over(on));
        let merging = matches!(self.phase(id), Next::Merging(_));
        let first: Vec<String> = first.filter(|_| merging).map(str::to_owned).collect();
        self.unmet(id).iter().filter(|_| !merging).chain(&first).any(|on| {
            let on = on.split('@').next().unwrap_or(on);
            match self.get(on) {
                None => true,
                Some(_) => {
                    self.over(on)
                        || self.next(on, u64::MAX) == Next::Kept
                        || self.waits_for_ever(on)
                }
            }
        })
    }
    /// What the registers say, without readiness: `Ready(m)` means that attempt m is permitted.
    fn phase(&self, id: &str) -> Next {
        let Some(task) = self.get(id) else { return Next::Kept };
        let n = task.last();
        if n == 0 {
            return Next::Ready(1);
        }
        if !task.has_end(n) {
            let kept = matches!(task.claim_kind(n).as_str(), "hold" | "human");
            return if kept { Next::Kept } else { Next::Running(n) };
        }
        if task.succeeded(n) && task.wants_merge() && task.merge(n).is_none() {
            return Next::Merging(n);
        }
        let sent_back = task.came_back(n) || (task.merge(n).is_some() && task.reopened(n));
        let permitted = match task.succeeded(n) {
            true => !task.is_done(n) && sent_back,
            false => task.retries(n) || task.reopened(n),
        };
        if permitted { Next::Ready(n + 1) } else { Next::Over }
    }
    /// What comes next for a task at that time.
    pub fn next(&self, id: &str, now_ms: u64) -> Next {
        let m = match self.phase(id) {
            Next::Ready(m) => m,
            other => return other,
        };
        let Some(task) = self.get(id) else { return Next::Kept };
        let spec = &task.names["spec.json"];
        let before = task.end(m - 1);
        if task.get(m - 1, "cancel").is_some()
            && before["verdict"] != "cancel"
            && task.get(m - 1, "reopen").is_none()
        {
            return Next::CancelDue(m);
        }
        if spec["hold"] == true && m == 1 && task.get(0, "reopen").is_none() {
            return Next::Kept;
        }
        let unmet = self.unmet(id);
        if !unmet.is_empty() {
            let dead = unmet.iter().any(|on| self.over(on) && !self.is_done(on));
            let cancels = spec["on_dep_dead"] == "cancel";
            return if dead && cancels { Next::CancelDue(m) } else { Next::Blocked(m) };
        }
        if spec["manual"] == true {
            return Next::Kept;
        }
        let time = if m == 1 { &spec["not_before"] } else { &before["not_before"] };
        let due = time.as_str().and_then(coord::sys::clock::parse_rfc3339);
        match due {
            Some(due) if due > now_ms && task.get(m - 1, "reopen").is_none() => Next::Delayed(m),
            _ => Next::Ready(m),
        }
    }
}

/// Hints and intents.
pub struct Hints {
    leading: BTreeSet<String>,
    blocked: BTreeSet<String>,
    merging: BTreeSet<String>,
    noted: BTreeSet<String>,
}

impl Hints {
    /// Reads all of them.
    pub fn read(disk: &Disk) -> Hints {
        let files = |below: &str| {
            let all = disk.walk(&Path::new(ROOT).join(below));
            all.into_iter()
                .filter(|(_, ino)| disk.names(*ino).is_err())
                .filter_map(|(path, _)| Some(path.file_name()?.to_str()?.to_owned()))
                .collect::<BTreeSet<String>>()
        };
        let mut leading = files("ready");
        leading.append(&mut files("delayed"));
        let mut noted = BTreeSet::new();
        let procs = disk.find(&Path::new(ROOT).join("procs"));
        for (_, dir) in procs.and_then(|ino| disk.names(ino)).into_iter().flatten() {
            let run = disk.find_in(*dir, "run").and_then(|ino| disk.names(ino));
            for name in run.into_iter().flatten().map(|(name, _)| name) {
                let id = match name.strip_prefix('_') {
                    Some(own) if name.ends_with(".tmp") || own.starts_with("in.") => continue,
                    Some(own) => own.strip_prefix("settle.").or(own.strip_prefix("submit.")),
                    None => name.strip_suffix(".end").unwrap_or(name).rsplit_once('.').map(|k| k.0),
                };
                noted.extend(id.map(str::to_owned));
            }
        }
        Hints { leading, blocked: files("blocked"), merging: files("merging"), noted }
    }
    /// Whether a hint in ready/ or delayed/ leads to the attempt.
    pub fn leads_to(&self, id: &str, m: u32) -> bool {
        self.leading.contains(&format!("{id}.{m}"))
    }
    /// Whether blocked/ has it.
    pub fn blocked(&self, id: &str, m: u32) -> bool {
        self.blocked.contains(&format!("{id}.{m}"))
    }
    /// Whether a lane knows of it.
    pub fn merging(&self, id: &str, n: u32) -> bool {
        self.merging.contains(&format!("{id}.{n}"))
    }
    /// Whether an intent of any process names the task.
    pub fn noted(&self, id: &str) -> bool {
        self.noted.contains(id)
    }
}
