//! What attempts get of the project beside what git checks out: copies, links, and what their own git is
//! told about both.
//!
//! None of it is an attempt's work, so none of it may be committed by a `git add --all`. A pattern such
//! as `node_modules/` in .gitignore means a directory, and not the symbolic link in its place. git has
//! no list of ignored files for one worktree, and the configuration is a person's; so the commands of an
//! attempt get a list of their own (`core.excludesFile`) by their environment, which has what the
//! person's list has, and the paths from coord.toml.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::error::{Cannot, Error, Exit, Result};
use crate::git::confirmed::Worktree;
use crate::git::{Git, worktrees};
use crate::sys::fs::{Fs, RealFs, is_absent, mkdir_all};
use crate::sys::spawn::Variables;
use crate::sys::tree::{beneath, copy_tree, symlink};

use super::pool::Pool;
use super::site::Site;
use super::slot::apart;

/// Settings of git for the commands of attempts: nobody's garbage is collected behind an attempt, and none
/// at once, while others write what no ref names yet.
const CAREFUL: [(&str, &str); 4] = [
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("gc.pruneExpire", "2.weeks.ago"),
    ("gc.worktreePruneExpire", "3.months.ago"),
];
/// The longest list of ignored files that is read.
const LIST_MAX: usize = 1 << 20;

/// Copies and links what coord.toml names from the project to the attempt's directory. What the
/// project does not have, the attempt does not get.
pub fn furnish(site: &Site, dir: &Path) -> Result<()> {
    let config = &site.config.worktree;
    let all = config.copy.iter().map(|p| (p, false)).chain(config.link.iter().map(|p| (p, true)));
    for (path, is_link) in all {
        let from = site.root.join(path);
        if !RealFs.exists(&from) {
            continue;
        }
        let to = beneath(dir, Path::new(path)).ok_or_else(|| {
            let what = format!("`{path}` lies behind a symbolic link in the worktree");
            Error::new(Exit::Environment, what)
                .at(&dir.join(path))
                .hint("[worktree] keep, copy and link in coord.toml")
        })?;
        if let Some(parent) = to.parent() {
            mkdir_all(&RealFs, parent).cannot("make a directory for a copy", parent)?;
        }
        if is_link {
            symlink(&from, &to).cannot("link into a worktree", &to)?;
        } else {
            copy_tree(&from, &to).cannot("copy into a worktree", &to)?;
        }
    }
    Ok(())
}

/// The settings of git for commands in a worktree, names and values. `env` is the
/// environment of the commands, which decides whose configuration their git reads.
pub fn settings(
    site: &Site,
    pool: &Pool,
    tree: &Worktree<'_>,
    env: &Variables,
) -> Result<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> =
        CAREFUL.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let given = apart(site, pool).given;
    if given.is_empty() {
        return Ok(all);
    }
    let mut list = persons_list(tree.git(), env)?;
    if !list.is_empty() && !list.ends_with(b"\n") {
        list.push(b'\n');
    }
    list.extend(b"# From here on: [worktree] copy and link of coord.toml.\n");
    for path in given {
        list.extend(format!("/{}\n", worktrees::escaped(&path)).bytes());
    }
    // Beside the index: it is the worktree's, and goes with what an attempt left.
    let path = tree.own().join("coord-excludes");
    match RealFs.unlink(&path) {
        Err(e) if !is_absent(&e) => return Err(e).cannot("write a list of ignored files", &path),
        _ => {}
    }
    RealFs.create(&path, &list, 0o644).cannot("write a list of ignored files", &path)?;
    all.push(("core.excludesFile".to_owned(), path.to_string_lossy().into_owned()));
    Ok(all)
}

/// What the person's own list of ignored files says, which git would read without ours.
fn persons_list(git: &Git<'_>, env: &Variables) -> Result<Vec<u8>> {
    let of = |name: &str| env.get(OsStr::new(name)).filter(|value| !value.is_empty());
    let mut asked = git.clone();
    for (name, value) in env {
        let name = name.to_string_lossy();
        if matches!(&*name, "HOME" | "XDG_CONFIG_HOME") || name.starts_with("GIT_CONFIG") {
            asked = asked.env(&name, value);
        }
    }
    let set = asked.ask(&["config", "--type=path", "--get", "core.excludesFile"])?;
    let usual = || match (of("XDG_CONFIG_HOME"), of("HOME")) {
        (Some(dir), _) => Some(PathBuf::from(dir).join("git/ignore")),
        (None, Some(home)) => Some(PathBuf::from(home).join(".config/git/ignore")),
        (None, None) => None,
    };
    let Some(path) = set.map(|set| git.dir().join(set)).or_else(usual) else {
        return Ok(Vec::new());
    };
    match RealFs.read(&path, 0, LIST_MAX) {
        Ok(bytes) => Ok(bytes),
        // git passes over it, too.
        Err(_) => Ok(Vec::new()),
    }
}

/// Puts settings of git behind those that an environment has already.
pub fn tell_git(env: &mut Variables, settings: &[(String, String)]) {
    let before = env.get(OsStr::new("GIT_CONFIG_COUNT")).and_then(|count| count.to_str());
    let before = before.and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
    for (number, (name, value)) in settings.iter().enumerate() {
        let mut set = |what: &str, text: &str| {
            env.insert(
                OsString::from(format!("GIT_CONFIG_{what}_{}", before + number)),
                text.into(),
            );
        };
        set("KEY", name);
        set("VALUE", value);
    }
    if !settings.is_empty() {
        env.insert("GIT_CONFIG_COUNT".into(), (before + settings.len()).to_string().into());
    }
}
