//! Submitting a task.
//!
//! Steps:
//! 1. write the spec to `procs/W/run/_submit.T` (by way of a temporary name);
//! 2. make `tasks/T`;
//! 3. link the staged spec to `tasks/T/spec.json`: **the task is accepted**;
//! 4. in the durable modes: wait until the disk has it;
//! 5. follow-ups (`settle`): waiters, blocked/, delayed/ or ready/, bells;
//! 6. event, behind the bells: whoever waits for work does not wait for it;
//! 7. drop the staged spec.
//!
//! Many submissions at once wait for the disk together: `begin` each, then `acknowledge` all.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Cannot, Error, Exit, Result};
use crate::plan::validate::validate;
use crate::rule;
use crate::step;
use crate::sys::fs::{Dir, is_absent};

use super::Queue;
use super::acceptance;
use super::archive;
use super::durable::{self, Durability};
use super::evaluate::dependency;
use super::events::{self, Event};
use super::ids::{Key, is_number, random_part};
use super::layout::Lot;
use super::procs::Proc;
use super::record::{self, RECORD_MAX, Spec};
use super::register::{Held, publish_staged};
use super::settle::settle;
use super::tasks;

mod circle;

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// Accepted under this id.
    New(String),
    /// The same task was there already.
    AlreadyThere(String),
}

impl Submitted {
    /// The task's id.
    pub fn id(&self) -> &str {
        match self {
            Submitted::New(id) | Submitted::AlreadyThere(id) => id,
        }
    }
}

/// A submission that is linked. It must go through `acknowledge` before anybody is told.
#[derive(Debug)]
pub struct Begun {
    submitted: Submitted,
    dir: Dir,
    staged: PathBuf,
    spec: Spec,
}

impl Begun {
    /// The task's id.
    pub fn id(&self) -> &str {
        self.submitted.id()
    }

    /// Whether it was not there already.
    pub fn is_new(&self) -> bool {
        matches!(self.submitted, Submitted::New(_))
    }
}

/// Submissions that should be acknowledged together: only waiting for the disk is worth it.
pub fn batch(queue: &Queue) -> usize {
    if queue.durability == Durability::Process { 1 } else { 1000 }
}

/// Submits a task; without an id it gets the next free number.
pub fn submit(queue: &Queue, me: &mut Proc, id: Option<&str>, spec: Spec) -> Result<Submitted> {
    let begun = accept(queue, me, id, spec)?;
    let submitted = begun.submitted.clone();
    acknowledge(queue, me, vec![begun], None)?;
    // Behind the bells: no worker waits for it.
    remember_number(queue, id, submitted.id());
    Ok(submitted)
}

/// Steps 1 to 3 of one of many: the next one gets the next number at once.
pub fn begin(queue: &Queue, me: &mut Proc, id: Option<&str>, spec: Spec) -> Result<Begun> {
    let begun = accept(queue, me, id, spec)?;
    remember_number(queue, id, begun.id());
    Ok(begun)
}

fn accept(queue: &Queue, me: &mut Proc, id: Option<&str>, mut spec: Spec) -> Result<Begun> {
    spec.v = 1;
    if spec.uid.is_empty() {
        let (a, b) = (queue.clock.random(), queue.clock.random());
        spec.uid = format!("{}{}", random_part(a), random_part(b));
    }
    if spec.by.is_empty() {
        spec.by.clone_from(&me.wid);
    }
    if spec.at.is_empty() {
        spec.at = queue.now();
    }
    acceptance::complete(queue, id, &mut spec)?;
    check(queue, me, id, &spec)?;
    stage_and_link(queue, me, id, spec)
}

/// Submits a file that was taken from incoming/ and checked already: the taken file goes when the
/// task is there, so that at every instant one of the two is there to be redone, or both with the
/// same uid.
pub fn submit_taken(
    queue: &Queue,
    me: &mut Proc,
    id: Option<&str>,
    spec: Spec,
    taken: &Path,
) -> Result<Submitted> {
    let begun = stage_and_link(queue, me, id, spec)?;
    let submitted = begun.submitted.clone();
    acknowledge(queue, me, vec![begun], Some(taken))?;
    remember_number(queue, id, submitted.id());
    Ok(submitted)
}

fn stage_and_link(queue: &Queue, me: &mut Proc, id: Option<&str>, spec: Spec) -> Result<Begun> {
    let first = match id {
        Some(id) => id.to_owned(),
        None => first_number(queue)?.to_string(),
    };
    let staged = me.run(&format!("_submit.{first}"));
    make_room(queue, me, &first)?;
    stage(queue, &staged, &spec)?;
    place(queue, me, id.is_some(), first, staged, spec)
}

/// Everything that makes a submission impossible, before anything is written.
pub fn check(queue: &Queue, me: &mut Proc, id: Option<&str>, spec: &Spec) -> Result<()> {
    validate(id, spec).map_err(Error::usage)?;
    for entry in spec.after.iter().chain(&spec.merge_after) {
        let (on, _) = dependency(entry);
        if Some(on) == id {
            return Err(Error::usage(format!("{on} cannot come after itself")));
        }
        if is_number(on) && !queue.fs.exists(&queue.layout.task(on)) && !archive::holds(queue, on) {
            return Err(Error::new(Exit::NotFound, format!("no task {on} to come after"))
                .hint("numbers are given by the queue: add that task first"));
        }
    }
    let Some(id) = id else { return Ok(()) };
    match circle::closed_by(queue, me, id, spec) {
        None => Ok(()),
        Some(cycle) => {
            let path = cycle.join(" → ");
            Err(Error::usage(format!("dependency cycle: {path}"))
                .hint(format!("take one of them out of --after when adding {id}")))
        }
    }
}

/// Finishes with a submission that this process holds staged under that id and could not place (a
/// full disk): a rename replaces what is there, and it must not be this one.
fn make_room(queue: &Queue, me: &mut Proc, id: &str) -> Result<()> {
    let mine = me.run(&format!("_submit.{id}"));
    match queue.fs.stat(&mine) {
        Err(e) if is_absent(&e) => Ok(()),
        _ => resume(queue, me, &mine, id),
    }
}

fn stage(queue: &Queue, staged: &Path, spec: &Spec) -> Result<()> {
    let bytes = record::to_bytes(spec);
    if bytes.len() >= RECORD_MAX {
        return Err(
            Error::usage("the task is longer than 1 MiB").hint("put long input into a file")
        );
    }
    let tmp = staged.with_file_name(format!("{}.tmp", crate::sys::fs::name_of(staged)));
    step!("submit.stage");
    queue.stage(&tmp, &bytes, "write a task")?;
    step!("submit.staged");
    queue.fs.rename(&tmp, staged).cannot("write a task", staged)
}

/// Steps 2 and 3: also what a recoverer does with a staged submission. `given`: the id was chosen
/// by the submitter, otherwise the next number is tried when one is taken.
fn place(
    queue: &Queue,
    me: &mut Proc,
    given: bool,
    mut id: String,
    mut staged: PathBuf,
    spec: Spec,
) -> Result<Begun> {
    loop {
        let (linked, dir) = link_spec(queue, me, &id, &staged, &spec)?;
        let submitted = match linked {
            Linked::Accepted => Submitted::New(id),
            Linked::Same => Submitted::AlreadyThere(id),
            Linked::Taken if given => {
                queue.discard(&staged)?;
                let what = format!("the id {id} is taken by another task");
                return Err(Error::new(Exit::Conflict, what).hint(format!("coord show {id}")));
            }
            Linked::Taken => {
                // The staged file takes the next number with it: a rename, never a copy, so a crash
                // leaves one submission and not two.
                let next = loop {
                    id = next_number(&id);
                    let next = me.run(&format!("_submit.{id}"));
                    match queue.fs.stat(&next) {
                        // Another one of this process, which could not be placed before.
                        Ok(_) => {}
                        Err(e) if is_absent(&e) => break next,
                        Err(e) => return Err(e).cannot("stage a task", &next),
                    }
                };
                step!("submit.rekey");
                queue.fs.rename(&staged, &next).cannot("stage a task", &next)?;
                staged = next;
                continue;
            }
        };
        return Ok(Begun { submitted, dir, staged, spec });
    }
}

/// From step 4 on. `taken`: the file of incoming/ that it came from.
pub fn acknowledge(
    queue: &Queue,
    me: &mut Proc,
    begun: Vec<Begun>,
    taken: Option<&Path>,
) -> Result<()> {
    begun.iter().try_for_each(|one| durable::task(queue, &one.dir))?;
    durable::all_tasks(queue)?;
    if let Some(taken) = taken {
        step!("incoming.staged");
        queue.discard(taken)?;
    }
    for Begun { submitted, staged, spec, .. } in begun {
        let id = submitted.id();
        durable::remember_new(queue, me, id);
        let mut event = Event::of("submit", &Key::new(id, 0)).why(&spec.title);
        event.by.clone_from(&spec.by);
        if let Some(wave) = spec.wave {
            event.more.insert("wave".to_owned(), wave.into());
        }
        events::later(queue, me, event);
        step!("submit.settle");
        settle(queue, me, id)?;
        events::flush(queue, me);
        step!("submit.drop");
        queue.discard(&staged)?;
    }
    Ok(())
}

enum Linked {
    Accepted,
    Same,
    Taken,
}

/// Steps 2 and 3. The directory may be removed by the sweep while it is empty, or moved away: then
/// all over again.
fn link_spec(
    queue: &Queue,
    me: &Proc,
    id: &str,
    staged: &Path,
    spec: &Spec,
) -> Result<(Linked, Dir)> {
    let path = queue.layout.task(id);
    let ours = record::to_bytes(spec);
    loop {
        step!("submit.mkdir");
        match queue.fs.mkdir(&path) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(e).cannot("make a task", &path);
            }
            _ => {}
        }
        let dir = match queue.fs.open_dir(&path) {
            Ok(dir) => dir,
            Err(e) if is_absent(&e) && queue.fs.exists(&queue.layout.tasks()) => continue,
            Err(e) => return Err(e).cannot("open a task", &path),
        };
        // Only now: who was archived before this has left the directory's name to whoever comes, and
        // what is archived from here on was in the directory that is open.
        if rule!("F1")
            && let Some(taken) = in_archive(queue, id, spec)?
        {
            // Made just now, perhaps; what is not empty stays.
            drop(queue.fs.rmdir(&path));
            return Ok(taken);
        }
        step!("submit.link");
        let held = publish_staged(queue, me, id, (staged, &ours), (&dir, "spec.json"), |bytes| {
            bytes == ours
        });
        match held {
            Ok(Held::New | Held::Ours) => return Ok((Linked::Accepted, dir)),
            Ok(Held::Theirs(bytes)) => {
                return Ok((compare(id, record::parse(&bytes).ok().as_ref(), spec), dir));
            }
            Err(e) if e.errno() == Some(nix::libc::ENOENT) && queue.fs.exists(staged) => {}
            Err(e) => return Err(e),
        }
    }
}

/// A number is given anew to every submission; a chosen id is the submitter's word that it is the same
/// task.
fn compare(id: &str, theirs: Option<&Spec>, ours: &Spec) -> Linked {
    let same =
        theirs.is_some_and(|t| t.uid == ours.uid || (!is_number(id) && t.same_meaning(ours)));
    if same { Linked::Same } else { Linked::Taken }
}

/// The task that has used this id before, and was archived. What is buried has no spec any more.
fn in_archive(queue: &Queue, id: &str, spec: &Spec) -> Result<Option<(Linked, Dir)>> {
    if let Some(task) = archive::look(queue, id)? {
        return Ok(Some((compare(id, task.spec.as_ref().ok(), spec), task.dir)));
    }
    if archive::tomb(queue, id)?.is_none() {
        return Ok(None);
    }
    let path = queue.layout.burials();
    let dir = queue.fs.open_dir(&path).cannot("open a directory", &path)?;
    Ok(Some((Linked::Taken, dir)))
}

/// The largest number that the counter starts behind. A hint or a directory that says more was made
/// by a hand, and to count on from it would leave no numbers.
const NUMBER_MAX: u64 = 1_000_000_000_000;

/// Where the counter starts: the hint, or behind the largest number there is.
fn first_number(queue: &Queue) -> Result<u64> {
    let hint = queue.fs.read(&queue.layout.next_id(), 0, 64).ok();
    let hint = hint.and_then(|bytes| {
        // Twice the same, or half of it is from another submission that writes right now.
        let text = String::from_utf8(bytes).ok()?;
        let mut words = text.split_ascii_whitespace();
        let first = words.next()?;
        words.all(|word| word == first).then(|| first.parse().ok())?
    });
    if let Some(next) = hint.filter(|next| (1..=NUMBER_MAX).contains(next)) {
        return Ok(next);
    }
    let mut ids = tasks::ids(queue)?;
    for lot in Lot::ALL {
        let taken = archive::all(queue, lot)?.into_iter().chain(archive::tombs(queue, lot)?);
        ids.extend(taken.map(|(id, _)| id));
    }
    let numbers = ids.iter().filter(|id| is_number(id)).filter_map(|id| id.parse().ok());
    Ok(numbers.filter(|number| *number < NUMBER_MAX).max().unwrap_or(0) + 1)
}

fn next_number(id: &str) -> String {
    id.parse::<u64>().unwrap_or(0).saturating_add(1).to_string()
}

/// The number behind that of a submission that chose no id. Only a hint: a stale one costs failed
/// links, none at all one listing. Always as long as any other, so that it can be written in place, and
/// the number twice, so that who reads it meanwhile can tell.
fn remember_number(queue: &Queue, chosen: Option<&str>, id: &str) {
    if chosen.is_none() {
        let (path, next) = (queue.layout.next_id(), next_number(id));
        let hint = format!("{next:0>20} {next:0>20}\n");
        if queue.fs.overwrite(&path, hint.as_bytes()).is_err() {
            drop(queue.replace(&path, hint.as_bytes()));
        }
    }
}

/// The number that a submission has got. A given id needs no search: its task decides.
pub fn number_of(queue: &Queue, uid: &str) -> Result<Option<String>> {
    // Only a power loss makes somebody search, and it may be archived by then.
    let mut all = numbers(queue, queue.is_durable())?;
    Ok(all.find(|(_, of)| of == uid).map(|(id, _)| id))
}

/// The tasks that have a number, archived ones too, by the identity of their submission.
pub fn numbered(queue: &Queue) -> Result<BTreeMap<String, String>> {
    Ok(numbers(queue, true)?.map(|(id, uid)| (uid, id)).collect())
}

/// The tasks that have a number, with the identity of their submission, read one by one.
fn numbers(queue: &Queue, archived: bool) -> Result<impl Iterator<Item = (String, String)>> {
    let live = tasks::ids(queue)?.into_iter().map(|id| (id.clone(), queue.layout.task(&id)));
    let mut all: Vec<_> = live.collect();
    if archived {
        for lot in Lot::ALL {
            all.extend(archive::all(queue, lot)?);
        }
    }
    let uid = |dir: PathBuf| {
        let bytes = queue.fs.read(&dir.join("spec.json"), 0, RECORD_MAX).unwrap_or_default();
        record::parse::<Spec>(&bytes).ok().map(|spec| spec.uid)
    };
    let numbers = all.into_iter().filter(|(id, _)| is_number(id));
    Ok(numbers.filter_map(move |(id, dir)| uid(dir).map(|uid| (id, uid))))
}

/// Finishes a submission that a dead process had staged.
pub fn resume(queue: &Queue, me: &mut Proc, staged: &Path, id: &str) -> Result<()> {
    let bytes = match queue.fs.read(staged, 0, RECORD_MAX) {
        Err(e) if is_absent(&e) => return Ok(()),
        other => other.cannot("read a staged task", staged)?,
    };
    let Ok(spec) = record::parse::<Spec>(&bytes) else { return queue.discard(staged) };
    // Published before it died, perhaps: then only the follow-ups are missing.
    let own = |t: &tasks::Task| t.spec.as_ref().is_ok_and(|s| s.uid == spec.uid);
    let mut there = tasks::look(queue, id)?.filter(own);
    if there.is_none()
        && is_number(id)
        && let Some(number) = number_of(queue, &spec.uid)?
    {
        // It had taken another number, which a power loss has let its name forget.
        there = tasks::look(queue, &number)?;
    }
    if let Some(task) = there {
        durable::registers(queue, me, &task)?;
        settle(queue, me, &task.id)?;
        events::append(queue, me, Event::of("submit", &Key::new(&task.id, 0)).why(&spec.title));
        return queue.discard(staged);
    }
    let name = format!("_submit.{id}");
    let mine = me.run(&name);
    if mine != staged {
        make_room(queue, me, id)?;
        durable::home(queue, me)?;
        match queue.fs.rename(staged, &mine) {
            Err(e) if is_absent(&e) => return Ok(()),
            other => other.cannot("take over a staged task", staged)?,
        }
    }
    match place(queue, me, !is_number(id), id.to_owned(), mine, spec) {
        // Its id was given to another task meanwhile; nobody was told that it was accepted.
        Err(e) if e.exit == Exit::Conflict => Ok(()),
        begun => acknowledge(queue, me, vec![begun?], None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_from_what_programs_gave_out() {
        use crate::sys::fs::{Fs, RealFs};
        use crate::sys::host::Platform;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("q");
        let queue = crate::queue::init::init(&root, Platform::real()).unwrap();
        RealFs.mkdir(&queue.layout.task("18446744073709551615")).unwrap();
        RealFs.mkdir(&queue.layout.task("7")).unwrap();
        assert_eq!(first_number(&queue).unwrap(), 8);
        for hint in ["18446744073709551615", "0", "x", "00019 00010"] {
            RealFs.create(&queue.layout.next_id(), hint.as_bytes(), 0o644).unwrap();
            assert_eq!(first_number(&queue).unwrap(), 8, "{hint}");
        }
        RealFs.create(&queue.layout.next_id(), b"12\n", 0o644).unwrap();
        assert_eq!(first_number(&queue).unwrap(), 12);
        let inode = || RealFs.stat(&queue.layout.next_id()).unwrap().ino;
        let by_hand = inode();
        remember_number(&queue, None, "12");
        let (hint, ours) = (RealFs.read(&queue.layout.next_id(), 0, 64).unwrap(), inode());
        assert_eq!(hint, b"00000000000000000013 00000000000000000013\n");
        assert_ne!(ours, by_hand, "half of a shorter hint must not stay");
        remember_number(&queue, None, "99");
        assert_eq!(first_number(&queue).unwrap(), 100);
        assert_eq!(inode(), ours, "renaming over it would make ext4 write to the disk");
        assert_eq!(next_number("18446744073709551615"), "18446744073709551615");
    }
}
