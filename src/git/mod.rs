//! The git program, and what is done with it. Never a library: users have this git, its hooks,
//! filters and configuration, and whatever it refuses is refused for a reason.
//!
//! Rules for every call:
//! - machine-readable forms only (`--porcelain`, `-z`), in the C locale, with no prompt and no editor;
//! - never the repository's configuration: what a call needs is given with `-c` or in its environment;
//! - no collection of garbage in the middle of a command (`gc.auto=0`, `maintenance.auto=false`);
//! - in a worktree that something is written to, every call says where it works (`GIT_DIR`,
//!   `GIT_WORK_TREE`), after git itself was asked without them: [`confirmed`];
//! - nothing is forced, and nothing is overwritten but with the value that it is expected to have.

pub mod candidate;
pub mod checkout;
pub mod confirmed;
pub mod connect;
pub mod disk;
pub mod fence;
#[cfg(test)]
mod ground;
pub mod in_use;
pub mod index;
pub mod misled;
mod modules;
pub mod moved;
pub mod own;
pub mod private;
pub mod reapply;
mod reason;
pub mod remote;
pub mod repository;
pub mod settings;
pub mod status;
pub mod wip;
pub mod worktrees;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Exit, Result, hint_for};
use crate::sys::clock::{Clock, RealClock};
use crate::sys::fs::{Fs, RealFs};
use crate::sys::tool::{Cut, Meanwhile, Output, Tool, Waits};
use crate::sys::wake::nap;

/// Variables of the caller that would lead git to another repository than the one that is meant, or
/// to other paths than those that are named.
pub const MISLEADING: [&str; 13] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
];

/// The longest that a command may take where nobody has said another time.
const LIMIT: Duration = Duration::from_secs(600);
/// The longest pause before a command that met another one is tried again; about ten seconds in all.
const PAUSE_MAX_MS: u64 = 3000;

/// Whether what git says is about another git that is at work in this moment.
fn is_passing(stderr: &str) -> bool {
    const SAID: [&str; 9] = [
        ".lock': File exists",
        "cannot lock ref",
        "could not lock",
        "Unable to create",
        "could not create directory",
        "could not open",
        "unable to write",
        "failed to read",
        // Of a worktree that was removed while this git went through the list of all.
        "Invalid path",
    ];
    let lasting = ["already exists", "exists; cannot", "but expected"];
    SAID.iter().any(|said| stderr.contains(said))
        && !lasting.iter().any(|l| stderr.contains(l))
        && !reason::is_lasting(stderr)
}

/// git, in one directory.
#[derive(Clone)]
pub struct Git<'a> {
    dir: PathBuf,
    env: Vec<(String, OsString)>,
    config: Vec<String>,
    /// Where it works, in so many words: its `GIT_DIR`, and `GIT_WORK_TREE` where it has one.
    named: Option<(PathBuf, Option<PathBuf>)>,
    meanwhile: &'a Meanwhile<'a>,
    limit: Duration,
    place: String,
    steadfast: bool,
}

impl<'a> Git<'a> {
    /// git in `dir`. `meanwhile` is called while a command takes its time: a large repository must
    /// not cost a lease. If it says so, the command is ended, and no further one is started.
    pub fn new(dir: &Path, meanwhile: &'a Meanwhile<'a>) -> Git<'a> {
        Git {
            dir: dir.to_owned(),
            env: Vec::new(),
            config: Vec::new(),
            named: None,
            meanwhile,
            limit: LIMIT,
            place: String::new(),
            steadfast: false,
        }
    }

    /// git in what all worktrees of a repository share, said in so many words: a bare repository that
    /// is only found is refused by some (`safe.bareRepository`).
    pub fn shared(common: &Path, meanwhile: &'a Meanwhile<'a>) -> Git<'a> {
        Git { named: Some((common.to_owned(), None)), ..Git::new(common, meanwhile) }
    }

    /// The same git in a worktree, said in so many words.
    fn naming(&self, own: &Path, top: &Path) -> Git<'a> {
        let named = Some((own.to_owned(), Some(top.to_owned())));
        Git { dir: top.to_owned(), named, ..self.clone() }
    }

    /// Each of its commands may take so long: a hook, a filter or a network that hangs is ended then.
    #[must_use]
    pub fn limited(&self, limit: Duration) -> Git<'a> {
        Git { limit, ..self.clone() }
    }

    /// With a word for people for where it runs, such as `slot w1`.
    #[must_use]
    pub fn called(&self, place: &str) -> Git<'a> {
        Git { place: place.to_owned(), ..self.clone() }
    }

    /// The same for what must not be given up, whatever `meanwhile` says: only its time limits it.
    #[must_use]
    pub fn steadfast(&self) -> Git<'a> {
        Git { steadfast: true, ..self.clone() }
    }

    /// The same for what ends when nobody waits for it any more.
    #[must_use]
    pub fn heedful(&self) -> Git<'a> {
        Git { steadfast: false, ..self.clone() }
    }

    /// The same, with somebody else to say whether anybody still waits.
    #[must_use]
    pub fn minding(&self, meanwhile: &'a Meanwhile<'a>) -> Git<'a> {
        Git { meanwhile, steadfast: false, ..self.clone() }
    }

    /// The directory that it runs in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The same git in another directory, where it finds by itself which repository that belongs to.
    #[must_use]
    pub fn at(&self, dir: &Path) -> Git<'a> {
        Git { dir: dir.to_owned(), named: None, ..self.clone() }
    }

    /// With a further variable in its environment.
    #[must_use]
    pub fn env(&self, name: &str, value: impl Into<OsString>) -> Git<'a> {
        let mut git = self.clone();
        git.env.push((name.to_owned(), value.into()));
        git
    }

    /// With a setting for its commands alone, `name=value`.
    #[must_use]
    pub fn with(&self, setting: &str) -> Git<'a> {
        let mut git = self.clone();
        git.config.push(setting.to_owned());
        git
    }

    /// Without a setting that it was given before.
    #[must_use]
    pub fn without(&self, setting: &str) -> Git<'a> {
        let mut git = self.clone();
        git.config.retain(|given| given != setting);
        git
    }

    /// Commits as this person.
    #[must_use]
    pub fn identity(&self, name: &str, email: &str) -> Git<'a> {
        self.env("GIT_AUTHOR_NAME", name)
            .env("GIT_AUTHOR_EMAIL", email)
            .env("GIT_COMMITTER_NAME", name)
            .env("GIT_COMMITTER_EMAIL", email)
    }

    /// Runs a command; that it failed is in the output.
    ///
    /// # Errors
    /// git cannot be started.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.feed(args, Vec::new())
    }

    /// The same, with something on its standard input.
    pub fn feed(&self, args: &[&str], input: Vec<u8>) -> Result<Output> {
        self.start(args.iter().map(OsString::from).collect(), input)
    }

    /// The same for some paths, which may be of any bytes and are taken as they are: no `*` in one
    /// stands for others.
    pub fn run_on(&self, args: &[&str], paths: &[Vec<u8>]) -> Result<Output> {
        let all = args.iter().map(OsStr::new).chain([OsStr::new("--")]);
        let all = all.chain(paths.iter().map(|path| OsStr::from_bytes(path)));
        let git = self.env("GIT_LITERAL_PATHSPECS", "1");
        git.start(all.map(OsStr::to_owned).collect(), Vec::new())
    }

    fn start(&self, args: Vec<OsString>, input: Vec<u8>) -> Result<Output> {
        self.begin(args, input, None)
    }

    /// Runs a command whose hooks, filters and own words are for people: what it says on standard
    /// error goes into `log`.
    pub fn run_into(&self, args: &[&str], log: File) -> Result<Output> {
        self.begin(args.iter().map(OsString::from).collect(), Vec::new(), Some(log))
    }

    fn begin(&self, args: Vec<OsString>, input: Vec<u8>, log: Option<File>) -> Result<Output> {
        let what = self.words(&args);
        let may_go_on = |waits: &Waits<'_>| (self.meanwhile)(waits) || self.steadfast;
        if !may_go_on(&Waits { what: &what, dir: &self.dir, since: Duration::ZERO }) {
            return Err(self.cut_short(&what, Cut::Asked));
        }
        let mut tool = Tool::new(Path::new("git"), &self.dir)
            .named(&what)
            .limit(self.limit)
            .without(&MISLEADING)
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_EDITOR", "true")
            .env("GIT_OPTIONAL_LOCKS", "0");
        if let Some((own, top)) = &self.named {
            tool = tool.env("GIT_DIR", own.as_os_str());
            if let Some(top) = top {
                tool = tool.env("GIT_WORK_TREE", top.as_os_str());
            }
        }
        if let Some(log) = log {
            tool = tool.errors(log);
        }
        for (name, value) in &self.env {
            tool = tool.env(name, value.clone());
        }
        let config = settings::OWN.into_iter().chain(self.config.iter().map(String::as_str));
        tool = tool.args(config.flat_map(|setting| ["-c", setting]));
        let ran = tool.args(args).input(input).run(&may_go_on);
        let output = ran.map_err(|cause| self.not_started(cause))?;
        match output.cut {
            None => Ok(output),
            Some(cut) => Err(self.cut_short(&what, cut)),
        }
    }

    fn not_started(&self, cause: std::io::Error) -> Error {
        if !RealFs.exists(&self.dir) {
            // The kernel says the same of a program and of a directory that is not there.
            let error = Error::new(Exit::Environment, "there is no such directory to run git in");
            return error.at(&self.dir).hint("somebody removed it: coord worktree ls");
        }
        Error {
            exit: Exit::Environment,
            message: "cannot run git".to_owned(),
            cause: Some(cause),
            at: Some(self.dir.clone()),
            hint: Some("install git, or [worktree] isolation = \"none\" in coord.toml".to_owned()),
        }
    }

    /// What a command is for people: `git worktree add in slot w1`.
    fn words(&self, args: &[OsString]) -> String {
        let word = |at: usize| args.get(at).and_then(|arg| arg.to_str()).unwrap_or_default();
        let has_verb = matches!(word(0), "worktree" | "submodule" | "hook");
        let verb = if has_verb { format!(" {}", word(1)) } else { String::new() };
        let of = if word(0) == "hook" {
            format!(" {}", word(args.len().min(4) - 1))
        } else {
            String::new()
        };
        let place = match self.place.as_str() {
            "" => self.dir.display().to_string(),
            place => place.to_owned(),
        };
        format!("git {}{verb}{of} in {place}", word(0))
    }

    /// The error of a command that was ended before it was done. Never taken for an answer of git.
    fn cut_short(&self, what: &str, cut: Cut) -> Error {
        let why = match cut {
            Cut::Late => format!("{what} was ended after {} s", self.limit.as_secs()),
            Cut::Asked => format!("{what} was ended, since nobody waits for it any more"),
        };
        let hint = "a hook, a filter or the network may hang; [git] timeout in coord.toml";
        Error::new(Exit::Timeout, why).at(&self.dir).hint(hint)
    }

    fn beat(&self, since: Duration) {
        let what = format!("another git{}", self.words(&[]).trim_start_matches("git "));
        // That it is not to go on is heard by the next command.
        let _ = (self.meanwhile)(&Waits { what: &what, dir: &self.dir, since });
    }

    /// Waits for somebody else's git; what goes on meanwhile does so.
    pub fn pause(&self, time: Duration) {
        nap(time);
        self.beat(time);
    }

    /// Runs a command that meets others of its kind: what fails because another git holds a lock for
    /// a moment is tried again, after pauses that grow and differ.
    pub fn again(&self, args: &[&str]) -> Result<Output> {
        let mut longest_ms = 16;
        loop {
            let output = self.run(args)?;
            if output.ok() || longest_ms > PAUSE_MAX_MS || !is_passing(&output.stderr) {
                return Ok(output);
            }
            self.pause(Duration::from_millis(RealClock.random() % longest_ms + longest_ms / 4));
            longest_ms = longest_ms * 3 / 2;
        }
    }

    /// Runs a command that has to succeed; what it printed. `what` completes "cannot …".
    pub fn must(&self, what: &str, args: &[&str]) -> Result<Output> {
        let output = self.run(args)?;
        if output.ok() { Ok(output) } else { Err(self.failed(what, &output)) }
    }

    /// The first line that a command prints; `None` if it fails, which is an answer here.
    pub fn ask(&self, args: &[&str]) -> Result<Option<String>> {
        let output = self.run(args)?;
        Ok(output.ok().then(|| output.text().lines().next().unwrap_or_default().to_owned()))
    }

    /// The object that a revision names; `None` if there is none.
    pub fn resolve(&self, revision: &str) -> Result<Option<String>> {
        // What begins with a dash would be taken for an option.
        if revision.is_empty() || revision.starts_with('-') {
            return Ok(None);
        }
        self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", revision])
    }

    /// The object that a ref of exactly this full name points to; `None` if there is none. Nothing else
    /// that git would take the name for is meant.
    pub fn exact(&self, name: &str) -> Result<Option<String>> {
        self.ask(&["show-ref", "--verify", "--hash", "--", name])
    }

    /// The commit that a revision names.
    pub fn commit(&self, revision: &str) -> Result<Option<String>> {
        self.resolve(&format!("{revision}^{{commit}}"))
    }

    /// Whether `ancestor` can be reached from `commit`.
    pub fn is_ancestor(&self, ancestor: &str, commit: &str) -> Result<bool> {
        let output = self.run(&["merge-base", "--is-ancestor", ancestor, commit])?;
        match output.code {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(self.failed("compare two commits", &output)),
        }
    }

    /// The names in an output of `-z`, also those that are not UTF-8.
    pub fn names(output: &Output) -> Vec<String> {
        let parts = output.stdout.split(|&b| b == 0).filter(|part| !part.is_empty());
        parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
    }

    /// An error that says what git said, and as its cause the system's reason, if git named one.
    pub fn failed(&self, what: &str, output: &Output) -> Error {
        let (said, cause) = reason::split(output.stderr.trim());
        let said = said.strip_prefix("fatal: ").or(said.strip_prefix("error: ")).unwrap_or(said);
        let said: String = said.chars().take(1000).collect();
        let said = if said.is_empty() { format!("exit {}", output.code) } else { said };
        let error = Error::new(Exit::Environment, format!("cannot {what}: git says: {said}"));
        let hint = cause.as_ref().and_then(hint_for);
        Error { cause, hint, ..error }.at(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::is_passing;

    #[test]
    fn what_another_git_does_passes_and_what_stays_does_not() {
        let gone = "fatal: Invalid path '/r/.git/worktrees/w9': No such file or directory";
        let locked = "error: could not lock config file .git/config: File exists";
        assert!(is_passing(gone) && is_passing(locked));
        let full = "error: unable to write file x: No space left on device";
        let other = "fatal: '/r.coord/w1' contains modified or untracked files, use --force";
        assert!(!is_passing(full) && !is_passing(other));
    }
}
