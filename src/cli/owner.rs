//! Who acts: before a command writes anything, whether it may, and as whom.
//!
//! Root becomes the owner of the queue; whoever has no right there is refused. Otherwise what was made
//! would be in the way of those who work there (queue-layout.md, section 15).

use std::path::{Path, PathBuf};

use crate::error::{Error, Exit, Result};
use crate::program::start::ensure_marked;
use crate::queue::{fsck, owners};
use crate::sys::fs::{Fs, RealFs};
use crate::sys::owner::{self, Owner, Part};

use super::args::{Cli, Mergeq, Verb, WorktreeVerb};
use super::place;

/// The option that lets root run commands.
const AS_OWNER: &str = "--as-owner";

/// What a command is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It reads.
    Look,
    /// It writes records, and runs no command of a task.
    Record,
    /// It runs commands of tasks: as the owner, if it is root that gives it and has said so.
    Run {
        /// `--as-owner` was given.
        as_owner: bool,
        /// It is a keeper itself, and started no other program for that.
        keeps: bool,
    },
}

/// Sees to it that a command acts as whom it should, in the queue that it is about.
pub fn settle(cli: &Cli, verb: &Verb) -> Result<()> {
    let Some((deed, dir)) = deed(verb).and_then(|deed| Some((deed, place_of(cli, verb)?))) else {
        return Ok(());
    };
    if let Verb::Fsck(args) = verb
        && args.repair
    {
        mend_as_root(&dir);
    }
    act_in(&dir, deed)
}

/// The same in this directory.
pub fn act_in(dir: &Path, deed: Deed) -> Result<()> {
    // What cannot be looked at is an error of whoever opens it.
    let Ok(owner) = Owner::of(dir) else { return Ok(()) };
    match (owner.part(dir), deed) {
        (Part::Root, Deed::Run { as_owner: false, .. }) => {
            Err(owners::refusal_of_root(dir, &owner)
                .hint(format!("{AS_OWNER} runs them as that user")))
        }
        (Part::Root, _) => become_owner(dir, &owner, deed),
        (_, Deed::Look) => Ok(()),
        (Part::Member, Deed::Run { as_owner: true, .. }) => {
            let what = format!("{AS_OWNER} is for root, who can become another user");
            Err(Error::usage(what).at(dir).hint("leave it out: commands run as you"))
        }
        (part, _) => owners::refusal(dir, &owner, part).map_or(Ok(()), Err),
    }
}

fn become_owner(dir: &Path, owner: &Owner, deed: Deed) -> Result<()> {
    let keep = matches!(deed, Deed::Run { keeps: true, .. });
    if keep {
        // It starts itself anew, and who is not root any more loses by that what it has kept.
        ensure_marked();
    }
    match owner::become_owner(owner, keep) {
        Err(cause) if deed != Deed::Look => {
            let name = owner::user_name(owner.uid);
            let what = format!("root cannot become {name}, whose queue this is");
            let hint = "give the command as that user".to_owned();
            let refused = Error::new(Exit::Environment, what).at(dir).hint(hint);
            Err(Error { cause: Some(cause), ..refused })
        }
        _ => Ok(()),
    }
}

/// Root may give back to the owner what root has made, which the owner could not.
fn mend_as_root(dir: &Path) {
    if let Ok(owner) = Owner::of(dir)
        && owner.part(dir) == Part::Root
    {
        fsck::owners::mend(dir);
    }
}

/// What a verb does; `None`: nothing with a queue that is there, or it asks for itself.
fn deed(verb: &Verb) -> Option<Deed> {
    Some(match verb {
        Verb::Init(_) | Verb::Chaos(_) | Verb::Sem(_) => return None,
        Verb::Runs
        | Verb::Status(_)
        | Verb::Ls(_)
        | Verb::Show(_)
        | Verb::Why(_)
        | Verb::Workers
        | Verb::Logs(_)
        | Verb::Events(_)
        | Verb::Wait(_)
        | Verb::Context(_)
        | Verb::Diff(_)
        | Verb::Doctor
        | Verb::Mergeq(Mergeq::Ls)
        | Verb::Worktree(WorktreeVerb::Ls | WorktreeVerb::Path(_)) => Deed::Look,
        Verb::Fsck(args) if !args.repair => Deed::Look,
        Verb::Work(args) => Deed::Run { as_owner: args.as_owner, keeps: true },
        Verb::Start(args) => Deed::Run { as_owner: args.as_owner, keeps: false },
        Verb::Run(args) => Deed::Run { as_owner: args.as_owner, keeps: false },
        _ => Deed::Record,
    })
}

/// The directory that says as whom: the queue, or where `coord run` is to keep its own.
fn place_of(cli: &Cli, verb: &Verb) -> Option<PathBuf> {
    let dir = match verb {
        Verb::Run(args) if args.queue.is_some() => {
            let home = std::path::absolute(args.queue.as_ref()?).ok()?;
            let queue = home.join(".coord");
            if RealFs.exists(&queue) { queue } else { home }
        }
        _ => place::find(cli).ok()?,
    };
    RealFs.exists(&dir).then_some(dir)
}

/// As whom a queue is made: root as the owner of the nearest directory that is there.
pub fn act_where_it_is_made(root: &Path) -> Result<()> {
    let Some(dir) = root.ancestors().find(|dir| RealFs.exists(dir)) else { return Ok(()) };
    match Owner::of(dir) {
        Ok(owner) if owner.part(dir) == Part::Root => become_owner(dir, &owner, Deed::Record),
        _ => Ok(()),
    }
}
