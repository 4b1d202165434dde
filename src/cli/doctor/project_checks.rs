//! Disk, git, the other programs, coord.toml and its agents.

use crate::config::{Config, Isolation};
use crate::git::Git;
use crate::git::repository::{Found, passed_by};
use crate::run::merge::Target;
use crate::run::pool;
use crate::run::pool::chain::{Chains, Record, State};
use crate::run::site::{read_config, repository_of};
use crate::sys::fs::{Fs, RealFs};
use crate::sys::spawn::find_program;
use crate::sys::tool::sibling;
use crate::sys::{machine, tool};

use super::{Check, Place};

/// The other programs.
const PROGRAMS: [&str; 4] =
    ["coord-coordinator", "coord-worker", "coord-monitor", "coord-aggregator"];

/// All checks of the project and the installation.
pub(super) fn all(place: &Place) -> Vec<Check> {
    let read = read_config(&place.root);
    let config = read.as_ref().map_or_else(|_| Config::default(), Config::clone);
    let parsed = match read {
        Ok(_) => Check::fine("config", "coord.toml is right, or not there"),
        Err(e) => Check::fail("config", e.one_line(), e.hint.unwrap_or_default()),
    };
    vec![
        parsed,
        disk(place, &config),
        leases(place, &config),
        git(place, &config),
        merging(place, &config),
        worktrees(place, &config),
        programs(),
        agents(place, &config),
    ]
}

fn disk(place: &Place, config: &Config) -> Check {
    let Some((free, total)) = machine::disk_space(&place.dir) else {
        return Check::warn("disk", "its free space is unknown", "");
    };
    // As the worker reckons: a small file system keeps a twentieth free, a large one 64 MiB.
    let least = config.limits.disk_free_bytes.unwrap_or((total / 20).min(64 << 20));
    let detail = format!("{} MiB free, work stops below {} MiB", free >> 20, least >> 20);
    if free < least {
        return Check::fail("disk", detail, "make room, or lower [limits] disk_free in coord.toml");
    }
    Check::fine("disk", detail)
}

/// On a shared file system a healthy client may be silent for more than a minute.
fn leases(place: &Place, config: &Config) -> Check {
    const SHARED_MIN_MS: u64 = 120_000;
    let (lease, beat) = (config.lease.expire_ms / 1000, config.lease.heartbeat_ms / 1000);
    let detail =
        format!("a claim is taken away after {lease} s without a beat; one every {beat} s");
    if machine::fs_kind(&place.dir).blind && config.lease.expire_ms < SHARED_MIN_MS {
        return Check::warn("leases", detail, "[lease] expire = \"2m\" on a shared file system");
    }
    Check::fine("leases", detail)
}

fn git(place: &Place, config: &Config) -> Check {
    if config.worktree.isolation == Isolation::None {
        return Check::fine("git", "not used: [worktree] isolation = \"none\"");
    }
    let version = match Git::new(&place.root, &tool::nothing).run(&["--version"]) {
        Ok(output) if output.ok() => output.text().trim().to_owned(),
        _ => {
            let hint = "install git, or [worktree] isolation = \"none\"";
            return Check::warn("git", "not installed: tasks run in the project's directory", hint);
        }
    };
    match repository_of(&place.root, config) {
        Found::Usable(_) | Found::Nothing if !passed_by(&place.root).is_empty() => {
            let empty: Vec<String> =
                passed_by(&place.root).iter().map(|path| path.display().to_string()).collect();
            let detail = format!("{version}; walks past {}, which is empty", empty.join(", "));
            Check::warn("git", detail, "git init there, or take it away")
        }
        Found::Usable(repo) => {
            let detail = format!("{version}, repository {}", repo.anchor().display());
            match is_too_old(&version) {
                // Merging alone needs so much; worktrees work with less.
                true if config.merge.enabled => Check::fail("git", detail, NEWER),
                true => Check::warn("git", detail, NEWER),
                false => Check::fine("git", detail),
            }
        }
        Found::Unusable { why, hint } => Check::fail("git", format!("{version}; {why}"), hint),
        Found::Nothing => {
            let detail = format!("{version}, no repository: tasks share one directory");
            Check::warn("git", detail, "git init && git commit, for a worktree for each attempt")
        }
    }
}

/// What to do about a git that cannot merge without a worktree.
const NEWER: &str = "merging needs git 2.38 or newer (git merge-tree --write-tree)";

/// Whether git, by what `git --version` says, is older than merging needs. One that says nothing
/// that can be understood is taken for new.
fn is_too_old(version: &str) -> bool {
    let number =
        version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut parts = number.unwrap_or_default().split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (2, 38),
        _ => false,
    }
}

/// Where what is done is merged into, where that is asked for.
fn merging(place: &Place, config: &Config) -> Check {
    if !config.merge.enabled {
        return Check::fine("merging", "only what asks for it: [merge] enabled = false");
    }
    let found = repository_of(&place.root, config);
    let Some(repo) = found.usable() else {
        let hint = "git init && git commit, or [merge] enabled = false in coord.toml";
        return Check::fail("merging", "there is no git repository to merge in", hint);
    };
    let git = Git::shared(repo.home(), &tool::nothing);
    match Target::of_new(config, &git, repo, "").and_then(|aim| aim) {
        Ok(target) => Check::fine("merging", format!("into {}", target.branch)),
        Err(e) => Check::fail("merging", e.one_line(), e.hint.unwrap_or_default()),
    }
}

/// Slots that hold what cannot be saved: each waits for a person.
fn worktrees(place: &Place, config: &Config) -> Check {
    let found = repository_of(&place.root, config);
    let Some(repo) = found.usable() else { return Check::fine("worktrees", "none") };
    let root = pool::found(&config.worktree.root, repo);
    let chains = Chains::new(&root);
    let names = chains.slots().unwrap_or_default();
    let newest = |name: &String| chains.newest(name).ok().flatten().map(|(_, record)| record);
    let records: Vec<Record> = names.iter().filter_map(newest).collect();
    let retired: Vec<String> = records
        .iter()
        .filter(|record| record.state == State::Retired)
        .map(|record| format!("{}: {}", record.slot, record.why))
        .collect();
    if retired.is_empty() {
        return Check::fine("worktrees", format!("{} in {}", records.len(), root.display()));
    }
    let detail = format!("set aside in {}: {}", root.display(), retired.join("; "));
    Check::warn("worktrees", detail, "take out what is needed, then coord worktree gc")
}

fn programs() -> Check {
    let missing: Vec<&str> =
        PROGRAMS.into_iter().filter(|program| sibling(program).is_err()).collect();
    if missing.is_empty() {
        return Check::fine("programs", PROGRAMS.join(" "));
    }
    let detail = format!("not beside coord: {}", missing.join(" "));
    Check::fail("programs", detail, "install all five programs into one directory")
}

/// The agent that prompts go to must be there; others may be for other machines.
fn agents(place: &Place, config: &Config) -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = |name: &str| config.agents.get(name).and_then(|agent| agent.command.first());
    let found = |program: &str| {
        find_program(program.as_ref(), &path, &place.root).is_ok_and(|path| RealFs.exists(&path))
    };
    let missing = |name: &&String| program(name).is_some_and(|program| !found(program));
    let absent: Vec<&String> = config.agents.keys().filter(missing).collect();
    let named: Vec<String> = absent
        .iter()
        .map(|name| format!("{name} ({})", program(name).map_or("", String::as_str)))
        .collect();
    let detail = format!("not on PATH: {}", named.join(", "));
    let hint = "install it, or mend [agents] in coord.toml";
    if absent.iter().any(|name| **name == config.workers.agent) {
        return Check::fail("agents", detail, hint);
    }
    if !absent.is_empty() {
        return Check::warn("agents", detail, hint);
    }
    let names: Vec<&str> = config.agents.keys().map(String::as_str).collect();
    Check::fine("agents", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_merging_needs() {
        for (said, old) in [
            ("git version 2.38.0", false),
            ("git version 2.37.9", true),
            ("git version 1.8.3.1", true),
            ("git version 2.39.5 (Apple Git-154)", false),
            ("git version 2.47.3.windows.1", false),
            ("git version 3.0", false),
            ("git version next", false),
            ("", false),
        ] {
            assert_eq!(is_too_old(said), old, "{said}");
        }
    }
}
