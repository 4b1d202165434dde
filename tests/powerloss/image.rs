//! From what was written to what a power loss leaves of it, by three models of file systems.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::disk::{Change, Disk, Ino};
use coord::chaos::dice::Dice;

/// What a file system promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// ext4, xfs: names reach the disk in order, and each sync takes all names before it along. Data
    /// that was not synced may be missing although the name is there.
    Ordered,
    /// btrfs: some moment in order, and on top of it what was synced since, without what was not.
    SyncedFirst,
    /// Any subset of what was not synced, names and data; data torn, empty or old.
    Adversarial,
}

/// All models.
pub const MODELS: [Model; 3] = [Model::Ordered, Model::SyncedFirst, Model::Adversarial];

/// How the choice among the disks that a model allows is made.
#[derive(Debug, Clone)]
pub enum Choice {
    /// By chance.
    Dice(u64),
    /// Nothing that was not synced is there.
    Nothing,
    /// All names are there, and no data that was not synced.
    NoData,
    /// Of what was not synced, names that went are gone, and no others came.
    Gone,
    /// Of the last changes that were not synced, those whose bit is set; of the others all.
    Window(u64),
}

/// Changes that `Choice::Window` chooses among.
pub const WINDOW: usize = 7;

/// A content that a file got, and by which change.
type Version<'a> = (usize, &'a Arc<Vec<u8>>);

/// The disk after a power loss behind the first `length` changes.
pub fn build(
    base: &Disk,
    journal: &[Change],
    length: usize,
    model: Model,
    choice: &Choice,
) -> Disk {
    let changes = &journal[..length];
    let synced = synced(changes);
    let mut dice = Dice::new(match choice {
        Choice::Dice(seed) => *seed,
        _ => 1,
    });
    let kept = kept(changes, &synced, model, choice, &mut dice);
    let (mut dirs, mut files) = base.parts();
    let mut written: BTreeMap<Ino, Vec<Version<'_>>> = BTreeMap::new();
    for (i, change) in changes.iter().enumerate() {
        match change {
            Change::Name { ino, is_dir, .. } => {
                if *is_dir {
                    dirs.entry(*ino).or_default();
                } else {
                    files.entry(*ino).or_default();
                }
            }
            Change::Data { ino, bytes } => written.entry(*ino).or_default().push((i, bytes)),
            _ => {}
        }
        if kept.contains(&i) {
            apply(&mut dirs, change);
        }
    }
    for (ino, versions) in written {
        let before = files.get(&ino).cloned().unwrap_or_default();
        files.insert(ino, content(&before, &versions, &synced, choice, &mut dice));
    }
    Disk::of_parts(dirs, files)
}

/// The changes that are durable because somebody waited for them.
fn synced(changes: &[Change]) -> BTreeSet<usize> {
    let mut open_names: BTreeMap<Ino, Vec<usize>> = BTreeMap::new();
    let mut open_data: BTreeMap<Ino, Vec<usize>> = BTreeMap::new();
    let mut synced = BTreeSet::new();
    for (i, change) in changes.iter().enumerate() {
        match change {
            Change::Name { dir, .. } | Change::Unname { dir, .. } => {
                open_names.entry(*dir).or_default().push(i);
            }
            // One of its two directories is enough: all file systems keep a rename whole.
            Change::Rename { from, to, .. } => {
                open_names.entry(from.0).or_default().push(i);
                open_names.entry(to.0).or_default().push(i);
            }
            Change::Data { ino, .. } => open_data.entry(*ino).or_default().push(i),
            Change::SyncFile { ino } => synced.extend(open_data.remove(ino).unwrap_or_default()),
            Change::SyncDir { dir } => synced.extend(open_names.remove(dir).unwrap_or_default()),
        }
    }
    synced
}

fn is_name(change: &Change) -> bool {
    matches!(change, Change::Name { .. } | Change::Unname { .. } | Change::Rename { .. })
}

/// The changes of names that are on the disk.
fn kept(
    changes: &[Change],
    synced: &BTreeSet<usize>,
    model: Model,
    choice: &Choice,
    dice: &mut Dice,
) -> BTreeSet<usize> {
    let names = |i: &usize| is_name(&changes[*i]);
    let last_sync = changes
        .iter()
        .rposition(|c| matches!(c, Change::SyncFile { .. } | Change::SyncDir { .. }))
        .map_or(0, |at| at + 1);
    let open: Vec<usize> =
        (0..changes.len()).filter(names).filter(|i| !synced.contains(i)).collect();
    let (from, share) = match model {
        Model::Ordered => (last_sync, 0),
        Model::SyncedFirst => (0, 0),
        Model::Adversarial => (0, [5, 30, 50, 80, 97][usize::try_from(dice.roll(5)).unwrap_or(0)]),
    };
    let more = (changes.len() - from) as u64 + 1;
    let prefix = match (choice, model) {
        (Choice::Nothing | Choice::Gone, _) => from,
        (Choice::NoData | Choice::Window(_), _) => changes.len(),
        (Choice::Dice(_), Model::Adversarial) => 0,
        (Choice::Dice(_), _) => from + usize::try_from(dice.roll(more)).unwrap_or(0),
    };
    let mut kept: BTreeSet<usize> =
        (0..changes.len()).filter(names).filter(|i| synced.contains(i) || *i < prefix).collect();
    if let (Choice::Dice(_), Model::Adversarial) = (choice, model) {
        kept.extend(open.iter().copied().filter(|_| dice.chance(share)));
    }
    if let Choice::Gone = choice {
        let went = |i: &usize| matches!(changes[*i], Change::Unname { .. });
        kept.extend(open.iter().copied().filter(went));
    }
    if let Choice::Window(bits) = choice {
        for (bit, i) in open.iter().rev().take(WINDOW).enumerate() {
            if bits >> bit & 1 == 0 {
                kept.remove(i);
            }
        }
    }
    kept
}

type Dirs = BTreeMap<Ino, BTreeMap<String, Ino>>;

fn apply(dirs: &mut Dirs, change: &Change) {
    match change {
        Change::Name { dir, name, ino, .. } => {
            dirs.entry(*dir).or_default().insert(name.clone(), *ino);
        }
        Change::Unname { dir, name } => {
            dirs.entry(*dir).or_default().remove(name);
        }
        Change::Rename { from, to, ino } => {
            let old = dirs.entry(from.0).or_default();
            if old.get(&from.1) == Some(ino) {
                old.remove(&from.1);
            }
            dirs.entry(to.0).or_default().insert(to.1.clone(), *ino);
        }
        _ => {}
    }
}

/// What stands in a file: at least what was synced, and of what came after it anything.
fn content(
    before: &Arc<Vec<u8>>,
    versions: &[Version<'_>],
    synced: &BTreeSet<usize>,
    choice: &Choice,
    dice: &mut Dice,
) -> Arc<Vec<u8>> {
    let durable = versions.iter().rposition(|(i, _)| synced.contains(i));
    let old = durable.map_or(before, |at| versions[at].1);
    let Some((_, new)) = versions.last().filter(|_| durable != Some(versions.len() - 1)) else {
        return old.clone();
    };
    match choice {
        Choice::Nothing | Choice::NoData | Choice::Gone => old.clone(),
        Choice::Window(_) => (*new).clone(),
        Choice::Dice(_) => match dice.roll(4) {
            0 => old.clone(),
            1 => (*new).clone(),
            // The length is there, the bytes are not.
            2 => {
                let mut torn = old.to_vec();
                torn.resize(new.len().max(old.len()), 0);
                Arc::new(torn)
            }
            _ => {
                let more = new.len().saturating_sub(old.len()) as u64;
                let end = old.len() + usize::try_from(dice.roll(more + 1)).unwrap_or(0);
                Arc::new(new[..end.min(new.len())].to_vec())
            }
        },
    }
}
