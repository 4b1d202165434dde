//! The invariants (queue-layout.md, "Guarantees"), checked after each step from
//! the names and bytes on the disk alone. Nothing here calls the code that it judges.
//!
//! At the call: I1, I2, I3, I4, I10, I13, I22. After the call: I7, I14, I15. By the jobs: I5, I6 and
//! "kill before fence". At the end of a run: I16, I17, I19, I20 and everything again by `fsck`.
//! I8 and I9 have no check of their own: a hint that is trusted, or an intent that goes too early,
//! breaks one of the others. I11 is seen by the jobs: no two run at once whose scopes overlap; I12 is
//! fsck's. I21: what is archived is over, and its id is never submitted again. I18 is about messages,
//! which are not built yet. I23 is that no process panics.

mod archive;
mod scopes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::disk::{Disk, Ino};
use crate::machines::{Job, State};
use crate::platform::{Call, Op};
use crate::registers::{Next, Tasks};
use crate::world::{ROOT, World};

/// What the checker remembers.
#[derive(Default)]
pub struct Checker {
    /// Which process has which id.
    pub owners: BTreeMap<String, usize>,
    /// Registers with their first content.
    pub registers: BTreeMap<String, (Ino, Arc<Vec<u8>>)>,
    /// Lines of the event stream: kind, task, attempt.
    events: BTreeSet<(String, String, u64)>,
    /// Attempts whose job was started, with the holder.
    started: BTreeMap<(String, u32), String>,
    /// How their jobs ended.
    ended: BTreeMap<(String, u32), Result<i32, i32>>,
    /// Jobs that run.
    running: BTreeSet<(String, u32)>,
    /// Follow-ups may be missing: hints were taken away, or a listing lagged.
    pub unverified: bool,
    /// Events may be missing: a write of one failed.
    pub deaf: bool,
    /// An attempt may be ended by force, behind its worker's back.
    pub forced: bool,
    /// What submitters were told: id and uid.
    pub acknowledged: Vec<(String, String)>,
    /// Ids of tasks that were moved into the archive.
    archived: BTreeSet<String>,
    /// The rules of arrays.
    pub halts: crate::halting::Halts,
    /// Parsed records, by inode: their content never changes.
    parsed: crate::registers::Parsed,
}

/// A broken rule.
pub type Broken = Result<(), String>;

/// Where a task may lie in the archive.
fn archived(id: &str) -> impl Iterator<Item = std::path::PathBuf> {
    let shard = coord::queue::ids::shard(id);
    let at = |lot: &str| Path::new(ROOT).join("archive").join(lot).join(&shard).join(id);
    [at("done"), at("dead")].into_iter()
}

fn relative(path: &Path) -> Vec<&str> {
    let path = path.strip_prefix(ROOT).unwrap_or(path);
    path.iter().filter_map(|part| part.to_str()).collect()
}

/// `3.claim` → (3, "claim").
fn register(name: &str) -> Option<(u32, &str)> {
    let (n, kind) = name.split_once('.')?;
    let known = ["claim", "end", "cancel", "reopen", "review", "merge", "late"];
    known.contains(&kind).then_some(())?;
    Some((n.parse().ok()?, kind))
}

impl Checker {
    /// Looks at what a step has changed.
    pub fn after(&mut self, world: &World, me: usize, op: &Op) -> Broken {
        let disk = world.fs.disk();
        let (from, to) = (relative(&op.path), relative(&op.to));
        self.access(world, &disk, me, op, &from, &to)?;
        if let (Call::Link, ["tasks", task, name]) = (op.call, to.as_slice()) {
            self.published(world, &disk, me, task, name)?;
        }
        let follows = match op.call {
            Call::Link | Call::Rename => true,
            Call::Unlink => matches!(
                from.first(),
                Some(&"procs" | &"ready" | &"delayed" | &"blocked" | &"waiters")
            ),
            _ => false,
        };
        if follows && !matches!(to.first(), Some(&"stats" | &"events")) {
            self.follow_ups(world, &disk)?;
        }
        Ok(())
    }

    /// I1, I10, I22: who may change what.
    fn access(
        &mut self,
        world: &World,
        disk: &Disk,
        me: usize,
        op: &Op,
        from: &[&str],
        to: &[&str],
    ) -> Broken {
        let target = if to.is_empty() { from } else { to };
        match (op.call, target) {
            (Call::Link, [place @ ("tasks" | "merge"), task, name]) => {
                let path = format!("{place}/{task}/{name}");
                // A late one lands where the directory lies by now.
                let dir = op.to.parent().unwrap_or(Path::new("/"));
                let lies = std::iter::once(dir.to_owned()).chain(archived(task));
                let found = lies.filter_map(|dir| disk.find(&dir.join(name)).ok()).next();
                let Some(ino) = found else { return Err(format!("{op} lands nowhere")) };
                if *name == "spec.json" && self.archived.contains(*task) {
                    return Err(format!("I21: {task} was archived, and was submitted again"));
                }
                let content = disk.content(ino).map_err(|e| e.to_string())?;
                if self.registers.insert(path.clone(), (ino, content)).is_some() {
                    return Err(format!("I1: {path} was published twice"));
                }
            }
            (Call::Mkdir | Call::Rmdir, ["tasks" | "merge", _] | ["tasks", _, _]) => {}
            (_, ["archive", rest @ ..]) => self.in_archive(disk, op, from, rest)?,
            (_, ["tasks", id, "jobs", rest @ ..]) => {
                self.in_array(world, disk, me, op, id, rest)?;
            }
            (_, ["tasks" | "merge", task, name])
                if *name == "spec.json" || register(name).is_some() =>
            {
                return Err(format!("I1: {op} touches the register {task}/{name}"));
            }
            (_, ["tasks", _, name, ..]) if !name.ends_with(".out") => {
                return Err(format!("I22: {op} in a task's directory"));
            }
            (Call::Rename, ["procs", wid]) => {
                self.owners.insert((*wid).to_owned(), me);
            }
            (_, ["procs", wid, rest @ ..]) if !wid.starts_with(".new-") => {
                self.in_process(world, disk, me, op, wid, rest)?;
            }
            (_, ["events", name]) if *name != "bell" => {
                let wid = name.split('.').next().unwrap_or_default();
                let own = wid.starts_with("cli@") || self.owners.get(wid) == Some(&me);
                if !own {
                    return Err(format!("I22: {op} by a process that is not {wid}"));
                }
            }
            _ => {}
        }
        // What a rename takes away counts too.
        if op.call == Call::Rename
            && let ["procs", wid, rest @ ..] = from
            && !wid.starts_with(".new-")
        {
            self.in_process(world, disk, me, op, wid, rest)?;
        }
        Ok(())
    }

    /// A change below `procs/W`.
    fn in_process(
        &self,
        world: &World,
        disk: &Disk,
        me: usize,
        op: &Op,
        wid: &str,
        rest: &[&str],
    ) -> Broken {
        if let (Call::Unlink, ["run", name]) = (op.call, rest) {
            self.dropped(disk, wid, name)?;
        }
        let owner = self.owners.get(wid).copied();
        let Some(owner) = owner.filter(|owner| *owner != me) else { return Ok(()) };
        match (op.call, rest) {
            (Call::Link, ["end"]) | (Call::Touch, ["bell"]) => return Ok(()),
            _ => {}
        }
        if world.processes[owner].state == State::Dead {
            return Ok(());
        }
        // Without run/ it was leaving, and has nothing left to remember.
        let dir = Path::new(ROOT).join("procs").join(wid);
        if disk.find(&dir.join("run")).is_err() {
            return Ok(());
        }
        if disk.find(&dir.join("end")).is_err() {
            return Err(format!("I10: {op} by another process, while {wid} lives"));
        }
        // Declared dead and alive: a zombie. Its unclaimed intents must stay (fault 13), unless it
        // said itself that it left.
        if let (Call::Unlink, ["run", name]) = (op.call, rest)
            && let Some((task, n)) = name.rsplit_once('.')
            && n.parse::<u32>().is_ok()
            && !name.starts_with('_')
        {
            let claim = Path::new(ROOT).join("tasks").join(task).join(format!("{n}.claim"));
            if disk.find(&claim).is_err() && !self.left(disk, wid) {
                return Err(format!(
                    "I10: the unclaimed intent {name} of the living {wid} was dropped"
                ));
            }
        }
        Ok(())
    }

    /// I9: the intent of a claim stays until its attempt has ended.
    fn dropped(&self, disk: &Disk, wid: &str, name: &str) -> Broken {
        let Some((task, n)) = name.rsplit_once('.') else { return Ok(()) };
        let dir = Path::new(ROOT).join("tasks").join(task);
        if name.starts_with('_') || disk.find(&dir.join(format!("{n}.end"))).is_ok() {
            return Ok(());
        }
        let claim = disk.find(&dir.join(format!("{n}.claim"))).and_then(|ino| disk.content(ino));
        let card: Value =
            claim.ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        // A hold stands by itself.
        if card["wid"] == wid && card["kind"] != "hold" {
            return Err(format!("I9: the intent of {name} went before its end"));
        }
        Ok(())
    }

    fn left(&self, disk: &Disk, wid: &str) -> bool {
        let path = Path::new(ROOT).join("procs").join(wid).join("end");
        let end = disk.find(&path).and_then(|ino| disk.content(ino));
        let note: Value =
            end.ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        note["by"] == wid && note["death"].is_null()
    }

    /// I2, I3, I4, I13, and kill before fence: a register was published.
    fn published(
        &mut self,
        world: &World,
        disk: &Disk,
        me: usize,
        task: &str,
        name: &str,
    ) -> Broken {
        let tasks = Tasks::read(disk, &mut self.parsed);
        let Some(this) = tasks.get(task) else {
            return Err(format!("I2: {task} has no spec.json"));
        };
        let Some((n, kind)) = register(name) else { return Ok(()) };
        match kind {
            "claim" => {
                if !this.permits(n) {
                    return Err(format!("I2: {task}.{n} was claimed, and nothing permits it"));
                }
                if let Some(done) = this.done_attempts().first() {
                    return Err(format!(
                        "I4: {task}.{n} was claimed above the done attempt {done}"
                    ));
                }
                if this.claim_kind(n) == "worker" {
                    let open = tasks.never_met(task);
                    if !open.is_empty() {
                        return Err(format!(
                            "I13: {task}.{n} was claimed before {}",
                            open.join(" ")
                        ));
                    }
                }
            }
            "merge" => {
                if !this.succeeded(n) {
                    return Err(format!("I3: {task}.{n} was merged, and is not done"));
                }
                if this.done_attempts().len() > 1 {
                    return Err(format!("I4: {task} was merged twice"));
                }
            }
            "end" => {
                if this.claim(n).is_none() {
                    return Err(format!("I3: {task}.{n} ended without a claim"));
                }
                if this.done_attempts().len() > 1 {
                    return Err(format!("I4: {task} was done twice"));
                }
                match this.is_array() {
                    true => crate::arrays::ended_rightly(disk, task, &this.end(n))?,
                    false => self.ended_rightly(world, disk, me, task, n, &this.end(n))?,
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub fn ended_rightly(
        &self,
        world: &World,
        disk: &Disk,
        me: usize,
        task: &str,
        n: u32,
        end: &Value,
    ) -> Broken {
        let key = (task.to_owned(), n);
        let holder = end["holder"].as_str().unwrap_or_default();
        let verdict = end["verdict"].as_str().unwrap_or_default();
        if verdict == "done" && self.ended.get(&key) != Some(&Ok(0)) {
            return Err(format!("I20: {task}.{n} was ended as done, and its job did not succeed"));
        }
        if verdict != "expired" {
            return Ok(());
        }
        // Kill before fence: on its own machine nothing of the attempt may be left.
        if let Some(owner) = self.owners.get(holder).copied()
            && world.processes[owner].machine == world.processes[me].machine
            && owner != me
        {
            if world.processes[owner].state != State::Dead && !self.left(disk, holder) {
                return Err(format!("R5: {task}.{n} was expired while {holder} lives here"));
            }
            if self.running.contains(&key) {
                return Err(format!("R5: {task}.{n} was expired while its job runs here"));
            }
        }
        Ok(())
    }

    /// I7, I14, I15: what must follow is there, or somebody has noted it.
    fn follow_ups(&mut self, world: &World, disk: &Disk) -> Broken {
        let tasks = Tasks::read(disk, &mut self.parsed);
        let hints = crate::registers::Hints::read(disk);
        for (id, task) in tasks.iter() {
            let noted = hints.noted(id) || tasks.after(id).iter().any(|on| hints.noted(on));
            if noted {
                continue;
            }
            if !self.unverified {
                match tasks.next(id, world.wall_ms(0)) {
                    Next::Ready(m) | Next::Delayed(m) if !hints.leads_to(id, m) => {
                        return Err(format!(
                            "I7/I14: {id}.{m} can run, no hint leads to it and no intent names it"
                        ));
                    }
                    Next::Merging(n) if !hints.merging(id, n) => {
                        return Err(format!("I7: {id}.{n} waits for its merge, and no lane knows"));
                    }
                    Next::Blocked(m) if !hints.leads_to(id, m) && !hints.blocked(id, m) => {
                        return Err(format!("I7: {id}.{m} is blocked, and nothing remembers it"));
                    }
                    // Whoever follows a hint to it, cancels it.
                    Next::CancelDue(m) if !hints.leads_to(id, m) && !hints.blocked(id, m) => {
                        return Err(format!(
                            "I14: {id}.{m} must be cancelled, and nothing remembers it"
                        ));
                    }
                    _ => {}
                }
            }
            if !self.deaf {
                for (kind, n) in task.told() {
                    let alias = if kind == "claim" { "hold" } else { kind };
                    let told = |k: &str| {
                        self.events.contains(&(k.to_owned(), id.to_owned(), u64::from(n)))
                    };
                    if !told(kind) && !told(alias) {
                        return Err(format!(
                            "I15: no event and no intent tells of {id}/{n}.{kind}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Bytes were appended to a file.
    pub fn appended(&mut self, path: &Path, bytes: &[u8]) {
        if relative(path).first() != Some(&"events") {
            return;
        }
        for line in bytes.split(|b| *b == b'\n') {
            let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            self.events.insert((text("k"), text("id"), event["n"].as_u64().unwrap_or(0)));
        }
    }

    /// I5, I6: a job is started.
    pub fn spawned(&mut self, world: &World, job: &Job) -> Broken {
        let key = (job.task.clone(), job.n);
        let holder = job.token.rsplit('@').next().unwrap_or_default().to_owned();
        if let Some(other) = self.started.insert(key.clone(), holder.clone()) {
            return Err(format!(
                "I5: {}.{} was started by {other} and by {holder}",
                job.task, job.n
            ));
        }
        let machine = world.processes[job.owner].machine;
        let rival = world.jobs.iter().find(|other| {
            other.alive && other.task == job.task && world.processes[other.owner].machine == machine
        });
        // A forced cancel may come between a claim and the start of its job; the bell ends that job.
        if let Some(rival) = rival.filter(|_| !self.forced) {
            return Err(format!(
                "I6: {}.{} starts while {}.{} runs here",
                job.task, job.n, job.task, rival.n
            ));
        }
        let disk = world.fs.disk();
        if let Some((array, number)) = job.task.split_once('/') {
            crate::arrays::starts_rightly(&disk, array, number, job.n, &holder)?;
            self.running.insert(key);
            return Ok(());
        }
        let tasks = Tasks::read(&disk, &mut self.parsed);
        let Some(task) = tasks.get(&job.task) else {
            return Err(format!("I2: {} has no spec", job.task));
        };
        if task.claim(job.n).is_none_or(|card| card["wid"] != holder) {
            return Err(format!("I5: {}.{} runs, and its claim is another's", job.task, job.n));
        }
        let zombie = disk.find(&Path::new(ROOT).join("procs").join(&holder).join("end")).is_ok()
            || disk.find(&Path::new(ROOT).join("procs").join(&holder)).is_err();
        if task.has_end(job.n) && !zombie && !self.forced {
            return Err(format!("I6: {}.{} starts after its end", job.task, job.n));
        }
        self.scopes_are_free(world, &tasks, job)?;
        self.running.insert(key);
        Ok(())
    }

    /// A job has ended.
    pub fn job_ended(&mut self, job: &Job, exit: Result<i32, i32>) {
        let key = (job.task.clone(), job.n);
        self.running.remove(&key);
        self.ended.insert(key, exit);
    }

    /// I17, I19 and the promise itself, when nobody works any more.
    pub fn at_rest(&mut self, world: &World) -> Broken {
        let disk = world.fs.disk();
        let tasks = Tasks::read(&disk, &mut self.parsed);
        for (id, uid) in &self.acknowledged {
            match tasks.get(id) {
                Some(task) if task.uid() == *uid => {}
                None if tasks.is_buried(id) => {}
                _ => return Err(format!("I19: the accepted submission {id} is lost")),
            }
        }
        for (id, task) in tasks.iter() {
            if task.is_array() {
                crate::arrays::at_rest(&disk, id)?;
            }
            match tasks.next(id, u64::MAX) {
                Next::Over | Next::Kept => {}
                Next::Blocked(_) | Next::Merging(_) if tasks.waits_for_ever(id) => {}
                Next::Running(n) => return Err(format!("I17: {id}.{n} is still claimed")),
                other => return Err(format!("lost: nobody will run {id} any more ({other:?})")),
            }
            if let Some(on) = tasks.cancelled_without_cause(id) {
                return Err(format!(
                    "I14: {id} stays cancelled because of {on}, which is not dead"
                ));
            }
            let done = task.done_attempts();
            let good = self.ended.iter().filter(|((of, _), exit)| of == id && **exit == Ok(0));
            if done.is_empty() && task.ended_well() {
                return Err(format!("I4: {id} is over without a done attempt"));
            }
            if done.len() > 1 {
                return Err(format!(
                    "I4: {id} was done {} times, {} jobs succeeded",
                    done.len(),
                    good.count()
                ));
            }
        }
        if self.registers.iter().any(|(path, (ino, bytes))| {
            let (task, name) =
                path.trim_start_matches("tasks/").split_once('/').unwrap_or_default();
            let lies = std::iter::once(Path::new(ROOT).join(path));
            let mut lies = lies.chain(archived(task).map(|dir| dir.join(name)));
            let found = lies.find_map(|path| disk.find(&path).ok());
            let kept = found == Some(*ino) && disk.content(*ino).ok().as_ref() == Some(bytes);
            !(kept || found.is_none() && tasks.is_buried(task))
        }) {
            return Err("I1: a register was lost or changed".to_owned());
        }
        Ok(())
    }
}
