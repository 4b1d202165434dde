//! The check: a line for sh in the lane's own worktree, at the candidate.

use std::path::Path;
use std::time::Duration;

use crate::error::{Cannot, Error, Exit, Result};
use crate::git::MISLEADING;
use crate::queue::ids::lane_name;
use crate::queue::record::Spec;
use crate::sys::alive::EnvMark;
use crate::sys::fs::{Fs, RealFs};
use crate::sys::remains::{Traces, in_words};
use crate::sys::spawn::Variables;
use crate::sys::tool::{Cut, Tool};

use super::super::pool::Slot;
use super::super::slot::{Ready, Workshop};
use super::super::{environment, furnish, tmpdir};
use super::{Merger, println};

/// Lines of a red check's output that the next attempt is told.
const LINES: usize = 200;
/// And bytes.
const BYTES: usize = 64 << 10;
/// Time for what a check has left running to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// What comes before the check: its output goes into the file that is named first, and `[worktree] setup`,
/// which is named second, makes of the worktree what attempts have.
const BEFORE: &str = "exec >\"$1\" 2>&1
if [ -n \"$2\" ]; then
    (cd \"$COORD_WORKTREE\" && exec sh -c \"$2\")
    code=$?
    if [ $code -ne 0 ]; then
        echo \"setup failed: exit $code\"
        exit $code
    fi
fi
shift 2
";

/// What the check said.
pub(super) enum Checked {
    Green,
    /// The end of its output.
    Red(String),
}

impl Merger<'_> {
    /// Runs the check at a commit; once more where it is red, since it may be one that now and then is.
    pub(super) fn check(&mut self, commit: &str) -> Result<Checked> {
        if self.site.config.merge.check.is_empty() || self.green == commit {
            return Ok(Checked::Green);
        }
        let first = self.check_once(commit)?;
        let Checked::Red(_) = first else { return Ok(first) };
        let second = self.check_once(commit)?;
        if matches!(second, Checked::Green) {
            let short = &commit[..commit.len().min(10)];
            self.notice(&format!("the check was red and then green on the same commit {short}"));
        }
        Ok(second)
    }

    fn check_once(&mut self, commit: &str) -> Result<Checked> {
        let slot = self.place(commit)?;
        let config = &self.site.config;
        self.checks += 1;
        let dir = slot.top.join(&self.pool.repo.below);
        // What attempts are given is there for the check, too.
        crate::sys::fs::mkdir_all(&RealFs, &dir).cannot("make the project's directory", &dir)?;
        furnish::furnish(self.site, &dir)?;
        println(&format!("checking {commit}: {}", config.merge.check));
        // Into a file, not a pipe: what the check leaves running would keep a pipe open, and be waited
        // for. Both streams in the order in which they were written.
        let line = format!("{BEFORE}{}", config.merge.check);
        let log = self.out.join(format!("check-{}.log", self.checks));
        let mark = format!("{}@{}.{}", self.key, self.me.wid, self.checks);
        let tmp = tmpdir::fresh(&self.pool, &slot.name)?;
        let mut sh = Tool::new(Path::new("sh"), &dir)
            .named("the check")
            .own_group()
            .args(["-c", &line, "sh"])
            .args([&log])
            .args([&config.worktree.setup])
            .without(&MISLEADING);
        for (name, value) in self.environment(&slot)? {
            sh = sh.env(&name.to_string_lossy(), value);
        }
        sh = sh
            .env("TMPDIR", tmp.as_os_str())
            .env("COORD_WORKTREE", dir.as_os_str())
            .env("COORD_COMMIT", commit)
            .env("COORD_CHECK", mark.as_str());
        for (name, value) in &config.env {
            sh = sh.env(name, value);
        }
        if let Some(ms) = config.merge.check_timeout_ms {
            sh = sh.limit(Duration::from_millis(ms));
        }
        let output = sh.run(self.beat).cannot("run the check", &dir)?;
        // What it has left running stands in the worktree, and would be in the next one's way.
        let left = EnvMark::variable("COORD_CHECK", &mark);
        let host = &self.site.queue.host;
        let left = host.end_left(&Traces::of_mark(left), &[], KILL_PATIENCE);
        if !left.is_empty() {
            println(&format!("the check has left {}, which cannot be ended", in_words(&left)));
        }
        // The check may have changed what git takes for its worktree.
        match self.shop().confirmed(&slot) {
            Ok(tree) => self.shop().clean(&tree, &slot, commit),
            Err(e) => println(&e.one_line()),
        }
        tmpdir::drop_of(&self.pool, &slot.name);
        if output.cut == Some(Cut::Asked) {
            // Nobody knows what it would have said.
            return Err(
                Error::new(Exit::Timeout, "the check was ended, since the turn was").at(&dir)
            );
        }
        if output.ok() {
            println("the check is green");
            return Ok(Checked::Green);
        }
        let how = if output.cut.is_some() {
            "its time is over".to_owned()
        } else {
            format!("exit {}", output.code)
        };
        println(&format!("the check is red: {how}, {}", log.display()));
        // Without its log it is red all the same.
        let said = RealFs.stat(&log).map(|stat| stat.len.saturating_sub(BYTES as u64));
        let said = said.and_then(|from| RealFs.read(&log, from, BYTES)).unwrap_or_default();
        Ok(Checked::Red(format!("{}\n(the check: {how})", tail(&String::from_utf8_lossy(&said)))))
    }

    /// What commands in the lane's worktree find in their environment, as those of attempts do.
    fn environment(&self, slot: &Slot) -> Result<Variables> {
        let mut env = environment::of_person(self.site, &Spec::default());
        env.insert("COORD_ROOT".into(), self.site.root.clone().into());
        let tree = self.shop().confirmed(slot)?;
        let settings = furnish::settings(self.site, &self.pool, &tree, &env)?;
        furnish::tell_git(&mut env, &settings);
        Ok(env)
    }

    fn shop(&self) -> Workshop<'_> {
        Workshop { site: self.site, pool: &self.pool, me: self.me, beat: self.beat }
    }

    /// The lane's worktree, clean and at the commit.
    fn place(&mut self, commit: &str) -> Result<Slot> {
        let own = format!("merge.{}", lane_name(&self.key.task).unwrap_or_default());
        let mut names = [own.clone(), format!("{own}.2"), format!("{own}.3")];
        // The one that is held already comes first: nobody else can take it, and it is given back here
        // if it cannot be used any more.
        names.sort_by_key(|name| self.slot.as_ref().is_none_or(|slot| slot.name != *name));
        for name in names {
            let taken = match self.slot.take_if(|slot| slot.name == name) {
                Some(slot) if self.pool.is_ours(&slot)? => Some(slot),
                _ => self.pool.take_named(&self.site.queue, self.me, &name)?,
            };
            let Some(mut slot) = taken else { continue };
            match self.shop().ready(&mut slot, commit)? {
                Ready::Yes(_) => {
                    self.slot = Some(slot.clone());
                    return Ok(slot);
                }
                Ready::Busy(why) => self.pool.free(slot, &why)?,
                Ready::Unfit(why) => self.pool.retire(slot, &why)?,
            }
        }
        Err(Error::new(Exit::Environment, "no worktree of the lane can be used")
            .at(&self.pool.root)
            .hint("coord worktree ls"))
    }
}

/// The last lines of a text.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut kept = lines[lines.len().saturating_sub(LINES)..].join("\n");
    while kept.len() > BYTES {
        let cut = kept.find('\n').map_or(kept.len(), |at| at + 1);
        kept.drain(..cut);
    }
    kept
}
