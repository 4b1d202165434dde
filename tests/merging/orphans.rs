//! What nobody may leave behind: worktrees that nobody knows, locks, refs, damage.

use std::path::{Path, PathBuf};

use crate::checks::Faults;
use crate::ground::Repo;

/// A worktree, as git lists it.
#[derive(Debug, Default)]
struct Worktree {
    path: PathBuf,
    branch: String,
    is_prunable: bool,
}

fn worktrees(repo: &Repo) -> Vec<Worktree> {
    let mut all = Vec::new();
    for line in repo.lines(&["worktree", "list", "--porcelain"]) {
        let (key, value) = line.split_once(' ').unwrap_or((&line, ""));
        match (key, all.last_mut()) {
            ("worktree", _) => all.push(Worktree { path: value.into(), ..Worktree::default() }),
            ("branch", Some(last)) => last.branch = value.to_owned(),
            ("prunable", Some(last)) => last.is_prunable = true,
            _ => {}
        }
    }
    all
}

/// What is wrong with a repository when all is over; `known` are the worktrees that may be there
/// beside the first one.
pub fn orphans(repo: &Repo, known: &[PathBuf]) -> Faults {
    let mut faults = Faults::new();
    for worktree in worktrees(repo) {
        let Worktree { path, branch, is_prunable } = &worktree;
        if *path != repo.dir && !known.contains(path) {
            faults.push(format!("nobody knows the worktree {}", path.display()));
        }
        if *is_prunable {
            faults.push(format!("the worktree {} is gone, and git still has it", path.display()));
        }
        if branch.starts_with("refs/heads/coord/") {
            faults.push(format!("{branch} is checked out in {}", path.display()));
        }
    }
    let git_dir = repo.git(&["rev-parse", "--absolute-git-dir"]);
    for entry in walkdir::WalkDir::new(Path::new(&git_dir)) {
        let path = entry.unwrap().into_path();
        if path.extension().is_some_and(|e| e == "lock") {
            faults.push(format!("a lock is left: {}", path.display()));
        }
    }
    let (code, out, err) = repo.try_git(&["fsck", "--strict", "--no-dangling", "--no-progress"]);
    if code != 0 || !out.is_empty() {
        faults.push(format!("git fsck: exit {code}\n{out}{err}"));
    }
    let returned = repo.lines(&["for-each-ref", "--format=%(refname)", "refs/coord/returned/"]);
    faults.extend(returned.iter().map(|name| format!("a ref is left: {name}")));
    faults
}

/// What is wrong with a repository after `coord worktree gc`: worktrees beside the first one.
pub fn not_collected(repo: &Repo) -> Faults {
    let left = worktrees(repo).into_iter().filter(|w| w.path != repo.dir);
    left.map(|w| format!("a worktree is left: {}", w.path.display())).collect()
}
