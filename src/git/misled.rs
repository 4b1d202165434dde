//! Settings by which git takes another directory for a worktree than the one that it is asked in.
//!
//! `core.worktree` and `core.bare` are read from the repository's own files alone, without what they
//! include: from `config`, which all worktrees share, for the main worktree; and for linked ones as
//! well as soon as `extensions.worktreeConfig` is on, unless their own `config.worktree` says otherwise
//! (git-worktree(1), "configuration file"). Tools set all three, and a submodule always has the first.

use std::path::{Path, PathBuf};

use crate::error::{Error, Exit, Result};
use crate::sys::fs::{Fs, RealFs, is_same, name_of};

use super::Git;
use super::repository::join;

/// Why git does not work where it is asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misled {
    /// A sentence for people, with the settings.
    pub why: String,
    /// What helps.
    pub hint: String,
    /// Whether it is so for every worktree, and not for this one alone.
    pub shared: bool,
}

impl Misled {
    /// As an error.
    pub fn error(self, at: &Path) -> Error {
        Error::new(Exit::Environment, self.why).at(at).hint(self.hint)
    }
}

/// A setting as it stands in a file.
#[derive(Debug, Clone)]
struct Setting {
    key: String,
    value: String,
    file: PathBuf,
}

impl Setting {
    fn is_on(&self) -> bool {
        // A key without a value is true as well.
        !matches!(self.value.to_lowercase().as_str(), "false" | "no" | "off" | "0" | "")
    }

    /// Whether git goes elsewhere by it.
    fn misleads(&self) -> bool {
        self.key == "core.worktree" || self.key == "core.bare" && self.is_on()
    }

    fn words(&self) -> String {
        format!("{} = {} in {}", self.key, self.value, self.file.display())
    }

    fn unset(&self) -> String {
        format!("git config --file {} --unset-all {}", quoted(&self.file), self.key)
    }
}

fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), std::borrow::Cow::into_owned)
}

/// The last value of each of the three in a file; none where there is no such file.
fn settings(git: &Git<'_>, file: &Path) -> Result<Vec<Setting>> {
    if !RealFs.exists(file) {
        return Ok(Vec::new());
    }
    let name = file.to_string_lossy();
    let keys = r"^(core\.(worktree|bare)|extensions\.worktreeconfig)$";
    let output =
        git.run(&["config", "--file", &name, "--no-includes", "-z", "--get-regexp", keys])?;
    match output.code {
        0 | 1 => {}
        _ => return Err(git.failed("read the settings of the repository", &output).at(file)),
    }
    let mut found: Vec<Setting> = Vec::new();
    for entry in Git::names(&output) {
        let (key, value) = entry.split_once('\n').unwrap_or((&entry, "true"));
        found.retain(|other| other.key != key);
        let (key, value) = (key.to_owned(), value.to_owned());
        found.push(Setting { key, value, file: file.to_owned() });
    }
    Ok(found)
}

fn has_own_settings(shared: &[Setting]) -> bool {
    shared.iter().any(|s| s.key == "extensions.worktreeconfig" && s.is_on())
}

/// What would mislead git in every linked worktree of the repository.
///
/// # Errors
/// A configuration that git cannot read.
pub fn in_linked(git: &Git<'_>, common: &Path) -> Result<Option<Misled>> {
    // Every command looks here first, and hardly any repository has it.
    let text = RealFs.read(&common.join("config"), 0, 1 << 20).unwrap_or_default();
    if !text.to_ascii_lowercase().windows(14).any(|part| part == b"worktreeconfig") {
        return Ok(None);
    }
    let shared = settings(git, &common.join("config"))?;
    if !has_own_settings(&shared) {
        return Ok(None);
    }
    let bad: Vec<&Setting> = shared.iter().filter(|s| s.misleads()).collect();
    if bad.is_empty() {
        return Ok(None);
    }
    let words: Vec<String> = bad.iter().map(|s| s.words()).collect();
    let why = format!(
        "git would work elsewhere than in the worktrees of attempts: {}, which extensions.worktreeConfig \
         makes count in each of them",
        words.join(" and ")
    );
    Ok(Some(Misled { why, hint: remedy(common, &bad), shared: true }))
}

/// Commands that leave the settings to the main worktree alone, or take away what is wrong there too.
fn remedy(common: &Path, bad: &[&Setting]) -> String {
    let main = common.join("config.worktree");
    let command = |s: &&Setting| {
        // The repository is in its usual place: the setting says nothing, or what is wrong.
        let is_usual = name_of(common) == ".git" && RealFs.exists(&common.join("index"));
        if is_usual || s.key == "core.worktree" && name_of(common) == ".git" {
            return s.unset();
        }
        let value = shlex::try_quote(&s.value).map_or_else(|_| s.value.clone(), |v| v.into_owned());
        format!("git config --file {} {} {value} && {}", quoted(&main), s.key, s.unset())
    };
    bad.iter().map(command).collect::<Vec<_>>().join(" && ")
}

/// Why git, asked in `top`, works in `there` (`None`: nowhere). `common` and `own` are the repository
/// and the worktree's own part of it; of a `clone` both are its own.
///
/// # Errors
/// A configuration that git cannot read.
pub fn explain(
    git: &Git<'_>,
    top: &Path,
    (common, own): (&Path, &Path),
    there: Option<&Path>,
    is_clone: bool,
) -> Result<Misled> {
    let all = settings(git, &common.join("config"))?;
    let is_main = is_same(common, own);
    let with_own = has_own_settings(&all);
    let own_settings =
        if with_own { settings(git, &own.join("config.worktree"))? } else { Vec::new() };
    let of_own: Vec<&Setting> = own_settings.iter().filter(|s| s.misleads()).collect();
    let of_all: Vec<&Setting> =
        all.iter().filter(|s| s.misleads() && (is_main || with_own)).collect();
    let place = match there {
        Some(there) => format!("takes {} for its worktree", there.display()),
        None => "finds no worktree there".to_owned(),
    };
    let (bad, hint) = match (of_own.is_empty(), of_all.is_empty()) {
        (false, _) => {
            let unset: Vec<String> = of_own.iter().map(|s| s.unset()).collect();
            (of_own.clone(), unset.join(" && "))
        }
        (true, false) => (of_all.clone(), remedy(common, &of_all)),
        (true, true) => (Vec::new(), format!("git -C {} status shows it", quoted(top))),
    };
    let settings: Vec<String> = bad.iter().map(|s| s.words()).collect();
    let because =
        if settings.is_empty() { String::new() } else { format!(": {}", settings.join(", ")) };
    let why = format!("git, asked in {}, {place}{because}", top.display());
    Ok(Misled { why, hint, shared: !is_clone && of_own.is_empty() && !of_all.is_empty() })
}

/// Whether the repository, which git takes for a bare one, has a main worktree all the same: a tool has
/// set `core.bare`. What is merged would not be brought along there, and be undone by its next commit.
/// `leads_here`: a directory with a file `.git` that leads to the repository itself, as the main worktree of
/// a repository that stands elsewhere has.
///
/// # Errors
/// Those of git.
pub fn in_main(git: &Git<'_>, common: &Path, leads_here: Option<&Path>) -> Result<Option<Misled>> {
    if !RealFs.exists(&common.join("index")) {
        return Ok(None);
    }
    let usual = common.parent().filter(|_| name_of(common) == ".git");
    let top = match (usual, worktree_of_main(git, common)?) {
        (Some(top), _) => top.to_owned(),
        // A submodule's repository names its worktree.
        (None, Some(named)) => join(common, Path::new(&named)),
        (None, None) => match leads_here {
            Some(top) => top.to_owned(),
            None => return Ok(None),
        },
    };
    let top = top.as_path();
    // Who has made a bare repository of it on purpose has taken its files away.
    let git = git.naming(common, top);
    let count = |args: &[&str]| -> Result<usize> {
        Ok(Git::names(&git.must("look for a worktree", args)?).len())
    };
    let tracked = count(&["ls-files", "-z"])?;
    if tracked == 0 || count(&["ls-files", "-z", "--deleted"])? == tracked {
        return Ok(None);
    }
    let mut found = settings(&git, &common.join("config"))?;
    found.extend(settings(&git, &common.join("config.worktree"))?);
    found.retain(|s| s.key == "core.bare" && s.is_on());
    let words: Vec<String> = found.iter().map(Setting::words).collect();
    let why = format!(
        "git takes the repository of {} for a bare one, though its files are there: {}",
        top.display(),
        words.join(" and ")
    );
    let mend = |s: &Setting| format!("git config --file {} core.bare false", quoted(&s.file));
    let hint = found.iter().map(mend).collect::<Vec<_>>().join(" && ");
    Ok(Some(Misled { why, hint, shared: true }))
}

/// Why a project is in no worktree of the repository that git finds around it.
///
/// # Errors
/// A configuration that git cannot read.
pub fn explain_outside(git: &Git<'_>, project: &Path, common: &Path, own: &Path) -> Result<Misled> {
    let output = git.run(&["rev-parse", "--show-toplevel"])?;
    let text = output.text();
    let there = text.lines().next().map(Path::new);
    let misled = explain(git, project, (common, own), there, false)?;
    let hint = format!("{}, or [worktree] isolation = \"none\" in coord.toml", misled.hint);
    Ok(Misled { hint, ..misled })
}

/// The worktree that the repository names for its main one, from where the repository stands.
///
/// # Errors
/// A configuration that git cannot read.
pub fn worktree_of_main(git: &Git<'_>, common: &Path) -> Result<Option<String>> {
    let mut all = settings(git, &common.join("config"))?;
    if has_own_settings(&all) {
        all.extend(settings(git, &common.join("config.worktree"))?);
    }
    let named = all.into_iter().rfind(|s| s.key == "core.worktree");
    Ok(named.map(|s| s.value))
}
