//! `diff`, `checkout` and `shell`: looking at what an attempt did, and going there.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::{Cannot, Error, Exit, Result};
use crate::git::Git;
use crate::git::confirmed::{Meant, ask};
use crate::git::own;
use crate::git::status::{Mark, status};
use crate::queue::ids::Key;
use crate::queue::tasks::{self, Task};
use crate::run::base::beside;
use crate::run::context::{leftovers, workplace};
use crate::run::pool::chain::{Assigned, Record};
use crate::run::pool::{Pool, Slot};
use crate::run::site::Site;
use crate::run::{environment, gc, tmpdir};
use crate::sys::fs::{Fs, RealFs, is_same};
use crate::sys::spawn::Variables;
use crate::sys::{child, tool};

use super::Answer;
use super::args::{Attempt, Cli, Diff};
use super::worktree::{pool, slot_of};
use super::{output, place};

/// An attempt that somebody asks about.
struct Asked {
    site: Site,
    pool: Pool,
    task: Task,
    key: Key,
    /// Branch, base and, while it runs, the directory.
    of: Assigned,
    /// The slot that it runs in or that has what it left.
    slot: Option<Record>,
    /// The ref of what was not committed.
    wip: String,
}

fn asked(cli: &Cli, word: &str) -> Result<Asked> {
    let site = place::site(cli)?;
    let pool = pool(&site)?;
    let (id, wanted) = place::attempt(word)?;
    let task = tasks::existing(&site.queue, &id)?;
    let n = wanted.unwrap_or(task.names.last());
    if !task.names.claims.contains(&n) {
        let what = if wanted.is_none() {
            format!("nothing of {id} has run yet")
        } else {
            format!("{id} has no attempt {n}")
        };
        return Err(Error::new(Exit::NotFound, what).hint(format!("coord show {id}")));
    }
    let key = Key::new(&id, n);
    let (mut of, mut wip) = (Assigned { task: id, n, ..Assigned::default() }, String::new());
    if task.names.ends.contains(&n) {
        let end = tasks::end_of(&site.queue, &task, n)?;
        wip = leftovers(&site, &task, &key, &end)?.0;
        (of.branch, of.base) = (end.result.branch, end.result.base);
    }
    if of.branch.is_empty() {
        let place = workplace(&site.queue, &key);
        (of.branch, of.base) = (place.branch, place.base);
    }
    if of.branch.is_empty() {
        return Err(Error::new(
            Exit::NotFound,
            format!("attempt {n} of {} has no branch", key.task),
        )
        .hint("it ran without git, or has not started yet"));
    }
    let mut slot = None;
    let there = |record: &Record| RealFs.exists(&pool.top(&record.slot));
    if let Some(record) = slot_of(&site, &pool, &key)?.filter(there) {
        of.dir = record.assigned.as_ref().map(|of| of.dir.clone()).unwrap_or_default();
        slot = Some(record);
    }
    Ok(Asked { site, pool, task, key, of, slot, wip })
}

/// `coord diff`.
pub fn diff(cli: &Cli, args: &Diff) -> Answer {
    let asked = asked(cli, &args.id)?;
    let git = asked.site.git_of(asked.pool.repo.home(), &tool::nothing);
    let branch = format!("refs/heads/{}", asked.of.branch);
    let tip = git.commit(&branch)?;
    // Of one that runs, or whose worker died: with what is not committed.
    let now = asked.slot.as_ref().map(|record| gc::tree_now(&asked.site, &asked.pool, record));
    let now = now.transpose()?;
    let to = match &now {
        Some((_, tree)) => tree.clone(),
        None => tip.clone().ok_or_else(|| gone(&asked))?,
    };
    let git = now.as_ref().map_or(git, |(worktree, _)| worktree.git().clone());
    let from = match &tip {
        // Without what it took over from the branch that it works for.
        Some(tip) if !asked.of.base.is_empty() => {
            let spec = asked.task.spec.clone().unwrap_or_default();
            own::start(&git, &asked.of.base, tip, &beside(&asked.site, &git, &spec)?)?
        }
        _ => asked.of.base.clone(),
    };
    if cli.json {
        let args = ["diff", "--numstat", "-z", "--no-renames", &from, &to, "--"];
        let numbers = git.must("compare an attempt with its base", &args)?;
        let files: Vec<_> = Git::names(&numbers)
            .iter()
            .filter_map(|record| {
                let mut parts = record.splitn(3, '\t');
                let (added, removed, path) = (parts.next()?, parts.next()?, parts.next()?);
                let number = |text: &str| text.parse::<u64>().ok();
                Some(json!({ "path": path, "added": number(added), "removed": number(removed) }))
            })
            .collect();
        output::document(&json!({
            "schema": "coord.diff/1", "id": asked.key.task, "attempt": asked.key.n,
            "base": from, "branch": asked.of.branch, "commit": tip,
            "with_uncommitted": now.is_some(), "wip": asked.wip, "files": files,
        }));
        return Ok(None);
    }
    let color = if std::io::stdout().is_terminal() { "--color=always" } else { "--color=never" };
    let mut words = vec!["diff", color];
    if args.stat {
        words.push("--stat");
    }
    words.extend([from.as_str(), to.as_str(), "--"]);
    let shown = git.must("compare an attempt with its base", &words)?;
    output::data(&shown.stdout);
    if !asked.wip.is_empty() {
        let wip = &asked.wip;
        output::note(&format!("not in this: uncommitted work, saved in {wip} (git show {wip})"));
    }
    Ok(None)
}

fn gone(asked: &Asked) -> Error {
    let what = format!("the branch {} is gone", asked.of.branch);
    Error::new(Exit::NotFound, what).hint(format!("coord show {}", asked.key.task))
}

/// `coord checkout`: the worktree that the caller stands in, and no other.
pub fn checkout(cli: &Cli, args: &Attempt) -> Answer {
    let asked = asked(cli, &args.id)?;
    let here = std::env::current_dir().cannot("find the current directory", Path::new("."))?;
    let git = asked.site.git(&here, &tool::nothing);
    let top = git.must("find the worktree here", &["rev-parse", "--show-toplevel"])?;
    let top = PathBuf::from(top.text().trim_end_matches('\n'));
    // git may mean another directory than one in which the caller stands.
    let mut around = here.ancestors();
    let is_around = here.ancestors().any(|dir| is_same(dir, &top));
    let nearest = around.find(|dir| RealFs.exists(&dir.join(".git"))).unwrap_or(&here);
    let top = if is_around { top.as_path() } else { nearest };
    let tree = ask(&git, top, Meant::Any(&asked.pool.repo.common))?.must(top)?;
    let git = tree.git();
    let changes = status(git, false)?;
    let dirty: Vec<&str> =
        changes.iter().filter(|c| c.mark != Mark::Untracked).map(|c| c.path.as_str()).collect();
    if let Some(first) = dirty.first() {
        let more =
            if dirty.len() > 1 { format!(" and {} more", dirty.len() - 1) } else { String::new() };
        return Err(Error::new(Exit::Conflict, format!("{first}{more} is not committed here"))
            .at(git.dir())
            .hint("commit or stash it first"));
    }
    // git itself takes ignored files for worthless, and writes over them.
    let output =
        git.again(&["checkout", "--quiet", "--no-overwrite-ignore", &asked.of.branch, "--"])?;
    if !output.ok() {
        let hint = match &asked.slot {
            Some(slot) => format!("the attempt is still in {}: coord shell {}", slot.slot, args.id),
            None => "git worktree list shows who has it".to_owned(),
        };
        return Err(git.failed("check out the branch", &output).hint(hint));
    }
    output::note(&format!("{} is on {} now", git.dir().display(), asked.of.branch));
    if !asked.wip.is_empty() {
        output::note(&format!("not on it: uncommitted work, saved in {}", asked.wip));
    }
    Ok(None)
}

/// `coord shell`.
pub fn shell(cli: &Cli, args: &Attempt) -> Answer {
    let asked = asked(cli, &args.id)?;
    let program = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    if let Some(slot) = &asked.slot {
        let env = environment(&asked, &asked.of.dir, Some(&slot.slot));
        output::note(&format!("in the worktree {} of {}", slot.slot, asked.key));
        return interact(&program, &asked.of.dir, &env);
    }
    place::with_proc(&asked.site.queue, |me| {
        let slot: Slot = gc::for_shell(&asked.site, me, &asked.pool, &asked.of)?;
        let below: PathBuf = slot.top.join(&asked.pool.repo.below).components().collect();
        let dir = if RealFs.exists(&below) { below } else { slot.top.clone() };
        let top = slot.top.clone();
        output::note(&format!("in a worktree of its own for {}: {}", asked.key, top.display()));
        let answer = interact(&program, &dir, &environment(&asked, &dir, None));
        match gc::after_shell(&asked.site, me, &asked.pool, slot)? {
            Some(why) => output::note(&format!("the worktree stays: {} ({why})", top.display())),
            None => output::note("the worktree was clean, and is removed"),
        }
        answer
    })
}

fn interact(program: &str, dir: &Path, env: &Variables) -> Answer {
    let code = child::interact(program, dir, env).cannot("start a shell", dir)?;
    // What the last command in it came to is no failure of ours.
    Ok(if code >= 126 { Some(Exit::No) } else { None })
}

/// What the attempt's command found, but for what would make the shell a part of the attempt: its
/// token, and the name that it commits with.
fn environment(asked: &Asked, dir: &Path, slot: Option<&str>) -> Variables {
    let spec = asked.task.spec.clone().unwrap_or_default();
    let mut env = environment::of_person(&asked.site, &spec);
    let out = asked.task.out(asked.key.n);
    for (name, value) in [
        ("COORD_DIR", asked.site.queue.layout.root().as_os_str()),
        ("COORD_ROOT", asked.site.root.as_os_str()),
        ("COORD_TASK_ID", asked.key.task.as_ref()),
        ("COORD_ATTEMPT", asked.key.n.to_string().as_ref()),
        ("COORD_OUT", out.as_os_str()),
        ("COORD_WORKTREE", dir.as_os_str()),
        ("COORD_BRANCH", asked.of.branch.as_ref()),
        ("COORD_BASE", asked.of.base.as_ref()),
        ("PWD", dir.as_os_str()),
    ] {
        env.insert(name.into(), value.to_owned());
    }
    if let Some(slot) = slot {
        env.insert("TMPDIR".into(), tmpdir::of(&asked.pool, slot).into());
    }
    env
}
