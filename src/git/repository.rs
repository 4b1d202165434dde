//! Which repository a project lies in, and whether attempts can have worktrees of it.
//!
//! Three answers, and no fourth: there is none, there is one that works, there is one that cannot be
//! used. The last is never taken for the first: work that was meant to be apart would then silently
//! run in one directory. An empty directory `.git` is none, as for git, which walks past it; whoever
//! asks is told of it ([`passed_by`]).

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Exit, Result};
use crate::sys::fs::{Fs, Kind, RealFs, is_same, name_of};
use crate::sys::tool;

use super::Git;
use super::misled::{self, Misled};

/// A repository that worktrees can be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// What all its worktrees share: `.git`, or the bare repository itself.
    pub common: PathBuf,
    /// The main worktree; `None` when the repository is bare, or when it keeps its own place secret
    /// (a separate git directory, seen from a linked worktree).
    pub top: Option<PathBuf>,
    /// The worktree that the project lies in; the common directory when there is none.
    pub here: PathBuf,
    /// The project's directory below the top of its worktree; empty at the top.
    pub below: PathBuf,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub enum Found {
    /// No repository, or none is wanted: all attempts share the project's directory.
    #[default]
    Nothing,
    /// One that works.
    Usable(Repository),
    /// One that cannot be used: why, and what to do about it.
    Unusable {
        /// A sentence for people.
        why: String,
        /// What helps.
        hint: String,
    },
}

impl Found {
    /// The repository, where there is one that works.
    pub fn usable(&self) -> Option<&Repository> {
        match self {
            Found::Usable(repo) => Some(repo),
            _ => None,
        }
    }

    /// The error of one that cannot be used.
    pub fn refusal(&self, at: &Path) -> Option<Error> {
        match self {
            Found::Unusable { why, hint } => {
                Some(Error::new(Exit::Environment, why.clone()).at(at).hint(hint.clone()))
            }
            _ => None,
        }
    }

    fn no(why: impl Into<String>, hint: &str) -> Found {
        Found::Unusable { why: why.into(), hint: hint.to_owned() }
    }

    fn misled(Misled { why, hint, .. }: Misled) -> Found {
        Found::Unusable { why, hint }
    }
}

/// What a repository is wanted for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'c> {
    /// What attempts start from; HEAD where empty.
    pub base: &'c str,
    /// Whether attempts have linked worktrees, and not clones.
    pub linked: bool,
    /// The settings of coord.toml that ask for a repository in so many words.
    pub asked_by: Option<&'static str>,
}

/// The way out that every refusal can name.
const ALONE: &str = "or [worktree] isolation = \"none\" in coord.toml";

/// Looks at the repository around the directory `project`.
pub fn discover(project: &Path, wish: Wish<'_>) -> Found {
    match look(project, wish) {
        Ok(found) => found,
        Err(e) => {
            let hint = format!("mend it, {ALONE}");
            Found::no(format!("the git repository cannot be used: {}", e.one_line()), &hint)
        }
    }
}

fn look(project: &Path, wish: Wish<'_>) -> Result<Found> {
    if let (Some(empty), Some(setting)) = (passed_by(project).first(), wish.asked_by) {
        return Ok(Found::no(
            format!(
                "{} is no repository, and {setting} in coord.toml asks for one",
                empty.display()
            ),
            &format!("git init there, or take it away: rmdir '{}'", empty.display()),
        ));
    }
    let git = Git::new(project, &tool::nothing);
    let args = [
        "rev-parse",
        "--path-format=absolute",
        "--git-common-dir",
        "--git-dir",
        "--is-bare-repository",
        "--is-inside-work-tree",
    ];
    let output = match git.run(&args) {
        Ok(output) => output,
        // Without git there are no worktrees, and without a repository nobody expects any.
        Err(_) if !has_git_above(project) => return Ok(Found::Nothing),
        Err(e) => return Err(e),
    };
    if !output.ok() {
        if output.stderr.contains("not a git repository") && !has_git_above(project) {
            return Ok(Found::Nothing);
        }
        let error = git.failed("look at the git repository", &output);
        return match std::env::var_os("GIT_CEILING_DIRECTORIES") {
            Some(set) if git.env("GIT_CEILING_DIRECTORIES", "").run(&args)?.ok() => Ok(Found::no(
                format!("{} (GIT_CEILING_DIRECTORIES is {})", error.one_line(), set.display()),
                &format!("unset GIT_CEILING_DIRECTORIES, {ALONE}"),
            )),
            _ => Err(error),
        };
    }
    let text = output.text();
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default();
    let (common, own) = (PathBuf::from(next()), PathBuf::from(next()));
    let (bare, inside) = (next() == "true", next() == "true");
    let (mut here, mut below) = (None, PathBuf::new());
    if inside {
        let args = ["rev-parse", "--show-toplevel", "--show-prefix"];
        let text = git.must("find the worktree", &args)?.text();
        let mut lines = text.lines();
        here = lines.next().map(PathBuf::from);
        below = PathBuf::from(lines.next().unwrap_or_default());
    }
    if let Some(broken) = broken_below(project, here.as_deref().unwrap_or(&common)) {
        return Ok(Found::no(
            format!(
                "git cannot read the repository {}, and takes {} instead",
                broken.display(),
                common.display()
            ),
            &format!("mend it, or move it away, {ALONE}"),
        ));
    }
    if here.is_none() && !bare && !within(project, &common) {
        return Ok(Found::misled(misled::explain_outside(&git, project, &common, &own)?));
    }
    let shared = Git::shared(&common, &tool::nothing);
    let is_bare = match common == own {
        true => bare,
        // What is asked in a linked worktree is answered for that.
        false => shared.ask(&["rev-parse", "--is-bare-repository"])?.as_deref() == Some("true"),
    };
    let leads_here = project.ancestors().find(|dir| Dot::of(dir) != Dot::Absent);
    let leads_here = leads_here.filter(|dir| common == own && Dot::of(dir) == Dot::File);
    if is_bare && let Some(misled) = misled::in_main(&shared, &common, leads_here)? {
        return Ok(Found::misled(misled));
    }
    if wish.linked
        && let Some(misled) = misled::in_linked(&shared, &common)?
    {
        return Ok(Found::misled(misled));
    }
    let top = if common == own { here.clone() } else { main_worktree(&common)? };
    let here = here.unwrap_or_else(|| common.clone());
    let repo = Repository { common, top, here, below: trimmed(&below) };
    Ok(repo.why_not(&git, wish.base)?.unwrap_or(Found::Usable(repo)))
}

/// A path without the `/` that git puts at the end.
fn trimmed(path: &Path) -> PathBuf {
    path.components().collect()
}

fn within(path: &Path, outer: &Path) -> bool {
    path.starts_with(outer)
}

/// What a `.git` is, looked at as git does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dot {
    /// There is none.
    Absent,
    /// A directory with nothing of a repository in it.
    Empty,
    /// A file that leads to a repository, or should.
    File,
    /// A repository, or a part of one.
    Repository,
}

impl Dot {
    fn of(dir: &Path) -> Dot {
        let path = dir.join(".git");
        match RealFs.stat(&path) {
            Err(_) => Dot::Absent,
            Ok(stat) if stat.kind == Kind::File => Dot::File,
            Ok(_) => {
                let parts = ["HEAD", "objects", "refs", "config", "commondir", "reftable"];
                let any = parts.iter().any(|part| RealFs.exists(&path.join(part)));
                if any { Dot::Repository } else { Dot::Empty }
            }
        }
    }
}

/// Directories `.git` in a project or above it that are no repositories: git walks past them, up to the
/// first that is one. The nearest comes first.
pub fn passed_by(project: &Path) -> Vec<PathBuf> {
    let dirs = project.ancestors().map(|dir| (dir, Dot::of(dir)));
    let before = dirs.take_while(|(_, dot)| matches!(dot, Dot::Absent | Dot::Empty));
    before.filter(|(_, dot)| *dot == Dot::Empty).map(|(dir, _)| dir.join(".git")).collect()
}

fn has_git_above(project: &Path) -> bool {
    project.ancestors().any(|dir| matches!(Dot::of(dir), Dot::File | Dot::Repository))
}

/// A repository between the project and the one that git takes: git could not read it, and went on.
fn broken_below(project: &Path, taken: &Path) -> Option<PathBuf> {
    let around = |dir: &Path| is_same(dir, taken) || is_same(&dir.join(".git"), taken);
    let mut below = project.ancestors().take_while(|dir| !around(dir));
    if !project.ancestors().any(around) {
        return None;
    }
    below.find(|dir| Dot::of(dir) == Dot::Repository).map(|dir| dir.join(".git"))
}

/// The main worktree of a repository, seen from its common directory; `None` when it is bare or
/// cannot be told.
pub fn main_worktree(common: &Path) -> Result<Option<PathBuf>> {
    let git = Git::shared(common, &tool::nothing);
    if git.ask(&["rev-parse", "--is-bare-repository"])?.as_deref() == Some("true") {
        return Ok(None);
    }
    // A submodule's repository stands elsewhere and names its worktree, from where it is itself.
    if let Some(set) = misled::worktree_of_main(&git, common)? {
        return Ok(Some(join(common, Path::new(&set))));
    }
    Ok(match common.parent() {
        Some(parent) if name_of(common) == ".git" => Some(parent.to_owned()),
        _ => None,
    })
}

/// `relative` seen from `dir`, with its `..` resolved by their names.
pub fn join(dir: &Path, relative: &Path) -> PathBuf {
    let mut path = dir.to_owned();
    for part in relative.components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

/// The commit that `base` names, HEAD where it is empty. A branch comes before all else that git would
/// take the word for: a tag, or the beginning of a commit's name.
pub fn start(git: &Git<'_>, base: &str) -> Result<Option<String>> {
    if base.is_empty() {
        return git.commit("HEAD");
    }
    match git.exact(&format!("refs/heads/{base}"))? {
        Some(tip) => Ok(Some(tip)),
        None => git.commit(base),
    }
}

impl Repository {
    /// What stands in the way of attempts, if anything does.
    fn why_not(&self, git: &Git<'_>, base: &str) -> Result<Option<Found>> {
        let start = start(git, base)?;
        if start.is_none() && base.is_empty() && self.has_commits(git)? {
            // Such as a bare repository whose HEAD names a branch that was never made.
            let head = git.ask(&["symbolic-ref", "--quiet", "--short", "HEAD"])?;
            let head = head.unwrap_or_default();
            return Ok(Some(Found::no(
                format!(
                    "HEAD of {} is {head}, which has no commit, and every attempt starts from one",
                    self.here.display()
                ),
                &format!(
                    "[git] base in coord.toml, or git symbolic-ref HEAD refs/heads/main, {ALONE}"
                ),
            )));
        }
        if start.is_none() && base.is_empty() {
            return Ok(Some(Found::no(
                "the git repository has no commit yet, and every attempt starts from one",
                &format!("git add -A && git commit -m start, {ALONE}"),
            )));
        }
        if start.is_none() {
            return Ok(Some(Found::no(
                format!(
                    "there is no commit {base} in the git repository for attempts to start from"
                ),
                "set [git] base in coord.toml to a branch that exists, or take it away",
            )));
        }
        if git.resolve("refs/heads/coord")?.is_some() {
            return Ok(Some(Found::no(
                "a branch named `coord` stands where the branches coord/TASK/aN of attempts have to be",
                "git branch -m coord another-name",
            )));
        }
        Ok(None)
    }

    /// Whether any branch has a commit.
    fn has_commits(&self, git: &Git<'_>) -> Result<bool> {
        let found = git.ask(&["for-each-ref", "--count=1", "--format=%(refname)", "refs/heads"])?;
        Ok(found.is_some_and(|name| !name.is_empty()))
    }

    /// A directory in which git speaks of this repository, whatever becomes of worktrees.
    pub fn home(&self) -> &Path {
        &self.common
    }

    /// A worktree as git lists it, as people see it: of a main worktree whose repository does not lie in
    /// its `.git`, git lists the repository.
    pub fn as_seen(&self, listed: PathBuf) -> PathBuf {
        match &self.top {
            Some(top) if is_same(&listed, &self.common) => top.clone(),
            _ => listed,
        }
    }

    /// git in the worktree that the project lies in, where it says what is checked out.
    pub fn around<'a>(&self, git: &Git<'a>) -> Git<'a> {
        if self.here == self.common { git.clone() } else { git.at(&self.here) }
    }

    /// The place that paths of coord.toml count from: the top of the main worktree, or the bare
    /// repository (or what holds it, where that is hidden as `.bare` or `.git`).
    pub fn anchor(&self) -> &Path {
        match (&self.top, self.common.parent()) {
            (Some(top), _) => top,
            (None, Some(parent)) if name_of(&self.common).starts_with('.') => parent,
            _ => &self.common,
        }
    }

    /// Its name: of the directory that people see.
    pub fn name(&self) -> String {
        let name = name_of(self.anchor());
        name.strip_suffix(".git").filter(|rest| !rest.is_empty()).unwrap_or(&name).to_owned()
    }
}

/// The main worktree's directories in which a queue for a linked worktree at `linked` may lie, the
/// nearest first: `below` is where in it somebody asks. `None`: it is no linked worktree.
pub fn homes_of_linked(linked: &Path, below: &Path) -> Option<Vec<PathBuf>> {
    // Only a linked worktree or a submodule has a file there.
    if RealFs.stat(&linked.join(".git")).ok()?.kind != Kind::File {
        return None;
    }
    let git = Git::new(linked, &tool::nothing);
    let args = ["rev-parse", "--path-format=absolute", "--git-common-dir", "--git-dir"];
    let output = git.run(&args).ok().filter(tool::Output::ok)?;
    let text = output.text();
    let mut lines = text.lines().map(PathBuf::from);
    let (common, own) = (lines.next()?, lines.next()?);
    if common == own {
        return None;
    }
    let mut homes = Vec::new();
    match main_worktree(&common).ok()? {
        Some(top) => homes.extend(below.ancestors().map(|below| top.join(below))),
        None => homes.extend(
            [Some(common.clone()), common.parent().map(Path::to_owned)].into_iter().flatten(),
        ),
    }
    Some(homes)
}

/// A task's id as one component of a ref: dots that git refuses there are written as `%2E`, which no
/// id contains.
pub fn ref_component(id: &str) -> String {
    let mut text = String::new();
    for c in id.chars() {
        if c == '.' && text.ends_with('.') { text.push_str("%2E") } else { text.push(c) }
    }
    if let Some(stem) = text.strip_suffix(".lock") {
        return format!("{stem}%2Elock");
    }
    match text.strip_suffix('.') {
        Some(stem) => format!("{stem}%2E"),
        None => text,
    }
}

/// The branch of an attempt.
pub fn branch(task: &str, n: u32) -> String {
    format!("coord/{}/a{n}", ref_component(task))
}

/// The ref that keeps what an attempt left uncommitted.
pub fn wip_ref(task: &str, n: u32) -> String {
    format!("refs/coord/wip/{}.a{n}", ref_component(task))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_become_components_of_refs() {
        for (id, component) in [
            ("W-1", "W-1"),
            ("3.1", "3.1"),
            ("a..b", "a.%2Eb"),
            ("a...b", "a.%2E.b"),
            ("a.lock", "a%2Elock"),
            ("a.", "a%2E"),
            ("a..", "a.%2E"),
            ("a.lock.", "a.lock%2E"),
        ] {
            assert_eq!(ref_component(id), component);
        }
    }

    #[test]
    fn paths_are_joined_by_name() {
        for (dir, relative, joined) in [
            ("/a/b", "../b.coord", "/a/b.coord"),
            ("/a/b", "/x", "/x"),
            ("/a/b", "./c/../d", "/a/b/d"),
            ("/a", "../../x", "/x"),
        ] {
            assert_eq!(join(Path::new(dir), Path::new(relative)), Path::new(joined));
        }
    }

    proptest! {
        /// Two ids never share a ref, and git accepts each.
        #[test]
        fn components_are_valid_and_apart(a in "[a-z0-9][a-z.]{0,8}(lock)?", b in "[a-z0-9][a-z.]{0,8}") {
            let made = ref_component(&a);
            prop_assert!(!made.contains("..") && !made.ends_with('.') && !made.ends_with(".lock"));
            prop_assert_eq!(made == ref_component(&b), a == b);
            prop_assert_eq!(made.replace("%2E", "."), a);
        }
    }
}
